"""Authelia's configuration: one YAML file, secrets from files, strict about unknown keys."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from . import authelia_openid
from .authelia_rules import AccessControl, parse_access_control

# The doubles' Python has the C library too; a test reads this file some ninety times.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
SECRETS = (
    "authentication_backend.ldap.password",
    "authentication_backend.ldap.tls.certificate_chain",
    "authentication_backend.ldap.tls.private_key",
    "duo_api.integration_key",
    "duo_api.secret_key",
    "identity_providers.oidc.hmac_secret",
    "identity_validation.reset_password.jwt_secret",
    "notifier.smtp.password",
    "notifier.smtp.tls.certificate_chain",
    "notifier.smtp.tls.private_key",
    "session.redis.high_availability.sentinel_password",
    "session.redis.password",
    "session.redis.tls.certificate_chain",
    "session.redis.tls.private_key",
    "session.secret",
    "storage.encryption_key",
    "storage.mysql.password",
    "storage.mysql.tls.certificate_chain",
    "storage.mysql.tls.private_key",
    "storage.postgres.password",
    "storage.postgres.tls.certificate_chain",
    "storage.postgres.tls.private_key",
)
# What each section may hold; None where this double does not look inside.
KEYS: Mapping[str, frozenset[str] | None] = {
    "": frozenset(
        [
            "theme",
            "certificates_directory",
            "default_2fa_method",
            "server",
            "log",
            "telemetry",
            "totp",
            "duo_api",
            "webauthn",
            "identity_validation",
            "identity_providers",
            "ntp",
            "authentication_backend",
            "password_policy",
            "privacy_policy",
            "access_control",
            "session",
            "regulation",
            "storage",
            "notifier",
            "definitions",
        ]
    ),
    "server": frozenset(
        [
            "address",
            "asset_path",
            "disable_healthcheck",
            "endpoints",
            "buffers",
            "headers",
            "timeouts",
            "tls",
        ]
    ),
    "server.endpoints": frozenset(
        [
            "enable_pprof",
            "enable_expvars",
            "authz",
            "automatic_authz_implementations",
            "rate_limits",
        ]
    ),
    "log": frozenset(["level", "format", "file_path", "keep_stdout"]),
    "telemetry": frozenset({"metrics"}),
    "telemetry.metrics": frozenset(["enabled", "address", "buffers", "timeouts"]),
    "totp": frozenset(
        [
            "disable",
            "issuer",
            "algorithm",
            "digits",
            "period",
            "skew",
            "secret_size",
            "allowed_algorithms",
            "allowed_digits",
            "allowed_periods",
            "disable_reuse_security_policy",
        ]
    ),
    "identity_validation": frozenset({"elevated_session", "reset_password"}),
    "ntp": frozenset(
        ["address", "version", "max_desync", "disable_startup_check", "disable_failure"]
    ),
    "authentication_backend": frozenset(
        ["password_reset", "password_change", "refresh_interval", "file", "ldap"]
    ),
    "authentication_backend.file": frozenset(
        ["path", "watch", "password", "search", "extra_attributes"]
    ),
    "session": frozenset(
        [
            "name",
            "same_site",
            "inactivity",
            "expiration",
            "remember_me",
            "cookies",
            "secret",
            "redis",
        ]
    ),
    "session.redis": frozenset(
        [
            "host",
            "port",
            "timeout",
            "max_retries",
            "username",
            "password",
            "database_index",
            "tls",
            "maximum_active_connections",
            "minimum_idle_connections",
            "high_availability",
        ]
    ),
    "regulation": frozenset(["modes", "max_retries", "find_time", "ban_time"]),
    "storage": frozenset(["encryption_key", "local", "mysql", "postgres"]),
    "storage.postgres": frozenset(
        [
            "address",
            "servers",
            "database",
            "schema",
            "username",
            "password",
            "timeout",
            "tls",
            "ssl",
        ]
    ),
    "notifier": frozenset(["disable_startup_check", "template_path", "filesystem", "smtp"]),
    "access_control": frozenset(["default_policy", "networks", "rules"]),
}
COOKIE_KEYS = frozenset(
    [
        "domain",
        "authelia_url",
        "default_redirection_url",
        "name",
        "same_site",
        "inactivity",
        "expiration",
        "remember_me",
    ]
)
STRATEGY_KEYS = frozenset(["name", "schemes", "scheme_basic_cache_lifespan"])
STRATEGIES = (
    "CookieSession",
    "HeaderAuthorization",
    "HeaderProxyAuthorization",
    "HeaderAuthRequestProxyAuthorization",
    "HeaderLegacy",
)
SCHEMES = ("basic", "bearer")
# Of an endpoint that names none.
DEFAULT = ({"name": "HeaderAuthorization"}, {"name": "CookieSession"})
_UNITS = {
    "ms": 0.001,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
    "w": 604800,
    "M": 2629800,
    "y": 31557600,
}
_SECRET_CALL = re.compile(
    r"""\{\{-?\s*(secret|fileContent|env)\s+["']([^"']+)["']"""
    # Of several lines each is moved to the right, but for the first, which is there already.
    r"""(?:\s*\|\s*indent\s+(\d+)\s*\|\s*trim)?\s*-?\}\}"""
)


class ConfigError(Exception):
    """The configuration cannot be used; one message an error, in Authelia's words where known."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("; ".join(errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Cookie:
    """One protected domain; times in seconds."""

    domain: str
    authelia_url: str
    default_redirection_url: str
    name: str
    same_site: str
    inactivity: float
    expiration: float
    remember_me: float


