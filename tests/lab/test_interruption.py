"""A deploy that is cut off anywhere is finished by the next one, and never leaves half a file."""

from __future__ import annotations

import base64
import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from roles.core.model import File
from tests.lab.deployment import Deployment, transcript
from tests.lab.lab import Lab
from tests.lab.paths import REPOSITORY

pytestmark = pytest.mark.lab

OPERATION = "--> Starting operation"
OPERATIONS = (REPOSITORY / "deploy.py").read_text().count(".deploy(plan)")
# Ten of them, spread over the run, where each cut is followed by a whole run.
SPREAD = sorted({1 + number * (OPERATIONS - 1) // 9 for number in range(10)})
READ = """import base64, json, pathlib, sys
paths = json.load(sys.stdin)
found = {p: pathlib.Path(p) for p in paths if pathlib.Path(p).is_file()}
print(json.dumps({p: base64.b64encode(f.read_bytes()).decode() for p, f in found.items()}))
"""
# More containers take longer and have no role of another kind.
MORE = ("sonarr", "radarr", "lidarr", "prowlarr", "bazarr", "seerr", "sabnzbd")
WAYS = ("client killed", "power cut")
# Something for every role to do, as a first run has. A host still boots and lets in.
SCRAMBLE = (
    "rm -rf /opt/nexus/config /opt/nexus/secrets /opt/nexus/compose.yml /etc/docker/daemon.json; "
    "rm -f /usr/local/lib/nexus/*; echo '# stray' | tee -a /etc/ssh/sshd_config /etc/ufw/*.rules; "
    "rm -f /etc/sysctl.d/90-nexus.conf /etc/apt/apt.conf.d/52nexus-updates; "
    "docker rm -f nexus-homepage-1 nexus-valkey-1; ufw --force disable"
)


@pytest.fixture(scope="module", params=WAYS)
def bare(
    request: pytest.FixtureRequest,
    lab: Lab,
    images: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, Deployment]]:
    host = lab.start_host(lab.free_name("cut"))
    deployment = Deployment(host, Path(tmp_path_factory.mktemp("cut")), images)
    deployment.site["services"] |= {name: {"enabled": False} for name in MORE}
    yield request.param, deployment
    host.destroy()


def test_a_first_run_cut_again_and_again_gets_there(bare: tuple[str, Deployment]) -> None:
    """Each run is cut later than the last; one way or the other, every operation is cut."""
    way, deployment = bare
    for number in range(1 + WAYS.index(way), OPERATIONS + 1, len(WAYS)):
        cut(deployment, way, number)
    finish(deployment)


def test_the_run_after_any_cut_converges(bare: tuple[str, Deployment]) -> None:
    way, deployment = bare
    for number in SPREAD:
        deployment.host.run(SCRAMBLE, check=False)
        cut(deployment, way, number)
        finish(deployment)


def cut(deployment: Deployment, way: str, number: int) -> None:
    """Begin a deploy and cut it off shortly after its `number`th operation has begun."""
    client = subprocess.Popen(
        deployment.argv("-y"),
        env=deployment.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert client.stdout is not None
    begun = 0
    for line in client.stdout:
        begun += line.startswith(OPERATION)
        if begun == number:
            break
    assert begun == number, "it ended by itself"
    # Anywhere between the start of the operation and its end, the same at each run of the test.
    time.sleep(random.Random(f"{way} {number}").uniform(0, 1.5))  # noqa: S311
    if way == "power cut":
        deployment.host.power_cut()
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    if way == "power cut":
        deployment.host.start()
    assert not half_written(deployment)


def finish(deployment: Deployment) -> None:
    done = deployment.run("-y")
    assert done.returncode == 0, transcript(done)
    assert deployment.apply() == []
    assert deployment.healthy() == {f"nexus-{s.name}-1" for s in deployment.stack().services}


def half_written(deployment: Deployment) -> list[str]:
    """Managed files that hold the beginning of what they should and no more."""
    wanted = {f.path: f.content for role in deployment.desired() for f in role.of(File)}
    argv = ["python3", "-c", READ]
    found = json.loads(deployment.host.run(argv, stdin=json.dumps(list(wanted))).stdout)
    contents = {path: base64.b64decode(text) for path, text in found.items()}
    return [
        path
        for path, content in contents.items()
        if content != wanted[path] and wanted[path].startswith(content)
    ]
