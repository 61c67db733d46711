"""The site of an inventory, read without connecting to anything."""

from __future__ import annotations

import runpy
from pathlib import Path

from roles.plan import site_of
from roles.site.schema import Site, SiteError


def site_in(inventory: Path) -> Site:
    """The validated site that an inventory declares.

    Raises:
        SiteError: no such file, no site in it, or a site that is refused.
    """
    if not inventory.is_file():
        raise SiteError([f"{inventory} is missing; make it with: make init"])
    return site_of(runpy.run_path(str(inventory)).get("site"))
