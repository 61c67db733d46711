"""Dashboards: as Grafana reads them, whole, and with nothing that a site has none of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from roles.core.model import Desired, File
from roles.grafana import desired
from roles.plan import roles_of
from tests.lab.images.doubles import grafana_double, grafana_page
from tests.unit.conftest import context_from

FOLDER = "/opt/nexus/config/grafana"
VPN = {"provider": "mullvad", "addresses": ("10.64.0.2/32",)}
# Of Grafana's own list (packages/grafana-data/src/valueFormats/categories.ts).
UNITS = {"short", "percentunit", "bytes", "Bps", "s", "reqps"}
KINDS = {"stat", "timeseries", "table", "bargauge", "logs"}


def files(roles: list[Desired]) -> dict[str, bytes]:
    """Grafana's files, by their place in its folder."""
    found = [file for role in roles for file in role.of(File)]
    return {
        file.path.removeprefix(f"{FOLDER}/"): file.content
        for file in found
        if file.path.startswith(FOLDER)
    }


def boards(roles: list[Desired]) -> Iterator[dict[str, Any]]:
    for path, content in files(roles).items():
        if path.startswith("dashboards/"):
            yield json.loads(content)


def titles(**site: Any) -> set[str]:
    context = context_from(**site)
    return {p["title"] for board in boards([desired(context)]) for p in board["panels"]}


def test_every_page_is_whole_and_leads_to_the_others(roles: list[Desired]) -> None:
    found = list(boards(roles))
    uids = {board["uid"] for board in found}
    assert {"overview", "host", "containers", "access", "backups", "media", "levels"} < uids
    assert len(uids) == len(found)
    for board in found:
        assert board["description"] and not board["editable"]
        assert {link["url"] for link in board["links"]} == {
            f"/d/{uid}" for uid in uids - {board["uid"]}
        }
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_panels_lie_side_by_side_within_the_page(roles: list[Desired]) -> None:
    for board in boards(roles):
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert max(x for x, _ in cells) < 24
            assert not cells & taken, (board["uid"], panel["title"])
            taken |= cells


def test_every_panel_is_of_a_kind_and_a_unit_that_grafana_has(roles: list[Desired]) -> None:
    sources = yaml.safe_load(files(roles)["provisioning/datasources/nexus.yaml"])["datasources"]
    kinds = {source["uid"]: source["type"] for source in sources}
    assert len(kinds) == 4 and [s["uid"] for s in sources if s["isDefault"]] == ["prometheus"]
    for board in boards(roles):
        for panel in board["panels"]:
            assert panel["type"] in KINDS
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
            assert [t["refId"] for t in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
            for target in panel["targets"]:
                assert kinds[target["datasource"]["uid"]] == target["datasource"]["type"]
                assert "{{" not in target["expr"]


def test_a_budget_that_is_overdrawn_is_red(roles: list[Desired]) -> None:
    [board] = [board for board in boards(roles) if board["uid"] == "levels"]
    [panel, *_] = board["panels"]
    for left, colour in ((-3, "#f2495c"), (0.2, "#ff9830"), (0.9, "#73bf69")):
        frame = {"schema": {"fields": [{}, {"labels": {}}]}, "data": {"values": [[0], [left]]}}
        page = grafana_page.page(
            {**board, "panels": [panel]}, [], {panel["id"]: [{"frames": [frame]}]}
        )
        assert f"background: {colour}" in page


def test_what_a_site_has_none_of_has_no_panel() -> None:
    assert not {"Torrents", "Since the copy elsewhere"} & titles()
    assert "Torrents" in titles(vpn=VPN)
    small = titles(
        services={n: {"enabled": False} for n in ("jellyfin", "seerr", "sabnzbd", "loki", "alloy")}
    )
    assert not {"Who watches", "Usenet, speed", "Security log"} & small
    assert {"Who watches", "Usenet, speed", "Security log"} < titles()


def test_the_watchers_are_those_that_come_with_the_monitoring(roles: list[Desired]) -> None:
    [board] = [board for board in boards(roles) if board["uid"] == "monitoring"]
    [asked] = [p for p in board["panels"] if p["title"] == "Memory of all of it"]
    named = re.search(r'service=~"([^"]+)"', asked["targets"][0]["expr"])
    assert named and {"prometheus", "loki", "grafana"} < set(named[1].split("|"))
    assert not {"traefik", "jellyfin"} & set(named[1].split("|"))


def test_grafana_tells_nobody_and_fetches_nothing(
    roles: list[Desired], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("grafana") / "grafana.ini"
    file.write_bytes(files(roles)["grafana.ini"])
    settings = grafana_double.Settings(file)
    for section, key in (
        *(("analytics", key) for key in ("reporting_enabled", "check_for_updates")),
        *(("analytics", "check_for_plugin_updates"), ("news", "news_feed_enabled")),
        *(("plugins", "preinstall_auto_update"), ("plugins", "plugin_admin_enabled")),
        *(("auth.basic", "enabled"), ("users", "allow_sign_up"), ("snapshots", "enabled")),
    ):
        assert settings.yes(section, key, True) is False, (section, key)
    for section, key in (
        *(("plugins", "preinstall_disabled"), ("auth", "disable_login_form")),
        *(("security", "disable_initial_admin_creation"), ("security", "cookie_secure")),
        *(("auth.generic_oauth", "use_pkce"), ("auth.generic_oauth", "role_attribute_strict")),
    ):
        assert settings.yes(section, key, False) is True, (section, key)
    # Its secrets are in files alone, and a container without them does not start.
    assert b"value-of-" not in files(roles)["grafana.ini"]
    with pytest.raises(grafana_double.SettingsError, match=r"secret_key: .*grafana_secret_key"):
        settings.get("security", "secret_key")


def test_without_a_monitoring_there_is_no_grafana() -> None:
    off = context_from(monitoring={"enabled": False})
    assert files(roles_of(off)) == {}
    assert not [name for name in off.secrets if name.startswith(("grafana", "authelia_openid"))]


def test_every_secret_of_grafana_is_read_from_a_file() -> None:
    settings = files(roles_of(context_from()))["grafana.ini"].decode()
    told = re.findall(r"^\w*secret\w* = (.*)$", settings, re.MULTILINE)
    assert len(told) == 2
    assert all(re.fullmatch(r"\$__file\{/run/secrets/grafana_\w+\}", each) for each in told)
