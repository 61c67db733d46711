"""Grafana: everything it shows comes from files, and who looks at it is known by Authelia.

Nothing can be changed in its pages, so nothing there is worth a backup.
"""

from __future__ import annotations

import json
from typing import Any

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.authelia import GROUPS
from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired
from roles.core.operations import Plan, converge
from roles.grafana.dashboards import dashboards
from roles.grafana.panels import document
from roles.stack.openid import client_secret
from roles.stack.service import Service
from roles.stack.stack import Stack

ROLE = "grafana"
FOLDER = "/etc/grafana"
# Plugins of the image that nothing here asks; each would be a process of its own.
UNUSED = (
    *("cloudwatch", "elasticsearch", "grafana-azure-monitor-datasource"),
    *("grafana-postgresql-datasource", "grafana-pyroscope-datasource", "graphite", "influxdb"),
    *("mssql", "mysql", "opentsdb", "parca", "stackdriver", "tempo", "zipkin"),
)
# What Traefik and Authelia write beside a line, once requests are traced.
TRACE = r'"?[Tt]race_?[Ii][Dd]"?[=:]"?([0-9a-f]{32})'


def desired(context: Context) -> Desired:
    """Its settings, data sources and dashboards; it is recreated when they change."""
    stack = context.stack
    service = stack.service(ROLE)
    authelia = stack.service("authelia")
    assert authelia.route
    boards = dashboards(context)
    files = {
        "grafana.ini": context.template(
            f"{ROLE}/grafana.ini",
            host=stack.hostname(service),
            portal=stack.hostname(authelia),
            provider=f"http://{authelia.name}:{authelia.route.port}",
            secret=client_secret(ROLE),
            groups=GROUPS,
            unused=UNUSED,
        ),
        "provisioning/datasources/nexus.yaml": _yaml({"datasources": data_sources(stack)}),
        "provisioning/dashboards/nexus.yaml": _yaml({"providers": [_PROVIDER]}),
        **{f"dashboards/{board.uid}.json": _json(document(board, boards)) for board in boards},
    }
    return Desired(ROLE, (*context.belongings(service), *context.config(service, files)))


_PROVIDER = {
    "name": "nexus",
    "type": "file",
    "disableDeletion": True,
    "allowUiUpdates": False,
    "updateIntervalSeconds": 60,
    "options": {"path": f"{FOLDER}/dashboards"},
}


def data_sources(stack: Stack) -> list[dict[str, Any]]:
    """What of the monitoring runs, as Grafana asks it
    (https://grafana.com/docs/grafana/latest/administration/provisioning/#data-sources)."""
    running = {service.name: service for service in stack.services}
    made = {
        "prometheus": {"httpMethod": "POST", "timeInterval": "30s", "prometheusType": "Prometheus"},
        "loki": {"derivedFields": [_trace_of_line()], "maxLines": 1000},
        "jaeger": {"tracesToLogsV2": _lines_of_trace(), "nodeGraph": {"enabled": True}},
        "alertmanager": {"implementation": "prometheus", "handleGrafanaManagedAlerts": False},
    }
    return [
        {
            "name": name.capitalize(),
            "uid": name,
            "type": name,
            "access": "proxy",
            "url": f"http://{name}:{_port(running[name])}",
            "isDefault": name == "prometheus",
            "editable": False,
            "jsonData": options,
        }
        for name, options in made.items()
        if name in running
    ]


def _port(service: Service) -> int:
    return service.ports_inside[0]


def _trace_of_line() -> dict[str, Any]:
    return {
        "name": "trace",
        "matcherRegex": TRACE,
        # The dollar sign is doubled, for these files name variables of the environment by one.
        "url": "$${__value.raw}",
        "datasourceUid": "jaeger",
        "urlDisplayLabel": "See the trace",
    }


def _lines_of_trace() -> dict[str, Any]:
    return {
        "datasourceUid": "loki",
        "spanStartTimeShift": "-1m",
        "spanEndTimeShift": "1m",
        "customQuery": True,
        "query": '{service=~"traefik|authelia"} |= "$${__trace.traceId}"',
    }


def _yaml(document: dict[str, Any]) -> bytes:
    return libyaml.dump({"apiVersion": 1, **document}).encode()


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


@pyinfra_deploy("Grafana")
def deploy(plan: Plan) -> None:
    """Its container starts with the stack."""
    converge(name="settings, data sources, dashboards", plan=plan, role=ROLE)
