"""The same report as Markdown, its figures as files beside it."""

from __future__ import annotations

import re

from reports.blocks import Lines, Picture, Report, Table
from reports.cells import cell, heading, is_number

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#])")
_FENCE = re.compile(r"`+")


def text(words: str) -> str:
    r"""Writes words so that nothing in them is markup, in Markdown or in HTML.

    >>> text("a|b <script> *c*")
    'a\\|b &lt;script&gt; \\*c\\*'
    """
    one = " ".join(words.split())
    one = one.replace("&", "&amp;")
    one = _SPECIAL.sub(r"\\\1", one)
    return one.replace("\\<", "&lt;").replace("\\>", "&gt;")


def page(report: Report) -> str:
    """Writes the whole report."""
    lines = [f"# {text(report.title)}", "", text(report.question), "", f"**{text(report.answer)}**", ""]
    if report.headline is not None:
        lines += [*_table(report.headline), "", text(report.headline.sees), ""]
    for card in report.cards:
        lines.append(f"- **{text(card.title)}: {text(card.answer)}**")
        lines += [f"  - {text(line)}" for line in card.lines]
    if report.cards:
        lines.append("")
    lines += [f"- {text(line)}" for line in report.summary]
    for section in report.sections:
        lines += ["", f"## {text(section.title)}", "", text(section.sees), ""]
        if section.name == "environment":
            lines += [f"- {text(name)}: {text(value)}" for name, value in report.made]
            lines.append("")
        for block in section.blocks:
            lines += _block(block)
    out = "\n".join(lines) + "\n"
    return re.sub(r"\n{3,}", "\n\n", out)


def _block(block: Picture | Table | Lines) -> list[str]:
    if isinstance(block, Picture):
        return [
            f"### {text(block.title)}",
            "",
            text(block.sees),
            "",
            f"![{text(block.alt)}](figures/{block.name}.svg)",
            "",
        ]
    if isinstance(block, Table):
        left = (
            [
                f"{block.left_out:,} more {'row' if block.left_out == 1 else 'rows'} in [tables/{block.name}.csv](tables/{block.name}.csv)",
                "",
            ]
            if block.left_out
            else []
        )
        return [f"### {text(block.title)}", "", text(block.sees), "", *_table(block), "", *left]
    head = [f"### {text(block.title)}", ""] if block.title else []
    if block.code:
        fence = "`" * max([3, *(len(run) + 1 for line in block.items for run in _FENCE.findall(line))])
        return [*head, fence, *(" ".join(line.splitlines()) for line in block.items), fence, ""]
    return [*head, *(f"- {text(line)}" for line in block.items), ""]


def _table(table: Table) -> list[str]:
    shown = table.shown
    names = [str(name) for name in shown.columns]
    align = ["---:" if any(map(is_number, shown[name])) else "---" for name in names]
    lines = [f"| {' | '.join(text(heading(name)) for name in names)} |", f"| {' | '.join(align)} |"]
    for record in (table.frame if table.view is None else table.view).head(table.rows).to_dict("records"):
        row = {str(key): value for key, value in record.items()}
        lines.append(f"| {' | '.join(text(cell(name, row[name], row)) for name in names)} |")
    return lines
