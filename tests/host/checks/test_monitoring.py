"""What a monitoring stack says of itself, whichever it is: asked, not read from its files."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from roles.verify.collector import FIGURES
from roles.verify.report import Row, Unproven, expect, expect_that
from roles.verify.target import Target
from tests.host.checks.judging import declared, program

MEND = "make apply, with site.monitoring enabled"
TARGETS = "/api/v1/targets?state=active"


def said(target: Target, name: str, path: str) -> str:
    """A program's answer.

    Raises:
        Unproven: it does not run, or gave none.
    """
    container = program(target, *name.split("|"))
    answer = target.collected.raw["monitoring"].get(container.inspect["Id"], {}).get(path)
    if answer is None:
        raise Unproven([Row(f"{container.name} {path}", "no answer", "an answer", MEND)])
    return str(answer)


def prometheus(target: Target, path: str) -> Any:
    return json.loads(said(target, "prometheus", path))["data"]


def rules(target: Target, kind: str) -> list[dict[str, Any]]:
    groups = prometheus(target, "/api/v1/rules")["groups"]
    return [rule for group in groups for rule in group["rules"] if rule["type"] == kind]


@pytest.mark.check("MON-01")
def test_metrics_are_collected(target: Target) -> None:
    up = [t for t in prometheus(target, TARGETS)["activeTargets"] if t["health"] == "up"]
    expect_that(bool(up), "targets that answer", len(up), "at least one", MEND)


@pytest.mark.check("MON-18")
def test_every_target_answers(target: Target) -> None:
    targets = prometheus(target, TARGETS)["activeTargets"]
    down = sorted(str(t["scrapeUrl"]) for t in targets if t["health"] != "up")
    expect_that(bool(targets), "targets", len(targets), "at least one", MEND)
    expect("targets that do not answer", down, [], MEND)


@pytest.mark.check("MON-02")
def test_dashboards_answer(target: Target) -> None:
    health = json.loads(said(target, "grafana", "/api/health"))
    expect("Grafana's database", health.get("database"), "ok", MEND)


METRICS = (
    ("MON-03", "of the host", "^node_cpu_seconds_total$"),
    ("MON-13", "of requests at the proxy", "^traefik_service_request_duration_seconds"),
    ("MON-14", "of what the household watches", "^jellyfin_.*(session|stream|playing)"),
    ("MON-15", "of the backups", "^nexus_backup_snapshot_timestamp_seconds$"),
    ("MON-23", "of the routes", "^probe_success$"),
    ("MON-24", "of the databases", "^(pg|redis)_up$"),
    ("OPS-13", "of the containers' use", "^container_memory_(usage|working_set)_bytes$"),
)


@pytest.mark.parametrize(
    ("what", "pattern"),
    [pytest.param(*m[1:], id=m[0], marks=pytest.mark.check(m[0])) for m in METRICS],
)
def test_metrics_are_there(target: Target, what: str, pattern: str) -> None:
    told = [each["metric"]["__name__"] for each in prometheus(target, FIGURES)["result"]]
    found = [name for name in told if re.search(pattern, name)]
    expect_that(bool(found), f"metrics {what}", found, f"one like {pattern}", MEND)


@pytest.mark.check("MON-09")
def test_there_are_alert_rules(target: Target) -> None:
    found = [rule["name"] for rule in rules(target, "alerting")]
    expect_that(bool(found), "alert rules", found, "at least one", MEND)


@pytest.mark.check("MON-10")
def test_alerts_go_somewhere(target: Target) -> None:
    found = prometheus(target, "/api/v1/alertmanagers")["activeAlertmanagers"]
    expect_that(bool(found), "Alertmanagers", len(found), "at least one", MEND)


@pytest.mark.check("MON-11")
def test_service_levels_are_measured(target: Target) -> None:
    words = re.compile("slo|sli|availability|error_budget", re.IGNORECASE)
    found = [r["name"] for r in rules(target, "recording") if words.search(r["name"])]
    expect_that(bool(found), "rules that measure a service level", found, "at least one", MEND)


@pytest.mark.check("MON-19")
def test_a_dead_alarm_is_noticed(target: Target) -> None:
    words = re.compile("watchdog|deadman", re.IGNORECASE)
    found = [r["name"] for r in rules(target, "alerting") if words.search(r["name"])]
    expect_that(bool(found), "an alert that always fires", found, "one", MEND)


@pytest.mark.check("MON-20")
def test_alerts_say_what_to_do(target: Target) -> None:
    found = rules(target, "alerting")
    silent = [r["name"] for r in found if "runbook_url" not in r.get("annotations", {})]
    expect_that(bool(found), "alert rules", len(found), "at least one", MEND)
    expect("alerts without a runbook", silent, [], MEND)


@pytest.mark.check("MON-12")
def test_logs_are_brought_together(target: Target) -> None:
    labels = json.loads(said(target, "loki", "/loki/api/v1/labels")).get("data") or []
    expect_that(bool(labels), "labels of collected logs", labels, "at least one", MEND)


@pytest.mark.check("MON-07")
def test_requests_can_be_traced(target: Target) -> None:
    said(target, "jaeger|all-in-one", "/")
    if declared(target, program(target, "jaeger", "all-in-one")):
        # The monitoring itself asks each route, so the proxy has always something to tell.
        known = json.loads(said(target, "jaeger", "/api/services"))["data"] or []
        expect_that("traefik" in known, "services with traces", known, "traefik among them")
