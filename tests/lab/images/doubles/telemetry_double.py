"""The program whose name it was started under."""

from __future__ import annotations

import sys

from . import telemetry_alloy, telemetry_collector, telemetry_jaeger, telemetry_loki

PROGRAMS = {
    "alloy": telemetry_alloy.main,
    "jaeger-linux": telemetry_jaeger.main,
    "loki": telemetry_loki.main,
    "otelcol-contrib": telemetry_collector.main,
}

if __name__ == "__main__":
    sys.exit(PROGRAMS[sys.argv[1]](sys.argv[2:]))
