"""The runbooks and what is said about scope, on the host: there when the laptop is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, File
from roles.core.operations import Plan, converge

ROLE = "handbook"
FOLDER = "/usr/local/share/doc/nexus"
DOCS = Path(__file__).parents[1] / "docs"
PARTS = ("runbooks", "scope", "decisions")


def desired(_: Context) -> Desired:
    """Every page, as it stands in the project."""
    folders = [Directory(FOLDER), *(Directory(f"{FOLDER}/{part}", purge=True) for part in PARTS)]
    return Desired(ROLE, (*folders, *_pages()))


def _pages() -> Iterator[File]:
    for part in PARTS:
        for page in sorted((DOCS / part).glob("*.md")):
            yield File(f"{FOLDER}/{part}/{page.name}", page.read_bytes())


@pyinfra_deploy("Handbook")
def deploy(plan: Plan) -> None:
    """Early: it must be there when a later step fails."""
    converge(name="runbooks and pages", plan=plan, role=ROLE)
