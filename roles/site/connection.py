"""How an inventory says its hosts are reached: proven before anything connects.

pyinfra ignores a key that it does not know, and shows a traceback for some that are wrong.
https://docs.pyinfra.com/en/3.x/inventory-data.html, https://docs.pyinfra.com/en/3.x/connectors/ssh.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.site.schema import nearest, shown

FORM = 'must be ("address", {"site": site, ...}); compare it with a new inventory of: make init'
TEXTS = ("ssh_user", "ssh_hostname", "ssh_key", "ssh_known_hosts_file", "vault")


@dataclass(frozen=True, slots=True)
class Entry:
    """One host of an inventory: its place in the file, its name, its own and its group's data."""

    place: str
    name: str
    data: Mapping[str, Any]

    @property
    def over_ssh(self) -> bool:
        """Whether pyinfra uses SSH: a name with another connector says so, such as @local."""
        return not self.name.startswith("@") or self.name.startswith("@ssh/")


def entries_of(attributes: Mapping[str, Any]) -> tuple[list[Entry], list[str]]:
    """The hosts of every group, in pyinfra's own forms, and what is no host."""
    entries: list[Entry] = []
    problems: list[str] = []
    for group, value in attributes.items():
        if group.startswith("_") or not isinstance(value, list | tuple):
            continue
        if group == "site":
            # pyinfra would take its parts for names of hosts.
            problems.append(f'site: {shown(value)} must be a dictionary, e.g. {{"name": "home"}}')
            continue
        hosts, shared = _group(value)
        for number, host in enumerate(hosts):
            place = f"{group}[{number}]"
            entry = _entry(place, host, shared)
            if entry is None:
                problems.append(f"{place}: a {type(host).__name__} {FORM}")
            else:
                entries.append(entry)
    if not entries and not problems:
        problems.append('hosts: is missing or empty; write hosts = [("192.168.1.10", {...})]')
    return entries, problems


def no_site(entry: Entry) -> str:
    """What is wrong with a host without a site; pyinfra takes every list for a group of hosts."""
    mend = 'add "site": site to its data'
    if not entry.place.startswith("hosts["):
        mend += ", or begin the name of a list that holds no hosts with _"
    return f"{entry.place}: the host {shown(entry.name)} has no site; {mend}"


def problems_of(entry: Entry, known: Collection[str]) -> Iterator[str]:
    """What is wrong with one host's connection data, one line each: field, value, mend."""
    data = entry.data
    for key in data:
        if str(key).startswith(("ssh_", "_")) and key not in known:
            yield f"{entry.place}.{key}: is not known to pyinfra; {_near(str(key), known)}"
    for key in TEXTS:
        if key in data and not (isinstance(data[key], str) and data[key]):
            yield f"{entry.place}.{key}: {shown(data[key])} must be a text in quotes"
    if entry.over_ssh:
        yield from _ssh(entry.place, data)
        yield from _root(entry.place, data)


def _group(value: Any) -> tuple[Any, Mapping[str, Any]]:
    """pyinfra's two forms of a group: the hosts, or the hosts and data that they share."""
    pair = isinstance(value, tuple) and len(value) == 2
    if pair and isinstance(value[0], list) and isinstance(value[1], Mapping):
        return value[0], value[1]
    return value, {}


def _entry(place: str, host: Any, shared: Mapping[str, Any]) -> Entry | None:
    if isinstance(host, str) and host:
        return Entry(place, host, shared)
    if not (isinstance(host, tuple) and len(host) == 2):
        return None
    name, data = host
    if not (isinstance(name, str) and name and isinstance(data, Mapping)):
        return None
    return Entry(place, name, {**shared, **data})


def _near(key: str, known: Collection[str]) -> str:
    # Hundreds are known: without a near one the list would say nothing.
    hint = nearest(key, known)
    return hint if hint.startswith("did you mean") else "remove it"


def _ssh(place: str, data: Mapping[str, Any]) -> Iterator[str]:
    port = data.get("ssh_port", 22)
    if type(port) is not int or not 1 <= port <= 65535:
        yield (
            f"{place}.ssh_port: {shown(port)} is not a TCP port (1-65535); "
            "write e.g. 22, without quotes"
        )
    key = data.get("ssh_key")
    if isinstance(key, str) and key:
        if key.endswith(".pub"):
            yield (
                f"{place}.ssh_key: {shown(key)} is the public half; "
                f"name the private key {key.removesuffix('.pub')}"
            )
        elif not Path(key).expanduser().is_file():
            yield (
                f"{place}.ssh_key: {shown(key)} is no file; "
                "name your private key, or make one with ssh-keygen -t ed25519"
            )
    pinned = data.get("ssh_known_hosts_file")
    if isinstance(pinned, str) and pinned and not Path(pinned).expanduser().is_file():
        yield (
            f"{place}.ssh_known_hosts_file: {pinned!r} is missing; make init asks the host for its "
            "key and writes it"
        )
    if data.get("ssh_strict_host_key_checking") != "yes":
        yield (
            f"{place}.ssh_strict_host_key_checking: "
            f"{shown(data.get('ssh_strict_host_key_checking'))} accepts a host that nobody has "
            'compared; write "yes"'
        )


def _root(place: str, data: Mapping[str, Any]) -> Iterator[str]:
    user, sudo = data.get("ssh_user"), data.get("_sudo", False)
    if not isinstance(sudo, bool):
        yield f"{place}._sudo: {shown(sudo)} must be True or False, without quotes"
    elif not sudo and user != "root":
        yield (
            f"{place}._sudo: is missing, and {shown(user)} is not root; "
            'add "_sudo": True, or log in as root'
        )
