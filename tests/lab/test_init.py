"""make init against a real host, and what a user is told where that host cannot be worked on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from roles.plan import VAULTS
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.network import LAN
from tests.lab.paths import REPOSITORY

pytestmark = pytest.mark.lab

NAME = "lab-init"
ASKS = "useradd -m -G sudo asks && cp -r ~operator/.ssh ~asks/ && chown -R asks: ~asks/.ssh"


class Trial:
    """A bare host, and a folder with the site that is made for it."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.inventory = folder / f"{NAME}.py"
        self.pinned = folder / f"known_hosts_{NAME}"

    def command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"roles.command.{name}", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def init(self, fingerprint: str) -> subprocess.CompletedProcess[str]:
        return self.command(
            *("init", "--inventory-dir", str(self.folder), "--name", NAME),
            *("--host", self.host.address, "--ssh-user", self.host.user),
            *("--ssh-key", str(self.host.key_file), "--lan", str(LAN.network)),
            *("--domain", "home.example.org", "--email", "me@example.org", "--timezone", "UTC"),
            *("--admin", "alice", "--media", "movies=/srv/media/movies"),
            *("--accept-host-key", fingerprint),
        )

    def fingerprint(self) -> str:
        """What the operator reads on the host's own console."""
        shown = self.host.run(["ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
        return shown.split()[1]

    def host_key(self) -> str:
        return self.host.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout.split()[1]


def remove_vault() -> None:
    for file in VAULTS.glob(f"*{NAME}.vault.json*"):
        file.unlink()


@pytest.fixture(scope="module")
def trial(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    remove_vault()
    host = lab.start_host(lab.free_name("init"))
    yield Trial(host, tmp_path_factory.mktemp("init"))
    host.destroy()
    remove_vault()


@pytest.fixture(scope="module")
def made(trial: Trial) -> Trial:
    done = trial.init(trial.fingerprint())
    assert done.returncode == 0, done.stderr
    return trial


def test_another_key_is_not_accepted(trial: Trial) -> None:
    done = trial.init("SHA256:" + "A" * 43)
    assert done.returncode == 1 and "Nothing was accepted" in done.stderr
    assert not trial.pinned.exists()


def test_a_plan_follows_from_what_init_wrote(made: Trial) -> None:
    assert made.host_key() in made.pinned.read_text()
    done = made.command("plan", str(made.inventory))
    assert done.returncode == 2, done.stderr
    assert f"would change: SSH | keys only, modern algorithms on {made.host.address}" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "mend"),
    [
        ('"ssh_user": "operator"', '"ssh_user": "asks"', "asks ALL=(ALL:ALL) NOPASSWD: ALL"),
        ('"ssh_user": "operator"', '"ssh_user": "nobody"', "ssh-copy-id -p 22 -i"),
        ('"ssh_port": 22', '"ssh_port": 23', "port 23 shows no SSH host key; is it on"),
    ],
    ids=["sudo asks", "login refused", "no answer"],
)
def test_the_last_line_says_what_to_mend(made: Trial, old: str, new: str, mend: str) -> None:
    if "asks" in new:
        made.host.run(["sh", "-ec", ASKS])
    text = made.inventory.read_text()
    assert old in text
    changed = made.inventory.with_name("changed.py")
    changed.write_text(text.replace(old, new))
    done = made.command("apply", str(changed))
    assert done.returncode == 1
    assert mend in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert made.host.run(["test", "-e", "/opt/nexus"], check=False).returncode == 1


def test_a_host_with_another_key_is_not_worked_on(made: Trial) -> None:
    before = made.pinned.read_text()
    pair = made.folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", pair], check=True)
    kind, blob = pair.with_suffix(".pub").read_text().split()[:2]
    made.pinned.write_text(f"{made.host.address} {kind} {blob}\n")
    try:
        done = made.command("apply", str(made.inventory))
    finally:
        made.pinned.write_text(before)
    assert done.returncode == 1
    assert "compare the key on the host itself" in done.stderr.splitlines()[-1]
    assert made.fingerprint() in done.stderr.splitlines()[-1]
