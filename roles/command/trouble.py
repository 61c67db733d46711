"""Why a host cannot be worked on: asked after a run has failed; a good one costs nothing."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roles.site.connection import Entry
from roles.site.host_key import HostKeyError, Scan, host_keys, keyscan, prove_pinned

SECONDS = 10
# ssh(1) itself exits with 255; these are no status of sudo or of a shell.
NO_LOGIN, NO_SUDO, NO_PYTHON = 255, 71, 72
SUDO = f"sudo -n true 2>/dev/null || exit {NO_SUDO}; "
PYTHON = f"command -v python3 >/dev/null || exit {NO_PYTHON}"

Login = Callable[[list[str]], int]


def login(argv: list[str]) -> int:
    """The exit status of a command on the host; its output is not needed."""
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).returncode


def trouble(entry: Entry, scan: Scan = keyscan, login: Login = login) -> str:
    """What is wrong and its mend, in one line; empty where the host can be worked on."""
    if not entry.over_ssh:
        return ""
    data = entry.data
    host = str(data.get("ssh_hostname") or entry.name.removeprefix("@ssh/"))
    port, user = data.get("ssh_port", 22), data.get("ssh_user") or getpass.getuser()
    try:
        keys = host_keys(host, port, scan)
        if pinned := data.get("ssh_known_hosts_file"):
            prove_pinned(Path(pinned).expanduser(), host, port, keys)
    except HostKeyError as error:
        return str(error)
    key = data.get("ssh_key")
    # Only a person at a terminal can open it, and pyinfra has asked.
    if key and _locked(key, login):
        return ""
    status = login(_argv(host, port, user, data))
    return _reason(status, f"{user}@{host}", user, port, key)


def _reason(status: int, place: str, user: str, port: int, key: str | None) -> str:
    if status == NO_LOGIN:
        which = f"the key {key}" if key else "any key of the SSH agent or of ~/.ssh"
        copy = " ".join(["ssh-copy-id", f"-p {port}", *([f"-i {key}"] if key else []), place])
        return f"{place}: the login with {which} is refused; let it in: {copy}"
    if status == NO_SUDO:
        return (
            f"{place}: sudo asks for a password, or does not know {user}; as root on the host: "
            f"echo '{user} ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user}"
        )
    if status == NO_PYTHON:
        return f"{place}: there is no python3; as root on the host: apt install python3"
    return ""


def _argv(host: str, port: int, user: str, data: Any) -> list[str]:
    options = ["BatchMode=yes", "StrictHostKeyChecking=yes", f"ConnectTimeout={SECONDS}"]
    if pinned := data.get("ssh_known_hosts_file"):
        options += [f"UserKnownHostsFile={Path(pinned).expanduser()}"]
    argv = ["ssh", *(part for option in options for part in ("-o", option)), "-p", str(port)]
    if key := data.get("ssh_key"):
        argv += ["-o", "IdentitiesOnly=yes", "-i", str(Path(key).expanduser())]
    script = (SUDO if data.get("_sudo") else "") + PYTHON
    return [*argv, "-l", user, "--", host, script]


def _locked(key: str, login: Login) -> bool:
    """Whether a passphrase protects a private key."""
    argv = ["ssh-keygen", "-y", "-P", "", "-f", str(Path(key).expanduser())]
    return login(argv) != 0
