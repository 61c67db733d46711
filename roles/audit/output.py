"""A judged file as a table to read, as JSON and as SARIF 2.1.0."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from roles.audit.project import Project
from roles.audit.rules import RULES, SEVERITIES, Finding, judge
from roles.core.state import printable

COLOURS = {"critical": "1;31", "high": "31", "medium": "33", "low": "36", "info": "2"}
GRAVE = {"critical", "high"}
MANY = 4
# SARIF knows three levels; the number is what code scanning sorts by.
# https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html 3.27.10
LEVELS = {
    "critical": ("error", "9.5"),
    "high": ("error", "8.0"),
    "medium": ("warning", "5.5"),
    "low": ("note", "3.0"),
    "info": ("note", "1.0"),
}
SARIF_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


@dataclass(frozen=True, slots=True)
class Audit:
    """One file with its findings, the worst first."""

    project: Project
    findings: Sequence[Finding]

    @classmethod
    def of(cls, project: Project) -> Audit:
        return cls(project, judge(project))

    def worst_at_least(self, severity: str) -> bool:
        """Whether a finding is as bad as `severity` or worse."""
        limit = SEVERITIES.index(severity)
        return any(SEVERITIES.index(finding.severity) <= limit for finding in self.findings)


def as_text(audits: Iterable[Audit], *, colour: bool, width: int = 100) -> str:
    """What a person reads: a verdict, the services from the worst, who reaches whom, the mends."""
    return "\n".join(line for audit in audits for line in _lines(audit, colour, width)) + "\n"


def _lines(audit: Audit, colour: bool, width: int) -> Iterator[str]:
    project, findings = audit.project, audit.findings
    yield f"{printable(project.title)}: {_verdict(project, findings)}"
    common = _common(findings)
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        if _kind(finding) not in common:
            groups.setdefault(finding.service, []).append(finding)
    for service, found in groups.items():
        yield f"\n{printable(service) or 'the whole file'}: {_counts(found)}"
        for finding in found:
            head = f"{_place(finding, project):>6}  {finding.rule.id:22}"
            yield from _row(finding.severity, head, finding.why, colour, width)
    if common:
        yield "\nin many services"
    for found in common.values():
        whys = {finding.why for finding in found}
        places = ", ".join(_place(finding, project) for finding in found)
        why = f"{whys.pop() if len(whys) == 1 else found[0].rule.title}: {places}"
        head = f"{len(found):6}  {found[0].rule.id:22}"
        yield from _row(found[0].severity, head, why, colour, width)
    yield from _ports(project)
    yield from _networks(project, width)
    yield from _mends(findings, width)


def _kind(finding: Finding) -> tuple[str, str]:
    return finding.severity, finding.rule.id


def _common(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """What is said of so many services that one row says it better; never what is grave."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.severity not in GRAVE:
            groups.setdefault(_kind(finding), []).append(finding)
    return {
        kind: found
        for kind, found in groups.items()
        if len({finding.service for finding in found}) >= MANY
    }


def _mends(findings: Sequence[Finding], width: int) -> Iterator[str]:
    if findings:
        yield "\nwhat mends it"
    broken = {finding.rule.id for finding in findings}
    for rule in RULES:
        if rule.id in broken:
            control = f" [{rule.control}]" if rule.control else ""
            yield from _wrapped(f"  {rule.id:22}  ", f"{rule.mend}{control}", width)


def _verdict(project: Project, findings: Sequence[Finding]) -> str:
    number = len(project.services)
    services = f"{number} service{'s' if number > 1 else ''}"
    if not findings:
        return f"{services}, no finding"
    worst = {
        "critical": "one step from root on the host",
        "high": "not fit for a network that anybody else is in",
        "medium": "sound at the door, soft inside",
    }
    verdict = worst.get(findings[0].severity, "sound; the rest is care")
    return f"{services}, {_counts(findings)}: {verdict}"


def _counts(findings: Iterable[Finding]) -> str:
    counts = Counter(finding.severity for finding in findings)
    return ", ".join(f"{counts[each]} {each}" for each in SEVERITIES if counts[each])


def _place(finding: Finding, project: Project) -> str:
    """The line alone, unless it is in another file."""
    other = "" if finding.file == project.file else printable(finding.file.name)
    return f"{other}:{finding.line}"


