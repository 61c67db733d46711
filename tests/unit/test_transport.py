"""What travels: the agent and its request on stdin, and nothing in an argument."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from roles.core import agent, transport

MEMBERS = st.dictionaries(st.integers(0, 99).map(str), st.binary(max_size=3000), max_size=5)
JSON = st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8)


@given(st.dictionaries(st.text(), JSON), MEMBERS)
def test_a_request_arrives_as_it_was_sent(
    request: dict[str, object], members: dict[str, bytes]
) -> None:
    _, packed = transport.stdin(request, members)
    arrived = agent.unpack(packed)
    assert json.loads(arrived.pop("request.json")) == request
    assert arrived == members


def test_the_program_arrives_as_it_is() -> None:
    source = zlib.decompress(base64.b64decode(transport.program()))
    assert source == Path(agent.__file__).read_bytes()


def test_the_command_is_the_same_for_every_request() -> None:
    # Short enough for any shell, with nothing in it that another user of the host may not see.
    assert len(transport.COMMAND) < 200
    assert transport.COMMAND.startswith("python3 -I ")


def test_what_goes_to_stdin_does_not_show_itself() -> None:
    lines = transport.stdin({"do": "facts"}, {"0": b"hush"})
    assert f"{lines} {lines!r}" == "(request) (request)"
