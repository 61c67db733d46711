"""A lab double of Authelia 4.39: its configuration file, command line and wire contract.

It speaks ForwardAuth, passwords and one-time passwords. It is no Authelia: no OpenID Connect, no
WebAuthn, no LDAP, no mail, and nobody audited it.
"""

from __future__ import annotations

import base64
import binascii
import collections
import html
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from . import authelia_commands, authelia_portal
from .authelia_config import Config, ConfigError, Cookie, in_domain, seconds
from .authelia_log import Log
from .authelia_rules import METHOD, Level, Subject, Target, Verdict, parse_target, verdict
from .authelia_store import (
    Attempt,
    Postgres,
    Redis,
    Session,
    Sessions,
    Storage,
    StorageError,
    after,
    utc_now,
)
from .authelia_users import User, Users, UsersError, check_password, totp_code
from .http import Request, Response, as_json, as_text, plain_address, serve

NAME = "authelia_double"
VERSION = "v4.39-double"
ANONYMOUS = "<anonymous>"
FAILED = "Authentication failed. Check your credentials."
RETRY = "Authentication failed, please retry later."
OPERATION_FAILED = "Operation failed."
FORWARD_AUTH = "/api/authz/forward-auth"
BASIC = 'Basic realm="Authorization Required"'
PAGE_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Permissions-Policy", "accelerometer=(), camera=(), geolocation=(), microphone=(), usb=()"),
    ("X-DNS-Prefetch-Control", "off"),
    ("Cache-Control", "no-store"),
]
PAGE_POLICY = (
    "Content-Security-Policy",
    "default-src 'self'; frame-src 'none'; object-src 'none'; style-src 'self'; "
    "frame-ancestors 'none'; base-uri 'self'",
)
# Requests a period (seconds) for one client on the one-time password, as upstream's default.
TOTP_BUCKETS = ((60, 30), (120, 40), (600, 50))


class RefusedError(Exception):
    """The request has an answer other than success."""

    def __init__(self, response: Response) -> None:
        super().__init__(str(response.status))
        self.response = response


@dataclass(slots=True)
class Context:
    """One request with what was found out about it."""

    request: Request
    address: str
    cookie: Cookie
    identifier: str
    session: Session


def ok(data: object = None) -> Response:
    """Upstream's success document."""
    return as_json({"status": "OK"} if data is None else {"status": "OK", "data": data})


def ko(status: int, message: str) -> Response:
    """Upstream's failure document."""
    return as_json({"status": "KO", "message": message}, status)


def plain_status(status: int) -> Response:
    """Upstream's answer that only names its status."""
    return as_text(f"{status} {HTTPStatus(status).phrase}", status)


