"""A host with the old NEXUS on it: what the hardened one is compared with."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from tests.lab import images
from tests.lab.command import LabError
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.legacy import state
from tests.lab.legacy.recipes import recipes
from tests.lab.rootfs import OPERATOR

PROJECT = "nexus-legacy"
# The report's restart loop.
RESTARTING = "otel-collector"
SOCKET_HOLDERS = ("homepage", "portainer", "traefik")
UP_SECONDS = 120.0
COMPOSE = f"docker compose --project-directory {state.FOLDER}"
PACKAGES = "docker.io docker-cli docker-compose ufw curl"
# Published ports of IPv6 pass UFW as those of IPv4 do where Docker has its own rules for both.
DAEMON = {"experimental": True, "ip6tables": True}
SSHD = "PermitRootLogin yes\nPasswordAuthentication yes\n"


@dataclass(frozen=True)
class Legacy:
    """A legacy host that runs; `folder` is its Compose project's."""

    host: Host
    folder: str = state.FOLDER

    @classmethod
    def boot(cls, lab: Lab, name: str = "legacy") -> Legacy:
        """A bare Debian with the old stack up. Seconds, but minutes the first time.

        Raises LabError when a container does not come up within 120 s, CommandError when a step of
        building it fails.
        """
        host = lab.start_host(lab.free_name(name), _base(lab))
        legacy = cls(host)
        host.run(f"{COMPOSE} up -d", timeout=300)
        legacy.wait_up()
        return legacy

    @property
    def services(self) -> dict[str, Any]:
        """The services of its Compose file, by name (which is the container's name as well)."""
        document = yaml.safe_load((state.FILES / "docker-compose.yml").read_text())
        return dict(document["services"])

    def published(self) -> list[tuple[str, int]]:
        """Every published port of the host: protocol and number."""
        words = [
            str(port) for service in self.services.values() for port in service.get("ports", ())
        ]
        ends = (word.partition(":")[0::2] for word in words)
        return [("udp" if inner.endswith("/udp") else "tcp", int(outer)) for outer, inner in ends]

    def inside(
        self, container: str, command: Sequence[str] | str, *, check: bool = True
    ) -> CompletedProcess[str]:
        """Run a command in a container, as its root: where an attacker begins who broke in."""
        inner = ["sh", "-c", command] if isinstance(command, str) else list(command)
        return self.host.run(["docker", "exec", "--user=0", container, *inner], check=check)

    def inspect(self, container: str) -> dict[str, Any]:
        """What `docker inspect` says of a container."""
        found = json.loads(self.host.run(["docker", "inspect", container]).stdout)
        return dict(found[0])

    def restarts(self, container: str) -> int:
        """How often Docker has started a container again."""
        return int(self.inspect(container)["RestartCount"])

    def wait_up(self) -> None:
        """Until all containers run, and those with a health check are healthy.

        But the one that restarts for ever. Raises LabError when they do not within 120 s.
        """
        wanted = {name: "healthcheck" in service for name, service in self.services.items()}
        del wanted[RESTARTING]
        deadline = time.monotonic() + UP_SECONDS
        while missing := self._missing(wanted):
            if time.monotonic() > deadline:
                raise LabError(f"{self.host.name}: not up: {', '.join(sorted(missing))}")
            time.sleep(0.5)

    def _missing(self, wanted: Mapping[str, bool]) -> set[str]:
        listed = [
            "docker",
            "ps",
            "--filter",
            "status=running",
            "--format",
            "{{.Names}} {{.Status}}",
        ]
        lines = self.host.run(listed).stdout.splitlines()
        states = dict(line.split(maxsplit=1) for line in lines)
        return {
            name
            for name, checked in wanted.items()
            if name not in states or (checked and "(healthy)" not in states[name])
        }


def _base(lab: Lab) -> str:
    """The name of the saved state to start from; made when the cache has none of today's recipe."""
    made = recipes()
    unique = {recipe.name: recipe for recipe in made.values()}
    pinned = images.publish(
        f"https://{lab.registry}", lab.registry_ca, lab.cache, None, tuple(unique.values())
    )
    references = {tag: pinned[recipe.name] for tag, recipe in made.items()}
    name = f"legacy-{_recipe_hash(references)}"
    with _one_at_a_time(lab.cache):
        if not lab.bases.exists(name):
            _build(lab, name, references)
    return name


def _build(lab: Lab, name: str, references: dict[str, str]) -> None:
    host = lab.start_host(lab.free_name("legacy-base"))
    try:
        _install(host)
        for tag, reference in references.items():
            host.run(["docker", "pull", "--quiet", reference], timeout=300)
            host.run(["docker", "tag", reference, tag])
        state.write(host.layout.root)
        host.stop()
        for old in lab.bases.directory.glob("legacy-*"):
            lab.bases.remove(old.name)
        host.save(name)
    finally:
        host.destroy()


def _install(host: Host) -> None:
    """As a guide on the web says it: Docker, and a firewall that lets three ports in."""
    host.run(
        f"mkdir -p /etc/docker && cat > /etc/docker/daemon.json <<'E'\n{json.dumps(DAEMON)}\nE"
    )
    host.run("apt-get -q update", timeout=300)
    install = "apt-get -qy -o Dpkg::Use-Pty=0 install --no-install-recommends"
    host.run(f"DEBIAN_FRONTEND=noninteractive {install} {PACKAGES}", timeout=600)
    host.run("for port in 22 80 443; do ufw allow $port/tcp; done && ufw --force enable")
    host.run(["tee", "/etc/ssh/sshd_config.d/legacy.conf"], stdin=SSHD)
    host.run(["chpasswd"], stdin=f"{OPERATOR}:{state.PASSWORD}\n")
    host.run(["systemctl", "restart", "ssh"])


def _recipe_hash(references: dict[str, str]) -> str:
    here = Path(__file__).parent
    files = sorted(path for path in here.rglob("*") if path.is_file() and path.suffix != ".pyc")
    parts = [path.read_bytes() for path in files]
    return hashlib.sha256(
        b"\0".join((*parts, repr(sorted(references.items())).encode()))
    ).hexdigest()[:16]


@contextlib.contextmanager
def _one_at_a_time(cache: Path) -> Iterator[None]:
    with (cache / "legacy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
