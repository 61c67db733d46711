"""The command line: the server, and the administrator's commands that a deploy or a test uses."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlencode

from .authelia_config import Config, ConfigError, config_path, load, process_environment
from .authelia_store import Postgres, StorageError, Totp, new_totp_secret
from .authelia_users import hash_password

KINDS = {"user": "Username", "ip": "IP"}
REASON = "Exceeding Maximum Retries"

Server = Callable[[Config], int]


def run(arguments: Sequence[str], server: Server) -> int:
    """Do what the arguments say; the exit status. Raises ConfigError and StorageError."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] | None = getattr(options, "command", None)
    if command is None:
        return server(_config(options))
    return command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="authelia", description="a lab double of Authelia")
    parser.add_argument("--version", action="version", version="authelia_double v4.39-double")
    parser.add_argument("--config", "-c", action="append")
    words = parser.add_subparsers()

    def leaf(
        parent: argparse._SubParsersAction[argparse.ArgumentParser],
        name: str,
        command: Callable[[argparse.Namespace], int],
    ) -> argparse.ArgumentParser:
        made = parent.add_parser(name)
        made.add_argument("--config", "-c", action="append", default=argparse.SUPPRESS)
        made.set_defaults(command=command)
        return made

    def branch(
        parent: argparse._SubParsersAction[argparse.ArgumentParser], name: str
    ) -> argparse._SubParsersAction[argparse.ArgumentParser]:
        return parent.add_parser(name).add_subparsers(required=True)

    leaf(words, "validate-config", _validate)
    leaf(branch(words, "config"), "validate", _validate)
    crypto = branch(branch(branch(words, "crypto"), "hash"), "generate")
    leaf(crypto, "argon2", _hash).add_argument("--password")
    storage = branch(words, "storage")
    totp = branch(branch(storage, "user"), "totp")
    generate = leaf(totp, "generate", _generate)
    generate.add_argument("user")
    generate.add_argument("--secret", default="")
    generate.add_argument("--force", "-f", action="store_true")
    leaf(totp, "delete", _delete).add_argument("user")
    bans = branch(storage, "bans")
    for kind in ("user", "ip"):
        actions = branch(bans, kind)
        leaf(actions, "list", _list_bans).set_defaults(kind=kind)
        revoke = leaf(actions, "revoke", _revoke)
        revoke.add_argument("value")
        revoke.set_defaults(kind=kind)
    encryption = branch(storage, "encryption")
    leaf(encryption, "check", _check_key)
    leaf(encryption, "change-key", _change_key).add_argument("--new-encryption-key")
    return parser


def _config(options: argparse.Namespace) -> Config:
    environment = process_environment()
    return load(config_path(options.config, environment), environment)


def _storage(options: argparse.Namespace) -> tuple[Config, Postgres]:
    config = _config(options)
    storage = Postgres(config)
    storage.start("cli")
    return config, storage


def _validate(options: argparse.Namespace) -> int:
    try:
        _config(options)
    except ConfigError as error:
        print("Configuration parsed and loaded with errors:\n")
        for message in error.errors:
            print(f"\t - {message}")
        print()
        return 1
    print("Configuration parsed and loaded successfully without errors.\n")
    return 0


def _hash(options: argparse.Namespace) -> int:
    password = options.password or getpass.getpass("Enter Password: ")
    print(f"Digest: {hash_password(password)}")
    return 0


def _generate(options: argparse.Namespace) -> int:
    config, storage = _storage(options)
    if storage.totp(options.user) and not options.force:
        raise StorageError(
            f"{options.user} already has a TOTP configuration, use --force to overwrite"
        )
    totp = Totp(
        options.user,
        str(config.get("totp.issuer", "Authelia")),
        str(config.get("totp.algorithm", "SHA1")).upper(),
        int(config.get("totp.digits", 6)),
        int(config.get("totp.period", 30)),
        options.secret or new_totp_secret(int(config.get("totp.secret_size", 32))),
    )
    storage.save_totp(totp)
    print(
        f"Successfully generated TOTP configuration for user '{options.user}' with URI "
        f"'{otpauth(totp)}'"
    )
    return 0


def otpauth(totp: Totp) -> str:
    """The URI that an authenticator reads."""
    query = urlencode(
        {
            "algorithm": totp.algorithm,
            "digits": totp.digits,
            "issuer": totp.issuer,
            "period": totp.period,
            "secret": totp.secret,
        }
    )
    return f"otpauth://totp/{quote(totp.issuer)}:{quote(totp.username)}?{query}"


def _delete(options: argparse.Namespace) -> int:
    _, storage = _storage(options)
    if not storage.delete_totp(options.user):
        raise StorageError(
            f"failed to delete TOTP configuration for user '{options.user}': no TOTP "
            "configuration for user"
        )
    print(f"Successfully deleted TOTP configuration for user '{options.user}'")
    return 0


def _list_bans(options: argparse.Namespace) -> int:
    _, storage = _storage(options)
    bans = storage.bans(options.kind)
    if not bans:
        print("No results.")
        return 0
    rows = [
        (str(number), value, f"{expires:%Y-%m-%d %H:%M:%S}", "regulation", REASON)
        for number, value, expires in bans
    ]
    _print_table(("ID", KINDS[options.kind], "Expires", "Source", "Reason"), rows)
    return 0


def _revoke(options: argparse.Namespace) -> int:
    """As upstream, a value that nobody banned is no mistake: the table stays empty."""
    _, storage = _storage(options)
    revoked = storage.revoke(options.kind, options.value)
    rows = [(str(number), options.value, "SUCCESS", "N/A") for number in revoked]
    _print_table(("ID", KINDS[options.kind], "Result", "Information"), rows)
    return 0


def _print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(" ".join(cells).rstrip())


def _check_key(options: argparse.Namespace) -> int:
    try:
        _storage(options)
    except StorageError as error:
        if "encryption key" not in str(error):
            raise
        print("Storage Encryption Key Validation: FAILURE\n\n\tCause: " + str(error) + ".")
        return 0
    print("Storage Encryption Key Validation: SUCCESS")
    return 0


def _change_key(options: argparse.Namespace) -> int:
    _, storage = _storage(options)
    key = options.new_encryption_key or getpass.getpass("Enter New Encryption Key: ")
    if len(key) < 20:
        raise StorageError("the new encryption key must be at least 20 characters")
    storage.change_key(key)
    print(
        "Completed the encryption key change. Please adjust your configuration to use the new key."
    )
    return 0
