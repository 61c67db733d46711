"""Service levels: Prometheus's own tool against numbers that were computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from roles.prometheus import alerts, slo
from tests.rules.judges import judged
from tests.unit.conftest import context_from

# Half a minute between two samples, as with the pace 1.
STEP = "30s"


def rules(**monitoring: Any) -> dict[str, Any]:
    """The rules of a site: what is recorded, and the alerts about it."""
    context = context_from(monitoring=monitoring)
    told = [group for group in alerts.groups(context) if group["name"] == "levels"]
    return {"groups": [*slo.groups(context), *told]}


def requests(code: str, rise: float, count: int, service: str = "sonarr") -> dict[str, str]:
    """A counter of Traefik's that rises by so much with each sample."""
    labels = f'code="{code}",protocol="http",router="{service}@file",service="{service}@file"'
    return {
        "series": f"traefik_router_requests_total{{{labels}}}",
        "values": f"0+{rise:g}x{count}",
    }


def pages(total: float, quick: float, count: int, code: str = "200", **other: str) -> list[Any]:
    """Traefik's histogram of one service, of whose pages so many come within a second."""
    given = {"protocol": "http", "router": "sonarr@file", "service": "sonarr@file", **other}
    labels = ",".join(f'{key}="{value}"' for key, value in {"code": code, **given}.items())
    name = "traefik_router_request_duration_seconds"
    return [
        {"series": f"{name}_count{{{labels}}}", "values": f"0+{total:g}x{count}"},
        {"series": f'{name}_bucket{{le="1",{labels}}}', "values": f"0+{quick:g}x{count}"},
    ]


def value(query: str, number: float, at: str = "2h") -> dict[str, Any]:
    """What a query with one answer must say."""
    return {
        "expr": f"round({query}, 0.000001)",
        "eval_time": at,
        "exp_samples": [{"labels": '{service="sonarr"}', "value": number}],
    }


def ratio(window: str, slo_name: str = "availability") -> str:
    return f'sum by (service) (slo:error_ratio:{window}{{slo="{slo_name}"}})'


def firing(at: str, *names: str, slo_name: str = "availability") -> list[dict[str, Any]]:
    """Which of the two alerts fire for sonarr; the other one does not."""
    severities = {"ErrorBudgetBurnsFast": "critical", "ErrorBudgetBurnsSlowly": "warning"}
    return [
        {
            "alertname": name,
            "eval_time": at,
            "exp_alerts": [
                {"exp_labels": {"service": "sonarr", "slo": slo_name, "severity": severity}}
            ]
            if name in names
            else [],
        }
        for name, severity in severities.items()
    ]


