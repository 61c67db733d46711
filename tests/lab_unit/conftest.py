"""These tests try what the unit tests try: the same examples on every machine."""

from __future__ import annotations

import tests.unit.conftest  # noqa: F401 - loads hypothesis's profile
