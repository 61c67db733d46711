"""Every attack works on the old NEXUS, and fails on the hardened host for a reason that is seen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.attacks import ALL, Attack, Place
from tests.lab.attacks.torrents import swarm
from tests.lab.deployment import Deployment
from tests.lab.lab import Lab
from tests.lab.legacy import Legacy
from tests.lab.provider import Provider

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def others(deployed: Deployment) -> Iterator[Provider]:
    """The hardened host has a tunnel for its torrents meanwhile."""
    with swarm(deployed) as provider:
        yield provider
    assert deployed.apply() == []


@pytest.fixture(scope="module")
def before(lab: Lab, others: Provider) -> Iterator[Place]:
    legacy = Legacy.boot(lab)
    yield Place.legacy(legacy, others)
    legacy.host.destroy()


@pytest.fixture(scope="module")
def after(deployed: Deployment, others: Provider) -> Place:
    return Place.hardened(deployed, others)


@pytest.mark.parametrize("attack", ALL, ids=[attack.name.replace(" ", "-") for attack in ALL])
def test_it_works_before_and_fails_after(before: Place, after: Place, attack: Attack) -> None:
    was = attack.attempt(before)
    print(f"before: {was.evidence}")
    assert was.succeeded, was.evidence
    now = attack.attempt(after)
    print(f"after: {now.evidence}")
    assert not now.succeeded, now.evidence


def test_there_are_twenty_or_more_and_each_says_what_it_answers() -> None:
    assert len(ALL) >= 20
    assert len({attack.name for attack in ALL}) == len(ALL)
    assert all(attack.proves and attack.stands and attack.items for attack in ALL)
