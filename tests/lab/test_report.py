"""The scorecard of real hosts: a bare one, and a deployed one with waivers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from roles.scorecard.card import Result, Scorecard, load
from roles.scorecard.catalogue import checks
from roles.verify.leaks import Searcher
from tests.lab.deployment import INVENTORY, MONITORING, Deployment
from tests.lab.lab import Lab

ENDED = "2026-01-31"
# The second backup, which this site has none of.
OPEN = "REC-05"


def report(
    deployment: Deployment,
    folder: Path,
    *options: str,
    waivers: Sequence[Mapping[str, str]] = (),
) -> subprocess.CompletedProcess[str]:
    host = deployment.login(deployment.host, {"waivers": list(waivers)})
    inventory = folder / "report.py"
    inventory.write_text(INVENTORY.format(site=host[1]["site"], hosts=[host]))
    argv = [sys.executable, "-m", "roles.command.report", str(inventory), "--out", str(folder)]
    return deployment.execute([*argv, *options])


def of(card: Scorecard, name: str) -> Result:
    return next(each for each in card.checks if each.id == name)


def test_a_bare_host_has_a_scorecard(lab: Lab, images: Mapping[str, str], tmp_path: Path) -> None:
    host = lab.start_host(lab.free_name("bare"))
    try:
        deployment = Deployment(host, tmp_path, images)
        vault = deployment.vault.read_bytes()
        done = report(deployment, tmp_path)
        assert done.returncode == 1, done.stdout + done.stderr
        assert deployment.vault.read_bytes() == vault
    finally:
        host.destroy()
    card = load(tmp_path / "scorecard.json")
    assert card.commands == 3
    assert [each.id for each in card.checks] == [each.id for each in checks()]
    assert card.overall.letter == "F"
    assert f"{host.address}: F, {card.overall.percent}" in done.stdout
    # Nothing is hidden by a proof that could not begin.
    assert card.overall.counts.get("not tried", 0) == 0


def test_a_deployed_host_has_a_good_scorecard(deployed: Deployment, tmp_path: Path) -> None:
    kept = next(each.id for each in checks() if each.role == "socket_proxy")
    reason, until = "accepted while this test runs", "9999-12-31"
    off = sorted(each.id for each in checks() if each.role in MONITORING)
    names = (OPEN, kept, *off)
    waivers = [{"check": name, "reason": reason, "until": until} for name in names]
    done = report(deployed, tmp_path, waivers=waivers)
    assert done.returncode == 0, done.stdout + done.stderr
    card = load(tmp_path / "scorecard.json")
    assert [each.id for each in card.blocking()] == []
    assert card.commands == 3
    assert of(card, OPEN).status == "waived"
    assert of(card, kept).status == "passed"
    assert f"the waiver of {kept} is not needed" in done.stdout
    assert all(each.seen for each in card.checks if each.status == "passed")
    searcher = Searcher(deployed.secrets())
    for name in ("scorecard.json", "scorecard.html", "junit.xml"):
        assert searcher.found_in((tmp_path / name).read_text()) == []


def test_a_waiver_that_ended_and_a_score_below_the_limit_fail(
    deployed: Deployment, tmp_path: Path
) -> None:
    waiver = {"check": OPEN, "reason": "accepted until it ended", "until": ENDED}
    done = report(deployed, tmp_path, "-k", "nothing_of_this_name")
    assert done.returncode == 2 and "no scorecard" in done.stderr
    few = "test_ssh"
    done = report(deployed, tmp_path, "-k", few, "--fail-under", "0", waivers=[waiver])
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"its waiver ended on {ENDED}" in done.stdout
    before = tmp_path / "scorecard.json"
    done = report(deployed, tmp_path, "-k", few, "--fail-under", "100", "--baseline", str(before))
    assert done.returncode == 1
    assert (tmp_path / "comparison.html").is_file()
    done = report(deployed, tmp_path, "--baseline", str(tmp_path / "absent.json"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "make report" in done.stderr


def test_a_broken_waiver_is_refused_before_anything_is_connected_to(
    deployed: Deployment, tmp_path: Path
) -> None:
    waiver = {"check": "SEC-999", "reason": "accepted for no reason", "until": "soon"}
    done = report(deployed, tmp_path, waivers=[waiver])
    assert done.returncode == 2
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == [
        *("site.waivers[0].check", "site.waivers[0].until")
    ]
    assert "reading" not in done.stdout
