"""The scorecard's pages in a real browser, judged by axe-core against WCAG 2.2 AA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys

from roles.scorecard import page
from roles.scorecard.comparison import Comparison
from tests.lab.browser import bare_chromium
from tests.lab.paths import REPOSITORY
from tests.scorecards import card, full

AXE = REPOSITORY / "build" / "axe" / "axe_playwright_python" / "axe.min.js"
# The tags of every rule that WCAG 2.2 at level AA has (axe-core, doc/rule-descriptions.md).
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
RUN = """
    const done = arguments[arguments.length - 1];
    axe.run({runOnly: {type: 'tag', values: arguments[0]}}).then(done, e => done({error: `${e}`}));
"""
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; });"
PAGES = {
    "scorecard": page.scorecard(full("as it is")),
    "comparison": page.comparison(Comparison(full("before"), full("after", shift=17))),
    "empty": page.scorecard(card([])),
}


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with bare_chromium(Path(tmp_path_factory.mktemp("browser"))) as driver:
        yield driver


def show(chrome: Chrome, path: Path, width: int, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chrome.get(path.as_uri())


def judged(chrome: Chrome) -> dict[str, set[str]]:
    """The rules that a page breaks, keeps, and that axe-core could not decide."""
    assert AXE.is_file(), "axe-core is missing; run: make build/axe/installed"
    chrome.execute_script(AXE.read_text())
    found: dict[str, Any] = chrome.execute_async_script(RUN, RULES)
    assert "error" not in found, found
    kinds = ("violations", "passes", "incomplete")
    return {kind: {rule["id"] for rule in found[kind]} for kind in kinds}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_page_is_accessible(
    chrome: Chrome, tmp_path: Path, name: str, width: int, scheme: str
) -> None:
    path = tmp_path / f"{name}.html"
    path.write_text(PAGES[name])
    show(chrome, path, width, scheme)
    chrome.execute_script(OPEN)
    found = judged(chrome)
    assert found["violations"] == set()
    assert found["incomplete"] == set()
    assert {"color-contrast", "html-has-lang", "document-title"} <= found["passes"]
    ground = chrome.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(246, 245, 242)") is (scheme == "light")
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    needed, there = chrome.execute_script(widths)
    assert needed <= there


def test_a_page_with_barriers_is_found_out(chrome: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<!DOCTYPE html><title>x</title><p style='color:#bbb;background:#fff'>grey")
    show(chrome, path, 360, "light")
    assert {"color-contrast", "html-has-lang"} <= judged(chrome)["violations"]


def test_the_evidence_opens_by_keyboard(chrome: Chrome, tmp_path: Path) -> None:
    path = tmp_path / "scorecard.html"
    path.write_text(PAGES["scorecard"])
    show(chrome, path, 360, "light")
    summary = chrome.find_element("css selector", "summary")
    assert not chrome.execute_script("return document.querySelector('details').open")
    summary.send_keys(Keys.ENTER)
    assert chrome.execute_script("return document.querySelector('details').open")
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert chrome.execute_script(outline) == "solid"
