"""libllama's own caches beside ours: K, V, states and cells of recorded contexts, to the last digit that it prints.

`tests/cases/llamacpp/contexts.jsonl` holds headers of GGUF files with the real dimensions of 39 models, and small ones of
21 architectures of 2026, and what libllama v0.5.0 (September 2026) or b11739 (October) logged of their contexts; `python -m
tests.record_llamacpp` makes it, `kvplan verify FILE.gguf --engine llamacpp` asks the same of any file. `commands.csv` beside
it holds start commands and what the library logs of them.
"""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from planner.answers.check import check
from planner.errors import KvplanError
from planner.launch.read import one_question
from planner.lookup import model_spec
from planner.memory.request import Capacity
from planner.units import MIB
from profiler.verify_llama import Context, ours
from tests.record_llamacpp import CASES, unpacked

LINES = [line for line in CASES.with_name("commands.csv").read_text().splitlines() if not line.startswith("#")]
COMMANDS = {model: list(rows) for model, rows in itertools.groupby(csv.DictReader(LINES), key=lambda row: row["model"])}
ROWS = [json.loads(line) for line in CASES.read_text().splitlines()]


@pytest.mark.parametrize("row", ROWS, ids=[row["model"] for row in ROWS])
def test_contexts_are_libllamas_own(row: dict[str, Any], tmp_path: Path) -> None:
    spec = model_spec(str(unpacked(row, tmp_path)))
    for context in row["contexts"]:
        if not context["cells"] and not context["state_mib"]:  # libllama refuses it, and so do we
            with pytest.raises(KvplanError):
                ours(spec, row["version"], context["question"])
            continue
        found = ours(spec, row["version"], context["question"])
        kept = (("kv_full_bytes", "kv_full_cells"), ("kv_swa_bytes", "kv_swa_cells"))
        cells = tuple(found[count] for size, count in kept if found[size])
        sizes = found["kv_bytes"] / MIB, found["state_bytes"] / MIB
        beside = Context(
            context["question"], context["kv_mib"], context["state_mib"], tuple(context["cells"]), *sizes, cells
        )
        assert beside.agrees, beside


@pytest.mark.parametrize("model", sorted(COMMANDS))
def test_start_commands_make_libllamas_own_caches(model: str, tmp_path: Path) -> None:
    """Flags and LLAMA_ARG_ variables of a command, read as llama-server and llama-cli read them."""
    spec = model_spec(str(unpacked(next(row for row in ROWS if row["model"] == model), tmp_path)))
    for row in COMMANDS[model]:
        found = check(one_question(row["command"]), spec, Capacity("10 TB", 10**13), advise=False).engine.to_dict()
        kept = (("kv_full_bytes", "kv_full_cells"), ("kv_swa_bytes", "kv_swa_cells"))
        cells = tuple(found[count] for size, count in kept if found[size])
        sizes = found["kv_bytes"] / MIB, found["state_bytes"] / MIB
        logged = tuple(int(count) for count in row["cells"].split())
        beside = Context(
            {"command": row["command"]}, float(row["kv_mib"]), float(row["state_mib"]), logged, *sizes, cells
        )
        assert beside.agrees, beside
