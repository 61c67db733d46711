"""What each rule looks for: small functions, nearly all over one service."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

from roles.audit import tables
from roles.audit.credentials import spelled_out
from roles.audit.document import Node
from roles.audit.project import Port, Project, Service, names
from roles.core.engine_socket import holds_engine_socket, is_engine_socket

# Fewer services in one network are an application with its database.
FLAT = 6


class Hit(NamedTuple):
    """Where a rule is broken and how; an empty severity is the rule's own."""

    node: Node
    why: str
    severity: str = ""


def _needs(service: Service, what: str) -> bool:
    return what in tables.TUNNEL_NEEDS and bool(tables.TUNNELS.search(service.product))


def _is(service: Service, pattern: re.Pattern[str]) -> bool:
    """By the image, or by the service's own name where it is built here."""
    return bool(pattern.search(service.product or service.name.lower()))


def _is_socket_proxy(service: Service) -> bool:
    return any(tables.SOCKET_PROXY.search(text.lower()) for text in (service.image, service.name))


def _is_job(service: Service) -> bool:
    """It ends by itself, because another one waits for that, or because nobody starts it again."""
    return service.text("restart") == "no" or any(
        other.text("depends_on", service.name, "condition") == "service_completed_successfully"
        for other in service.project.services.values()
    )


def _sockets(service: Service) -> Iterator[tuple[Node, str]]:
    if service.flag("use_api_socket"):
        yield service.at("use_api_socket"), "use_api_socket"
    for mount in service.mounts():
        if holds_engine_socket(mount.source) or is_engine_socket(mount.target):
            yield mount.node, mount.source


def docker_socket(service: Service) -> Iterator[Hit]:
    if _is_socket_proxy(service):
        return
    for node, source in _sockets(service):
        above = holds_engine_socket(source) and not is_engine_socket(source)
        within = " (the socket lies in it)" if above else ""
        yield Hit(
            node,
            f"mounts {source}{within}: whoever takes this container over is root on the host; a "
            "read-only mount does not restrict the API",
        )


def socket_proxy(service: Service) -> Iterator[Hit]:
    if not _is_socket_proxy(service):
        return
    for port in service.ports():
        severity = {True: "critical", None: "high", False: "medium"}[port.passes_ufw]
        yield Hit(port.node, f"publishes the Docker API at {port}", severity)
    for name, value in service.environment.items():
        if tables.PROXY_WRITES.fullmatch(name) and value.strip() not in {"", "0", "false"}:
            yield Hit(service.at("environment", name), f"lets {name} through to the Docker API")
    for item in service.items("command"):
        for flag in re.findall(r"-allow(?:POST|PUT|DELETE|PATCH)", service.resolved(item)):
            yield Hit(item, f"lets {flag.removeprefix('-allow')} through to the Docker API")


def secret_in_file(service: Service) -> Iterator[Hit]:
    for node, name, kind in spelled_out(service):
        if kind == "hash":
            yield Hit(node, f"{name}: can be guessed at by whoever reads the file", "medium")
        elif kind == "default":
            yield Hit(node, f"{name}: has its secret as a default; it holds wherever none is set")
        else:
            yield Hit(node, f"{name}: is spelled out; it is in git, docker inspect and backups")


def no_password(service: Service) -> Iterator[Hit]:
    for name, value in service.environment.items():
        empty = name.endswith(("ALLOW_EMPTY_PASSWORD", "ALLOW_EMPTY_ROOT_PASSWORD"))
        trust = name == "POSTGRES_HOST_AUTH_METHOD" and value == "trust"
        if trust or (empty and value.lower() not in {"", "0", "no", "false"}):
            yield Hit(service.at("environment", name), f"{name} lets everybody in")


def published_port(service: Service) -> Iterator[Hit]:
    if _is_socket_proxy(service):
        return
    for port in service.ports():
        if port.passes_ufw is False or _is_front_door(service, port):
            continue
        passes = "passes UFW" if port.passes_ufw else "passes UFW unless the address is loopback"
        if _is(service, tables.DATABASES) or port.target in tables.DATABASE_PORTS:
            yield Hit(port.node, f"{port} is a database, and {passes}", "high")
        elif _is(service, tables.CONSOLES) and port.target not in tables.PEER_PORTS:
            yield Hit(port.node, f"{port} is an administration page, and {passes}", "high")
        else:
            yield Hit(port.node, f"{port} {passes}")


def _is_front_door(service: Service, port: Port) -> bool:
    return _is(service, tables.PROXIES) and port.published in {"80", "443"}


def api_insecure(service: Service) -> Iterator[Hit]:
    places = [(item, service.resolved(item)) for item in service.items("command")]
    places += [
        (service.at("environment", name), f"--api.insecure={value}")
        for name, value in service.environment.items()
        if name == "TRAEFIK_API_INSECURE"
    ]
    for node, text in places:
        if re.search(r"--api\.insecure(?!=false)(=|\s|$)", text, re.IGNORECASE):
            yield Hit(node, "Traefik's dashboard and API answer without a login")


