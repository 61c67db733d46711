"""Service levels: whose requests count as slow, and which promises are refused."""

from __future__ import annotations

from typing import Any

import pytest

from roles.prometheus import slo
from roles.site.schema import SiteError
from tests.unit.conftest import context_from, site_from


def test_each_time_at_which_pages_are_slow_has_its_own_routes() -> None:
    context = context_from(monitoring={"objectives": {"jellyfin": {"within": 0.3}}})
    slow = [
        str(rule["expr"])
        for rule in slo.groups(context)[0]["rules"]
        if rule["record"] == "slo:errors:increase5m" and rule["labels"]["slo"] == "latency"
    ]
    assert len(slow) == 2
    assert 'le="0.3"' in slow[0] and '"(jellyfin)@file"' in slow[0]
    assert 'le="1"' in slow[1] and "sonarr" in slow[1] and "jellyfin" not in slow[1]


@pytest.mark.parametrize(
    ("objectives", "said"),
    [
        ({"sonar": {}}, r"objectives\.sonar: is no service; did you mean sonarr"),
        ({"*": {"availability": 90}}, r"\*\.availability: 90.0 must be 94 to 99.99 percent"),
        ({"*": {"fast": 100}}, r"\*\.fast: 100.0 must be 94 to 99.99 percent"),
        ({"*": {"within": 1.2}}, r"within: 1.2 is not measured; write one of 0.1, 0.3"),
    ],
)
def test_a_promise_that_cannot_be_held_is_refused(objectives: dict[str, Any], said: str) -> None:
    with pytest.raises(SiteError, match=said):
        site_from(monitoring={"objectives": objectives})
