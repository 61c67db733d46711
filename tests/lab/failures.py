"""Failures that a host with the monitoring can have made for real, and how each is mended again.

Two rounds: what is in one round is made together and does not stand in another one's way.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from roles.scrub import STATE as SCRUBBED
from tests.lab.deployment import Deployment
from tests.lab.guesser import FAILURES, stranger
from tests.lab.provider import PORT

# An alert's name and the value of one of its labels ("": whichever it has).
Key = tuple[str, str]


@dataclass(frozen=True)
class Failure:
    """What breaks the host, what mends it, and who must be told.

    Both are lines for the host's shell, or functions where somebody else does it.
    """

    breaks: str | Callable[[Deployment], object]
    mends: str
    told: tuple[Key, ...]

    def begin(self, deployment: Deployment) -> None:
        if callable(self.breaks):
            self.breaks(deployment)
        else:
            deployment.host.run(self.breaks, timeout=300)

    def end(self, deployment: Deployment) -> None:
        """Mend it, as far as it is there."""
        deployment.host.run(self.mends, check=False, timeout=300)


def stopped(service: str, *more: Key) -> Failure:
    container = f"nexus-{service}-1"
    told = (("ContainerStopped", service), *more)
    return Failure(f"docker stop -t 1 {container}", f"docker start {container}", told)


def broken_file(path: str, container: str, alert: str) -> Failure:
    return Failure(
        f"cp -p {path} {path}.kept; echo '}}: {{' >> {path}; docker kill -s HUP {container}",
        f"cp {path}.kept {path}; rm {path}.kept; docker kill -s HUP {container}",
        ((alert, ""),),
    )


def disk(
    place: str, number: int, fill: str, options: str = "", mount: str = "rw"
) -> tuple[str, str]:
    """A small disk of its own, and its end."""
    device, image = f"/dev/loop{number}", f"/var/tmp/{number}.img"
    return (
        f"truncate -s 24M {image}; mkfs.ext4 -q -F -m 0 {options} {image}; "
        f"mknod -m 660 {device} b 7 {number}; losetup {device} {image}; mkdir -p {place}; "
        f"mount -o {mount} {device} {place}; {fill}",
        f"umount {place}; losetup -d {device}; rm -f {device} {image}; rmdir {place}",
    )


def signalled(service: str, *told: Key) -> Failure:
    """Every process of a container stands still: it runs, and answers nobody."""
    pids = f"$(docker top nexus-{service}-1 -eo pid | tail -n +2)"
    return Failure(f"kill -STOP {pids}", f"kill -CONT {pids}", told)


def certificate_for(seconds: int) -> Callable[[Deployment], None]:
    """The proxy shows a certificate that is as it should be, but for its end."""

    def show(deployment: Deployment) -> None:
        secrets = deployment.secrets()
        old = x509.load_pem_x509_certificate(secrets["tls_server_certificate"].reveal().encode())
        key = serialization.load_pem_private_key(secrets["tls_ca_key"].reveal().encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        now = datetime.datetime.now(datetime.UTC)
        short = x509.CertificateBuilder(
            old.issuer,
            old.subject,
            old.public_key(),
            x509.random_serial_number(),
            old.not_valid_before_utc,
            now + datetime.timedelta(seconds=seconds),
            list(old.extensions),
        ).sign(key, hashes.SHA256())
        text = short.public_bytes(serialization.Encoding.PEM).decode()
        deployment.host.run(f"cd {PROXY}; cp -p certificate.pem kept.pem")
        deployment.host.run(f"cd {PROXY}; cat > certificate.pem; {READ_AGAIN}", stdin=text)

    return show


def guesses(deployment: Deployment) -> None:
    """Passwords are guessed at the portal, from four places of the internet."""
    for number in FAILURES:
        with stranger(deployment.host, number) as somebody:
            somebody.portal(5)


# What a disk or a cable does: a bit is another one, and the file system knows nothing of it.
FLIP = """
import os, sys
seen = os.stat(sys.argv[1])
with open(sys.argv[1], "r+b") as file:
    file.seek(seen.st_size // 2)
    letter = file.read(1)[0] ^ 1
    file.seek(seen.st_size // 2)
    file.write(bytes([letter]))
os.utime(sys.argv[1], ns=(seen.st_atime_ns, seen.st_mtime_ns))
"""
CHECKSUMS = f"{SCRUBBED}/checksums.db"
# Every file was read 40 days ago, so each has its turn.
LATER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as known:
    known.execute("UPDATE file SET read = read - 40 * 86400")
"""
SCRUB = "nexus-scrub.service"
HOG = "taken = bytearray(b'x') * ({megabytes} << 20); import time; time.sleep({seconds})"
FORKS = "import os, time; [os.fork() or time.sleep(600) for _ in range(190)]; time.sleep(600)"
CONFIG = "/opt/nexus/config"
METRICS = "/var/lib/nexus/metrics"
BACKUP = f"{METRICS}/backup.prom"
PERIODIC = "/var/lib/apt/periodic"
REPOSITORY = "/var/backups/nexus/restic"
PROXY = f"{CONFIG}/traefik"
VALKEY = (
    f"REDISCLI_AUTH=$(sed -n 's/^requirepass //p' {CONFIG}/valkey/valkey.conf) "
    "docker exec -i -e REDISCLI_AUTH nexus-valkey-1 valkey-cli"
)
# One at a time: together they would be in memory twice, once for the file of what was done.
MEGABYTE = (
    'eval "return redis.call([[set]], KEYS[1], string.rep([[x]], 1048576), [[EX]], 900)" 1 lab%g'
)
# It reads a certificate anew when the file that names it changes.
READ_AGAIN = "touch dynamic/*.yml"
FORGET_BANS = (
    "for n in 1 2 3 4 5 6 7 8 9 10; do fail2ban-client unban --all && break; sleep 1; done"
)
# Told after an hour of the monitoring's: it begins before the round that it is told in.
SLOWEST = Failure(
    f"mkdir -p {PERIODIC} /var/tmp/stamps; cd {PERIODIC}; "
    "mv *upgrade*-stamp /var/tmp/stamps || true; "
    "touch -d '4 days ago' unattended-upgrades-stamp",
    f"cd {PERIODIC}; rm unattended-upgrades-stamp; mv /var/tmp/stamps/* .; rmdir /var/tmp/stamps",
    (("UpdatesFailing", ""),),
)
FIRST = (
    replace(SLOWEST, breaks="true"),
    # First, and so mended last: a backup needs the services, and writes its figures anew.
    Failure(
        f"systemctl start nexus-backup@run; mv {REPOSITORY}/config {REPOSITORY}/../config.kept; "
        "systemctl start nexus-backup@run; sed -Ei.kept "
        "'s/^(nexus_backup_snapshot_timestamp_seconds.*) .*/\\1 1700000000/' "
        f"{BACKUP}",
        f"mv {REPOSITORY}/../config.kept {REPOSITORY}/config; rm -f {BACKUP}.kept; "
        "systemctl reset-failed nexus-backup@run; systemctl start nexus-backup@run",
        (("BackupFailed", ""), ("BackupTooOld", "sonarr")),
    ),
    # While the portal still has its database.
    Failure(guesses, "true", (("LoginAttack", "authelia"),)),
    Failure(
        # About when the slowest is told: no request comes in afterwards that could be lost.
        certificate_for(seconds=330),
        f"cd {PROXY}; mv kept.pem certificate.pem; {READ_AGAIN}",
        (("CertificateExpiring", ""), ("CertificateExpired", "")),
    ),
    Failure(
        *disk("/srv/tiny", 51, "fallocate -l 22M /srv/tiny/film || true"),
        (("DiskFull", "/srv/tiny"),),
    ),
    Failure(
        *disk(
            "/srv/names", 52, "for n in $(seq 16); do touch /srv/names/$n || true; done", "-N 16"
        ),
        (("InodesRunningOut", "/srv/names"),),
    ),
    Failure(*disk("/srv/frozen", 53, "true", mount="ro"), (("FileSystemReadOnly", "/srv/frozen"),)),
    Failure(
        "systemd-run --quiet --unit=lab-broken false || true",
        "systemctl reset-failed lab-broken.service",
        (("UnitFailed", "lab-broken.service"),),
    ),
    Failure(
        "touch -d '2 days ago' /run/reboot-required",
        "rm /run/reboot-required",
        (("RebootRequired", ""),),
    ),
    stopped("homepage"),
    stopped("postgres", ("DatabaseDown", "")),
    stopped("valkey", ("SessionStoreDown", "")),
    stopped("jaeger", ("TracesLost", "")),
    stopped("loki", ("LogsStopped", "")),
    signalled("jellyfin", ("RouteDown", "jellyfin"), ("ContainerUnhealthy", "jellyfin")),
    signalled("grafana", ("TargetDown", "grafana")),
    Failure(
        "for n in 1 2 3 4; do docker restart -t 0 nexus-lidarr-1; sleep 4; done",
        "true",
        (("ContainerRestarting", "lidarr"),),
    ),
    Failure(
        f'docker exec nexus-prowlarr-1 python3 -c "{HOG.format(megabytes=600, seconds=0)}" || true',
        "docker restart -t 0 nexus-prowlarr-1",
        (("ContainerOutOfMemory", "prowlarr"),),
    ),
    Failure(
        f'docker exec -d nexus-bazarr-1 python3 -c "{HOG.format(megabytes=470, seconds=900)}"',
        "docker restart -t 0 nexus-bazarr-1",
        (("ContainerNearMemoryLimit", "bazarr"),),
    ),
    Failure(
        f'docker exec -d nexus-radarr-1 python3 -c "{FORKS}"',
        "docker restart -t 0 nexus-radarr-1",
        (("ContainerNearProcessLimit", "radarr"),),
    ),
    Failure(
        "fail2ban-client set sshd banip $(seq -f 203.0.113.%g 1 55); sleep 5; "
        "systemctl stop fail2ban",
        f"systemctl start fail2ban; {FORGET_BANS}",
        (("BanStorm", ""), ("BansNotKept", "")),
    ),
    Failure(
        f"iptables -I DOCKER-USER -p udp --dport {PORT} -j DROP",
        f"iptables -D DOCKER-USER -p udp --dport {PORT} -j DROP",
        (("TunnelDown", "gluetun"),),
    ),
    Failure(
        # An address of nobody (RFC 5737).
        "cp -p /etc/resolv.conf /etc/resolv.kept; echo nameserver 192.0.2.53 > /etc/resolv.conf",
        "cat /etc/resolv.kept > /etc/resolv.conf; rm /etc/resolv.kept",
        (("NamesNotResolved", ""),),
    ),
    Failure(
        f"echo '}}{{' > {METRICS}/broken.prom; chmod 644 {METRICS}/broken.prom",
        f"rm {METRICS}/broken.prom",
        (("FiguresUnreadable", ""),),
    ),
    broken_file(
        f"{CONFIG}/prometheus/prometheus.yml",
        "nexus-prometheus-1",
        "PrometheusConfigurationRefused",
    ),
    broken_file(
        f"{CONFIG}/alertmanager/alertmanager.yml",
        "nexus-alertmanager-1",
        "AlertmanagerConfigurationRefused",
    ),
)
# As the scan writes it (tests/lab/test_scan.py).
VULNERABLE = Failure(
    f'echo \'nexus_scan_fixable{{image="lab",severity="critical"}} 2\' > {METRICS}/scan.prom; '
    f"chmod 644 {METRICS}/scan.prom",
    f"rm {METRICS}/scan.prom",
    (("ImageVulnerable", "lab"),),
)
KEY_OF_SONARR = "/opt/nexus/data/sonarr/config/config.xml"
FILM = "/srv/media/movies/Nosferatu/film.mkv"
SECOND = (
    VULNERABLE,
    Failure(
        # Any file that a backup needs: what a disk that loses a bit does to it.
        f"systemctl start nexus-backup@run; cd {REPOSITORY}; file=$(ls -d index/* | head -n 1); "
        "cp -p $file /var/tmp/index.kept; "
        f"python3 -c '{FLIP}' $file; systemctl start nexus-backup@maintain; true",
        f"cd {REPOSITORY}; cp -p /var/tmp/index.kept $(ls -d index/* | head -n 1); "
        "rm /var/tmp/index.kept; systemctl reset-failed 'nexus-backup@*'; "
        "systemctl start nexus-backup@maintain",
        (("BackupDamaged", "local"),),
    ),
    Failure(
        f"mkdir -p {FILM[:-9]}; head -c 1M /dev/urandom > {FILM}; systemctl start {SCRUB}; "
        f"python3 -c '{FLIP}' {FILM}; python3 -c '{LATER}' {CHECKSUMS}; "
        f"systemctl start {SCRUB} || true",
        f"python3 -c '{FLIP}' {FILM}; systemctl reset-failed {SCRUB}; systemctl start {SCRUB}",
        (("MediaDamaged", ""),),
    ),
    Failure(
        # As sessions are: the oldest make room for new ones.
        f"(seq -f '{MEGABYTE}' 60; echo quit) | {VALKEY}",
        f"{VALKEY} del $(seq -f lab%g 60)",
        (("SessionStoreFull", ""),),
    ),
    Failure(
        "docker stop -t 1 nexus-jellyfin-1",
        "docker start nexus-jellyfin-1",
        (("RouteErrors", ""), ("ErrorBudgetBurnsFast", "jellyfin")),
    ),
    Failure(
        f"cp -p {KEY_OF_SONARR} {KEY_OF_SONARR}.kept; "
        f"sed -Ei 's|(<ApiKey>).{{8}}|\\100000000|' {KEY_OF_SONARR}; "
        "docker restart -t 1 nexus-sonarr-1",
        f"cp -p {KEY_OF_SONARR}.kept {KEY_OF_SONARR}; rm {KEY_OF_SONARR}.kept; "
        "docker restart -t 1 nexus-sonarr-1",
        (("ApplicationSilent", "sonarr"),),
    ),
    Failure(
        # Long enough for the alert, short enough that it is still so when somebody listens again.
        "systemd-run --quiet sh -c 'docker stop -t 1 nexus-alertmanager-1; sleep 60; "
        "docker start nexus-alertmanager-1'",
        "docker start nexus-alertmanager-1",
        (("AlertsNotDelivered", ""),),
    ),
)
# What is made first is mended last: a backup needs the services, and writes its figures anew.
ROUNDS = {"first": FIRST, "second": SECOND}