def host_namespace(service: Service) -> Iterator[Hit]:
    for key, whose in (
        ("network_mode", "network: every port of the host, loopback included"),
        ("net", "network: every port of the host, loopback included"),
        ("pid", "processes: it sees and may signal them"),
        ("ipc", "shared memory"),
        ("userns_mode", "user ids: root inside is root outside"),
        ("uts", "name"),
        ("cgroup", "control groups"),
    ):
        if service.text(key) == "host":
            yield Hit(service.at(key), f"{key}: host shares the host's {whose}")


def privileged(service: Service) -> Iterator[Hit]:
    if service.flag("privileged"):
        yield Hit(service.at("privileged"), "privileged: every device and capability of the host")


def added_capability(service: Service) -> Iterator[Hit]:
    for item in service.items("cap_add"):
        name = service.resolved(item).upper().removeprefix("CAP_")
        if name in tables.DEFAULT_CAPABILITIES or _needs(service, name):
            continue
        if name in tables.ROOT_CAPABILITIES:
            yield Hit(item, f"{name} is a way to root on the host", "high")
        else:
            yield Hit(item, f"{name} is more than Docker grants")


def kept_capabilities(service: Service) -> Iterator[Hit]:
    if "ALL" not in {text.upper() for text in service.texts("cap_drop")}:
        yield Hit(service.at("cap_drop"), "keeps Docker's 14 default capabilities")


def new_privileges(service: Service) -> Iterator[Hit]:
    options = {text.replace(" ", "") for text in service.texts("security_opt")}
    wanted = {f"no-new-privileges{end}" for end in ("", ":true", "=true")}
    if not options & wanted:
        yield Hit(service.at("security_opt"), "a setuid program inside may make itself root")


def unconfined(service: Service) -> Iterator[Hit]:
    for item in service.items("security_opt"):
        option = re.sub(r"[=\s]", ":", service.resolved(item))
        if option.startswith(("seccomp:unconfined", "apparmor:unconfined", "label:disable")):
            yield Hit(item, f"{option} switches a confinement of the kernel off")
        if option.startswith("systempaths:unconfined"):
            yield Hit(item, f"{option} shows /proc and /sys unmasked")


def no_memory_limit(service: Service) -> Iterator[Hit]:
    if not (service.get("mem_limit") or service.get("deploy", "resources", "limits", "memory")):
        yield Hit(service.at("deploy", "resources"), "may take all memory of the host")


def no_cpu_limit(service: Service) -> Iterator[Hit]:
    keys = ("cpus", "cpu_quota", "cpu_count", "cpu_percent", "cpuset", "cpu_shares")
    if not (any(map(service.get, keys)) or service.get("deploy", "resources", "limits", "cpus")):
        yield Hit(service.at("deploy", "resources"), "may take every processor of the host")


def no_pids_limit(service: Service) -> Iterator[Hit]:
    limit = service.text("pids_limit") or service.text("deploy", "resources", "limits", "pids")
    if limit in {"", "0", "-1"}:
        yield Hit(service.at("pids_limit"), "may start processes until the host has none left")


def no_health_check(service: Service) -> Iterator[Hit]:
    if service.flag("healthcheck", "disable") or service.texts("healthcheck", "test") == ["NONE"]:
        yield Hit(service.at("healthcheck"), "switches the health check of its image off", "medium")
    elif not service.get("healthcheck") and not _is_job(service):
        yield Hit(service.node, "has no health check here; only its image may bring one")


def writable_root(service: Service) -> Iterator[Hit]:
    if not service.flag("read_only") and not _needs(service, "writable-root"):
        yield Hit(service.at("read_only"), "an intruder may change its programs")


def root_user(service: Service) -> Iterator[Hit]:
    if _needs(service, "root"):
        return
    user = service.text("user").split(":")[0]
    if user in {"0", "root"}:
        yield Hit(service.at("user"), "runs as root", "medium")
    elif not user and {"PUID", "UID", "USER_ID"} & set(service.environment):
        yield Hit(service.node, "starts as root; its image gives that up later by PUID", "info")
    elif not user:
        yield Hit(service.node, "names no user; most images then run as root")


def floating_image(service: Service) -> Iterator[Hit]:
    image = service.image
    if not image or service.get("build") or "@sha256:" in image:
        return
    tag = image.rsplit("/", 1)[-1].partition(":")[2]
    if not tag or tag.lower() in tables.FLOATING_TAGS:
        yield Hit(service.at("image"), f"{image} is another program after each pull", "medium")
    else:
        yield Hit(service.at("image"), f"{image} has no digest: its publisher may move the tag")


def retired_image(service: Service) -> Iterator[Hit]:
    for retired in tables.RETIRED:
        if retired.images.search(service.image):
            why = f"{retired.why} ({retired.source}); instead: {retired.instead}"
            yield Hit(service.at("image"), why)


