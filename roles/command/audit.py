"""Judge Compose files without a host, by the policy that the rendered stack keeps itself.

Exit 0: no finding as bad as --fail-on. 1: there is one. 2: a file cannot be judged. Each file is
judged for itself, with what it extends and includes and the .env file beside it; what -f names is
judged as one, merged in that order as docker compose merges it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from roles.audit.document import UnreadableError
from roles.audit.output import Audit, as_json, as_sarif, as_text
from roles.audit.project import load
from roles.audit.rules import SEVERITIES
from roles.core.state import printable


def main(arguments: list[str] | None = None) -> int:
    """Print the findings of each file; see the module for the exit status."""
    parser = argparse.ArgumentParser(prog="audit", description=__doc__)
    parser.add_argument("compose", type=Path, nargs="*", help="a Compose file")
    parser.add_argument(
        "-f", "--file", type=Path, action="append", default=[], help="one of several to be merged"
    )
    parser.add_argument("--format", choices=("text", "json", "sarif"), default="text")
    parser.add_argument("--fail-on", choices=(*SEVERITIES, "never"), default="high")
    options = parser.parse_args(arguments)
    wanted = [[path] for path in options.compose] + ([options.file] if options.file else [])
    if not wanted:
        parser.error("name a Compose file")
    audits, unreadable = [], False
    for files in wanted:
        try:
            audits.append(Audit.of(load(*files)))
        except UnreadableError as error:
            print(printable(str(error)), file=sys.stderr)
            unreadable = True
    if audits or options.format != "text":
        sys.stdout.write(_shown(audits, options.format))
    if unreadable:
        return 2
    fails = options.fail_on != "never" and any(a.worst_at_least(options.fail_on) for a in audits)
    return 1 if fails else 0


def _shown(audits: list[Audit], form: str) -> str:
    if form == "json":
        return as_json(audits)
    if form == "sarif":
        return as_sarif(audits)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return as_text(
        audits, colour=colour, width=min(120, shutil.get_terminal_size((100, 24)).columns)
    )


if __name__ == "__main__":
    sys.exit(main())
