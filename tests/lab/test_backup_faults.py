"""What can go wrong with a repository: it is found, named, mended, and nothing is lost by it.

The host's own program with the real restic, on folders of its own: seconds a case.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.deployment import Deployment
from tests.lab.failures import FLIP
from tests.lab.host import Host

pytestmark = pytest.mark.lab

PROGRAM = "/usr/local/lib/nexus/backup"
PLACE = "/var/tmp/faults"
RESTIC = f"RESTIC_PASSWORD_FILE={PLACE}/password RESTIC_CACHE_DIR={PLACE}/cache restic -q"
HOLD = "BEGIN; LOCK TABLE authentication_logs; SELECT pg_sleep(60)"
HELD = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
LET_GO = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
WEEK = "int(time.time() // (7 * 86400))"


@dataclass
class Bench:
    """The program with a plan of one service that is two folders of files, and two repositories."""

    host: Host

    def set_up(self) -> None:
        self.host.run(
            f"rm -rf {PLACE} {PLACE}.clean && mkdir -p {PLACE}/data/old {PLACE}/state {PLACE}/local"
        )
        text = self.host.run(["cat", PROGRAM]).stdout
        for old, new in (
            ("/opt/nexus/config/backup/plan.json", f"{PLACE}/plan.json"),
            ("/var/lib/nexus/metrics", PLACE),
            ("/var/lib/nexus/backup", f"{PLACE}/state"),
            ("/var/cache/nexus-backup", f"{PLACE}/cache"),
        ):
            assert old in text
            text = text.replace(old, new)
        self.write("program", text)
        self.write("password", "a password\n")
        plan = json.loads(self.host.run(["cat", "/opt/nexus/config/backup/plan.json"]).stdout)
        service = {**plan["services"][0], "name": "host", "paths": [f"{PLACE}/data"]}
        repository = {"password": f"{PLACE}/password", "environment": {}, "options": []}
        plan |= {"services": [service], "least_free": 1, "repositories": {}}
        for name in ("local", "offsite"):
            folder = {"folder": f"{PLACE}/{name}", "append_only": False}
            plan["repositories"][name] = {**repository, "address": f"{PLACE}/{name}.at", **folder}
            self.write(f"{name}.at", f"{PLACE}/{name}\n")
        self.plan = plan
        self.write("plan.json", json.dumps(plan))
        self.host.run(f"head -c 6M /dev/urandom > {PLACE}/data/old/film")

    def write(self, name: str, text: str) -> None:
        self.host.run(f"cat > {PLACE}/{name} && chmod 700 {PLACE}/{name}", stdin=text)

    def do(self, verb: str, before: str = "") -> tuple[int, str]:
        """One run of the program: its status and what it said of problems."""
        line = f"{before} NEXUS_BACKUP_UNIT=1 python3 -I {PLACE}/program {verb}"
        done = self.host.run(line, check=False, timeout=300)
        return done.returncode, done.stderr

    def slowed(self, *names: str) -> None:
        """Let restic move 4 MB a second in these repositories, and all it can in the others."""
        for name, repository in self.plan["repositories"].items():
            limits = [f"--limit-{way}=4000" for way in ("upload", "download")]
            repository["options"] = limits if name in names else []
        self.write("plan.json", json.dumps(self.plan))

    def killed(self, verb: str, sign: str, whom: str = "-- -$child") -> str:
        """Start the program and kill it, with restic, when this shell line holds: what it said.

        Never waits for a program that has ended: what was to be seen may have been too short.
        """
        return self.host.run(
            f"cd {PLACE}; NEXUS_BACKUP_UNIT=1 setsid python3 -I program {verb} >/dev/null 2>said & "
            f"child=$!; until {sign}; do kill -0 $child || exit 9; sleep 0.02; done; "
            f"kill -KILL {whom}; wait $child 2>/dev/null; cat said",
            timeout=300,
        ).stdout

    def files(self, kind: str) -> list[str]:
        """The local repository's files of a kind, the largest first."""
        found = f"find {PLACE}/local/{kind} -type f -printf '%s %p\\n' | sort -rn | cut -d' ' -f2"
        return self.host.run(found).stdout.split()

    def kept(self, repository: str) -> list[str]:
        """The film's digest in every snapshot of a repository, each restored from it whole."""
        script = (
            f"cd {PLACE}; for id in $({RESTIC} -r {PLACE}/{repository} snapshots --json | "
            "python3 -c 'import json, sys; [print(s[\"id\"]) for s in json.load(sys.stdin)]'); do "
            f"rm -rf out; {RESTIC} -r {PLACE}/{repository} restore $id --target out >&2 || exit 1; "
            "sha256sum < out/var/tmp/faults/data/old/film; done"
        )
        return [line.split()[0] for line in self.host.run(script, timeout=300).stdout.splitlines()]

    def digest(self) -> str:
        """The film's digest as it is."""
        return self.host.run(f"sha256sum < {PLACE}/data/old/film").stdout.split()[0]