def host_mount(service: Service) -> Iterator[Hit]:
    for mount in service.mounts():
        source = mount.source
        if holds_engine_socket(source) or source in tables.HARMLESS_FILES:
            continue
        how = "read-only" if mount.read_only else "writable"
        if tables.SECRET_FOLDERS.search(source):
            yield Hit(mount.node, f"{source} has keys of the host's people in it", "high")
        elif source in tables.SYSTEM_FOLDERS:
            severity = "medium" if mount.read_only else "high"
            yield Hit(mount.node, f"{source} of the host is mounted {how}", severity)
        elif source.startswith(tables.WRITABLE_BY_NOBODY) and not mount.read_only:
            yield Hit(mount.node, f"{source} of the host's system is mounted writable", "medium")
        elif f"{source}/".startswith(("/tmp/", "/var/tmp/")):  # noqa: S108
            yield Hit(
                mount.node,
                f"{source} is in the host's folder for everybody: it can fill the root file system",
                "low",
            )


def host_device(service: Service) -> Iterator[Hit]:
    for item in service.items("devices"):
        source = item.mapping.get("source")
        path = service.resolved(source) if source else service.resolved(item).split(":")[0]
        if tables.DEVICES_OF_THE_HOST.search(path):
            yield Hit(item, f"{path} is the host's memory or disk, past every file permission")


def log_rotation(service: Service) -> Iterator[Hit]:
    driver = service.text("logging", "driver") or service.text("log_driver") or "json-file"
    sized = service.get("logging", "options", "max-size") or service.get("log_opt", "max-size")
    if driver == "json-file" and not sized:
        yield Hit(service.at("logging"), "its log grows until the disk is full")


def no_restart(service: Service) -> Iterator[Hit]:
    policy = service.get("restart") or service.get("deploy", "restart_policy")
    if not policy and not _is_job(service):
        yield Hit(service.node, "stays down after a crash or a reboot")


def torrent_without_tunnel(service: Service) -> Iterator[Hit]:
    if not _is(service, tables.TORRENTS) or tables.TUNNELS.search(service.product):
        return
    host = service.project.services.get(service.behind)
    if host and tables.TUNNELS.search(f"{host.product} {host.name.lower()}"):
        return
    if service.mode.startswith("container:") and not host:
        return
    yield Hit(service.at("network_mode"), "torrents go out by the host's own address")


def wide_outbound(service: Service) -> Iterator[Hit]:
    text = service.environment.get("FIREWALL_OUTBOUND_SUBNETS", "")
    wide = [subnet for subnet in text.split(",") if _is_wide(subnet.strip())]
    if wide:
        yield Hit(
            service.at("environment", "FIREWALL_OUTBOUND_SUBNETS"),
            f"{', '.join(wide)} may be reached past the tunnel",
        )


def _is_wide(subnet: str) -> bool:
    try:
        network = ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        return False
    # Docker gives a network a /16; a home has a /24, and IPv6 at most a /48.
    return network.prefixlen <= (16 if network.version == 4 else 47)


def fake_feature(service: Service) -> Iterator[Hit]:
    """A name that promises what no known program here does."""
    if service.image and not service.get("build") and not _is(service, tables.RUNTIMES):
        return
    titles = (service.name, service.text("container_name"))
    words = " ".join(re.sub(r"[^a-z0-9]+", " ", title.lower()) for title in titles)
    what = "built here" if service.get("build") else f"scripts in {service.product}"
    for claim in tables.CLAIMS:
        if found := claim.words.search(words):
            yield Hit(
                service.node,
                f"'{found[0]}' in its name promises {claim.feature}; it is {what}, no program that "
                "anybody else knows",
            )
            return


def flat_network(project: Project) -> Iterator[Hit]:
    for network, members in project.members().items():
        joined = [project.services[name] for name in members]
        if len(joined) >= FLAT and len(joined) == len(project.services):
            node = project.networks.get(network) or joined[0].node
            yield Hit(node, f"all {len(joined)} services reach each other in {network}")


def data_in_reach(project: Project) -> Iterator[Hit]:
    reach = project.reach()
    databases = {other.name for other in project.services.values() if _is(other, tables.DATABASES)}
    for service in project.services.values():
        if not _is(service, tables.DOWNLOADERS):
            continue
        data = [project.services[name] for name in reach[service.name] if name in databases]
        if data:
            why = f"{service.name} takes what strangers send, and reaches {names(data)}"
            yield Hit(service.at("networks"), why)


def twice(project: Project) -> Iterator[Hit]:
    for name, node in project.twice:
        yield Hit(node, f"{name} stands twice in one mapping; Compose refuses that")


def unread(project: Project) -> Iterator[Hit]:
    for what, node in project.unread:
        yield Hit(node, f"{what} cannot be read here, so what it brings is not judged")


def old_format(project: Project) -> Iterator[Hit]:
    if project.oldest_format:
        node = next(iter(project.services.values())).node
        yield Hit(node, "has no services:; Docker Compose 2 refuses this format", "medium")
    elif project.version:
        yield Hit(project.version, "version is obsolete; Compose warns and ignores it")
