"""What watches the stack: its services, each declared once, and what of a site they follow."""

from __future__ import annotations

from dataclasses import replace

from roles.site.schema import Site
from roles.stack.networks import MONITORING
from roles.stack.openid import client_secret
from roles.stack.service import (
    MEGABYTE,
    Backup,
    Limits,
    Metrics,
    Mount,
    OpenId,
    Route,
    Service,
    Tile,
    Waiver,
    asks,
)

# Where the host's own programs leave figures for the node exporter.
TEXTFILES = "/var/lib/nexus/metrics"
# The exporter of the host reads what the kernel tells every container alike. What differs inside
# one, file systems and interfaces, is measured on the host: no container sees the host's files.
NODE_COLLECTORS = (
    *("cpu", "diskstats", "edac", "filefd", "hwmon", "loadavg", "mdadm", "meminfo", "pressure"),
    *("stat", "textfile", "thermal_zone", "time", "timex", "uname", "vmstat"),
)


PROMETHEUS = Service(
    name="prometheus",
    number=17,
    image="prometheus",
    purpose="reads everybody's figures, keeps them, and judges them by rules",
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=100),
    # It reads its log of the last hours before it answers.
    health=asks("http://127.0.0.1:9090/-/healthy", start_period=120),
    only_with="monitoring",
    networks=(MONITORING,),
    route=Route("prometheus", 9090, "two_factor", "figures tell who is at home, and what runs"),
    config="/etc/prometheus",
    data=(("figures", "/prometheus"),),
    backup=Backup(
        left_out=(Waiver("figures", "months of readings, large and without worth after a loss"),)
    ),
    metrics=Metrics(9090),
    talks_to=("alertmanager", "blackbox"),
    tile=Tile("Monitoring", "Prometheus", "Figures and rules", "prometheus"),
)

NODE_EXPORTER = Service(
    name="node-exporter",
    number=19,
    image="node-exporter",
    purpose="tells the host's figures, and those that its programs write",
    limits=Limits(memory=64 * MEGABYTE, cpus=0.5, pids=50),
    health=asks("http://127.0.0.1:9100/"),
    only_with="monitoring",
    networks=(MONITORING,),
    command=(
        "--web.listen-address=:9100",
        "--collector.disable-defaults",
        "--collector.textfile.directory=/textfiles",
        *(f"--collector.{name}" for name in NODE_COLLECTORS),
    ),
    mounts=(Mount(TEXTFILES, "/textfiles"),),
    metrics=Metrics(9100),
)

ALERTMANAGER = Service(
    name="alertmanager",
    number=18,
    image="alertmanager",
    purpose="bundles alerts and brings them to people",
    limits=Limits(memory=64 * MEGABYTE, cpus=0.5, pids=50),
    health=asks("http://127.0.0.1:9093/-/healthy"),
    only_with="monitoring",
    # Mail servers and the like are in the world outside.
    networks=("edge", MONITORING),
    route=Route("alerts", 9093, "two_factor", "whoever gets in can silence every alarm"),
    config="/etc/alertmanager",
    data=(("silences", "/alertmanager"),),
    backup=Backup(keep=("silences",)),
    environment=(
        # Beside the public authorities, which stand in a file of the image's
        # (https://pkg.go.dev/crypto/x509#SystemCertPool).
        ("SSL_CERT_DIR", "/etc/alertmanager/trust"),
    ),
    metrics=Metrics(9093),
    tile=Tile("Monitoring", "Alerts", "What is wrong now", "alertmanager"),
)

BLACKBOX = Service(
    name="blackbox",
    number=20,
    image="blackbox-exporter",
    purpose="asks every route through the proxy, as a browser would",
    limits=Limits(memory=128 * MEGABYTE, cpus=0.5, pids=50),
    health=asks("http://127.0.0.1:9115/-/healthy"),
    only_with="monitoring",
    networks=(MONITORING,),
    listens=(9115,),
    # Of each probe it would write ten lines; what came of it is in the figures.
    command=("--config.file=/etc/blackbox_exporter/config.yml", "--log.prober=warn"),
    config="/etc/blackbox_exporter",
    talks_to=("traefik",),
    metrics=Metrics(9115),
)

