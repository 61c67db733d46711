"""Docker's API as far as the agent asks it, by HTTP/1.0."""

from __future__ import annotations

import json
import socketserver
from typing import Any


class Engine(socketserver.ThreadingUnixStreamServer):
    """What it answers, by the path that is asked for; None is no answer at all, bytes a part."""

    answers: dict[str, Any]


class Reply(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        answers = self.server.answers  # type: ignore[attr-defined]
        if path in answers and answers[path] is None:
            self.rfile.read()
            return
        status = "200 OK" if path in answers else "404 Not Found"
        found = answers.get(path, {"message": "not found"})
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        self.wfile.write(f"HTTP/1.0 {status}\r\n\r\n".encode() + body)
