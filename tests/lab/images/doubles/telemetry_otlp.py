"""Spans as OTLP carries them (https://opentelemetry.io/docs/specs/otlp/), read as its JSON form."""

from __future__ import annotations

import gzip
import json
from typing import Any

from .http import Request
from .telemetry_protobuf import fields, parts


def spans_of(request: Request) -> dict[str, Any]:
    """An ExportTraceServiceRequest in either encoding. Raises ValueError for anything else."""
    body = request.body
    if request.header("content-encoding") == "gzip":
        body = gzip.decompress(body)
    if request.header("content-type").startswith("application/json"):
        found = json.loads(body)
        return {"resourceSpans": found["resourceSpans"]}
    return {"resourceSpans": [_resource_spans(part) for part in parts(body, 1)]}


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    """Attributes as a dictionary of plain values."""
    return {item["key"]: next(iter(item["value"].values()), "") for item in attributes}


def _resource_spans(message: bytes) -> dict[str, Any]:
    resource = next(parts(message, 1), b"")
    scopes = [{"spans": [_span(span) for span in parts(part, 2)]} for part in parts(message, 2)]
    return {"resource": {"attributes": _attributes(resource, 1)}, "scopeSpans": scopes}


def _span(message: bytes) -> dict[str, Any]:
    found = dict(fields(message))

    def text(number: int) -> bytes:
        value = found.get(number, b"")
        return value if isinstance(value, bytes) else b""

    return {
        "traceId": text(1).hex(),
        "spanId": text(2).hex(),
        "parentSpanId": text(4).hex(),
        "name": text(5).decode(),
        "kind": found.get(6, 0),
        "startTimeUnixNano": str(found.get(7, 0)),
        "endTimeUnixNano": str(found.get(8, 0)),
        "attributes": _attributes(message, 9),
    }


def _attributes(message: bytes, number: int) -> list[dict[str, Any]]:
    return [
        {"key": next(parts(pair, 1), b"").decode(), "value": _value(next(parts(pair, 2), b""))}
        for pair in parts(message, number)
    ]


def _value(message: bytes) -> dict[str, Any]:
    for number, value in fields(message):
        if number == 1 and isinstance(value, bytes):
            return {"stringValue": value.decode()}
        if number == 2:
            return {"boolValue": bool(value)}
        if number == 3:
            return {"intValue": str(value)}
        return {"bytesValue": str(value)}
    return {"stringValue": ""}
