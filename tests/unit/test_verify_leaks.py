"""A value is found in whatever form a program writes it down."""

from __future__ import annotations

import base64
import json

import pytest

from roles.core.secret import Secret
from roles.verify.leaks import Searcher

VALUE = "Zp4k/QmT9w+xL0vR"
KEY = (
    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg\n-----END-----\n"
)


@pytest.fixture
def searcher() -> Searcher:
    return Searcher(
        {
            "password": Secret(VALUE),
            "key": Secret(KEY),
            "tls_ca_certificate": Secret("a public certificate"),
            "short": Secret("abc"),
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        f"PASSWORD={VALUE}\n",
        json.dumps({"Env": [f"A={VALUE}"]}),
        f"postgres://u:{VALUE.replace('/', '%2F').replace('+', '%2B')}@db",
        base64.b64encode(f"{VALUE}\n".encode()).decode(),
    ],
)
def test_a_value_is_found(searcher: Searcher, text: str) -> None:
    assert searcher.found_in(text) == ["password"]


def test_a_key_is_found_without_its_line_ends(searcher: Searcher) -> None:
    assert searcher.found_in(json.dumps(KEY)) == ["key"]
    assert searcher.found_in(KEY.replace("\n", "")) == ["key"]


def test_what_is_public_or_too_short_to_tell_is_not_searched(searcher: Searcher) -> None:
    assert searcher.found_in("a public certificate abc") == []


def test_a_searcher_shows_no_value(searcher: Searcher) -> None:
    assert VALUE not in repr(searcher)
