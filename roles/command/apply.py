"""Bring the hosts of an inventory to their desired state: exit 0 done, 1 refused or failed."""

from __future__ import annotations

import sys

from roles.command.run import proven, pyinfra


def main(inventory: str) -> int:
    """Everything is shown as it happens."""
    return proven(inventory, lambda: pyinfra(inventory, "-y").returncode)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
