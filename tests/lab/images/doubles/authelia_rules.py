"""Access control as Authelia documents it: rules from top to bottom, the first match decides.

Source of the behaviour: https://www.authelia.com/configuration/security/access-control/
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from .authelia_target import Target

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METHOD = re.compile(r"[A-Z]+")
RULE_KEYS = frozenset(
    {
        "domain",
        "domain_regex",
        "policy",
        "subject",
        "networks",
        "methods",
        "resources",
        "query",
    }
)
_POLICIES = ("deny", "two_factor", "one_factor", "bypass")


class Level(enum.IntEnum):
    """What a rule demands, and (up to TWO_FACTOR) what a session has."""

    BYPASS = 0
    ONE_FACTOR = 1
    TWO_FACTOR = 2
    DENY = 3

    @classmethod
    def of(cls, policy: str) -> Level:
        """The level that a policy of the configuration file names."""
        known = {"bypass": cls.BYPASS, "one_factor": cls.ONE_FACTOR, "two_factor": cls.TWO_FACTOR}
        return known.get(policy, cls.DENY)


class Verdict(enum.Enum):
    """What becomes of a request."""

    AUTHORIZED = "authorized"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who asks; without a name it is anonymous."""

    name: str
    groups: tuple[str, ...]
    address: str

    @property
    def anonymous(self) -> bool:
        """Whether nobody has signed in."""
        return not self.name


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; an empty criterion matches everything."""

    policy: Level
    domains: tuple[str, ...]
    domain_patterns: tuple[re.Pattern[str], ...]
    resources: tuple[re.Pattern[str], ...]
    methods: tuple[str, ...]
    networks: tuple[Network, ...]
    subjects: tuple[tuple[str, ...], ...]
    query: tuple[tuple[Mapping[str, Any], ...], ...]

    @property
    def has_subjects(self) -> bool:
        """Whether the answer depends on who asks."""
        named = any(
            {"User", "Group"} & set(pattern.groupindex)
            for pattern in (*self.domain_patterns, *self.resources)
        )
        placeholder = any(name.startswith(("{user}", "{group}")) for name in self.domains)
        return bool(self.subjects) or named or placeholder

    def matches(self, subject: Subject, target: Target) -> bool:
        """Whether this rule is about the request. An anonymous subject matches any `subject`."""
        return (
            self._matches_domain(subject, target.domain)
            and (not self.resources or _any_pattern(self.resources, target.resource, subject))
            and self._matches_query(target.query)
            and (not self.methods or target.method in self.methods)
            and self._matches_network(subject.address)
            and self._matches_subject(subject)
        )

    def _matches_domain(self, subject: Subject, domain: str) -> bool:
        by_name = any(_matches_name(name.lower(), domain.lower(), subject) for name in self.domains)
        return by_name or _any_pattern(self.domain_patterns, domain, subject)

    def _matches_network(self, address: str) -> bool:
        if not self.networks:
            return True
        try:
            own = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(own in network for network in self.networks)

    def _matches_subject(self, subject: Subject) -> bool:
        if not self.subjects or subject.anonymous:
            return True
        return any(all(_is(subject, item) for item in group) for group in self.subjects)

    def _matches_query(self, query: str) -> bool:
        values = parse_qs(query, keep_blank_values=True)
        return not self.query or any(
            all(_matches_argument(item, values) for item in group) for group in self.query
        )


def _matches_name(name: str, domain: str, subject: Subject) -> bool:
    if name.startswith("*."):
        return domain.endswith(name[1:])
    for placeholder, own in (("{user}", (subject.name,)), ("{group}", subject.groups)):
        if name.startswith(placeholder):
            suffix = name.removeprefix(placeholder)
            if subject.anonymous:
                return domain.endswith(suffix) and len(domain) > len(suffix)
            return any(domain == f"{item.lower()}{suffix}" for item in own)
    return domain == name


def _any_pattern(patterns: Sequence[re.Pattern[str]], text: str, subject: Subject) -> bool:
    return any(_pattern(pattern, text, subject) for pattern in patterns)


def _pattern(pattern: re.Pattern[str], text: str, subject: Subject) -> bool:
    match = pattern.search(text)
    if not match:
        return False
    named = match.groupdict()
    if subject.anonymous:
        return True
    if "User" in named and (named["User"] or "").lower() != subject.name.lower():
        return False
    groups = {group.lower() for group in subject.groups}
    return "Group" not in named or (named["Group"] or "").lower() in groups


def _is(subject: Subject, item: str) -> bool:
    kind, _, name = item.partition(":")
    name = name.strip()
    if kind == "user":
        return subject.name == name
    return kind == "group" and name in subject.groups


def _matches_argument(item: Mapping[str, Any], values: Mapping[str, list[str]]) -> bool:
    key = str(item["key"])
    operator = item.get("operator") or ("equal" if "value" in item else "present")
    found = values.get(key, [""])[0]
    wanted = str(item.get("value", ""))
    answers: Mapping[str, Callable[[], bool]] = {
        "present": lambda: key in values,
        "absent": lambda: key not in values,
        "equal": lambda: found == wanted,
        "not equal": lambda: found != wanted,
        "pattern": lambda: re.search(wanted, found) is not None,
        "not pattern": lambda: re.search(wanted, found) is None,
    }
    return answers[operator]()


@dataclass(frozen=True, slots=True)
class AccessControl:
    """All rules and what applies when none matches."""

    rules: tuple[Rule, ...]
    default: Level

    @property
    def second_factor(self) -> bool:
        """Whether anything asks for a second factor."""
        return Level.TWO_FACTOR in [self.default, *(rule.policy for rule in self.rules)]

    def required(self, subject: Subject, target: Target) -> tuple[bool, Level]:
        """Whether the deciding rule depends on the subject, and what it demands."""
        for rule in self.rules:
            if rule.matches(subject, target):
                return rule.has_subjects, rule.policy
        return False, self.default


def verdict(level: Level, required: Level, has_subjects: bool) -> Verdict:
    """Judge a session's level. An anonymous one is not refused for good where identity decides."""
    if required is Level.BYPASS:
        return Verdict.AUTHORIZED
    if required is Level.DENY:
        known = level is not Level.BYPASS or not has_subjects
        return Verdict.FORBIDDEN if known else Verdict.UNAUTHORIZED
    return Verdict.AUTHORIZED if level >= required else Verdict.UNAUTHORIZED


