"""The lab itself: what every test on a lab host relies on."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import network
from tests.lab.command import CommandError, LabError
from tests.lab.host import Host
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab


@contextlib.contextmanager
def started(lab: Lab, name: str, base: str = "bare") -> Iterator[Host]:
    host = lab.start_host(name, base)
    try:
        yield host
    finally:
        host.destroy()


@pytest.fixture(scope="module")
def host(lab: Lab) -> Iterator[Host]:
    with started(lab, "h1") as host:
        yield host


def test_host_is_bare_and_healthy(host: Host) -> None:
    assert host.run("systemctl is-system-running --wait").stdout.strip() == "running"
    for program in ("docker", "ufw", "fail2ban-client"):
        assert host.run(["which", program], check=False).returncode != 0


@pytest.mark.parametrize(("user", "command"), [("root", "id -u"), ("operator", "sudo -n id -u")])
def test_strict_ssh_logs_in(host: Host, user: str, command: str) -> None:
    assert host.ssh(command, user=user).stdout.strip() == "0"


def test_ssh_refuses_another_host_key(lab: Lab, host: Host) -> None:
    with started(lab, "impostor") as other:
        argv = [word.replace(str(host.known_hosts), "/dev/null") for word in host.ssh_argv()]
        assert subprocess.run([*argv, "true"], check=False, capture_output=True).returncode == 255
        assert other.known_hosts.read_text().split()[2] not in host.known_hosts.read_text()


def test_run_passes_status_input_and_argument_lists(host: Host) -> None:
    assert host.run(["printf", "%s", "a b; $HOME"]).stdout == "a b; $HOME"
    assert host.run(["cat"], stdin="text").stdout == "text"
    with pytest.raises(CommandError, match="ended with 3"):
        host.run("exit 3")


def test_apt_installs_through_the_router(host: Host) -> None:
    host.run(
        "apt-get -qq update && apt-get -qq install -y --no-install-recommends hello", timeout=300
    )
    assert host.run("hello").stdout.startswith("Hello")


def test_registry_is_trusted_by_its_certificate_in_the_host(lab: Lab, host: Host) -> None:
    script = (
        "import ssl, sys, urllib.request as u; c = ssl.create_default_context(cafile=sys.argv[1]);"
        "print(u.urlopen(sys.argv[2], context=c).status)"
    )
    ca = f"/etc/docker/certs.d/{lab.registry}/ca.crt"
    url = f"https://{lab.registry}/v2/"
    assert host.run(["python3", "-c", script, ca, url]).stdout.strip() == "200"
    assert host.run(["python3", "-c", script, "/dev/null", url], check=False).returncode != 0


@pytest.mark.parametrize("place", ["neighbour", "attacker"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_host_sees_who_really_calls(
    lab: Lab, host: Host, place: str, family: socket.AddressFamily
) -> None:
    caller: network.Namespace = getattr(lab, place)
    six = family is socket.AF_INET6
    target, source = (host.address6, caller.address6) if six else (host.address, caller.address)
    since = host.run("journalctl --no-pager -n0 --show-cursor").stdout.split("cursor: ")[1].strip()
    code = f"import socket; print(socket.create_connection(({target!r}, 22), 5).recv(4))"
    assert "SSH-" in caller.run(["python3", "-c", code]).stdout
    journal = ["journalctl", "--no-pager", "-t", "sshd-session", "-t", "sshd", "--after-cursor"]
    deadline = time.monotonic() + 10
    while source not in host.run([*journal, since]).stdout:
        assert time.monotonic() < deadline, f"{source} is not in the journal"
        time.sleep(0.2)


def test_host_cannot_change_the_outer_kernel(host: Host) -> None:
    before = Path("/proc/sys/kernel/kptr_restrict").read_text()
    assert host.run("sysctl -w kernel.kptr_restrict=2", check=False).returncode != 0
    assert Path("/proc/sys/kernel/kptr_restrict").read_text() == before
    host.run("sysctl -w net.ipv4.tcp_syncookies=2")


def test_power_cut_and_start_keep_the_disk(lab: Lab) -> None:
    with started(lab, "cut") as host:
        host.run("echo kept > /root/file; mkdir /var/lib/docker/kept; sync")
        host.power_cut()
        assert not host.running
        with pytest.raises(LabError, match="does not run"):
            host.run("true")
        host.start()
        assert host.ssh("cat /root/file; ls /var/lib/docker").stdout.split() == ["kept", "kept"]


def test_reboot_from_inside_empties_the_network_settings(lab: Lab) -> None:
    with started(lab, "again") as host:
        first = host.run("cat /proc/sys/kernel/random/boot_id /etc/machine-id").stdout
        host.run("ip addr add 10.77.0.250/24 dev eth0; systemd-run -q --on-active=0 true")
        began = host.run("stat -c %Y /proc/1").stdout
        host.run("systemctl --no-block reboot")
        deadline = time.monotonic() + 60
        while not _booted_since(host, began):
            assert time.monotonic() < deadline, "it did not come back"
            time.sleep(0.2)
        host.wait_ready()
        assert "10.77.0.250" not in host.run("ip addr").stdout
        assert host.run("cat /etc/machine-id").stdout in first


def _booted_since(host: Host, began: str) -> bool:
    try:
        return host.run("stat -c %Y /proc/1").stdout != began
    except (LabError, CommandError):
        return False


def test_host_is_reachable_for_the_test_when_ssh_is_cut(lab: Lab) -> None:
    with started(lab, "locked") as host:
        host.run("systemctl stop ssh.service ssh.socket", check=False)
        with pytest.raises(CommandError):
            host.ssh("true")
        host.run("systemctl start ssh.service")
        host.wait_ready()
        assert host.ssh("echo back").stdout == "back\n"


def test_base_gives_others_its_state_but_not_its_identity(lab: Lab) -> None:
    try:
        with started(lab, "origin") as origin:
            origin.run("echo one > /root/state; rm /usr/bin/ping; mkdir /var/lib/docker/one")
            with pytest.raises(LabError, match="stop origin"):
                origin.save("lab-test-one")
            origin.stop()
            origin.save("lab-test-one")
            keys = origin.known_hosts.read_text().split()
        with started(lab, "child", "lab-test-one") as child:
            assert child.ssh("hostname; cat /root/state").stdout.split() == ["child", "one"]
            assert child.known_hosts.read_text().split()[2] not in keys
            child.run("echo two >> /root/state; test ! -e /usr/bin/ping; rm -d /var/lib/docker/one")
            child.stop()
            child.save("lab-test-two")
        lab.bases.remove("lab-test-one")
        with started(lab, "grandchild", "lab-test-two") as grandchild:
            listed = grandchild.run(
                "cat /root/state; ls /var/lib/docker /usr/bin/ping", check=False
            )
            assert listed.stdout.split() == ["one", "two", "/var/lib/docker:"]
    finally:
        lab.bases.remove("lab-test-one")
        lab.bases.remove("lab-test-two")


def test_hosts_have_names_and_bases_that_exist(lab: Lab, host: Host) -> None:
    for name in (host.name, "attacker", "../x", ""):
        with pytest.raises(LabError):
            lab.start_host(name)
    with pytest.raises(LabError, match="no base"):
        lab.start_host("h9", base="unknown")
