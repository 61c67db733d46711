"""Every entry that the vault must hold for a site: generated, derived, made or given."""

from __future__ import annotations

from collections.abc import Iterator

from roles.core.secret import SecretSpec
from roles.site.schema import Site

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
    SecretSpec("authelia_storage_encryption_key", "password", "encrypts second factors", length=64),
    SecretSpec("authelia_reset_password_jwt_secret", "password", "signs identity proofs", 64),
    SecretSpec("postgres_password", "password", "Authelia's database"),
    SecretSpec("valkey_password", "password", "Authelia's sessions"),
    SecretSpec("jellyfin_admin_password", "password", "your login at Jellyfin", length=24),
)
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
    yield from _SPECS
    if site.tls.mode == "own-ca":
        yield from _CERTIFICATES
    for variable, name in sorted(site.tls.credentials.items()):
        yield SecretSpec(name, "given", f"{variable} for the DNS challenge")
