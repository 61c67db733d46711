"""The portal: the vault's password is the one in force, and it alone does not open two factors."""

from __future__ import annotations

import json

import pytest

from roles.stack.service import Service
from roles.verify.probe import Answer
from roles.verify.report import expect
from roles.verify.target import Target

JSON = {"Content-Type": "application/json", "Accept": "application/json"}


@pytest.mark.check("EXP-15")
def test_portal_answers(target: Target, portal: Service) -> None:
    expect("portal /", target.door().ask(target.portal).status, 200)
    health = target.door().ask(target.portal, "/api/health")
    expect("portal /api/health", health.status, 200)


@pytest.mark.check("SEC-40")
def test_one_factor_does_not_open_two(target: Target, two_factor: Service) -> None:
    name = target.context.stack.hostname(two_factor)
    cookie = _first_factor(target)
    try:
        headers = {"Accept": "application/json", "Cookie": cookie}
        answer = target.door().ask(name, headers=headers)
        expect(f"{name} with a password alone", answer.status, 401)
    finally:
        _post(target, "/api/logout", {}, {"Cookie": cookie})


def _first_factor(target: Target) -> str:
    """Log in with the vault's password; the session's cookie."""
    password = target.context.secrets["authelia_admin_password"].reveal()
    body = {"username": target.site.admin, "password": password, "keepMeLoggedIn": False}
    answer = _post(target, "/api/firstfactor", body, {})
    expect("portal login with the vault's password", answer.status, 200)
    name, _, rest = answer.headers.get("set-cookie", "").partition(";")
    flags = {flag.strip().lower() for flag in rest.split(";")}
    wanted = {"httponly", "secure", "samesite=lax"}
    expect("session cookie", flags & wanted, wanted)
    return name


def _post(target: Target, path: str, body: dict[str, object], headers: dict[str, str]) -> Answer:
    return target.door().ask(
        target.portal, path, method="POST", headers={**JSON, **headers}, body=json.dumps(body)
    )
