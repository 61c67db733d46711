"""How a request travels: the agent's program and one tar over stdin, nothing in an argument."""

from __future__ import annotations

import base64
import functools
import io
import json
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AGENT = Path(__file__).with_name("agent.py")
# UTF-8 whatever the host's locale is: names of files and what programs say.
COMMAND = (
    "python3 -I -X utf8 -c 'import sys,zlib,base64;"
    "exec(zlib.decompress(base64.b64decode(sys.stdin.readline())))'"
)


class Lines(list[str]):
    """What goes to stdin; pyinfra prints its arguments at -v, and these are long and secret."""

    def __repr__(self) -> str:
        return "(request)"


@functools.cache
def program(path: Path = AGENT) -> str:
    """The source of the agent, or of another program that travels, packed into one line."""
    return base64.b64encode(zlib.compress(path.read_bytes())).decode()


def stdin(request: Mapping[str, Any], members: Mapping[str, bytes] | None = None) -> Lines:
    """The two lines that COMMAND reads: the program and the tar with the request and its files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in {
            "request.json": json.dumps(request).encode(),
            **(members or {}),
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o600
            tar.addfile(member, io.BytesIO(content))
    return Lines((program(), base64.b64encode(buffer.getvalue()).decode()))
