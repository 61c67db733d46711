"""Torrents leave through the tunnel or not at all, whatever happens to it; the logins hold."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest

from roles.core.secret import rotate
from roles.core.vault import Vault, load_key
from roles.plan import site_of
from roles.stack.credentials import specs
from tests.lab.cable import Cable, Counter
from tests.lab.deployment import DOMAIN, Deployment, transcript
from tests.lab.lab import Lab
from tests.lab.network import NEIGHBOUR_NAMESPACE
from tests.lab.provider import (
    CLIENT,
    PLACE,
    PORT,
    RESOLVER,
    SITE,
    SITE6,
    SITE_PORT,
    Provider,
    new_key,
)

pytestmark = pytest.mark.lab

GLUETUN, QBITTORRENT, PROXY = "nexus-gluetun-1", "nexus-qbittorrent-1", "nexus-traefik-1"
ENDPOINT = (PLACE.address, PORT)
LEFT_OUT = ("jellyfin", "seerr", "sonarr", "radarr", "lidarr", "prowlarr", "bazarr")
# Six failures in a row, ten seconds apart, and as much again for a slow machine.
UNHEALTHY_SECONDS = 120
# Each way out that a program has: by the routes, from the container's own address, by name, asked
# of a foreign resolver and of Docker's, and by IPv6.
PROBE = f"""
import socket, sys
mark, own = sys.argv[1:]
def tcp(address, source):
    with socket.create_connection((address, {SITE_PORT}), 2, source) as link:
        link.sendall(f"GET /{{mark}} HTTP/1.0\\r\\n\\r\\n".encode())
        return link.recv(8) != b""
def udp(family, address, port, source, data):
    with socket.socket(family, socket.SOCK_DGRAM) as link:
        link.settimeout(2)
        if source:
            link.bind(source)
        link.sendto(data, (address, port))
        return link.recv(512) != b""
def dns(address):
    # Docker's resolver says "server failure" (RFC 1035 4.1.1) by itself where it reaches nobody.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.settimeout(2)
        link.sendto(question, (address, 53))
        return link.recv(512)[3] & 15 != 2
name = b"".join(bytes([len(part)]) + part.encode() for part in (mark, "example"))
question = bytes.fromhex("123401000001000000000000") + name + bytes.fromhex("0000010001")
v4, v6 = socket.AF_INET, socket.AF_INET6
ways = {{
    "tcp": lambda: tcp("{SITE}", None),
    "tcp from its own address": lambda: tcp("{SITE}", (own, 0)),
    "udp": lambda: udp(v4, "{SITE}", {SITE_PORT}, None, mark.encode()),
    "udp from its own address": lambda: udp(v4, "{SITE}", {SITE_PORT}, (own, 0), mark.encode()),
    "name": lambda: socket.gethostbyname(mark + ".example") != "",
    "foreign resolver": lambda: dns("{SITE}"),
    "docker's resolver": lambda: dns("127.0.0.11"),
    "tcp6": lambda: tcp("{SITE6}", None),
    "udp6": lambda: udp(v6, "{SITE6}", {SITE_PORT}, None, mark.encode()),
}}
for way, attempt in ways.items():
    try:
        attempt() and print(way)
    except OSError:
        pass
