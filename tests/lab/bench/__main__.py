"""The promises about speed, measured in one run: `python -m tests.lab.bench`.

Exit status: 0, or 1 when a limit is broken or something could not be measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.bench.backups import backup_rows
from tests.lab.bench.figures import Row, interleaved, table
from tests.lab.bench.playbook import Playbook
from tests.lab.command import LabError, run
from tests.lab.deployment import Deployment, changed_operations, program
from tests.lab.host import Host
from tests.lab.images.build import publish
from tests.lab.lab import Lab
from tests.lab.paths import binaries

ROUNDS = 5
# A round of these takes a minute.
BACKUP_ROUNDS = 3
MANY = 10
BASE = "bench"
# One full stack takes about 0.6 GB: engine, shims and seven containers.
MEMORY_A_HOST = 0.8e9
SETTLE_SECONDS = 300.0
# A file whose change restarts nothing, so that the file alone is measured.
ONE_FILE = "/etc/apt/apt.conf.d/52nexus-updates"

# One thing of each kind that both manage: the playbook must mend what our deploy would.
DRIFT = f"""set -e
echo '// altered' >> {ONE_FILE}
chmod 0755 /opt/nexus/secrets/traefik
touch /opt/nexus/config/homepage/stray
ln -sf /usr/share/zoneinfo/UTC /etc/localtime
sysctl -qw net.ipv4.conf.all.log_martians=0
usermod -s /bin/bash nexus-traefik
systemctl stop ufw.service
iptables -I INPUT -p tcp --dport 9999 -j ACCEPT
docker rm -f nexus-homepage-1
apt-get -qq -y purge unattended-upgrades
"""

FLOOR_LIMIT = 3.0
COMMANDS_LIMIT = 8
CHANGED_LIMIT = 1.5
MANY_LIMIT = 4.0


def main(argv: list[str] | None = None) -> int:
    """Measure everything, print the table, and judge it."""
    arguments = _parser().parse_args(argv)
    try:
        rows = measure(arguments.rounds)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps([row.as_json() for row in rows], indent=1))
    else:
        print(table(rows))
    return 1 if any(row.verdict == "over" for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.lab.bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON with every sample")
    parser.add_argument("--rounds", type=_count, default=ROUNDS, help="samples of each measure")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count; write e.g. 5")
    return int(text)


def measure(rounds: int) -> list[Row]:
    """All rows. Raises LabError when a run fails or changes what it should not."""
    enough_memory()
    with (
        Lab("bench", attach=True, wait=600) as lab,
        tempfile.TemporaryDirectory(prefix="nexus-bench-") as folder,
    ):
        with step("images"):
            images = publish(lab.registry, lab.registry_ca, lab.cache, binaries())
        host = lab.start_host(lab.free_name("bench"))
        deployment = Deployment(host, Path(folder), images)
        with step(f"first deploy of {host.name}"):
            deploy(deployment, deployment.argv("-y", "--json"))
        rows = one_host(deployment, Path(folder), rounds)
        rows += backup_rows(host, min(rounds, BACKUP_ROUNDS), say)
        with step("saving the deployed host as a base"):
            host.stop()
            host.save(BASE)
        host.destroy()
        try:
            return [*rows, *many_hosts(lab, deployment, rounds)]
        finally:
            lab.bases.remove(BASE)


def one_host(deployment: Deployment, folder: Path, rounds: int) -> list[Row]:
    """The floor, a run without change, one with a changed file, and Ansible, in turns."""
    host = deployment.host
    argv = deployment.argv("-y", "--json")
    compared = folder / "playbook"
    compared.mkdir(mode=0o700)
    playbook = Playbook(deployment, compared)
    with step("the playbook mends drift as the deploy would"):
        host.run(DRIFT)
        playbook.run()
        deploy(deployment, argv, changes=0)

    def changed_file() -> float:
        host.run(["sh", "-c", f"echo '// altered' >> {ONE_FILE}"])
        return timed(lambda: deploy(deployment, argv, changes=1))

    def comparison() -> None:
        if changed := playbook.run():
            raise LabError(f"the playbook's second run changed {changed} tasks")

    no_change = "no-change run"
    actions = {
        "pyinfra --version": lambda: timed(lambda: run([str(program("pyinfra")), "--version"])),
        "ssh host true": lambda: timed(lambda: run([*host.ssh_argv(host.user), "true"])),
        no_change: lambda: timed(lambda: deploy(deployment, argv, changes=0)),
        "one changed file": changed_file,
        "Ansible": lambda: timed(comparison),
    }
    samples = interleaved(rounds, actions, say)
    floor = tuple(
        map(sum, zip(samples["pyinfra --version"], samples["ssh host true"], strict=True))
    )
    spent = remote_commands(deployment)
    lowest = Row("pyinfra --version + ssh host true", floor)
    unchanged = Row(
        "no-change run, to that floor", samples[no_change], against=lowest.median, limit=FLOOR_LIMIT
    )
    return [
        lowest,
        unchanged,
        Row("no-change run, remote commands", (spent,), "", limit=COMMANDS_LIMIT),
        Row(
            "one changed file, to no change",
            samples["one changed file"],
            against=unchanged.median,
            limit=CHANGED_LIMIT,
        ),
        Row("Ansible, no change, to ours", samples["Ansible"], against=unchanged.median),
    ]


def many_hosts(lab: Lab, deployment: Deployment, rounds: int) -> list[Row]:
    """Ten hosts with the whole stack against one of them, while all ten are up."""
    with step(f"starting {MANY} hosts with the whole stack"):
        hosts = [lab.start_host(lab.free_name(BASE), BASE) for _ in range(MANY)]
        for host in hosts:
            settle(host)
    logins = [deployment.login(host) for host in hosts]
    together = deployment.argv_for(logins, "-y", "--json")
    alone = [*together, "--limit", hosts[0].address]
    samples = interleaved(
        rounds,
        {
            "one of ten hosts": lambda: timed(lambda: deploy(deployment, alone, changes=0)),
            "ten hosts": lambda: timed(lambda: deploy(deployment, together, changes=0)),
        },
        say,
    )
    one = Row("one while ten whole stacks are up", samples["one of ten hosts"])
    ten = Row(
        "ten whole stacks in parallel, to one",
        samples["ten hosts"],
        against=one.median,
        limit=MANY_LIMIT,
    )
    return [one, ten]


def deploy(deployment: Deployment, argv: list[str], changes: int | None = None) -> None:
    """One run; where `changes` is given, that many operations must have changed something."""
    done = deployment.execute(argv)
    if done.returncode != 0:
        raise LabError(f"the deploy failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    changed = changed_operations(done.stdout)
    if changes is not None and len(changed) != changes:
        raise LabError(f"the deploy should have changed {changes} operations, not {changed}")


def remote_commands(deployment: Deployment) -> int:
    """How many commands a run without change sends to the host, counted in pyinfra's own log."""
    done = deployment.run("-y", "--debug")
    spent = (done.stdout + done.stderr).count("Running command on")
    if done.returncode != 0 or not spent:
        raise LabError(f"pyinfra's log names no remote command:\n{done.stderr[-3000:]}")
    return spent


def settle(host: Host) -> None:
    """Wait until its boot is over and its containers are healthy."""
    host.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=SETTLE_SECONDS)
    deadline = time.monotonic() + SETTLE_SECONDS
    while host.run("docker ps --filter health=starting -q").stdout:
        if time.monotonic() > deadline:
            raise LabError(f"{host.name}: its containers did not become healthy")
        time.sleep(1)


def enough_memory() -> None:
    """Raises LabError where the hosts would not fit."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    if free < MANY * MEMORY_A_HOST:
        raise LabError(
            f"{MANY} hosts need {MANY * MEMORY_A_HOST / 1e9:.0f} GB of memory; "
            f"{free / 1e9:.1f} GB are free"
        )


def timed(action: Callable[[], object]) -> float:
    """How many seconds it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextmanager
def step(what: str) -> Iterator[None]:
    """Say what is being done, and how long it took."""
    say(f"{what} ...")
    start = time.perf_counter()
    yield
    say(f"{what}: {time.perf_counter() - start:.0f} s")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
