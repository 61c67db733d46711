"""Grafana as a person sees it: in by Authelia alone, and every panel has an answer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from roles.grafana.dashboards import dashboards
from roles.grafana.panels import document
from tests.lab.browser import chromium
from tests.lab.deployment import DOMAIN, Deployment
from tests.lab.failures import BACKUP, PERIODIC, VULNERABLE, Failure, signalled, stopped
from tests.lab.test_browser import (
    USER,
    give_code,
    give_password,
    request,
    second_factor,
    status,
)

pytestmark = pytest.mark.lab

GRAFANA = f"https://grafana.{DOMAIN}/"
STATUS = """import sys, urllib.error as e, urllib.request as u
try:
    print(u.urlopen(u.Request(sys.argv[1], headers={sys.argv[2]: sys.argv[3]}), timeout=20).status)
except e.HTTPError as error:
    print(error.code)
"""
# Until a health check has failed often enough, and the rules over two readings.
PATIENCE = 240.0
ZPOOL = "/usr/local/sbin/zpool"
POOL = r"""#!/bin/sh\necho "tank\tONLINE"\n"""
# What makes every panel tell something: a container stopped and one unwell, a ban, a unit that
# failed, updates, a vulnerable image, a pool (of no real disks), a backup that was checked and
# restored.
EVENTS = (
    stopped("homepage"),
    signalled("jaeger"),
    Failure(
        "fail2ban-client set sshd banip 203.0.113.77", "fail2ban-client unban 203.0.113.77", ()
    ),
    Failure(
        "systemd-run --quiet --unit=lab-broken false || true",
        "systemctl reset-failed lab-broken.service",
        (),
    ),
    VULNERABLE,
    Failure(f"mkdir -p {PERIODIC}; touch {PERIODIC}/upgrade-stamp", "true", ()),
    Failure(
        f"printf '{POOL}' > {ZPOOL}; chmod 755 {ZPOOL}; systemctl restart nexus-measure",
        f"rm {ZPOOL}; systemctl restart nexus-measure",
        (),
    ),
    Failure(
        f"grep -q drill_success {BACKUP} || "
        "for what in run maintain drill; do systemctl start nexus-backup@$what; done",
        "true",
        (),
    ),
)
LOGIN = """
const [user, password, done] = arguments;
const body = JSON.stringify({username: user, password: password, keepMeLoggedIn: false});
const headers = {"Content-Type": "application/json"};
fetch("/api/firstfactor", {method: "POST", headers, body}).then(answer => done(answer.status));
"""


