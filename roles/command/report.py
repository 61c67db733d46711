"""The scorecard of a host, deployed to or not: exit 0 good enough, 1 not, 2 it could not be tried.

`compare BEFORE.json AFTER.json` puts two of them beside each other.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

# First of what is not the standard library: it replaces sockets, which others then import.
import pyinfra_cli  # noqa: F401

from roles.command.verify import read
from roles.plan import foreseen_secrets
from roles.scorecard.card import CardError, Scorecard, load, tool, waived
from roles.scorecard.plugin import Plugin
from roles.scorecard.written import LeakError, compare, verdict, write
from roles.verify.suite import run_tests
from roles.verify.target import Target

OUT = Path("build/report")


def main(arguments: list[str] | None = None) -> int:
    """Try every check on the hosts of an inventory, or compare two scorecards."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        return _compare(words[1:]) if words[:1] == ["compare"] else _report(words)
    except (CardError, LeakError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


def _report(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="report", description=__doc__, epilog="any other option is pytest's, e.g. -k ssh"
    )
    parser.add_argument("inventory", type=Path)
    parser.add_argument("--out", type=Path, default=OUT, help=f"the folder (default: {OUT})")
    parser.add_argument("--fail-under", type=_percent, help="exit 1 below this score, e.g. 90")
    parser.add_argument("--baseline", type=Path, help="an earlier scorecard.json to compare with")
    options, for_pytest = parser.parse_known_args(words)
    baseline = load(options.baseline) if options.baseline else None
    started = time.monotonic()
    targets = read(options.inventory, foreseen_secrets)
    if targets is None:
        return 2
    plugin = Plugin(targets)
    if run_tests(plugin, [*for_pytest, "-m", "check"]) not in {0, 1}:
        print("no scorecard: the checks could not be run, or none was chosen", file=sys.stderr)
        return 2
    cards = [card_of(target, plugin, time.monotonic() - started) for target in targets]
    for card, target in zip(cards, targets, strict=True):
        # A file a host; a name of a host may be an address, and never leaves the folder.
        folder = options.out if len(cards) == 1 else options.out / card.host.replace("/", "-")
        write(folder, card, baseline, target.searcher)
    return max(verdict(card, options.fail_under) for card in cards)


def _compare(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="report compare", description=_compare.__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--out", type=Path, default=OUT, help=f"the folder (default: {OUT})")
    options = parser.parse_args(words)
    compare(options.out, load(options.before), load(options.after))
    return 0


def card_of(target: Target, plugin: Plugin, seconds: float) -> Scorecard:
    """The scorecard of one host, with its waivers applied."""
    now = datetime.now(UTC)
    results = waived(plugin.results(target.name), target.site.waivers, now.date())
    return Scorecard(
        tool=tool(),
        host=target.name,
        time=now.isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        commands=target.commands,
        checks=tuple(results),
    )


def _percent(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0 <= value <= 100):
        raise argparse.ArgumentTypeError(f"{text} is not a score; write 0 to 100")
    return value


if __name__ == "__main__":
    sys.exit(main())
