"""The flags of `lms load` (LM Studio 0.4), and what they ask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from planner.engines.base import Options
from planner.engines.placement import Placement
from planner.errors import BadRequest
from planner.launch.program import Program
from planner.launch.question import Question
from planner.launch.table import Table, table

USED = """
-c|--context-length=                        ctx_size count
--parallel=                                 parallel count
--gpu=                                      offload text
"""
MATTERS = """
--ttl= : the model is unloaded when idle for so many seconds
--estimate-only : LM Studio prints its own estimate and loads nothing
"""
QUIET = "identifier= -y|--yes host= port= exact log-level= quiet verbose"
TABLE: Table = table("lmstudio", "LM Studio 0.4, lms load", USED, matters=MATTERS, quiet=QUIET, equals=True)
DEFAULT_TOKENS = 4096


def lms_question(program: Program, values: dict[str, Any], rest: Sequence[str]) -> Question:
    """Builds the question of `lms load MODEL`: what it does not say is set in the app, and its defaults are taken."""
    model = str(rest[0]) if rest else None
    notes = ["what the command does not say, the app's settings of this model do: its defaults are taken"]
    length = values.get("ctx_size")
    if length is None:
        length = DEFAULT_TOKENS
        notes.append(f"no --context-length: LM Studio takes {DEFAULT_TOKENS:,}")
    slots = values.get("parallel") or 1
    if model is not None and re.search(r"(?<![a-z])mlx(?![a-z])", model.lower()):
        notes.append("an MLX model runs in LM Studio's MLX engine: as mlx-lm; what does not fit shortens the context")
        return Question(
            engine="mlx", said=program.said, model=model, requests=slots, seq_tokens=length, options=Options(), notes=tuple(notes)
        )  # fmt: skip
    return Question(
        engine="lmstudio",
        said=program.said,
        model=model,
        usual_weights="Q4_K_M",
        requests=slots,
        seq_tokens=length,
        options=Options(ctx_size=length * slots, parallel=slots),
        placement=_placement(str(values.get("offload", "max"))),
        notes=tuple(notes),
    )


def _placement(text: str) -> Placement:
    """`max`, `off`, or the share of the layers; shares other than all and none are refused: how LM Studio rounds is not known."""
    said = text.strip().lower()
    if said in ("max", "auto", "1", "1.0"):
        return Placement()
    if said in ("off", "0", "0.0"):
        return Placement(layers=0)
    raise BadRequest(
        f"--gpu {text[:20]!r} of lms load is read as max or off; for a share give --gpu max and -ngl with llama-server"
    )
