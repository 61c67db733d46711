"""A new site: asked for or given by flags, refused in one line, kept, finished when interrupted."""

from __future__ import annotations

import ast
import base64
import runpy
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.command import init as command
from roles.command.init import World
from roles.core.certificates import ensure_certificates
from roles.core.vault import Vault, create_key_file, load_key
from roles.plan import site_of
from roles.site.host_key import HostKey
from roles.site.init import Login, inventory_text
from roles.site.questions import FLAGS, QUESTIONS
from tests.lab.paths import REPOSITORY
from tests.unit.test_certificates import NOW, Memory


def public_key(kind: str, number: int) -> HostKey:
    """A well-formed key that nobody has the other half of."""
    parts = [kind.encode(), bytes([number]) * 32]
    if kind == "ssh-rsa":
        parts = [kind.encode(), b"\1\0\1", b"\0" + bytes([200 + number]) * 384]
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return HostKey(kind, base64.b64encode(blob).decode())


ED25519, OTHER = public_key("ssh-ed25519", 1), public_key("ssh-ed25519", 2)
RSA = public_key("ssh-rsa", 1)
ANSWERS = {
    "name": "home",
    "host": "192.168.1.10",
    "ssh_user": "operator",
    "ssh_port": "2222",
    "ssh_key": "-",
    "domain": "home.example.org",
    "email": "me@example.org",
    "timezone": "Europe/Berlin",
    "admin": "alice",
    "lan": "192.168.1.0/24, fd00:1::/64",
    "media": "movies=/srv/media/movies 'shows=/srv/media/all shows'",
    "exposure": "internet",
    "tls": "acme-dns",
    "provider": "cloudflare",
    "credential": "CF_DNS_API_TOKEN=cf_dns_api_token",
}
ARGUMENTS = [
    *("--host", "192.168.1.10", "--domain", "home.example.org", "--email", "me@example.org"),
    *("--timezone", "UTC", "--admin", "alice", "--media", "movies=/srv/media/movies"),
    *("--ssh-key", "-"),
]
Ask = Callable[[str], str]


@dataclass
class Place:
    """A folder for everything that one run makes, and what the run said."""

    folder: Path
    keys: list[HostKey] = field(default_factory=lambda: [ED25519])
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def inventory(self) -> Path:
        return self.folder / "inventories" / "home.py"

    @property
    def pinned(self) -> Path:
        return self.folder / "inventories" / "known_hosts_home"

    @property
    def vault(self) -> Path:
        return self.folder / "secrets" / "home.vault.json"

    @property
    def key_file(self) -> Path:
        return self.folder / ".config" / "nexus" / "home.key"

    def scan(self, host: str, port: int) -> str:
        return "".join(key.line(host, port) for key in self.keys)

    def run(self, *arguments: str, ask: Ask | None = None) -> int:
        def asking(text: str) -> str:
            self.asked.append(text)
            assert ask is not None
            return ask(text)

        world = World(asking if ask else None, self.said.append, self.scan, self.vault.parent)
        return command.main(["--inventory-dir", str(self.inventory.parent), *arguments], world)

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_secrets: None) -> Place:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NEXUS_VAULT_KEY_FILE", "NEXUS_VAULT_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    return Place(tmp_path)


def answering(answers: dict[str, str] | None = None, *more: str) -> Ask:
    """A terminal where each question is answered; `more` goes to questions of another kind."""
    given = {**ANSWERS, **(answers or {})}
    others = iter(more or ["yes"])

    def ask(text: str) -> str:
        for question in QUESTIONS:
            if text.startswith(question.text):
                return given[question.key]
        return next(others)

    return ask


def site_in(path: Path) -> dict[str, Any]:
    site: dict[str, Any] = runpy.run_path(str(path))["site"]
    return site


def certificate(folder: Path) -> Path:
    """An authority's certificate in a file."""
    store = Memory()
    ensure_certificates(store, "home.example.org", NOW)
    file = folder / "my-ca.pem"
    file.write_text(store.pem("tls_ca_certificate"))
    return file


