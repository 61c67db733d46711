"""A double of Portainer's one power: whoever has logged in has the whole Docker API.

Contract: https://docs.portainer.io/api/docs (POST /api/auth, then /api/endpoints/1/docker/...).
"""

from __future__ import annotations

import hashlib
import http.client
import json
import secrets
from pathlib import Path

from .http import Handler, Request, Response, SocketConnection, as_json, as_text

SOCKET = "/var/run/docker.sock"
ENDPOINT = "/api/endpoints/1/docker"


def portainer(data: Path = Path("/data")) -> Handler:
    """Its account is in the file that stands for portainer.db: name and SHA-256 of the password."""
    account = json.loads((data / "portainer.json").read_text())
    tokens: set[str] = set()

    def handle(request: Request) -> Response:
        if request.path == "/api/system/status":
            return as_json({"Version": "2.21.0", "InstanceID": "lab"})
        if request.path == "/api/auth" and request.method == "POST":
            return _login(request)
        if not request.path.startswith("/api/"):
            return as_text("<title>Portainer (a lab double)</title>", content_type="text/html")
        if request.header("authorization").removeprefix("Bearer ") not in tokens:
            return as_json({"message": "A valid authorization token is missing"}, 401)
        if request.target.startswith(f"{ENDPOINT}/"):
            return _ask_docker(request)
        return as_json([{"Id": 1, "Name": "local", "URL": f"unix://{SOCKET}"}])

    def _login(request: Request) -> Response:
        given = request.json()
        made = hashlib.sha256(str(given.get("password", "")).encode()).hexdigest()
        if (given.get("username"), made) != (account["username"], account["password"]):
            return as_json({"message": "Invalid credentials"}, 422)
        token = secrets.token_urlsafe(32)
        tokens.add(token)
        return as_json({"jwt": token})

    return handle


def _ask_docker(request: Request) -> Response:
    connection = SocketConnection(SOCKET)
    try:
        connection.request(
            request.method,
            request.target.removeprefix(ENDPOINT),
            request.body or None,
            {"Content-Type": "application/json"} if request.body else {},
        )
        answer = connection.getresponse()
        kind = answer.getheader("Content-Type") or "application/json"
        return Response(answer.status, answer.read(), kind)
    except (OSError, http.client.HTTPException) as error:
        return as_json({"message": f"Docker: {error}"}, 502)
    finally:
        connection.close()
