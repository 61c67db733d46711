"""Broken inventories and vaults as a user meets them: one clear line, and nothing is connected to.

Broken sites are in test_site.py, broken vault files in test_vault.py.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.connectors.ssh import connector_data_meta

from roles.command import apply, plan
from roles.command import vault as vault_command
from roles.command.inventory import prove
from roles.command.run import INTERRUPTED, proven
from roles.command.trouble import NO_LOGIN, NO_PYTHON, NO_SUDO, trouble
from roles.core.vault import Vault, create_key_file
from roles.plan import site_of
from roles.site.connection import Entry, entries_of, problems_of
from roles.site.schema import Site, SiteError
from tests.unit.conftest import RAW

CONNECTION = (*connector_data_meta, "_sudo", "vault")
TOKEN = "s3Cr3t-V4lue"
DNS = {
    "mode": "acme-dns",
    "provider": "cloudflare",
    "credentials": {"CF_DNS_API_TOKEN": "cf_dns_api_token"},
}


class Place:
    """A sound inventory whose host only counts connections, its vault and its key file."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.folder = folder
        self.listener = listener
        self.inventory = folder / "home.py"
        self.vault = folder / "home.vault.json"
        self.key_file = folder / ".config" / "nexus" / "home.key"
        for name in ("known_hosts", "id"):
            (folder / name).write_text("")
        self.login: dict[str, object] = {
            "ssh_user": "operator",
            "ssh_port": listener.getsockname()[1],
            "ssh_key": str(folder / "id"),
            "ssh_known_hosts_file": str(folder / "known_hosts"),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "vault": str(self.vault),
            "site": {**RAW, "tls": DNS},
        }
        self.write()
        vault = Vault.create(self.vault, create_key_file(self.key_file))
        vault.set("cf_dns_api_token", TOKEN)
        vault.save()

    def write(self, **changes: object) -> None:
        data = {**self.login, **changes}
        data = {key: value for key, value in data.items() if value != "absent"}
        self.inventory.write_text(
            f"site = {data.get('site')!r}\nhosts = [('127.0.0.1', {data!r})]\n"
        )

    @property
    def connections(self) -> int:
        count = 0
        self.listener.setblocking(False)
        while True:
            try:
                self.listener.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_secrets: None) -> Iterator[Place]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NEXUS_VAULT_KEY_FILE", "NEXUS_VAULT_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Place(tmp_path, listener)


def test_the_place_is_sound(place: Place) -> None:
    assert [entry.name for entry, _ in prove(place.inventory)] == ["127.0.0.1"]


DATA = [
    ({"site": "absent"}, "hosts[0]: the host '127.0.0.1' has no site", 'add "site": site'),
    ({"site": ("name", "home")}, "site: a tuple", "must be a dictionary"),
    ({"site": "home"}, "site: 'home'", "must be a dictionary"),
    ({"ssh_port": "22"}, "hosts[0].ssh_port: '22'", "without quotes"),
    ({"ssh_port": 0}, "hosts[0].ssh_port: 0", "1-65535"),
    ({"ssh_port": True}, "hosts[0].ssh_port: True", "write e.g. 22"),
    ({"ssh_prot": 22}, "hosts[0].ssh_prot", "did you mean ssh_port?"),
    ({"_sudo_usr": "root"}, "hosts[0]._sudo_usr", "did you mean _sudo_user?"),
    ({"ssh_zzz": 1}, "hosts[0].ssh_zzz", "remove it"),
    ({"ssh_user": 0}, "hosts[0].ssh_user: 0", "text in quotes"),
    ({"ssh_user": ""}, "hosts[0].ssh_user: ''", "text in quotes"),
    ({"ssh_key": ["id"]}, "hosts[0].ssh_key: a list", "text in quotes"),
    ({"ssh_key": "/nowhere/id"}, "hosts[0].ssh_key: '/nowhere/id'", "ssh-keygen -t ed25519"),
    ({"ssh_key": "/nowhere/id.pub"}, "hosts[0].ssh_key", "the private key /nowhere/id"),
    ({"ssh_known_hosts_file": "/nowhere/kh"}, "ssh_known_hosts_file: '/nowhere/kh'", "make init"),
    ({"ssh_known_hosts_file": 1}, "hosts[0].ssh_known_hosts_file: 1", "text in quotes"),
    ({"ssh_strict_host_key_checking": "no"}, "host_key_checking: 'no'", 'write "yes"'),
    ({"ssh_strict_host_key_checking": "absent"}, "host_key_checking: None", 'write "yes"'),
    ({"_sudo": "absent"}, "hosts[0]._sudo: is missing", '"_sudo": True'),
    ({"_sudo": False}, "hosts[0]._sudo: is missing", "log in as root"),
    ({"_sudo": "yes"}, "hosts[0]._sudo: 'yes'", "without quotes"),
    ({"vault": b"x"}, "hosts[0].vault: a bytes", "text in quotes"),
]


