"""What pyinfra runs before it connects: the inventory is proven while no host is touched."""

from pathlib import Path

import click
from pyinfra.api.exceptions import PyinfraError

from roles.command.inventory import prove
from roles.site.schema import SiteError


def prove_inventory() -> None:
    """Refuse a broken inventory, unless the command line replaces a part of it.

    Raises:
        PyinfraError: one line a problem.
    """
    options = click.get_current_context().params
    named, deploys = str(options["inventory"]), Path(__file__).with_name("deploy.py")
    # A host's name or a connector is no file; `roles/plan.py` proves the site of those.
    if not named.endswith(".py") or options["data"]:
        return
    if deploys.resolve() not in (Path(each).resolve() for each in options["operations"]):
        return
    try:
        prove(Path(named))
    except SiteError as error:
        raise PyinfraError(f"refused before anything was connected to\n{error}") from error


prove_inventory()
