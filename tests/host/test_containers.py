"""Every service as the kernel runs it: exactly the privileges, mounts and limits it declares.

CIS Docker Benchmark 5. Exceptions are the declaration's own; one more or one less fails.
"""

from __future__ import annotations

import pytest

from roles.docker import docker_gid
from roles.stack.compose import TMPFS_OPTIONS
from roles.stack.service import Service
from roles.stack.stack import PROJECT, config_folder, data_folder, secret_file
from roles.verify.collected import Container
from roles.verify.report import APPLY, Row, Unproven, expect
from roles.verify.target import Target

# File systems that the kernel or the engine makes in every container
# (https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md).
KERNEL_PLACES = ("/proc", "/sys", "/dev")
HOST_FILES = {"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"}


@pytest.fixture
def container(target: Target, service: Service) -> Container:
    found = target.collected.of(PROJECT, service.name)
    if found is None or not found.processes:
        raise Unproven([Row(f"container of {service.name}", "not running", "running", APPLY)])
    return found


@pytest.mark.check("OPS-17")
def test_runs_and_is_healthy(target: Target, service: Service, container: Container) -> None:
    state = container.inspect["State"]
    seen = {
        "status": state["Status"],
        "health": state.get("Health", {}).get("Status"),
        "restart policy": container.inspect["HostConfig"]["RestartPolicy"]["Name"],
    }
    wanted = {"status": "running", "health": "healthy", "restart policy": "unless-stopped"}
    expect(service.name, seen, wanted, f"docker logs {container.name} says why; make apply")


@pytest.mark.check("API-11")
def test_image_is_the_pinned_one(target: Target, service: Service, container: Container) -> None:
    wanted = target.context.stack.images[service.image].rpartition("@")[2]
    pulled = target.collected.raw["digests"].get(container.inspect["Image"], [])
    found = [name.rpartition("@")[2] for name in pulled]
    expect(f"{service.name} image", wanted if wanted in found else found, wanted)


def test_processes_have_no_privileges(
    target: Target, service: Service, container: Container
) -> None:
    uid = " ".join([str(service.uid)] * 4)
    kept = {waiver.value for waiver in service.capabilities}
    seen = {
        "user": container.status("Uid"),
        "group": container.status("Gid"),
        "no new privileges": container.status("NoNewPrivs"),
        "seccomp filter": container.status("Seccomp"),
        "bounding capabilities": container.capabilities("CapBnd"),
        "effective capabilities": container.capabilities("CapEff") - kept,
        "permitted capabilities": container.capabilities("CapPrm") - kept,
        "ambient capabilities": container.capabilities("CapAmb") - kept,
    }
    wanted = {
        "user": {uid},
        "group": {uid},
        "no new privileges": {"1"},
        "seccomp filter": {"2"},
        "bounding capabilities": kept,
        "effective capabilities": set(),
        "permitted capabilities": set(),
        "ambient capabilities": set(),
    }
    expect(service.name, seen, wanted)


def test_groups_are_the_declared_ones(
    target: Target, service: Service, container: Container
) -> None:
    socket = [str(docker_gid(target.context))] if service.docker_socket else []
    seen = {group for groups in container.status("Groups") for group in groups.split()}
    expect(f"{service.name} groups", seen - {str(service.uid)}, {*service.groups, *socket})


def test_root_is_read_only(target: Target, service: Service, container: Container) -> None:
    roots = [mount for mount in container.mounts if mount.target == "/"]
    writable = any("rw" in mount.options for mount in roots)
    expect(f"{service.name} writable root", writable, service.writable_root is not None)


def test_mounts_are_the_declared_ones(
    target: Target, service: Service, container: Container
) -> None:
    seen = {
        (mount["Source"], mount["Destination"], "rw" if mount["RW"] else "ro")
        for mount in container.inspect["Mounts"]
        if mount["Type"] != "tmpfs"
    }
    expect(f"{service.name} mounts", _texts(seen), _texts(declared_mounts(service)))


def declared_mounts(service: Service) -> set[tuple[str, str, str]]:
    """Source, target and mode of everything that a service sees of the host."""
    secrets = {(secret_file(service, n), f"/run/secrets/{n}", "ro") for n in service.secrets}
    data = {(data_folder(service, name), target, "rw") for name, target in service.data}
    media = {(m.source, m.target, "ro" if m.read_only else "rw") for m in service.mounts}
    config = {(config_folder(service), service.config, "ro")} if service.config else set()
    socket = service.docker_socket
    proxy = {(socket.value, "/var/run/docker.sock", "ro")} if socket else set()
    return secrets | data | media | config | proxy


def _texts(mounts: set[tuple[str, str, str]]) -> list[str]:
    return sorted(f"{source} at {target} {mode}" for source, target, mode in mounts)


def test_only_declared_places_are_writable(
    target: Target, service: Service, container: Container
) -> None:
    declared = {t for _, t, mode in declared_mounts(service) if mode == "rw"} | in_memory(service)
    seen = {
        mount.target
        for mount in container.mounts
        if "rw" in mount.options and not mount.target.startswith(KERNEL_PLACES)
    }
    if service.writable_root:
        declared |= {"/"} | (HOST_FILES & seen)
    expect(f"{service.name} writable", seen, _resolved(declared, seen))


def in_memory(service: Service) -> set[str]:
    return {*service.tmpfs, *(path for path, _ in service.scratch)}


def _resolved(declared: set[str], seen: set[str]) -> set[str]:
    """The kernel names the place behind a link, such as /run for /var/run."""
    behind = {target: f"/run{target.removeprefix('/var/run')}" for target in declared}
    linked = {t for t in declared if t.startswith("/var/run") and t not in seen}
    return {behind[target] if target in linked else target for target in declared}


def test_temporary_folders_run_nothing(
    target: Target, service: Service, container: Container
) -> None:
    options = {"noexec", "nosuid", "nodev"}
    assert options <= set(TMPFS_OPTIONS.split(","))
    places = _resolved(in_memory(service), {mount.target for mount in container.mounts})
    found = [mount for mount in container.mounts if mount.target in places]
    expect(f"{service.name} temporary folders", {mount.target for mount in found}, places)
    for mount in found:
        expect(f"{service.name} {mount.target} options", mount.options & options, options)
        limited = any(option.startswith("size=") for option in mount.options)
        expect(f"{service.name} {mount.target} has a size", limited, True)


def test_limits_are_in_force(target: Target, service: Service, container: Container) -> None:
    limits = service.limits
    seen = {
        "memory": container.memory,
        "swap": container.swap,
        "processors": container.cpus,
        "processes": container.pids,
    }
    wanted = {
        "memory": limits.memory,
        "swap": 0,
        "processors": limits.cpus,
        "processes": limits.pids,
    }
    expect(service.name, seen, wanted)


def test_addresses_are_the_declared_ones(
    target: Target, service: Service, container: Container
) -> None:
    stack = target.context.stack
    seen = {
        name: network["IPAddress"]
        for name, network in container.inspect["NetworkSettings"]["Networks"].items()
    }
    wanted = {
        segment.docker_name: segment.address(service) for segment in stack.networks_of(service)
    }
    expect(f"{service.name} networks", sorted(seen.items()), sorted(wanted.items()))


def test_logs_are_limited(target: Target, service: Service, container: Container) -> None:
    config = container.inspect["HostConfig"]["LogConfig"]
    seen = {"driver": config["Type"], **config["Config"]}
    # The journal has a size of its own: the base role's.
    wanted = {"driver": "journald", "tag": service.name}
    expect(f"{service.name} log", seen, wanted)
