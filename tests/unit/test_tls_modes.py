"""Each way to a certificate renders what it needs and hands it to the proxy alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roles.context import Context
from roles.core import libyaml
from roles.core.certificates import ensure_certificates
from roles.core.model import File
from roles.core.secret import Secret
from roles.plan import roles_of
from roles.site.questions import AnswerError, site_of
from roles.stack.stack import COMPOSE_FILE
from tests.unit.test_certificates import NOW, Memory

MakeContext = Callable[..., Context]
HTTP = {"mode": "acme-http"}
CREDENTIALS = {"RFC2136_TSIG_SECRET": "dns_secret", "RFC2136_TSIG_KEY": "dns_key"}
DNS = {"mode": "acme-dns", "provider": "rfc2136", "credentials": CREDENTIALS}
PRIVATE = {"directory": "https://ca.example.org/dir"}


class Files:
    """What one site puts on its host."""

    def __init__(self, make: MakeContext, tls: dict[str, Any], **site: Any) -> None:
        self.context = make(tls=tls, exposure="internet", **site)
        roles = roles_of(self.context)
        self.files = {file.path: file for role in roles for file in role.of(File)}

    def config(self, name: str) -> Any:
        return libyaml.load(self.files[f"/opt/nexus/config/traefik/{name}"].content)

    @property
    def acme(self) -> dict[str, Any]:
        found: dict[str, Any] = self.config("traefik.yml")["certificatesResolvers"]["acme"]["acme"]
        return found

    @property
    def secrets(self) -> set[str]:
        folder = "/opt/nexus/secrets/traefik/"
        return {path.removeprefix(folder) for path in self.files if path.startswith(folder)}

    @property
    def container(self) -> dict[str, Any]:
        found: dict[str, Any] = libyaml.load(self.files[COMPOSE_FILE].content)["services"]
        return dict(found["traefik"])


def test_the_own_authority_needs_no_acme(make_context: MakeContext) -> None:
    own = Files(make_context, {"mode": "own-ca"})
    assert "certificatesResolvers" not in own.config("traefik.yml")
    assert own.secrets == {"tls_server_key"}
    assert [each["target"] for each in own.container["secrets"]] == ["tls_server_key"]


def test_an_http_proof_asks_for_one_certificate_a_router(make_context: MakeContext) -> None:
    http = Files(make_context, HTTP)
    assert http.acme["httpChallenge"] == {"entryPoint": "web"}
    assert "dnsChallenge" not in http.acme
    tls = http.config("traefik.yml")["entryPoints"]["websecure"]["http"]["tls"]
    assert tls == {"options": "default", "certResolver": "acme"}
    assert http.secrets == set()
    assert "secrets" not in http.container


def test_a_dns_proof_asks_for_the_wildcard(make_context: MakeContext) -> None:
    dns = Files(make_context, {**DNS, "resolvers": ["9.9.9.9:53"]})
    assert dns.acme["dnsChallenge"] == {"provider": "rfc2136", "resolvers": ["9.9.9.9:53"]}
    assert "httpChallenge" not in dns.acme
    tls = dns.config("traefik.yml")["entryPoints"]["websecure"]["http"]["tls"]
    assert tls["domains"] == [{"main": "*.home.example.org"}]


def test_credentials_reach_the_proxy_as_files_of_its_own(make_context: MakeContext) -> None:
    dns = Files(make_context, DNS)
    targets = {each["target"] for each in dns.container["secrets"]}
    assert targets == dns.secrets == {"dns_secret", "dns_key"}
    named = {variable: f"/run/secrets/{entry}" for variable, entry in CREDENTIALS.items()}
    environment = dns.container["environment"].items()
    assert {f"{variable}_FILE": path for variable, path in named.items()}.items() <= environment
    assert not set(CREDENTIALS) & set(dns.container["environment"])
    for file in dns.files.values():
        if b"value-of-dns_secret" in file.content:
            assert (file.path, file.mode) == ("/opt/nexus/secrets/traefik/dns_secret", "0400")
            assert file.owner == str(dns.context.stack.service("traefik").uid)


def test_two_variables_may_share_a_vault_entry(make_context: MakeContext) -> None:
    shared = Files(make_context, {**DNS, "credentials": {"A_USER": "both", "B_USER": "both"}})
    assert [each["target"] for each in shared.container["secrets"]] == ["both"]


def test_a_changed_credential_recreates_the_proxy(make_context: MakeContext) -> None:
    before = Files(make_context, DNS)
    secrets = {**before.context.secrets, "dns_key": Secret("another")}
    stack = before.context.stack
    after = Context(before.context.site, stack, before.context.facts, secrets)
    compose = [f for role in roles_of(after) for f in role.of(File) if f.path == COMPOSE_FILE]
    assert libyaml.load(compose[0].content)["services"]["traefik"] != before.container


def test_a_private_authority_is_trusted_by_its_certificate(make_context: MakeContext) -> None:
    vault = Memory()
    ensure_certificates(vault, "example.org", NOW)
    pem = vault.pem("tls_ca_certificate")
    private = Files(make_context, {**HTTP, **PRIVATE, "ca_certificate": pem})
    assert private.acme["caServer"] == "https://ca.example.org/dir"
    assert private.acme["caCertificates"] == ["/etc/traefik/acme-ca.pem"]
    assert private.files["/opt/nexus/config/traefik/acme-ca.pem"].content == pem.encode()


@pytest.mark.parametrize(
    "other",
    [
        {"tls": DNS},
        {"tls": {**HTTP, **PRIVATE}},
        {"tls": HTTP, "domain": "new.example.org"},
    ],
    ids=["way of proof", "authority", "domain"],
)
def test_certificates_got_another_way_are_not_reused(
    make_context: MakeContext, other: dict[str, Any]
) -> None:
    first = Files(make_context, HTTP)
    assert first.acme["storage"] == Files(make_context, HTTP).acme["storage"]
    assert first.acme["storage"] != Files(make_context, **other).acme["storage"]
    ((_, folder),) = first.context.stack.service("traefik").data
    assert first.acme["storage"].rpartition("/")[0] == folder


@pytest.mark.parametrize("tls", [{"mode": "own-ca"}, HTTP, DNS], ids=lambda tls: tls["mode"])
def test_no_name_is_served_without_its_certificate(
    make_context: MakeContext, tls: dict[str, Any]
) -> None:
    options = Files(make_context, tls).config("dynamic/routes.yml")["tls"]["options"]
    assert options["default"]["sniStrict"] is True


@pytest.mark.parametrize("tls", [{"mode": "own-ca"}, HTTP, DNS], ids=lambda tls: tls["mode"])
def test_every_name_is_looked_after(make_context: MakeContext, tls: dict[str, Any]) -> None:
    site = Files(make_context, tls)
    stack = site.context.stack
    script = site.files["/usr/local/lib/nexus/certificates"].content.decode()
    compile(script, "certificates", "exec")
    assert all(f'"{stack.hostname(service)}"' in script for service in stack.routed())
    assert f'ADDRESS = ("{stack.address("traefik", "edge")}", 8443)' in script


def test_a_new_site_takes_the_authority_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("the text")
    answers = {"tls": "acme-http", "ca_file": str(file)}
    assert site_of(answers)["tls"] == {"mode": "acme-http", "ca_certificate": "the text"}
    with pytest.raises(AnswerError, match=r"none\.pem cannot be read"):
        site_of({**answers, "ca_file": str(tmp_path / "none.pem")})
