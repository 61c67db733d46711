"""The monitoring follows from the declarations: who is read, by whom, and over which way."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml

from roles import alertmanager, blackbox, handbook, measure, prometheus, scan
from roles.context import Context
from roles.core import libyaml
from roles.core.model import File, Unit
from roles.prometheus.alerts import ALERTS, WATCHDOG, at_pace, pages
from roles.site.schema import SiteError
from roles.stack.networks import ways
from roles.stack.service import Metrics
from tests.rules.scenarios import HEALTHY, SCENARIOS
from tests.unit.conftest import context_from, site_from


def scraping(context: Context) -> dict[str, str]:
    """Each job's target."""
    jobs = prometheus.configuration(context)["scrape_configs"]
    return {job["job_name"]: job["static_configs"][0]["targets"][0] for job in jobs}


def test_whoever_tells_figures_is_read_over_one_way_and_no_other(context: Context) -> None:
    told = {s.name: s.metrics for s in context.stack.services if s.metrics}
    assert {"prometheus", "node-exporter", "traefik"} <= told.keys()
    targets = scraping(context)
    for name, metrics in told.items():
        assert targets[name] == f"{name}:{metrics.port}"
        assert "monitoring" in [
            s.name for s in context.stack.networks_of(context.stack.service(name))
        ]
    ports = {
        (way.server.name, way.port)
        for way in context.stack.ways()
        if way.client.name == "prometheus" and way.network == "monitoring"
    }
    assert {(name, m.port) for name, m in told.items()} - {("prometheus", 9090)} <= ports


def test_a_declared_figure_is_all_that_a_new_target_needs(context: Context) -> None:
    told = replace(context.stack.service("bazarr"), metrics=Metrics(9999, interval=60))
    services = tuple(told if s.name == told.name else s for s in context.stack.services)
    changed = replace(context, stack=replace(context.stack, services=services))
    assert scraping(changed)["bazarr"] == "bazarr:9999"
    found = [
        w for w in ways(services) if (w.client.name, w.server.name) == ("prometheus", "bazarr")
    ]
    assert [(way.port, way.network) for way in found] == [(9999, "monitoring")]


def test_without_a_monitoring_nobody_listens_for_it() -> None:
    off = context_from(monitoring={"enabled": False})
    assert off.stack.scraped() == ()
    assert all(
        "monitoring" not in [n.name for n in off.stack.networks_of(s)] for s in off.stack.services
    )
    static = off.template("traefik/traefik.yml", resolver={}, metrics=None, traced=False).decode()
    assert "metrics" not in libyaml.load(static)["entryPoints"]


def test_a_site_stretches_every_time_at_once() -> None:
    slow = prometheus.configuration(context_from(monitoring={"pace": 2.0}))
    assert slow["global"]["scrape_interval"] == "60000ms"
    assert {job["scrape_interval"] for job in slow["scrape_configs"]} == {"60000ms"}


@pytest.mark.parametrize(
    ("monitoring", "mend"),
    [
        ({"pace": 0.0}, "site.monitoring.pace: 0.0 must be 0.02 to 10; write e.g. 1"),
        (
            {"metrics": {"time": "soon", "size": "4g"}},
            "site.monitoring.metrics.time: 'soon' is not a time span; write e.g. 90d",
        ),
        (
            {"metrics": {"time": "90d", "size": "4"}},
            "site.monitoring.metrics.size: '4' is not a size; write e.g. 4g",
        ),
    ],
)
def test_a_wrong_time_is_named_with_its_mend(monitoring: dict[str, object], mend: str) -> None:
    with pytest.raises(SiteError) as refused:
        site_from(monitoring=monitoring)
    assert refused.value.problems == (mend,)


RUNBOOKS = handbook.DOCS / "runbooks"
LINK = re.compile(r"\]\(([a-z]+)[.]md\)")
NOTIFY = {
    "mail": {
        **{"server": "smtp.example.org:587", "sender": "a@example.org", "to": "b@example.org"},
        **{"security": "starttls", "user": "smtp_user", "password": "smtp_password"},
    },
    "ntfy": {"address": "https://ntfy.sh/topic", "token": "ntfy_token"},
    "webhook": "hook",
}


def test_each_alert_has_a_page_that_names_it_and_says_what_to_do() -> None:
    for alert in ALERTS:
        page = (RUNBOOKS / f"{alert.page}.md").read_text()
        assert re.search(rf"\b{alert.name}\b", page), alert.name
        words = [word for word in ("means", "Look", "Mend", "Mended when") if word not in page]
        assert words == [], alert.page


