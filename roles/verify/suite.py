"""The tests of a host, and how pytest runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2] / "tests" / "host"
# They judge any host; what only its operator can do fails there, and is no failure of a deploy.
CHECKS = TESTS / "checks"
# Those that happen to be installed take half a second to load, and none is used.
NO_PLUGINS = "--disable-plugin-autoload"
# The report says more than pytest's own tracebacks and summary.
OPTIONS = ("-q", "--tb=no", "-rN", "--disable-warnings", "-p", "no:cacheprovider", NO_PLUGINS)
EXITS = {pytest.ExitCode.OK: 0, pytest.ExitCode.TESTS_FAILED: 1}


def run_tests(plugin: object, options: Sequence[str]) -> int:
    """Run tests/host with a plugin that hands it the hosts. 0 all holds, 1 not, 2 it broke off."""
    outcome = pytest.main([*OPTIONS, *options, str(TESTS)], plugins=[plugin])
    return EXITS.get(pytest.ExitCode(outcome), 2)
