"""What a dashboard is made of, and how Grafana writes it down: its JSON model, version 39."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

WIDTH = 24
SCHEMA = 39

Kind = Literal["stat", "timeseries", "table", "bargauge", "logs"]


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: its questions in the language of its data source, each with a legend.

    `queries` are pairs of an expression and a legend ("{{name}}" stands for a label). `unit` is one
    of Grafana's. `steps` are values from which another colour is shown: (80, "orange"); below
    the first it is green, unless that is (None, "red"). A panel
    that is `calm` may be empty; its `note` says when.
    """

    title: str
    queries: tuple[tuple[str, str], ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 7
    source: str = "prometheus"
    steps: tuple[tuple[float | None, str], ...] = ()
    words: tuple[tuple[int, str, str], ...] = ()
    most: float | None = None
    calm: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of panels, which flow from left to right and from top to bottom."""

    uid: str
    title: str
    about: str
    panels: tuple[Panel, ...]
    since: str = "now-6h"


def document(board: Dashboard, others: tuple[Dashboard, ...]) -> dict[str, Any]:
    """The dashboard as a file of provisioning."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": ["nexus"],
        "schemaVersion": SCHEMA,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": board.since, "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "templating": {"list": []},
        "links": [_link(other) for other in others if other is not board],
        "panels": list(_placed(board.panels)),
    }


def _link(board: Dashboard) -> dict[str, Any]:
    return {"type": "link", "title": board.title, "url": f"/d/{board.uid}", "keepTime": True}


def _placed(panels: tuple[Panel, ...]) -> Iterator[dict[str, Any]]:
    x = y = row = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > WIDTH:
            x, y, row = 0, y + row, 0
        place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
        yield {"id": number, "gridPos": place, **_panel(panel)}
        x, row = x + panel.width, max(row, panel.height)


def _panel(panel: Panel) -> dict[str, Any]:
    source = {"type": panel.source, "uid": panel.source}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.note,
        "datasource": source,
        "targets": [
            _target(panel, number, expression, legend, source)
            for number, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
        **({"transformations": _columns()} if panel.kind == "table" else {}),
    }


def _target(
    panel: Panel, number: int, expression: str, legend: str, source: dict[str, str]
) -> dict[str, Any]:
    base = {"refId": chr(ord("A") + number), "expr": expression, "datasource": source}
    if panel.source == "loki":
        return {**base, "queryType": "range", "legendFormat": legend}
    moment = panel.kind != "timeseries"
    return {
        **base,
        "instant": moment,
        "range": not moment,
        "format": "table" if panel.kind == "table" else "time_series",
        "legendFormat": legend or "__auto",
    }


def _field(panel: Panel) -> dict[str, Any]:
    below = () if panel.steps and panel.steps[0][0] is None else ((None, "green"),)
    steps = [{"value": value, "color": colour} for value, colour in (*below, *panel.steps)]
    field: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "color": {"mode": "thresholds" if panel.steps else "palette-classic"},
    }
    if panel.words:
        options = {
            str(value): {"text": text, "color": colour, "index": index}
            for index, (value, text, colour) in enumerate(panel.words)
        }
        field["mappings"] = [{"type": "value", "options": options}]
        field["color"] = {"mode": "thresholds"}
    if panel.kind == "timeseries":
        field["color"] = {"mode": "palette-classic"}
        field["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if panel.kind in ("timeseries", "bargauge"):
        field["min"] = 0
    if panel.most is not None:
        field["max"] = panel.most
    return field


def _options(panel: Panel) -> dict[str, Any]:
    last = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    kinds: dict[Kind, dict[str, Any]] = {
        "stat": {"reduceOptions": last, "colorMode": "value", "graphMode": "none"},
        "bargauge": {"reduceOptions": last, "orientation": "horizontal", "displayMode": "basic"},
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "table": {"showHeader": True, "cellHeight": "sm"},
        "logs": {"showTime": True, "wrapLogMessage": True, "sortOrder": "Descending"},
    }
    return kinds[panel.kind]


def _columns() -> list[dict[str, Any]]:
    """One row a set of labels, without what says where the figure was read."""
    hidden = dict.fromkeys(("Time", "__name__", "instance", "job"), True)
    return [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": hidden, "renameByName": {}}},
    ]
