"""The machine itself: its guards, its log, its kernel, its disks."""

from __future__ import annotations

import re

import pytest

from roles.core.state import diff
from roles.predecessor import REMAINS
from roles.scorecard.results import not_applicable
from roles.verify.report import expect, expect_that
from roles.verify.target import Target
from tests.host.checks.judging import running
from tests.host.checks.programs import ORGANISERS

# Whoever sits at the same wire must not redirect or route (CIS Debian Linux Benchmark 3.3).
KERNEL = {
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv6.conf.all.accept_source_route": "0",
}
LEAST_FREE = 0.1
OTHERS_WRITE = 0o002
# What a household needs to look back on, in days; systemd.time(7) for the units.
LONGEST_DAYS = 366
DAYS = {"d": 1, "day": 1, "days": 1, "week": 7, "weeks": 7, "month": 30.44, "months": 30.44}


def journald(target: Target) -> dict[str, str]:
    """journald's settings; the last of several counts."""
    lines = (line.strip() for line in target.collected.raw["journald"])
    return dict(line.partition("=")[::2] for line in lines if "=" in line and line[0] not in "#;")


@pytest.mark.check("SEC-30")
def test_guessers_are_banned(target: Target) -> None:
    jails = set(target.collected.raw["jails"])
    expect_that("sshd" in jails, "jails", jails, "sshd among them")
    expect_that(len(jails) >= 2, "jails", jails, "the web's logins as well")


@pytest.mark.check("SEC-34")
def test_security_events_are_kept(target: Target) -> None:
    expect("journald Storage", journald(target).get("Storage"), "persistent")


@pytest.mark.check("SEC-35")
def test_logins_are_logged_in_one_place(target: Target) -> None:
    names = ("traefik", "authelia", "jellyfin")
    doors = target.collected.playing(*names)
    running(target)
    expect_that(len(doors) == len(names), "doors with logins", [d.program for d in doors], "three")
    apart = [d.name for d in doors if d.settings["LogConfig"]["Type"] != "journald"]
    expect("doors whose log is not in the journal", apart, [])


@pytest.mark.check("COM-01")
def test_logs_are_not_kept_for_ever(target: Target) -> None:
    kept = journald(target).get("MaxRetentionSec", "")
    span = re.fullmatch(r"(\d+) ?([a-z]+)", kept)
    days = int(span[1]) * DAYS.get(span[2], 0) if span else 0
    bounded = 0 < days <= LONGEST_DAYS
    expect_that(bounded, "journald MaxRetentionSec", kept, f"{LONGEST_DAYS} days at most")


@pytest.mark.check("SEC-52")
def test_the_kernel_believes_no_neighbour(target: Target) -> None:
    expect("kernel", target.collected.raw["kernel"], KERNEL)


@pytest.mark.check("SEC-19")
def test_no_credential_stands_in_a_compose_file(target: Target) -> None:
    files = target.collected.raw["written"]
    expect_that(bool(files), "Compose files", sorted(files), "the file that the containers are of")
    found = [f"{path}: {', '.join(names)}" for path, names in files.items() if names]
    expect("credentials written into files", found, [])


@pytest.mark.check("INT-08")
def test_media_are_not_open_to_every_user(target: Target) -> None:
    organisers = [c for c in running(target) if c.program in ORGANISERS]
    expect_that(bool(organisers), "programs that file media", "nothing", "at least one")
    sources = {str(m["Source"]) for c in organisers for m in c.keeps}
    within = {path: seen for path, seen in target.collected.raw["places"].items() if path != "/"}
    found = [
        path
        for path, (mode, *_) in sorted(within.items())
        if mode & OTHERS_WRITE and {path, path.rpartition("/")[0]} & sources
    ]
    mend = "chmod o-w; folders that were there before a deploy stay as they are"
    expect("folders that every user can write to", found, [], mend)


@pytest.mark.check("OPS-09", "SCA-09")
def test_disks_have_room(target: Target) -> None:
    full = [
        f"{path} {100 * free // size} % free"
        for path, (_, _, size, free) in target.collected.raw["places"].items()
        if size and free < LEAST_FREE * size
    ]
    running(target)
    expect("full file systems", full, [])


@pytest.mark.check("OPS-19")
def test_the_engine_has_one_source(target: Target) -> None:
    running(target)
    role = next(role for role in target.roles if role.role == "docker-source")
    expect("packages of Docker", diff(role, target.observed).lines, [])


@pytest.mark.check("OPS-20")
def test_what_was_replaced_is_gone(target: Target) -> None:
    if not target.site.replaces:
        not_applicable("this site replaces no other stack (site.replaces)")
    running(target)
    role = next(role for role in target.roles if role.role == REMAINS)
    wanted = f"remains of {', '.join(target.site.replaces)}"
    expect(wanted, diff(role, target.observed).lines, [])


@pytest.mark.check("SEC-36")
def test_images_are_scanned(target: Target) -> None:
    words = ("trivy", "grype", "scan", "vulnerab")
    timers = target.collected.raw["timers"]
    found = [t["unit"] for t in timers if any(word in t["unit"] for word in words) and t["next"]]
    expect_that(bool(found), "timers of a scan", found, "one with a next run")
