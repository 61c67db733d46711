"""The monitoring of a deployed host, asked as only the host itself can ask it."""

from __future__ import annotations

import json
from typing import Any

from roles.stack.networks import MONITORING
from tests.lab.deployment import Deployment

ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"


def ask(deployment: Deployment, service: str, port: int, path: str) -> Any:
    """What a service of the monitoring's network answers to its host; JSON as values."""
    address = deployment.stack().address(service, MONITORING)
    said = deployment.host.run(["python3", "-c", ASK, f"http://{address}:{port}{path}"]).stdout
    return json.loads(said) if said.startswith(("{", "[")) else said
