"""The files of a new site: its inventory, and the host's pinned key. Nothing is overwritten."""

from __future__ import annotations

import json
import os
import runpy
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.site.schema import SiteError

WIDTH = 100
# What a mistake in an inventory raises when it is run.
RUNNING = (
    *(AttributeError, ImportError, LookupError, NameError, OSError, SyntaxError),
    *(TypeError, ValueError),
)

HEAD = '''"""The site "{name}": made by `make init`, yours to edit.

Every plan and apply checks it first and names what is wrong. No secret belongs here: those are in
secrets/{name}.vault.json (make vault).
"""

from pathlib import Path

site = {{
'''
# What a site may say as well, and each default.
MORE = {
    "docker": '{"source": "debian"},',
    "updates": '{"automatic": True, "reboot": "04:30"},  # local time; None: never by itself',
    "services": '{"jellyfin": {"enabled": True, "memory": "4g", "cpus": 4.0}},',
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
    """How the operator reaches the host. Without a key file the SSH agent and ~/.ssh are asked."""

    host: str
    user: str = "root"
    port: int = 22
    key: str | None = None


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
    line = f"{head}{_literal(value)},\n"
    if len(line) <= WIDTH + 1 or not isinstance(value, Mapping | list | tuple):
        return line
    if isinstance(value, Mapping):
        inner = [_entry(name, item, indent + 4) for name, item in value.items()]
        return "".join([f"{head}{{\n", *inner, " " * indent, "},\n"])
    inner = [_entry(None, item, indent + 4) for item in value]
    return "".join([f"{head}[\n", *inner, " " * indent, "],\n"])


def _literal(value: Any) -> str:
    """A value as Python source with double quotes."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_literal(key)}: {_literal(item)}" for key, item in value.items())
        return f"{{{inside}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_literal, value))}]"
    # The escapes of JSON are Python's as well, once nothing but quotes and controls is escaped.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def read_inventory(path: Path) -> tuple[Mapping[str, Any], Login]:
    """The site and the login of an inventory that is there already.

    Raises:
        SiteError: it cannot be run, or is not one of `make init`'s form.
    """
    try:
        attributes = runpy.run_path(str(path))
    except RUNNING as error:
        raise SiteError([f"{path}: does not run: {error}; mend it or move it away"]) from error
    try:
        site = dict(attributes["site"])
        host, data = attributes["hosts"][0]
        user, port = str(data.get("ssh_user", "root")), int(data.get("ssh_port", 22))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SiteError(
            [f"{path}: has no site or no hosts as make init writes them; mend it or move it away"]
        ) from error
    return site, Login(str(host), user, port, data.get("ssh_key"))


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
    except FileExistsError as error:
        raise SiteError([f"{path}: is there already; it is never overwritten"]) from error
    except OSError as error:
        raise SiteError([f"{path}: cannot be written: {error.strerror}"]) from error
