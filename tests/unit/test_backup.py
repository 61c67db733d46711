"""Every service's data is spoken for, the plan says so, and a killed run is undone to the end."""

from __future__ import annotations

import datetime
import http.server
import json
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roles import backup
from roles.command.backup import coloured
from roles.context import Context
from roles.core import libyaml
from roles.core.model import Desired, File
from roles.core.secret import Secret
from roles.stack import catalogue, policy
from roles.stack.service import Backup, Service, Waiver
from roles.stack.stack import COMPOSE_FILE, data_folder
from tests.host_programs import loaded, text_of
from tests.serving import serve

REST = {
    "address": "rest:https://backup.example.org:8000/home/",
    "credentials": {
        "RESTIC_REST_USERNAME": "offsite_user",
        "RESTIC_REST_PASSWORD": "offsite_login",
    },
}
S3 = {
    "address": "s3:https://s3.example.org/bucket/home",
    "credentials": {"AWS_ACCESS_KEY_ID": "s3_id", "AWS_SECRET_ACCESS_KEY": "s3_key"},
}
SFTP = {
    "address": "sftp:nexus@backup.example.org:/srv/restic",
    "credentials": {"SSH_PRIVATE_KEY": "sftp_key"},
    "host_key": "backup.example.org ssh-ed25519 AAAA",
}
DUMP = rb"""COPY public.films (id, "a name") FROM stdin;
1	COPY public.none (id) FROM stdin;
2	\\.
\.

COPY public."odd table" (id) FROM stdin;
\.
INSERT INTO films VALUES (3);
"""


def desired(make_context: Callable[..., Context], **offsite: Any) -> Desired:
    return backup.desired(make_context(backup={"offsite": offsite or None}))


def files(role: Desired) -> dict[str, File]:
    return {file.path: file for file in role.of(File)}


def plan(role: Desired) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(files(role)[backup.PLAN].content)
    return found


@pytest.mark.parametrize("service", catalogue.CATALOGUE, ids=lambda service: service.name)
def test_every_service_speaks_for_its_data(service: Service) -> None:
    assert list(policy._backup(service)) == []
    if service.data:
        silent = replace(service, backup=None)
        assert any("nothing says whether data folder" in text for text in policy._backup(silent))


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (Backup(keep=("library",)), "data folder cache"),
        (Backup(keep=("library", "cache", "extra")), "extra, which is not one"),
        (Backup(keep=("library",), left_out=(Waiver("cache", "big"),)), "needs a reason"),
        (
            Backup(keep=("library", "cache"), exclude=("library/../../x",)),
            "in no folder that is kept",
        ),
    ],
)
def test_a_declaration_that_leaves_something_open_is_refused(declared: Backup, said: str) -> None:
    breaches = list(policy._backup(replace(catalogue.JELLYFIN, backup=declared)))
    assert any(said in text and text.startswith("jellyfin: ") for text in breaches), breaches


def test_the_plan_follows_from_the_declarations(
    make_context: Callable[..., Context], context: Context
) -> None:
    services = {service["name"]: service for service in plan(desired(make_context))["services"]}
    for service in context.stack.services:
        kept = service.backup.keep if service.backup else ()
        found = services.get(service.name, {"paths": []})
        assert found["paths"] == [data_folder(service, name) for name in kept]
    assert services["jellyfin"]["method"] == "stop"
    assert services["postgres"]["users"] == ["nexus-authelia-1"]
    assert services["host"]["paths"] == [
        "/opt/nexus/compose.yml",
        "/opt/nexus/config",
        "/opt/nexus/secrets",
    ]


@pytest.mark.parametrize("offsite", [REST, S3, SFTP], ids=["rest", "s3", "sftp"])
def test_credentials_are_in_files_for_root_alone(
    make_context: Callable[..., Context], offsite: dict[str, Any]
) -> None:
    role = desired(make_context, **offsite)
    names = ("backup_local_password", "backup_offsite_password", *offsite["credentials"].values())
    for name in names:
        holders = [f for f in role.of(File) if f"value-of-{name}".encode() in f.content]
        assert len(holders) == 1, name
        assert (holders[0].mode, holders[0].owner, holders[0].secret) == ("0400", "root", True)
    # The plan names files; every one of them is there.
    second = plan(role)["repositories"]["offsite"]
    words = " ".join([*second["options"], *second["environment"].values()]).replace("=", " ")
    named = {word for word in words.split() if word.startswith("/")}
    assert {second["address"], second["password"], *named} <= set(files(role))


