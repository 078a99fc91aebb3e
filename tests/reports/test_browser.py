"""The page in a real browser: nothing fetched, no error, tables that sort, figures that have a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, DRIVER, chromium

selenium = pytest.importorskip("selenium", reason="the browser test needs selenium")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver here: apt-get install chromium chromium-driver"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from reports.content import report
    from reports.folder import files_of, write_folder
    from reports.question import question
    from reports.runs import Run
    from tests.reports.conftest import measurement

    runs = (Run("first", "first.json", measurement()), Run("second", "second.json", measurement(1.4)))
    q = question(("llama-3.1-8b", "gemma-3-27b"), gpus=("l4", "h100-sxm"), runs=runs)
    folder = tmp_path_factory.mktemp("report") / "out"
    write_folder(str(folder), files_of(report(q, pair=runs, made=(("made on", "2026-11-22"),))), force=False)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = chromium(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def show(browser: Any, page: Path, width: int) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(page.as_uri())


def test_the_page_loads_without_errors_and_asks_nobody(browser: Any, page: Path) -> None:
    browser.get_log("performance")
    show(browser, page, 1280)
    assert browser.get_log("browser") == []
    asked = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.append(message["params"]["request"]["url"])
    assert [address for address in asked if not address.startswith(("data:", page.as_uri()))] == []


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_runs_over_the_side(browser: Any, page: Path, width: int) -> None:
    show(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    wide = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3:not(.drawn),p,figcaption,li,.drawing,pre')]"
        ".filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"
    )
    assert wide == []


def test_the_first_answer_is_read_on_a_phone_without_scrolling_to_the_side(browser: Any, page: Path) -> None:
    show(browser, page, 390)
    wide, clear, titles = browser.execute_script(
        "const t = document.querySelector('.stacks'); const cells = [...t.querySelectorAll('tbody tr:first-child td')];"
        "return [t.scrollWidth, t.clientWidth, cells.map(c => getComputedStyle(c, '::before').content)]"
    )
    assert wide <= clear and all(len(title) > 2 for title in titles)


def test_tables_sort_by_numbers_both_ways_and_by_words(browser: Any, page: Path) -> None:
    show(browser, page, 1280)
    column = "return [...document.querySelectorAll('#table-verdicts tbody tr')].map(r => r.cells[%d].%s)"
    press = "document.querySelectorAll('#table-verdicts th button')[%d].click()"
    numbers = column % (3, "dataset.n")
    browser.execute_script(press % 3)
    rising = [float(value) for value in browser.execute_script(numbers)]
    assert rising == sorted(rising) and len(set(rising)) > 1
    state = "return document.querySelectorAll('#table-verdicts th')[3].getAttribute('aria-sort')"
    assert browser.execute_script(state) == "ascending"
    browser.execute_script(press % 3)
    falling = [float(value) for value in browser.execute_script(numbers)]
    assert falling == sorted(rising, reverse=True) and browser.execute_script(state) == "descending"
    browser.execute_script(press % 1)
    names = browser.execute_script(column % (1, "textContent"))
    assert names == sorted(names)


def test_each_figure_has_a_name_and_a_description_for_those_who_cannot_see_it(browser: Any, page: Path) -> None:
    show(browser, page, 1280)
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => [s.getAttribute('role'),"
        " ...s.getAttribute('aria-labelledby').split(' ').map(i => (document.getElementById(i) || {}).textContent || '')])"
    )
    assert len(figures) > 15
    for role, name, description in figures:
        assert role == "img" and name and len(description) > 60


def test_figures_are_drawn_and_their_text_stays_inside(browser: Any, page: Path) -> None:
    show(browser, page, 390)
    outside = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].flatMap(s => { const b = s.getBoundingClientRect();"
        " return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect();"
        " return r.left < b.left - 3 || r.right > b.right + 3 || r.bottom > b.bottom + 3; }).map(t => t.textContent); })"
    )
    assert outside == []
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"
    )
    assert all(size > 60 for size in sizes)


def test_the_dark_page_is_dark_and_paper_is_white(browser: Any, page: Path) -> None:
    def colour(features: dict[str, Any]) -> str:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", features)
        show(browser, page, 1280)
        return str(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))

    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    assert colour(dark) == "rgb(13, 17, 23)"
    assert colour({"media": "print", **dark}) == "rgb(255, 255, 255)"
    assert colour({"media": "", "features": []}) == "rgb(246, 248, 250)"


def test_the_page_reads_without_scripts(browser: Any, page: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(browser, page, 1280)
        from selenium.webdriver.common.by import By

        assert "fit" in browser.find_element(By.CLASS_NAME, "answer").text
        assert browser.find_elements(By.CSS_SELECTOR, "th button") == []
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
