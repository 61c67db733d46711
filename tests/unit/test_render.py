"""Templates become files exactly, and a mistake in one is an error and never a wrong file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from roles.core import render
from roles.core.secret import Secret


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(render, "TEMPLATES", tmp_path)
    render.environment.cache_clear()
    yield tmp_path
    render.environment.cache_clear()


def rendered(folder: Path, text: str, **values: object) -> str:
    (folder / "file.j2").write_text(text)
    return render.render("file", values).decode()


def test_a_value_is_written_as_it_is(templates: Path) -> None:
    assert rendered(templates, "a = {{ a }}\n", a="<&'\"ü") == "a = <&'\"ü\n"


def test_a_block_leaves_no_line_behind(templates: Path) -> None:
    text = "[\n{% for n in many %}\n    {% if n %}\n  {{ n }}\n    {% endif %}\n{% endfor %}\n]\n"
    assert rendered(templates, text, many=[0, 1, 2]) == "[\n  1\n  2\n]\n"


@pytest.mark.parametrize("text", ["", "no end of line", "two ends\n\n"])
def test_the_end_of_a_file_stays(templates: Path, text: str) -> None:
    assert rendered(templates, text) == text


@pytest.mark.parametrize(
    "text", ["{{ missing }}", "{{ a.missing }}", "{% if missing %}{% endif %}"]
)
def test_a_name_that_was_not_given_is_an_error(templates: Path, text: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        rendered(templates, text, a={})


def test_a_template_that_is_not_there_is_an_error(templates: Path) -> None:
    with pytest.raises(jinja2.TemplateNotFound, match=r"none\.j2"):
        render.render("none", {})


@pytest.mark.parametrize("text", ["{{ s }}", "a{{ s }}b", "{{ s | quoted }}", "{{ 'x' ~ s }}"])
def test_a_secret_that_nobody_revealed_never_becomes_a_mask_in_a_file(
    templates: Path, text: str
) -> None:
    with pytest.raises(TypeError, match=r"is written as its mask|not JSON serializable"):
        rendered(templates, text, s=Secret("hush"))


@given(st.text() | st.integers() | st.booleans() | st.lists(st.text()))
def test_a_quoted_value_is_the_same_value_for_json_and_yaml(value: object) -> None:
    assert json.loads(render.quoted(value)) == value
    # YAML 1.2 allows fewer characters than JSON, and pyyaml refuses the others by name.
    if render.quoted(value).isprintable():
        assert yaml.safe_load(f"key: {render.quoted(value)}") == {"key": value}
