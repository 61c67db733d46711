"""Where notices arrive: a mail server and a web server, both over TLS, that keep what they get."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import socketserver
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.keys import server_certificate
from tests.serving import serve

LOGIN = ("nexus", "m4il-s3Cr3t")
# The vault entries of both, and where the webhook is.
ENTRIES, WEBHOOK, PATH = ("smtp_user", "smtp_password"), "lab_webhook", "h00k-s3Cr3t"


@dataclass
class Sinks:
    """Both servers' ports, what they got, and the authority that speaks for them.

    `login` is what the mail server takes; `status` is what the web server answers.
    """

    address: str
    authority: Path
    login: tuple[str, str]
    mail_port: int = 0
    web_port: int = 0
    mails: list[str] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    @property
    def wanted(self) -> str:
        """The login as AUTH PLAIN sends it (RFC 4616)."""
        return base64.b64encode("\0".join(("", *self.login)).encode()).decode()

    @property
    def entries(self) -> dict[str, str]:
        """What opens both, for a site's vault."""
        web = f"https://{self.address}:{self.web_port}/{PATH}"
        return {**dict(zip(ENTRIES, self.login, strict=True)), WEBHOOK: web}

    @property
    def channels(self) -> dict[str, Any]:
        """What a site says of them (site.notify)."""
        mail = {"sender": "nexus@example.org", "to": "me@example.org", "security": "starttls"}
        server = f"{self.address}:{self.mail_port}"
        user, password = ENTRIES
        return {
            "mail": {**mail, "server": server, "user": user, "password": password},
            "webhook": WEBHOOK,
            "ca_certificate": self.authority.read_text(),
        }


@contextlib.contextmanager
def sinks(folder: Path, address: str, login: tuple[str, str] = LOGIN) -> Iterator[Sinks]:
    """Have both listen at an address while this is entered."""
    authority, certificate, key = server_certificate(folder, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    kept = Sinks(address, authority, login)
    mail = _Server((address, 0), _Mail, kept, context)
    web = _Server((address, 0), _Web, kept, context)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    kept.mail_port, kept.web_port = (server.server_address[1] for server in (mail, web))
    for server in (mail, web):
        serve(server)
    yield kept
    for server in (mail, web):
        server.shutdown()
        server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        place: tuple[str, int],
        handler: type[socketserver.BaseRequestHandler],
        kept: Sinks,
        context: ssl.SSLContext,
    ) -> None:
        super().__init__(place, handler)
        self.kept = kept
        self.context = context

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that does not trust the certificate is no news."""


class _Mail(socketserver.StreamRequestHandler):
    """SMTP (RFC 5321) with STARTTLS (RFC 3207) and AUTH PLAIN (RFC 4954); nothing in clear."""

    server: _Server

    def handle(self) -> None:
        self.say("220 sink")
        words = {"EHLO": self.hello, "STARTTLS": self.encrypt, "AUTH": self.log_in}
        self.encrypted = self.known = False
        for line in iter(self.line, ""):
            word = line.split()[0].upper()
            if word in words:
                words[word](line)
            elif word == "QUIT":
                self.say("221 bye")
                return
            elif not self.known:
                self.say("530 log in first")
            elif word == "DATA":
                self.take()
            else:
                self.say("250 ok")

    def line(self) -> str:
        return self.rfile.readline().decode().rstrip("\r\n")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())

    def hello(self, _: str) -> None:
        self.say("250-sink\r\n250 " + ("AUTH PLAIN" if self.encrypted else "STARTTLS"))

    def encrypt(self, _: str) -> None:
        self.say("220 go on")
        self.connection = self.server.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.encrypted = True

    def log_in(self, line: str) -> None:
        self.known = self.encrypted and line.rsplit(maxsplit=1)[-1] == self.server.kept.wanted
        self.say("235 welcome" if self.known else "535 wrong password")

    def take(self) -> None:
        self.say("354 go on")
        self.server.kept.mails.append("\n".join(iter(self.line, ".")))
        self.say("250 kept")


class _Web(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        is_json = self.headers["Content-Type"] == "application/json"
        said = json.loads(body) if is_json else body
        post = {"path": self.path, "headers": dict(self.headers), "body": said}
        self.server.kept.posts.append(post)
        self.send_response(self.server.kept.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
