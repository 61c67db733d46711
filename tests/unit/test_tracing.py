"""The collector's configuration is judged before a container could restart on it for ever."""

from __future__ import annotations

import copy
import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roles import tracing
from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired, File
from roles.plan import roles_of
from roles.site.schema import SiteError
from roles.tracing import problems
from tests.lab.images.doubles import telemetry_collector, telemetry_jaeger
from tests.lab.images.doubles.http import Request
from tests.lab.images.doubles.telemetry_otlp import plain, spans_of

COLLECTOR = "/opt/nexus/config/otel-collector/collector.yml"
JAEGER = "/opt/nexus/config/jaeger/jaeger.yml"
# What the validation report found: https://opentelemetry.io/docs/collector/configuration/
REPORTED = Path("tests/lab/legacy/files/config/otel/config.yaml")


def rendered(roles: list[Desired], path: str) -> Any:
    content = next(f for r in roles for f in r.of(File) if f.path == path).content
    return libyaml.load(content)


@pytest.fixture
def collector(roles: list[Desired]) -> Any:
    return copy.deepcopy(rendered(roles, COLLECTOR))


def test_both_configurations_are_accepted(roles: list[Desired]) -> None:
    for path, double in ((COLLECTOR, telemetry_collector), (JAEGER, telemetry_jaeger)):
        configuration = rendered(roles, path)
        assert list(problems(path, configuration)) == []
        assert list(telemetry_collector.problems(configuration, double.KNOWN)) == []


def test_the_report_s_configuration_is_refused_with_a_mend() -> None:
    reported = libyaml.load(REPORTED.read_text())
    found = list(problems("config.yaml", reported))
    assert any("exporters.logging: " in line and "write debug" in line for line in found)
    assert any("exporters.jaeger: " in line and "write otlp_http" in line for line in found)
    assert any("memory_limiter: is missing" in line for line in found)
    assert list(telemetry_collector.problems(reported, telemetry_collector.KNOWN))


Change = Callable[[Any], Any]
BROKEN: dict[str, tuple[Change, str]] = {
    "an exporter renamed": (
        lambda c: c["exporters"].update(otlphttp={"endpoint": "http://x"}),
        "exporters.otlphttp: .*write otlp_http",
    ),
    "an exporter removed": (
        lambda c: c["exporters"].update(loki={}),
        "exporters.loki: .*write otlp_http",
    ),
    "an extension removed": (
        lambda c: c["extensions"].update(memory_ballast={}),
        "extensions.memory_ballast: .*memory_limiter",
    ),
    "a component misspelt": (
        lambda c: c["receivers"].update(oltp={}),
        "receivers.oltp: .*one of otlp",
    ),
    "a limiter that is not the first": (
        lambda c: c["service"]["pipelines"]["traces"]["processors"].reverse(),
        "memory_limiter must be the first",
    ),
    "a limiter without an interval": (
        lambda c: c["processors"]["memory_limiter"].pop("check_interval"),
        "check_interval: must be above zero",
    ),
    "a spike above the limit": (
        lambda c: c["processors"]["memory_limiter"].update(spike_limit_mib=500),
        "spike_limit_mib: 500 must be less",
    ),
    "a pipeline of something that nobody configures": (
        lambda c: c["service"]["pipelines"]["traces"].update(exporters=["otlp_http/loki"]),
        "exporters: otlp_http/loki is not configured",
    ),
    "the old place of its own metrics": (
        lambda c: c["service"]["telemetry"].update(metrics={"address": "0.0.0.0:8888"}),
        r"telemetry\.metrics\.address: .*readers",
    ),
}


@pytest.mark.parametrize(("change", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_configuration_is_refused(collector: Any, change: Change, said: str) -> None:
    change(collector)
    (line,) = problems("collector.yml", collector)
    assert line.startswith("collector.yml: ")
    assert re.search(said, line), line


def test_a_broken_configuration_never_reaches_a_host(
    make_context: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**tracing.KNOWN, "exporters": {"logging"}}
    monkeypatch.setattr(tracing, "KNOWN", known)
    with pytest.raises(SiteError, match=r"collector\.yml: exporters\.otlp_http/jaeger"):
        roles_of(make_context())


def test_the_programs_themselves_judge_on_the_host(context: Context, roles: list[Desired]) -> None:
    judged = {c.on[0]: c.argv for r in roles if r.role == "tracing" for c in r.checks}
    assert set(judged) == {COLLECTOR, JAEGER}
    for path, name in ((COLLECTOR, "otel-collector"), (JAEGER, "jaeger")):
        argv = judged[path]
        assert context.stack.images[name] in argv
        assert f"--volume={{{path}}}:/staged:ro" in argv
        assert argv[-2:] == ("validate", "--config=/staged")


def test_the_proxy_is_traced_where_somebody_takes_its_spans(
    make_context: Callable[..., Context], roles: list[Desired]
) -> None:
    static = rendered(roles, "/opt/nexus/config/traefik/traefik.yml")
    assert static["tracing"]["otlp"]["http"]["endpoint"] == ("http://otel-collector:4318/v1/traces")
    off = {"otel-collector": {"enabled": False}}
    for changes in ({"monitoring": {"enabled": False}}, {"services": off}):
        without = make_context(**changes)
        assert "tracing" not in rendered(roles_of(without), "/opt/nexus/config/traefik/traefik.yml")
        assert "otel-collector" not in without.stack.service("traefik").talks_to


def test_spans_are_read_in_either_encoding() -> None:
    attribute = b"\x0a\x01k\x12\x03\x0a\x01v"
    span = b"\x0a\x02\xab\xcd\x12\x01\x01\x2a\x04GET " + b"\x4a" + bytes([len(attribute)])
    span += attribute
    resource = b"\x0a\x0c\x0a\x0a" + b"\x0a\x04name\x12\x02\x18\x05"
    scope = b"\x12" + bytes([len(span)]) + span
    message = resource + b"\x12" + bytes([len(scope)]) + scope
    body = gzip.compress(b"\x0a" + bytes([len(message)]) + message)
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}
    (found,) = spans_of(Request("POST", "/v1/traces", headers, body, ""))["resourceSpans"]
    assert plain(found["resource"]["attributes"]) == {"name": "5"}
    (read,) = found["scopeSpans"][0]["spans"]
    assert (read["traceId"], read["spanId"], read["name"]) == ("abcd", "01", "GET ")
    assert plain(read["attributes"]) == {"k": "v"}
