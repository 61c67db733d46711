"""Backups by the real restic into two repositories, and services that come back from each."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import http.client
import json
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from roles.command import restore as restore_command
from roles.core.vault import Vault
from tests.lab.deployment import DOMAIN, PASSPHRASE, Deployment, program
from tests.lab.lab import Lab
from tests.lab.repository import PASSWORD, UNIT, USER, Repository

pytestmark = pytest.mark.lab

PROGRAM = "/usr/local/lib/nexus/backup"
LIBRARY = "/opt/nexus/data/jellyfin/library"
DATABASE = "/opt/nexus/data/postgres/database"
SECRETS = "/opt/nexus/secrets/backup"
LOGIN = "rest-server-passw0rd"
CLIENT = 'MediaBrowser Client="lab", Device="lab", DeviceId="lab", Version="1"'
# What a file has besides its content, as the kernel tells it; independent of the program tested.
DESCRIBE = """
import hashlib, json, os, stat, sys
found = {}
for folder, folders, files in (each for top in sys.argv[1:] for each in os.walk(top)):
    for path in (folder, *(os.path.join(folder, each) for each in (*folders, *files))):
        seen = os.lstat(path)
        found[path] = [seen.st_mode, seen.st_uid, seen.st_gid]
        for name in os.listxattr(path, follow_symlinks=False):
            found[path].append([name, os.getxattr(path, name, follow_symlinks=False).hex()])
        if stat.S_ISLNK(seen.st_mode):
            found[path].append(os.readlink(path))
        elif stat.S_ISREG(seen.st_mode):
            content = open(path, "rb").read()
            found[path] += [seen.st_mtime_ns, hashlib.sha256(content).hexdigest()]
print(json.dumps(sorted(found.items())))
"""
ODD_FILES = """
import os, sqlite3, sys
os.chdir(sys.argv[1])
os.makedirs("odd/empty", exist_ok=True)
name = 'odd/a "name" $HOME `x` \\n with a line \\xff'
with open(os.fsencode(name).decode("utf-8", "surrogateescape"), "w") as file:
    file.write("content")
    os.fchmod(file.fileno(), 0o4640)
    os.fchown(file.fileno(), 12345, 54321)
    os.setxattr(file.fileno(), "user.note", b"kept\\0too")
    os.utime(file.fileno(), ns=(1, 981173106123456789))
if not os.path.lexists("odd/link"):
    os.symlink("/nowhere/at all", "odd/link")
database = sqlite3.connect("odd/library.db")
database.execute("CREATE TABLE IF NOT EXISTS film (name TEXT)")
database.execute("INSERT INTO film VALUES ('Metropolis')")
database.commit()
database.close()
"""


@pytest.fixture(scope="module")
def repository(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """The machine elsewhere."""
    host = lab.start_host(lab.free_name("store"))
    store = Repository(host, tmp_path_factory.mktemp("store"), "nexus", LOGIN)
    store.start()
    yield store
    host.destroy()


@pytest.fixture(scope="module")
def server(deployed: Deployment, repository: Repository) -> Iterator[Deployment]:
    """The deployed host, with a second repository."""
    deployed.keep({USER: repository.user, PASSWORD: repository.password})
    deployed.site["backup"] = {"offsite": repository.site(), "least_free": "64m"}
    deployed.apply()
    yield deployed
    del deployed.site["backup"]
    deployed.apply()


@pytest.fixture(scope="module")
def state(server: Deployment) -> dict[str, Any]:
    """What people have put into the services, as the services and the host tell it; backed up."""
    added = jellyfin(server, "POST", "/Library/VirtualFolders?name=Films%20%C3%A9")
    assert added == {}
    server.host.run(["python3", "-c", ODD_FILES, LIBRARY])
    assert back_up(server) == (0, "")
    return observed(server)


def fill(server: Deployment) -> None:
    """Give every service something: SABnzbd, which is real, by its own API; all of them files."""
    said = sabnzbd(server, "set_config", "section=categories", "name=lab", "dir=lab-é")
    assert said["config"]["categories"][0]["name"] == "lab"
    for folder in folders(server):
        server.host.run(["python3", "-c", ODD_FILES, folder])


def folders(server: Deployment) -> list[str]:
    """The folders of data that are backed up as they are, of every service."""
    plan = json.loads(server.host.run(["cat", "/opt/nexus/config/backup/plan.json"]).stdout)
    kept = [s for s in plan["services"] if s["method"] != "postgres" and s["name"] != "host"]
    return [path for service in kept for path in service["paths"]]


def sabnzbd(server: Deployment, mode: str, *words: str) -> Any:
    """What SABnzbd's API answers to who has its key."""
    key = server.secrets()["sabnzbd_api_key"].reveal()
    values = ("output=json", f"mode={mode}", *words)
    fields = " ".join(f"--data-urlencode '{value}'" for value in values)
    # The key goes in by a file: an argument is for everybody to read.
    # One line: Docker does not always hand on the end of its input (26.1, busy host).
    curl = f"head -n 1 | curl -sG -K - {fields} http://127.0.0.1:8080/api"
    asked = ["docker", "exec", "-i", "nexus-sabnzbd-1", "sh", "-c", curl]
    return json.loads(server.host.run(asked, stdin=f'data-urlencode = "apikey={key}"\n').stdout)


