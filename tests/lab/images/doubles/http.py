"""A small HTTP/1.1 server: one event loop reads requests, a bounded pool of threads answers them.

The bound matters: a container has a limit of processes and threads, and a proxy keeps many idle
connections open.
"""

from __future__ import annotations

import asyncio
import http
import http.client
import ipaddress
import json
import re
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

MAXIMUM_HEAD = 32 * 1024
MAXIMUM_BODY = 1024 * 1024
IDLE_SECONDS = 120
WORKERS = 16

_LINE = re.compile(r"([A-Z]+) (\S+) HTTP/1\.[01]")


class BadRequestError(Exception):
    """The client's bytes are no request that this server takes."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request; header names in lower case, the path decoded."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: str

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.target.partition("?")[2]).items()}

    def header(self, name: str) -> str:
        return self.headers.get(name.lower(), "")

    def json(self) -> dict[str, Any]:
        """The body as an object. Raises ValueError for anything else."""
        found = json.loads(self.body)
        if not isinstance(found, dict):
            raise ValueError("the body is not an object")
        return found

    def cookie(self, name: str) -> str:
        for item in self.header("cookie").split(";"):
            key, _, value = item.strip().partition("=")
            if key == name:
                return value
        return ""


@dataclass(slots=True)
class Response:
    """An answer; `headers` is a list because a header may come twice."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: list[tuple[str, str]] = field(default_factory=list)


def as_json(document: object, status: int = 200) -> Response:
    """A JSON answer."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Response(status, body, "application/json; charset=utf-8")


def as_text(text: str, status: int = 200, content_type: str = "text/plain") -> Response:
    """A text answer."""
    return Response(status, text.encode(), f"{content_type}; charset=utf-8")


class SocketConnection(http.client.HTTPConnection):
    """A client's connection to a server that listens on a Unix socket, as the Docker API does."""

    def __init__(self, path: str, timeout: float = 30) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


Handler = Callable[[Request], Response]


def serve(listeners: Mapping[tuple[str | None, int], Handler], ready: Callable[[], None]) -> None:
    """Answer on every (address or None for all, port) until SIGTERM or SIGINT."""
    asyncio.run(_serve(listeners, ready))


async def _serve(
    listeners: Mapping[tuple[str | None, int], Handler], ready: Callable[[], None]
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(WORKERS) as pool:
        servers = [
            await asyncio.start_server(
                _connection(handler, pool), address, port, limit=MAXIMUM_HEAD, backlog=256
            )
            for (address, port), handler in listeners.items()
        ]
        ready()
        await stop.wait()
        for server in servers:
            server.close()
        pool.shutdown(wait=False, cancel_futures=True)


def _connection(
    handler: Handler, pool: ThreadPoolExecutor
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _exchange(reader, writer, handler, pool):
                pass
        except (BadRequestError, asyncio.LimitOverrunError) as error:
            writer.write(_encode(as_text(f"400 {error}", 400), "GET", keep=False))
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            writer.close()

    return answer


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    handler: Handler,
    pool: ThreadPoolExecutor,
) -> bool:
    peer = writer.get_extra_info("peername")
    request = await _read(reader, str(peer[0]) if peer else "")
    loop = asyncio.get_running_loop()
    try:
        response = await loop.run_in_executor(pool, handler, request)
    except Exception:  # noqa: BLE001 - one failing request must not end the server
        traceback.print_exc(file=sys.stderr)
        response = as_text("500 Internal Server Error", 500)
    keep = request.header("connection").lower() != "close"
    writer.write(_encode(response, request.method, keep))
    await writer.drain()
    return keep


async def _read(reader: asyncio.StreamReader, peer: str) -> Request:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_SECONDS)
    line, *rows = head.decode("latin-1").split("\r\n")[:-2]
    match = _LINE.fullmatch(line)
    if not match:
        raise BadRequestError("malformed request line")
    headers: dict[str, str] = {}
    for row in rows:
        name, colon, value = row.partition(":")
        if not colon or name != name.strip():
            raise BadRequestError("malformed header")
        headers.setdefault(name.lower(), value.strip())
    body = await asyncio.wait_for(_body(reader, headers), IDLE_SECONDS)
    return Request(match[1], match[2], headers, body, plain_address(peer))


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    """The body, by its length or in chunks, never both (RFC 9112, 6.3)."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"] != "chunked" or "content-length" in headers:
            raise BadRequestError("a body needs one length")
        return await _chunks(reader)
    if not length.isdigit() or int(length) > MAXIMUM_BODY:
        raise BadRequestError("bad length of the body")
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := (await reader.readuntil(b"\r\n")).strip():
        if not re.fullmatch(rb"[0-9a-fA-F]{1,6}", size) or int(size, 16) > MAXIMUM_BODY - len(body):
            raise BadRequestError("bad chunk of the body")
        # Each ends with a line break, and the last one is empty.
        body += (await reader.readexactly(int(size, 16) + 2))[:-2]
        if int(size, 16) == 0:
            break
    return body


def plain_address(text: str) -> str:
    """An IPv4 address that came over an IPv6 socket, as IPv4; anything else as it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _encode(response: Response, method: str, keep: bool) -> bytes:
    reason = http.HTTPStatus(response.status).phrase
    rows = [f"HTTP/1.1 {response.status} {reason}"]
    rows += [f"{name}: {value}" for name, value in response.headers]
    if response.body or response.status not in (204, 304):
        rows.append(f"Content-Length: {len(response.body)}")
    if response.body:
        rows.append(f"Content-Type: {response.content_type}")
    rows.append(f"Connection: {'keep-alive' if keep else 'close'}")
    head = "".join(f"{row}\r\n" for row in rows).encode("latin-1") + b"\r\n"
    return head if method == "HEAD" else head + response.body
