"""OpenID Connect as Authelia provides it, for clients with a secret and PKCE: nothing else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from .http import Request, Response, as_json, as_text

if TYPE_CHECKING:
    from .authelia_store import Session

WELL_KNOWN = "/.well-known/openid-configuration"
AUTHORIZATION = "/api/oidc/authorization"
TOKEN = "/api/oidc/token"
USERINFO = "/api/oidc/userinfo"
KEYS = "/jwks.json"
CODE_SECONDS = 60
TOKEN_SECONDS = 3600
# Upstream refuses a shorter key.
LEAST_BITS = 2048
CLIENT_KEYS = frozenset(
    [
        *("client_id", "client_name", "client_secret", "authorization_policy", "consent_mode"),
        *("claims_policy", "redirect_uris", "scopes", "response_types", "grant_types"),
        *("require_pkce", "pkce_challenge_method", "token_endpoint_auth_method", "public"),
    ]
)


def errors(document: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a section identity_providers, as far as this double looks."""
    provider = document.get("oidc") or {}
    place = "identity_providers: oidc"
    if not provider.get("hmac_secret"):
        yield f"{place}: option 'hmac_secret' is required"
    if not provider.get("clients"):
        yield f"{place}: option 'clients' must have one or more clients configured"
    if not provider.get("jwks"):
        yield f"{place}: option 'jwks' is required"
        return
    try:
        if _key(provider).key_size < LEAST_BITS:
            yield f"{place}: jwks: key #1: option 'key' is too short"
    except ValueError as error:
        yield f"{place}: jwks: key #1: option 'key' {error}"
    policies = provider.get("claims_policies") or {}
    for client in provider.get("clients") or []:
        where = f"{place}: clients: client '{client.get('client_id', '')}'"
        for key in sorted(set(client) - CLIENT_KEYS):
            yield f"configuration key not expected: identity_providers.oidc.clients[].{key}"
        if not str(client.get("client_secret", "")).startswith("$pbkdf2-sha512$"):
            yield f"{where}: this double takes a secret as its $pbkdf2-sha512$ digest alone"
        if client.get("claims_policy") not in policies:
            yield f"{where}: option 'claims_policy' is not one of those that are configured"


def _key(provider: Mapping[str, Any]) -> RSAPrivateKey:
    key = serialization.load_pem_private_key(str(provider["jwks"][0]["key"]).encode(), None)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("must be an RSA private key")
    return key


