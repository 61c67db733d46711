"""The files of a new site: its inventory, and the host's pinned key. Nothing is overwritten."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.site.schema import SiteError

WIDTH = 100

HEAD = '''"""The site "{name}": made by `make init`, yours to edit.

Every plan and apply checks it first and names what is wrong. No secret belongs here: those are in
secrets/{name}.vault.json (make vault).
"""

from pathlib import Path

site = {{
'''
# What a site may say as well, and each default.
MORE = {
    "vpn": '{"provider": "mullvad", "addresses": ["10.64.0.2/32"]},  # brings qBittorrent',
    "docker": '{"source": "distribution"},  # or "docker": Docker\'s own packages',
    "updates": '{"automatic": True, "reboot": "04:30"},  # local time; None: never by itself',
    "services": '{"jellyfin": {"enabled": True, "memory": "4g", "cpus": 4.0}},',
    "replaces": '["nexus-old"],  # Compose projects on the host that make room for this',
    "images": '{"traefik": "registry.lan:5000/traefik@sha256:..."},  # a mirror of your own',
}
NOTES = {
    "name": "also the name of the vault",
    "domain": "each service is a host of it, e.g. jellyfin.{domain}",
    "email": "for the certificate authority and for notices",
    "admin": "the first account at the portal and at Jellyfin",
    "lan": "your home's networks, which may use the services",
    "exposure": 'who may reach ports 80 and 443: "lan" or "internet"',
    "ssh": 'who may log in: also "allow_from" (default: lan), "authorized_keys", "options"',
    "media": "folders on the host, read by Jellyfin",
    "tls": '"own-ca", "acme-http" or "acme-dns"',
    "network_prefix": "the containers' networks are cut from it",
}


@dataclass(frozen=True, slots=True)
class Login:
    """How the operator reaches the host. Without a key file the SSH agent and ~/.ssh are asked.

    `known_hosts` is where the host's key is pinned if not in the file that `make init` names.
    """

    host: str
    user: str = "root"
    port: int = 22
    key: str | None = None
    known_hosts: str | None = None


def inventory_text(site: Mapping[str, Any], login: Login) -> str:
    """A pyinfra inventory: readable, formatted, and usable from any folder."""
    lines = [HEAD.format(name=site["name"])]
    for key, value in site.items():
        if key in NOTES:
            lines.append(f"    # {NOTES[key].format(domain=site['domain'])}\n")
        lines.append(_entry(key, value, 4))
    lines.append("    # More that a site may say:\n")
    lines += [f'    # "{key}": {text}\n' for key, text in MORE.items() if key not in site]
    lines.append("}\n\nhosts = [\n    (\n")
    return "".join([*lines, *_connection(site["name"], login), "]\n"])


def _connection(name: str, login: Login) -> list[str]:
    lines = [_entry(None, login.host, 8), "        {\n", '            "site": site,\n']
    lines += [_entry("ssh_user", login.user, 12), _entry("ssh_port", login.port, 12)]
    if login.key:
        lines.append(_entry("ssh_key", login.key, 12))
    lines += [
        "            # Only the key accepted at the start. A new port needs a line of its own.\n",
        _known_hosts(name),
        '            "ssh_strict_host_key_checking": "yes",\n',
        '            "_sudo": True,\n',
        "        },\n    ),\n",
    ]
    return lines


def _known_hosts(name: str) -> str:
    head, indent = '            "ssh_known_hosts_file": str(', " " * 16
    path = f'Path(__file__).resolve().with_name("known_hosts_{name}")'
    line = f"{head}{path}),\n"
    return line if len(line) <= WIDTH + 1 else f"{head}\n{indent}{path}\n{indent[4:]}),\n"


def _entry(key: str | None, value: Any, indent: int) -> str:
    """One entry of a dictionary or list: on one line, or broken up where it is too long."""
    head = " " * indent + (f"{_literal(key)}: " if key is not None else "")
    line = f"{head}{_literal(value)},"
    if len(line) <= WIDTH:
        return f"{line}\n"
    if isinstance(value, Mapping):
        inner = [_entry(name, item, indent + 4) for name, item in value.items()]
        return "".join([f"{head}{{\n", *inner, " " * indent, "},\n"])
    if isinstance(value, list | tuple):
        inner = [_entry(None, item, indent + 4) for item in value]
        return "".join([f"{head}[\n", *inner, " " * indent, "],\n"])
    if key is not None and "\n" in value[:-1]:
        lines = [
            f"{' ' * indent}    {_literal(part)}\n" for part in value.splitlines(keepends=True)
        ]
        return "".join([f"{head}(\n", *lines, " " * indent, "),\n"])
    # One long text cannot be broken up; ruff itself passes over one without blanks, and an address.
    passed = (key is None and " " not in value) or "://" in value
    return f"{line}\n" if passed else f"{line}  # noqa: E501\n"


def _literal(value: Any) -> str:
    """A value as Python source."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if not isinstance(value, str):
        return repr(value)
    # As ruff format does: the quotes that need fewer escapes.
    quote = "'" if value.count('"') > value.count("'") else '"'
    escaped = value.replace("\\", "\\\\").replace(quote, f"\\{quote}")
    return f"{quote}{''.join(map(_visible, escaped))}{quote}"


def _visible(character: str) -> str:
    """What cannot be seen, or would turn the reading order round, stands as its number."""
    if character.isprintable():
        return character
    if character == "\n":
        return "\\n"
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def write_new(path: Path, text: str) -> None:
    """Write a whole file or none; one that is there stays.

    Raises:
        SiteError: it is there already, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        beside = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
            # Unlike a rename, a link never replaces.
            path.hardlink_to(beside)
        finally:
            beside.unlink()
    except OSError as error:
        if path.exists():
            raise SiteError([f"{path}: is there already; it is never overwritten"]) from error
        raise SiteError(
            [f"{path}: cannot be written: {error.strerror}; mend the folder, or choose another"]
        ) from error
