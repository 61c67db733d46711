"""The ground: everything that is managed is as declared, updates, time, nothing failed."""

from __future__ import annotations

import pytest

from roles.core.model import Desired
from roles.core.state import diff
from roles.verify.report import expect
from roles.verify.target import COMMANDS, Target

# RFC 6238: a one-time password of the second factor holds for 30 s.
MOST_CLOCK_ERROR = 30.0


@pytest.mark.check("REC-11")
def test_nothing_has_drifted(target: Target, role: Desired) -> None:
    expect(f"role {role.role}", diff(role, target.observed).lines, [])


@pytest.mark.check("MON-16")
def test_no_unit_has_failed(target: Target) -> None:
    failed = [line.split()[0] for line in target.collected.raw["failed_units"]]
    expect("failed units", failed, [], "journalctl -u UNIT on the host says why")


@pytest.mark.check("MON-17")
def test_clock_is_right(target: Target) -> None:
    far = abs(target.clock_error) > MOST_CLOCK_ERROR
    error = f"{target.clock_error:+.0f} s from this machine's" if far else "right"
    expect("clock", error, "right", "compare timedatectl here and on the host")


@pytest.mark.check("SEC-37")
def test_security_updates_install_themselves(target: Target) -> None:
    apt = target.collected.apt()
    wanted = "1" if target.site.updates.automatic else "0"
    expect(
        "APT::Periodic::Unattended-Upgrade",
        apt.get("APT::Periodic::Unattended-Upgrade", []),
        [wanted],
    )
    origins = apt.get("Unattended-Upgrade::Origins-Pattern", []) + apt.get(
        "Unattended-Upgrade::Allowed-Origins", []
    )
    expect("update origins", [o for o in origins if o and "ecurity" not in o], [])
    expect("security origin", any("ecurity" in origin for origin in origins), True)


@pytest.mark.check("OPS-14")
def test_updates_have_a_time(target: Target) -> None:
    planned = {timer["unit"] for timer in target.collected.raw["timers"] if timer["next"]}
    wanted = {"apt-daily.timer", "apt-daily-upgrade.timer"}
    expect("timers with a next run", planned & wanted, wanted)


def test_proof_is_cheap(target: Target) -> None:
    expect("remote commands", target.commands, COMMANDS, "read it in the collector")
