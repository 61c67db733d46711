"""The doubles of Bazarr and Seerr, on the very entries that the deploy sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roles import bazarr, seerr
from roles.context import Context
from roles.core import libyaml
from roles.core.agent import entries_of, with_entries
from roles.core.model import Desired, File, Settings
from tests.lab.images.doubles import bazarr_double, seerr_double
from tests.lab.images.doubles.http import Request
from tests.lab.images.doubles.seerr_double import Seerr


def entries(role: Desired) -> Settings:
    (settings,) = role.of(Settings)
    return settings


@pytest.fixture
def application(context: Context, tmp_path: Path) -> bazarr_double.Bazarr:
    settings = entries(bazarr.desired(context))
    file = tmp_path / "config/config.yaml"
    file.parent.mkdir()
    file.write_text(with_entries("yaml", "", dict(settings.entries)))
    made = bazarr_double.Bazarr(tmp_path)
    kept = entries_of("yaml", file.read_text())
    # Otherwise the next deploy would find them changed.
    assert {name: kept[name] for name, _ in settings.entries} == dict(settings.entries)
    return made


def test_bazarr_takes_the_vault_s_password_and_shows_strangers_no_key(
    application: bazarr_double.Bazarr,
) -> None:
    def post(password: str) -> int:
        form = f"action=login&username=alice&password={password}".encode()
        headers = {"x-forwarded-for": "203.0.113.7"}
        request = Request("POST", "/api/system/account", headers, form, "172.30.1.3")
        return application.handle(request).status

    assert b"apiKey" not in application.handle(Request("GET", "/", {}, b"", "172.30.1.3")).body
    assert post("value-of-bazarr_password") == 204
    assert post("wrong") == 403
    log = (application.folder / "log/bazarr.log").read_text()
    assert log.endswith("|Failed authentication from ***.***.***.*** for user alice|\n")


def test_bazarr_replaces_values_of_the_wrong_kind_and_keeps_unknown_ones(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("auth:\n  type: maybe\nsonarr:\n  port: many\nmine:\n  key: 1\n")
    found = bazarr_double.load(file)
    assert (found["auth"]["type"], found["sonarr"]["port"]) == (None, 8989)
    assert libyaml.load(file.read_text())["mine"] == {"key": 1}


def test_bazarr_knows_only_what_the_site_has(make_context: Callable[..., Context]) -> None:
    context = make_context(services={"radarr": {"enabled": False}})
    found = dict(entries(bazarr.desired(context)).entries)
    assert (found["general/use_sonarr"], found["general/use_radarr"]) == ("true", "false")
    assert not [name for name in found if name.startswith("radarr/")]


def test_seerr_keeps_the_entries_and_asks_for_its_key(context: Context, tmp_path: Path) -> None:
    settings = entries(seerr.desired(context))
    (tmp_path / "settings.json").write_text(with_entries("json", "", dict(settings.entries)))
    made = Seerr(tmp_path)
    kept = entries_of("json", (tmp_path / "settings.json").read_text())
    assert {name: kept[name] for name, _ in settings.entries} == dict(settings.entries)
    made.users.append({"id": 1, "admin": True, "jellyfinUserId": "x"})

    def status(key: str, path: str = "settings/main") -> int:
        headers = {"x-api-key": key} if key else {}
        return made.handle(Request("GET", f"/api/v1/{path}", headers, b"", "172.30.1.3")).status

    assert (status(""), status("wrong"), status("value-of-seerr_api_key")) == (403, 403, 200)


def test_before_its_set_up_seerr_takes_nobody_but_this_jellyfins_administrator(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    policy = {"IsAdministrator": False}

    def jellyfin(server: dict[str, Any], *words: object, **_: object) -> dict[str, Any]:
        asked.append((server["ip"], server["port"]))
        user = {"Id": "u1", "Name": "alice", "Policy": policy}
        return {
            **{"User": user, "AccessToken": "t", "ServerId": "s", "Id": "s", "ServerName": "here"},
            "Items": [{"AppName": "Seerr", "AccessToken": "key"}],
        }

    def post(path: str, **body: object) -> int:
        text = json.dumps({"username": "eve", "password": "x", "serverType": 2, **body}).encode()
        headers = {"x-api-key": "value-of-seerr_api_key"}
        return made.handle(Request("POST", f"/api/v1/{path}", headers, text, "172.30.1.3")).status

    settings = entries(seerr.desired(context))
    (tmp_path / "settings.json").write_text(with_entries("json", "", dict(settings.entries)))
    made = Seerr(tmp_path)
    monkeypatch.setattr(seerr_double, "jellyfin", jellyfin)
    assert post("auth/plex", authToken="x") == 500
    assert post("auth/jellyfin", hostname="evil.example", port=80) == 500
    assert post("auth/jellyfin") == 403
    assert made.users == []
    policy["IsAdministrator"] = True
    assert post("auth/jellyfin", username="alice") == 200
    assert post("settings/jellyfin", ip="jellyfin", port=8096, useSsl=False) == 200
    assert set(asked) == {("jellyfin", 8096)}
    kept = entries_of("json", (tmp_path / "settings.json").read_text())
    assert {name: kept[name] for name, _ in settings.entries} == dict(settings.entries)


def test_seerr_refuses_a_server_that_lacks_what_upstream_requires(tmp_path: Path) -> None:
    made = Seerr(tmp_path)
    made.users.append({"id": 1, "admin": True, "jellyfinUserId": "x"})
    headers = {"x-api-key": made.settings["main"]["apiKey"]}
    body = json.dumps({"name": "Sonarr", "hostname": "sonarr", "port": "8989"}).encode()
    request = Request("POST", "/api/v1/settings/sonarr", headers, body, "172.30.1.3")
    assert made.handle(request).status == 400
    assert made.settings["sonarr"] == []


def test_seerr_gives_no_number_of_its_servers_twice(tmp_path: Path) -> None:
    made = Seerr(tmp_path)
    made.users.append({"id": 1, "admin": True, "jellyfinUserId": "x"})
    made.settings["radarr"] = [{"id": 0}, {"id": 1}]
    headers = {"x-api-key": made.settings["main"]["apiKey"]}
    for number, status in ((0, 200), (0, 404)):
        path = f"/api/v1/settings/radarr/{number}"
        assert made.handle(Request("DELETE", path, headers, b"", "172.30.1.3")).status == status
    assert made.settings["radarr"] == [{"id": 1}]


def test_seerr_believes_forwarded_addresses_only_where_it_is_told_to(tmp_path: Path) -> None:
    made = Seerr(tmp_path)
    request = Request("GET", "/", {"x-forwarded-for": "203.0.113.7"}, b"", "172.30.1.3")
    assert made.address(request) == "172.30.1.3"
    made.settings["network"]["trustProxy"] = True
    assert made.address(request) == "203.0.113.7"
    assert seerr_double.merged({"a": {"b": 1}}, {"a": {"c": 2}}) == {"a": {"b": 1, "c": 2}}


def test_seerr_is_told_only_of_servers_with_a_folder(make_context: Callable[..., Context]) -> None:
    role = seerr.desired(make_context(media={"films": "/srv/media/films"}))
    declared = next(r for r in role.of(File) if r.path == seerr.DECLARATION)
    told = json.loads(declared.content)
    assert [server["kind"] for server in told["servers"]] == ["radarr"]
    assert told["gone"] == [{"kind": "sonarr", "name": "Sonarr", "hostname": "sonarr"}]


def test_settings_that_are_gone_are_set_up_again(context: Context) -> None:
    role = seerr.desired(context)
    (setup,) = role.handed_on
    assert entries(role).path in setup.on