def described(server: Deployment) -> dict[str, Any]:
    """Every file of every service's data, but what it keeps no copy of."""
    said = server.host.run(["python3", "-c", DESCRIBE, *folders(server)]).stdout
    return dict(json.loads(said))


def differing(before: dict[str, Any], after: dict[str, Any], since: float) -> list[str]:
    """What is not the same and was written by nobody since then."""

    def written(each: list[Any] | None) -> bool:
        times = [value for value in each or () if isinstance(value, int)]
        return max(times, default=0) > since * 1e9

    return [
        path
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
        and not written(before.get(path))
        and not written(after.get(path))
    ]


def observed(server: Deployment) -> dict[str, Any]:
    """The state of Jellyfin, as it and its files tell it."""
    described = server.host.run(["python3", "-c", DESCRIBE, LIBRARY]).stdout
    return {
        "libraries": jellyfin(server, "GET", "/Library/VirtualFolders"),
        # Its sessions change with every question, its log is not kept.
        "files": [f for f in json.loads(described) if not changing(f[0])],
    }


def database(server: Deployment) -> str:
    """All that is in Authelia's database."""
    dump = "docker exec nexus-postgres-1 pg_dump -U authelia authelia | grep -v restrict"
    return server.host.run(dump).stdout


def changing(path: str) -> bool:
    """What the application itself writes between two looks."""
    return path.startswith((f"{LIBRARY}/log", f"{LIBRARY}/data/double.json"))


def back_up(server: Deployment) -> tuple[int, str]:
    """One run as its timer starts it: its exit status, and what it said of problems."""
    began = time.time()
    argv = ["systemctl", "start", "nexus-backup@run.service"]
    status = server.host.run(argv, check=False, timeout=600).returncode
    return status, journal(server, began)


def journal(server: Deployment, since: float) -> str:
    """The errors of the backup that reached the journal since then."""
    wanted = ("-u", "nexus-backup@run", "-p", "err", "_COMM=backup")
    server.host.run(["journalctl", "--sync"])
    argv = ["journalctl", "--quiet", "--no-pager", "-o", "cat", f"--since=@{since:.3f}", *wanted]
    return server.host.run(argv).stdout


