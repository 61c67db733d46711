"""The difference between desired and observed: what is wrong is mended, in order; nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.core.model import (
    Absent,
    Chain,
    Check,
    Container,
    Desired,
    Directory,
    File,
    Group,
    Guard,
    Handler,
    Link,
    Network,
    Notice,
    Package,
    Resource,
    Stack,
    Sysctl,
    Unit,
    User,
    identity,
)
from roles.core.state import Changes, diff
from tests.unit import observation
from tests.unit.observation import converged

FILE = File("/etc/app.conf", b"wanted", "0640", "root", "app")
FOLDER = Directory("/etc/app", "0750", "root", "app")
LINK = Link("/etc/localtime", "/usr/share/zoneinfo/UTC")
ABSENT = Absent("/etc/legacy")
GROUP = Group("app", 8100)
USER = User("app", 8100, "app", groups=("video", "render"))
SYSCTL = Sysctl("net.ipv4.tcp_rmem", "4096 131072 6291456")
UNIT = Unit("app.service", restart_on=("/etc/app.conf",), reload_on=("/etc/app",))
CHAIN = Chain("4", "INPUT", ("-P INPUT DROP", "-A INPUT -j a", "-A INPUT -j b"), "reload")
NETWORK = Network("nx-edge", ("10.1.0.0/24", "fd00::/64"), internal=True, bridge="nx-edge0")
DATABASE = Container("db", "print-db", ("nx-data",), 1 << 28, 10**9, 64, "unless-stopped")
WEB = Container("web", "print-web", ("nx-edge", "nx-data"), 1 << 27, 10**8, 32, "always")
STACK = Stack("nexus", "/opt/compose.yml", "org.inputs", (DATABASE, WEB))
RELOAD = Handler("reload", ("app", "reload"))
EVERY_KIND = (
    *(Package("app"), GROUP, USER, FILE, FOLDER, LINK, ABSENT, SYSCTL, UNIT, CHAIN),
    *(NETWORK, STACK),
)


def role(*resources: Resource, **extra: Any) -> Desired:
    return Desired("role", resources, **extra)


def compare(desired: Desired, **changes: Any) -> Changes:
    return diff(desired, converged(desired, **changes))


def commands(changes: Changes) -> list[str]:
    """What the agent would run, as one line a command."""
    return [
        " ".join(step["argv"]) for step in changes.steps if step["do"] in {"run", "compose", "try"}
    ]


def kinds(changes: Changes) -> list[str]:
    return [step["do"] for step in changes.steps]


# --- every kind -----------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", EVERY_KIND, ids=lambda r: type(r).__name__)
def test_what_is_right_needs_no_step(resource: Resource) -> None:
    changes = compare(role(resource, handlers=(RELOAD,)))
    assert not changes
    assert changes.lines == []


@pytest.mark.parametrize("resource", EVERY_KIND, ids=lambda r: type(r).__name__)
def test_what_a_bare_host_lacks_is_made(resource: Resource) -> None:
    bare = converged(nonce=observation.NONCE)
    changes = diff(role(resource, handlers=(RELOAD,)), bare)
    assert bool(changes) is (resource is not ABSENT)
    assert len(changes.lines) >= len(changes.steps) > 0 or resource in (ABSENT, UNIT, CHAIN, STACK)


@pytest.mark.parametrize(
    ("desired", "only"),
    [
        (role(FILE, FOLDER, LINK, checks=(Check(("true",), (FILE.path,)),)), True),
        (role(FILE, UNIT), False),
        (role(File("/etc/systemd/system/app.service", b"")), False),
        (role(FILE, handlers=(Handler("reload", ("app", "reload"), (FILE.path,)),)), False),
        (role(FILE, notices=(Notice("other", "reload", (FILE.path,)),)), False),
        (role(FILE, guard=Guard(45)), False),
        *((role(each), False) for each in (Package("app"), GROUP, USER, SYSCTL, NETWORK)),
    ],
)
def test_only_files_put_right_change_nothing_else(desired: Desired, only: bool) -> None:
    assert diff(desired, converged(nonce=observation.NONCE)).only_files is only


@pytest.mark.parametrize(
    ("seen", "step", "words"),
    [
        ({"type": "absent"}, "file", "absent"),
        ({"type": "directory"}, "file", "directory"),
        ({"type": "link", "target": "/etc/app.conf"}, "file", "link"),
        ({"type": "special"}, "file", "special"),
        ({"digest": "00"}, "file", "content"),
        ({"mode": "0644"}, "attributes", "mode 0644 -> 0640"),
        ({"owner": "eve", "uid": "666"}, "attributes", "owner eve -> root"),
        ({"group": "eve", "gid": "666"}, "attributes", "group eve -> app"),
    ],
)
def test_a_file_is_replaced_only_where_its_content_is_wrong(
    seen: dict[str, str], step: str, words: str
) -> None:
    right = observation.answer([role(FILE)])["paths"][FILE.path]
    changes = compare(role(FILE), paths={FILE.path: {**right, **seen}})
    owner = {"mode": "0640", "owner": "root", "group": "app"}
    member = {"member": "0"} if step == "file" else {}
    assert changes.steps == [{"do": step, "path": FILE.path, **owner, **member}]
    assert changes.lines == [f"file {FILE.path} {words}"]
    assert changes.members == ({"0": b"wanted"} if step == "file" else {})


@pytest.mark.parametrize(
    "seen",
    [
        {"type": "absent"},
        {"type": "file"},
        {"type": "link", "target": "/srv"},
        {"mode": "0755"},
        {"owner": "eve", "uid": "666"},
        {"group": "eve", "gid": "666"},
    ],
)
def test_a_directory_is_made_right(seen: dict[str, str]) -> None:
    right = observation.answer([role(FOLDER)])["paths"][FOLDER.path]
    changes = compare(role(FOLDER), paths={FOLDER.path: {**right, **seen}})
    owner = {"mode": "0750", "owner": "root", "group": "app"}
    assert changes.steps == [{"do": "directory", "path": FOLDER.path, **owner}]


def test_somebody_elses_directory_is_made_once_and_never_touched_again() -> None:
    mine = Directory("/srv/media", keep=True)
    assert kinds(compare(role(mine), paths={mine.path: {"type": "absent"}})) == ["directory"]
    for found in ("directory", "link", "file"):
        assert not compare(role(mine), paths={mine.path: {"type": found, "mode": "0700"}})


@pytest.mark.parametrize(
    "seen", [{"type": "absent"}, {"type": "file"}, {"type": "link", "target": "/etc/UTC"}]
)
def test_a_link_is_pointed_right(seen: dict[str, str]) -> None:
    changes = compare(role(LINK), paths={LINK.path: seen})
    assert changes.steps == [{"do": "link", "path": LINK.path, "target": LINK.target}]


def test_owners_may_be_given_as_numbers() -> None:
    numbers = File("/a", b"", owner="8100", group="8100")
    seen = {**observation.answer([role(numbers)])["paths"]["/a"], "owner": "app", "group": "app"}
    assert not compare(role(numbers), paths={"/a": seen})
    assert compare(role(numbers), paths={"/a": {**seen, "uid": "0"}}).steps


def test_a_purged_directory_loses_what_nobody_declares() -> None:
    folder = Directory("/etc/app", purge=True)
    desired = role(
        folder, File("/etc/app/kept", b""), Directory("/etc/app/sub"), Link("/etc/app/l", "k")
    )
    changes = compare(desired, entries={"/etc/app": ["kept", "l", "stray", "sub"]})
    assert [(s["do"], s["path"]) for s in changes.steps] == [("remove", "/etc/app/stray")]


def test_what_was_purged_counts_as_a_change_of_its_folder() -> None:
    folder = Directory("/etc/app", purge=True)
    changes = compare(role(folder, UNIT), entries={"/etc/app": ["stray"]})
    assert commands(changes) == ["systemctl reload app.service"]


def test_a_purged_directory_keeps_the_folders_above_what_is_declared() -> None:
    folder, deep = Directory("/etc/app", purge=True), File("/etc/app/a/b/c", b"")
    assert not compare(role(folder, deep), entries={"/etc/app": ["a"]})


@pytest.mark.parametrize("name", ["\x1b[2J", "two\nlines", "\udcff", "\u202e"])
def test_a_name_from_the_host_cannot_control_the_terminal(name: str) -> None:
    changes = compare(role(Directory("/d", purge=True)), entries={"/d": [name, "Müsik"]})
    assert changes.steps[0]["path"] == f"/d/{name}"
    assert all(line.isprintable() and line.encode() for line in changes.lines)
    assert changes.lines[1] == "remove /d/Müsik"


def test_a_directory_is_not_purged_unless_it_says_so() -> None:
    assert not compare(role(FOLDER), entries={FOLDER.path: ["stray"]})


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        ({}, ["groupadd -r -g 8100 app"]),
        ({"app": 8000}, ["groupmod -g 8100 app"]),
    ],
)
def test_a_group_gets_its_number(seen: dict[str, int], wanted: list[str]) -> None:
    observed = converged(groups=seen)
    assert commands(diff(role(GROUP), observed)) == wanted


def test_a_group_without_a_number_keeps_the_one_it_has() -> None:
    assert not diff(role(Group("app")), converged(groups={"app": 5}))
    assert commands(diff(role(Group("app")), converged())) == ["groupadd -r app"]


def test_a_missing_user_is_added_without_a_home() -> None:
    assert commands(diff(role(USER), converged())) == [
        "useradd -r -M -u 8100 -g app -d /nonexistent -s /usr/sbin/nologin -G video,render app"
    ]


@pytest.mark.parametrize(
    "seen",
    [
        {"uid": 1},
        {"group": "root"},
        {"home": "/root"},
        {"shell": "/bin/sh"},
        {"groups": ["docker", "render", "video"]},
    ],
)
def test_a_changed_user_is_changed_back(seen: dict[str, Any]) -> None:
    changes = compare(role(USER), users={"app": {**observation.user(USER), **seen}})
    options = "-u 8100 -g app -d /nonexistent -s /usr/sbin/nologin -G video,render"
    assert commands(changes) == [f"usermod {options} app"]
    assert changes.lines == [f"change user app {next(iter(seen))}"]


def test_an_unlocked_password_is_locked_and_nothing_else() -> None:
    changes = compare(role(USER), users={"app": {**observation.user(USER), "locked": False}})
    assert commands(changes) == ["usermod -L app"]


def test_a_kernel_setting_is_compared_by_its_words() -> None:
    assert not compare(role(SYSCTL), sysctls={SYSCTL.key: "4096\t131072\t6291456"})
    changes = compare(role(SYSCTL), sysctls={SYSCTL.key: "1 2 3"})
    assert commands(changes) == [f"sysctl -q -w {SYSCTL.key}={SYSCTL.value}"]


def test_only_missing_packages_are_installed() -> None:
    desired = role(Package("here"), Package("gone"))
    changes = compare(desired, packages=["here"])
    assert [step["names"] for step in changes.steps] == [["gone"]]


# --- units ----------------------------------------------------------------------------------------


def unit_commands(wanted: Unit, **seen: Any) -> list[str]:
    """What is run for a unit that systemd describes so; `pending` is what is owed."""
    pending = seen.pop("pending", ())
    state = {**observation.unit(wanted), **seen}
    return commands(compare(role(wanted), units={wanted.name: state}, pending=list(pending)))


# Whether it is down or not: its package may have started it before its settings were there.
RESTART = ["systemctl reset-failed app.service", "systemctl restart app.service"]


@pytest.mark.parametrize("state", ["inactive", "failed", "deactivating"])
def test_a_unit_that_is_not_up_is_started(state: str) -> None:
    assert unit_commands(UNIT, ActiveState=state) == RESTART


@pytest.mark.parametrize("state", ["active", "reloading", "activating"])
def test_a_unit_that_is_up_stays_as_it_is(state: str) -> None:
    assert unit_commands(UNIT, ActiveState=state) == []


def test_a_disabled_unit_is_enabled_and_not_restarted() -> None:
    assert unit_commands(UNIT, UnitFileState="disabled") == ["systemctl enable app.service"]


def test_a_masked_unit_is_unmasked_enabled_and_started() -> None:
    seen = {"LoadState": "masked", "UnitFileState": "masked", "ActiveState": "inactive"}
    mended = ["systemctl unmask app.service", "systemctl enable app.service", *RESTART]
    assert unit_commands(UNIT, **seen) == mended


def test_a_mask_until_the_next_boot_is_lifted_where_it_lies() -> None:
    seen = {"LoadState": "masked", "UnitFileState": "masked-runtime", "ActiveState": "active"}
    mended = ["systemctl unmask --runtime app.service", "systemctl enable app.service"]
    assert unit_commands(UNIT, **seen) == mended


def test_a_masked_unit_that_is_unwanted_stays_masked() -> None:
    unwanted = Unit("app.service", enabled=False, active=False)
    seen = {"LoadState": "masked", "UnitFileState": "masked", "ActiveState": "inactive"}
    assert unit_commands(unwanted, **seen) == []


def test_an_unwanted_unit_is_disabled_and_stopped() -> None:
    unwanted = Unit("app.service", enabled=False, active=False)
    assert unit_commands(unwanted, UnitFileState="enabled", ActiveState="active") == [
        "systemctl disable app.service",
        "systemctl stop app.service",
    ]


def test_a_unit_that_does_not_exist_is_unwanted_enough() -> None:
    unwanted = Unit("app.service", enabled=False, active=False)
    seen = {"LoadState": "not-found", "UnitFileState": "", "ActiveState": "inactive"}
    assert unit_commands(unwanted, **seen) == []


@pytest.mark.parametrize("state", ["static", "indirect", "generated", "alias", "disabled"])
def test_a_unit_whose_enablement_is_not_judged(state: str) -> None:
    assert unit_commands(Unit("app.service", enabled=None), UnitFileState=state) == []


def test_a_unit_whose_activity_is_not_judged() -> None:
    assert unit_commands(Unit("app.service", active=None), ActiveState="failed") == []


def test_a_unit_whose_own_conditions_said_no_is_left_alone() -> None:
    refused = {"ActiveState": "inactive", "ConditionResult": "no"}
    assert unit_commands(UNIT, **refused, ConditionTimestampMonotonic="7") == []
    # Nobody has tried yet: the result says nothing.
    assert unit_commands(UNIT, **refused, ConditionTimestampMonotonic="0") == RESTART


def test_a_changed_input_restarts_or_reloads_the_unit_that_names_it() -> None:
    other = Unit("other.service")
    desired = role(FILE, FOLDER, UNIT, other)
    restarted = compare(desired, paths={FILE.path: {"type": "absent"}})
    assert commands(restarted) == RESTART
    reloaded = compare(desired, paths={FOLDER.path: {"type": "absent"}})
    assert commands(reloaded) == ["systemctl reload app.service"]


def test_a_unit_that_was_down_is_started_once_whatever_changed() -> None:
    changes = compare(
        role(FILE, UNIT),
        paths={FILE.path: {"type": "absent"}},
        units={UNIT.name: {**observation.unit(UNIT), "ActiveState": "failed"}},
    )
    assert commands(changes) == RESTART


def test_systemd_reads_its_units_again_before_one_is_restarted() -> None:
    text = File("/etc/systemd/system/app.service", b"[Unit]")
    changes = compare(
        role(text, Unit("app.service", restart_on=(text.path,))),
        paths={text.path: {"type": "absent"}},
    )
    assert commands(changes) == ["systemctl daemon-reload", *RESTART]


def test_systemd_reads_its_units_again_where_it_says_they_are_stale() -> None:
    assert unit_commands(UNIT, NeedDaemonReload="yes") == ["systemctl daemon-reload"]


def test_a_stopped_unit_is_an_input_of_a_later_one() -> None:
    socket = Unit("app.socket", enabled=False, active=False)
    service = Unit("app.service", restart_on=("app.socket",))
    seen = {**observation.unit(socket), "ActiveState": "active"}
    changes = compare(role(socket, service), units={"app.socket": seen})
    assert commands(changes) == ["systemctl stop app.socket", *RESTART]


# --- what an interrupted run owes -----------------------------------------------------------------


def test_what_a_change_makes_due_is_marked_before_and_cleared_after() -> None:
    handler = Handler("rebuild", ("app", "rebuild"), (FILE.path,))
    notice = Notice("stack", "password", (FILE.path,))
    desired = role(FILE, UNIT, handlers=(handler,), notices=(notice,))
    steps = compare(desired, paths={FILE.path: {"type": "absent"}}).steps
    marks = ["role.rebuild", "role.app.service", "stack.password"]
    assert steps[0] == {"do": "mark", "names": marks}
    assert [s["do"] for s in steps] == [
        *("mark", "file", "run", "clear", "try", "run", "clear"),
    ]
    assert [s["name"] for s in steps if s["do"] == "clear"] == marks[:2]


def test_an_interrupted_run_still_owes_its_handler() -> None:
    desired = role(FILE, UNIT, handlers=(Handler("rebuild", ("app", "rebuild"), (FILE.path,)),))
    changes = compare(desired, pending=["role.rebuild", "other.rebuild"])
    assert commands(changes) == ["app rebuild"]
    assert changes.steps[-1] == {"do": "clear", "name": "role.rebuild"}


def test_an_interrupted_run_still_owes_its_restart() -> None:
    assert unit_commands(UNIT, pending=("role.app.service",)) == RESTART


def test_a_notice_of_another_role_makes_a_handler_due() -> None:
    changes = compare(role(FILE, handlers=(RELOAD,)), pending=["role.reload"])
    assert commands(changes) == ["app reload"]


@pytest.mark.parametrize("resource", [FILE, UNIT, STACK], ids=lambda r: type(r).__name__)
def test_what_is_owed_to_nothing_here_is_forgotten(resource: Resource) -> None:
    changes = compare(role(resource), pending=["role.gone", "other.gone"])
    assert changes.steps == [{"do": "clear", "name": "role.gone"}]
    assert changes.lines == ["forget that there was something to do for gone"]


def test_a_start_that_is_no_longer_wanted_is_not_owed() -> None:
    unit = Unit("app.timer", enabled=None, active=None)
    assert compare(role(unit), pending=["role.app.timer"]).steps == [
        {"do": "clear", "name": "role.app.timer"}
    ]


def test_a_last_handler_runs_after_units_and_containers() -> None:
    late = Handler("late", ("app", "late"), (FILE.path,), last=True)
    early = Handler("early", ("app", "early"), (FILE.path,))
    desired = role(FILE, UNIT, STACK, handlers=(late, early))
    changes = compare(desired, paths={FILE.path: {"type": "absent"}}, stacks={"nexus": {}})
    ran = commands(changes)
    assert ran[0] == "app early"
    assert ran[1:3] == RESTART
    assert ran[-1] == "app late"


# --- order, checks, guard -------------------------------------------------------------------------


def test_the_order_of_steps_inside_a_role() -> None:
    check = Check(("validate", f"{{{FILE.path}}}"), (FILE.path,))
    handler = Handler("reload", ("app", "reload"), (FILE.path,))
    desired = role(
        *(STACK, NETWORK, UNIT, CHAIN, SYSCTL, ABSENT, FILE, FOLDER, USER, GROUP, Package("app")),
        checks=(check,),
        handlers=(handler,),
        guard=Guard(45),
    )
    bare = converged(
        paths={ABSENT.path: {"type": "file"}},
        chains={"4:INPUT": ["-A INPUT -j stray"]},
    )
    steps = diff(desired, bare).steps
    words = [step["argv"][0] if step["do"] in {"run", "compose"} else step["do"] for step in steps]
    assert words == [
        *("groupadd", "useradd", "packages", "check", "arm", "mark"),
        *("directory", "file", "remove", "sysctl", "iptables", "app", "clear"),
        *("systemctl", "try", "systemctl", "clear", "docker", "docker"),
    ]


def test_a_check_sees_staged_files_and_installed_ones() -> None:
    other = File("/etc/other.conf", b"other")
    check = Check(
        ("validate", f"--conf={{{FILE.path}}}", f"{{{other.path}}}"), (FILE.path, other.path)
    )
    desired = role(other, FILE, checks=(check,))
    step = compare(desired, paths={FILE.path: {"type": "absent"}}).steps[0]
    assert step["staged"] == {FILE.path: "0", other.path: ""}
    assert step["argv"] == ["validate", f"--conf={{{FILE.path}}}", f"{{{other.path}}}"]


def test_a_check_of_unchanged_files_is_not_run() -> None:
    check = Check(("validate", f"{{{FILE.path}}}"), (FILE.path,))
    desired = role(FILE, FOLDER, checks=(check,))
    assert kinds(compare(desired, paths={FOLDER.path: {"type": "absent"}})) == ["directory"]


def test_a_guard_is_armed_before_the_first_change() -> None:
    guard = Guard(45, before=(("disable",),), after=(("reload",),))
    desired = role(FILE, UNIT, guard=guard)
    changes = compare(desired, paths={FILE.path: {"type": "absent"}})
    assert kinds(changes)[:3] == ["arm", "mark", "file"]
    assert changes.steps[0]["paths"] == [FILE.path]
    assert changes.steps[0]["seconds"] == 45


def test_a_guard_saves_files_only() -> None:
    # What cannot be brought back as a file would stop the guard half-way through its work.
    socket = Unit("app.socket", enabled=False, active=False)
    desired = role(FOLDER, FILE, socket, guard=Guard(45))
    running = {**observation.unit(socket), "ActiveState": "active"}
    nothing = {"type": "absent"}
    changes = compare(
        desired,
        paths={FILE.path: nothing, FOLDER.path: nothing},
        units={socket.name: running},
    )
    assert changes.steps[0]["paths"] == [FILE.path]


def test_a_guard_is_armed_where_only_a_unit_changes() -> None:
    changes = compare(
        role(UNIT, guard=Guard(45)),
        units={UNIT.name: {**observation.unit(UNIT), "ActiveState": "inactive"}},
    )
    assert kinds(changes)[0] == "arm"


def test_what_an_interrupted_run_left_unconfirmed_is_confirmed() -> None:
    desired = role(FILE, guard=Guard(45))
    changes = compare(desired, unconfirmed=["role"])
    assert changes and changes.guarded
    assert changes.steps == []
    assert changes.lines == ["confirm what an interrupted run has changed"]
    assert not compare(desired, unconfirmed=["other"])


def test_a_guard_is_not_armed_for_what_cannot_cut_anybody_off() -> None:
    desired = role(FILE, Package("app"), SYSCTL, guard=Guard(45))
    changes = compare(desired, packages=[], sysctls={SYSCTL.key: "0"})
    assert kinds(changes) == ["packages", "run"]


# --- chains ---------------------------------------------------------------------------------------


def chain_changes(*rules: str, chain: Chain = CHAIN) -> Changes:
    name = f"{chain.family}:{chain.name}"
    return compare(role(chain, handlers=(RELOAD,)), chains={name: list(rules)})


def test_a_stray_rule_is_deleted_and_nothing_else_is_touched() -> None:
    stray = '-A INPUT -s 10.9.0.0/16 -m comment --comment "two words" -j ACCEPT'
    changes = chain_changes(CHAIN.rules[0], CHAIN.rules[1], stray, CHAIN.rules[2])
    assert [step["argv"] for step in changes.steps] == [
        [
            *("iptables", "-w", "-D", "INPUT", "-s", "10.9.0.0/16", "-m", "comment"),
            *("--comment", "two words", "-j", "ACCEPT"),
        ]
    ]


@pytest.mark.parametrize(
    "rules",
    [
        CHAIN.rules[:2],
        (CHAIN.rules[0], CHAIN.rules[2], CHAIN.rules[1]),
        ("-P INPUT ACCEPT", *CHAIN.rules[1:]),
    ],
    ids=["missing", "wrong order", "policy"],
)
def test_a_chain_that_deleting_cannot_mend_is_filled_anew(rules: tuple[str, ...]) -> None:
    changes = chain_changes(*rules)
    assert kinds(changes) == ["chain"]
    filled = "*filter\n-F INPUT\n-P INPUT DROP\n-A INPUT -j a\n-A INPUT -j b\nCOMMIT\n"
    assert changes.steps[0]["program"] == "iptables"
    assert changes.steps[0]["text"] == filled


@pytest.mark.parametrize("rules", [(), ("-P INPUT ACCEPT",)], ids=["no chain", "emptied"])
def test_a_chain_without_a_rule_is_repaired_with_those_it_leads_to(
    rules: tuple[str, ...],
) -> None:
    changes = chain_changes(*rules)
    assert commands(changes) == ["app reload"]
    assert kinds(changes) == ["mark", "run", "clear"]


def test_a_rule_that_stands_there_twice_is_deleted_once() -> None:
    changes = chain_changes(*CHAIN.rules[:2], *CHAIN.rules[1:])
    assert commands(changes) == ["iptables -w -D INPUT -j a"]
    # The first of its kind is what goes; where that spoils the order, the chain is filled anew.
    changes = chain_changes(*CHAIN.rules, CHAIN.rules[1])
    assert commands(changes) == ["iptables -w -D INPUT -j a"]
    assert kinds(changes) == ["run", "chain"]


def test_a_stray_rule_of_ipv6_is_deleted_there() -> None:
    chain = Chain("6", "INPUT", CHAIN.rules, "reload")
    changes = chain_changes(*chain.rules, "-A INPUT -j x", chain=chain)
    assert commands(changes) == ["ip6tables -w -D INPUT -j x"]


# --- networks and containers ----------------------------------------------------------------------

CREATE = (
    "docker network create --driver bridge -o com.docker.network.bridge.name=nx-edge0 "
    "--internal --ipv6 --subnet 10.1.0.0/24 --subnet fd00::/64 nx-edge"
)
COMPOSE = "docker compose -p nexus -f /opt/compose.yml"
UP = f"{COMPOSE} up -d --quiet-pull --wait --wait-timeout 300 --remove-orphans"


def test_a_missing_network_is_made() -> None:
    assert commands(diff(role(NETWORK), converged())) == [CREATE]


@pytest.mark.parametrize(
    "seen", [{"subnets": ["10.2.0.0/24"]}, {"internal": False}, {"driver": "x"}, {"bridge": "br"}]
)
def test_a_wrong_network_is_replaced_even_in_use(seen: dict[str, Any]) -> None:
    found = {**observation.network(NETWORK), **seen, "attached": ["nexus-web-1"]}
    changes = compare(role(NETWORK), networks={NETWORK.name: found})
    assert commands(changes) == [
        "docker network disconnect -f nx-edge nexus-web-1",
        "docker network rm nx-edge",
        CREATE,
    ]
    assert changes.lines == [f"replace network nx-edge {next(iter(seen))}"]


def container_changes(service: str, seen: dict[str, Any] | None) -> Changes:
    """The stack's changes where one service's container is missing (None) or altered."""
    found = observation.stack(STACK)
    if seen is None:
        del found["containers"][service]
    else:
        found["containers"][service] |= seen
    return compare(role(STACK), stacks={"nexus": found})


def test_a_missing_container_is_brought_up() -> None:
    changes = container_changes("db", None)
    assert [c.startswith(f"{COMPOSE} up -d ") for c in commands(changes)] == [True]
    assert "--force-recreate" not in commands(changes)[0]
    assert changes.lines == ["start container db"]


@pytest.mark.parametrize(
    "seen", [{"hash": "other"}, {"labels": {}}, {"labels": {"org.inputs": "x"}}]
)
def test_a_container_of_another_configuration_is_brought_up(seen: dict[str, Any]) -> None:
    changes = container_changes("web", seen)
    assert len(commands(changes)) == 1
    assert changes.lines == ["recreate container web configuration"]


@pytest.mark.parametrize(
    "seen",
    [
        {"memory": 0},
        {"cpus": 0},
        {"pids": 0},
        {"restart": "no"},
        {"networks": ["bridge", "nx-data", "nx-edge"]},
        {"networks": ["nx-data"]},
        {"health": "unhealthy"},
        {"state": "paused"},
        {"state": "exited"},
        {"state": "created"},
        {"state": "restarting"},
        {"state": "dead"},
    ],
    ids=lambda seen: " ".join(map(str, next(iter(seen.items())))),
)
def test_a_container_that_compose_would_leave_alone_is_recreated(seen: dict[str, Any]) -> None:
    changes = container_changes("web", seen)
    assert commands(changes) == [
        f"{COMPOSE} up -d --quiet-pull --force-recreate web",
        UP,
    ]
    key, value = next(iter(seen.items()))
    reason = value if key in {"state", "health"} else key
    assert changes.lines == [f"recreate container web {reason}"]


def test_a_notice_recreates_the_container_whose_files_were_wrong() -> None:
    changes = compare(role(STACK), pending=["role.web", "other.db"])
    assert commands(changes) == [
        f"{COMPOSE} up -d --quiet-pull --force-recreate web",
        UP,
    ]
    assert changes.lines == ["recreate container web changed files"]
    assert changes.steps[-1] == {"do": "clear", "name": "role.web"}


def test_a_notice_to_a_missing_container_is_cleared_too() -> None:
    found = observation.stack(STACK)
    del found["containers"]["web"]
    changes = compare(role(STACK), stacks={"nexus": found}, pending=["role.web"])
    assert commands(changes) == [UP]
    assert changes.steps[-1] == {"do": "clear", "name": "role.web"}


def test_altered_containers_are_not_waited_for_before_missing_ones_are_made() -> None:
    found = observation.stack(STACK)
    del found["containers"]["db"]
    found["containers"]["web"]["memory"] = 1
    first, second = commands(compare(role(STACK), stacks={"nexus": found}))
    assert first.endswith("--force-recreate web")
    assert "--wait" not in first
    assert second == UP


BEHIND = replace(DATABASE, service="guest", networks=(), behind="web")
SHARED = replace(STACK, containers=(*STACK.containers, BEHIND))


def shared_changes(**seen: dict[str, Any] | None) -> Changes:
    """The changes of a stack whose guest lives in the network of web."""
    found = observation.stack(SHARED)
    for service, values in seen.items():
        if values is None:
            del found["containers"][service]
        else:
            found["containers"][service] |= values
    return compare(role(SHARED), stacks={"nexus": found})


def test_a_container_in_a_network_that_has_ended_is_recreated() -> None:
    changes = shared_changes(guest={"behind": "nobody"})
    assert commands(changes) == [
        f"{COMPOSE} up -d --quiet-pull --force-recreate guest",
        UP,
    ]
    assert changes.lines == ["recreate container guest behind"]


def test_the_hash_of_a_container_behind_another_says_nothing() -> None:
    assert not shared_changes(guest={"hash": "covers the other's identity"})


def test_a_guest_is_made_anew_with_the_container_that_it_lives_behind() -> None:
    changes = shared_changes(web={"hash": "other"})
    assert commands(changes) == [f"{COMPOSE} up -d --quiet-pull {UP.split('quiet-pull ')[1]}"]
    assert changes.lines == [
        "recreate container web configuration",
        "recreate container guest with web",
    ]


def test_a_missing_host_container_is_there_before_its_guest_joins_it() -> None:
    changes = shared_changes(web=None, guest={"behind": "nobody"})
    first, second = commands(changes)
    assert {"guest", "web"} <= {*first.split("--force-recreate ")[1].split()}
    assert second == UP


@pytest.mark.parametrize("health", ["", "starting", "healthy"])
def test_a_container_that_has_not_failed_its_check_is_left_alone(health: str) -> None:
    assert not container_changes("web", {"health": health})


def test_a_container_that_is_no_longer_declared_is_removed() -> None:
    found = observation.stack(STACK)
    smaller = Stack("nexus", "/opt/compose.yml", "org.inputs", (DATABASE,))
    changes = compare(role(smaller), stacks={"nexus": found})
    assert "--remove-orphans" in commands(changes)[0]
    assert changes.lines == ["remove container web no longer declared"]


def test_the_last_service_goes_by_compose_down() -> None:
    nothing = Stack("nexus", "/opt/compose.yml", "org.inputs", ())
    changes = compare(role(nothing), stacks={"nexus": observation.stack(STACK)})
    assert commands(changes) == [f"{COMPOSE} down --remove-orphans"]
    assert not compare(role(nothing))


def test_a_stray_container_is_removed_before_the_others_are_brought_up() -> None:
    found = {**observation.stack(STACK), "strays": ["nexus-shadow"]}
    changes = compare(role(STACK), stacks={"nexus": found})
    assert commands(changes) == ["docker rm -f nexus-shadow"]


def test_a_changed_compose_file_is_brought_up() -> None:
    file = File("/opt/compose.yml", b"services: {}")
    changes = compare(role(file, STACK), paths={file.path: {"type": "absent"}})
    assert kinds(changes) == ["file", "compose"]


# --- properties -----------------------------------------------------------------------------------

NAMES = st.text("abcdefgh-é☃ ", min_size=1, max_size=6)
PATHS = st.builds("/{}/{}".format, NAMES, NAMES)
MODES = st.sampled_from(["0400", "0600", "0644", "0755"])
OWNERS = st.sampled_from(["root", "app", "8100"])
CONTAINERS = st.builds(
    Container,
    service=NAMES,
    fingerprint=NAMES,
    networks=st.lists(NAMES, unique=True).map(tuple),
    memory=st.integers(0, 1 << 40),
    cpus=st.integers(0, 10**10),
    pids=st.integers(0, 1000),
    restart=st.sampled_from(["no", "always", "unless-stopped"]),
)
RESOURCES = st.one_of(
    st.builds(File, PATHS, st.binary(max_size=20), MODES, OWNERS, OWNERS, st.booleans()),
    st.builds(Directory, PATHS, MODES, OWNERS, OWNERS, st.booleans(), st.booleans()),
    st.builds(Link, PATHS, PATHS),
    st.builds(Absent, PATHS),
    st.builds(Package, NAMES),
    st.builds(Group, NAMES, st.none() | st.integers(1, 9999)),
    st.builds(User, NAMES, st.integers(1, 9999), NAMES, groups=st.lists(NAMES).map(tuple)),
    st.builds(Sysctl, NAMES, st.integers().map(str)),
    st.builds(
        Unit,
        NAMES,
        enabled=st.none() | st.booleans(),
        active=st.none() | st.booleans(),
        restart_on=st.lists(PATHS, max_size=2).map(tuple),
    ),
    st.builds(Chain, st.sampled_from("46"), NAMES, st.lists(NAMES).map(tuple), st.just("reload")),
    st.builds(Network, NAMES, st.lists(NAMES).map(tuple), st.booleans(), NAMES),
    st.builds(
        Stack,
        NAMES,
        PATHS,
        NAMES,
        st.lists(CONTAINERS, max_size=3, unique_by=lambda c: c.service).map(tuple),
    ),
)


@st.composite
def roles(draw: st.DrawFn) -> Desired:
    """Any role that the model allows, with handlers and a guard."""
    resources = tuple(draw(st.lists(RESOURCES, unique_by=identity, max_size=6)))
    guard = draw(st.none() | st.just(Guard(45)))
    return Desired("role", resources, handlers=(RELOAD,), guard=guard)


@given(roles())
def test_a_host_that_is_as_desired_is_never_touched(desired: Desired) -> None:
    changes = compare(desired)
    assert not changes
    assert changes.lines == []


@given(roles())
def test_whatever_is_done_is_also_said(desired: Desired) -> None:
    changes = diff(desired, converged())
    assert bool(changes) == bool(changes.lines)


@given(
    st.lists(
        st.builds(File, PATHS, st.binary(min_size=8), secret=st.just(True)),
        unique_by=lambda f: f.path,
    )
)
def test_no_line_and_no_step_says_what_a_secret_file_holds(files: list[File]) -> None:
    changes = diff(role(*files, UNIT), converged())
    said = repr((changes, changes.lines, changes.steps)).encode()
    assert not [
        file for file in files if file.content in said or repr(file.content).encode() in said
    ]
    assert sorted(changes.members.values()) == sorted(file.content for file in files)
