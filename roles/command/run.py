"""pyinfra, with its inventory and vaults proven before, and a failed connection explained after."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from roles.command.inventory import prove, prove_vault
from roles.command.trouble import trouble
from roles.core.secret import MissingSecretError
from roles.core.vault import VaultError
from roles.site.connection import Entry
from roles.site.schema import SiteError

PYINFRA = Path(sys.executable).with_name("pyinfra")
INTERRUPTED = 130

Run = subprocess.CompletedProcess[str]


def pyinfra(inventory: str, *options: str, stdout: int | None = None) -> Run:
    """One run of deploy.py; its messages go to stderr as they come."""
    argv = [str(PYINFRA), *options, inventory, "deploy.py"]
    return subprocess.run(argv, stdout=stdout, text=True, check=False)


def proven(inventory: str, run: Callable[[], int]) -> int:
    """Do `run` if the inventory and its vaults are sound; 1 and lines on stderr if they are not.

    Where it fails, each host that cannot be worked on gets one more line: what to mend.
    """
    try:
        hosts = prove(Path(inventory))
        for entry, site in hosts:
            prove_vault(entry, site)
    except (SiteError, VaultError, MissingSecretError) as error:
        print(error, file=sys.stderr)
        return 1
    try:
        code = run()
        if code == 1:
            explain([entry for entry, _ in hosts])
    except KeyboardInterrupt:
        print("\ninterrupted; run it again: what is done stays done", file=sys.stderr)
        return INTERRUPTED
    return code


def explain(entries: list[Entry]) -> None:
    """One line for each host that cannot be worked on; a silent one takes some seconds."""
    with ThreadPoolExecutor() as pool:
        for reason in filter(None, pool.map(trouble, entries)):
            print(f"\n{reason}", file=sys.stderr)
