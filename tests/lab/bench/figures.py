"""Samples, ratios and limits, and the table that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One measure. Its figure is the median's ratio to `against`, or the median where that is 0.

    `samples` are in `unit`, "s" for seconds or what is counted; `against` is in seconds.
    """

    what: str
    samples: tuple[float, ...]
    unit: str = "s"
    against: float = 0
    limit: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def figure(self) -> float:
        return self.median / self.against if self.against else self.median

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        return "ok" if self.figure <= self.limit else "over"

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "unit": self.unit,
            "samples": list(self.samples),
            "median": self.median,
            "ratio": self.figure if self.against else None,
            "limit": self.limit,
            "verdict": self.verdict,
        }


def interleaved(
    rounds: int, actions: Mapping[str, Callable[[], float]], say: Callable[[str], None]
) -> dict[str, tuple[float, ...]]:
    """The samples of each action, one a round: what slows the machine then slows all alike."""
    samples: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(1, rounds + 1):
        for name, action in actions.items():
            samples[name].append(action())
            say(f"round {number} of {rounds}: {name} {samples[name][-1]:.2f} s")
    return {name: tuple(found) for name, found in samples.items()}


def table(rows: Iterable[Row]) -> str:
    """The rows as aligned text."""
    cells = [("what", "median", "min..max", "ratio", "limit", "")]
    for row in rows:
        form = "{:.2f} s" if row.unit == "s" else "{:g} " + row.unit
        cells.append(
            (
                row.what,
                form.format(row.median),
                f"{min(row.samples):.2f}..{max(row.samples):.2f}" if row.unit == "s" else "",
                f"{row.figure:.2f}" if row.against else "",
                f"{row.limit:g}" if row.limit is not None else "",
                row.verdict,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )
