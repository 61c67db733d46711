"""The agent's steps carried out for real, in a temporary folder, as whoever runs the tests."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import pwd
import runpy
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from roles.core import agent, render, transport
from roles.core.model import (
    Absent,
    Check,
    Desired,
    Directory,
    File,
    Guard,
    Link,
    Observed,
    Resource,
)
from roles.core.snapshot import observed, question
from roles.core.state import diff
from tests.unit.engine import Engine

ME, US = str(os.getuid()), str(os.getgid())
ODD_NAMES = ("a b", "-rf", "'\"$x`", "Müsik ☃", "new\nline", "{path}", "%s", "x" * 200)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agent's own folder, out of the system's way."""
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(agent, "STATE", folder)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    return folder


def carry_out(*steps: dict[str, Any], members: Mapping[str, bytes] | None = None) -> None:
    agent.Run({"role": "role", "steps": list(steps)}, dict(members or {})).carry_out()


def observe(desired: Desired) -> Observed:
    return observed(json.loads(json.dumps(agent.observe(question([desired])))))


def converge(desired: Desired) -> list[str]:
    """What one deploy would do to a role here, done; the lines of what was wrong."""
    changes = diff(desired, observe(desired))
    carry_out(*changes.steps, members=changes.members)
    return changes.lines


def role(*resources: Resource, **extra: Any) -> Desired:
    return Desired("role", resources, **extra)


def file(path: Path, content: bytes = b"wanted", mode: str = "0640") -> File:
    return File(str(path), content, mode, ME, US)


def file_step(path: Path, content: bytes = b"wanted", mode: str = "0640") -> None:
    step = {"do": "file", "path": str(path), "member": "0", "mode": mode, "owner": ME, "group": US}
    carry_out(step, members={"0": content})


