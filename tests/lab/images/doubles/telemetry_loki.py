"""A double of Loki: it reads Loki's configuration, takes pushed lines and answers LogQL.

Of LogQL (https://grafana.com/docs/loki/latest/query/) it knows stream selectors, line filters, and
count_over_time and rate of these, summed. Lines are kept in memory, and their number is bounded.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import urllib.request
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .http import Request, Response, as_json, as_text, serve
from .telemetry_protobuf import fields, parts, unsnappy

MOST = 50_000
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
DAY = 86400.0
Labels = tuple[tuple[str, str], ...]
_TEXT = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
_MATCHER = re.compile(rf"\s*(\w+)\s*(=~|!~|!=|=)\s*({_TEXT})\s*,?")
_FILTER = re.compile(rf"\s*(\|=|\|~|!=|!~)\s*({_TEXT})")
_SUM = re.compile(
    r"\s*sum\s*(?:by\s*\(([\w\s,]+)\))?\s*\((.*)\)\s*(?:by\s*\(([\w\s,]+)\))?\s*", re.S
)
_RANGE = re.compile(r"\s*(count_over_time|rate)\s*\((.*)\[(\w+)\]\s*\)\s*", re.S)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a stream; its time in nanoseconds."""

    time: int
    labels: Labels
    text: str


def seconds(span: str) -> float:
    """A duration such as "1h30m". Raises ValueError for anything else."""
    found = re.findall(r"(\d+)(ms|[smhdw])", span)
    if not found or "".join(a + b for a, b in found) != span:
        raise ValueError(f"not a valid duration string: {span!r}")
    return sum(int(number) * SECONDS[unit] for number, unit in found)


def problems(configuration: Mapping[str, Any]) -> Iterator[str]:
    """What the real one refuses in the parts that decide about retention."""
    limits = configuration.get("limits_config") or {}
    compactor = configuration.get("compactor") or {}
    if compactor.get("retention_enabled") and not compactor.get("delete_request_store"):
        yield "compactor.delete-request-store should be configured when retention is enabled"
    for rule in limits.get("retention_stream") or ():
        selector(rule["selector"])
        if seconds(rule["period"]) < DAY:
            yield f"retention period must be >= 24h was {rule['period']}"
    if seconds(str(limits.get("retention_period", "0s"))) < DAY:
        yield f"retention period must be >= 24h was {limits.get('retention_period')}"
    for schema in configuration["schema_config"]["configs"]:
        if schema["index"]["period"] != "24h":
            yield "the index period must be 24h"


def unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    return str(json.loads(text))


def selector(query: str) -> tuple[Callable[[Line], bool], str]:
    """What a stream selector with its line filters lets pass, and the rest of the text."""
    if not query.lstrip().startswith("{"):
        raise ValueError(f"parse error: unexpected {query[:20]!r}")
    rest = query.lstrip()[1:]
    tests: list[Callable[[Line], bool]] = []
    while match := _MATCHER.match(rest):
        tests.append(_label_test(match[1], match[2], unquoted(match[3])))
        rest = rest[match.end() :]
    if not rest.lstrip().startswith("}") or not tests:
        raise ValueError(f"parse error: unexpected {rest[:20]!r}")
    rest = rest.lstrip()[1:]
    while match := _FILTER.match(rest):
        tests.append(_line_test(match[1], unquoted(match[2])))
        rest = rest[match.end() :]
    return (lambda line: all(test(line) for test in tests)), rest


def _label_test(name: str, operator: str, wanted: str) -> Callable[[Line], bool]:
    if operator in {"=", "!="}:
        return lambda line: (dict(line.labels).get(name, "") == wanted) is (operator == "=")
    pattern = re.compile(wanted)
    return lambda line: (
        bool(pattern.fullmatch(dict(line.labels).get(name, ""))) is (operator == "=~")
    )


def _line_test(operator: str, wanted: str) -> Callable[[Line], bool]:
    if operator in {"|=", "!="}:
        return lambda line: (wanted in line.text) is (operator == "|=")
    pattern = re.compile(wanted)
    return lambda line: bool(pattern.search(line.text)) is (operator == "|~")


class Store:
    """The lines, newest last, and what the metrics count."""

    def __init__(self) -> None:
        self._lines: deque[Line] = deque(maxlen=MOST)
        self._received = 0
        self._lock = threading.Lock()

    def push(self, request: Request) -> Response:
        packed = request.header("content-type").startswith("application/x-protobuf")
        try:
            found = list(_packed(unsnappy(request.body)) if packed else _plain(request.json()))
        except (ValueError, KeyError, IndexError) as error:
            return as_text(f"400 {error}", 400)
        with self._lock:
            self._lines.extend(found)
            self._received += len(found)
        return Response(204)

    def answer(self, request: Request) -> Response:
        path, query = request.path.removeprefix("/loki/api/v1/"), request.query
        end = _moment(query.get("end", query.get("time", "")), time.time_ns())
        start = _moment(query.get("start", ""), end - 3600 * 10**9)
        with self._lock:
            lines = list(self._lines)
        try:
            if path == "labels":
                names = {name for line in lines for name, _ in line.labels}
                return _success(sorted(names))
            if match := re.fullmatch(r"label/(\w+)/values", path):
                found = {dict(line.labels).get(match[1]) for line in lines}
                return _success(sorted(filter(None, found)))
            if path in {"query", "query_range"}:
                step = seconds(query["step"]) if query.get("step", "").isalnum() else 60.0
                moments = [end]
                if path == "query_range":
                    step = max(step, (end - start) / 1e9 / 500)
                    moments = list(range(start, end + 1, int(step * 1e9)))
                return _success(evaluate(query["query"], lines, (start, end), moments, query))
        except (ValueError, KeyError, re.error) as error:
            return as_text(str(error), 400)
        return as_text("404 page not found", 404)

    def metrics(self) -> Response:
        with self._lock:
            rows = [
                f'loki_distributor_lines_received_total{{tenant="fake"}} {self._received}',
                f"loki_ingester_memory_streams {len({line.labels for line in self._lines})}",
                'loki_build_info{version="double"} 1',
            ]
        return as_text("\n".join([*rows, ""]))


