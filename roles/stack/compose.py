"""The Compose file, derived from the declarations (https://github.com/compose-spec)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from roles.core.model import Container
from roles.stack.service import Service
from roles.stack.stack import PROJECT, Stack, config_folder, data_folder, secret_file

FINGERPRINT = "org.nexus.inputs"
TMPFS_OPTIONS = "rw,noexec,nosuid,nodev,size=64m,mode=1777"


def compose(stack: Stack, fingerprints: Mapping[str, str], docker_gid: int) -> str:
    """The file's text. A changed fingerprint recreates the one service that reads the inputs."""
    secrets = {
        f"{service.name}_{name}": {"file": secret_file(service, name)}
        for service in stack.services
        for name in service.secrets
    }
    document = {
        "name": PROJECT,
        "services": {
            service.name: _service(stack, service, fingerprints.get(service.name, ""), docker_gid)
            for service in stack.services
        },
        "networks": {
            segment.name: {"name": segment.docker_name, "external": True}
            for segment in stack.segments.values()
            if any(segment in stack.networks_of(service) for service in stack.services)
        },
        "secrets": secrets,
    }
    return yaml.safe_dump(document, sort_keys=False, width=100)


def _service(stack: Stack, service: Service, fingerprint: str, docker_gid: int) -> dict[str, Any]:
    limits = service.limits
    document: dict[str, Any] = {
        "image": stack.images[service.image],
        "user": f"{service.uid}:{service.uid}",
        "read_only": service.writable_root is None,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "init": False,
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
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "networks": {
            segment.name: {"ipv4_address": segment.address(service)}
            for segment in stack.networks_of(service)
        },
        "labels": {FINGERPRINT: fingerprint},
    }
    optional: dict[str, Any] = {
        "command": list(service.command),
        "cap_add": [waiver.value for waiver in service.capabilities],
        "group_add": [*service.groups, *([str(docker_gid)] if service.docker_socket else [])],
        "ports": [_port(port.host, port.container, port.protocol) for port in service.ports],
        "volumes": _volumes(service),
        "tmpfs": [f"{path}:{TMPFS_OPTIONS}" for path in service.tmpfs],
        "environment": {"TZ": stack.site.timezone, **dict(service.environment)},
        "secrets": [
            {"source": f"{service.name}_{name}", "target": name} for name in service.secrets
        ],
        "depends_on": {name: {"condition": "service_healthy"} for name in service.needs},
        "stop_signal": service.stop_signal,
        "shm_size": service.shm_size,
    }
    document.update({key: value for key, value in optional.items() if value})
    return document


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


def containers(stack: Stack) -> tuple[Container, ...]:
    """What must be true of each running container beyond its configuration hash."""
    return tuple(
        Container(
            service=service.name,
            networks=tuple(segment.docker_name for segment in stack.networks_of(service)),
            memory=service.limits.memory,
            cpus=round(service.limits.cpus * 1e9),
            pids=service.limits.pids,
            restart="unless-stopped",
        )
        for service in stack.services
    )
