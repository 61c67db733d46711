"""The engine from the distribution or from Docker's repository, and the way between the two."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from roles import base, docker, docker_source
from roles.context import Context
from roles.core import agent
from roles.core.model import Absent, AbsentPackage, Desired, File, Observed, Package, Unit
from roles.core.state import diff
from roles.site.schema import SiteError
from tests.unit.conftest import context_from, site_from

# https://docs.docker.com/engine/install/debian/ and every copy of the key that is published.
FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
DOCKER = {"source": "docker"}


def on(release: str, **changes: Any) -> Context:
    context = context_from(**changes)
    distribution, codename = release.split()
    facts = dataclasses.replace(context.facts, distribution=distribution, codename=codename)
    return dataclasses.replace(context, facts=facts)


def text(role: Desired, path: str) -> str:
    return next(file.content for file in role.of(File) if file.path == path).decode()


def names(role: Desired) -> set[str]:
    return {package.name for package in role.of(Package)}


def test_the_key_is_dockers() -> None:
    armoured = text(docker_source.desired(context_from(docker=DOCKER)), docker_source.KEYRING)
    body = armoured.split("\n\n", 1)[1].split("\n=")[0]
    key = base64.b64decode(body)
    # RFC 9580, 5.5.4.2: the hash of the first packet, whose old form starts with the same three
    # octets that the hash does.
    assert key[0] == 0x99
    packet = key[: 3 + int.from_bytes(key[1:3])]
    assert hashlib.sha1(packet).hexdigest().upper() == FINGERPRINT  # noqa: S324


@pytest.mark.parametrize("release", docker.FROM_DISTRIBUTION)
def test_the_source_names_the_release(release: str) -> None:
    role = docker_source.desired(on(release, docker=DOCKER))
    distribution, codename = release.split()
    lines = text(role, docker_source.SOURCES).splitlines()
    assert f"URIs: https://download.docker.com/linux/{distribution}" in lines
    assert f"Suites: {codename}" in lines
    assert f"Signed-By: {docker_source.KEYRING}" in lines


def test_a_mirror_stands_for_dockers_address_and_key() -> None:
    key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQIN\n-----END PGP PUBLIC KEY BLOCK-----\n"
    mirror = {"mirror": "http://mirror.lan/docker", "mirror_key": key}
    role = docker_source.desired(context_from(docker={**DOCKER, **mirror}))
    assert "URIs: http://mirror.lan/docker/debian\n" in text(role, docker_source.SOURCES)
    assert text(role, docker_source.KEYRING) == key


def test_the_distribution_leaves_no_trace_of_docker() -> None:
    role = docker_source.desired(context_from())
    wanted = docker_source.desired(context_from(docker=DOCKER))
    assert {a.path for a in role.of(Absent)} >= {file.path for file in wanted.of(File)}
    assert not role.of(File)


def test_updates_follow_the_source() -> None:
    path = "/etc/apt/apt.conf.d/52nexus-updates"
    origin = "origin=Docker,label=Docker CE"
    assert origin in text(base.desired(context_from(docker=DOCKER)), path)
    assert origin not in text(base.desired(context_from()), path)


def test_debian_12_needs_dockers_repository() -> None:
    with pytest.raises(SiteError, match=r"site\.docker\.source: 'distribution' .* write docker"):
        docker.desired(on("debian bookworm"))
    assert names(docker.desired(on("debian bookworm", docker=DOCKER))) == set(docker.FROM_DOCKER)


@pytest.mark.parametrize("source", docker.RIVALS)
def test_no_package_is_wanted_and_unwanted(source: str) -> None:
    for release in ("debian trixie", "ubuntu noble"):
        role = docker.desired(on(release, docker={"source": source}))
        assert not names(role) & {package.name for package in role.of(AbsentPackage)}


def test_one_transaction_changes_the_source_and_restarts_the_engine() -> None:
    unit = Unit("engine.service", restart_on=("old",))
    role = Desired("docker", (Package("new"), AbsentPackage("old"), unit))
    running = {"engine.service": {"UnitFileState": "enabled", "ActiveState": "active"}}
    changes = diff(role, Observed(packages=frozenset({"old"}), units=running, nonce="00"))
    assert [step["names"] for step in changes.steps if step["do"] == "packages"] == [
        ["new", "old-"]
    ]
    runs = [step["argv"] for step in changes.steps if step["do"] == "run"]
    assert runs == [["systemctl", "restart", "engine.service"]]
    assert not diff(role, Observed(packages=frozenset({"new"}), units=running, nonce="00"))


def test_a_removal_that_was_cut_off_is_cleaned_up_after_too() -> None:
    changes = diff(docker.desired(context_from(docker=DOCKER)), Observed(nonce="00"))
    runs = [step["argv"] for step in changes.steps if step["do"] == "run"]
    assert ["rm", "-f", docker.TIME_BOMB] in runs
    assert ["systemctl", "stop", "docker.socket"] in runs


def test_lists_older_than_a_source_are_fetched_again(tmp_path: Path) -> None:
    assert not agent.lists_are_fresh(tmp_path)
    packages = tmp_path / "var/lib/apt/lists/deb.example_Packages"
    source = tmp_path / "etc/apt/sources.list.d/docker.sources"
    for file in (packages, source):
        file.parent.mkdir(parents=True)
        file.touch()
    now = packages.stat().st_mtime
    for age, fresh in ((10, True), (-10, False)):
        os.utime(source, (now - age, now - age))
        assert agent.lists_are_fresh(tmp_path) is fresh


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"source": "debian"}, "source"),
        ({"mirror": "https://mirror.lan"}, "mirror"),
        ({**DOCKER, "mirror": "mirror.lan"}, "mirror"),
        ({**DOCKER, "mirror": "https://me:hunter2@mirror.lan"}, "mirror"),
        ({**DOCKER, "mirror": "https://mirror.lan/\nURIs: http://x"}, "mirror"),
        ({**DOCKER, "mirror": "https://mirror.lan", "mirror_key": "hunter2"}, "mirror_key"),
        ({**DOCKER, "mirror_key": "hunter2"}, "mirror_key"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused(changed: dict[str, str], field: str) -> None:
    with pytest.raises(SiteError, match=rf"site\.docker\.{field}: ") as refused:
        site_from(docker=changed)
    assert "hunter2" not in str(refused.value)
