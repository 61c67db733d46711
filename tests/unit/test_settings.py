"""Entries of a file that a program writes itself: set, kept, and everything else left alone."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.core.agent import entries_of, with_entries
from roles.core.model import Desired, Settings
from roles.core.state import diff
from tests.unit.observation import converged

NAMES = st.text(string.ascii_letters, min_size=1, max_size=12)
# One line of printable text, as the programs keep it: no blanks at the ends.
VALUES = st.text(string.ascii_letters + string.digits + " .,:;/\\@()+-_<>&\"'", max_size=40).map(
    str.strip
)
FOREIGN = {
    "xml": "<Config>\n  <Theirs>kept &amp; whole</Theirs>\n</Config>\n",
    "ini": "; theirs\n[Other]\nTheirs=kept = whole\n\n[Section]\nAlso\\Theirs=1\n",
    "yaml": "other:\n  theirs: kept\nsection:\n  also: 1\n  list:\n  - a\n",
    "json": '{"other": {"theirs": ["kept", 1]}}',
}


def keyed(form: str, entries: dict[str, str]) -> dict[str, str]:
    above = {"xml": "Config", "json": "section"}.get(form, "Section")
    made = {f"{above}/{name}": value for name, value in entries.items()}
    return {k: json.dumps(v) for k, v in made.items()} if form == "json" else made


@pytest.mark.parametrize("form", ["xml", "ini", "yaml", "json"])
@pytest.mark.parametrize("begun", [True, False], ids=["there", "absent"])
@given(entries=st.dictionaries(NAMES, VALUES, min_size=1, max_size=6))
def test_what_is_set_is_read_and_the_rest_stays(
    form: str, begun: bool, entries: dict[str, str]
) -> None:
    wanted = keyed(form, entries)
    before = FOREIGN[form] if begun else ""
    after = with_entries(form, before, wanted)
    found = entries_of(form, after)
    assert {key: found[key] for key in wanted} == wanted
    for key, value in entries_of(form, before).items():
        if key not in wanted:
            assert found[key] == value
    # Once set, setting it again changes nothing.
    assert with_entries(form, after, wanted) == after


@pytest.mark.parametrize("form", ["xml", "json"])
@pytest.mark.parametrize("text", ["", "{", "<Config>", "plain text", "[1, 2]", "\0"])
def test_a_file_of_another_form_is_begun_anew(form: str, text: str) -> None:
    wanted = keyed(form, {"Name": "value"})
    assert entries_of(form, text) == {}
    assert entries_of(form, with_entries(form, text, wanted)).items() >= wanted.items()


SETTINGS = Settings(
    "/opt/nexus/data/app/config.ini",
    "ini",
    (("Section/Key", "S3cret"), ("Section/Other", "1")),
    "8808",
    "8808",
    container="nexus-app-1",
)


def changes(**answer: Any) -> Any:
    role = Desired("app", (SETTINGS,))
    return diff(role, converged(role, **answer))


def test_entries_that_are_right_cost_nothing() -> None:
    assert not changes()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"settings": {SETTINGS.path: {}}}, "Section/Key, Section/Other"),
        ({"paths": {SETTINGS.path: {"type": "absent"}}}, "absent, Section/Key"),
        ({"paths": {SETTINGS.path: {"type": "link", "target": "/etc/shadow"}}}, "link"),
    ],
)
def test_what_is_wrong_is_named_and_set_with_the_program_stopped(
    answer: dict[str, Any], said: str
) -> None:
    found = changes(**answer)
    [step] = found.steps
    assert step["do"] == "settings" and step["container"] == "nexus-app-1"
    assert said in found.lines[0]
    assert "S3cret" not in str(found.lines) + str(found.steps)
