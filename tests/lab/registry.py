"""A real image registry with TLS on the router's LAN address (Debian's docker-registry)."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path

from tests.lab.command import LabError
from tests.lab.keys import server_certificate
from tests.lab.network import LAN, ROUTER
from tests.lab.process import Process, spawn

PORT = 5000
ADDRESS = f"{LAN.address(ROUTER)}:{PORT}"
_PROGRAMS = ("docker-registry", "registry")
_START_SECONDS = 15.0


def certificate_authority(cache: Path) -> Path:
    """The file with the certificate that clients of the registry must trust."""
    return _certificates(cache)[0]


def start(cache: Path, state: Path) -> Process:
    """Start it detached, storage in `cache`, and wait until it listens.

    Raises LabError when the program is missing or does not come up.
    """
    program = next((found for name in _PROGRAMS if (found := shutil.which(name))), None)
    if program is None:
        raise LabError("docker-registry is missing: run tests/lab/needs.sh")
    configuration = state / "registry.yml"
    # JSON is YAML as well (YAML 1.2, section 1.3), and needs no quoting rules.
    configuration.write_text(json.dumps(_configuration(cache)))
    log = state / "registry.log"
    process = spawn(
        [program, "serve", str(configuration)], log=log, pid_file=state / "registry.pid"
    )
    _wait(process, log)
    return process


def _certificates(cache: Path) -> tuple[Path, Path, Path]:
    return server_certificate(cache / "registry-tls", LAN.address(ROUTER))


def _configuration(cache: Path) -> dict[str, object]:
    _ca, certificate, key = _certificates(cache)
    storage = cache / "registry"
    storage.mkdir(mode=0o755, exist_ok=True)
    return {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {
            "filesystem": {"rootdirectory": str(storage)},
            "delete": {"enabled": True},
        },
        "http": {
            "addr": ADDRESS,
            "tls": {"certificate": str(certificate), "key": str(key)},
        },
    }


def _wait(process: Process, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection((LAN.address(ROUTER), PORT), 1).close()
        except OSError as error:
            if not process.alive() or time.monotonic() > deadline:
                said = log.read_text()[-2000:]
                raise LabError(f"the registry did not start: {said}") from error
            time.sleep(0.05)
        else:
            return
