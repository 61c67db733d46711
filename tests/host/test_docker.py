"""The engine, and every container on the host, ours or not. CIS Docker Benchmark 2, 3 and 5."""

from __future__ import annotations

import pytest

from roles.stack.networks import SOCKET_PROXY
from roles.stack.stack import PROJECT
from roles.verify.collected import Container
from roles.verify.report import expect
from roles.verify.target import DOCKER_API, Target

REMOVE = "remove the container, or give it what it needs without this"


@pytest.fixture(autouse=True)
def engine(target: Target) -> None:
    """Without an engine nothing here is true of anything."""
    expect("Docker Engine", bool(target.collected.raw["docker"].get("ServerVersion")), True)


@pytest.mark.check("SEC-50")
def test_engine_settings(target: Target) -> None:
    info = target.collected.raw["docker"]
    wanted = {"LiveRestoreEnabled": True, "LoggingDriver": "json-file"}
    expect("docker info", {key: info.get(key) for key in wanted}, wanted)
    expect("swarm", info["Swarm"]["LocalNodeState"], "inactive", "docker swarm leave --force")
    seccomp = [option for option in info["SecurityOptions"] if "seccomp" in option]
    expect("seccomp", seccomp, ["name=seccomp,profile=builtin"])


@pytest.mark.check("SEC-48")
def test_api_is_not_on_the_network(target: Target) -> None:
    # The engine itself holds the ports that containers publish.
    published = {place for each in target.collected.containers for place in each.published}
    listening = [
        str(each)
        for each in target.collected.listeners()
        if each.port in DOCKER_API
        or (each.process == "dockerd" and (each.protocol, each.port) not in published)
    ]
    expect("Docker API over TCP", listening, [])


@pytest.mark.check("SEC-49")
def test_nobody_is_in_the_docker_group(target: Target) -> None:
    mend = "gpasswd -d USER docker: the group is root by another name"
    expect("members of the group docker", target.collected.raw["docker_members"], [], mend)


def test_only_the_proxy_holds_the_socket(target: Target) -> None:
    holders = [
        f"{container.name} {source}"
        for container in target.collected.containers
        for source in container.engine_sockets
        if not _is_proxy(container)
    ]
    expect("containers with an engine's socket", holders, [], REMOVE)


def _is_proxy(container: Container) -> bool:
    return container.name == f"{PROJECT}-{SOCKET_PROXY}-1"


@pytest.mark.check("SEC-06")
def test_no_container_shares_the_host(target: Target) -> None:
    shared = [
        f"{container.name} {what}"
        for container in target.collected.containers
        for what in _shared(container)
    ]
    expect("containers with the host's privileges", shared, [], REMOVE)


def _shared(container: Container) -> list[str]:
    settings = container.inspect["HostConfig"]
    modes = ("NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode")
    found = [f"{mode} host" for mode in modes if settings.get(mode) == "host"]
    found += ["privileged"] if settings["Privileged"] else []
    found += [f"{option}" for option in settings["SecurityOpt"] or () if "unconfined" in option]
    return found


def test_no_container_publishes_an_undeclared_port(target: Target) -> None:
    ours = {
        f"{PROJECT}-{s.name}-1": {(port.protocol, port.host) for port in s.ports}
        for s in target.services.values()
    }
    strays = [
        f"{container.name} {protocol} {port}"
        for container in target.collected.containers
        for protocol, port in sorted(container.published - ours.get(container.name, set()))
    ]
    expect("undeclared published ports", strays, [], REMOVE)