class Provider:
    """Codes and tokens in memory: a restart forgets them, as their short lives allow."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._key = _key(document)
        self._key_id = str(document["jwks"][0].get("key_id") or "main")
        self._clients = {client["client_id"]: client for client in document["clients"]}
        self._policies = document.get("claims_policies") or {}
        self._lock = threading.Lock()
        self._codes: dict[str, dict[str, Any]] = {}
        self._tokens: dict[str, dict[str, Any]] = {}

    def level(self, client: str) -> str:
        """The policy of a client, which says how well somebody must have logged in."""
        return str(self._clients.get(client, {}).get("authorization_policy", "two_factor"))

    def discovery(self, request: Request) -> Response:
        issuer = _issuer(request)
        return as_json(
            {
                "issuer": issuer,
                "authorization_endpoint": issuer + AUTHORIZATION,
                "token_endpoint": issuer + TOKEN,
                "userinfo_endpoint": issuer + USERINFO,
                "jwks_uri": issuer + KEYS,
                "response_types_supported": ["code"],
                "code_challenge_methods_supported": ["S256"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    def keys(self, _: Request) -> Response:
        numbers = self._key.public_key().public_numbers()
        parts = {
            name: _url64(value.to_bytes((value.bit_length() + 7) // 8, "big"))
            for name, value in (("n", numbers.n), ("e", numbers.e))
        }
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self._key_id, **parts}
        return as_json({"keys": [key]})

    def authorize(self, request: Request, session: Session) -> Response:
        """A code for whoever has logged in well enough; a wrong place is never redirected to."""
        asked = request.query
        client = self._clients.get(asked.get("client_id", ""))
        if client is None or asked.get("redirect_uri") not in client["redirect_uris"]:
            return as_json({"error": "invalid_request"}, 400)
        wrong = (
            asked.get("response_type") != "code"
            or asked.get("code_challenge_method") != "S256"
            or not asked.get("code_challenge")
            or not set(asked.get("scope", "").split()) <= set(client["scopes"])
        )
        if wrong:
            return _back(asked, error="invalid_request")
        code = f"authelia_ac_{secrets.token_urlsafe(32)}"
        claims = {
            "iss": _issuer(request),
            "sub": str(uuid.uuid5(uuid.NAMESPACE_URL, session.username)),
            "preferred_username": session.username,
            "name": session.display_name,
            "groups": list(session.groups),
            "email": session.emails[0] if session.emails else "",
        }
        with self._lock:
            self._codes[code] = {"asked": asked, "claims": claims, "time": time.time()}
        return _back(asked, code=code, iss=_issuer(request))

    def token(self, request: Request) -> Response:
        """Tokens for a code that is used for the first time, by the client that it was made for."""
        form = {key: values[0] for key, values in parse_qs(request.body.decode()).items()}
        client = self._client_of(request)
        if client is None:
            return as_json({"error": "invalid_client"}, 401)
        with self._lock:
            kept = self._codes.pop(form.get("code", ""), None)
        verifier = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            kept is None
            or time.time() - kept["time"] > CODE_SECONDS
            or kept["asked"]["client_id"] != client["client_id"]
            or kept["asked"]["redirect_uri"] != form.get("redirect_uri")
            or kept["asked"]["code_challenge"] != _url64(verifier)
        ):
            return as_json({"error": "invalid_grant"}, 400)
        token = f"authelia_at_{secrets.token_urlsafe(32)}"
        with self._lock:
            self._tokens[token] = {"claims": kept["claims"], "time": time.time()}
        return as_json(
            {
                "access_token": token,
                "token_type": "bearer",
                "expires_in": TOKEN_SECONDS,
                "scope": kept["asked"]["scope"],
                "id_token": self._signed(client, kept),
            }
        )

    def userinfo(self, request: Request) -> Response:
        kind, _, token = request.header("authorization").partition(" ")
        with self._lock:
            kept = self._tokens.get(token)
        expired = kept is None or time.time() - kept["time"] > TOKEN_SECONDS
        if kind.lower() != "bearer" or kept is None or expired:
            return as_json({"error": "request_unauthorized"}, 401)
        return as_json({key: value for key, value in kept["claims"].items() if key != "iss"})

    def _client_of(self, request: Request) -> Mapping[str, Any] | None:
        kind, _, text = request.header("authorization").partition(" ")
        if kind.lower() != "basic":
            return None
        name, _, secret = base64.b64decode(text).decode().partition(":")
        client: Mapping[str, Any] | None = self._clients.get(unquote(name))
        if client is None or not _is_secret(unquote(secret), client["client_secret"]):
            return None
        return client

    def _signed(self, client: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
        claims, now = kept["claims"], int(time.time())
        named = (self._policies.get(client.get("claims_policy")) or {}).get("id_token", ())
        document = {
            **{key: claims[key] for key in ("iss", "sub", *named)},
            **{"aud": [client["client_id"]], "iat": now, "exp": now + TOKEN_SECONDS},
        }
        head = {"alg": "RS256", "typ": "JWT", "kid": self._key_id}
        text = ".".join(_url64(json.dumps(part).encode()) for part in (head, document))
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_url64(signature)}"


def _is_secret(given: str, digest: str) -> bool:
    _, _, rounds, salt, key = digest.split("$")
    raw, wanted = (base64.b64decode(t + "=" * (-len(t) % 4), b"./") for t in (salt, key))
    made = hashlib.pbkdf2_hmac("sha512", given.encode(), raw, int(rounds))
    return hmac.compare_digest(made, wanted)


def _issuer(request: Request) -> str:
    host = request.header("x-forwarded-host") or request.header("host")
    return f"{request.header('x-forwarded-proto') or 'http'}://{host}"


def _back(asked: Mapping[str, str], **answer: str) -> Response:
    query = urlencode({**answer, "scope": asked.get("scope", ""), "state": asked.get("state", "")})
    response = as_text("", 303)
    place = urlsplit(asked["redirect_uri"])._replace(query=query)
    response.headers.append(("Location", place.geturl()))
    return response


def _url64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
