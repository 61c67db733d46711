"""Prometheus: whose figures are read follows from the services' declarations, never from a list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired
from roles.core.operations import Plan, converge
from roles.prometheus import alerts, slo
from roles.prometheus.times import seconds
from roles.stack.service import Service

ROLE = "prometheus"
# What each file of rules is made by.
RULES: dict[str, Callable[[Context], list[dict[str, Any]]]] = {
    "alerts": alerts.groups,
    "slo": slo.groups,
}
# Alerts are sent there, by way of the monitoring's network.
ALERTMANAGER = "alertmanager"
PROBER, PROXY = "blackbox", "traefik"
# Seconds between two looks at the rules, before the site's pace.
INTERVAL = 30


def desired(context: Context) -> Desired:
    """Its configuration; it is recreated when that changes."""
    service = context.stack.service(ROLE)
    files = {
        "prometheus.yml": _yaml(configuration(context)),
        **{f"rules/{n}.yml": _yaml({"groups": make(context)}) for n, make in RULES.items()},
    }
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files)))


def configuration(context: Context) -> dict[str, Any]:
    """What prometheus.yml says
    (https://prometheus.io/docs/prometheus/latest/configuration/configuration/)."""
    pace = context.site.monitoring.pace
    return {
        "global": {
            "scrape_interval": seconds(INTERVAL, pace),
            "scrape_timeout": seconds(min(INTERVAL, 10), pace),
            "evaluation_interval": seconds(INTERVAL, pace),
        },
        "rule_files": ["/etc/prometheus/rules/*.yml"],
        "alerting": {"alertmanagers": list(takers(context))},
        "scrape_configs": [*jobs(context), *probes(context)],
    }


def takers(context: Context) -> Iterator[dict[str, Any]]:
    """Where alerts are handed on, unless the site has switched that off."""
    if context.stack.has(ALERTMANAGER):
        yield {
            "api_version": "v2",
            "timeout": seconds(10, 1),
            "static_configs": [{"targets": [_place(context, ALERTMANAGER)]}],
        }


def jobs(context: Context) -> Iterator[dict[str, Any]]:
    """One job a service that tells figures, under the service's name."""
    for service in context.stack.scraped():
        yield _job(service, context.site.monitoring.pace)


def probes(context: Context) -> Iterator[dict[str, Any]]:
    """Each route, asked through the proxy as a browser would ask it."""
    stack, pace = context.stack, context.site.monitoring.pace
    if not stack.has(PROBER, PROXY):
        return
    yield {
        "job_name": "routes",
        "metrics_path": "/probe",
        "params": {"module": ["route"]},
        "scrape_interval": seconds(INTERVAL, pace),
        # What takes longer counts as down; it is no question of the pace.
        "scrape_timeout": seconds(min(10, INTERVAL * pace), 1),
        "static_configs": [
            {
                "targets": [stack.hostname(service)],
                "labels": {"service": service.name, "instance": service.name},
            }
            for service in stack.routed()
        ],
        "relabel_configs": [
            {"source_labels": ["__address__"], "target_label": "hostname"},
            {"source_labels": ["__address__"], "target_label": "__param_hostname"},
            {"target_label": "__param_target", "replacement": f"https://{_place(context, PROXY)}/"},
            {"target_label": "__address__", "replacement": _place(context, PROBER)},
        ],
    }


def _place(context: Context, name: str) -> str:
    return f"{name}:{context.stack.service(name).ports_inside[0]}"


def _job(service: Service, pace: float) -> dict[str, Any]:
    metrics = service.metrics
    assert metrics
    job: dict[str, Any] = {
        "job_name": service.name,
        "metrics_path": metrics.path,
        "scrape_interval": seconds(metrics.interval, pace),
        # A slow answer must end before the next question.
        "scrape_timeout": seconds(metrics.interval * 2 / 3, pace),
        "static_configs": [
            {"targets": [f"{service.name}:{metrics.port}"], "labels": {"instance": service.name}}
        ],
    }
    if service.name == "node-exporter":
        # What the host's programs write says itself which service it is about.
        job["honor_labels"] = True
    if metrics.params:
        job["params"] = {name: [value] for name, value in metrics.params}
    return job


def _yaml(document: dict[str, Any]) -> bytes:
    return libyaml.dump(document).encode()


@pyinfra_deploy("Prometheus")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="readings and rules", plan=plan, role=ROLE)
