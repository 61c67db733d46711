"""Every failure that a household feels, as a rule; each names the page that says what to do.

All times are seconds at a pace of 1, windows in expressions ("[5m]") too; the site's pace stretches
both. What is compared with hours or days (a backup's age) is no time of the rules and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from roles.context import Context
from roles.handbook import FOLDER
from roles.prometheus import slo
from roles.prometheus.times import at_pace, seconds

MINUTE, HOUR, DAY = 60, 3600, 86400
# An alert that always fires: who stops hearing it knows that the rest is silent for a bad reason.
WATCHDOG = "Watchdog"
# Snapshots are told of by service, copies by repository.
_NO_BACKUP = (
    '(nexus_backup_expected{name="local"} unless on () nexus_backup_snapshot_timestamp_seconds or '
    'nexus_backup_expected{name="offsite"} unless on () nexus_backup_copied_timestamp_seconds)'
)


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule: when `expr` has held for `lasts` seconds, somebody is told.

    `page` is a runbook's name without ".md". Severities: "critical" is felt now or loses data,
    "warning" will be, "none" is for machines. `labels` are added to those of the figures.
    """

    name: str
    page: str
    expr: str
    lasts: int
    summary: str
    description: str
    severity: Literal["critical", "warning", "none"] = "warning"
    labels: tuple[tuple[str, str], ...] = ()


