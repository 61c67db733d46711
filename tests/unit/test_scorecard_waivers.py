"""A broken waiver in an inventory is refused with one line that names field, value and mend."""

from __future__ import annotations

from typing import Any

import pytest

from roles.site.schema import SiteError, Waiver
from tests.unit.conftest import site_from

RIGHT = {"check": "SEC-09", "reason": "the new disk comes in spring", "until": "2027-01-31"}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checks, whatever the catalogue has."""
    monkeypatch.setattr("roles.site.checks.checks_of_scorecard", lambda: {"SEC-09", "REC-04"})


def test_a_waiver_is_kept_also_when_it_has_expired() -> None:
    site = site_from(waivers=[RIGHT, {**RIGHT, "check": "REC-04", "until": "2020-02-29"}])
    assert site.waivers[0] == Waiver(**RIGHT)
    assert site.waivers[1].until == "2020-02-29"
    assert site_from().waivers == ()


@pytest.mark.parametrize(
    ("changes", "field", "mend"),
    [
        ({"check": "SEC-90"}, "waivers[0].check: 'SEC-90' is not a check", "did you mean SEC-09?"),
        ({"check": "x"}, "waivers[0].check: 'x' is not a check", "make report lists them"),
        ({"check": 9}, "waivers[0].check", "must be a text"),
        ({"reason": ""}, "waivers[0].reason", "that a reader can judge"),
        ({"reason": "            later     "}, "waivers[0].reason", "that a reader can judge"),
        ({"until": "soon"}, "waivers[0].until: 'soon' is not a day", "2027-01-31"),
        ({"until": "2027-02-29"}, "waivers[0].until: '2027-02-29' is not a day", "2027-01-31"),
        ({"until": "20270131"}, "waivers[0].until: '20270131' is not a day", "2027-01-31"),
        ({"until": "2027-W04-7"}, "waivers[0].until", "2027-01-31"),
        ({"untli": "2027-01-31"}, "waivers[0].untli", "did you mean until?"),
    ],
)
def test_is_refused_by_name(changes: dict[str, Any], field: str, mend: str) -> None:
    with pytest.raises(SiteError) as refused:
        site_from(waivers=[{**RIGHT, **changes}])
    (line,) = refused.value.problems
    assert field in line and mend in line


@pytest.mark.parametrize("name", sorted(RIGHT))
def test_each_part_is_needed(name: str) -> None:
    waiver = {key: value for key, value in RIGHT.items() if key != name}
    with pytest.raises(SiteError, match=rf"site\.waivers\[0\]\.{name}: is missing"):
        site_from(waivers=[waiver])


def test_one_check_has_one_waiver() -> None:
    with pytest.raises(SiteError, match=r"waivers\[1\]\.check: 'SEC-09' stands there twice"):
        site_from(waivers=[RIGHT, RIGHT])
