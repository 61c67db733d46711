"""Tests: unit (pure), lab (disposable hosts) and host (read-only checks of a real one)."""
