"""A host that is attacked, and the places of the network and of its containers to do it from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from subprocess import CompletedProcess

from tests.lab.command import CommandError
from tests.lab.deployment import DOMAIN, Deployment
from tests.lab.guesser import ATTACKS, Guesser, stranger
from tests.lab.host import Host
from tests.lab.legacy import Legacy
from tests.lab.network import Namespace
from tests.lab.provider import Provider

# The legacy images that begin as root and drop to PUID, where their program is.
SERVARR = ("sonarr", "radarr", "lidarr", "readarr", "prowlarr", "bazarr")
DROPPED = frozenset((*SERVARR, "overseerr", "tautulli", "qbittorrent", "sabnzbd"))
DROPPED_USER = "1000:1000"
# curl(1), EXIT CODES: no connection, no answer in time, no TLS, nothing said.
UNREACHABLE = {7: "refused", 28: "no answer", 35: "no TLS handshake", 52: "hung up"}


@dataclass(frozen=True)
class Answer:
    """What a web server said, headers and all; status 0 and the reason where it said nothing."""

    status: int
    text: str

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status else self.text


@dataclass(frozen=True)
class Place:
    """The legacy host, or with a `deployment` the hardened one. `swarm` shares torrents with it.

    `strangers` are numbers in the attacker's network that the host has not seen yet.
    """

    host: Host
    deployment: Deployment | None = None
    swarm: Provider | None = None
    strangers: Iterator[int] = field(default_factory=lambda: iter(ATTACKS))

    @classmethod
    def legacy(cls, legacy: Legacy, swarm: Provider) -> Place:
        return cls(legacy.host, None, swarm)

    @classmethod
    def hardened(cls, deployment: Deployment, swarm: Provider) -> Place:
        return cls(deployment.host, deployment, swarm)

    @property
    def is_hardened(self) -> bool:
        return self.deployment is not None

    @property
    def project(self) -> str:
        """The folder with the Compose file, the settings and the data."""
        return "/opt/nexus" if self.is_hardened else "/srv/nexus"

    def container(self, service: str) -> str:
        return f"nexus-{service}-1" if self.is_hardened else service

    def config(self, service: str) -> str:
        """The folder of the host that an application has as /config."""
        if self.is_hardened:
            return f"{self.project}/data/{service}/config"
        return f"{self.project}/config/{service}"

    def inside(
        self, service: str, command: Sequence[str], *, check: bool = True, stdin: str = ""
    ) -> CompletedProcess[str]:
        """Run a command in a container as its program's own user: what a hole in it gives."""
        drops = not self.is_hardened and service in DROPPED
        user = [f"--user={DROPPED_USER}"] if drops else []
        argv = ["docker", "exec", "-i", *user, self.container(service), *command]
        return self.host.run(argv, check=check, stdin=stdin)

    def python(
        self, service: str, code: str, *words: str, check: bool = True, stdin: str = ""
    ) -> CompletedProcess[str]:
        """Run Python there."""
        return self.inside(service, ["python3", "-c", code, *words], check=check, stdin=stdin)

    def inspect(self, service: str, form: str) -> str:
        """What Docker says of a container, in a form of its own (docker inspect -f)."""
        argv = ["docker", "inspect", "-f", form, self.container(service)]
        return self.host.run(argv).stdout.strip()

    def addresses(self, service: str) -> list[str]:
        """A container's addresses, which an attacker finds by trying all of a network."""
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        return self.inspect(service, form).split()

    def address(self, family: int = 4) -> str:
        """The host's own."""
        return self.host.address if family == 4 else self.host.address6

    def url(self, service: str, port: int, path: str = "/") -> str:
        """Where its household finds a page: by name behind the proxy, or at a published port."""
        if self.is_hardened:
            return f"https://{service}.{DOMAIN}{path}"
        return f"http://{self.host.address}:{port}{path}"

    def ask(self, where: Namespace, url: str, *options: str) -> Answer:
        """Ask a web server of the host from a place of the network; its names are known there.

        Raises CommandError when curl could not do what it was told.
        """
        name = url.split("/")[2]
        resolve = [
            word
            for port in (80, 443)
            for word in ("--resolve", f"{name}:{port}:{self.host.address}")
            if name[0].isalpha()
        ]
        curl = ["curl", "-sik", "--noproxy", "*", "--path-as-is", "--connect-timeout", "3"]
        argv = [*curl, "-m", "10", *resolve, *options, url]
        done = where.run(argv, check=False)
        if done.returncode in UNREACHABLE:
            return Answer(0, UNREACHABLE[done.returncode])
        if done.returncode != 0:
            raise CommandError(argv, done)
        return Answer(int(done.stdout.split()[1]), done.stdout)

    @contextmanager
    def stranger(self, family: int = 4) -> Iterator[Guesser]:
        """Somebody on the internet whom the host has never seen; forgotten again afterwards."""
        with stranger(self.host, next(self.strangers), family) as somebody:
            try:
                yield somebody
            finally:
                if self.is_hardened:
                    self.host.run(["fail2ban-client", "unban", somebody.source])
