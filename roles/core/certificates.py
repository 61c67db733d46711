"""A certificate authority of one's own: works at once, without a public name.

RFC 5280 profiles; the server certificate lasts 397 days (CA/Browser Forum limit that browsers
enforce), the authority ten years and only for its own domain (name constraints).
"""

from __future__ import annotations

import datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from roles.core.secret import Secret

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397
RENEW_DAYS = 30
# Clocks differ; a certificate must not lie in the future of a device that runs slow.
BACKDATED = datetime.timedelta(hours=1)


class Store(Protocol):
    """What is needed of a vault here."""

    def names(self) -> tuple[str, ...]: ...
    def get(self, name: str) -> Secret: ...
    def set(self, name: str, value: Secret | str, source: str = "") -> None: ...


def ensure_certificates(vault: Store, domain: str, now: datetime.datetime) -> list[str]:
    """Make or renew the authority and the server certificate; the names of what was written.

    A certificate is renewed 30 days before its end, or when the domain has changed. `now` is aware
    of its time zone.
    """
    written = []
    if _due(vault, "tls_ca_certificate", domain, now, days=365):
        key, certificate = _authority(domain, now)
        written += _store(vault, "tls_ca", key, certificate)
    if written or _due(vault, "tls_server_certificate", domain, now, days=RENEW_DAYS):
        authority_key = _load_key(vault.get("tls_ca_key"))
        authority = _load(vault.get("tls_ca_certificate"))
        key, certificate = _server(domain, now, authority_key, authority)
        written += _store(vault, "tls_server", key, certificate)
    return written


def _due(vault: Store, name: str, domain: str, now: datetime.datetime, days: int) -> bool:
    if name not in vault.names():
        return True
    certificate = _load(vault.get(name))
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    left = certificate.not_valid_after_utc - now
    return domain not in str(common).split() or left < datetime.timedelta(days=days)


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


def _load(pem: Secret) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.reveal().encode())


def _load_key(pem: Secret) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.reveal().encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("tls_ca_key is not an elliptic curve key")
    return key


def _authority(
    domain: str, now: datetime.datetime
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"NEXUS authority for {domain}")
    permitted = [x509.DNSName(domain)]
    builder = (
        _builder(name, name, key, now, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
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
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


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