def test_a_login_cannot_break_out_of_its_address(make_context: Callable[..., Context]) -> None:
    context = make_context(backup={"offsite": REST})
    secrets = {**context.secrets, "offsite_login": Secret("p@ss/w:rd%#")}
    role = backup.desired(replace(context, secrets=secrets))
    address = files(role)[f"{backup.OWN_SECRETS}/offsite.address"].content.decode()
    login = "value-of-offsite_user:p%40ss%2Fw%3Ard%25%23"
    assert address == f"rest:https://{login}@backup.example.org:8000/home/\n"


@pytest.fixture
def program(
    make_context: Callable[..., Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> types.ModuleType:
    """The host's program, with folders of the test's and a Docker that only writes down."""
    role = desired(make_context)
    (tmp_path / "plan.json").write_bytes(files(role)[backup.PLAN].content)
    text = files(role)[backup.PROGRAM].content.decode()
    text = text.replace(backup.PLAN, f"{tmp_path}/plan.json").replace(backup.STATE, str(tmp_path))
    text = text.replace(backup.TEXTFILES, str(tmp_path))
    text = text.replace(f'"{backup.PROGRAM}"', f'"{tmp_path}/backup"')
    for path in (backup.RESTORE, backup.REPORT, backup.STORAGE):
        content = files(role)[path].content.decode().replace(backup.SCRUB, "echo")
        (tmp_path / path.rpartition("/")[2]).write_text(content)
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n[ "$1" = ps ] && echo web\n:')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    module = types.ModuleType("backup_program")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile(text, backup.PROGRAM, "exec"), module.__dict__)  # noqa: S102 - the program itself
    return module


def test_rows_are_counted_as_they_stand_in_the_dump(
    program: types.ModuleType, tmp_path: Path
) -> None:
    dump = tmp_path / "dump"
    dump.write_bytes(DUMP)
    assert program.rows_in(dump) == {"public.films": 2, 'public."odd table"': 0}


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_restore_that_was_killed_is_undone(
    program: types.ModuleType, tmp_path: Path, renames: int
) -> None:
    live, new, aside = (tmp_path / name for name in ("live", "new", "aside"))
    live.write_text("old")
    new.write_text("restored")
    program.remember(["web", "gone"], [(str(live), str(new), str(aside))])
    for source, target in ((live, aside), (new, live))[:renames]:
        source.rename(target)
    program.resume()
    assert live.read_text() == "old"
    assert not aside.exists()
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-1] == "start web"
    assert "stop -t 60 web" in asked
    asked_so_far = len(asked)
    program.resume()
    assert len((tmp_path / "asked").read_text().splitlines()) == asked_so_far


def test_what_was_not_proven_does_not_replace_what_was_there(
    program: types.ModuleType, tmp_path: Path
) -> None:
    live, new, aside = (tmp_path / name for name in ("live", "new", "aside"))
    live.write_text("old")
    new.write_text("restored")
    with (
        pytest.raises(program.Problem),
        program.stopped(["web"], ["web"], [(str(live), str(new), str(aside))]),
    ):
        live.rename(aside)
        new.rename(live)
        raise program.Problem("not healthy")
    assert live.read_text() == "old"


def test_the_comparison_sees_content_mode_and_attributes(
    program: types.ModuleType, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    (kept / "cache").mkdir(parents=True)
    (kept / "cache" / "x").write_text("x")
    (kept / "file").write_text("one")
    service = {"method": "stop", "paths": [str(kept)], "exclude": [f"{kept}/cache"]}
    before = program.described(service, {})
    assert set(before) == {str(kept), f"{kept}/file"}
    (kept / "file").chmod(0o600)
    assert program.described(service, before)[f"{kept}/file"] != before[f"{kept}/file"]
    (kept / "file").write_text("two")
    assert (
        program.described(service, before)[f"{kept}/file"]["content"]
        != (before[f"{kept}/file"]["content"])
    )


RESTIC = """#!/bin/sh
shift 2
trap 'echo "cleaning up" >&2; exit 1' TERM
echo "Save(<$1/d06a143830>) failed: write /x: no space left on device" >&2
for round in $(seq $2); do sleep 0.05; done
echo done
"""


@pytest.fixture
def stuck(
    program: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> types.ModuleType:
    """A restic that goes on for a while after it could not write a file of some kind."""
    (tmp_path / "restic").write_text(RESTIC)
    (tmp_path / "restic").chmod(0o755)
    repository = program.PLAN["repositories"]["local"]
    repository["environment"]["PATH"] = f"{tmp_path}:/usr/bin:/bin"
    repository["options"] = []
    monkeypatch.setattr(program, "GRACE", 0.1)
    return program


def test_restic_does_not_wait_for_ever_for_a_write_that_it_gave_up(stuck: types.ModuleType) -> None:
    """And an index that could not be written is none that is damaged."""
    with pytest.raises(stuck.Problem, match="could not write: write /x: no space left on device"):
        stuck.restic("local", "index", "1000")


def test_restic_goes_on_after_a_lock_that_it_could_not_renew(stuck: types.ModuleType) -> None:
    assert stuck.restic("local", "lock", "10") == "done\n"


BUSY = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute(f"PRAGMA journal_mode = {sys.argv[2]}")
database.execute("PRAGMA cache_size = 10")
database.execute("CREATE TABLE film (name TEXT PRIMARY KEY)")
database.executemany("INSERT INTO film VALUES (?)", ((f"{n:032}",) for n in range(10000)))
database.commit()
database.execute("DELETE FROM film WHERE rowid % 2")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_that_was_busy_when_its_service_was_killed_is_sound(
    program: types.ModuleType, tmp_path: Path, mode: str
) -> None:
    """A service that does not end within the time gets a kill, and its journal is backed up too."""
    path = tmp_path / "library.db"
    argv = [sys.executable, "-c", BUSY, str(path), mode]
    assert subprocess.run(argv, check=False).returncode == -signal.SIGKILL
    journal = Path(f"{path}-{'wal' if mode == 'wal' else 'journal'}")
    assert journal.stat().st_size > 0
    before = path.read_bytes()
    assert program.part("restore").unsound(path, tmp_path) == ""
    assert path.read_bytes() == before
    journal.unlink()
    if mode == "delete":
        assert program.part("restore").unsound(path, tmp_path) != ""


@pytest.mark.parametrize(
    "path", [backup.PROGRAM, backup.RESTORE, backup.DRILL, backup.REPORT, backup.STORAGE]
)
def test_the_program_is_valid_for_the_host_s_own_interpreter(
    make_context: Callable[..., Context], path: str
) -> None:
    text = files(desired(make_context))[path].content
    argv = [sys.executable, "-I", "-c", "import ast, sys; ast.parse(sys.stdin.buffer.read())"]
    assert subprocess.run(argv, input=text, check=False).returncode == 0


@pytest.fixture
def drill(
    program: types.ModuleType, make_context: Callable[..., Context], tmp_path: Path
) -> types.ModuleType:
    """The drill's own file, with the program that it works with."""
    return loaded(text_of(desired(make_context), backup.DRILL), backup.DRILL, backup=program)


@pytest.fixture
def stack(context: Context, roles: list[Desired]) -> dict[str, Any]:
    """The services as Compose reads them from the file."""
    found = next(f for role in roles for f in role.of(File) if f.path == COMPOSE_FILE)
    document: dict[str, Any] = libyaml.load(found.content)
    return document


def test_a_drill_starts_what_needs_each_other_together(
    drill: types.ModuleType, stack: dict[str, Any]
) -> None:
    kept = [name for name in drill.backup.SERVICES if name != "host"]
    found = drill.groups(stack, kept)
    assert ["postgres", "valkey", "authelia"] in found
    assert ["jellyfin", "seerr"] in found
    assert sorted(kept) == sorted({n for group in found for n in group} - {"valkey"})
    with pytest.raises(drill.backup.Problem, match=r"elsewhere is not in the restored"):
        drill.groups(stack, ["elsewhere"])


def test_a_drill_is_apart_and_as_hardened(drill: types.ModuleType, stack: dict[str, Any]) -> None:
    for name, declared in stack["services"].items():
        found = drill.isolated(declared, 1 << 30)
        assert "ports" not in found and "network_mode" not in found and "labels" not in found
        assert found["networks"] == {"drill": None}
        assert all(v["source"].startswith(f"{drill.FOLDER}/") for v in found["volumes"]), name
        for key in ("image", "user", "read_only", "cap_drop", "security_opt", "pids_limit"):
            assert found[key] == declared[key]
        assert found["mem_limit"] == min(declared["mem_limit"], 1 << 30)
        assert (found["restart"], found["oom_score_adj"]) == ("no", 1000)
    refused = {name for name, each in stack["services"].items() if not drill.startable(each)}
    assert refused == {"socket-proxy"}


class Answers(http.server.BaseHTTPRequestHandler):
    """An application that wants its key."""

    def do_GET(self) -> None:
        right = self.headers["X-Api-Key"] == "k3y"
        self.send_response(200 if right else 401)
        self.end_headers()
        self.wfile.write(b'{"appName": "Sonarr"}' if right else b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def application() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        serve(server)
        yield server.server_port
        server.shutdown()


def test_a_drill_asks_with_the_key_from_the_backup(
    drill: types.ModuleType, application: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = drill.FOLDER / "opt/nexus/secrets/servarr-setup/sonarr_api_key"
    key.parent.mkdir(parents=True)
    key.write_text("k3y")
    proof = {**drill.backup.SERVICES["sonarr"]["proof"], "port": application}
    monkeypatch.setattr(drill.backup, "command", lambda _: "127.0.0.1\n")
    drill.ask("nexusdrill-sonarr-1", proof)
    key.write_text("another")
    monkeypatch.setattr(drill, "ANSWER", 0)
    with pytest.raises(drill.backup.Problem, match=r"sonarr-1 answers .* without Sonarr: .*401"):
        drill.ask("nexusdrill-sonarr-1", proof)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"rpo": 3600, "rto": 60}, ""),
        ({"rpo": 86401, "rto": 60}, "objectives.rpo is 86400"),
        ({"rpo": 60, "rto": 3601}, "objectives.rto is 3600"),
    ],
)
def test_what_was_measured_is_held_against_the_objectives(
    drill: types.ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, int],
    said: str,
) -> None:
    monkeypatch.setattr(drill, "serve", lambda _: found)
    options = types.SimpleNamespace(repository="local")
    assert drill.drill(options) == (1 if said else 0)
    line = json.loads((tmp_path / "drills.jsonl").read_text())
    assert (line["rpo"], line["rto"]) == (found["rpo"], found["rto"])
    assert said in line["problem"] and bool(line["problem"]) == bool(said)
    metrics = (tmp_path / "backup.prom").read_text()
    assert f'nexus_backup_drill_rpo_seconds{{name="local"}} {found["rpo"]}\n' in metrics
    assert f'nexus_backup_drill_success{{name="local"}} {0 if said else 1}\n' in metrics


