"""A container's own program as the judge of its configuration, before that is put in place."""

from __future__ import annotations

from roles.context import Context
from roles.core.model import Check
from roles.stack.service import Service

CONFINED = (
    *("--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    # The staged file is root's alone.
    *("--user=0:0", "--memory=256m", "--pids-limit=100", "--log-driver=none"),
)
INSIDE = "/staged"


def accepted_by(context: Context, service: Service, path: str, *words: str) -> Check:
    """A service's image, asked whether it takes the file at `path`.

    `words` are its command; the last one has the file's place inside appended.
    """
    volume = f"--volume={{{path}}}:{INSIDE}:ro"
    image = context.stack.images[service.image]
    *command, last = words
    run = ("docker", "run", "--rm", *CONFINED, volume, image)
    return Check((*run, *command, f"{last}{INSIDE}"), (path,))
