"""A collection is read as the kernel and the tools write it."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from roles.verify import collected
from roles.verify.collected import Collected, Container, Listener

ID = "a" * 64
MOUNTS = [
    "612 411 0:63 / / ro,relatime master:1 - overlay overlay rw,lowerdir=/l,upperdir=/u",
    "613 612 0:66 / /tmp rw,nosuid,nodev,noexec,relatime - tmpfs tmpfs rw,size=65536k",
]


def container(limits: dict[str, str] | None = None, **inspect: Any) -> Container:
    full = {"Id": ID, "Name": "/x", "Config": {"Labels": None}, "Mounts": [], **inspect}
    return Container(full, (), (), limits or {})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=9,fd=3))',
            Listener("tcp", "*", 22, "sshd"),
        ),
        (
            'tcp LISTEN 0 128 [::]:443 [::]:* users:(("dockerd",pid=1,fd=3))',
            Listener("tcp", "*", 443, "dockerd"),
        ),
        ("udp UNCONN 0 0 127.0.0.53%lo:53 0.0.0.0:*", Listener("udp", "127.0.0.53", 53, "")),
        (
            "udp UNCONN 0 0 [fe80::1]%eth0:546 [::]:*",
            Listener("udp", "fe80::1", 546, ""),
        ),
        ("tcp LISTEN 0 5 *:9090 *:*", Listener("tcp", "*", 9090, "")),
    ],
)
def test_listening_sockets_are_read(line: str, expected: Listener) -> None:
    assert collected.listener(line) == expected


def test_only_loopback_is_local() -> None:
    local = {a: Listener("tcp", a, 1, "").is_local for a in ("127.0.0.1", "::1", "*", "10.0.0.1")}
    assert local == {"127.0.0.1": True, "::1": True, "*": False, "10.0.0.1": False}


def test_a_read_only_mount_of_a_writable_file_system_is_read_only() -> None:
    root, temporary = map(collected.mounted, MOUNTS)
    assert "ro" in root.options and "rw" not in root.options
    assert temporary.kind == "tmpfs"
    assert {"rw", "noexec", "size=65536k"} <= temporary.options


def test_capabilities_have_names() -> None:
    assert collected.capability_names(0) == []
    assert collected.capability_names(1 << 21 | 1 << 10) == ["NET_BIND_SERVICE", "SYS_ADMIN"]
    assert collected.capability_names(1 << 63) == ["CAP_63"]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (
            {
                "memory.max": "67108864",
                "memory.swap.max": "0",
                "cpu.max": "50000 100000",
                "pids.max": "50",
            },
            (67108864, 0, 0.5, 50),
        ),
        (
            {
                "memory.max": "max",
                "memory.swap.max": "max",
                "cpu.max": "max 100000",
                "pids.max": "max",
            },
            (None, None, None, None),
        ),
        (
            {
                "memory.limit_in_bytes": "67108864",
                "memory.memsw.limit_in_bytes": "134217728",
                "cpu.cfs_quota_us": "200000",
                "cpu.cfs_period_us": "100000",
                "pids.max": "50",
            },
            (67108864, 67108864, 2.0, 50),
        ),
        (
            {
                "memory.limit_in_bytes": str(2**63 - 4096),
                "memory.memsw.limit_in_bytes": str(2**63 - 4096),
                "cpu.cfs_quota_us": "-1",
                "cpu.cfs_period_us": "100000",
                "pids.max": "max",
            },
            (None, None, None, None),
        ),
        ({}, (None, 0, None, None)),
    ],
    ids=["v2", "v2 without", "v1", "v1 without", "nothing"],
)
def test_limits_of_both_kinds_of_control_groups(
    limits: dict[str, str], expected: tuple[object, ...]
) -> None:
    each = container(limits)
    assert (each.memory, each.swap, each.cpus, each.pids) == expected


def test_published_ports_count_before_the_container_runs() -> None:
    bindings = {"80/tcp": [{"HostIp": "", "HostPort": "8088"}], "53/udp": None}
    each = container(
        HostConfig={"PortBindings": bindings},
        NetworkSettings={"Ports": {"443/tcp": [{"HostIp": "::", "HostPort": "443"}]}},
    )
    assert each.published == {("tcp", 8088), ("tcp", 443)}


def test_a_range_of_ports_is_each_of_them() -> None:
    bindings = {"80/tcp": [{"HostIp": "", "HostPort": "8000-8002"}]}
    each = container(
        HostConfig={"PortBindings": bindings}, NetworkSettings={"Ports": {"80/tcp": []}}
    )
    assert each.published == {("tcp", 8000), ("tcp", 8001), ("tcp", 8002)}


def test_rules_and_policies_are_those_of_the_filter_table() -> None:
    table = "*nat\n:PREROUTING ACCEPT [0:0]\n-A FORWARD -j WRONG\nCOMMIT\n*filter\n"
    table += ":FORWARD DROP [0:0]\n-A FORWARD -j DOCKER-USER\n-A FORWARD-X -j NO\nCOMMIT\n"
    table += "*mangle\n-A FORWARD -j ALSO-WRONG\nCOMMIT\n"
    found = Collected({"containers": [], "filters": {"4": table, "6": ""}})
    assert found.rules("4", "FORWARD") == ["-j DOCKER-USER"]
    assert found.policy("4", "FORWARD") == "DROP"
    assert found.policy("6", "FORWARD") == "none"


def test_the_first_of_two_values_counts_for_sshd_and_all_for_apt() -> None:
    found = Collected(
        {
            "containers": [],
            "sshd": ["port 22", "port 23", "hostkeyalgorithms a,b"],
            "apt": ['A::B "1";', 'A::B "0";', 'L:: "x";', 'L:: "y";'],
        }
    )
    assert found.sshd() == {"port": "22", "hostkeyalgorithms": "a,b"}
    assert found.apt() == {"A::B": ["1", "0"], "L": ["x", "y"]}


def test_addresses_are_the_hosts_own() -> None:
    def interface(name: str, address: str, scope: str = "global") -> dict[str, Any]:
        return {"ifname": name, "addr_info": [{"local": address, "scope": scope}]}

    listed = [
        interface("lo", "127.0.0.1", "host"),
        interface("eth0", "192.168.1.10"),
        interface("eth0", "fe80::1", "link"),
        interface("nx-edge", "172.30.0.1"),
        interface("docker0", "172.17.0.1"),
    ]
    assert Collected({"containers": [], "addresses": listed}).addresses() == ["192.168.1.10"]


def test_a_collection_survives_its_way() -> None:
    line = base64.b64encode(zlib.compress(json.dumps({"containers": []}).encode())).decode()
    assert collected.unpack(line).raw == {"containers": []}


@pytest.mark.parametrize(
    ("flag", "days_ago", "journal", "lacked"),
    [
        (True, 1, [], True),
        # It runs for longer than the flag tells of, and nothing was killed lately.
        (True, 90, [], False),
        (True, 90, [ID], True),
        # A restart has wiped the flag out.
        (False, 0, [ID], True),
        (False, 1, ["b" * 64], False),
    ],
)
def test_a_kill_for_memory_counts_for_a_week(
    flag: bool, days_ago: int, journal: list[str], lacked: bool
) -> None:
    now = datetime(2026, 11, 25, 10, tzinfo=UTC)
    started = (now - timedelta(days=days_ago)).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    each = container(State={"OOMKilled": flag, "StartedAt": started})
    raw = {"containers": [], "time": now.timestamp(), "memory_kills": journal}
    assert Collected(raw).lacked_memory(each) is lacked