"""
# A request as the proxy hands it on: from its address, with what it says about the client.
REQUEST = """
import http.client, json, sys
address, method, path, body, headers = sys.argv[1:]
link = http.client.HTTPConnection(address, 8080, timeout=10)
link.request(method, path, body or None, json.loads(headers))
answer = link.getresponse()
text = answer.read().decode(errors="replace")
print(json.dumps([answer.status, dict(answer.getheaders()), text]))
"""


@dataclass
class Home:
    """A deployed host whose torrents have a provider."""

    deployment: Deployment
    provider: Provider
    counter: Counter
    own: str

    def docker(self, *words: str, check: bool = True) -> str:
        return self.deployment.host.run(["docker", *words], check=check).stdout

    def probe(self, mark: str) -> list[str]:
        """Try every way out of qBittorrent's network; those on which an answer came."""
        words = ("exec", QBITTORRENT, "python3", "-c", PROBE, mark, self.own)
        # The container may be started anew meanwhile, or be down.
        return self.docker(*words, check=False).splitlines()

    def recovered(self) -> bool:
        """Whether qBittorrent's network reaches the provider, and its web interface answers."""
        return "tcp" in self.probe(mark()) and self.healthy()

    def cable(self, mark: str) -> Cable:
        around = (SITE, SITE6, RESOLVER, PLACE.address, PLACE.address6)
        return Cable(self.deployment.host, around, (mark,), ENDPOINT)

    def healthy(self) -> bool:
        return {GLUETUN, QBITTORRENT} <= self.deployment.healthy()

    def ask(
        self, method: str, path: str, body: str = "", client: str = "203.0.113.9", **headers: str
    ) -> tuple[int, Mapping[str, str], str]:
        """Ask qBittorrent as the proxy does for a client."""
        host = f"qbittorrent.{DOMAIN}"
        sent = {
            "Host": host,
            "Content-Type": "application/x-www-form-urlencoded",
            "X-Forwarded-For": client,
            "X-Forwarded-Host": host,
            "X-Forwarded-Proto": "https",
            **headers,
        }
        words = ("exec", PROXY, "python3", "-c", REQUEST, "gluetun", method, path, body)
        status, answered, text = json.loads(self.docker(*words, json.dumps(sent)))
        return status, answered, text

    def logs_in(self, password: str, client: str = "203.0.113.9") -> bool:
        body = urlencode({"username": "alice", "password": password})
        _, headers, _ = self.ask("POST", "/api/v2/auth/login", body, client)
        return "set-cookie" in {name.lower() for name in headers}


def wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.5)


def mark() -> str:
    """A word that no other packet has in it."""
    return f"probe{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def home(
    lab: Lab, images: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    host = lab.start_host(lab.free_name("downloads"))
    folder = Path(tmp_path_factory.mktemp("downloads"))
    deployment = Deployment(host, folder, images)
    private, public = new_key()
    deployment.keep({"wireguard_private_key": private})
    with Provider(folder, public) as provider:
        deployment.site["vpn"] = provider.vpn
        for name in LEFT_OUT:
            deployment.site["services"][name] = {"enabled": False}
        done = deployment.run("-y")
        assert done.returncode == 0, transcript(done)
        own = deployment.stack().address("gluetun", "downloads")
        counter = Counter(host, "nx-downloads", own, ENDPOINT)
        yield Home(deployment, provider, counter, own)
    host.destroy()


def test_a_second_run_changes_nothing(home: Home) -> None:
    """Although both programs have written their files anew at their start."""
    assert home.deployment.apply() == []


def test_what_it_downloads_is_writable_for_the_group(home: Home) -> None:
    # A health check may end while it is read.
    read = "grep -hs Umask /proc/[0-9]*/status || true"
    masks = home.docker("exec", QBITTORRENT, "sh", "-c", read)
    assert "0002" in masks


def test_the_probe_is_noticed_where_nothing_holds_it(home: Home) -> None:
    """Without this, a capture that sees nothing would prove nothing."""
    word = mark()
    host = home.deployment.host
    with home.cable(word) as cable:
        answered = host.run(["python3", "-c", PROBE, word, host.address]).stdout.splitlines()
    assert {"tcp", "tcp from its own address", "udp", "foreign resolver", "tcp6"} <= {*answered}
    kinds = {caught.split(" port")[0] for caught in cable.caught}
    assert kinds >= {f"{protocol} to {to}" for protocol in ("tcp", "udp") for to in (SITE, SITE6)}
    assert host.address in {note["source"] for note in home.provider.asked(word)}


def test_traffic_leaves_with_the_tunnels_address(home: Home) -> None:
    word = mark()
    home.counter.reset()
    with home.cable(word) as cable:
        answered = home.probe(word)
    assert {*answered} == {"tcp", "udp", "name", "foreign resolver"}
    asked = home.provider.asked(word)
    assert {note["source"] for note in asked} == {CLIENT}
    assert {note["protocol"] for note in asked} == {"tcp", "udp", "dns"}
    assert cable.caught == []
    assert home.counter.packets() == {"sent": 0, "passed": 0}


def test_qbittorrent_itself_comes_out_of_the_tunnel(home: Home) -> None:
    word = mark()
    add(home, word)
    wait(lambda: bool(home.provider.asked(word)), 60)
    assert {note["source"] for note in home.provider.asked(word)} == {CLIENT}


