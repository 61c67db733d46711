"""The applications that find and file media: nobody's wizard, and they know each other."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from roles.core.secret import rotate
from roles.core.vault import Vault
from roles.plan import site_of
from roles.servarr import APPLICATIONS
from roles.stack.catalogue import CATALOGUE
from roles.stack.credentials import specs
from tests.lab.deployment import DOMAIN, PASSPHRASE, Deployment
from tests.lab.network import ATTACKER_NAMESPACE
from tests.lab.test_drift import containers

pytestmark = pytest.mark.lab

API = {a.service: a.api for a in APPLICATIONS}
PORTS = {service.name: service.route.port for service in CATALOGUE if service.route}
SHELVES = {"sonarr": "series", "radarr": "movies", "lidarr": "music"}
# A client whose declaration names the application in its talks_to.
CLIENTS = {"sonarr": "bazarr", "radarr": "seerr", "lidarr": "prowlarr", "prowlarr": "sonarr"}
# The key comes on stdin: an argument would show on the host. It is a line, as Docker does not
# always hand on the end of its input (26.1, busy host). No redirect is followed.
ASK = """
import http.client, json, sys
host, port, path, form = sys.argv[1:]
link = http.client.HTTPConnection(host, int(port), timeout=20)
key = sys.stdin.readline().strip()
headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
headers |= {"X-Api-Key": key} if key else {}
link.request("POST" if form else "GET", path, form or None, headers)
answer = link.getresponse()
text = answer.read().decode()
print(json.dumps([answer.status, answer.getheader("Location") or "", text]))
"""


def ask(
    deployed: Deployment, client: str, server: str, path: str, key: str = "", *, form: str = ""
) -> tuple[int, str, str]:
    """Status, place and text that a server answers inside of a client's container."""
    argv = ["docker", "exec", "-i", f"nexus-{client}-1", "python3", "-c", ASK]
    argv += [server, str(PORTS[server]), path, form]
    found = json.loads(deployed.host.run(argv, stdin=f"{key}\n").stdout)
    return int(found[0]), str(found[1]), str(found[2])


def key_of(deployed: Deployment, service: str) -> str:
    return deployed.secrets()[f"{service}_api_key"].reveal()


def told(deployed: Deployment, service: str, path: str) -> Any:
    """What an application's own API answers to its key, asked by a client that may."""
    found = ask(
        deployed,
        CLIENTS[service],
        service,
        f"/api/{API[service]}/{path}",
        key_of(deployed, service),
    )
    assert found[0] == 200, found
    return json.loads(found[2])


@pytest.mark.parametrize("service", API)
def test_without_login_or_key_nobody_gets_in(deployed: Deployment, service: str) -> None:
    key, status = key_of(deployed, service), f"/api/{API[service]}/system/status"
    for path in ("/", "/initialize.json"):
        answer = ask(deployed, "traefik", service, path)
        assert answer[0] == 302 and answer[1].startswith("/login"), answer
    assert ask(deployed, "traefik", service, status)[0] == 401
    assert ask(deployed, "traefik", service, status, key="0" * 32)[0] == 401
    assert ask(deployed, CLIENTS[service], service, status, key=key)[0] == 200
    wrong = "username=alice&password=wrong"
    assert "loginFailed" in ask(deployed, "traefik", service, "/login", form=wrong)[1]
    log = deployed.host.run(
        f"tail -n 1 /opt/nexus/data/{service}/config/logs/{service}.txt"
    ).stdout.strip()
    stack = deployed.stack()
    addresses = [stack.address("traefik", network) for network in ("media", "downloads")]
    said = [f"|Warn|Auth|Auth-Failure ip {address} username 'alice'" for address in addresses]
    assert log.endswith(tuple(said)), log
    password = deployed.secrets()[f"{service}_password"].reveal()
    right = f"username=alice&password={password}"
    assert ask(deployed, "traefik", service, "/login", form=right)[1] == "/"


