"""Every container that runs, whoever deployed it. CIS Docker Benchmark 1.6, section 5."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from roles.scorecard.results import not_applicable
from roles.stack.service import Service
from roles.verify.collected import Container
from roles.verify.collector import KILL_DAYS
from roles.verify.report import expect, expect_that
from roles.verify.target import Target
from tests.host.checks.judging import applications, none_of, program, running
from tests.host.checks.programs import (
    DATABASES,
    DOWNLOADERS,
    ORGANISERS,
    PROXIES,
    SOCKET_PROXIES,
    STATEFUL,
)

RESTARTED_BY = {"always", "unless-stopped", "on-failure"}
MOST_RESTARTS = 5
# Where images see what several of them share.
MEDIA = ("/media", "/downloads")
SYSTEM = ("/boot", "/dev", "/etc", "/lib", "/proc", "/root", "/sys", "/usr")
# What time it is here, which machine this is, and a shell to ask with where an image has none.
HARMLESS = {"/etc/localtime", "/etc/timezone", "/etc/machine-id", "/usr/bin/bash-static"}
# The graphics unit and the end of a tunnel.
USUAL_DEVICES = ("/dev/dri", "/dev/net/tun")
CREDENTIAL = re.compile(r"(PASSW|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY)", re.IGNORECASE)
UNSPOKEN = ("FILE", "_PATH")
FAKES = {
    "AI": r"\b(ai|llm|gpt|neural)\b|ml-",
    "voice": r"voice|alexa|speech",
    "AR or VR": r"\bar-?vr\b|\bvr\b|webxr|arvr|metaverse",
    "blockchain": r"blockchain|web3|ethereum|ipfs|\bnft\b|ganache",
    "quantum": r"quantum",
}


def on_the_default_bridge(container: Container, _: Service | None) -> bool:
    return "bridge" in container.networks


def without_a_chosen_user(container: Container, _: Service | None) -> bool:
    told = {"PUID", "UID", "USER_ID"} & container.environment.keys()
    return not (container.inspect["Config"].get("User") or told)


def root(container: Container, service: Service | None) -> bool:
    waived = service is not None and service.user is not None and service.user.value == "0"
    return not waived and any("0" in uids.split() for uids in container.status("Uid"))


def holds_the_socket(container: Container, _: Service | None) -> str:
    proxy = container.program in SOCKET_PROXIES
    return "" if proxy else ", ".join(container.engine_sockets)


def system_folders(container: Container, _: Service | None) -> str:
    proxy = container.program in SOCKET_PROXIES
    found = [str(m.get("Source", "")) for m in container.inspect["Mounts"] if m["Type"] == "bind"]
    bad = [s for s in found if s == "/" or (s.startswith(SYSTEM) and s not in HARMLESS)]
    return "" if proxy else ", ".join(bad)


def may_gain_privileges(container: Container, _: Service | None) -> bool:
    return container.status("NoNewPrivs") != {"1"}


def unfiltered_calls(container: Container, _: Service | None) -> bool:
    settings = container.settings
    without = any("unconfined" in option for option in settings["SecurityOpt"] or ())
    return without or settings["Privileged"] or container.status("Seccomp") != {"2"}


def capabilities(container: Container, service: Service | None) -> str:
    kept = {waiver.value for waiver in service.capabilities} if service else set()
    return ", ".join(sorted(container.capabilities("CapBnd") - kept))


def writable_root(container: Container, service: Service | None) -> bool:
    waived = service is not None and service.writable_root is not None
    return not waived and not container.settings["ReadonlyRootfs"]


def devices(container: Container, service: Service | None) -> str:
    kept = {waiver.value for waiver in service.devices} if service else set()
    found = [d["PathOnHost"] for d in container.settings.get("Devices") or ()]
    bad = [d for d in found if d not in kept and not d.startswith(USUAL_DEVICES)]
    return ", ".join(bad)


def spoken_credentials(container: Container, _: Service | None) -> str:
    names = [
        name
        for name, value in container.environment.items()
        if CREDENTIAL.search(name) and value and not name.endswith(UNSPOKEN)
    ]
    names += [n for n in container.labels if n.endswith("basicauth.users")]
    return ", ".join(sorted(names))


def publishes_beside_the_proxy(container: Container, _: Service | None) -> str:
    ports = sorted(f"{protocol} {port}" for protocol, port in container.published)
    return "" if container.program in PROXIES else ", ".join(ports)


def unlimited_memory(container: Container, _: Service | None) -> bool:
    return container.memory is None


def unlimited_processors(container: Container, _: Service | None) -> bool:
    return container.cpus is None


def unlimited_processes(container: Container, _: Service | None) -> bool:
    return container.pids is None


def unchecked(container: Container, _: Service | None) -> bool:
    return not container.health


def unhealthy(container: Container, _: Service | None) -> str:
    return container.health if container.health in {"unhealthy", "starting"} else ""


def not_restarted(container: Container, _: Service | None) -> bool:
    return container.settings["RestartPolicy"]["Name"] not in RESTARTED_BY


def restarts_for_ever(container: Container, _: Service | None) -> str:
    count = container.inspect.get("RestartCount", 0)
    looping = container.inspect["State"].get("Restarting") or count > MOST_RESTARTS
    return f"{count} times" if looping else ""


def unpinned(container: Container, _: Service | None) -> str:
    name = str(container.inspect["Config"]["Image"])
    return "" if "@sha256:" in name else name


def endless_logs(container: Container, _: Service | None) -> str:
    log = container.settings["LogConfig"]
    # The journal has a limit of its own.
    bounded = log["Type"] in {"journald", "none", "local"} or (log["Config"] or {}).get("max-size")
    return "" if bounded else str(log["Type"])


def keeps_nothing(container: Container, _: Service | None) -> bool:
    return container.program in STATEFUL and not _own(container)


def configured_in_itself(container: Container, _: Service | None) -> bool:
    return not any(m["Type"] == "bind" for m in _own(container))


def _own(container: Container) -> list[Mapping[str, Any]]:
    """What it keeps beside the media, which some see at the same path as the host does."""
    return [
        mount
        for mount in container.keeps
        if not str(mount["Destination"]).startswith(MEDIA)
        and mount["Destination"] != mount["Source"]
    ]


def outside_compose(container: Container, _: Service | None) -> bool:
    return "com.docker.compose.project" not in container.labels


def shares_a_folder_of_data(target: Target) -> list[str]:
    """Folders, but for media and downloads, that several containers write to."""
    writers: dict[str, list[str]] = {}
    for container in running(target):
        for mount in container.keeps:
            writers.setdefault(str(mount["Source"]), []).append(container.name)
    common = {m for c in running(target) if c.program in ORGANISERS for m in _sources(c)}
    return [f"{s}: {', '.join(n)}" for s, n in writers.items() if len(n) > 1 and s not in common]


def _sources(container: Container) -> set[str]:
    return {str(m["Source"]) for m in container.inspect["Mounts"] if m["Destination"] != "/config"}


# The check, what is listed, who offends.
EVERY = (
    ("SEC-01", "containers on Docker's default bridge", on_the_default_bridge),
    ("SEC-03", "containers with a process of root", root),
    ("SEC-04", "containers with an engine's socket", holds_the_socket),
    ("SEC-07", "containers with a folder of the system", system_folders),
    ("SEC-08", "containers whose processes may gain privileges", may_gain_privileges),
    ("SEC-09", "containers without a filter of system calls", unfiltered_calls),
    ("SEC-10", "containers with capabilities", capabilities),
    ("SEC-11", "containers that can change their own programs", writable_root),
    ("SEC-12", "containers with a device of the host", devices),
    ("SEC-18", "containers that show a credential to docker inspect", spoken_credentials),
    ("API-02", "ports published beside the proxy", publishes_beside_the_proxy),
    ("PERF-01", "containers without a limit of memory", unlimited_memory),
    ("PERF-02", "containers without a limit of processors", unlimited_processors),
    ("PERF-03", "containers without a limit of processes", unlimited_processes),
    ("MON-05", "containers without a health check", unchecked),
    ("MON-06", "containers that are not healthy", unhealthy),
    ("MON-08", "containers that restart again and again", restarts_for_ever),
    ("MON-22", "containers whose log has no limit", endless_logs),
    ("OPS-04", "containers that stay down after a crash", not_restarted),
    ("OPS-01", "containers outside a Compose project", outside_compose),
    ("API-04", "images that are not pinned by digest", unpinned),
    ("REC-01", "containers whose data goes with them", keeps_nothing),
)
# The same of the media applications alone.
OF_APPLICATIONS = (
    ("SEC-02", "applications without a chosen user", without_a_chosen_user),
    ("MON-04", "applications without a health check", unchecked),
    ("REC-02", "applications with no folder of their own on the host", configured_in_itself),
)


def marked(rows: Sequence[tuple[Any, ...]]) -> list[object]:
    """A test for each row, with the row's check."""
    return [pytest.param(*row[1:], id=row[0], marks=pytest.mark.check(row[0])) for row in rows]


