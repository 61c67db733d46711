"""Encrypted backups with restic: one repository here, a second one elsewhere with another password.

What is backed up follows from the services' declarations. Protects against a lost disk, a broken
application, and, with an append-only second repository, a thief with root on this host.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from pyinfra.api.deploy import deploy as pyinfra_deploy

from roles.context import Context, setup_file
from roles.core.model import Desired, Directory, File, Package, Unit, paths
from roles.core.operations import Plan, converge
from roles.stack.monitoring import TEXTFILES
from roles.stack.service import CONFIG, DATA, SECRETS, Service, memory_bytes
from roles.stack.stack import COMPOSE_FILE, PROJECT, data_folder

ROLE = "backup"
PROGRAM = "/usr/local/lib/nexus/backup"
# The program runs these files beside it, and each works with its functions.
RESTORE, DRILL, REPORT, STORAGE = (
    f"{PROGRAM}-{name}" for name in ("restore", "drill", "report", "storage")
)
# The one that reads the media (roles/scrub.py); its word stands in the same table.
SCRUB = "/usr/local/lib/nexus/scrub"
STATE = "/var/lib/nexus/backup"
SETTINGS = f"{CONFIG}/{ROLE}"
OWN_SECRETS = f"{SECRETS}/{ROLE}"
PLAN = f"{SETTINGS}/plan.json"
VAULT = f"{SETTINGS}/vault.json"
UNITS = "/etc/systemd/system"
TIMERS = tuple(f"nexus-backup-{verb}.timer" for verb in ("run", "maintain", "drill", "storage"))
# By then the night's backup has ended, also one that began late.
DRILL_HOURS_LATER = 4
# What is no service's own: enough, with the repository's password, to know what ran here and how.
HOST_PATHS = (COMPOSE_FILE, CONFIG, SECRETS)


def desired(context: Context) -> Desired:
    """The program, its plan, what opens the repositories, and the timers."""
    site = context.site
    units = [
        context.file(ROLE, f"{UNITS}/{name}", **values)
        for name, values in {
            "nexus-backup@.service": {"program": PROGRAM, "writable": _writable(context)},
            "nexus-backup-resume.service": {"program": PROGRAM, "state": STATE},
            TIMERS[0]: {"calendar": f"*-*-* {site.backup.time}"},
            TIMERS[1]: {"calendar": f"Sun *-*-* {site.backup.time}"},
            TIMERS[2]: {"calendar": f"Wed *-*-* {later(site.backup.time, DRILL_HOURS_LATER)}"},
            TIMERS[3]: {},
            "nexus-backup@drill.service.d/apart.conf": {},
            "nexus-backup@storage.service.d/disks.conf": {},
        }.items()
    ]
    places = {"plan": PLAN, "state": STATE, "metrics": f"{TEXTFILES}/backup.prom"}
    programs = (
        context.file(ROLE, PROGRAM, "0700", program=PROGRAM, **places),
        context.file(ROLE, RESTORE, "0600"),
        context.file(ROLE, DRILL, "0600", compose_file=COMPOSE_FILE),
        context.file(ROLE, REPORT, "0600", scrub_program=SCRUB),
        context.file(ROLE, STORAGE, "0600"),
    )
    plan = json.dumps(_plan(context), indent=1).encode()
    vault = [File(VAULT, context.vault, "0400", secret=True)] if context.vault else []
    return Desired(
        ROLE,
        (
            Package("restic"),
            *(Directory(path, "0700", purge=True) for path in (SETTINGS, OWN_SECRETS)),
            *(Directory(path, "0700") for path in (STATE, site.backup.repository)),
            *(Directory(f"{UNITS}/nexus-backup@{verb}.service.d") for verb in ("drill", "storage")),
            File(PLAN, plan, "0600"),
            *vault,
            *_keys(context),
            *programs,
            *units,
            *(
                Unit(timer, restart_on=paths(u for u in units if u.path.endswith(timer)))
                for timer in TIMERS
            ),
            Unit("nexus-backup-resume.service", active=None),
        ),
    )


def later(clock: str, hours: int) -> str:
    """The time of day (HH:MM) so many hours after another."""
    hour, _, minute = clock.partition(":")
    return f"{(int(hour) + hours) % 24:02}:{minute}"


def _plan(context: Context) -> dict[str, Any]:
    """What the program does on this host."""
    site, services = context.site, context.stack.services
    offsite = site.backup.offsite
    host = {
        **{"name": "host", "container": "", "method": "files", "paths": list(HOST_PATHS)},
        **{"exclude": [], "uid": 0, "users": [], "proof": None},
    }
    return {
        "host": site.name,
        "least_free": memory_bytes(site.backup.least_free),
        "keep": site.backup.keep.model_dump(),
        "objectives": site.backup.objectives.in_seconds(),
        "left_out": {
            _container(each): [waiver.reason for waiver in each.backup.left_out]
            for each in services
            if each.backup and not each.backup.keep
        },
        "services": [host, *(_service(each, services) for each in services if _kept(each))],
        "repositories": {
            "local": {
                **_repository("local"),
                "folder": site.backup.repository,
                "append_only": False,
            },
            **({"offsite": _second(context)} if offsite else {}),
        },
    }


def _kept(service: Service) -> bool:
    return service.backup is not None and bool(service.backup.keep)


def _service(service: Service, services: tuple[Service, ...]) -> dict[str, Any]:
    assert service.backup is not None
    folders = [data_folder(service, name) for name in service.backup.keep]
    users = [other for other in services if service.name in (*other.needs, other.behind)]
    return {
        "name": service.name,
        "container": _container(service),
        "method": service.backup.method,
        "paths": folders,
        "exclude": [data_folder(service, path) for path in service.backup.exclude],
        "uid": service.uid,
        # They stand still while what they need is exchanged.
        "users": [_container(other) for other in users],
        "proof": _proof(service),
    }


def _proof(service: Service) -> dict[str, Any] | None:
    """What the restored service must answer; the key that opens it is in the backup, too."""
    proof = service.backup.proof if service.backup else None
    if proof is None or service.route is None:
        return None
    key = setup_file(*proof.key) if proof.key else ""
    return {"port": service.route.port, "path": proof.path, "said": proof.said, "key": key}


def _container(service: Service) -> str:
    return f"{PROJECT}-{service.name}-1"


def _repository(name: str) -> dict[str, Any]:
    return {
        "address": f"{OWN_SECRETS}/{name}.address",
        "password": f"{OWN_SECRETS}/{name}.password",
        "environment": {},
        "options": [],
    }


def _second(context: Context) -> dict[str, Any]:
    """How restic finds its credentials and whom it trusts: by the paths of files."""
    offsite = context.site.backup.offsite
    assert offsite is not None
    environment, options = {}, []
    if offsite.ca_certificate:
        environment["RESTIC_CACERT"] = f"{SETTINGS}/offsite-ca.pem"
    if "AWS_ACCESS_KEY_ID" in offsite.credentials:
        environment["AWS_SHARED_CREDENTIALS_FILE"] = f"{OWN_SECRETS}/offsite.aws"
    if "SSH_PRIVATE_KEY" in offsite.credentials:
        words = f"-i {OWN_SECRETS}/offsite.key -o UserKnownHostsFile={SETTINGS}/known_hosts"
        options += ["-o", f"sftp.args={words} -o StrictHostKeyChecking=yes -o BatchMode=yes"]
    limits = {"upload": offsite.upload_limit, "download": offsite.download_limit}
    options += [f"--limit-{way}={limit}" for way, limit in limits.items() if limit]
    second = {"environment": environment, "options": options, "append_only": offsite.append_only}
    return {**_repository("offsite"), **second}


def _keys(context: Context) -> tuple[File, ...]:
    """Addresses, passwords and credentials: one file each, for root alone."""
    backup, secrets = context.site.backup, context.secrets
    contents = {
        "local.address": backup.repository,
        "local.password": secrets["backup_local_password"].reveal(),
    }
    public = {}
    if backup.offsite:
        given = {v: secrets[name].reveal() for v, name in backup.offsite.credentials.items()}
        contents["offsite.password"] = secrets["backup_offsite_password"].reveal()
        contents["offsite.address"] = _with_login(backup.offsite.address, given)
        contents |= _credential_files(given)
        public = {"offsite-ca.pem": backup.offsite.ca_certificate}
        public["known_hosts"] = backup.offsite.host_key
    return (
        *(
            File(f"{OWN_SECRETS}/{name}", f"{text}\n".encode(), "0400", secret=True)
            for name, text in contents.items()
        ),
        *(File(f"{SETTINGS}/{n}", f"{t}\n".encode(), "0600") for n, t in public.items() if t),
    )


def _with_login(address: str, given: dict[str, str]) -> str:
    """restic takes a REST server's login from the address (or from the environment)."""
    if "RESTIC_REST_USERNAME" not in given:
        return address
    user, password = (quote(given[f"RESTIC_REST_{part}"], "") for part in ("USERNAME", "PASSWORD"))
    return address.replace("rest:https://", f"rest:https://{user}:{password}@", 1)


def _credential_files(given: dict[str, str]) -> dict[str, str]:
    """What restic's S3 client and ssh read by themselves."""
    if "AWS_ACCESS_KEY_ID" in given:
        lines = (f"{name.lower()} = {given[name]}" for name in sorted(given))
        return {"offsite.aws": "\n".join(("[default]", *lines))}
    if "SSH_PRIVATE_KEY" in given:
        return {"offsite.key": given["SSH_PRIVATE_KEY"].strip()}
    return {}


def _writable(context: Context) -> str:
    return " ".join((STATE, TEXTFILES, DATA, context.site.backup.repository))


@pyinfra_deploy("Backup")
def deploy(plan: Plan) -> None:
    """The first run comes by its timer; make backup does not wait for it."""
    converge(name="restic, its plan and its timers", plan=plan, role=ROLE)
