"""Prove a deployed host: exit 0 all holds, 1 something does not, 2 not all could be tried."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

# First of what is not the standard library: it replaces sockets, which others then import.
import pyinfra_cli  # noqa: F401

from roles.command.inventory import prove, prove_vault
from roles.command.run import explain
from roles.core.secret import MissingSecretError
from roles.core.vault import VaultError
from roles.plan import kept_secrets
from roles.site.schema import SiteError
from roles.verify.report import Report
from roles.verify.suite import CHECKS, run_tests
from roles.verify.target import RefusedError, SecretsOf, Target, targets


def main(arguments: list[str] | None = None) -> int:
    """Read the hosts of an inventory once and run tests/host."""
    parser = argparse.ArgumentParser(prog="verify", description=__doc__)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("pytest", nargs=argparse.REMAINDER, help="options of pytest, e.g. -k ssh")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    found = read(options.inventory)
    if found is None:
        return 2
    report = Report(found, started)
    # What nobody has tried is not proven.
    return run_tests(report, [f"--ignore={CHECKS}", *options.pytest]) or 2 * bool(report.untried)


def read(inventory: Path, secrets_of: SecretsOf = kept_secrets) -> list[Target] | None:
    """Read the hosts of an inventory once. None: it could not be done, and why has been said."""
    proven = []
    try:
        proven = prove(inventory)
        for entry, site in proven:
            prove_vault(entry, site)
        print(f"reading {', '.join(entry.name for entry, _ in proven)} ...", flush=True)
        return targets(inventory, secrets_of)
    except (SiteError, VaultError, MissingSecretError) as error:
        print(error, file=sys.stderr)
    except RefusedError as error:
        print(error, file=sys.stderr)
        explain([entry for entry, _ in proven])
    return None


if __name__ == "__main__":
    sys.exit(main())
