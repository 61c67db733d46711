"""The way in: keys only, modern algorithms, and never a change that cuts the operator off.

CIS Debian Linux Benchmark 5.1; RFC 9142 (key exchange), RFC 8332 (rsa-sha2).
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Check, Desired, Directory, File, Guard, Package, Unit
from roles.core.operations import Plan, converge

ROLE = "ssh"
CONFIG_FILE = "/etc/ssh/sshd_config"
GUARD_SECONDS = 45
KEX = (
    "sntrup761x25519-sha512@openssh.com",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group16-sha512",
)
CIPHERS = (
    "chacha20-poly1305@openssh.com",
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


def desired(context: Context) -> Desired:
    """sshd's whole configuration, and the keys that the site lists."""
    config = context.file(
        ROLE,
        CONFIG_FILE,
        mode="0600",
        kex=KEX,
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
