"""What the largest files cost that are read at all."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.lab.paths import REPOSITORY

JUDGE = """
import sys, time
from roles.command.audit import main
for path in sys.argv[1:]:
    began = time.process_time()
    status = main([path, "--fail-on=never"])
    print("judged", status, time.process_time() - began, file=sys.stderr)
"""


def test_the_worst_files_take_little_memory_and_time(tmp_path: Path) -> None:
    """The largest files that are read at all, by a process that may take 300 MB, each in 10 s."""
    command = b"services:\n  a:\n    command: [%s]"
    worst = {
        "braces": b"services: {a: {image: '%s'}}" % (b"${A:-" * 12000),
        "closed": b"services: {a: {image: '%s%s'}}" % (b"${A:-" * 10000, b"}" * 10000),
        "urls": command % b",".join([b"a://" * 16000] * 15),
        "words": command % b",".join([b"'-a " + b"b " * 32000 + b"'"] * 15),
        "quotes": command % b",".join([b"'\"" + b"a " * 32000 + b"'"] * 15),
        "services": b"services:\n" + b"".join(b"  s%d: {image: deluge}\n" % n for n in range(500)),
        "nonsense": bytes(range(32, 127)) * 11000,
    }
    for name, content in worst.items():
        (tmp_path / name).write_bytes(content)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (300 * 2**20, 300 * 2**20))

    argv = [sys.executable, "-c", JUDGE, *(str(tmp_path / name) for name in worst)]
    done = subprocess.run(
        argv,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
        preexec_fn=limited,
        text=True,
    )
    lines = [line.split() for line in done.stderr.splitlines()]
    judged = [(words[1], float(words[2])) for words in lines if words[:1] == ["judged"]]
    assert len(judged) == len(worst) and done.returncode == 0, done.stderr[-300:]
    assert all(status in {"0", "2"} and seconds < 10 for status, seconds in judged), judged
