"""Service levels: what share of a route's requests went well, and how fast its budget is spent.

Google, The Site Reliability Workbook, chapter 5 (Alerting on SLOs): several windows and rates.
The figures are those of Traefik's routers, so that a portal that is down counts for every route
behind it, and so does a breaker that is open.

As with the alerts, all times are those at a pace of 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from roles.context import Context
from roles.prometheus.times import at_pace, seconds
from roles.site.schema import ServiceLevel, Site
from roles.stack.service import Service

WINDOWS = ("30m", "1h", "2h", "6h", "1d", "3d")
BUDGET = "30d"
# How many times faster than allowed errors come, in a long window and still in a short one.
FAST = ((14.4, "1h", "5m"), (6.0, "6h", "30m"))
SLOW = ((3.0, "1d", "2h"), (1.0, "3d", "6h"))
EVERYBODY = "*"
# Seconds between two readings of the rules; each request is in those of five minutes.
INTERVAL = 30
READINGS = 300 // INTERVAL
# Where few come, one request that failed is a large share and says little.
FEWEST = 5

_REQUESTS = 'protocol="http",service=~".+@file"'
# A page, not a redirect to the portal, a refusal, or a part of a film that flows as it is watched.
_PAGES = 'code=~"20[0-5]|304",protocol="http"'


def level(site: Site, service: Service) -> ServiceLevel:
    """What a route promises: its own objective, or else everybody's."""
    objectives = site.monitoring.objectives
    return objectives.get(service.name) or objectives.get(EVERYBODY) or ServiceLevel()


def groups(context: Context) -> list[dict[str, Any]]:
    """What is recorded
    (https://prometheus.io/docs/prometheus/latest/configuration/recording_rules/)."""
    site, routed = context.site, context.stack.routed()
    made = {
        "slo": (INTERVAL, [*_objectives(site, routed), *_requests(site, routed)]),
        "slo-windows": (INTERVAL, [*_ratios()]),
        # It reads a month.
        "slo-budget": (10 * INTERVAL, [*_budget()]),
    }
    pace = site.monitoring.pace
    return [
        {
            "name": name,
            "interval": seconds(interval, pace),
            "rules": [{**rule, "expr": at_pace(rule["expr"], pace)} for rule in rules],
        }
        for name, (interval, rules) in made.items()
    ]


def burns(rates: tuple[tuple[float, str, str], ...]) -> str:
    """An alert's expression: at one of these rates, for long and still now, and not by one."""
    return "\nor\n".join(_burn(*rate) for rate in rates)


def _burn(factor: float, long: str, short: str) -> str:
    limit = f"{factor:g} * (1 - slo:objective:ratio)"
    enough = f"sum_over_time(slo:errors:increase5m[{long}]) >= {FEWEST * READINGS}"
    return f"(slo:error_ratio:{long} > {limit} and slo:error_ratio:{short} > {limit} and {enough})"


def _objectives(site: Site, routed: tuple[Service, ...]) -> Iterator[dict[str, Any]]:
    for service in routed:
        promised = level(site, service)
        for slo, percent in (("availability", promised.availability), ("latency", promised.fast)):
            number = f"vector({round(percent / 100, 6)})"
            yield _record("slo:objective:ratio", number, service=service.name, slo=slo)


def _requests(site: Site, routed: tuple[Service, ...]) -> Iterator[dict[str, Any]]:
    requests = f"traefik_router_requests_total{{{_REQUESTS}}}"
    failed = f'traefik_router_requests_total{{code=~"5..",{_REQUESTS}}}'
    yield _record("slo:requests:increase5m", _by_route(requests), slo="availability")
    yield _record(
        "slo:errors:increase5m",
        # Without a failure there is no series of failures.
        f"{_by_route(failed)}\nor\n{_by_route(requests)} * 0",
        slo="availability",
    )
    name = "traefik_router_request_duration_seconds"
    pages = f'{name}_count{{{_PAGES},service=~".+@file"}}'
    yield _record("slo:requests:increase5m", _by_route(pages), slo="latency")
    for within in sorted({level(site, service).within for service in routed}):
        names = "|".join(s.name for s in routed if level(site, s).within == within)
        mine = f'{_PAGES},service=~"({names})@file"'
        every, quick = f"{name}_count{{{mine}}}", f'{name}_bucket{{le="{within:g}",{mine}}}'
        yield _record(
            "slo:errors:increase5m", f"{_by_route(every)}\n-\n{_by_route(quick)}", slo="latency"
        )


def _by_route(counter: str) -> str:
    """How much a counter of all routers of a service rose, under the service's name here."""
    named = f'label_replace(increase({counter}[5m]), "service", "$1", "service", "(.+)@file")'
    return f"sum by (service) ({named})"


def _ratios() -> Iterator[dict[str, Any]]:
    now = "slo:errors:increase5m / (slo:requests:increase5m > 0)"
    yield _record("slo:error_ratio:5m", now)
    for window in WINDOWS:
        yield _record(f"slo:error_ratio:{window}", _ratio(window))


def _ratio(window: str) -> str:
    # Sums weigh an hour by its requests; an average of shares would not.
    failed, all_ = (f"sum_over_time(slo:{w}:increase5m[{window}])" for w in ("errors", "requests"))
    return f"{failed} / ({all_} > 0)"


def _budget() -> Iterator[dict[str, Any]]:
    yield _record(f"slo:error_ratio:{BUDGET}", _ratio(BUDGET))
    left = f"1 - slo:error_ratio:{BUDGET} / (1 - slo:objective:ratio)"
    yield _record("slo:error_budget:remaining", left)


def _record(name: str, expression: str, **labels: str) -> dict[str, Any]:
    return {"record": name, "expr": expression, **({"labels": labels} if labels else {})}
