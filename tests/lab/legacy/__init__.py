"""The old NEXUS, after the validation report of August 2025, on a host of the lab."""

from tests.lab.legacy.host import PROJECT, RESTARTING, SOCKET_HOLDERS, Legacy

__all__ = ["PROJECT", "RESTARTING", "SOCKET_HOLDERS", "Legacy"]