HOST = (
    Alert(
        "DiskFull",
        "disks",
        "node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.05",
        5 * MINUTE,
        "{{ $labels.mountpoint }} is full",
        "Only {{ $value | humanizePercentage }} of {{ $labels.mountpoint }} is free.",
        "critical",
    ),
    Alert(
        "DiskFilling",
        "disks",
        "(node_filesystem_avail_bytes / node_filesystem_size_bytes < 0.3) and "
        f"predict_linear(node_filesystem_avail_bytes[6h], {4 * DAY}) < 0",
        HOUR,
        "{{ $labels.mountpoint }} will be full within four days",
        "It fills as in the last six hours; {{ $value | humanizePercentage }} is free.",
    ),
    Alert(
        "InodesRunningOut",
        "disks",
        "node_filesystem_files_free / (node_filesystem_files > 0) < 0.05",
        5 * MINUTE,
        "{{ $labels.mountpoint }} has no place for new files",
        "Only {{ $value | humanizePercentage }} of its inodes are free, whatever the space.",
        "critical",
    ),
    Alert(
        "FileSystemReadOnly",
        "disks",
        "node_filesystem_readonly == 1",
        MINUTE,
        "{{ $labels.mountpoint }} became read-only",
        "The kernel does that after errors of the disk {{ $labels.device }}.",
        "critical",
    ),
    Alert(
        "StorageFailing",
        "disks",
        "nexus_storage_ok == 0",
        MINUTE,
        "{{ $labels.name }} is not well",
        "A disk fails its own check (SMART), or an array or a pool lacks one. Make a backup now.",
        "critical",
    ),
    Alert(
        "MemoryLow",
        "host",
        "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes < 0.05",
        10 * MINUTE,
        "The host's memory is used up",
        "{{ $value | humanizePercentage }} is available; the kernel will end a program.",
        "critical",
    ),
    Alert(
        "LoadHigh",
        "host",
        'node_load15 / count without (cpu, mode) (node_cpu_seconds_total{mode="idle"}) > 3',
        30 * MINUTE,
        "The host has more to do than it can",
        "Three times as many programs wait as there are processors, for half an hour.",
    ),
    Alert(
        "ClockWrong",
        "host",
        "min_over_time(node_timex_sync_status[10m]) == 0 and node_timex_maxerror_seconds >= 16",
        HOUR,
        "The host's clock is not set by anybody",
        "Codes of the second factor fail once it is half a minute off, certificates later.",
    ),
    Alert(
        "NamesNotResolved",
        "host",
        "nexus_names_resolved == 0",
        3 * MINUTE,
        "The host finds no names of the internet",
        "Searches, downloads and updates stand still, and mail may not leave.",
        "critical",
    ),
    Alert(
        "UnitFailed",
        "host",
        'nexus_unit_failed{unit!~"nexus-backup.*|apt-daily.*|unattended-upgrades.*"} == 1',
        5 * MINUTE,
        "{{ $labels.unit }} has failed",
        "Part of the host's own work is not done.",
    ),
    Alert(
        "UpdatesFailing",
        "updates",
        f"time() - nexus_updates_timestamp_seconds > {3 * DAY} or "
        'nexus_unit_failed{unit=~"apt-daily.*|unattended-upgrades.*"} == 1',
        HOUR,
        "Security updates do not install themselves",
        "The last time that they did, or tried well, is three days ago, or a unit of apt failed.",
    ),
    Alert(
        "RebootRequired",
        "updates",
        f"time() - nexus_reboot_required_timestamp_seconds > {25 * HOUR}",
        5 * MINUTE,
        "An update waits for a restart of the host",
        "It was due for more than a day; the time to restart by itself has passed.",
    ),
    Alert(
        "ImageVulnerable",
        "updates",
        'nexus_scan_fixable{severity="critical"} > 0',
        MINUTE,
        "{{ $labels.image }} has {{ $value }} critical vulnerabilities that are mended elsewhere",
        "Its makers have not taken the newer packages yet, or a newer image waits.",
    ),
    Alert(
        "ScanTooOld",
        "updates",
        f"time() - nexus_scan_timestamp_seconds > {9 * DAY}",
        HOUR,
        "The images were not looked at for {{ $value | humanizeDuration }}",
        "Known vulnerabilities in them would not be told.",
    ),
    Alert(
        "OnBattery",
        "host",
        "nexus_ups_on_battery == 1",
        MINUTE,
        "There is no mains power",
        "The UPS {{ $labels.ups }} runs on its battery.",
        "critical",
    ),
)
CONTAINERS = (
    Alert(
        "ContainerStopped",
        "containers",
        "nexus_container_running == 0",
        2 * MINUTE,
        "{{ $labels.service }} does not run",
        "Its container is stopped or gone; what it serves is away.",
        "critical",
    ),
    Alert(
        "ContainerUnhealthy",
        "containers",
        "nexus_container_healthy == 0 and on (service) nexus_container_running == 1",
        5 * MINUTE,
        "{{ $labels.service }} runs, but does not answer",
        "Its own health check fails.",
        "critical",
    ),
    Alert(
        "ContainerRestarting",
        "containers",
        "changes(container_start_time_seconds[15m]) >= 3",
        0,
        "{{ $labels.service }} restarts again and again",
        "Its program ended {{ $value }} times within a quarter of an hour.",
        "critical",
    ),
    Alert(
        "ContainerOutOfMemory",
        "containers",
        "increase(container_oom_events_total[15m]) > 0",
        0,
        "{{ $labels.service }} wanted more memory than it may have",
        "The kernel ended a program in it.",
    ),
    Alert(
        "ContainerNearMemoryLimit",
        "containers",
        "container_memory_working_set_bytes / (container_spec_memory_limit_bytes > 0) > 0.9",
        15 * MINUTE,
        "{{ $labels.service }} nears its memory limit",
        "It uses {{ $value | humanizePercentage }}; beyond it the kernel ends it.",
    ),
    Alert(
        "ContainerNearProcessLimit",
        "containers",
        "container_processes / (container_processes_limit > 0) > 0.9",
        15 * MINUTE,
        "{{ $labels.service }} nears its limit of processes",
        "It uses {{ $value | humanizePercentage }}; beyond it nothing starts in it.",
    ),
    Alert(
        "TunnelDown",
        "tunnel",
        'nexus_container_healthy{service="gluetun"} == 0',
        3 * MINUTE,
        "The VPN tunnel is down",
        "Downloads of torrents stand still; nothing goes around the tunnel.",
    ),
    Alert(
        "DatabaseDown",
        "databases",
        "pg_up == 0",
        2 * MINUTE,
        "The database does not answer",
        "Nobody can log in at the portal.",
        "critical",
    ),
    Alert(
        "DatabaseConnectionsUsedUp",
        "databases",
        "sum without (datname, state, usename, application_name, backend_type, wait_event, "
        "wait_event_type) (pg_stat_activity_count) / pg_settings_max_connections > 0.8",
        5 * MINUTE,
        "The database has hardly a free connection",
        "{{ $value | humanizePercentage }} are in use.",
    ),
    Alert(
        "SessionStoreDown",
        "databases",
        "redis_up == 0",
        2 * MINUTE,
        "The store of sessions does not answer",
        "Nobody can log in at the portal, and whoever was is asked again.",
        "critical",
    ),
    Alert(
        "SessionStoreFull",
        "databases",
        "redis_memory_used_bytes / (redis_memory_max_bytes > 0) > 0.9",
        15 * MINUTE,
        "The store of sessions is full",
        "It forgets old sessions, so people are asked to log in again.",
    ),
    Alert(
        "ApplicationComplains",
        "applications",
        'servarr_health_issues{type="error"} > 0',
        30 * MINUTE,
        "{{ $labels.service }} reports {{ $value }} errors",
        "Its own page System, Status names them: an indexer, a download client or a folder.",
    ),
    Alert(
        "ApplicationSilent",
        "applications",
        "nexus_application_up == 0 and on (service) nexus_container_healthy == 1",
        15 * MINUTE,
        "{{ $labels.service }} does not let its figures be read",
        "It is healthy, but its API refuses the key of the vault or gives no answer.",
    ),
)
ACCESS = (
    Alert(
        "RouteDown",
        "routes",
        'probe_success{job="routes"} == 0',
        2 * MINUTE,
        "{{ $labels.hostname }} does not answer",
        "Asked through the proxy as a browser does, it gives no good answer.",
        "critical",
    ),
    Alert(
        "RouteSlow",
        "routes",
        'avg_over_time(probe_duration_seconds{job="routes"}[10m]) > 3',
        10 * MINUTE,
        "{{ $labels.hostname }} is slow",
        "The first page takes {{ $value | humanizeDuration }} in the mean.",
    ),
    Alert(
        "RouteErrors",
        "routes",
        'sum by (service) (rate(traefik_service_requests_total{code=~"5.."}[10m])) / '
        "sum by (service) (rate(traefik_service_requests_total[10m])) > 0.1 and "
        'sum by (service) (increase(traefik_service_requests_total{code=~"5.."}[10m])) > 5',
        5 * MINUTE,
        "{{ $labels.service }} answers with errors",
        "{{ $value | humanizePercentage }} of all requests of the last minutes failed.",
    ),
    Alert(
        "CertificateExpiring",
        "certificates",
        # A probe that fails in between, for whatever reason, does not begin the time anew.
        "min by (hostname) (last_over_time(probe_ssl_earliest_cert_expiry[1d])) - time() "
        f"< {14 * DAY} >= 0",
        10 * MINUTE,
        "The certificate of {{ $labels.hostname }} expires in {{ $value | humanizeDuration }}",
        "It should have been renewed by now.",
    ),
    Alert(
        "CertificateExpired",
        "certificates",
        # Who verifies an expired certificate is told nothing of it any more.
        "min by (hostname) (last_over_time(probe_ssl_earliest_cert_expiry[1d])) - time() < 0",
        0,
        "The certificate of {{ $labels.hostname }} has expired",
        "Browsers and apps refuse to connect.",
        "critical",
    ),
    Alert(
        "LoginAttack",
        "logins",
        "sum by (jail) (increase(nexus_fail2ban_bans_total[1h])) >= 3",
        0,
        "Passwords are guessed at {{ $labels.jail }}",
        "{{ $value | humanize }} bans within an hour.",
    ),
    Alert(
        "BanStorm",
        "logins",
        "sum(nexus_fail2ban_banned) > 50",
        5 * MINUTE,
        "{{ $value }} addresses are banned",
        "An attack from many addresses, or a broken client behind many.",
    ),
    Alert(
        "BansNotKept",
        "logins",
        "nexus_fail2ban_up == 0",
        5 * MINUTE,
        "fail2ban does not work",
        "Whoever guesses passwords is not locked out.",
        "critical",
    ),
)
BACKUPS = (
    Alert(
        "BackupMissing",
        "backups",
        f"{_NO_BACKUP} and on () (time() - nexus_installed_timestamp_seconds > {26 * HOUR})",
        5 * MINUTE,
        "There is no backup in the repository {{ $labels.name }}",
        "None was ever made there, and a night has passed.",
        "critical",
    ),
    Alert(
        "BackupTooOld",
        "backups",
        "time() - (nexus_backup_snapshot_timestamp_seconds or "
        "nexus_backup_copied_timestamp_seconds) > "
        'on () group_left () (nexus_backup_objective_seconds{objective="rpo"} + 7200)',
        5 * MINUTE,
        "The newest backup of {{ $labels.name }} is {{ $value | humanizeDuration }} old",
        "That is two hours more than site.backup.objectives lets be lost.",
        "critical",
    ),
    Alert(
        "BackupFailed",
        "backups",
        'nexus_unit_failed{unit=~"nexus-backup@(run|maintain)[.]service"} == 1 or '
        'nexus_backup_problems{name=~"run|maintain"} > 0',
        MINUTE,
        "The last backup, or its check, failed",
        "What it said: journalctl -u 'nexus-backup@*' -p err",
        "critical",
    ),
    Alert(
        "BackupDamaged",
        "backups",
        "nexus_backup_check_success == 0",
        MINUTE,
        "The repository {{ $labels.name }} is damaged",
        "A check read it and found errors.",
        "critical",
    ),
    Alert(
        "DrillMissing",
        "backups",
        "time() - (nexus_backup_drill_timestamp_seconds or on (name) "
        "(nexus_backup_expected * on () group_left () nexus_installed_timestamp_seconds)) "
        f"> {8 * DAY}",
        HOUR,
        "No restore was rehearsed from {{ $labels.name }} for {{ $value | humanizeDuration }}",
        "Nobody knows whether that backup can be restored.",
    ),
    Alert(
        "DrillFailed",
        "backups",
        "nexus_backup_drill_success == 0",
        MINUTE,
        "The rehearsed restore from {{ $labels.name }} failed",
        "What it said: journalctl -u nexus-backup@drill -p err",
        "critical",
    ),
    Alert(
        "RecoveryTooSlow",
        "backups",
        "nexus_backup_drill_rto_seconds > nexus_backup_drill_rto_objective_seconds",
        MINUTE,
        "A restore from {{ $labels.name }} takes {{ $value | humanizeDuration }}",
        "That is longer than site.backup.objectives allows.",
    ),
    Alert(
        "MediaDamaged",
        "backups",
        "nexus_media_damaged > 0",
        MINUTE,
        "{{ $value }} files of the media changed by themselves",
        "Their contents differ though nobody wrote to them: a disk or its cable loses data.",
    ),
)
ITSELF = (
    Alert(
        WATCHDOG,
        "monitoring",
        "vector(1)",
        0,
        "The monitoring works",
        "This always fires. Who hears it no more knows that the alarm itself is dead.",
        "none",
    ),
    Alert(
        "TargetDown",
        "monitoring",
        "up == 0",
        3 * MINUTE,
        "{{ $labels.job }} tells no figures",
        "Prometheus asks it in vain: the program or the way to it is down.",
        # So that what explains it can speak for it.
        labels=(("service", "{{ $labels.job }}"),),
    ),
    Alert(
        "FiguresStale",
        "monitoring",
        "time() - nexus_measured_timestamp_seconds > 120 or "
        "absent(nexus_measured_timestamp_seconds)",
        3 * MINUTE,
        "Nobody measures the host",
        "The program that reads containers, disks and bans has stopped.",
        "critical",
    ),
    Alert(
        "FiguresUnreadable",
        "monitoring",
        "node_textfile_scrape_error == 1 or nexus_measure_success == 0",
        10 * MINUTE,
        "Some figures of the host cannot be read",
        "A part of what the host measures fails.",
    ),
    Alert(
        "PrometheusConfigurationRefused",
        "monitoring",
        "prometheus_config_last_reload_successful == 0",
        MINUTE,
        "Prometheus does not take its new configuration",
        "It goes on with the old one.",
        "critical",
    ),
    Alert(
        "AlertmanagerConfigurationRefused",
        "monitoring",
        "alertmanager_config_last_reload_successful == 0",
        MINUTE,
        "Alertmanager does not take its new configuration",
        "It goes on with the old one.",
        "critical",
    ),
    Alert(
        "RulesFailing",
        "monitoring",
        "increase(prometheus_rule_evaluation_failures_total[10m]) > 0",
        5 * MINUTE,
        "Rules of {{ $labels.rule_group }} cannot be evaluated",
        "What they watch is not watched.",
        "critical",
    ),
    Alert(
        "NotificationsFailing",
        "monitoring",
        "sum by (integration) (increase(alertmanager_notifications_failed_total[10m])) > 0",
        5 * MINUTE,
        "Alerts do not get through by {{ $labels.integration }}",
        "The other channels, if there are any, carry this one.",
        "critical",
    ),
    Alert(
        "AlertsNotDelivered",
        "monitoring",
        "increase(prometheus_notifications_errors_total[10m]) > 0 or "
        "prometheus_notifications_alertmanagers_discovered < 1",
        5 * MINUTE,
        "Prometheus cannot hand on its alerts",
        "Alertmanager does not take them.",
        "critical",
    ),
    Alert(
        "FiguresLost",
        "monitoring",
        "increase(prometheus_tsdb_compactions_failed_total[1h]) > 0 or "
        "increase(prometheus_tsdb_wal_corruptions_total[1h]) > 0",
        0,
        "Prometheus cannot keep its figures",
        "Its disk is full or broken.",
    ),
)
_PROMISE = (
    "{{ $value | humanizePercentage }} of the requests to {{ $labels.service }} did not go as "
    "promised ({{ $labels.slo }})."
)
LEVELS = (
    Alert(
        "ErrorBudgetBurnsFast",
        "service-levels",
        slo.burns(slo.FAST),
        0,
        "{{ $labels.service }} will have spent its month's errors within days",
        _PROMISE,
        "critical",
    ),
    Alert(
        "ErrorBudgetBurnsSlowly",
        "service-levels",
        slo.burns(slo.SLOW),
        0,
        "{{ $labels.service }} will not keep what is promised of it this month",
        _PROMISE,
    ),
)
LINES = (
    Alert(
        "LogsStopped",
        "logs",
        "increase(loki_write_sent_entries_total[15m]) == 0",
        10 * MINUTE,
        "No line of the journal reaches the log store",
        "The reader runs, but reads nothing or gets rid of nothing; the journal still has all.",
    ),
    Alert(
        "LogsLate",
        "logs",
        "rate(loki_write_entry_propagation_latency_seconds_sum[10m]) / "
        "rate(loki_write_entry_propagation_latency_seconds_count[10m]) > 300",
        10 * MINUTE,
        "Lines reach the log store {{ $value | humanizeDuration }} late",
        "There are more of them than it takes, or it was away.",
    ),
    Alert(
        "LogsLost",
        "logs",
        "increase(loki_write_dropped_entries_total[15m]) > 0",
        0,
        "The log store refuses lines",
        "{{ $value | humanize }} of them are in the journal only.",
    ),
    Alert(
        "TracesLost",
        "logs",
        # The collector's reader of figures writes the name with its ending or without it.
        'increase({__name__=~"otelcol_exporter_send_failed_spans(_total)?"}[15m]) > 0',
        10 * MINUTE,
        "The ways of requests are not kept",
        "The collector cannot hand them on to Jaeger.",
    ),
)
GROUPS = {
    "host": HOST,
    "containers": CONTAINERS,
    "access": ACCESS,
    "levels": LEVELS,
    "backups": BACKUPS,
    "monitoring": ITSELF,
    "logs": LINES,
}
ALERTS = tuple(alert for alerts in GROUPS.values() for alert in alerts)


def groups(context: Context) -> list[dict[str, Any]]:
    """The rules at the site's pace
    (https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/)."""
    pace = context.site.monitoring.pace
    return [
        {"name": name, "rules": [_rule(alert, pace) for alert in alerts]}
        for name, alerts in GROUPS.items()
    ]


def _rule(alert: Alert, pace: float) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": at_pace(alert.expr, pace),
        **({"for": seconds(alert.lasts, pace)} if alert.lasts else {}),
        "labels": {"severity": alert.severity, **dict(alert.labels)},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"file://{FOLDER}/runbooks/{alert.page}.md",
        },
    }


def pages() -> Iterator[str]:
    """Every runbook that an alert names."""
    yield from dict.fromkeys(alert.page for alert in ALERTS)
