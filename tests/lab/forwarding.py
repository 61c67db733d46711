"""Make the outer machine a router, and give it its own settings back afterwards."""

from __future__ import annotations

from pathlib import Path

_SYSCTL = Path("/proc/sys/net")
_FORWARDING = {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}


def enable() -> dict[str, str]:
    """Turn forwarding on; returns what was set before (for `restore`)."""
    before = current()
    for name, value in before.items():
        # A router ignores router advertisements unless this says 2, and would lose its own
        # IPv6 default route (ip-sysctl, accept_ra).
        if name.endswith("/accept_ra") and value == "1":
            _write(name, "2")
    for name, value in _FORWARDING.items():
        _write(name, value)
    return before


def current() -> dict[str, str]:
    """The settings that `enable` changes."""
    names = [f"ipv6/conf/{path.parent.name}/accept_ra" for path in _accept_ra()]
    # Forwarding last: restoring it resets others of its family.
    return {name: (_SYSCTL / name).read_text().strip() for name in [*names, *_FORWARDING]}


def restore(before: dict[str, str]) -> None:
    """Set what `enable` returned; an interface that has gone meanwhile is passed over."""
    for name in (*_FORWARDING, *(name for name in before if name not in _FORWARDING)):
        if name in before and (_SYSCTL / name).exists():
            _write(name, before[name])


def _accept_ra() -> list[Path]:
    found = (_SYSCTL / "ipv6/conf").glob("*/accept_ra")
    return [path for path in found if not path.parent.name.startswith("nxlab")]


def _write(name: str, value: str) -> None:
    path = _SYSCTL / name
    if path.exists() and path.read_text().strip() != value:
        path.write_text(value)