POSTGRES_EXPORTER = Service(
    name="postgres-exporter",
    number=21,
    image="postgres-exporter",
    purpose="tells the database's figures, as a user that reads nothing else",
    limits=Limits(memory=64 * MEGABYTE, cpus=0.5, pids=50),
    health=asks("http://127.0.0.1:9187/"),
    only_with="monitoring",
    networks=("data", MONITORING),
    secrets=("postgres_monitor_password",),
    environment=(
        ("DATA_SOURCE_URI", "postgres:5432/authelia?sslmode=disable"),
        ("DATA_SOURCE_USER", "monitor"),
        ("DATA_SOURCE_PASS_FILE", "/run/secrets/postgres_monitor_password"),
    ),
    talks_to=("postgres",),
    metrics=Metrics(9187),
)

VALKEY_EXPORTER = Service(
    name="valkey-exporter",
    number=22,
    image="redis-exporter",
    purpose="tells the session store's figures, as a user that sees no session",
    limits=Limits(memory=64 * MEGABYTE, cpus=0.5, pids=50),
    health=asks("http://127.0.0.1:9121/health"),
    only_with="monitoring",
    networks=("data", MONITORING),
    config="/etc/valkey-exporter",
    command=(
        "-redis.addr=redis://valkey:6379",
        "-redis.user=monitor",
        "-redis.password-file=/etc/valkey-exporter/passwords.json",
        # Its answer would hold the other users' password.
        "-config-command=-",
    ),
    talks_to=("valkey",),
    metrics=Metrics(9121),
)

GRAFANA = Service(
    name="grafana",
    number=35,
    image="grafana",
    purpose="shows figures, logs and traces, and what was promised beside what was kept",
    # Each of its data sources is a process of its own since version 13.
    limits=Limits(memory=512 * MEGABYTE, cpus=1, pids=200),
    # Its first start makes some hundred tables.
    health=asks("http://127.0.0.1:3000/api/health", start_period=120),
    only_with="monitoring",
    networks=(MONITORING,),
    route=Route("grafana", 3000, "two_factor", "it shows who is at home, and asks every log"),
    openid=OpenId("/login/generic_oauth"),
    config="/etc/grafana",
    data=(("state", "/var/lib/grafana"),),
    backup=Backup(
        left_out=(Waiver("state", "all it shows comes from files, and its accounts from Authelia"),)
    ),
    tmpfs=("/tmp", "/var/log/grafana"),  # noqa: S108 - inside the container
    secrets=("grafana_secret_key", client_secret("grafana")),
    talks_to=("prometheus", "alertmanager", "loki", "jaeger", "authelia"),
    metrics=Metrics(3000),
    tile=Tile("Monitoring", "Grafana", "Dashboards, logs and traces", "grafana"),
)

SERVICES: tuple[Service, ...] = (
    PROMETHEUS,
    ALERTMANAGER,
    NODE_EXPORTER,
    BLACKBOX,
    POSTGRES_EXPORTER,
    VALKEY_EXPORTER,
    GRAFANA,
)


def for_site(site: Site, service: Service) -> Service:
    """A service of the monitoring with what it has of its site; any other as it is."""
    made = {"prometheus": with_retention, "alertmanager": with_channels}.get(service.name)
    return made(site, service) if made else service


def with_channels(site: Site, alertmanager: Service) -> Service:
    """Alertmanager with the files that open the site's channels."""
    notify = site.notify
    entries = [notify.webhook, site.monitoring.heartbeat]
    entries += [notify.mail.password] if notify.mail else []
    entries += [notify.ntfy.token] if notify.ntfy else []
    return replace(
        alertmanager,
        secrets=tuple(dict.fromkeys(entry for entry in entries if entry)),
        command=(
            "--config.file=/etc/alertmanager/alertmanager.yml",
            "--storage.path=/alertmanager",
            # There is one alone.
            "--cluster.listen-address=",
            _links_to(site, alertmanager),
        ),
    )


def with_retention(site: Site, prometheus: Service) -> Service:
    """Prometheus with how long it keeps what it reads, and the address that its links name."""
    kept = site.monitoring.metrics
    return replace(
        prometheus,
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={kept.time}",
            f"--storage.tsdb.retention.size={kept.size.upper()}B",
            _links_to(site, prometheus),
        ),
    )


def _links_to(site: Site, service: Service) -> str:
    """The address under which a browser finds it, which its messages name."""
    assert service.route
    return f"--web.external-url=https://{service.route.host}.{site.domain}"
