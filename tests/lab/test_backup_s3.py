"""An S3 server as the second repository: everything comes back from it, also after an outage."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab.deployment import Deployment
from tests.lab.lab import Lab
from tests.lab.network import LAN, ROUTER
from tests.lab.objects import ID, KEY, Objects

pytestmark = pytest.mark.lab

PROGRAM = "/usr/local/lib/nexus/backup"
UNIT = "nexus-backup@run.service"
LIBRARY = "/opt/nexus/data/jellyfin/library"
SECRET = "s3-lab-s3Cr3t-key"
STATE = f"cd {LIBRARY} && find . -path './log' -prune -o -name 'double.json*' -prune -o -type f "
STATE += "-exec sha256sum {} + | sort"


@pytest.fixture(scope="module")
def store(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Objects]:
    """The machine elsewhere."""
    store = Objects(tmp_path_factory.mktemp("objects"), lab.cache / "wheels", "nexuslab", SECRET)
    store.start()
    yield store
    store.stop()


@pytest.fixture(scope="module")
def server(deployed: Deployment, store: Objects) -> Iterator[Deployment]:
    """The deployed host with that repository, and something new to back up."""
    deployed.keep({ID: store.user, KEY: store.password})
    before = deployed.site.get("backup")
    deployed.site["backup"] = {"offsite": store.site(), "least_free": "64m"}
    deployed.apply()
    deployed.host.run(f"head -c 20M /dev/urandom > {LIBRARY}/film")
    yield deployed
    deployed.host.run(f"rm -rf {LIBRARY}/film {LIBRARY}.before-*")
    deployed.site.pop("backup")
    if before is not None:
        deployed.site["backup"] = before
    deployed.apply()


def back_up(server: Deployment) -> str:
    """One run as its timer starts it: its result and its errors."""
    began = time.time()
    done = server.host.run(["systemctl", "start", UNIT], check=False, timeout=600)
    said = (
        "journalctl --sync; "
        f"journalctl --quiet --no-pager -o cat --since=@{began:.3f} -u {UNIT} -p err _COMM=backup"
    )
    return f"{done.returncode} {server.host.run(said).stdout}"


def test_everything_comes_back_from_an_s3_server(server: Deployment, store: Objects) -> None:
    assert back_up(server) == "0 "
    stored = store.stored()
    assert len(stored) > 10
    content = b"".join(each.read_bytes() for each in stored)
    assert b"SQLite format 3" not in content and SECRET.encode() not in content
    argv = [PROGRAM, "drill", "--repository", "offsite"]
    done = server.host.run(argv, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    before = server.host.run(STATE).stdout
    server.host.run(f"rm -rf {LIBRARY} && docker restart nexus-jellyfin-1", check=False)
    argv = [PROGRAM, "restore", "jellyfin", "--repository", "offsite"]
    said = server.host.run(argv, timeout=600).stdout
    assert server.host.run(STATE).stdout == before and "film" in before, said
    print(f"\n{done.stdout.splitlines()[-1]}")


def test_no_network_in_the_middle_of_a_copy(server: Deployment, store: Objects) -> None:
    """For a while, which restic sits out; then the keys are taken away, which nothing mends."""
    host, router = server.host, LAN.address(ROUTER)
    server.site["backup"]["offsite"] = store.site(upload_limit=4000)
    server.apply()
    begin = (
        f"head -c 30M /dev/urandom > {LIBRARY}/film; systemctl start --no-block {UNIT}; "
        "until pgrep -af 'restic.* copy'; do sleep 0.1; done; sleep 3"
    )
    ended = f"while systemctl is-active {UNIT} | grep -q activating; do sleep 0.2; done"
    result = f"systemctl show -P Result {UNIT}"
    host.run(
        f"{begin}; pgrep -af 'restic.* copy' && ip route add blackhole {router} && sleep 15; "
        f"ip route del blackhole {router}",
        timeout=300,
    )
    assert host.run(f"{ended}; {result}", timeout=600).stdout == "success\n"
    host.run(begin, timeout=300)
    store.stop()
    changed = Objects(store.folder, store.cache, store.user, "another", store.port)
    changed.start()
    said = host.run(f"{ended}; {result}", timeout=900).stdout
    changed.stop()
    store.start()
    asked = f"journalctl --quiet -o cat -u {UNIT} -p err _COMM=backup -n 1"
    errors = host.run(f"journalctl --sync; {asked}").stdout
    assert said == "exit-code\n"
    assert errors.startswith("offsite: ") and "the local backup does not depend on it" in errors
    assert back_up(server) == "0 "
    before = host.run(STATE).stdout
    host.run([PROGRAM, "restore", "jellyfin", "--repository", "offsite"], timeout=600)
    assert host.run(STATE).stdout == before
