"""What a new site needs to know: each question with its flag, its default and its check."""

from __future__ import annotations

import getpass
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roles.site.checks import ACCOUNT, PREFIXES, SLUG
from roles.site.schema import Site, SiteError, load_site

Answers = Mapping[str, Any]
HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
OWN_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
# A whole site, so that one answer can be judged by the very checks of every later run.
EXAMPLE: Mapping[str, Any] = {
    "name": "home",
    "domain": "home.example.org",
    "email": "me@example.org",
    "timezone": "UTC",
    "admin": "admin",
    "lan": ["192.168.1.0/24"],
    "media": {},
}


class AnswerError(Exception):
    """An answer that is refused; the text says why and what to write."""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to know. `field` is the place in the site that it decides, if any.

    `default` computes a proposal from the answers so far; None leaves it to be answered.
    """

    key: str
    text: str
    example: str
    field: str = ""
    several: bool = False
    default: Callable[[Answers], str | None] = lambda _: None
    check: Callable[[Any], str] = lambda _: ""
    asked: Callable[[Answers], bool] = lambda _: True
    optional: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.key.replace("_", "-")


@dataclass(frozen=True, slots=True)
class Known:
    """The names that the catalogue gives meaning to."""

    services: Collection[str]
    images: Collection[str]

    def load(self, raw: Mapping[str, Any]) -> Site:
        """The validated site.

        Raises:
            SiteError: one line a problem.
        """
        return load_site(raw, self.services, self.images)


def site_of(answers: Answers) -> dict[str, Any]:
    """The site dictionary that the answers make, in the order of an inventory.

    Raises:
        AnswerError: an answer has no form that a site could hold.
    """
    given = {key: value for key, value in answers.items() if value not in (None, [], "")}
    site: dict[str, Any] = {
        key: given[key] for key in ("name", "domain", "email", "timezone", "admin") if key in given
    }
    if "lan" in given:
        site["lan"] = given["lan"]
    ssh: dict[str, Any] = {"ports": [_port(given["ssh_port"])]} if "ssh_port" in given else {}
    if "ssh_allow_from" in given:
        ssh["allow_from"] = given["ssh_allow_from"]
    parts = {
        "exposure": given.get("exposure"),
        "ssh": ssh,
        "media": pairs("--media", given["media"]) if "media" in given else None,
        "tls": _tls(given),
        "network_prefix": _prefix(given.get("lan", [])),
        "images": pairs("--image", given.get("image", [])),
    }
    return site | {key: value for key, value in parts.items() if value}


def _tls(given: Answers) -> dict[str, Any]:
    fields = {
        "mode": given.get("tls"),
        "provider": given.get("provider"),
        "credentials": pairs("--credential", given.get("credential", [])),
        "directory": given.get("directory"),
        "ca_certificate": _content(given["ca_file"]) if "ca_file" in given else None,
        "resolvers": given.get("resolver"),
    }
    return {name: value for name, value in fields.items() if value}


def _content(name: str) -> str:
    try:
        return Path(name).expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise AnswerError(f"{name} cannot be read as a text; name a file in PEM form") from error


def _prefix(lan: Collection[str]) -> str | None:
    """Another prefix for the stack when the home already uses the default; else None."""
    networks = []
    for text in lan:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            continue
    four = [network for network in networks if network.version == 4]
    free = [p for p in PREFIXES if not any(p.overlaps(network) for network in four)]
    return str(free[0]) if free and free[0] != PREFIXES[0] else None


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise AnswerError("is not a TCP port (1-65535); write e.g. 22")
    return int(text)


def pairs(flag: str, texts: Collection[str]) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary. No text is repeated in an error: it may hold a token.

    Raises:
        AnswerError: a text without =, or a name twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise AnswerError(f"each must be NAME=VALUE; write e.g. {EXAMPLES[flag]}")
        if name in found:
            raise AnswerError("has a name twice; give each once")
        found[name] = value
    return found


def problems_of(question: Question, answers: Answers, known: Known) -> list[str]:
    """What is wrong with one answer, judged by the site's own checks."""
    value = answers.get(question.key)
    values = value if isinstance(value, list) else [value]
    found = [problem for item in values if item is not None and (problem := question.check(item))]
    if found or not question.field:
        return found
    problems: tuple[str, ...] = ()
    try:
        site_of({question.key: value})
        others = {key: other for key, other in answers.items() if _has_form({key: other})}
        known.load({**EXAMPLE, **site_of(others)})
    except AnswerError as error:
        return [str(error)]
    except SiteError as error:
        problems = error.problems
    mine = re.compile(rf"site\.{re.escape(question.field)}[.\[:]")
    return [problem.partition(": ")[2] for problem in problems if mine.match(problem)]


