"""A unit that fails reaches the operator: through systemd, from an account that is not root."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.lab.deployment import Deployment
from tests.lab.network import LAN, ROUTER
from tests.lab.sinks import sinks

pytestmark = pytest.mark.lab

BROKEN = "nexus-lab-broken"


def test_a_unit_that_fails_is_told_of(deployed: Deployment, tmp_path: Path) -> None:
    host, before = deployed.host, dict(deployed.site)
    with sinks(tmp_path, LAN.address(ROUTER)) as s:
        deployed.keep(s.entries)
        deployed.site["notify"] = s.channels
        assert "Notify | channels for failures" in deployed.apply()
        told = f"--property=OnFailure=nexus-failed@{BROKEN}.service"
        host.run(["systemd-run", f"--unit={BROKEN}", told, "sh", "-c", "echo '<3>no disk'; exit 1"])
        deadline = time.monotonic() + 30
        while not (s.mails and s.posts) and time.monotonic() < deadline:
            time.sleep(0.1)
        said = host.run(
            f"journalctl --no-pager -u nexus-failed@{BROKEN} _COMM=notify -o export"
        ).stdout
        shown = host.run(f"systemctl show nexus-failed@{BROKEN}").stdout
        deployed.site.clear()
        deployed.site.update(before)
        deployed.apply()
    host.run(f"systemctl reset-failed {BROKEN}")
    assert f"Subject: lab: {BROKEN} failed" in s.mails[0] and "no disk" in s.mails[0], said
    assert s.posts[0]["path"] == "/h00k-s3Cr3t" and "no disk" in s.posts[0]["body"]["text"]
    assert "\n_UID=" in said and "\n_UID=0\n" not in said
    assert "s3Cr3t" not in said + shown
