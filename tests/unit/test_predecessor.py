"""What an old stack on the host means for a deploy: refused, stopped, removed, in this order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roles import predecessor
from roles.context import Context, Running
from roles.core import agent
from roles.core.model import Desired, Retired
from roles.core.state import Changes, diff
from roles.plan import facts_in
from roles.site.schema import SiteError
from roles.stack.stack import COMPOSE_FILE
from tests.unit.conftest import site_from
from tests.unit.engine import Engine
from tests.unit.observation import converged

OLD = Running("traefik", "old", "/srv/old/compose.yml", "running", (("tcp", 443),), False)
OWN = Running("nexus-traefik-1", "nexus", COMPOSE_FILE, "running", (("tcp", 443),), False)


def refused(context: Context, *containers: Running) -> list[str]:
    with pytest.raises(SiteError) as caught:
        predecessor.refuse(context.stack, containers)
    return str(caught.value).splitlines()


def test_a_port_in_use_names_who_holds_it_and_the_mend(context: Context) -> None:
    (line,) = refused(context, OWN, OLD)
    assert "container traefik of the host holds port 443" in line
    assert 'site["replaces"] = ["old"]' in line


def test_a_container_without_a_project_cannot_be_named(context: Context) -> None:
    (line,) = refused(context, replace(OLD, name="web", project=""))
    assert "docker rm -f web" in line


def test_the_docker_socket_alone_is_enough(context: Context) -> None:
    (line,) = refused(context, replace(OLD, name="watch", ports=(), socket=True))
    assert "container watch of the host holds the Docker socket" in line


def test_every_problem_comes_at_once(context: Context) -> None:
    assert len(refused(context, OLD, replace(OLD, name="watch", ports=(), socket=True))) == 2


@pytest.mark.parametrize(
    "harmless",
    [
        OWN,
        replace(OWN, socket=True),
        replace(OLD, project="nexus", file=f"{COMPOSE_FILE},/root/more.yml"),
        replace(OLD, state="exited"),
        replace(OLD, ports=(("udp", 443), ("tcp", 8443))),
    ],
    ids=["own", "own with the socket", "own with another file", "stopped", "other ports"],
)
def test_who_is_not_in_the_way_stays(context: Context, harmless: Running) -> None:
    predecessor.refuse(context.stack, [harmless])


def test_what_is_replaced_is_not_in_the_way(make_context: Callable[..., Context]) -> None:
    predecessor.refuse(make_context(replaces=["old"]).stack, [replace(OLD, socket=True)])


@pytest.mark.parametrize("state", ["running", "exited"])
def test_another_project_of_our_name_is_refused_also_when_it_is_stopped(
    context: Context, state: str
) -> None:
    (line,) = refused(context, replace(OLD, project="nexus", ports=(), state=state))
    assert "docker compose -p nexus -f /srv/old/compose.yml down" in line


@pytest.mark.parametrize(
    ("names", "field", "mend"),
    [
        (["Old"], "site.replaces[0]", "docker compose ls"),
        (["a b"], "site.replaces[0]", "docker compose ls"),
        (["nexus"], "site.replaces[0]", "its own"),
        (["old", "old"], "site.replaces[1]", "twice"),
        ("old", "site.replaces", "must be a list"),
    ],
)
def test_broken_names_are_refused(names: object, field: str, mend: str) -> None:
    with pytest.raises(SiteError) as caught:
        site_from(replaces=names)
    assert field in str(caught.value) and mend in str(caught.value)


# --- what follows ---------------------------------------------------------------------------------


def old(**changes: Any) -> dict[str, Any]:
    found = {
        "containers": [
            {"name": "jellyfin", "state": "running", "restart": "unless-stopped"},
            {"name": "collector", "state": "restarting", "restart": "no"},
            {"name": "job", "state": "exited", "restart": "no"},
        ],
        "files": {"/srv/old/.env": {"type": "file", "mode": "0644", **owned("operator")}},
        "archives": ["/srv/old/backups/all.tar"],
        "networks": ["old_default"],
    }
    return {"old": {**found, **changes}}


def owned(name: str) -> dict[str, str]:
    return {"owner": name, "group": name, "uid": "1000", "gid": "1000"}


def changes(retired: dict[str, Any], removed: bool) -> Changes:
    desired = Desired("role", (Retired("old", removed),))
    return diff(desired, converged(desired, retired=retired))


def steps(found: Changes) -> list[str]:
    return [" ".join(step.get("argv", [step["do"], step.get("path", "")])) for step in found.steps]


def test_first_it_is_stopped_for_good_and_nothing_else() -> None:
    assert steps(changes(old(), removed=False)) == [
        "docker update --restart=no jellyfin collector",
        "docker stop --time 60 jellyfin collector",
    ]


def test_then_it_is_removed_without_its_volumes_and_its_files_are_root_s() -> None:
    found = changes(old(), removed=True)
    assert steps(found) == [
        "attributes /srv/old/.env",
        "chmod o-rwx -- /srv/old/backups/all.tar",
        "docker rm --force jellyfin collector job",
        "docker network rm old_default",
    ]
    assert (found.steps[0]["mode"], found.steps[0]["owner"]) == ("0600", "root")
    assert found.steps[1]["say"] == "closing the old backup /srv/old/backups/all.tar"


@pytest.mark.parametrize("removed", [False, True])
def test_where_nothing_is_left_nothing_is_done(removed: bool) -> None:
    gone = {"containers": [], "files": {}, "archives": [], "networks": []}
    assert not changes(old(**gone), removed)
    assert not changes({}, removed)


def test_a_run_that_ended_in_between_is_finished() -> None:
    protected = {"/srv/old/.env": {"type": "file", "mode": "0600", **owned("root")}}
    halfway = old(containers=[], files=protected, archives=[])
    assert steps(changes(halfway, removed=True)) == ["docker network rm old_default"]


# --- what the agent says --------------------------------------------------------------------------


def listed(name: str, **parts: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        **{"Id": name, "Names": [f"/{name}"], "Labels": {}, "State": "running", "Ports": []},
        "Mounts": [],
    }
    return {**found, **parts}


def test_what_a_container_holds_is_read_from_the_engine(engine: Engine) -> None:
    ports = [
        {"IP": "10.1.1.1", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 9000, "Type": "tcp"},
    ]
    mounts = [{"Type": "volume"}, {"Type": "bind", "Source": "/run/docker.sock"}]
    engine.answers["/containers/json?all=1"] = [
        listed("one", Ports=ports, Labels=None),
        listed("two", Mounts=mounts, Labels={agent.PROJECT_LABEL: "old"}),
    ]
    one, two = agent.facts(())["containers"]
    assert (one["ports"], one["mounts"], one["project"]) == ([("tcp", 8080)], [], "")
    assert (two["name"], two["project"]) == ("two", "old")
    assert two["mounts"] == ["", "/run/docker.sock"]


@pytest.mark.parametrize(
    ("mount", "holds"), [("/run/docker.sock", True), ("/", True), ("/srv/media", False)]
)
def test_a_container_that_sees_the_socket_is_in_the_way(
    context: Context, engine: Engine, mount: str, holds: bool
) -> None:
    mounts = [{"Type": "bind", "Source": mount}]
    engine.answers["/containers/json?all=1"] = [listed("watch", Mounts=mounts)]
    facts = facts_in({**agent.facts(()), "distribution": "debian", "codename": "trixie"}, "home")
    assert [each.socket for each in facts.containers] == [holds]
    if holds:
        (line,) = refused(context, *facts.containers)
        assert "container watch of the host holds the Docker socket" in line


def test_without_an_engine_there_is_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "DOCKER", str(tmp_path / "none"))
    assert agent.facts(())["containers"] == []


def test_a_retired_project_is_known_by_its_labels(engine: Engine, tmp_path: Path) -> None:
    for name in ("compose.yml", "extra.yml", ".env", "unrelated"):
        (tmp_path / name).write_text("text")
    (tmp_path / "linked.env").symlink_to(tmp_path / "unrelated")
    (tmp_path / "Backups").mkdir()
    for name, mode in {"open.tar": 0o644, "closed.tar": 0o640}.items():
        (tmp_path / "Backups" / name).write_text("text")
        (tmp_path / "Backups" / name).chmod(mode)
    (tmp_path / "Backups" / "linked").symlink_to(tmp_path / "unrelated")
    (tmp_path / "backup-of-others").symlink_to(tmp_path)
    label = agent.PROJECT_LABEL
    labels = {
        label: "old",
        f"{label}.working_dir": str(tmp_path),
        f"{label}.config_files": f"{tmp_path}/compose.yml,extra.yml",
        f"{label}.environment_file": f"{tmp_path}/linked.env",
    }
    policy = {"RestartPolicy": {"Name": "always"}}
    engine.answers = {
        "/containers/json?all=1": [listed("app", Labels=labels), listed("other", Labels=None)],
        "/containers/app/json": {
            **{"Name": "/app", "State": {"Status": "running"}, "HostConfig": policy}
        },
        "/networks": [
            {"Name": "old_default", "Labels": {label: "old"}},
            {"Name": "old_shared", "Labels": {label: "old"}},
            {"Name": "bridge", "Labels": None},
        ],
        "/networks/old_default": {"Containers": {"1": {"Name": "app"}}},
        "/networks/old_shared": {"Containers": {"1": {"Name": "app"}, "2": {"Name": "other"}}},
    }
    found = agent.observe_retired("old")
    assert found["containers"] == [{"name": "app", "state": "running", "restart": "always"}]
    files = {str(tmp_path / name) for name in ("compose.yml", "extra.yml", ".env")}
    assert set(found["files"]) == files
    assert found["archives"] == [str(tmp_path / "Backups" / "open.tar")]
    # One that somebody else's container uses stays.
    assert found["networks"] == ["old_default"]
