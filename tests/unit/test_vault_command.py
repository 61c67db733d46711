"""The vault from the command line: values come hidden, errors are one line, nothing half-done."""

from __future__ import annotations

import io
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from roles.command import vault as command
from roles.core.vault import Vault, create_key_file
from tests.unit.conftest import RAW

TOKEN = "s3cret-T0ken-that-nobody-may-see"
DNS = {"mode": "acme-dns", "provider": "cloudflare", "credentials": {"CF_DNS_API_TOKEN": "cf"}}
Run = Callable[..., SimpleNamespace]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_secrets: None) -> Path:
    """A folder with an inventory, and a home of its own for the key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NEXUS_VAULT_KEY_FILE", raising=False)
    monkeypatch.delenv("NEXUS_VAULT_PASSPHRASE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "VAULTS", tmp_path / "secrets")
    (tmp_path / "inventories").mkdir()
    write_site(tmp_path, tls=DNS)
    return tmp_path


def write_site(folder: Path, **changes: object) -> None:
    (folder / "inventories" / "home.py").write_text(f"site = { ({**RAW, **changes})!r}\n")


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str, stdin: str = "") -> SimpleNamespace:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = command.main(list(arguments))
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return call


@pytest.fixture
def made(run: Run) -> Run:
    assert run("init").code == 0
    assert run("set", "cf", stdin=f"{TOKEN}\n").code == 0
    assert run("generate").code == 0
    return run


def key_file(home: Path) -> Path:
    return home / ".config" / "nexus" / "home.key"


def test_init_makes_vault_and_key_once(run: Run, home: Path) -> None:
    assert run("init").code == 0
    key = key_file(home).read_text()
    assert stat.S_IMODE(key_file(home).stat().st_mode) == 0o600
    again = run("init")
    assert again.code == 1 and "exists already" in again.err
    assert key_file(home).read_text() == key


def test_init_keeps_a_key_that_it_may_not_use(run: Run, home: Path) -> None:
    create_key_file(key_file(home))
    key_file(home).chmod(0o644)
    refused = run("init")
    assert refused.code == 1 and "chmod 600" in refused.err
    assert not (home / "secrets").exists()


def test_a_value_goes_in_by_stdin_and_comes_out_by_show_only(made: Run) -> None:
    assert made("show", "cf").out == f"{TOKEN}\n"
    for verb in (["list"], ["check"], ["rotate", "valkey_password"]):
        done = made(*verb)
        assert done.code == 0
        assert TOKEN not in done.out + done.err


def test_list_says_kind_and_state(made: Run) -> None:
    made("set", "spare", stdin="x")
    lines = {line.split()[0]: line.split()[1:3] for line in made("list").out.splitlines()}
    assert lines["cf"] == ["given", "set"]
    assert lines["authelia_admin_password_hash"] == ["argon2id", "set"]
    assert lines["spare"] == ["-", "set"]


def test_nothing_on_stdin_sets_nothing(made: Run) -> None:
    refused = made("set", "cf", stdin="\n")
    assert refused.code == 1 and "no value came" in refused.err
    assert made("show", "cf").out == f"{TOKEN}\n"


def test_a_value_of_several_lines_survives(made: Run) -> None:
    made("set", "cf", stdin="one\ntwo\n\n")
    assert made("show", "cf").out == "one\ntwo\n\n"


def test_set_warns_of_a_name_that_nobody_uses(made: Run) -> None:
    assert "does not use cg" in made("set", "cg", stdin="x").err


def test_a_derived_value_is_not_set(made: Run) -> None:
    refused = made("set", "authelia_admin_password_hash", stdin="x")
    assert refused.code == 1 and "authelia_admin_password; set that" in refused.err


def test_check_changes_nothing_and_names_what_only_the_operator_knows(run: Run, home: Path) -> None:
    run("init")
    before = (home / "secrets" / "home.vault.json").read_bytes()
    checked = run("check")
    assert checked.code == 1
    assert "cf (CF_DNS_API_TOKEN" in checked.err and "set cf" in checked.err
    assert "postgres_password" in checked.out
    assert (home / "secrets" / "home.vault.json").read_bytes() == before


def test_rotate_replaces_a_value_and_its_hash(made: Run) -> None:
    before = made("show", "authelia_admin_password_hash").out
    done = made("rotate", "authelia_admin_password")
    assert "rotated: authelia_admin_password, authelia_admin_password_hash" in done.out
    assert made("show", "authelia_admin_password_hash").out != before


def test_rotate_all_leaves_what_is_not_its_own(made: Run) -> None:
    old = {name: made("show", name).out for name in ("cf", "postgres_password")}
    assert made("rotate", "--all").code == 0
    assert made("show", "cf").out == old["cf"]
    assert made("show", "postgres_password").out != old["postgres_password"]


@pytest.mark.parametrize(
    ("name", "mend"),
    [("cf", "only you know it"), ("valkey_pasword", "did you mean valkey_password?")],
)
def test_rotate_refuses_what_it_cannot_make(made: Run, name: str, mend: str) -> None:
    refused = made("rotate", name)
    assert refused.code == 1 and mend in refused.err
    assert len(refused.err.splitlines()) == 1


def test_remove(made: Run) -> None:
    assert made("remove", "cf").code == 0
    assert "did you mean" not in made("show", "cf").out
    assert made("remove", "cf").code == 1


def test_rekey_in_place(made: Run, home: Path) -> None:
    old = key_file(home).read_text()
    assert made("rekey").code == 0
    assert key_file(home).read_text() != old
    assert made("show", "cf").out == f"{TOKEN}\n"
    assert list(key_file(home).parent.iterdir()) == [key_file(home)]


def test_an_interrupted_rekey_is_finished(made: Run, home: Path) -> None:
    pending = key_file(home).with_name("home.key.new")
    old = key_file(home).read_bytes().strip()
    Vault.open(home / "secrets" / "home.vault.json", old).rekey(create_key_file(pending))
    done = made("show", "cf")
    assert done.out == f"{TOKEN}\n" and "interrupted" in done.err
    assert not pending.exists()


def test_rekey_to_a_passphrase(made: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    assert "12 characters" in made("rekey", "--passphrase", stdin="short").err
    assert made("rekey", "--passphrase", stdin="correct horse battery\n").code == 0
    assert "wrong passphrase or key file" in made("show", "cf").err
    monkeypatch.setenv("NEXUS_VAULT_PASSPHRASE", "correct horse battery")
    assert made("show", "cf").out == f"{TOKEN}\n"
    assert "give a key file" in made("rekey").err


def test_rekey_in_place_of_a_vault_of_another_name(made: Run, home: Path) -> None:
    elsewhere = home / "secrets" / "moved.json"
    (home / "secrets" / "home.vault.json").rename(elsewhere)
    named = ("--inventory", "inventories/home.py", "--vault", str(elsewhere))
    assert made(*named, "rekey").code == 0
    assert made(*named, "show", "cf").out == f"{TOKEN}\n"
    assert list(key_file(home).parent.iterdir()) == [key_file(home)]


def test_rekey_is_under_one_key(made: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        made("rekey", "new.key", "--passphrase", stdin="correct horse battery")
    assert "not allowed with" in capsys.readouterr().err
    assert made("show", "cf").out == f"{TOKEN}\n"


@pytest.mark.parametrize("verb", [("set", "cf"), ("rekey", "--passphrase")])
def test_a_value_that_is_no_text_is_not_shown(made: Run, verb: tuple[str, ...]) -> None:
    refused = made(*verb, stdin=f"{TOKEN}\udcff")
    assert refused.code == 1 and "base64" in refused.err
    assert TOKEN not in refused.err
    assert made("show", "cf").out == f"{TOKEN}\n"


def test_an_empty_passphrase_makes_no_vault(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEXUS_VAULT_PASSPHRASE", "")
    assert "set it or unset it" in run("init").err
    assert not key_file(home).exists() and not (home / "secrets").exists()


def test_a_folder_that_cannot_be_written(run: Run, home: Path) -> None:
    (home / "secrets").write_text("a file where the folder should be")
    refused = run("init")
    assert refused.code == 1 and "home.vault.json cannot be written" in refused.err
    assert len(refused.err.splitlines()) == 1


def test_import_takes_what_the_site_uses(made: Run, home: Path) -> None:
    (home / ".env").write_text(
        f"TZ=Europe/Berlin\nPOSTGRES_PASSWORD='{TOKEN}1'\nOLD_TOKEN={TOKEN}2\nEMPTY=\n"
        f"AUTHELIA_ADMIN_PASSWORD_HASH={TOKEN}3\nVALKEY_PASSWORD=pre${{SUFFIX}}\n"
    )
    done = made("import-env", ".env", "--map", "OLD_TOKEN=cf", "--replace")
    assert done.code == 0
    assert TOKEN not in done.out + done.err
    assert made("show", "postgres_password").out == f"{TOKEN}1\n"
    assert made("show", "cf").out == f"{TOKEN}2\n"
    assert made("show", "valkey_password").out == "pre${SUFFIX}\n"
    for told in (
        "skipped TZ: the site does not use it",
        "skipped EMPTY: it is empty",
        "skipped AUTHELIA_ADMIN_PASSWORD_HASH: authelia_admin_password_hash is not given but made",
        "taken   VALKEY_PASSWORD as valkey_password, with its $ as it stands",
    ):
        assert told in done.out


def test_import_does_not_replace_unasked(made: Run, home: Path) -> None:
    (home / ".env").write_text("CF=other")
    done = made("import-env", ".env")
    assert "cf is set already" in done.out and "imported: nothing" in done.out
    assert made("show", "cf").out == f"{TOKEN}\n"


@pytest.mark.parametrize(
    ("content", "arguments", "mend"),
    [
        (None, (), "No such file"),
        (b"\xff\xfe", (), "not a text in UTF-8"),
        (b"A='x", (), "line 1 opens a quote"),
        (b"A=1", ("--map", "A"), "OLD=new"),
        (b"A=1", ("--map", "A=B C"), "OLD=new"),
        (b"A=1", ("--map", "B=cf"), "no such name"),
        (b"A=1\nB=2", ("--map", "A=cf", "--map", "B=cf"), "give it once"),
    ],
)
def test_import_refuses_whole(
    made: Run, home: Path, content: bytes | None, arguments: tuple[str, ...], mend: str
) -> None:
    if content is not None:
        (home / ".env").write_bytes(content)
    refused = made("import-env", ".env", *arguments)
    assert refused.code == 1 and mend in refused.err
    assert len(refused.err.splitlines()) == 1


def test_a_vault_without_its_inventory(made: Run, home: Path) -> None:
    (home / "inventories" / "home.py").unlink()
    assert "make init" in made("list").err
    vault = ("--vault", "secrets/home.vault.json")
    assert made(*vault, "show", "cf").out == f"{TOKEN}\n"
    assert "needs the site's inventory" in made(*vault, "rotate", "postgres_password").err


def test_ctrl_c_at_the_prompt(made: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "VERBS", {**command.VERBS, "set": lambda *_: interrupted(None)})
    refused = made("set", "cf")
    assert refused.code == 1 and "as it was" in refused.err
