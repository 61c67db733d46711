"""In the registry: what a name stands for after somebody else has written to it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from subprocess import CompletedProcess

from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.place import Place

PORT = 5999
UNIT = "lab-changed-registry"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
# The part of the registry's API that pulling needs: one image for whatever is asked for.
REGISTRY = """
import base64, hashlib, http.server, json, sys
port, kind, *blobs = sys.argv[1:]
manifest, *parts = map(base64.b64decode, blobs)
known = {"sha256:" + hashlib.sha256(part).hexdigest(): part for part in parts}
class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        where = self.path.split("/")
        body = manifest if "manifests" in where else known.get(where[-1], b"{}")
        self.send_response(200)
        self.send_header("Content-Type", kind if body is manifest else "application/octet-stream")
        digest = where[-1] if ":" in where[-1] else "sha256:" + hashlib.sha256(body).hexdigest()
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Registry).serve_forever()
"""


def image(file: str) -> list[bytes]:
    """An image with one file in it, which a label names: manifest, configuration, layer."""
    tree = io.BytesIO()
    with tarfile.open(fileobj=tree, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(file), io.BytesIO())
    layer = gzip.compress(tree.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"contains": file}},
            "rootfs": {"type": "layers", "diff_ids": [digest(tree.getvalue())]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": part("application/vnd.docker.container.image.v1+json", config),
        "layers": [part("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
    }
    return [json.dumps(manifest).encode(), config, layer]


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def part(kind: str, content: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(content), "digest": digest(content)}


@attack("the registry's other writers", "box 7.4", "box 1.14")
def an_image_changed_in_the_registry(place: Place) -> Outcome:
    """A tag is whatever its owner, or a thief of his login, has put there since."""
    asked = place.inspect("homepage", "{{.Config.Image}}").rpartition("/")[2]
    # As the host's Compose file names its images: by digest, here of one it does not have yet.
    name = f"homepage@{digest(image('program')[0])}" if "@" in asked else asked
    blobs = [base64.b64encode(blob).decode() for blob in image("backdoor")]
    server = ["systemd-run", "--collect", f"--unit={UNIT}", "python3", "-c", REGISTRY]
    place.host.run([*server, str(PORT), MANIFEST, *blobs])
    try:
        place.host.run(f"until ss -ltn | grep -q 127.0.0.1:{PORT}; do sleep 0.1; done", timeout=20)
        tagged = pulled(place, "control:latest")
        control(tagged.returncode == 0, f"the registry does not serve: {tagged.stderr[-200:]}")
        done = pulled(place, name)
        if done.returncode == 0:
            form = '{{index .Config.Labels "contains"}}'
            shown = ["docker", "image", "inspect", "-f", form, f"127.0.0.1:{PORT}/{name}"]
            said = place.host.run(shown).stdout.strip()
            return Outcome(said == "backdoor", f"pull {name}: taken, with a {said} in it")
        reason = done.stderr.strip().splitlines()[-1]
        control("verification failed" in reason, reason)
        return Outcome(False, f"pull {name[:23]}...: {reason[:40]}")
    finally:
        names = f"127.0.0.1:{PORT}/control:latest 127.0.0.1:{PORT}/{name}"
        place.host.run(f"systemctl stop {UNIT}; docker rmi -f {names}", check=False)


def pulled(place: Place, name: str) -> CompletedProcess[str]:
    return place.host.run(["docker", "pull", "--quiet", f"127.0.0.1:{PORT}/{name}"], check=False)


ATTACKS = (an_image_changed_in_the_registry,)