def test_a_drill_that_fails_says_so_in_its_history(
    drill: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: str) -> None:
        raise drill.backup.Problem("the disk is gone")

    monkeypatch.setattr(drill, "serve", fails)
    assert drill.drill(types.SimpleNamespace(repository=None)) == 1
    line = json.loads((tmp_path / "drills.jsonl").read_text())
    assert (line["problem"], line["rto"]) == ("the disk is gone", None)


def test_nothing_of_a_killed_drill_stays(program: types.ModuleType, tmp_path: Path) -> None:
    (program.DRILL_FOLDER / "opt").mkdir(parents=True)
    program.clear_drill()
    assert not program.DRILL_FOLDER.exists()
    asked = (tmp_path / "asked").read_text()
    assert "label=com.docker.compose.project=nexusdrill" in asked
    program.clear_drill()
    assert (tmp_path / "asked").read_text() == asked


def test_whatever_fails_reaches_the_operator(make_context: Callable[..., Context]) -> None:
    """Each timer's unit tells of its failure; copies are a part of the run, prune of the check."""
    found = files(backup.desired(make_context()))
    unit = found[f"{backup.UNITS}/nexus-backup@.service"].content.decode()
    assert "\nOnFailure=nexus-failed@%n.service\n" in unit
    assert len(backup.TIMERS) == 4
    for timer in backup.TIMERS:
        text = found[f"{backup.UNITS}/{timer}"].content.decode()
        verb = timer.removeprefix("nexus-backup-").removesuffix(".timer")
        assert f"\nUnit=nexus-backup@{verb}.service\n" in text


