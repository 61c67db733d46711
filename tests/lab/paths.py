"""Where the lab keeps what it makes."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

# Interfaces, namespaces and the nft table are global to the machine, so their lock is as well.
LOCK_FILE = Path("/run/nxlab.lock")
RECORD_FILE = Path("/run/nxlab.json")
# A note for each namespace that the lab has made, with the name of its cable's outer end. Both go
# with a reboot, and a name with the prefix is no proof.
MADE = Path("/run/nxlab.d")


def cache_dir() -> Path:
    """What is worth keeping between runs: root trees, packages, the registry's storage."""
    return _directory("cache", Path("/var/cache/nexus-lab"))


def state_dir() -> Path:
    """What one run makes and removes again. Needs a real file system (overlay uppers).

    A folder that nothing else uses: its whole content goes with the lab.
    """
    return _directory("state", Path("/var/lib/nexus-lab/lab"))


def binaries() -> Path | None:
    """The folder with real programs that take the place of doubles, if one is given."""
    chosen = os.environ.get("LAB_BIN_DIR")
    return Path(chosen).resolve() if chosen else None


def _directory(kind: str, default: Path) -> Path:
    chosen = os.environ.get("NEXUS_LAB_DIR")
    path = Path(chosen).resolve() / kind if chosen else default
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    return path


def module_environment() -> dict[str, str]:
    """The environment in which `python -m tests.lab...` works from any folder."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