class Counters:
    """Prometheus counters with the names of the real metrics."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: collections.Counter[str] = collections.Counter()

    def add(self, name: str, **labels: object) -> None:
        text = ",".join(f'{key}="{_label(value)}"' for key, value in sorted(labels.items()))
        with self._lock:
            self._values[f"{name}{{{text}}}"] += 1

    def text(self) -> str:
        with self._lock:
            items = sorted(self._values.items())
        return "".join(f"{name} {value}\n" for name, value in items)


class Buckets:
    """Counts requests of a client in sliding periods."""

    def __init__(self, limits: tuple[tuple[int, int], ...]) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._times: dict[str, list[float]] = {}

    def wait(self, client: str) -> int:
        """Seconds until the client may ask again; 0 when this request may pass, and is counted."""
        now = time.monotonic()
        longest = max(period for period, _ in self._limits)
        with self._lock:
            times = [moment for moment in self._times.get(client, []) if now - moment < longest]
            for period, allowed in self._limits:
                recent = [moment for moment in times if now - moment < period]
                if len(recent) >= allowed:
                    return max(1, round(period - (now - recent[0])))
            self._times[client] = [*times, now]
        return 0


class Application:
    """The answers to requests, over a configuration, users, sessions and a database."""

    def __init__(
        self, config: Config, users: Users, sessions: Sessions, storage: Storage, log: Log
    ) -> None:
        self._config = config
        self._users = users
        self._sessions = sessions
        self._storage = storage
        self._log = log
        self._control = config.access_control
        self._totp_limit = Buckets(TOTP_BUCKETS)
        self.counters = Counters()
        self._routes: Mapping[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/api/health"): lambda _: ok(),
            ("GET", "/api/state"): self._state,
            ("GET", "/api/configuration"): self._configuration,
            ("POST", "/api/firstfactor"): self._first_factor,
            ("GET", "/api/secondfactor/totp"): self._totp_information,
            ("POST", "/api/secondfactor/totp"): self._second_factor,
            ("GET", "/api/user/info"): self._user_information,
            ("POST", "/api/user/info"): self._user_information,
            ("POST", "/api/user/info/2fa_method"): self._choose_method,
            ("POST", "/api/checks/safe-redirection"): self._safe_redirection,
            ("POST", "/api/logout"): self._logout,
            ("GET", "/static/js/portal.js"): lambda _: as_text(
                authelia_portal.SCRIPT, content_type="text/javascript"
            ),
        }

    def handle(self, request: Request) -> Response:
        """Answer any request; whatever cannot be decided for lack of a store is refused."""
        try:
            response = self._route(request)
        except RefusedError as refused:
            response = refused.response
        except StorageError as error:
            self._say("error", str(error), request)
            response = plain_status(500)
        self.counters.add("authelia_request", code=response.status, method=request.method)
        return response

    def _route(self, request: Request) -> Response:
        path = request.path
        method = "GET" if request.method == "HEAD" else request.method
        if path == FORWARD_AUTH:
            # A proxy may send any method; the one that counts is in a header.
            response = self._forward_auth(request)
            self.counters.add("authelia_authz", code=response.status)
            return response
        if handler := self._routes.get((method, path)):
            return handler(request)
        if path.startswith(("/api", "/static")):
            known = any(path == known for _, known in self._routes)
            return plain_status(405 if known else 404)
        if method != "GET":
            return plain_status(405)
        page = as_text(authelia_portal.PAGE, content_type="text/html")
        page.headers = [*PAGE_HEADERS, PAGE_POLICY]
        return page

    # Forward authorization

    def _forward_auth(self, request: Request) -> Response:
        try:
            target = self._target(request)
        except ValueError as error:
            message = "Error getting Target URL and Request Method"
            self._say("error", message, request, error=error)
            return plain_status(400)
        cookie = self._cookie_of(target.domain)
        if not target.secure or cookie is None:
            message = (
                "Target URL does not appear to have a relevant session cookies configuration"
                if target.secure
                else f"Target URL '{target.url}' has an insecure scheme '{target.scheme}', only "
                "the 'https' and 'wss' schemes are supported so session cookies can be "
                "transmitted securely"
            )
            self._say("error", message, request, target_url=target.url)
            return plain_status(400)
        if request.header("authorization").lower().startswith("basic "):
            return self._authorize_basic(request, target)
        context = self._context(request, cookie)
        self._touch(context)
        return self._decide(context, target)

    def _target(self, request: Request) -> Target:
        scheme, host = request.header("x-forwarded-proto"), request.header("x-forwarded-host")
        method = request.header("x-forwarded-method")
        if not host:
            raise ValueError("failed to get target URL: missing host value")
        if not method or not METHOD.fullmatch(method):
            raise ValueError("header 'X-Forwarded-Method' is empty or has invalid characters")
        uri = request.header("x-forwarded-uri")
        return parse_target(f"{scheme or 'http'}://{host}{uri}", method)

    def _decide(self, context: Context, target: Target) -> Response:
        session = context.session
        subject = Subject(session.username, session.groups, context.address)
        has_subjects, required = self._control.required(subject, target)
        found = verdict(Level(session.level), required, has_subjects)
        if found is Verdict.AUTHORIZED:
            response = _identified(session)
        elif found is Verdict.FORBIDDEN:
            name = session.username or ANONYMOUS
            message = f"Access to '{target.url}' is forbidden to user '{name}'"
            self._say("info", message, context.request)
            response = plain_status(403)
        else:
            response = self._redirect(context, target)
        self._keep(context, response)
        return response

    def _redirect(self, context: Context, target: Target) -> Response:
        base = urlsplit(context.cookie.authelia_url)
        query = urlencode({"rd": target.url, "rm": target.method})
        location = base._replace(path=base.path or "/", query=query).geturl()
        status = _redirect_status(context.request, target.method)
        self._say(
            "info",
            f"Access to {target.url} (method {target.method}) is not authorized to user "
            f"{context.session.username or ANONYMOUS}, responding with status code {status} with "
            f"location redirect to {location}",
            context.request,
        )
        anchor = f'<a href="{html.escape(location)}">{status} {HTTPStatus(status).phrase}</a>'
        response = as_text(anchor, status, "text/html")
        response.headers.append(("Location", location))
        return response

    def _authorize_basic(self, request: Request, target: Target) -> Response:
        refusal = plain_status(401)
        refusal.headers.append(("WWW-Authenticate", BASIC))
        try:
            decoded = base64.b64decode(request.header("authorization")[6:], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return refusal
        name, _, password = decoded.partition(":")
        user = self._authenticate(request, name, password, target.url, target.method)
        if user is None:
            return refusal
        subject = Subject(user.name, user.groups, self._address(request))
        has_subjects, required = self._control.required(subject, target)
        found = verdict(Level.ONE_FACTOR, required, has_subjects)
        if found is Verdict.FORBIDDEN:
            return plain_status(403)
        if found is Verdict.UNAUTHORIZED:
            return refusal
        return _identified(_session_of(user, "", int(Level.ONE_FACTOR)))

    # Sign-in

    def _first_factor(self, request: Request) -> Response:
        context = self._portal_context(request, 401, FAILED)
        try:
            body = request.json()
            name, password = str(body["username"]), str(body["password"])
        except (ValueError, KeyError) as error:
            self._say("error", "Failed to parse 1FA request body", request, error=error)
            return ko(401, FAILED)
        user = self._authenticate(request, name, password, *_referred(request))
        if user is None:
            return ko(401, FAILED)
        self._sessions.destroy(context.identifier)
        context.identifier = self._sessions.fresh()
        context.session = _session_of(user, context.cookie.domain, int(Level.ONE_FACTOR))
        context.session.keep = bool(body.get("keepMeLoggedIn")) and context.cookie.remember_me > 0
        response = self._after_first(
            context, str(body.get("targetURL") or ""), str(body.get("requestMethod") or "")
        )
        self._keep(context, response)
        return response

    def _authenticate(
        self, request: Request, name: str, password: str, url: str, method: str
    ) -> User | None:
        """The user of these credentials; failures are logged, counted and may ban."""
        address = self._address(request)

        def attempt(who: str, successful: bool = False, banned: bool = False) -> None:
            self.counters.add("authelia_authn", success=successful, banned=banned)
            self._storage.log_attempt(Attempt(successful, banned, who, "1FA", address, url, method))

        user = self._users.find(name)
        if user is None:
            banned = self._banned(None, address) is not None
            attempt("", banned=banned)
            if not banned:
                self._regulate("", address)
            self._say(
                "error",
                "Unsuccessful 1FA authentication attempt by user ''",
                request,
                error="user not found",
            )
            self._say(
                "error",
                f"Error occurred getting details for user with username input '{name}' which "
                "usually indicates they do not exist",
                request,
                error="user not found",
            )
            return None
        if expires := self._banned(user.name, address):
            attempt(user.name, banned=True)
            self._say(
                "error",
                f"Unsuccessful 1FA authentication attempt by user '{user.name}' and they are "
                f"banned until {_long_moment(expires)}",
                request,
            )
            return None
        if not check_password(user, password):
            attempt(user.name)
            self._regulate(user.name, address)
            self._say(
                "error",
                f"Unsuccessful 1FA authentication attempt by user '{user.name}'",
                request,
            )
            return None
        attempt(user.name, successful=True)
        return user

    def _after_first(self, context: Context, url: str, method: str) -> Response:
        default = context.cookie.default_redirection_url
        fallback = (
            ok({"redirect": default}) if default and not self._control.second_factor else ok()
        )
        if not url:
            return fallback
        try:
            target = parse_target(url, method)
        except ValueError as error:
            self._say("error", f"unable to parse target URL {url}: {error}", context.request)
            return ko(200, FAILED)
        session = context.session
        subject = Subject(session.username, session.groups, context.address)
        _, required = self._control.required(subject, target)
        if required is Level.TWO_FACTOR:
            self._say("warn", f"{url} requires 2FA, cannot be redirected yet", context.request)
            return ok()
        return ok({"redirect": url}) if self._safe(target) else fallback

    def _second_factor(self, request: Request) -> Response:
        context = self._known(request)
        session = context.session
        if wait := self._totp_limit.wait(context.address):
            response = plain_status(429)
            response.headers.append(("Retry-After", str(wait)))
            return response
        try:
            body = request.json()
            token = str(body["token"])
        except (ValueError, KeyError):
            return ko(403, RETRY)
        place = f"Error occurred validating a TOTP authentication for user '{session.username}'"
        if len(token) not in (6, 8):
            self._say("error", f"{place}: expected code length is 6 or 8", request)
            return ko(400, RETRY)
        if not self._check_totp(context, token, place):
            return ko(403, RETRY)
        self._sessions.destroy(context.identifier)
        context.identifier = self._sessions.fresh()
        session.level = int(Level.TWO_FACTOR)
        session.last_activity = time.time()
        url = str(body.get("targetURL") or "")
        response = self._after_second(context, url)
        self._keep(context, response)
        return response

    def _check_totp(self, context: Context, token: str, place: str) -> bool:
        request, name = context.request, context.session.username
        totp = self._storage.totp(name)
        if totp is None:
            self._say(
                "error",
                f"{place}: error occurred retrieving the configuration from the storage backend",
                request,
                error="no TOTP configuration for user",
            )
            return False
        skew = int(self._config.get("totp.skew", 1))
        now = int(time.time()) // totp.period
        steps = [
            step
            for step in range(now - skew, now + skew + 1)
            if totp_code(totp.secret, totp.algorithm, totp.digits, step) == token
        ]
        url, method = _referred(request)

        def attempt(successful: bool) -> None:
            self.counters.add("authelia_authn_second_factor", success=successful, type="totp")
            self._storage.log_attempt(
                Attempt(successful, False, name, "TOTP", context.address, url, method)
            )

        if not steps:
            invalid = "error occurred validating the user input"
            self._say("error", f"{place}: {invalid}", request, error="the user input wasn't valid")
            attempt(False)
            self._say(
                "error", f"Unsuccessful TOTP authentication attempt by user '{name}'", request
            )
            return False
        if not self._storage.use_totp_step(name, steps[0] * totp.period):
            reuse = "the user has already used this code recently and will not be permitted to"
            self._say(
                "error",
                f"{place}: error occurred satisfying security policies",
                request,
                error=f"{reuse} reuse it",
            )
            return bool(self._config.get("totp.disable_reuse_security_policy"))
        attempt(True)
        return True

    def _after_second(self, context: Context, url: str) -> Response:
        default = context.cookie.default_redirection_url
        if not url:
            return ok({"redirect": default}) if default else ok()
        try:
            target = parse_target(url, "")
        except ValueError:
            return ko(200, RETRY)
        return ok({"redirect": url}) if self._safe(target) else ok()

    # Regulation

    def _modes(self) -> list[str]:
        if int(self._config.get("regulation.max_retries", 3)) <= 0:
            return []
        return list(self._config.get("regulation.modes", ["user"]))

    def _banned(self, name: str | None, address: str) -> datetime | None:
        return self._storage.banned_until("ip", address) or (
            self._storage.banned_until("user", name) if name else None
        )

    def _regulate(self, name: str, address: str) -> None:
        """Ban whoever failed `max_retries` times in a row within `find_time`."""
        retries = int(self._config.get("regulation.max_retries", 3))
        period = seconds(self._config.get("regulation.find_time"), 120)
        duration = seconds(self._config.get("regulation.ban_time"), 300)
        since = after(utc_now(), -period)
        for kind, value in (("ip", address), ("user", name)):
            if kind not in self._modes() or not value:
                continue
            failures = []
            for successful, moment in self._storage.outcomes(kind, value, since):
                if successful:
                    break
                failures.append(moment)
            if len(failures) >= retries:
                self._storage.ban(kind, value, after(failures[0], duration))

    # Information

    def _state(self, request: Request) -> Response:
        context = self._portal_context(request, 403)
        found = {
            "username": context.session.username,
            "authentication_level": context.session.level,
            "factor_knowledge": context.session.password_used,
        }
        if context.cookie.default_redirection_url:
            found["default_redirection_url"] = context.cookie.default_redirection_url
        response = ok(found)
        self._keep(context, response)
        return response

    def _configuration(self, request: Request) -> Response:
        self._known(request)
        methods = ["totp"] if self._control.second_factor else []
        if self._config.get("totp.disable"):
            methods = []
        backend = "authentication_backend"
        return ok(
            {
                "available_methods": methods,
                "password_change_disabled": bool(
                    self._config.get(f"{backend}.password_change.disable", False)
                ),
                "password_reset_disabled": bool(
                    self._config.get(f"{backend}.password_reset.disable", False)
                ),
            }
        )

    def _user_information(self, request: Request) -> Response:
        session = self._known(request).session
        method = self._storage.method(session.username)
        if not method and request.method == "POST":
            method = "totp"
            self._storage.save_method(session.username, method)
        return ok(
            {
                "display_name": session.display_name,
                "emails": [_redacted(email) for email in session.emails],
                "method": method,
                "has_totp": self._storage.totp(session.username) is not None,
                "has_webauthn": False,
                "has_duo": False,
            }
        )

    def _choose_method(self, request: Request) -> Response:
        session = self._known(request).session
        if _field(request, "method") != "totp":
            return ko(200, OPERATION_FAILED)
        self._storage.save_method(session.username, "totp")
        return ok()

    def _totp_information(self, request: Request) -> Response:
        session = self._known(request).session
        totp = self._storage.totp(session.username)
        if totp is None:
            return ko(404, "Could not find TOTP Configuration for user.")
        return ok(
            {
                "created_at": totp.created,
                **({"last_used_at": totp.last_used} if totp.last_used else {}),
                "issuer": totp.issuer,
                "algorithm": totp.algorithm,
                "digits": totp.digits,
                "period": totp.period,
            }
        )

    def _safe_redirection(self, request: Request) -> Response:
        self._known(request)
        try:
            return ok({"ok": self._safe(parse_target(_field(request, "uri"), ""))})
        except ValueError:
            return ko(200, OPERATION_FAILED)

    def _logout(self, request: Request) -> Response:
        context = self._portal_context(request, 403)
        self._sessions.destroy(context.identifier)
        try:
            safe = self._safe(parse_target(_field(request, "targetURL"), ""))
        except ValueError:
            safe = False
        response = ok({"safeTargetURL": safe})
        _set_cookie(response, context.cookie, "", 0)
        return response

    def _safe(self, target: Target) -> bool:
        return target.secure and self._cookie_of(target.domain) is not None

    # Sessions

    def _portal_context(self, request: Request, status: int, message: str = "") -> Context:
        host = request.header("x-forwarded-host") or request.header("host")
        cookie = self._cookie_of(host.rsplit(":", 1)[0])
        if cookie is None:
            self._say("error", f"no session cookie domain matches the host '{host}'", request)
            raise RefusedError(ko(status, message) if message else plain_status(status))
        return self._context(request, cookie)

    def _known(self, request: Request) -> Context:
        context = self._portal_context(request, 403)
        if context.session.level < Level.ONE_FACTOR:
            raise RefusedError(plain_status(403))
        return context

    def _context(self, request: Request, cookie: Cookie) -> Context:
        identifier = request.cookie(cookie.name)
        session = self._sessions.load(identifier)
        if session is None or session.domain != cookie.domain:
            identifier, session = self._sessions.fresh(), Session(cookie.domain)
        return Context(request, self._address(request), cookie, identifier, session)

    def _touch(self, context: Context) -> None:
        """End a session that was idle too long or whose user is gone; note the others' use."""
        session, now = context.session, time.time()
        if not session.username:
            return
        idle = context.cookie.inactivity
        user = self._users.find(session.username)
        expired = not session.keep and 0 < idle < now - session.last_activity
        if user is None or expired:
            self._sessions.destroy(context.identifier)
            context.identifier = self._sessions.fresh()
            context.session = Session(context.cookie.domain)
            return
        session.emails, session.groups = user.emails, user.groups
        session.display_name, session.last_activity = user.display_name, now

    def _keep(self, context: Context, response: Response) -> None:
        cookie = context.cookie
        lifetime = cookie.remember_me if context.session.keep else cookie.expiration
        self._sessions.save(context.identifier, context.session, lifetime)
        _set_cookie(response, cookie, context.identifier, lifetime)

    def _cookie_of(self, host: str) -> Cookie | None:
        found = [cookie for cookie in self._config.cookies if in_domain(host, cookie.domain)]
        return found[0] if found else None

    def _address(self, request: Request) -> str:
        """The first hop of X-Forwarded-For: the proxy in front is trusted to have cleaned it."""
        first = request.header("x-forwarded-for").split(",")[0].strip()
        return plain_address(first) if first else request.peer

    def _say(self, level: str, message: str, request: Request, **fields: object) -> None:
        standard = {
            "method": request.method,
            "path": request.path,
            "remote_ip": self._address(request),
        }
        self._log.write(level, message, {**standard, **fields})


