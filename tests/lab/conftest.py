"""One disposable host for the session, and the site that is deployed to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.deployment import Deployment
from tests.lab.fixtures import lab, pytest_collection_modifyitems  # noqa: F401
from tests.lab.machine.host import disposable_host


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A bare host, with a site and its vault, before the first deploy."""
    with disposable_host() as host:
        yield Deployment(host, Path(tmp_path_factory.mktemp("site")))


@pytest.fixture(scope="session")
def deployed(fresh: Deployment) -> Deployment:
    """The host after its first deploy."""
    done = fresh.run("-y")
    assert done.returncode == 0, done.stdout + done.stderr
    return fresh
