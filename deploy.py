"""The critical path, in order, one line a role: pyinfra inventories/home.py deploy.py"""

from roles import (
    alertmanager,
    applications,
    authelia,
    backup,
    base,
    bazarr,
    blackbox,
    docker,
    docker_source,
    downloads,
    exporters,
    fail2ban,
    firewall,
    grafana,
    handbook,
    homepage,
    jellyfin,
    logs,
    measure,
    media,
    networks,
    notify,
    postgres,
    predecessor,
    prometheus,
    scrub,
    seerr,
    servarr,
    socket_proxy,
    ssh,
    stack_role,
    tracing,
    traefik,
    valkey,
)
from roles.plan import begin

plan = begin()

base.deploy(plan)
handbook.deploy(plan)
ssh.deploy(plan)
firewall.deploy(plan)
docker_source.deploy(plan)
docker.deploy(plan)
networks.deploy(plan)
media.deploy(plan)
fail2ban.deploy(plan)
notify.deploy(plan)
measure.deploy(plan)
socket_proxy.deploy(plan)
traefik.deploy(plan)
postgres.deploy(plan)
valkey.deploy(plan)
authelia.deploy(plan)
jellyfin.deploy(plan)
homepage.deploy(plan)
servarr.deploy(plan)
bazarr.deploy(plan)
seerr.deploy(plan)
downloads.deploy(plan)
prometheus.deploy(plan)
grafana.deploy(plan)
logs.deploy(plan)
tracing.deploy(plan)
alertmanager.deploy(plan)
blackbox.deploy(plan)
exporters.deploy(plan)
applications.deploy(plan)
predecessor.deploy(plan)
stack_role.deploy(plan)
predecessor.clear(plan)
backup.deploy(plan)
scrub.deploy(plan)
