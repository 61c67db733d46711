"""What a scorecard is written as: table, JUnit XML, pages. No text of a host gets out of place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given

from roles.core.secret import Secret
from roles.scorecard import page, terminal
from roles.scorecard.card import AREAS, Failure, Scorecard
from roles.scorecard.catalogue import Area
from roles.scorecard.comparison import Comparison
from roles.scorecard.junit import junit
from roles.scorecard.written import LeakError, refuse_leaks, verdict
from roles.verify.leaks import Searcher
from tests.scorecards import TEXTS, card, full, result

VOID = {"meta", "br", "img", "link", "input"}
KNOWN = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "footer", "h1", "h2"),
    *("h3", "p", "a", "ul", "li", "div", "span", "details", "summary", "strong"),
}


class Reader(HTMLParser):
    """The tags of a page, held against each other, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.targets: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        values = dict(attrs)
        if "id" in values:
            self.ids.append(str(values["id"]))
        if "href" in values:
            self.targets.add(str(values["href"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    return reader


def pages(text: str, areas: Sequence[Area] = AREAS) -> list[str]:
    before, after = full(text, areas=areas), full(text, 17, areas)
    return [page.scorecard(after), page.comparison(Comparison(before, after))]


@given(TEXTS)
def test_no_text_becomes_a_tag(text: str) -> None:
    # Every status is in two areas too, and every severity.
    for html in pages(text, AREAS[:2]):
        reader = read(html)
        assert reader.tags <= KNOWN
        assert not any(name.startswith("on") for name in reader.attributes)
        flat = "".join(text.split())
        if "\r" not in text and "\0" not in text:
            assert flat in "".join(reader.text.split())


def test_a_page_needs_nothing_else() -> None:
    for html in pages("x"):
        reader = read(html)
        assert all(target.startswith("#") for target in reader.targets)
        assert {target[1:] for target in reader.targets} <= set(reader.ids)
        assert "src" not in reader.attributes and "url(" not in html and "@import" not in html
        assert "default-src 'none'" in html


def test_the_page_has_what_the_card_has() -> None:
    reader = read(page.scorecard(full()))
    overall = full().overall
    assert f"{overall.held} of {overall.number} checks pass" in reader.text
    for check in full().checks:
        assert check.id in reader.text
    assert "34 of 127 checks" in reader.text


def test_an_empty_card_is_a_page_too() -> None:
    empty = card([])
    read(page.scorecard(empty))
    read(page.comparison(Comparison(empty, empty)))
    assert "0 of 0 checks pass" in "\n".join(terminal.lines(empty, colour=False))
    parsed(empty)


def parsed(made: Scorecard) -> ET.Element:
    return ET.fromstring(junit(made).encode())  # noqa: S314 - made here


@given(TEXTS)
def test_junit_is_well_formed_and_adds_up(text: str) -> None:
    made = full(text)
    root = parsed(made)
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == list(made.areas)
    for suite in suites:
        assert suite.get("tests") == str(len(suite.findall("testcase")))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    assert len(root.findall(".//failure")) == len(made.to_mend())


def test_colour_is_only_where_it_is_wanted() -> None:
    compared = Comparison(full(), full(shift=17))
    for lines in (terminal.lines,):
        assert "\x1b[" not in "\n".join(lines(full(), colour=False))
        assert "\x1b[31m" in "\n".join(lines(full(), colour=True))
    assert "\x1b[" not in "\n".join(terminal.compared(compared, colour=False))
    assert "\x1b[" in "\n".join(terminal.compared(compared, colour=True))


def test_a_host_cannot_steer_the_terminal() -> None:
    text = "\n".join(terminal.lines(full("\x1b[2J\x07\r\u202e"), colour=False))
    assert not set(text) & set("\x1b\x07\r\u202e")


def test_the_table_adds_up_and_names_what_is_open() -> None:
    made = card(
        [
            result(1),
            result(2, severity="high", status="not tried", untried=["no route"]),
            result(
                3,
                status="failed",
                failures=[Failure(field="f", observed="o", expected="e", mend="make apply")],
            ),
            result(4, status="failed", severity="low"),
        ]
    )
    lines = list(terminal.lines(made, colour=False))
    row = next(line.split() for line in lines if line.startswith("security"))
    assert row == ["security", "1", "0", "2", "1", "0", "38.0", "%", "F"]
    text = "\n".join(lines)
    order = [text.index(word) for word in ("CRITICAL SEC-03", "HIGH SEC-02", "LOW SEC-04")]
    assert order == sorted(order)
    for word in ("f: o; expected e", "make apply", "not tried: no route"):
        assert word in text
    assert "192.168.1.10: F, 38.0 %, 1 of 4 checks pass, 1 critical open" in text


SECRET = 'Zp4k"<QmT9w&xL0vR'


@pytest.mark.parametrize(
    "changes",
    [
        {"seen": [f"env PASSWORD={SECRET}"]},
        {
            "status": "failed",
            "failures": [{"field": SECRET, **dict.fromkeys(("observed", "expected", "mend"), "")}],
        },
        {"status": "not tried", "untried": [f"login with {SECRET} failed"]},
    ],
    ids=["evidence", "failure", "reason"],
)
def test_a_report_with_a_secret_is_not_written(changes: dict[str, object]) -> None:
    searcher = Searcher({"admin_password": Secret(SECRET)})
    made = card([result(1), result(2, **changes)])
    with pytest.raises(LeakError, match=r"SEC-02 .*admin_password") as refused:
        refuse_leaks(made, [page.scorecard(made)], searcher)
    assert SECRET not in str(refused.value)
    harmless = card([result(1)])
    refuse_leaks(harmless, [junit(harmless)], searcher)


def test_a_secret_anywhere_else_is_found_in_what_is_written() -> None:
    searcher = Searcher({"admin_password": Secret("plainpassword")})
    made = card([result(1)], host="plainpassword")
    with pytest.raises(LeakError, match="admin_password"):
        refuse_leaks(made, [junit(made)], searcher)


@pytest.mark.parametrize(
    ("results", "least", "code"),
    [
        ([result(1)], None, 0),
        ([result(1), result(2, status="failed")], None, 1),
        ([result(1), result(2, status="failed", severity="low")], None, 0),
        ([result(1), result(2, status="failed")], 50.0, 0),
        ([result(1), result(2, status="failed")], 50.1, 1),
        ([], 1.0, 1),
    ],
)
def test_the_exit_code(results: list[object], least: float | None, code: int) -> None:
    assert verdict(card(results), least) == code  # type: ignore[arg-type]


def test_the_formula_is_written_as_it_is_computed() -> None:
    text = " ".join(read(page.scorecard(full())).text.split())
    assert "weighs 8 when it is critical, 4 when it is high, 2 when it is medium" in text
    assert re.search(r"A from 90 %, B from 80 %, C from 70 %, D from 60 %, F below\.", text)
