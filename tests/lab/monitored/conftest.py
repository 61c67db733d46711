"""The host with the monitoring: the largest of all, so that no other test bears its load."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.lab import cgroup
from tests.lab.deployment import Deployment
from tests.lab.lab import Lab
from tests.lab.network import INTERNET, PREFIX, Namespace
from tests.lab.provider import Provider, new_key

# Of the monitoring's times: 30 seconds from one reading to the next are 3, and 10 minutes are 1.
PACE = 0.1
# Where the tunnel ends; other tests have places of their own.
VPN = Namespace(f"{PREFIX}-monitored-vpn", INTERNET, 59)


@pytest.fixture(scope="package")
def monitored(
    lab: Lab,
    images: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A host with the monitoring, whose times are shortened: what takes minutes takes seconds."""
    host = lab.start_host(lab.free_name("monitored"))
    # What it does is timed, by its own monitoring; two hosts that are busy beside it are not.
    cgroup.prefer(host.name)
    folder = Path(tmp_path_factory.mktemp("monitored"))
    deployment = Deployment(host, folder, images)
    deployment.site |= {"monitoring": {"pace": PACE}, "people": {"bob": "bob@example.org"}}
    private, public = new_key()
    with Provider(folder, public, VPN, "vpn2") as provider:
        deployment.keep({"wireguard_private_key": private})
        deployment.site["vpn"] = provider.vpn
        deployment.apply()
        yield deployment
    host.destroy()
