"""The vault from the command line. A value comes from stdin or a hidden prompt, never an argument.

python -m roles.command.vault list
python -m roles.command.vault --inventory inventories/home.py set cf_dns_api_token < token
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from roles.command import dotenv
from roles.command.inventory import site_in
from roles.core.secret import (
    GENERATORS,
    HASHES,
    MissingSecretError,
    RotationError,
    SecretSpec,
    ensure,
    require_given,
    rotate,
    unrotatable,
)
from roles.core.vault import (
    NAME,
    Vault,
    VaultError,
    create_key_file,
    default_key_file,
    load_key,
    read_key_file,
)
from roles.plan import VAULTS
from roles.site.schema import SiteError
from roles.stack.credentials import specs

SUFFIX = ".vault.json"
INVENTORIES = Path("inventories")
# NIST SP 800-63B asks for eight at least; this one can be guessed at offline.
SHORTEST_PASSPHRASE = 12
IMPORTABLE = frozenset(GENERATORS) | {"given"}

Specs = Sequence[SecretSpec]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0 done, 1 refused with one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        name, path, wanted = _subject(options)
        options.key_name = name
        if options.verb == "init":
            _init(path, name)
        else:
            VERBS[options.verb](_open(path, name), wanted, options)
    except (VaultError, SiteError, MissingSecretError, RotationError) as error:
        print(error, file=sys.stderr)
        return 1
    except (EOFError, KeyboardInterrupt):
        print("stopped; the vault is as it was, or changed as a whole", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vault", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inventory", type=Path, help="default: inventories/home.py")
    parser.add_argument("--vault", type=Path, help="default: secrets/<name of the site>.vault.json")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("init", help="a new vault and its key file")
    verbs.add_parser("list", help="names and kinds, never values")
    verbs.add_parser("check", help="prove every entry, and tell what is missing; changes nothing")
    verbs.add_parser("generate", help="make now the passwords that the next deploy would")
    for verb, text in {
        "show": "print one value",
        "set": "put a value from stdin or a hidden prompt",
        "remove": "take an entry out; the next deploy makes anew what it can",
    }.items():
        verbs.add_parser(verb, help=text).add_argument("name")
    rotated = verbs.add_parser("rotate", help="replace generated values and what follows from them")
    which = rotated.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?")
    which.add_argument("--all", action="store_true")
    rekey = verbs.add_parser("rekey", help="encrypt everything again under a new key file")
    under = rekey.add_mutually_exclusive_group()
    under.add_argument("key_file", type=Path, nargs="?", help="default: in place of the old one")
    under.add_argument("--passphrase", action="store_true", help="under a passphrase instead")
    imported = verbs.add_parser("import-env", help="take values from a Compose .env file")
    imported.add_argument("file", type=Path)
    imported.add_argument("--map", action="append", default=[], metavar="OLD=new", dest="mapped")
    imported.add_argument("--replace", action="store_true", help="also entries that are set")
    return parser


def _subject(options: argparse.Namespace) -> tuple[str, Path, Specs]:
    """Name and path of the vault, and the entries that the site wants."""
    name = options.vault.name.removesuffix(SUFFIX) if options.vault else "home"
    inventory = options.inventory or INVENTORIES / f"{name}.py"
    # A vault can be looked after without its inventory: then nothing is known of its entries.
    if options.vault and not options.inventory and not inventory.is_file():
        return name, options.vault, ()
    site = site_in(inventory)
    return site.name, options.vault or VAULTS / f"{site.name}{SUFFIX}", specs(site)


def _init(path: Path, name: str) -> None:
    if path.exists():
        raise VaultError(f"{path} exists already; move it away first if it is not wanted")
    file = _key_file(name)
    if file.exists() or _by_passphrase():
        key = load_key(name)
    else:
        key = create_key_file(file)
        print(f"key file {file} made: keep a copy of it off this machine")
    Vault.create(path, key)
    print(f"{path} made")


def _open(path: Path, name: str) -> Vault:
    """The vault; a change of key that was interrupted is finished first."""
    try:
        return Vault.open(path, load_key(name))
    except VaultError:
        vault = _opened_by_pending(path, _key_file(name))
        if vault is None:
            raise
        return vault


def _opened_by_pending(path: Path, file: Path) -> Vault | None:
    pending = _pending(file)
    if not pending.exists():
        return None
    try:
        vault = Vault.open(path, read_key_file(pending))
    except VaultError:
        return None
    pending.replace(file)
    print("finished a change of key that was interrupted", file=sys.stderr)
    return vault


def _list(vault: Vault, wanted: Specs, _: argparse.Namespace) -> None:
    declared = {spec.name: spec for spec in wanted}
    present = set(vault.names())
    for name in sorted({*declared, *present}):
        spec = declared.get(name)
        state = "set" if name in present else "missing"
        kind, note = (spec.kind, spec.note) if spec else ("-", "not used by this site")
        print(f"{name:36} {kind:9} {state:8} {note}")


def _show(vault: Vault, _: Specs, options: argparse.Namespace) -> None:
    print(vault.get(options.name).reveal())


def _set(vault: Vault, wanted: Specs, options: argparse.Namespace) -> None:
    spec = _declared(wanted, options.name)
    if spec and spec.kind in HASHES:
        raise VaultError(f"{spec.name}: follows from {spec.of}; set that")
    value = _typed(options.name)
    if not value.strip():
        raise VaultError(f"{options.name}: no value came; type it or send it on stdin")
    vault.set(options.name, value.removesuffix("\n").removesuffix("\r"))
    _saved(vault, "set", [options.name])
    if wanted and not spec:
        print(f"note: the site does not use {options.name}", file=sys.stderr)


def _remove(vault: Vault, _: Specs, options: argparse.Namespace) -> None:
    vault.remove(options.name)
    _saved(vault, "removed", [options.name])


def _check(vault: Vault, wanted: Specs, _: argparse.Namespace) -> None:
    for name in vault.names():
        vault.get(name)
    present = set(vault.names())
    missing = [spec for spec in wanted if spec.name not in present]
    coming = [spec.name for spec in missing if spec.kind != "given"]
    unused = sorted(present - {spec.name for spec in wanted}) if wanted else []
    print(f"{vault.path}: {len(present)} entries, all sound")
    for what, names in {"made by the next deploy": coming, "not used by this site": unused}.items():
        if names:
            print(f"{what}: {', '.join(names)}")
    require_given(vault, wanted)


def _generate(vault: Vault, wanted: Specs, _: argparse.Namespace) -> None:
    _saved(vault, "generated", ensure(vault, wanted))


def _rotate(vault: Vault, wanted: Specs, options: argparse.Namespace) -> None:
    if not wanted:
        raise VaultError("vault: rotation needs the site's inventory; name it with --inventory")
    if not options.all:
        _saved(vault, "rotated", rotate(vault, wanted, options.name))
    else:
        free = [spec.name for spec in wanted if not unrotatable(spec)]
        _saved(vault, "rotated", [each for name in free for each in rotate(vault, wanted, name)])
        for spec in wanted:
            if spec.name not in free and spec.kind not in HASHES:
                print(f"{spec.name}: {unrotatable(spec)}")
    print("the host has the old values until the next deploy: make apply")


def _rekey(vault: Vault, _: Specs, options: argparse.Namespace) -> None:
    if options.passphrase:
        vault.rekey(_new_passphrase())
        print("every value is now under the passphrase; give it in NEXUS_VAULT_PASSPHRASE")
    elif options.key_file:
        vault.rekey(create_key_file(options.key_file))
        print(f"every value is now under {options.key_file}; name it in NEXUS_VAULT_KEY_FILE")
    elif _by_passphrase():
        raise VaultError("rekey: the old key is a passphrase; give a key file or --passphrase")
    else:
        _rekey_in_place(vault, _key_file(options.key_name))


def _rekey_in_place(vault: Vault, file: Path) -> None:
    """The new key reaches the disk before the vault does, and replaces the old one after."""
    pending = _pending(file)
    # Left by a run that was killed before it changed the vault, else `_open` had used it.
    pending.unlink(missing_ok=True)
    vault.rekey(create_key_file(pending))
    pending.replace(file)
    print(f"every value is now under a new key in {file}: keep a copy of it off this machine")


def _import_env(vault: Vault, wanted: Specs, options: argparse.Namespace) -> None:
    mapped = _mapping(options.mapped)
    try:
        values = dotenv.parse(options.file.read_text(encoding="utf-8"))
    except OSError as error:
        raise VaultError(f"{options.file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VaultError(f"{options.file} is not a text in UTF-8") from error
    except dotenv.DotenvError as error:
        raise VaultError(f"{options.file} {error}") from error
    for old in mapped.keys() - values.keys():
        raise VaultError(f"--map {old}: {options.file} has no such name")
    taken = []
    for old, value in values.items():
        new = mapped.get(old, old.lower())
        asked = old in mapped
        reason = "it is empty" if not value else _unfit(_declared(wanted, new), new, asked)
        if not reason and new in vault.names() and not options.replace:
            reason = f"{new} is set already; to replace it: --replace"
        if reason:
            print(f"skipped {old}: {reason}")
            continue
        vault.set(new, value)
        taken.append(new)
        refers = ", with its $ as it stands (Compose would have replaced it)"
        print(f"taken   {old} as {new}{refers if dotenv.refers(value) else ''}")
    _saved(vault, "imported", taken)


def _unfit(spec: SecretSpec | None, name: str, asked: bool) -> str:
    """Why a value of a .env file has no place in the vault under this name; empty if it has."""
    if not NAME.fullmatch(name) or (spec is None and not asked):
        return "the site does not use it; to take it: --map OLD=new"
    if spec and spec.kind not in IMPORTABLE:
        return f"{name} is not given but made"
    return ""


def _mapping(pairs: Iterable[str]) -> dict[str, str]:
    mapped: dict[str, str] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not old or not equals or not NAME.fullmatch(new):
            raise VaultError("--map: is not OLD=new; write e.g. --map CF_TOKEN=cf_dns_api_token")
        if old in mapped or new in mapped.values():
            raise VaultError(f"--map {old}={new}: one of the two stands there twice; give it once")
        mapped[old] = new
    return mapped


def _new_passphrase() -> bytes:
    passphrase = _typed("new passphrase").strip()
    if sys.stdin.isatty() and _typed("again").strip() != passphrase:
        raise VaultError("rekey: the two passphrases differ; nothing was changed")
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise VaultError(f"rekey: a passphrase needs {SHORTEST_PASSPHRASE} characters at least")
    return passphrase.encode()


def _declared(wanted: Specs, name: str) -> SecretSpec | None:
    return next((spec for spec in wanted if spec.name == name), None)


def _by_passphrase() -> bool:
    return not os.environ.get("NEXUS_VAULT_KEY_FILE") and "NEXUS_VAULT_PASSPHRASE" in os.environ


def _typed(what: str) -> str:
    """A value from the hidden prompt, or all of stdin where there is no terminal.

    Raises:
        VaultError: it is not a text; the error shows nothing of it.
    """
    try:
        value = getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.read()
        # A terminal without UTF-8 hands over what it cannot read in a form that nothing stores.
        value.encode()
    except UnicodeError:
        raise VaultError(f"{what}: is not a text in UTF-8; a binary value needs base64") from None
    return value


def _key_file(name: str) -> Path:
    return Path(os.environ.get("NEXUS_VAULT_KEY_FILE") or default_key_file(name))


def _pending(key_file: Path) -> Path:
    return key_file.with_name(f"{key_file.name}.new")


def _saved(vault: Vault, what: str, names: Sequence[str]) -> None:
    if names:
        vault.save()
    print(f"{what}: {', '.join(names) or 'nothing'}")


VERBS: dict[str, Callable[[Vault, Specs, argparse.Namespace], None]] = {
    "list": _list,
    "show": _show,
    "set": _set,
    "remove": _remove,
    "check": _check,
    "generate": _generate,
    "rotate": _rotate,
    "rekey": _rekey,
    "import-env": _import_env,
}

if __name__ == "__main__":
    sys.exit(main())