@pytest.fixture(scope="module")
def browser(monitored: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser that has logged in at the portal with both factors, on its way to Grafana."""
    factor = second_factor(monitored)
    authority = monitored.secrets()["tls_ca_certificate"].reveal()
    folder = tmp_path_factory.mktemp("browser")
    with chromium(folder, authority, DOMAIN, monitored.host.address) as driver:
        driver.get(GRAFANA)
        give_code(give_password(monitored, driver), factor)
        # To Grafana, to Authelia for who this is, and back: nothing more is asked.
        WebDriverWait(driver, 30).until(
            lambda _: driver.current_url == GRAFANA and driver.find_elements(By.TAG_NAME, "section")
        )
        yield driver


def ask(deployment: Deployment, browser: Chrome, path: str, body: object = None) -> tuple[int, Any]:
    """What Grafana answers to the browser's session."""
    cookies = "; ".join(f"{c['name']}={c['value']}" for c in browser.get_cookies())
    headers = {"Cookie": cookies, "Content-Type": "application/json", "Accept": "text/html"}
    method = "POST" if body is not None else "GET"
    sent = json.dumps(body) if body is not None else None
    status, answer = request(deployment, f"{GRAFANA}{path}", method, sent, headers)
    return status, json.loads(answer)


def test_whoever_comes_is_known_by_the_portal(monitored: Deployment, browser: Chrome) -> None:
    assert ask(monitored, browser, "api/user")[1]["login"] == USER
    assert ask(monitored, browser, "api/user/orgs")[1][0]["role"] == "Admin"
    # Past the portal nobody gets in without a session, nor by a password.
    place = f"http://{monitored.stack().address('grafana', 'monitoring')}:3000/api/search"
    for header in ("X-None: 1", "Authorization: Basic YWRtaW46YWRtaW4="):
        said = monitored.host.run(["python3", "-c", STATUS, place, *header.split(": ")]).stdout
        assert said.strip() == "401"


def test_the_client_s_secret_is_where_it_belongs_alone(monitored: Deployment) -> None:
    secret = monitored.secrets()["grafana_openid_secret"].reveal()
    for command in (
        "docker inspect nexus-grafana-1 nexus-authelia-1",
        "docker exec nexus-grafana-1 cat /proc/1/environ",
        "docker logs nexus-grafana-1 2>&1; docker logs nexus-authelia-1 2>&1",
    ):
        assert secret not in monitored.host.run(command).stdout
    held = monitored.host.run("grep -rlF -f - /opt/nexus", check=False, stdin=secret).stdout
    assert held.split() == ["/opt/nexus/secrets/grafana/grafana_openid_secret"]


def test_the_household_is_not_let_in(monitored: Deployment, tmp_path: Path) -> None:
    """One who may ask for films does not see who is at home."""
    authority = monitored.secrets()["tls_ca_certificate"].reveal()
    password = monitored.secrets()["portal_bob_password"].reveal()
    with chromium(tmp_path, authority, DOMAIN, monitored.host.address) as driver:
        driver.get(f"https://auth.{DOMAIN}/")
        assert driver.execute_async_script(LOGIN, "bob", password) == 200
        # Seerr's own login.
        assert status(monitored, driver, f"https://seerr.{DOMAIN}/") == 307
        assert status(monitored, driver, GRAFANA) == 403


@pytest.fixture
def eventful(monitored: Deployment) -> Iterator[None]:
    """A host on which something of everything has happened."""
    for event in reversed(EVENTS):
        event.begin(monitored)
    yield
    for event in EVENTS:
        event.end(monitored)


@pytest.mark.usefixtures("eventful")
def test_every_panel_has_an_answer(monitored: Deployment, browser: Chrome) -> None:
    """Also those that are calm on most days, and a number where nothing happens is no answer."""
    wanted = {board.uid: board for board in dashboards(monitored.context())}
    found = ask(monitored, browser, "api/search")[1]
    assert {board["uid"] for board in found} == set(wanted)
    until = time.monotonic() + PATIENCE
    while empty := list(unanswered(monitored, browser, wanted)):
        assert time.monotonic() < until, empty
        time.sleep(3)


def unanswered(
    deployment: Deployment, browser: Chrome, wanted: dict[str, Any]
) -> Iterator[tuple[str, str, Any]]:
    """The panels without data; no question may fail."""
    for uid, board in wanted.items():
        shown = ask(deployment, browser, f"api/dashboards/uid/{uid}")[1]["dashboard"]
        assert shown == document(board, tuple(wanted.values()))
        for panel, raw in zip(board.panels, shown["panels"], strict=True):
            asked = [
                {**target, "expr": target["expr"].removesuffix(" or vector(0)")}
                for target in raw["targets"]
            ]
            body = {"queries": asked, "from": millis(3600), "to": millis(0)}
            status, answer = ask(deployment, browser, "api/ds/query", body)
            assert status == 200
            results = answer["results"].values()
            wrong = [result["error"] for result in results if result.get("error")]
            assert not wrong, (uid, panel.title, wrong)
            if not all(any(map(tells, result["frames"])) for result in results):
                yield uid, panel.title, panel.queries


def tells(frame: dict[str, Any]) -> bool:
    """Whether a series has a value that is a number, or a line."""
    return any(str(value) not in ("NaN", "None") for value in frame["data"]["values"][-1])


def millis(ago: float) -> str:
    return str(round((time.time() - ago) * 1000))


def test_nothing_can_be_changed_in_its_pages(monitored: Deployment, browser: Chrome) -> None:
    shown = ask(monitored, browser, "api/dashboards/uid/overview")[1]
    assert shown["meta"]["provisioned"] and not shown["dashboard"]["editable"]
    sources = ask(monitored, browser, "api/datasources")[1]
    assert {s["uid"] for s in sources} == {"prometheus", "loki", "jaeger", "alertmanager"}
    assert not any(source["editable"] for source in sources)


def test_each_page_is_drawn(monitored: Deployment, browser: Chrome, tmp_path: Path) -> None:
    """The pictures stay in the folder that LAB_PICTURES names, for somebody to look at."""
    folder = Path(os.environ.get("LAB_PICTURES") or tmp_path)
    folder.mkdir(exist_ok=True)
    for board in dashboards(monitored.context()):
        browser.get(f"{GRAFANA}d/{board.uid}/{board.uid}")
        assert browser.find_element(By.TAG_NAME, "h1").text == board.title
        sections = browser.find_elements(By.TAG_NAME, "section")
        assert len(sections) == len(board.panels)
        assert not browser.find_elements(By.CSS_SELECTOR, "section.error")
        height = browser.execute_script("return document.body.scrollHeight")
        browser.set_window_size(1400, height + 150)
        assert browser.save_screenshot(str(folder / f"{board.uid}.png"))
