"""The bench's arithmetic, and that its playbook gets everything that the model holds."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from roles.core.model import (
    Check,
    Container,
    Desired,
    Directory,
    File,
    Handler,
    Notice,
    Settings,
    Stack,
    Unit,
)
from tests.lab.bench.figures import Row, interleaved, table
from tests.lab.bench.playbook import variables
from tests.lab.command import LabError


@dataclass(frozen=True)
class Novelty:
    """A kind of thing that the model does not have yet."""

    name: str


CONTAINER = Container("db", "print", ("nx-data",), 1 << 28, 10**9, 64, "always")
STACK = Desired(
    "stack",
    (Stack("nexus", "/opt/compose.yml", "label", (CONTAINER,)),),
    handlers=(Handler("set-password", ("set",), last=True),),
)


def test_the_figure_is_the_ratio_of_medians() -> None:
    row = Row("deploy", (3.0, 9.0, 2.0), against=2.0, limit=1.5)
    assert (row.median, row.figure, row.verdict) == (3.0, 1.5, "ok")
    assert Row("deploy", (3.1,), against=2.0, limit=1.5).verdict == "over"


def test_what_is_counted_is_held_to_its_limit_as_it_is() -> None:
    assert Row("commands", (8,), "", limit=8).verdict == "ok"
    assert Row("commands", (9,), "", limit=8).verdict == "over"
    assert Row("Ansible", (40.0,), against=1.0).verdict == ""


def test_what_is_compared_takes_turns() -> None:
    order: list[str] = []
    samples = interleaved(
        2,
        {"a": lambda: float(order.append("a") or 1), "b": lambda: float(order.append("b") or 2)},
        lambda line: None,
    )
    assert order == ["a", "b", "a", "b"]
    assert samples == {"a": (1.0, 1.0), "b": (2.0, 2.0)}


def test_the_table_shows_median_range_ratio_and_limit() -> None:
    heading, floor, deploy, commands = table(
        [
            Row("floor", (1.0, 1.2, 0.9)),
            Row("deploy", (4.0,), against=1.0, limit=3),
            Row("commands", (2,), "", limit=8),
        ]
    ).splitlines()
    assert heading.split() == ["what", "median", "min..max", "ratio", "limit"]
    assert floor.split() == ["floor", "1.00", "s", "0.90..1.20"]
    assert deploy.split() == ["deploy", "4.00", "s", "4.00..4.00", "4.00", "3", "over"]
    assert commands.split() == ["commands", "2", "8", "ok"]


def test_a_file_comes_with_its_validator_and_stays_secret(tmp_path: Path) -> None:
    files = (
        File("/etc/a.conf", b"open"),
        File("/etc/b.conf", b"hush", "0400", "app", "app", secret=True),
    )
    check = Check(("judge", "-f", "{/etc/a.conf}"), ("/etc/a.conf",))
    found = variables([Desired("a", files, checks=(check,)), STACK], tmp_path, frozenset())["files"]
    assert [entry["validate"] for entry in found] == ["judge -f %s", ""]
    assert [entry["secret"] for entry in found] == [False, True]
    assert [Path(entry["source"]).read_bytes() for entry in found] == [b"open", b"hush"]


@pytest.mark.parametrize(
    ("unit", "state"),
    [
        (Unit("a.service"), "started"),
        (Unit("b.service"), ""),
        (Unit("a.service", active=None), ""),
        (Unit("b.service", active=False), "stopped"),
    ],
)
def test_a_unit_that_cannot_run_there_is_only_enabled(
    tmp_path: Path, unit: Unit, state: str
) -> None:
    found = variables([Desired("a", (unit,)), STACK], tmp_path, frozenset({"a.service"}))
    assert [entry["state"] for entry in found["units"]] == [state]


def test_a_notice_of_another_role_makes_its_command_due(tmp_path: Path) -> None:
    notices = (
        Notice("stack", "set-password", ("/secrets/password",)),
        Notice("stack", "db", ("/config/db.conf",)),
    )
    found = variables([Desired("a", (), notices=notices), STACK], tmp_path, frozenset())
    password, container = found["commands"]
    assert password == {"argv": ("set",), "paths": ["/secrets/password"], "last": True}
    assert container["argv"][-2:] == ("--force-recreate", "db")
    assert (container["paths"], container["last"]) == (["/config/db.conf"], True)


def test_only_what_is_declared_stays_in_a_purged_folder(tmp_path: Path) -> None:
    folder = Directory("/etc/app", purge=True)
    found = variables(
        [Desired("a", (folder, File("/etc/app/x", b""))), STACK], tmp_path, frozenset()
    )
    assert found["purged"] == ["/etc/app"]
    assert set(found["declared"]) == {"/etc/app", "/etc/app/x"}


def test_entries_of_a_program_s_own_file_are_set_once(tmp_path: Path) -> None:
    file = tmp_path / "app.ini"
    file.write_text("[Preferences]\nPort=1\nOther=kept\n")
    settings = Settings(str(file), "ini", (("Preferences/Port", "2"),))
    made = variables([Desired("a", (settings,)), STACK], tmp_path, frozenset())["settings"]
    said = [
        subprocess.run([sys.executable, made], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == [f"{file}\n", ""]
    assert file.read_text() == "[Preferences]\nPort=2\nOther=kept\n"


def test_a_kind_that_the_playbook_does_not_manage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Novelty"):
        variables([Desired("a", (Novelty("x"),)), STACK], tmp_path, frozenset())
