"""The second factor of an account at the portal: a new secret, shown once, for a phone's app.

Authelia makes the secret inside its container and keeps it encrypted in its database. It travels
over SSH and is shown as a QR code; it is in no file, no log and no argument of a process. Through
the portal itself a first device would need a code by e-mail, and no mail is sent from here.
"""

from __future__ import annotations

import argparse
import io
import re
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segno
from pyinfra.api.command import StringCommand
from pyinfra.api.config import Config
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

from roles.authelia import ROLE
from roles.command.inventory import site_in
from roles.site.schema import Site, SiteError
from roles.stack import catalogue
from roles.stack.credentials import login
from roles.stack.stack import PROJECT

URI = re.compile(r"otpauth://totp/[^\s']+")
SUDO = ("_sudo", "_sudo_password")


class TotpError(Exception):
    """No second factor was made; the text says why and what to do."""


@dataclass(frozen=True)
class Answer:
    """How a command on the host ended. `output` may hold the secret, `errors` never does."""

    succeeded: bool
    output: str
    errors: str


Run = Callable[[Path, str | None, Sequence[str]], Answer]


def main(arguments: list[str] | None = None, run: Run | None = None) -> int:
    """Make the secret and show it; 0 done, 1 refused with one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        site = site_in(options.inventory)
        if not options.uri and not sys.stdout.isatty():
            raise TotpError("the QR code needs a terminal; or give --uri and keep what comes out")
        user = _known(site, options.user or site.admin)
        uri = _generate(user, options, run or on_host)
    except (SiteError, TotpError) as error:
        print(error, file=sys.stderr)
        return 1
    if options.uri:
        print(uri)
    else:
        _show(uri, site, user)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="totp", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inventory", type=Path, default=Path("inventories/home.py"))
    parser.add_argument("--host", help="where the inventory has several")
    parser.add_argument("--user", help="one of site.people (without it, site.admin)")
    parser.add_argument(
        "--replace", action="store_true", help="the registered device stops working"
    )
    parser.add_argument("--uri", action="store_true", help="only the otpauth address, no QR code")
    return parser


def _known(site: Site, user: str) -> str:
    """Whom the portal lets in; Authelia would make a second factor for nobody as well."""
    names = (site.admin, *sorted(site.people))
    if user not in names:
        raise TotpError(f"--user: {user} is not one of {', '.join(names)}; see site.people")
    return user


def _generate(user: str, options: argparse.Namespace, run: Run) -> str:
    """The otpauth address of a fresh secret.

    Raises:
        TotpError: the host or the container cannot be asked, or there is a device already.
    """
    command = ["docker", "exec", f"{PROJECT}-{ROLE}-1", "authelia", "storage", "user", "totp"]
    command += ["generate", user, *(["--force"] if options.replace else [])]
    answer = run(options.inventory, options.host, command)
    if answer.succeeded:
        if found := URI.search(answer.output):
            return found[0]
        raise TotpError("Authelia told no address; was its image replaced by another program?")
    if "already has a TOTP configuration" in answer.errors:
        raise TotpError(f"{user} has a device already; --replace registers a new one in its place")
    if "No such container" in answer.errors or "is not running" in answer.errors:
        raise TotpError("Authelia does not run on the host; run: make apply")
    reason = next(iter(answer.errors.strip().splitlines()), "no reason was given")
    raise TotpError(f"Authelia made no second factor: {reason}")


def on_host(inventory: Path, name: str | None, command: Sequence[str]) -> Answer:
    """Run a command on the inventory's host, as the deploy reaches it.

    Raises:
        TotpError: the inventory does not say which host, or the host cannot be reached.
    """
    host_name, data = _chosen(runpy.run_path(str(inventory)).get("hosts"), name)
    inventory_class: Any = Inventory
    config_class: Any = Config
    state = State(inventory_class(([(host_name, dict(data))], {})), config_class())
    host = state.inventory.get_host(host_name)
    try:
        host.connect(show_errors=False, raise_exceptions=True)
        sudo: Any = {key: data[key] for key in SUDO if key in data}
        succeeded, output = host.run_shell_command(StringCommand(*command), **sudo)
        host.disconnect()
    except PyinfraError as error:
        raise TotpError(f"{host_name} cannot be reached: {error}") from error
    return Answer(succeeded, output.stdout, output.stderr)


def _chosen(hosts: Any, name: str | None) -> tuple[str, Mapping[str, Any]]:
    found = {str(host): data for host, data in hosts or []}
    if name is None and len(found) == 1:
        return next(iter(found.items()))
    if name not in found:
        known = ", ".join(found) or "none"
        raise TotpError(f"--host: {name or 'nothing'} is not one of the inventory's hosts: {known}")
    return str(name), found[str(name)]


def _show(uri: str, site: Site, user: str) -> None:
    route = next(service.route for service in catalogue.CATALOGUE if service.name == ROLE)
    assert route is not None
    entry = "authelia_admin_password" if user == site.admin else login(user)
    code = io.StringIO()
    segno.make(uri, error="m", micro=False).terminal(code, compact=True)
    for line in code.getvalue().splitlines():
        # White on black whatever the terminal's colours: not every app reads an inverted code.
        print(f"\x1b[97;40m{line}\x1b[0m")
    print(
        f"{uri}\n\n"
        "Scan it with an authenticator app now: it is not shown again. Then log in as "
        f"{user} at\nhttps://{route.host}.{site.domain}, with the password of: "
        f"make vault ARGS='show {entry}'"
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