def add(home: Home, word: str) -> None:
    """Give qBittorrent a torrent whose tracker is the provider's site."""
    password = home.deployment.secrets()["qbittorrent_password"].reveal()
    body = urlencode({"username": "alice", "password": password})
    _, headers, _ = home.ask("POST", "/api/v2/auth/login", body)
    cookie = {name.lower(): value for name, value in headers.items()}["set-cookie"]
    tracker = urlencode({"tr": f"http://{SITE}:{SITE_PORT}/{word}"})
    magnet = f"magnet:?xt=urn:btih:{secrets.token_hex(20)}&{tracker}"
    session = cookie.partition(";")[0]
    added = home.ask("POST", "/api/v2/torrents/add", urlencode({"urls": magnet}), Cookie=session)
    assert added[0] == 200, added


def test_nobody_comes_in_through_the_tunnel(home: Home) -> None:
    """The provider's other customers must not meet the login page."""
    tried = f"import socket; socket.create_connection(('{CLIENT}', 8080), 3)"
    assert PLACE.run(["python3", "-c", tried], check=False).returncode != 0


def test_the_control_server_answers_nobody(home: Home) -> None:
    inside = ["exec", QBITTORRENT, "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
    assert home.docker(*inside, "http://127.0.0.1:8000/v1/vpn/status") == "401"
    outside = f"import socket; socket.create_connection(('{home.own}', 8000), 3)"
    assert home.deployment.host.run(["python3", "-c", outside], check=False).returncode != 0


def test_without_a_tunnel_nothing_leaves_and_it_recovers_by_itself(home: Home) -> None:
    word = mark()
    add(home, word)
    home.counter.reset()
    with home.cable(word) as cable:
        home.provider.stop()
        try:
            # Again and again, while gluetun takes its interface away and makes it anew.
            assert [home.probe(word) for _ in range(4)] == [[]] * 4
            wait(lambda: GLUETUN not in home.deployment.healthy(), UNHEALTHY_SECONDS)
        finally:
            home.provider.start()
    assert cable.caught == []
    assert home.counter.packets() == {"sent": 0, "passed": 0}
    wait(home.recovered, 120)


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_without_gluetun_nothing_leaves(home: Home, ending: str) -> None:
    word = mark()
    home.counter.reset()
    with home.cable(word) as cable:
        home.docker(ending, GLUETUN)
        assert home.probe(word) == []
    assert cable.caught == []
    assert home.counter.packets() == {"sent": 0, "passed": 0}
    home.docker("start", GLUETUN)
    # qBittorrent's old network has ended; the host's own timer gives it the new one.
    wait(home.recovered, 120)


def test_a_restart_of_gluetun_is_mended_by_the_host_itself(home: Home) -> None:
    home.docker("restart", GLUETUN)
    wait(home.recovered, 120)
    word = mark()
    home.probe(word)
    assert {note["source"] for note in home.provider.asked(word)} == {CLIENT}


def test_a_lost_network_is_drift_that_one_run_mends(home: Home) -> None:
    host = home.deployment.host
    host.run(["systemctl", "stop", "nexus-rejoin.timer", "nexus-rejoin.service"])
    home.docker("restart", GLUETUN)
    word = mark()
    assert home.probe(word) == []
    assert home.deployment.apply() == ["Downloads | torrents and Usenet", "Stack | containers"]
    assert "tcp" in home.probe(word)
    assert home.deployment.apply() == []


def test_the_host_holds_what_a_gluetun_without_rules_lets_go(home: Home) -> None:
    """Gluetun's own filter may fail, or not stand yet: the host's forward chain is behind it."""
    word = mark()
    home.docker("exec", GLUETUN, "nft", "flush", "chain", "inet", "gluetun", "output")
    home.docker("exec", GLUETUN, "nft", "add", "chain inet gluetun output { policy accept; }")
    home.counter.reset()
    with home.cable(word) as cable:
        assert "udp from its own address" not in home.probe(word)
    packets = home.counter.packets()
    assert packets["sent"] > 0
    assert packets["passed"] == 0
    assert cable.caught == []
    home.docker("restart", GLUETUN)
    wait(home.recovered, 120)


def test_the_web_interface_asks_authelia_first(home: Home) -> None:
    address = home.deployment.host.address
    for name, path in (
        ("qbittorrent", "/"),
        ("qbittorrent", "/api/v2/auth/login"),
        ("sabnzbd", "/"),
        ("sabnzbd", "/login/"),
    ):
        curl = ["curl", "-sk", "--noproxy", "*", "--resolve", f"{name}.{DOMAIN}:443:{address}"]
        curl += ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "-X", "POST"]
        answer = NEIGHBOUR_NAMESPACE.run([*curl, f"https://{name}.{DOMAIN}{path}"]).stdout
        assert answer.startswith(("302", "303", "401")), (name, path, answer)


