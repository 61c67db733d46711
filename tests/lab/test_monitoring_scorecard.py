"""The monitoring's roles taken away, as tests/lab/test_scorecard_roles.py does with the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.deployment import MONITORING, Deployment
from tests.lab.test_scorecard_roles import Removal, expect_exactly, failing, of, stopped, without

pytestmark = pytest.mark.lab

PROMETHEUS = {"prometheus": stopped("prometheus")}
OTHERS = {
    "alertmanager": stopped("alertmanager"),
    "blackbox": stopped("blackbox"),
    "exporters": stopped("node-exporter", "postgres-exporter", "valkey-exporter"),
    "grafana": stopped("grafana"),
    "logs": stopped("loki", "alloy"),
    "measure": Removal("systemctl stop nexus-measure nexus-watch.timer"),
    "tracing": stopped("otel-collector", "jaeger"),
}
# A host that misses a role is not as its inventory says, and what is stopped is asked for by name.
ALWAYS = {"REC-11", "API-11", "OPS-17"}
# What is asked by way of Prometheus, and what it reads.
WITH_PROMETHEUS = {"MON-10", "MON-14", "MON-15", "MON-23", "MON-24", "OPS-13"}
WITH_THE_OTHERS = {"MON-18"}


def test_every_role_is_removed() -> None:
    assert {*PROMETHEUS, *OTHERS} == MONITORING


def test_without_who_keeps_the_figures(monitored: Deployment, tmp_path: Path) -> None:
    with without(monitored, PROMETHEUS.values()):
        expect_exactly(failing(monitored, tmp_path), of(*PROMETHEUS) | WITH_PROMETHEUS | ALWAYS)


def test_without_who_tells_them(monitored: Deployment, tmp_path: Path) -> None:
    with without(monitored, OTHERS.values()):
        expect_exactly(failing(monitored, tmp_path), of(*OTHERS) | WITH_THE_OTHERS | ALWAYS)
