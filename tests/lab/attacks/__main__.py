"""`make attack`: every attack on the old NEXUS and on the hardened host, in one table."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.lab.attacks import ALL, Place
from tests.lab.attacks.table import rows
from tests.lab.attacks.torrents import swarm
from tests.lab.command import LabError
from tests.lab.deployment import Deployment
from tests.lab.images.build import publish
from tests.lab.lab import Lab
from tests.lab.legacy import Legacy
from tests.lab.paths import binaries


def main() -> int:
    """0: all worked before and none does after. 1: one did not, or could not be tried."""
    try:
        with Lab("attacks", attach=True) as lab, tempfile.TemporaryDirectory() as folder:
            return _run(lab, Path(folder))
    except LabError as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1


def _run(lab: Lab, folder: Path) -> int:
    images = publish(lab.registry, lab.registry_ca, lab.cache, binaries())
    print("The old NEXUS boots, and a bare Debian 13 is deployed to ...", flush=True)
    with ThreadPoolExecutor(2) as pool:
        old = pool.submit(Legacy.boot, lab)
        new = pool.submit(_deployed, lab, folder, images)
        legacy, deployment = old.result(), new.result()
    with swarm(deployment) as others:
        before, after = Place.legacy(legacy, others), Place.hardened(deployment, others)
        table = rows(ALL, before, after, lambda row: print(row, flush=True))
    flipped = sum(row.flips for row in table)
    print(f"\n{flipped} of {len(table)} attacks worked before and fail now")
    return 0 if flipped == len(table) else 1


def _deployed(lab: Lab, folder: Path, images: Mapping[str, str]) -> Deployment:
    host = lab.start_host(lab.free_name("server"))
    deployment = Deployment(host, folder, images)
    done = deployment.run("-y")
    if done.returncode != 0:
        raise LabError(done.stdout + done.stderr)
    return deployment


if __name__ == "__main__":
    sys.exit(main())
