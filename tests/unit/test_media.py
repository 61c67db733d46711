"""A media folder that nobody could file into ends the run before it changes anything."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from roles import media, servarr
from roles.context import Context, Facts
from roles.core import agent
from roles.plan import facts_in
from roles.site.schema import SiteError
from tests.unit.conftest import context_from
from tests.unit.fake_host import FACTS

MOVIES, MUSIC = "/srv/media/movies", "/srv/old music"


def found(mode: int, group: int) -> Context:
    """A site of which this folder was there, with its mode and group."""
    context = context_from(media={"movies": MOVIES, "music": MUSIC, "photos": "/srv/photos"})
    return replace(context, facts=facts({MOVIES: [mode, group]}))


def facts(folders: dict[str, list[int]]) -> Facts:
    return facts_in({**FACTS, "folders": folders}, "home")


@pytest.mark.parametrize(
    ("mode", "group"), [(0o755, 0), (0o775, 1000), (0o755, 8899), (0o2765, 8899), (0o707, 8899)]
)
def test_a_folder_that_nobody_could_file_into_is_named_with_its_mend(mode: int, group: int) -> None:
    context = found(mode, group)
    with pytest.raises(SiteError) as caught:
        media.refuse(context, servarr.shelves(context))
    (line,) = str(caught.value).splitlines()
    assert line.startswith("site.media.movies: group 8899 (nexus-media), which files media into ")
    assert line.endswith(f"chgrp -R 8899 {MOVIES}; chmod -R g+rwX {MOVIES}")


@pytest.mark.parametrize(("mode", "group"), [(0o2775, 8899), (0o777, 1000), (0o770, 8899)])
def test_a_folder_that_is_writable_is_let_be(mode: int, group: int) -> None:
    context = found(mode, group)
    media.refuse(context, servarr.shelves(context))


def test_all_problems_come_at_once_and_none_of_what_nobody_files_into() -> None:
    folders = {path: [0o755, 0] for path in (MOVIES, MUSIC, "/srv/photos")}
    context = replace(found(0, 0), facts=facts(folders))
    with pytest.raises(SiteError) as caught:
        media.refuse(context, servarr.shelves(context))
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["site.media.movies", "site.media.music"]
    assert "'/srv/old music'" in lines[1]


def test_the_host_tells_of_folders_that_are_there_and_have_no_other_rules(tmp_path: Path) -> None:
    tmp_path.chmod(0o2750)
    asked = [str(tmp_path), f"{tmp_path}/none", "/etc/hostname"]
    assert agent.facts(asked)["folders"] == {str(tmp_path): [0o2750, os.getgid()]}
    with mock.patch.object(os, "getxattr", return_value=b"\2"):
        assert agent.facts(asked)["folders"] == {}
