"""`make grade`: what graders from elsewhere say of a freshly deployed host, asked from the LAN.

ssh-audit (https://github.com/jtesta/ssh-audit), sslyze against Mozilla's intermediate profile
(https://wiki.mozilla.org/Security/Server_Side_TLS), and Mozilla's HTTP Observatory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.command import LabError
from tests.lab.deployment import Deployment
from tests.lab.images.build import publish
from tests.lab.lab import Lab
from tests.lab.network import NEIGHBOUR_NAMESPACE
from tests.lab.paths import REPOSITORY, binaries

INSTALLED = REPOSITORY / "build" / "graders"
BEST = "A+"
SECONDS = 180


@dataclass(frozen=True)
class Verdict:
    """One grader's word about one target; no `findings`: it has none."""

    grader: str
    target: str
    word: str
    findings: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Whether nothing is found."""
        return not self.findings


class Place:
    """The neighbour on the LAN, for whom the site's names are the host's and its CA is known."""

    def __init__(self, deployed: Deployment, folder: Path) -> None:
        stack = deployed.stack()
        self.names = [stack.hostname(service) for service in stack.routed()]
        self.authority = folder / "authority.pem"
        self.authority.write_text(deployed.secrets()["tls_ca_certificate"].reveal())
        self._hosts = folder / "hosts"
        self._hosts.write_text(
            f"127.0.0.1 localhost\n{deployed.host.address} {' '.join(self.names)}\n"
        )

    def run(
        self, argv: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A grader's run; a mount namespace of its own has the names, the outer machine has not."""
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        inner = ["unshare", "--mount", "sh", "-c", script, str(self._hosts)]
        return subprocess.run(
            [*inner, *NEIGHBOUR_NAMESPACE.argv(argv)],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )


def ssh_audit(place: Place, address: str) -> Verdict:
    """Every algorithm that it warns of, every known hole, every note.

    Raises:
        LabError: it could not look.
    """
    done = place.run([str(INSTALLED / "python/bin/ssh-audit"), "-jj", address])
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise LabError(f"ssh-audit {address}: {done.stdout}{done.stderr}") from None
    findings = tuple(_of_ssh(report))
    return Verdict("ssh-audit", address, _count(findings), findings)


def _of_ssh(report: Mapping[str, Any]) -> Iterator[str]:
    for kind in ("kex", "key", "enc", "mac"):
        if not report[kind]:
            raise LabError(f"ssh-audit saw no {kind}")
        for entry in report[kind]:
            notes = entry["notes"]
            for note in (*notes.get("fail", ()), *notes.get("warn", ())):
                yield f"{kind} {entry['algorithm']}: {note}"
    yield from (str(hole) for hole in report["cves"])
    yield from report["additional_notes"]


def sslyze(place: Place, name: str) -> Verdict:
    """Mozilla's intermediate profile, the known attacks, and trust in the site's own authority."""
    program = str(INSTALLED / "python/bin/sslyze")
    authority = f"--certinfo_ca_file={place.authority}"
    done = place.run([program, authority, "--mozilla_config=intermediate", name])
    wanted = {
        "not trusted by the site's authority": "Supplied CA file CA Store (N/A):   OK",
        "not Mozilla's intermediate profile": f"{name}:443: OK - Compliant.",
    }
    findings = [finding for finding, line in wanted.items() if line not in done.stdout]
    if done.returncode != 0:
        findings.append((done.stdout + done.stderr).strip().rpartition("COMPLIANCE")[2])
    return Verdict("sslyze", name, _count(findings), tuple(findings))


def observatory(place: Place, name: str) -> Verdict:
    """The grade of the page that somebody without a login gets to see.

    Raises:
        LabError: it could not look.
    """
    script = INSTALLED / "node_modules/@mdn/mdn-http-observatory/src/scan.js"
    trust = {"NODE_EXTRA_CA_CERTS": str(place.authority)}
    done = place.run(["node", str(script), name], trust)
    try:
        report = json.loads(done.stdout)
        scan = report["scan"]
        grade, score, failed = scan["grade"], scan["score"], scan["testsFailed"]
    except (json.JSONDecodeError, KeyError):
        raise LabError(f"observatory {name}: {done.stdout}{done.stderr}") from None
    findings = [test["result"] for test in report["tests"].values() if not test["pass"]]
    if grade != BEST or failed:
        findings.append(f"{grade} is not {BEST}")
    return Verdict("observatory", name, f"{grade} {score}", tuple(findings))


def grade(deployed: Deployment, folder: Path) -> Iterator[Verdict]:
    """Every grader's verdict on every target, as they come."""
    place = Place(deployed, folder)
    for address in (deployed.host.address, deployed.host.address6):
        yield ssh_audit(place, address)
    for name in place.names:
        yield sslyze(place, name)
        yield observatory(place, name)


def show(verdict: Verdict) -> None:
    """One line, and one more for each finding."""
    mark = "good" if verdict.good else "BAD"
    target = f"{verdict.target:<28}"
    print(f"{mark:<5} {verdict.grader:<12} {target} {verdict.word}", flush=True)
    for finding in verdict.findings:
        print(f"        {finding}", flush=True)


def _count(findings: Sequence[str]) -> str:
    return f"{len(findings)} findings" if findings else "no finding"


def main() -> int:
    """0: the best grade everywhere, and no finding. 1: otherwise."""
    try:
        with Lab("grade", attach=True) as lab, tempfile.TemporaryDirectory() as folder:
            print("a bare host boots and is deployed to", flush=True)
            images = publish(lab.registry, lab.registry_ca, lab.cache, binaries())
            host = lab.start_host(lab.free_name("grade"))
            try:
                deployed = Deployment(host, Path(folder), images)
                deployed.apply()
                return _judge(grade(deployed, Path(folder)))
            finally:
                host.destroy()
    except (LabError, AssertionError) as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1


def _judge(verdicts: Iterator[Verdict]) -> int:
    good = True
    for verdict in verdicts:
        show(verdict)
        good &= verdict.good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