@dataclass(frozen=True, slots=True)
class Config:
    """A valid configuration: the document with its secrets, and the parts that needed parsing."""

    document: Mapping[str, Any]
    cookies: tuple[Cookie, ...]
    access_control: AccessControl
    header_schemes: frozenset[str]

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a dotted key."""
        return _get(self.document, key, default)


def seconds(value: Any, default: float) -> float:
    """A duration such as 15m, 1M or 90 (seconds). Raises ValueError for anything else."""
    if value is None:
        return default
    if isinstance(value, int | float):
        return float(value)
    parts = re.findall(r"(\d+)\s*(ms|[smhdwMy])", value)
    if not parts or re.sub(r"\d+\s*(ms|[smhdwMy])\s*(and|,)?\s*", "", value).strip():
        raise ValueError(f"could not parse '{value}' as a duration")
    return sum(int(number) * _UNITS[unit] for number, unit in parts)


def load(path: Path, environment: Mapping[str, str]) -> Config:
    """Read and check the file, with the secrets that `environment` names. Raises ConfigError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError([f"failed to load configuration from file {path}: {error}"]) from error
    if environment.get("X_AUTHELIA_CONFIG_FILTERS"):
        text = _filtered(text, environment)
    try:
        document = yaml.load(text, Loader=LOADER)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        raise ConfigError([f"failed to parse YAML of {path}: {error}"]) from error
    if not isinstance(document, dict):
        raise ConfigError([f"configuration file {path} holds no settings"])
    errors = [f"configuration key not expected: {key}" for key in _unexpected(document)]
    errors += _read_variables(document, environment)
    errors += _required(document)
    cookies, wrong = _cookies(document)
    errors += wrong
    control, wrong = _access_control(document)
    errors += wrong
    strategies = _get(document, "server.endpoints.authz.forward-auth.authn_strategies", DEFAULT)
    errors += _strategy_errors(strategies)
    if providers := _get(document, "identity_providers"):
        errors += authelia_openid.errors(providers)
    if errors or control is None:
        raise ConfigError(errors)
    return Config(document, cookies, control, _header_schemes(strategies))


def _filtered(text: str, environment: Mapping[str, str]) -> str:
    """The part of the template filter that reads secrets. Raises ConfigError for anything else."""

    def value(match: re.Match[str]) -> str:
        if match[1] == "env":
            return environment.get(match[2], "")
        text = Path(match[2]).read_text().rstrip("\n")
        return text.replace("\n", f"\n{' ' * int(match[3])}") if match[3] else text

    replaced = _SECRET_CALL.sub(value, text)
    if "{{" in replaced:
        raise ConfigError(["this double only knows the template functions secret and env"])
    return replaced


def _get(document: Mapping[str, Any], key: str, default: Any = None) -> Any:
    found: Any = document
    for part in key.split("."):
        if not isinstance(found, Mapping) or found.get(part) is None:
            return default
        found = found[part]
    return found


def _set(document: MutableMapping[str, Any], key: str, value: str) -> None:
    *parents, last = key.split(".")
    place: Any = document
    for part in parents:
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
    place[last] = value


