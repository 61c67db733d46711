"""The media folders and the group of whoever writes there, so that the files stay shareable.

A new folder belongs to the group and hands it on (setgid); the writers' umask leaves the group its
write bit, without which the kernel refuses a hard link to another's file (proc(5),
protected_hardlinks). Players read as anybody else, so they need no group.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, Group
from roles.core.operations import Plan, converge
from roles.site.schema import SiteError
from roles.stack.service import MEDIA_GID, MEDIA_GROUP

ROLE = "media"
WRITE_AND_SEARCH = 0o3


def desired(context: Context) -> Desired:
    """What is there already is the operator's own and left alone."""
    folders = sorted({*context.site.media.values(), context.site.downloads})
    return Desired(
        ROLE,
        (
            Group(MEDIA_GROUP, MEDIA_GID),
            *(Directory(path, "2775", "root", str(MEDIA_GID), keep=True) for path in folders),
        ),
    )


def refuse(context: Context, shelves: Collection[str]) -> None:
    """End the run before it changes anything where media could not be filed into a folder.

    Raises:
        SiteError: one line for each that was there, with what to do about it.
    """
    places = {path: name for name, path in context.site.media.items()}
    problems = [
        # By its number: before the first deploy the group has no name.
        f"site.media.{places[path]}: group {MEDIA_GID} ({MEDIA_GROUP}), which files media into "
        f"{path}, cannot write there; on the host: chgrp -R {MEDIA_GID} {shlex.quote(path)}; "
        f"chmod -R g+rwX {shlex.quote(path)}"
        for path in shelves
        if path in context.facts.folders and not _writable(*context.facts.folders[path])
    ]
    if problems:
        raise SiteError(problems)


def _writable(mode: int, group: int) -> bool:
    """Whether the group may make a file there, as the kernel decides (path_resolution(7))."""
    allowed = mode >> 3 if group == MEDIA_GID else mode
    return allowed & WRITE_AND_SEARCH == WRITE_AND_SEARCH


@pyinfra_deploy("Media")
def deploy(plan: Plan) -> None:
    """Before the containers, which cannot start without the folders."""
    converge(name="folders and group", plan=plan, role=ROLE)
