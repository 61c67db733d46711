"""The double of Authelia: access rules, configuration, sign-in, regulation, one-time passwords."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import argon2
import pytest

from roles.core.secret import Secret, crypt
from roles.core.secret import rsa as make_rsa
from tests.lab.images.doubles import authelia_config, authelia_users
from tests.lab.images.doubles.authelia_double import Application
from tests.lab.images.doubles.authelia_log import Log, _as_text
from tests.lab.images.doubles.authelia_rules import (
    Level,
    Subject,
    Verdict,
    parse_access_control,
    verdict,
)
from tests.lab.images.doubles.authelia_store import Attempt, Cipher, Sessions, StorageError, Totp
from tests.lab.images.doubles.authelia_store import utc_now as now
from tests.lab.images.doubles.authelia_target import parse_target
from tests.lab.images.doubles.http import Request, Response

PASSWORD = "correct horse"
SECRET = "JBSWY3DPEHPK3PXP"
# Cheap costs: the file says which ones were used, so the double accepts them.
HASH = argon2.PasswordHasher(1, 8, 1).hash(PASSWORD)
CONFIG = """
authentication_backend:
  file: {path: FOLDER/users.yml, watch: true}
  password_reset: {disable: true}
session:
  inactivity: 15m
  cookies: [{domain: lab.example.org, authelia_url: "https://auth.lab.example.org",
             default_redirection_url: "https://home.lab.example.org"}]
  redis: {host: valkey}
storage: {postgres: {address: "tcp://postgres:5432", database: authelia, username: authelia}}
notifier: {filesystem: {filename: /data/notification.txt}}
regulation: {modes: [user, ip], max_retries: 3, find_time: 2m, ban_time: 5m}
access_control:
  default_policy: deny
  rules:
    - {domain: public.lab.example.org, policy: bypass}
    - {domain: one.lab.example.org, policy: one_factor}
    - {domain: home.lab.example.org, policy: two_factor, subject: ["group:admins"]}
