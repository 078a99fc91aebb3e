"""`kvplan models`: the model catalogue."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from planner.catalogue.entries import ModelEntry, models
from planner.commands.click_options import Sectioned, with_flags
from planner.errors import UnknownName, one_line
from planner.options.model import Output, output_of
from planner.options.tables import OUTPUT
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.tables import table
from planner.units import human_count, plural


@click.command(cls=Sectioned, name="models", epilog="\b\nExample: kvplan models llama-3")
@click.argument("query", required=False)
@with_flags(OUTPUT)
def command(query: str | None, **values: Any) -> None:
    """Models by name, alias, Hugging Face id or model type; all of them without QUERY."""
    output = output_of(values)
    found = models(query)
    if not found:
        raise UnknownName(f"no model matches {one_line(query or '', 60)!r}; `kvplan models` lists all of them")
    emit(_render(found, output), output.path)


def _render(found: list[ModelEntry], output: Output) -> str:
    if output.as_json:
        return to_json([asdict(entry) for entry in found])
    rows = [_row(entry) for entry in found]
    if output.as_csv:
        return to_csv(rows)
    cells = [[str(row["name"]), str(row["model_type"]), (row["parameters"] and human_count(int(row["parameters"]))) or "-",
              str(row["year"] or "-"), str(row["confidence"] or "-"), str(row["hf_id"] or "-")] for row in rows]  # fmt: skip
    return (
        table(
            ["name", "type", "parameters", "year", "known from", "Hugging Face id"],
            cells,
            left=2,
            drop=("known from", "Hugging Face id", "year"),
        )
        + f"\n{plural(len(found), 'model')}"
    )


def _row(entry: ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "model_type": entry.config.get("model_type"),
        "parameters": entry.parameters,
        "year": entry.year,
        "confidence": entry.confidence,
        "hf_id": entry.hf_id,
        "aliases": list(entry.aliases),
        "source": entry.source,
        "checked": entry.checked,
    }
