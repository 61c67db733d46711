"""Values that must never be shown, and how each is made."""

from __future__ import annotations

import hmac
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

MASK = "********"
ALPHABET = string.ascii_letters + string.digits
# Authelia 4.39's defaults: RFC 9106's second recommended option.
ARGON2 = {"time_cost": 3, "memory_cost": 65536, "parallelism": 4}


class Secret:
    """A text that prints as a mask everywhere; `reveal` is the one way to it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself. Whoever calls this answers for where it goes."""
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never serialised")


@dataclass(frozen=True, slots=True)
class SecretSpec:
    """How a vault entry comes to be.

    Kinds: "password" (letters and digits, `length` of them), "argon2id" (the hash of the entry
    `of`, made anew when that changes), "given" (only the operator knows it) and "made" (another
    part of the project puts it there, such as a certificate).
    """

    name: str
    kind: Literal["password", "argon2id", "given", "made"]
    note: str
    length: int = 48
    of: str = ""


class Store(Protocol):
    """What is needed of a vault here."""

    def names(self) -> tuple[str, ...]: ...
    def get(self, name: str) -> Secret: ...
    def set(self, name: str, value: Secret | str, source: str = "") -> None: ...
    def source(self, name: str) -> str: ...
    def fingerprint(self, name: str) -> str: ...


class MissingSecretError(Exception):
    """A value that only the operator can give is not in the vault."""


def ensure(vault: Store, specs: Iterable[SecretSpec]) -> list[str]:
    """Make what is missing or follows from a changed parent; the names of what was made.

    Raises:
        MissingSecretError: an entry of kind "given" is not there; the text says how to set it.
    """
    made = []
    for spec in specs:
        present = spec.name in vault.names()
        if spec.kind == "given" and not present:
            raise MissingSecretError(
                f"vault: {spec.name} ({spec.note}) is not set; "
                f"run: make vault ARGS='set {spec.name}'"
            )
        if spec.kind == "password" and not present:
            vault.set(spec.name, password(spec.length))
            made.append(spec.name)
        if spec.kind == "argon2id":
            parent = vault.fingerprint(spec.of)
            if not present or vault.source(spec.name) != parent:
                vault.set(spec.name, argon2id(vault.get(spec.of)), source=parent)
                made.append(spec.name)
    return made


def rotate(vault: Store, specs: Iterable[SecretSpec], name: str) -> list[str]:
    """Replace one generated value and everything derived from it; the names of what changed.

    Raises:
        KeyError: the stack declares no such entry.
        ValueError: the entry is not one that can be generated.
    """
    declared = {spec.name: spec for spec in specs}
    spec = declared[name]
    if spec.kind != "password":
        raise ValueError(f"{name} is not generated ({spec.note}); set it instead")
    vault.set(name, password(spec.length))
    derived = [other for other in declared.values() if other.of == name]
    return [name, *ensure(vault, derived)]


def password(length: int) -> Secret:
    """Letters and digits, each equally likely: about 5.95 bits a character."""
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(length)))


def argon2id(value: Secret) -> Secret:
    """The PHC string of a value, as Authelia reads it (RFC 9106)."""
    # Slow to import, and needed only when a password is new.
    from argon2 import PasswordHasher  # noqa: PLC0415

    options: dict[str, Any] = ARGON2
    return Secret(PasswordHasher(**options).hash(value.reveal()))
