"""Whoever guesses passwords, from some place of the network: the ways in that are tried."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.lab.deployment import DOMAIN
from tests.lab.host import Host
from tests.lab.network import ATTACKER_NAMESPACE

# Numbers in the attacker's network that nobody has. Two modules may run at once, and who has been
# banned once gets fewer attempts the next time, so each has numbers of its own.
FAILURES, BANS, ATTACKS = range(90, 94), range(100, 160), range(160, 250)
PORTAL, JELLYFIN, HOME = (f"{name}.{DOMAIN}" for name in ("auth", "jellyfin", "home"))
CLIENT = 'MediaBrowser Client="tv", Device="tv", DeviceId="tv-1", Version="1"'
# Runs elsewhere in the network: one line of JSON in, raw requests out, the answers back.
REQUESTS = """
import json, socket, ssl, sys
asked = json.load(sys.stdin)
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
answers = []
for text in asked["texts"]:
    plain = socket.create_connection((asked["address"], 443), 10, (asked["source"], 0))
    plain.settimeout(10)
    with context.wrap_socket(plain, server_hostname=asked["name"]) as link:
        link.sendall(text.encode())
        parts = []
        try:
            while part := link.recv(65536):
                parts.append(part.decode(errors="replace"))
        except OSError:
            pass
        answers.append("".join(parts))
print(json.dumps(answers))
"""


@dataclass(frozen=True)
class Guesser:
    """Somebody in a network namespace ("" is the outer machine) who calls one address of a host.

    `source` is their own address, where they have more than one.
    """

    host: Host
    address: str
    namespace: str
    source: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    def send(self, texts: Sequence[str], name: str = HOME) -> list[str]:
        """Raw requests, each in a connection of its own, and the answers to them."""
        who = {"address": self.address, "source": self.source}
        asked = json.dumps({**who, "name": name, "texts": list(texts)})
        argv = [*self._place(), sys.executable, "-c", REQUESTS]
        done = subprocess.run(argv, input=asked, capture_output=True, text=True, check=True)
        answers: list[str] = json.loads(done.stdout)
        return answers

    def statuses(self, texts: Sequence[str], name: str = HOME) -> list[str]:
        """The first line of each answer."""
        return [answer.partition("\r\n")[0] for answer in self.send(texts, name)]

    def reaches(self, port: int) -> bool:
        """Whether the host accepts a connection of theirs there."""
        call = f"create_connection(({self.address!r}, {port}), 2, ({self.source!r}, 0))"
        argv = [*self._place(), sys.executable, "-c", f"import socket; socket.{call}"]
        return subprocess.run(argv, capture_output=True, check=False).returncode == 0

    def portal(self, times: int, user: str = "mallory") -> list[str]:
        """Bad logins at the portal."""
        body = {"username": user, "password": "guess", "keepMeLoggedIn": False}
        return self._post(times, PORTAL, "/api/firstfactor", body)

    def jellyfin(self, times: int, user: str = "mallory") -> list[str]:
        """Bad logins at Jellyfin."""
        body = {"Username": user, "Pw": "guess"}
        return self._post(times, JELLYFIN, "/Users/AuthenticateByName", body)

    def ssh(self, times: int) -> list[str]:
        """Logins without a key that the host knows."""
        options = {
            "IdentityFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": str(self.host.known_hosts),
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": "3",
            **({"BindAddress": self.source} if self.source else {}),
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        argv = [*self._place(), "ssh", "-F", "none", *words, f"root@{self.address}", "true"]
        runs = [
            subprocess.run(argv, capture_output=True, text=True, check=False) for _ in range(times)
        ]
        return [done.stderr.strip() for done in runs]

    def _post(self, times: int, name: str, path: str, body: Mapping[str, object]) -> list[str]:
        text = json.dumps(body)
        given = {
            "Host": name,
            "Content-Type": "application/json",
            "Content-Length": str(len(text)),
            "Authorization": CLIENT,
            "Connection": "close",
            **self.headers,
        }
        head = "".join(f"{header}: {value}\r\n" for header, value in given.items())
        return self.statuses([f"POST {path} HTTP/1.1\r\n{head}\r\n{text}"] * times, name)

    def _place(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace] if self.namespace else []


@contextmanager
def stranger(host: Host, number: int, family: int = 4) -> Iterator[Guesser]:
    """Somebody on the internet with an address of this family; gone again afterwards."""
    where, subnet = ATTACKER_NAMESPACE, ATTACKER_NAMESPACE.subnet
    source, length, options, address = (
        (subnet.address(number), subnet.network.prefixlen, (), host.address)
        if family == 4
        else (subnet.address6(number), subnet.network6.prefixlen, ("nodad",), host.address6)
    )
    own = (f"{source}/{length}", "dev", "eth0")
    where.run(["ip", "addr", "add", *own, *options])
    try:
        yield Guesser(host, address, where.name, source)
    finally:
        where.run(["ip", "addr", "del", *own])


@dataclass(frozen=True)
class Door:
    """A way in: the jail that watches it, the port that a ban closes, another one, a guess."""

    jail: str
    port: int
    other: int
    guess: Callable[[Guesser, int], list[str]]
    refusal: str


DOORS = (
    Door("authelia", 443, 22, Guesser.portal, "HTTP/1.1 401 Unauthorized"),
    Door("jellyfin", 443, 22, Guesser.jellyfin, "HTTP/1.1 401 Unauthorized"),
    Door("sshd", 22, 443, Guesser.ssh, "Permission denied (publickey)"),
)