"""
SECRETS = {
    "AUTHELIA_SESSION_SECRET_FILE": "s" * 32,
    "AUTHELIA_STORAGE_ENCRYPTION_KEY_FILE": "k" * 32 + "\n",
    "AUTHELIA_STORAGE_POSTGRES_PASSWORD_FILE": "p",
}


@dataclass
class Memory:
    """Storage and session store without servers."""

    totps: dict[str, Totp] = field(default_factory=dict)
    steps: set[tuple[str, int]] = field(default_factory=set)
    attempts: list[tuple[Attempt, datetime]] = field(default_factory=list)
    bans: dict[tuple[str, str], datetime] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    values: dict[str, bytes] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)

    def totp(self, username: str) -> Totp | None:
        return self.totps.get(username)

    def save_totp(self, totp: Totp) -> None:
        self.totps[totp.username] = totp

    def delete_totp(self, username: str) -> bool:
        return self.totps.pop(username, None) is not None

    def use_totp_step(self, username: str, step: int) -> bool:
        fresh = (username, step) not in self.steps
        self.steps.add((username, step))
        if fresh:
            used = replace(self.totps[username], last_used="2026-01-01T00:00:00Z")
            self.totps[username] = used
        return fresh

    def method(self, username: str) -> str:
        return self.methods.get(username, "")

    def save_method(self, username: str, method: str) -> None:
        self.methods[username] = method

    def log_attempt(self, attempt: Attempt) -> None:
        self.attempts.append((attempt, now()))

    def outcomes(self, kind: str, value: str, since: datetime) -> list[tuple[bool, datetime]]:
        return [
            (attempt.successful, moment)
            for attempt, moment in reversed(self.attempts)
            if not attempt.banned
            and moment > since
            and value == (attempt.username if kind == "user" else attempt.address)
        ]

    def ban(self, kind: str, value: str, expires: datetime) -> None:
        self.bans[kind, value] = expires

    def banned_until(self, kind: str, value: str) -> datetime | None:
        return self.bans.get((kind, value))

    def get(self, key: str) -> bytes | None:
        return self.values.get(key) if time.time() < self.ends.get(key, 0) else None

    def set(self, key: str, value: bytes, lifetime: float) -> None:
        self.values[key] = value
        self.ends[key] = time.time() + lifetime

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


class Portal:
    """A running double and a browser's cookie jar."""

    def __init__(self, folder: Path, text: str = CONFIG) -> None:
        self.memory = Memory()
        self.users_file = folder / "users.yml"
        self.write_users()
        config = load(folder, text)
        users = authelia_users.Users(self.users_file, watch=True)
        self.sessions = Sessions(self.memory, "s" * 32)
        self.log_file = folder / "log"
        log = Log(file=self.log_file, keep=False)
        self.application = Application(config, users, self.sessions, self.memory, log)
        self.cookie = ""

    def write_users(self, names: tuple[str, ...] = ("alice", "bob")) -> None:
        groups = {"alice": ["admins", "users"], "bob": ["users"]}
        accounts = {
            name: {"displayname": name.title(), "password": HASH, "email": f"{name}@example.org"}
            | {"groups": groups[name]}
            for name in names
        }
        new = self.users_file.with_suffix(".new")
        new.write_text(json.dumps({"users": accounts}))
        new.replace(self.users_file)

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any, Response]:
        standard = {
            "host": "auth.lab.example.org",
            "x-forwarded-for": "203.0.113.7",
            "cookie": f"authelia_session={self.cookie}",
        }
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = b"" if body is None else json.dumps(body).encode()
        request = Request(method, path, {**standard, **given}, content, "172.30.0.2")
        response = self.application.handle(request)
        for name, value in response.headers:
            if name == "Set-Cookie":
                self.cookie = value.partition(";")[0].partition("=")[2]
        decoded = json.loads(response.body) if "json" in response.content_type else response.body
        return response.status, decoded, response

    def forward(self, url: str, method: str = "GET", **headers: str) -> Response:
        scheme, _, rest = url.partition("://")
        host, slash, path = rest.partition("/")
        forwarded = {
            "x_forwarded_proto": scheme,
            "x_forwarded_host": host,
            "x_forwarded_uri": slash + path,
            "x_forwarded_method": method,
            "accept": "text/html",
        }
        return self.ask("GET", "/api/authz/forward-auth", **{**forwarded, **headers})[2]

    def sign_in(
        self, name: str = "alice", password: str = PASSWORD, **body: Any
    ) -> tuple[int, Any]:
        return self.ask(
            "POST", "/api/firstfactor", {"username": name, "password": password, **body}
        )[:2]

    def code(self, offset: int = 0) -> str:
        return authelia_users.totp_code(SECRET, "SHA1", 6, int(time.time()) // 30 + offset)

    def second(self, token: str, **body: Any) -> tuple[int, Any]:
        return self.ask("POST", "/api/secondfactor/totp", {"token": token, **body})[:2]


def header(response: Response, name: str) -> str:
    return dict(response.headers).get(name, "")


def load(folder: Path, text: str = CONFIG, **changed: str) -> authelia_config.Config:
    file = folder / "configuration.yml"
    file.write_text(text.replace("FOLDER", str(folder)))
    environment = {}
    for name, value in SECRETS.items():
        (folder / name).write_text(value)
        environment[name] = str(folder / name)
    return authelia_config.load(file, {**environment, **changed})


@pytest.fixture
def portal(tmp_path: Path) -> Portal:
    found = Portal(tmp_path)
    found.memory.save_totp(Totp("alice", "lab", "SHA1", 6, 30, SECRET))
    return found


# Access rules


def required(rule: Mapping[str, Any], url: str, method: str = "GET", **who: Any) -> Level:
    control = parse_access_control({"default_policy": "deny", "rules": [rule]})
    subject = Subject(who.get("name", ""), who.get("groups", ()), who.get("address", "192.0.2.1"))
    return control.required(subject, parse_target(url, method))[1]


@pytest.mark.parametrize(
    ("rule", "url", "expected"),
    [
        ({"domain": "*.a.org"}, "https://x.a.org/", True),
        ({"domain": "*.a.org"}, "https://a.org/", False),
        ({"domain": ["b.org", "A.org"]}, "https://a.ORG/", True),
        ({"domain_regex": r"^(x|y)\.a\.org$"}, "https://y.a.org/", True),
        ({"domain_regex": r"^(x|y)\.a\.org$"}, "https://z.a.org/", False),
        ({"domain": "a.org", "resources": [r"^/api([/?].*)?$"]}, "https://a.org/api?k=1", True),
        ({"domain": "a.org", "resources": [r"^/api([/?].*)?$"]}, "https://a.org/apix", False),
        ({"domain": "a.org", "resources": ["^/api/"]}, "https://a.org/api/../admin", False),
        ({"domain": "a.org", "resources": ["^/api/"]}, "https://a.org/%61pi/x", True),
        ({"domain": "a.org", "resources": ["^/api/"]}, "https://a.org//api/x", True),
        ({"domain": "a.org", "networks": ["192.0.2.0/24"]}, "https://a.org/", True),
        ({"domain": "a.org", "networks": ["fd77::/64"]}, "https://a.org/", False),
        ({"domain": "a.org", "methods": ["options"]}, "https://a.org/", False),
        ({"domain": "a.org", "query": [[{"key": "t", "value": "1"}]]}, "https://a.org/?t=1", True),
        (
            {"domain": "a.org", "query": [[{"key": "t", "operator": "absent"}]]},
            "https://a.org/?t",
            False,
        ),
    ],
)
def test_a_rule_matches(rule: dict[str, Any], url: str, expected: bool) -> None:
    found = required({**rule, "policy": "one_factor"}, url)
    assert found is (Level.ONE_FACTOR if expected else Level.DENY)


def test_subjects_are_alternatives_of_conjunctions() -> None:
    rule = {
        "domain": "a.org",
        "policy": "one_factor",
        "subject": ["user:eve", ["group:x", "group:y"]],
    }
    url = "https://a.org/"
    assert required(rule, url, name="eve") is Level.ONE_FACTOR
    assert required(rule, url, name="bob", groups=("x", "y")) is Level.ONE_FACTOR
    assert required(rule, url, name="bob", groups=("x",)) is Level.DENY
    # Who has not signed in may still turn out to be one of them.
    assert required(rule, url) is Level.ONE_FACTOR


def test_an_anonymous_visitor_is_refused_for_good_only_without_subjects() -> None:
    assert verdict(Level.BYPASS, Level.DENY, has_subjects=False) is Verdict.FORBIDDEN
    assert verdict(Level.BYPASS, Level.DENY, has_subjects=True) is Verdict.UNAUTHORIZED
    assert verdict(Level.ONE_FACTOR, Level.TWO_FACTOR, has_subjects=True) is Verdict.UNAUTHORIZED


@pytest.mark.parametrize(
    "rule",
    [
        {"policy": "bypass"},
        {"domain": "a.org", "policy": "both"},
        {"domain": "a.org", "policy": "bypass", "subject": "user:a"},
        {"domain": "a.org", "policy": "deny", "colour": "red"},
        {"domain": "a.org", "policy": "deny", "resources": ["("]},
        {"domain": "a.org", "policy": "deny", "networks": ["lan"]},
    ],
)
def test_a_bad_rule_is_refused(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rule #1"):
        parse_access_control({"rules": [rule]})


# Configuration


def test_secrets_come_from_files_without_their_last_newline(tmp_path: Path) -> None:
    config = load(tmp_path)
    assert config.get("storage.encryption_key") == "k" * 32
    assert config.cookies[0].inactivity == 900


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG + "colour: red\n", "configuration key not expected: colour"),
        (CONFIG.replace("inactivity:", "idle:"), "configuration key not expected: session.idle"),
        (CONFIG.replace("https://auth", "http://auth"), "does not have a secure scheme"),
        (CONFIG.replace("redis: {host", "secret: x\n  redis: {host"), "already defined"),
        (CONFIG.replace("find_time: 2m", "find_time: 9m"), "'find_time' must be less"),
        (CONFIG.replace("notifier:", "ntp:").replace("filesystem", "address"), "notifier"),
        (CONFIG.replace("policy: one_factor", "policy: any"), "rule #2: option 'policy'"),
    ],
)
def test_a_bad_configuration_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(authelia_config.ConfigError, match=message):
        load(tmp_path, text)


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(authelia_config.ConfigError, match=r"session\.secret"):
        load(tmp_path, AUTHELIA_SESSION_SECRET_FILE="/nonexistent")


