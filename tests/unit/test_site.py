"""Every broken site is refused with one line that names field, value and mend."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.site.schema import SiteError
from tests.unit.conftest import RAW, site_from

DSA = "ssh-dss AAAAB3NzaC1kc3MAAACB me"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----hunter2"
DIGEST = "0" * 64
WIREGUARD_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
TUNNEL = {
    "provider": "custom",
    "endpoint": "203.0.113.7:51820",
    "public_key": WIREGUARD_KEY,
    "addresses": ["10.64.0.2/32"],
}
NAMED = {"provider": "mullvad", "addresses": ["10.64.0.2/32"]}
DNS = {"mode": "acme-dns", "provider": "cloudflare", "credentials": {"CF_DNS_API_TOKEN": "cf"}}

MAIL = {"server": "smtp.example.org:465", "sender": "n@example.org", "to": "me@example.org"}
REST = {"RESTIC_REST_USERNAME": "offsite_user", "RESTIC_REST_PASSWORD": "offsite_login"}


def offsite(**changes: Any) -> dict[str, Any]:
    """A site's change with a second repository that is wrong in one point."""
    right = {"address": "rest:https://b.example.org:8000/home/", "credentials": REST}
    return {"backup": {"offsite": {**right, **changes}}}


BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({"vpn": {}}, "site.vpn.provider", "is missing"),
    ({"vpn": {**NAMED, "provider": "mulvad"}}, "site.vpn.provider", "did you mean mullvad?"),
    ({"vpn": {**NAMED, "provider": "purevpn"}}, "site.vpn.type", "write openvpn"),
    ({"vpn": {**TUNNEL, "type": "openvpn"}}, "site.vpn.type", "write wireguard"),
    ({"vpn": {**NAMED, "type": "ipsec"}}, "site.vpn.type", "'wireguard' or 'openvpn'"),
    ({"vpn": {**NAMED, "countries": ["a,b"]}}, "site.vpn.countries[0]", "Netherlands"),
    ({"vpn": {**TUNNEL, "countries": ["Spain"]}}, "site.vpn.countries", "remove it"),
    ({"vpn": {**TUNNEL, "endpoint": None}}, "site.vpn.endpoint", "needs it"),
    ({"vpn": {**TUNNEL, "public_key": None}}, "site.vpn.public_key", "needs it"),
    ({"vpn": {**NAMED, "public_key": WIREGUARD_KEY}}, "site.vpn.public_key", "remove it"),
    ({"vpn": {**TUNNEL, "endpoint": "vpn.example.org:51820"}}, "site.vpn.endpoint", "203.0.113.7"),
    ({"vpn": {**TUNNEL, "endpoint": "203.0.113.7"}}, "site.vpn.endpoint", "203.0.113.7:51820"),
    ({"vpn": {**TUNNEL, "endpoint": "[2001:db8::1]:9"}}, "site.vpn.endpoint", "IPv4"),
    ({"vpn": {**TUNNEL, "public_key": "hunter2"}}, "site.vpn.public_key", "PublicKey of [Peer]"),
    ({"vpn": {**TUNNEL, "addresses": ["hunter2"]}}, "site.vpn.addresses[0]", "10.64.0.2/32"),
    ({"vpn": {**TUNNEL, "addresses": ["fc00::2/128"]}}, "site.vpn.addresses[0]", "IPv4 alone"),
    ({"vpn": {**TUNNEL, "addresses": ["172.30.9.2/32"]}}, "site.vpn.addresses[0]", "overlaps"),
    ({"vpn": {"provider": "mullvad"}}, "site.vpn.addresses", "Address"),
    ({"vpn": {**NAMED, "provider": "airvpn"}}, "site.vpn.preshared_key", "write True"),
    ({"vpn": {**NAMED, "type": "openvpn"}}, "site.vpn.addresses", "remove it"),
    ({"vpn": {**NAMED, "private_key": "hunter2"}}, "site.vpn.private_key", "is not known"),
    ({"vpn": {**TUNNEL, "endpoint": ["hunter2"]}}, "site.vpn.endpoint", "must be a text"),
    ({"domain": "localhost"}, "site.domain", "home.example.org"),
    ({"domain": "home.arpa"}, "site.domain", "nexus.home.arpa"),
    ({"domain": "192.168.1.5"}, "site.domain", "is not a domain"),
    ({"domain": "Home.Example.org"}, "site.domain", "is not a domain"),
    ({"domain": "a_b.example.org"}, "site.domain", "is not a domain"),
    ({"domain": "x`) || Host(`y.org"}, "site.domain", "is not a domain"),
    ({"email": "me"}, "site.email", "me@example.org"),
    ({"email": "a b@example.org"}, "site.email", "is not an address"),
    ({"timezone": "Mars/Base"}, "site.timezone", "Europe/Berlin"),
    ({"name": "My House"}, "site.name", "lower-case"),
    ({"name": "../home"}, "site.name", "lower-case"),
    ({"admin": "Alice"}, "site.admin", "lower-case"),
    ({"admin": ""}, "site.admin", "lower-case"),
    ({"people": {"Bob B": "b@example.org"}}, "site.people", "lower-case"),
    ({"people": {"bob": "bob"}}, "site.people['bob']", "me@example.org"),
    ({"people": {"alice": "a@example.org"}}, "site.people", "leave that one out"),
    ({"people": ["bob"]}, "site.people", "must be a dictionary"),
    ({"lan": []}, "site.lan", "is empty"),
    ({"lan": ["192.168.1.5/24"]}, "site.lan[0]", "192.168.1.0/24"),
    ({"lan": ["192.168.1.0"]}, "site.lan[0]", "is no network"),
    ({"lan": ["0.0.0.0/0"]}, "site.lan[0]", "whole internet"),
    ({"lan": ["::/0"]}, "site.lan[0]", "whole internet"),
    ({"lan": ["172.30.4.0/24"]}, "site.network_prefix", "overlaps"),
    ({"lan": "192.168.1.0/24"}, "site.lan", "must be a list"),
    ({"network_prefix": "8.8.0.0/16"}, "site.network_prefix", "private"),
    ({"network_prefix": "172.30.0.0/24"}, "site.network_prefix", "/20"),
    ({"network_prefix": "fd00::/64"}, "site.network_prefix", "IPv4"),
    ({"exposure": "world"}, "site.exposure", "'lan'"),
    ({"ssh": {"ports": [70000]}}, "site.ssh.ports[0]", "65535"),
    ({"ssh": {"ports": ["22"]}}, "site.ssh.ports[0]", "without quotes"),
    ({"ssh": {"ports": []}}, "site.ssh.ports", "is empty"),
    ({"ssh": {"ports": [443]}}, "site.ssh.ports[0]", "web"),
    ({"ssh": {"ports": [22, 22]}}, "site.ssh.ports[1]", "twice"),
    ({"ssh": {"prots": [22]}}, "site.ssh.prots", "did you mean ports?"),
    ({"ssh": {"allow_from": ["lan"]}}, "site.ssh.allow_from[0]", "is no network"),
    ({"ssh": {"options": {"Port": "2222"}}}, "site.ssh.options.Port", "not an option"),
    ({"ssh": {"options": {"PasswordAuthentication": "yes"}}}, "site.ssh.options", "not an option"),
    ({"ssh": {"options": {"MaxSessions": "5\nPort 9"}}}, "site.ssh.options", "one line"),
    ({"ssh": {"authorized_keys": {"root": [DSA]}}}, "authorized_keys.root[0]", "public key"),
    ({"ssh": {"authorized_keys": {"root": [PRIVATE]}}}, "authorized_keys.root[0]", "private key"),
    ({"ssh": {"authorized_keys": {"root": []}}}, "authorized_keys.root", "lock root out"),
    ({"ssh": {"authorized_keys": {"a b": ["x"]}}}, "authorized_keys", "account name"),
    ({"ssh": {"authorized_keys": {"root": ["ssh-ed25519 AAAA"]}}}, "root[0]", "cut off"),
    ({"media": {"movies": "media"}}, "site.media.movies", "absolute"),
    ({"media": {"movies": "/srv/../etc"}}, "site.media.movies", "clean"),
    ({"media": {"movies": "/etc/x"}}, "site.media.movies", "belongs to the system"),
    ({"media": {"movies": "/"}}, "site.media.movies", "belongs to the system"),
    ({"media": {"a": "/srv/m", "b": "/srv/m/x"}}, "site.media.b", "overlap"),
    ({"media": {"A B": "/srv/m"}}, "site.media.A B", "is not a name"),
    ({"tls": {"mode": "letsencrypt"}}, "site.tls.mode", "own-ca"),
    ({"tls": {"mode": "acme-http"}}, "site.tls.mode", "port 80"),
    ({"tls": {"mode": "acme-dns"}}, "site.tls.provider", "cloudflare"),
    ({"tls": {**DNS, "credentials": {}}}, "site.tls.credentials", "vault entries"),
    ({"tls": {**DNS, "credentials": {"CF_TOKEN": "s3Cr3t-V4lue"}}}, "CF_TOKEN", "not the value"),
    ({"tls": DNS, "domain": "nexus.home.arpa"}, "site.tls.mode", "own-ca"),
    ({"tls": {"mode": "own-ca", "provider": "x"}}, "site.tls.provider", "no meaning"),
    ({"tls": {**DNS, "directory": "http://x"}}, "site.tls.directory", "https://"),
    ({"tls": {**DNS, "ca_certificate": "/etc/ca.pem"}}, "site.tls.ca_certificate", "read_text()"),
    ({"tls": {**DNS, "ca_certificate": PRIVATE}}, "site.tls.ca_certificate", "read_text()"),
    ({"tls": {**DNS, "credentials": {"CF_TOKEN_FILE": "x"}}}, "CF_TOKEN_FILE", "write CF_TOKEN"),
    (
        {"tls": {**DNS, "credentials": {"AWS_ACCESS_KEY_ID": "x"}}},
        "AWS_ACCESS_KEY_ID",
        "AWS_SHARED_CREDENTIALS",
    ),
    ({"updates": {"reboot": "25:00"}}, "site.updates.reboot", "HH:MM"),
    ({"services": {"plex": {}}}, "site.services.plex", "known are"),
    ({"services": {"jellyfin": {"memory": "lots"}}}, "jellyfin.memory", "512m"),
    ({"services": {"jellyfin": {"memory": "8m"}}}, "jellyfin.memory", "64m"),
    ({"memory_overcommit": 0.5}, "site.memory_overcommit", "write e.g. 2"),
    ({"services": {"jellyfin": {"cpus": 0}}}, "jellyfin.cpus", "1.5"),
    ({"images": {"traefik": "traefik:latest"}}, "site.images.traefik", "@sha256"),
    ({"images": {"nginx": f"nginx@sha256:{DIGEST}"}}, "site.images.nginx", "known are"),
    ({"backup": {"repository": "/etc/x"}}, "site.backup.repository", "/mnt/backup/nexus"),
    ({"backup": {"repository": "/home/me/x"}}, "site.backup.repository", "/mnt/backup/nexus"),
    ({"backup": {"repository": "/mnt/%h"}}, "site.backup.repository", "/mnt/backup/nexus"),
    ({"backup": {"repository": "/srv/media/movies/b"}}, "site.backup.repository", "overlaps"),
    ({"backup": {"time": "3 am"}}, "site.backup.time", "HH:MM"),
    ({"backup": {"least_free": "much"}}, "site.backup.least_free", "2g"),
    ({"backup": {"keep": {"daily": 0}}}, "site.backup.keep.daily", "at least 1"),
    (
        {"scan": {"accepted": {"openssl": "not used"}}},
        "site.scan.accepted.openssl",
        "CVE-2026-1234",
    ),
    ({"scan": {"accepted": {"CVE-2026-1": ""}}}, "site.scan.accepted.CVE-2026-1", "a reason"),
    ({"scan": {"accepted": ["CVE-2026-1"]}}, "site.scan.accepted", "dictionary"),
    ({"scan": {"database": ["https://x/trivy-db"]}}, "site.scan.database[0]", "trivy-db:2"),
    ({"scan": {"database": ["x/trivy-db:2' --debug"]}}, "site.scan.database[0]", "trivy-db:2"),
    ({"backup": {"objectives": {"rto": "soon"}}}, "site.backup.objectives.rto", "90m"),
    ({"backup": {"offsite": {}}}, "site.backup.offsite.address", "is missing"),
    (offsite(address="http://b.example.org"), "offsite.address", "rest:https://"),
    (offsite(address="rest:http://b.example.org/"), "offsite.address", "rest:https://"),
    (offsite(address="rest:https://me:hunter2@b.example.org/"), "offsite.address", "password"),
    (offsite(address="s3:http://hunter2"), "offsite.address", "s3:https://"),
    (offsite(credentials={"RESTIC_REST_USERNAME": "u"}), "credentials", "RESTIC_REST_PASSWORD"),
    (offsite(credentials={**REST, "RESTIC_REST_PASSWORD": "s3Cr3t"}), "credentials", "not values"),
    (offsite(host_key="x"), "offsite.host_key", "belongs to sftp"),
    (offsite(ca_certificate=PRIVATE), "offsite.ca_certificate", "read_text()"),
    (offsite(upload_limit=0), "offsite.upload_limit", "2048"),
    ({"notify": {"mail": {**MAIL, "server": "x"}}}, "notify.mail.server", "smtp.example.org:465"),
    ({"notify": {"mail": {**MAIL, "to": "me"}}}, "notify.mail.to", "me@example.org"),
    ({"notify": {"mail": {**MAIL, "user": "smtp_user"}}}, "notify.mail", "write both"),
    (
        {"notify": {"mail": {**MAIL, "user": "smtp_user", "password": "s3Cr3t!"}}},
        *("notify.mail.password", "notify_password"),
    ),
    ({"notify": {"mail": {**MAIL, "security": "none"}}}, "notify.mail.security", "starttls"),
    ({"notify": {"webhook": "https://hooks.example.org/s3Cr3t"}}, "notify.webhook", "vault entry"),
    ({"notify": {"ntfy": {"address": "http://ntfy.sh/x"}}}, "ntfy.address", "https://ntfy.sh"),
    ({"notify": {"ca_certificate": PRIVATE}}, "notify.ca_certificate", "read_text()"),
    (offsite(download_limit=-1), "offsite.download_limit", "2048"),
    (offsite(upload_limit="s3Cr3t"), "offsite.upload_limit", ""),
    ({"docker": {"source": "snap"}}, "site.docker.source", "distribution"),
    ({"domian": "x"}, "site.domian", "did you mean domain?"),
]


@pytest.mark.parametrize(("change", "field", "mend"), BROKEN, ids=lambda value: str(value)[:50])
def test_is_refused_by_name(change: dict[str, Any], field: str, mend: str) -> None:
    with pytest.raises(SiteError) as refused:
        site_from(**change)
    lines = [line for line in refused.value.problems if field in line]
    assert lines, refused.value.problems
    assert any(mend in line for line in lines), lines
    assert "hunter2" not in str(refused.value)
    assert "s3Cr3t" not in str(refused.value)


@pytest.mark.parametrize("field", sorted(RAW))
def test_every_required_field_is_named_when_missing(field: str) -> None:
    site = {key: value for key, value in RAW.items() if key != field}
    from roles.site.schema import load_site

    with pytest.raises(SiteError, match=rf"site\.{field}: is missing"):
        load_site(site, (), ())


@given(st.text(max_size=40))
def test_a_domain_that_passes_cannot_break_out_of_a_configuration(text: str) -> None:
    try:
        site = site_from(domain=text)
    except SiteError:
        return
    assert set(site.domain) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