@pytest.mark.parametrize(("words", "offends"), marked(EVERY))
def test_every_container(target: Target, words: str, offends: object) -> None:
    assert callable(offends)
    none_of(target, words, offends)


@pytest.mark.parametrize(("words", "offends"), marked(OF_APPLICATIONS))
def test_applications(target: Target, words: str, offends: object) -> None:
    assert callable(offends)
    none_of(target, words, offends, applications(target))


@pytest.mark.check("PERF-13")
def test_none_was_killed_for_want_of_memory(target: Target) -> None:
    def lacked_memory(container: Container, _: Service | None) -> bool:
        return target.collected.lacked_memory(container)

    none_of(target, f"containers short of memory in the last {KILL_DAYS} days", lacked_memory)


@pytest.mark.check("INT-11")
def test_each_writes_to_its_own(target: Target) -> None:
    expect("folders that several containers write to", shares_a_folder_of_data(target), [])


@pytest.mark.check("REC-03")
def test_media_are_apart_from_configuration(target: Target) -> None:
    player = program(target, "jellyfin")
    sources = [str(m["Source"]) for m in player.inspect["Mounts"] if m["Type"] != "tmpfs"]
    kept = [str(m["Source"]) for m in player.keeps if m["Destination"] == "/config"]
    media = [s for s in sources if s not in kept]
    apart = bool(kept and media) and not any(s.startswith(f"{k}/") for k in kept for s in media)
    expect_that(apart, f"{player.name} mounts", sources, "media beside the configuration")


