"""What these tests share with the unit tests."""

from __future__ import annotations

from tests.unit.conftest import cheap_secrets, context, make_context, roles

__all__ = ["cheap_secrets", "context", "make_context", "roles"]
