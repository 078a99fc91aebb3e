"""libllama's own caches beside ours: K, V, states and cells of recorded contexts, to the last digit that it prints.

`tests/cases/llamacpp/contexts.jsonl` holds headers of GGUF files with the real dimensions of 36 models, and what libllama
v0.5.0 (September 2026) logged of their contexts; `python -m tests.record_llamacpp` makes it, `kvplan verify FILE.gguf
--engine llamacpp` asks the same of any file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import KvplanError
from planner.lookup import model_spec
from planner.units import MIB
from profiler.verify_llama import Context, ours
from tests.record_llamacpp import CASES, unpacked

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
