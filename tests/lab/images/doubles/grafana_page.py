"""How the double of Grafana shows a dashboard: every panel in its place, with what was answered."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

COLOURS = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff")
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2"}
LISTED = 12
ROW = 34
STYLE = f"""
body {{ background: #111217; color: #ccccdc; font: 13px sans-serif; margin: 12px }}
nav a {{ color: #6e9fff; margin-right: 14px }}
main {{ display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: {ROW}px; gap: 6px }}
section {{ background: #181b1f; border: 1px solid #2c3235; padding: 6px 8px; overflow: hidden }}
h2 {{ font-size: 13px; margin: 0 0 4px; font-weight: 600 }}
.stat {{ font-size: 28px; margin-right: 16px }} .stat small {{ font-size: 11px; color: #999 }}
table {{ border-collapse: collapse; width: 100% }} td, th {{ text-align: left; padding: 1px 6px }}
.bar {{ height: 9px }} .error {{ color: #f2495c }} .none {{ color: #888 }}
pre {{ margin: 0; font-size: 11px }} .key {{ font-size: 11px; margin-right: 10px }}
"""

Answers = Sequence[Mapping[str, Any]]


def span(text: str) -> float:
    """Seconds in a time such as now-6h."""
    match = re.fullmatch(r"now-(\d+)([smhd])", text)
    if not match:
        raise ValueError(f"{text} is no time of this double")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def page(board: Mapping[str, Any], boards: Iterable[Any], results: Mapping[int, Answers]) -> str:
    """The whole page. It has no script, so what it holds is all that there is."""
    links = "".join(f'<a href="/d/{b["uid"]}">{html.escape(b["title"])}</a>' for b in boards)
    panels = "".join(_section(panel, results[panel["id"]]) for panel in board["panels"])
    title = html.escape(board["title"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><nav>{links}</nav><h1>{title}</h1>"
        f"<p>{html.escape(board['description'])} (a double of Grafana)</p>"
        f"<main>{panels}</main></body></html>"
    )


def _section(panel: Mapping[str, Any], answers: Answers) -> str:
    place = panel["gridPos"]
    style = (
        f"grid-column: {place['x'] + 1} / span {place['w']}; "
        f"grid-row: {place['y'] + 1} / span {place['h']}"
    )
    errors = [str(answer["error"]) for answer in answers if answer.get("error")]
    frames = [
        (_name(target, frame), frame)
        for target, answer in zip(panel["targets"], answers, strict=True)
        for frame in answer["frames"]
    ]
    if errors:
        body = f'<p class="error">{html.escape(errors[0])}</p>'
    elif not frames:
        body = '<p class="none">No data</p>'
    else:
        body = SHOWN[panel["type"]](panel, frames)
    kind = "error" if errors else "full" if frames else "empty"
    return (
        f'<section style="{style}" class="{kind}" data-panel="{panel["id"]}">'
        f"<h2>{html.escape(panel['title'])}</h2>{body}</section>"
    )


def _name(target: Mapping[str, Any], frame: Mapping[str, Any]) -> str:
    labels = frame["schema"]["fields"][1]["labels"]
    legend = target.get("legendFormat", "__auto")
    if legend in ("__auto", ""):
        return ", ".join(str(v) for k, v in labels.items() if k not in ("__name__", "job"))
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: str(labels.get(m[1], "")), legend).strip()


def _last(frame: Mapping[str, Any]) -> float:
    return float(frame["data"]["values"][1][-1])


def _stat(panel: Mapping[str, Any], frames: Sequence[Any]) -> str:
    return "".join(
        f'<span class="stat" style="color: {_colour(panel, _last(frame))}">'
        f"{_text(panel, _last(frame))} <small>{html.escape(name)}</small></span>"
        for name, frame in frames
    )


def _bars(panel: Mapping[str, Any], frames: Sequence[Any]) -> str:
    most = panel["fieldConfig"]["defaults"].get("max") or max(_last(f) for _, f in frames) or 1
    rows = [
        f"<tr><td>{html.escape(name)}</td><td>{_text(panel, _last(frame))}</td><td width=60%>"
        f'<div class="bar" style="width: {max(0, min(100, 100 * _last(frame) / most)):.0f}%; '
        f'background: {_colour(panel, _last(frame))}"></div></td></tr>'
        for name, frame in frames
    ]
    return f"<table>{''.join(rows)}</table>"


def _table(panel: Mapping[str, Any], frames: Sequence[Any]) -> str:
    keys = sorted({key for _, frame in frames for key in _labels(frame)})
    head = "".join(f"<th>{html.escape(key)}</th>" for key in keys)
    rows = [
        "<tr>"
        + "".join(f"<td>{html.escape(_labels(frame).get(key, ''))}</td>" for key in keys)
        + f"<td>{_text(panel, _last(frame))}</td></tr>"
        for _, frame in frames
    ]
    return f"<table><tr>{head}<th>value</th></tr>{''.join(rows)}</table>"


def _labels(frame: Mapping[str, Any]) -> dict[str, str]:
    hidden = ("__name__", "instance", "job")
    labels = frame["schema"]["fields"][1]["labels"]
    return {key: str(value) for key, value in labels.items() if key not in hidden}


def _lines(panel: Mapping[str, Any], frames: Sequence[Any]) -> str:
    times = [float(t) for _, frame in frames for t in frame["data"]["values"][0]]
    numbers = [float(n) for _, frame in frames for n in frame["data"]["values"][1]]
    numbers = [n for n in numbers if not math.isnan(n)] or [0.0]
    left, width = min(times), max(max(times) - min(times), 1)
    top = max(*numbers, float(panel["fieldConfig"]["defaults"].get("max") or 0))
    low = min(*numbers, 0.0)
    height = (top - low) or 1
    drawn, keys = [], []
    for number, (name, frame) in enumerate(frames):
        colour = COLOURS[number % len(COLOURS)]
        pairs = zip(*frame["data"]["values"], strict=True)
        points = " ".join(
            f"{1000 * (float(t) - left) / width:.1f},{100 - 98 * (float(n) - low) / height:.1f}"
            for t, n in pairs
            if not math.isnan(float(n))
        )
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            'vector-effect="non-scaling-stroke"/>'
        )
        if number < LISTED:
            shown = f"{html.escape(name)} {_text(panel, _last(frame))}"
            keys.append(f'<span class="key" style="color: {colour}">{shown}</span>')
    return (
        f"<small>{_text(panel, top)}</small><svg viewBox='0 0 1000 100' preserveAspectRatio='none' "
        f"style='width: 100%; height: 55%'>{''.join(drawn)}</svg><div>{''.join(keys)}</div>"
    )


def _logs(_: Mapping[str, Any], frames: Sequence[Any]) -> str:
    lines = [line for _, frame in frames for line in zip(*frame["data"]["values"], strict=True)]
    newest = sorted(lines, reverse=True)[:LISTED]
    return "".join(f"<pre>{html.escape(str(text))}</pre>" for _, text in newest)


SHOWN = {"stat": _stat, "bargauge": _bars, "table": _table, "timeseries": _lines, "logs": _logs}


def _colour(panel: Mapping[str, Any], value: float) -> str:
    field = panel["fieldConfig"]["defaults"]
    for mapping in field.get("mappings", []):
        if found := mapping["options"].get(f"{value:g}"):
            return NAMED[found["color"]]
    steps = field["thresholds"]["steps"]
    names = [s["color"] for s in steps if s["value"] is None or value >= s["value"]]
    return NAMED[names[-1]]


def _text(panel: Mapping[str, Any], value: float) -> str:
    field = panel["fieldConfig"]["defaults"]
    for mapping in field.get("mappings", []):
        if found := mapping["options"].get(f"{value:g}"):
            return str(found["text"])
    unit = field.get("unit", "short")
    if unit in ("percentunit", "percent"):
        return f"{value * (100 if unit == 'percentunit' else 1):.4g} %"
    if unit in ("bytes", "Bps", "binBps"):
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"), "/s" if "ps" in unit else "")
    if unit == "s":
        return _time(value)
    return _scaled(
        value, 1000, ("", "k", "M", "G"), {"reqps": "/s", "celsius": " °C"}.get(unit, "")
    )


def _scaled(value: float, base: int, names: Sequence[str], after: str) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g} {names[power]}{after}".replace(" /", "/").strip()


def _time(value: float) -> str:
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(value) >= size:
            return f"{value / size:.1f} {name}"
    return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else f"{value * 1000:.3g} ms"