def _row(severity: str, head: str, why: str, colour: bool, width: int) -> Iterator[str]:
    lines = list(_wrapped(f"  {severity:8}  {head}  ", printable(why), width))
    if colour:
        painted = f"\033[{COLOURS[severity]}m{severity}\033[0m"
        lines[0] = lines[0].replace(severity, painted, 1)
    yield from lines


def _ports(project: Project) -> Iterator[str]:
    words = {True: "passes UFW", False: "this machine only", None: "depends on a variable"}
    lines = [
        f"  {printable(service.name):22}  {printable(str(port)):32}  {words[port.passes_ufw]}"
        for service in project.services.values()
        for port in service.ports()
    ]
    yield from ["\npublished ports", *lines] if lines else []


def _networks(project: Project, width: int) -> Iterator[str]:
    yield "\nwho reaches whom: all members of a network reach each other"
    for network, members in sorted(project.members().items()):
        inner = (
            project.networks[network].mapping.get("internal")
            if network in project.networks
            else None
        )
        internal = " (internal)" if inner and inner.raw == "true" else ""
        yield from _wrapped(
            f"  {printable(network) + internal:22}  ", printable(", ".join(members)), 100
        )


def _wrapped(head: str, text: str, width: int) -> Iterator[str]:
    room = max(40, width - len(head))
    parts = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    yield head + parts[0]
    yield from (" " * len(head) + part for part in parts[1:])


def as_json(audits: Iterable[Audit]) -> str:
    """Stable: keys are only ever added. `passes_ufw` is null where a variable decides."""
    return (
        json.dumps({"version": 1, "files": [_document(each) for each in audits]}, indent=2) + "\n"
    )


def _document(audit: Audit) -> dict[str, Any]:
    project = audit.project
    counts = Counter(finding.severity for finding in audit.findings)
    return {
        "file": str(project.file),
        "merged": [str(file) for file in project.files[1:]],
        "services": len(project.services),
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "findings": [
            {
                "rule": finding.rule.id,
                "severity": finding.severity,
                "service": finding.service,
                "file": str(finding.file),
                "line": finding.line,
                "title": finding.rule.title,
                "why": finding.why,
                "mend": finding.rule.mend,
                "control": finding.rule.control,
            }
            for finding in audit.findings
        ],
        "ports": [
            {
                "service": service.name,
                "address": port.address,
                "published": port.published,
                "target": port.target,
                "protocol": port.protocol,
                "line": port.node.line,
                "passes_ufw": port.passes_ufw,
            }
            for service in project.services.values()
            for port in service.ports()
        ],
        "networks": dict(sorted(project.members().items())),
        "reach": project.reach(),
    }


def as_sarif(audits: Iterable[Audit]) -> str:
    """One run over all files, for code scanning."""
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.title},
            "help": {"text": f"{rule.mend}"},
            "defaultConfiguration": {"level": LEVELS[rule.severity][0]},
            "properties": {
                "security-severity": LEVELS[rule.severity][1],
                "tags": ["security", *([rule.control] if rule.control else [])],
            },
        }
        for rule in RULES
    ]
    numbers = {rule.id: number for number, rule in enumerate(RULES)}
    results = [_result(each, numbers) for audit in audits for each in audit.findings]
    driver = {"name": "nexus-audit", "version": "1", "rules": rules}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    document = {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2) + "\n"


def _result(finding: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    subject = f"{finding.service}: " if finding.service else ""
    path = finding.file
    return {
        "ruleId": finding.rule.id,
        "ruleIndex": numbers[finding.rule.id],
        "level": LEVELS[finding.severity][0],
        "message": {"text": f"{subject}{finding.why}. Mend: {finding.rule.mend}"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(path)},
                    "region": {"startLine": finding.line},
                }
            }
        ],
        "properties": {"severity": finding.severity},
    }


def _uri(path: Path) -> str:
    """Relative to where the audit runs, so that code scanning finds the file in the repository."""
    here = Path.cwd()
    whole = path if path.is_absolute() else here / path
    if whole.is_relative_to(here):
        return quote(whole.relative_to(here).as_posix())
    return whole.as_uri()