@pytest.mark.parametrize(
    ("text", "value"), [("15m", 900), ("1h30m", 5400), (90, 90), ("1d", 86400)]
)
def test_a_duration(text: object, value: float) -> None:
    assert authelia_config.seconds(text, 0) == value


def test_a_bad_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="soon"):
        authelia_config.seconds("soon", 0)


# Forward authorization


def test_a_browser_is_sent_to_the_portal_and_a_program_is_not(portal: Portal) -> None:
    url = "https://home.lab.example.org/x?y=1"
    place = "https://auth.lab.example.org/?rd=https%3A%2F%2Fhome.lab.example.org%2Fx%3Fy%3D1&rm=GET"
    browser = portal.forward(url)
    assert (browser.status, header(browser, "Location")) == (302, place)
    assert portal.forward(url, "POST").status == 303
    program = portal.forward(url, accept="application/json")
    assert (program.status, header(program, "Location")) == (401, place)
    assert portal.forward(url, x_requested_with="XMLHttpRequest").status == 401


def test_what_no_rule_allows_is_forbidden(portal: Portal) -> None:
    assert portal.forward("https://other.lab.example.org/").status == 403
    assert portal.forward("https://public.lab.example.org/").status == 200


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("http://home.lab.example.org/", {}),
        ("https://evil.example/", {}),
        ("https://lab.example.org.evil.example/", {}),
        ("https://home.lab.example.org/%zz", {}),
        ("https://home.lab.example.org/", {"x_forwarded_method": "get it"}),
        ("https://home.lab.example.org/", {"x_forwarded_host": ""}),
    ],
)
def test_a_request_nobody_can_judge_is_bad(
    portal: Portal, url: str, headers: dict[str, str]
) -> None:
    assert portal.forward(url, **headers).status == 400


