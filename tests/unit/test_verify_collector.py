"""The collector reads any Linux host: one without Docker, and one whose things vanish meanwhile."""

from __future__ import annotations

import io
import json
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from roles.verify import collector
from roles.verify.collected import unpack


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No program is installed and nothing was deployed."""
    monkeypatch.setitem(collector.ENVIRONMENT, "PATH", str(tmp_path))
    monkeypatch.setattr(collector, "NEXUS", tmp_path / "absent")


@pytest.mark.usefixtures("bare")
def test_a_host_without_anything_is_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "output", lambda *_, **__: "")
    collector.main()
    found = unpack(capsys.readouterr().out)
    assert found.containers == () and found.raw["tree"] == {} and found.raw["docker"] == {}
    assert found.sshd() == {} and found.apt() == {}
    assert found.listeners() == [] and found.addresses() == []
    assert found.rules("4", "FORWARD") == [] and found.policy("6", "INPUT") == "none"
    assert [name for name, _ in found.exposed_texts() if name.startswith("log")] == [
        "log of journal"
    ]


def test_a_program_that_is_not_installed_says_nothing() -> None:
    assert collector.output("no-program-of-this-name") == ""


def test_what_vanishes_while_it_is_read_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "there").touch()
    walked = [(str(tmp_path), [], ["gone", "there"])]
    monkeypatch.setattr(collector.os, "walk", lambda _: walked)
    assert list(collector.tree()) == [str(tmp_path / "there")]


def test_limits_of_a_container_that_ends_meanwhile_are_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    group = tmp_path / f"docker-{'a' * 64}.scope"
    group.mkdir()
    (group / "pids.max").write_text("50\n")
    walked = [(str(group), [], ["memory.max", "pids.max"])]
    monkeypatch.setattr(collector.os, "walk", lambda _: walked)
    assert collector.limits() == {"a" * 64: {"pids.max": "50"}}


def test_a_container_without_a_process_has_no_mounts() -> None:
    assert collector.mounts(0) == []


def test_the_kernel_names_the_containers_in_which_it_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = "a" * 64, "b" * 64
    said = (
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),"
        f"cpuset=docker-{one}.scope,mems_allowed=0,oom_memcg=/system.slice/docker-{one}.scope,"
        f"task_memcg=/system.slice/docker-{one}.scope,task=python3,pid=4211,uid=8807\n"
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        f"task_memcg=/docker/{other},task=java,pid=977,uid=0\n"
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
        "task_memcg=/user.slice,task=cc1plus,pid=978,uid=1000\n"
    )
    monkeypatch.setattr(collector, "output", lambda *_: said)
    assert collector.memory_kills() == [one, other]


def test_a_unit_reports_by_what_could_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "notify"
    program.touch(0o755)
    start = "{ path=%s ; argv[]=%s x ; ignore_errors=no ; status=0/0 }"
    said = {
        "night.service quiet.service": (
            "ExecStart=\nId=night.service\nOnFailure=told@a.service gone@a.service lost.service\n"
            "LoadState=loaded\n\nId=quiet.service\nOnFailure=\nLoadState=loaded\n"
        ),
        "gone@a.service lost.service told@a.service": (
            f"ExecStart={start % (('/nonexistent',) * 2)}\nId=gone@a.service\nLoadState=loaded\n\n"
            "Id=lost.service\nLoadState=not-found\n\n"
            f"ExecStart={start % ((program,) * 2)}\nId=told@a.service\nLoadState=loaded\n"
        ),
    }
    monkeypatch.setattr(collector, "output", lambda *argv: said[" ".join(argv[4:])])
    found = collector.reports(["night.service", "quiet.service"])
    assert found == {"night.service": ["told@a.service"], "quiet.service": []}
    assert collector.reports([]) == {}


def test_a_container_that_could_not_be_entered_is_not_taken_for_one_that_reaches_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter = tmp_path / "nsenter"
    enter.write_text('#!/bin/sh\n[ "$2" != 1 ] && shift 3 && exec "$@"\n')
    enter.chmod(0o755)
    monkeypatch.setitem(collector.ENVIRONMENT, "PATH", str(tmp_path))
    containers: list[dict[str, Any]] = [
        {
            "Id": name,
            "State": {"Running": True, "Pid": number},
            "NetworkSettings": {"Networks": {}},
        }
        for number, name in enumerate(("gone", "there"), 1)
    ]
    assert collector.reached(containers) == {"there": []}


def test_a_connection_is_seen_though_others_had_the_processors_meanwhile(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter((0, 60, 120))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = ["peer", *server.getsockname()]
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([place])))
        exec(compile(collector.REACH, "reach", "exec"), {})  # noqa: S102 - the program itself
    assert json.loads(capsys.readouterr().out) == [["peer", place[2], "127.0.0.1"]]
