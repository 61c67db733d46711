"""A rotated secret: the new value works, the old one is refused, only its readers are restarted."""

from __future__ import annotations

import json
import subprocess

import pytest

from roles.verify.probe import Door
from tests.lab.deployment import DOMAIN, PASSPHRASE, Deployment, program
from tests.lab.test_browser import USER, request
from tests.lab.test_drift import containers

pytestmark = pytest.mark.lab
PORTAL = f"auth.{DOMAIN}"


def rotate(deployed: Deployment, name: str) -> set[str]:
    """Rotate an entry, deploy, and name the services whose containers were made anew."""
    done = vault(deployed, "rotate", name)
    assert done.returncode == 0, done.stderr
    before = containers(deployed)
    assert deployed.apply()
    after = containers(deployed)
    assert deployed.apply() == []
    assert deployed.healthy() == set(after)
    changed = {each for each in before if before[each] != after[each]}
    return {each.removeprefix("nexus-").removesuffix("-1") for each in changed}


def vault(deployed: Deployment, *words: str) -> subprocess.CompletedProcess[str]:
    """The operator's own command, on the site's own vault."""
    deployed.argv()
    argv = [str(program("python")), "-m", "roles.command.vault"]
    files = ["--inventory", str(deployed.inventory), "--vault", str(deployed.vault)]
    return deployed.execute([*argv, *files, *words])


def portal(deployed: Deployment, password: str) -> int:
    body = json.dumps({"username": USER, "password": password, "keepMeLoggedIn": False})
    headers = {"Content-Type": "application/json"}
    return request(deployed, f"https://auth.{DOMAIN}/api/firstfactor", "POST", body, headers)[0]


def player(deployed: Deployment, password: str) -> int:
    client = 'MediaBrowser Client="test", Device="test", DeviceId="rotation", Version="1.0"'
    headers = {"Content-Type": "application/json", "Authorization": client}
    body = json.dumps({"Username": USER, "Pw": password})
    url = f"https://jellyfin.{DOMAIN}/Users/AuthenticateByName"
    return request(deployed, url, "POST", body, headers)[0]


def database(deployed: Deployment, password: str) -> int:
    script = (
        'read -r PGPASSWORD; export PGPASSWORD; psql -h "$(hostname -i)" -U authelia -d authelia '
        "-Atc 'select 1'"
    )
    argv = ["docker", "exec", "-i", "nexus-postgres-1", "sh", "-c", script]
    return deployed.host.run(argv, stdin=f"{password}\n", check=False).returncode


def cache(deployed: Deployment, password: str) -> int:
    script = 'read -r REDISCLI_AUTH; export REDISCLI_AUTH; valkey-cli ping 2>&1 | grep -q "^PONG"'
    argv = ["docker", "exec", "-i", "nexus-valkey-1", "sh", "-c", script]
    return deployed.host.run(argv, stdin=f"{password}\n", check=False).returncode


@pytest.mark.parametrize(
    ("name", "attempt", "readers"),
    [
        ("authelia_admin_password", portal, set()),
        ("jellyfin_admin_password", player, set()),
        ("postgres_password", database, {"postgres", "authelia"}),
        ("valkey_password", cache, {"valkey", "authelia"}),
    ],
)
def test_the_new_value_works_and_the_old_is_refused(
    deployed: Deployment, name: str, attempt: object, readers: set[str]
) -> None:
    assert callable(attempt)
    old = deployed.secrets()[name].reveal()
    accepted = attempt(deployed, old)
    assert rotate(deployed, name) == readers
    new = deployed.secrets()[name].reveal()
    assert new != old
    assert attempt(deployed, new) == accepted
    assert attempt(deployed, old) not in {accepted, 429}


@pytest.mark.parametrize(
    ("name", "readers"),
    [("authelia_admin_password", set()), ("authelia_session_secret", {"authelia"})],
)
def test_open_sessions_end(deployed: Deployment, name: str, readers: set[str]) -> None:
    secrets = deployed.secrets()
    door = Door(deployed.host.address, authority=secrets["tls_ca_certificate"].reveal())
    body = {"username": USER, "password": secrets["authelia_admin_password"].reveal()}
    json_ = {"Content-Type": "application/json"}
    login = door.ask(
        PORTAL, "/api/firstfactor", method="POST", headers=json_, body=json.dumps(body)
    )
    cookie = login.headers["set-cookie"].partition(";")[0]

    def level() -> object:
        state = door.ask(PORTAL, "/api/state", headers={"Cookie": cookie})
        return json.loads(state.body)["data"]["authentication_level"]

    assert level() == 1
    assert rotate(deployed, name) == readers
    assert level() == 0


def test_what_a_new_value_would_destroy_is_kept(deployed: Deployment) -> None:
    done = vault(deployed, "rotate", "authelia_storage_encryption_key")
    assert done.returncode == 1
    assert "is kept: the second factors" in done.stderr
    assert PASSPHRASE not in done.stderr
