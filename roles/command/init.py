"""A new site: its inventory, the host's SSH key, the vault and its key file.

What is missing is asked for at a terminal; without one, each needs its flag. Files that are there
already are kept, so that a run after an interruption finishes what is missing.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roles.command.inventory import attributes_of
from roles.core.vault import (
    Vault,
    VaultError,
    create_key_file,
    default_key_file,
    load_key,
    read_key_file,
)
from roles.plan import VAULTS, site_of
from roles.site import connection, init, questions
from roles.site.host_key import (
    HostKey,
    HostKeyError,
    Scan,
    SilentHostError,
    host_keys,
    keyscan,
    prove_pinned,
)
from roles.site.init import Login
from roles.site.questions import FLAGS, QUESTIONS, AnswerError, Known, Question
from roles.site.schema import Site, SiteError
from roles.stack import catalogue
from roles.stack.stack import image_names

INVENTORIES = Path(__file__).parents[2] / "inventories"
REFUSALS = (AnswerError, HostKeyError, SiteError, VaultError)
INTERRUPTED = 130


@dataclass(frozen=True)
class World:
    """What a test replaces: the terminal (None without one), the scan and the folder of vaults."""

    ask: Callable[[str], str] | None
    say: Callable[[str], None] = print
    scan: Scan = keyscan
    vaults: Path = VAULTS
    known: Known = field(default_factory=lambda: Known(catalogue.names(), image_names()))


def main(arguments: list[str] | None = None, world: World | None = None) -> int:
    """Make what is missing; 0 done, 1 refused with lines on stderr, 130 interrupted."""
    options = _parser().parse_args(arguments)
    world = world or World(input if sys.stdin.isatty() else None)
    try:
        _run(options, world)
    except REFUSALS as error:
        print(error, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, EOFError):
        print("\ninterrupted; run it again to finish what is missing", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="init", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for question in (*QUESTIONS, *FLAGS):
        text = f"{question.text}, e.g. {question.example}".replace("%", "%%")
        extra: dict[str, Any] = {"nargs": "+", "action": "extend"} if question.several else {}
        parser.add_argument(question.flag, help=text, **extra)
    parser.add_argument("--inventory-dir", type=Path, default=INVENTORIES)
    parser.add_argument("--key-file", type=Path, help="where the vault's key lies or is made")
    accept = parser.add_mutually_exclusive_group()
    accept.add_argument("--accept-host-key", metavar="SHA256:...", help="the one to accept")
    accept.add_argument("--trust-host-key", action="store_true", help="accept what it shows now")
    return parser


def _run(options: argparse.Namespace, world: World) -> None:
    given = {q.key: v for q in (*QUESTIONS, *FLAGS) if (v := getattr(options, q.key)) is not None}
    answers = dict(given)
    _answer(QUESTIONS[0], answers, world)
    inventory = options.inventory_dir / f"{answers['name']}.py"
    if inventory.exists():
        world.say(f"{inventory} is there and is kept; edit it to change the site")
        site, login = _old_inventory(inventory)
        if site.name != answers["name"]:
            raise SiteError([f"{inventory}: is the site {site.name!r}; name the file {site.name}"])
    else:
        site, login = _new_inventory(inventory, answers, world)
    pinned = login.known_hosts or inventory.with_name(f"known_hosts_{site.name}")
    pin(Path(pinned).expanduser(), login, options, world)
    _vault(site, options.key_file, world)
    _farewell(site, inventory, options.key_file, world)


def _answer(question: Question, answers: dict[str, Any], world: World) -> None:
    """Judge the answer that there is, or ask until there is a good one.

    Raises:
        AnswerError: the flag's value is refused, or there is no terminal to ask at.
    """
    if question.key in answers:
        _prove(question, answers, world)
        return
    default = question.default(answers)
    if world.ask is None:
        if default is None and not question.optional:
            example = f"{question.flag} {question.example}"
            raise AnswerError(f"{question.flag} is missing; give e.g. {example}")
        answers[question.key] = _parsed(question, default or "")
        _prove(question, answers, world)
        return
    while True:
        shown = f" [{default}]" if default else f", e.g. {question.example}"
        text = world.ask(f"{question.text}{shown}: ").strip() or default or ""
        if question.optional and text in {"", "-"}:
            answers[question.key] = ""
            return
        problems = ["needs an answer"]
        if text:
            answers[question.key] = _parsed(question, text)
            problems = questions.problems_of(question, answers, world.known)
        if not problems:
            return
        answers.pop(question.key, None)
        for problem in problems:
            world.say(f"  {problem}")


def _parsed(question: Question, text: str) -> str | list[str]:
    """One text, or several apart by blanks or commas; quotes keep a text with blanks together."""
    if not question.several:
        return text
    words = shlex.shlex(text, posix=True)
    words.whitespace += ","
    words.whitespace_split = True
    words.commenters = ""
    try:
        return list(words)
    except ValueError:  # a quote that nothing closes is a character like any other
        return text.replace(",", " ").split()


def _prove(question: Question, answers: dict[str, Any], world: World) -> None:
    if question.optional and answers[question.key] in {"", "-"}:
        answers[question.key] = ""
        return
    problems = questions.problems_of(question, answers, world.known)
    if problems:
        raise AnswerError("\n".join(f"{question.flag}: {problem}" for problem in problems))


def _new_inventory(path: Path, answers: dict[str, Any], world: World) -> tuple[Site, Login]:
    refused = []
    for question in (*QUESTIONS, *(q for q in FLAGS if q.key in answers)):
        if not question.asked(answers) and question.key not in answers:
            continue
        try:
            _answer(question, answers, world)
        except AnswerError as error:
            refused.append(str(error))
            # So that the others are judged without it.
            answers.pop(question.key, None)
    if refused:
        raise AnswerError("\n".join(refused))
    raw = questions.site_of(answers)
    # What only the whole says, such as a field that belongs to another mode.
    site = world.known.load(raw)
    login = _login(answers)
    init.write_new(path, init.inventory_text(raw, login))
    world.say(f"{path} made")
    return site, login


def _login(answers: dict[str, Any]) -> Login:
    key = answers["ssh_key"]
    # pyinfra expands ~ itself; anything else must hold from any folder.
    if key and not key.startswith("~"):
        key = str(Path(key).absolute())
    return Login(answers["host"], answers["ssh_user"], int(answers["ssh_port"]), key or None)


def _old_inventory(path: Path) -> tuple[Site, Login]:
    """The site of an inventory that is there already, and how its first host is reached.

    Raises:
        SiteError: it does not run, has no hosts or no site, or its site is refused.
    """
    attributes = attributes_of(path)
    entries, problems = connection.entries_of(attributes)
    if problems:
        raise SiteError([f"{path}: {problem}" for problem in problems])
    data = entries[0].data
    if "site" not in data:
        raise SiteError([f"{path}: {connection.no_site(entries[0])}"])
    port = data.get("ssh_port", 22)
    if type(port) is not int:
        raise SiteError(list(connection.problems_of(entries[0], frozenset(data))))
    user, key, known = (data.get(k) for k in ("ssh_user", "ssh_key", "ssh_known_hosts_file"))
    return site_of(data.get("site")), Login(entries[0].name, user or "root", port, key, known)


def pin(path: Path, login: Login, options: argparse.Namespace, world: World) -> None:
    """Put the host's key in known_hosts once the operator has accepted it.

    Raises:
        HostKeyError: a new host does not answer, shows another key than the pinned one, or was
            not accepted.
    """
    try:
        keys = host_keys(login.host, login.port, world.scan)
    except SilentHostError as error:
        if not path.exists():
            raise
        world.say(f"{path} is there and is kept, unproven: {error}")
        return
    if path.exists():
        prove_pinned(path, login.host, login.port, keys)
        world.say(f"{path} is there, has the key that the host shows, and is kept")
        return
    key = _accepted(keys, login, options, world)
    init.write_new(path, key.line(login.host, login.port))
    world.say(f"{path} made: no other key will be accepted")


def _accepted(
    keys: Sequence[HostKey], login: Login, options: argparse.Namespace, world: World
) -> HostKey:
    if options.accept_host_key is not None:
        for key in keys:
            if key.is_of(options.accept_host_key):
                return key
        shown = ", ".join(key.fingerprint for key in keys)
        raise HostKeyError(
            f"{login.host}: shows {shown}; none is the key of --accept-host-key. Is the address "
            "right? Nothing was accepted"
        )
    best = keys[0]
    world.say(f"{login.host} shows the key {best.fingerprint} ({best.kind})")
    if not options.trust_host_key:
        _ask_about(best, login, world)
    return best


def _ask_about(key: HostKey, login: Login, world: World) -> None:
    if world.ask is None:
        raise HostKeyError(
            f"{login.host}: its key is not accepted yet; compare it and give "
            f"--accept-host-key {key.fingerprint}"
        )
    world.say(f"Compare it on the host: ssh-keygen -lf {key.file_on_host}")
    if world.ask("Is it this key? [yes/no]: ").strip().lower() not in {"y", "yes"}:
        raise HostKeyError(f"{login.host}: its key was not accepted; run make init again")


def _vault(site: Site, key_file: Path | None, world: World) -> None:
    """An empty vault and its key; those that are there must fit each other.

    Raises:
        VaultError: the key of an existing vault is missing, or is another's.
    """
    path = world.vaults / f"{site.name}.vault.json"
    if path.exists():
        Vault.open(path, read_key_file(key_file) if key_file else load_key(site.name))
        world.say(f"{path} is there, opens with its key, and is kept")
        return
    Vault.create(path, _key(site.name, key_file, world))
    world.say(f"{path} made; the first apply fills it")


def _key(name: str, key_file: Path | None, world: World) -> bytes:
    file = key_file
    if file is None:
        named = os.environ.get("NEXUS_VAULT_KEY_FILE")
        file = Path(named) if named else default_key_file(name)
        if not named and "NEXUS_VAULT_PASSPHRASE" in os.environ:
            return load_key(name)
    if file.exists():
        return read_key_file(file)
    key = create_key_file(file)
    world.say(f"{file} made: the vault's key. Keep a copy off this machine; nothing replaces it")
    return key


def _farewell(site: Site, inventory: Path, key_file: Path | None, world: World) -> None:
    lines = []
    if key_file is not None:
        lines.append(f"export NEXUS_VAULT_KEY_FILE={shlex.quote(str(key_file.resolve()))}")
    usual = inventory.resolve() == INVENTORIES / "home.py"
    which = "" if usual else f" INVENTORY={shlex.quote(str(_short(inventory)))}"
    for entry in sorted(set(site.tls.credentials.values())):
        lines.append(f"make vault{which} ARGS='set {entry}'")
    lines += [f"make plan{which}", f"make apply{which}", f"make totp{which}"]
    world.say("next:\n  " + "\n  ".join(lines))


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