def evaluate(
    query: str,
    lines: list[Line],
    within: tuple[int, int],
    moments: list[int],
    options: Mapping[str, str],
) -> dict[str, Any]:
    """The answer to a query: streams, or a series for each group of streams."""
    if query.lstrip().startswith("{"):
        passes, rest = selector(query)
        if rest.strip():
            raise ValueError(f"parse error: a lab double does not know {rest.strip()!r}")
        found = [x for x in lines if within[0] <= x.time <= within[1] and passes(x)]
        found.sort(key=lambda line: line.time, reverse=options.get("direction") != "forward")
        streams: dict[Labels, list[list[str]]] = {}
        for line in found[: int(options.get("limit", "100"))]:
            streams.setdefault(line.labels, []).append([str(line.time), line.text])
        result = [{"stream": dict(labels), "values": v} for labels, v in streams.items()]
        return {"resultType": "streams", "result": result, "stats": {}}
    series: dict[Labels, list[list[Any]]] = {}
    for moment in moments:
        for labels, value in _counted(query, lines, moment).items():
            series.setdefault(labels, []).append([moment / 1e9, f"{value:g}"])
    one = len(moments) == 1
    result = [
        {"metric": dict(labels), **({"value": values[0]} if one else {"values": values})}
        for labels, values in series.items()
    ]
    return {"resultType": "vector" if one else "matrix", "result": result, "stats": {}}


def _counted(query: str, lines: list[Line], moment: int) -> dict[Labels, float]:
    outer = _SUM.fullmatch(query)
    inner = _RANGE.fullmatch(outer[2] if outer else query)
    if not inner:
        raise ValueError(f"parse error: a lab double does not know {query!r}")
    passes, _ = selector(inner[2])
    span = seconds(inner[3])
    names = re.findall(r"\w+", (outer[1] or outer[3] or "") if outer else "")
    counts: Counter[Labels] = Counter()
    for line in lines:
        if moment - span * 1e9 < line.time <= moment and passes(line):
            group = tuple(x for x in line.labels if x[0] in names) if outer else line.labels
            counts[group] += 1
    divisor = span if inner[1] == "rate" else 1
    return {labels: count / divisor for labels, count in counts.items()}


def _plain(document: Mapping[str, Any]) -> Iterator[Line]:
    for stream in document["streams"]:
        labels = tuple(sorted(stream["stream"].items()))
        for moment, text, *_ in stream["values"]:
            yield Line(int(moment), labels, text)


def _packed(message: bytes) -> Iterator[Line]:
    for stream in parts(message, 1):
        text = next(parts(stream, 1)).decode()
        labels = tuple(sorted((m[1], unquoted(m[3])) for m in _MATCHER.finditer(text.strip("{}"))))
        for entry in parts(stream, 2):
            moment = dict(fields(next(parts(entry, 1))))
            nanoseconds = int(moment.get(1, 0)) * 10**9 + int(moment.get(2, 0))
            yield Line(nanoseconds, labels, next(parts(entry, 2), b"").decode())


def _moment(text: str, otherwise: int) -> int:
    """A time as a query has it: seconds with a fraction, or nanoseconds."""
    if not text:
        return otherwise
    number = float(text)
    return int(text) if text.isdigit() and number > 1e12 else int(number * 1e9)


def _success(data: object) -> Response:
    return as_json({"status": "success", "data": data})


def healthy(port: int) -> bool:
    """Whether the one that runs here says that it is ready."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=3) as answer:
        return bool(answer.status == 200)


def main(arguments: list[str]) -> int:
    """1 on a configuration that it refuses; -verify-config and -health end, else it serves."""
    options = dict(word.lstrip("-").partition("=")[::2] for word in arguments)
    if "health" in options:
        return 0 if healthy(3100) else 1
    configuration = yaml.safe_load(Path(options["config.file"]).read_text())
    try:
        wrong = list(problems(configuration))
    except (ValueError, KeyError) as error:
        wrong = [str(error)]
    for line in wrong:
        print(f'level=error msg="validating config" err="{line}"', file=sys.stderr, flush=True)
    if wrong or "verify-config" in options:
        return int(bool(wrong))
    store = Store()
    others: dict[str, Callable[[], Response]] = {
        "/ready": lambda: as_text("ready\n"),
        "/metrics": store.metrics,
    }

    def handle(request: Request) -> Response:
        if request.path in others:
            return others[request.path]()
        if request.path == "/loki/api/v1/push" and request.method == "POST":
            return store.push(request)
        return store.answer(request)

    port = configuration["server"]["http_listen_port"]
    serve({(None, port): handle}, lambda: print("Loki started (a lab double).", flush=True))
    return 0
