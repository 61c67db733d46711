"""A bit flips below the file system, a pool loses a disk: it is found, and the operator is told."""

from __future__ import annotations

import time

import pytest

from tests.lab.deployment import Deployment
from tests.lab.failures import CHECKSUMS, FLIP, LATER, SCRUB

pytestmark = pytest.mark.lab

POOL = "/usr/local/sbin/zpool"
FILM = "/srv/media/movies/Metropolis é/film.mkv"


def night(deployed: Deployment) -> str:
    """One run as its timer starts it: its status and its errors, a month after the last one."""
    host, began = deployed.host, time.time()
    host.run(f"! test -e {CHECKSUMS} || python3 -c '{LATER}' {CHECKSUMS}")
    done = host.run(["systemctl", "start", SCRUB], check=False, timeout=300)
    said = (
        "journalctl --sync; "
        f"journalctl --quiet --no-pager -o cat --since=@{began:.3f} -u {SCRUB} -p err _COMM=scrub"
    )
    return f"{done.returncode} {host.run(said).stdout}"


def until_told(deployed: Deployment, unit: str, since: float) -> None:
    """Another unit says so, a moment after this one has ended."""
    told = f"journalctl --quiet -t nexus -p err --since=@{since:.3f}"
    deployed.host.run(f"until {told} | grep -q '{unit} failed'; do sleep 0.2; done", timeout=20)


def test_a_flipped_bit_reaches_the_operator(deployed: Deployment) -> None:
    host, began = deployed.host, time.time()
    # Nobody but its owner may read it, and still it is read.
    host.run(f"mkdir -p '{FILM[:-9]}' && head -c 5M /dev/urandom > '{FILM}' && chmod 600 '{FILM}'")
    try:
        assert night(deployed) == "0 "
        looked = host.run(["stat", "-c", "%x %y %z", FILM]).stdout
        assert night(deployed) == "0 "
        assert host.run(["stat", "-c", "%x %y %z", FILM]).stdout == looked
        host.run(["python3", "-c", FLIP, FILM])
        said = night(deployed)
        assert said.startswith(f"1 {FILM} has changed by itself"), said
        until_told(deployed, SCRUB, began)
        table = host.run(["/usr/local/lib/nexus/backup", "list"], check=False).stdout
        assert table.splitlines()[-1].endswith(f"DAMAGED: {FILM}")
        host.run(["python3", "-c", FLIP, FILM])
        assert night(deployed) == "0 "
        shown = "cat /var/lib/nexus/metrics/media.prom; stat -c %a:%U /var/lib/nexus/scrub"
        shown = host.run(shown).stdout
        assert "nexus_media_damaged 0\n" in shown and shown.endswith("700:root\n")
    finally:
        host.run(f"rm -r '{FILM[:-9]}'")
        host.run(["systemctl", "reset-failed", SCRUB], check=False)


def test_a_pool_that_lost_a_disk_reaches_the_operator(deployed: Deployment) -> None:
    """Asked each day from the unit's own confinement; without real disks, of a pool that we say."""
    host, began, unit = deployed.host, time.time(), "nexus-backup@storage.service"
    host.run(["systemctl", "start", unit])
    host.run(f"cat > {POOL} && chmod 755 {POOL}", stdin='#!/bin/sh\necho "tank\tDEGRADED"\n')
    try:
        done = host.run(["systemctl", "start", unit], check=False)
        asked = f"journalctl --quiet -o cat --since=@{began:.3f} -u {unit} -p err"
        said = host.run(f"journalctl --sync; {asked}").stdout
        assert done.returncode == 1 and "ZFS tank: DEGRADED\n" in said, said
        until_told(deployed, unit, began)
    finally:
        host.run(f"rm {POOL}; systemctl reset-failed {unit}", check=False)
    host.run(["systemctl", "start", unit])
