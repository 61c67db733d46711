"""What pyinfra's own command line shows of an inventory or a vault that is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.lab.paths import REPOSITORY
from tests.unit.test_refusals import RAW, TOKEN, Place, another_key, place

__all__ = ["place"]


def pyinfra(place: Place, *options: str) -> str:
    """What a user sees of a refused run; it must be clear without a traceback."""
    argv = [Path(sys.executable).with_name("pyinfra"), *options, place.inventory, "deploy.py"]
    done = subprocess.run(
        argv,
        cwd=REPOSITORY,
        env={**os.environ, "HOME": str(place.folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    assert "Traceback" not in shown and TOKEN not in shown
    return shown


def test_pyinfra_refuses_before_it_connects(place: Place) -> None:
    place.write(ssh_key="/nowhere/id", site={**RAW, "email": "me"})
    shown = pyinfra(place, "-y")
    assert "ssh-keygen -t ed25519" in shown and "write e.g. me@example.org" in shown
    assert place.connections == 0


def test_pyinfra_refuses_an_inventory_that_is_not_there(place: Place) -> None:
    place.inventory.unlink()
    assert "is missing; make it with: make init" in pyinfra(place, "-y")


def test_pyinfra_runs_nothing_with_a_broken_vault(place: Place) -> None:
    place.inventory.write_text(f"hosts = [('@local', {place.login!r})]\n")
    another_key(place)
    shown = pyinfra(place, "-y", "-vvv")
    assert "refused before the host was touched" in shown
    assert "wrong passphrase or key file" in shown
    # With -vvv pyinfra shows each command behind this mark.
    assert ">>>" not in shown
