"""What makes a tree this one host: name, keys, certificates, resolver."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from tests.lab.keys import ssh_pair
from tests.lab.layout import HostLayout
from tests.lab.network import LAN
from tests.lab.rootfs import OPERATOR

_LOCAL_CAS = Path("/usr/local/share/ca-certificates")
# A local stub resolver (127.0.0.53) cannot be reached from a host; this file has the real ones.
_RESOLVERS = (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf"))
_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


def write(layout: HostLayout, login_key: str, registry: str, registry_ca: Path) -> None:
    """Write the identity into the mounted root, and known_hosts beside it.

    `login_key` is a public key line, `registry` the address:port that `registry_ca` is for.
    """
    root = layout.root
    (root / "etc/hostname").write_text(layout.name + "\n")
    (root / "etc/hosts").write_text(_hosts(layout.name))
    # An empty one means first boot to systemd, which then sets every unit to its preset.
    (root / "etc/machine-id").write_text(uuid.uuid4().hex + "\n")
    _replace(root / "etc/resolv.conf", _resolver())
    _host_key(layout)
    _authorize(root, login_key)
    _trust(root)
    directory = root / "etc/docker/certs.d" / registry
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(registry_ca, directory / "ca.crt")


def _hosts(name: str) -> str:
    return f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n"


def _resolver() -> str:
    file = next(path for path in _RESOLVERS if path.exists())
    return file.read_text()


def _replace(path: Path, text: str) -> None:
    # It may be a link, which an absolute path would lead to the outer machine's own file.
    path.unlink(missing_ok=True)
    path.write_text(text)


def _host_key(layout: HostLayout) -> None:
    private = layout.root / _HOST_KEY
    private.unlink(missing_ok=True)
    public = ssh_pair(private, f"root@{layout.name}")
    kind, key, _comment = public.split(maxsplit=2)
    names = (LAN.address(layout.number), LAN.address6(layout.number), layout.name)
    layout.known_hosts.write_text("".join(f"{name} {kind} {key}\n" for name in names))


def _authorize(root: Path, login_key: str) -> None:
    owners = {"root": root / "root", OPERATOR: root / "home" / OPERATOR}
    for home in owners.values():
        owner = home.stat()
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        file = directory / "authorized_keys"
        # A base may carry keys of its own: the lab's one is added, not put in their place.
        present = file.read_text() if file.exists() else ""
        if login_key not in present:
            file.write_text(present + login_key + "\n")
        file.chmod(0o600)
        for path in (directory, file):
            shutil.chown(path, owner.st_uid, owner.st_gid)


def _trust(root: Path) -> None:
    """Let the host trust the authorities that the outer machine's owner added to its own."""
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    text = bundle.read_text()
    for file in sorted(_LOCAL_CAS.glob("*.crt")):
        added = root / str(_LOCAL_CAS).lstrip("/") / f"lab-{file.name}"
        added.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, added)
        if (certificate := file.read_text().strip()) not in text:
            text += certificate + "\n"
    bundle.write_text(text)
