"""What every role starts from: the validated site, its stack, and the host's constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from roles.core.model import Directory, File, Group, Resource, User
from roles.core.render import render
from roles.core.secret import Secret
from roles.site.schema import Site
from roles.stack.service import DATA, SECRETS, Service
from roles.stack.stack import Render, Stack, config_folder, data_folder, secret_file


@dataclass(frozen=True)
class Running:
    """A container that the host has: the Compose project and file it is of, and what it holds."""

    name: str
    project: str
    file: str
    state: str
    ports: tuple[tuple[str, int], ...]
    socket: bool


@dataclass(frozen=True)
class Facts:
    """What is read once, early. A group's number is None where there is no such group yet.

    `folders` has mode and group of those media folders that were there and have no other rules.
    """

    distribution: str
    codename: str
    architecture: str
    docker_gid: int | None
    processors: int
    memory: int = 0
    render: Render | None = None
    containers: tuple[Running, ...] = ()
    journal_gid: int | None = None
    folders: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def release(self) -> str:
        """Distribution and code name, e.g. "debian trixie"."""
        return f"{self.distribution} {self.codename}"


@dataclass(frozen=True)
class Context:
    """The input of every role's `desired`. `vault` is the vault's file, encrypted as it lies."""

    site: Site
    stack: Stack
    facts: Facts
    secrets: Mapping[str, Secret] = field(repr=False)
    vault: bytes = field(default=b"", repr=False)

    @property
    def authority(self) -> str:
        """Who vouches for the server's certificates (PEM); empty where public ones do."""
        own = self.secrets.get("tls_ca_certificate")
        return own.reveal() if own else self.site.tls.ca_certificate or ""

    def template(self, name: str, **values: Any) -> bytes:
        """The template of this path under templates/, with the site, the stack and these values."""
        return render(name, {"site": self.site, "stack": self.stack, "facts": self.facts, **values})

    def file(self, role: str, path: str, mode: str = "0644", **values: Any) -> File:
        """The file at `path`, from the template of the role with the same path."""
        return File(path, self.template(f"{role}{path}", **values), mode=mode)

    def config(self, service: Service, files: Mapping[str, bytes]) -> tuple[Resource, ...]:
        """A service's configuration folder: nothing else is in it, only its own group reads it."""
        folder, group = config_folder(service), str(service.uid)
        inside = {str(parent) for name in files for parent in PurePosixPath(name).parents}
        folders = {folder, *(f"{folder}/{path}" for path in inside - {"."})}
        return (
            *(Directory(path, "0750", "root", group, purge=True) for path in sorted(folders)),
            *(
                File(f"{folder}/{name}", content, "0440", "root", group, secret=True)
                for name, content in files.items()
            ),
        )

    def belongings(self, service: Service) -> tuple[Resource, ...]:
        """What every service has: its account, its data folders and its secret files."""
        owner = str(service.uid)
        folder = f"{SECRETS}/{service.name}"
        account = (
            Group(service.account, service.uid),
            User(service.account, service.uid, service.account),
        )
        return (
            # Root's number is taken.
            *(account if service.uid else ()),
            *([Directory(f"{DATA}/{service.name}", "0711")] if service.data else []),
            *(
                Directory(data_folder(service, name), "0700", owner, owner)
                for name, _ in service.data
            ),
            Directory(folder, "0711", purge=True),
            *self.secret_files(service, service.secrets),
        )

    def setup_files(self, role: str, names: Iterable[str]) -> tuple[Resource, ...]:
        """Secrets for a role's program on the host: root's alone, and no container's input."""
        return (
            Directory(f"{SECRETS}/{role}-setup", "0700", purge=True),
            *(
                File(
                    setup_file(role, name),
                    self.secrets[name].reveal().encode(),
                    "0400",
                    secret=True,
                )
                for name in dict.fromkeys(names)
            ),
        )

    def secret_files(self, service: Service, names: Iterable[str]) -> tuple[File, ...]:
        """One file a secret, readable by the service's user alone (DESIGN: mode 0400)."""
        owner = str(service.uid)
        return tuple(
            File(
                secret_file(service, name),
                self.secrets[name].reveal().encode(),
                "0400",
                owner,
                owner,
                secret=True,
            )
            for name in names
        )


def setup_file(role: str, name: str) -> str:
    """The host path of a secret that a role's program reads."""
    return f"{SECRETS}/{role}-setup/{name}"
