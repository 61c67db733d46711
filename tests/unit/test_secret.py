"""A secret shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle
import traceback

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from hypothesis import given
from hypothesis import strategies as st

from roles.core import secret
from roles.core.secret import MASK, Secret

HUSH = Secret("hush-hush")


@pytest.mark.parametrize(
    "shown",
    [
        str(HUSH),
        repr(HUSH),
        f"{HUSH}",
        f"{HUSH!r:>40}".strip(),
        f"{HUSH:>40}",
        "%s" % HUSH,  # noqa: UP031
        "{}".format(HUSH),  # noqa: UP032
        str([HUSH]).strip("[]"),
    ],
)
def test_every_way_to_print_it_prints_a_mask(shown: str) -> None:
    assert shown == MASK


def test_it_is_never_serialised_or_copied() -> None:
    for carry in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
        with pytest.raises(TypeError) as refused:
            carry(HUSH)
        assert "hush" not in "".join(traceback.format_exception(refused.value))


def test_it_has_no_attributes_that_a_dump_of_objects_would_show() -> None:
    with pytest.raises(TypeError):
        vars(HUSH)


def test_it_is_compared_by_its_value() -> None:
    assert Secret("hush-hush") == HUSH
    assert Secret("other") != HUSH
    assert HUSH != "hush-hush"
    assert len({HUSH, Secret("hush-hush")}) == 1


@given(st.integers(1, 200))
def test_generated_values_have_their_length_and_alphabet(length: int) -> None:
    password = secret.password(length).reveal()
    assert len(password) == length
    assert set(password) <= set(secret.ALPHABET)
    hexadecimal = secret.hexadecimal(length).reveal()
    assert len(hexadecimal) == length
    int(hexadecimal, 16)


def test_no_two_generated_values_are_alike() -> None:
    assert len({secret.password(24).reveal() for _ in range(100)}) == 100


def test_the_hash_for_qbittorrent_is_the_one_that_it_verifies() -> None:
    salt, key = (base64.b64decode(part) for part in secret.pbkdf2(HUSH).reveal().split(":"))
    assert len(salt) == 16
    assert key == hashlib.pbkdf2_hmac("sha512", b"hush-hush", salt, 100_000)
    assert secret.pbkdf2(HUSH) != secret.pbkdf2(HUSH)


def test_the_hash_for_authelia_s_clients_is_the_one_that_it_verifies() -> None:
    _, kind, rounds, salt, key = secret.crypt(HUSH).reveal().split("$")
    assert (kind, rounds) == ("pbkdf2-sha512", "310000")
    raw = [base64.b64decode(part + "=" * (-len(part) % 4), b"./") for part in (salt, key)]
    assert raw[1] == hashlib.pbkdf2_hmac("sha512", b"hush-hush", raw[0], 310_000)
    # The digest that Authelia's documentation gives of its example.
    known = "c8p78n7pUMln0jzvd4aK4Q"
    made = hashlib.pbkdf2_hmac(
        "sha512", b"insecure_secret", base64.b64decode(known + "==", b"./"), 310_000
    )
    assert base64.b64encode(made, b"./").startswith(b"JNRBzwAo0ek5qKn50cFzzvE9RXV88h1w")


def test_a_signing_key_is_an_rsa_key_of_three_thousand_bits() -> None:
    key = serialization.load_pem_private_key(secret.rsa(48).reveal().encode(), None)
    assert isinstance(key, RSAPrivateKey) and key.key_size == 3072
