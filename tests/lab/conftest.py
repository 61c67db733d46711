"""What the lab's tests share: images, a bare host with a site, that host deployed, a legacy one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from tests.lab.deployment import Deployment, transcript
from tests.lab.fixtures import WAIT, lab  # noqa: F401
from tests.lab.images.build import publish
from tests.lab.lab import Lab
from tests.lab.legacy import Legacy
from tests.lab.paths import binaries


def pytest_configure(config: pytest.Config) -> None:
    """With several processes (-n), the one that starts them has the lab and makes the images."""
    if hasattr(config, "workerinput") or not getattr(config.option, "numprocesses", None):
        return
    stack = ExitStack()
    config.add_cleanup(stack.close)
    shared = stack.enter_context(Lab("tests", attach=True, wait=WAIT))
    publish(shared.registry, shared.registry_ca, shared.cache, binaries())
    shared.share()


INTERRUPTION = "/test_interruption.py"
# Its tests wait for what the monitoring says, and use little of a processor meanwhile.
WAITING = "monitored"
# The longest one, and few tests that take minutes each.
LONG = (WAITING, INTERRUPTION, "/test_backup_s3.py")


def unit_of(nodeid: str) -> str:
    """What one process runs in one piece: the tests of a module, as they share hosts."""
    module, _, test = nodeid.partition("::")
    if "/monitored/" in module:
        return WAITING
    if module.endswith(INTERRUPTION):
        return f"{module} {test.partition('[')[2]}"  # a host for each way to interrupt
    return module


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Labs of their own first: the session's one blocks them. Then what takes longest.

    What is long and begins late has the other processes wait for it at the end.
    """
    sizes = Counter(unit_of(item.nodeid) for item in items)

    def rank(item: pytest.Item) -> tuple[bool, bool, int]:
        own, unit = item.get_closest_marker("own_lab") is not None, unit_of(item.nodeid)
        return not own, not any(name in unit for name in LONG), -sizes[unit]

    items.sort(key=rank)


class Units(LoadFileScheduling):  # type: ignore[misc]
    """A process takes the next unit, in the order of collection.

    Of three or more, the one with the tests that wait does nothing else: it is one too many for the
    processors once it no longer waits.
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)

    def _reschedule(self, node: WorkerController) -> None:
        if len(self.nodes) < 3 or WAITING not in self.assigned_work[node]:
            super()._reschedule(node)
        elif not node.shutting_down:
            node.shutdown()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Units:
    """What --dist loadfile stands for here."""
    config.option.loadscopereorder = False
    return Units(config, log)


@pytest.fixture(scope="session")
def images(lab: Lab) -> Mapping[str, str]:  # noqa: F811
    """Every image by name, pinned, in the lab's registry."""
    return publish(lab.registry, lab.registry_ca, lab.cache, binaries())


@pytest.fixture(scope="session")
def fresh(
    lab: Lab,  # noqa: F811
    images: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A bare host, with a site and its vault, before the first deploy."""
    host = lab.start_host(lab.free_name("server"))
    yield Deployment(host, Path(tmp_path_factory.mktemp("site")), images)
    host.destroy()


@pytest.fixture(scope="session")
def deployed(fresh: Deployment) -> Deployment:
    """The host after its first deploy."""
    done = fresh.run("-y")
    assert done.returncode == 0, transcript(done)
    return fresh


@pytest.fixture(scope="session")
def legacy(lab: Lab) -> Iterator[Legacy]:  # noqa: F811
    """The old NEXUS as the report found it; nothing is ever deployed to it."""
    legacy = Legacy.boot(lab)
    yield legacy
    legacy.host.destroy()