@pytest.fixture(scope="module")
def clean(deployed: Deployment) -> Iterator[Bench]:
    bench = Bench(deployed.host)
    bench.set_up()
    assert bench.do("run") == (0, "")
    assert bench.do("maintain") == (0, "")
    bench.host.run(f"cp -a {PLACE} {PLACE}.clean")
    yield bench
    bench.host.run(f"umount {PLACE}/local 2>/dev/null; rm -rf {PLACE} {PLACE}.clean", check=False)


@pytest.fixture
def bench(clean: Bench) -> Bench:
    """Both repositories with one sound snapshot, anew for each case."""
    clean.host.run(f"umount {PLACE}/local 2>/dev/null; rm -rf {PLACE}; cp -a {PLACE}.clean {PLACE}")
    clean.plan = json.loads(clean.host.run(["cat", f"{PLACE}/plan.json"]).stdout)
    return clean


def test_a_run_with_nothing_new_costs_a_few_starts_of_restic(bench: Bench) -> None:
    """It opens the repository, unlocks it, backs up and forgets: four starts to restic's one."""
    del bench.plan["repositories"]["offsite"]
    bench.write("plan.json", json.dumps(bench.plan))
    run = f"NEXUS_BACKUP_UNIT=1 python3 -I {PLACE}/program run"
    bare = f"{RESTIC} -r {PLACE}/local backup --host bare {PLACE}/data"
    bench.host.run(bare)
    timed = f"TIMEFORMAT=%R; for i in 1 2 3; do time {run}; time {bare}; done"
    seconds = [float(line) for line in bench.host.run(timed, timeout=300).stderr.split()]
    ours, theirs = min(seconds[::2]), min(seconds[1::2])
    print(f"\nnothing new: {ours:.2f} s, {ours / theirs:.1f} times restic's own {theirs:.2f} s")
    assert ours < 8 * theirs


def test_two_at_once_wait_for_each_other(bench: Bench) -> None:
    both = f"NEXUS_BACKUP_UNIT=1 python3 -I {PLACE}/program run"
    done = bench.host.run(f"{both} & {both} && wait $!", timeout=300)
    assert "another one is at work; waiting for it" in done.stdout
    assert bench.kept("local") == [bench.digest()] * 3


def works(word: str) -> str:
    """A shell line: restic has begun with this, of the program that runs."""
    return f"pgrep -g $child -f 'restic.* {word}' >/dev/null && sleep 0.3"


def writes(repository: str) -> str:
    """A shell line: a pack of the repository is half there, under its name for that while."""
    return f"find {PLACE}/{repository}/data -name '*-tmp-*' | grep -q ."


@pytest.mark.parametrize("what", ["backup", "copy", "prune"])
def test_a_kill_in_the_middle_loses_nothing(bench: Bench, what: str) -> None:
    """First restic alone, which the program outlives and names; then both at once."""
    before, host = bench.digest(), bench.host
    host.run(f"head -c 8M /dev/urandom > {PLACE}/data/new")
    if what == "prune":
        # Packs of which one half is needed and the other not, which prune writes anew.
        host.run(f"head -c 8M /dev/urandom > {PLACE}/data/more")
        assert bench.do("run") == (0, "")
        host.run(
            f"rm {PLACE}/data/more && {RESTIC} -r {PLACE}/local backup --host lab --tag host "
            f"{PLACE}/data && {RESTIC} -r {PLACE}/local forget --group-by '' --keep-last 1"
        )
    place, verb = ("offsite" if what == "copy" else "local"), "run"
    named = "host" if what == "backup" else place
    if what == "prune":
        verb = "maintain"
    bench.slowed(place)
    said = bench.killed(verb, writes(place), "$(pgrep -g $child -x restic)")
    assert f"{named}: restic: was ended by SIGKILL" in said, said
    bench.killed(verb, writes(place))
    bench.slowed()
    assert bench.do("run") == (0, "")
    assert bench.do("maintain") == (0, "")
    for name in ("local", "offsite"):
        kept = bench.kept(name)
        assert len(kept) >= 2 and set(kept) == {before}
    newest = f"{RESTIC} -r {PLACE}/%s dump latest {PLACE}/data/new | sha256sum"
    digests = {host.run(newest % name).stdout for name in ("local", "offsite")}
    assert digests == {host.run(f"sha256sum < {PLACE}/data/new").stdout}


def test_a_kill_in_the_middle_of_a_restore_changes_nothing(bench: Bench) -> None:
    bench.slowed("local")
    before = bench.digest()
    bench.killed(f"restore-file host {PLACE}/data/old/film", works("restore"))
    assert bench.host.run(f"ls {PLACE}/data/old").stdout == "film\n"
    bench.slowed()
    assert bench.do(f"restore-file host {PLACE}/data/old/film") == (0, "")
    assert bench.host.run(f"sha256sum < {PLACE}/data/old/film.restored-*").stdout.startswith(before)


