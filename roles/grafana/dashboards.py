"""The dashboards of a site, read from one template: what it has none of has no panel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from roles.context import Context
from roles.core import libyaml
from roles.grafana.panels import Dashboard, Panel

# File systems that hold nothing for long.
MEDIA = '{fstype!~"tmpfs|ramfs|squashfs"}'
# Thresholds and words that several panels share.
STEPS: Mapping[str, tuple[tuple[float | None, str], ...]] = {
    "any": ((1, "red"),),
    "worse": ((0.8, "orange"), (0.95, "red")),
    "whole": ((None, "red"), (1, "green")),
    "left": ((None, "red"), (0, "orange"), (0.5, "green")),
}
WORDS: Mapping[str, tuple[tuple[int, str, str], ...]] = {
    "up": ((0, "down", "red"), (1, "up", "green")),
    "good": ((0, "failed", "red"), (1, "good", "green")),
    "needed": ((0, "no", "green"), (1, "yes", "orange")),
}


def dashboards(context: Context) -> tuple[Dashboard, ...]:
    """All of them, in the order in which one looks at them."""
    services = context.stack.services
    text = context.template(
        "grafana/dashboards.yml",
        names={service.name for service in services},
        watchers="|".join(s.name for s in services if s.only_with == "monitoring"),
        offsite=context.site.backup.offsite is not None,
        media=MEDIA,
    )
    return tuple(_board(page) for page in libyaml.load(text))


def _board(page: Mapping[str, Any]) -> Dashboard:
    return Dashboard(**{**page, "panels": tuple(_panel(each) for each in page["panels"])})


def _panel(raw: Mapping[str, Any]) -> Panel:
    asks, options = raw["asks"], dict(raw.get("with", {}))
    if isinstance(asks, str):
        asks = {"": asks}
    queries = tuple((str(query), _legend(legend)) for legend, query in asks.items())
    if isinstance(options.get("steps"), str):
        options["steps"] = STEPS[options["steps"]]
    if "words" in options:
        options["words"] = WORDS[options["words"]]
    return Panel(raw["title"], queries, note=raw.get("note", ""), **options)


def _legend(text: str) -> str:
    return re.sub(r"<(\w+)>", r"{{\1}}", text)
