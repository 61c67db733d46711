"""Build a site anew on a bare host, from this checkout, the vault and a repository of backups.

Deploys, puts the newest state of every service in its place, corrects what an older state says
otherwise than the inventory, proves the host, and says how long each took.
"""

from __future__ import annotations

import argparse
import ast
import datetime
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from roles.command import backup, init
from roles.command.inventory import prove
from roles.command.run import proven, pyinfra
from roles.core.vault import VaultError
from roles.site.connection import Entry
from roles.site.host_key import HostKeyError, place
from roles.site.init import Login
from roles.site.schema import Site, SiteError

FOLDER = Path(__file__).parents[2] / "build" / "restore"
INVENTORY = '''"""Made by `make restore`: {old}, on another machine."""

site = {site!r}
hosts = [({host!r}, {{"site": site, **{data!r}}})]
'''


def main(arguments: list[str] | None = None) -> int:
    """0 rebuilt and proven, 1 refused or failed, 130 interrupted."""
    options = _parser().parse_args(arguments)
    world = init.World(input if sys.stdin.isatty() else None)
    try:
        bare, deployed = _inventories(options, world)
    except (HostKeyError, SiteError, VaultError) as error:
        print(error, file=sys.stderr)
        return 1
    return proven(bare, lambda: _rebuild(bare, deployed, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="restore", description=__doc__)
    parser.add_argument("inventory", type=Path)
    parser.add_argument("host", help="the address of the new, bare host")
    parser.add_argument(
        "--ssh-port", type=int, default=22, help="where it listens now; a deploy moves it"
    )
    parser.add_argument("--repository", choices=("offsite", "local"), default="offsite")
    parser.add_argument("--at", help="the newest state up to this time, e.g. 2026-11-25T03:00")
    accept = parser.add_mutually_exclusive_group()
    accept.add_argument("--accept-host-key", metavar="SHA256:...", help="the one to accept")
    accept.add_argument("--trust-host-key", action="store_true", help="accept what it shows now")
    return parser


def _inventories(options: argparse.Namespace, world: init.World) -> tuple[str, str]:
    """The site's inventory for the new host, as it is and as a deploy leaves it.

    Its key, which the operator has accepted, stays the only one on both ports.
    """
    entry, site = _only_host(options.inventory)
    if options.repository == "offsite" and site.backup.offsite is None:
        raise SiteError(
            ["site.backup.offsite: is missing, so there is no second repository; give REPOSITORY"]
        )
    data = {key: value for key, value in entry.data.items() if key not in ("site", "ssh_hostname")}
    if not _reads_back([entry.data["site"], data]):
        raise SiteError(
            [f"{entry.place}: holds more than texts, numbers, lists and dictionaries; simplify it"]
        )
    found: list[str] = []
    for stage, port in (("bare", options.ssh_port), ("deployed", data.get("ssh_port", 22))):
        known_hosts = FOLDER / f"known_hosts_{stage}_{options.host}"
        user, key = str(data.get("ssh_user", "root")), data.get("ssh_key")
        if not found:
            login = Login(options.host, user, port, key, str(known_hosts))
            init.pin(known_hosts, login, options, world)
            words = known_hosts.read_text().split()
        known_hosts.write_text(f"{place(options.host, port)} {' '.join(words[1:])}\n")
        own = {**data, "ssh_known_hosts_file": str(known_hosts), "ssh_port": port}
        inventory = FOLDER / f"{site.name}_{stage}.py"
        text = INVENTORY.format(
            old=options.inventory, site=entry.data["site"], host=options.host, data=own
        )
        inventory.write_text(text)
        found.append(str(inventory))
    return found[0], found[1]


def _only_host(inventory: Path) -> tuple[Entry, Site]:
    """The site's one host. Its own key need not be at hand: it is the machine that is gone."""
    found = prove(inventory)
    if len(found) != 1:
        raise SiteError([f"{inventory}: has {len(found)} hosts; give one with a single host"])
    return found[0]


def _reads_back(value: object) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (SyntaxError, ValueError):
        return False


def _rebuild(bare: str, inventory: str, options: argparse.Namespace) -> int:
    """Nothing that the new host backs up meanwhile is mistaken for the state to bring back."""
    at = options.at or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    words = ("restore-all", f"--repository={options.repository}", f"--at={at}")
    verify = [sys.executable, "-m", "roles.command.verify", inventory]
    steps: dict[str, Callable[[], int]] = {
        "deploy": lambda: pyinfra(bare, "-y").returncode,
        "restore": lambda: backup.main(inventory, *words),
        "deploy again": lambda: pyinfra(inventory, "-y").returncode,
        "verify": lambda: subprocess.run(verify, check=False).returncode,
    }
    times: dict[str, float] = {}
    for name, step in steps.items():
        began = time.monotonic()
        code = step()
        times[name] = time.monotonic() - began
        if code != 0:
            print(f"\n{name}: failed; mend what it says and run the same again", file=sys.stderr)
            return 1
    _farewell(times, options.host, inventory)
    return 0


def _farewell(times: dict[str, float], host: str, inventory: str) -> None:
    print()
    for name, seconds in times.items():
        print(f"  {name:14}{seconds:8.1f} s")
    served = sum(seconds for name, seconds in times.items() if name != "verify")
    print(f"  RTO: {served:.1f} s from a bare host to services on their old state, which then")
    print(f"  were proven. Now let the domain point at {host}, write {host} and its known_hosts")
    print(f"  file (both are in {inventory}) into your inventory, and run: make plan")


if __name__ == "__main__":
    sys.exit(main())
