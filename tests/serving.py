"""Servers for tests."""

from __future__ import annotations

import socketserver
import threading

# Their own half a second is what each shutdown would wait.
POLL_SECONDS = 0.01


def serve(server: socketserver.BaseServer) -> None:
    """Answer in a thread of its own until the server is shut down."""
    threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,), daemon=True).start()
