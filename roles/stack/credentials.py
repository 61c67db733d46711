"""Every entry that the vault must hold for a site: generated, derived, made or given."""

from __future__ import annotations

from collections.abc import Iterator

from roles.core.secret import SecretSpec
from roles.site.schema import Notify, Site
from roles.stack import openid
from roles.stack.tunnel import keys

_SPECS = (
    SecretSpec("inputs_key", "password", "keys the fingerprints in container labels"),
    SecretSpec("authelia_admin_password", "password", "your login at the portal", length=24),
    SecretSpec(
        "authelia_admin_password_hash",
        "argon2id",
        "what Authelia stores of it",
        of="authelia_admin_password",
    ),
    SecretSpec("authelia_session_secret", "password", "protects sessions", length=64),
    SecretSpec(
        "authelia_storage_encryption_key",
        "password",
        "encrypts second factors",
        length=64,
        fixed="the second factors in Authelia's database can be read with it alone",
    ),
    SecretSpec("authelia_reset_password_jwt_secret", "password", "signs identity proofs", 64),
    SecretSpec("postgres_password", "password", "Authelia's database"),
    SecretSpec("valkey_password", "password", "Authelia's sessions"),
    SecretSpec("jellyfin_admin_password", "password", "your login at Jellyfin", length=24),
    SecretSpec("seerr_api_key", "hex", "the key to Seerr's API", length=64),
    SecretSpec("sabnzbd_password", "password", "your login at SABnzbd", length=24),
    SecretSpec("sabnzbd_api_key", "hex", "what other services show SABnzbd", length=32),
    SecretSpec("sabnzbd_nzb_key", "hex", "adds downloads to SABnzbd, no more", length=32),
)
_TORRENTS = (
    SecretSpec("qbittorrent_password", "password", "your login at qBittorrent", length=24),
    SecretSpec(
        "qbittorrent_password_hash",
        "pbkdf2",
        "what qBittorrent stores of it",
        of="qbittorrent_password",
    ),
)
_MONITORING = (
    SecretSpec("postgres_monitor_password", "password", "reads the database's figures"),
    SecretSpec("valkey_monitor_password", "password", "reads the session store's figures"),
)
# Each has a key for programs and a login for people.
_APPLICATIONS = ("sonarr", "radarr", "lidarr", "prowlarr", "bazarr")
_NEW_KEY = "a repository opens with the passwords it knows; first add one there: restic key add"
_LOCAL = SecretSpec("backup_local_password", "password", "opens the local backup", fixed=_NEW_KEY)
_OFFSITE = SecretSpec("backup_offsite_password", "password", "opens the other", fixed=_NEW_KEY)
_CERTIFICATES = (
    SecretSpec("tls_ca_key", "made", "your certificate authority's key"),
    SecretSpec("tls_ca_certificate", "made", "what your devices trust"),
    SecretSpec("tls_server_key", "made", "the server certificate's key"),
    SecretSpec("tls_server_certificate", "made", "the server certificate"),
)


def specs(site: Site) -> tuple[SecretSpec, ...]:
    """The entries of one site."""
    return tuple(_specs(site))


def _specs(site: Site) -> Iterator[SecretSpec]:
    yield from (*_SPECS, _LOCAL)
    for name in _APPLICATIONS:
        yield SecretSpec(f"{name}_api_key", "hex", f"the key to {name}'s API", length=32)
        yield SecretSpec(f"{name}_password", "password", f"your login at {name}", length=24)
    for name in sorted(site.people):
        yield from _person(name)
    if site.tls.mode == "own-ca":
        yield from _CERTIFICATES
    for name in sorted({entry for own in site.own.values() for entry in own.secrets}):
        yield SecretSpec(name, "given", "for a service of your own")
    if site.monitoring.enabled:
        yield from openid.specs(("grafana",))
        yield SecretSpec("grafana_secret_key", "password", "what Grafana encrypts its state with")
    if site.vpn:
        yield from _TORRENTS
        yield from (SecretSpec(name, "given", note) for name, note in keys(site.vpn))
    for variable, name in sorted(site.tls.credentials.items()):
        yield SecretSpec(name, "given", f"{variable} for the DNS challenge")
    yield from _channels(site.notify)
    if site.monitoring.enabled:
        yield from _MONITORING
        if site.monitoring.heartbeat:
            yield SecretSpec(site.monitoring.heartbeat, "given", "address of a dead man's switch")
    if site.backup.offsite is not None:
        yield _OFFSITE
        for variable, name in sorted(site.backup.offsite.credentials.items()):
            yield SecretSpec(name, "given", f"{variable} of the second backup")


def login(name: str) -> str:
    """The entry with a person's password at the portal; its hash has _hash after that."""
    return f"portal_{name.replace('-', '_')}_password"


def _person(name: str) -> Iterator[SecretSpec]:
    entry = login(name)
    yield SecretSpec(entry, "password", f"{name}'s login at the portal", length=24)
    yield SecretSpec(f"{entry}_hash", "argon2id", "what Authelia stores of it", of=entry)


def _channels(notify: Notify) -> Iterator[SecretSpec]:
    mail, ntfy = notify.mail, notify.ntfy
    entries = {
        **({mail.user: "your login at the mail server"} if mail and mail.user else {}),
        **({mail.password: "its password"} if mail and mail.password else {}),
        **({ntfy.token: "a token that may publish at ntfy"} if ntfy and ntfy.token else {}),
        **({notify.webhook: "the address of a webhook"} if notify.webhook else {}),
    }
    for name, note in entries.items():
        yield SecretSpec(name, "given", note)
