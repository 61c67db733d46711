"""A service of the operator's own gets what a built-in one gets, or is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from roles.context import Context
from roles.core import libyaml
from roles.core.model import Chain, Desired, Directory, File, User
from roles.plan import roles_of
from roles.site.schema import SiteError
from roles.stack.stack import COMPOSE_FILE

IMAGE = f"docker.io/library/wiki:1.2@sha256:{'5e' * 32}"
WIKI: dict[str, Any] = {
    "number": 60,
    "image": IMAGE,
    "port": 3000,
    "health": ["CMD", "wget", "-q", "-O-", "http://127.0.0.1:3000/"],
    "data": {"pages": "/data"},
}


def file(roles: list[Desired], path: str) -> Any:
    content = next(f.content for role in roles for f in role.of(File) if f.path == path)
    return libyaml.load(content)


def test_it_is_hardened_routed_guarded_and_filtered(make_context: Callable[..., Context]) -> None:
    context = make_context(own={"wiki": WIKI})
    roles = roles_of(context)
    declared = file(roles, COMPOSE_FILE)["services"]["wiki"]
    homepage = file(roles, COMPOSE_FILE)["services"]["homepage"]
    for key in ("cap_drop", "security_opt", "read_only", "restart"):
        assert declared[key] == homepage[key]
    assert declared["logging"] == {"driver": "journald", "options": {"tag": "wiki"}}
    assert declared["image"] == IMAGE
    assert declared["user"] == "8860:8860"
    assert declared["mem_limit"] == 256 * 1024**2
    assert "ports" not in declared
    routes = file(roles, "/opt/nexus/config/traefik/dynamic/routes.yml")["http"]
    assert "authelia" in routes["routers"]["wiki"]["middlewares"]
    rules = file(roles, "/opt/nexus/config/authelia/configuration.yml")["access_control"]["rules"]
    assert {"wiki.home.example.org"} < {rule["domain"] for rule in rules}
    chains = [c for r in roles for c in r.of(Chain) if c.name == "DOCKER-USER"]
    wiki = context.stack.address("wiki", "edge")
    assert any(f"-d {wiki}/32" in rule and "--dport 3000" in rule for rule in chains[0].rules)
    accounts = {user.name for role in roles for user in role.of(User)}
    folders = {folder.path for role in roles for folder in role.of(Directory)}
    assert "nexus-wiki" in accounts
    assert "/opt/nexus/data/wiki/pages" in folders
    assert "Wiki" in str(file(roles, "/opt/nexus/config/homepage/services.yaml"))


def test_an_exception_is_applied_with_its_reason(make_context: Callable[..., Context]) -> None:
    reasons = {
        "user 1000": "its entry point knows this number only",
        "capability NET_RAW": "it pings the devices of the house",
        "writable root": "it unpacks itself at every start",
    }
    context = make_context(own={"wiki": {**WIKI, "exceptions": reasons}})
    declared = file(roles_of(context), COMPOSE_FILE)["services"]["wiki"]
    assert declared["user"] == "1000:1000"
    assert declared["cap_add"] == ["NET_RAW"]
    assert declared["read_only"] is False


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Wiki!", {}, "is not a name"),
        ("jellyfin", {}, "is a built-in service"),
        ("wiki", {"number": 8}, "number"),
        ("wiki", {"image": "wiki:latest"}, "digest"),
        ("wiki", {"port": 0}, "port"),
        ("wiki", {"health": []}, "health"),
        ("wiki", {"network": "data"}, "network"),
        ("wiki", {"policy": "bypass"}, "policy"),
        ("wiki", {"memory": "lots"}, "memory"),
        ("wiki", {"cpus": 0.0}, "cpus"),
        ("wiki", {"data": {"pages": "relative"}}, "data"),
        ("wiki", {"secrets": ["S3cret!"]}, "secrets"),
        ("wiki", {"environment": {"A B": "x"}}, "environment"),
        ("wiki", {"talks_to": ["jelyfin"]}, "did you mean jellyfin"),
        ("wiki", {"exceptions": {"privileged": "because it is easier so"}}, "exceptions"),
        ("wiki", {"exceptions": {"user 0": "why not"}}, "reason"),
        ("wiki", {"ports": ["80:80"]}, "is not known"),
    ],
)
def test_a_bad_one_is_refused(
    make_context: Callable[..., Context], name: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(SiteError) as caught:
        make_context(own={name: {**WIKI, **change}})
    assert said in str(caught.value)
    assert "S3cret!" not in str(caught.value)


def test_two_of_one_number_are_refused(make_context: Callable[..., Context]) -> None:
    with pytest.raises(SiteError, match="is also that of wiki"):
        make_context(own={"wiki": WIKI, "zoo": WIKI})
