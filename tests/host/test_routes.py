"""What a browser meets: TLS, redirects, headers, and who is let in. Tried from here."""

from __future__ import annotations

import datetime
import secrets
import ssl

import pytest
from cryptography import x509

from roles.stack.service import Service
from roles.verify import probe
from roles.verify.report import expect, expect_that
from roles.verify.target import Target

LEAST_DAYS = 14
# RFC 6797; half a year is what scanners ask for at least.
LEAST_HSTS_SECONDS = 15_552_000
LONGEST_ERROR = 100
BROWSER = {"Accept": "text/html"}
PROGRAM = {"Accept": "application/json", "X-Requested-With": "XMLHttpRequest"}
# What a client might send to pass for somebody who is logged in, or for another request.
FORGED = {
    "Remote-User": "{admin}",
    "Remote_User": "{admin}",
    "Remote-Groups": "admins",
    "X-Forwarded-Host": "{portal}",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Uri": "/api/health",
    "X-Original-URL": "https://{portal}/",
    "X-Real-Ip": "127.0.0.1",
}
OLD = {
    "TLS 1.0": (ssl.TLSVersion.TLSv1, "ALL"),
    "TLS 1.1": (ssl.TLSVersion.TLSv1_1, "ALL"),
    "no forward secrecy": (ssl.TLSVersion.TLSv1_2, "kRSA"),
    "CBC": (ssl.TLSVersion.TLSv1_2, "ECDHE+AES+SHA1:ECDHE+AES+SHA256:!AESGCM"),
}


@pytest.mark.check("SEC-46")
def test_certificate_holds(target: Target, route: Service) -> None:
    name = target.context.stack.hostname(route)
    with target.door().tls(name) as connection:
        shown = connection.getpeercert(binary_form=True)
    assert shown is not None
    certificate = x509.load_der_x509_certificate(shown)
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    wanted = f"at least {LEAST_DAYS} days left"
    expect_that(left.days >= LEAST_DAYS, f"{name} certificate", f"{left.days} days left", wanted)
    if target.site.tls.mode == "own-ca":
        pem = target.context.secrets["tls_server_certificate"].reveal()
        kept = x509.load_pem_x509_certificate(pem.encode())
        expect(f"{name} certificate number", certificate.serial_number, kept.serial_number)


@pytest.mark.check("SEC-45")
def test_old_tls_is_refused(target: Target, proxy: Service) -> None:
    for what, (version, ciphers) in OLD.items():
        seen = probe.handshake(target.door(), target.portal, version, ciphers)
        expect(what, seen, probe.REFUSED)


@pytest.mark.check("EXP-19")
def test_http_leads_to_https(target: Target, route: Service) -> None:
    name = target.context.stack.hostname(route)
    answer = target.door().ask_plain(name, "/some/path")
    expect_that(answer.status in {301, 308}, f"http://{name}", answer.status, "301 or 308")
    expect(f"http://{name} leads to", answer.location, f"https://{name}/some/path")


@pytest.mark.check("SEC-44")
def test_headers_protect_the_browser(target: Target, route: Service) -> None:
    name = target.context.stack.hostname(route)
    headers = target.door().ask(name).headers
    wanted = {
        "x-content-type-options": "nosniff",
        "referrer-policy": "strict-origin-when-cross-origin",
        "server": None,
        "x-powered-by": None,
    }
    expect(name, {key: headers.get(key) for key in wanted}, wanted)
    frames = headers.get("x-frame-options", "")
    own = frames.upper() in {"DENY", "SAMEORIGIN"}
    expect_that(own, f"{name} x-frame-options", frames, "DENY or SAMEORIGIN")
    strict = headers.get("strict-transport-security", "")
    settings = strict.replace(" ", "").split(";")
    ages = [int(s.partition("=")[2]) for s in settings if s.startswith("max-age=")]
    expect_that(
        ages[:1] >= [LEAST_HSTS_SECONDS],
        f"{name} strict-transport-security",
        strict,
        f"max-age of at least {LEAST_HSTS_SECONDS}",
    )


@pytest.mark.parametrize("path", ["/", "/api", "/%2e%2e/", "//", "/index.html"])
@pytest.mark.check("SEC-38")
def test_guarded_route_asks_for_login(target: Target, guarded: Service, path: str) -> None:
    _expect_login(target, guarded, path, {})


@pytest.mark.check("SEC-39")
def test_forged_headers_open_nothing(target: Target, guarded: Service) -> None:
    for header, value in FORGED.items():
        forged = value.format(admin=target.site.admin, portal=target.portal)
        _expect_login(target, guarded, "/", {header: forged})


def _expect_login(target: Target, service: Service, path: str, headers: dict[str, str]) -> None:
    name = target.context.stack.hostname(service)
    shown = f"{name}{path}{' with ' if headers else ''}{', '.join(headers)}"
    answer = target.door().ask(name, path, headers={**BROWSER, **headers})
    led = answer.location.startswith(f"https://{target.portal}/")
    place = "the portal" if led else answer.location
    seen = f"{answer.status} {place}".strip()
    # A path that Traefik itself refuses reaches nobody.
    expect(shown, "302 the portal" if answer.status == 400 else seen, "302 the portal")
    program = target.door().ask(name, path, headers={**PROGRAM, **headers})
    refused = program.status in {400, 401}
    expect_that(refused, f"{shown}, asked by a program", program.status, "401")


@pytest.mark.check("EXP-13")
def test_native_route_answers_by_itself(target: Target, native: Service) -> None:
    name = target.context.stack.hostname(native)
    answer = target.door().ask(name, "/", headers=BROWSER)
    expect_that(answer.status < 400, f"https://{name}", answer.status, "an answer of its own")
    itself = target.portal not in answer.location
    expect_that(itself, f"https://{name} leads to", answer.location, "no login page before it")


@pytest.mark.check("SEC-47")
def test_unknown_name_shows_nothing(target: Target, proxy: Service) -> None:
    known = target.portal
    unknown = f"{secrets.token_hex(6)}.{target.site.domain}"
    answer = target.door().ask(unknown, sni=known)
    nothing = answer.status in {404, 421} and len(answer.body) < LONGEST_ERROR
    expect_that(nothing, "an unknown host name", f"{answer.status} {answer.body}", "an error page")
    if target.site.tls.mode == "own-ca":
        seen = probe.handshake(target.door(), "nobody.invalid", ssl.TLSVersion.TLSv1_2, "ALL")
        expect("TLS for a foreign name", seen, probe.REFUSED)
