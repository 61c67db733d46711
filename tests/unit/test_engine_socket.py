"""A mount that leads to an engine's socket is one, however its path is written."""

from __future__ import annotations

import pytest

from roles.core.engine_socket import holds_engine_socket


@pytest.mark.parametrize(
    ("path", "holds"),
    [
        ("/run/docker.sock", True),
        ("/var/run/docker.sock", True),
        ("/srv/proxy/docker.sock", True),
        ("/run/containerd/containerd.sock", True),
        ("/run/user/1000/podman/podman.sock", True),
        ("/var/run", True),
        ("/run/", True),
        ("/", True),
        ("//", True),
        ("/srv/../run", True),
        ("/run/containerd", True),
        ("/var/run/podman", True),
        ("/run/user", True),
        ("/run/user/1000", True),
        ("/run/user/1000/pulse", False),
        ("/run/udev", False),
        ("/runner", False),
        ("/srv", False),
        ("/etc/docker.socket", False),
        ("${SOCKET}", False),
        ("", False),
    ],
)
def test_a_path_that_leads_to_a_socket_is_one(path: str, holds: bool) -> None:
    assert holds_engine_socket(path) is holds
