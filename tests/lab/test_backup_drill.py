"""The weekly drill: what it starts is apart from what runs, and nothing of it stays."""

from __future__ import annotations

import json

import pytest

from tests.lab.deployment import Deployment

pytestmark = pytest.mark.lab

PROGRAM = "/usr/local/lib/nexus/backup"
UNIT = "nexus-backup@drill.service"
STATE = "/var/lib/nexus/backup"
METRICS = "/var/lib/nexus/metrics/backup.prom"
PLAYER = "nexusdrill-jellyfin-1"


@pytest.fixture(scope="module")
def server(deployed: Deployment) -> Deployment:
    """The deployed host with a backup of everything."""
    done = deployed.host.run([PROGRAM, "run"], check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    return deployed


def starts(server: Deployment) -> str:
    """When each container of the stack that runs was started, and how often anew."""
    form = "{{.Name}} {{.State.StartedAt}} {{.RestartCount}}"
    names = "docker ps -q --filter label=com.docker.compose.project=nexus"
    return server.host.run(f"docker inspect --format '{form}' $({names}) | sort").stdout


def caught_with(server: Deployment, container: str) -> None:
    """Start the drill as its timer does, and hold it when it has just started this container."""
    server.host.run(
        f"systemctl start --no-block {UNIT}; until docker ps --filter name={container} -q "
        f"| grep -q .; do sleep 0.1; done; {signal('STOP')}",
        timeout=300,
    )


def signal(name: str) -> str:
    """A command that sends a signal to the drill itself."""
    return f"systemctl kill --kill-whom=main --signal={name} {UNIT}"


def ended(server: Deployment) -> str:
    """The unit's result, when it has one."""
    waiting = f"while systemctl is-active {UNIT} | grep -Eq 'activating|deactivating'; do sleep 0.2"
    show = f"systemctl show -P Result {UNIT}"
    return server.host.run(f"{waiting}; done; {show}", timeout=300).stdout.strip()


def remains(server: Deployment) -> str:
    """Everything that a drill makes and must not leave."""
    listed = (
        f"docker ps -a | grep nexusdrill; docker network ls | grep nexusdrill; ls {STATE}/drill"
    )
    return server.host.run(listed, check=False).stdout


def reached(server: Deployment, url: str) -> bool:
    """Whether the drill's player gets an answer from there; curl itself must have been run."""
    argv = ["docker", "exec", PLAYER, "curl", "-sk", "-o", "/dev/null", "-m", "2", url]
    status = server.host.run(argv, check=False).returncode
    assert status < 100, url
    return status == 0


def test_what_is_rehearsed_is_apart_from_what_runs(server: Deployment) -> None:
    host, before = server.host, starts(server)
    live = server.stack().address("jellyfin", "media")
    elsewhere = server.site["images"]["jellyfin"].partition("/")[0]
    caught_with(server, PLAYER)
    healthy = f"docker ps -q --filter name={PLAYER} --filter health=healthy | grep -q ."
    host.run(f"until {healthy}; do sleep 0.1; done")
    networks = "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}"
    inside = host.run(["docker", "inspect", PLAYER, f"--format={networks}"]).stdout.split()
    form = "{{.Internal}} {{(index .IPAM.Config 0).Gateway}}"
    shown = host.run(["docker", "network", "inspect", "nexusdrill", f"--format={form}"]).stdout
    internal, gateway = shown.split()
    player = json.loads(host.run(["docker", "inspect", PLAYER]).stdout)[0]
    reachable = {
        url: reached(server, url)
        for url in (
            "http://127.0.0.1:8096/health",
            f"http://{live}:8096/health",
            f"https://{host.address}/",
            f"telnet://{gateway}:22",
            f"https://{elsewhere}/",
        )
    }
    host.run(signal("CONT"))
    mounts = [each["Source"] for each in player["Mounts"]]
    assert ended(server) == "success"
    assert (inside, internal) == (["nexusdrill"], "true")
    assert list(reachable.values()) == [True, False, False, False, False], reachable
    assert mounts and all(source.startswith(f"{STATE}/drill/") for source in mounts)
    settings = player["HostConfig"]
    assert settings["CapDrop"] == ["ALL"] and settings["ReadonlyRootfs"]
    assert settings["OomScoreAdj"] == 1000 and not settings["PortBindings"]
    # Controls: to others they do answer.
    for place in (f"{live}/8096", f"{host.address}/443", elsewhere.replace(":", "/")):
        host.run(f": < /dev/tcp/{place}")
    assert starts(server) == before
    assert remains(server) == ""


def test_what_was_measured_is_in_the_metrics_and_the_history(server: Deployment) -> None:
    line = json.loads(server.host.run(f"tail -n 1 {STATE}/drills.jsonl").stdout)
    assert (line["repository"], line["problem"]) == ("local", "")
    assert 0 < line["rpo"] < 3600 and 0 < line["rto"] < 600 and line["files"] and line["rows"]
    metrics = server.host.run(["cat", METRICS]).stdout
    assert f'nexus_backup_drill_rto_seconds{{name="local"}} {line["rto"]}\n' in metrics
    mode = server.host.run(["stat", "-c", "%a %U", METRICS]).stdout
    assert mode == "644 root\n"
    print(f"\nRPO {line['rpo']} s, RTO {line['rto']} s, restic's own part {line['restic']} s")


def test_nothing_of_a_killed_drill_stays(server: Deployment) -> None:
    before = starts(server)
    caught_with(server, "nexusdrill-traefik-1")
    assert "nexusdrill-traefik-1" in remains(server)
    server.host.run(signal("KILL"))
    assert ended(server) == "signal"
    assert remains(server) == ""
    assert starts(server) == before
    server.host.run(f"systemctl reset-failed {UNIT}")
