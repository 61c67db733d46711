"""Every promised figure is there, nobody from elsewhere reads it, and what that costs in memory."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.deployment import DOMAIN, Deployment, answers
from tests.lab.guesser import Guesser
from tests.lab.monitoring import ask
from tests.lab.network import NEIGHBOUR_NAMESPACE

pytestmark = pytest.mark.lab

SECONDS = 60.0
NAME = f"prometheus.{DOMAIN}"
# The old monitoring of the report took 1.5 GB.
MOST = 1024**3
HOST = (
    *("node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_load15"),
    *("node_filesystem_avail_bytes", "node_filesystem_files_free", "node_filesystem_readonly"),
    *("node_network_receive_bytes_total", "node_disk_read_bytes_total", "nexus_units_failed"),
    *("nexus_reboot_required", "nexus_installed_timestamp_seconds"),
)
CONTAINER = (
    *("container_cpu_usage_seconds_total", "container_memory_working_set_bytes"),
    *("container_spec_memory_limit_bytes", "container_processes", "container_processes_limit"),
    *("container_oom_events_total", "container_start_time_seconds"),
    *("nexus_container_restarts_total", "nexus_container_running", "nexus_container_healthy"),
)
OTHERS = {
    "fail2ban": ("nexus_fail2ban_up == 1", 'nexus_fail2ban_bans_total{jail="sshd"}'),
    "backup": ("nexus_backup_expected", 'nexus_backup_objective_seconds{objective="rpo"}'),
    "PostgreSQL": ("pg_up == 1", "pg_database_size_bytes", "pg_settings_max_connections"),
    "Valkey": ("redis_up == 1", "redis_memory_max_bytes", "redis_memory_used_bytes"),
    "Traefik": ("traefik_service_requests_total", "traefik_router_request_duration_seconds_count"),
    "Jellyfin": ("jellyfin_sessions", "jellyfin_playing_sessions", "jellyfin_transcoding_sessions"),
}


def prometheus(monitored: Deployment, path: str) -> Any:
    return ask(monitored, "prometheus", 9090, f"/api/v1/{path}")["data"]


def query(monitored: Deployment, expression: str, label: str = "service") -> dict[str, float]:
    """The values of an expression now, by a label of theirs."""
    asked = urllib.parse.urlencode({"query": expression})
    found = prometheus(monitored, f"query?{asked}")["result"]
    return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}


def eventually(missing: Callable[[], Any]) -> None:
    """Wait until nothing is missing: the figures of a fresh host come one after the other."""
    until = time.monotonic() + SECONDS
    while left := missing():
        assert time.monotonic() < until, left
        time.sleep(1)


def test_every_target_answers(monitored: Deployment) -> None:
    wanted = {"routes", *(service.name for service in monitored.stack().scraped())}

    def missing() -> Any:
        targets = prometheus(monitored, "targets?state=active")["activeTargets"]
        down = [(t["scrapePool"], t["lastError"]) for t in targets if t["health"] != "up"]
        return down or wanted - {target["scrapePool"] for target in targets}

    eventually(missing)


def test_a_second_deploy_changes_nothing(monitored: Deployment) -> None:
    assert monitored.apply() == []


def test_the_host_s_figures_are_there(monitored: Deployment) -> None:
    eventually(lambda: [name for name in HOST if not query(monitored, name)])


def test_each_container_s_figures_are_there(monitored: Deployment) -> None:
    services = {service.name for service in monitored.stack().services}
    eventually(
        lambda: {
            name: left for name in CONTAINER if (left := services - query(monitored, name).keys())
        }
    )
    limits = query(monitored, "container_spec_memory_limit_bytes")
    for service in monitored.stack().services:
        assert limits[service.name] == service.limits.memory


@pytest.mark.parametrize("source", OTHERS)
def test_figures_of_each_source_are_there(monitored: Deployment, source: str) -> None:
    eventually(lambda: [each for each in OTHERS[source] if not query(monitored, each)])


def test_each_application_lets_itself_be_read(monitored: Deployment) -> None:
    settings = monitored.host.run("cat /usr/local/lib/nexus/measure.json").stdout
    about = json.loads(settings)["applications"]
    names = {one["service"] for one in about}
    assert {"jellyfin", "sonarr", "radarr", "prowlarr"} <= names
    eventually(lambda: names - query(monitored, "nexus_application_up == 1").keys())
    family = {one["service"] for one in about if one["kind"] == "servarr"}
    files = {one["service"] for one in about if one.get("files")}
    eventually(lambda: family - query(monitored, 'servarr_health_issues{type="error"}').keys())
    eventually(lambda: files - query(monitored, "servarr_queue_items").keys())


def test_each_route_is_probed_and_its_certificate_read(monitored: Deployment) -> None:
    routes = {service.name for service in monitored.stack().routed()}
    eventually(lambda: routes - query(monitored, 'probe_success{job="routes"} == 1').keys())
    left = query(monitored, "probe_ssl_earliest_cert_expiry - time()")
    assert left.keys() == routes and min(left.values()) > 0


def test_what_a_host_does_not_have_is_no_failure(monitored: Deployment) -> None:
    """Every part is read well; of a machine without disks of its own there is no verdict."""
    parts = {"applications", "backups", "bans", "containers", "host", "storage"}
    eventually(lambda: parts - query(monitored, "nexus_measure_success == 1", "part").keys())
    assert not query(monitored, 'nexus_storage_ok{name=~"SMART.*"}', "name")


def test_nobody_elsewhere_reads_them(monitored: Deployment) -> None:
    """Neither at the host nor at the container's own address, and not past the portal."""
    place, inside = NEIGHBOUR_NAMESPACE, monitored.stack().address("prometheus", "monitoring")
    assert answers(monitored.host.address, 443, place.name)
    assert not answers(monitored.host.address, 9090, place.name)
    way = f"{inside} via {monitored.host.address}"
    place.run(f"ip route add {way}")
    try:
        assert not answers(inside, 9090, place.name)
    finally:
        place.run(f"ip route del {way}")
    neighbour = Guesser(monitored.host, monitored.host.address, place.name)
    paths = ("/metrics", "/api/v1/query?query=up", "/-/healthy")
    head = f"HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
    for said in neighbour.send([f"GET {path} {head}" for path in paths], NAME):
        assert said.startswith("HTTP/1.1 401 ")
        assert "prometheus_" not in said and '"status":"success"' not in said


def test_its_own_use_of_memory_is_bounded(
    monitored: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    services = monitored.stack().services
    own = {s.name: s.limits.memory for s in services if s.only_with == "monitoring"}
    used = query(monitored, "container_memory_working_set_bytes")
    with capsys.disabled():
        for name, limit in own.items():
            print(f"\n{name}: {used[name] / 2**20:.0f} of {limit / 2**20:.0f} MiB", end="")
        print(f"\nmonitoring: {sum(used[name] for name in own) / 2**20:.0f} MiB in use")
    assert all(0 < used[name] < limit for name, limit in own.items())
    assert sum(used[name] for name in own) < MOST
