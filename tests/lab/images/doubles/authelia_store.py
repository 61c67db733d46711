"""Where the double keeps what outlives a request: PostgreSQL, and sessions in Valkey or Redis."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import secrets
import socket
import string
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .authelia_config import Config

Result = TypeVar("Result")

SESSION_PREFIX = "authelia-session:"
SESSION_CHARACTERS = string.ascii_letters + string.digits
CONNECT_SECONDS = 5
NONCE = 12
# Upstream's tables of the same names, with the columns that this double fills.
SCHEMA = """
CREATE TABLE IF NOT EXISTS migrations (
    id SERIAL PRIMARY KEY, applied TIMESTAMPTZ NOT NULL DEFAULT now(),
    version_before INTEGER NULL, version_after INTEGER NOT NULL,
    application_version VARCHAR(128) NOT NULL);
CREATE TABLE IF NOT EXISTS encryption (
    id SERIAL PRIMARY KEY, name VARCHAR(100) UNIQUE, value BYTEA NOT NULL);
CREATE TABLE IF NOT EXISTS user_preferences (
    id SERIAL PRIMARY KEY, username VARCHAR(100) UNIQUE NOT NULL,
    second_factor_method VARCHAR(11) NOT NULL);
CREATE TABLE IF NOT EXISTS totp_configurations (
    id SERIAL PRIMARY KEY, created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_used_at TIMESTAMPTZ NULL, username VARCHAR(100) UNIQUE NOT NULL, issuer VARCHAR(100),
    algorithm VARCHAR(6) NOT NULL DEFAULT 'SHA1', digits INTEGER NOT NULL DEFAULT 6,
    period INTEGER NOT NULL DEFAULT 30, secret BYTEA NOT NULL);
CREATE TABLE IF NOT EXISTS totp_history (
    id SERIAL PRIMARY KEY, created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    username VARCHAR(100) NOT NULL, step BIGINT NOT NULL, UNIQUE (username, step));
