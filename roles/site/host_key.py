"""The host's SSH key: asked for once, shown to the operator, then the only one accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from roles.site import ssh_key

# The kinds that roles/ssh.py keeps; a pinned key of another kind would end every later login.
KINDS = ("ssh-ed25519", "ssh-rsa")
SECONDS = 10
DEFAULT_PORT = 22


class HostKeyError(Exception):
    """The host's key cannot be had or is not the expected one; the text says what to do."""


class SilentHostError(HostKeyError):
    """The host does not answer, or shows no key of a kind that stays accepted."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A key as ssh-keyscan(1) prints it: its kind and its base64 text."""

    kind: str
    text: str

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen -l shows it: SHA256 and base64 without padding."""
        digest = hashlib.sha256(base64.b64decode(self.text)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")

    @property
    def file_on_host(self) -> str:
        """Where sshd keeps its public half, by OpenSSH's own naming."""
        return f"/etc/ssh/ssh_host_{self.kind.removeprefix('ssh-')}_key.pub"

    def is_of(self, fingerprint: str) -> bool:
        """Whether the operator means this key; padding at the end is forgiven."""
        return hmac.compare_digest(self.fingerprint.encode(), fingerprint.rstrip("=").encode())

    def line(self, host: str, port: int) -> str:
        """The known_hosts line (sshd(8))."""
        return f"{place(host, port)} {self.kind} {self.text}\n"


Scan = Callable[[str, int], str]


def place(host: str, port: int) -> str:
    """A host as known_hosts names it (sshd(8)): the port stands in it unless it is 22."""
    return host if port == DEFAULT_PORT else f"[{host}]:{port}"


def host_keys(host: str, port: int, scan: Scan) -> list[HostKey]:
    """The keys of a host, the best first.

    Raises:
        SilentHostError: no answer, or no key of a kind that stays accepted.
    """
    found = {}
    for line in scan(host, port).splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in KINDS and not ssh_key.damage(words[1], words[2]):
            found[words[1]] = HostKey(words[1], words[2])
    if not found:
        raise SilentHostError(
            f"{host} port {port} shows no SSH host key; is it on, is sshd running, is the port "
            "right?"
        )
    return [found[kind] for kind in KINDS if kind in found]


def prove_pinned(path: Path, host: str, port: int, shown: Sequence[HostKey]) -> None:
    """Prove that one of a host's keys is a pinned one.

    Raises:
        HostKeyError: none is pinned for this place, only others are, or the file cannot be read.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise HostKeyError(f"{path} cannot be read: {error.strerror}; mend or remove it") from error
    # sshd(8): hashed names, patterns and markers are for ssh itself to read.
    if any(set(line.partition(" ")[0]) & set("|*?!@") for line in lines):
        return
    wanted = place(host, port)
    pinned = [words for words in map(str.split, lines) if wanted in "".join(words[:1]).split(",")]
    if not pinned:
        raise HostKeyError(
            f"{path}: has no key of {wanted}; move it away, and run make init to accept one"
        )
    if not any([key.kind, key.text] == words[1:3] for key in shown for words in pinned):
        raise HostKeyError(
            f"{host} shows {shown[0].fingerprint}, which is not the key in {path}. Either another "
            "machine answers, or it was installed anew: compare the key on the host itself; only "
            f"if it is the same, remove {path} and run make init"
        )


def keyscan(host: str, port: int) -> str:
    """What ssh-keyscan prints; empty when the host does not answer within 10 s.

    Raises:
        HostKeyError: there is no ssh-keyscan here.
    """
    argv = ["ssh-keyscan", "-T", str(SECONDS), "-p", str(port), "-t", "ed25519,rsa", "--", host]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise HostKeyError("ssh-keyscan is missing; run: apt install openssh-client") from error
    return done.stdout
