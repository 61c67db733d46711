"""The vault keeps, refuses and reports: each kind of damage has its own clear error."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from roles.core.secret import MASK, MissingSecretError, Secret, SecretSpec, ensure, rotate
from roles.core.vault import Vault, VaultError, create_key_file, load_key, read_key_file

KEY = b"correct horse"
SPECS = (
    SecretSpec("login", "password", "a login"),
    SecretSpec("login_hash", "argon2id", "its hash", of="login"),
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vault as it lies, made once: its key is slow to derive."""
    made = Vault.create(tmp_path_factory.mktemp("vault") / "home.vault.json", KEY)
    made.set("token", "s3cret-value")
    made.save()
    return made.path


@pytest.fixture
def vault(saved: Path, vault_path: Path) -> Vault:
    shutil.copy2(saved, vault_path)
    return Vault.open(vault_path, KEY)


def edit(path: Path, change: Any) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_keeps_values(vault: Vault, vault_path: Path) -> None:
    assert Vault.open(vault_path, KEY).get("token") == Secret("s3cret-value")
    assert stat.S_IMODE(vault_path.stat().st_mode) == 0o600
    assert "s3cret-value" not in vault_path.read_text()


def test_one_changed_value_changes_its_line_and_the_index_only(
    vault: Vault, vault_path: Path
) -> None:
    vault.set("other", "x")
    vault.save()
    before = vault_path.read_text().splitlines()
    vault.set("other", "y")
    vault.save()
    after = vault_path.read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 2
    assert any('"other"' in line for line in changed)


def test_wrong_key(vault: Vault, vault_path: Path) -> None:
    with pytest.raises(VaultError, match="wrong passphrase or key file"):
        Vault.open(vault_path, b"wrong")


def test_empty_key(vault: Vault, vault_path: Path) -> None:
    with pytest.raises(VaultError, match="key is empty"):
        Vault.open(vault_path, b"")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="make init"):
        Vault.open(tmp_path / "none.json", KEY)


def test_exists_already(vault: Vault, vault_path: Path) -> None:
    with pytest.raises(VaultError, match="exists already"):
        Vault.create(vault_path, KEY)


def test_empty_file(vault_path: Path) -> None:
    vault_path.write_text("")
    with pytest.raises(VaultError, match="is empty"):
        Vault.open(vault_path, KEY)


def test_truncated_at_every_line(vault: Vault, vault_path: Path) -> None:
    text = vault_path.read_text()
    for cut in range(10, len(text) - 2, 37):
        vault_path.write_text(text[:cut])
        with pytest.raises(VaultError):
            Vault.open(vault_path, KEY)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "ansible-vault"}', "12"])
def test_foreign(vault_path: Path, text: str) -> None:
    vault_path.write_text(text)
    with pytest.raises(VaultError, match="not a vault of this program"):
        Vault.open(vault_path, KEY)


def test_newer_version(vault_path: Path) -> None:
    vault_path.write_text('{"format": "nexus-vault-9"}')
    with pytest.raises(VaultError, match="newer version; update this program"):
        Vault.open(vault_path, KEY)


def test_not_text(vault_path: Path) -> None:
    vault_path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VaultError, match="not a vault of this program"):
        Vault.open(vault_path, KEY)


def test_removed_entry(vault: Vault, vault_path: Path) -> None:
    edit(vault_path, lambda d: d["entries"].pop("token"))
    with pytest.raises(VaultError, match="entries missing: token"):
        Vault.open(vault_path, KEY)


def test_exchanged_entries(vault: Vault, vault_path: Path) -> None:
    vault.set("other", "x")
    vault.save()

    def swap(document: Any) -> None:
        entries = document["entries"]
        entries["token"], entries["other"] = entries["other"], entries["token"]

    edit(vault_path, swap)
    with pytest.raises(VaultError, match="entries damaged or old: other, token"):
        Vault.open(vault_path, KEY)


@pytest.mark.parametrize("parameters", [{"n": 2**30}, {"n": 3}, {"r": 0}, {"p": 10**6}, {"n": "x"}])
def test_dangerous_key_derivation(vault: Vault, vault_path: Path, parameters: Any) -> None:
    edit(vault_path, lambda d: d["scrypt"].update(parameters))
    with pytest.raises(VaultError, match=r"out of bounds|damaged"):
        Vault.open(vault_path, KEY)


def test_duplicate_entry(vault: Vault, vault_path: Path) -> None:
    text = vault_path.read_text()
    line = next(line for line in text.splitlines() if '"token"' in line)
    vault_path.write_text(text.replace(line, f"{line},\n{line}"))
    with pytest.raises(VaultError, match="twice"):
        Vault.open(vault_path, KEY)


def test_unknown_name_suggests(vault: Vault) -> None:
    with pytest.raises(VaultError, match="did you mean token"):
        vault.get("tokem")


def test_rekey_keeps_values_and_derivations(vault_path: Path, cheap_secrets: None) -> None:
    vault = Vault.create(vault_path, KEY)
    ensure(vault, SPECS)
    vault.rekey(b"new")
    with pytest.raises(VaultError):
        Vault.open(vault_path, KEY)
    assert ensure(Vault.open(vault_path, b"new"), SPECS) == []


def test_rotate_derives_again(vault_path: Path, cheap_secrets: None) -> None:
    vault = Vault.create(vault_path, KEY)
    ensure(vault, SPECS)
    before = vault.get("login_hash")
    assert rotate(vault, SPECS, "login") == ["login", "login_hash"]
    assert vault.get("login_hash") != before
    vault.set("login", "by hand")
    assert ensure(vault, SPECS) == ["login_hash"]


def test_a_given_value_that_is_missing_says_how_to_set_it(vault: Vault) -> None:
    with pytest.raises(MissingSecretError, match="set cf_token"):
        ensure(vault, [SecretSpec("cf_token", "given", "DNS token")])


def test_key_file_modes(tmp_path: Path) -> None:
    path = tmp_path / "k" / "home.key"
    key = create_key_file(path)
    assert load_key("home", {"NEXUS_VAULT_KEY_FILE": str(path)}) == key
    with pytest.raises(VaultError, match="never overwritten"):
        create_key_file(path)
    path.chmod(0o644)
    with pytest.raises(VaultError, match="chmod 600"):
        read_key_file(path)
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(VaultError, match="is empty"):
        read_key_file(path)
    with pytest.raises(VaultError, match="NEXUS_VAULT_KEY_FILE"):
        load_key("none", {"HOME": str(tmp_path)})


def test_a_secret_shows_itself_nowhere() -> None:
    import pickle

    secret = Secret("s3cret-value")
    assert f"{secret} {secret!r} {secret:>20}" == f"{MASK} {MASK} {MASK}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
