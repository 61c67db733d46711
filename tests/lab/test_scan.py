"""Trivy itself looks at the images that run, with a database of made-up vulnerabilities."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from roles.scan import METRICS, PROGRAM, SERVICE, STATE
from tests.lab.deployment import Deployment
from tests.lab.lab import Lab
from tests.lab.test_scrub import until_told
from tests.lab.trivy_db_double import Known, publish

pytestmark = pytest.mark.lab

ACCEPTED = "CVE-2099-0003"
# Of packages that every image of the lab has.
KNOWN = (
    Known("CVE-2099-0001", "openssl", "99.0-1", 4),
    Known("CVE-2099-0002", "glibc", "99.0-1", 3),
    Known(ACCEPTED, "openssl", "99.0-1", 4),
    Known("CVE-2099-0004", "openssl", "0.1-1", 4),
)
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
IMAGES = "docker ps -q | xargs docker inspect -f '{{.Image}}' | sort -u | wc -l"


@pytest.fixture(scope="module")
def scanned(lab: Lab, deployed: Deployment) -> Iterator[Deployment]:
    """The host, which trusts the lab's registry and has its database from there."""
    host = deployed.host
    host.run(f"cp -p {BUNDLE} /root/bundle; cat >> {BUNDLE}", stdin=lab.registry_ca.read_text())
    place = publish(lab.registry, lab.registry_ca, "13", KNOWN)
    accepted = {ACCEPTED: "nothing here parses such a file"}
    deployed.site["scan"] = {"database": [place], "accepted": accepted}
    deployed.apply()
    yield deployed
    del deployed.site["scan"]
    deployed.apply()
    host.run(f"mv /root/bundle {BUNDLE}; rm -f {METRICS} {STATE}/found.json")


def test_what_is_known_is_found_in_every_image_that_runs(scanned: Deployment) -> None:
    host = scanned.host
    before = host.run("docker ps -aq | sort").stdout
    host.run(["systemctl", "start", SERVICE], timeout=600)
    assert host.run("docker ps -aq | sort").stdout == before
    host.run(f"test ! -e {STATE}/image.tar")
    table = host.run([PROGRAM, "list"]).stdout
    rows = [line.split() for line in table.splitlines()[2:] if not line.startswith(" ")]
    assert len(rows) == int(host.run(IMAGES).stdout)
    assert all(int(critical) >= 1 and int(high) >= 1 for _, critical, high in rows), table
    assert "CVE-2099-0001: " in table and ACCEPTED not in table and "CVE-2099-0004" not in table
    figures = host.run(["cat", METRICS]).stdout
    assert figures.count('severity="critical"') == len(rows)
    assert abs(float(figures.split()[-1]) - time.time()) < 600
    assert scanned.apply() == []


def test_a_database_that_cannot_be_had_is_told_and_nothing_forgotten(scanned: Deployment) -> None:
    """After the scan above."""
    host, began, site = scanned.host, time.time(), dict(scanned.site["scan"])
    figures = host.run(["cat", METRICS]).stdout
    # The one that it has would do until tomorrow.
    host.run(f"rm -r {STATE}/cache/db")
    scanned.apply({"scan": {**site, "database": [f"{site['database'][0]}-of-nobody"]}})
    try:
        assert host.run(["systemctl", "start", SERVICE], check=False, timeout=600).returncode == 1
        until_told(scanned, SERVICE, began)
        said = host.run(f"journalctl -q -o cat -u {SERVICE} --since=@{began:.3f} -p err").stdout
        assert "the database could not be fetched: " in said
        assert host.run(["cat", METRICS]).stdout == figures
    finally:
        host.run(["systemctl", "reset-failed", SERVICE], check=False)
        scanned.apply()


def test_switched_off_nothing_of_it_is_at_work(scanned: Deployment) -> None:
    scanned.apply({"scan": {"enabled": False}})
    asked = "systemctl is-active nexus-scan.timer; systemctl is-enabled nexus-scan.timer"
    assert scanned.host.run(asked, check=False).stdout == "inactive\ndisabled\n"
    scanned.host.run(f"test ! -e {METRICS}")
    scanned.apply()
    assert scanned.host.run(asked).stdout == "active\nenabled\n"
