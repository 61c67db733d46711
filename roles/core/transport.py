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

COMMAND = (
    "python3 -I -c 'import sys,zlib,base64;"
    "exec(zlib.decompress(base64.b64decode(sys.stdin.readline())))'"
)


@functools.cache
def program() -> str:
    """The agent's source, packed into one line."""
    source = Path(__file__).with_name("agent.py").read_bytes()
    return base64.b64encode(zlib.compress(source)).decode()


def stdin(request: Mapping[str, Any], members: Mapping[str, bytes] | None = None) -> list[str]:
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
    return [program(), base64.b64encode(buffer.getvalue()).decode()]
