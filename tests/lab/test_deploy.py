"""From a bare Debian 13 to the desired state, on a real host: systemd, sshd, UFW, Docker Engine."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from roles.core.model import Desired, Directory, File, Link, Network, Package, Sysctl, Unit
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


def alterations(desired: list[Desired]) -> Iterator[tuple[str, str, list[str]]]:
    """Role, what is altered, and the command that does it: for every managed thing."""
    for role in desired:
        for resource in role.resources:
            yield from ((role.role, *each) for each in alterations_of(resource))


def alterations_of(resource: object) -> Iterator[tuple[str, list[str]]]:
    match resource:
        case File(path=path, mode=mode):
            yield f"content of {path}", ["sh", "-c", f"echo '# stray' >> '{path}'"]
            yield f"mode of {path}", ["chmod", "0666" if mode != "0666" else "0600", path]
            yield f"owner of {path}", ["chown", "nobody", path]
            yield f"no {path}", ["rm", path]
        case Directory(path=path):
            yield f"mode of {path}", ["chmod", "0777", path]
        case Link(path=path):
            yield f"target of {path}", ["ln", "-sfn", "/usr/share/zoneinfo/UTC", path]
        case Sysctl(key=key, value=value):
            other = "1" if value == "0" else "0"
            yield f"value of {key}", ["sysctl", "-q", "-w", f"{key}={other}"]
        case Package(name="unattended-upgrades"):
            yield "no unattended-upgrades", ["dpkg", "-r", "--force-depends", "unattended-upgrades"]
        case Unit(name=name, enabled=True, active=True) if name != "ssh.service":
            yield f"stopped {name}", ["systemctl", "stop", name]
            yield f"disabled {name}", ["systemctl", "disable", name]
            yield f"masked {name}", ["systemctl", "mask", "--now", name]
        case Network(name=name):
            yield f"no network {name}", ["docker", "network", "rm", name]


STRAY_RULES = [
    ["iptables", "-I", "INPUT", "-p", "tcp", "--dport", "9090", "-j", "ACCEPT"],
    ["ip6tables", "-I", "INPUT", "-j", "ACCEPT"],
    ["iptables", "-F", "DOCKER-USER"],
    ["iptables", "-I", "DOCKER-USER", "-j", "ACCEPT"],
    ["iptables", "-P", "INPUT", "ACCEPT"],
    ["ufw", "allow", "9090/tcp"],
]


def test_every_drift_comes_back_and_nothing_else_changes(deployed: Deployment) -> None:
    desired = deployed.desired()
    strays = [("firewall", " ".join(argv), argv) for argv in STRAY_RULES]
    assert deployed.changed() == []
    judged = [*alterations(desired), *strays]
    failures = []
    for role, what, argv in judged:
        deployed.host.run(*argv)
        changed = deployed.changed()
        if [roles_operation(role) in name for name in changed] != [True]:
            failures.append(f"{role}: {what}: changed {changed}")
    assert len(judged) > 60
    assert not failures, "\n".join(failures)
    assert deployed.changed() == []


def roles_operation(role: str) -> str:
    return {"ssh": "SSH |"}.get(role, f"{role.capitalize()} |")


@pytest.mark.parametrize("cut", ["client", "power"])
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
