"""Every role renders, agrees with the others and shows no secret where it must not."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from pathlib import PurePosixPath

import paramiko
import pytest
import yaml

from roles import ssh
from roles.authelia import GROUPS
from roles.context import Context
from roles.core import libyaml
from roles.core.model import Chain, Desired, Directory, File, Network, Settings
from roles.docker import FROM_DISTRIBUTION
from roles.plan import remarks, roles_of
from roles.site.schema import SiteError
from roles.stack.catalogue import CATALOGUE
from roles.stack.openid import PROVIDER_SECRETS
from roles.stack.policy import PolicyError
from roles.stack.service import CONFIG, Service
from roles.stack.stack import COMPOSE_FILE, Render, fitted
from tests.unit.test_own import WIKI


def file(roles: list[Desired], path: str) -> File:
    return next(f for role in roles for f in role.of(File) if f.path == path)


@pytest.mark.parametrize("memory", ["64m", "512m", "8g"])
def test_the_database_is_told_what_its_container_has(
    make_context: Callable[..., Context], memory: str
) -> None:
    postgres = make_context(services={"postgres": {"memory": memory}}).stack.service("postgres")
    settings = dict(word.split("=") for word in postgres.command if "=" in word)
    limit, clients = postgres.limits.memory // 1024, int(settings.pop("max_connections"))
    kib = {name: int(value.removesuffix("kB")) for name, value in settings.items()}
    taken = kib["shared_buffers"] + clients * kib["work_mem"] + 3 * kib["maintenance_work_mem"]
    assert limit // 2 <= taken <= limit * 3 // 4
    assert kib["shared_buffers"] < kib["effective_cache_size"] < limit
    assert clients < postgres.limits.pids - 10


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
    compose = libyaml.load(file(roles, COMPOSE_FILE).content)
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
    compose = libyaml.load(file(roles, COMPOSE_FILE).content)
    holders = [
        name
        for name, service in compose["services"].items()
        if any("docker.sock" in volume["source"] for volume in service.get("volumes", []))
    ]
    assert holders == ["socket-proxy"]


def test_nobody_holds_the_socket_where_nobody_asks(make_context: Callable[..., Context]) -> None:
    context = make_context(services={"homepage": {"enabled": False}})
    assert "socket-proxy" not in {service.name for service in context.stack.services}
    assert roles_of(context)


def test_only_the_reverse_proxy_publishes_ports(context: Context) -> None:
    assert [s.name for s in context.stack.services if s.ports] == ["traefik"]


def test_every_route_has_a_router_and_asks_authelia_unless_declared(
    context: Context, roles: list[Desired]
) -> None:
    routes = libyaml.load(file(roles, "/opt/nexus/config/traefik/dynamic/routes.yml").content)
    for service in context.stack.routed():
        assert service.route is not None
        router = routes["http"]["routers"][service.name]
        assert context.stack.hostname(service) in router["rule"]
        asks = service.route.policy in {"one_factor", "two_factor"}
        assert ("authelia" in router["middlewares"]) is asks
        if service.route.login_paths:
            # The strict limits come first, and whoever must ask Authelia asks it here too.
            login = routes["http"]["routers"][f"{service.name}-login"]["middlewares"]
            rest = [name for name in router["middlewares"] if name != "breaker"]
            assert login == ["ratelimit-login", "inflight-login", *rest]


def routers(roles: list[Desired]) -> dict[str, dict[str, object]]:
    found = libyaml.load(file(roles, "/opt/nexus/config/traefik/dynamic/routes.yml").content)
    return dict(found["http"]["routers"])


def test_credential_paths_are_limited_and_no_way_around_the_portal(roles: list[Desired]) -> None:
    found = routers(roles)
    limits = ["ratelimit-login", "inflight-login"]
    for name, guarded in (("sonarr", True), ("jellyfin", False)):
        middlewares = found[f"{name}-login"]["middlewares"]
        assert isinstance(middlewares, list)
        assert middlewares[:2] == limits
        assert ("authelia" in middlewares) is guarded


def test_an_api_is_open_to_apps_only_where_the_site_says_so(
    make_context: Callable[..., Context], roles: list[Desired]
) -> None:
    assert not [name for name in routers(roles) if name.endswith("-api")]
    asked = {"sonarr": {"native_api": True}, "bazarr": {"native_api": True}}
    found = routers(roles_of(make_context(services=asked)))
    assert {name for name in found if name.endswith("-api")} == {"sonarr-api", "bazarr-api"}
    rule = str(found["bazarr-api"]["rule"])
    assert "HeaderRegexp(`X-Api-Key`" in rule
    assert "!(PathRegexp(`(?i)^(?:/api/system/account)`))" in rule
    with pytest.raises(SiteError, match=r"site.services.jellyfin.native_api: .* bazarr, lidarr"):
        make_context(services={"jellyfin": {"native_api": True}})


def test_authelia_denies_by_default_and_has_a_rule_a_route(
    context: Context, roles: list[Desired]
) -> None:
    config = libyaml.load(file(roles, "/opt/nexus/config/authelia/configuration.yml").content)
    access = config["access_control"]
    assert access["default_policy"] == "deny"
    asked = {
        context.stack.hostname(service): service.route.policy
        for service in context.stack.routed()
        if service.route and service.route.policy in {"one_factor", "two_factor"}
    }
    assert {rule["domain"]: rule["policy"] for rule in access["rules"]} == asked
    assert asked["home.home.example.org"] == asked["sonarr.home.example.org"] == "two_factor"


def test_the_household_logs_in_but_does_not_administer(
    make_context: Callable[..., Context],
) -> None:
    context = make_context(people={"bob": "bob@example.org"})
    path = "/opt/nexus/config/authelia/users_database.yml"
    users = libyaml.load(file(roles_of(context), path).content)["users"]
    assert {name: user["groups"] for name, user in users.items()} == {
        "alice": ["admins", "users"],
        "bob": ["users"],
    }
    assert users["bob"]["email"] == "bob@example.org"
    hashed = [context.secrets[f"{name}_password_hash"] for name in ("authelia_admin", "portal_bob")]
    assert [user["password"] for user in users.values()] == [each.reveal() for each in hashed]


def test_authelia_has_a_rule_where_no_route_asks_it(make_context: Callable[..., Context]) -> None:
    asked = [s.name for s in CATALOGUE if s.route and s.route.policy in GROUPS]
    off = make_context(services={name: {"enabled": False} for name in asked})
    config = libyaml.load(
        file(roles_of(off), "/opt/nexus/config/authelia/configuration.yml").content
    )
    assert config["access_control"] == {
        "default_policy": "deny",
        "rules": [{"domain": "*.home.example.org", "policy": "deny"}],
    }


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


def test_an_input_file_of_a_service_has_its_container_recreated(
    context: Context, roles: list[Desired]
) -> None:
    traefik = next(role for role in roles if role.role == "traefik")
    watched = {path for n in traefik.notices if n.handler == "traefik" for path in n.on}
    assert "/opt/nexus/config/traefik/traefik.yml" in watched
    # Traefik reads its routes again by itself.
    assert "/opt/nexus/config/traefik/dynamic/routes.yml" not in watched
    told = {n.handler for role in roles for n in role.notices if n.role == "stack"}
    assert {s.name for s in context.stack.services if s.config or s.secrets} <= told


def test_networks_are_named_as_the_engine_names_them(roles: list[Desired]) -> None:
    subnets = [s for role in roles for network in role.of(Network) for s in network.subnets]
    assert any(":" in subnet for subnet in subnets)
    assert subnets == [str(ip_network(subnet)) for subnet in subnets]


def test_a_gpu_is_given_to_the_player_alone(context: Context) -> None:
    stack = fitted(context.stack, 8, Render("/dev/dri/renderD128", 105))
    roles = roles_of(replace(context, stack=stack))
    services = libyaml.load(file(roles, COMPOSE_FILE).content)["services"]
    holders = {name for name, service in services.items() if service.get("devices")}
    assert holders - {"gluetun"} == {"jellyfin"}
    assert "105" in services["jellyfin"]["group_add"]
    assert encoding_of(roles)["EncodingOptions/HardwareAccelerationType"] == "qsv"


def test_without_a_gpu_it_is_said_and_the_processor_transcodes(
    context: Context, roles: list[Desired]
) -> None:
    assert encoding_of(roles)["EncodingOptions/HardwareAccelerationType"] == "none"
    assert "no Intel render device" in "\n".join(remarks(context.stack, context.facts))


def test_limits_that_add_up_to_more_than_the_host_has_are_said_until_accepted(
    make_context: Callable[..., Context],
) -> None:
    stack = make_context().stack
    total = sum(service.limits.memory for service in stack.services)

    def said(overcommit: float, memory: int) -> list[str]:
        context = make_context(memory_overcommit=overcommit)
        found = remarks(context.stack, replace(context.facts, memory=memory))
        return [line for line in found if "memory limits" in line]

    assert said(1, total) == said(1, 0) == []
    (line,) = said(1, total // 2)
    assert f"{total / 2**30:.1f} GiB of the host's {total / 2**31:.1f} GiB (jellyfin 4.0" in line
    assert line.endswith(
        "lower some with site.services.NAME.memory, or accept it with site.memory_overcommit = 2.0"
    )
    assert said(2, total // 2) == []
    assert said(2, total // 2 - 2**20) != []


def test_a_limit_above_the_hosts_memory_is_refused_where_the_site_asks_for_it(
    make_context: Callable[..., Context],
) -> None:
    asked = {"services": {"radarr": {"memory": "5g"}}, "own": {"wiki": {**WIKI, "memory": "6g"}}}
    stack = make_context(**asked).stack
    assert fitted(stack, 8, memory=6 * 2**30) == fitted(stack, 8)
    with pytest.raises(SiteError) as caught:
        fitted(stack, 8, memory=4 * 2**30 - 1)
    radarr, wiki = str(caught.value).splitlines()
    assert radarr.startswith("site.services.radarr.memory: 5g is more than the host's 4095m")
    assert wiki.startswith("site.own.wiki.memory: 6g is more than")
    assert wiki.endswith("write at most 2944m")


def test_a_small_host_lowers_the_limits_that_nobody_asked_for(context: Context) -> None:
    small = {s.name: s for s in fitted(context.stack, 8, memory=2**31).services}
    least = {s.name: s for s in fitted(context.stack, 8, memory=2**28).services}["postgres"]
    assert f"shared_buffers={least.limits.memory // 4096}kB" in least.command
    for service in context.stack.services:
        limit = small[service.name].limits.memory
        scratch = sum(size for _, size in small[service.name].scratch)
        assert limit == (service.limits.memory if service.limits.memory <= 2**31 else 3 * 2**29)
        assert scratch < limit
    assert small["jellyfin"].limits.memory == 3 * 2**29


def test_what_is_transcoded_stays_in_memory_within_the_limit(
    context: Context, roles: list[Desired]
) -> None:
    jellyfin = libyaml.load(file(roles, COMPOSE_FILE).content)["services"]["jellyfin"]
    mounts = dict(mount.split(":", 1) for mount in jellyfin["tmpfs"])
    size = int(mounts["/transcode"].split("size=")[1].split(",")[0])
    assert size < jellyfin["mem_limit"]
    assert encoding_of(roles)["EncodingOptions/TranscodingTempPath"] == "/transcode"


def encoding_of(roles: list[Desired]) -> dict[str, str]:
    found = (s for role in roles for s in role.of(Settings) if s.path.endswith("encoding.xml"))
    return dict(next(found).entries)


@pytest.mark.parametrize("release", list(FROM_DISTRIBUTION))
def test_pyinfras_own_client_has_a_key_exchange_of_every_release(
    context: Context, release: str
) -> None:
    distribution, codename = release.split()
    facts = replace(context.facts, distribution=distribution, codename=codename)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = set(paramiko.Transport(ours).get_security_options().kex)
    sshd = file([ssh.desired(replace(context, facts=facts))], ssh.CONFIG_FILE).content.decode()
    (line,) = (line for line in sshd.splitlines() if line.startswith("KexAlgorithms "))
    offered = line.removeprefix("KexAlgorithms ").split(",")
    assert client.intersection(offered)
    post_quantum = {"mlkem768x25519-sha256", "sntrup761x25519-sha512@openssh.com"}
    assert (set(offered) <= post_quantum) is (release == "debian trixie")


def test_authelia_knows_by_openid_only_who_declares_it(
    context: Context, make_context: Callable[..., Context], roles: list[Desired]
) -> None:
    path = "/opt/nexus/config/authelia/configuration.yml"
    provider = libyaml.load(file(roles, path).content)["identity_providers"]["oidc"]
    [client] = provider["clients"]
    assert client["redirect_uris"] == ["https://grafana.home.example.org/login/generic_oauth"]
    assert client["authorization_policy"] == "two_factor" and client["require_pkce"]
    # The hash stands there, and the key stays in its file, which the program itself reads.
    assert client["client_secret"] == "value-of-grafana_openid_secret_hash"
    key = provider["jwks"][0]["key"]
    assert key == '{{ secret "/run/secrets/authelia_openid_key" | indent 10 | trim }}\n'
    held = context.stack.service("authelia").secrets
    assert set(PROVIDER_SECRETS) <= set(held) and "grafana_openid_secret" not in held
    off = make_context(services={"grafana": {"enabled": False}})
    assert "identity_providers" not in libyaml.load(file(roles_of(off), path).content)
    assert not set(PROVIDER_SECRETS) & set(off.stack.service("authelia").secrets)
    with pytest.raises(PolicyError, match="grafana: logs people in by Authelia"):
        make_context(services={"authelia": {"enabled": False}})


def test_the_compose_file_is_the_same_whichever_library_writes_it(roles: list[Desired]) -> None:
    text = file(roles, COMPOSE_FILE).content.decode()
    assert yaml.safe_dump(libyaml.load(text), sort_keys=False, width=100) == text


def test_every_folder_of_a_configuration_is_its_own_group_s_alone(roles: list[Desired]) -> None:
    folders = {f.path for role in roles for f in role.of(Directory)}
    above = {
        str(parent)
        for role in roles
        for each in role.of(File)
        for parent in PurePosixPath(each.path).parents
        if parent.is_relative_to(CONFIG) and str(parent) != CONFIG
    }
    assert above <= folders
