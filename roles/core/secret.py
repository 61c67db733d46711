"""Values that must never be shown, and how each is made."""

from __future__ import annotations

import base64
import difflib
import hashlib
import hmac
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

MASK = "********"
ALPHABET = string.ascii_letters + string.digits
# Authelia 4.39's defaults: RFC 9106's second recommended option.
ARGON2 = {"time_cost": 3, "memory_cost": 65536, "parallelism": 4}
# What qBittorrent verifies with: PBKDF2-HMAC-SHA512, salt and key of these many bytes
# (https://github.com/qbittorrent/qBittorrent/blob/master/src/base/utils/password.cpp).
PBKDF2 = {"iterations": 100_000, "salt": 16, "key": 64}
# Authelia's default for the secrets of its clients, which it reads in the modular crypt format.
CRYPT = {"iterations": 310_000, "salt": 16, "key": 64}
RSA_BITS = 3072


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

    Kinds: "password" (letters and digits, `length` of them), "hex" (`length` digits), "rsa" (a
    private key), "argon2id", "pbkdf2" and "crypt" (hashes of the entry `of`, made anew when that
    changes), "given" (only the operator knows it) and "made" (another part of the project puts it
    there, such as a certificate). `fixed` says why a new value alone would do harm, such as data
    encrypted with the old one.
    """

    name: str
    kind: Literal["password", "hex", "rsa", "argon2id", "pbkdf2", "crypt", "given", "made"]
    note: str
    length: int = 48
    of: str = ""
    fixed: str = ""


class Store(Protocol):
    """What is needed of a vault here."""

    def names(self) -> tuple[str, ...]: ...
    def get(self, name: str) -> Secret: ...
    def set(self, name: str, value: Secret | str, source: str = "") -> None: ...
    def source(self, name: str) -> str: ...
    def fingerprint(self, name: str) -> str: ...


class MissingSecretError(Exception):
    """A value that only the operator can give is not in the vault."""


class RotationError(Exception):
    """An entry cannot be replaced by a new random value; the text says what to do instead."""


def ensure(vault: Store, specs: Iterable[SecretSpec]) -> list[str]:
    """Make what is missing or follows from a changed parent; the names of what was made.

    Raises:
        MissingSecretError: entries of kind "given" are not there; one line each says how to set it.
    """
    specs = tuple(specs)
    present = frozenset(vault.names())
    require_given(vault, specs)
    made = []
    for spec in specs:
        if spec.kind in GENERATORS and spec.name not in present:
            vault.set(spec.name, GENERATORS[spec.kind](spec.length))
            made.append(spec.name)
    # Parents stand by now, in whichever order the entries are declared.
    made += [spec.name for spec in specs if spec.kind in HASHES and _derive(vault, spec)]
    return made


def require_given(vault: Store, specs: Iterable[SecretSpec]) -> None:
    """Prove that what only the operator knows is there.

    Raises:
        MissingSecretError: one line for each entry that is not; it says how to set it.
    """
    present = frozenset(vault.names())
    missing = [spec for spec in specs if spec.kind == "given" and spec.name not in present]
    if missing:
        raise MissingSecretError("\n".join(map(_how_to_give, missing)))


def rotate(vault: Store, specs: Iterable[SecretSpec], name: str) -> list[str]:
    """Replace one generated value and everything derived from it; the names of what changed.

    Raises:
        RotationError: no such entry, or one that a new random value cannot replace.
    """
    declared = {spec.name: spec for spec in specs}
    spec = declared.get(name)
    if spec is None:
        close = difflib.get_close_matches(name, declared, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(declared))}"
        raise RotationError(f"{name}: is not an entry of this site; {hint}")
    reason = unrotatable(spec)
    if reason:
        raise RotationError(f"{name}: {reason}")
    vault.set(name, GENERATORS[spec.kind](spec.length))
    derived = [other for other in declared.values() if other.of == name]
    return [name, *ensure(vault, derived)]


def unrotatable(spec: SecretSpec) -> str:
    """Why a new random value cannot replace an entry, and what to do instead; empty if it can."""
    if spec.fixed:
        return f"is kept: {spec.fixed}"
    if spec.kind in HASHES:
        return f"follows from {spec.of}; rotate that"
    if spec.kind == "given":
        return f"only you know it ({spec.note}); run: make vault ARGS='set {spec.name}'"
    if spec.kind == "made":
        return f"the next deploy makes it anew after: make vault ARGS='remove {spec.name}'"
    return ""


def _how_to_give(spec: SecretSpec) -> str:
    return f"vault: {spec.name} ({spec.note}) is not set; run: make vault ARGS='set {spec.name}'"


def _derive(vault: Store, spec: SecretSpec) -> bool:
    parent = vault.fingerprint(spec.of)
    if spec.name in vault.names() and vault.source(spec.name) == parent:
        return False
    vault.set(spec.name, HASHES[spec.kind](vault.get(spec.of)), source=parent)
    return True


def password(length: int) -> Secret:
    """Letters and digits, each equally likely: about 5.95 bits a character."""
    return Secret("".join(secrets.choice(ALPHABET) for _ in range(length)))


def hexadecimal(length: int) -> Secret:
    """Digits of base 16: 4 bits each."""
    return Secret(secrets.token_hex((length + 1) // 2)[:length])


def rsa(_: int) -> Secret:
    """A private key for signatures (PKCS #8, PEM); its size is RSA_BITS (NIST SP 800-57: 2030)."""
    # Slow to import, and needed only when the key is new.
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import rsa as keys  # noqa: PLC0415

    text = keys.generate_private_key(public_exponent=65537, key_size=RSA_BITS).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Secret(text.decode())


GENERATORS: Mapping[str, Callable[[int], Secret]] = {
    "password": password,
    "hex": hexadecimal,
    "rsa": rsa,
}


def argon2id(value: Secret) -> Secret:
    """The PHC string of a value, as Authelia reads it (RFC 9106)."""
    # Slow to import, and needed only when a password is new.
    from argon2 import PasswordHasher  # noqa: PLC0415

    options: dict[str, Any] = ARGON2
    return Secret(PasswordHasher(**options).hash(value.reveal()))


def pbkdf2(value: Secret) -> Secret:
    """Salt and key of a value as qBittorrent stores them (RFC 8018, 5.2)."""
    return Secret(":".join(base64.b64encode(part).decode() for part in _pbkdf2(value, PBKDF2)))


def crypt(value: Secret) -> Secret:
    """The hash of a value as Authelia reads it: $pbkdf2-sha512$iterations$salt$key.

    Its base 64 has "." for "+" and no padding (https://passlib.readthedocs.io, PBKDF2).
    """
    parts = (base64.b64encode(part, b"./").decode().rstrip("=") for part in _pbkdf2(value, CRYPT))
    return Secret("$".join(("", "pbkdf2-sha512", str(CRYPT["iterations"]), *parts)))


def _pbkdf2(value: Secret, sizes: Mapping[str, int]) -> tuple[bytes, bytes]:
    salt = secrets.token_bytes(sizes["salt"])
    text = value.reveal().encode()
    return salt, hashlib.pbkdf2_hmac("sha512", text, salt, sizes["iterations"], sizes["key"])


HASHES: Mapping[str, Callable[[Secret], Secret]] = {
    "argon2id": argon2id,
    "pbkdf2": pbkdf2,
    "crypt": crypt,
}
