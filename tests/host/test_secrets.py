"""Secrets: on the host only where their reader needs them, and nowhere that others look."""

from __future__ import annotations

import pytest

from roles.core.model import Desired, File
from roles.core.state import digest
from roles.stack.service import SECRETS, Service
from roles.stack.stack import secret_file
from roles.verify.report import expect
from roles.verify.target import Target


def test_no_value_stands_where_others_read(target: Target) -> None:
    found = [
        f"{place}: {name}"
        for place, text in target.collected.exposed_texts()
        for name in target.searcher.found_in(text)
    ]
    expect("vault values in arguments, environments, docker inspect, logs", found, [], "rotate it")


def test_files_hold_the_vaults_values(target: Target, role: Desired) -> None:
    seen = target.observed
    wrong = [
        file.path
        for file in role.of(File)
        if file.secret and seen.paths[file.path].get("digest") != digest(file.content, seen.nonce)
    ]
    expect("secret files with another content", wrong, [])


@pytest.mark.check("SEC-20")
def test_files_are_their_readers_alone(target: Target, service: Service) -> None:
    folder = f"{SECRETS}/{service.name}/"
    tree = target.collected.raw["tree"]
    seen = {path: found for path, found in tree.items() if path.startswith(folder)}
    names = {secret_file(service, name) for name in service.secrets}
    extra = {p for r in target.roles for p in _secret_paths(r, folder)}
    wanted = {path: [0o400, service.uid, service.uid] for path in names | extra}
    expect(f"secret files of {service.name}", sorted(seen), sorted(wanted))
    expect("mode, user and group of", _readable(seen), _readable(wanted))


def _secret_paths(role: Desired, folder: str) -> list[str]:
    return [file.path for file in role.of(File) if file.path.startswith(folder)]


def _readable(found: dict[str, list[int]]) -> dict[str, str]:
    return {path: f"{mode:04o} {uid}:{gid}" for path, (mode, uid, gid) in found.items()}


def test_nothing_is_open_to_every_user(target: Target) -> None:
    # Folders may be passed through: an application finds its own files below.
    found = [
        f"{path} {mode:04o}"
        for path, (mode, _, _) in target.collected.raw["tree"].items()
        if mode & 0o006
    ]
    expect("what every user can read or write in /opt/nexus", found, [])
