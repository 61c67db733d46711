"""make totp: a second factor made on the host, shown once, and every refusal with its mend."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from roles.command import totp
from roles.command.totp import Answer, TotpError
from tests.unit.conftest import RAW

URI = "otpauth://totp/home.example.org:alice?algorithm=SHA1&digits=6&issuer=home.example.org&period=30&secret=GEZDGNBVGY3TQOJQ"
MADE = Answer(
    True, f"Successfully generated TOTP configuration for user 'alice' with URI '{URI}'\n", ""
)
GENERATE = "docker exec nexus-authelia-1 authelia storage user totp generate alice"


class Host:
    """Answers as told, and keeps what it was asked."""

    def __init__(self, answer: Answer = MADE) -> None:
        self.answer = answer
        self.asked: list[str] = []

    def __call__(self, inventory: Path, name: str | None, command: Sequence[str]) -> Answer:
        self.asked.append(" ".join(command))
        return self.answer


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    path = tmp_path / "home.py"
    path.write_text(f"site = {RAW!r}\nhosts = [('192.0.2.1', {{'site': site}})]\n")
    return path


def run(inventory: Path, host: Host, *options: str) -> int:
    return totp.main(["--inventory", str(inventory), *options], host)


def test_the_address_comes_alone(inventory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = Host()
    assert run(inventory, host, "--uri") == 0
    assert capsys.readouterr() == (f"{URI}\n", "")
    assert host.asked == [GENERATE]


def test_a_terminal_gets_a_code_to_scan_and_the_way_on(
    inventory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(inventory, Host()) == 0
    shown = capsys.readouterr().out
    assert "\N{FULL BLOCK}" in shown or "\N{UPPER HALF BLOCK}" in shown
    assert URI in shown
    assert "https://auth.home.example.org" in shown


def test_nothing_is_made_where_nobody_sees_it(
    inventory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = Host()
    assert run(inventory, host) == 1
    assert "--uri" in capsys.readouterr().err
    assert host.asked == []


def test_a_device_is_replaced_only_on_demand(inventory: Path) -> None:
    host = Host()
    assert run(inventory, host, "--uri", "--replace") == 0
    assert host.asked == [f"{GENERATE} --force"]


def test_each_person_of_the_site_has_one_and_nobody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, host = tmp_path / "home.py", Host()
    raw = {**RAW, "people": {"bob-j": "bob@example.org"}}
    path.write_text(f"site = {raw!r}\nhosts = [('192.0.2.1', {{'site': site}})]\n")
    assert run(path, host, "--uri", "--user", "mallory") == 1
    assert "mallory is not one of alice, bob-j" in capsys.readouterr().err
    assert host.asked == []
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(path, host, "--user", "bob-j") == 0
    assert host.asked == [GENERATE.replace("alice", "bob-j")]
    assert "show portal_bob_j_password" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "mend"),
    [
        (
            Answer(False, "", "Error: alice already has a TOTP configuration, use --force\nUsage:"),
            "--replace",
        ),
        (
            Answer(False, "", "Error response from daemon: No such container: nexus-authelia-1"),
            "make apply",
        ),
        (Answer(False, "", "Error response: container 1f is not running"), "make apply"),
        (Answer(False, "", "Error: storage schema outdated\nUsage:\n"), "storage schema outdated"),
        (Answer(False, "", ""), "no reason"),
        (Answer(True, "hello", ""), "no address"),
    ],
)
def test_a_refusal_is_one_line_with_its_mend(
    inventory: Path, answer: Answer, mend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(inventory, Host(answer), "--uri") == 1
    out, error = capsys.readouterr()
    assert out == ""
    assert mend in error
    assert len(error.splitlines()) == 1


def test_a_missing_inventory_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "home.py", Host(), "--uri") == 1
    assert "make init" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("hosts", "name", "known"),
    [("[]", None, "none"), ("[('a', {}), ('b', {})]", None, "a, b"), ("[('a', {})]", "c", "a")],
)
def test_the_host_is_never_guessed(
    tmp_path: Path, hosts: str, name: str | None, known: str
) -> None:
    path = tmp_path / "home.py"
    path.write_text(f"hosts = {hosts}\n")
    with pytest.raises(TotpError, match=f"--host: .*: {known}$"):
        totp.on_host(path, name, ["true"])


def test_a_host_out_of_reach_is_named(tmp_path: Path) -> None:
    path = tmp_path / "home.py"
    path.write_text("hosts = [('127.0.0.1', {'ssh_port': 1})]\n")
    with pytest.raises(TotpError, match=r"127\.0\.0\.1 cannot be reached"):
        totp.on_host(path, None, ["true"])