def _session_of(user: User, domain: str, level: int) -> Session:
    return Session(
        domain,
        user.name,
        level,
        user.display_name,
        user.emails,
        user.groups,
        last_activity=time.time(),
        password_used=True,
    )


def _identified(session: Session) -> Response:
    response = plain_status(200)
    if session.username:
        response.headers += [
            ("Remote-User", session.username),
            ("Remote-Groups", ",".join(session.groups)),
            ("Remote-Name", session.display_name),
            ("Remote-Email", session.emails[0] if session.emails else ""),
        ]
    return response


def _redirect_status(request: Request, method: str) -> int:
    """401 for scripts and programs, a redirect for browsers."""
    accepted = [item.split(";")[0].strip() for item in request.header("accept").split(",")]
    browser = "text/html" in accepted or accepted[0] == "*/*"
    if request.header("x-requested-with").lower() == "xmlhttprequest" or not browser:
        return 401
    return 302 if method in ("GET", "HEAD", "OPTIONS", "") else 303


def _referred(request: Request) -> tuple[str, str]:
    query = Request("GET", request.header("referer"), {}, b"", "").query
    return query.get("rd", ""), query.get("rm", "")


def _field(request: Request, name: str) -> str:
    try:
        return str(request.json().get(name) or "")
    except ValueError:
        return ""


