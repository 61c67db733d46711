"""A lab goes without a trace however its run ends, and leaves alone what is not its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import forwarding
from tests.lab.command import LabError, run
from tests.lab.lab import Lab, Places
from tests.lab.paths import module_environment
from tests.lab.process import Process

pytestmark = [pytest.mark.lab, pytest.mark.own_lab]

# It says itself that it runs: what starts it has no command line at all for a moment.
_PROGRAM = "import time; print('up', flush=True); time.sleep(613)"
_RUN = f"""
import subprocess
import sys
import time
from tests.lab.lab import Lab
from tests.lab.network import INTERNET, Namespace
with Lab("victim") as lab:
    lab.start_host("h1")
    # A place that a test makes, with a program in it.
    place = Namespace("nxlab-victim", INTERNET, 61)
    place.create()
    subprocess.Popen(place.argv([sys.executable, "-c", {_PROGRAM!r}]))
    time.sleep(600)
"""


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """Another process with a lab and a host."""
    # What an earlier run left when it was killed is not what this one is judged by.
    with Lab("before"):
        pass
    before = traces()
    settings = forwarding.current()
    argv = [sys.executable, "-c", _RUN]
    environment = module_environment()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()
    with Lab("after"):
        pass
    assert traces() == before
    assert forwarding.current() == settings


def traces() -> dict[str, list[str]]:
    """Everything on the machine that a lab could leave."""
    links = [path.name for path in Path("/sys/class/net").iterdir()]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if "nxlab" in line]
    commands = [_command(path) for path in Path("/proc").glob("[0-9]*/cmdline")]
    return {
        "links": sorted(links),
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "mounts": [line for line in mounts if str(Places.default().state) in line],
        "processes": [text for text in commands if str(Places.default().state) in text],
        "programs": [text for text in commands if text.endswith(f"{_PROGRAM} ")],
        "files": [path.name for path in Places.default().state.iterdir()],
        "tables": run(["nft", "list", "tables"]).stdout.splitlines(),
        "groups": [str(path) for path in Path("/sys/fs/cgroup").glob("**/nxlab*")],
    }


def _command(path: Path) -> str:
    try:
        return path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_killed_run_does_not_hinder_the_next(running: subprocess.Popen[str]) -> None:
    running.kill()
    running.wait()
    assert traces()["processes"] and traces()["programs"]
    with Lab("next") as lab:
        assert lab.start_host("h1").ssh("hostname").stdout == "h1\n"


def test_terminated_run_cleans_up_itself(running: subprocess.Popen[str]) -> None:
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    assert not traces()["processes"] and not traces()["programs"]
    assert not traces()["files"]


def test_second_lab_is_refused_and_harms_nothing(running: subprocess.Popen[str]) -> None:
    before = traces()
    with pytest.raises(LabError, match="another lab runs here"), Lab("second"):
        pass
    assert traces() == before
    assert running.poll() is None


def test_what_others_made_is_left_alone_whatever_its_name() -> None:
    run(["ip", "netns", "add", "nxlab-h1"])
    beside = Places.default().state.parent / "nxlab-foreign"
    beside.mkdir()
    try:
        with pytest.raises(LabError, match="namespace nxlab-h1"), Lab("careful"):
            pass
        assert Path("/run/netns/nxlab-h1").exists()
        assert beside.exists()
    finally:
        beside.rmdir()
        run(["ip", "netns", "del", "nxlab-h1"])


def test_a_lab_that_stays_is_joined_while_it_lives(running: subprocess.Popen[str]) -> None:
    running.kill()
    running.wait()
    with Lab("stays", persist=True):
        pass
    try:
        with Lab("guest", attach=True) as guest:
            assert guest.start_host(guest.free_name("h1")).ssh("hostname").stdout == "h1\n"
        assert not list(Places.default().hosts.glob("*"))
        with pytest.raises(LabError, match="up to stay"), Lab("other"):
            pass
        pid_file = Places.default().state / "aptcache.pid"
        service = Process.load(pid_file)
        assert service is not None
        service.kill()
    finally:
        with Lab("heir", attach=True) as heir:
            assert not heir.attach
