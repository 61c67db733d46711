"""`make demo`: the old NEXUS becomes the hardened one, is proven, a second run changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from roles.scorecard.card import load
from tests.lab.command import LabError
from tests.lab.deployment import DOMAIN, changed_operations, program
from tests.lab.host import Host
from tests.lab.images.build import publish
from tests.lab.lab import Lab
from tests.lab.legacy import PROJECT, Legacy
from tests.lab.network import LAN
from tests.lab.paths import REPOSITORY, binaries

NAME = "lab-demo"
FOLDER = REPOSITORY / "build" / "demo"
# The pages stay, to be looked at.
BEFORE, AFTER = (REPOSITORY / "build" / "report" / name for name in ("before", "after"))
VAULT = REPOSITORY / "secrets" / f"{NAME}.vault.json"
OPERATION = "--> Starting operation: "


class StepError(Exception):
    """A step of the demonstration failed; the text is the end of what it printed."""


class Demo:
    """The steps, their times in seconds and what each came to."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, str]] = []
        self.environment = {**os.environ, "NEXUS_VAULT_KEY_FILE": str(FOLDER / "key")}

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time one step; its result is said through what is yielded."""
        print(f"\n== {name}", flush=True)
        results: list[str] = []
        began = time.monotonic()
        yield results.append
        took = time.monotonic() - began
        self.rows.append((name, took, " ".join(results)))
        print(f"   {took:.1f} s  {' '.join(results)}", flush=True)

    def command(
        self,
        argv: Sequence[str],
        said: Callable[[str], str] = str,
        wanted: Collection[int] = (0,),
    ) -> str:
        """Run one of the operator's commands; `said` picks from each line what is shown.

        Raises:
            StepError: its exit status is none of those wanted.
        """
        print("   $ " + " ".join(_short(word) for word in argv), flush=True)
        lines = []
        with subprocess.Popen(
            argv,
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if text := said(line.rstrip()):
                    print(f"     {text}", flush=True)
        if process.returncode not in wanted:
            raise StepError("".join(lines[-40:]))
        return "".join(lines)

    def table(self) -> str:
        width = max(len(name) for name, _, _ in self.rows)
        return "\n".join(f"  {name:<{width}}  {took:6.1f} s  {r}" for name, took, r in self.rows)


def main() -> int:
    """0: everything held. 1: a step failed, or the second run changed something."""
    try:
        with Lab("demo", attach=True) as lab:
            return _run(Demo(), lab)
    except (LabError, StepError) as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
        return 1
    finally:
        _remove()


def _run(demo: Demo, lab: Lab) -> int:
    _remove()
    FOLDER.mkdir(parents=True)
    with demo.step("container images, built here or kept from before") as result:
        images = publish(lab.registry, lab.registry_ca, lab.cache, binaries())
        result(f"{len(images)} images in a registry of the lab's own")
    with demo.step("a host boots with the old NEXUS on it") as result:
        legacy = Legacy.boot(lab, "demo")
        host = legacy.host
        result(f"{len(legacy.services)} containers, {len(legacy.published())} published ports")
    inventory = FOLDER / f"{NAME}.py"
    with demo.step("a site and its vault (make init), which replaces it"):
        demo.command(_init(host, images))
        _replace(inventory)
    report = [sys.executable, "-m", "roles.command.report", str(inventory)]
    with demo.step("the scorecard of the old NEXUS (make report)") as result:
        demo.command([*report, "--out", str(BEFORE)], _grade, wanted=(1,))
        result(_score(BEFORE))
    apply = [str(program("pyinfra")), "-y", str(inventory), "deploy.py"]
    with demo.step("the first deploy (make apply)"):
        demo.command(apply, _operation)
    verify = [sys.executable, "-m", "roles.command.verify", str(inventory)]
    with demo.step("proof (make verify)"):
        demo.command(verify)
    with demo.step("the first backup, and its rehearsal (make backup, make drill)"):
        for what in ("run", "drill"):
            demo.command([sys.executable, "-m", "roles.command.backup", str(inventory), what])
    with demo.step("the scorecard of the new stack, beside the old one") as result:
        old = BEFORE / "scorecard.json"
        demo.command([*report, "--out", str(AFTER), "--baseline", str(old)])
        result(_score(AFTER))
    with demo.step("the second deploy") as result:
        changed = _second(demo, apply)
        result(f"{len(changed)} operations changed something")
    print(
        f"\n{demo.table()}\n\n  both scorecards, to look at: {_short(str(AFTER))}/comparison.html\n"
    )
    for name in changed:
        print(f"changed again: {name}")
    return 1 if changed else 0


def _score(folder: Path) -> str:
    card = load(folder / "scorecard.json")
    return f"{card.overall.letter}: {card.overall.held} of {card.overall.number} checks pass"


def _replace(inventory: Path) -> None:
    """What the operator writes into the new inventory."""
    head, line = "site = {\n", f'    "replaces": ["{PROJECT}"],\n'
    text = inventory.read_text()
    inventory.write_text(text.replace(head, head + line))
    print(f"   {inventory.name}: {line.strip()}", flush=True)


def _init(host: Host, images: dict[str, str]) -> list[str]:
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", str(host.known_hosts)], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    answers = {
        "--name": [NAME],
        "--host": [host.address],
        "--ssh-user": [host.user],
        "--ssh-key": [str(host.key_file)],
        "--domain": [DOMAIN],
        "--email": ["admin@example.org"],
        "--timezone": ["Europe/Berlin"],
        "--admin": ["alice"],
        "--lan": [str(LAN.network), str(LAN.network6)],
        "--media": ["movies=/srv/media/movies"],
        "--accept-host-key": [fingerprint],
        "--inventory-dir": [str(FOLDER)],
        "--key-file": [str(FOLDER / "key")],
        "--image": [f"{name}={reference}" for name, reference in images.items()],
    }
    flags = [word for flag, values in answers.items() for word in (flag, *values)]
    return [sys.executable, "-m", "roles.command.init", *flags]


def _second(demo: Demo, apply: Sequence[str]) -> list[str]:
    argv = [*apply, "--json"]
    done = subprocess.run(
        argv, cwd=REPOSITORY, env=demo.environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StepError(done.stdout + done.stderr)
    return changed_operations(done.stdout)


def _operation(line: str) -> str:
    return line.removeprefix(OPERATION) if line.startswith(OPERATION) else ""


def _grade(line: str) -> str:
    """The grades; what is open on the old NEXUS fills screens, and the page has it."""
    return line if line.endswith((" score", " A", " B", " C", " D", " F", " open")) else ""


def _short(word: str) -> str:
    word = word.replace(f"{REPOSITORY}/", "").removeprefix(".venv/bin/")
    return word if len(word) < 60 else f"{word[:40]}..."


def _remove() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    for file in VAULT.parent.glob(f"*{VAULT.name}*"):
        file.unlink()


if __name__ == "__main__":
    sys.exit(main())
