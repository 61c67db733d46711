"""The monitoring's own judges of files: Debian's programs, unpacked beside the build."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from pathlib import Path

BUILD = Path(__file__).resolve().parents[2] / "build"
# The machine's own release may be older than what the configuration is written for.
SUITE = "trixie"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = {"promtool": "promtool", "amtool": "prometheus-alertmanager"}


def judged(folder: Path, *arguments: str, program: str = "promtool") -> str:
    """What a judge says of files in this folder. Fails with its words when it refuses them.

    Raises:
        subprocess.CalledProcessError: its package cannot be had.
    """
    argv = [_program(program), *arguments]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _program(name: str) -> Path:
    """Its path. Nothing is installed, and no server is started."""
    folder = BUILD / name
    unpacked = folder / "usr/bin" / name
    if not unpacked.exists():
        BUILD.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            _fetch(PACKAGES[name], Path(scratch))
            # Two test processes may come here at once: the first one's serves both.
            with contextlib.suppress(OSError):
                Path(scratch, "tree").rename(folder)
    return unpacked


def _fetch(package: str, folder: Path) -> None:
    """By lists of packages of its own: the machine's stay as they are."""
    source = f"deb [signed-by={KEYS}] {_mirror()} {SUITE} main\n"
    (folder / "sources.list").write_text(source)
    places = {
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": folder / "state",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "",
    }
    for part in ("state/lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in places.items())]
    subprocess.run([*apt, "update"], cwd=folder, check=True)
    subprocess.run([*apt, "download", package], cwd=folder, check=True)
    [archive] = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive, folder / "tree"], check=True)


def _mirror() -> str:
    """Where the machine itself gets Debian from."""
    asked = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    return next(address for address in found if address.rstrip("/").endswith("/debian"))