def _set_cookie(response: Response, cookie: Cookie, value: str, lifetime: float) -> None:
    expires = formatdate(time.time() + lifetime if value else 0, usegmt=True)
    site = {"strict": "Strict", "none": "None"}.get(cookie.same_site, "Lax")
    response.headers.append(
        (
            "Set-Cookie",
            f"{cookie.name}={value}; expires={expires}; domain={cookie.domain}; path=/; HttpOnly; "
            f"secure; SameSite={site}",
        )
    )


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _redacted(email: str) -> str:
    name, _, domain = email.partition("@")
    return f"{name[:1]}{'*' * max(0, len(name) - 2)}{name[-1:]}@{domain}"


def _long_moment(moment: datetime) -> str:
    local = moment.astimezone()
    hour = local.hour % 12 or 12
    zone = local.strftime("%z")
    return f"{hour}:{local:%M:%S%p} on {local:%B} {local.day} {local.year} ({zone[:3]}:{zone[3:5]})"


def _listen(address: str, port: int) -> tuple[str | None, int]:
    parts = urlsplit(address if "//" in address else f"//{address}")
    return parts.hostname or None, parts.port or port


def run_server(config: Config) -> int:
    """Serve until told to stop. Ends with 1 when a store or the users file cannot be used."""
    file = config.get("log.file_path")
    log = Log(
        str(config.get("log.level", "info")),
        str(config.get("log.format", "text")),
        Path(str(file)) if file else None,
        bool(config.get("log.keep_stdout", False)),
    )
    log.write("info", f"{NAME} {VERSION}: this is a lab double, not Authelia, and it is starting")
    try:
        application, listeners = _start(config, log)
    except (StorageError, UsersError, OSError) as error:
        log.write("fatal", f"Failed to start: {error}")
        return 1
    for address, port in listeners:
        log.write(
            "info",
            f"Listening for non-TLS connections on '{address or '[::]'}:{port}' path '/'",
            {"server": "main" if port == listeners[0][1] else "metrics", "service": "server"},
        )
    handlers = [application.handle, lambda _: as_text(application.counters.text())]
    serve(
        dict(zip(listeners, handlers, strict=False)),
        lambda: log.write("info", "Startup complete"),
    )
    return 0


