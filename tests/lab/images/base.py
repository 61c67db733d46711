"""The layers that images share: small Debians with the programs and interpreters they need."""

from __future__ import annotations

import re
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.lab.images.layer import Layer, copy_tree, write_layer
from tests.lab.images.store import Store, recipe_hash

SUITE = "trixie"


@dataclass(frozen=True, slots=True)
class Base:
    """A shared layer. `components` are those of the archive beside main.

    `setuid`: its programs keep that bit, as those of most images do.
    """

    name: str
    packages: tuple[str, ...]
    components: tuple[str, ...] = ()
    setuid: bool = False


COMMON = Base(
    "base",
    (
        "busybox",
        "ca-certificates",
        "catatonit",
        "curl",
        "haproxy",
        "postgresql-17",
        "python3",
        "python3-argon2",
        "python3-cryptography",
        "python3-psycopg",
        "python3-yaml",
        "tzdata",
        "valkey-server",
        "valkey-tools",
        "wget",
    ),
)
# Qt and SABnzbd's libraries are as large as all the rest, so the others do without.
DOWNLOADERS = Base(
    "downloaders",
    (
        "busybox",
        "ca-certificates",
        "catatonit",
        "curl",
        "iproute2",
        "nftables",
        "python3",
        "qbittorrent-nox",
        "sabnzbdplus",
        "tzdata",
        "wget",
        "wireguard-go",
        "wireguard-tools",
    ),
    ("contrib", "non-free"),
)
# Go programs of many megabytes each.
MONITORS = Base(
    "monitors",
    (
        "busybox",
        "ca-certificates",
        "prometheus",
        "prometheus-alertmanager",
        "prometheus-blackbox-exporter",
        "prometheus-node-exporter",
        "python3",
        "python3-systemd",
        "python3-yaml",
        "prometheus-postgres-exporter",
        "prometheus-redis-exporter",
        "tzdata",
        "wget",
    ),
)
# Upstream's numbers, which the documentation of the images promises and Debian's differ from.
ACCOUNTS = {"postgres": (70, 70), "haproxy": (99, 99), "valkey": (999, 1000)}
# Not needed by any image (perl wrappers, the query compiler, package data), or made from the clock.
# What is installed stays written down, as in real images: the scan reads it.
DROPPED = re.compile(
    r"^(boot|home|media|mnt|srv|proc/.+|sys/.+|dev/.+|run/.+|tmp/.+"
    r"|etc/(machine-id|hostname|resolv\.conf|hosts|\.pwd\.lock|apt|dpkg|cron\.d.*|init\.d|rc.\.d"
    r"|passwd-|group-|shadow-|gshadow-|subuid.*|subgid.*|postgresql|postgresql-common|haproxy"
    r"|valkey|systemd|logrotate\.d|pam\.d)"
    r"|etc/ssl/private|etc/ssl/certs/ssl-cert-snakeoil\.pem"
    r"|usr/bin/(perl.*|pg_.*|psql|createdb|dropdb|createuser|dropuser|initdb|vacuumdb|reindexdb"
    r"|clusterdb|pgbench|apt.*|dpkg.*|sqv|gpgv)"
    r"|usr/lib/x86_64-linux-gnu/(libLLVM|libz3|libperl|perl).*|usr/lib/aarch64-linux-gnu/(libLLVM"
    r"|libz3|libperl|perl).*|usr/lib/llvm.*|usr/lib/postgresql/[0-9]+/lib/(bitcode|llvmjit).*"
    r"|usr/(share|lib)/(perl.*|doc|man|info|locale/(?!C).*|i18n|postgresql-common|lintian|bug|zsh"
    r"|bash-completion|systemd|apt|dpkg|valgrind|gcc|initramfs-tools)"
    r"|var/(cache/.+|log/.+|tmp/.+|backups/.*|lib/(apt|dpkg(?!$|/status$)|pam|systemd|postgresql"
    r"|valkey|haproxy|ucf|python).*))(/|$)"
)
# The package scripts would make a cluster and start daemons, which an image must not contain.
PREPARE = (
    'mkdir -p "$1/etc/postgresql-common" "$1/usr/sbin" && '
    'echo "create_main_cluster = false" > "$1/etc/postgresql-common/createcluster.conf" && '
    'printf "#!/bin/sh\\nexit 101\\n" > "$1/usr/sbin/policy-rc.d" && '
    'chmod 755 "$1/usr/sbin/policy-rc.d"'
)


def base_layer(store: Store, base: Base) -> Layer:
    """A shared layer, built with mmdebstrap (as root) if the store has none of this recipe."""
    kept = ("setuid",) if base.setuid else ()
    recipe = recipe_hash(
        *(base.name, 2, SUITE, base.packages, ACCOUNTS, DROPPED.pattern, PREPARE),
        *(*base.components, *kept),
    )
    if found := store.result(recipe):
        return Layer(found["digest"], found["size"], found["diff_id"])
    tree = store.scratch(".tar")
    started = int(time.time())
    _bootstrap(tree, base)
    layer = store.write(
        lambda sink: _pack(tree, sink, started, base.setuid), lambda made: made.digest
    )
    tree.unlink()
    store.remember(
        recipe,
        {
            "blobs": [layer.digest],
            "digest": layer.digest,
            "size": layer.size,
            "diff_id": layer.diff_id,
        },
    )
    return layer


def _bootstrap(tree: Path, base: Base) -> None:
    command = [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        f"--components={','.join(('main', *base.components))}",
        f"--include={','.join(base.packages)}",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        f"--essential-hook={PREPARE}",
        "--format=tar",
        SUITE,
        str(tree),
    ]
    subprocess.run(command, check=True)


def _pack(tree: Path, sink: IO[bytes], started: int, setuid: bool = False) -> Layer:
    # Nothing in a container that drops every capability gains from set-user-id.
    modes = 0o7777 if setuid else 0o1777

    def rewrite(member: tarfile.TarInfo, content: IO[bytes] | None) -> bytes | None:
        member.mode &= modes
        return _rewrite(member, content)

    def fill(archive: tarfile.TarFile) -> None:
        with tarfile.open(tree) as source:
            copy_tree(source, archive, rewrite, lambda name: bool(DROPPED.match(name)), started)

    return write_layer(sink, fill)


def _rewrite(member: tarfile.TarInfo, content: IO[bytes] | None) -> bytes | None:
    editors: dict[str, Callable[[str], str]] = {
        "etc/passwd": _passwd,
        "etc/group": _group,
        "etc/shadow": _no_dates,
    }
    if content is None or member.name not in editors:
        return None
    return editors[member.name](content.read().decode()).encode()


def _passwd(text: str) -> str:
    rows = [line.split(":") for line in text.splitlines()]
    for row in rows:
        if row[0] in ACCOUNTS:
            row[2:4] = [str(number) for number in ACCOUNTS[row[0]]]
    return "".join(":".join(row) + "\n" for row in rows)


def _group(text: str) -> str:
    rows = [line.split(":") for line in text.splitlines()]
    for row in rows:
        if row[0] in ACCOUNTS:
            row[2] = str(ACCOUNTS[row[0]][1])
    return "".join(":".join(row) + "\n" for row in rows)


def _no_dates(text: str) -> str:
    """The day of the last password change is the day of the build."""
    return "".join(f"{line.split(':')[0]}:*:20000:0:99999:7:::\n" for line in text.splitlines())