@pytest.mark.check("INT-07")
def test_the_player_cannot_change_media(target: Target) -> None:
    player = program(target, "jellyfin")
    own = {"/config", "/cache", "/transcode"}
    writable = [str(m["Source"]) for m in player.keeps if m["Destination"] not in own]
    expect(f"media that {player.name} can change", writable, [])


@pytest.mark.check("OPS-02")
def test_services_are_organised(target: Target) -> None:
    def unclear(container: Container, _: Service | None) -> bool:
        return container.labels.get("com.docker.compose.service", "-") not in container.name

    none_of(target, "containers not named after their service", unclear)


@pytest.mark.check("EXP-04")
def test_media_are_organised(target: Target) -> None:
    player = {str(m["Source"]) for m in program(target, "jellyfin").inspect["Mounts"]}
    organisers = [c for c in running(target) if c.program in ORGANISERS]
    shared = [c.name for c in organisers if c.health == "healthy" and _reaches(c, player)]
    wanted = "one that files media where the player reads them"
    expect_that(bool(shared), "healthy organisers", shared, wanted)


def _reaches(container: Container, places: set[str]) -> bool:
    """Whether it sees one of the places, by itself or through a folder above or below."""
    own = {s for s in _sources(container) if s}
    pairs = [(a, b) for a in own for b in places if b]
    return any(a == b or a.startswith(f"{b}/") or b.startswith(f"{a}/") for a, b in pairs)


RUNNING = (
    ("EXP-05", ("jellyfin",)),
    ("EXP-16", ("seerr", "overseerr", "jellyseerr")),
    ("EXP-17", ("bazarr",)),
    ("EXP-18", DOWNLOADERS),
    ("PERF-06", ("valkey", "redis", "memcached")),
    ("API-10", ORGANISERS),
    ("INT-12", ("postgres", "mariadb", "mysql")),
)


@pytest.mark.parametrize("programs", marked(RUNNING))
def test_a_program_runs_and_is_well(target: Target, programs: tuple[str, ...]) -> None:
    found = program(target, *programs)
    expect(f"{found.name} health", found.health, "healthy")


@pytest.mark.parametrize(
    "feature",
    marked(
        (
            ("EXP-06", "AI"),
            ("EXP-07", "AR or VR"),
            ("EXP-08", "voice"),
            ("EXP-09", "blockchain"),
            ("EXP-10", "quantum"),
        )
    ),
)
def test_no_fake_feature_runs(target: Target, feature: str) -> None:
    words = re.compile(FAKES[feature], re.IGNORECASE)

    def plays(container: Container, _: Service | None) -> bool:
        named = f"{container.name} {container.inspect['Config']['Image'].partition('@')[0]}"
        return bool(words.search(named.replace("_", "-")))

    none_of(target, f"containers that promise {feature}", plays, mend="stop and remove it")


