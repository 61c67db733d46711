"""The printed sheet opens everything, and a lost host's inventory is written for a new one."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from roles.command import recovery_sheet, restore
from roles.core.vault import Vault
from roles.site.host_key import place
from tests.unit.conftest import RAW
from tests.unit.test_backup import REST

KEY = "correct horse battery staple"
HOST_KEY = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site with a second repository, and its vault."""
    monkeypatch.setenv("NEXUS_VAULT_PASSPHRASE", KEY)
    vault = Vault.create(tmp_path / "vault.json", KEY.encode())
    vault.set("offsite_user", "me")
    vault.set("offsite_login", "l0gin")
    vault.save()
    pinned = tmp_path / "known_hosts"
    pinned.write_text("192.0.2.1 ssh-ed25519 AAAA\n")
    data = {
        "ssh_user": "root",
        "ssh_port": 2222,
        "ssh_known_hosts_file": str(pinned),
        "ssh_strict_host_key_checking": "yes",
        "vault": str(tmp_path / "vault.json"),
    }
    site = {**RAW, "backup": {"offsite": REST}}
    path = tmp_path / "home.py"
    path.write_text(f"site = {site!r}\nhosts = [('192.0.2.1', {{'site': site, **{data!r}}})]\n")
    return path


def sheet(inventory: Path, folder: Path) -> int:
    return recovery_sheet.main([str(inventory), "--folder", str(folder)])


def test_the_sheet_has_what_opens_the_backups(
    inventory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sheet(inventory, tmp_path) == 1
    assert "make apply" in capsys.readouterr().err
    vault = Vault.open(tmp_path / "vault.json", KEY.encode())
    for name in {spec.name for spec in specs_of(inventory)} - set(vault.names()):
        vault.set(name, f"value-of-{name}")
    vault.save()
    assert sheet(inventory, tmp_path) == 0
    said = capsys.readouterr().out
    assert "IN CLEAR" in said and KEY not in said and "l0gin" not in said
    file = tmp_path / "recovery-sheet-home.txt"
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    for needed in (KEY, REST["address"], "value-of-backup_offsite_password", "l0gin"):
        assert str(needed) in text, needed
    assert "value-of-postgres_password" not in text
    assert sheet(inventory, tmp_path) == 0


def specs_of(inventory: Path) -> Any:
    from roles.plan import site_of
    from roles.stack.credentials import specs

    return specs(site_of(runpy.run_path(str(inventory))["site"]))


def test_git_ignores_the_sheet() -> None:
    root = Path(recovery_sheet.__file__).parents[2]
    assert "/build/" in (root / ".gitignore").read_text().splitlines()
    assert root / "build" == recovery_sheet.FOLDER


def test_a_lost_host_s_inventory_is_written_for_a_new_one(
    inventory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "FOLDER", tmp_path / "restore")
    options = restore._parser().parse_args([str(inventory), "192.0.2.7", "--trust-host-key"])
    world = restore.init.World(None, scan=lambda host, _: f"{host} ssh-ed25519 {HOST_KEY}\n")
    bare, deployed = restore._inventories(options, world)
    for path, port in ((bare, 22), (deployed, 2222)):
        made = runpy.run_path(path)
        address, data = made["hosts"][0]
        assert (address, data["ssh_port"]) == ("192.0.2.7", port)
        assert data["site"] == runpy.run_path(str(inventory))["site"]
        pinned = Path(data["ssh_known_hosts_file"]).read_text()
        assert pinned == f"{place('192.0.2.7', port)} ssh-ed25519 {HOST_KEY}\n"


def test_without_a_second_repository_nothing_can_be_rebuilt(
    inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = inventory.read_text()
    inventory.write_text(text.replace("hosts =", "del site['backup']\nhosts ="))
    assert restore.main([str(inventory), "192.0.2.7"]) == 1
    assert "site.backup.offsite: is missing" in capsys.readouterr().err