def _has_form(answers: Answers) -> bool:
    try:
        site_of(answers)
    except AnswerError:
        return False
    return True


def host_problem(text: str) -> str:
    """A name or address; nothing that ssh or pyinfra would read as something else."""
    if HOST.fullmatch(text):
        return ""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return f"{text!r} is no host; write a name or an address, e.g. 192.168.1.10"
    return ""


def user_problem(text: str) -> str:
    """A Debian account name."""
    return "" if ACCOUNT.fullmatch(text) else f"{text!r} is no account; write e.g. root"


def key_problem(text: str) -> str:
    """The file of a private key, as it is found from here."""
    path = Path(text).expanduser()
    if path.suffix == ".pub":
        return f"{text} is the public half; name the private key {text.removesuffix('.pub')}"
    return "" if path.is_file() else f"{text} is no file; make one with ssh-keygen -t ed25519"


def _own_key(_: Answers) -> str | None:
    names = (f"~/.ssh/{name}" for name in OWN_KEYS)
    return next((name for name in names if Path(name).expanduser().is_file()), None)


def _own_name(_: Answers) -> str | None:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a passwd entry
        return "admin"
    return name if SLUG.fullmatch(name) and name != "root" else "admin"


def _own_zone(_: Answers) -> str | None:
    """This machine's time zone (localtime(5))."""
    target = str(Path("/etc/localtime").resolve())
    name = target.partition("/zoneinfo/")[2]
    return name or None


def _lan_of_host(answers: Answers) -> str | None:
    """The usual home network around the host's address."""
    try:
        address = ipaddress.IPv4Address(str(answers.get("host")))
    except ValueError:
        return None
    return str(ipaddress.IPv4Network((address, 24), strict=False)) if address.is_private else None


def _with_dns(answers: Answers) -> bool:
    return answers.get("tls") == "acme-dns"


def _always(text: str) -> Callable[[Answers], str | None]:
    return lambda _: text


QUESTIONS: tuple[Question, ...] = (
    Question("name", "A short name for this site", "home", "name", default=_always("home")),
    Question("host", "The host's name or address", "192.168.1.10", check=host_problem),
    Question(
        "ssh_user",
        "The account to log in with (root, or one with sudo)",
        "root",
        default=_always("root"),
        check=user_problem,
    ),
    Question("ssh_port", "The port of SSH", "22", "ssh.ports", default=_always("22")),
    Question(
        "ssh_key",
        "Your private key file (- for none: the SSH agent is asked)",
        "~/.ssh/id_ed25519",
        default=_own_key,
        check=key_problem,
        optional=True,
    ),
    Question("domain", "The domain of your services", "home.example.org", "domain"),
    Question("email", "Your e-mail address", "me@example.org", "email"),
    Question("timezone", "The time zone", "Europe/Berlin", "timezone", default=_own_zone),
    Question("admin", "The name of the first account", "alice", "admin", default=_own_name),
    Question("lan", "Your home's networks", "192.168.1.0/24", "lan", True, default=_lan_of_host),
    Question("media", "Media folders on the host", "movies=/srv/media/movies", "media", True),
    Question(
        "exposure",
        "Who may reach the services: lan or internet",
        "lan",
        "exposure",
        default=_always("lan"),
    ),
    Question(
        "tls",
        "Certificates: own-ca, acme-http or acme-dns",
        "own-ca",
        "tls.mode",
        default=_always("own-ca"),
    ),
    Question("provider", "Your DNS provider", "cloudflare", "tls.provider", asked=_with_dns),
    Question(
        "credential",
        "Its credentials, VARIABLE=name of a vault entry (never the value)",
        "CF_DNS_API_TOKEN=cf_dns_api_token",
        "tls.credentials",
        True,
        asked=_with_dns,
    ),
)
# By flag alone: what few sites need.
FLAGS: tuple[Question, ...] = (
    Question("ssh_allow_from", "Who may use SSH", "10.8.0.0/24", "ssh.allow_from", True),
    Question("directory", "An ACME directory", "https://ca.lan/acme/directory", "tls.directory"),
    Question("ca_file", "Its CA, a file here", "my-ca.pem", "tls.ca_certificate"),
    Question("resolver", "DNS to check with", "1.1.1.1:53", "tls.resolvers", True),
    Question("image", "A mirror", "traefik=registry.lan/traefik@sha256:...", "images", True),
)
EXAMPLES: Mapping[str, str] = {q.flag: q.example for q in (*QUESTIONS, *FLAGS)}
