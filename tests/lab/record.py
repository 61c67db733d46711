"""What the lab that is up must give back, readable by the run that cleans up after it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.lab.paths import RECORD_FILE


@dataclass(frozen=True)
class Record:
    """The running lab: its id, whether it stays, its folder, the router's settings before it."""

    run_id: str
    persist: bool
    state: Path
    forwarding: dict[str, str]

    @classmethod
    def load(cls) -> Record | None:
        """None when no lab was left: records vanish with a reboot, as all they describe does."""
        try:
            data = json.loads(RECORD_FILE.read_text())
        except FileNotFoundError:
            return None
        return cls(data["run_id"], data["persist"], Path(data["state"]), data["forwarding"])

    def save(self) -> None:
        data = {**vars(self), "state": str(self.state)}
        beside = RECORD_FILE.with_suffix(".new")
        beside.write_text(json.dumps(data, indent=1) + "\n")
        beside.replace(RECORD_FILE)

    @staticmethod
    def remove() -> None:
        RECORD_FILE.unlink(missing_ok=True)
