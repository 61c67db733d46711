"""An authority of one's own: what it vouches for, until when, and what makes it issue anew."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from roles.core.certificates import CertificateError, ensure_certificates, needs_renewal, verify
from roles.core.secret import Secret
from roles.core.vault import VaultError

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
DOMAIN = "home.example.org"
ALL = ["tls_ca_key", "tls_ca_certificate", "tls_server_key", "tls_server_certificate"]
SERVER = ALL[2:]


class Memory:
    """A vault without a file."""

    def __init__(self) -> None:
        self.values: dict[str, Secret] = {}

    def names(self) -> tuple[str, ...]:
        return tuple(self.values)

    def get(self, name: str) -> Secret:
        return self.values[name]

    def set(self, name: str, value: Secret | str, source: str = "") -> None:
        self.values[name] = value if isinstance(value, Secret) else Secret(value)

    def pem(self, name: str) -> str:
        return self.values[name].reveal()

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.pem(name).encode())


@pytest.fixture
def vault() -> Memory:
    made = Memory()
    assert ensure_certificates(made, DOMAIN, NOW) == ALL
    return made


def days(count: float) -> datetime.datetime:
    return NOW + datetime.timedelta(days=count)


def test_nothing_is_made_twice(vault: Memory) -> None:
    assert ensure_certificates(vault, DOMAIN, days(100)) == []


def test_the_server_certificate_is_renewed_before_its_end(vault: Memory) -> None:
    assert ensure_certificates(vault, DOMAIN, days(182)) == []
    assert ensure_certificates(vault, DOMAIN, days(184)) == SERVER


def test_a_household_that_deploys_twice_a_year_never_sees_it_end(vault: Memory) -> None:
    for since in range(0, 3000, 182):
        ensure_certificates(vault, DOMAIN, days(since))
        assert not needs_renewal(vault.pem("tls_server_certificate"), days(since + 182), 0)


def test_the_authority_is_renewed_a_year_early(vault: Memory) -> None:
    assert ensure_certificates(vault, DOMAIN, days(3650 - 370)) == SERVER
    assert ensure_certificates(vault, DOMAIN, days(3650 - 300)) == ALL[:2]
    assert ensure_certificates(vault, DOMAIN, days(3650 - 90)) == SERVER


def test_a_device_with_the_old_authority_accepts_what_the_new_one_signs(vault: Memory) -> None:
    old = vault.pem("tls_ca_certificate")
    for later in (3650 - 300, 3650 - 90):
        ensure_certificates(vault, DOMAIN, days(later))
        assert vault.pem("tls_ca_certificate") != old
        verify(old, vault.pem("tls_server_certificate"), DOMAIN, days(later))


def test_another_domain_gets_an_authority_of_its_own(vault: Memory) -> None:
    assert ensure_certificates(vault, "other.example.org", NOW) == ALL


def test_a_domain_inside_the_old_one_is_another_domain(vault: Memory) -> None:
    assert ensure_certificates(vault, f"sub.{DOMAIN}", NOW) == ALL


@pytest.mark.parametrize(
    ("removed", "written"),
    [
        ("tls_ca_key", ALL),
        ("tls_ca_certificate", ALL),
        ("tls_server_key", SERVER),
        ("tls_server_certificate", SERVER),
    ],
)
def test_a_removed_part_is_made_anew(vault: Memory, removed: str, written: list[str]) -> None:
    del vault.values[removed]
    assert ensure_certificates(vault, DOMAIN, NOW) == written


@pytest.mark.parametrize(("name", "written"), [("tls_ca_key", ALL), ("tls_server_key", SERVER)])
def test_a_key_that_does_not_fit_is_noticed(vault: Memory, name: str, written: list[str]) -> None:
    other = Memory()
    ensure_certificates(other, DOMAIN, NOW)
    vault.values[name] = other.values[name]
    assert ensure_certificates(vault, DOMAIN, NOW) == written


def test_an_authority_without_limits_is_replaced(vault: Memory) -> None:
    vault.values["tls_ca_key"] = vault.values["tls_server_key"]
    vault.values["tls_ca_certificate"] = vault.values["tls_server_certificate"]
    assert ensure_certificates(vault, DOMAIN, NOW) == ALL


def test_a_server_certificate_of_another_authority_is_noticed(vault: Memory) -> None:
    other = Memory()
    ensure_certificates(other, DOMAIN, NOW)
    for name in SERVER:
        vault.values[name] = other.values[name]
    assert ensure_certificates(vault, DOMAIN, NOW) == SERVER


def test_the_longest_domain_gets_a_certificate() -> None:
    vault = Memory()
    domain = ".".join(["a" * 60] * 4)
    ensure_certificates(vault, domain, NOW)
    verify(vault.pem("tls_ca_certificate"), vault.pem("tls_server_certificate"), domain, NOW)
    assert ensure_certificates(vault, domain, NOW) == []


def test_the_authority_vouches_for_its_domain_only(vault: Memory) -> None:
    extensions = vault.certificate("tls_ca_certificate").extensions
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    names = extensions.get_extension_for_class(x509.NameConstraints)
    assert basic.critical and usage.critical and names.critical
    assert basic.value.ca and basic.value.path_length == 0
    assert usage.value.key_cert_sign and not usage.value.digital_signature
    assert [n.value for n in names.value.permitted_subtrees or ()] == [DOMAIN]
    assert {str(n.value) for n in names.value.excluded_subtrees or ()} == {"0.0.0.0/0", "::/0"}


def test_the_server_certificate_serves_and_nothing_else(vault: Memory) -> None:
    certificate = vault.certificate("tls_server_certificate")
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lasts <= datetime.timedelta(days=366)
    assert certificate.not_valid_before_utc < NOW
    extensions = certificate.extensions
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(purposes) == [ExtendedKeyUsageOID.SERVER_AUTH]
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [DOMAIN, f"*.{DOMAIN}"]
    issuer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    authority = vault.certificate("tls_ca_certificate").extensions
    subject = authority.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issuer.key_identifier == subject.digest


@pytest.mark.parametrize("name", ALL)
def test_an_entry_that_holds_something_else_is_named(vault: Memory, name: str) -> None:
    vault.set(name, "s3cret-garbage")
    with pytest.raises(VaultError, match=f"{name} is not what.*remove {name}") as refused:
        ensure_certificates(vault, DOMAIN, NOW)
    assert "s3cret" not in str(refused.value)


def test_verify_names_what_does_not_fit(vault: Memory) -> None:
    pems = vault.pem("tls_ca_certificate"), vault.pem("tls_server_certificate")
    verify(*pems, DOMAIN, NOW)
    with pytest.raises(CertificateError, match="not for other"):
        verify(*pems, "other.example.org", NOW)
    with pytest.raises(CertificateError, match="not valid at"):
        verify(*pems, DOMAIN, days(400))
    with pytest.raises(CertificateError, match="not the authority's"):
        verify(pems[1], pems[1], DOMAIN, NOW)


def test_needs_renewal(vault: Memory) -> None:
    pem = vault.pem("tls_server_certificate")
    assert not needs_renewal(pem, NOW)
    assert needs_renewal(pem, days(390))
    assert needs_renewal(pem, days(500))
    assert needs_renewal(pem, days(-1))
    with pytest.raises(ValueError):
        needs_renewal("not a certificate", NOW)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize(
    ("names", "accepted"),
    [
        ((), True),
        (("-verify_hostname", f"tv.{DOMAIN}"), True),
        (("-verify_hostname", "example.org"), False),
    ],
)
def test_openssl_agrees(
    vault: Memory, tmp_path: Path, names: tuple[str, ...], accepted: bool
) -> None:
    for name in ("tls_ca_certificate", "tls_server_certificate"):
        (tmp_path / name).write_text(vault.pem(name))
    done = subprocess.run(
        [
            *("openssl", "verify", "-x509_strict", "-purpose", "sslserver"),
            *("-attime", str(int(NOW.timestamp())), *names),
            *("-CAfile", str(tmp_path / "tls_ca_certificate")),
            str(tmp_path / "tls_server_certificate"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) is accepted, done.stderr
