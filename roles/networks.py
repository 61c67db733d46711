"""Five segments instead of one flat network; internal ones have no way out.

CIS Docker Benchmark 5.30: no container uses the default bridge.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context
from roles.core.model import Desired, Network, Sysctl
from roles.core.operations import Plan, converge

ROLE = "networks"
# Packets between two containers of one network never leave its bridge; with these the firewall sees
# them (https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html, bridge-nf-call).
BRIDGED = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")


def desired(context: Context) -> Desired:
    """The site's segments and the private links to the Docker API."""
    return Desired(ROLE, (*(Sysctl(key, "1") for key in BRIDGED), *_networks(context)))


def _networks(context: Context) -> Iterator[Network]:
    for segment in context.stack.segments.values():
        subnets = tuple(subnet for subnet in (segment.subnet, segment.subnet6) if subnet)
        yield Network(segment.docker_name, subnets, segment.internal, segment.bridge)


@pyinfra_deploy("Networks")
def deploy(plan: Plan) -> None:
    """Before the containers that live in them."""
    converge(name="segments and private links", plan=plan, role=ROLE)
