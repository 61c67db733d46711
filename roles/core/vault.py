"""The vault: one JSON file, each value encrypted by itself, so that a diff shows which changed.

AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce; vault id and entry name are bound as
associated data, so that a value can be moved neither to another name nor to another vault. The key
comes by scrypt (RFC 7914) from a passphrase or a key file. A sealed index of the names and the
digests of their entries makes a removed, added or rolled-back entry visible. An older copy of the
whole file is not: git's history is the guard against that.
"""

from __future__ import annotations

import base64
import difflib
import fcntl
import functools
import hashlib
import hmac
import json
import os
import re
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
# Nor time: 16 times the work of SCRYPT, about two seconds.
MOST_WORK = 2**22
NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
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
        # What the file held when it was read: another program's change must not be lost.
        self._seen: bytes | None = None

    @classmethod
    def create(cls, path: Path, key: bytes) -> Vault:
        """A new, empty vault at `path`.

        Raises:
            VaultError: the file exists already.
        """
        salt = base64.b64encode(secrets.token_bytes(16)).decode()
        header: dict[str, Any] = {
            "format": FORMAT,
            "id": secrets.token_hex(16),
            "scrypt": {**SCRYPT, "salt": salt},
        }
        vault = cls(path, header, _derive(key, header["scrypt"]))
        vault.save()
        return vault

    @classmethod
    def open(cls, path: Path, key: bytes) -> Vault:
        """Read a vault and prove the key and the list of names.

        Raises:
            VaultError: missing, truncated, foreign or damaged file, or the wrong key.
        """
        content = _read(path)
        document = _parse(path, content)
        header = _header(path, document)
        vault = cls(path, header, _derive(key, header["scrypt"]))
        vault._load(document)
        vault._seen = content
        return vault

    def names(self) -> tuple[str, ...]:
        """The names of all entries, sorted."""
        return tuple(sorted(self._entries))

    def get(self, name: str) -> Secret:
        """One value.

        Raises:
            VaultError: no such name, or the entry is damaged.
        """
        entry = self._find(name)
        try:
            return Secret(self._unseal(name, entry))
        except InvalidTag as error:
            raise VaultError(
                f"{self.path}: entry {name} is damaged; restore the file from git or a backup"
            ) from error

    def set(self, name: str, value: Secret | str, source: str = "") -> None:
        """Put a value; it reaches the file with `save`. `source` fingerprints what it came from.

        Raises:
            VaultError: the name is not lower-case letters, digits and underscores, or the value
                is empty.
        """
        if not NAME.fullmatch(name):
            raise VaultError(
                f"vault: {name!r} is not a name; use lower-case letters, digits and underscores, "
                "e.g. cf_dns_api_token"
            )
        text = value.reveal() if isinstance(value, Secret) else value
        if not text:
            raise VaultError(f"vault: {name} must not be empty; remove it instead")
        self._entries[name] = self._seal(name, text, source)

    def remove(self, name: str) -> None:
        """Take an entry out.

        Raises:
            VaultError: no such name.
        """
        self._find(name)
        del self._entries[name]

    def source(self, name: str) -> str:
        """The fingerprint of what the value was derived from; empty when from nothing.

        Raises:
            VaultError: no such name.
        """
        return self._find(name).source

    def fingerprint(self, name: str) -> str:
        """A keyed digest of a value: tells a change, says nothing about the value."""
        value = self.get(name).reveal().encode()
        return hmac.new(self._fingerprint_key, value, hashlib.sha256).hexdigest()[:32]

    def save(self) -> None:
        """Replace the file at once, or not at all.

        Raises:
            VaultError: another program has changed the file since it was opened.
        """
        sealed = self._seal(INDEX, json.dumps(self._digests()), "")
        document = {
            **self._header,
            "index": _fields(sealed),
            "entries": {name: _fields(self._entries[name]) for name in self.names()},
        }
        content = _layout(document).encode()
        _write(self.path, content, self._seen)
        self._seen = content

    def rekey(self, key: bytes) -> None:
        """Encrypt every value again under another passphrase or key file, and save.

        Raises:
            VaultError: an entry is damaged, or another program has changed the file.
        """
        salt = base64.b64encode(secrets.token_bytes(16)).decode()
        header = {**self._header, "scrypt": {**SCRYPT, "salt": salt}}
        fresh = Vault(self.path, header, _derive(key, header["scrypt"]))
        fresh._seen = self._seen
        parents = {self.fingerprint(name): name for name in self.names()}
        for name in self.names():
            fresh.set(name, self.get(name))
        for name in self.names():
            # A source that no value has any more stays one, so that `ensure` makes the hash anew.
            source = self.source(name)
            parent = parents.get(source)
            fresh.set(name, self.get(name), fresh.fingerprint(parent) if parent else source)
        fresh.save()
        self.__dict__.update(fresh.__dict__)

    def _find(self, name: str) -> _Entry:
        if name not in self._entries:
            close = difflib.get_close_matches(name, self._entries, 1)
            hint = f"; did you mean {close[0]}?" if close else "; see: make vault ARGS=list"
            raise VaultError(f"{self.path}: there is no entry {name}{hint}")
        return self._entries[name]

    def _load(self, document: Mapping[str, Any]) -> None:
        try:
            index = _entry(document["index"])
            self._entries = {name: _entry(e) for name, e in document["entries"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise VaultError(
                f"{self.path} is damaged: it lacks a part of an entry; "
                "restore it from git or a backup"
            ) from error
        try:
            digests = json.loads(self._unseal(INDEX, index))
        except InvalidTag as error:
            raise VaultError(
                f"{self.path}: wrong passphrase or key file (or a damaged header); name the right "
                "one in NEXUS_VAULT_KEY_FILE or NEXUS_VAULT_PASSPHRASE"
            ) from error
        found = self._digests()
        changes = {
            "missing": digests.keys() - found.keys(),
            "foreign": found.keys() - digests.keys(),
            "damaged or old": {n for n in digests.keys() & found.keys() if digests[n] != found[n]},
        }
        problems = [
            f"{what}: {', '.join(sorted(names))}" for what, names in changes.items() if names
        ]
        if problems:
            raise VaultError(
                f"{self.path} was changed outside of this program; entries {'; '.join(problems)}; "
                "restore the file from git or a backup"
            )

    def _digests(self) -> dict[str, str]:
        return {
            name: hashlib.sha256(json.dumps([e.nonce, e.value, e.source]).encode()).hexdigest()
            for name, e in self._entries.items()
        }

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
    """A new random key of 256 bits in a file that only its owner reads; it outlasts a power cut.

    Raises:
        VaultError: the file exists already, or cannot be written.
    """
    key = base64.b64encode(secrets.token_bytes(KEY_BYTES))
    # Written beside and linked: a run that is killed leaves no key file without a key.
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key + b"\n")
                file.flush()
                os.fsync(file.fileno())
            path.hardlink_to(new)
        finally:
            new.unlink(missing_ok=True)
        _sync_folder(path.parent)
    except OSError as error:
        if path.exists():
            raise VaultError(f"key file {path} exists already; it is never overwritten") from error
        raise VaultError(
            f"key file {path} cannot be written: {error.strerror}; choose another folder, e.g. "
            "with NEXUS_VAULT_KEY_FILE"
        ) from error
    return key


def _derive(key: bytes, scrypt: Mapping[str, Any]) -> bytes:
    if not key:
        raise VaultError("the vault's key is empty; give a passphrase or a key file")
    salt = base64.b64decode(scrypt["salt"])
    return _stretched(key, salt, scrypt["n"], scrypt["r"], scrypt["p"])


@functools.lru_cache(maxsize=1)
def _stretched(key: bytes, salt: bytes, n: int, r: int, p: int) -> bytes:
    # Kept, because hosts that share a vault open it one after the other in one run.
    return hashlib.scrypt(key, salt=salt, n=n, r=r, p=p, maxmem=MOST_MEMORY, dklen=KEY_BYTES)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise VaultError(f"{path} is missing; make it with: make init") from error
    except OSError as error:
        raise VaultError(f"{path} cannot be read: {error.strerror}") from error


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content.decode(), object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        what = "is empty" if not content.strip() else f"ends or breaks off at line {error.lineno}"
        raise VaultError(f"{path} {what}; restore it from git or a backup") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise VaultError(f"{path} is not a vault of this program; is the path right?") from error
    if not isinstance(document, dict):
        raise VaultError(f"{path} is not a vault of this program; is the path right?")
    return document


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise VaultError(f"vault: {twice} stands there twice; a merge went wrong, keep one")
    return found


def _header(path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    form = document.get("format")
    if form != FORMAT:
        family = FORMAT.rpartition("-")[0]
        if isinstance(form, str) and form.startswith(family):
            raise VaultError(
                f"{path} has the format {form} of a newer version; update this program"
            )
        raise VaultError(f"{path} is not a vault of this program (format {FORMAT} expected)")
    header = {key: document.get(key) for key in ("format", "id", "scrypt")}
    scrypt: Any = header["scrypt"]
    try:
        base64.b64decode(scrypt["salt"], validate=True)
        n, r, p = (scrypt[key] for key in ("n", "r", "p"))
        whole = all(type(value) is int and value > 0 for value in (n, r, p))
    except (KeyError, TypeError, ValueError) as error:
        raise VaultError(f"{path} is damaged: its header has no usable key derivation") from error
    if not whole or not isinstance(header["id"], str):
        raise VaultError(f"{path} is damaged: its header has no usable key derivation")
    powers = n > 1 and n & (n - 1) == 0
    # RFC 7914's working set, as OpenSSL counts it: p blocks and n + 2 of 128 r bytes.
    if not powers or 128 * r * (n + p + 2) >= MOST_MEMORY or n * r * p > MOST_WORK:
        raise VaultError(f"{path}: scrypt parameters n={n} r={r} p={p} are out of bounds")
    return header


def _entry(fields: Mapping[str, str]) -> _Entry:
    entry = _Entry(fields["nonce"], fields["value"], fields.get("source", ""))
    if not all(isinstance(text, str) for text in (entry.nonce, entry.value, entry.source)):
        raise TypeError("an entry's parts are texts")
    return entry


def _fields(entry: _Entry) -> dict[str, str]:
    fields = {"nonce": entry.nonce, "value": entry.value}
    return {**fields, "source": entry.source} if entry.source else fields


def _layout(document: Mapping[str, Any]) -> str:
    """JSON with one entry a line."""
    head = [f"  {json.dumps(k)}: {json.dumps(v)}," for k, v in document.items() if k != "entries"]
    entries = [f"    {json.dumps(n)}: {json.dumps(e)}" for n, e in document["entries"].items()]
    return "\n".join(["{", *head, '  "entries": {', ",\n".join(entries), "  }", "}", ""])


def _write(path: Path, content: bytes, expected: bytes | None) -> None:
    """Replace the file, if it still holds what is expected (None: if there is none yet).

    Raises:
        VaultError: it does not, or the folder cannot be written.
    """
    try:
        _replace(path, content, expected)
    except OSError as error:
        raise VaultError(
            f"{path} cannot be written: {error.strerror}; is the disk full, or the "
            "folder another account's?"
        ) from error


def _replace(path: Path, content: bytes, expected: bytes | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with path.parent.joinpath(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _prove_unchanged(path, expected)
        # Left by a run that was killed; opening it anew gives this file its own mode.
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
        _sync_folder(path.parent)


def _prove_unchanged(path: Path, expected: bytes | None) -> None:
    found = path.read_bytes() if path.exists() else None
    if found == expected:
        return
    if expected is None:
        raise VaultError(f"{path} exists already; move it away first if it is not wanted")
    raise VaultError(f"{path} was changed by another program in the meantime; run this again")


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