@pytest.mark.check("PERF-07")
def test_the_player_has_a_cache_of_its_own(target: Target) -> None:
    player = program(target, "jellyfin")
    places = {str(mount["Destination"]) for mount in player.keeps}
    expect_that("/cache" in places, f"{player.name} folders", places, "/cache among them")


@pytest.mark.check("PERF-09")
def test_transcoding_has_a_bounded_folder(target: Target) -> None:
    player = program(target, "jellyfin")
    # A folder of the host is not its own, whatever it lies on.
    shared = {str(m["Destination"]) for m in player.inspect["Mounts"] if m["Type"] != "tmpfs"}
    bounded = [
        mount.target
        for mount in player.mounts
        if "transcod" in mount.target
        and mount.target not in shared
        and mount.kind == "tmpfs"
        and any(option.startswith("size=") for option in mount.options)
    ]
    wanted = "one in memory with a size"
    expect_that(bool(bounded), f"{player.name} transcoding folders", bounded, wanted)


@pytest.mark.check("COM-10")
def test_torrents_go_through_the_tunnel(target: Target) -> None:
    clients = target.collected.playing("qbittorrent", "transmission", "deluge")
    if not clients:
        running(target)
        not_applicable("no torrent client runs here")
    outside = [
        client.name
        for client in clients
        if not str(client.settings["NetworkMode"]).startswith("container:")
    ]
    expect("torrent clients with a network of their own", outside, [])


@pytest.mark.check("SEC-22")
def test_databases_have_no_way_out(target: Target) -> None:
    internal = {n["Name"] for n in target.collected.raw["networks"] if n["Internal"]}

    def open_network(container: Container, _: Service | None) -> str:
        return ", ".join(sorted(container.networks.keys() - internal))

    databases = target.collected.playing(*DATABASES)
    running(target)
    expect_that(bool(databases), "databases", databases, "at least one")
    none_of(target, "databases in a network with a way out", open_network, databases)


@pytest.mark.check("SEC-21")
def test_five_networks_are_in_use(target: Target) -> None:
    used = {name for container in running(target) for name in container.networks}
    expect_that(len(used) >= 5, "networks in use", used, "five or more")


@pytest.mark.check("INT-03")
def test_the_database_has_checksums(target: Target) -> None:
    database = program(target, "postgres")
    options = database.environment.get("POSTGRES_INITDB_ARGS", "")
    # On by default from version 18: https://www.postgresql.org/docs/18/release-18.html
    newer = int(re.sub(r"\D.*", "", database.environment.get("PG_MAJOR", "0")) or 0) >= 18
    held = newer or ("--data-checksums" in options.split())
    expect_that(held, f"{database.name} checksums", options, "--data-checksums")


@pytest.mark.check("PERF-08")
def test_the_database_is_tuned(target: Target) -> None:
    """A tenth to two fifths of the memory: beyond, little is gained (PostgreSQL 18, 19.4.1)."""
    database = program(target, "postgres")
    words = [str(word) for word in database.inspect["Args"] or ()]
    settings = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
    shared = settings.get("shared_buffers", "")
    fits = database.memory is not None and 0.1 <= memory_size(shared) / database.memory <= 0.4
    seen = f"shared_buffers {shared or 'not set'}, limit {database.memory}"
    expect_that(fits, f"{database.name} memory", seen, "shared_buffers of a quarter or so")


def memory_size(text: str) -> int:
    """A size of PostgreSQL in bytes, 0 where it is none; a bare number is in pages of 8 kB."""
    found = re.fullmatch(r"(\d+)\s*(kB|MB|GB|TB|B|)", text)
    units = {"": 8192, "B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
    return int(found[1]) * units[found[2]] if found else 0


@pytest.mark.check("PERF-04")
def test_limits_fit_the_host(target: Target) -> None:
    total = sum(container.memory or 0 for container in running(target))
    memory = target.context.facts.memory
    fits = 0 < total <= memory
    expect_that(fits, "memory limits in all", total, f"at most the host's {memory} bytes")


@pytest.mark.check("PERF-05")
def test_hardware_transcodes(target: Target) -> None:
    if target.context.facts.render is None:
        not_applicable("no render device on this host")
    player = program(target, "jellyfin")
    found = [d["PathOnHost"] for d in player.settings.get("Devices") or ()]
    wanted = target.context.facts.render.device
    expect_that(wanted in found, f"{player.name} devices", found, wanted)
    groups = {group for line in player.status("Groups") for group in line.split()}
    expect_that(
        str(target.context.facts.render.gid) in groups,
        f"{player.name} groups",
        groups,
        f"{target.context.facts.render.gid}, the device's",
    )
