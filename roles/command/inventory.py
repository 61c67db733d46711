"""The inventory, read and proven without connecting to anything."""

from __future__ import annotations

import functools
import runpy
import traceback
from pathlib import Path
from typing import Any

from roles.core.secret import require_given
from roles.core.vault import Vault, load_key
from roles.plan import VAULTS, site_of
from roles.site import connection
from roles.site.connection import Entry
from roles.site.schema import Site, SiteError
from roles.stack.credentials import specs

# What a mistake in an inventory raises when it is run.
RUNNING = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError),
    *(OSError, SyntaxError, TypeError, ValueError),
)


def attributes_of(inventory: Path) -> dict[str, Any]:
    """What an inventory defines.

    Raises:
        SiteError: no such file, or it cannot be run.
    """
    if not inventory.is_file():
        raise SiteError([f"{inventory} is missing; make it with: make init"])
    try:
        return runpy.run_path(str(inventory))
    except RUNNING as error:
        raise SiteError(
            [f"{inventory}{_line(inventory, error)}: {_said(error)}; mend it"]
        ) from None


def site_in(inventory: Path) -> Site:
    """The validated site that an inventory declares.

    Raises:
        SiteError: no such file, no site in it, or a site that is refused.
    """
    return site_of(attributes_of(inventory).get("site"))


def prove(inventory: Path) -> list[tuple[Entry, Site]]:
    """Every host of an inventory with its site: what a run needs before it connects.

    Raises:
        SiteError: all problems of the inventory at once, one line each.
    """
    attributes = attributes_of(inventory)
    entries, problems = connection.entries_of(attributes)
    known = _known()
    proven: list[tuple[Entry, Site]] = []
    for entry in entries:
        if "site" not in entry.data:
            problems.append(connection.no_site(entry))
            continue
        problems += connection.problems_of(entry, known)
        try:
            proven.append((entry, site_of(entry.data.get("site"))))
        except SiteError as error:
            problems += error.problems
    problems += _two_of_a_name(proven)
    if problems:
        raise SiteError(list(dict.fromkeys(problems)))
    return proven


def prove_vault(entry: Entry, site: Site) -> None:
    """The vault of one host opens and holds what only the operator knows. Nothing is changed.

    Raises:
        VaultError: it cannot be opened.
        MissingSecretError: one line for each value that must be set.
    """
    path = Path(entry.data.get("vault") or VAULTS / f"{site.name}.vault.json")
    require_given(Vault.open(path, load_key(site.name)), specs(site))


@functools.cache
def _known() -> frozenset[str]:
    # Slow to import, and not needed to look after a vault.
    from pyinfra.api.arguments import all_global_arguments  # noqa: PLC0415
    from pyinfra.connectors.ssh import connector_data_meta  # noqa: PLC0415

    return frozenset(connector_data_meta) | {name for name, _ in all_global_arguments()}


def _two_of_a_name(proven: list[tuple[Entry, Site]]) -> list[str]:
    """Sites of one name share one vault, and would change its certificates in turns."""
    first: dict[str, tuple[Entry, Site]] = {}
    problems = []
    for entry, site in proven:
        other, taken = first.setdefault(site.name, (entry, site))
        if site != taken:
            problems.append(
                f"{entry.place}.site: differs from the one of {other.place}, and both are named "
                f"{site.name!r}; give one another name"
            )
    return problems


def _line(inventory: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f" line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(inventory)]
    return f" line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}".replace("\n", " ")