@pytest.mark.parametrize(("changes", "field", "mend"), DATA, ids=lambda value: str(value)[:40])
def test_connection_data(place: Place, changes: dict[str, object], field: str, mend: str) -> None:
    place.write(**changes)
    with pytest.raises(SiteError) as refused:
        prove(place.inventory)
    (line,) = refused.value.problems
    assert field in line and mend in line


FILES = [
    ("hosts = [", "line 1: SyntaxError", "mend it"),
    ("\nhosts = [nothing]\n", "line 2: NameError: name 'nothing' is not defined", "mend it"),
    ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError", "mend it"),
    ("open('/nowhere/x')\n", "line 1: FileNotFoundError", "mend it"),
    ("1 / 0\n", "line 1: ZeroDivisionError", "mend it"),
    ("", "hosts: is missing or empty", "192.168.1.10"),
    ("hosts = []\n", "hosts: is missing or empty", "192.168.1.10"),
    ("hosts = {'127.0.0.1': {}}\n", "hosts: is missing or empty", "192.168.1.10"),
    ("hosts = [{'127.0.0.1': {}}]\n", "hosts[0]: a dict", "make init"),
    ("hosts = [('127.0.0.1', {}, 1)]\n", "hosts[0]: a tuple", "make init"),
    ("hosts = [('127.0.0.1', 'site')]\n", "hosts[0]: a tuple", "make init"),
    ("hosts = [(22, {})]\n", "hosts[0]: a tuple", "make init"),
    ("hosts = ['@local']\n", "hosts[0]: the host '@local' has no site", "add"),
    ("lan = ['10.0.0.0/24']\n", "lan[0]: the host '10.0.0.0/24' has no site", "with _"),
    ("site = None\nhosts = [('@local', {'site': site})]\n", "site: the inventory has none", "init"),
]


@pytest.mark.parametrize(("text", "field", "mend"), FILES, ids=lambda value: str(value)[:40])
def test_inventory_files(place: Place, text: str, field: str, mend: str) -> None:
    place.inventory.write_text(text)
    with pytest.raises(SiteError) as refused:
        prove(place.inventory)
    (line,) = refused.value.problems
    assert field in line and mend in line


def test_an_inventory_that_is_no_text(place: Place) -> None:
    place.inventory.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SiteError, match=r"home\.py.*mend it"):
        prove(place.inventory)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
