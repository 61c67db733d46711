"""A double of the OpenTelemetry Collector: it reads its configuration and ends on what it lacks.

The exporters `jaeger` (gone since 0.86) and `logging` (since 0.111) are the report's restart loop:
https://github.com/open-telemetry/opentelemetry-collector-contrib/blob/main/CHANGELOG.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .http import Request, Response, as_json, serve

KNOWN = {
    "receivers": {"otlp", "prometheus", "hostmetrics", "filelog", "nop"},
    "processors": {"batch", "memory_limiter", "resource", "attributes", "filter"},
    "exporters": {
        "debug",
        "otlp",
        "otlphttp",
        "prometheus",
        "prometheusremotewrite",
        "file",
        "nop",
    },
}


def problems(configuration: Mapping[str, Any]) -> Iterator[str]:
    """What the real one refuses: a component that it lacks, a pipeline of one not configured."""
    for kind, known in KNOWN.items():
        for name in configuration.get(kind) or {}:
            if str(name).partition("/")[0] not in known:
                yield (
                    f'\'{kind}\' unknown type: "{name}" for id: "{name}" '
                    f"(valid values: {sorted(known)})"
                )
    for name, pipeline in (configuration.get("service", {}).get("pipelines") or {}).items():
        for kind in KNOWN:
            for used in pipeline.get(kind) or ():
                if used not in (configuration.get(kind) or {}):
                    part = f'{kind[:-1]} "{used}"'
                    yield f"service::pipelines::{name}: references {part} which is not configured"


def main(arguments: list[str]) -> int:
    """1 with the collector's own words on a configuration that it refuses; else serve OTLP/HTTP."""
    options = dict(word.removeprefix("--").partition("=")[::2] for word in arguments)
    found = yaml.safe_load(Path(options["config"]).read_text())
    if wrong := list(problems(found)):
        print(
            "Error: failed to get config: cannot unmarshal the configuration: decoding failed due"
        )
        print("to the following error(s):\n\nerror decoding " + "\n".join(wrong), file=sys.stderr)
        print("collector server run finished with error", file=sys.stderr, flush=True)
        return 1

    def accept(_: Request) -> Response:
        return as_json({"partialSuccess": {}})

    serve({(None, 4318): accept}, lambda: print("Everything is ready (a lab double).", flush=True))
    return 0
