"""The page and the Markdown: self-contained, escaped, the same each time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from planner.lookup import model_spec
from reports import html, markdown
from reports.blocks import Report
from reports.content import report
from reports.folder import files_of
from reports.question import Question, question
from reports.runs import Run

Make = Callable[..., Run]
HOSTILE = '<script>alert("x")</script>|`a` <b>$x$ & ![i](http://e.example/)'
MADE = (("made on", "2026-11-22"), ("kvplan", "0.1.0"))


@pytest.fixture(scope="module")
def whole() -> Report:
    """Two models on two devices with a run and a pair."""
    from tests.reports.conftest import measurement

    runs = (Run("first", "first.json", measurement()), Run("second", "second.json", measurement(1.4)))
    q = question(("llama-3.1-8b", "gpt2"), gpus=("l4", "h100-sxm"), runs=runs)
    return report(q, pair=runs, commands=("kvplan report gpt2",), made=MADE, skipped=("x.json: damaged",))


@pytest.fixture(scope="module")
def text(whole: Report) -> str:
    return html.page(whole)


class Tags(HTMLParser):
    """Every element with its attributes, and whether all of them are closed."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_every_element_is_closed_and_every_id_is_its_own(text: str) -> None:
    tags = Tags(text)
    assert not tags.open
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"][1:] for attributes in tags.of("a") if (attributes.get("href") or "").startswith("#")}  # type: ignore[index]
    assert targets <= set(ids)


def test_nothing_is_fetched_from_anywhere(text: str) -> None:
    tags = Tags(text)
    for tag, attributes in tags.found:
        for name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or value == "data:,", (tag, name, value)
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    policy = next(m["content"] for m in tags.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'") and "sha256-" in policy


def test_each_figure_has_a_name_and_a_text_alternative(text: str, whole: Report) -> None:
    tags = Tags(text)
    ids = {attributes.get("id") for _, attributes in tags.found}
    drawings = tags.of("svg")
    assert len(drawings) == len(whole.pictures) > 15
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert set((drawing["aria-labelledby"] or "").split()) <= ids
    said = unescape(text)
    assert all(picture.alt in said and picture.title in said for picture in whole.pictures)


def test_references_inside_a_drawing_lead_to_its_own_parts(text: str) -> None:
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    for reference in re.findall(r"url\(#([^)]+)\)", text):
        assert reference in ids


def test_colours_follow_the_page_into_the_dark(text: str) -> None:
    assert "prefers-color-scheme: dark" in text and "@media print" in text
    inside = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--ink, #1b1f24)" in inside
    assert not re.findall(r"(?<!, )#1b1f24", inside)


def test_every_section_table_and_figure_has_a_sentence(whole: Report) -> None:
    names = [section.name for section in whole.sections]
    assert names == [
        "memory",
        "region",
        "accuracy",
        "speed",
        "bounds",
        "comparison",
        "equations",
        "environment",
        "limits",
        "reproduce",
    ]
    for section in whole.sections:
        assert section.sees.endswith(".")
    for block in (*whole.pictures, *whole.tables):
        assert block.sees.rstrip().endswith((".", "tokens")), block.sees


@pytest.fixture(scope="module")
def hostile() -> Report:
    from tests.reports.conftest import measurement

    spec = replace(model_spec("gpt2"), name=HOSTILE)
    where = replace(measurement().environment, device=HOSTILE)
    found = replace(measurement(model=HOSTILE), environment=where, notes=(HOSTILE,), warnings=(HOSTILE,))
    run = Run(HOSTILE, f"{HOSTILE}.json", found)
    q = question((spec,), gpus=("t4",), runs=(run,))
    return report(q, commands=(HOSTILE,), made=(("made on", HOSTILE),), skipped=(HOSTILE,))


def test_markup_in_names_shows_as_text_on_the_page(hostile: Report) -> None:
    text = html.page(hostile)
    tags = Tags(text)
    assert len(tags.of("script")) == 1 and not tags.of("b") and not tags.of("img")
    assert "alert(&#34;x&#34;)" in text and 'alert("x")' not in text


def test_markup_in_names_shows_as_text_in_markdown(hostile: Report) -> None:
    text = markdown.page(hostile)
    outside = re.sub(r"^(`{3,})\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in outside and "<b>" not in outside
    assert not re.search(r"(?<!\\)!\[i\]", outside)
    rows = [line for line in outside.splitlines() if line.startswith("|")]
    assert rows
    for block in re.findall(r"(?:^\|.*\n)+", outside, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(columns) == 1, block[:300]


def test_a_dollar_in_a_name_is_no_formula(hostile: Report) -> None:
    drawn = next(picture for picture in hostile.pictures if picture.name == "bytes-per-token")
    assert "$x$" in drawn.files["svg"].decode() or "…" in drawn.files["svg"].decode()


def test_the_same_input_gives_the_same_bytes(make_run: Make) -> None:
    def made(date: str) -> dict[str, bytes]:
        q = question(("gpt2",), gpus=("t4",), runs=(make_run(),))
        return files_of(report(q, made=(("made on", date),)))

    first, later = made("2026-11-22"), made("2027-01-01")
    assert {name: data.replace(b"2027-01-01", b"2026-11-22") for name, data in later.items()} == first
    assert {name for name in first if first[name] != later[name]} == {"report.html", "report.md", "report.json"}
    changed = [
        (a, b)
        for a, b in zip(first["report.md"].decode().splitlines(), later["report.md"].decode().splitlines(), strict=True)
        if a != b
    ]
    assert changed == [("- made on: 2026-11-22", "- made on: 2027-01-01")]


def test_each_table_is_there_as_csv_and_as_json_in_base_units(whole: Report) -> None:
    found = files_of(whole)
    raw = json.loads(found["tables/verdicts.json"])
    rows = raw["rows"]
    assert raw["columns"][:3] == ["model", "device", "fits"] and len(rows) == 4
    assert rows[0]["total_bytes"] > 1 << 30 and isinstance(rows[0]["total_bytes"], int)
    head = found["tables/verdicts.csv"].decode().splitlines()[0]
    assert head.split(",") == raw["columns"]
    for picture in whole.pictures:
        for name in (
            f"figures/{picture.name}.svg",
            f"figures/{picture.name}.png",
            f"tables/{picture.name}.csv",
            f"tables/{picture.name}.json",
        ):
            assert name in found
    listed = json.loads(found["report.json"])
    assert sorted(found) == listed["files"] and listed["kind"] == "kvplan report"
    assert set(listed["figures"]) == {picture.name for picture in whole.pictures}


@pytest.mark.usefixtures("undrawn")
def test_long_tables_are_cut_on_the_page_and_whole_in_the_files(make_run: Make) -> None:
    runs = tuple(make_run(f"run {i}") for i in range(12))
    made = report(Question((), (), question(("gpt2",)).request, runs=runs))
    points = next(table for table in made.tables if table.name == "points")
    assert points.left_out > 0
    assert f"{points.left_out:,} more rows in tables/points.csv" in html.page(made)
    assert files_of(made)["tables/points.csv"].count(b"\n") == len(points.frame) + 1


@pytest.mark.usefixtures("undrawn")
def test_more_runs_than_lines_can_be_told_apart_are_said(make_run: Make) -> None:
    runs = tuple(make_run(f"run {i}") for i in range(12))
    made = report(Question((), (), question(("gpt2",)).request, runs=runs))
    assert "Figures show the first 4 of 12 runs" in html.page(made)


def test_the_template_is_part_of_the_package() -> None:
    folder = Path(html.__file__).parent
    assert (folder / html.TEMPLATE).is_file() and (folder / html.SCRIPT).is_file()
