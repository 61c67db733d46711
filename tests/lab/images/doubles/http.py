"""A small HTTP/1.1 server: one event loop reads requests, a bounded pool of threads answers them.

The bound matters: a container has a limit of processes and threads, and a proxy keeps many idle
connections open.
"""

from __future__ import annotations

import asyncio
import http
import ipaddress
import json
import re
import signal
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
    if "transfer-encoding" in headers:
        raise BadRequestError("a body needs a length")
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAXIMUM_BODY:
        raise BadRequestError("bad length of the body")
    body = await asyncio.wait_for(reader.readexactly(int(length)), IDLE_SECONDS)
    return Request(match[1], match[2], headers, body, plain_address(peer))


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
