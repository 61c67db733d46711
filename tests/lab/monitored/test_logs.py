"""A line of every source is found again, a request's way as well, and no client in what stays."""

from __future__ import annotations

import json
import re
import secrets
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles.core.model import Desired
from roles.tracing import PERSONAL
from tests.lab.deployment import Deployment
from tests.lab.guesser import HOME, Guesser
from tests.lab.monitoring import ask
from tests.lab.network import NEIGHBOUR_NAMESPACE

pytestmark = pytest.mark.lab

SECONDS = 45.0
NOBODY = "198.51.100.213"
REPORTED = Path("tests/lab/legacy/files/config/otel/config.yaml")
TELEMETRY = ("loki", "alloy", "otel-collector", "jaeger")
IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")
# Seconds.
AHEAD = 3
# The kernel's log is not to be had in a namespace: the entry as journald would have stored it,
# a moment ahead, because a reader takes what is newer than what it has read.
KERNEL_ENTRY = """
apt-get install -qq -y --no-install-recommends systemd-journal-remote > /dev/null
machine=$(cat /etc/machine-id)
{{
    echo __REALTIME_TIMESTAMP=$(($(date +%s) + {ahead}))000000
    awk '{{ printf "__MONOTONIC_TIMESTAMP=%d\\n", ($1 + {ahead}) * 1000000 }}' /proc/uptime
    echo _BOOT_ID=$(tr -d - < /proc/sys/kernel/random/boot_id)
    echo _MACHINE_ID=$machine
    echo _TRANSPORT=kernel
    echo SYSLOG_IDENTIFIER=kernel
    echo "MESSAGE=[UFW BLOCK] IN=eth0 SRC=198.51.100.66 {marker}"
    echo
}} | /usr/lib/systemd/systemd-journal-remote -o /var/log/journal/$machine/kernel.journal -
"""


@pytest.fixture(scope="module")
def neighbour(monitored: Deployment) -> Guesser:
    """Somebody at home, whom no failed login locks out."""
    return Guesser(monitored.host, monitored.host.address, NEIGHBOUR_NAMESPACE.name)


def lines(monitored: Deployment, query: str, limit: int = 1000) -> list[str]:
    asked = urllib.parse.urlencode({"query": query, "limit": limit})
    found = ask(monitored, "loki", 3100, f"/loki/api/v1/query_range?{asked}")["data"]["result"]
    return [text for stream in found for _, text in stream["values"]]


