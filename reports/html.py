"""A report as one HTML file: styles, figures and a few lines of script inside it, nothing fetched from anywhere.

Everything that comes from outside (names of models, devices and files, notes of runs) goes through Jinja2's
autoescape; a content security policy in the page forbids any request and any script but the one whose hash it names.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reports.blocks import Picture, Report, Table
from reports.cells import cell, heading, is_number, sort_key
from reports.style import GRID, INK, MUTED, PAPER, PARTS, SERIES

FULL = 760  # pixels: a figure fills its column, and no more than this
NOWRAP = 28  # longer words in a cell may wrap
PRINTED = 24  # rows of a table on paper
TEMPLATE = "report_template.html"
SCRIPT = "report_template.js"

# Colours of a figure that follow the page from light to dark; those of a heat map's cells stay as they are.
_VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper", PARTS["free"]: "free"} | {
    colour: f"s{i + 1}" for i, colour in enumerate(SERIES)
}
_COLOUR = re.compile("|".join(map(re.escape, _VARIABLES)))
_ID = re.compile(r'\bid="([^"]*)"')
_REFERENCE = re.compile(r"url\(#([^)]*)\)|href=\"#([^\"]*)\"")


def page(report: Report) -> str:
    """Writes the whole page."""
    script = _resource(SCRIPT)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests.update(
        picture=lambda block: isinstance(block, Picture),
        table=lambda block: isinstance(block, Table),
    )
    environment.filters.update(svg=inline_svg, tall=tall, alone=alone, rows=table_rows, headings=table_headings)
    template = environment.from_string(_resource(TEMPLATE))
    return str(template.render(report=report, script=Markup(script), policy=policy, printed=PRINTED)) + "\n"


def _resource(name: str) -> str:
    return files("reports").joinpath(name).read_text(encoding="utf-8")


def table_headings(table: Table) -> list[dict[str, Any]]:
    """Lists heading and alignment of each column that is shown."""
    shown = table.shown
    return [{"text": heading(str(name)), "number": any(map(is_number, shown[name]))} for name in shown.columns]


def table_rows(table: Table) -> list[list[dict[str, Any]]]:
    """Writes each cell as people read it, with the number it is sorted by."""
    shown = list(table.shown.columns)
    numbers = {name: any(map(is_number, table.shown[name])) for name in shown}
    records = (table.frame if table.view is None else table.view).head(table.rows).to_dict("records")
    return [
        [_cell(cell(str(name), row[name], _plain(row)), row[name], number=numbers[name]) for name in shown]
        for row in records
    ]


def _cell(words: str, value: Any, *, number: bool) -> dict[str, Any]:
    verdict = {"yes": "good", "no": "bad"}.get(words, "")
    return {
        "text": words,
        "sort": sort_key(value),
        "number": number,  # of the column: a dash among numbers stands where they do
        "short": len(words) <= NOWRAP,
        "verdict": verdict,
    }


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in row.items()}


def inline_svg(picture: Picture) -> Markup:
    """Returns the figure's SVG for the middle of a page.

    Ids carry the figure's name (several figures share a page) and only those that are referred to stay; colours are
    the page's variables, so that they follow it into the dark; title and description say what it shows.
    """
    text = picture.files["svg"].decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    wanted = {a or b for a, b in _REFERENCE.findall(text)}
    prefix = re.sub(r"[^a-z0-9-]", "-", picture.name.lower())
    text = _ID.sub(lambda m: f'id="{prefix}-{m.group(1)}"' if m.group(1) in wanted else "", text)
    text = _REFERENCE.sub(
        lambda m: f"url(#{prefix}-{m.group(1)})" if m.group(1) else f'href="#{prefix}-{m.group(2)}"', text
    )
    text = _COLOUR.sub(lambda m: f"var(--{_VARIABLES[m.group(0)]}, {m.group(0)})", text)
    head, _, body = text.partition(">")
    head = re.sub(r'\s(width|height|xmlns|xmlns:xlink|version)="[^"]*"', "", head)
    said = Markup('<title id="{0}-title">{1}</title><desc id="{0}-desc">{2}</desc>').format(
        prefix, picture.title, picture.alt
    )
    width = _width(text)
    opening = (
        f'{head} role="img" aria-labelledby="{prefix}-title {prefix}-desc" style="max-width: {max(width, FULL)}px">'
    )
    return Markup(opening + str(said) + re.sub(r"\n\s*", "\n", body))


def alone(block: Any, blocks: Sequence[Any]) -> bool:
    """Tells whether none stands beside a figure: it is the last of an odd number in a row."""
    at = next(i for i, other in enumerate(blocks) if other is block)
    first = at
    while first and isinstance(blocks[first - 1], Picture):
        first -= 1
    followed = at + 1 < len(blocks) and isinstance(blocks[at + 1], Picture)
    return not followed and (at - first) % 2 == 0


def tall(picture: Picture) -> int:
    """Counts the rows of the page's grid that a figure takes beside others: 2 or 3 for those much higher than wide."""
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', picture.files["svg"][:2000].decode("utf-8", "replace"))
    ratio = float(found.group(2)) / float(found.group(1)) if found else 1.0
    return 1 if ratio < 1.25 else 2 if ratio < 2.1 else 3


def _width(svg: str) -> int:
    """Width in CSS pixels at full size, from the view box in points."""
    found = re.search(r'viewBox="0 0 ([\d.]+)', svg)
    return round(float(found.group(1)) * 4 / 3) if found else 720


__all__ = ["inline_svg", "page"]