def _unexpected(document: Mapping[str, Any]) -> Iterator[str]:
    for section, allowed in KEYS.items():
        found = _get(document, section) if section else document
        if isinstance(found, Mapping) and allowed is not None:
            prefix = f"{section}." if section else ""
            yield from (f"{prefix}{key}" for key in sorted(set(found) - allowed))


def _read_variables(
    document: MutableMapping[str, Any], environment: Mapping[str, str]
) -> list[str]:
    errors = []
    for key in SECRETS:
        name = f"AUTHELIA_{key.replace('.', '_').upper()}"
        if name in environment:
            _set(document, key, environment[name])
        file = environment.get(f"{name}_FILE")
        if not file:
            continue
        if _get(document, key):
            errors.append(
                f"secrets: error loading secret into key '{key}': it's already defined in other "
                "configuration sources"
            )
            continue
        try:
            _set(document, key, Path(file).read_text().rstrip("\n"))
        except OSError as error:
            errors.append(
                f"secrets: error loading secret path {file} into key '{key}': {error.strerror}"
            )
    known = {f"AUTHELIA_{key.replace('.', '_').upper()}_FILE" for key in SECRETS}
    for name in sorted(environment):
        if name.startswith("AUTHELIA_") and name.endswith("_FILE") and name not in known:
            errors.append(f"configuration environment variable not expected: {name}")
    return errors


def _required(document: Mapping[str, Any]) -> list[str]:
    def missing(key: str) -> bool:
        return not _get(document, key)

    key = str(_get(document, "storage.encryption_key", ""))
    checks = [
        (
            missing("storage.postgres"),
            "storage: configuration for a 'local', 'mysql' or 'postgres' database must be provided",
        ),
        (not key, "storage: option 'encryption_key' is required"),
        (
            0 < len(key) < 20,
            "storage: option 'encryption_key' must be 20 characters or longer",
        ),
        (
            bool(_get(document, "storage.postgres")) and missing("storage.postgres.password"),
            "storage: postgres: option 'password' is required",
        ),
        (
            bool(_get(document, "session.redis")) and missing("session.secret"),
            "session: option 'secret' is required when using the 'redis' provider",
        ),
        (
            missing("session.redis.host"),
            "this double keeps sessions in Redis or Valkey only: set session.redis.host",
        ),
        (
            missing("identity_validation.reset_password.jwt_secret")
            and not _get(document, "authentication_backend.password_reset.disable"),
            "identity_validation: reset_password: option 'jwt_secret' is required when the reset "
            "password functionality isn't disabled",
        ),
        (
            missing("notifier.filesystem") == missing("notifier.smtp"),
            "notifier: you must ensure either the 'smtp' or 'filesystem' notifier is configured",
        ),
        (
            missing("authentication_backend.file.path"),
            "authentication_backend: file: option 'path' is required",
        ),
        (
            set(_get(document, "regulation.modes", [])) - {"user", "ip"} != set(),
            "regulation: option 'modes' must only contain the values 'user' and 'ip'",
        ),
        (
            seconds(_get(document, "regulation.find_time"), 120)
            > seconds(_get(document, "regulation.ban_time"), 300),
            "regulation: option 'find_time' must be less than or equal to option 'ban_time'",
        ),
    ]
    return [message for wrong, message in checks if wrong]


