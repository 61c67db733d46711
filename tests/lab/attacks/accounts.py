"""From an ordinary account of the host, and from whoever finds the disk with the backups."""

from __future__ import annotations

import json
import re

from tests.lab.attacks.base import Outcome, attack, control, hidden
from tests.lab.attacks.docker_api import secrets_in
from tests.lab.attacks.place import Place

NOBODY = ("runuser", "-u", "nobody", "--")
STANDS = "ordinary account of the host"
# What a credential looks like in a settings file: a name that says so, and a value.
LOOK = r"(password|passwd|api_?key|private_?key|secret|token)[a-z_]*[\"']?\s*[=:>]\s*[^\s<{$/]{8,}"
PLAIN = ("<ApiKey>", "SQLite format 3", "PASSWORD=", "api_key")
BACKUPS = {False: "/srv/nexus/backups", True: "/var/backups/nexus/restic"}


@attack(STANDS, "box 1.8", "blocker 3", "action immediate.2")
def credentials_in_the_project_s_files(place: Place) -> Outcome:
    """Settings that are readable by all give every password to every account."""
    search = ["grep", "-rsniIoE", "-m1", LOOK, place.project]
    owner = place.host.run(search, check=False).stdout
    control(bool(owner), "root itself finds no credential there")
    found = place.host.run([*NOBODY, *search], check=False).stdout.splitlines()
    own = [line for line in found if "/.env:" in line] or found
    if not own:
        return Outcome(False, f"no file readable (root finds {len(owner.splitlines())})")
    path, _, text = own[0].split(":", 2)
    name, _, value = re.split(r"([=:>])", text, maxsplit=1)
    return Outcome(True, f"{path}: {name}={hidden(value.strip())}")


@attack("whoever may run docker inspect", "box 1.8", "blocker 3", "action immediate.2")
def credentials_in_docker_inspect(place: Place) -> Outcome:
    """What Docker stores of a container is shown by every tool that lists containers."""
    shown = place.host.run("docker inspect $(docker ps -q)").stdout
    found = []
    for container in json.loads(shown):
        name = container["Name"].lstrip("/")
        found += [f"{name}: {entry}" for entry in secrets_in(container["Config"]["Env"])]
    if place.deployment is not None:
        known = place.deployment.secrets().items()
        found += [name for name, secret in known if secret.reveal() in shown]
    return Outcome(bool(found), found[0] if found else f"{len(shown)} characters, no secret in it")


@attack("finder of the backup disk", "box 4.9", "action immediate.3")
def backups_on_a_found_disk(place: Place) -> Outcome:
    """A backup is a copy of every key and of the household's life, for whoever reads it."""
    folder = BACKUPS[place.is_hardened]
    if place.is_hardened:
        place.host.run(["systemctl", "start", "nexus-backup@run.service"], timeout=300)
    size = int(place.host.run(["du", "-s", "--block-size=1", folder]).stdout.split()[0])
    control(size > 100_000, f"there is no backup in {folder}")
    words = [word for text in PLAIN for word in ("-e", text)]
    # The same search finds the originals.
    original = ["grep", "-rlsaF", *words, place.config("sonarr")]
    control(bool(place.host.run(original, check=False).stdout), "nothing to look for")
    found = place.host.run(["grep", "-raoshF", *words, folder], check=False).stdout.split("\n")
    if any(found):
        return Outcome(True, f"{folder}: {len(found) - 1} times in clear, first {found[0]!r}")
    env = f"RESTIC_PASSWORD=nexus2025 restic --no-cache --no-lock -r {folder} snapshots"
    said = place.host.run(env, check=False).stderr.strip().splitlines()
    return Outcome(False, f"{size >> 10} KiB, nothing in clear; restic: {said[-1]}")


ATTACKS = (
    credentials_in_the_project_s_files,
    credentials_in_docker_inspect,
    backups_on_a_found_disk,
)