def parse_access_control(
    document: Mapping[str, Any], definitions: Mapping[str, Any] | None = None
) -> AccessControl:
    """The section `access_control`. Raises ValueError naming the rule that is wrong."""
    named = dict((definitions or {}).get("network") or {})
    for item in document.get("networks") or []:
        named[item["name"]] = item["networks"]
    rules = document.get("rules") or []
    return AccessControl(
        tuple(_rule(number, item, named) for number, item in enumerate(rules, 1)),
        Level.of(document.get("default_policy", "deny")),
    )


def _rule(number: int, item: Mapping[str, Any], named: Mapping[str, Any]) -> Rule:
    place = f"access_control: rule #{number}"
    subjects = _subjects(item.get("subject"))
    for message in _mistakes(item, subjects):
        raise ValueError(f"{place}: {message}")
    try:
        return Rule(
            Level.of(item["policy"]),
            _strings(item.get("domain")),
            tuple(re.compile(text) for text in _strings(item.get("domain_regex"))),
            tuple(re.compile(text) for text in _strings(item.get("resources"))),
            tuple(text.upper() for text in _strings(item.get("methods"))),
            tuple(_networks(_strings(item.get("networks")), named)),
            subjects,
            tuple(tuple(group) for group in item.get("query") or ()),
        )
    except (re.error, ValueError) as error:
        raise ValueError(f"{place}: {error}") from error


def _mistakes(item: Mapping[str, Any], subjects: tuple[tuple[str, ...], ...]) -> list[str]:
    found = [f"option '{key}' is not expected" for key in sorted(set(item) - RULE_KEYS)]
    if not item.get("domain") and not item.get("domain_regex"):
        found.append("option 'domain' or 'domain_regex' must be present but are both absent")
    policy = item.get("policy")
    if policy not in _POLICIES:
        known = ", ".join(f"'{name}'" for name in _POLICIES)
        found.append(f"option 'policy' must be one of {known} but it's configured as '{policy}'")
    if policy == "bypass" and subjects:
        found.append("'policy' option 'bypass' is not supported when option 'subject' is set")
    for subject in (entry for group in subjects for entry in group):
        if not subject.startswith(("user:", "group:", "oauth2:client:")):
            found.append(f"'subject' option '{subject}' is invalid")
    return found


def _strings(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list) else (str(value),)


def _subjects(value: object) -> tuple[tuple[str, ...], ...]:
    """One string, a list of alternatives, or a list of lists whose items must all hold."""
    if value is None:
        return ()
    alternatives = value if isinstance(value, list) else [value]
    return tuple(_strings(item) for item in alternatives)


def _networks(texts: Sequence[str], named: Mapping[str, Any]) -> list[Network]:
    return [
        ipaddress.ip_network(item, strict=False)
        for text in texts
        for item in _strings(named.get(text, text))
    ]
