"""Run a program of the outer machine and keep what it said when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence


class LabError(Exception):
    """The lab cannot do what was asked; the message is meant for its user."""


class CommandError(LabError):
    """A program ended with a status other than 0."""

    def __init__(self, argv: Sequence[str], result: subprocess.CompletedProcess[str]) -> None:
        said = (result.stderr.strip() or result.stdout.strip())[-2000:]
        super().__init__(f"{' '.join(argv)} ended with {result.returncode}: {said}")
        self.result = result


def run(
    argv: Sequence[str],
    *,
    check: bool = True,
    stdin: str = "",
    timeout: float = 120,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `argv` with `stdin` as its input and return its outcome, output as text.

    `timeout` is in seconds. Raises CommandError for a status other than 0 (unless `check` is
    False) and LabError when the time is over.
    """
    try:
        result = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{' '.join(argv)} took longer than {timeout:g} s") from error
    if check and result.returncode != 0:
        raise CommandError(argv, result)
    return result
