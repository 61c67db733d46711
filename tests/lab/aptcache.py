"""A caching HTTP proxy for packages: `python -m tests.lab.aptcache DIRECTORY ADDRESS...`.

The router sends the hosts' plain HTTP here, so a host needs no setting of its own, and apt on ten
hosts at once shares files without sharing locks. Whatever apt gets, it checks by signature.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

from tests.lab.network import APT_PROXY_PORT

# A package's file name carries its version and an index by hash its content: neither changes.
_IMMUTABLE = re.compile(r"/pool/.*\.u?deb$|/by-hash/")
_REQUEST_HEADERS = ("Accept", "Cache-Control", "If-Modified-Since", "If-None-Match", "User-Agent")
_REPLY_HEADERS = ("Content-Type", "ETag", "Last-Modified")
_HOP_TIMEOUT = 30.0
_BLOCK = 1 << 16


class Readable(Protocol):
    """What a reply's body offers."""

    def read(self, size: int = ..., /) -> bytes: ...


class Server(ThreadingHTTPServer):
    """Listens on one address and keeps files under `directory`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, APT_PROXY_PORT), Handler)


class Handler(BaseHTTPRequestHandler):
    """One connection; apt sends several requests over it without waiting."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: Server

    def do_GET(self) -> None:
        url = self._url()
        kept = self.server.directory / hashlib.sha256(url.encode()).hexdigest()
        if _IMMUTABLE.search(url) and kept.exists():
            self._send_kept(kept)
            return
        request = urllib.request.Request(url, method=self.command)  # noqa: S310
        for name in _REQUEST_HEADERS:
            if self.headers[name]:
                request.add_header(name, self.headers[name])
        try:
            with urllib.request.urlopen(request, timeout=_HOP_TIMEOUT) as reply:  # noqa: S310
                self._pass_on(reply.status, reply.headers, reply, kept)
        except urllib.error.HTTPError as error:
            with error:
                self._pass_on(error.code, error.headers, error, None)
        except (urllib.error.URLError, TimeoutError):
            # Without a way out, yesterday's index is better than none.
            self._send_kept(kept)

    do_HEAD = do_GET  # noqa: N815 (the name is http.server's)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing for each request."""

    def _url(self) -> str:
        if self.path.startswith("http://"):
            return self.path
        return f"http://{self.headers['Host']}{self.path}"

    def _send_kept(self, kept: Path) -> None:
        try:
            body = kept.open("rb")
        except FileNotFoundError:
            self.send_error(504)
            return
        with body:
            self.send_response(200)
            self.send_header("Content-Length", str(kept.stat().st_size))
            self.end_headers()
            if self.command == "GET":
                shutil.copyfileobj(body, self.wfile, _BLOCK)

    def _pass_on(self, status: int, headers: Message, body: Readable, kept: Path | None) -> None:
        length = headers["Content-Length"]
        bodiless = self.command == "HEAD" or status == 304
        self.send_response(status)
        for name in _REPLY_HEADERS:
            if headers[name]:
                self.send_header(name, headers[name])
        if length is not None:
            self.send_header("Content-Length", length)
        elif not bodiless:
            # Without a length only the end of the connection ends the body.
            self.send_header("Connection", "close")
        self.end_headers()
        if bodiless:
            return
        if kept is None or status != 200:
            shutil.copyfileobj(body, self.wfile, _BLOCK)
            return
        with tempfile.NamedTemporaryFile(dir=kept.parent, prefix="new-", delete=False) as copy:
            received = self._copy(body, copy)
        if received is not None and length in (None, str(received)):
            Path(copy.name).replace(kept)
        else:
            Path(copy.name).unlink()
            self.close_connection = True

    def _copy(self, body: Readable, copy: tempfile._TemporaryFileWrapper[bytes]) -> int | None:
        """Copy to the client and to a file; the number of bytes, None when an end broke off."""
        received = 0
        try:
            while block := body.read(_BLOCK):
                copy.write(block)
                self.wfile.write(block)
                received += len(block)
        except OSError:
            return None
        return received


def main(argv: list[str]) -> None:
    directory = Path(argv[0])
    for left in directory.glob("new-*"):
        left.unlink()
    servers = [Server(directory, address) for address in argv[1:]]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
