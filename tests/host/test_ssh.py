"""The way in, as sshd enforces it and as a stranger sees it. CIS Debian Linux Benchmark 5.1."""

from __future__ import annotations

import pytest

from roles import ssh
from roles.verify import probe
from roles.verify.report import expect
from roles.verify.target import Target

# As `sshd -T` prints them.
SETTINGS = {
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "permitemptypasswords": "no",
    "permitrootlogin": "without-password",
    "pubkeyauthentication": "yes",
    "hostbasedauthentication": "no",
    "strictmodes": "yes",
    "permituserenvironment": "no",
    "x11forwarding": "no",
    "permittunnel": "no",
    "allowagentforwarding": "no",
}
# RFC 8308 and OpenSSH's strict key exchange (CVE-2023-48795): signals, no algorithms.
SIGNALS = {"ext-info-s", "kex-strict-s-v00@openssh.com"}


@pytest.mark.check("SEC-31")
def test_effective_settings(target: Target) -> None:
    seen = target.collected.sshd()
    wanted = {**SETTINGS, **{k.lower(): v for k, v in target.site.ssh.options.items()}}
    expect("sshd", {key: seen.get(key) for key in wanted}, wanted)


@pytest.mark.check("SEC-32")
def test_refuses_passwords(target: Target) -> None:
    for port in target.site.ssh.ports:
        methods = probe.ssh_methods(target.address, port, target.site.admin)
        expect(f"logins at port {port}", methods, ["publickey"])


@pytest.mark.check("SEC-33")
def test_offers_modern_algorithms_only(target: Target) -> None:
    sets = {"ciphers": set(ssh.CIPHERS), "MACs": set(ssh.MACS)}
    wanted = {
        "kex": set(ssh.key_exchanges(target.context.facts)),
        **{f"{name} {way}": found for name, found in sets.items() for way in ("in", "out")},
    }
    for port in target.site.ssh.ports:
        offered = probe.ssh_algorithms(target.address, port)
        seen = {name: set(offered[name]) - SIGNALS for name in wanted}
        expect(f"offered at port {port}:", seen, wanted)
        expect(f"host keys at port {port}", set(offered["host keys"]) - set(ssh.SIGNATURES), set())
