"""The host's SSH key: asked for once, shown to the operator, then the only one accepted."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from roles.site import ssh_key

# The kinds that roles/ssh.py keeps; a pinned key of another kind would end every later login.
KINDS = ("ssh-ed25519", "ssh-rsa")
SECONDS = 10
DEFAULT_PORT = 22


class HostKeyError(Exception):
    """The host's key cannot be had or is not the expected one; the text says what to do."""


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

    def is_of(self, fingerprint: str) -> bool:
        """Whether the operator means this key; padding at the end is forgiven."""
        return hmac.compare_digest(self.fingerprint.encode(), fingerprint.rstrip("=").encode())

    def line(self, host: str, port: int) -> str:
        """The known_hosts line (sshd(8)): the port stands in it unless it is 22."""
        place = host if port == DEFAULT_PORT else f"[{host}]:{port}"
        return f"{place} {self.kind} {self.text}\n"


Scan = Callable[[str, int], str]


def host_key(host: str, port: int, scan: Scan) -> HostKey:
    """The best key of a host.

    Raises:
        HostKeyError: no answer, or no key of a kind that stays accepted.
    """
    found = {}
    for line in scan(host, port).splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in KINDS and not ssh_key.damage(words[1], words[2]):
            found[words[1]] = HostKey(words[1], words[2])
    for kind in KINDS:
        if kind in found:
            return found[kind]
    raise HostKeyError(
        f"{host} port {port} shows no SSH host key; is it on, is sshd running, is the port right?"
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
