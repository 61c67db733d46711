"""Which line becomes which stream, what of an address stays, and how long it is kept."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired, File
from roles.logs import SHORTENING
from roles.plan import roles_of
from roles.site.schema import SiteError
from roles.stack.logs_and_traces import ALLOY
from roles.stack.stack import COMPOSE_FILE, Stack, fitted
from tests.lab.images.doubles import telemetry_loki
from tests.lab.images.doubles.telemetry_loki import Line
from tests.lab.images.doubles.telemetry_pipeline import Pipeline, replaced
from tests.lab.images.doubles.telemetry_protobuf import unsnappy
from tests.lab.images.doubles.telemetry_syntax import parse

SERVICE = {"_SYSTEMD_UNIT": "docker.service", "_TRANSPORT": "journal", "PRIORITY": 6}
UFW = "[UFW BLOCK] IN=eth0 MAC=02:42:ac:1c:00:0b:02:42:0a:4d:00:01:08:00 SRC=198.51.100.66 DST="
# The entry of each source as journald writes it, and what its stream is called.
SOURCES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "sshd": (
        {
            **{"_SYSTEMD_UNIT": "ssh.service", "SYSLOG_IDENTIFIER": "sshd-session"},
            "MESSAGE": "Invalid user bob from 198.51.100.66 port 55012",
        },
        {"service": "sshd", "security": "sshd", "unit": "ssh"},
    ),
    "sudo": (
        {"_SYSTEMD_UNIT": "session-3.scope", "SYSLOG_IDENTIFIER": "sudo", "MESSAGE": "x : USER=y"},
        {"service": "sudo", "security": "sudo"},
    ),
    "auditd": (
        {"_TRANSPORT": "audit", "MESSAGE": "USER_LOGIN addr=198.51.100.66"},
        {"service": "audit", "security": "audit"},
    ),
    "the portal": (
        {**SERVICE, "CONTAINER_TAG": "authelia", "CONTAINER_NAME": "nexus-authelia-1"},
        {"service": "authelia", "security": "authelia", "container": "nexus-authelia-1"},
    ),
    "the proxy": (
        {**SERVICE, "CONTAINER_TAG": "traefik", "CONTAINER_NAME": "nexus-traefik-1"},
        {"service": "traefik", "security": "traefik"},
    ),
    "fail2ban": (
        {"_SYSTEMD_UNIT": "fail2ban.service", "MESSAGE": "[sshd] Ban 198.51.100.66"},
        {"service": "fail2ban", "security": "fail2ban"},
    ),
    "the firewall": (
        {"_TRANSPORT": "kernel", "SYSLOG_IDENTIFIER": "kernel", "MESSAGE": UFW},
        {"service": "kernel", "security": "ufw"},
    ),
    "Docker's events": (
        {"_SYSTEMD_UNIT": "nexus-docker-events.service", "MESSAGE": "container die name=x"},
        {"service": "nexus-docker-events", "security": "docker"},
    ),
    "a container": (
        {**SERVICE, "CONTAINER_TAG": "sonarr", "CONTAINER_NAME": "nexus-sonarr-1"},
        {"service": "sonarr", "container": "nexus-sonarr-1", "unit": "docker"},
    ),
    "any unit": (
        {"_SYSTEMD_UNIT": "cron.service", "PRIORITY": 4, "MESSAGE": "late"},
        {"service": "cron", "level": "warning"},
    ),
    "a command that was run once": (
        {"_SYSTEMD_UNIT": "run-u1234.service", "MESSAGE": "hello"},
        {"service": "transient", "unit": "transient"},
    ),
}
BOTH = {"full", "shortened"}
UNIVERSAL = st.sampled_from(["2000::/3", "fc00::/7", "fe80::/10"]).flatmap(
    lambda network: st.ip_addresses(v=6, network=network)
)


def text(roles: list[Desired], path: str) -> str:
    return next(f for r in roles for f in r.of(File) if f.path == path).content.decode()


@pytest.fixture(scope="module")
def pipeline(context: Context) -> Pipeline:
    path = "/opt/nexus/config/alloy/config.alloy"
    return Pipeline(parse(text(roles_of(context), path)))


def lines(pipeline: Pipeline, entry: dict[str, Any]) -> dict[str, Line]:
    """What an entry becomes, by how it is kept."""
    return {dict(line.labels)["kept"]: line for _, line in pipeline.run(entry, 0)}


@pytest.mark.parametrize(("entry", "wanted"), SOURCES.values(), ids=SOURCES)
def test_each_source_has_its_stream(
    pipeline: Pipeline, entry: dict[str, Any], wanted: dict[str, str]
) -> None:
    found = lines(pipeline, entry)
    labels = dict(found["full"].labels)
    assert wanted.items() <= labels.items()
    # What a container writes to which of two streams says nothing about its level.
    assert ("level" in labels) is ("PRIORITY" in entry and "CONTAINER_NAME" not in entry)
    assert ("security" in labels) is ("security" in wanted) is ("shortened" in found)
    assert found["full"].text == entry.get("MESSAGE", "")


def test_a_container_cannot_pretend_to_be_a_door(pipeline: Pipeline) -> None:
    entry = {**SERVICE, "CONTAINER_TAG": "wiki", "CONTAINER_NAME": "nexus-wiki-1"}
    found = lines(pipeline, {**entry, "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": UFW})
    assert set(found) == {"full"} and dict(found["full"].labels)["service"] == "wiki"


def test_the_monitoring_s_own_questions_are_not_kept_for_long(
    context: Context, pipeline: Pipeline
) -> None:
    prober = context.stack.address("blackbox", "monitoring")
    for address, kept in ((prober, {"full"}), ("198.51.100.6", BOTH)):
        said = json.dumps({"ClientHost": address, "RouterName": "x"}, separators=(",", ":"))
        entry = {**SOURCES["the proxy"][0], "MESSAGE": said}
        assert set(lines(pipeline, entry)) == kept
    entry = {**SOURCES["the portal"][0], "MESSAGE": f'msg="x" remote_ip={prober}'}
    assert set(lines(pipeline, entry)) == {"full"}


def test_a_line_of_the_long_stream_names_no_client(pipeline: Pipeline) -> None:
    said = "Failed password for bob from {} port 55012; b8:27:eb:12:34:56 fd98:1:2:3::66"
    entry = {**SOURCES["sshd"][0], "MESSAGE": said.format("198.51.100.66")}
    assert lines(pipeline, entry)["shortened"].text == (
        "Failed password for bob from 198.51.100.0 port 55012; b8:27:eb:x fd98:1:2::"
    )
    assert "198.51.100.66" in lines(pipeline, entry)["full"].text
    firewall = lines(pipeline, SOURCES["the firewall"][0])["shortened"].text
    assert firewall == "[UFW BLOCK] IN=eth0 MAC=02:42:ac:x SRC=198.51.100.0 DST="


def shortened(line: str) -> str:
    for expression, replacement in SHORTENING:
        line = replaced(line, {"expression": expression, "replace": replacement})
    return line


@given(address=st.ip_addresses(v=4))
def test_of_an_ipv4_address_stays_the_network(address: ipaddress.IPv4Address) -> None:
    network = ipaddress.ip_network(f"{address}/24", strict=False)
    assert shortened(f'"ClientHost":"{address}","x"') == (
        f'"ClientHost":"{network.network_address}","x"'
    )


@given(address=UNIVERSAL, exploded=st.booleans())
def test_of_an_ipv6_address_stays_the_network(
    address: ipaddress.IPv6Address, exploded: bool
) -> None:
    written = address.exploded if exploded else str(address)
    found = shortened(f"from [{written}]:443 port").removeprefix("from [").partition("]")[0]
    assert int(ipaddress.ip_address(found)) & ((1 << 80) - 1) == 0


@pytest.mark.parametrize(
    "line",
    [
        'time="2026-11-25T04:24:30+01:00" level=info msg="std::string"',
        "[10:31:22] SHA256:AbC1234/x pid=4242 5.1.1",
    ],
)
def test_times_and_names_stay_as_they_are(line: str) -> None:
    assert shortened(line) == line


def test_how_long_lines_are_kept_follows_from_the_site(
    make_context: Callable[..., Context],
) -> None:
    logs = {"full": "14d", "security": "365d"}
    roles = roles_of(make_context(monitoring={"logs": logs}))
    limits = libyaml.load(text(roles, "/opt/nexus/config/loki/loki.yml"))["limits_config"]
    assert limits["retention_period"] == "14d"
    (longer,) = limits["retention_stream"]
    assert (longer["selector"], longer["period"]) == ('{kept="shortened"}', "365d")
    # The journal has the same lines, whole.
    journald = text(roles, "/etc/systemd/journald.conf.d/50-nexus.conf")
    assert "MaxRetentionSec=14d" in journald.splitlines()


@pytest.mark.parametrize("span", ["0d", "12h", "30", "12345d", "a month"])
def test_a_time_that_is_no_number_of_days_is_refused(
    make_context: Callable[..., Context], span: str
) -> None:
    with pytest.raises(SiteError, match=r"site\.monitoring\.logs\.full: .*write e\.g\. 30d"):
        make_context(monitoring={"logs": {"full": span}})


def test_the_store_deletes_what_is_too_old(context: Context) -> None:
    configuration = libyaml.load(text(roles_of(context), "/opt/nexus/config/loki/loki.yml"))
    assert list(telemetry_loki.problems(configuration)) == []
    del configuration["compactor"]["delete_request_store"]
    configuration["limits_config"]["retention_stream"][0]["period"] = "12h"
    assert len(list(telemetry_loki.problems(configuration))) == 2


def test_the_reader_sees_the_journal_and_no_socket(context: Context) -> None:
    stack = fitted(context.stack, 8, journal_gid=991)
    compose = text(
        roles_of(Context(context.site, stack, context.facts, context.secrets)), COMPOSE_FILE
    )
    reader = libyaml.load(compose)["services"]["alloy"]
    sources = {volume["source"]: volume["read_only"] for volume in reader["volumes"]}
    assert sources["/var/log/journal"] and sources["/etc/machine-id"]
    assert not any("docker" in source for source in sources)
    assert reader["group_add"] == ["991"]
    holders = [s.name for s in stack.services if "991" in s.groups]
    assert holders == [ALLOY.name]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('{service="a"}', ["one", "two words"]),
        ('{service=~"a|b", kept!="full"} |= "two" != "three"', ["two words"]),
        ('{service=~".+"} |~ "^th.*"', ["three"]),
        ("{service=`b`} !~ `four`", ["three"]),
    ],
)
def test_the_double_of_the_store_answers_as_loki_does(query: str, found: list[str]) -> None:
    kept = [("a", "one"), ("a", "two words"), ("b", "three")]
    stored = [Line(at, (("service", name),), said) for at, (name, said) in enumerate(kept, 1)]
    answer = telemetry_loki.evaluate(query, stored, (0, 9), [9], {"direction": "forward"})
    assert [said for each in answer["result"] for _, said in each["values"]] == found


def test_the_double_of_the_store_counts_lines() -> None:
    stored = [Line(at * 10**9, (("service", "a"), ("x", str(at))), "") for at in range(1, 5)]
    query = 'sum by (service) (count_over_time({service="a"}[2s]))'
    answer = telemetry_loki.evaluate(query, stored, (0, 0), [4 * 10**9], {})
    assert answer["result"] == [{"metric": {"service": "a"}, "value": [4.0, "2"]}]


def test_the_double_of_the_store_refuses_what_it_does_not_know() -> None:
    for query in ("{}", '{a="b"} | json', "topk(3, x)", "service"):
        with pytest.raises(ValueError, match="parse error"):
            telemetry_loki.evaluate(query, [], (0, 1), [1], {})


def test_the_double_of_the_reader_refuses_unknown_components() -> None:
    for file, said in (
        ('loki.source.docker "x" { host = "unix:///run/docker.sock" }', "cannot find"),
        ('loki.write "x" { endpoint { uri = "http://x" } }', "unrecognized attribute"),
        ('loki.write "x" { endpoint { url = } }', "unexpected"),
    ):
        with pytest.raises(ValueError, match=said):
            Pipeline(parse(file))


def test_snappy_is_read() -> None:
    # A literal of three bytes, then a copy that reaches into what it writes.
    assert unsnappy(bytes([9, 2 << 2]) + b"abc" + bytes([(6 - 4) << 2 | 1, 3])) == b"abcabcabc"


def test_a_go_program_knows_the_limit_that_it_really_has(
    make_context: Callable[..., Context],
) -> None:
    def told(stack: Stack) -> dict[str, str]:
        return dict(stack.service("loki").environment)

    assert told(make_context().stack)["GOMEMLIMIT"] == "224MiB"
    larger = make_context(services={"loki": {"memory": "1g"}}).stack
    assert told(larger)["GOMEMLIMIT"] == "896MiB"
    small = fitted(make_context().stack, 2, memory=200 * 1024**2)
    limit = small.service("loki").limits.memory
    assert limit < 200 * 1024**2
    assert told(small)["GOMEMLIMIT"] == f"{limit * 7 // 8 // 1024**2}MiB"
