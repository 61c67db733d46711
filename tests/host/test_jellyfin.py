"""Jellyfin guards itself: no open wizard, nothing without a login, the vault's password works."""

from __future__ import annotations

import json
import secrets

import pytest

from roles.stack.service import Service
from roles.verify.probe import Answer
from roles.verify.report import expect
from roles.verify.target import Target

LOGIN = "/Users/AuthenticateByName"
CLIENT = 'MediaBrowser Client="nexus", Device="verify", DeviceId="nexus-verify", Version="1"'


def test_wizard_is_closed(target: Target, jellyfin: Service) -> None:
    public = json.loads(_ask(target, jellyfin, "/System/Info/Public").body)
    expect("Jellyfin StartupWizardCompleted", public["StartupWizardCompleted"], True)


def test_nothing_without_a_login(target: Target, jellyfin: Service) -> None:
    for path in ("/Users", "/System/Info", "/Library/VirtualFolders"):
        expect(f"Jellyfin {path}", _ask(target, jellyfin, path).status, 401)


def test_wrong_password_is_refused(target: Target, jellyfin: Service) -> None:
    answer = _login(target, jellyfin, f"nobody-{secrets.token_hex(4)}", secrets.token_hex(8))
    expect("Jellyfin login with a wrong password", answer.status, 401)


@pytest.mark.check("EXP-22")
def test_vaults_password_logs_in(target: Target, jellyfin: Service) -> None:
    password = target.context.secrets["jellyfin_admin_password"].reveal()
    answer = _login(target, jellyfin, target.site.admin, password)
    expect("Jellyfin login with the vault's password", answer.status, 200)
    token = json.loads(answer.body)["AccessToken"]
    _ask(target, jellyfin, "/Sessions/Logout", body={}, token=token)
    expect("Jellyfin after the logout", _ask(target, jellyfin, "/Users", token=token).status, 401)


def _login(target: Target, service: Service, name: str, password: str) -> Answer:
    return _ask(target, service, LOGIN, body={"Username": name, "Pw": password})


def _ask(
    target: Target,
    service: Service,
    path: str,
    *,
    body: dict[str, str] | None = None,
    token: str = "",
) -> Answer:
    authorization = f'{CLIENT}, Token="{token}"' if token else CLIENT
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    name = target.context.stack.hostname(service)
    method, text = ("GET", None) if body is None else ("POST", json.dumps(body))
    return target.door().ask(name, path, headers=headers, method=method, body=text)