def test_a_drill_comes_after_the_night_s_backup(make_context: Callable[..., Context]) -> None:
    found = files(backup.desired(make_context(backup={"time": "22:30"})))
    timer = found[f"{backup.UNITS}/nexus-backup-drill.timer"].content.decode()
    assert "OnCalendar=Wed *-*-* 02:30\n" in timer


def snapshots_of(program: types.ModuleType, age: float) -> list[dict[str, Any]]:
    """What restic lists: an old and a newer snapshot of everything, the newer one of this age."""
    now = datetime.datetime.now(datetime.UTC)
    times = [(now - datetime.timedelta(seconds=old)).isoformat() for old in (10**7, age)]
    return [{"time": each, "tags": [name]} for name in program.SERVICES for each in times]


def test_the_table_says_what_is_overdue(
    program: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = snapshots_of(program, 3 * 3600)
    answers = {"snapshots": lambda: json.dumps(found), "stats": lambda: '{"total_size": 1048576}'}
    monkeypatch.setattr(program, "restic", lambda _, verb, *words, **options: answers[verb]())
    assert program.part("report").show(None) == 0
    lines = capsys.readouterr().out.splitlines()
    line = lines[1]
    assert line.endswith("3 h  unknown  check, drill"), line
    # The word of who reads the media comes last.
    assert lines[-1] == "status"
    for fact in ("checked", "drill"):
        program.record(f"{fact}_timestamp_seconds", "local", time.time())
    program.record("drill_rto_seconds", "local", 150)
    program.part("report").show(None)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.endswith("3 h    2 min  nothing") and "1.00 MiB" in line, line
    program.record("drill_success", "local", 0)
    program.record("drill_rto_seconds", "local", 7200)
    found = snapshots_of(program, 30 * 3600)
    program.part("report").show(None)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.endswith("30 h      2 h  backup, drill failed, RTO"), line
    # Of a service without any snapshot, everything would be lost.
    del found[-2:]
    assert program.part("report").age_of(found) is None


def test_what_is_overdue_is_red() -> None:
    assert coloured("local   2026  1 MiB  5 h  2 min  check, drill failed, RTO").endswith(
        "2 min  \x1b[31mcheck, drill failed, RTO\x1b[0m"
    )
    for line in ("local  5 h  2 min  nothing", "repository  last drill  RTO  overdue"):
        assert coloured(line) == line


@pytest.fixture
def storage(
    program: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> types.ModuleType:
    """What looks at the disks, on a host that has none."""
    text = (tmp_path / "backup-storage").read_text()
    module = loaded(text, backup.STORAGE, backup=program)
    (tmp_path / "block").mkdir()
    (tmp_path / "mounts").write_text("/dev/sda1 / ext4 rw 0 0\n")
    for name in ("MDSTAT", "MOUNTS", "BLOCK"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    monkeypatch.setattr(module.shutil, "which", lambda name: (tmp_path / name).exists() or None)
    return module


def test_what_watches_over_the_disks_is_said_also_where_nothing_does(
    storage: types.ModuleType,
) -> None:
    said = dict(line.split(maxsplit=1) for line in storage.storage())
    assert said["mdadm"].startswith("no array") and said["ZFS"].startswith("no pool")
    assert said["btrfs"].startswith("no such file system")
    assert said["SMART"].startswith("no disk of its own")


MDSTAT = """Personalities : [raid1]
md0 : active raid1 sdb1[1] sda1[0]
      976630464 blocks super 1.2 [2/{working}] [U{second}]

unused devices: <none>
"""


def test_a_disk_that_fails_is_named(
    storage: types.ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answer(name: str, text: str, status: int = 0) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'X'\n{text}\nX\nexit {status}\n")
        (tmp_path / name).chmod(0o755)

    (tmp_path / "mdstat").write_text(MDSTAT.format(working=2, second="U"))
    (tmp_path / "mounts").write_text("/dev/sda1 /srv btrfs rw 0 0\n")
    (tmp_path / "block/sda/device").mkdir(parents=True)
    answer("btrfs", "[/dev/sda1].write_io_errs    0\n[/dev/sda1].corruption_errs 0")
    answer("zpool", "tank\tONLINE")
    answer("smartctl", '{"smart_status": {"passed": true}}')
    assert [line.split(maxsplit=1)[1] for line in storage.storage()] == [
        *("md0: well", "/srv: well", "tank: well", "sda: well")
    ]
    (tmp_path / "mdstat").write_text(MDSTAT.format(working=1, second="_"))
    answer("btrfs", "[/dev/sda1].write_io_errs    0\n[/dev/sda1].corruption_errs 3")
    answer("zpool", "tank\tDEGRADED")
    answer("smartctl", '{"smart_status": {"passed": false}}', 8)
    assert [line.split(maxsplit=1)[1] for line in storage.storage()] == [
        "md0: 1 of 2 disks work",
        "/srv: [/dev/sda1].corruption_errs 3",
        "tank: DEGRADED",
        "sda: fails its own check, or will; replace it",
    ]
    metrics = (tmp_path / "backup.prom").read_text()
    assert 'nexus_backup_storage_ok{name="mdadm md0"} 0\n' in metrics
    report = storage.backup.part("report")
    monkeypatch.setattr(storage.backup, "part", lambda _: storage)
    assert report.look_at_disks(None) == 1
    assert capsys.readouterr().err.splitlines() == [
        "mdadm md0: 1 of 2 disks work",
        "btrfs /srv: [/dev/sda1].corruption_errs 3",
        "ZFS tank: DEGRADED",
        "SMART sda: fails its own check, or will; replace it",
    ]
    answer("smartctl", "{}", 4)
    assert "sda: has no such function" in storage.storage()[-1]
