"""Backups as the host has them: planned, encrypted, elsewhere, young enough, tried."""

from __future__ import annotations

import time
from typing import Any

import pytest

from roles.scorecard.results import evidence
from roles.verify.report import expect, expect_that
from roles.verify.target import Target
from tests.host.checks.judging import running
from tests.host.checks.programs import STATEFUL

WORDS = ("backup", "restic", "borg", "snapshot")
# Debian's own copy of its list of packages.
NO_BACKUP = "dpkg-db-backup.timer"
# What reads media that no backup holds, whoever made it: ours, SnapRAID's, a file system's own.
READING = ("scrub", "snapraid", "bitrot")
# Debian's own reads what describes files, and no file (e2scrub(8)).
NO_READING = "e2scrub"
CHECKING = ("maintain", "check", "verify", "scrub")
DAY = 24 * 3600
# A night's run may take its time.
OLDEST = 26 * 3600
LONGEST_DRILL = 35 * DAY


def timers(target: Target, *words: str) -> list[str]:
    """The timers of backups that have a next run."""
    planned = [str(t["unit"]) for t in target.collected.raw["timers"] if t["next"]]
    planned = [unit for unit in planned if unit != NO_BACKUP]
    own = [unit for unit in planned if any(word in unit for word in WORDS)]
    return [unit for unit in own if not words or any(word in unit for word in words)]


def plan(target: Target) -> dict[str, Any]:
    """What the backup does here.

    Raises:
        Unproven: there is no plan.
    """
    found = dict(target.collected.raw["backups"])
    expect_that(bool(found), "backup plan", "", "one")
    return found


def newest(target: Target, what: str) -> float:
    """When something was last done, seconds since 1970; 0 for never."""
    times = target.collected.raw["backup_record"].get(what, {})
    return float(max(times.values(), default=0))


@pytest.mark.check("REC-04")
def test_backups_run_by_themselves(target: Target) -> None:
    found = timers(target)
    evidence(f"timers: {', '.join(found)}")
    expect_that(bool(found), "timers of backups", found, "one with a next run")


@pytest.mark.check("MON-21")
def test_a_failed_backup_is_reported(target: Target) -> None:
    """Whoever is told: that something would start at all is what a silent failure lacks."""
    raw = target.collected.raw
    listed = [t for t in raw["timers"] if t["unit"] != NO_BACKUP]
    units = {t["activates"] for t in listed if any(word in t["unit"] for word in WORDS)}
    expect_that(bool(units), "timers of backups", "nothing", "at least one")
    silent = [unit for unit in sorted(units) if not raw["reports"].get(unit)]
    evidence(f"{len(units)} services of backups looked at")
    expect("backups that fail without a word", silent, [])


@pytest.mark.check("REC-05")
def test_a_backup_is_elsewhere(target: Target) -> None:
    mend = "site.backup.offsite in the inventory; see the runbook on backups"
    repositories = plan(target)["repositories"]
    elsewhere = "offsite" in repositories
    expect_that(elsewhere, "repositories", sorted(repositories), "a second, elsewhere", mend)


@pytest.mark.check("REC-10")
def test_backups_are_encrypted(target: Target) -> None:
    tree = target.collected.raw["tree"]
    seen = {
        name: tree.get(r["password"], [0])[0] for name, r in plan(target)["repositories"].items()
    }
    expect("modes of the repositories' passwords", seen, dict.fromkeys(seen, 0o400))
    expect_that(bool(seen), "repositories", seen, "at least one")


@pytest.mark.check("REC-12")
def test_the_newest_backup_is_young(target: Target) -> None:
    age = time.time() - newest(target, "snapshot_timestamp_seconds")
    text = f"{age / 3600:.0f} hours old" if age < 10_000 * DAY else "none yet"
    expect_that(age < OLDEST, "the newest backup", text, "26 hours at most", "make backup")


@pytest.mark.check("REC-13")
def test_everything_with_data_is_backed_up(target: Target) -> None:
    containers = {service["container"] for service in plan(target)["services"]}
    # With a reason, which a policy asks for.
    containers |= plan(target).get("left_out", {}).keys()
    missing = [
        container.name
        for container in running(target)
        if container.program in STATEFUL and container.name not in containers
    ]
    expect("containers with data that no backup holds, nor leaves out for a reason", missing, [])


@pytest.mark.check("REC-06")
def test_restores_are_tried(target: Target) -> None:
    age = time.time() - newest(target, "drill_timestamp_seconds")
    text = f"{age / DAY:.0f} days ago" if age < 10_000 * DAY else "never"
    expect_that(age < LONGEST_DRILL, "the last drill", text, "35 days ago at most")


@pytest.mark.check("REC-08")
def test_recovery_time_is_measured(target: Target) -> None:
    seconds = target.collected.raw["backup_record"].get("drill_rto_seconds", {})
    expect_that(bool(seconds), "measured recovery time", seconds, "that of the last drill")


@pytest.mark.check("INT-04")
def test_several_states_are_kept(target: Target) -> None:
    keep = plan(target)["keep"]
    expect_that(sum(map(int, keep.values())) >= 2, "snapshots kept", keep, "two or more")


@pytest.mark.check("INT-06")
def test_backups_are_checked(target: Target) -> None:
    found = timers(target, *CHECKING)
    expect_that(bool(found), "timers that check backups", found, "one with a next run")


@pytest.mark.check("INT-09")
def test_media_are_read_again(target: Target) -> None:
    planned = [str(t["unit"]) for t in target.collected.raw["timers"] if t["next"]]
    own = [unit for unit in planned if NO_READING not in unit]
    found = [unit for unit in own if any(word in unit for word in READING)]
    mend = "make apply; on a file system with checksums of data: a timer for its scrub"
    expect_that(bool(found), "timers that read media again", found, "one with a next run", mend)
