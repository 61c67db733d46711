"""The backup program of the host, over the inventory's own connection: its verbs, its words."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

from roles.backup import PROGRAM
from roles.command.run import PYINFRA

# How pyinfra shows what a program on a host says; its own lines are indented or have no bracket.
SAID = re.compile(r"\[[^]]+\] (.*)")


RED, PLAIN = "\x1b[31m", "\x1b[0m"
# The end of a repository's line in the table, where something is overdue or does not answer.
OVERDUE = re.compile(r"(?<= )((?:backup|(?:check|drill)(?: failed)?|RTO)(?:, [a-zA-Z ]+)*)$")


def coloured(line: str) -> str:
    """What is overdue in red; the host knows of no terminal."""
    return OVERDUE.sub(f"{RED}\\1{PLAIN}", line)


def main(inventory: str, *words: str) -> int:
    """Show what the host says as it comes, and what pyinfra says only when there is a reason."""
    argv = [str(PYINFRA), "-y", inventory, "exec", "--", shlex.join([PROGRAM, *words])]
    own, heard = [], False
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if said := SAID.match(line):
                heard = True
                print(coloured(said[1]) if sys.stdout.isatty() else said[1], flush=True)
            else:
                own.append(line)
    if process.returncode != 0 and not heard:
        print("".join(own), file=sys.stderr)
    return process.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
