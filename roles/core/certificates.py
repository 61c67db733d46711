"""A certificate authority of one's own: works at once, without a public name.

RFC 5280 profiles. The server certificate lasts 365 days: below the 825 that Apple's systems accept
from an authority that the user added, and the 366 of Mozilla's server side TLS guidelines 5.7.
The authority lasts ten years and is for its own domain only: name constraints permit that domain
and no address, so that a stolen key cannot speak for any other site.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roles.core.secret import Secret
from roles.core.vault import VaultError

AUTHORITY_DAYS = 3650
SERVER_DAYS = 365
# Only a deploy renews, so each one in the second half of its life does.
RENEW_DAYS = 182
# Devices must be told to trust a new authority by hand. It comes a year early and keeps the key, so
# that a device with the old one accepts what the new one signs until then.
RENEW_AUTHORITY_DAYS = 365
# RFC 5280 ub-common-name: a domain may be longer, so no decision rests on the common name.
LONGEST_COMMON_NAME = 64
# Clocks differ; a certificate must not lie in the future of a device that runs slow.
BACKDATED = datetime.timedelta(hours=1)


class Store(Protocol):
    """What is needed of a vault here."""

    def names(self) -> tuple[str, ...]: ...
    def get(self, name: str) -> Secret: ...
    def set(self, name: str, value: Secret | str, source: str = "") -> None: ...


class CertificateError(Exception):
    """A certificate does not hold for a domain; the text says why."""


def ensure_certificates(vault: Store, domain: str, now: datetime.datetime) -> list[str]:
    """Make or renew the authority and the server certificate; the names of what was written.

    A certificate is made anew half a year before its end (the authority's a year before, with the
    same key), when the domain has changed, or when it and its key, or it and its authority, do not
    belong together. `now` is aware of its time zone.

    Raises:
        VaultError: an entry holds something else, such as a key of another kind.
    """
    written = []
    key = _authority_key(vault, domain)
    if key is None or needs_renewal(
        _stored(vault, "tls_ca_certificate"), now, RENEW_AUTHORITY_DAYS
    ):
        written += _store(vault, "tls_ca", *_authority(domain, now, key))
    if not _server_holds(vault, domain, now):
        authority_key = _stored_key(vault, "tls_ca_key")
        authority = _load(_stored(vault, "tls_ca_certificate"))
        written += _store(vault, "tls_server", *_server(domain, now, authority_key, authority))
    return written


def needs_renewal(certificate_pem: str, now: datetime.datetime, days: int = RENEW_DAYS) -> bool:
    """Whether a certificate ends within so many days, has ended, or has not begun.

    Raises:
        ValueError: the text is not a PEM certificate.
    """
    certificate = _load(certificate_pem)
    left = certificate.not_valid_after_utc - now
    return left < datetime.timedelta(days=days) or now < certificate.not_valid_before_utc


def verify(authority_pem: str, certificate_pem: str, domain: str, now: datetime.datetime) -> None:
    """Prove that a device which trusts the authority accepts the certificate for the domain.

    Raises:
        CertificateError: signature, names, or time do not fit.
        ValueError: a text is not a PEM certificate.
    """
    authority, certificate = _load(authority_pem), _load(certificate_pem)
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise CertificateError(f"the certificate for {domain} is not the authority's") from error
    if not {domain, f"*.{domain}"} <= set(_names(certificate)):
        raise CertificateError(f"the certificate is not for {domain} and the names under it")
    if domain not in _permitted(authority):
        raise CertificateError(f"the authority is not for {domain}")
    for who, each in (("authority", authority), ("certificate", certificate)):
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            raise CertificateError(f"the {who} for {domain} is not valid at {now:%Y-%m-%d}")


def _authority_key(vault: Store, domain: str) -> ec.EllipticCurvePrivateKey | None:
    """The key of the domain's authority, if there is one and nothing but time can end it."""
    if not {"tls_ca_key", "tls_ca_certificate"} <= set(vault.names()):
        return None
    pem, key = _stored(vault, "tls_ca_certificate"), _stored_key(vault, "tls_ca_key")
    return key if domain in _permitted(_load(pem)) and _belong_together(key, pem) else None


def _server_holds(vault: Store, domain: str, now: datetime.datetime) -> bool:
    if not {"tls_server_key", "tls_server_certificate"} <= set(vault.names()):
        return False
    pem = _stored(vault, "tls_server_certificate")
    key = _stored_key(vault, "tls_server_key")
    if needs_renewal(pem, now) or not _belong_together(key, pem):
        return False
    try:
        verify(_stored(vault, "tls_ca_certificate"), pem, domain, now)
    except CertificateError:
        return False
    return True


def _belong_together(key: ec.EllipticCurvePrivateKey, certificate_pem: str) -> bool:
    return key.public_key() == _load(certificate_pem).public_key()


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _permitted(authority: x509.Certificate) -> list[str]:
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in constraints.permitted_subtrees or ()]


def _store(
    vault: Store, prefix: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> list[str]:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    names = [f"{prefix}_key", f"{prefix}_certificate"]
    vault.set(names[0], text)
    vault.set(names[1], certificate.public_bytes(serialization.Encoding.PEM).decode())
    return names


def _load(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def _stored(vault: Store, name: str) -> str:
    """A certificate of the vault as text, proven to be one."""
    pem = vault.get(name).reveal()
    try:
        _load(pem)
    except ValueError as error:
        raise _unusable(name) from error
    return pem


def _stored_key(vault: Store, name: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(vault.get(name).reveal().encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(name) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _unusable(name)
    return key


def _unusable(name: str) -> VaultError:
    return VaultError(
        f"vault: {name} is not what this program makes; the next deploy makes it anew after: "
        f"make vault ARGS='remove {name}'"
    )


def _authority(
    domain: str, now: datetime.datetime, key: ec.EllipticCurvePrivateKey | None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = _name(f"NEXUS authority for {domain}")
    everywhere = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    # A kind of name that stands in neither list would be allowed without limit (RFC 5280 4.2.1.10).
    constraints = x509.NameConstraints(
        [x509.DNSName(domain)], [x509.IPAddress(network) for network in everywhere]
    )
    builder = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(constraints, critical=True)
    )
    return key, builder.sign(key, hashes.SHA256())


def _server(
    domain: str,
    now: datetime.datetime,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(domain), x509.DNSName(f"*.{domain}")])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = (
        _builder(_name(domain), authority.subject, key, now, SERVER_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(issuer_key, critical=False)
    )
    return key, builder.sign(authority_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:LONGEST_COMMON_NAME])])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    now: datetime.datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now - BACKDATED + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
