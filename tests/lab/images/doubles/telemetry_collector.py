"""A double of the OpenTelemetry Collector: OTLP over HTTP in, through its processors, and out.

Its refusals are the real one's (0.161), tried on that: an unknown component, one that a pipeline
names and nobody configures, a limiter without an interval or with a spike above its limit.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .http import Handler, Request, Response, as_json, as_text, serve
from .telemetry_otlp import spans_of

KNOWN = {
    "receivers": {"otlp", "nop"},
    "processors": {"attributes", "batch", "memory_limiter"},
    "exporters": {"debug", "nop", "otlp", "otlp_grpc", "otlp_http", "otlphttp"},
    "extensions": {"health_check", "healthcheckv2"},
}
TIMEOUT = 5


def problems(configuration: Mapping[str, Any], known: Mapping[str, set[str]]) -> Iterator[str]:
    """What the real one says of a configuration that it refuses."""
    for kind, names in known.items():
        for name in configuration.get(kind) or {}:
            if str(name).partition("/")[0] not in names:
                yield (
                    f'\'{kind}\' unknown type: "{name}" for id: "{name}" '
                    f"(valid values: {sorted(names)})"
                )
    service = configuration.get("service") or {}
    if "address" in (service.get("telemetry") or {}).get("metrics", {}):
        yield "'service.telemetry.metrics' has invalid keys: address"
    for name, pipeline in (service.get("pipelines") or {}).items():
        for kind in ("receivers", "processors", "exporters"):
            for used in pipeline.get(kind) or ():
                if used not in (configuration.get(kind) or {}):
                    part = f'{kind[:-1]} "{used}"'
                    yield f"service::pipelines::{name}: references {part} which is not configured"
    limiter = (configuration.get("processors") or {}).get("memory_limiter")
    if limiter is not None:
        if not limiter.get("check_interval"):
            yield "processors::memory_limiter: 'check_interval' must be greater than zero"
        if limiter.get("spike_limit_mib", 0) >= limiter.get("limit_mib", 0):
            yield "processors::memory_limiter: 'spike_limit_mib' must be smaller than 'limit_mib'"


def read(arguments: list[str], known: Mapping[str, set[str]]) -> dict[str, Any] | None:
    """The configuration that `--config` names, or None after saying what is wrong with it."""
    joined = " ".join(arguments).replace("--config ", "--config=").split()
    options = dict(word.removeprefix("--").partition("=")[::2] for word in joined)
    found: dict[str, Any] = yaml.safe_load(Path(options["config"]).read_text())
    wrong = list(problems(found, known))
    for line in wrong:
        print(f"Error: {line}", file=sys.stderr, flush=True)
    return None if wrong else found


def address(endpoint: str) -> tuple[str | None, int]:
    """Where a configured endpoint listens, as the server takes it."""
    host, _, port = endpoint.rpartition(":")
    return (None if host == "0.0.0.0" else host, int(port))  # noqa: S104 - as configured


def reader(configuration: Mapping[str, Any]) -> tuple[str | None, int]:
    """Where its own metrics are read."""
    (first,) = configuration["service"]["telemetry"]["metrics"]["readers"]
    place = first["pull"]["exporter"]["prometheus"]
    return address(f"{place['host']}:{place['port']}")


class Collector:
    """The one pipeline, and what its own metrics count."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        pipeline = configuration["service"]["pipelines"]["traces"]
        processors = [configuration["processors"][name] for name in pipeline["processors"]]
        actions = [a for each in processors for a in (each or {}).get("actions", [])]
        self._deleted = {a["key"] for a in actions if a["action"] == "delete"}
        names = [name for name in pipeline["exporters"] if name.startswith("otlp")]
        self._targets = [configuration["exporters"][name]["endpoint"] for name in names]
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def accept(self, request: Request) -> Response:
        try:
            found = spans_of(request)
        except (ValueError, KeyError) as error:
            return as_text(f"400 {error}", 400)
        number = 0
        for resource in found["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                for span in scope["spans"]:
                    kept = [a for a in span["attributes"] if a["key"] not in self._deleted]
                    span["attributes"] = kept
                    number += 1
        self._count("receiver_accepted", number)
        for target in self._targets:
            self._send(f"{target}/v1/traces", json.dumps(found).encode(), number)
        return as_json({"partialSuccess": {}})

    def metrics(self, _: Request) -> Response:
        names = ("receiver_accepted", "exporter_sent", "exporter_send_failed")
        with self._lock:
            rows = [f"otelcol_{name}_spans {self._counts[name]}" for name in names]
        return as_text("\n".join([*rows, ""]))

    def _send(self, url: str, body: bytes, number: int) -> None:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(url, body, headers)  # noqa: S310 - as configured
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
                self._count("exporter_sent", number)
        except urllib.error.URLError as error:
            self._count("exporter_send_failed", number)
            print(f"error\tExporting failed\t{error.reason}", file=sys.stderr, flush=True)

    def _count(self, name: str, number: int) -> None:
        with self._lock:
            self._counts[name] += number


def main(arguments: list[str]) -> int:
    """1 on a configuration that it refuses; `validate` ends after that, else it serves."""
    only = arguments[:1] == ["validate"]
    configuration = read(arguments[1:] if only else arguments, KNOWN)
    if configuration is None or only:
        return int(configuration is None)
    collector = Collector(configuration)
    listeners: dict[tuple[str | None, int], Handler] = {
        address(configuration["receivers"]["otlp"]["protocols"]["http"]["endpoint"]): (
            collector.accept
        ),
        address(configuration["extensions"]["health_check"]["endpoint"]): (
            lambda _: as_json({"status": "Server available"})
        ),
        reader(configuration): collector.metrics,
    }
    serve(listeners, lambda: print("Everything is ready (a lab double).", flush=True))
    return 0
