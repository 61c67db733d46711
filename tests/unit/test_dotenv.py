"""A Compose .env file means here what it means to Compose, interpolation aside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roles.command.dotenv import DotenvError, parse, refers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VAR=VAL", {"VAR": "VAL"}),
        ('VAR="VAL"', {"VAR": "VAL"}),
        ("VAR='VAL'", {"VAR": "VAL"}),
        ("VAR: VAL", {"VAR": "VAL"}),
        ("VAR=VAL # comment", {"VAR": "VAL"}),
        ("VAR=VAL# not a comment", {"VAR": "VAL# not a comment"}),
        ('VAR="VAL # not a comment"', {"VAR": "VAL # not a comment"}),
        ('VAR="VAL" # comment', {"VAR": "VAL"}),
        ("VAR='$OTHER'", {"VAR": "$OTHER"}),
        ("VAR=$OTHER", {"VAR": "$OTHER"}),
        ("VAR=${OTHER:-x}", {"VAR": "${OTHER:-x}"}),
        ("VAR='Let\\'s go!'", {"VAR": "Let's go!"}),
        ('VAR="{\\"hello\\": \\"json\\"}"', {"VAR": '{"hello": "json"}'}),
        ('VAR="some\\tvalue"', {"VAR": "some\tvalue"}),
        ("VAR='some\\tvalue'", {"VAR": "some\\tvalue"}),
        ("VAR=some\\tvalue", {"VAR": "some\\tvalue"}),
        ('KEY="a\nb"\nX=1', {"KEY": "a\nb", "X": "1"}),
        ("KEY='a\nb'", {"KEY": "a\nb"}),
        ("export VAR=VAL", {"VAR": "VAL"}),
        ("  VAR =  VAL  ", {"VAR": "VAL"}),
        ("VAR=", {"VAR": ""}),
        ("VAR= # comment", {"VAR": ""}),
        ("VAR", {"VAR": ""}),
        ("VAR=a=b==", {"VAR": "a=b=="}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("# only\n\n   # comments\n", {}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=it's", {"A": "it's"}),
        ("", {}),
    ],
)
def test_what_compose_reads(text: str, expected: dict[str, str]) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("A=1\nhunter2 secret", 2, "is not NAME=value"),
        ("A=1\n=hunter2", 2, "is not NAME=value"),
        ("A='hunter2", 1, "nothing closes"),
        ('A=1\n\nB="hunter2\nC=3', 3, "nothing closes"),
        ('A="hunter2"x', 1, "behind the closing quote"),
    ],
)
def test_a_bad_line_is_named_and_not_shown(text: str, line: int, what: str) -> None:
    with pytest.raises(DotenvError) as refused:
        parse(text)
    assert str(refused.value).startswith(f"line {line} ")
    assert what in str(refused.value)
    assert "hunter2" not in str(refused.value)


def test_refers() -> None:
    assert refers("${X}") and refers("a$X")
    assert not refers("pa$$5") and not refers("\\$X") and not refers("$1")


NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,10}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=40)


@given(st.dictionaries(NAMES, TEXTS, max_size=5))
def test_what_is_written_with_double_quotes_is_read_back(values: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"')

    text = "".join(f'{name}="{quoted(value)}" # {name}\n' for name, value in values.items())
    assert parse(text) == values


@given(st.dictionaries(NAMES, TEXTS, max_size=5))
def test_what_is_written_with_single_quotes_is_read_back(values: dict[str, str]) -> None:
    kept = {name: value for name, value in values.items() if "\\" not in value}
    lines = (f"export {name}='" + value.replace("'", "\\'") + "'\n" for name, value in kept.items())
    assert parse("".join(lines)) == kept


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_without_being_shown(text: str) -> None:
    try:
        parse(text)
    except DotenvError as refused:
        assert len(str(refused)) < 90