def restore(server: Deployment, service: str, repository: str) -> str:
    """What an operator runs, and what it says."""
    argv = [PROGRAM, "restore", service, "--repository", repository]
    done = server.host.run(argv, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ask(
    server: Deployment, url: str, method: str, body: object, headers: dict[str, str]
) -> tuple[int, bytes, str]:
    """One request through the front door: status, content, cookie."""
    parts = urlsplit(url)
    context = ssl.create_default_context(
        cadata=server.secrets()["tls_ca_certificate"].reveal(),
    )
    connection = http.client.HTTPSConnection(str(parts.hostname), timeout=20, context=context)
    there = (server.host.address, 443)
    connection._create_connection = lambda *_: socket.create_connection(there, 20)  # type: ignore[attr-defined]
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.request(method, path, json.dumps(body), headers)
    answer = connection.getresponse()
    cookie = (answer.headers["Set-Cookie"] or "").split(";")[0]
    return answer.status, answer.read(), cookie


def jellyfin(server: Deployment, method: str, path: str) -> Any:
    """What Jellyfin answers its administrator, who logs in for it."""
    base = f"https://jellyfin.{DOMAIN}"
    password = server.secrets()["jellyfin_admin_password"].reveal()
    headers = {"Content-Type": "application/json", "Authorization": CLIENT}
    login = {"Username": "alice", "Pw": password}
    status, said, _ = ask(server, f"{base}/Users/AuthenticateByName", "POST", login, headers)
    assert status == 200, said
    headers["Authorization"] = f'{CLIENT}, Token="{json.loads(said)["AccessToken"]}"'
    status, said, _ = ask(server, f"{base}{path}", method, {}, headers)
    assert status in (200, 204), said
    return json.loads(said) if said else {}


def second_factor(server: Deployment, secret: str) -> int:
    """The status of a login at the portal with both factors."""
    base, headers = f"https://auth.{DOMAIN}/api", {"Content-Type": "application/json"}
    password = server.secrets()["authelia_admin_password"].reveal()
    first = {"username": "alice", "password": password, "keepMeLoggedIn": False}
    status, said, cookie = ask(server, f"{base}/firstfactor", "POST", first, headers)
    assert status == 200, said
    # A code is taken once: this one is of half a minute in which nobody has logged in yet.
    time.sleep(30 - time.time() % 30)
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    number = struct.unpack_from(">I", digest, digest[-1] & 15)[0] & 0x7FFFFFFF
    token, headers = {"token": f"{number % 10**6:06}"}, {**headers, "Cookie": cookie}
    return ask(server, f"{base}/secondfactor/totp", "POST", token, headers)[0]


@pytest.mark.parametrize("repository_name", ["local", "offsite"])
def test_a_destroyed_service_comes_back_as_it_was(
    server: Deployment, state: dict[str, Any], repository_name: str
) -> None:
    host = server.host
    host.run(f"rm -rf {LIBRARY} && docker restart nexus-jellyfin-1", check=False)
    said = restore(server, "jellyfin", repository_name)
    assert observed(server) == state, said
    print(f"\njellyfin from {repository_name}: {said}")


@pytest.mark.parametrize("repository_name", ["local", "offsite"])
def test_a_destroyed_database_comes_back_as_it_was(
    server: Deployment, repository_name: str
) -> None:
    """The second factor that its owner registered opens the portal again, and none made later."""
    totp = "docker exec nexus-authelia-1 authelia storage user totp generate alice --force"
    uri = server.host.run(totp).stdout.split("'")[-2]
    secret = parse_qs(urlsplit(uri).query)["secret"][0]
    assert back_up(server) == (0, "")
    before = database(server)
    server.host.run(totp)
    server.host.run(f"rm -rf {DATABASE} && docker kill nexus-postgres-1 nexus-authelia-1")
    said = restore(server, "postgres", repository_name)
    assert database(server) == before
    assert second_factor(server, secret) == 200
    print(f"\npostgres from {repository_name}: {said}")


def test_the_second_repository_alone_serves_everything(server: Deployment) -> None:
    """As the drill proves it; what it starts is proven apart in its own tests."""
    argv = [PROGRAM, "drill", "--repository", "offsite"]
    done = server.host.run(argv, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    line = server.host.run(["tail", "-n", "1", "/var/lib/nexus/backup/drills.jsonl"]).stdout
    assert json.loads(line)["repository"] == "offsite"
    print(f"\n{done.stdout.splitlines()[-1]}")


def test_the_old_data_stays_until_it_is_thrown_away(
    server: Deployment, state: dict[str, Any]
) -> None:
    server.host.run(["sh", "-c", f"echo newer > {LIBRARY}/newer"])
    said = restore(server, "jellyfin", "local")
    aside = said.splitlines()[-1].rpartition(" ")[2]
    assert aside.startswith(f"{LIBRARY}.before-")
    assert server.host.run(["cat", f"{aside}/newer"]).stdout == "newer\n"
    server.host.run(f"! test -e {LIBRARY}/newer && rm -r {aside}")
    assert observed(server) == state


def test_a_point_in_time_is_chosen_by_its_date(server: Deployment, state: dict[str, Any]) -> None:
    at = server.host.run(["date", "--iso-8601=seconds"]).stdout.strip()
    server.host.run(f"echo later > {LIBRARY}/later")
    assert back_up(server) == (0, "")
    server.host.run([PROGRAM, "restore", "jellyfin", f"--at={at}"], timeout=300)
    server.host.run(f"! test -e {LIBRARY}/later")
    restore(server, "jellyfin", "local")
    server.host.run(f"test -e {LIBRARY}/later && rm -r {LIBRARY}/later {LIBRARY}.before-*")
    done = server.host.run([PROGRAM, "restore", "jellyfin", "--at=2001-01-01"], check=False)
    assert (done.returncode, "no snapshot of jellyfin" in done.stderr) == (1, True)
    assert back_up(server) == (0, "")


def test_a_snapshot_of_a_broken_database_is_not_put_in_place(
    server: Deployment, state: dict[str, Any]
) -> None:
    broken = f"{LIBRARY}/broken.db"
    server.host.run(f"(printf 'SQLite format 3\\0'; head -c 8k /dev/urandom) > {broken}")
    assert back_up(server) == (0, "")
    before = server.host.run(["stat", "-c", "%i", LIBRARY]).stdout
    done = server.host.run([PROGRAM, "restore", "jellyfin"], check=False)
    assert done.returncode == 1
    assert broken in done.stderr and "damaged" in done.stderr
    assert server.host.run(["stat", "-c", "%i", LIBRARY]).stdout == before
    server.host.run(["rm", broken])
    assert back_up(server) == (0, "")


def caught_while_stopped(server: Deployment, then: str) -> float:
    """Start a backup, act in the moment in which Jellyfin stands still; when that was."""
    began = server.host.run(
        f"head -c 200M /dev/urandom > {LIBRARY}/big\n"
        "systemctl start --no-block nexus-backup@run\n"
        "until docker ps -a --filter name=nexus-jellyfin-1 --filter status=exited -q | grep -q .\n"
        f"do sleep 0.05; done; {then} date +%s.%N",
        timeout=300,
    )
    return float(began.stdout.split()[-1])


def running_since(server: Deployment, container: str, timeout: int = 60) -> None:
    listed = f"docker ps --filter name={container} --filter status=running -q"
    server.host.run(f"until {listed} | grep -q .; do sleep 0.05; done", timeout=timeout)


def test_a_killed_backup_leaves_no_service_stopped(
    server: Deployment, state: dict[str, Any]
) -> None:
    began = time.time()
    kill = "systemctl kill --kill-whom=main --signal=KILL nexus-backup@run;"
    killed = caught_while_stopped(server, kill)
    running_since(server, "nexus-jellyfin-1")
    took = float(server.host.run(["date", "+%s.%N"]).stdout) - killed
    assert took < 10
    # Another unit says so, a moment after the first has ended.
    told = f"journalctl --quiet -t nexus -p err --since=@{began:.3f}"
    failed = "nexus-backup@run.service failed"
    server.host.run(f"until {told} | grep -q '{failed}'; do sleep 0.2; done", timeout=20)
    assert back_up(server) == (0, "")
    restore(server, "jellyfin", "local")
    server.host.run(f"rm -r {LIBRARY}/big {LIBRARY}.before-*")
    assert observed(server) == state
    print(f"\nkilled: Jellyfin ran again after {took:.1f} s")


def test_a_snapshot_of_a_service_that_ran_is_not_kept(
    server: Deployment, state: dict[str, Any]
) -> None:
    """A deploy, or a person, may start what a backup has stopped."""
    assert back_up(server) == (0, "")
    began = time.time()
    caught_while_stopped(server, "docker start nexus-jellyfin-1;")
    waiting = "while systemctl is-active nexus-backup@run | grep -q activating; do sleep 0.2; done"
    server.host.run(f"{waiting}; rm {LIBRARY}/big", timeout=300)
    assert "jellyfin: something started it while it was read" in journal(server, began)
    said = restore(server, "jellyfin", "local")
    server.host.run(f"! test -e {LIBRARY}/big && rm -r {LIBRARY}.before-*")
    assert observed(server) == state, said
    assert back_up(server) == (0, "")


def test_a_power_cut_leaves_no_service_stopped(server: Deployment, state: dict[str, Any]) -> None:
    caught_while_stopped(server, "")
    server.host.power_cut()
    server.host.start()
    running_since(server, "nexus-jellyfin-1")
    server.host.run(f"rm {LIBRARY}/big")
    assert back_up(server) == (0, "")
    server.host.run([PROGRAM, "maintain"], timeout=600)


def test_the_local_backup_does_not_depend_on_the_other(
    server: Deployment, repository: Repository
) -> None:
    before = snapshots(server)["local"]
    repository.host.run(["systemctl", "stop", UNIT])
    try:
        status, said = back_up(server)
    finally:
        repository.host.run(["systemctl", "start", UNIT])
    assert status == 1
    assert said.startswith("offsite: ") and "the local backup does not depend on it" in said
    assert snapshots(server)["local"] > before
    assert back_up(server) == (0, "")
    assert snapshots(server)["local"] == snapshots(server)["offsite"]


def snapshots(server: Deployment) -> dict[str, str]:
    """The newest snapshot of each repository, as the operator's table shows it."""
    rows = map(str.split, server.host.run([PROGRAM, "list"]).stdout.splitlines())
    return {row[0]: row[1] for row in rows if row[:1] in (["local"], ["offsite"])}


@pytest.mark.parametrize("name", ["local", "offsite"])
def test_a_wrong_password_is_named(server: Deployment, name: str) -> None:
    server.host.run(f"echo wrong > {SECRETS}/{name}.password")
    status, said = back_up(server)
    assert status == 1
    assert f"{name}: the repository is not opened by the password in {SECRETS}/{name}" in said
    assert len(server.apply()) == 1
    assert back_up(server) == (0, "")


def test_a_repository_that_is_gone_is_not_made_anew(server: Deployment) -> None:
    """Its disk may not be mounted: a new one on the disk below would be no backup."""
    folder = "/var/backups/nexus/restic"
    server.host.run(f"mv {folder} {folder}.away && mkdir -m 700 {folder}")
    status, said = back_up(server)
    server.host.run(f"rmdir {folder} && mv {folder}.away {folder}")
    assert status == 1
    assert "is its disk mounted?" in said
    assert back_up(server) == (0, "")


def test_a_full_disk_is_told_before_anything_is_written(server: Deployment) -> None:
    plan = "/opt/nexus/config/backup/plan.json"
    server.host.run(f'sed -i \'s/"least_free": [0-9]*/"least_free": {2**60}/\' {plan}')
    before = snapshots(server)
    status, said = back_up(server)
    assert status == 1 and "MiB are free" in said
    assert snapshots(server) == before
    assert len(server.apply()) == 1


def test_who_owns_the_host_cannot_delete_the_second_repository(
    server: Deployment, repository: Repository
) -> None:
    opened = (
        f"RESTIC_REPOSITORY_FILE={SECRETS}/offsite.address "
        f"RESTIC_PASSWORD_FILE={SECRETS}/offsite.password "
        "RESTIC_CACERT=/opt/nexus/config/backup/offsite-ca.pem restic"
    )
    before = repository.host.run("find /srv/restic -type f -path '*snapshots*' | sort").stdout
    assert before
    done = server.host.run(f"{opened} forget --keep-last 1 --group-by '' --prune", check=False)
    assert done.returncode != 0
    after = repository.host.run("find /srv/restic -type f -path '*snapshots*' | sort").stdout
    assert after == before


def test_no_secret_is_seen_outside_of_its_file(server: Deployment) -> None:
    watch = (
        "systemctl start --no-block nexus-backup@run; sleep 1; "
        "while systemctl is-active nexus-backup@run | grep -q activating; do "
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; sleep 0.1; done"
    )
    texts = [server.host.run(watch, timeout=300).stdout]
    assert "restic" in texts[0] and "RESTIC_PASSWORD_FILE" in texts[0]
    for command in (
        "journalctl --no-pager -o export",
        "find /etc/systemd/system/nexus-* -type f -exec cat {} +",
        "systemctl show 'nexus-backup*'",
        "cat /opt/nexus/config/backup/*.json /var/lib/nexus/backup/*.*",
        "cat /usr/local/lib/nexus/backup*",
    ):
        texts.append(server.host.run(command).stdout)
    secrets = server.secrets()
    names = ("backup_local_password", "backup_offsite_password", PASSWORD)
    for number, text in enumerate(texts):
        assert not [name for name in names if secrets[name].reveal() in text], number


def test_the_operator_s_commands_answer(server: Deployment) -> None:
    server.argv()
    command = [str(program("python")), "-m", "roles.command.backup", str(server.inventory)]
    done = server.execute([*command, "list"])
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "newest snapshot" in said and "offsite" in said
    assert done.stdout.startswith("repository ")
    done = server.execute([*command, "restore", "plex"])
    assert done.returncode != 0 and "choose from" in done.stdout
    done = server.execute([*command, "restore", "traefik"])
    assert done.returncode == 0, done.stdout + done.stderr
    server.host.run(["sh", "-c", "rm -r /opt/nexus/data/traefik/acme.before-*"])
    record = json.loads(server.host.run(["cat", "/var/lib/nexus/backup/record.json"]).stdout)
    print(f"\nstood still, in seconds: {record['stopped_seconds']}")


def test_a_bare_host_becomes_the_lost_one(
    server: Deployment, state: dict[str, Any], lab: Lab
) -> None:
    """From the inventory, the vault and the second repository, which is all that is left."""
    began = float(server.host.run(["date", "+%s.%N"]).stdout)
    fill(server)
    files = described(server)
    assert back_up(server) == (0, "")
    before, stored, healthy = observed(server), database(server), server.healthy()
    rebuilt = copy.copy(server)
    rebuilt.host = lab.start_host(lab.free_name("rebuilt"))
    server.argv()
    # An earlier lab's host had this address and another key.
    for pinned in restore_command.FOLDER.glob(f"known_hosts_*_{rebuilt.host.address}"):
        pinned.unlink()
    command = [str(program("python")), "-m", "roles.command.restore", str(server.inventory)]
    server.host.power_cut()
    try:
        done = server.execute([*command, rebuilt.host.address, "--trust-host-key"])
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert observed(rebuilt) == before, said
        # The proof of the host logs in, of which the portal keeps a note; nothing else is new.
        now = set(database(rebuilt).splitlines())
        assert not [row for row in stored.splitlines() if row not in now and "setval(" not in row]
        assert rebuilt.healthy() == healthy
        assert sabnzbd(rebuilt, "get_config", "section=categories", "keyword=lab")
        found = described(rebuilt)
        assert differing(files, found, began) == []
        same = [path for path, each in files.items() if found.get(path) == each]
        odd = [path for path in same if '/odd/a "name"' in path]
    finally:
        rebuilt.host.destroy()
        server.host.start()
        others = [folder for folder in folders(server) if not LIBRARY.startswith(folder)]
        server.host.run(["rm", "-r", *(f"{folder}/odd" for folder in others)])
        deadline = time.monotonic() + 120
        while server.healthy() != healthy and time.monotonic() < deadline:
            time.sleep(1)
    # Mode, owner, time and attributes of a file with an odd name, in each service beside databases.
    assert len(odd) == len(folders(server)) >= 10
    print("\n".join(("", *done.stdout.splitlines()[-8:])))
    print(f"{len(odd)} folders of services, {len(same)} of {len(files)} files as they were")


def test_one_file_comes_back_beside_the_one_in_use(server: Deployment) -> None:
    lost = f"{LIBRARY}/odd/library.db"
    content = server.host.run(["sha256sum", lost]).stdout.split()[0]
    server.host.run(["sh", "-c", f"echo broken > {lost}"])
    argv = [PROGRAM, "restore-file", "jellyfin", lost, "--repository", "offsite"]
    beside = server.host.run(argv, timeout=120).stdout.split()[-1]
    assert server.host.run(["sha256sum", beside]).stdout.split()[0] == content
    assert server.host.run(["cat", lost]).stdout == "broken\n"
    server.host.run(["mv", beside, lost])
    done = server.host.run([*argv[:3], f"{LIBRARY}/none"], check=False)
    assert (done.returncode, "is not in the snapshot" in done.stderr) == (1, True)


def test_nothing_is_left_to_deploy(server: Deployment) -> None:
    assert server.apply() == []
    wanted = {f"nexus-{service.name}-1" for service in server.stack().services}
    assert server.healthy() == wanted


def test_the_encrypted_vault_is_in_the_backup(server: Deployment, tmp_path: Path) -> None:
    """And with its key it opens."""
    opened = (
        f"RESTIC_REPOSITORY_FILE={SECRETS}/local.address "
        f"RESTIC_PASSWORD_FILE={SECRETS}/local.password restic --quiet"
    )
    dump = f"{opened} dump --tag host latest /opt/nexus/config/backup/vault.json"
    copy = tmp_path / "vault.json"
    copy.write_text(server.host.run(dump).stdout)
    assert Vault.open(copy, PASSPHRASE.encode()).names()