def test_bazarr_and_seerr_show_strangers_nothing(deployed: Deployment) -> None:
    key = key_of(deployed, "bazarr")
    assert key not in ask(deployed, "traefik", "bazarr", "/")[2]
    assert ask(deployed, "traefik", "bazarr", "/api/system/status")[0] == 401
    assert ask(deployed, "traefik", "bazarr", "/api/system/status", key)[0] == 200
    assert ask(deployed, "traefik", "seerr", "/")[:2] == (307, "/login")
    settings = "/api/v1/settings/main"
    assert ask(deployed, "traefik", "seerr", settings)[0] == 403
    assert ask(deployed, "traefik", "seerr", settings, key_of(deployed, "seerr"))[0] == 200


def test_they_know_each_other(deployed: Deployment) -> None:
    known = {item["name"] for item in told(deployed, "prowlarr", "applications")}
    assert known == {"Sonarr", "Radarr", "Lidarr"}
    for service, shelf in SHELVES.items():
        folders = [folder["path"] for folder in told(deployed, service, "rootfolder")]
        assert folders == [deployed.site["media"][shelf]]
        clients = {item["name"].lower() for item in told(deployed, service, "downloadclient")}
        present = {s.name for s in deployed.stack().services}
        assert clients == present & {"qbittorrent", "sabnzbd"}
    assert_bazarr_reaches_both(deployed)
    key = key_of(deployed, "seerr")
    for kind in ("sonarr", "radarr"):
        (server,) = json.loads(
            ask(deployed, "traefik", "seerr", f"/api/v1/settings/{kind}", key)[2]
        )
        assert server["apiKey"] == key_of(deployed, kind)
        assert server["activeDirectory"] == deployed.site["media"][SHELVES[kind]]


def assert_bazarr_reaches_both(deployed: Deployment) -> None:
    key = key_of(deployed, "bazarr")
    said = json.loads(ask(deployed, "traefik", "bazarr", "/api/system/status", key)[2])["data"]
    for kind in ("sonarr", "radarr"):
        assert said[f"{kind}_version"] == told(deployed, kind, "system/status")["version"]


def test_a_new_key_replaces_the_old_one_everywhere(deployed: Deployment) -> None:
    old, before = key_of(deployed, "sonarr"), containers(deployed)
    vault = Vault.open(deployed.vault, PASSPHRASE.encode())
    rotate(vault, specs(site_of(deployed.site)), "sonarr_api_key")
    vault.save()
    deployed.apply()
    after = containers(deployed)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"nexus-sonarr-1", "nexus-bazarr-1"}
    assert ask(deployed, "bazarr", "sonarr", "/api/v3/system/status", old)[0] == 401
    # The introduction tries each key that it hands out, and fails where one is refused.
    test_they_know_each_other(deployed)
    assert deployed.apply() == []


def test_one_that_leaves_the_site_leaves_the_others(deployed: Deployment) -> None:
    key, seerr = key_of(deployed, "prowlarr"), key_of(deployed, "seerr")
    try:
        deployed.apply({"services": {**deployed.site["services"], "sonarr": {"enabled": False}}})
        known = ask(deployed, "traefik", "prowlarr", "/api/v1/applications", key)
        assert {item["name"] for item in json.loads(known[2])} == {"Radarr", "Lidarr"}
        found = ask(deployed, "traefik", "seerr", "/api/v1/settings/sonarr", seerr)
        assert found[::2] == (200, "[]")
    finally:
        deployed.apply()
    test_they_know_each_other(deployed)


@pytest.mark.parametrize(
    ("service", "file", "right", "wrong"),
    [
        ("sonarr", "config.xml", "<AuthenticationMethod>Forms<", "<AuthenticationMethod>None<"),
        ("bazarr", "config/config.yaml", "  type: form", "  type: null"),
        ("seerr", "settings.json", '"trustProxy": true', '"trustProxy": false'),
    ],
)
def test_a_changed_entry_comes_back_in_one_run(
    deployed: Deployment, service: str, file: str, right: str, wrong: str
) -> None:
    path = f"/opt/nexus/data/{service}/config/{file}"
    name = f"nexus-{service}-1"
    deployed.host.run(
        f"docker stop {name}; sed -i 's/{right}/{wrong}/' {path}; docker start {name}"
    )
    assert wrong in deployed.host.run(["cat", path]).stdout
    deployed.apply()
    assert right in deployed.host.run(["cat", path]).stdout
    assert deployed.apply() == []
    if service == "sonarr":
        test_without_login_or_key_nobody_gets_in(deployed, service)


