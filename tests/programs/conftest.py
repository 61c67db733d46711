"""What these tests share with the unit tests."""

from __future__ import annotations

from tests.unit.conftest import (
    cheap_secrets,
    context,
    engine,
    make_context,
    raw,
    roles,
    vault_path,
)

__all__ = ["cheap_secrets", "context", "engine", "make_context", "raw", "roles", "vault_path"]