def program(folder: Path, name: str, script: str) -> None:
    """A stand-in for a program of the host."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def use_programs_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(agent.ENVIRONMENT, "PATH", f"{folder}:{os.environ['PATH']}")


def mode_of(path: Path) -> str:
    return f"{stat.S_IMODE(path.lstat().st_mode):04o}"


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- files, folders, links ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ODD_NAMES)
def test_paths_may_have_odd_names(state: Path, place: Path, name: str) -> None:
    desired = role(
        Directory(str(place / name), "0750", ME, US),
        file(place / name / name),
        Link(str(place / name / "link"), name),
    )
    assert len(converge(desired)) == 3
    assert (place / name / name).read_bytes() == b"wanted"
    assert converge(desired) == []


@pytest.mark.parametrize("mode", ["0400", "0600", "0644", "0755", "4755", "1777"])
def test_a_file_gets_exactly_its_mode(state: Path, place: Path, mode: str) -> None:
    old = os.umask(0o077)
    try:
        file_step(place / "file", mode=mode)
    finally:
        os.umask(old)
    assert mode_of(place / "file") == mode


def test_a_file_may_be_empty_or_any_bytes(state: Path, place: Path) -> None:
    for content in (b"", bytes(range(256)), b"\r\nno end"):
        file_step(place / "file", content)
        assert (place / "file").read_bytes() == content


def test_missing_parents_are_made(state: Path, place: Path) -> None:
    file_step(place / "a" / "b" / "file")
    assert mode_of(place / "a" / "b") == "0755"


def test_a_link_at_the_destination_is_replaced_and_not_followed(state: Path, place: Path) -> None:
    victim = place / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o600)
    (place / "file").symlink_to(victim)
    (place / "folder").symlink_to(place)
    (place / "link").symlink_to(victim)
    desired = role(
        file(place / "file"),
        Directory(str(place / "folder"), "0700", ME, US),
        Link(str(place / "link"), "elsewhere"),
    )
    converge(desired)
    assert victim.read_bytes() == b"precious"
    assert mode_of(victim) == "0600"
    assert not (place / "file").is_symlink()
    assert (place / "folder").is_dir() and not (place / "folder").is_symlink()
    assert str((place / "link").readlink()) == "elsewhere"
    assert converge(desired) == []


def test_nothing_is_written_through_a_link_in_a_folders_place(state: Path, place: Path) -> None:
    elsewhere, folder = place / "elsewhere", place / "folder"
    elsewhere.mkdir(mode=0o755)
    (elsewhere / "same").write_bytes(b"wanted")
    (elsewhere / "same").chmod(0o640)
    folder.symlink_to(elsewhere)
    # In whichever order they are declared, and in one run.
    desired = role(
        *(file(folder / "same"), file(folder / "new"), Absent(str(folder / "gone"))),
        *(Link(str(folder / "link"), "x"), Directory(str(folder), "0755", ME, US, purge=True)),
    )
    converge(desired)
    assert everything_in(elsewhere) == ["same"]
    assert everything_in(folder) == ["link", "new", "same"]
    assert converge(desired) == []


def test_a_link_that_points_nowhere_is_replaced(state: Path, place: Path) -> None:
    for name in ("file", "folder"):
        (place / name).symlink_to(place / "nowhere")
    desired = role(file(place / "file"), Directory(str(place / "folder"), "0700", ME, US))
    converge(desired)
    assert converge(desired) == []
    assert not (place / "nowhere").exists()


def test_a_fifo_in_the_way_is_replaced(state: Path, place: Path) -> None:
    os.mkfifo(place / "file")
    desired = role(file(place / "file"))
    assert converge(desired) == [f"file {place}/file special"]
    assert converge(desired) == []


def test_an_empty_folder_in_the_way_of_a_file_is_removed(state: Path, place: Path) -> None:
    for name in ("file", "link"):
        (place / name).mkdir()
    desired = role(file(place / "file"), Link(str(place / "link"), "target"))
    converge(desired)
    assert converge(desired) == []


def test_a_full_folder_in_the_way_of_a_file_is_never_deleted(state: Path, place: Path) -> None:
    (place / "file").mkdir()
    (place / "file" / "data").write_bytes(b"precious")
    for wanted in (
        file(place / "file"),
        Link(str(place / "file"), "x"),
        Absent(str(place / "file")),
    ):
        with pytest.raises(SystemExit, match=f"{place}/file is a folder in the way; move it"):
            converge(role(wanted))
        assert everything_in(place) == ["file", "file/data"]


def test_an_empty_folder_that_must_not_be_is_removed(state: Path, place: Path) -> None:
    (place / "legacy").mkdir()
    converge(role(Absent(str(place / "legacy"))))
    assert everything_in(place) == []


def test_a_folder_with_something_mounted_in_it_is_never_purged(
    state: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = place / "old data" / "disk"
    disk.mkdir(parents=True)
    (disk / "film").write_bytes(b"precious")
    line = f"36 35 98:0 / {disk} rw,noatime master:1 - ext4 /dev/sdb rw".replace("d d", r"d\040d")
    (state / "mounts").write_text(f"22 1 0:21 / /proc rw - proc proc rw\n{line}\n")
    monkeypatch.setattr(agent, "MOUNTS", state / "mounts")
    desired = role(Directory(str(place), "0755", ME, US, purge=True))
    with pytest.raises(SystemExit, match=r"disk is mounted; unmount it first"):
        converge(desired)
    assert (disk / "film").read_bytes() == b"precious"
    (state / "mounts").write_text(line.replace("data/disk", "data-disk"))
    converge(desired)
    assert everything_in(place) == []


def test_attributes_are_never_set_through_a_link(state: Path, place: Path) -> None:
    victim = place / "victim"
    victim.write_bytes(b"precious")
    victim.chmod(0o600)
    (place / "file").symlink_to(victim)
    step = {"do": "attributes", "path": str(place / "file"), "mode": "0666"}
    with pytest.raises(OSError, match=str(place / "file")):
        carry_out({**step, "owner": ME, "group": US})
    assert mode_of(victim) == "0600"


def test_a_folder_keeps_what_is_in_it(state: Path, place: Path) -> None:
    (place / "folder").mkdir(mode=0o777)
    (place / "folder" / "data").write_bytes(b"precious")
    converge(role(Directory(str(place / "folder"), "0700", ME, US)))
    assert (place / "folder" / "data").read_bytes() == b"precious"
    assert mode_of(place / "folder") == "0700"


def test_wrong_attributes_are_put_right_without_a_new_file(state: Path, place: Path) -> None:
    file_step(place / "file", mode="0666")
    before = (place / "file").stat().st_ino
    assert converge(role(file(place / "file"))) == [f"file {place}/file mode 0666 -> 0640"]
    assert (place / "file").stat().st_ino == before


def test_purging_removes_strays_of_any_kind(state: Path, place: Path) -> None:
    desired = role(Directory(str(place), "0755", ME, US, purge=True), file(place / "kept"))
    converge(desired)
    (place / "folder" / "deep").mkdir(parents=True)
    (place / "link").symlink_to("/etc")
    os.mkfifo(place / "fifo")
    (place / os.fsdecode(b"\xff")).write_bytes(b"")
    assert len(converge(desired)) == 4
    assert everything_in(place) == ["kept"]


def test_a_link_to_a_folder_is_not_purged_through(state: Path, place: Path) -> None:
    (place / "real").mkdir()
    (place / "real" / "data").write_bytes(b"precious")
    (place / "folder").symlink_to("real")
    desired = role(Directory(str(place / "folder"), "0755", ME, US, purge=True))
    assert converge(desired) == [f"directory {place}/folder link"]
    assert converge(desired) == []
    assert everything_in(place) == ["folder", "real", "real/data"]


def test_a_reader_never_sees_half_a_file(state: Path, place: Path) -> None:
    contents = {letter.encode() * 200_000 for letter in "ab"}
    file_step(place / "file", b"a" * 200_000)
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add((place / "file").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(40):
            file_step(place / "file", b"ab"[number % 2 : number % 2 + 1] * 200_000)
    finally:
        done.set()
        reader.join()
    assert seen == contents


def test_what_a_killed_run_left_beside_the_file_is_no_obstacle(state: Path, place: Path) -> None:
    (place / ".file.nexus-new").symlink_to("/etc/passwd")
    file_step(place / "file")
    assert everything_in(place) == ["file"]
    assert not (place / "file").is_symlink()


def test_a_file_that_cannot_be_finished_leaves_nothing_beside_it(state: Path, place: Path) -> None:
    (place / "file").write_bytes(b"old")
    step = {"do": "file", "path": str(place / "file"), "member": "0", "mode": "0600"}
    with pytest.raises(SystemExit, match="no account or group nobody-here"):
        carry_out({**step, "owner": "nobody-here", "group": US}, members={"0": b"new"})
    assert everything_in(place) == ["file"]
    assert (place / "file").read_bytes() == b"old"
    assert everything_in(state) == []


# --- checks, staging, failures --------------------------------------------------------------------


def check(*argv: str, on: tuple[Path, ...]) -> Check:
    return Check(argv, tuple(map(str, on)))


def test_a_check_that_fails_leaves_everything_untouched(
    state: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = place / "app.conf"
    path.write_bytes(b"old")
    script = 'cat "$1"; echo "line 3: no such option"; exit 3'
    argv = ("sh", "-c", script, "sh", f"{{{path}}}")
    desired = role(file(path), file(place / "other"), checks=(check(*argv, on=(path,)),))
    with pytest.raises(SystemExit) as stopped:
        converge(desired)
    assert "FAILED (3): sh -c" in str(stopped.value)
    assert "line 3: no such option" in str(stopped.value)
    assert path.read_bytes() == b"old"
    assert everything_in(place) == ["app.conf"]
    assert everything_in(state) == []


def test_a_check_sees_the_new_file_under_its_own_name_and_the_old_one_in_place(
    state: Path, place: Path
) -> None:
    new, old = place / "new.json", place / "old.json"
    old.write_bytes(b"old")
    old.chmod(0o640)
    script = 'test "$(cat "$1")" = wanted && test "$2" = "$3" && test "${1##*/}" = new.json'
    argv = ("sh", "-c", script, "sh", f"{{{new}}}", f"{{{old}}}", str(old))
    desired = role(file(old, b"old"), file(new), checks=(check(*argv, on=(new, old)),))
    converge(desired)
    assert new.read_bytes() == b"wanted"


def test_staged_files_are_for_nobody_else(state: Path, place: Path) -> None:
    path = place / "secret"
    script = 'test "$(stat -c %a "$(dirname "$1")")" = 700 && test "$(stat -c %a "$2")" = 700'
    argv = ("sh", "-c", script, "sh", f"{{{path}}}", str(state / "staging" / "role"))
    converge(role(file(path), checks=(check(*argv, on=(path,)),)))
    assert everything_in(state) == []


def test_what_a_killed_run_has_staged_is_removed_by_the_next(state: Path, place: Path) -> None:
    for name in ("role", "other"):
        (state / "staging" / name / "0").mkdir(parents=True)
        (state / "staging" / name / "0" / "secret").write_bytes(b"hush")
    file_step(place / "file")
    assert everything_in(state) == []


def test_a_step_that_fails_stops_the_role_there(state: Path, place: Path) -> None:
    steps: list[dict[str, Any]] = [
        {"do": "mark", "names": ["role.reload"]},
        {"do": "run", "argv": ["touch", str(place / "first")]},
        {"do": "run", "argv": ["false"]},
        {"do": "run", "argv": ["touch", str(place / "last")]},
        {"do": "clear", "name": "role.reload"},
    ]
    with pytest.raises(SystemExit, match=r"FAILED \(1\): false"):
        carry_out(*steps)
    assert everything_in(place) == ["first"]
    assert everything_in(state) == ["pending", "pending/role.reload"]
    assert observe(role()).pending == {"role.reload"}


def test_a_step_that_may_fail_does_not_stop_the_role(state: Path, place: Path) -> None:
    carry_out({"do": "try", "argv": ["false"]}, {"do": "run", "argv": ["touch", str(place / "x")]})
    assert everything_in(place) == ["x"]


def test_what_is_owed_is_cleared_when_it_is_done(state: Path) -> None:
    carry_out({"do": "mark", "names": ["role.a", "role.b"]}, {"do": "clear", "name": "role.a"})
    assert observe(role()).pending == {"role.b"}
    carry_out({"do": "clear", "name": "role.never"})


@contextlib.contextmanager
def stdin_of(content: bytes) -> Iterator[None]:
    """This process and what it starts find the content on stdin."""
    before = os.dup(0)
    reader, writer = os.pipe()
    os.write(writer, content)
    os.close(writer)
    os.dup2(reader, 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(reader)


def test_a_command_gets_no_stdin_and_no_environment_of_the_caller(
    state: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_PASSPHRASE", "must-not-travel")
    script = f"env > {place}/env; cat > {place}/stdin"
    with stdin_of(b"what is left of the request"):
        carry_out({"do": "run", "argv": ["sh", "-c", script]})
    assert "must-not-travel" not in (place / "env").read_text()
    assert (place / "stdin").read_bytes() == b""


HELD = "Error: Bind for 0.0.0.0:443 failed: port is already allocated"
# An engine that fails until it is started anew; `docker ps` names who publishes the port.
ENGINE = """case $1 in
ps) printf '%s' '{publishers}';;
compose) test -e {state} || {{ echo '{error}'; exit 1; }};;
esac"""


@pytest.mark.parametrize(
    ("publishers", "error"), [("", HELD), ("0a1b2c", HELD), ("", "no space left on device")]
)
def test_an_engine_that_holds_a_port_of_nobody_is_started_anew(
    place: Path, monkeypatch: pytest.MonkeyPatch, publishers: str, error: str
) -> None:
    restarted, mended = place / "restarted", error == HELD and not publishers
    engine = ENGINE.format(publishers=publishers, state=restarted, error=error)
    program(place, "docker", engine)
    program(place, "systemctl", f"touch {restarted}")
    use_programs_of(place, monkeypatch)
    step = {"do": "compose", "argv": ["docker", "compose", "up"]}
    if mended:
        carry_out(step)
    else:
        with pytest.raises(SystemExit, match=error):
            carry_out(step)
    assert restarted.exists() == mended


def test_progress_says_what_is_done_and_never_what_a_file_holds(
    state: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = {"do": "run", "argv": ["true"], "say": "restarting app"}
    content = {"do": "file", "path": str(place / "f"), "member": "0", "mode": "0600"}
    carry_out({**content, "owner": ME, "group": US}, run, members={"0": b"hush"})
    assert capsys.readouterr().out == "role: restarting app\n"


# --- locks ----------------------------------------------------------------------------------------

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "w")
getattr(fcntl, sys.argv[2])(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(path: Path, how: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds a lock; it lets go when its stdin closes."""
    argv = [sys.executable, "-c", HOLDER, str(path), how]
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        yield holder
    finally:
        holder.communicate()


