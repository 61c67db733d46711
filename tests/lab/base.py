"""States of hosts that others start from."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab.command import LabError, run
from tests.lab.layout import HostLayout

BARE = "bare"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,80}")


@dataclass(frozen=True)
class Bases:
    """The saved states under `directory`, all on the one bare `tree`."""

    directory: Path
    tree: Path

    def exists(self, name: str) -> bool:
        """Whether a host can start from it. One on an outdated tree does not count."""
        return name == BARE or self._tree_of(name) == str(self.tree)

    def lowers(self, name: str) -> tuple[Path, ...]:
        """The read-only layers of a base, uppermost first. Raises LabError for an unknown one."""
        if name == BARE:
            return (self.tree,)
        if not self.exists(name):
            raise LabError(f"there is no base {name!r}; save one from a stopped host")
        return (*_layers(self._path(name)), self.tree)

    def copy_volumes(self, name: str, layout: HostLayout) -> None:
        """Give a new host its own copy of what the base's engine stored."""
        if name != BARE:
            _copy(self._path(name) / "volumes", layout.volumes_directory)

    def save(self, layout: HostLayout, name: str) -> None:
        """Keep a stopped host's state as base `name`, in place of an earlier one."""
        if name == BARE or not _NAME.fullmatch(name):
            raise LabError(f"{name!r} cannot name a base")
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(dir=self.directory, prefix=".new-"))
        new.chmod(0o755)
        _copy(layout.upper, new / "layer-0")
        # Linked, so that a base needs no other one: that may be removed or saved again.
        for number, lower in enumerate(layout.lowers[:-1], 1):
            _copy(lower, new / f"layer-{number}", "--link")
        _copy(layout.volumes_directory, new / "volumes")
        (new / "base.json").write_text(json.dumps({"tree": str(layout.lowers[-1])}))
        self.remove(name)
        new.rename(self._path(name))

    def remove(self, name: str) -> None:
        """Forget a base; nothing happens when there is none of that name."""
        if self._path(name).exists():
            # A running host may stand on it, so its files go with the next run.
            self._path(name).rename(Path(tempfile.mkdtemp(dir=self.directory, prefix=".old-")))

    def remove_outdated(self) -> None:
        """Remove bases of an older tree and what a killed run was saving."""
        for path in self.directory.glob("*"):
            if path.name.startswith(".") or not self.exists(path.name):
                shutil.rmtree(path)

    def _path(self, name: str) -> Path:
        return self.directory / name

    def _tree_of(self, name: str) -> str | None:
        try:
            text = (self._path(name) / "base.json").read_text()
        except FileNotFoundError:
            return None
        return str(json.loads(text)["tree"])


def _layers(base: Path) -> list[Path]:
    return sorted(base.glob("layer-*"), key=lambda path: int(path.name.removeprefix("layer-")))


def _copy(source: Path, target: Path, *options: str) -> None:
    # The system's cp keeps what an overlay needs: device nodes and trusted.* attributes.
    run(["cp", "--archive", "--reflink=auto", *options, str(source), str(target)], timeout=600)
