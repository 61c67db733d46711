"""What a deploy would change, as a readable diff: exit 0 nothing, 2 drift, 1 error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from roles.command.inventory import site_in
from roles.site.schema import SiteError

PYINFRA = Path(sys.executable).with_name("pyinfra")


def main(inventory: str) -> int:
    """Ask pyinfra for its plan; the diff goes to stderr as it comes."""
    try:
        site_in(Path(inventory))
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    argv = [str(PYINFRA), "--dry", "--diff", "--json", inventory, "deploy.py"]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False)
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
