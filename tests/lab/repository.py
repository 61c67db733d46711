"""Another machine with a restic repository on it: Debian's REST server, over TLS, append-only."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.host import Host
from tests.lab.keys import server_certificate

PORT = 8000
UNIT = "rest-server"
FOLDER = "/srv/restic"
USER = "offsite_user"
PASSWORD = "offsite_login"


@dataclass
class Repository:
    """The machine, and who may log in to its server; `folder` keeps its certificate."""

    host: Host
    folder: Path
    user: str
    password: str

    def start(self) -> None:
        """Install the server and have it answer."""
        wanted = "env DEBIAN_FRONTEND=noninteractive apt-get -qqy --no-install-recommends install"
        self.host.run(f"apt-get -qq update && {wanted} restic-rest-server restic", timeout=300)
        _, certificate, key = server_certificate(self.folder, self.host.address)
        for file in (certificate, key):
            self.host.run(f"cat > /etc/{file.name}", stdin=file.read_text())
        # A form that the server reads: {SHA} and the digest in base64 (its README).
        digest = base64.b64encode(hashlib.sha1(self.password.encode()).digest()).decode()  # noqa: S324
        self.host.run("cat > /etc/restic.htpasswd", stdin=f"{self.user}:{{SHA}}{digest}\n")
        options = f"--path {FOLDER} --append-only --listen :{PORT} --htpasswd-file"
        tls = f"--tls --tls-cert /etc/{certificate.name} --tls-key /etc/{key.name}"
        unit = (
            f"[Service]\nExecStart=/usr/bin/restic-rest-server {options} /etc/restic.htpasswd {tls}"
        )
        self.host.run(f"cat > /etc/systemd/system/{UNIT}.service", stdin=f"{unit}\n")
        self.host.run(f"systemctl daemon-reload && systemctl start {UNIT}")
        self.host.run(f"until ss -ltn | grep -q :{PORT}; do sleep 0.1; done", timeout=30)

    def site(self, **changes: Any) -> dict[str, Any]:
        """The part of a site that names it as the second repository."""
        return {
            "address": f"rest:https://{self.host.address}:{PORT}/home/",
            "credentials": {"RESTIC_REST_USERNAME": USER, "RESTIC_REST_PASSWORD": PASSWORD},
            "ca_certificate": (self.folder / "ca.crt").read_text(),
            **changes,
        }