def test_two_factors_open_the_door_and_name_the_user(portal: Portal) -> None:
    url = "https://home.lab.example.org/"
    assert portal.sign_in(targetURL=url) == (200, {"status": "OK"})
    assert portal.forward(url).status == 302
    first = portal.cookie
    assert portal.second(portal.code(), targetURL=url) == (
        200,
        {"status": "OK", "data": {"redirect": url}},
    )
    assert portal.cookie != first
    answer = portal.forward(url)
    assert answer.status == 200
    assert header(answer, "Remote-User") == "alice"
    assert header(answer, "Remote-Groups") == "admins,users"
    assert header(answer, "Remote-Email") == "alice@example.org"


def test_one_factor_is_enough_where_the_rule_says_so(portal: Portal) -> None:
    url = "https://one.lab.example.org/"
    assert portal.sign_in(targetURL=url)[1]["data"] == {"redirect": url}
    assert portal.forward(url).status == 200


def test_a_user_outside_the_group_is_forbidden(portal: Portal) -> None:
    portal.sign_in("bob")
    assert portal.forward("https://home.lab.example.org/").status == 403


def test_nobody_is_redirected_to_a_foreign_place(portal: Portal) -> None:
    assert portal.sign_in(targetURL="https://evil.example/") == (200, {"status": "OK"})
    assert portal.second(portal.code(), targetURL="https://evil.example/") == (
        200,
        {"status": "OK"},
    )


def test_basic_credentials_reach_one_factor_only(portal: Portal) -> None:
    basic = "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ=="
    assert portal.forward("https://one.lab.example.org/", authorization=basic).status == 200
    assert portal.forward("https://home.lab.example.org/", authorization=basic).status == 401
    wrong = portal.forward("https://one.lab.example.org/", authorization="Basic YTpi")
    assert (wrong.status, header(wrong, "WWW-Authenticate")[:5]) == (401, "Basic")


COOKIE = "{name: CookieSession}"
BASIC = "{name: HeaderAuthorization, schemes: [Basic]}"


def with_strategies(text: str) -> str:
    return f"{CONFIG}server: {{endpoints: {{authz: {{forward-auth: {{implementation: ForwardAuth, \
authn_strategies: [{text}]}}}}}}}}\n"


