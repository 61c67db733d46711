"""Each image that runs is looked at, by a scanner that has either an image or a network."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from roles import scan
from tests.host_programs import loaded, text_of
from tests.unit.conftest import context_from

ACCEPTED = "CVE-2026-7"
SONARR, RADARR = (f"sha256:{letter * 64}" for letter in "ab")


def vulnerability(number: int, severity: str = "CRITICAL", package: str = "openssl") -> Any:
    return {
        "VulnerabilityID": f"CVE-2026-{number}",
        "PkgName": package,
        "InstalledVersion": "1.0",
        "FixedVersion": "1.1",
        "Severity": severity,
    }


@dataclass
class Engine:
    """What docker(1) answers; `broken` maps a word of a command line to what it complains of."""

    containers: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    image: str = ""

    def __call__(self, argv: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.asked.append([*argv])
        for word, complaint in self.broken.items():
            if any(word in each for each in argv):
                return subprocess.CompletedProcess([*argv], 1, "", f"first\n{complaint}\n")
        return subprocess.CompletedProcess([*argv], 0, self.answer(argv), "")

    def answer(self, argv: Sequence[str]) -> str:
        match argv[1:3]:
            case ["ps", _]:
                return "\n".join(str(number) for number in range(len(self.containers)))
            case ["inspect", _]:
                return "\n".join(self.containers)
            case ["image", "inspect"]:
                return "1000\n"
            case ["save", _]:
                Path(argv[3]).write_text(argv[4])
                self.image = argv[4]
            case ["run", _] if "--scanners=vuln" in argv:
                return json.dumps({"Results": [{"Vulnerabilities": self.found[self.image]}, {}]})
        return ""

    @property
    def runs(self) -> list[list[str]]:
        return [argv for argv in self.asked if argv[1] == "run"]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Two images; Sonarr's has two containers."""
    made = Engine(
        [
            f"{SONARR} ghcr.io/x/sonarr:4@sha256:1 /nexus-sonarr-1",
            f"{RADARR} ghcr.io/x/radarr:6 /nexus-radarr-1",
            f"{SONARR} ghcr.io/x/sonarr:4@sha256:1 /another",
        ],
        {
            SONARR: [
                vulnerability(1, "HIGH"),
                vulnerability(2),
                vulnerability(2),
                vulnerability(7),
            ],
            RADARR: [],
        },
    )
    monkeypatch.setattr(subprocess, "run", made)
    return made


@pytest.fixture
def program(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The host's program, with a folder of the test's."""
    accepted = {ACCEPTED: "nothing here parses such a file"}
    role = scan.desired(context_from(scan={"accepted": accepted}))
    text = text_of(role, scan.PROGRAM).replace(scan.STATE, str(tmp_path))
    text = text.replace(scan.METRICS, f"{tmp_path}/scan.prom")
    module = loaded(text, scan.PROGRAM)
    monkeypatch.setattr(module.shutil, "chown", lambda *_: None)
    (tmp_path / "cache").mkdir()
    return module


@pytest.fixture
def run(
    program: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """One run: its status, its errors and what it said."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["scan", *words])
        status = program.main()
        said = capsys.readouterr()
        return f"{status} {said.err}{said.out}"

    return run


def test_what_a_newer_package_mends_is_told(run: Callable[..., str], tmp_path: Path) -> None:
    assert run("list") == "0 never scanned yet\n"
    said = run()
    assert said.splitlines()[1:] == [
        "image               critical  high",
        "ghcr.io/x/sonarr:4         1     1",
        "    CVE-2026-2: openssl 1.0, mended in 1.1",
        "ghcr.io/x/radarr:6         0     0",
    ]
    assert run("list") == said
    figures = (tmp_path / "scan.prom").read_text()
    assert 'nexus_scan_fixable{image="ghcr.io/x/sonarr:4",severity="critical"} 1\n' in figures
    assert 'nexus_scan_fixable{image="ghcr.io/x/radarr:6",severity="high"} 0\n' in figures
    assert "nexus_scan_timestamp_seconds " in figures
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("scan.prom", "found.json")]
    assert modes == [0o644, 0o600]
    assert not (tmp_path / "image.tar").exists()


def test_the_scanner_never_has_an_image_and_a_network(
    run: Callable[..., str], engine: Engine
) -> None:
    run()
    fetch, *looks = engine.runs
    assert len(looks) == 2
    assert not any("image.tar" in word for word in fetch)
    assert all("--network=none" in look for look in looks)
    for argv in engine.runs:
        assert not any("docker.sock" in word or "--privileged" in word for word in argv)
        assert {"--read-only", "--cap-drop=ALL", f"--user={scan.UID}:{scan.UID}"} <= {*argv}


def test_without_a_database_nothing_known_is_forgotten(
    run: Callable[..., str], engine: Engine, tmp_path: Path
) -> None:
    run()
    before = (tmp_path / "scan.prom").read_text()
    engine.broken = {"--download-db-only": "TOOMANYREQUESTS \x1b[31m"}
    assert run() == "1 <3>the database could not be fetched: TOOMANYREQUESTS \\x1b[31m\n"
    assert (tmp_path / "scan.prom").read_text() == before
    assert "CVE-2026-2" in run("list")


def test_an_image_that_cannot_be_looked_at_is_named_and_no_other_missed(
    run: Callable[..., str], engine: Engine, program: types.ModuleType, tmp_path: Path
) -> None:
    engine.broken = {RADARR: "no space left on device"}
    said = run()
    assert said.startswith("1 <3>nexus-radarr-1: no space left on device\n")
    assert "ghcr.io/x/sonarr:4" in said
    assert "timestamp" not in (tmp_path / "scan.prom").read_text()
    engine.broken = {}
    run()
    good = (tmp_path / "scan.prom").read_text().splitlines()[-1]
    program.SPARE = 1 << 60
    assert "MiB, and" in run()
    assert (tmp_path / "scan.prom").read_text().splitlines()[-1] == good


def test_two_images_of_one_name_are_one_figure(
    run: Callable[..., str], engine: Engine, tmp_path: Path
) -> None:
    engine.containers[1] = f"{RADARR} ghcr.io/x/sonarr:4@sha256:2 /old"
    engine.found[RADARR] = [vulnerability(3)]
    run()
    figures = (tmp_path / "scan.prom").read_text().splitlines()
    assert [line for line in figures if "critical" in line] == [
        'nexus_scan_fixable{image="ghcr.io/x/sonarr:4",severity="critical"} 2'
    ]


def test_where_nothing_runs_nothing_is_found(run: Callable[..., str], engine: Engine) -> None:
    engine.containers = []
    assert run().startswith("0 scanned ")
