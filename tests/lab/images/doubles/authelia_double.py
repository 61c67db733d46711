"""A lab double of Authelia 4.39: its configuration file, command line and wire contract.

It speaks ForwardAuth, passwords, one-time passwords and a little OpenID Connect. It is no Authelia:
no WebAuthn, no LDAP, no mail, and nobody audited it.
"""

from __future__ import annotations

import asyncio
import collections
import html
import ipaddress
import posixpath
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from . import authelia_basic, authelia_commands, authelia_openid, authelia_portal
from .authelia_config import Config, ConfigError, Cookie, in_domain, seconds
from .authelia_log import Log
from .authelia_rules import METHOD, Level, Subject, Verdict, verdict
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
from .authelia_target import Target, parse_target
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
# What upstream sends with everything but its answers that only name a status.
SECURITY_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    (
        "Permissions-Policy",
        "accelerometer=(), autoplay=(), camera=(), display-capture=(), geolocation=(), "
        "gyroscope=(), keyboard-map=(), magnetometer=(), microphone=(), midi=(), payment=(), "
        "picture-in-picture=(), screen-wake-lock=(), sync-xhr=(), xr-spatial-tracking=(), "
        "interest-cohort=()",
    ),
    ("X-Frame-Options", "DENY"),
    ("X-DNS-Prefetch-Control", "off"),
]
API_HEADERS = [
    *SECURITY_HEADERS,
    ("Pragma", "no-cache"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'"),
]
PAGE_POLICY = (
    "Content-Security-Policy",
    "default-src 'self'; base-uri 'self'; connect-src 'self'; frame-ancestors 'none'; "
    "frame-src 'none'; object-src 'none'; script-src 'self'; style-src 'self'",
)
# Folders in which an unknown path is not the portal's page.
FOLDERS = re.compile(r"/(api|\.well-known|static|locales)(/.*)?", re.IGNORECASE)
METHODS = ("totp", "webauthn")
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
    return _api({"status": "OK"} if data is None else {"status": "OK", "data": data})


def ko(status: int, message: str) -> Response:
    """Upstream's failure document."""
    return _api({"status": "KO", "message": message}, status)


def _api(document: object, status: int = 200) -> Response:
    response = as_json(document, status)
    response.headers += API_HEADERS
    return response


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
        self._routes: Mapping[str, Mapping[str, Callable[[Request], Response]]] = {
            FORWARD_AUTH: {"GET": self._forward_auth, "HEAD": self._forward_auth},
            "/": {"GET": _page, "HEAD": _page},
            "/api/health": {"GET": lambda _: ok(), "HEAD": lambda _: ok()},
            "/api/state": {"GET": self._state},
            "/api/configuration": {"GET": self._configuration},
            "/api/firstfactor": {"POST": self._first_factor},
            "/api/secondfactor/totp": {"GET": self._totp_information, "POST": self._second_factor},
            "/api/user/info": {"GET": self._user_information, "POST": self._user_information},
            "/api/user/info/2fa_method": {"POST": self._choose_method},
            "/api/checks/safe-redirection": {"POST": self._safe_redirection},
            "/api/logout": {"POST": self._logout},
            "/static/js/portal.js": {
                "GET": lambda _: as_text(authelia_portal.SCRIPT, content_type="text/javascript")
            },
            **self._openid_routes(),
        }

    def _openid_routes(self) -> dict[str, Mapping[str, Callable[[Request], Response]]]:
        document = self._config.get("identity_providers.oidc")
        if not document:
            return {}
        provider = authelia_openid.Provider(document)

        def authorize(request: Request) -> Response:
            context = self._portal_context(request, "Authorization Request", plain_status(400))
            self._touch(context)
            needed = Level[provider.level(request.query.get("client_id", "")).upper()]
            if context.session.level >= needed:
                return provider.authorize(request, context.session)
            return self._redirect(context, parse_target(_own_url(request), request.method))

        return {
            authelia_openid.WELL_KNOWN: {"GET": provider.discovery},
            authelia_openid.KEYS: {"GET": provider.keys},
            authelia_openid.AUTHORIZATION: {"GET": authorize},
            authelia_openid.TOKEN: {"POST": provider.token},
            authelia_openid.USERINFO: {"GET": provider.userinfo},
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
        path = posixpath.normpath(request.path).replace("//", "/")
        methods = self._routes.get(path)
        if methods is None:
            return plain_status(404) if FOLDERS.fullmatch(path) else _page(request)
        if handler := methods.get(request.method):
            response = handler(request)
            if path == FORWARD_AUTH:
                self.counters.add("authelia_authz", code=response.status)
            return response
        response = as_text("") if request.method == "OPTIONS" else plain_status(405)
        response.headers.append(("Allow", ", ".join(sorted([*methods, "OPTIONS"]))))
        return response

    # Forward authorization

    def _forward_auth(self, request: Request) -> Response:
        try:
            target = self._target(request)
        except ValueError as error:
            message = "Error getting Target URL and Request Method"
            self._say("error", message, request, error=error)
            return plain_status(400)
        if not target.secure:
            message = (
                f"Target URL '{target.url}' has an insecure scheme '{target.scheme}', only the "
                "'https' and 'wss' schemes are supported so session cookies can be transmitted "
                "securely"
            )
            self._say("error", message, request)
            return plain_status(400)
        cookie = self._cookie_of(target.domain)
        if cookie is None:
            message = "Target URL does not appear to have a relevant session cookies configuration"
            reason = _no_cookie_for(target.url)
            self._say("error", message, request, error=reason, target_url=target.url)
            return plain_status(400)
        text = request.header("authorization") if self._config.header_schemes else ""
        try:
            given = authelia_basic.credentials(text)
        except authelia_basic.HeaderError as error:
            reason = f"failed to parse content of Authorization header: {error}"
            return self._authorize_header(request, target, None, reason)
        if given:
            user, reason = self._authenticate_header(request, *given, target)
            if user:
                reason = ""
            else:
                reason = f"failed to validate Authorization header with basic scheme: {reason}"
            return self._authorize_header(request, target, user, reason)
        context = self._context(request, cookie)
        self._touch(context)
        return self._decide(context, target)

    def _target(self, request: Request) -> Target:
        scheme, host = request.header("x-forwarded-proto"), request.header("x-forwarded-host")
        method = request.header("x-forwarded-method")
        if not host:
            raise ValueError("failed to get target URL: missing host value")
        uri = request.header("x-forwarded-uri")
        try:
            target = parse_target(f"{scheme or 'http'}://{host}{uri}", method)
        except ValueError as error:
            prefix = "failed to get target URL: failed to parse forwarded headers"
            raise ValueError(f"{prefix}: {error}") from error
        if not method:
            raise ValueError("header 'X-Forwarded-Method' is empty")
        if not METHOD.fullmatch(method):
            name = "header 'X-Forwarded-Method'"
            raise ValueError(f"{name} with value '{method}' has invalid characters")
        return target

    def _decide(self, context: Context, target: Target) -> Response:
        session = context.session
        subject = Subject(session.username, session.groups, context.address)
        has_subjects, required = self._control.required(subject, target)
        found = verdict(Level(session.level), required, has_subjects)
        if found is Verdict.UNAUTHORIZED:
            response = self._redirect(context, target)
            self._keep(context, response)
            return response
        if found is Verdict.FORBIDDEN:
            return self._forbidden(context.request, target, session.username)
        return _identified(session)

    def _forbidden(self, request: Request, target: Target, name: str) -> Response:
        message = f"Access to '{target.url}' is forbidden to user '{name or ANONYMOUS}'"
        self._say("info", message, request)
        return plain_status(403)

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
        response = as_text("" if target.method == "HEAD" else anchor, status, "text/html")
        response.headers += [*SECURITY_HEADERS, ("Location", location)]
        return response

    def _authorize_header(
        self, request: Request, target: Target, user: User | None, reason: str
    ) -> Response:
        """Judge a request with an Authorization header; a failed one counts as anonymous."""
        refusal = plain_status(401)
        refusal.headers.append(("WWW-Authenticate", BASIC))
        name, groups = (user.name, user.groups) if user else ("", ())
        has_subjects, required = self._control.required(
            Subject(name, groups, self._address(request)), target
        )
        if reason and not has_subjects and required is not Level.BYPASS:
            message = "Error occurred while attempting to authenticate a request"
            self._say("error", message, request, error=reason)
            return refusal
        level = Level.ONE_FACTOR if user else Level.BYPASS
        found = verdict(level, required, has_subjects)
        if found is Verdict.UNAUTHORIZED:
            return refusal
        if found is Verdict.FORBIDDEN:
            return self._forbidden(request, target, name)
        return _identified(_session_of(user, "", int(level)) if user else Session(""))

    def _authenticate_header(
        self, request: Request, name: str, password: str, target: Target
    ) -> tuple[User | None, str]:
        """The user of these credentials, or why there is none. Unknown names are not counted."""
        user = self._users.find(name)
        if user is None:
            message = (
                "Error occurred while attempting to get user details for user: the user was not "
                "found indicating they were deleted, disabled, or otherwise no longer authorized "
                "to login"
            )
            self._say("error", message, request, username=name)
            return None, f"failed to retrieve user details for user {name}: user not found"
        banned = self._banned(user.name, self._address(request))
        if self._check_password(request, user, password, (target.url, target.method), basic=True):
            return user, ""
        if banned:
            return None, (
                f"failed to validate the credentials of user '{user.name}' parsed from the "
                "Authorization header: user is banned"
            )
        return None, (
            f"failed to validate parsed credentials of Authorization header valid for user "
            f"'{user.name}': the username and password do not match"
        )

    # Sign-in

    def _first_factor(self, request: Request) -> Response:
        try:
            body = _body(request)
            name, password = _texts(body, "username", "password")
            keep = body.get("keepMeLoggedIn")
            if not isinstance(keep, bool | None):
                raise ValueError("unable to parse body: keepMeLoggedIn is no truth value")
        except ValueError as error:
            self._say("error", "Failed to parse 1FA request body", request, error=error)
            return ko(401, FAILED)
        user = self._users.find(name)
        if user is None:
            self._unknown(request, name)
            return ko(401, FAILED)
        if not self._check_password(request, user, password, _referred(request)):
            return ko(401, FAILED)
        failure = "Failed to get session provider during 1FA attempt"
        context = self._portal_context(request, failure, ko(401, FAILED))
        self._sessions.destroy(context.identifier)
        context.identifier = self._sessions.fresh()
        context.session = _session_of(user, context.cookie.domain, int(Level.ONE_FACTOR))
        context.session.keep = bool(keep) and context.cookie.remember_me > 0
        response = self._after_first(
            context, str(body.get("targetURL") or ""), str(body.get("requestMethod") or "")
        )
        self._keep(context, response)
        return response

    def _unknown(self, request: Request, name: str) -> None:
        """Note a name that nobody has; it counts against the address alone."""
        address = self._address(request)
        banned = self._storage.banned_until("ip", address) is not None
        self._attempt(request, "", _referred(request), banned=banned)
        if not banned:
            self._regulate("", address)
        for message in (
            "Unsuccessful 1FA authentication attempt by user ''",
            f"Error occurred getting details for user with username input '{name}' which usually "
            "indicates they do not exist",
        ):
            self._say("error", message, request, error="user not found")

    def _check_password(
        self,
        request: Request,
        user: User,
        password: str,
        place: tuple[str, str],
        basic: bool = False,
    ) -> bool:
        """Whether the user may enter; failures are logged, counted and may ban."""
        address = self._address(request)
        message = "Unsuccessful 1FA authentication attempt by user"
        if expires := self._banned(user.name, address):
            # Upstream names the banned address here, but only for this header.
            by_address = basic and self._storage.banned_until("ip", address)
            name = address if by_address else user.name
            self._attempt(request, name, place, banned=True)
            until = _long_moment(expires)
            self._say("error", f"{message} '{name}' and they are banned until {until}", request)
            return False
        if not check_password(user, password):
            self._attempt(request, user.name, place)
            self._regulate(user.name, address)
            self._say("error", f"{message} '{user.name}'", request)
            return False
        self._attempt(request, user.name, place, successful=True)
        return True

    def _attempt(
        self,
        request: Request,
        name: str,
        place: tuple[str, str],
        successful: bool = False,
        banned: bool = False,
    ) -> None:
        self.counters.add("authelia_authn", success=successful, banned=banned)
        self._storage.log_attempt(
            Attempt(successful, banned, name, "1FA", self._address(request), *place)
        )

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
            self._say("warn", "Rate Limit Exceeded", request, delay=wait)
            response = ko(429, HTTPStatus(429).phrase)
            response.headers.append(("Retry-After", formatdate(time.time() + wait, usegmt=True)))
            return response
        place = f"Error occurred validating a TOTP authentication for user '{session.username}'"
        try:
            body = _body(request)
            (token,) = _texts(body, "token")
        except ValueError as error:
            message = f"{place}: error parsing the request body"
            self._say("error", message, request, error=error)
            return ko(403, RETRY)
        if len(token) not in (6, 8):
            message = (
                f"{place}: expected code length is 6 or 8 but the user provided code was "
                f"{len(token)} characters in length"
            )
            self._say("error", message, request)
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
        invalid = "error occurred validating the user input"
        if len(token) != totp.digits:
            self._say("error", f"{place}: {invalid}", request, error="input length unexpected")
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
        except ValueError as error:
            self._say("error", _unsafe("URI", url, error), context.request)
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
        failure = "Error occurred retrieving user session"
        context = self._portal_context(request, failure, plain_status(403))
        found = {
            "username": context.session.username,
            "authentication_level": context.session.level,
            "factor_knowledge": context.session.password_used,
        }
        if context.cookie.default_redirection_url:
            found["default_redirection_url"] = context.cookie.default_redirection_url
        return ok(found)

    def _configuration(self, request: Request) -> Response:
        self._known(request)
        methods = [
            name
            for name in METHODS
            if self._control.second_factor and not self._config.get(f"{name}.disable")
        ]
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
        asked = request.method == "POST"
        if not method and asked:
            method = "totp"
            self._storage.save_method(session.username, method)
        return ok(
            {
                "display_name": session.display_name,
                # As upstream: the request that sets up a new user tells no addresses.
                "emails": None if asked else [_redacted(email) for email in session.emails],
                "method": method,
                # Nothing is told of a user whom no such request has set up.
                "has_totp": bool(method) and self._storage.totp(session.username) is not None,
                "has_webauthn": False,
                "has_duo": False,
            }
        )

    def _choose_method(self, request: Request) -> Response:
        session = self._known(request).session
        method = _field(request, "method")
        if method not in METHODS:
            known = ", ".join(METHODS)
            message = f"unknown or unavailable method '{method}', it should be one of {known}"
            self._say("error", message, request)
            return ko(200, OPERATION_FAILED)
        self._storage.save_method(session.username, method)
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
        self._known(request, 401)
        uri = _field(request, "uri")
        try:
            return ok({"ok": self._safe(parse_target(uri, ""))})
        except ValueError as error:
            self._say("error", _unsafe("uri", uri, error), request)
            return ko(200, OPERATION_FAILED)

    def _logout(self, request: Request) -> Response:
        try:
            url = str(_body(request).get("targetURL") or "")
        except ValueError as error:
            message = f"unable to parse body during logout: {error}"
            self._say("error", message, request)
            url = ""
        try:
            safe = self._safe(parse_target(url, ""))
        except ValueError:
            safe = False
        response = ok({"safeTargetURL": safe})
        cookie = self._cookie_for(request)
        if cookie is None:
            message = "unable to destroy session during logout: unable to destroy user session"
            self._say("error", f"{message}: {_no_cookie_for(_own_url(request))}", request)
            return response
        context = self._context(request, cookie)
        if context.session.username:
            self._sessions.destroy(context.identifier)
            # As upstream: without the domain, so it is the dead session that ends the login.
            gone = f"{cookie.name}=; expires={formatdate(0, usegmt=True)}; path=/; HttpOnly"
            response.headers.append(("Set-Cookie", gone))
        return response

    def _safe(self, target: Target) -> bool:
        return target.secure and self._cookie_of(target.domain) is not None

    # Sessions

    def _portal_context(self, request: Request, failure: str, refusal: Response) -> Context:
        cookie = self._cookie_for(request)
        if cookie is None:
            self._say("error", failure, request, error=_no_cookie_for(_own_url(request)))
            raise RefusedError(refusal)
        return self._context(request, cookie)

    def _known(self, request: Request, status: int = 403) -> Context:
        cookie = self._cookie_for(request)
        context = self._context(request, cookie) if cookie else None
        if context is None or context.session.level < Level.ONE_FACTOR:
            raise RefusedError(plain_status(status))
        return context

    def _context(self, request: Request, cookie: Cookie) -> Context:
        identifier = request.cookie(cookie.name)
        session = self._sessions.load(identifier)
        if session is None:
            # As upstream: a name without a session is taken as it is; a login gives a new one.
            identifier, session = identifier or self._sessions.fresh(), Session(cookie.domain)
        elif session.domain != cookie.domain:
            identifier, session = self._sessions.fresh(), Session(cookie.domain)
        return Context(request, self._address(request), cookie, identifier, session)

    def _touch(self, context: Context) -> None:
        """End a session that was idle too long or whose user is gone; note the others' use.

        A remembered one lives from its login on, whatever its use; as upstream.
        """
        session, now = context.session, time.time()
        if not session.username:
            return
        idle = context.cookie.inactivity
        user = self._users.find(session.username)
        if not session.keep and 0 < idle < now - int(session.last_activity):
            message = (
                "Session for user not marked as remembered has exceeded configured session "
                "inactivity"
            )
            self._say("info", message, context.request, username=session.username)
            self._end(context)
        elif user is None:
            message = (
                "Error occurred while attempting to update user details for user: the user was "
                "not found indicating they were deleted, disabled, or otherwise no longer "
                "authorized to login"
            )
            self._say("error", message, context.request, username=session.username)
            self._end(context)
        else:
            session.emails, session.groups = user.emails, user.groups
            session.display_name = user.display_name
            if not session.keep:
                session.last_activity = now
                self._save(context)

    def _end(self, context: Context) -> None:
        self._sessions.destroy(context.identifier)
        context.identifier = self._sessions.fresh()
        context.session = Session(context.cookie.domain)

    def _keep(self, context: Context, response: Response) -> None:
        cookie, lifetime = context.cookie, self._save(context)
        expires = formatdate(time.time() + lifetime, usegmt=True)
        site = {"strict": "Strict", "none": "None"}.get(cookie.same_site, "Lax")
        response.headers.append(
            (
                "Set-Cookie",
                f"{cookie.name}={context.identifier}; expires={expires}; domain={cookie.domain}; "
                f"path=/; HttpOnly; secure; SameSite={site}",
            )
        )

    def _save(self, context: Context) -> float:
        cookie = context.cookie
        lifetime = cookie.remember_me if context.session.keep else cookie.expiration
        self._sessions.save(context.identifier, context.session, lifetime)
        return lifetime

    def _cookie_for(self, request: Request) -> Cookie | None:
        """The cookie settings of the host that the portal was asked under."""
        host = request.header("x-forwarded-host") or request.header("host")
        return self._cookie_of(host.rsplit(":", 1)[0])

    def _cookie_of(self, host: str) -> Cookie | None:
        found = [cookie for cookie in self._config.cookies if in_domain(host, cookie.domain)]
        return found[0] if found else None

    def _address(self, request: Request) -> str:
        """The first hop of X-Forwarded-For: the proxy in front is trusted to have cleaned it."""
        first = plain_address(request.header("x-forwarded-for").split(",")[0].strip())
        try:
            ipaddress.ip_address(first)
        except ValueError:
            return request.peer
        return first

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


def _body(request: Request) -> dict[str, Any]:
    try:
        return request.json()
    except ValueError as error:
        raise ValueError(f"unable to parse body: {error}") from error


def _texts(body: Mapping[str, Any], *names: str) -> list[str]:
    """The texts under these names. Raises ValueError for what is missing or no text."""
    found = [body.get(name) for name in names]
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, str | None):
            raise ValueError(f"unable to parse body: {name} is no text")
    empty = [name for name, value in zip(names, found, strict=True) if not value]
    if empty:
        wrong = ";".join(f"{name}: non zero value required" for name in sorted(empty))
        raise ValueError(f"unable to validate body: {wrong}")
    return [str(value) for value in found]


def _no_cookie_for(url: str) -> str:
    return (
        "unable to retrieve session cookie domain provider: no configured session cookie domain "
        f"matches the url '{url}'"
    )


def _own_url(request: Request) -> str:
    host = request.header("x-forwarded-host") or request.header("host")
    return f"https://{host}{request.header('x-forwarded-uri') or request.target}"


def _unsafe(word: str, uri: str, error: Exception) -> str:
    shown = f"'{uri}'" if word == "URI" else uri
    return (
        f"unable to determine if {word} {shown} is safe to redirect to: failed to parse URI "
        f"'{uri}': {error}"
    )


def _page(_: Request) -> Response:
    page = as_text(authelia_portal.PAGE, content_type="text/html")
    page.headers = [*SECURITY_HEADERS, PAGE_POLICY]
    return page


def _field(request: Request, name: str) -> str:
    try:
        return str(request.json().get(name) or "")
    except ValueError:
        return ""


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

    def ready() -> None:
        if file:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log.reopen)
        log.write("info", "Startup complete")

    serve(dict(zip(listeners, handlers, strict=False)), ready)
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