@pytest.mark.parametrize("value", ["Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==", "Basic YTpi", "nonsense"])
def test_a_header_that_is_no_strategy_is_not_read(tmp_path: Path, value: str) -> None:
    portal = Portal(tmp_path, with_strategies(COOKIE))
    for host in ("one", "home"):
        answer = portal.forward(f"https://{host}.lab.example.org/", authorization=value)
        assert (answer.status, header(answer, "WWW-Authenticate")) == (302, "")
    assert portal.memory.attempts == []
    portal = Portal(tmp_path, with_strategies(f"{BASIC}, {COOKIE}"))
    answer = portal.forward("https://one.lab.example.org/", authorization=value)
    assert answer.status == (200 if value.endswith("==") else 401)


@pytest.mark.parametrize(
    ("strategies", "message"),
    [
        ("{}", r"strategy #1: option 'name' must be configured"),
        ("{name: Cookies}", r"or 'HeaderLegacy' but it's configured as 'Cookies'"),
        (f"{COOKIE}, {COOKIE}", r"duplicate strategy name detected with name 'CookieSession'"),
        ("{name: CookieSession, schemes: [basic]}", r"strategy #1 \(CookieSession\): option"),
        ("{name: CookieSession, sceme: 1}", r"authn_strategies\[\]\.sceme"),
        (
            f"{COOKIE}, {{name: HeaderAuthorization, schemes: [digest]}}",
            r"strategy #2 \(HeaderAuthorization\): .* 'basic' or 'bearer' but has 'digest'",
        ),
        ("{name: HeaderLegacy}", "does not know the strategy HeaderLegacy"),
        (BASIC, "needs the strategy CookieSession"),
    ],
)
def test_a_broken_strategy_is_refused(tmp_path: Path, strategies: str, message: str) -> None:
    with pytest.raises(authelia_config.ConfigError, match=message):
        load(tmp_path, with_strategies(strategies))


# Sessions


def test_the_cookie_is_for_https_and_the_domain(portal: Portal) -> None:
    assert not header(portal.ask("GET", "/api/state")[2], "Set-Cookie")
    cookie = header(portal.forward("https://home.lab.example.org/"), "Set-Cookie")
    for part in ("domain=lab.example.org", "HttpOnly", "secure", "SameSite=Lax", "path=/"):
        assert part in cookie


def test_a_session_ends_with_logout_idleness_and_the_account(portal: Portal) -> None:
    url = "https://one.lab.example.org/"
    portal.sign_in()
    signed_in = portal.cookie
    portal.ask("POST", "/api/logout", {})
    portal.cookie = signed_in
    assert portal.forward(url).status == 302
    portal.sign_in()
    session = portal.sessions.load(portal.cookie)
    assert session is not None
    session.last_activity -= 901
    portal.sessions.save(portal.cookie, session, 60)
    assert portal.forward(url).status == 302
    portal.sign_in()
    assert portal.forward(url).status == 200
    portal.write_users(("bob",))
    assert portal.forward(url).status == 302


def test_sessions_are_sealed_and_die_with_the_secret(portal: Portal) -> None:
    portal.sign_in()
    assert not any(b"alice" in value for value in portal.memory.values.values())
    assert portal.sessions.load(portal.cookie) is not None
    assert Sessions(portal.memory, "another secret").load(portal.cookie) is None


def test_a_sealed_value_opens_with_its_own_key_only() -> None:
    sealed = Cipher("one").seal(b"x")
    assert Cipher("one").open(sealed) == b"x"
    with pytest.raises(StorageError):
        Cipher("two").open(sealed)


# Sign-in, regulation


def test_failures_look_alike_and_are_logged_for_a_jail(portal: Portal) -> None:
    answer = {"status": "KO", "message": "Authentication failed. Check your credentials."}
    assert portal.sign_in("alice", "wrong") == (401, answer)
    assert portal.sign_in("nobody", "wrong") == (401, answer)
    lines = portal.log_file.read_text().splitlines()
    assert lines[0].endswith(
        "level=error msg=\"Unsuccessful 1FA authentication attempt by user 'alice'\" method=POST "
        "path=/api/firstfactor remote_ip=203.0.113.7"
    )
    assert "username input 'nobody' which usually indicates they do not exist" in lines[-1]