def _strategy_errors(strategies: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    place = "server: endpoints: authz: forward-auth: authn_strategies"
    names = [str(strategy.get("name") or "") for strategy in strategies]
    for number, (name, strategy) in enumerate(zip(names, strategies, strict=True), 1):
        for key in sorted(set(strategy) - STRATEGY_KEYS):
            path = "server.endpoints.authz.forward-auth.authn_strategies[]"
            yield f"configuration key not expected: {path}.{key}"
        schemes = strategy.get("schemes") or ()
        if not name:
            yield f"{place}: strategy #{number}: option 'name' must be configured"
        elif name not in STRATEGIES:
            listed = ", ".join(f"'{known}'" for known in STRATEGIES[:-1])
            yield (
                f"{place}: option 'name' must be one of {listed}, or '{STRATEGIES[-1]}' but it's "
                f"configured as '{name}'"
            )
        elif name in names[: number - 1]:
            yield f"{place}: duplicate strategy name detected with name '{name}'"
        elif name not in ("CookieSession", "HeaderAuthorization"):
            yield f"this double does not know the strategy {name}"
        elif schemes and name == "CookieSession":
            yield (
                f"{place}: strategy #{number} ({name}): option 'schemes' is not valid for the "
                "strategy"
            )
        elif wrong := [scheme for scheme in schemes if scheme.lower() not in SCHEMES]:
            yield (
                f"{place}: strategy #{number} ({name}): option 'schemes' must only include the "
                f"values 'basic' or 'bearer' but has '{wrong[0]}'"
            )
    if "CookieSession" not in names:
        yield "this double needs the strategy CookieSession"


def _header_schemes(strategies: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """What the Authorization header may hold; with nothing it is not even read."""
    return frozenset(
        scheme.lower()
        for strategy in strategies
        if strategy["name"] == "HeaderAuthorization"
        for scheme in strategy.get("schemes") or ("basic",)
    )


def _cookies(document: Mapping[str, Any]) -> tuple[tuple[Cookie, ...], list[str]]:
    session = _get(document, "session", {})
    errors: list[str] = []
    found: list[Cookie] = []
    if not session.get("cookies"):
        return (), ["session: option 'cookies' is required"]
    for number, item in enumerate(session["cookies"], 1):
        wrong = list(_cookie_errors(number, item))
        errors += wrong
        if not wrong:
            found.append(_cookie(session, item))
    return tuple(found), errors


def _cookie_errors(number: int, item: Mapping[str, Any]) -> Iterator[str]:
    domain = str(item.get("domain", ""))
    place = f"session: domain config #{number} (domain '{domain}')"
    for key in sorted(set(item) - COOKIE_KEYS):
        yield f"configuration key not expected: session.cookies[].{key}"
    if not domain:
        yield f"{place}: option 'domain' is required"
    elif "." not in domain:
        yield (
            f"{place}: option 'domain' is not a valid cookie domain: must have at least a single "
            "period or be an ip address"
        )
    for key in ("authelia_url", "default_redirection_url"):
        value = str(item.get(key) or "")
        if not value:
            if key == "authelia_url":
                yield f"{place}: option 'authelia_url' is required"
            continue
        parts = urlsplit(value)
        if parts.scheme != "https":
            yield f"{place}: option '{key}' does not have a secure scheme with a value of '{value}'"
        elif not in_domain(parts.hostname or "", domain):
            yield (
                f"{place}: option '{key}' does not share a cookie scope with domain '{domain}' "
                f"with a value of '{value}'"
            )
    if item.get("authelia_url") and item.get("authelia_url") == item.get("default_redirection_url"):
        yield f"{place}: option 'default_redirection_url' is effectively equal to 'authelia_url'"


def in_domain(host: str, domain: str) -> bool:
    """Whether `host` is the cookie domain or below it; as upstream, letter case counts."""
    return bool(domain) and (host == domain or host.endswith(f".{domain.lstrip('.')}"))


def _cookie(session: Mapping[str, Any], item: Mapping[str, Any]) -> Cookie:
    both = {**session, **item}
    return Cookie(
        str(item["domain"]),
        str(item["authelia_url"]),
        str(item.get("default_redirection_url") or ""),
        str(both.get("name", "authelia_session")),
        str(both.get("same_site", "lax")),
        seconds(both.get("inactivity"), 300),
        seconds(both.get("expiration"), 3600),
        seconds(both.get("remember_me"), 2629800),
    )


def _access_control(document: Mapping[str, Any]) -> tuple[AccessControl | None, list[str]]:
    section = _get(document, "access_control", {})
    policy = section.get("default_policy", "deny")
    if policy not in ("deny", "one_factor", "two_factor", "bypass"):
        return None, [f"access_control: option 'default_policy' is '{policy}'"]
    if not section.get("rules") and policy in ("deny", "bypass"):
        return None, [
            f"access_control: 'default_policy' option '{policy}' is invalid: when no rules are "
            "specified it must be 'two_factor' or 'one_factor'"
        ]
    try:
        return parse_access_control(section, _get(document, "definitions")), []
    except ValueError as error:
        return None, [str(error)]


def config_path(arguments: list[str] | None, environment: Mapping[str, str]) -> Path:
    """The file that the command line, or else the environment, names; only one is supported."""
    if arguments:
        return Path(arguments[0])
    named = environment.get("X_AUTHELIA_CONFIG")
    return Path(named) if named else Path("configuration.yml").absolute()


def process_environment() -> Mapping[str, str]:
    """The variables of this process."""
    return os.environ
