"""The address that a request is about, taken apart and written as Authelia does it.

Rules on characters are those of Go's net/url, which Authelia reads addresses with
(https://pkg.go.dev/net/url#ParseRequestURI).
"""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SCHEME = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):(//)?)?(.*)", re.DOTALL)
_PORT = re.compile(r":[0-9]*$")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)
_BAD_IN_HOST = re.compile(r"""[^A-Za-z0-9\-_.~!$&'()*+,;=:\[\]<>"\x80-\xff]""")
_ESCAPE_IN_HOST = re.compile(r"%[0-7][0-9A-Fa-f]")
_NAME_AND_PASSWORD = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*")
# A path with nothing else stays as it was written.
_WRITTEN_PATH = re.compile(r"[A-Za-z0-9\-_.~!$&'()*+,;=:@/\[\]%]*")
_KEPT_IN_PATH = "$&+,/:;=@"


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for; `resource` is the decoded clean path with the raw query."""

    url: str
    scheme: str
    domain: str
    resource: str
    query: str
    method: str

    @property
    def secure(self) -> bool:
        """Whether a session cookie may travel there."""
        return self.scheme in ("https", "wss")


def parse_target(url: str, method: str) -> Target:
    """Take a URL apart; each character stands for one byte (ISO 8859-1), as HTTP gives it.

    One without a host is taken as well; it is neither secure nor in any domain.

    Raises:
        ValueError: it is not well-formed; the text is Authelia's.
    """
    place = f"parse {json.dumps(url, ensure_ascii=False)}: "
    if _CONTROL.search(url):
        raise ValueError(f"{place}net/url: invalid control character in URL")
    match = _SCHEME.fullmatch(url)
    if not match or not (match[1] or url.startswith("/")):
        raise ValueError(f"{place}invalid URI for request")
    scheme, (rest, mark, query) = (match[1] or "").lower(), match[3].partition("?")
    if not match[2]:
        return Target(url, scheme, "", "", query, method)
    authority, slash, path = rest.partition("/")
    path = slash + path
    user, at, host = authority.rpartition("@")
    try:
        _check_authority(user, host)
        if bad := _BAD_ESCAPE.search(path):
            raise ValueError(f'invalid URL escape "{bad[0]}"')
    except ValueError as error:
        raise ValueError(f"{place}{error}") from error
    decoded = unquote_to_bytes(path.encode("latin-1", "replace"))
    shown = path if _WRITTEN_PATH.fullmatch(path) else quote(decoded, safe=_KEPT_IN_PATH)
    return Target(
        f"{scheme}://{user}{at}{host}{shown}{mark}{query}",
        scheme,
        _PORT.sub("", host).strip("[]"),
        _resource(decoded.decode(errors="surrogateescape"), query),
        query,
        method,
    )


def _check_authority(user: str, host: str) -> None:
    if not _NAME_AND_PASSWORD.fullmatch(user):
        raise ValueError("net/url: invalid userinfo")
    colon = host.rfind(":")
    if not host.endswith("]") and colon >= 0 and not _PORT.fullmatch(host[colon:]):
        raise ValueError(f'invalid port "{host[colon:]}" after host')
    if bad := _ESCAPE_IN_HOST.search(host) or _BAD_ESCAPE.search(host):
        raise ValueError(f'invalid URL escape "{bad[0]}"')
    if bad := _BAD_IN_HOST.search(host.replace("%", "")):
        raise ValueError(f'invalid character "{bad[0]}" in host name')


def _resource(path: str, query: str) -> str:
    clean = posixpath.normpath(path) if path else "."
    if clean.startswith("/"):
        # POSIX keeps two leading slashes; the comparison must not.
        clean = "/" + clean.lstrip("/")
    slash = "/" if len(path) > 1 and path.endswith("/") and clean != "/" else ""
    return clean + slash + (f"?{query}" if query else "")