def refused(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines of a refusal; nothing may have been made."""
    assert place.run(*arguments) == 1
    return capsys.readouterr().err.splitlines()


def test_asks_at_a_terminal(place: Place) -> None:
    assert place.run(ask=answering()) == 0
    assert len(place.asked) == len(QUESTIONS) + 1
    site = site_of(site_in(place.inventory))
    assert (site.name, site.domain, site.exposure) == ("home", "home.example.org", "internet")
    assert site.lan == ("192.168.1.0/24", "fd00:1::/64")
    assert site.media == {"movies": "/srv/media/movies", "shows": "/srv/media/all shows"}
    assert site.ssh.ports == (2222,)
    assert site.tls.credentials == {"CF_DNS_API_TOKEN": "cf_dns_api_token"}
    ((host, data),) = runpy.run_path(str(place.inventory))["hosts"]
    assert (host, data["ssh_user"], data["ssh_port"], data["_sudo"]) == (
        *("192.168.1.10", "operator", 2222, True),
    )
    assert data["ssh_known_hosts_file"] == str(place.pinned)
    assert place.pinned.read_text() == ED25519.line("192.168.1.10", 2222)
    assert Vault.open(place.vault, load_key("home")).names() == ()
    assert stat.S_IMODE(place.key_file.stat().st_mode) == 0o600
    assert any("ARGS='set cf_dns_api_token'" in text for text in place.said)


def test_an_empty_answer_takes_the_proposal(place: Place) -> None:
    needed = {"host", "domain", "email", "media", "provider", "credential"}
    answers = {key: "" for key in ANSWERS if key not in needed} | {"timezone": "UTC"}
    assert place.run(ask=answering(answers)) == 0
    site = site_of(site_in(place.inventory))
    assert (site.name, site.lan, site.exposure, site.tls.mode) == (
        *("home", ("192.168.1.0/24",), "lan", "own-ca"),
    )


def test_flags_alone_are_enough(place: Place) -> None:
    assert place.run(*ARGUMENTS, "--accept-host-key", ED25519.fingerprint) == 0
    site = site_of(site_in(place.inventory))
    assert site.lan == ("192.168.1.0/24",)
    assert not place.asked
    assert str(place.vault) in "".join(place.said)


def test_flags_are_not_asked_again(place: Place) -> None:
    assert place.run(*ARGUMENTS, ask=answering({"tls": "own-ca"})) == 0
    assert not [text for text in place.asked if text.startswith(("The host's", "The domain"))]


def test_the_flags_that_are_never_asked(place: Place) -> None:
    digest, authority = "0" * 64, certificate(place.folder)
    done = place.run(
        *ARGUMENTS,
        "--trust-host-key",
        *("--tls", "acme-dns", "--provider", "rfc2136", "--credential", "RFC2136_TSIG_KEY=dns_key"),
        *("--directory", "https://ca.lan/acme/directory", "--ca-file", str(authority)),
        *("--resolver", "1.1.1.1:53", "[2606:4700::1]:53", "--ssh-allow-from", "10.8.0.0/24"),
        *("--image", f"traefik=registry.lan/traefik@sha256:{digest}"),
    )
    assert done == 0
    site = site_of(site_in(place.inventory))
    assert site.tls.ca_certificate == authority.read_text()
    assert site.tls.resolvers == ("1.1.1.1:53", "[2606:4700::1]:53")
    assert site.ssh.allow_from == ("10.8.0.0/24",)
    assert site.images == {"traefik": f"registry.lan/traefik@sha256:{digest}"}


def test_without_a_terminal_every_missing_flag_is_named(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(place, capsys)
    for flag in ("--host", "--domain", "--email", "--media"):
        assert any(line.startswith(f"{flag} is missing; give e.g. {flag} ") for line in lines)
    assert not place.files()


WRONG = {
    "name": ("My House", "lower-case"),
    "host": ("-oProxyCommand=x", "is no host"),
    "ssh_user": ("a b", "is no account"),
    "ssh_port": ("x", "is not a TCP port"),
    "ssh_key": ("/nowhere", "ssh-keygen -t ed25519"),
    "domain": ("localhost", "home.example.org"),
    "email": ("me", "me@example.org"),
    "timezone": ("Mars/Base", "Europe/Berlin"),
    "admin": ("Alice", "lower-case"),
    "lan": ("192.168.1.5/24", "192.168.1.0/24"),
    "media": ("movies", "NAME=VALUE"),
    "exposure": ("world", "'lan'"),
    "tls": ("letsencrypt", "'own-ca'"),
    "provider": ("cloud flare", "cloudflare"),
    "credential": ("CF_TOKEN=s3Cr3t-V4lue", "not the value"),
    "ssh_allow_from": ("lan", "is no network"),
    "directory": ("http://ca.lan", "https://"),
    "ca_file": ("/nowhere/my.pem", "name a file in PEM form"),
    "resolver": ("1.1.1.1", "1.1.1.1:53"),
    "image": ("nginx=nginx@sha256:" + "0" * 64, "known are"),
}


@pytest.mark.parametrize("question", [*QUESTIONS, *FLAGS], ids=lambda question: question.key)
def test_every_flag_refuses_what_is_wrong(
    place: Place, capsys: pytest.CaptureFixture[str], question: Any
) -> None:
    wrong, mend = WRONG[question.key]
    tls = ["--tls", "acme-dns"]
    dns = [*tls, "--provider", "cloudflare", "--credential", "CF_TOKEN=cf_token"]
    # The last of two equal flags counts, but a list would grow.
    base = [*ARGUMENTS, *(tls if question.key == "credential" else dns)]
    if question.several and question.flag in base:
        place_of = base.index(question.flag)
        del base[place_of : place_of + 2]
    lines = refused(place, capsys, *base, f"{question.flag}={wrong}")
    mine = [line for line in lines if line.startswith(question.flag)]
    assert any(mend in line for line in mine), lines
    assert "s3Cr3t" not in "".join(lines)
    assert not place.files()


def test_several_wrong_flags_are_named_at_once(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = refused(place, capsys, *ARGUMENTS, "--email", "me", "--admin", "A", "--lan", "x")
    assert {line.split(":")[0] for line in lines} == {"--email", "--admin", "--lan"}


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.key)
def test_a_wrong_answer_is_asked_again(place: Place, question: Any) -> None:
    wrong, mend = WRONG[question.key]
    good = answering()
    left = [wrong]

    def ask(text: str) -> str:
        return left.pop() if text.startswith(question.text) and left else good(text)

    assert place.run(ask=ask) == 0
    assert sum(text.startswith(question.text) for text in place.asked) == 2
    assert any(mend in text for text in place.said)
    assert "s3Cr3t" not in "".join(place.said)


def test_nothing_is_no_answer_to_what_has_no_proposal(place: Place) -> None:
    answers = iter(["", "home.example.org"])
    good = answering()

    def ask(text: str) -> str:
        return next(answers) if text.startswith("The domain") else good(text)

    assert place.run(ask=ask) == 0
    assert "  needs an answer" in place.said


@pytest.mark.parametrize("number", range(len(QUESTIONS) + 1))
@pytest.mark.parametrize("how", [KeyboardInterrupt, EOFError])
def test_an_interrupted_run_is_finished_by_the_next(
    place: Place, capsys: pytest.CaptureFixture[str], number: int, how: type[BaseException]
) -> None:
    good = answering()

    def ask(text: str) -> str:
        if len(place.asked) > number:
            raise how
        return good(text)

    assert place.run(ask=ask) == command.INTERRUPTED
    assert "run it again" in capsys.readouterr().err
    # All questions but the last one, about the host's key, come before the first file.
    made = {"inventories/home.py"} if number == len(QUESTIONS) else set()
    assert set(place.files()) == made
    assert place.run(ask=answering()) == 0
    assert {path.name for path in place.inventory.parent.iterdir()} == {
        *("home.py", "known_hosts_home"),
    }
    assert Vault.open(place.vault, load_key("home")).names() == ()


def test_a_second_run_keeps_every_file(place: Place) -> None:
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    before = place.files()
    assert place.run("--name", "home") == 0
    assert place.run(*ARGUMENTS, "--domain", "other.example.org", "--trust-host-key") == 0
    assert place.files() == before


@pytest.mark.parametrize("lost", ["pinned", "vault"])
def test_what_is_missing_is_made_anew(place: Place, lost: str) -> None:
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    before = place.files()
    getattr(place, lost).unlink()
    assert place.run("--name", "home", "--trust-host-key") == 0
    assert place.files().keys() == before.keys()
    assert place.inventory.read_bytes() == before["inventories/home.py"]


def test_two_sites_live_side_by_side(place: Place) -> None:
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    assert place.run(*ARGUMENTS, "--name", "cabin", "--trust-host-key") == 0
    assert any("make plan INVENTORY=" in text and "cabin.py" in text for text in place.said)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("site = {\n", "line 1: SyntaxError"),
        ("\nsite = nothing\n", "line 2: NameError"),
        ("site = {}\n", "hosts: is missing or empty"),
        ("hosts = ['192.168.1.10']\n", "has no site"),
        ("hosts = [('192.168.1.10', {'ssh_port': '22', 'site': {}})]\n", "without quotes"),
        ("hosts = [('192.168.1.10', {'site': {'name': 'home'}})]\n", "site.domain: is missing"),
    ],
)
def test_an_inventory_that_is_broken_is_named_and_kept(
    place: Place, capsys: pytest.CaptureFixture[str], text: str, mend: str
) -> None:
    place.inventory.parent.mkdir()
    place.inventory.write_text(text)
    assert mend in "\n".join(refused(place, capsys, "--name", "home"))
    assert place.files() == {"inventories/home.py": text.encode()}


def test_a_file_named_unlike_its_site(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    place.inventory.rename(place.inventory.with_name("cabin.py"))
    assert "is the site 'home'" in refused(place, capsys, "--name", "cabin")[0]


def test_the_key_is_compared_at_the_terminal(place: Place) -> None:
    assert place.run(ask=answering()) == 0
    shown = next(number for number, text in enumerate(place.said) if ED25519.fingerprint in text)
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in place.said[shown + 1]


@pytest.mark.parametrize("answer", ["no", "", "n", "yes please"])
def test_a_key_that_is_not_accepted_is_not_pinned(
    place: Place, capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    assert place.run(ask=answering(None, answer)) == 1
    assert "was not accepted" in capsys.readouterr().err
    assert not place.pinned.exists() and not place.vault.exists()


def test_without_a_terminal_a_key_needs_a_flag(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"--accept-host-key {ED25519.fingerprint}" in refused(place, capsys, *ARGUMENTS)[0]
    assert not place.pinned.exists()
    wrong = refused(place, capsys, "--name", "home", "--accept-host-key", OTHER.fingerprint)
    assert "Nothing was accepted" in wrong[0]
    assert not place.pinned.exists()


def test_a_host_that_shows_another_key(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    before = place.files()
    place.keys = [OTHER]
    (line,) = refused(place, capsys, "--name", "home", "--trust-host-key")
    assert OTHER.fingerprint in line and f"remove {place.pinned}" in line
    assert place.files() == before


def test_a_host_that_moved_to_another_port(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    text = place.inventory.read_text()
    place.inventory.write_text(text.replace('"ssh_port": 22,', '"ssh_port": 2222,'))
    (line,) = refused(place, capsys, "--name", "home")
    assert "has no key of [192.168.1.10]:2222" in line


def test_a_key_is_pinned_where_the_inventory_looks_for_it(place: Place) -> None:
    pinned = place.folder / "elsewhere" / "known_hosts"
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    text = place.inventory.read_text()
    place.inventory.write_text(
        "".join(
            f'            "ssh_known_hosts_file": {str(pinned)!r},\n'
            if "known_hosts" in line
            else line
            for line in text.splitlines(keepends=True)
        )
    )
    assert place.run("--name", "home", "--trust-host-key") == 0
    assert pinned.read_text() == ED25519.line("192.168.1.10", 22)


def test_a_pinned_file_that_cannot_be_read(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.pinned.mkdir(parents=True)
    (line,) = refused(place, capsys, *ARGUMENTS, "--trust-host-key")
    assert "known_hosts_home cannot be read" in line and "remove it" in line


def test_a_silent_host(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.keys = []
    (line,) = refused(place, capsys, *ARGUMENTS, "--trust-host-key")
    assert "192.168.1.10 port 22 shows no SSH host key" in line
    place.keys = [ED25519]
    assert place.run("--name", "home", "--trust-host-key") == 0
    place.keys = []
    assert place.run("--name", "home") == 0
    assert any("kept, unproven" in text for text in place.said)


def test_the_best_of_several_kinds_is_pinned(place: Place) -> None:
    weak = HostKey("ecdsa-sha2-nistp256", "AAAA")
    place.keys = [weak, RSA, ED25519]
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    assert place.pinned.read_text() == ED25519.line("192.168.1.10", 22)


def test_the_kind_that_the_operator_compared_is_pinned(place: Place) -> None:
    place.keys = [RSA, ED25519]
    assert place.run(*ARGUMENTS, "--accept-host-key", f"{RSA.fingerprint}=") == 0
    assert place.pinned.read_text() == RSA.line("192.168.1.10", 22)
    assert place.run("--name", "home") == 0


def test_a_damaged_key_is_not_pinned(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.keys = [HostKey("ssh-ed25519", ED25519.text[:20])]
    assert "shows no SSH host key" in refused(place, capsys, *ARGUMENTS, "--trust-host-key")[0]


def test_a_key_file_that_is_there_is_used(place: Place) -> None:
    key = create_key_file(place.key_file)
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    Vault.open(place.vault, key)


def test_a_key_file_elsewhere(place: Place) -> None:
    file = place.folder / "stick" / "home.key"
    assert place.run(*ARGUMENTS, "--trust-host-key", "--key-file", str(file)) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not place.key_file.exists()
    assert any(f"export NEXUS_VAULT_KEY_FILE={file}" in text for text in place.said)


def test_a_passphrase_needs_no_key_file(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_VAULT_PASSPHRASE", "correct horse battery")
    assert place.run(*ARGUMENTS, "--trust-host-key") == 0
    assert not place.key_file.exists()
    Vault.open(place.vault, b"correct horse battery")


def test_a_vault_with_another_key(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    Vault.create(place.vault, b"another key")
    create_key_file(place.key_file)
    before = place.vault.read_bytes()
    (line,) = refused(place, capsys, *ARGUMENTS, "--trust-host-key")
    assert "wrong passphrase or key file" in line
    assert place.vault.read_bytes() == before


def test_a_vault_whose_key_is_lost(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    Vault.create(place.vault, b"another key")
    (line,) = refused(place, capsys, *ARGUMENTS, "--trust-host-key")
    assert "copy it from where the vault was made" in line
    assert not place.key_file.exists()


def test_a_key_file_that_others_can_read(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    create_key_file(place.key_file)
    place.key_file.chmod(0o644)
    assert "chmod 600" in refused(place, capsys, *ARGUMENTS, "--trust-host-key")[0]
    assert not place.vault.exists()


def test_a_folder_that_cannot_be_written(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.inventory.parent.write_text("a file where the folder should be")
    (line,) = refused(place, capsys, *ARGUMENTS, "--trust-host-key")
    assert "home.py: cannot be written" in line
    place.inventory.parent.unlink()
    place.key_file.parents[1].write_text("here too")
    line = refused(place, capsys, *ARGUMENTS, "--trust-host-key")[-1]
    assert "home.key cannot be written" in line and "NEXUS_VAULT_KEY_FILE" in line


NOT_SURROGATE = st.characters(blacklist_categories=("Cs",))
TEXTS = st.text(NOT_SURROGATE, max_size=150) | st.text("\"'\\ \n\u202e\x7f{}$é漢", max_size=30)
LOGINS = st.builds(Login, TEXTS, TEXTS, st.integers(1, 65535), st.none() | TEXTS)


@given(TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS), st.lists(TEXTS), LOGINS)
def test_any_text_comes_back_from_the_inventory(
    domain: str, email: str, media: dict[str, str], lan: list[str], login: Login
) -> None:
    site = {"name": "home", "domain": "x", "email": email, "admin": domain, "lan": lan}
    site |= {"media": media, "ssh": {"ports": [22], "allow_from": lan}}
    text = inventory_text(site, login)
    tree = ast.parse(text)
    assert all(isinstance(node, ast.Expr | ast.ImportFrom | ast.Assign) for node in tree.body)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "home.py")
        path.write_text(text, encoding="utf-8")
        attributes = runpy.run_path(str(path))
        assert attributes["site"] == site
        ((host, data),) = attributes["hosts"]
        assert data["site"] == site
        assert (host, data["ssh_user"], data["ssh_port"], data.get("ssh_key") or None) == (
            *(login.host, login.user, login.port, login.key or None),
        )
    # Nothing that an editor or a reviewer would not see.
    assert all(character.isprintable() or character == "\n" for character in text)


def long_sites() -> Iterator[tuple[str, Sequence[str]]]:
    yield "short", ARGUMENTS
    long = "/srv/" + "/".join(["a long folder"] * 9)
    quoted = """/srv/the "best" of '24 \\ é"""
    yield (
        "media",
        [*ARGUMENTS, "--media", f"long={long}", f"quoted={quoted}", f"word=/srv/{'w' * 120}"],
    )
    networks = [f"10.{number}.0.0/16" for number in range(20)]
    yield "lan", [*ARGUMENTS, "--lan", *networks, "--ssh-key", "-", "--name", "h" * 32]
    yield (
        "tls",
        [
            *(*ARGUMENTS, "--tls", "acme-dns", "--provider", "cloudflare"),
            *("--credential", f"{'A' * 64}={'a' * 64}", "CF_DNS_API_TOKEN=cf_dns_api_token"),
            *("--directory", f"https://ca.lan/{'d' * 100}", "--resolver", "1.1.1.1:53"),
        ],
    )


@pytest.mark.parametrize(
    ("name", "arguments"), list(long_sites()), ids=lambda value: str(value)[:9]
)
def test_what_it_writes_is_as_ruff_writes_it(
    place: Place, name: str, arguments: Sequence[str]
) -> None:
    more = ["--ca-file", str(certificate(place.folder))] if name == "tls" else []
    assert place.run(*arguments, *more, "--trust-host-key") == 0
    ruff = Path(sys.executable).with_name("ruff")
    config = ["--config", str(REPOSITORY / "pyproject.toml"), str(place.inventory.parent)]
    for verb in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run([ruff, *verb, *config], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_pyinfra_reads_what_it_writes(place: Place) -> None:
    assert place.run(*ARGUMENTS, "--ssh-port", "2222", "--trust-host-key") == 0
    argv = [Path(sys.executable).with_name("pyinfra"), "--json", place.inventory, "debug-inventory"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=place.folder)
    for text in ("home.example.org", '"ssh_port": 2222', str(place.pinned), '"_sudo": true'):
        assert text in done.stdout
