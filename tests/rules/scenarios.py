"""For each alert a failure as figures, and one healthy host on which none may fire.

Series are written as promtool does: "0+1x10" rises by one each minute, "_x10" is no reading.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from roles.prometheus.alerts import ALERTS, WATCHDOG, Alert

# Minutes of figures: long enough for the slowest rule.
LONG = 240
_GB = 2**30
_WATCHDOG = f'ALERTS{{alertname="{WATCHDOG}",alertstate="firing",severity="none"}}'


@dataclass(frozen=True, slots=True)
class Scenario:
    """An alert, the series that differ from health, and the labels that it fires with.

    `at` is the minute at which it must fire; `gone` are series of the healthy host that end.
    """

    alert: str
    series: dict[str, str]
    labels: dict[str, str]
    at: int = LONG
    gone: tuple[str, ...] = ()


def always(value: float | str) -> str:
    """The same value at every minute."""
    return f"{value}+0x{LONG}"


def recent(age: int = 0) -> str:
    """A time that was always `age` seconds ago."""
    return f"{-age}+60x{LONG}"


HEALTHY: dict[str, str] = {
    'node_filesystem_size_bytes{mountpoint="/",fstype="ext4",device="/dev/sda1"}': always(
        100 * _GB
    ),
    'node_filesystem_avail_bytes{mountpoint="/",fstype="ext4",device="/dev/sda1"}': always(
        25 * _GB
    ),
    'node_filesystem_files{mountpoint="/",fstype="ext4",device="/dev/sda1"}': always(1000),
    'node_filesystem_files_free{mountpoint="/",fstype="ext4",device="/dev/sda1"}': always(900),
    'node_filesystem_readonly{mountpoint="/",fstype="ext4",device="/dev/sda1"}': always(0),
    # A file system without inodes of its own (btrfs) has none to lose.
    'node_filesystem_files{mountpoint="/b",fstype="btrfs",device="/dev/sdb"}': always(0),
    'node_filesystem_files_free{mountpoint="/b",fstype="btrfs",device="/dev/sdb"}': always(0),
    'nexus_storage_ok{name="SMART sda"}': always(1),
    "node_memory_MemAvailable_bytes": always(_GB),
    "node_memory_MemTotal_bytes": always(8 * _GB),
    "node_load15": always(1),
    'loki_write_sent_entries_total{job="alloy"}': f"0+60x{LONG}",
    'loki_write_dropped_entries_total{job="alloy"}': always(0),
    'loki_write_entry_propagation_latency_seconds_sum{job="alloy"}': f"0+60x{LONG}",
    'loki_write_entry_propagation_latency_seconds_count{job="alloy"}': f"0+60x{LONG}",
    'otelcol_exporter_send_failed_spans{job="otel-collector"}': always(0),
    'node_cpu_seconds_total{cpu="0",mode="idle"}': f"0+50x{LONG}",
    "node_timex_sync_status": always(1),
    "node_timex_maxerror_seconds": always(0.1),
    "nexus_names_resolved": always(1),
    "nexus_updates_timestamp_seconds": recent(3600),
    "nexus_reboot_required": always(0),
    'nexus_scan_fixable{image="sonarr:4",severity="critical"}': always(0),
    'nexus_scan_fixable{image="sonarr:4",severity="high"}': always(7),
    "nexus_scan_timestamp_seconds": recent(86400),
    'nexus_ups_on_battery{ups="ups"}': always(0),
    'nexus_container_running{service="sonarr"}': always(1),
    'nexus_container_healthy{service="sonarr"}': always(1),
    'nexus_container_running{service="gluetun"}': always(1),
    'nexus_container_healthy{service="gluetun"}': always(1),
    # A container without a health check is not unhealthy.
    'nexus_container_running{service="plain"}': always(1),
    'container_start_time_seconds{service="sonarr"}': always(-1000),
    'container_oom_events_total{service="sonarr"}': always(2),
    'container_memory_working_set_bytes{service="sonarr"}': always(500),
    'container_spec_memory_limit_bytes{service="sonarr"}': always(1000),
    'container_processes{service="sonarr"}': always(20),
    'container_processes_limit{service="sonarr"}': always(200),
    "pg_up": always(1),
    'pg_stat_activity_count{datname="authelia",state="idle"}': always(5),
    "pg_settings_max_connections": always(100),
    "redis_up": always(1),
    "redis_memory_used_bytes": always(1),
    "redis_memory_max_bytes": always(64),
    'servarr_health_issues{service="sonarr",type="error"}': always(0),
    'servarr_health_issues{service="sonarr",type="warning"}': always(3),
    'nexus_application_up{service="sonarr"}': always(1),
    'probe_success{job="routes",service="sonarr",hostname="sonarr.x"}': always(1),
    'probe_duration_seconds{job="routes",service="sonarr",hostname="sonarr.x"}': always(0.2),
    'probe_ssl_earliest_cert_expiry{service="sonarr",hostname="sonarr.x"}': recent(-60 * 86400),
    'traefik_service_requests_total{service="sonarr@file",code="200"}': f"0+60x{LONG}",
    'traefik_service_requests_total{service="sonarr@file",code="502"}': always(1),
    'nexus_fail2ban_bans_total{jail="sshd"}': always(4),
    'nexus_fail2ban_banned{jail="sshd"}': always(1),
    "nexus_fail2ban_up": always(1),
    "nexus_installed_timestamp_seconds": recent(30 * 86400),
    'nexus_backup_expected{name="local"}': always(1),
    'nexus_backup_expected{name="offsite"}': always(1),
    # A snapshot is of a service; what is copied is a whole repository.
    'nexus_backup_snapshot_timestamp_seconds{name="host"}': recent(3600),
    'nexus_backup_snapshot_timestamp_seconds{name="sonarr"}': recent(3600),
    'nexus_backup_copied_timestamp_seconds{name="offsite"}': recent(3600),
    'nexus_backup_objective_seconds{objective="rpo"}': always(86400),
    'nexus_backup_problems{name="run"}': always(0),
    'nexus_backup_check_success{name="local"}': always(1),
    "nexus_media_damaged": always(0),
    'nexus_backup_drill_timestamp_seconds{name="local"}': recent(86400),
    'nexus_backup_drill_timestamp_seconds{name="offsite"}': recent(86400),
    'nexus_backup_drill_success{name="local"}': always(1),
    'nexus_backup_drill_rto_seconds{name="local"}': always(60),
    'nexus_backup_drill_rto_objective_seconds{name="local"}': always(3600),
    'up{job="sonarr",instance="sonarr"}': always(1),
    "nexus_measured_timestamp_seconds": recent(20),
    "node_textfile_scrape_error": always(0),
    'nexus_measure_success{part="host"}': always(1),
    "prometheus_config_last_reload_successful": always(1),
    "alertmanager_config_last_reload_successful": always(1),
    'prometheus_rule_evaluation_failures_total{rule_group="a"}': always(0),
    'alertmanager_notifications_failed_total{integration="email"}': always(1),
    'prometheus_notifications_errors_total{alertmanager="a"}': always(0),
    "prometheus_notifications_alertmanagers_discovered": always(1),
    "prometheus_tsdb_compactions_failed_total": always(0),
    "prometheus_tsdb_wal_corruptions_total": always(0),
}
_ROOT = {"mountpoint": "/", "fstype": "ext4", "device": "/dev/sda1"}
_DISK = 'mountpoint="/",fstype="ext4",device="/dev/sda1"'
_SONARR = {"service": "sonarr"}
_LOCAL = {"name": "local"}


def _one(alert: str, series: str, values: str, at: int = LONG, /, **labels: str) -> Scenario:
    return Scenario(alert, {series: values}, labels, at)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("DiskFull", {f"node_filesystem_avail_bytes{{{_DISK}}}": always(4 * _GB)}, _ROOT, 20),
    Scenario(
        # 25 GB are gone by a gigabyte each ten minutes.
        "DiskFilling",
        {f"node_filesystem_avail_bytes{{{_DISK}}}": f"{29 * _GB}-{_GB // 20}x{LONG}"},
        _ROOT,
    ),
    Scenario("InodesRunningOut", {f"node_filesystem_files_free{{{_DISK}}}": always(40)}, _ROOT, 20),
    Scenario("FileSystemReadOnly", {f"node_filesystem_readonly{{{_DISK}}}": always(1)}, _ROOT, 5),
    _one("StorageFailing", 'nexus_storage_ok{name="SMART sda"}', always(0), 5, name="SMART sda"),
    _one("MemoryLow", "node_memory_MemAvailable_bytes", always(_GB // 10), 15),
    _one("LoadHigh", "node_load15", always(4), 40),
    Scenario(
        "ClockWrong",
        {"node_timex_sync_status": always(0), "node_timex_maxerror_seconds": always(16)},
        {},
        90,
    ),
    _one("NamesNotResolved", "nexus_names_resolved", always(0), 5),
    _one("UnitFailed", 'nexus_unit_failed{unit="x.service"}', always(1), 10, unit="x.service"),
    _one("UpdatesFailing", "nexus_updates_timestamp_seconds", recent(4 * 86400), 90),
    _one("RebootRequired", "nexus_reboot_required_timestamp_seconds", recent(26 * 3600), 10),
    _one(
        "ImageVulnerable",
        'nexus_scan_fixable{image="sonarr:4",severity="critical"}',
        always(2),
        5,
        image="sonarr:4",
    ),
    _one("ScanTooOld", "nexus_scan_timestamp_seconds", recent(10 * 86400), 90),
    _one("OnBattery", 'nexus_ups_on_battery{ups="ups"}', always(1), 5, ups="ups"),
    Scenario(
        "ContainerStopped",
        {'nexus_container_running{service="sonarr"}': always(0)},
        _SONARR,
        5,
        gone=('nexus_container_healthy{service="sonarr"}',),
    ),
    _one(
        "ContainerUnhealthy", 'nexus_container_healthy{service="sonarr"}', always(0), 10, **_SONARR
    ),
    Scenario(
        "ContainerRestarting",
        {'container_start_time_seconds{service="sonarr"}': f"0+120x{LONG}"},
        _SONARR,
        20,
    ),
    Scenario(
        "ContainerOutOfMemory",
        {'container_oom_events_total{service="sonarr"}': f"0+0x20 1+0x{LONG}"},
        _SONARR,
        25,
    ),
    Scenario(
        "ContainerNearMemoryLimit",
        {'container_memory_working_set_bytes{service="sonarr"}': always(950)},
        _SONARR,
        20,
    ),
    _one(
        "ContainerNearProcessLimit",
        'container_processes{service="sonarr"}',
        always(190),
        20,
        **_SONARR,
    ),
    _one(
        "TunnelDown",
        'nexus_container_healthy{service="gluetun"}',
        always(0),
        4,
        service="gluetun",
    ),
    _one("DatabaseDown", "pg_up", always(0), 5),
    _one(
        "DatabaseConnectionsUsedUp",
        'pg_stat_activity_count{datname="authelia",state="idle"}',
        always(90),
        10,
    ),
    _one("SessionStoreDown", "redis_up", always(0), 5),
    _one("SessionStoreFull", "redis_memory_used_bytes", always(63), 20),
    _one(
        "ApplicationComplains",
        'servarr_health_issues{service="sonarr",type="error"}',
        always(2),
        40,
        **_SONARR,
        type="error",
    ),
    _one("ApplicationSilent", 'nexus_application_up{service="sonarr"}', always(0), 20, **_SONARR),
    _one(
        "RouteDown",
        'probe_success{job="routes",service="sonarr",hostname="sonarr.x"}',
        always(0),
        5,
        **{"job": "routes", "service": "sonarr", "hostname": "sonarr.x"},
    ),
    _one(
        "RouteSlow",
        'probe_duration_seconds{job="routes",service="sonarr",hostname="sonarr.x"}',
        always(4),
        30,
        **{"job": "routes", "service": "sonarr", "hostname": "sonarr.x"},
    ),
    _one(
        "RouteErrors",
        'traefik_service_requests_total{service="sonarr@file",code="502"}',
        f"0+30x{LONG}",
        20,
        service="sonarr@file",
    ),
    _one(
        "CertificateExpiring",
        'probe_ssl_earliest_cert_expiry{service="sonarr",hostname="sonarr.x"}',
        recent(-10 * 86400),
        20,
        hostname="sonarr.x",
    ),
    # At once, and under this name alone, also when it is long past.
    *(
        _one(
            "CertificateExpired",
            'probe_ssl_earliest_cert_expiry{service="sonarr",hostname="sonarr.x"}',
            recent(60),
            minute,
            hostname="sonarr.x",
        )
        for minute in (5, 90)
    ),
    _one("LoginAttack", 'nexus_fail2ban_bans_total{jail="sshd"}', f"0+1x{LONG}", 70, jail="sshd"),
    _one("BanStorm", 'nexus_fail2ban_banned{jail="sshd"}', always(60), 10),
    _one("BansNotKept", "nexus_fail2ban_up", always(0), 10),
    Scenario(
        "BackupMissing",
        {},
        _LOCAL,
        10,
        gone=(
            'nexus_backup_snapshot_timestamp_seconds{name="host"}',
            'nexus_backup_snapshot_timestamp_seconds{name="sonarr"}',
        ),
    ),
    Scenario(
        "BackupMissing",
        {},
        {"name": "offsite"},
        10,
        gone=('nexus_backup_copied_timestamp_seconds{name="offsite"}',),
    ),
    _one(
        "BackupTooOld",
        'nexus_backup_snapshot_timestamp_seconds{name="sonarr"}',
        recent(27 * 3600),
        10,
        name="sonarr",
    ),
    _one(
        "BackupTooOld",
        'nexus_backup_copied_timestamp_seconds{name="offsite"}',
        recent(27 * 3600),
        10,
        name="offsite",
    ),
    _one("BackupFailed", 'nexus_backup_problems{name="run"}', always(2), 5, name="run"),
    _one("BackupDamaged", 'nexus_backup_check_success{name="local"}', always(0), 5, **_LOCAL),
    _one(
        "DrillMissing",
        'nexus_backup_drill_timestamp_seconds{name="local"}',
        recent(9 * 86400),
        90,
        **_LOCAL,
    ),
    _one("DrillFailed", 'nexus_backup_drill_success{name="local"}', always(0), 5, **_LOCAL),
    _one(
        "RecoveryTooSlow", 'nexus_backup_drill_rto_seconds{name="local"}', always(4000), 5, **_LOCAL
    ),
    _one("MediaDamaged", "nexus_media_damaged", always(2), 5),
    _one(
        "TargetDown",
        'up{job="sonarr",instance="sonarr"}',
        always(0),
        10,
        **{"job": "sonarr", "instance": "sonarr", "service": "sonarr"},
    ),
    _one("FiguresStale", "nexus_measured_timestamp_seconds", recent(600), 10),
    _one("FiguresUnreadable", 'nexus_measure_success{part="host"}', always(0), 20, part="host"),
    _one(
        "PrometheusConfigurationRefused", "prometheus_config_last_reload_successful", always(0), 5
    ),
    _one(
        "AlertmanagerConfigurationRefused",
        "alertmanager_config_last_reload_successful",
        always(0),
        5,
    ),
    _one(
        "RulesFailing",
        'prometheus_rule_evaluation_failures_total{rule_group="a"}',
        f"0+1x{LONG}",
        20,
        rule_group="a",
    ),
    _one(
        "NotificationsFailing",
        'alertmanager_notifications_failed_total{integration="email"}',
        f"0+1x{LONG}",
        20,
        integration="email",
    ),
    _one("AlertsNotDelivered", "prometheus_notifications_alertmanagers_discovered", always(0), 10),
    _one("FiguresLost", "prometheus_tsdb_compactions_failed_total", f"0+1x{LONG}", 20),
)

SCENARIOS += (
    Scenario(
        "LogsStopped",
        {'loki_write_sent_entries_total{job="alloy"}': always(7)},
        {"job": "alloy"},
    ),
    Scenario(
        "LogsLate",
        {'loki_write_entry_propagation_latency_seconds_sum{job="alloy"}': f"0+60000x{LONG}"},
        {"job": "alloy"},
    ),
    Scenario(
        "LogsLost",
        {'loki_write_dropped_entries_total{job="alloy"}': f"0+3x{LONG}"},
        {"job": "alloy"},
    ),
    Scenario(
        "TracesLost",
        {'otelcol_exporter_send_failed_spans{job="otel-collector"}': f"0+3x{LONG}"},
        {"job": "otel-collector"},
    ),
)


def promtool_tests(rules: str) -> dict[str, Any]:
    """The scenarios as a file of `promtool test rules`; `rules` is the path of the rules.

    Each failure must make its own alert fire and no other one; health none at all
    (https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/).
    """
    known = {alert.name: alert for alert in ALERTS}
    healthy = _test("a healthy host", HEALTHY, [(minute, []) for minute in (10, 60, LONG)])
    return {
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [healthy, *(_failing(each, known[each.alert]) for each in SCENARIOS)],
    }


def _failing(scenario: Scenario, alert: Alert) -> dict[str, Any]:
    series = {k: v for k, v in HEALTHY.items() if k not in scenario.gone} | scenario.series
    labels = {"alertname": alert.name, "alertstate": "firing", "severity": alert.severity}
    text = ",".join(f'{k}="{v}"' for k, v in {**labels, **scenario.labels}.items())
    return _test(scenario.alert, series, [(scenario.at, [f"ALERTS{{{text}}}"])])


def _test(name: str, series: dict[str, str], times: list[tuple[int, list[str]]]) -> dict[str, Any]:
    firing = f'ALERTS{{alertstate="firing",alertname!="{WATCHDOG}"}}'
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": expr,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": labels, "value": 1} for labels in expected],
            }
            for minute, found in times
            for expr, expected in ((firing, found), (_WATCHDOG, [_WATCHDOG]))
        ],
    }
