"""The Compose file, derived from the declarations (https://github.com/compose-spec)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from roles.core import libyaml
from roles.core.model import Container, File, Settings
from roles.stack.service import Service
from roles.stack.stack import PROJECT, Stack, config_folder, data_folder, secret_file

FINGERPRINT = "org.nexus.inputs"
TMPFS_OPTIONS = "rw,noexec,nosuid,nodev,size=64m,mode=1777"


def definitions(
    stack: Stack, inputs: Mapping[str, Iterable[File | Settings]], docker_gid: int
) -> dict[str, dict[str, Any]]:
    """Each service as the Compose file declares it, with a label that its `inputs` decide too.

    A container keeps running on old files (https://github.com/docker/compose/issues/9648): the
    label is what recreates exactly the services whose declaration or files have changed.
    """
    made = {}
    for service in stack.services:
        definition = _service(stack, service, docker_gid)
        text = json.dumps(definition, sort_keys=True)
        label = {FINGERPRINT: stack.fingerprint(text, inputs[service.name])}
        made[service.name] = {**definition, "labels": label}
    return made


def compose(stack: Stack, services: Mapping[str, Mapping[str, Any]]) -> str:
    """The file's text, from the services' definitions."""
    secrets = {
        f"{service.name}_{name}": {"file": secret_file(service, name)}
        for service in stack.services
        for name in service.secrets
    }
    document = {
        "name": PROJECT,
        "services": dict(services),
        "networks": {
            segment.name: {"name": segment.docker_name, "external": True}
            for segment in stack.segments.values()
            if any(segment in stack.networks_of(service) for service in stack.services)
        },
        "secrets": secrets,
    }
    return libyaml.dump(document)


def _service(stack: Stack, service: Service, docker_gid: int) -> dict[str, Any]:
    limits = service.limits
    document: dict[str, Any] = {
        "image": stack.images[service.image],
        "user": f"{service.uid}:{service.uid}",
        "read_only": service.writable_root is None,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "init": service.init,
        "mem_limit": limits.memory,
        "memswap_limit": limits.memory,
        "cpus": limits.cpus,
        "pids_limit": limits.pids,
        "healthcheck": {
            "test": list(service.health.test),
            "interval": f"{service.health.interval}s",
            "timeout": f"{service.health.timeout}s",
            "retries": service.health.retries,
            "start_period": f"{service.health.start_period}s",
            "start_interval": "1s",
        },
        # One place for every line, which also outlives a container; the journal has limits of its
        # own (the base role's), and `docker logs` reads it.
        "logging": {"driver": "journald", "options": {"tag": service.name}},
    }
    optional: dict[str, Any] = {
        "entrypoint": list(service.entrypoint),
        "command": list(service.command),
        "cap_add": [waiver.value for waiver in service.capabilities],
        "group_add": [*service.groups, *([str(docker_gid)] if service.docker_socket else [])],
        "devices": [f"{device.value}:{device.value}" for device in service.devices],
        "ports": [_port(port.host, port.container, port.protocol) for port in service.ports],
        "volumes": _volumes(service),
        "tmpfs": [
            *(f"{path}:{TMPFS_OPTIONS}" for path in service.tmpfs),
            *(f"{path}:{_scratch_options(service, size)}" for path, size in service.scratch),
        ],
        "environment": {"TZ": stack.site.timezone, **dict(service.environment)},
        "secrets": [
            {"source": f"{service.name}_{name}", "target": name} for name in service.secrets
        ],
        "networks": {
            segment.name: {
                "ipv4_address": segment.address(service),
                **({"ipv6_address": segment.address6(service)} if segment.subnet6 else {}),
            }
            for segment in stack.networks_of(service)
        },
        "network_mode": f"service:{service.behind}" if service.behind else "",
        "depends_on": _depends_on(service),
        "sysctls": dict(service.sysctls),
        "dns": list(service.dns),
        "stop_signal": service.stop_signal,
        "shm_size": service.shm_size,
    }
    document.update({key: value for key, value in optional.items() if value})
    return document


def _scratch_options(service: Service, size: int) -> str:
    owner = f"uid={service.uid},gid={service.uid},mode=0700"
    return f"rw,noexec,nosuid,nodev,size={size},{owner}"


def _depends_on(service: Service) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {n: {"condition": "service_healthy"} for n in service.needs}
    if service.behind:
        # Its network goes with that container, so it is made anew with it.
        found[service.behind] = {"condition": "service_healthy", "restart": True}
    return found


def _port(host: int, container: int, protocol: str) -> dict[str, Any]:
    return {"target": container, "published": str(host), "protocol": protocol, "mode": "host"}


def _volumes(service: Service) -> list[dict[str, Any]]:
    binds = [(config_folder(service), service.config, True)] if service.config else []
    binds += [(data_folder(service, name), target, False) for name, target in service.data]
    binds += [(mount.source, mount.target, mount.read_only) for mount in service.mounts]
    if service.docker_socket:
        # A read-only mount of a socket does not restrict the API; the proxy's allowlist does.
        binds.append((service.docker_socket.value, "/var/run/docker.sock", True))
    return [
        {
            "type": "bind",
            "source": source,
            "target": target,
            "read_only": read_only,
            "bind": {"create_host_path": False},
        }
        for source, target, read_only in binds
    ]


def containers(stack: Stack, services: Mapping[str, Mapping[str, Any]]) -> tuple[Container, ...]:
    """What must be true of each running container beyond its configuration hash."""
    return tuple(
        Container(
            service=service.name,
            fingerprint=services[service.name]["labels"][FINGERPRINT],
            networks=tuple(segment.docker_name for segment in stack.networks_of(service)),
            memory=service.limits.memory,
            cpus=round(service.limits.cpus * 1e9),
            pids=service.limits.pids,
            restart="unless-stopped",
            behind=service.behind,
        )
        for service in stack.services
    )
