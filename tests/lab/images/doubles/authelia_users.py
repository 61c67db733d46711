"""The users file: accounts with argon2id hashes, read again when it changes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import argon2
import yaml

USER_KEYS = frozenset(["disabled", "displayname", "password", "email", "groups"])
_HASHER = argon2.PasswordHasher(time_cost=3, memory_cost=65536, parallelism=4)


class UsersError(Exception):
    """The users file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class User:
    """One account."""

    name: str
    display_name: str
    password: str
    emails: tuple[str, ...]
    groups: tuple[str, ...]


class Users:
    """The accounts of one file; with `watch` a changed file counts from the next request on."""

    def __init__(self, file: Path, watch: bool) -> None:
        self._file = file
        self._watch = watch
        self._lock = threading.Lock()
        self._stamp = self._seen()
        self._users = load_users(file.read_text())

    def find(self, name: str) -> User | None:
        """The enabled account of exactly this name."""
        with self._lock:
            if self._watch and self._seen() != self._stamp:
                self._reload()
            return self._users.get(name)

    def _seen(self) -> tuple[int, int, int]:
        state = self._file.stat()
        return state.st_mtime_ns, state.st_size, state.st_ino

    def _reload(self) -> None:
        stamp = self._seen()
        # As upstream: a broken file changes nothing, the accounts stay as they were.
        with contextlib.suppress(OSError, UsersError):
            self._users = load_users(self._file.read_text())
        self._stamp = stamp


def load_users(text: str) -> dict[str, User]:
    """Parse a users file. Raises UsersError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsersError(f"could not parse the YAML database: {error}") from error
    if not isinstance(document, dict) or set(document) != {"users"} or not document["users"]:
        raise UsersError("could not validate the schema: users: non zero value required")
    return {
        user.name: user
        for name, fields in document["users"].items()
        if (user := _user(str(name), fields))
    }


def _user(name: str, fields: dict[str, object]) -> User | None:
    wanted = ("password", "displayname")
    if not isinstance(fields, dict) or any(not fields.get(key) for key in wanted):
        raise UsersError(f"could not validate the schema: users: {name}: value required")
    if unknown := sorted(set(fields) - USER_KEYS):
        raise UsersError(f"users: {name}: unknown keys {', '.join(unknown)}")
    password = str(fields["password"])
    if not password.startswith("$argon2id$"):
        raise UsersError(f"users: {name}: this double only knows argon2id")
    if fields.get("disabled"):
        return None
    groups = fields.get("groups") or []
    assert isinstance(groups, list)
    email = fields.get("email")
    return User(
        name,
        str(fields["displayname"]),
        password,
        (str(email),) if email else (),
        tuple(str(group) for group in groups),
    )


def check_password(user: User, password: str) -> bool:
    """Whether the password is the account's."""
    try:
        return _HASHER.verify(user.password, password)
    except argon2.exceptions.VerificationError:
        return False


def hash_password(password: str) -> str:
    """An argon2id hash with upstream's default costs."""
    return _HASHER.hash(password)


def totp_code(secret: str, algorithm: str, digits: int, step: int) -> str:
    """The one-time password of a time step (RFC 6238); the secret in base32."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8), casefold=True)
    digest = hmac.new(key, struct.pack(">Q", step), getattr(hashlib, algorithm.lower())).digest()
    offset = digest[-1] & 0x0F
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)
