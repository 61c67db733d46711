"""Scorecards for tests: one of each status, and whatever hypothesis thinks of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from roles.scorecard.card import AREAS, Applied, Failure, Result, Scorecard, Tool
from roles.scorecard.catalogue import Area
from roles.scorecard.grades import WEIGHTS, Status

STATUSES: tuple[Status, ...] = get_args(Status)


def result(number: int = 1, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "id": f"SEC-{number:02}",
        "area": "security",
        "title": "no service has the engine's socket",
        "severity": "critical",
        "evidence": "behaviour",
        "role": "socket_proxy",
        "status": "passed",
        **changes,
    }
    return Result.model_validate(values)


def card(results: Sequence[Result], **changes: Any) -> Scorecard:
    values: dict[str, Any] = {
        "tool": Tool(name="nexus-hardening", version="0.1.0"),
        "host": "192.168.1.10",
        "time": "2026-11-25T08:00:00+00:00",
        "seconds": 41.2,
        "commands": 3,
        "checks": tuple(results),
        **changes,
    }
    return Scorecard.model_validate(values)


def full(text: str = "as it is", shift: int = 0, areas: Sequence[Area] = AREAS) -> Scorecard:
    """Every area, severity and status, with `text` wherever a host or an operator writes."""
    numbers = range(len(areas) * len(STATUSES))
    return card(
        [
            result(
                number + 10,
                area=areas[number % len(areas)],
                severity=list(WEIGHTS)[number % len(WEIGHTS)],
                status=(status := STATUSES[(number + shift) // len(areas) % len(STATUSES)]),
                title=f"title {text}",
                answers=["box 1.6"],
                control=f"CIS {text}",
                seen=[f"seen {text}", "service-with-a-long-name" * 9],
                untried=[f"reason {text}"] if status not in {"passed", "failed"} else [],
                failures=[Failure(field=text, observed=text, expected=text, mend=text)]
                if status in {"failed", "waived"}
                else [],
                waiver=_waiver(status, text),
            )
            for number in numbers
        ],
        host=f"host {text}",
    )


def _waiver(status: Status, text: str) -> Applied | None:
    state = {"waived": "used", "failed": "expired", "passed": "unneeded"}.get(status)
    return (
        Applied.model_validate({"reason": text, "until": text, "state": state}) if state else None
    )


TEXTS = st.one_of(
    st.sampled_from(
        ["<script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>", "</style>", "{{ 7*7 }}"]
    ),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
)
