"""What a person sees: the login with its second factor, the start page, Jellyfin's own login."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.expected_conditions import (
    text_to_be_present_in_element,
    url_to_be,
    visibility_of_element_located,
)
from selenium.webdriver.support.wait import WebDriverWait

from tests.lab.browser import chromium
from tests.lab.deployment import DOMAIN, Deployment

pytestmark = pytest.mark.lab

USER = "alice"
HOME = f"https://home.{DOMAIN}/"
PERIOD = 30


@pytest.fixture(scope="module")
def totp_secret(deployed: Deployment) -> str:
    return second_factor(deployed)


def second_factor(deployed: Deployment) -> str:
    """The second factor that the operator registers for the first account: make totp."""
    # A restored database has one of another test's.
    deployed.host.run(
        f"docker exec nexus-authelia-1 authelia storage user totp delete {USER}", check=False
    )
    done = register(deployed)
    assert done.returncode == 0, done.stderr
    uri = urlsplit(done.stdout.strip())
    assert (uri.scheme, uri.path) == ("otpauth", f"/{DOMAIN}:{USER}")
    return parse_qs(uri.query)["secret"][0]


def register(deployed: Deployment, *options: str) -> subprocess.CompletedProcess[str]:
    """The command behind make totp."""
    argv = [sys.executable, "-m", "roles.command.totp", "--inventory", str(deployed.inventory)]
    return deployed.execute([*argv, "--uri", *options])


@pytest.fixture
def browser(deployed: Deployment, tmp_path: Path) -> Iterator[Chrome]:
    authority = deployed.secrets()["tls_ca_certificate"].reveal()
    with chromium(tmp_path, authority, DOMAIN, deployed.host.address) as driver:
        yield driver


def code(secret: str, at: float) -> str:
    """The one-time password of a moment (RFC 6238)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(at) // PERIOD), hashlib.sha1).digest()
    place = digest[-1] & 15
    number = struct.unpack(">I", digest[place : place + 4])[0] & 0x7FFFFFFF
    return f"{number % 10**6:06}"


def test_a_browser_reaches_the_start_page_with_two_factors(
    deployed: Deployment, browser: Chrome, totp_secret: str
) -> None:
    browser.get(HOME)
    place = give_password(deployed, browser)
    # The password alone opens nothing.
    assert status(deployed, browser, HOME) == 302
    give_code(place, totp_secret)
    WebDriverWait(browser, 15).until(url_to_be(HOME))
    services = text_to_be_present_in_element((By.TAG_NAME, "body"), "Jellyfin")
    assert WebDriverWait(browser, 15).until(services)
    assert status(deployed, browser, HOME) == 200


def give_password(deployed: Deployment, browser: Chrome) -> WebElement:
    """At the portal, to which the browser was sent: the place that then asks for the code."""
    assert urlsplit(browser.current_url).hostname == f"auth.{DOMAIN}"
    password = deployed.secrets()["authelia_admin_password"].reveal()
    shown(browser, "username-textfield").send_keys(USER)
    shown(browser, "password-textfield").send_keys(password)
    shown(browser, "sign-in-button").click()
    return shown(browser, "otp-input")


def shown(browser: Chrome, name: str) -> WebElement:
    """What the page has under this id, once it shows it: first it asks how far somebody is."""
    found: WebElement = WebDriverWait(browser, 15).until(
        visibility_of_element_located((By.ID, name))
    )
    return found


def give_code(place: WebElement, secret: str) -> None:
    inputs = place.find_elements(By.TAG_NAME, "input")
    for element, digit in zip(inputs, code(secret, time.time()), strict=True):
        element.send_keys(digit)


def test_a_wrong_password_stays_outside(deployed: Deployment, browser: Chrome) -> None:
    browser.get(HOME)
    shown(browser, "username-textfield").send_keys(USER)
    shown(browser, "password-textfield").send_keys("guess", Keys.ENTER)
    notice = browser.find_element(By.CSS_SELECTOR, ".notification")
    WebDriverWait(browser, 10).until(lambda _: "Incorrect" in notice.text or "fail" in notice.text)
    assert status(deployed, browser, HOME) == 302


def test_the_second_factor_is_told_once_and_logged_nowhere(
    deployed: Deployment, totp_secret: str
) -> None:
    again = register(deployed)
    assert (again.returncode, again.stdout) == (1, "")
    assert "--replace" in again.stderr
    for command in ("journalctl -q --no-pager -o verbose", "docker logs nexus-authelia-1 2>&1"):
        said = deployed.host.run(command).stdout
        assert USER in said
        assert totp_secret not in said
    assert files_with(deployed, totp_secret) == []
    assert files_with(deployed, "group:admins") == ["/opt/nexus/config/authelia/configuration.yml"]


def files_with(deployed: Deployment, text: str) -> list[str]:
    """What of the stack's and the host's files holds a text; it is in no argument."""
    search = "grep -rsalF -f - /opt/nexus /var/log"
    return deployed.host.run(search, check=False, stdin=text).stdout.splitlines()


def status(deployed: Deployment, browser: Chrome, url: str) -> int:
    """What a request with the browser's cookies is answered."""
    cookies = "; ".join(f"{c['name']}={c['value']}" for c in browser.get_cookies())
    return request(deployed, url, headers={"Cookie": cookies, "Accept": "text/html"})[0]


def request(
    deployed: Deployment,
    url: str,
    method: str = "GET",
    body: str | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:
    """One request to the host, whose certificate must be the site's; no redirect is followed."""
    parts = urlsplit(url)
    authority = deployed.secrets()["tls_ca_certificate"].reveal()
    context = ssl.create_default_context(cadata=authority)
    connection = _Direct(deployed.host.address, str(parts.hostname), context)
    try:
        connection.request(method, parts.path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class _Direct(http.client.HTTPSConnection):
    """To an address, under the name that the certificate and the route are for."""

    def __init__(self, address: str, name: str, context: ssl.SSLContext) -> None:
        super().__init__(name, timeout=10, context=context)
        self._address = address
        self._tls = context

    def connect(self) -> None:
        self.host, name = self._address, self.host
        http.client.HTTPConnection.connect(self)
        self.host = name
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=name)


def test_jellyfin_s_apps_log_in_without_a_redirect(deployed: Deployment) -> None:
    password = deployed.secrets()["jellyfin_admin_password"].reveal()
    client = 'MediaBrowser Client="Android TV", Device="tv", DeviceId="tv-1", Version="1.0"'
    headers = {"Content-Type": "application/json", "Authorization": client}
    base = f"https://jellyfin.{DOMAIN}"
    code_, answer = request(deployed, f"{base}/System/Info/Public")
    assert code_ == 200 and json.loads(answer)["StartupWizardCompleted"] is True
    login = f"{base}/Users/AuthenticateByName"
    wrong = json.dumps({"Username": USER, "Pw": "guess"})
    assert request(deployed, login, "POST", wrong, headers)[0] == 401
    right = json.dumps({"Username": USER, "Pw": password})
    code_, answer = request(deployed, login, "POST", right, headers)
    assert code_ == 200
    token = json.loads(answer)["AccessToken"]
    headers["Authorization"] = f'{client}, Token="{token}"'
    assert request(deployed, f"{base}/Users/Me", headers=headers)[0] == 200
    assert request(deployed, f"{base}/Users/Me")[0] == 401
