"""What a deploy would change, as a readable diff: exit 0 nothing, 2 drift, 1 error."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from roles.command.run import proven, pyinfra


def main(inventory: str) -> int:
    """Ask pyinfra for its plan; the diff goes to stderr as it comes."""
    return proven(inventory, lambda: _plan(inventory))


def _plan(inventory: str) -> int:
    done = pyinfra(inventory, "--dry", "--diff", "--json", stdout=subprocess.PIPE)
    if done.returncode != 0 or not done.stdout.strip():
        return 1
    changed = changes(json.loads(done.stdout))
    print("\n".join(changed) if changed else "nothing would change")
    return 2 if changed else 0


def changes(plan: dict[str, object]) -> list[str]:
    """The operations of a JSON plan that would change some host."""
    operations: Any = plan["plan"]
    return [
        f"would change: {operation['name']} on {', '.join(operation['hosts_with_change'])}"
        for operation in operations
        if operation["hosts_with_change"]
    ]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
