"""The double of Authelia decides, counts and refuses as the real one documents it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from roles.context import Context
from roles.core.model import Desired, File
from tests.lab.images.doubles import authelia_double
from tests.lab.images.doubles.authelia_config import ConfigError, load, seconds
from tests.lab.images.doubles.authelia_rules import (
    Level,
    Subject,
    Verdict,
    parse_access_control,
    parse_target,
    verdict,
)
from tests.lab.images.doubles.authelia_users import (
    UsersError,
    check_password,
    hash_password,
    load_users,
    totp_code,
)

NOBODY = Subject("", (), "192.168.1.5")
ALICE = Subject("alice", ("admins",), "192.168.1.5")
BOB = Subject("bob", ("users",), "203.0.113.9")


def required(rules: list[dict[str, Any]], who: Subject, url: str, method: str = "GET") -> Level:
    control = parse_access_control({"default_policy": "deny", "rules": rules})
    return control.required(who, parse_target(url, method))[1]


def test_the_first_matching_rule_decides() -> None:
    rules = [
        {"domain": "a.test.org", "policy": "one_factor"},
        {"domain": "*.test.org", "policy": "two_factor"},
    ]
    assert required(rules, ALICE, "https://a.test.org/") is Level.ONE_FACTOR
    assert required(rules, ALICE, "https://b.test.org/") is Level.TWO_FACTOR
    assert required(rules, ALICE, "https://A.TEST.ORG/") is Level.ONE_FACTOR


def test_without_a_rule_the_default_denies() -> None:
    rules = [{"domain": "*.test.org", "policy": "one_factor"}]
    assert required(rules, ALICE, "https://test.org/") is Level.DENY
    assert required(rules, ALICE, "https://eviltest.org/") is Level.DENY


@pytest.mark.parametrize(
    ("criterion", "url", "method", "matches"),
    [
        ({"methods": ["post"]}, "https://a.test.org/", "POST", True),
        ({"methods": ["POST"]}, "https://a.test.org/", "GET", False),
        ({"resources": ["^/api([/?].*)?$"]}, "https://a.test.org/api?x=1", "GET", True),
        ({"resources": ["^/api([/?].*)?$"]}, "https://a.test.org/apix", "GET", False),
        ({"resources": ["^/api$"]}, "https://a.test.org/x/../api", "GET", True),
        ({"resources": ["^/a b$"]}, "https://a.test.org/a%20b", "GET", True),
        ({"resources": ["[?]key=1$"]}, "https://a.test.org/p?key=1", "GET", True),
        ({"networks": ["192.168.1.0/24"]}, "https://a.test.org/", "GET", True),
        ({"networks": "10.0.0.0/8"}, "https://a.test.org/", "GET", False),
        ({"subject": "user:alice"}, "https://a.test.org/", "GET", True),
        ({"subject": ["user:bob", "group:admins"]}, "https://a.test.org/", "GET", True),
        ({"subject": [["user:alice", "group:users"]]}, "https://a.test.org/", "GET", False),
        ({"query": [[{"key": "t", "value": "1"}]]}, "https://a.test.org/?t=1", "GET", True),
        ({"query": [[{"key": "t", "operator": "absent"}]]}, "https://a.test.org/?t", "GET", False),
    ],
)
def test_every_criterion_must_hold(
    criterion: dict[str, Any], url: str, method: str, matches: bool
) -> None:
    rule = {"domain": "a.test.org", "policy": "one_factor", **criterion}
    assert required([rule], ALICE, url, method) is (Level.ONE_FACTOR if matches else Level.DENY)


def test_a_domain_by_pattern_can_name_the_user() -> None:
    rules = [{"domain_regex": r"^(?P<User>\w+)\.test\.org$", "policy": "one_factor"}]
    assert required(rules, ALICE, "https://alice.test.org/") is Level.ONE_FACTOR
    assert required(rules, BOB, "https://alice.test.org/") is Level.DENY


def test_nobody_is_sent_to_the_login_where_a_name_decides() -> None:
    rules = [{"domain": "a.test.org", "policy": "deny", "subject": "group:users"}]
    control = parse_access_control({"rules": rules})
    has_subjects, level = control.required(NOBODY, parse_target("https://a.test.org/", "GET"))
    assert verdict(Level.BYPASS, level, has_subjects) is Verdict.UNAUTHORIZED
    assert verdict(Level.ONE_FACTOR, level, has_subjects) is Verdict.FORBIDDEN


@pytest.mark.parametrize(
    ("own", "needed", "expected"),
    [
        (Level.BYPASS, Level.BYPASS, Verdict.AUTHORIZED),
        (Level.BYPASS, Level.ONE_FACTOR, Verdict.UNAUTHORIZED),
        (Level.ONE_FACTOR, Level.TWO_FACTOR, Verdict.UNAUTHORIZED),
        (Level.TWO_FACTOR, Level.TWO_FACTOR, Verdict.AUTHORIZED),
        (Level.TWO_FACTOR, Level.DENY, Verdict.FORBIDDEN),
    ],
)
def test_the_level_of_a_session_is_compared(own: Level, needed: Level, expected: Verdict) -> None:
    assert verdict(own, needed, False) is expected


@pytest.mark.parametrize(
    "rule",
    [
        {"policy": "one_factor"},
        {"domain": "a.test.org", "policy": "allow"},
        {"domain": "a.test.org", "policy": "bypass", "subject": "user:alice"},
        {"domain": "a.test.org", "policy": "deny", "subject": "alice"},
        {"domain": "a.test.org", "policy": "deny", "colour": "red"},
        {"domain": "a.test.org", "policy": "deny", "resources": ["("]},
        {"domain": "a.test.org", "policy": "deny", "networks": ["nowhere"]},
    ],
)
def test_a_wrong_rule_is_named(rule: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="rule #1"):
        parse_access_control({"rules": [rule]})


@pytest.mark.parametrize("url", ["a.test.org/", "https:///x", "https://a b/", "https://a/%zz"])
def test_a_target_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="invalid"):
        parse_target(url, "GET")


# RFC 6238, appendix B: the keys are the digits repeated to the length of the hash.
KEYS = {
    "SHA1": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
    "SHA256": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZA====",
    "SHA512": (
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        "GEZDGNBVGY3TQOJQGEZDGNA="
    ),
}


@pytest.mark.parametrize(
    ("moment", "algorithm", "code"),
    [
        (59, "SHA1", "94287082"),
        (59, "SHA256", "46119246"),
        (59, "SHA512", "90693936"),
        (1111111109, "SHA1", "07081804"),
        (1111111111, "SHA1", "14050471"),
        (1234567890, "SHA256", "91819424"),
        (20000000000, "SHA512", "47863826"),
    ],
)
def test_one_time_passwords_are_those_of_the_standard(
    moment: int, algorithm: str, code: str
) -> None:
    assert totp_code(KEYS[algorithm], algorithm, 8, moment // 30) == code
    assert totp_code(KEYS[algorithm], algorithm, 6, moment // 30) == code[2:]


SECRETS = {
    "AUTHELIA_SESSION_SECRET_FILE": "session-secret",
    "AUTHELIA_SESSION_REDIS_PASSWORD_FILE": "redis-password",
    "AUTHELIA_STORAGE_ENCRYPTION_KEY_FILE": "a-key-of-more-than-twenty-characters",
    "AUTHELIA_STORAGE_POSTGRES_PASSWORD_FILE": "database-password",
    "AUTHELIA_IDENTITY_VALIDATION_RESET_PASSWORD_JWT_SECRET_FILE": "jwt-secret",
}


@pytest.fixture
def document(roles: list[Desired]) -> dict[str, Any]:
    files = [file for role in roles for file in role.of(File)]
    (rendered,) = [file for file in files if file.path.endswith("authelia/configuration.yml")]
    found: dict[str, Any] = yaml.safe_load(rendered.content)
    return found


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(f"{value}\n")
    return {name: str(tmp_path / name) for name in SECRETS}


def write(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "configuration.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_what_the_role_renders_is_accepted(
    tmp_path: Path, document: dict[str, Any], environment: dict[str, str], context: Context
) -> None:
    config = load(write(tmp_path, document), environment)
    assert config.get("storage.postgres.password") == "database-password"
    assert [cookie.domain for cookie in config.cookies] == [context.site.domain]
    assert config.access_control.default is Level.DENY


@pytest.mark.parametrize(
    "case",
    [
        ("", {"colour": "red"}, "configuration key not expected: colour"),
        ("session.redis", {"pasword": "x"}, "not expected: session.redis.pasword"),
        ("session", {"secret": "in the file as well"}, "already defined in other"),
        ("session", {"cookies": []}, "option 'cookies' is required"),
        ("notifier", {"smtp": {"address": "smtp://mail"}}, "ensure either"),
        ("regulation", {"modes": ["all"]}, "'modes' must only contain"),
        ("regulation", {"find_time": "1h"}, "'find_time' must be less"),
    ],
)
def test_a_wrong_configuration_is_refused(
    tmp_path: Path,
    document: dict[str, Any],
    environment: dict[str, str],
    case: tuple[str, dict[str, Any], str],
) -> None:
    section, changes, message = case
    place = document
    for part in section.split(".") if section else ():
        place = place[part]
    place.update(changes)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, document), environment)
    assert message in str(caught.value)


def test_missing_and_unknown_secret_files_are_refused(
    tmp_path: Path, document: dict[str, Any], environment: dict[str, str]
) -> None:
    path = write(tmp_path, document)
    Path(environment["AUTHELIA_SESSION_SECRET_FILE"]).unlink()
    with pytest.raises(ConfigError, match="secret path"):
        load(path, environment)
    with pytest.raises(ConfigError, match="AUTHELIA_JWT_SECRET_FILE"):
        load(path, {**environment, "AUTHELIA_JWT_SECRET_FILE": str(path)})


def test_a_database_must_be_configured(
    tmp_path: Path, document: dict[str, Any], environment: dict[str, str]
) -> None:
    document["storage"]["postgres"] = None
    del environment["AUTHELIA_STORAGE_POSTGRES_PASSWORD_FILE"]
    with pytest.raises(ConfigError, match="database must be provided"):
        load(write(tmp_path, document), environment)


def test_a_short_encryption_key_is_refused(
    tmp_path: Path, document: dict[str, Any], environment: dict[str, str]
) -> None:
    Path(environment["AUTHELIA_STORAGE_ENCRYPTION_KEY_FILE"]).write_text("short")
    with pytest.raises(ConfigError, match="20 characters"):
        load(write(tmp_path, document), environment)


def test_durations() -> None:
    assert (seconds("15m", 0), seconds("4h", 0), seconds(90, 0)) == (900, 14400, 90)
    assert seconds(None, 7) == 7
    with pytest.raises(ValueError, match="duration"):
        seconds("soon", 0)


def test_users_and_their_passwords() -> None:
    users = {"alice": {"displayname": "Alice", "password": hash_password("right"), "groups": []}}
    alice = load_users(yaml.safe_dump({"users": users}))["alice"]
    assert check_password(alice, "right") and not check_password(alice, "wrong")
    with pytest.raises(UsersError):
        load_users("users: {}")


def test_the_drivers_of_the_databases_are_not_needed_to_import() -> None:
    assert authelia_double.NAME == "authelia_double"
    assert not {"psycopg", "psycopg2", "redis"} & set(sys.modules)
