"""A container that takes all it can get. Each stops by itself, so that the machine survives."""

from __future__ import annotations

from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.place import Place

PAGE = "homepage"
STANDS = "start page's container"
MEGABYTE = 1 << 20
MEGABYTES, PROCESSES, FILM = 1024, 300, 3 << 30
KILLED = 137
HOG = f"""
taken = bytearray()
for _ in range({MEGABYTES} // 16):
    taken.extend(b"x" * (16 << 20))
print(len(taken) >> 20)
"""
BOMB = f"""
import os, time
made = 0
try:
    while made < {PROCESSES}:
        if os.fork() == 0:
            time.sleep(4)
            os._exit(0)
        made += 1
except BlockingIOError:
    pass
print(made)
"""
FILL = """
import os, sys
path, size, step = sys.argv[1], int(sys.argv[2]), 64 << 20
with open(path, "wb") as file:
    try:
        for start in range(0, size, step):
            os.posix_fallocate(file.fileno(), start, step)
    except OSError as error:
        print(error.strerror)
    else:
        print("written")
print(os.path.getsize(path))
"""


@attack(STANDS, "box 2.6", "box 7.5")
def all_of_the_host_s_memory(place: Place) -> Outcome:
    """Without a limit one container's leak is everybody's: the kernel kills whom it likes."""
    done = place.python(PAGE, HOG, check=False)
    if done.returncode == 0:
        return Outcome(True, f"{done.stdout.strip()} MiB taken, nothing stopped it")
    control(done.returncode == KILLED, f"it ended with {done.returncode}: {done.stderr[-200:]}")
    # The engine keeps that until the next start, and the host's scorecard would tell of it.
    place.host.run(["docker", "restart", place.container(PAGE)])
    limit = int(place.inspect(PAGE, "{{.HostConfig.Memory}}"))
    return Outcome(False, f"killed within its {limit // MEGABYTE} MiB")


@attack(STANDS, "box 2.6", "box 7.5")
def all_of_the_host_s_processes(place: Place) -> Outcome:
    """A fork bomb leaves nobody a process, not even for the login of who would stop it."""
    made = int(place.python(PAGE, BOMB).stdout)
    control(made > 0, "not one process could be made")
    ending = "nothing stopped it" if made == PROCESSES else "then no more"
    return Outcome(made == PROCESSES, f"{made} processes, {ending}")


@attack("player's container", "box 2.4", "box 7.5")
def all_of_the_host_s_disk_by_transcoding(place: Place) -> Outcome:
    """Where transcoded pieces lie in a folder of the host, one long film fills it for everybody."""
    path = "/transcode/film"
    try:
        said, size = place.python("jellyfin", FILL, path, str(FILM)).stdout.splitlines()
        taken, left = of_the_host(place)
    finally:
        place.inside("jellyfin", ["rm", "-f", path])
    control(int(size) > 1 << 30, f"not even a gigabyte could be written: {said}")
    evidence = (
        f"{int(size) // MEGABYTE} MiB, then: {said}; of the host's disk {taken // MEGABYTE} MiB"
    )
    return Outcome(taken > 1 << 30, f"{evidence}, {left} left there" if left else evidence)


def of_the_host(place: Place) -> tuple[int, str]:
    """How much of the host's own disk the pieces take in bytes, and what is left beside them."""
    form = '{{range .Mounts}}{{if eq .Destination "/transcode"}}{{.Source}}{{end}}{{end}}'
    folder = place.inspect("jellyfin", form)
    if not folder:
        return 0, ""
    taken = place.host.run(["du", "-s", "-B1", folder]).stdout.split()[0]
    left = place.host.run(["df", "-h", "--output=avail", folder]).stdout.split()[-1]
    return int(taken), left


ATTACKS = (
    all_of_the_host_s_memory,
    all_of_the_host_s_processes,
    all_of_the_host_s_disk_by_transcoding,
)
