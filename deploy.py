"""The critical path, in order, one line a role: pyinfra inventories/home.py deploy.py"""

from roles import (
    authelia,
    base,
    docker,
    firewall,
    homepage,
    jellyfin,
    networks,
    postgres,
    socket_proxy,
    ssh,
    stack_role,
    traefik,
    valkey,
)
from roles.plan import begin

plan = begin()

base.deploy(plan)
ssh.deploy(plan)
firewall.deploy(plan)
docker.deploy(plan)
networks.deploy(plan)
socket_proxy.deploy(plan)
traefik.deploy(plan)
postgres.deploy(plan)
valkey.deploy(plan)
authelia.deploy(plan)
jellyfin.deploy(plan)
homepage.deploy(plan)
stack_role.deploy(plan)