def test_a_name_cannot_forge_a_log_line(portal: Portal) -> None:
    portal.sign_in('x"\nlevel=error remote_ip=192.0.2.66')
    text = portal.log_file.read_text()
    assert len(text.splitlines()) == 2
    assert r"x\"\nlevel" in text


def test_three_failures_ban_user_and_address(portal: Portal) -> None:
    for _ in range(3):
        portal.sign_in("alice", "wrong")
    assert portal.sign_in()[0] == 401
    assert "and they are banned until" in portal.log_file.read_text()
    assert set(portal.memory.bans) == {("user", "alice"), ("ip", "203.0.113.7")}
    # Another user behind the banned address is refused as well.
    assert portal.sign_in("bob")[0] == 401


def test_a_success_between_failures_starts_the_count_again(portal: Portal) -> None:
    for password in ("wrong", "wrong", PASSWORD, "wrong", "wrong"):
        portal.sign_in("alice", password)
    assert portal.sign_in()[0] == 200


def test_the_one_time_password_counts_once(portal: Portal) -> None:
    assert portal.second(portal.code())[0] == 403
    portal.sign_in()
    assert portal.second("000000" if portal.code() != "000000" else "111111")[0] == 403
    assert portal.second("123")[0] == 400
    code = portal.code()
    assert portal.second(code)[0] == 200
    assert portal.second(code)[0] == 403


def test_one_time_passwords_are_limited(portal: Portal) -> None:
    portal.sign_in()
    answers = [portal.second("123")[0] for _ in range(31)]
    assert answers == [400] * 30 + [429]