CREATE TABLE IF NOT EXISTS authentication_logs (
    id SERIAL PRIMARY KEY, time TIMESTAMPTZ NOT NULL DEFAULT now(), successful BOOLEAN NOT NULL,
    banned BOOLEAN NOT NULL DEFAULT FALSE, username VARCHAR(100) NOT NULL,
    auth_type VARCHAR(8) NOT NULL DEFAULT '1FA', remote_ip VARCHAR(39) NULL,
    request_uri TEXT NOT NULL DEFAULT '', request_method VARCHAR(8) NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS banned_user (
    id SERIAL PRIMARY KEY, time TIMESTAMPTZ NOT NULL DEFAULT now(), expires TIMESTAMPTZ NULL,
    revoked BOOLEAN NOT NULL DEFAULT FALSE, username VARCHAR(100) NOT NULL,
    source VARCHAR(10) NOT NULL, reason VARCHAR(100) NULL);
CREATE TABLE IF NOT EXISTS banned_ip (
    id SERIAL PRIMARY KEY, time TIMESTAMPTZ NOT NULL DEFAULT now(), expires TIMESTAMPTZ NULL,
    revoked BOOLEAN NOT NULL DEFAULT FALSE, ip VARCHAR(39) NOT NULL,
    source VARCHAR(10) NOT NULL, reason VARCHAR(100) NULL);
"""
SCHEMA_VERSION = 22


class StorageError(Exception):
    """The database or the session store cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Totp:
    """A registered one-time password; `secret` is base32."""

    username: str
    issuer: str
    algorithm: str
    digits: int
    period: int
    secret: str
    created: str = ""
    last_used: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in attempt for the log."""

    successful: bool
    banned: bool
    username: str
    kind: str
    address: str
    url: str
    method: str


class Storage(Protocol):
    """What the handlers need of the database; times are in UTC."""

    def totp(self, username: str) -> Totp | None: ...

    def save_totp(self, totp: Totp) -> None: ...

    def delete_totp(self, username: str) -> bool: ...

    def use_totp_step(self, username: str, step: int) -> bool:
        """Note a used time step; False when it was used before."""

    def method(self, username: str) -> str: ...

    def save_method(self, username: str, method: str) -> None: ...

    def log_attempt(self, attempt: Attempt) -> None: ...

    def outcomes(self, kind: str, value: str, since: datetime) -> list[tuple[bool, datetime]]:
        """The first-factor attempts of a "user" or "ip" that no ban refused, newest first."""

    def ban(self, kind: str, value: str, expires: datetime) -> None: ...

    def banned_until(self, kind: str, value: str) -> datetime | None: ...


class Cipher:
    """AES-256-GCM under the SHA-256 of a configured secret; the nonce stands in front."""

    def __init__(self, secret: str) -> None:
        self._cipher = AESGCM(hashlib.sha256(secret.encode()).digest())

    def seal(self, content: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._cipher.encrypt(nonce, content, None)

    def open(self, sealed: bytes) -> bytes:
        """Raises StorageError when another key sealed it, or somebody changed it."""
        try:
            return self._cipher.decrypt(sealed[:NONCE], sealed[NONCE:], None)
        except (InvalidTag, ValueError) as error:
            raise StorageError("the value was sealed with another key") from error


class Postgres:
    """Storage in PostgreSQL; one connection, opened again when it broke."""

    def __init__(self, config: Config) -> None:
        # Only the image carries the driver, so it is named where it is used.
        self._driver: Any = importlib.import_module("psycopg")
        section = config.get("storage.postgres")
        address = urlsplit(str(section["address"]))
        self._place = {
            "host": address.hostname or address.path,
            "port": address.port or 5432,
            "dbname": section["database"],
            "user": section["username"],
            "password": str(section["password"]),
            "connect_timeout": CONNECT_SECONDS,
            "options": f"-c search_path={section.get('schema', 'public')}",
        }
        self._cipher = Cipher(str(config.get("storage.encryption_key")))
        self._lock = threading.Lock()
        self._connection: Any = None

    def start(self, version: str) -> None:
        """Make the tables and check the encryption key. Raises StorageError."""
        self._run(lambda cursor: cursor.execute(SCHEMA))
        if not self._rows("SELECT 1 FROM migrations"):
            self._run(
                lambda cursor: cursor.execute(
                    "INSERT INTO migrations (version_before, version_after, application_version) "
                    "VALUES (0, %s, %s)",
                    (SCHEMA_VERSION, version),
                )
            )
        found = self._rows("SELECT value FROM encryption WHERE name = 'check'")
        if not found:
            self._save_check(self._cipher)
            return
        try:
            self._cipher.open(bytes(found[0][0]))
        except StorageError as error:
            raise StorageError(
                "the configured encryption key does not appear to be valid for this database "
                "which may occur if the encryption key was changed in the configuration without "
                "using the cli to change it in the database"
            ) from error

    def change_key(self, key: str) -> None:
        """Seal everything anew under another encryption key, all or nothing."""
        fresh = Cipher(key)

        def reseal(cursor: Any) -> None:
            cursor.execute("SELECT id, secret FROM totp_configurations")
            for row, sealed in cursor.fetchall():
                cursor.execute(
                    "UPDATE totp_configurations SET secret = %s WHERE id = %s",
                    (fresh.seal(self._cipher.open(bytes(sealed))), row),
                )
            cursor.execute(
                "UPDATE encryption SET value = %s WHERE name = 'check'",
                (fresh.seal(uuid.uuid4().bytes),),
            )

        self._run(reseal)

    def _save_check(self, cipher: Cipher) -> None:
        self._run(
            lambda cursor: cursor.execute(
                "INSERT INTO encryption (name, value) VALUES ('check', %s)",
                (cipher.seal(uuid.uuid4().bytes),),
            )
        )

    def totp(self, username: str) -> Totp | None:
        rows = self._rows(
            "SELECT issuer, algorithm, digits, period, secret, created_at, last_used_at "
            "FROM totp_configurations WHERE username = %s",
            username,
        )
        if not rows:
            return None
        issuer, algorithm, digits, period, sealed, created, used = rows[0]
        secret = self._cipher.open(bytes(sealed)).decode()
        return Totp(
            username,
            issuer,
            algorithm,
            digits,
            period,
            secret,
            _zulu(created),
            _zulu(used) if used else None,
        )

    def save_totp(self, totp: Totp) -> None:
        self._run(
            lambda cursor: cursor.execute(
                "INSERT INTO totp_configurations (username, issuer, algorithm, digits, period, "
                "secret) VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (username) DO UPDATE SET "
                "issuer = excluded.issuer, algorithm = excluded.algorithm, digits = "
                "excluded.digits, period = excluded.period, secret = excluded.secret, "
                "created_at = now(), last_used_at = NULL",
                (
                    totp.username,
                    totp.issuer,
                    totp.algorithm,
                    totp.digits,
                    totp.period,
                    self._cipher.seal(totp.secret.encode()),
                ),
            )
        )

    def delete_totp(self, username: str) -> bool:
        return bool(
            self._rows("DELETE FROM totp_configurations WHERE username = %s RETURNING id", username)
        )

    def use_totp_step(self, username: str, step: int) -> bool:
        fresh = self._rows(
            "INSERT INTO totp_history (username, step) VALUES (%s, %s) ON CONFLICT DO NOTHING "
            "RETURNING id",
            username,
            step,
        )
        if fresh:
            self._run(
                lambda cursor: cursor.execute(
                    "UPDATE totp_configurations SET last_used_at = now() WHERE username = %s",
                    (username,),
                )
            )
        return bool(fresh)

    def method(self, username: str) -> str:
        rows = self._rows(
            "SELECT second_factor_method FROM user_preferences WHERE username = %s", username
        )
        return str(rows[0][0]) if rows else ""

    def save_method(self, username: str, method: str) -> None:
        self._run(
            lambda cursor: cursor.execute(
                "INSERT INTO user_preferences (username, second_factor_method) VALUES (%s, %s) "
                "ON CONFLICT (username) DO UPDATE SET second_factor_method = "
                "excluded.second_factor_method",
                (username, method),
            )
        )

    def log_attempt(self, attempt: Attempt) -> None:
        self._run(
            lambda cursor: cursor.execute(
                "INSERT INTO authentication_logs (successful, banned, username, auth_type, "
                "remote_ip, request_uri, request_method) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                (
                    attempt.successful,
                    attempt.banned,
                    attempt.username[:100],
                    attempt.kind,
                    attempt.address,
                    attempt.url,
                    attempt.method[:8],
                ),
            )
        )

    def outcomes(self, kind: str, value: str, since: datetime) -> list[tuple[bool, datetime]]:
        column = {"user": "username", "ip": "remote_ip"}[kind]
        return [
            (bool(successful), moment)
            for successful, moment in self._rows(
                f"SELECT successful, time FROM authentication_logs WHERE {column} = %s "  # noqa: S608
                "AND time > %s AND auth_type = '1FA' AND NOT banned ORDER BY time DESC, id DESC "
                "LIMIT 100",
                value,
                since,
            )
        ]

    def ban(self, kind: str, value: str, expires: datetime) -> None:
        table, column = _ban_table(kind)
        self._run(
            lambda cursor: cursor.execute(
                f"INSERT INTO {table} (expires, {column}, source, reason) VALUES "  # noqa: S608
                "(%s, %s, 'regulation', 'Exceeding Maximum Retries')",
                (expires, value),
            )
        )

    def banned_until(self, kind: str, value: str) -> datetime | None:
        table, column = _ban_table(kind)
        rows = self._rows(
            f"SELECT expires FROM {table} WHERE {column} = %s AND NOT revoked "  # noqa: S608
            "AND expires > now() ORDER BY expires DESC LIMIT 1",
            value,
        )
        return rows[0][0] if rows else None

    def bans(self, kind: str) -> list[tuple[int, str, datetime]]:
        """Number, value and end of every ban of a kind in effect."""
        table, column = _ban_table(kind)
        return self._rows(
            f"SELECT id, {column}, expires FROM {table} "  # noqa: S608
            "WHERE NOT revoked AND expires > now() ORDER BY id"
        )

    def revoke(self, kind: str, value: str) -> list[int]:
        """End the bans of a value; their numbers."""
        table, column = _ban_table(kind)
        rows = self._rows(
            f"UPDATE {table} SET revoked = TRUE WHERE {column} = %s AND NOT revoked "  # noqa: S608
            "AND expires > now() RETURNING id",
            value,
        )
        return [int(row[0]) for row in rows]

    def _rows(self, statement: str, *values: Any) -> list[Any]:
        def fetch(cursor: Any) -> list[Any]:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

        return self._run(fetch)

    def _run(self, action: Callable[[Any], Result]) -> Result:
        with self._lock:
            for last in (False, True):
                try:
                    if self._connection is None:
                        self._connection = self._driver.connect(**self._place)
                    with self._connection.transaction(), self._connection.cursor() as cursor:
                        return action(cursor)
                except self._driver.Error as error:
                    self._connection = None
                    if last:
                        raise StorageError(f"storage: postgres: {error}".strip()) from error
        raise AssertionError("unreachable")


def _zulu(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _ban_table(kind: str) -> tuple[str, str]:
    return {"user": ("banned_user", "username"), "ip": ("banned_ip", "ip")}[kind]


class KeyValue(Protocol):
    """A store of bytes that expire."""

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes, lifetime: float) -> None: ...

    def delete(self, key: str) -> None: ...


class Redis:
    """The four commands of RESP that sessions need (https://valkey.io/topics/protocol/)."""

    def __init__(self, config: Config) -> None:
        section = config.get("session.redis")
        self._place = (str(section["host"]), int(section.get("port", 6379)))
        self._user = str(section.get("username") or "")
        self._password = str(section.get("password") or "")
        self._database = int(section.get("database_index") or 0)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._reader: Any = None

    def get(self, key: str) -> bytes | None:
        found = self._command("GET", key)
        return found if isinstance(found, bytes) else None

    def set(self, key: str, value: bytes, lifetime: float) -> None:
        self._command("SET", key, value, "EX", str(max(1, int(lifetime))))

    def delete(self, key: str) -> None:
        self._command("DEL", key)

    def _command(self, *words: str | bytes) -> object:
        with self._lock:
            for last in (False, True):
                try:
                    if self._socket is None:
                        self._connect()
                    return self._exchange(*words)
                except (OSError, EOFError) as error:
                    self._close()
                    if last:
                        raise StorageError(f"session: redis: {error}") from error
        raise AssertionError("unreachable")

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._place, CONNECT_SECONDS)
        self._reader = self._socket.makefile("rb")
        if self._password:
            self._exchange("AUTH", *([self._user] if self._user else []), self._password)
        if self._database:
            self._exchange("SELECT", str(self._database))

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = self._reader = None

    def _exchange(self, *words: str | bytes) -> object:
        assert self._socket is not None
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        message = b"*%d\r\n" % len(parts)
        message += b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(message)
        return self._answer()

    def _answer(self) -> object:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("the connection ended")
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            self._close()
            raise StorageError(f"session: redis: {text.decode()}")
        if kind == b"$":
            length = int(text)
            return self._reader.read(length + 2)[:-2] if length >= 0 else None
        return int(text) if kind == b":" else text


@dataclass(slots=True)
class Session:
    """What is known of a browser; times in seconds since the epoch."""

    domain: str
    username: str = ""
    level: int = 0
    display_name: str = ""
    emails: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    keep: bool = False
    last_activity: float = 0
    password_used: bool = False


class Sessions:
    """Sessions, sealed under the configured secret."""

    def __init__(self, store: KeyValue, secret: str) -> None:
        self._store = store
        self._cipher = Cipher(secret)

    def check(self) -> None:
        """Write and remove a probe, as upstream does at its start. Raises StorageError."""
        self._store.set(f"{SESSION_PREFIX}authelia-startup-probe", b"ok", 1)
        self._store.delete(f"{SESSION_PREFIX}authelia-startup-probe")

    def load(self, identifier: str) -> Session | None:
        """The session of a cookie, or None when there is none that can be read."""
        if not identifier:
            return None
        sealed = self._store.get(SESSION_PREFIX + identifier)
        if sealed is None:
            return None
        try:
            fields = json.loads(self._cipher.open(sealed))
        except StorageError:
            # The session secret was rotated: the old sessions are dead.
            return None
        fields["emails"], fields["groups"] = tuple(fields["emails"]), tuple(fields["groups"])
        return Session(**fields)

    def save(self, identifier: str, session: Session, lifetime: float) -> None:
        fields = {name: getattr(session, name) for name in Session.__slots__}
        content = json.dumps(fields).encode()
        self._store.set(SESSION_PREFIX + identifier, self._cipher.seal(content), lifetime)

    def destroy(self, identifier: str) -> None:
        if identifier:
            self._store.delete(SESSION_PREFIX + identifier)

    @staticmethod
    def fresh() -> str:
        """An identifier that nobody can guess."""
        return "".join(secrets.choice(SESSION_CHARACTERS) for _ in range(32))


def new_totp_secret(size: int = 32) -> str:
    """A secret of `size` bytes in base32 without padding."""
    return base64.b32encode(secrets.token_bytes(size)).decode().rstrip("=")


def utc_now() -> datetime:
    """The present time."""
    return datetime.now(UTC)


def after(moment: datetime, period: float) -> datetime:
    """`period` seconds later."""
    return moment + timedelta(seconds=period)
