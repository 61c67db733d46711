"""What a visitor meets at the proxy, whoever set it up, and how the proxy protects what is behind.

Names come from the site and from the labels that a proxy reads. Certificates are judged elsewhere.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from roles.core import libyaml
from roles.scorecard.results import evidence
from roles.verify import probe
from roles.verify.probe import Answer, Door
from roles.verify.report import Row, Unproven, expect, expect_that
from roles.verify.target import Target
from tests.host.checks.judging import program, running
from tests.host.checks.programs import PROXIES
from tests.host.test_jellyfin import CLIENT, LOGIN

HOST_RULE = re.compile(r"Host\(`([a-z0-9.-]+)`\)")
PUBLIC = "/System/Info/Public"
LONGEST_ANSWER = 1.0
AT_ONCE = 20
HTTP, HTTPS = 80, 443
PLAYER_PORT = 8096


class Trusting(Door):
    """A door whose certificate is not looked at."""

    def trust(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def door(target: Target) -> Trusting:
    found = target.door()
    return Trusting(found.address, found.http, found.https)


def names(target: Target) -> list[str]:
    """The host names that a proxy here may know."""
    rules = (text for c in target.collected.running for text in c.labels.values())
    labelled = {name for text in rules for name in HOST_RULE.findall(text)}
    declared = {target.context.stack.hostname(s) for s in target.services.values() if s.route}
    return sorted(labelled | declared)


def player(
    target: Target, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Jellyfin's answer, at a published port or through the proxy.

    Raises:
        Unproven: it answers nowhere.
    """
    container = program(target, "jellyfin")
    bindings = (container.inspect["NetworkSettings"]["Ports"] or {}).get(f"{PLAYER_PORT}/tcp")
    try:
        if bindings:
            place = Door(target.address, int(bindings[0]["HostPort"]))
            return place.ask_plain(target.address, path, headers=headers, body=body)
        for name in (n for n in names(target) if n.startswith("jellyfin.")):
            method = "GET" if body is None else "POST"
            answer = door(target).ask(name, path, headers=headers, method=method, body=body)
            if answer.status != 404:
                return answer
    except OSError as error:
        raise Unproven([Row("Jellyfin", str(error), "an answer", "make apply")]) from error
    raise Unproven([Row("Jellyfin", "nowhere", "a port or a name", "make apply")])


@pytest.mark.check("EXP-01", "API-09")
def test_jellyfin_answers(target: Target) -> None:
    answer = player(target, PUBLIC)
    expect(f"Jellyfin {PUBLIC}", answer.status, 200)
    version = json.loads(answer.body)["Version"]
    evidence(f"Jellyfin {version} answers")
    expect_that(bool(version), "Jellyfin's version", version, "a version")


@pytest.mark.check("SEC-54")
def test_jellyfin_shows_nothing_without_a_login(target: Target) -> None:
    for path in ("/Users", "/System/Info", "/Library/VirtualFolders"):
        expect(f"Jellyfin {path}", player(target, path).status, 401)


@pytest.mark.check("SEC-55")
def test_jellyfins_wizard_is_closed(target: Target) -> None:
    public = json.loads(player(target, PUBLIC).body)
    expect("Jellyfin StartupWizardCompleted", public["StartupWizardCompleted"], True)


@pytest.mark.check("SEC-56")
def test_jellyfin_refuses_a_wrong_password(target: Target) -> None:
    wrong = {"Username": f"nobody-{secrets.token_hex(4)}", "Pw": secrets.token_hex(8)}
    headers = {"Authorization": CLIENT, "Content-Type": "application/json"}
    answer = player(target, LOGIN, json.dumps(wrong), headers)
    expect("Jellyfin login with a wrong password", answer.status, 401)


@pytest.mark.check("PERF-12")
def test_jellyfin_answers_fast(target: Target) -> None:
    started = time.monotonic()
    player(target, PUBLIC)
    took = time.monotonic() - started
    evidence(f"answered after {took * 1000:.0f} ms")
    wanted = f"{LONGEST_ANSWER} s at most"
    expect_that(took <= LONGEST_ANSWER, "Jellyfin's answer", f"{took:.2f} s", wanted)


@pytest.mark.check("SCA-07")
def test_several_are_served_at_once(target: Target) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda _: player(target, PUBLIC).status, range(AT_ONCE)))
    expect(f"answers to {AT_ONCE} requests at once", set(answers), {200})


@pytest.mark.check("EXP-03")
def test_the_start_page_answers(target: Target) -> None:
    page = program(target, "homepage", "heimdall", "homarr", "dashy", "organizr")
    expect(f"{page.name} health", page.health or "none", "healthy" if page.health else "none")
    ports = sorted({port for protocol, port in page.published if protocol == "tcp"})
    statuses = [probe.plain_status(target.address, port, "/") for port in ports]
    if not ports:
        known = [n for n in names(target) if n.split(".")[0] in {"home", "homepage", "dash"}]
        headers = {"Accept": "text/html"}
        statuses = [door(target).ask(name, headers=headers).status for name in known]
    well = [status for status in statuses if status in {200, 302, 401}]
    expect_that(bool(well), f"{page.name}'s answers", statuses, "a page, or a login before it")


@pytest.mark.check("SEC-42")
def test_the_proxy_speaks_https(target: Target) -> None:
    program(target, *PROXIES)
    version, _ = probe.agreed(target.address, HTTPS, target.portal)
    evidence(f"{version} agreed")
    expect_that(version.startswith("TLS"), "port 443", version, "TLS")


