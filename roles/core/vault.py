"""The vault: one JSON file, each value encrypted by itself, so that a diff shows which changed.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce; vault id and entry name are bound as
associated data, so that a value can be moved neither to another name nor to another vault. The key
comes by scrypt (RFC 7914) from a passphrase or a key file. A sealed index of the names and their
fingerprints makes a removed, added or rolled-back entry visible.
"""

from __future__ import annotations

import base64
import difflib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from roles.core.secret import Secret

FORMAT = "nexus-vault-1"
# RFC 7914: 2**15 * 8 * 128 bytes = 32 MiB and about 0.1 s a guess.
SCRYPT = {"n": 2**15, "r": 8, "p": 1}
# A crafted header must not exhaust memory: at most 256 MiB.
MOST_MEMORY = 2**28
INDEX = "\0index"
KEY_BYTES = 32


class VaultError(Exception):
    """The vault cannot be used; the text names the file or entry and the mend."""


@dataclass(frozen=True, slots=True)
class _Entry:
    nonce: str
    value: str
    source: str = ""


class Vault:
    """An open vault. Values are decrypted one by one, when asked for."""

    def __init__(self, path: Path, header: dict[str, Any], key: bytes) -> None:
        self.path = path
        self._header = header
        self._cipher = AESGCM(key)
        self._fingerprint_key = hashlib.sha256(b"fingerprint" + key).digest()
        self._entries: dict[str, _Entry] = {}
        self._index: _Entry | None = None

    @classmethod
    def create(cls, path: Path, key: bytes) -> Vault:
        """A new, empty vault at `path`.

        Raises:
            VaultError: the file exists already.
        """
        if path.exists():
            raise VaultError(f"{path} exists already; move it away first if it is not wanted")
        salt = base64.b64encode(secrets.token_bytes(16)).decode()
        header = {"format": FORMAT, "id": secrets.token_hex(16), "scrypt": {**SCRYPT, "salt": salt}}
        vault = cls(path, header, _derive(key, header["scrypt"]))
        vault.save()
        return vault

    @classmethod
    def open(cls, path: Path, key: bytes) -> Vault:
        """Read a vault and prove the key and the list of names.

        Raises:
            VaultError: missing, truncated, foreign or damaged file, or the wrong key.
        """
        document = _read(path)
        header = _header(path, document)
        vault = cls(path, header, _derive(key, header["scrypt"]))
        vault._load(document)
        return vault

    def names(self) -> tuple[str, ...]:
        """The names of all entries, sorted."""
        return tuple(sorted(self._entries))

    def get(self, name: str) -> Secret:
        """One value.

        Raises:
            VaultError: no such name, or the entry is damaged.
        """
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, 1)
            hint = f"; did you mean {close[0]}?" if close else "; see: make vault ARGS=list"
            raise VaultError(f"{self.path}: there is no entry {name}{hint}")
        try:
            return Secret(self._unseal(name, self._entries[name]))
        except InvalidTag as error:
            raise VaultError(
                f"{self.path}: entry {name} is damaged; restore the file from git or a backup"
            ) from error

    def set(self, name: str, value: Secret | str, source: str = "") -> None:
        """Put a value; it reaches the file with `save`. `source` fingerprints what it came from.

        Raises:
            VaultError: the name has characters other than letters, digits and underscores.
        """
        if not name.isascii() or not name.isidentifier():
            raise VaultError(f"vault: {name!r} is not a name; use letters, digits and underscores")
        text = value.reveal() if isinstance(value, Secret) else value
        self._entries[name] = self._seal(name, text, source)

    def remove(self, name: str) -> None:
        """Take an entry out.

        Raises:
            VaultError: no such name.
        """
        self.get(name)
        del self._entries[name]

    def source(self, name: str) -> str:
        """The fingerprint of what the value was derived from; empty when from nothing."""
        return self._entries[name].source

    def fingerprint(self, name: str) -> str:
        """A keyed digest of a value: tells a change, says nothing about the value."""
        value = self.get(name).reveal().encode()
        return hmac.new(self._fingerprint_key, value, hashlib.sha256).hexdigest()[:32]

    def save(self) -> None:
        """Replace the file at once, or not at all."""
        sealed = self._seal(INDEX, self._digest(), "")
        document = {
            **self._header,
            "index": _fields(sealed),
            "entries": {name: _fields(self._entries[name]) for name in self.names()},
        }
        _write(self.path, _layout(document))

    def rekey(self, key: bytes) -> None:
        """Encrypt every value again under another passphrase or key file, and save."""
        values = {name: (self.get(name), self.source(name)) for name in self.names()}
        salt = base64.b64encode(secrets.token_bytes(16)).decode()
        header = {**self._header, "scrypt": {**SCRYPT, "salt": salt}}
        fresh = Vault(self.path, header, _derive(key, header["scrypt"]))
        parents = {self.fingerprint(name): name for name in values}
        for name, (value, _) in values.items():
            fresh.set(name, value)
        for name, (value, source) in values.items():
            if source:
                fresh.set(name, value, fresh.fingerprint(parents[source]))
        fresh.save()
        self.__dict__.update(fresh.__dict__)

    def _load(self, document: Mapping[str, Any]) -> None:
        try:
            index = _entry(document["index"])
            self._entries = {name: _entry(e) for name, e in document["entries"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise VaultError(f"{self.path} is damaged: it lacks a part of an entry") from error
        try:
            digest = self._unseal(INDEX, index)
        except InvalidTag as error:
            raise VaultError(
                f"{self.path}: wrong passphrase or key file (or a damaged header)"
            ) from error
        if digest != self._digest():
            raise VaultError(
                f"{self.path}: entries were added, removed or exchanged outside of this program; "
                "restore the file from git or a backup"
            )

    def _digest(self) -> str:
        listed = [[n, e.nonce, e.value, e.source] for n, e in sorted(self._entries.items())]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()

    def _bound(self, name: str) -> bytes:
        return json.dumps([FORMAT, self._header["id"], name]).encode()

    def _seal(self, name: str, text: str, source: str) -> _Entry:
        nonce = secrets.token_bytes(12)
        sealed = self._cipher.encrypt(nonce, text.encode(), self._bound(name))
        return _Entry(base64.b64encode(nonce).decode(), base64.b64encode(sealed).decode(), source)

    def _unseal(self, name: str, entry: _Entry) -> str:
        try:
            nonce, sealed = (base64.b64decode(t, validate=True) for t in (entry.nonce, entry.value))
            return self._cipher.decrypt(nonce, sealed, self._bound(name)).decode()
        except ValueError as error:
            raise InvalidTag from error


def load_key(name: str, environment: Mapping[str, str] = os.environ) -> bytes:
    """The passphrase or key file's content for the site of this name.

    NEXUS_VAULT_KEY_FILE, else NEXUS_VAULT_PASSPHRASE, else ~/.config/nexus/<name>.key.

    Raises:
        VaultError: no key, an empty one, or a key file that others can read.
    """
    passphrase = environment.get("NEXUS_VAULT_PASSPHRASE")
    file = environment.get("NEXUS_VAULT_KEY_FILE")
    if not file and passphrase is not None:
        if not passphrase:
            raise VaultError("NEXUS_VAULT_PASSPHRASE is empty; set it or unset it")
        return passphrase.encode()
    return read_key_file(Path(file) if file else default_key_file(name, environment))


def default_key_file(name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the key of a site lies unless the environment says otherwise."""
    return Path(environment.get("HOME", "/root")) / ".config" / "nexus" / f"{name}.key"


def read_key_file(path: Path) -> bytes:
    """A key file's content.

    Raises:
        VaultError: missing, empty, or readable by others.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes().strip()
    except OSError as error:
        raise VaultError(
            f"key file {path}: {error.strerror}; copy it from where the vault was made, "
            "or name another with NEXUS_VAULT_KEY_FILE"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise VaultError(f"key file {path} can be read by others; run: chmod 600 {path}")
    if not content:
        raise VaultError(f"key file {path} is empty; copy it from where the vault was made")
    return content


def create_key_file(path: Path) -> bytes:
    """A new random key of 256 bits in a file that only its owner reads.

    Raises:
        VaultError: the file exists already.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise VaultError(f"key file {path} exists already; it is never overwritten") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(key + b"\n")
    return key


def _derive(key: bytes, scrypt: Mapping[str, Any]) -> bytes:
    if not key:
        raise VaultError("the vault's key is empty; give a passphrase or a key file")
    return hashlib.scrypt(
        key,
        salt=base64.b64decode(scrypt["salt"]),
        n=scrypt["n"],
        r=scrypt["r"],
        p=scrypt["p"],
        maxmem=MOST_MEMORY,
        dklen=KEY_BYTES,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
    except FileNotFoundError as error:
        raise VaultError(f"{path} is missing; make it with: make init") from error
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(f"{path} cannot be read as a vault: {error}") from error
    try:
        document = json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        what = "is empty" if not text.strip() else f"ends or breaks off at line {error.lineno}"
        raise VaultError(f"{path} {what}; restore it from git or a backup") from error
    if not isinstance(document, dict):
        raise VaultError(f"{path} is not a vault of this program")
    return document


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise VaultError(f"vault: {twice} stands there twice; a merge went wrong, keep one")
    return found


def _header(path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    if document.get("format") != FORMAT:
        raise VaultError(f"{path} is not a vault of this program (format {FORMAT} expected)")
    header = {key: document.get(key) for key in ("format", "id", "scrypt")}
    scrypt = header["scrypt"]
    try:
        base64.b64decode(scrypt["salt"], validate=True)
        n, r, p = (int(scrypt[key]) for key in ("n", "r", "p"))
    except (KeyError, TypeError, ValueError) as error:
        raise VaultError(f"{path} is damaged: its header has no usable key derivation") from error
    powers = n > 1 and n & (n - 1) == 0
    if not powers or r < 1 or not 1 <= p <= 16 or 128 * n * r >= MOST_MEMORY:
        raise VaultError(f"{path}: scrypt parameters n={n} r={r} p={p} are out of bounds")
    return header


def _entry(fields: Mapping[str, str]) -> _Entry:
    return _Entry(fields["nonce"], fields["value"], fields.get("source", ""))


def _fields(entry: _Entry) -> dict[str, str]:
    fields = {"nonce": entry.nonce, "value": entry.value}
    return {**fields, "source": entry.source} if entry.source else fields


def _layout(document: Mapping[str, Any]) -> str:
    """JSON with one entry a line."""
    head = [f"  {json.dumps(k)}: {json.dumps(v)}," for k, v in document.items() if k != "entries"]
    entries = [f"    {json.dumps(n)}: {json.dumps(e)}" for n, e in document["entries"].items()]
    return "\n".join(["{", *head, '  "entries": {', ",\n".join(entries), "  }", "}", ""])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with path.parent.joinpath(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
