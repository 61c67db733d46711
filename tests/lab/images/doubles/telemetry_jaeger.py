"""A double of Jaeger 2: OTLP over HTTP in, kept in memory up to a number of traces, and its API."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from .http import Handler, Request, Response, as_json, as_text, serve
from .telemetry_collector import address, read, reader
from .telemetry_otlp import plain, spans_of

KNOWN = {
    "receivers": {"otlp"},
    "processors": {"attributes", "batch", "memory_limiter"},
    "exporters": {"jaeger_storage_exporter"},
    "extensions": {"healthcheckv2", "jaeger_query", "jaeger_storage"},
}
PAGE = "<!doctype html><title>Jaeger</title><h1>Jaeger, a lab double</h1>"


class Store:
    """Spans by trace; the oldest trace goes when there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._traces: OrderedDict[str, list[dict[str, Any]]] = OrderedDict()
        self._accepted = 0
        self._lock = threading.Lock()

    def accept(self, request: Request) -> Response:
        try:
            found = spans_of(request)
        except (ValueError, KeyError) as error:
            return as_text(f"400 {error}", 400)
        with self._lock:
            for resource in found["resourceSpans"]:
                process = plain(resource["resource"]["attributes"])
                for scope in resource["scopeSpans"]:
                    for span in scope["spans"]:
                        self._keep(span, process)
        return as_json({"partialSuccess": {}})

    def answer(self, request: Request) -> Response:
        """The HTTP API of its query service, as its page and Grafana use it."""
        path = request.path
        with self._lock:
            if path == "/api/services":
                names = {s["process"]["serviceName"] for t in self._traces.values() for s in t}
                return as_json({"data": sorted(names), "total": len(names)})
            if path == "/api/traces":
                return as_json({"data": self._search(request.query)})
            if path.startswith("/api/traces/"):
                key = path.rpartition("/")[2]
                if key not in self._traces:
                    return as_json({"errors": [{"code": 404, "msg": "trace not found"}]}, 404)
                return as_json({"data": [_trace(key, self._traces[key])]})
        return as_text(PAGE, content_type="text/html")

    def metrics(self, _: Request) -> Response:
        with self._lock:
            return as_text(f"otelcol_receiver_accepted_spans {self._accepted}\n")

    def _keep(self, span: dict[str, Any], process: dict[str, Any]) -> None:
        self._accepted += 1
        kept = {**span, "process": {"serviceName": process.get("service.name", "unknown")}}
        self._traces.setdefault(span["traceId"], []).append(kept)
        while len(self._traces) > self._most:
            self._traces.popitem(last=False)

    def _search(self, query: dict[str, str]) -> list[dict[str, Any]]:
        found = []
        for key, spans in reversed(self._traces.items()):
            services = {span["process"]["serviceName"] for span in spans}
            names = {span["name"] for span in spans}
            if query.get("service") in services and query.get("operation", "") in {"", *names}:
                found.append(_trace(key, spans))
        return found[: int(query.get("limit", "20"))]


def _trace(key: str, spans: list[dict[str, Any]]) -> dict[str, Any]:
    names = list(dict.fromkeys(span["process"]["serviceName"] for span in spans))
    processes = {f"p{at}": {"serviceName": name, "tags": []} for at, name in enumerate(names, 1)}
    ids = {name: f"p{at}" for at, name in enumerate(names, 1)}
    shown = [_span(span, ids[span["process"]["serviceName"]]) for span in spans]
    return {"traceID": key, "spans": shown, "processes": processes}


def _span(span: dict[str, Any], process: str) -> dict[str, Any]:
    start, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    parent = {"refType": "CHILD_OF", "traceID": span["traceId"], "spanID": span["parentSpanId"]}
    tags = [
        {"key": key, "type": "string", "value": value}
        for key, value in plain(span["attributes"]).items()
    ]
    return {
        "traceID": span["traceId"],
        "spanID": span["spanId"],
        "operationName": span["name"],
        "references": [parent] if span["parentSpanId"] else [],
        "startTime": start // 1000,
        "duration": (end - start) // 1000,
        "tags": tags,
        "processID": process,
    }


def main(arguments: list[str]) -> int:
    """1 on a configuration that it refuses; `validate` ends after that, else it serves."""
    only = arguments[:1] == ["validate"]
    configuration = read(arguments[1:] if only else arguments, KNOWN)
    if configuration is None or only:
        return int(configuration is None)
    extensions = configuration["extensions"]
    backends = extensions["jaeger_storage"]["backends"]
    memory = backends[extensions["jaeger_query"]["storage"]["traces"]]["memory"]
    store = Store(memory["max_traces"])
    listeners: dict[tuple[str | None, int], Handler] = {
        address(configuration["receivers"]["otlp"]["protocols"]["http"]["endpoint"]): store.accept,
        address(extensions["jaeger_query"]["http"]["endpoint"]): store.answer,
        address(extensions["healthcheckv2"]["http"]["endpoint"]): (
            lambda _: as_json({"status": "StatusOK"})
        ),
        reader(configuration): store.metrics,
    }
    serve(listeners, lambda: print("Jaeger is ready (a lab double).", flush=True))
    return 0
