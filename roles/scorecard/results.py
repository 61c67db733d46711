"""What a test of a host says beside pass and fail: what it saw, and that it does not apply."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

import pytest

_seen: ContextVar[list[str] | None] = ContextVar("seen", default=None)


class NotApplicable(pytest.skip.Exception):  # type: ignore[misc,name-defined]
    """A check has no meaning for this site or host. It is shown and does not count."""


def not_applicable(reason: str) -> NoReturn:
    """End a test whose check has no meaning here.

    Raises:
        NotApplicable: always.
    """
    raise NotApplicable(reason)


def evidence(text: str) -> None:
    """Keep what a test saw, pass or fail. Never a secret: a report with one is not written."""
    seen = _seen.get()
    if seen is not None and text not in seen:
        seen.append(text)


@contextmanager
def recording() -> Iterator[list[str]]:
    """What `evidence` is told within."""
    seen: list[str] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)