def test_a_disk_that_fills_up_meanwhile(bench: Bench) -> None:
    host = bench.host
    host.run(
        f"mv {PLACE}/local {PLACE}/kept && mkdir {PLACE}/local && mount -t tmpfs -o size=12m none "
        f"{PLACE}/local && cp -a {PLACE}/kept/. {PLACE}/local && "
        f"head -c 30M /dev/urandom > {PLACE}/data/new"
    )
    status, said = bench.do("run")
    assert status == 1 and "no space left on device" in said, said
    assert set(bench.kept("local")) == {bench.digest()}
    host.run(f"mount -o remount,size=90m {PLACE}/local")
    assert bench.do("run") == (0, "")
    assert bench.do("maintain") == (0, "")
    assert len(bench.kept("local")) == 2


@pytest.mark.parametrize("kind", ["data", "index", "snapshots", "keys", "a missing pack"])
def test_a_damaged_repository_is_named_and_made_anew(bench: Bench, kind: str) -> None:
    """A pack is read back once in twelve weeks, and by each drill that needs it."""
    host, missing = bench.host, kind == "a missing pack"
    damaged = bench.files("data" if missing else kind)[0]
    name = damaged.rpartition("/")[2]
    if missing:
        host.run(["rm", damaged])
    else:
        host.run(["python3", "-c", FLIP, damaged])
    # The week in which that pack has its turn.
    text = host.run(["cat", f"{PLACE}/program"]).stdout
    assert WEEK in text
    bench.write("program", text.replace(WEEK, str(int(name[:2], 16))))
    status, said = bench.do("maintain")
    assert status == 1 and "local: the repository is damaged: " in said, said
    assert name[:8] in said, said
    assert bench.kept("offsite") == [bench.digest()]
    assert bench.do("rebuild") == (0, "")
    assert bench.do("run") == (0, "")
    assert bench.do("maintain") == (0, "")
    assert bench.kept("local") == [bench.digest()] * 2


def test_a_damaged_key_has_a_copy(bench: Bench) -> None:
    """Where there is no second repository."""
    key = bench.files("keys")[0]
    bench.host.run(["python3", "-c", FLIP, key])
    assert bench.do("run")[0] == 1
    bench.host.run(f"cp {PLACE}/state/keys/keys/* {PLACE}/local/keys/")
    assert bench.do("run") == (0, "")


def test_a_clock_that_went_back_is_named(bench: Bench) -> None:
    """And nothing that it dated wrongly is taken away."""
    ahead = time.time() + 10 * 86400
    date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ahead))
    bench.host.run(
        f"{RESTIC} -r {PLACE}/local backup --time '{date}' --host lab --tag host {PLACE}/data"
    )
    record = f"{PLACE}/state/record.json"
    facts = json.loads(bench.host.run(["cat", record]).stdout)
    facts["snapshot_timestamp_seconds"]["host"] = ahead
    bench.write("state/record.json", json.dumps(facts))
    status, said = bench.do("run")
    assert status == 1 and "clock: it is " in said and "timedatectl" in said, said
    # It was backed up all the same, and from then on it is right.
    assert bench.do("run") == (0, "")
    assert bench.kept("local") == [bench.digest()] * 4


def test_a_busy_database_is_named(deployed: Deployment) -> None:
    """Somebody holds a table; a backup that waits for ever would be none."""
    host, psql = deployed.host, "docker exec nexus-postgres-1 psql -qAt -U authelia authelia -c"
    plan = json.loads(host.run(["cat", "/opt/nexus/config/backup/plan.json"]).stdout)
    plan["services"] = [each for each in plan["services"] if each["name"] == "postgres"]
    plan["repositories"].pop("offsite", None)
    host.run("cat > /var/tmp/busy.json", stdin=json.dumps(plan))
    text = host.run(["cat", PROGRAM]).stdout
    assert 'BUSY = "300s"' in text
    text = text.replace('BUSY = "300s"', 'BUSY = "1s"')
    text = text.replace("/opt/nexus/config/backup/plan.json", "/var/tmp/busy.json")
    host.run("cat > /var/tmp/busy", stdin=text)
    run = "NEXUS_BACKUP_UNIT=1 python3 -I /var/tmp/busy run"
    done = host.run(
        f'{psql} "{HOLD}" >/dev/null 2>&1 & until {psql} "{HELD}" | grep -q 1; do sleep 0.1; '
        f'done; {run}; echo "status $?"; {psql} "{LET_GO}" >/dev/null; wait',
        timeout=300,
    )
    assert "status 1" in done.stdout
    assert "postgres: docker: pg_dump: error:" in done.stderr, done.stderr
    assert host.run(f"{run}; rm /var/tmp/busy /var/tmp/busy.json", timeout=300).stderr == ""
