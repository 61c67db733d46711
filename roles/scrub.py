"""Media are in no backup, so what a disk does to them is found by reading them again.

Protects against silent corruption: bits that changed on the disk, which nothing else notices on a
file system without checksums of data (NIST SP 800-53 SI-7).
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.backup import SCRUB, UNITS, later
from roles.context import Context
from roles.core.model import Desired, Directory, Unit, paths
from roles.core.operations import Plan, converge
from roles.stack.monitoring import TEXTFILES

ROLE = "scrub"
STATE = "/var/lib/nexus/scrub"
TIMER = "nexus-scrub.timer"
# Between the night's backup and the drill.
HOURS_LATER = 2


def desired(context: Context) -> Desired:
    """The program and its timer; the checksums stay where no container is."""
    site = context.site
    places = {"state": STATE, "metrics": f"{TEXTFILES}/media.prom"}
    writable = f"{STATE} {TEXTFILES}"
    calendar = f"*-*-* {later(site.backup.time, HOURS_LATER)}"
    timer = context.file(ROLE, f"{UNITS}/{TIMER}", calendar=calendar)
    return Desired(
        ROLE,
        (
            Directory(STATE, "0700"),
            context.file(ROLE, SCRUB, "0700", folders=sorted(site.media.values()), **places),
            context.file(ROLE, f"{UNITS}/nexus-scrub.service", program=SCRUB, writable=writable),
            timer,
            Unit(TIMER, restart_on=paths((timer,))),
        ),
    )


@pyinfra_deploy("Scrub")
def deploy(plan: Plan) -> None:
    """After whatever it would disturb."""
    converge(name="checksums of the media", plan=plan, role=ROLE)
