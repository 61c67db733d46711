"""What every role starts from: the validated site, its stack, and the host's constants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from roles.core.model import Directory, File, Group, Resource, User
from roles.core.render import render
from roles.core.secret import Secret
from roles.site.schema import Site
from roles.stack.service import SECRETS, Service
from roles.stack.stack import Stack, config_folder, data_folder, secret_file


@dataclass(frozen=True)
class Facts:
    """What is read once, early. `docker_gid` is None where no such group exists yet."""

    distribution: str
    codename: str
    architecture: str
    docker_gid: int | None


@dataclass(frozen=True)
class Context:
    """The input of every role's `desired`."""

    site: Site
    stack: Stack
    facts: Facts
    secrets: Mapping[str, Secret] = field(repr=False)

    def template(self, name: str, **values: Any) -> bytes:
        """The template of this path under templates/, with the site, the stack and these values."""
        return render(name, {"site": self.site, "stack": self.stack, "facts": self.facts, **values})

    def file(self, role: str, path: str, mode: str = "0644", **values: Any) -> File:
        """The file at `path`, from the template of the role with the same path."""
        return File(path, self.template(f"{role}{path}", **values), mode=mode)

    def config(self, service: Service, files: Mapping[str, bytes]) -> tuple[Resource, ...]:
        """A service's configuration folder: nothing else is in it, only its own group reads it."""
        folder, group = config_folder(service), str(service.uid)
        folders = {f"{folder}/{name}".rsplit("/", 1)[0] for name in files} | {folder}
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
        return (
            Group(service.account, service.uid),
            User(service.account, service.uid, service.account),
            *(
                Directory(data_folder(service, name), "0700", owner, owner)
                for name, _ in service.data
            ),
            Directory(folder, "0711", purge=True),
            *self.secret_files(service, service.secrets),
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
