"""The programs that roles write to a host, as modules of a test."""

from __future__ import annotations

import types
from pathlib import PurePosixPath
from typing import Any

from roles.core.model import Desired, File


def text_of(role: Desired, path: str) -> str:
    """What a role wants to stand in a file."""
    return next(file for file in role.of(File) if file.path == path).content.decode()


def loaded(text: str, path: str, **given: Any) -> types.ModuleType:
    """Run the program's text as a module, which finds these names in it."""
    module = types.ModuleType(PurePosixPath(path).name)
    module.__dict__.update(given)
    exec(compile(text, path, "exec"), module.__dict__)  # noqa: S102 - the program itself
    return module
