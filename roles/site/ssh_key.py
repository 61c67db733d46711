"""Public key lines as sshd(8) reads them in authorized_keys."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

LINE = re.compile(
    r"(?:(?P<options>(?:[^\s\"]|\"(?:[^\"\\]|\\.)*\")+) +)?"
    r"(?P<kind>(?:sk-)?(?:ssh|ecdsa)-[a-z0-9.@-]+) +(?P<blob>\S+)(?: +.*)?"
)
# How many parts a key of a kind has, its name included (RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4,
# OpenSSH's PROTOCOL.u2f).
PARTS = {
    "ecdsa-sha2-nistp256": 3,
    "ecdsa-sha2-nistp384": 3,
    "ecdsa-sha2-nistp521": 3,
    "sk-ecdsa-sha2-nistp256@openssh.com": 4,
    "sk-ssh-ed25519@openssh.com": 3,
    "ssh-ed25519": 2,
    "ssh-rsa": 3,
}
# NIST SP 800-57 part 1: 128 bits of strength.
SMALLEST_RSA = 3072
DAMAGED = "is cut off or damaged; copy the whole line from the .pub file"


def problem(line: str) -> str:
    """What is wrong with a line, empty if nothing; the line itself is never repeated."""
    if "PRIVATE KEY" in line:
        return "is a private key; give the line from the .pub file, and make a new pair"
    found = LINE.fullmatch(line)
    if not found or not line.isprintable():
        return "is not a public key line; write e.g. ssh-ed25519 AAAA... me"
    kind = found["kind"]
    if kind not in PARTS:
        return f"is a public key of a kind that is not safe ({kind}); use ssh-keygen -t ed25519"
    if found_damage := damage(kind, found["blob"]):
        return found_damage
    if kind == "ssh-rsa" and _modulus_bits(found["blob"]) < SMALLEST_RSA:
        return f"is an RSA key under {SMALLEST_RSA} bits; make one with ssh-keygen -t ed25519"
    return ""


def damage(kind: str, blob: str) -> str:
    """What is wrong with the base64 text of a key whose kind is in PARTS; empty if nothing."""
    try:
        parts = list(_parts(base64.b64decode(blob, validate=True)))
    except ValueError:
        return DAMAGED
    whole = len(parts) == PARTS[kind] and parts[0] == kind.encode()
    return "" if whole and (kind != "ssh-ed25519" or len(parts[1]) == 32) else DAMAGED


def _modulus_bits(blob: str) -> int:
    return int.from_bytes(list(_parts(base64.b64decode(blob)))[2], "big").bit_length()


def _parts(blob: bytes) -> Iterator[bytes]:
    """The length-prefixed parts of a key (RFC 4251 section 5).

    Raises:
        ValueError: a part is longer than what is left.
    """
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError("cut off")
        yield blob[4 : 4 + length]
        blob = blob[4 + length :]
