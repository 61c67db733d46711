"""Times as Prometheus and Alertmanager write them, at the pace of a site."""

from __future__ import annotations

import re

from roles.site.schema import SECONDS

_WINDOW = re.compile(r"\[(\d+)([smhd])\]")


def seconds(time: float, pace: float) -> str:
    """A time in seconds, stretched: whole milliseconds, never none."""
    return f"{max(round(time * pace * 1000), 100)}ms"


def at_pace(expr: str, pace: float) -> str:
    """An expression with every window ("[5m]") stretched."""
    return _WINDOW.sub(
        lambda window: f"[{seconds(int(window[1]) * SECONDS[window[2]], pace)}]", expr
    )
