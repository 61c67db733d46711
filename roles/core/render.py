"""Templates into files: strict about unknown names, blind to the host."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from roles.core.secret import MASK

TEMPLATES = Path(__file__).parents[2] / "templates"


@functools.cache
def environment() -> Environment:
    """One environment for all templates. They are configuration files, not HTML."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - the output is configuration; `quoted` escapes values
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["quoted"] = quoted
    return made


def quoted(value: object) -> str:
    """A value as a JSON scalar, which is also a YAML scalar: no text can break out of it."""
    return json.dumps(value, ensure_ascii=False)


def render(template: str, values: Mapping[str, Any]) -> bytes:
    """The template of this path under templates/, ending in `.j2`, with these values.

    Raises:
        jinja2.UndefinedError: the template names a value that was not given.
        jinja2.TemplateNotFound: there is no such template.
        TypeError: a value is a secret that was not revealed; the file would hold its mask.
    """
    text = environment().get_template(f"{template}.j2").render(values)
    if MASK in text:
        raise TypeError(f"{template}: a secret is written as its mask; reveal it")
    return text.encode()
