"""What the care around restic costs: a backup and a drill beside restic alone on the same data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from roles.backup import PLAN, STATE
from tests.lab.bench.figures import Row, interleaved
from tests.lab.host import Host

PLACE = "/var/tmp/bench"
OWN = f"RESTIC_PASSWORD_FILE={PLACE}/password restic -q -r {PLACE}/bare"
RUN, DRILL = "a backup with nothing new", "a drill of everything"
BARE_RUN, BARE_DRILL = "restic backup, each service", "restic restore, each service"
# A backup also stops and starts services, reads ahead and forgets; a drill starts them all apart,
# one after another, and asks them.
RUN_LIMIT, DRILL_LIMIT, STOPPED_LIMIT = 4.0, 8.0, 10.0
SECONDS = 900


def backup_rows(host: Host, rounds: int, say: Callable[[str], None]) -> list[Row]:
    """Each beside the bare program, in turns; then how long services stood still meanwhile."""
    plan = json.loads(host.run(["cat", PLAN]).stdout)
    host.run(["systemctl", "start", "nexus-backup@run"], timeout=SECONDS)
    host.run(f"mkdir -p {PLACE} && echo bench > {PLACE}/password && {OWN} init")
    backups, restores = bare_backups(plan), bare_restores(plan)
    host.run(backups, timeout=SECONDS)
    unit = "systemctl start nexus-backup@"
    commands = {RUN: f"{unit}run", BARE_RUN: backups, DRILL: f"{unit}drill", BARE_DRILL: restores}
    samples = interleaved(
        rounds, {name: timing(host, each) for name, each in commands.items()}, say
    )
    stood = json.loads(host.run(["cat", f"{STATE}/record.json"]).stdout)["stopped_seconds"]
    host.run(["rm", "-rf", PLACE])
    bare = {name: Row(name, samples[name]) for name in (BARE_RUN, BARE_DRILL)}
    return [
        bare[BARE_RUN],
        Row(f"{RUN}, to that", samples[RUN], against=bare[BARE_RUN].median, limit=RUN_LIMIT),
        bare[BARE_DRILL],
        Row(
            f"{DRILL}, to that", samples[DRILL], against=bare[BARE_DRILL].median, limit=DRILL_LIMIT
        ),
        Row("the longest that a service stood still", (max(stood.values()),), limit=STOPPED_LIMIT),
        Row(f"all {len(stood)} that did, one after another", (sum(stood.values()),)),
    ]


def bare_backups(plan: dict[str, Any]) -> str:
    """A shell line: the same files into a repository of its own, a snapshot for each service."""
    lines = []
    for service in plan["services"]:
        kept = [] if service["method"] == "postgres" else service["paths"]
        excluded = " ".join(f"--exclude={path}" for path in service["exclude"])
        paths = " ".join([*kept, f"{STATE}/staging/{service['name']}"])
        lines.append(f"{OWN} backup --tag {service['name']} {excluded} {paths}")
    return " && ".join(lines)


def bare_restores(plan: dict[str, Any]) -> str:
    """A shell line: the newest snapshot of each service out of the repository that we filled."""
    local = plan["repositories"]["local"]
    opened = f"RESTIC_REPOSITORY_FILE={local['address']} RESTIC_PASSWORD_FILE={local['password']}"
    restore = f"{opened} restic -q restore latest --target {PLACE}/out --tag"
    lines = [f"{restore} {service['name']}" for service in plan["services"]]
    return " && ".join((f"rm -rf {PLACE}/out", *lines))


def timing(host: Host, command: str) -> Callable[[], float]:
    """The action that runs this on the host and says how many seconds it took."""

    def action() -> float:
        start = time.perf_counter()
        host.run(command, timeout=SECONDS)
        return time.perf_counter() - start

    return action