@pytest.mark.check("PERF-15")
def test_the_proxy_speaks_http2(target: Target) -> None:
    program(target, *PROXIES)
    expect("protocol at port 443", probe.agreed(target.address, HTTPS, target.portal)[1], "h2")


@pytest.mark.check("SEC-43")
def test_the_proxy_asks_for_a_login(target: Target) -> None:
    program(target, *PROXIES)
    guarded = [name for name in names(target) if _asks(target, name)]
    evidence(f"{len(guarded)} names ask for a login")
    expect_that(bool(guarded), "names that ask for a login", guarded, "at least one")


def _asks(target: Target, name: str) -> bool:
    """Whether a name answers with a login: a page elsewhere, or HTTP's own."""
    answers = [door(target).ask(name, headers={"Accept": "text/html"})]
    answers.append(door(target).ask_plain(name))
    return any(
        answer.status == 401 or (answer.status in {302, 303} and "rd=" in answer.location)
        for answer in answers
    )


@pytest.mark.check("PERF-10")
def test_pages_are_compressed(target: Target) -> None:
    ours = {name for name, middleware in middlewares(target) if "compress" in middleware}
    found = [name for name, router in routers(target).items() if ours & _guards(router)]
    expect_that(bool(found), "routers that compress", found, "at least one")


@pytest.mark.check("COM-11")
def test_search_engines_stay_out(target: Target) -> None:
    program(target, *PROXIES)
    robots = player(target, "/web/").headers.get("x-robots-tag", "")
    expect_that("noindex" in robots, "x-robots-tag", robots, "noindex")


def configurations(target: Target) -> Iterator[Any]:
    """Every YAML document that a proxy here reads."""
    for container in target.collected.playing(*PROXIES):
        for text in target.collected.raw["proxy"].get(container.inspect["Id"], [])[1:]:
            try:
                yield libyaml.load(text) or {}
            except yaml.YAMLError:
                continue


def middlewares(target: Target) -> Iterator[tuple[str, dict[str, Any]]]:
    """The proxy's middlewares that stand in its files, by name."""
    for document in configurations(target):
        if isinstance(document, dict):
            yield from ((document.get("http") or {}).get("middlewares") or {}).items()


def routers(target: Target) -> dict[str, Any]:
    """The routers of the proxy's files, by name.

    Raises:
        Unproven: there is no proxy, or none of its routers stands in a file.
    """
    program(target, *PROXIES)
    found: dict[str, Any] = {}
    for document in configurations(target):
        if isinstance(document, dict):
            found |= (document.get("http") or {}).get("routers") or {}
    wanted = "one whose routers are in files"
    expect_that(bool(found), "the proxy's routers", sorted(found), wanted)
    return found


def _guards(router: dict[str, Any]) -> set[str]:
    return set(router.get("middlewares") or ())


def unprotected(target: Target, kind: str) -> list[str]:
    """The routers without a middleware of a kind.

    Where a router of its own takes the logins, it is enough that this one has it. A breaker there
    would refuse the first login after a fault, so it is enough that the other one has that.
    """
    ours = {name for name, middleware in middlewares(target) if kind in middleware}
    found = routers(target)
    guarded = {name for name, router in found.items() if ours & _guards(router)}
    if kind == "circuitBreaker":
        return sorted(name for name in found if name.removesuffix("-login") not in guarded)
    return sorted(name for name in found if not {name, f"{name}-login"} & guarded)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("rateLimit", id="API-01", marks=pytest.mark.check("API-01")),
        pytest.param("circuitBreaker", id="API-05", marks=pytest.mark.check("API-05")),
    ],
)
def test_every_router_has_a_guard(target: Target, kind: str) -> None:
    expect(f"routers without {kind}", unprotected(target, kind), [])


@pytest.mark.check("SCA-06")
def test_requests_in_flight_are_limited(target: Target) -> None:
    program(target, *PROXIES)
    limits = [name for name, middleware in middlewares(target) if "inFlightReq" in middleware]
    expect_that(bool(limits), "limits of requests at once", limits, "one where passwords are tried")


def static(target: Target) -> dict[str, Any]:
    """The proxy's static settings."""
    program(target, *PROXIES)
    found = [d for d in configurations(target) if isinstance(d, dict) and "entryPoints" in d]
    expect_that(bool(found), "the proxy's settings", "", "a file with entryPoints")
    return dict(found[0])


@pytest.mark.check("COM-03")
def test_addresses_of_pages_are_logged_without_queries(target: Target) -> None:
    log = static(target).get("accessLog") or {}
    mode = ((log.get("fields") or {}).get("queryParameters") or {}).get("defaultMode")
    expect("queries in the access log", mode, "drop")


@pytest.mark.check("COM-04")
def test_the_proxy_reports_to_nobody(target: Target) -> None:
    settings = static(target).get("global") or {}
    expect("usage sent by the proxy", settings.get("sendAnonymousUsage"), False)


@pytest.mark.check("SEC-53")
def test_the_proxy_believes_no_forged_address(target: Target) -> None:
    points = static(target).get("entryPoints") or {}
    trusting = [
        name
        for name, point in points.items()
        if (point.get("forwardedHeaders") or {}).get("insecure")
    ]
    running(target)
    expect("entry points that believe any client's headers", trusting, [])