def test_a_second_deploy_waits_for_the_first(state: Path) -> None:
    entered: list[float] = []

    def deploy() -> None:
        with agent.lock(fcntl.LOCK_EX):
            entered.append(time.monotonic())

    with held(state / "lock", "flock") as holder:
        other = threading.Thread(target=deploy)
        other.start()
        time.sleep(0.3)
        assert entered == []
        holder.communicate()
        other.join()
    assert len(entered) == 1


def test_a_lock_that_is_never_given_up_is_named(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "LOCK_SECONDS", 0)
    message = f"another program has held {state}/lock for 0 s"
    with (
        held(state / "lock", "flock"),
        pytest.raises(SystemExit, match=message),
        agent.lock(fcntl.LOCK_SH),
    ):
        pass


def test_looking_at_a_host_that_nothing_has_touched_leaves_no_trace(
    state: Path,
) -> None:
    state.rmdir()
    with agent.lock(fcntl.LOCK_SH):
        observe(role())
    assert not state.exists()


def test_packages_wait_for_the_hosts_own_updates(
    state: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = place / "log"
    for name in ("dpkg", "apt-get"):
        program(place, name, f'echo "{name} $*" >> {log}')
    use_programs_of(place, monkeypatch)
    locks = (place / "lists", place / "frontend")
    monkeypatch.setattr(agent, "APT_LOCKS", locks)
    step = {"do": "packages", "names": ["ufw"]}
    for path in locks:
        with held(path, "lockf") as holder:
            work = threading.Thread(target=carry_out, args=(step,))
            work.start()
            time.sleep(0.3)
            assert not log.exists()
            holder.communicate()
            work.join()
        lines = log.read_text().splitlines()
        assert lines[0] == "dpkg --force-confdef --force-confold --configure -a"
        assert lines[-1].endswith("install --no-install-recommends --fix-broken ufw")
        log.unlink()


# --- the guard ------------------------------------------------------------------------------------


def test_an_unconfirmed_change_is_observed(state: Path) -> None:
    assert observe(role()).unconfirmed == frozenset()
    for name in ("ssh", ".firewall.new"):
        (state / "guard" / name).mkdir(parents=True)
    assert observe(role()).unconfirmed == {"ssh"}


GUARD = render.TEMPLATES / "base/usr/local/lib/nexus/guard.j2"


def guard(state: Path, *arguments: str) -> int:
    """The guard that the base role installs, with this folder as the system's."""
    program = runpy.run_path(str(GUARD))
    program["main"].__globals__["GUARD"] = state / "guard"
    return int(program["main"](*arguments))


@pytest.fixture
def timers(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The calls of systemd, which has no part in this."""
    programs = place.with_name("programs")
    programs.mkdir()
    for name in ("systemctl", "systemd-run"):
        program(programs, name, f'echo "{name} $*" >> {programs}/log')
    use_programs_of(programs, monkeypatch)
    monkeypatch.setenv("PATH", agent.ENVIRONMENT["PATH"])
    return programs / "log"


def arm(*paths: Path, after: tuple[str, ...] = ("true",)) -> dict[str, Any]:
    commands = {"before": [], "after": [list(after)]}
    return {"do": "arm", "paths": list(map(str, paths)), "seconds": 45, **commands}


def test_a_guard_is_armed_with_a_timer_of_the_host(state: Path, place: Path, timers: Path) -> None:
    carry_out(arm(place / "file"))
    stop, start = timers.read_text().splitlines()
    assert stop == "systemctl stop nexus-guard-role.timer"
    assert start.startswith("systemd-run --quiet --collect --unit=nexus-guard-role --on-active=45")
    assert observe(role()).unconfirmed == {"role"}
    assert mode_of(state / "guard" / "role") == "0700"


def test_a_revert_brings_everything_back(state: Path, place: Path, timers: Path) -> None:
    old, new, folder = place / "old", place / "new", place / "folder"
    file_step(old, b"old", "0600")
    desired = role(file(old), file(new), Directory(str(folder), "0755", ME, US))
    steps = diff(replace(desired, guard=Guard(45)), observe(desired))
    carry_out(*steps.steps, members=steps.members)
    assert old.read_bytes() == b"wanted" and new.exists()
    assert guard(state, "revert", "role") == 1
    assert (old.read_bytes(), mode_of(old)) == (b"old", "0600")
    assert not new.exists()
    assert observe(role()).unconfirmed == frozenset()


def test_a_revert_runs_its_last_commands(state: Path, place: Path, timers: Path) -> None:
    carry_out(arm(place / "file", after=("touch", str(place / "reloaded"))))
    guard(state, "revert", "role")
    assert everything_in(place) == ["reloaded"]


def test_what_is_kept_is_never_brought_back(state: Path, place: Path, timers: Path) -> None:
    carry_out(arm(place / "file"))
    file_step(place / "file")
    assert guard(state, "keep", "role") == 0
    assert guard(state, "revert", "role") == 1
    assert (place / "file").exists()


def test_a_revert_goes_back_to_the_last_confirmed_state(
    state: Path, place: Path, timers: Path
) -> None:
    one, two = place / "one", place / "two"
    one.write_bytes(b"confirmed one")
    carry_out(arm(one))
    one.write_bytes(b"unconfirmed")
    two.write_bytes(b"confirmed two")
    carry_out(arm(one, two))
    two.write_bytes(b"unconfirmed")
    guard(state, "revert", "role")
    assert (one.read_bytes(), two.read_bytes()) == (b"confirmed one", b"confirmed two")


# --- what programs of the host say ----------------------------------------------------------------


def container(name: str, project: str = "nexus", service: str = "db") -> dict[str, Any]:
    """What the engine says of a container, as far as it is read."""
    compose = "com.docker.compose"
    labels = {f"{compose}.project": project, f"{compose}.service": service}
    return {
        "Id": name,
        "Name": f"/{name}",
        "Config": {"Labels": {**labels, f"{compose}.config-hash": "h"} if project else None},
        "State": {"Status": "running", "Health": None},
        "HostConfig": {
            **{"Memory": 1, "NanoCpus": 2, "PidsLimit": None},
            "RestartPolicy": {"Name": "always"},
        },
        "NetworkSettings": {"Networks": {"nx-data": {}, "nx-a": {}}},
    }


def runs(engine: Engine, *containers: dict[str, Any]) -> None:
    """Let an engine have these containers, the first of which goes away once it is listed."""
    listed = [
        {"Id": each["Id"], "Names": [each["Name"]], "Labels": each["Config"]["Labels"]}
        for each in (container("nexus-gone-1"), *containers)
    ]
    engine.answers["/containers/json?all=1"] = listed
    engine.answers |= {f"/containers/{each['Id']}/json": each for each in containers}


def compose_says(place: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let this be the host's Compose, where Docker would find it second."""
    program(place, "docker-compose", script)
    monkeypatch.setattr(agent, "PLUGINS", (str(place / "none"), str(place)))


def test_a_container_is_the_services_own_only_by_label_and_name(
    place: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    runs(
        engine,
        container("nexus-db-1"),
        container("nexus-shadow", project=""),
        container("0a1b2c_nexus-db-1"),
        container("nexus-db-run-0a1b2c"),
        container("other-db-1", project="other"),
        container("bare", project=""),
        container("nexus-old-db-1", project="nexus-old"),
    )
    wanted = "-p nexus -f /opt/compose.yml config --hash *"
    compose_says(place, monkeypatch, f'[ "$*" = "{wanted}" ] && echo "db h"')
    seen = agent.observe_stack("nexus", "/opt/compose.yml")()
    assert seen["hashes"] == {"db": "h"}
    assert seen["strays"] == ["nexus-shadow", "0a1b2c_nexus-db-1", "nexus-db-run-0a1b2c"]
    assert {name: c["name"] for name, c in seen["containers"].items()} == {"db": "nexus-db-1"}
    found = seen["containers"]["db"]
    assert (found["hash"], found["state"], found["health"]) == ("h", "running", "")
    assert (found["memory"], found["cpus"], found["pids"]) == (1, 2, 0)
    assert found["networks"] == ["nx-a", "nx-data"]


@pytest.mark.parametrize(
    ("mode", "pids", "expected"),
    [
        ("nx-data", ("1", "2"), ""),
        # A network is the same when the kernel says so, not when the names fit.
        ("container:host", ("self", "self"), "db"),
        ("container:host", ("self", "none"), "nobody"),
        ("container:host", ("none", "none"), "nobody"),
        ("container:gone", ("self", "self"), "nobody"),
    ],
)
def test_whose_network_a_container_shares_is_read_from_the_kernel(
    mode: str, pids: tuple[str, str], expected: str
) -> None:
    owner, guest = container("nexus-db-1"), container("nexus-guest-1", service="guest")
    for each, identity, pid in zip((owner, guest), ("host", "guest"), pids, strict=True):
        each["Id"], each["State"]["Pid"] = identity, pid
    guest["HostConfig"]["NetworkMode"] = mode
    assert agent.lives_behind(guest, [owner, guest]) == expected


@pytest.mark.parametrize("script", ["exit 1", "exec /nonexistent"])
def test_where_docker_does_not_work_nothing_runs(
    place: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(agent, "DOCKER", str(place / "no.sock"))
    monkeypatch.setattr(agent, "PLUGINS", ())
    program(place, "docker", f"echo nonsense; {script}")
    use_programs_of(place, monkeypatch)
    assert agent.observe_stack("nexus", "/f")() == {"hashes": {}, "containers": {}, "strays": []}
    assert agent.observe_networks(["nx-edge"]) == {}


def test_compose_is_asked_through_docker_where_it_lies_elsewhere(
    place: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(agent, "PLUGINS", (str(place / "none"),))
    program(place, "docker", '[ "$1 $2" = "compose -p" ] && echo "db h"')
    use_programs_of(place, monkeypatch)
    assert agent.observe_stack("nexus", "/f")()["hashes"] == {"db": "h"}


def test_a_program_that_hangs_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    compose_says(place, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(agent, "ANSWER_SECONDS", 0.2)
    with pytest.raises(SystemExit, match=r"docker-compose -p nexus .* gave no answer in 0\.2 s"):
        agent.observe_stack("nexus", "/f")()


def test_an_engine_that_hangs_is_not_one_that_has_nothing(
    monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    monkeypatch.setattr(agent, "ANSWER_SECONDS", 0.2)
    engine.answers["/networks"] = None
    with pytest.raises(SystemExit, match=r"the Docker API \(/networks\) gave no answer in 0\.2 s"):
        agent.observe_networks(["nx-edge"])


def test_an_engine_that_ends_in_its_answer_has_given_none(engine: Engine) -> None:
    engine.answers["/networks"] = b'[{"Id": "1", "Na'
    assert agent.observe_networks(["nx-edge"]) == {}


def test_a_container_in_removal_has_no_name() -> None:
    listed = {"Names": None, "Labels": None, "State": "removing", "Ports": [], "Mounts": []}
    assert agent.brief(listed)["name"] == ""
    assert not agent.belongs(listed, "nexus")


def test_networks_are_read_with_their_peers(engine: Engine) -> None:
    bare = {"Name": "nx-a", "Driver": "bridge", "Internal": False, "IPAM": {"Config": None}}
    full = {
        **{"Name": "nx-b", "Driver": "bridge", "Internal": True},
        "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "10.1.0.0/24"}]},
        "Options": {"com.docker.network.bridge.name": "br-b"},
        "Containers": {"1": {"Name": "nexus-web-1"}, "2": {"Name": "nexus-db-1"}},
    }
    names = {"1": "nx-a", "2": "nx-b", "3": "bridge", "4": "nx-gone"}
    engine.answers = {
        "/networks": [{"Id": number, "Name": name} for number, name in names.items()],
        "/networks/1": {**bare, "Options": None, "Containers": None},
        "/networks/2": full,
    }
    seen = agent.observe_networks(["nx-a", "nx-b", "nx-missing", "nx-gone"])
    assert set(seen) == {"nx-a", "nx-b"}
    assert seen["nx-a"]["subnets"] == seen["nx-a"]["attached"] == []
    assert seen["nx-b"]["subnets"] == ["10.1.0.0/24", "fd00::/64"]
    assert seen["nx-b"]["attached"] == ["nexus-db-1", "nexus-web-1"]
    assert seen["nx-b"]["bridge"] == "br-b"


def test_units_answer_in_the_order_asked(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "LoadState=loaded\nActiveState=active\n\nLoadState=not-found\nActiveState=inactive"
    program(place, "systemctl", f"printf '%s\\n' '{text}'")
    use_programs_of(place, monkeypatch)
    seen = agent.observe_units(["ssh.service", "none.service"])()
    assert seen["ssh.service"]["ActiveState"] == "active"
    assert seen["none.service"]["LoadState"] == "not-found"


def test_chains_are_read_by_family(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(place, "iptables", "echo '-P INPUT DROP'; echo '-N x'; echo '-A INPUT -j x'")
    program(place, "ip6tables", "exit 3")
    use_programs_of(place, monkeypatch)
    assert agent.observe_chains(["4:INPUT", "4:x", "6:INPUT"])() == {
        "4:INPUT": ["-P INPUT DROP", "-A INPUT -j x"],
        "4:x": [],
        "6:INPUT": [],
    }


def test_only_whole_packages_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "libc6:amd64 ii |held hi |removed rc |half iF |half-configured iU "
    program(place, "dpkg-query", f"echo '{rows}' | tr '|' '\\n'; exit 1")
    use_programs_of(place, monkeypatch)
    assert agent.observe_packages(["libc6", "held", "removed", "half"])() == ["libc6", "held"]


@pytest.mark.parametrize(
    ("password", "locked"),
    [("!", True), ("*", True), ("!$6$x", True), ("", False), ("$6$x", False)],
)
def test_an_account_is_locked_when_no_password_can_match(
    place: Path, monkeypatch: pytest.MonkeyPatch, password: str, locked: bool
) -> None:
    name = pwd.getpwuid(os.getuid()).pw_name
    (place / "shadow").write_text(f"+\n\n{name}:{password}:19000:0:99999:7:::\n")
    monkeypatch.setattr(agent, "SHADOW", place / "shadow")
    seen = agent.observe_users([name, "nobody-here"])
    assert list(seen) == [name]
    assert seen[name]["locked"] is locked
    assert seen[name]["uid"] == os.getuid()


def test_a_kernel_setting_that_does_not_exist_is_empty() -> None:
    assert agent.observe_sysctl("kernel.ostype") == "Linux"
    assert agent.observe_sysctl("net.ipv9.forward") == ""


def test_a_file_for_a_diff_is_read_without_following_links(place: Path) -> None:
    (place / "file").write_bytes(b"caf\xe9")
    (place / "link").symlink_to("file")
    os.mkfifo(place / "fifo")
    texts = [agent.text_of(place / name) for name in ("file", "link", "fifo", "none", ".")]
    assert texts == ["caf\ufffd", "", "", "", ""]


def test_a_file_that_vanishes_while_it_is_looked_at_is_absent(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = place / "file"
    file.write_text("x")

    def vanish(path: Path, *_: object, **__: object) -> Any:
        path.unlink()
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", vanish)
    assert agent.observe_path(file, b"") == {"type": "absent"}
    file.write_text("x")
    monkeypatch.setattr(Path, "read_text", vanish)
    assert agent.text_of(file) == ""


# --- by property ----------------------------------------------------------------------------------

SEGMENTS = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(lambda text: text not in {".", ".."})
MODES = st.sampled_from(["0400", "0600", "0644", "0700", "0755", "2755"])


@st.composite
def declared(draw: st.DrawFn) -> list[tuple[str, str, bytes, str]]:
    """Kind, relative path, content, mode; no path lies inside a file or a link."""
    names = draw(st.lists(SEGMENTS, min_size=1, max_size=6, unique=True))
    folder = names[0]
    found = [("folder", folder, b"", draw(st.sampled_from(["0700", "0755"])))]
    for name in names[1:]:
        kind = draw(st.sampled_from(["folder", "file", "link", "absent"]))
        path = f"{folder}/{name}" if draw(st.booleans()) else name
        mode = draw(st.sampled_from(["0700", "0755"]) if kind == "folder" else MODES)
        found.append((kind, path, draw(st.binary(max_size=50)), mode))
    return found


def resource(root: Path, kind: str, path: str, content: bytes, mode: str) -> Resource:
    where = f"{root}/{path}"
    made: dict[str, Resource] = {
        "folder": Directory(where, mode, ME, US),
        "file": File(where, content, mode, ME, US),
        "link": Link(where, "target"),
        "absent": Absent(where),
    }
    return made[kind]


def spoil(path: Path, how: int) -> None:
    """Put something else where a resource belongs."""
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    if how == 1:
        path.write_bytes(b"spoilt")
    elif how == 2:
        path.symlink_to("/nonexistent")
    elif how == 3:
        os.mkfifo(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(declared(), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_a_second_run_finds_nothing_whatever_the_first_one_met(
    state: Path, place: Path, things: list[tuple[str, str, bytes, str]], harm: list[int]
) -> None:
    shutil.rmtree(place)
    place.mkdir()
    desired = role(*(resource(place, *thing) for thing in things))
    converge(desired)
    assert converge(desired) == []
    for (_, path, _, _), how in zip(things, harm, strict=False):
        spoil(place / path, how)
    converge(desired)
    assert converge(desired) == []
    assert not [path for path in everything_in(place) if path.endswith(".nexus-new")]


# --- as it travels --------------------------------------------------------------------------------


def send(request: dict[str, Any], **environment: str) -> subprocess.CompletedProcess[bytes]:
    """The real command with the real stdin, in a process of its own."""
    return subprocess.run(
        ["sh", "-c", transport.COMMAND],
        input="".join(f"{line}\n" for line in transport.stdin(request)).encode(),
        capture_output=True,
        env={"PATH": os.environ["PATH"], **environment},
        check=False,
    )


def ask(request: dict[str, Any], **environment: str) -> Any:
    return json.loads(send(request, **environment).stdout.splitlines()[-1])


def test_an_error_of_the_host_is_one_line(place: Path) -> None:
    done = send(question([role(file(place / ("x" * 300)))]))
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.decode().startswith("FAILED: [Errno 36] File name too long: '")
    assert done.stderr.count(b"\n") == 1


def test_the_program_that_travels_answers_as_the_module_does(place: Path) -> None:
    file_path = place / "file"
    file_path.write_bytes(b"text")
    request = question([role(file(file_path), Absent(str(place / "none")))])
    answer = ask(request)
    assert answer["paths"] == {
        str(file_path): agent.observe_path(file_path, bytes.fromhex(request["nonce"])),
        str(place / "none"): {"type": "absent"},
    }
    assert answer["paths"][str(file_path)]["owner"] == pwd.getpwuid(os.getuid()).pw_name
    assert answer["paths"][str(file_path)]["group"] == grp.getgrgid(os.getgid()).gr_name


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "de_DE.ISO-8859-1"])
def test_names_survive_the_locale_of_the_host(place: Path, locale: str) -> None:
    path = place / "Müsik ☃"
    path.write_bytes(b"")
    request = question([role(file(path), Directory(str(place), purge=True))])
    answer = ask(request, LC_ALL=locale)
    assert answer["paths"][str(path)]["type"] == "file"
    assert answer["entries"] == {str(place): [path.name]}


def test_large_files_travel_whole(place: Path) -> None:
    content = os.urandom(8 << 20)
    lines = transport.stdin({"do": "read", "paths": []}, {"0": content})
    assert agent.unpack(lines[1])["0"] == content
    assert all(line.isascii() and "\n" not in line for line in lines)


def test_the_program_is_one_file_of_the_standard_library() -> None:
    source = Path(agent.__file__).read_text()
    assert "from roles" not in source
    # What travels with each request; it costs time on a slow line.
    assert len(transport.program()) < 20_000
