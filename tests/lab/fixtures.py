"""The lab as a pytest fixture; a test module or conftest imports it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.lab import Lab

WAIT = 600.0


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """One lab for the session: the one that is up to stay, or its own after another's end."""
    with Lab("pytest", attach=True, wait=WAIT) as lab:
        yield lab
