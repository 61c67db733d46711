"""Known vulnerabilities of the images that run: looked for every week, by Trivy.

https://trivy.dev/docs/latest/guide/target/container_image/
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.backup import UNITS, later
from roles.context import Context
from roles.core.model import Absent, Desired, Directory, Group, Resource, Unit, User, paths
from roles.core.operations import Plan, converge
from roles.stack.monitoring import TEXTFILES
from roles.stack.service import FIRST_UID

ROLE = "scan"
PROGRAM = "/usr/local/lib/nexus/scan"
STATE = "/var/lib/nexus/scan"
SERVICE, TIMER = "nexus-scan.service", "nexus-scan.timer"
METRICS = f"{TEXTFILES}/scan.prom"
IMAGE = "trivy"
ACCOUNT, UID = "nexus-scan", FIRST_UID + 59
# The night's backup and the reading of the media are over.
HOURS_LATER = 5


def desired(context: Context) -> Desired:
    """The program, its timer and the scanner's account; switched off, they rest."""
    scan, uid = context.site.scan, str(UID)
    timer = context.file(
        ROLE, f"{UNITS}/{TIMER}", time=later(context.site.backup.time, HOURS_LATER)
    )
    resources: tuple[Resource, ...] = (
        *(Group(ACCOUNT, UID), User(ACCOUNT, UID, ACCOUNT)),
        *(Directory(STATE, "0700"), Directory(f"{STATE}/cache", "0700", uid, uid)),
        context.file(
            ROLE,
            PROGRAM,
            "0700",
            image=context.stack.images[IMAGE],
            database=list(scan.database),
            accepted=sorted(scan.accepted),
            uid=UID,
            state=STATE,
            metrics=METRICS,
        ),
        context.file(ROLE, f"{UNITS}/{SERVICE}", program=PROGRAM, writable=f"{STATE} {TEXTFILES}"),
        timer,
        # What nobody renews any more would be told as too old.
        *(() if scan.enabled else (Absent(METRICS),)),
        Unit(TIMER, scan.enabled, scan.enabled, restart_on=paths((timer,))),
    )
    return Desired(ROLE, resources)


@pyinfra_deploy("Scan")
def deploy(plan: Plan) -> None:
    """Last: what it looks at runs by then."""
    converge(name="known vulnerabilities of the images", plan=plan, role=ROLE)