def _start(config: Config, log: Log) -> tuple[Application, list[tuple[str | None, int]]]:
    section = "authentication_backend.file"
    users = Users(
        Path(str(config.get(f"{section}.path"))), bool(config.get(f"{section}.watch", False))
    )
    storage = Postgres(config)
    storage.start(VERSION)
    sessions = Sessions(Redis(config), str(config.get("session.secret")))
    sessions.check()
    _probe_notifier(config)
    listeners = [_listen(str(config.get("server.address", "tcp://:9091/")), 9091)]
    if config.get("telemetry.metrics.enabled"):
        address = str(config.get("telemetry.metrics.address", "tcp://:9959"))
        listeners.append(_listen(address, 9959))
    return Application(config, users, sessions, storage, log), listeners


def _probe_notifier(config: Config) -> None:
    file = config.get("notifier.filesystem.filename")
    if file and not config.get("notifier.disable_startup_check"):
        Path(str(file)).parent.mkdir(parents=True, exist_ok=True)
        Path(str(file)).write_text("")


def main() -> int:
    """The command line of the real program, as far as the lab needs it."""
    try:
        return authelia_commands.run(sys.argv[1:], run_server)
    except ConfigError as error:
        log = Log()
        for message in error.errors:
            log.write("error", f"Configuration: {message}")
        log.write("fatal", "Can't continue due to the errors loading the configuration")
        return 1
    except (StorageError, UsersError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
