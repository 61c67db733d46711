"""Every role renders, agrees with the others and shows no secret where it must not."""

from __future__ import annotations

import yaml

from roles.context import Context
from roles.core.model import Chain, Desired, File
from roles.stack.service import Service
from roles.stack.stack import COMPOSE_FILE


def file(roles: list[Desired], path: str) -> File:
    return next(f for role in roles for f in role.of(File) if f.path == path)


def test_no_path_belongs_to_two_roles(roles: list[Desired]) -> None:
    paths = [f.path for role in roles for f in role.of(File)]
    assert len(paths) == len(set(paths))


def test_secrets_are_in_secret_files_only(context: Context, roles: list[Desired]) -> None:
    public = {"tls_server_certificate"}
    values = {n: s.reveal() for n, s in context.secrets.items() if n not in public}
    for role in roles:
        for each in role.of(File):
            text = each.content.decode()
            found = [name for name, value in values.items() if value in text]
            assert not found or (each.secret and each.mode in {"0400", "0440"}), each.path


def test_every_container_is_hardened(context: Context, roles: list[Desired]) -> None:
    compose = yaml.safe_load(file(roles, COMPOSE_FILE).content)
    for service in context.stack.services:
        declared = compose["services"][service.name]
        assert declared["cap_drop"] == ["ALL"]
        assert declared["security_opt"] == ["no-new-privileges:true"]
        assert declared["read_only"] is True
        assert not declared["user"].startswith("0")
        assert "@sha256:" in declared["image"]
        assert declared["mem_limit"] and declared["cpus"] and declared["pids_limit"]
        assert declared["healthcheck"]["test"]


def test_only_the_socket_proxy_mounts_the_socket(roles: list[Desired]) -> None:
    compose = yaml.safe_load(file(roles, COMPOSE_FILE).content)
    holders = [
        name
        for name, service in compose["services"].items()
        if any("docker.sock" in volume["source"] for volume in service.get("volumes", []))
    ]
    assert holders == ["socket-proxy"]


def test_only_the_reverse_proxy_publishes_ports(context: Context) -> None:
    assert [s.name for s in context.stack.services if s.ports] == ["traefik"]


def test_every_route_has_a_router_and_asks_authelia_unless_declared(
    context: Context, roles: list[Desired]
) -> None:
    routes = yaml.safe_load(file(roles, "/opt/nexus/config/traefik/dynamic/routes.yml").content)
    for service in context.stack.routed():
        assert service.route is not None
        router = routes["http"]["routers"][service.name]
        assert context.stack.hostname(service) in router["rule"]
        asks = service.route.policy in {"one_factor", "two_factor"}
        assert (router.get("middlewares") == ["authelia"]) is asks


def test_authelia_denies_by_default_and_has_a_rule_a_route(
    context: Context, roles: list[Desired]
) -> None:
    config = yaml.safe_load(file(roles, "/opt/nexus/config/authelia/configuration.yml").content)
    access = config["access_control"]
    assert access["default_policy"] == "deny"
    assert {rule["domain"] for rule in access["rules"]} == {"home.home.example.org"}


def test_docker_user_ends_in_drop_in_both_families(roles: list[Desired]) -> None:
    chains = [c for role in roles for c in role.of(Chain) if c.name == "DOCKER-USER"]
    assert {c.family for c in chains} == {"4", "6"}
    assert all(c.rules[-2] == "-A DOCKER-USER -j DROP" for c in chains)
    assert any(
        "-s 192.168.1.0/24 -p tcp -m conntrack --ctorigdstport 443" in r
        for c in chains
        for r in c.rules
    )


def test_waivers_carry_reasons(context: Context) -> None:
    services: tuple[Service, ...] = context.stack.services
    assert all(len(waiver.reason) > 12 for s in services for _, waiver in s.waivers())
