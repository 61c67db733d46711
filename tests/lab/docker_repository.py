"""A double of Docker's package repository: Debian's engine under the names of Docker's packages.

Names, relations and the masking of removed units are those of Docker's packages
(https://github.com/docker/docker-ce-packaging, https://github.com/docker/containerd-packaging),
the programs are Debian's, the signature is the lab's.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from tests.lab.command import run

SOURCES = ("docker.io", "docker-cli", "containerd", "runc", "docker-compose")
MASK = """
if [ "$1" = remove ] && [ -x /usr/bin/deb-systemd-helper ]; then
    deb-systemd-helper mask {units} >/dev/null || true
fi
"""


@dataclass(frozen=True)
class Double:
    """One package: what Debian's are unpacked into it, and its relations."""

    name: str
    parts: tuple[str, ...]
    relations: str = ""
    units: str = ""


DOUBLES = (
    Double(
        "docker-ce",
        ("docker.io",),
        "Pre-Depends: init-system-helpers (>= 1.54~)\n"
        "Depends: containerd.io, docker-ce-cli, iptables, libc6, libsystemd0, tini\n"
        "Conflicts: docker.io\n",
        units="docker.service docker.socket",
    ),
    Double("docker-ce-cli", ("docker-cli",), "Depends: libc6\nConflicts: docker.io\n"),
    Double(
        "containerd.io",
        ("runc", "containerd"),
        "Depends: libc6, libseccomp2\n"
        "Provides: containerd, runc\nConflicts: containerd, runc\nReplaces: containerd, runc\n",
        units="containerd.service",
    ),
    Double(
        "docker-compose-plugin",
        ("docker-compose",),
        "Depends: libc6\n"
        "Conflicts: docker-compose\nReplaces: docker-compose\nBreaks: docker-compose\n",
    ),
)
# A name of Debian's: the pin must keep it out.
STRANGER = Double("hello", ())


class Repository:
    """A folder to be served, signed anew by each `publish`."""

    def __init__(self, folder: Path, debian: Path, codename: str) -> None:
        self.folder = folder
        self.debian = debian
        self.codename = codename
        self.home = folder / "gnupg"
        self.home.mkdir(mode=0o700, parents=True)
        self._gpg("--quick-gen-key", "Lab double of Docker <lab@example.org>", "rsa3072", "sign")

    @property
    def served(self) -> Path:
        return self.folder / "www"

    @property
    def public_key(self) -> str:
        """Armoured."""
        return self._gpg("--armor", "--export")

    def publish(self, version: str, doubles: Sequence[Double] = (*DOUBLES, STRANGER)) -> None:
        """Add this version of these packages and sign the whole."""
        suite = self.served / "debian/dists" / self.codename
        pool = suite / "pool/stable"
        pool.mkdir(parents=True, exist_ok=True)
        for double in doubles:
            self._build(double, version, pool)
        architecture = run(["dpkg", "--print-architecture"]).stdout.strip()
        index = suite / f"stable/binary-{architecture}/Packages"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.write_text("\n".join(self._entries(pool)))
        release = (
            f"Origin: Docker\nLabel: Docker CE\nSuite: {self.codename}\nDate: {formatdate()}\n"
            f"Architectures: {architecture}\nComponents: stable\nSHA256:\n"
            f" {_sha256(index)} {index.stat().st_size} {index.relative_to(suite)}\n"
        )
        (suite / "Release").write_text(release)
        self._gpg("--yes", "--clearsign", "-o", f"{suite}/InRelease", f"{suite}/Release")

    def _build(self, double: Double, version: str, pool: Path) -> None:
        tree = self.folder / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        for part in double.parts:
            shutil.rmtree(tree / "DEBIAN")
            deb = next(self.debian.glob(f"{part}_*.deb"))
            run(["dpkg-deb", "--raw-extract", str(deb), str(tree)])
        # Docker's package has no script that deletes the data.
        shutil.rmtree(tree / "usr/share/docker.io", ignore_errors=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {double.name}\nVersion: {version}\nArchitecture: all\n{double.relations}"
            f"Maintainer: Lab <lab@example.org>\n"
            f"Description: Lab double of {double.name}, made of Debian's packages\n"
        )
        if double.units:
            with (tree / "DEBIAN/postrm").open("a") as script:
                script.write(MASK.format(units=double.units))
        target = pool / f"{double.name}_{version.rpartition(':')[2]}_all.deb"
        run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(target)])

    def _entries(self, pool: Path) -> Iterator[str]:
        for deb in sorted(pool.glob("*.deb")):
            control = run(["dpkg-deb", "--field", str(deb)]).stdout
            path = deb.relative_to(self.served / "debian")
            size = deb.stat().st_size
            yield f"{control}Filename: {path}\nSize: {size}\nSHA256: {_sha256(deb)}\n"

    def _gpg(self, *options: str) -> str:
        batch = ("--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "")
        return run(["gpg", "--homedir", str(self.home), *batch, *options]).stdout

    def close(self) -> None:
        """End the agent that gpg has started."""
        run(["gpgconf", "--homedir", str(self.home), "--kill", "all"])


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
