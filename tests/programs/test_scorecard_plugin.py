"""A run of tests becomes results: what passes, fails, is not tried, and does not apply."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from roles.scorecard.card import Result
from roles.scorecard.catalogue import Check
from roles.scorecard.grades import Status
from roles.scorecard.plugin import Outcome, result_of
from tests.lab.paths import REPOSITORY

CHECK = Check(id="SEC-01", area="security", title="it holds", severity="high", evidence="behaviour")
PASSED, FAILED = Outcome("passed", seen=("a",)), Outcome("failed", seen=("b",))
SKIPPED = Outcome("skipped", reason="no route")
NOT_HERE = Outcome("not applicable", reason="no VPN")


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], "not tried"),
        ([SKIPPED], "not tried"),
        ([SKIPPED, NOT_HERE], "not tried"),
        ([NOT_HERE, NOT_HERE], "not applicable"),
        ([PASSED], "passed"),
        ([PASSED, NOT_HERE], "passed"),
        ([PASSED, SKIPPED], "passed"),
        ([PASSED, FAILED], "failed"),
        ([FAILED, SKIPPED], "failed"),
        # A test that passed and whose end then failed.
        ([PASSED, PASSED, FAILED], "failed"),
    ],
)
def test_outcomes_of_several_tests_are_one_status(outcomes: list[Outcome], status: Status) -> None:
    assert result_of(CHECK, outcomes).status == status


def test_a_check_without_a_test_says_so() -> None:
    assert result_of(CHECK, []).untried == ("no test ran",)
    assert result_of(CHECK, [PASSED, SKIPPED]).untried == ("no route",)


TESTS = """
    import pytest
    from roles.scorecard.results import evidence, not_applicable
    from roles.verify.report import expect

    @pytest.mark.check("TT-01")
    @pytest.mark.parametrize("service", ["jellyfin", "sonarr"])
    def test_passes(service):
        expect("privileges", "none", "none")
        evidence("tried as well")

    @pytest.mark.check("TT-01")
    @pytest.mark.check("TT-02")
    def test_fails():
        expect("mode", "0644", "0400", "make apply")

    @pytest.mark.check("TT-03")
    def test_breaks():
        raise ConnectionError("no answer")

    @pytest.mark.check("TT-04")
    def test_is_skipped():
        pytest.skip("no route")

    @pytest.mark.check("TT-05")
    def test_has_no_meaning():
        not_applicable("no tunnel")

    @pytest.mark.check("TT-06")
    @pytest.mark.parametrize("service", [])
    def test_has_nothing(service):
        raise AssertionError

    @pytest.fixture
    def broken():
        yield
        raise OSError("left behind")

    @pytest.mark.check("TT-07")
    def test_ends_badly(broken):
        expect("a", 1, 1)

    @pytest.mark.check("TT-08")
    def test_passes_too():
        expect("b", 2, 2)

    @pytest.mark.parametrize(
        "row", [pytest.param(1, id="-TT-09", marks=pytest.mark.check("TT-09"))]
    )
    def test_of_a_row(row):
        expect("row", row, 1)

    def test_of_no_check():
        raise AssertionError
"""
# In a process of its own: pytest within pytest would share its plugins.
RUN = """
    import sys
    from types import SimpleNamespace
    import pytest
    from roles.scorecard import catalogue
    from roles.scorecard.catalogue import Check
    from roles.scorecard.plugin import Plugin
    made = tuple(
        Check(id=f"TT-{n:02}", area="security", title=f"check {n}", severity="high",
            evidence="behaviour")
        for n in range(1, 11)
    )
    catalogue.checks = lambda: made
    catalogue.ids = lambda: frozenset(check.id for check in made)
    plugin = Plugin([SimpleNamespace(name="h")])
    options = ["-q", "-p", "no:cacheprovider", "--disable-plugin-autoload"]
    code = pytest.main([*options, sys.argv[1]], plugins=[plugin])
    for each in plugin.results("h"):
        print("RESULT", each.model_dump_json())
    print("CODE", int(code))
"""


def run(folder: Path, tests: str) -> tuple[int, dict[str, Result], str]:
    (folder / "test_checks.py").write_text(textwrap.dedent(tests))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = check(id): a check\n")
    script = textwrap.dedent(RUN)
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.partition(" ")[2] for line in done.stdout.splitlines() if line[:7] == "RESULT "]
    results = {each.id: each for each in map(Result.model_validate_json, lines)}
    code = [int(line[5:]) for line in done.stdout.splitlines() if line.startswith("CODE ")]
    return (code or [-1])[0], results, done.stdout + done.stderr


def test_a_run_becomes_results(tmp_path: Path) -> None:
    code, results, said = run(tmp_path, TESTS)
    assert code == 1, said
    assert {name: each.status for name, each in results.items()} == {
        "TT-01": "failed",
        "TT-02": "failed",
        "TT-03": "failed",
        "TT-04": "not tried",
        "TT-05": "not applicable",
        "TT-06": "not applicable",
        "TT-07": "failed",
        "TT-08": "passed",
        "TT-09": "passed",
        "TT-10": "not tried",
    }
    first = results["TT-01"]
    assert first.seen[:2] == ("jellyfin: privileges: none", "jellyfin: tried as well")
    assert "mode: 0644" in first.seen
    assert [f.model_dump() for f in first.failures] == [
        {"field": "mode", "observed": "0644", "expected": "0400", "mend": "make apply"}
    ]
    (broken,) = results["TT-03"].failures
    assert (broken.field, broken.expected) == ("breaks", "an answer")
    assert "no answer" in broken.observed
    assert results["TT-04"].untried == ("no route",)
    assert results["TT-05"].untried == ("no tunnel",)
    assert "left behind" in results["TT-07"].failures[0].observed
    assert results["TT-08"].seen == ("b: 2",)
    assert results["TT-09"].seen == ("row: 1",)


def test_an_unknown_check_stops_the_run(tmp_path: Path) -> None:
    code, _, said = run(
        tmp_path, '\n    import pytest\n    @pytest.mark.check("XX-99")\n    def test_x(): pass\n'
    )
    assert code == 4
    assert "test_x: unknown check XX-99" in said
