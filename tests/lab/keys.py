"""The lab's own keys: one pair for logging in, one host key a host, one certificate authority."""

from __future__ import annotations

import datetime
import ipaddress
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_PRIVATE = (PrivateFormat.PKCS8, NoEncryption())
_VALID = datetime.timedelta(days=365)
_RENEW_BEFORE = datetime.timedelta(days=30)


def ssh_pair(file: Path, comment: str) -> str:
    """The public key (one line) of the private key in `file`, which is made when missing."""
    if file.exists():
        return file.with_suffix(".pub").read_text().strip()
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    line = f"{public} {comment}"
    file.with_suffix(".pub").write_text(line + "\n")
    write_private(file, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    return line


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read, at once."""
    beside = file.with_suffix(".new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
    beside.replace(file)


def server_certificate(directory: Path, address: str) -> tuple[Path, Path, Path]:
    """CA certificate, server certificate and server key for an IP address, as files.

    Made anew when one is missing or ends within 30 days; the authority lives as long as they do,
    because nothing outside of the lab ever trusts it.
    """
    ca_file, cert_file, key_file = (directory / name for name in ("ca.crt", "tls.crt", "tls.key"))
    if not (ca_file.exists() and key_file.exists() and _is_current(cert_file)):
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        _issue(ca_file, cert_file, key_file, address)
    return ca_file, cert_file, key_file


def _is_current(file: Path) -> bool:
    if not file.exists():
        return False
    ends = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc
    return ends - datetime.datetime.now(datetime.UTC) > _RENEW_BEFORE


def _issue(ca_file: Path, cert_file: Path, key_file: Path, address: str) -> None:
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Lab registry CA")])
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, address)])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    certificate = (
        _builder(name, ca_name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(alternative, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    write_private(key_file, key.private_bytes(Encoding.PEM, *_PRIVATE))
    ca_file.write_bytes(ca.public_bytes(Encoding.PEM))
    cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )
