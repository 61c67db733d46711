"""What keeps lines and the ways of requests: its services, each declared once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from roles.stack.networks import MONITORING
from roles.stack.service import (
    MEGABYTE,
    Backup,
    Health,
    Limits,
    Metrics,
    Mount,
    Route,
    Service,
    Tile,
    Waiver,
    asks,
)

# For images that have no program but their own: a shell that needs nothing else.
BASH = Mount("/usr/bin/bash-static", "/bin/bash")
SOFT_LIMIT = "GOMEMLIMIT"


def asks_by_bash(port: int, path: str) -> Health:
    """Healthy once an address inside the container answers well; for images without a client."""
    script = (
        f"exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && "
        "read -r -a words <&3 && (( words[1] == 200 ))"
    )
    return Health(("CMD", "/bin/bash", "-c", script), start_period=60)


LOKI = Service(
    name="loki",
    number=31,
    image="loki",
    purpose="keeps every line of the journal, and answers questions about them",
    limits=Limits(memory=256 * MEGABYTE, cpus=1, pids=100),
    # It says that it is ready some 15 seconds after its start.
    health=Health(("CMD", "/usr/bin/loki", "-health"), start_period=120),
    only_with="monitoring",
    networks=(MONITORING,),
    command=("-config.file=/etc/loki/loki.yml",),
    config="/etc/loki",
    listens=(3100,),
    data=(("lines", "/loki"),),
    backup=Backup(
        left_out=(
            Waiver("lines", "large, personal and meant to be forgotten; a copy would keep them"),
        )
    ),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    metrics=Metrics(3100),
)

ALLOY = Service(
    name="alloy",
    number=32,
    image="alloy",
    purpose="reads the journal, sorts its lines and sends them to Loki",
    limits=Limits(memory=160 * MEGABYTE, cpus=0.5, pids=100),
    health=asks_by_bash(12345, "/-/ready"),
    only_with="monitoring",
    networks=(MONITORING,),
    command=(
        "run",
        "--server.http.listen-addr=0.0.0.0:12345",
        "--storage.path=/var/lib/alloy/data",
        "--disable-reporting",
        "/etc/alloy/config.alloy",
    ),
    config="/etc/alloy",
    reads_journal=True,
    mounts=(
        Mount("/var/log/journal", "/var/log/journal"),
        # The journal's folder has this name (systemd-journald.service(8)).
        Mount("/etc/machine-id", "/etc/machine-id"),
    ),
    data=(("positions", "/var/lib/alloy/data"),),
    backup=Backup(
        left_out=(Waiver("positions", "how far this journal was read says nothing of another"),)
    ),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    talks_to=("loki",),
    needs=("loki",),
    metrics=Metrics(12345),
)

COLLECTOR = Service(
    name="otel-collector",
    number=33,
    image="otel-collector",
    purpose="takes in the spans of requests and takes out whose they were",
    limits=Limits(memory=128 * MEGABYTE, cpus=0.5, pids=100),
    health=asks_by_bash(13133, "/"),
    mounts=(BASH,),
    only_with="monitoring",
    networks=(MONITORING,),
    command=("--config=/etc/otelcol-contrib/collector.yml",),
    config="/etc/otelcol-contrib",
    listens=(4318,),
    talks_to=("jaeger",),
    metrics=Metrics(8888),
)

JAEGER = Service(
    name="jaeger",
    number=34,
    image="jaeger",
    purpose="shows the way of a request, of the newest some thousand",
    limits=Limits(memory=128 * MEGABYTE, cpus=0.5, pids=100),
    health=asks("http://127.0.0.1:13133/status"),
    only_with="monitoring",
    networks=(MONITORING,),
    route=Route("traces", 16686, "two_factor", "traces tell who opened what, and when"),
    command=("--config=/etc/jaeger/jaeger.yml",),
    config="/etc/jaeger",
    listens=(4318,),
    tmpfs=("/tmp",),  # noqa: S108 - inside the container
    metrics=Metrics(8888),
    tile=Tile("Monitoring", "Jaeger", "The way of a request", "jaeger"),
)

SERVICES: tuple[Service, ...] = (LOKI, ALLOY, COLLECTOR, JAEGER)
GO_PROGRAMS = tuple(service.name for service in SERVICES)


def with_soft_limit(service: Service) -> Service:
    """One of these with a word to its Go runtime, which clears up before the container's limit
    (https://pkg.go.dev/runtime#hdr-Environment_Variables)."""
    limit = f"{service.limits.memory * 7 // 8 // MEGABYTE}MiB"
    others = {name: value for name, value in service.environment if name != SOFT_LIMIT}
    return replace(service, environment=(*others.items(), (SOFT_LIMIT, limit)))


def with_tracing(proxy: Service, chosen: Iterable[Service]) -> Service:
    """The proxy with a way to whoever takes its spans."""
    if not is_traced(chosen):
        return proxy
    networks = (*proxy.networks, MONITORING)
    return replace(proxy, networks=networks, talks_to=(*proxy.talks_to, COLLECTOR.name))


def is_traced(services: Iterable[Service]) -> bool:
    """Whether there is somebody to send spans to."""
    return any(service.name == COLLECTOR.name for service in services)
