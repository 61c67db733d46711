"""A scorecard as JUnit XML, for machines that count tests: a suite an area, a case a check."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET  # written here, never read

from roles.scorecard.card import Result, Scorecard

# Everything but the Char of XML 1.0 (https://www.w3.org/TR/xml/#charsets).
NO_CHAR = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(card: Scorecard) -> str:
    """The document. What is waived or does not apply is a skip, what was not tried a failure."""
    root = ET.Element("testsuites", name="scorecard")
    for area in card.areas:
        results = card.of(area)
        suite = ET.SubElement(root, "testsuite", name=area, hostname=_text(card.host))
        suite.set("timestamp", card.time)
        suite.set("tests", str(len(results)))
        suite.set("failures", str(sum(not each.holds for each in results)))
        suite.set("errors", "0")
        suite.set("skipped", str(sum(_is_skip(each) for each in results)))
        for result in results:
            _case(suite, result)
    ET.indent(root)
    octets: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return octets.decode() + "\n"


def _case(suite: ET.Element, result: Result) -> None:
    name = f"{result.id} {result.title}"
    case = ET.SubElement(suite, "testcase", classname=result.area, name=_text(name), time="0")
    if _is_skip(result):
        reason = result.waiver.reason if result.waiver else "; ".join(result.untried)
        ET.SubElement(case, "skipped", message=_text(f"{result.status}: {reason}"))
    elif not result.holds:
        lines = [f"{f.field}: {f.observed}; expected {f.expected}" for f in result.failures]
        lines += [*result.untried, *result.mends]
        message = f"{result.severity}, {result.status}"
        ET.SubElement(case, "failure", message=message).text = _text("\n".join(lines))
    if result.seen:
        ET.SubElement(case, "system-out").text = _text("\n".join(result.seen))


def _is_skip(result: Result) -> bool:
    return result.status in {"waived", "not applicable"}


def _text(text: str) -> str:
    return NO_CHAR.sub("\N{REPLACEMENT CHARACTER}", text)