def test_a_wrong_password_counts_against_the_clients_address(home: Home) -> None:
    password = home.deployment.secrets()["qbittorrent_password"].reveal()
    attacker, resident = "203.0.113.66", "192.0.2.10"
    assert home.logs_in(password, attacker)
    assert not any(home.logs_in("wrong", attacker) for _ in range(5))
    assert not home.logs_in(password, attacker)
    assert home.logs_in(password, resident)


def test_qbittorrent_refuses_another_host_and_another_origin(home: Home) -> None:
    other = home.ask("GET", "/", **{"Host": "evil.example", "X-Forwarded-Host": "evil.example"})
    assert other[0] == 401
    crossed = home.ask("GET", "/", Origin="https://evil.example")
    assert crossed[0] == 401
    status, headers, _ = home.ask("GET", "/")
    assert (status, headers.get("x-frame-options", "").upper()) == (200, "SAMEORIGIN")


def test_sabnzbd_asks_for_its_own_password_and_has_no_open_wizard(home: Home) -> None:
    def ask(method: str, path: str, body: str = "") -> tuple[int, Mapping[str, str], str]:
        headers = {"Host": "sabnzbd", "Content-Type": "application/x-www-form-urlencoded"}
        words = ("exec", PROXY, "python3", "-c", REQUEST, "sabnzbd", method, path, body)
        status, answered, text = json.loads(home.docker(*words, json.dumps(headers)))
        return status, {name.lower(): value for name, value in answered.items()}, text

    for path in ("/", "/wizard/", "/wizard/one", "/config/general/"):
        status, headers, text = ask("GET", path)
        login = "/login/" in headers.get("location", "") or 'name="password"' in text
        assert login or "/wizard" in headers.get("location", ""), (path, status, text)
    assert 'name="password"' in ask("GET", "/login/")[2]
    assert ask("GET", "/api?mode=queue&output=json")[2].find("API Key Required") >= 0
    key = home.deployment.secrets()["sabnzbd_api_key"].reveal()
    assert '"queue"' in ask("GET", f"/api?mode=queue&output=json&apikey={key}")[2]


def test_a_new_password_replaces_the_old_one(home: Home) -> None:
    deployment = home.deployment
    old = deployment.secrets()["qbittorrent_password"].reveal()
    assert home.logs_in(old)
    vault = Vault.open(deployment.vault, load_key("lab", deployment.environment))
    wanted = specs(site_of(deployment.site))
    made = rotate(vault, wanted, "qbittorrent_password")
    assert made == ["qbittorrent_password", "qbittorrent_password_hash"]
    vault.save()
    before = home.docker("inspect", "--format", "{{.Id}}", GLUETUN)
    # The vault's copy on the host is part of the backup.
    copied = "Backup | restic, its plan and its timers"
    changed = ["Downloads | torrents and Usenet", "Stack | containers", copied]
    assert deployment.apply() == changed
    assert home.docker("inspect", "--format", "{{.Id}}", GLUETUN) == before
    new = deployment.secrets()["qbittorrent_password"].reveal()
    assert home.logs_in(new)
    assert not home.logs_in(old, "203.0.113.12")
    assert deployment.apply() == []


def test_no_key_is_where_the_engines_users_could_read_it(home: Home) -> None:
    values = [
        secret.reveal()
        for name, secret in home.deployment.secrets().items()
        if name.startswith(("wireguard", "qbittorrent", "sabnzbd"))
    ]
    shown = home.docker("inspect", GLUETUN, QBITTORRENT, "nexus-sabnzbd-1")
    shown += "".join(
        home.deployment.host.run(f"docker logs {name} 2>&1").stdout
        for name in (GLUETUN, QBITTORRENT, "nexus-sabnzbd-1")
    )
    shown += home.deployment.host.run("ps axww -o args").stdout
    assert not [value for value in values if value in shown]


def test_without_a_tunnel_nothing_of_it_stays_at_work(home: Home) -> None:
    """Last: the host has no tunnel after it."""
    deployment = home.deployment
    assert deployment.host.run("systemctl is-active nexus-rejoin.timer").stdout == "active\n"
    deployment.apply({"vpn": None})
    running = home.docker("ps", "-a", "--format", "{{.Names}}").split()
    assert not {GLUETUN, QBITTORRENT} & {*running}
    asked = "systemctl is-active nexus-rejoin.timer; systemctl is-enabled nexus-rejoin.timer"
    assert deployment.host.run(asked, check=False).stdout == "inactive\ndisabled\n"