def prove(folder: Path, *cases: dict[str, Any], **monitoring: Any) -> None:
    """Let promtool judge. It compares annotations as well, which these cases leave out."""
    document = rules(**monitoring)
    for group in document["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    (folder / "rules.yml").write_text(yaml.safe_dump(document))
    tests = [{"interval": STEP, **case} for case in cases]
    steps = {"rule_files": ["rules.yml"], "evaluation_interval": STEP, "tests": tests}
    (folder / "test.yml").write_text(yaml.safe_dump(steps))
    judged(folder, "test", "rules", "test.yml")


def test_a_tenth_that_fails_spends_the_budget_twenty_times_too_fast(tmp_path: Path) -> None:
    # One request a second, one in ten fails; half a percent may: 0.1 / 0.005 = 20.
    prove(
        tmp_path,
        {
            "input_series": [requests("200", 27, 300), requests("502", 3, 300)],
            "promql_expr_test": [
                value('sum by (service) (slo:requests:increase5m{slo="availability"})', 300),
                value('sum by (service) (slo:errors:increase5m{slo="availability"})', 30),
                *(value(ratio(window), 0.1) for window in ("5m", "30m", "1h", "6h", "3d", "30d")),
                value('sum by (service) (slo:error_budget:remaining{slo="availability"})', 1 - 20),
            ],
            "alert_rule_test": firing("2h", "ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"),
        },
    )


def test_what_is_allowed_leaves_the_rest_of_the_budget(tmp_path: Path) -> None:
    # One in a thousand fails, one in two hundred may: a fifth of the budget is spent.
    prove(
        tmp_path,
        {
            "input_series": [requests("200", 29.97, 300), requests("500", 0.03, 300)],
            "promql_expr_test": [
                value(ratio("1h"), 0.001),
                value('sum by (service) (slo:error_budget:remaining{slo="availability"})', 0.8),
            ],
            "alert_rule_test": firing("2h"),
        },
        # Without any failure there is no series of failures, and all is left.
        {
            "input_series": [requests("200", 30, 300)],
            "promql_expr_test": [
                value(ratio("1h"), 0),
                value('sum by (service) (slo:error_budget:remaining{slo="availability"})', 1),
            ],
            "alert_rule_test": firing("2h"),
        },
    )


def test_a_slow_leak_is_told_as_one(tmp_path: Path) -> None:
    # Two percent fail: four times the rate that lasts a month, less than six.
    prove(
        tmp_path,
        {
            "input_series": [requests("200", 29.4, 300), requests("500", 0.6, 300)],
            "promql_expr_test": [value(ratio("2h"), 0.02)],
            "alert_rule_test": firing("2h", "ErrorBudgetBurnsSlowly"),
        },
    )


def test_an_outage_fires_within_minutes_and_is_over_soon_after(tmp_path: Path) -> None:
    # Seven hours of health, a quarter of one in which half fails, health again.
    good, bad = "0+30x840 25215+15x30 25695+30x60", "0+0x840 15+15x30 465+0x60"
    series = [{**requests("200", 1, 1), "values": good}, {**requests("503", 1, 1), "values": bad}]
    fast = "ErrorBudgetBurnsFast"
    moments = {
        "7h5m": (),
        # Half of 15 minutes, less what the last five have not yet told: 6.25 / 60 = 10.4 percent
        # in the hour, above 14.4 * 0.5 = 7.2.
        "7h15m": (fast,),
        # The hour still has them, the last five minutes have none.
        "7h22m": (),
    }
    tests = [t for at, names in moments.items() for t in firing(at, *names)]
    prove(
        tmp_path,
        {
            "input_series": series,
            "alert_rule_test": [t for t in tests if t["alertname"] == fast],
        },
    )


def test_pages_are_slow_where_other_things_may_be(tmp_path: Path) -> None:
    # A fifth of the pages is slow, a twentieth may be: four times too fast.
    slow = [
        *pages(30, 24, 300),
        # Parts of a film, redirects to the portal, failures and a chat that lasts do not count.
        *pages(30, 0, 300, code="206"),
        *pages(30, 0, 300, code="302"),
        *pages(30, 0, 300, code="502"),
        *pages(30, 0, 300, code="200", protocol="websocket"),
        # The proxy's own services are nobody's.
        *pages(30, 0, 300, code="200", service="api@internal", router="x"),
    ]
    prove(
        tmp_path,
        {
            "input_series": slow,
            "promql_expr_test": [
                value(ratio("1h", "latency"), 0.2),
                value('sum by (service) (slo:error_budget:remaining{slo="latency"})', 1 - 4),
            ],
            "alert_rule_test": firing("2h", "ErrorBudgetBurnsSlowly", slo_name="latency"),
        },
    )


def test_a_login_counts_for_the_service_that_it_is_of(tmp_path: Path) -> None:
    login = requests("200", 30, 300)
    login["series"] = login["series"].replace('router="sonarr@', 'router="sonarr-login@')
    prove(
        tmp_path,
        {
            "input_series": [login, requests("500", 30, 300)],
            "promql_expr_test": [value(ratio("1h"), 0.5)],
        },
    )


def test_one_failure_at_night_wakes_nobody(tmp_path: Path) -> None:
    # Three requests in an hour, of which all fail: too few to say anything.
    few = {**requests("500", 1, 1), "values": "0x40 1x20 2x20 3x100"}
    prove(
        tmp_path,
        {
            "input_series": [few],
            "promql_expr_test": [value(ratio("1h"), 1, at="60m")],
            "alert_rule_test": firing("60m"),
        },
    )


def test_a_site_changes_what_is_promised_for_one_route_or_for_all(tmp_path: Path) -> None:
    # A tenth fails: at 94 percent that is 1.67 times too fast, which is slow.
    prove(
        tmp_path,
        {
            "input_series": [requests("200", 27, 300), requests("502", 3, 300)],
            "promql_expr_test": [
                value('sum by (service) (slo:objective:ratio{service="sonarr"})', 0.94 + 0.95),
                {
                    "expr": 'slo:objective:ratio{service="radarr",slo="availability"}',
                    "eval_time": "1h",
                    "exp_samples": [
                        {
                            "labels": 'slo:objective:ratio{service="radarr",slo="availability"}',
                            "value": 0.999,
                        }
                    ],
                },
            ],
            "alert_rule_test": firing("2h", "ErrorBudgetBurnsSlowly"),
        },
        objectives={"sonarr": {"availability": 94}, "*": {"availability": 99.9}},
    )
