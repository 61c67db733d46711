"""The lab by hand: `python -m tests.lab up|down|list|shell|run`."""

from __future__ import annotations

import argparse
import sys

from tests.lab import remains
from tests.lab.command import LabError
from tests.lab.lab import Lab, Places, find_host
from tests.lab.lock import Lock


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, that of the command run in a host, or 1 with a message."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.action(arguments))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    actions = parser.add_subparsers(required=True)
    up = actions.add_parser("up", help="start the lab and hosts in it; they stay")
    up.add_argument("hosts", nargs="*", default=["h1"])
    up.add_argument("--base", default="bare", help="what the hosts start from")
    up.set_defaults(action=_up)
    actions.add_parser("down", help="remove the lab").set_defaults(action=_down)
    actions.add_parser("list", help="print the hosts").set_defaults(action=_list)
    shell = actions.add_parser("shell", help="a root shell in a host, without SSH")
    shell.add_argument("host")
    shell.set_defaults(action=lambda arguments: find_host(arguments.host).shell())
    command = actions.add_parser("run", help="a command as root in a host, without SSH")
    command.add_argument("host")
    command.add_argument("command", nargs=argparse.REMAINDER)
    command.set_defaults(action=_run)
    return parser


def _up(arguments: argparse.Namespace) -> int:
    with Lab("by-hand", persist=True) as lab:
        lab.start_hosts(arguments.hosts, arguments.base)
    return _list(arguments)


def _down(_arguments: argparse.Namespace) -> int:
    lock = Lock(wait=0)
    lock.take("down")
    try:
        remains.remove(Places.default().state)
    finally:
        lock.release()
    return 0


def _list(_arguments: argparse.Namespace) -> int:
    for directory in sorted(Places.default().hosts.glob("*")):
        host = find_host(directory.name)
        state = "running" if host.running else "stopped"
        print(host.name, host.address, host.address6, state, sep="\t")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    result = find_host(arguments.host).run(arguments.command, check=False, timeout=3600)
    sys.stdout.write(result.stdout)
    sys.stderr.write(result.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main())
