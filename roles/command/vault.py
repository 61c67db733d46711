"""The vault from the command line. A value comes from stdin or a hidden prompt, never an argument.

python -m roles.command.vault --inventory inventories/home.py list
"""

from __future__ import annotations

import argparse
import getpass
import re
import sys
from pathlib import Path

from roles.command.inventory import site_in
from roles.core.secret import MissingSecretError, RotationError, SecretSpec, ensure, rotate
from roles.core.vault import Vault, VaultError, create_key_file, default_key_file, load_key
from roles.plan import VAULTS
from roles.site.schema import SiteError
from roles.stack.credentials import specs

LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=(.*)")


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0 done, 1 refused with one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        site = site_in(options.inventory)
        path = VAULTS / f"{site.name}.vault.json"
        if options.verb == "init":
            _init(path, site.name)
            return 0
        vault = Vault.open(path, load_key(site.name))
        _run(vault, specs(site), options)
    except (VaultError, SiteError, MissingSecretError, RotationError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vault", description=__doc__)
    parser.add_argument("--inventory", type=Path, default=Path("inventories/home.py"))
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init", help="a new vault and its key file")
    verbs.add_parser("list", help="names, never values")
    verbs.add_parser("check", help="generate what is missing")
    for verb, text in {
        "show": "print one value",
        "set": "put a value from stdin or a hidden prompt",
        "rotate": "replace one generated value and what follows from it",
    }.items():
        verbs.add_parser(verb, help=text).add_argument("name")
    rekey = verbs.add_parser("rekey", help="encrypt everything again under another key file")
    rekey.add_argument("key_file", type=Path, help="is created; it must not exist yet")
    imported = verbs.add_parser("import-env", help="take values from a Compose .env file")
    imported.add_argument("file", type=Path)
    return parser


def _init(path: Path, name: str) -> None:
    try:
        key = load_key(name)
    except VaultError:
        key = create_key_file(default_key_file(name))
        print(f"key file {default_key_file(name)} made: keep a copy of it off this machine")
    Vault.create(path, key)
    print(f"{path} made")


def _run(vault: Vault, wanted: tuple[SecretSpec, ...], options: argparse.Namespace) -> None:
    notes = {spec.name: spec.note for spec in wanted}
    if options.verb == "list":
        for name in sorted({*notes, *vault.names()}):
            state = "set" if name in vault.names() else "missing"
            print(f"{name:36} {state:8} {notes.get(name, 'not used by this site')}")
    elif options.verb == "show":
        print(vault.get(options.name).reveal())
    elif options.verb == "check":
        _saved(vault, "generated", ensure(vault, wanted))
    elif options.verb == "set":
        value = getpass.getpass(f"{options.name}: ") if sys.stdin.isatty() else sys.stdin.read()
        if not value.strip():
            raise VaultError(f"{options.name}: no value came; type it or send it on stdin")
        vault.set(options.name, value.rstrip("\n"))
        _saved(vault, "set", [options.name])
    elif options.verb == "rotate":
        _saved(vault, "rotated", rotate(vault, wanted, options.name))
    elif options.verb == "rekey":
        vault.rekey(create_key_file(options.key_file))
        print(f"every value is now under {options.key_file}; name it in NEXUS_VAULT_KEY_FILE")
    elif options.verb == "import-env":
        values = read_env(options.file)
        for name, value in values.items():
            vault.set(name, value)
        _saved(vault, "imported", list(values))


def _saved(vault: Vault, what: str, names: list[str]) -> None:
    vault.save()
    print(f"{what}: {', '.join(names) or 'nothing'}")


def read_env(file: Path) -> dict[str, str]:
    """The entries of a Compose .env file under lower-case names; interpolation stays literal.

    Raises:
        VaultError: a line that is neither blank, a comment nor NAME=value (its text is not shown).
    """
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(f"{file} cannot be read: {error.__class__.__name__}") from error
    values = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = LINE.fullmatch(line)
        if not found:
            raise VaultError(f"{file} line {number}: is not NAME=value; mend or remove it")
        values[found[1].lower()] = _unquoted(found[2].strip())
    return {name: value for name, value in values.items() if value}


def _unquoted(text: str) -> str:
    if text[:1] == "'" and text.find("'", 1) > 0:
        return text[1 : text.find("'", 1)]
    if found := re.match(r'"((?:[^"\\]|\\.)*)"', text):
        escapes = {"n": "\n", "t": "\t", "r": "\r"}
        return re.sub(r"\\(.)", lambda m: escapes.get(m[1], m[1]), found[1])
    return re.split(r"\s+#", text, maxsplit=1)[0]


if __name__ == "__main__":
    sys.exit(main())
