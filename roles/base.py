"""The ground everything stands on: packages, security updates, time, logs, network settings.

CIS Debian Linux Benchmark 1.9 (updates), 2.3 (time), 3.3 (network parameters), 6.1 (journald).
"""

from __future__ import annotations

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Directory, Handler, Link, Package, Sysctl, Unit, paths
from roles.core.operations import Plan, converge
from roles.stack.service import CONFIG, DATA, SECRETS

ROLE = "base"
PACKAGES = (
    "ca-certificates",
    "iptables",
    "systemd-timesyncd",
    "tzdata",
    "unattended-upgrades",
)
# The networks role needs it now, not after the next boot. Some kernels have it built in.
LOAD_MODULES = ("sh", "-c", "test -d /proc/sys/net/bridge || modprobe br_netfilter")
# CIS 3.3.x; each by number, because "all" does not reach interfaces that come later.
SYSCTLS = {
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.log_martians": "1",
    "net.ipv4.conf.all.secure_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.accept_redirects": "0",
    "net.ipv4.conf.default.accept_source_route": "0",
    "net.ipv4.conf.default.secure_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
    "net.ipv4.icmp_echo_ignore_broadcasts": "1",
    "net.ipv4.icmp_ignore_bogus_error_responses": "1",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv6.conf.all.accept_redirects": "0",
    "net.ipv6.conf.all.accept_source_route": "0",
    "net.ipv6.conf.default.accept_redirects": "0",
    "net.ipv6.conf.default.accept_source_route": "0",
}


def desired(context: Context) -> Desired:
    """The base of any host of this kind."""
    site = context.site
    journald = context.file(ROLE, "/etc/systemd/journald.conf.d/50-nexus.conf")
    modules = context.file(ROLE, "/etc/modules-load.d/nexus.conf")
    files = (
        modules,
        context.file(ROLE, "/etc/apt/apt.conf.d/52nexus-updates"),
        context.file(ROLE, "/etc/sysctl.d/90-nexus.conf", sysctls=SYSCTLS),
        context.file(ROLE, "/etc/systemd/system/nexus-guard.service"),
        context.file(ROLE, "/usr/local/lib/nexus/guard", mode="0755"),
        journald,
    )
    # Newer releases keep old names of time zones (Asia/Calcutta, US/Eastern) in a package apart.
    old_names = () if context.facts.codename == "bookworm" else (Package("tzdata-legacy"),)
    return Desired(
        ROLE,
        (
            *(Package(name) for name in PACKAGES),
            *old_names,
            *(Directory(path, "0711") for path in ("/opt/nexus", CONFIG, DATA, SECRETS)),
            *files,
            Link("/etc/localtime", f"/usr/share/zoneinfo/{site.timezone}"),
            *(Sysctl(key, value) for key, value in SYSCTLS.items()),
            Unit("systemd-journald.service", enabled=None, restart_on=paths((journald,))),
            Unit("systemd-timesyncd.service"),
            # The first fetches the lists from which the second installs.
            Unit("apt-daily.timer"),
            Unit("apt-daily-upgrade.timer"),
            Unit("nexus-guard.service", active=None),
        ),
        handlers=(Handler("load-modules", LOAD_MODULES, paths((modules,))),),
    )


@pyinfra_deploy("Base")
def deploy(plan: Plan) -> None:
    """Packages first: the other roles build on them."""
    converge(name="packages, updates, time, logs, kernel settings", plan=plan, role=ROLE)