def eventually(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not (seen := found()):
        assert time.monotonic() < deadline, "not found in time"
        time.sleep(1)
    return seen


def write_kernel_line(monitored: Deployment, _: Guesser, marker: str) -> None:
    monitored.host.run(KERNEL_ENTRY.format(marker=marker, ahead=AHEAD))
    # Until that moment has come, what others write would lie behind what the reader has read.
    time.sleep(AHEAD)


def ban(monitored: Deployment, _: Guesser, marker: str) -> None:
    monitored.host.run(f"fail2ban-client set sshd banip {NOBODY}; logger -t {marker} banned")
    monitored.host.run(f"fail2ban-client set sshd unbanip {NOBODY}")


Act = Callable[[Deployment, Guesser, str], object]
# What is done, and by which words its line is found in which stream.
SOURCES: dict[str, tuple[Act, str, str]] = {
    "sshd": (lambda _, who, __: who.ssh(1), '{security="sshd"}', NEIGHBOUR_NAMESPACE.address),
    "sudo": (
        lambda on, _, marker: on.host.run(["sudo", "-n", "/bin/echo", marker]),
        '{security="sudo"}',
        "{marker}",
    ),
    "the portal": (
        lambda _, who, marker: who.portal(1, marker),
        '{security="authelia"}',
        "{marker}",
    ),
    "the proxy": (
        lambda _, who, marker: who.send([request(f"/{marker}")]),
        '{security="traefik"} |= "ClientHost"',
        "{marker}",
    ),
    "fail2ban": (ban, '{security="fail2ban"}', f"Ban {NOBODY}"),
    "the firewall": (write_kernel_line, '{security="ufw"}', "{marker}"),
    "Docker's events": (
        lambda on, _, marker: on.host.run(
            f"docker network create {marker}; docker network rm {marker}"
        ),
        '{security="docker"}',
        "network create name={marker}",
    ),
    "a container's output": (
        lambda on, _, marker: on.host.run(
            ["docker", "exec", "nexus-homepage-1", "sh", "-c", f"echo {marker} > /proc/1/fd/1"]
        ),
        '{service="homepage", container="nexus-homepage-1"}',
        "{marker}",
    ),
}


def request(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: {HOME}\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(("act", "stream", "words"), SOURCES.values(), ids=SOURCES)
def test_a_line_of_each_source_is_found(
    monitored: Deployment, neighbour: Guesser, act: Act, stream: str, words: str
) -> None:
    marker = f"mark{secrets.token_hex(6)}"
    act(monitored, neighbour, marker)
    selector, _, rest = stream.partition("}")
    wanted = words.format(marker=marker)
    query = f'{selector}, kept="full"}}{rest} |= "{wanted}"'
    eventually(lambda: lines(monitored, query))


def test_what_stays_for_long_names_no_client(monitored: Deployment, neighbour: Guesser) -> None:
    neighbour.portal(1, "personal")
    network = NEIGHBOUR_NAMESPACE.address.rpartition(".")[0]
    query = '{kept="shortened", security="authelia"} |= "personal"'
    (said, *_) = eventually(lambda: lines(monitored, query))
    assert f"remote_ip={network}.0" in said
    kept = lines(monitored, '{kept="shortened"}', 20_000)
    assert len(kept) > 100
    named = {address for line in kept for address in IPV4.findall(line)}
    assert named and all(address.endswith(".0") for address in named), named


def test_lines_wait_while_the_store_is_away(monitored: Deployment) -> None:
    marker = f"mark{secrets.token_hex(6)}"
    monitored.host.run(["docker", "stop", "nexus-alloy-1", "nexus-loki-1"])
    monitored.host.run(["logger", "-t", "sudo", marker])
    monitored.host.run(["docker", "start", "nexus-alloy-1"])
    time.sleep(2)
    monitored.host.run(["docker", "start", "nexus-loki-1"])
    eventually(lambda: "nexus-loki-1" in monitored.healthy())
    query = f'{{kept="full", service="sudo"}} |= "{marker}"'
    assert len(eventually(lambda: lines(monitored, query))) == 1


def test_docker_s_own_way_to_a_log_still_works(monitored: Deployment) -> None:
    said = monitored.host.run("docker logs --tail 5 nexus-traefik-1 2>&1").stdout
    assert "ClientHost" in said
    sent = re.compile(r"^loki_write_sent_entries_total\S* [1-9]", re.MULTILINE)
    eventually(lambda: sent.search(ask(monitored, "alloy", 12345, "/metrics")))
    read = ask(monitored, "alloy", 12345, "/metrics")
    assert re.search(r"^loki_write_dropped_entries_total\S* 0$", read, re.MULTILINE)


def trace_of(monitored: Deployment, path: str) -> list[dict[str, Any]]:
    """The spans of the one trace of a request."""
    found = ask(monitored, "jaeger", 16686, "/api/traces?service=traefik&limit=200")["data"]
    for trace in found:
        for span in trace["spans"]:
            if {"key": "url.path", "value": path} in [
                {"key": tag["key"], "value": tag["value"]} for tag in span["tags"]
            ]:
                return list(trace["spans"])
    return []


def test_a_request_through_the_portal_is_one_trace(
    monitored: Deployment, neighbour: Guesser
) -> None:
    path = f"/trace-{secrets.token_hex(6)}"
    neighbour.send([request(f"{path}?api_key=never-kept")])
    spans = eventually(lambda: trace_of(monitored, path))
    (asked,) = [span for span in spans if span["operationName"] == "AuthRequest"]
    (entry,) = [span for span in spans if not span["references"]]
    assert asked["references"][0]["spanID"] == entry["spanID"]
    told = {tag["key"]: tag["value"] for span in spans for tag in span["tags"]}
    assert told["url.full"] == "http://authelia:9091/api/authz/forward-auth"
    assert not set(PERSONAL) & set(told)
    assert "never-kept" not in json.dumps(spans)
    # From a line of the access log one gets to its trace.
    logged = eventually(lambda: lines(monitored, f'{{service="traefik", kept="full"}} |= "{path}"'))
    assert json.loads(logged[0])["TraceId"] == asked["traceID"]


@pytest.fixture
def judged(monitored: Deployment) -> Iterator[Callable[[str], Any]]:
    """The collector's image as the judge of a file, as the deploy asks it."""
    role: Desired = next(role for role in monitored.desired() if role.role == "tracing")
    check = next(check for check in role.checks if "otel-collector" in check.on[0])
    file = "/run/judged.yml"

    def judge(text: str) -> Any:
        monitored.host.run(f"cat > {file} <<'END'\n{text}\nEND\n")
        argv = [word.replace("{" + check.on[0] + "}", file) for word in check.argv]
        return monitored.host.run(argv, check=False)

    yield judge
    monitored.host.run(["rm", "-f", file])


def test_the_report_s_collector_is_refused_and_ours_never_restarts(
    monitored: Deployment, judged: Callable[[str], Any]
) -> None:
    refused = judged(REPORTED.read_text())
    assert refused.returncode != 0
    assert re.search(r'unknown type: "(logging|jaeger)"', refused.stdout + refused.stderr)
    ours = monitored.host.run("cat /opt/nexus/config/otel-collector/collector.yml").stdout
    assert yaml.safe_load(ours) and judged(ours).returncode == 0
    names = [f"nexus-{name}-1" for name in TELEMETRY]
    counts = ["docker", "inspect", "-f", "{{.Name}} {{.RestartCount}}", *names]
    assert monitored.host.run(counts).stdout.split()[1::2] == ["0"] * len(names)
