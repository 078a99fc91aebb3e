"""`kvplan estimate`: how much memory a model's KV cache takes, and whether it all fits."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.click_options import Sectioned, with_flags
from planner.commands.quick import estimate
from planner.options.tables import ESTIMATE


@click.command(
    cls=Sectioned,
    name="estimate",
    epilog="\b\nExample: kvplan estimate llama-3.1-8b --seq 8k --batch 16 --gpu l4",
)
@with_flags(ESTIMATE, model=True, several=True)
def command(**values: Any) -> None:
    """Memory of a model: its KV cache to the byte, weights, activations, overhead.

    MODEL: a name of `kvplan models` or of Hugging Face, a config.json or its folder, or - for one on stdin. Several
    models, devices or batches are compared. Exit code 3: the verdict is no; of several, all are.
    """
    estimate(values)
