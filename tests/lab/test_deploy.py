"""From a bare Debian 13 to the desired state, on a real host: systemd, sshd, UFW, Docker Engine."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.lab.deployment import Deployment, answers, changed_operations, program, transcript
from tests.lab.network import ATTACKER_NAMESPACE, NEIGHBOUR_NAMESPACE

pytestmark = pytest.mark.lab

COMMANDS_WITHOUT_CHANGE = 8
OUTSIDE = (NEIGHBOUR_NAMESPACE.name, ATTACKER_NAMESPACE.name)
# Sent by nobody, so never in the output by chance.
PUBLIC = {"tls_server_certificate", "tls_ca_certificate"}


def test_the_second_run_changes_nothing(deployed: Deployment) -> None:
    assert deployed.apply() == []


def test_a_run_without_change_spends_few_remote_commands(deployed: Deployment) -> None:
    done = deployed.run("-y", "--debug")
    assert done.returncode == 0
    spent = (done.stdout + done.stderr).count("Running command on")
    assert 0 < spent <= COMMANDS_WITHOUT_CHANGE


def test_the_engine_runs_on_its_own_settings(deployed: Deployment) -> None:
    """Its package starts it before they are there, and nothing has restarted it by hand yet."""
    said = deployed.host.run("docker info -f '{{.LiveRestoreEnabled}}'").stdout
    assert said.strip() == "true"


def test_every_container_is_up_and_healthy(deployed: Deployment) -> None:
    wanted = {f"nexus-{service.name}-1" for service in deployed.stack().services}
    assert deployed.healthy() == wanted


def test_the_database_runs_within_its_limits(deployed: Deployment) -> None:
    ask = "SELECT name || '=' || current_setting(name) FROM pg_settings WHERE source='command line'"
    psql = ["docker", "exec", "nexus-postgres-1", "psql", "-qAt", "-U", "authelia", "-c", ask]
    said = set(deployed.host.run(psql).stdout.split())
    assert {"shared_buffers=128MB", "effective_cache_size=384MB", "max_connections=50"} <= said


def test_no_secret_appears_anywhere_but_in_its_file(deployed: Deployment) -> None:
    deployed.host.run("rm /etc/ssh/sshd_config /etc/docker/daemon.json /opt/nexus/compose.yml")
    deployed.host.run("find /opt/nexus/secrets -type f -delete")
    seen = []
    for options in (("--dry", "--diff", "-vvv"), ("-y", "-vvv", "--diff", "--debug"), ("--json",)):
        done = deployed.run(*options, *(["-y"] if options == ("--json",) else []))
        assert done.returncode == 0, done.stderr
        seen.append(done.stdout + done.stderr)
    # What any account of the host could read of it, and what an administrator would look at.
    commands = (
        "journalctl --no-pager -o export",
        "docker inspect $(docker ps -aq)",
        "docker image inspect $(docker image ls -q)",
        # Some end meanwhile.
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; true",
        "cat /opt/nexus/compose.yml",
        "for c in $(docker ps -q); do docker logs $c; done 2>&1",
        "cat /var/log/*.log /var/log/apt/* 2>&1",
    )
    seen += [deployed.host.run(command).stdout for command in commands]
    values = {n: s.reveal() for n, s in deployed.secrets().items() if n not in PUBLIC}
    lines = {n: v for n, v in values.items() if "\n" not in v}
    lines |= {n: v.splitlines()[1] for n, v in values.items() if "\n" in v}
    for number, text in enumerate(seen):
        assert not [name for name, value in lines.items() if value in text], number
    assert deployed.apply() == []


@pytest.mark.parametrize("place", OUTSIDE)
def test_only_the_declared_ports_answer(deployed: Deployment, place: str) -> None:
    """A stray listener of the host and a stray published port are as closed as the rest."""
    host = deployed.host
    host.run("systemd-run --collect --unit=stray python3 -m http.server 9090")
    image = deployed.stack().images["traefik"]
    stray = ["docker", "run", "-d", "--name=stray", "-p=9091:9091", "--entrypoint=python3"]
    host.run([*stray, image, "-m", "http.server", "9091"])
    try:
        host.run("until ss -ltn | grep -q :9090; do sleep 0.1; done", timeout=20)
        for address in (host.address, host.address6):
            found = {port for port in (22, 80, 443, 9090, 9091) if answers(address, port, place)}
            allowed = {22, 80, 443} if place == OUTSIDE[0] else {80, 443}
            assert found == allowed, address
    finally:
        host.run("systemctl stop stray; docker rm -f stray")


@pytest.mark.parametrize("event", ["systemctl restart docker", "ufw reload"])
def test_ports_stay_closed_after(deployed: Deployment, event: str) -> None:
    deployed.host.run(event)
    for address in (deployed.host.address, deployed.host.address6):
        assert answers(address, 443)
        assert not answers(address, 22)
    assert deployed.apply() == []


def test_a_password_is_never_asked_for(deployed: Deployment) -> None:
    asked = "PreferredAuthentications=password,keyboard-interactive"
    *options, login = deployed.host.ssh_argv()
    done = subprocess.run(
        [*options, "-o", asked, login, "true"], capture_output=True, text=True, check=False
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
    before = deployed.host.run(
        "iptables-save -t filter | grep -v '^#'; cat /etc/ssh/sshd_config"
    ).stdout
    done = deployed.run("-y", site={"ssh": ssh})
    assert done.returncode == 1, transcript(done)
    assert reason in done.stdout + done.stderr
    assert deployed.host.ssh("echo in").stdout == "in\n"
    after = deployed.host.run(
        "iptables-save -t filter | grep -v '^#'; cat /etc/ssh/sshd_config"
    ).stdout
    assert _uncounted(after) == _uncounted(before)
    deployed.apply()
    assert deployed.apply() == []


def _uncounted(rules: str) -> list[str]:
    return [line.split(" [")[0] for line in rules.splitlines()]


def test_plan_says_nothing_drift_or_error(deployed: Deployment) -> None:
    deployed.argv()
    plan = [str(program("python")), "-m", "roles.command.plan", str(deployed.inventory)]
    done = deployed.execute(plan)
    assert (done.returncode, done.stdout.strip()) == (0, "nothing would change")
    deployed.host.run("echo '# stray' >> /etc/ssh/sshd_config; docker stop nexus-homepage-1")
    done = deployed.execute(plan)
    assert done.returncode == 2
    assert "-# stray" in done.stdout + done.stderr
    assert "homepage" in done.stdout + done.stderr
    assert deployed.execute([*plan[:-1], "/nowhere.py"]).returncode == 1
    assert len(deployed.apply()) == 2


def test_pyinfra_s_own_options_choose_hosts_and_data(deployed: Deployment) -> None:
    """A second host that is not there does no harm to a run that is limited to the first."""
    argv = deployed.argv("-y", "--json", "--limit", deployed.host.address)
    absent = "hosts.append(('10.77.0.199', hosts[0][1]))\n"
    deployed.inventory.write_text(deployed.inventory.read_text() + absent)
    done = deployed.execute(argv)
    assert done.returncode == 0, transcript(done)
    assert changed_operations(done.stdout) == []
    vault = deployed.vault.rename(deployed.vault.with_name("elsewhere.json"))
    try:
        missing = deployed.run("-y")
        assert missing.returncode == 1
        assert "is missing" in missing.stdout + missing.stderr
        assert deployed.run("-y", "--data", f"vault={vault}").returncode == 0
    finally:
        vault.rename(deployed.vault)


def test_nothing_changes_after_a_reboot(deployed: Deployment) -> None:
    deployed.host.reboot()
    assert deployed.apply() == []
    wanted = {f"nexus-{service.name}-1" for service in deployed.stack().services}
    deadline = time.monotonic() + 60
    while deployed.healthy() != wanted:
        assert time.monotonic() < deadline, deployed.host.run("docker ps -a").stdout
        time.sleep(0.5)
