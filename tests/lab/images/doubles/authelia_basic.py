"""The Authorization header: names and passwords for programs (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import re

_SCHEMES = ("basic", "bearer")
_FOREIGN = re.compile(r"[^A-Za-z0-9+/]")


class HeaderError(Exception):
    """A header that cannot be read; the text is Authelia's."""


def credentials(header: str) -> tuple[str, str] | None:
    """Name and password of a header, or None where it is not about them.

    Raises:
        HeaderError: it is no header of a known scheme, or its value is broken.
    """
    if not header:
        return None
    scheme, blank, value = header.partition(" ")
    if not blank:
        raise HeaderError("invalid scheme: the scheme is missing")
    scheme = scheme.lower()
    if scheme not in _SCHEMES:
        raise HeaderError(f"invalid scheme: scheme with name '{scheme}' is unknown")
    return _basic(value) if scheme == "basic" else None


def _basic(value: str) -> tuple[str, str]:
    try:
        decoded = base64.b64decode(value, validate=True).decode(errors="replace")
    except binascii.Error as error:
        bad = _FOREIGN.search(value)
        place = bad.start() if bad else len(value)
        raise HeaderError(
            "invalid value: failed to parse base64 basic scheme value: illegal base64 data at "
            f"input byte {place}"
        ) from error
    name, colon, password = decoded.partition(":")
    if not colon:
        raise HeaderError(
            "invalid value: failed to find the username password separator in the decoded basic "
            "scheme value"
        )
    for what, text in (("username", name), ("password", password)):
        if not text:
            raise HeaderError(
                f"invalid value: failed to find the {what} in the decoded basic value as it was "
                "empty"
            )
    return name, password
