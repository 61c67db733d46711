"""On the wire and in the browser: what others read, weaken or put a frame around."""

from __future__ import annotations

import re
import secrets
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.network import LAN
from tests.lab.attacks.place import Place
from tests.lab.browser import chromium
from tests.lab.cable import LARGEST_FRAME, Tap
from tests.lab.deployment import DOMAIN
from tests.lab.guesser import JELLYFIN
from tests.lab.keys import server_certificate
from tests.lab.network import NEIGHBOUR_NAMESPACE

HANDSHAKE = """
import socket, ssl, sys
address, name, *versions = sys.argv[1:]
for version in versions:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_ciphers("ALL:@SECLEVEL=0")
    try:
        with socket.create_connection((address, 443), 5) as plain:
            with context.wrap_socket(plain, server_hostname=name) as link:
                print(version, "agreed:", *link.cipher()[:1])
    except ssl.SSLError as error:
        print(version, "refused:", error.reason)
"""
FRAME = "<h1>You have won</h1><iframe id=bait width=900 height=600 src='{}'></iframe>"


class Sniffer(Tap):
    """Everything that passes a host's cable, as somebody hears it who sits on the same network."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.frames: list[bytes] = []

    def _listen(self) -> None:
        while True:
            try:
                self.frames.append(self._socket.recv(LARGEST_FRAME))
            except TimeoutError:
                if self._ended.is_set():
                    return


class Site(BaseHTTPRequestHandler):
    """A site of one page; a class made from it has the page."""

    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@contextmanager
def strangers_site(page: str) -> Iterator[str]:
    """The address of a page on a web server of the stranger's own."""
    handler = type("Page", (Site,), {"page": page.encode()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@attack("whoever hears the LAN's frames", "box 1.4", "blocker 5")
def a_password_heard_on_the_lan(place: Place) -> Outcome:
    """A login over plain HTTP is read by everybody who hears it pass."""
    password = f"heard-{secrets.token_hex(4)}"
    body = f'{{"Username": "grandma", "Pw": "{password}"}}'
    # As people do: the address without https://, then wherever the site sends them.
    typed = place.url("jellyfin", 8096).replace("https:", "http:")
    page = place.ask(NEIGHBOUR_NAMESPACE, typed)
    sent = re.search(r"^location: (https:\S+)", page.text, re.IGNORECASE | re.MULTILINE)
    target = (sent[1] if sent else typed).rstrip("/")
    kind = "Content-Type: application/json"
    client = 'Authorization: MediaBrowser Client="tv", Device="tv", DeviceId="tv", Version="1"'
    with Sniffer(place.host.layout.number) as sniffer:
        login = f"{target}/Users/AuthenticateByName"
        said = place.ask(NEIGHBOUR_NAMESPACE, login, "-d", body, "-H", kind, "-H", client)
    control(said.status == 401, f"the login: {said}")
    control(len(sniffer.frames) > 3, "nothing was heard")
    heard = [frame for frame in sniffer.frames if password.encode() in frame]
    if heard:
        return Outcome(True, f'{target}: "Pw": "{password}"')
    return Outcome(False, f"{target}: {len(sniffer.frames)} frames, no password in them")


@attack(LAN, "box 1.4", "blocker 5")
def an_old_tls_version(place: Place) -> Outcome:
    """TLS 1.0 and 1.1 have been broken and withdrawn (RFC 8996)."""
    old, new = ("TLSv1", "TLSv1_1"), ("TLSv1_2", "TLSv1_3")
    argv = [sys.executable, "-W", "ignore", "-c", HANDSHAKE, place.address(), JELLYFIN]
    said = NEIGHBOUR_NAMESPACE.run([*argv, *old, *new]).stdout.splitlines()
    control(any("agreed" in line for line in said[2:]), f"no handshake at all: {said}")
    agreed = [line for line in said[:2] if "agreed" in line]
    return Outcome(bool(agreed), (agreed or said)[0])


@attack("stranger's page in a browser", "box 1.9", "blocker 5")
def a_login_page_in_a_stranger_s_frame(place: Place) -> Outcome:
    """Clickjacking: the page is shown inside another, whose owner decides what is clicked."""
    page = f"https://auth.{DOMAIN}/" if place.is_hardened else f"http://grafana.{DOMAIN}:3000/login"
    with tempfile.TemporaryDirectory() as folder, strangers_site(FRAME.format(page)) as stranger:
        authority, _, _ = server_certificate(Path(folder) / "tls", "192.0.2.1")
        trusted = authority.read_text()
        if place.deployment is not None:
            trusted = place.deployment.secrets()["tls_ca_certificate"].reveal()
        home = Path(folder) / "home"
        home.mkdir()
        with chromium(home, trusted, DOMAIN, place.address()) as browser:
            browser.get(page)
            title = browser.title
            control(bool(title), f"{page} does not load by itself")
            browser.get(stranger)
            browser.switch_to.frame("bait")
            shown = str(browser.execute_script("return location.href"))
            noted = [entry["message"] for entry in browser.get_log("browser")]  # type: ignore[no-untyped-call]
    if shown.startswith(page):
        return Outcome(True, f"{page} ({title}): shown in the frame")
    reason = next((line for line in noted if "frame-ancestors" in line or "X-Frame" in line), "")
    control(bool(reason), f"the frame has {shown}, and the browser does not say why: {noted}")
    header = "frame-ancestors" if "frame-ancestors" in reason else "X-Frame-Options"
    return Outcome(False, f"{page}: refused by {header}")


ATTACKS = (
    a_password_heard_on_the_lan,
    an_old_tls_version,
    a_login_page_in_a_stranger_s_frame,
)
