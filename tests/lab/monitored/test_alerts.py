"""Failures made for real: each is told, and told again when it is over; by mail as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from roles.prometheus.alerts import WATCHDOG
from tests.lab.deployment import Deployment
from tests.lab.failures import ROUNDS, SLOWEST, Key, stopped
from tests.lab.monitoring import ask
from tests.lab.network import LAN, ROUTER
from tests.lab.sinks import Sinks, sinks

pytestmark = pytest.mark.lab

# Seconds for all failures of a round together; the slowest is looked at for two minutes.
PATIENCE = 420
# Told for an hour after the last ban, which are six minutes here.
LASTING = {("LoginAttack", "authelia")}
# Over a while after it happened, whether anybody mends something or not.
PASSING = {
    *(("ContainerRestarting", "lidarr"), ("ContainerOutOfMemory", "prowlarr")),
    ("AlertsNotDelivered", ""),
    # Once it has expired there is another word for it.
    ("CertificateExpiring", ""),
}
# The lab's, not the rules': a namespace has clock, load and disk of the machine around it.
AROUND = {"ClockWrong", "LoadHigh", "DiskFilling"}


@dataclass
class Heard:
    """What has arrived at both sinks so far, and when it was first heard."""

    kept: Sinks
    begun: float = field(default_factory=time.monotonic)
    firing: dict[Key, float] = field(default_factory=dict)
    over: dict[Key, float] = field(default_factory=dict)
    read: int = 0

    def listen(self) -> None:
        now = time.monotonic() - self.begun
        posts, self.read = self.kept.posts[self.read :], len(self.kept.posts)
        for alert in (each for post in posts for each in post["body"].get("alerts", [])):
            known = self.firing if alert["status"] == "firing" else self.over
            labels = alert["labels"]
            for value in ("", *labels.values()):
                known.setdefault((labels["alertname"], value), now)

    def wait(self, known: Mapping[Key, float], wanted: set[Key]) -> set[Key]:
        """Those that were not heard of in time."""
        deadline = time.monotonic() + PATIENCE
        while (missing := wanted - known.keys()) and time.monotonic() < deadline:
            time.sleep(0.5)
            self.listen()
        return missing


@pytest.fixture(scope="module")
def told(monitored: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sinks]:
    """Both places where alerts arrive, on a machine of the LAN."""
    before = dict(monitored.site)
    with sinks(Path(tmp_path_factory.mktemp("sinks")), LAN.address(ROUTER)) as kept:
        monitored.keep(kept.entries)
        monitored.site["notify"] = kept.channels
        SLOWEST.begin(monitored)
        monitored.apply()
        yield kept
        monitored.site.clear()
        monitored.site.update(before)
        monitored.apply()


def alerts(monitored: Deployment, state: str) -> set[str]:
    """The names of the alerts that Prometheus holds to be so."""
    found = ask(monitored, "prometheus", 9090, "/api/v1/alerts")["data"]["alerts"]
    return {each["labels"]["alertname"] for each in found if each["state"] == state}


def eventually(found: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while not found() and time.monotonic() < deadline:
        time.sleep(1)
    return found()


def test_a_healthy_host_tells_of_nothing(monitored: Deployment, told: Sinks) -> None:
    eventually(lambda: alerts(monitored, "firing") - AROUND == {WATCHDOG})
    assert alerts(monitored, "firing") - AROUND == {WATCHDOG}


@pytest.mark.parametrize("which", ROUNDS)
def test_each_failure_is_told_and_told_again_when_it_is_over(
    monitored: Deployment, told: Sinks, which: str
) -> None:
    failures, heard = ROUNDS[which], Heard(told, read=len(told.posts))
    monitored.host.run("apt-get install -qq -y --no-install-recommends e2fsprogs > /dev/null")
    wanted = {key for failure in failures for key in failure.told}
    began: dict[Key, float] = {}
    try:
        for failure in failures:
            began |= dict.fromkeys(failure.told, time.monotonic() - heard.begun)
            failure.begin(monitored)
            heard.listen()
        missing = heard.wait(heard.firing, wanted)
        mails = "\n".join(told.mails)
    finally:
        mended = time.monotonic() - heard.begun
        heard.over = {key: at for key, at in heard.over.items() if key in PASSING}
        for failure in reversed(failures):
            failure.end(monitored)
    for key in sorted(wanted - missing, key=lambda key: heard.firing[key] - began[key]):
        print(f"{key[0]:34} {key[1]:20} told after {heard.firing[key] - began[key]:5.1f} s")
    assert not missing, f"nobody was told of {sorted(missing)}"
    stayed = heard.wait(heard.over, wanted - LASTING)
    for key in sorted(heard.over.keys() & wanted, key=lambda key: heard.over[key]):
        print(f"{key[0]:34} {key[1]:20} over after {heard.over[key] - mended:5.1f} s")
    assert not stayed, f"nobody was told that it is over: {sorted(stayed)}"
    assert mails.count("Subject: Alert: lab: ") >= 5 and "runbooks/" in mails
    assert "s3Cr3t" not in mails
    assert any("Subject: Over: lab: " in each for each in told.mails)


def test_a_channel_that_takes_nothing_is_told_by_the_other(
    monitored: Deployment, told: Sinks
) -> None:
    failure, before = stopped("homepage"), len(told.mails)
    told.status = 500
    failure.begin(monitored)
    try:
        found = eventually(
            lambda: (
                any("webhook" in each and "runbooks/" in each for each in told.mails[before:])
                and "NotificationsFailing" in alerts(monitored, "firing")
            )
        )
    finally:
        told.status = 200
        failure.end(monitored)
    assert found


def test_whoever_watches_is_watched(monitored: Deployment, told: Sinks) -> None:
    """Without figures Prometheus tells; without Prometheus the host does, by itself."""
    host, heard = monitored.host, Heard(told, read=len(told.posts))
    host.run(["systemctl", "stop", "nexus-measure"])
    try:
        assert not heard.wait(heard.firing, {("FiguresStale", "")})
    finally:
        host.run(["systemctl", "start", "nexus-measure"])
    before = len(told.mails)
    host.run("docker stop -t 1 nexus-prometheus-1; systemctl start nexus-watch", check=False)
    try:
        assert eventually(lambda: any("prometheus" in each for each in told.mails[before:]))
    finally:
        host.run("docker start nexus-prometheus-1")
    assert eventually(lambda: host.run("systemctl start nexus-watch", check=False).returncode == 0)


def test_no_collector_began_again(monitored: Deployment, told: Sinks) -> None:
    count = monitored.host.run(
        ["docker", "inspect", "--format", "{{.RestartCount}}", "nexus-otel-collector-1"]
    ).stdout
    assert int(count) == 0


def test_the_host_is_as_it_was(monitored: Deployment, told: Sinks) -> None:
    assert monitored.apply() == []
