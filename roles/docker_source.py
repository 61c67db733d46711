"""Docker's own package repository, where the site takes the engine from it; else no trace of it.

Its key is good for this one repository (Signed-By, sources.list(5)); of its packages only the
engine's own can be installed (apt_preferences(5)), and apt refuses a repository that later gives
itself another Origin or Label (apt-secure(8)). https://docs.docker.com/engine/install/debian/
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles import docker
from roles.context import Context
from roles.core.model import Absent, Desired, Directory, File
from roles.core.operations import Plan, converge

ROLE = "docker-source"
BASE = "https://download.docker.com/linux"
KEYRING = "/etc/apt/keyrings/docker.asc"
SOURCES = "/etc/apt/sources.list.d/docker.sources"
PREFERENCES = "/etc/apt/preferences.d/docker"
# What get.docker.com and older instructions wrote: a second Signed-By would stop apt altogether.
OLD_SOURCES = "/etc/apt/sources.list.d/docker.list"


def desired(context: Context) -> Desired:
    """A role of its own: the lists must know the repository before the engine's role installs."""
    site = context.site.docker
    if site.source == "distribution":
        return Desired(ROLE, tuple(map(Absent, (OLD_SOURCES, SOURCES, PREFERENCES, KEYRING))))
    packages = (*docker.FROM_DOCKER, *docker.EXTRAS_FROM_DOCKER)
    return Desired(
        ROLE,
        (
            Absent(OLD_SOURCES),
            Directory("/etc/apt/keyrings"),
            context.file(ROLE, PREFERENCES, packages=packages),
            File(KEYRING, site.mirror_key.encode())
            if site.mirror_key
            else context.file(ROLE, KEYRING),
            context.file(ROLE, SOURCES, base=site.mirror or BASE, keyring=KEYRING),
        ),
    )


@pyinfra_deploy("Docker's repository")
def deploy(plan: Plan) -> None:
    """Before the engine, which comes from it or from the distribution."""
    converge(name="source, key and pin", plan=plan, role=ROLE)