def test_each_page_is_named_by_an_alert_or_the_index_and_each_link_leads_somewhere() -> None:
    there = {page.stem for page in RUNBOOKS.glob("*.md")}
    index = set(LINK.findall((RUNBOOKS / "README.md").read_text()))
    assert there - {"README"} == index | set(pages())
    for page in RUNBOOKS.glob("*.md"):
        assert set(LINK.findall(page.read_text())) <= there, page.name


def test_each_alert_has_a_failure_that_it_fires_on() -> None:
    named = [scenario.alert for scenario in SCENARIOS]
    # What burns an error budget is counted out by hand in test_slo.py.
    elsewhere = {WATCHDOG, "ErrorBudgetBurnsFast", "ErrorBudgetBurnsSlowly"}
    assert {alert.name for alert in ALERTS} - elsewhere == set(named)
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)


def test_each_alert_says_what_is_felt_how_bad_and_where_to_read_on(context: Context) -> None:
    groups = prometheus.alerts.groups(context)
    for rule in (rule for group in groups for rule in group["rules"]):
        said = rule["annotations"]
        assert said["summary"] and said["description"] and rule["labels"]["severity"]
        page = said["runbook_url"].removeprefix("file://")
        assert any(f.path == page for f in handbook.desired(context).of(File)), page


def test_every_figure_of_a_rule_is_one_that_somebody_tells() -> None:
    names = {re.split(r"[{ ]", series)[0] for series in HEALTHY}
    names |= {re.split(r"[{ ]", series)[0] for each in SCENARIOS for series in each.series}
    templates = handbook.DOCS.parent / "templates"
    programs = (f"measure{measure.PROGRAM}.j2", f"scan{scan.PROGRAM}.j2")
    program = "".join((templates / each).read_text() for each in programs)
    ours = {name for name in names if name.startswith(("nexus_", "servarr_", "container_"))}
    others = ("nexus_backup_", "nexus_media_")  # roles/backup.py and roles/scrub.py write these
    written = {n for n in ours if n in program or n.startswith(others)}
    assert ours == written


def test_a_window_is_stretched_and_an_age_is_not() -> None:
    assert (
        at_pace("rate(x[5m]) > 86400 and y[1h]", 0.1) == "rate(x[30000ms]) > 86400 and y[360000ms]"
    )


def test_what_opens_a_channel_is_in_files_and_in_nobodys_arguments() -> None:
    context = context_from(notify=NOTIFY, monitoring={"heartbeat": "beat"})
    service = context.stack.service("alertmanager")
    assert set(service.secrets) == {"hook", "smtp_password", "ntfy_token", "beat"}
    text = yaml.safe_dump(alertmanager.configuration(context))
    for secret in ("hook", "smtp_password", "ntfy_token", "beat"):
        assert f"/run/secrets/{secret}" in text
        assert f"value-of-{secret}" not in text
    assert "value-of-" not in " ".join(service.command) + str(service.environment)
    heartbeat = alertmanager.configuration(context)["route"]["routes"][0]
    assert heartbeat["receiver"] == "heartbeat"


def test_a_chat_is_spoken_to_in_its_own_words() -> None:
    for speaks, kind in (("slack", "slack_configs"), ("discord", "discord_configs")):
        context = context_from(notify={"webhook": "hook", "webhook_speaks": speaks})
        (found,) = alertmanager.channels(context)[kind]
        assert "nexus.text" in str(found)


def test_a_mail_server_on_another_port_is_still_spoken_to_in_tls() -> None:
    mail = {**NOTIFY["mail"], "security": "tls", "server": "smtp.example.org:2465"}
    (found,) = alertmanager.channels(context_from(notify={"mail": mail}))["email_configs"]
    assert (found["force_implicit_tls"], found["require_tls"]) == (True, False)


def test_every_route_is_probed_by_its_own_name_through_the_proxy(context: Context) -> None:
    (job,) = prometheus.probes(context)
    hosts = [target for group in job["static_configs"] for target in group["targets"]]
    assert hosts == [context.stack.hostname(service) for service in context.stack.routed()]
    (ca,) = blackbox.configuration(context)["modules"].values()
    assert ca["http"]["tls_config"]["ca_file"].endswith("authority.pem")


def test_without_a_monitoring_its_programs_rest() -> None:
    off = measure.desired(context_from(monitoring={"enabled": False}))
    assert {(unit.name, unit.enabled, unit.active) for unit in off.of(Unit)} == {
        ("nexus-measure.service", False, False),
        ("nexus-watch.timer", False, False),
    }


def test_the_monitoring_is_bounded(context: Context) -> None:
    """What it really uses is less, and stands on a dashboard."""
    limits = [s.limits.memory for s in context.stack.services if s.only_with == "monitoring"]
    assert sum(limits) <= 2.1 * 2**30