def test_known_one_time_passwords() -> None:
    # RFC 6238, appendix B: the seed of SHA-1 at 59 and 1111111109 seconds.
    seed = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    assert authelia_users.totp_code(seed, "SHA1", 8, 59 // 30) == "94287082"
    assert authelia_users.totp_code(seed, "SHA1", 8, 1111111109 // 30) == "07081804"


# Information


def test_what_the_portal_asks(portal: Portal) -> None:
    assert portal.ask("GET", "/api/health")[:2] == (200, {"status": "OK"})
    assert portal.ask("GET", "/api/state")[1]["data"]["authentication_level"] == 0
    assert portal.ask("GET", "/api/configuration")[0] == 403
    portal.sign_in()
    methods = portal.ask("GET", "/api/configuration")[1]["data"]["available_methods"]
    assert methods == ["totp", "webauthn"]
    user = portal.ask("POST", "/api/user/info")[1]["data"]
    assert (user["display_name"], user["has_totp"], user["method"]) == ("Alice", True, "totp")
    status, page, response = portal.ask("GET", "/?rd=https://home.lab.example.org/")
    assert status == 200
    for name in ("username-textfield", "password-textfield", "sign-in-button", "otp-input"):
        assert f'id="{name}"'.encode() in page
    assert "frame-ancestors 'none'" in header(response, "Content-Security-Policy")
    assert portal.ask("GET", "/api/unknown")[0] == 404
    assert portal.ask("DELETE", "/api/state")[0] == 405


def test_a_broken_users_file_changes_nothing(portal: Portal) -> None:
    portal.users_file.write_text("users: {}")
    assert portal.sign_in()[0] == 200


def test_text_lines_quote_what_is_not_plain() -> None:
    assert _as_text({"msg": "a b"}, {"z": "x", "a": 'q"'}) == 'msg="a b" a="q\\"" z=x'


def test_a_log_goes_on_in_a_fresh_file(tmp_path: Path) -> None:
    file = tmp_path / "log"
    log = Log(file=file, keep=False)
    log.write("info", "one")
    file.rename(tmp_path / "log.1")
    log.write("info", "two")
    log.reopen()
    log.write("info", "three")
    assert [line.rpartition("=")[2] for line in file.read_text().splitlines()] == ["three"]


# OpenID Connect

CLIENT_SECRET = "client-secret"
CALLBACK = "https://grafana.lab.example.org/login/generic_oauth"
VERIFIER = "v" * 43


@pytest.fixture(scope="module")
def openid_text() -> str:
    """The section as the deploy writes it, with a key and a digest of its own."""
    document = {
        "hmac_secret": "h" * 40,
        "jwks": [{"key_id": "nexus", "key": make_rsa(0).reveal()}],
        "claims_policies": {"signed": {"id_token": ["groups", "preferred_username"]}},
        "clients": [
            {
                "client_id": "grafana",
                "client_secret": crypt(Secret(CLIENT_SECRET)).reveal(),
                "authorization_policy": "two_factor",
                "claims_policy": "signed",
                "redirect_uris": [CALLBACK],
                "scopes": ["openid", "profile", "groups", "email"],
            }
        ],
    }
    return f"{CONFIG}identity_providers: {json.dumps({'oidc': document})}\n"


def authorization(**changed: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode()
    asked = {
        **{"client_id": "grafana", "redirect_uri": CALLBACK, "response_type": "code"},
        **{"scope": "openid groups", "state": "s", "code_challenge_method": "S256"},
        **{"code_challenge": challenge.rstrip("="), **changed},
    }
    return f"/api/oidc/authorization?{urlencode(asked)}"


def exchange(
    portal: Portal, code: str, verifier: str = VERIFIER, secret: str = CLIENT_SECRET
) -> tuple[int, Any]:
    basic = base64.b64encode(f"grafana:{secret}".encode()).decode()
    form = urlencode({"code": code, "redirect_uri": CALLBACK, "code_verifier": verifier})
    headers = {"host": "authelia:9091", "authorization": f"Basic {basic}"}
    request = Request("POST", "/api/oidc/token", headers, form.encode(), "172.30.4.36")
    answer = portal.application.handle(request)
    return answer.status, json.loads(answer.body)


def code_of(portal: Portal, **changed: str) -> str:
    _, _, answer = portal.ask("GET", authorization(**changed), x_forwarded_proto="https")
    place = urlsplit(header(answer, "Location"))
    assert f"{place.scheme}://{place.netloc}{place.path}" == CALLBACK
    return dict(parse_qsl(place.query)).get("code", "")


def test_a_code_is_for_two_factors_one_client_and_one_use(tmp_path: Path, openid_text: str) -> None:
    portal = Portal(tmp_path, openid_text)
    portal.memory.save_totp(Totp("alice", "x", "SHA1", 6, 30, SECRET))
    portal.sign_in()
    # The password alone is not enough: back to the portal, and from there to here again.
    status, _, answer = portal.ask("GET", authorization(), accept="text/html")
    assert (status, urlsplit(header(answer, "Location")).hostname) == (302, "auth.lab.example.org")
    assert portal.second(portal.code())[0] == 200
    assert portal.ask("GET", authorization(redirect_uri="https://evil.example/"))[0] == 400
    assert code_of(portal, code_challenge="") == ""
    assert exchange(portal, code_of(portal), verifier="w" * 43)[0] == 400
    assert exchange(portal, code_of(portal), secret="guess")[0] == 401
    code = code_of(portal)
    status, tokens = exchange(portal, code)
    assert status == 200
    assert exchange(portal, code) == (400, {"error": "invalid_grant"})
    middle = tokens["id_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    assert claims["iss"] == "https://auth.lab.example.org"
    assert (claims["aud"], claims["groups"]) == (["grafana"], ["admins", "users"])
    told = portal.ask("GET", "/api/oidc/userinfo", authorization=f"Bearer {tokens['access_token']}")
    assert told[:2] == (200, told[1]) and told[1]["preferred_username"] == "alice"
    assert portal.ask("GET", "/api/oidc/userinfo", authorization="Bearer guess")[0] == 401


def test_a_provider_without_its_secrets_does_not_start(tmp_path: Path, openid_text: str) -> None:
    for wrong, said in (
        (openid_text.replace('"hmac_secret"', '"hmac_secrets"'), "hmac_secret"),
        (openid_text.replace("BEGIN PRIVATE", "BEGIN SECRET"), "option 'key'"),
        (openid_text.replace("pbkdf2-sha512", "plaintext"), "digest"),
        (openid_text.replace('"scopes"', '"scope"'), r"clients\[\].scope"),
    ):
        with pytest.raises(authelia_config.ConfigError, match=said):
            load(tmp_path, wrong)
