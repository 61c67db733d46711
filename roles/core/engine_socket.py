"""Which paths of a host are a container engine's socket, or lead to one.

Whoever reaches such a socket is root on the host, or whoever runs the engine; that the mount is
read-only changes nothing (connect(2) needs no write to the file system).
"""

from __future__ import annotations

import posixpath
import re

NAMES = frozenset({"docker.sock", "containerd.sock", "podman.sock", "crio.sock", "dockershim.sock"})
# Where engines put them; a rootless one below /run/user. Where /var/run is no link but a folder,
# /var has it as well.
FOLDERS = frozenset(
    {"/", "/run", "/var", "/run/containerd", "/run/crio", "/run/podman", "/run/user"}
)
OF_A_USER = re.compile(r"/run/user/\d+(/podman)?")


def is_engine_socket(path: str) -> bool:
    """Whether a path is one, wherever it was put."""
    return posixpath.basename(path) in NAMES


def holds_engine_socket(path: str) -> bool:
    """Whether a path of the host is one or a folder above one; /var/run is /run."""
    if not path:
        return False
    # Two slashes at the front are one to Linux, and kept by normpath.
    whole = re.sub("^//+", "/", posixpath.normpath(path))
    whole = re.sub("^/var/run(?=/|$)", "/run", whole)
    return is_engine_socket(whole) or whole in FOLDERS or bool(OF_A_USER.fullmatch(whole))
