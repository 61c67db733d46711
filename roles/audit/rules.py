"""The rules in one table, and the judgement of a file by them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from roles.audit import checks
from roles.audit.checks import Hit
from roles.audit.project import Project, Service

SEVERITIES = ("critical", "high", "medium", "low", "info")
Check = Callable[[Project], Iterator[tuple[str, Hit]]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. Control ids with a dot are of the CIS Docker Benchmark 1.6, CWE is MITRE's."""

    id: str
    severity: str
    control: str
    title: str
    mend: str
    check: Check


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule at one place; `service` is empty for what is about the whole file."""

    rule: Rule
    severity: str
    service: str
    file: Path
    line: int
    why: str

    @property
    def order(self) -> tuple[int, int, str, str]:
        return SEVERITIES.index(self.severity), self.line, self.rule.id, self.why


def judge(project: Project) -> list[Finding]:
    """Every finding, the worst first."""
    found = {
        Finding(rule, hit.severity or rule.severity, service, hit.node.file, hit.node.line, hit.why)
        for rule in RULES
        for service, hit in rule.check(project)
    }
    return sorted(found, key=lambda finding: finding.order)


def _each(check: Callable[[Service], Iterator[Hit]]) -> Check:
    def judged(project: Project) -> Iterator[tuple[str, Hit]]:
        return (
            (service.name, hit) for service in project.services.values() for hit in check(service)
        )

    return judged


def _whole(check: Callable[[Project], Iterator[Hit]]) -> Check:
    def judged(project: Project) -> Iterator[tuple[str, Hit]]:
        return (("", hit) for hit in check(project))

    return judged


RULES = (
    Rule(
        "docker-socket",
        "critical",
        "CIS 5.32",
        "The Docker socket is mounted",
        "put a socket proxy with an allowlist in between, or drop the mount",
        _each(checks.docker_socket),
    ),
    Rule(
        "privileged",
        "critical",
        "CIS 5.5",
        "The container is privileged",
        "remove it; give the one device or capability that is needed",
        _each(checks.privileged),
    ),
    Rule(
        "socket-proxy",
        "high",
        "CIS 5.32",
        "The socket proxy lets too much through",
        "publish no port of it, and allow reading only",
        _each(checks.socket_proxy),
    ),
    Rule(
        "secret-in-file",
        "high",
        "CWE-798",
        "A secret stands in the file",
        "change it, keep it in a file of mode 0400, and give it by secrets: and NAME_FILE",
        _each(checks.secret_in_file),
    ),
    Rule(
        "no-password",
        "high",
        "CWE-306",
        "A database takes everybody",
        "set a password by secrets:",
        _each(checks.no_password),
    ),
    Rule(
        "published-port",
        "medium",
        "CIS 5.14",
        "A port is published past the firewall",
        "remove it and go through the reverse proxy, or publish on 127.0.0.1",
        _each(checks.published_port),
    ),
    Rule(
        "api-insecure",
        "high",
        "CWE-306",
        "Traefik's API is open",
        "remove it; route api@internal behind a login",
        _each(checks.api_insecure),
    ),
    Rule(
        "host-namespace",
        "high",
        "CIS 5.10, 5.16, 5.17, 5.21, 5.31",
        "A namespace of the host is shared",
        "remove it; publish or mount what is needed",
        _each(checks.host_namespace),
    ),
    Rule(
        "added-capability",
        "medium",
        "CIS 5.4",
        "A capability is added",
        "remove it, or use an image that does without",
        _each(checks.added_capability),
    ),
    Rule(
        "kept-capabilities",
        "medium",
        "CIS 5.4",
        "Capabilities are not dropped",
        "cap_drop: [ALL], and cap_add what it is known to need",
        _each(checks.kept_capabilities),
    ),
    Rule(
        "new-privileges",
        "medium",
        "CIS 5.26",
        "New privileges are possible",
        "security_opt: [no-new-privileges:true]",
        _each(checks.new_privileges),
    ),
    Rule(
        "unconfined",
        "high",
        "CIS 5.2, 5.22",
        "A confinement is off",
        "remove it; write a profile if the default is too strict",
        _each(checks.unconfined),
    ),
    Rule(
        "no-memory-limit",
        "medium",
        "CIS 5.11",
        "Memory has no limit",
        "mem_limit, or deploy.resources.limits.memory",
        _each(checks.no_memory_limit),
    ),
    Rule(
        "no-cpu-limit",
        "low",
        "CIS 5.12",
        "Processors have no limit",
        "cpus, or deploy.resources.limits.cpus",
        _each(checks.no_cpu_limit),
    ),
    Rule(
        "no-pids-limit",
        "low",
        "CIS 5.29",
        "Processes have no limit",
        "pids_limit",
        _each(checks.no_pids_limit),
    ),
    Rule(
        "no-health-check",
        "low",
        "CIS 5.27",
        "Nothing asks whether it works",
        "a healthcheck that asks the program itself",
        _each(checks.no_health_check),
    ),
    Rule(
        "writable-root",
        "low",
        "CIS 5.13",
        "The root file system is writable",
        "read_only: true, with tmpfs: for what it writes",
        _each(checks.writable_root),
    ),
    Rule(
        "root-user",
        "low",
        "CIS 4.1",
        "No user is set",
        "user: with a number above 0",
        _each(checks.root_user),
    ),
    Rule(
        "floating-image",
        "low",
        "CWE-829",
        "The image is not pinned",
        "name a version and its digest: image:1.2.3@sha256:...",
        _each(checks.floating_image),
    ),
    Rule(
        "retired-image",
        "high",
        "CWE-1104",
        "The image gets no more fixes",
        "move to what replaces it",
        _each(checks.retired_image),
    ),
    Rule(
        "host-mount",
        "high",
        "CIS 5.6",
        "A folder of the system is mounted",
        "mount the one folder that is needed, read-only",
        _each(checks.host_mount),
    ),
    Rule(
        "host-device",
        "high",
        "CIS 5.18",
        "A device gives the host away",
        "remove it, or give the one device that is needed",
        _each(checks.host_device),
    ),
    Rule(
        "log-rotation",
        "low",
        "",
        "The log has no limit",
        "logging: options: max-size and max-file",
        _each(checks.log_rotation),
    ),
    Rule(
        "no-restart",
        "low",
        "",
        "Nothing starts it again",
        "restart: unless-stopped",
        _each(checks.no_restart),
    ),
    Rule(
        "torrent-without-tunnel",
        "high",
        "",
        "Torrents go past the tunnel",
        "network_mode: service: with the VPN's service",
        _each(checks.torrent_without_tunnel),
    ),
    Rule(
        "wide-outbound",
        "medium",
        "",
        "The tunnel's firewall has a wide hole",
        "name the one network that the web page is used from",
        _each(checks.wide_outbound),
    ),
    Rule(
        "fake-feature",
        "medium",
        "",
        "A feature may be a name only",
        "see whether it does what it says; remove it if not",
        _each(checks.fake_feature),
    ),
    Rule(
        "flat-network",
        "medium",
        "",
        "Everything is in one network",
        "give each application its own network, and databases one with internal: true",
        _whole(checks.flat_network),
    ),
    Rule(
        "data-in-reach",
        "medium",
        "",
        "A download client reaches a database",
        "take one of them out of the network that they share",
        _whole(checks.data_in_reach),
    ),
    Rule(
        "duplicate-key",
        "medium",
        "",
        "A key stands twice",
        "keep one of them",
        _whole(checks.twice),
    ),
    Rule(
        "not-judged",
        "medium",
        "",
        "A part was not read",
        "audit that file as well",
        _whole(checks.unread),
    ),
    Rule(
        "old-format",
        "info",
        "",
        "The format is old",
        "remove version:, and put services below services:",
        _whole(checks.old_format),
    ),
)
