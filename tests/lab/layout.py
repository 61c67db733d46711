"""Where one host keeps its parts on the outer machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.network import PREFIX

# A container engine's own overlays cannot lie on an overlay, so these are real folders. The second
# is where an engine with containerd's image store keeps its layers.
VOLUMES = ("/var/lib/docker", "/var/lib/containerd")


@dataclass(frozen=True)
class HostLayout:
    """The folder of a host and what its host.json says.

    `lowers` are the read-only trees below the host's own changes, uppermost first.
    """

    directory: Path
    name: str
    number: int
    lowers: tuple[Path, ...]
    ssh_port: int | None = 22

    @classmethod
    def load(cls, directory: Path) -> HostLayout:
        data = json.loads((directory / "host.json").read_text())
        data["lowers"] = tuple(Path(lower) for lower in data["lowers"])
        return cls(directory=directory, **data)

    def save(self) -> None:
        data = asdict(self)
        del data["directory"]
        data["lowers"] = [str(lower) for lower in self.lowers]
        beside = self.directory / "host.new"
        beside.write_text(json.dumps(data, indent=1) + "\n")
        beside.replace(self.directory / "host.json")

    @property
    def machine(self) -> str:
        """The name that the outer machine knows the host by."""
        return f"{PREFIX}-{self.name}"

    @property
    def root(self) -> Path:
        return self.directory / "root"

    @property
    def upper(self) -> Path:
        """The host's own changes."""
        return self.directory / "upper"

    @property
    def work(self) -> Path:
        return self.directory / "work"

    @property
    def pid_file(self) -> Path:
        return self.directory / "supervisor.pid"

    @property
    def nspawn_pid_file(self) -> Path:
        return self.directory / "nspawn.pid"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def volumes_directory(self) -> Path:
        return self.directory / "volumes"

    def volumes(self) -> dict[str, Path]:
        """Path in the host to the folder behind it."""
        return {path: self.volumes_directory / volume_name(path) for path in VOLUMES}


def volume_name(path: str) -> str:
    return path.strip("/").replace("/", "-")
