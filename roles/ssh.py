"""The way in: keys only, modern algorithms, and never a change that cuts the operator off.

CIS Debian Linux Benchmark 5.1; RFC 9142 (key exchange), RFC 8332 (rsa-sha2).
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context, Facts
from roles.core.model import Check, Desired, Directory, File, Guard, Package, Unit
from roles.core.operations import Plan, converge

ROLE = "ssh"
CONFIG_FILE = "/etc/ssh/sshd_config"
GUARD_SECONDS = 45
# What is recorded today must not be readable once quantum computers are there. pyinfra's client,
# paramiko, has the first of each list and no other (docs/decisions/key-exchange.md).
KEX = ("mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com")
KEX_BEFORE_MLKEM = ("curve25519-sha256@libssh.org", "sntrup761x25519-sha512@openssh.com")
# The releases whose OpenSSH is older than 9.9.
BEFORE_MLKEM = ("debian bookworm", "ubuntu noble")
# Without chacha20-poly1305, which a client that does not know better loses packets with
# (CVE-2023-48795).
CIPHERS = (
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
)
MACS = ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-256-etm@openssh.com")
SIGNATURES = ("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256")
KEYS = (
    *SIGNATURES,
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def key_exchanges(facts: Facts) -> tuple[str, ...]:
    """The post-quantum key exchanges, and one more where pyinfra's client and sshd share none."""
    return KEX_BEFORE_MLKEM if facts.release in BEFORE_MLKEM else KEX


def desired(context: Context) -> Desired:
    """sshd's whole configuration, and the keys that the site lists."""
    config = context.file(
        ROLE,
        CONFIG_FILE,
        mode="0600",
        kex=key_exchanges(context.facts),
        ciphers=CIPHERS,
        macs=MACS,
        host_keys=SIGNATURES,
        public_keys=KEYS,
    )
    keys = [
        resource
        for user, lines in context.site.ssh.authorized_keys.items()
        for resource in _authorized_keys(user, lines)
    ]
    return Desired(
        ROLE,
        (
            Package("openssh-server"),
            config,
            *keys,
            # Socket activation would ignore the ports of the configuration.
            Unit("ssh.socket", enabled=False, active=False),
            Unit("ssh.service", restart_on=(CONFIG_FILE, "ssh.socket")),
        ),
        checks=(Check(("/usr/sbin/sshd", "-t", "-f", f"{{{CONFIG_FILE}}}"), (CONFIG_FILE,)),),
        guard=Guard(GUARD_SECONDS, after=(("systemctl", "restart", "ssh.service"),)),
    )


def _authorized_keys(user: str, lines: tuple[str, ...]) -> tuple[Directory, File]:
    home = "/root" if user == "root" else f"/home/{user}"
    text = "".join(f"{line}\n" for line in lines)
    return (
        Directory(f"{home}/.ssh", "0700", user, user),
        File(f"{home}/.ssh/authorized_keys", text.encode(), "0600", user, user),
    )


@pyinfra_deploy("SSH")
def deploy(plan: Plan) -> None:
    """Validated by sshd itself, then proven by a second login, or taken back."""
    converge(name="keys only, modern algorithms", plan=plan, role=ROLE)