@pytest.mark.parametrize(
    "file",
    ["sonarr/config/config.xml", "bazarr/config/config/config.yaml", "seerr/config/settings.json"],
)
def test_settings_that_are_gone_leave_no_open_wizard(deployed: Deployment, file: str) -> None:
    deployed.host.run(["truncate", "-s", "0", f"/opt/nexus/data/{file}"])
    deployed.apply()
    for service in API:
        test_without_login_or_key_nobody_gets_in(deployed, service)
    test_bazarr_and_seerr_show_strangers_nothing(deployed)
    test_they_know_each_other(deployed)
    assert deployed.apply() == []


def test_downloads_are_filed_by_hard_link_and_only_read_by_the_player(
    deployed: Deployment,
) -> None:
    host = deployed.host
    for service in ("sonarr", "radarr", "lidarr", "bazarr", "sabnzbd"):
        inside = ["docker", "exec", f"nexus-{service}-1", "sh", "-c"]
        # A health check may end while it is read.
        read = "grep -hs Umask /proc/[0-9]*/status || true"
        assert "0002" in host.run([*inside, read]).stdout
    made = "umask 002; mkdir /srv/media/downloads/new; echo x > /srv/media/downloads/new/a.mkv"
    host.run(["docker", "exec", "nexus-radarr-1", "sh", "-c", made])
    # Another's file: the kernel asks for write access to it.
    link = "mkdir /srv/media/series/new; ln /srv/media/downloads/new/a.mkv /srv/media/series/new/"
    host.run(["docker", "exec", "nexus-sonarr-1", "sh", "-c", link])
    assert host.run("stat -c '%h %G' /srv/media/series/new/a.mkv").stdout == "2 nexus-media\n"
    player = ["docker", "exec", "nexus-jellyfin-1", "sh", "-c"]
    assert host.run([*player, "cat /media/series/new/a.mkv"]).stdout == "x\n"
    refused = host.run([*player, "echo y > /media/series/new/a.mkv"], check=False)
    assert refused.returncode != 0 and "Read-only" in refused.stderr
    host.run("rm -r /srv/media/series/new /srv/media/downloads/new")


def test_an_app_reaches_an_api_only_where_the_site_says_so(deployed: Deployment) -> None:
    key, path = key_of(deployed, "sonarr"), "/api/v3/system/status"
    assert outside(deployed, path, key) == 302
    try:
        services = {**deployed.site["services"], "sonarr": {"native_api": True}}
        assert deployed.apply({"services": services})
        assert eventually(deployed, path, key, 200)
        assert outside(deployed, path, "0" * 32) == 401
        assert outside(deployed, path, "") == 302
        assert outside(deployed, "/initialize.json", key) == 302
        assert outside(deployed, path.replace("api", "API"), key) == 302
        statuses = [outside(deployed, path, "0" * 32) for _ in range(80)]
        assert 429 in statuses
    finally:
        deployed.apply()
    assert eventually(deployed, path, key, 302)


def eventually(deployed: Deployment, path: str, key: str, wanted: int) -> bool:
    """Traefik reads its routes by itself, a moment after they are there."""
    deadline = time.monotonic() + 20
    while outside(deployed, path, key) != wanted:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def outside(deployed: Deployment, path: str, key: str) -> int:
    """The status that an address of the internet gets from Traefik under Sonarr's name."""
    name = f"sonarr.{DOMAIN}"
    argv = ["ip", "netns", "exec", ATTACKER_NAMESPACE.name, "curl", "-ks", "-o", "/dev/null"]
    argv += ["--resolve", f"{name}:443:{deployed.host.address}", "-w", "%{http_code}"]
    argv += ["-H", "@-", f"https://{name}{path}"]
    header = f"X-Api-Key: {key}\n" if key else ""
    done = subprocess.run(argv, input=header, capture_output=True, text=True, check=True)
    return int(done.stdout)
