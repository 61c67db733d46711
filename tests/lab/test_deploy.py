"""From a bare Debian 13 to the desired state, on a real host: systemd, sshd, UFW, Docker Engine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import pytest

from tests.lab.deployment import Deployment
from tests.lab.machine.host import NEIGHBOUR, answers

pytestmark = pytest.mark.lab

COMMANDS_WITHOUT_CHANGE = 8


def test_the_second_run_changes_nothing(deployed: Deployment) -> None:
    assert deployed.changed() == []


def test_a_run_without_change_spends_few_remote_commands(deployed: Deployment) -> None:
    done = deployed.run("-y", "--debug")
    assert done.returncode == 0
    spent = (done.stdout + done.stderr).count("Running command on")
    assert 0 < spent <= COMMANDS_WITHOUT_CHANGE


def test_no_secret_appears_at_any_verbosity(deployed: Deployment) -> None:
    deployed.host.run("rm", "/etc/ssh/sshd_config", "/etc/docker/daemon.json")
    public = {"tls_server_certificate", "tls_ca_certificate"}
    values = {n: s.reveal() for n, s in deployed.values().items() if n not in public}
    for options in (("--dry", "--diff", "-vvv"), ("-y", "-vvv", "--diff", "--debug")):
        done = deployed.run(*options)
        assert done.returncode == 0, done.stderr
        shown = done.stdout + done.stderr
        assert not [name for name, value in values.items() if value in shown]


def test_nothing_changes_after_a_reboot(deployed: Deployment) -> None:
    deployed.host.reboot()
    # Deferred units of the boot finish first: they are neither up nor down until then.
    deployed.host.run("systemctl", "is-system-running", "--wait", check=False)
    assert deployed.changed() == []


def test_only_allowed_ports_answer_a_neighbour(deployed: Deployment) -> None:
    leader = ["systemd-run", "--collect", "--unit=stray", "python3", "-m", "http.server", "9090"]
    deployed.host.run(*leader)
    try:
        deadline = time.monotonic() + 10
        while "9090" not in deployed.host.run("ss", "-ltn") and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answers(deployed.host.address, 22, namespace=NEIGHBOUR)
        assert not answers(deployed.host.address, 9090, namespace=NEIGHBOUR)
    finally:
        deployed.host.run("systemctl", "stop", "stray")


def test_a_password_is_never_asked_for(deployed: Deployment) -> None:
    done = subprocess.run(
        [
            "ssh",
            "-o",
            "PreferredAuthentications=password,keyboard-interactive",
            "-o",
            "BatchMode=yes",
            "-o",
            f"UserKnownHostsFile={deployed.host.known_hosts}",
            f"root@{deployed.host.address}",
            "true",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


@pytest.mark.parametrize(
    ("ssh", "reason"),
    [
        ({"allow_from": ["10.99.0.0/24"]}, "firewall"),
        ({"ports": [2222]}, "second connection failed"),
        ({"options": {"AllowUsers": "nobody"}}, "second connection failed"),
        ({"options": {"LoginGraceTime": "banana"}}, "sshd"),
    ],
    ids=["wrong network", "wrong port", "no user", "broken configuration"],
)
def test_a_site_that_would_lock_out_is_taken_back(
    deployed: Deployment, ssh: dict[str, object], reason: str
) -> None:
    done = deployed.run("-y", site={"ssh": ssh})
    assert done.returncode == 1, done.stdout + done.stderr
    assert reason in done.stdout + done.stderr
    assert answers(deployed.host.address, 22, 5)
    deployed.changed()
    assert deployed.changed() == []


@pytest.mark.parametrize("cut", ["client"])
def test_an_interrupted_run_is_finished_by_the_next(deployed: Deployment, cut: str) -> None:
    interrupt: Callable[[], None] = deployed.host.power_cut
    for tenth in range(10):
        for path in ("/etc/ssh/sshd_config", "/etc/docker/daemon.json", "/etc/ufw/after.rules"):
            deployed.host.run("sh", "-c", f"echo '# stray' >> {path}")
        run = subprocess.Popen(
            deployed.argv("-y"),
            env=deployed.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(0.8 + 0.3 * tenth)
        if cut == "power":
            interrupt()
            deployed.host.start()
        run.kill()
        run.wait()
        assert deployed.run("-y").returncode == 0
        assert deployed.changed() == []
