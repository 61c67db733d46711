"""A service that the operator adds runs as guarded and as confined as a built-in one."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.lab.deployment import DOMAIN, Deployment, answers
from tests.lab.test_browser import request

pytestmark = pytest.mark.lab


def test_an_own_service_is_guarded_confined_and_removed(
    deployed: Deployment, images: Mapping[str, str]
) -> None:
    wiki = {
        "number": 60,
        "image": images["homepage"],
        "port": 8000,
        "command": ["python3", "-m", "http.server", "8000", "--directory", "/data"],
        "health": ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8000/"],
        "data": {"pages": "/data"},
    }
    site = {"own": {"wiki": wiki}}
    assert deployed.apply(site)
    assert deployed.apply(site) == []
    assert "nexus-wiki-1" in deployed.healthy()
    status, _ = request(deployed, f"https://wiki.{DOMAIN}/", headers={"Accept": "text/html"})
    assert status == 302
    assert not answers(deployed.host.address, 8000)
    command = ["docker", "inspect", "nexus-wiki-1"]
    inspected = json.loads(deployed.host.run(command).stdout)[0]
    assert inspected["HostConfig"]["CapDrop"] == ["ALL"]
    assert inspected["HostConfig"]["ReadonlyRootfs"] is True
    status_file = deployed.host.run(f"cat /proc/{inspected['State']['Pid']}/status").stdout
    assert "CapEff:\t0000000000000000" in status_file
    assert "NoNewPrivs:\t1" in status_file
    assert "Uid:\t8860" in status_file
    assert deployed.apply()
    assert "nexus-wiki-1" not in deployed.host.run("docker ps -a").stdout
    assert deployed.apply() == []
