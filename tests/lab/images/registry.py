"""The part of the registry HTTP API V2 that pushing needs
(https://distribution.github.io/distribution/spec/api/)."""

from __future__ import annotations

import http.client
import ssl
from pathlib import Path
from urllib.parse import urlencode, urlsplit

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
TIMEOUT_SECONDS = 120


class RegistryError(Exception):
    """The registry refused a request; the message says which."""


class Registry:
    """A connection to one registry; `http://` is for a registry on the loopback only."""

    def __init__(self, address: str, ca_file: Path | None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise RegistryError(f"registry {address!r}: expected https://host:port")
        self.host = parts.netloc
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
            self._connection = http.client.HTTPSConnection(
                parts.netloc, timeout=TIMEOUT_SECONDS, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=TIMEOUT_SECONDS)

    def close(self) -> None:
        self._connection.close()

    def has_manifest(self, name: str, digest: str) -> bool:
        """Whether the image `name` of this digest is there."""
        return self._exists(f"/v2/{name}/manifests/{digest}", {"Accept": MANIFEST_TYPE})

    def push_blob(self, name: str, digest: str, file: Path, other: str | None) -> None:
        """Make a blob part of the repository `name`, from the repository `other` if it has it."""
        if self._exists(f"/v2/{name}/blobs/{digest}"):
            return
        query = urlencode({"mount": digest, "from": other}) if other else ""
        status, headers = self._request("POST", f"/v2/{name}/blobs/uploads/?{query}")
        if status == 201:
            return
        self._expect(status, 202, f"begin an upload to {name}")
        location = urlsplit(headers["Location"])
        query = f"{location.query}&{urlencode({'digest': digest})}".lstrip("&")
        with file.open("rb") as content:
            status, _ = self._request(
                "PUT",
                f"{location.path}?{query}",
                content,
                {
                    "Content-Type": "application/octet-stream",
                    "Content-Length": str(file.stat().st_size),
                },
            )
        self._expect(status, 201, f"upload {digest} to {name}")

    def push_manifest(self, name: str, content: bytes, tag: str) -> None:
        """Publish a manifest whose blobs are all there, under its digest and under `tag`."""
        status, _ = self._request(
            "PUT", f"/v2/{name}/manifests/{tag}", content, {"Content-Type": MANIFEST_TYPE}
        )
        self._expect(status, 201, f"put the manifest of {name}")

    def _exists(self, path: str, headers: dict[str, str] | None = None) -> bool:
        status, _ = self._request("HEAD", path, None, headers)
        if status == 404:
            return False
        self._expect(status, 200, f"look up {path}")
        return True

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, http.client.HTTPMessage]:
        try:
            self._connection.request(method, path, body, headers or {})  # type: ignore[arg-type]
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise RegistryError(f"registry {self.host}: {method} {path}: {error}") from error
        return answer.status, answer.headers

    def _expect(self, status: int, wanted: int, action: str) -> None:
        if status != wanted:
            raise RegistryError(
                f"registry {self.host}: could not {action}: answered {status}, expected {wanted}"
            )
