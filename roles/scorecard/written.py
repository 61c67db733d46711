"""A scorecard on the terminal and in its files, or nowhere when it holds a secret."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from roles.scorecard import page, terminal
from roles.scorecard.card import Scorecard, document
from roles.scorecard.comparison import Comparison
from roles.scorecard.junit import junit
from roles.verify.leaks import Searcher


class LeakError(Exception):
    """A report would show a secret; the text names the entry, never the value."""


def write(folder: Path, card: Scorecard, baseline: Scorecard | None, searcher: Searcher) -> None:
    """Print a scorecard and write its files, all or none.

    Raises:
        LeakError: a value of the vault stands in it.
    """
    files = {
        "scorecard.json": document(card),
        "junit.xml": junit(card),
        "scorecard.html": page.scorecard(card),
    }
    text = "\n".join(terminal.lines(card, sys.stdout.isatty()))
    if baseline:
        compared = Comparison(baseline, card)
        files["comparison.html"] = page.comparison(compared)
        text += "\n" + "\n".join(terminal.compared(compared, sys.stdout.isatty()))
    refuse_leaks(card, [*files.values(), text], searcher)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        _write(folder / name, content)


def compare(folder: Path, before: Scorecard, after: Scorecard) -> None:
    """Print two scorecards beside each other and write the page."""
    compared = Comparison(before, after)
    print("\n".join(terminal.compared(compared, sys.stdout.isatty())))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "comparison.html", page.comparison(compared))


def refuse_leaks(card: Scorecard, written: Sequence[str], searcher: Searcher) -> None:
    """Search what would be written, and each text before a format escapes some of its letters.

    Raises:
        LeakError: a value of the vault stands there.
    """
    for result in card.checks:
        failures = (part for f in result.failures for part in (f.field, f.observed, f.expected))
        texts = "\n".join([*result.seen, *failures, *result.untried])
        if found := searcher.found_in(texts):
            raise LeakError(
                f"nothing is written: the evidence of {result.id} holds the secret "
                f"{', '.join(found)}; mend that test, and rotate the secret if others saw it"
            )
    if found := searcher.found_in("\n".join(written)):
        raise LeakError(f"nothing is written: the report holds the secret {', '.join(found)}")


def verdict(card: Scorecard, least: float | None) -> int:
    """0 when the score is `least` or more; without one, when nothing is open that must not be."""
    if least is not None:
        return int((card.overall.score or 0) < least)
    return int(bool(card.blocking()))


def _write(path: Path, content: str) -> None:
    path.write_text(content, encoding="utf-8")
    print(f"written: {path}")
