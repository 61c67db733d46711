"""The double of Authelia answers as the real program did when its answers were recorded.

data/authelia-4.39.20.json says what was recorded, how, and what was left out.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab.images.doubles.authelia_double import Application
from tests.lab.images.doubles.authelia_log import Log
from tests.lab.images.doubles.authelia_store import Sessions, Totp
from tests.lab.images.doubles.authelia_users import Users, totp_code
from tests.lab.images.doubles.http import Request, Response
from tests.lab_unit.test_authelia_double import HASH, Memory, load

RECORDED = json.loads((Path(__file__).parent / "data" / "authelia-4.39.20.json").read_text())
FORWARD_AUTH = "/api/authz/forward-auth"
PORTAL = "auth.home.example.org"
PEER = "127.0.0.1"
# What a time, or the words of another JSON library, would make different.
VARYING = (
    (r"20\d\d-\d\d-\d\dT[0-9:.]+Z", "{time}"),
    (r"banned until .*? \(\+00:00\)", "banned until {moment}"),
    (r" (bucket|delay)=[0-9.]+", ""),
    (r' error="unable to parse body: (?:[^"\\]|\\.)*"', ' error="unable to parse body"'),
    (r'(parse body during logout: unable to parse body): [^"]*"', r'\1"'),
)


class Replay:
    """A double with an empty store, and browsers that keep its cookie."""

    def __init__(self, folder: Path, session: Mapping[str, str]) -> None:
        self._step = int(time.time()) // 30
        users = {name: {**fields, "password": HASH} for name, fields in RECORDED["users"].items()}
        users_file = folder / "users.yml"
        users_file.write_text(json.dumps({"users": users}))
        config = load(folder, configuration(users_file, session))
        memory = Memory()
        for name, secret in RECORDED["totp"].items():
            memory.save_totp(Totp(name, "home.example.org", "SHA1", 6, 30, secret, "2026-01-01T0Z"))
        self._log = folder / "log"
        log = Log(file=self._log, keep=False)
        sessions = Sessions(memory, "s" * 32)
        self._application = Application(config, Users(users_file, True), sessions, memory, log)
        self._cookies: dict[str, str] = {}

    def answer(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """What the double answers, in the notation of the recording."""
        browser = recorded.get("browser", "")
        request = self._request(recorded, self._cookies.get(browser, ""))
        mark = self._log.stat().st_size
        response = self._application.handle(request)
        found = {
            "status": response.status,
            **_headers(response),
            "body": _body(request, response),
        }
        if cookie := self._take_cookie(browser, response):
            found["cookie"] = cookie
        lines = self._log.read_bytes()[mark:].decode().split("\n")[:-1]
        logged = [_constant(line.partition(" ")[2]) for line in lines]
        if important := [line for line in logged if not line.startswith("level=info")]:
            found["log"] = important
        return found

    def _request(self, recorded: Mapping[str, Any], cookie: str) -> Request:
        if "forward" in recorded:
            method, path = recorded.get("sent", "GET"), FORWARD_AUTH
            headers = {**RECORDED["defaults"], **recorded["forward"]}
        else:
            method, path = recorded["ask"].split(" ", 1)
            standard = {"host": PORTAL, "x-forwarded-host": PORTAL, "x-forwarded-uri": path}
            standard |= {"x-forwarded-method": method, "x-forwarded-for": "203.0.113.7"}
            headers = {**standard, **recorded.get("headers", {})}
        if cookie:
            headers["cookie"] = f"authelia_session={cookie}"
        # As the server reads them: one character a byte, no blanks around.
        sent = {
            name: value.encode().decode("latin-1").strip()
            for name, value in headers.items()
            if value is not None
        }
        body = recorded.get("body", "")
        text = body if isinstance(body, str) else json.dumps(body)
        return Request(method, path, sent, self._with_codes(text).encode(), PEER)

    def _with_codes(self, text: str) -> str:
        (secret,) = RECORDED["totp"].values()

        def code(offset: int) -> str:
            return totp_code(secret, "SHA1", 6, self._step + offset)

        valid = {code(offset) for offset in (-1, 0, 1)}
        wrong = next(
            guess for guess in ("000000", "111111", "222222", "333333") if guess not in valid
        )
        text = re.sub(r"\{code([+-]\d)?\}", lambda match: code(int(match[1] or 0)), text)
        return text.replace("{wrong}", wrong)

    def _take_cookie(self, browser: str, response: Response) -> str:
        for name, text in response.headers:
            if name == "Set-Cookie":
                pair, *attributes = text.split("; ")
                value = pair.partition("=")[2]
                same = value == self._cookies.get(browser)
                self._cookies[browser] = value
                kind = "cleared" if not value else "kept" if same else "new"
                assert (
                    sorted(a for a in attributes if not a.startswith("expires="))
                    == RECORDED["cookies"][kind]
                )
                return kind
        return ""


def configuration(users: Path, session: Mapping[str, str]) -> str:
    """The recorded configuration, with the stores that the double insists on."""
    found = json.loads(json.dumps(RECORDED["configuration"]).replace("{users}", str(users)))
    found["session"] |= {"redis": {"host": "valkey"}, **session}
    place = {"address": "tcp://postgres:5432", "database": "authelia", "username": "authelia"}
    found["storage"] = {"postgres": place}
    found["notifier"] = {"filesystem": {"filename": "/data/notification.txt"}}
    return yaml.safe_dump(found)


def _headers(response: Response) -> dict[str, Any]:
    headers = {name.lower(): text for name, text in response.headers if name != "Set-Cookie"}
    if response.body:
        headers["content-type"] = response.content_type
    if "retry-after" in headers:
        headers["retry-after"] = "{date}"
    for kind, common in sorted(RECORDED["kinds"].items(), key=lambda item: -len(item[1])):
        if common.items() <= headers.items():
            own = {name: text for name, text in headers.items() if name not in common}
            return {"kind": kind, **({"headers": own} if own else {})}
    raise AssertionError("the kind without any header always fits")


def _body(request: Request, response: Response) -> object:
    text = "" if request.method == "HEAD" else response.body.decode()
    status = f"{response.status} {HTTPStatus(response.status).phrase}"
    location = dict(response.headers).get("Location", "")
    if text == status:
        return "{status}"
    if text == f'<a href="{html.escape(location)}">{status}</a>':
        return "{anchor}"
    if "json" in response.content_type and text:
        return json.loads(_constant(text))
    return "{page}" if text.startswith("<!doctype html>") else text


def _constant(text: str) -> str:
    for pattern, constant in VARYING:
        text = re.sub(pattern, constant, text)
    return text


@pytest.mark.parametrize("name", RECORDED["scenarios"])
def test_the_double_answers_as_the_real_program_did(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = RECORDED["scenarios"][name]
    # The clock stands still but for the waits: all one-time passwords are of one time step.
    clock = [time.time()]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    waits = any("wait" in recorded for recorded, *_ in steps)
    replay = Replay(tmp_path, RECORDED["short sessions"] if waits else {})
    for number, (recorded, expected, *times) in enumerate(steps):
        clock[0] += recorded.get("wait", 0)
        for _ in range(times[0] if times else 1):
            assert replay.answer(recorded) == expected, f"{name}, step {number}: {recorded}"