LITERALS = st.recursive(
    SCALARS | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            SCALARS | st.sampled_from(["mode", "ports", "options"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
FIELDS = [*Site.model_fields, "unknown", 0, None]


@given(st.dictionaries(st.sampled_from(FIELDS), LITERALS, min_size=1, max_size=3))
def test_no_value_of_a_site_gets_past_its_checks(changes: dict[Any, Any]) -> None:
    try:
        site_of({**RAW, **changes})
    except SiteError as refused:
        assert all(line.startswith("site") and ": " in line for line in refused.problems)
        assert all(line.isprintable() for line in refused.problems)


@given(LITERALS, LITERALS, st.sampled_from([*CONNECTION, "unknown"]))
def test_no_form_of_an_inventory_gets_past_its_checks(hosts: Any, value: Any, key: str) -> None:
    for attributes in (
        {"hosts": hosts},
        {"hosts": [hosts]},
        {"hosts": ([hosts], {"site": RAW, key: value})},
        {"hosts": [("127.0.0.1", {"site": RAW, key: value})]},
    ):
        entries, problems = entries_of(attributes)
        for entry in entries:
            problems += problems_of(entry, CONNECTION)
        assert all(": " in line and line.isprintable() for line in problems)


def test_two_sites_of_one_name(place: Place) -> None:
    other = {**place.login, "site": {**RAW, "domain": "other.example.org"}}
    hosts = [("127.0.0.1", place.login), ("127.0.0.2", other), ("127.0.0.3", place.login)]
    place.inventory.write_text(f"hosts = {hosts!r}\n")
    with pytest.raises(SiteError) as refused:
        prove(place.inventory)
    (line,) = refused.value.problems
    assert line.startswith("hosts[1].site: differs from the one of hosts[0]")
    assert "another name" in line


def test_data_of_a_group_counts(place: Place) -> None:
    place.inventory.write_text(f"hosts = (['127.0.0.1', '127.0.0.2'], {place.login!r})\n")
    assert [entry.place for entry, _ in prove(place.inventory)] == ["hosts[0]", "hosts[1]"]


def test_every_problem_is_told_at_once(place: Place) -> None:
    place.write(ssh_port="22", _sudo=False, site={**RAW, "email": "me", "lan": []})
    with pytest.raises(SiteError) as refused:
        prove(place.inventory)
    assert len(refused.value.problems) == 4


def without_token(place: Place) -> None:
    vault = Vault.open(place.vault, place.key_file.read_bytes().strip())
    vault.remove("cf_dns_api_token")
    vault.save()


def another_key(place: Place) -> None:
    place.key_file.unlink()
    create_key_file(place.key_file)


def truncated(place: Place) -> None:
    place.vault.write_bytes(place.vault.read_bytes()[:-80])


VAULTS: list[tuple[Callable[[Place], object], str, str]] = [
    (lambda place: place.inventory.unlink(), "home.py is missing", "make init"),
    (lambda place: place.vault.unlink(), "home.vault.json is missing", "make init"),
    (lambda place: place.key_file.unlink(), "home.key: No such file", "NEXUS_VAULT_KEY_FILE"),
    (lambda place: place.key_file.chmod(0o640), "can be read by others", "chmod 600"),
    (lambda place: place.key_file.write_text(""), "home.key is empty", "copy it"),
    (another_key, "wrong passphrase or key file", "home.vault.json"),
    (truncated, "breaks off at line", "restore it from git or a backup"),
    (lambda place: place.vault.write_text(""), "is empty", "restore it from git or a backup"),
    (lambda place: place.vault.write_text("{}"), "not a vault of this program", "nexus-vault-1"),
    (
        lambda place: place.vault.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n"),
        *("home.vault.json", "restore it from git or a backup"),
    ),
    (
        lambda place: place.vault.write_text('{"format": "nexus-vault-9"}'),
        *("newer version", "update this program"),
    ),
    (without_token, "cf_dns_api_token", "make vault ARGS='set cf_dns_api_token'"),
]
COMMANDS: dict[str, Callable[[Place], int]] = {
    "plan": lambda place: plan.main(str(place.inventory)),
    "apply": lambda place: apply.main(str(place.inventory)),
    "vault": lambda place: vault_command.main(
        ["--inventory", str(place.inventory), "--vault", str(place.vault), "check"]
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("case", VAULTS, ids=lambda case: case[1])
def test_vaults_and_missing_files(
    place: Place,
    capsys: pytest.CaptureFixture[str],
    command: str,
    case: tuple[Callable[[Place], object], str, str],
) -> None:
    change, field, mend = case
    change(place)
    assert COMMANDS[command](place) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert field in line and mend in line
    assert TOKEN not in line
    assert place.connections == 0


BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB"
KEYSCAN = f"127.0.0.1 ssh-ed25519 {BLOB}\n"


@pytest.mark.parametrize(
    ("pinned", "scanned", "status", "mend"),
    [
        (KEYSCAN, "", 0, "shows no SSH host key; is it on"),
        (KEYSCAN.replace("AQEB\n", "AQEC\n"), KEYSCAN, 0, "compare the key on the host itself"),
        ("", KEYSCAN, 0, "has no key of 127.0.0.1"),
        (KEYSCAN, KEYSCAN, NO_LOGIN, "ssh-copy-id -p 22 -i"),
        (KEYSCAN, KEYSCAN, NO_SUDO, "operator ALL=(ALL:ALL) NOPASSWD: ALL"),
        (KEYSCAN, KEYSCAN, NO_PYTHON, "apt install python3"),
        (KEYSCAN, KEYSCAN, 1, ""),
        (KEYSCAN, KEYSCAN, 0, ""),
    ],
)
def test_why_a_run_failed(place: Place, pinned: str, scanned: str, status: int, mend: str) -> None:
    (place.folder / "known_hosts").write_text(pinned)
    entry = Entry("hosts[0]", "127.0.0.1", {**place.login, "ssh_port": 22})
    tried = []

    def login(argv: list[str]) -> int:
        tried.append(argv)
        return status if argv[0] == "ssh" else 0

    told = trouble(entry, lambda *_: scanned, login)
    assert len(told.splitlines()) == (1 if mend else 0)
    assert mend in told
    assert all("StrictHostKeyChecking=yes" in argv for argv in tried if argv[0] == "ssh")


def test_a_locked_key_is_not_tried(place: Place) -> None:
    (place.folder / "known_hosts").write_text(KEYSCAN)
    entry = Entry("hosts[0]", "127.0.0.1", {**place.login, "ssh_port": 22})
    assert trouble(entry, lambda *_: KEYSCAN, lambda argv: NO_LOGIN) == ""


@pytest.mark.parametrize(("code", "asked"), [(0, False), (1, True), (2, False)])
def test_only_a_failed_run_is_explained(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    asked: bool,
) -> None:
    monkeypatch.setattr("roles.command.run.trouble", lambda entry: f"{entry.name}: mend it")
    assert proven(str(place.inventory), lambda: code) == code
    assert ("127.0.0.1: mend it" in capsys.readouterr().err) is asked


def test_an_interrupted_run_says_that_it_may_be_repeated(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> int:
        raise KeyboardInterrupt

    assert proven(str(place.inventory), run) == INTERRUPTED
    assert "run it again" in capsys.readouterr().err
