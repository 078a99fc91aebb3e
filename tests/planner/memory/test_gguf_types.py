"""The types of a GGUF file's matrices, held against the sizes that libllama b11739 works out for 33 file types in a dry run.

`llama_model_quantize` with `dry_run`, without an importance matrix, over the headers of tests/cases/llamacpp/contexts.jsonl,
which have the real dimensions of each model. Names and what is not quantised: llama.cpp src/llama-quant.cpp.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from planner.dtypes.ggml import row_bytes
from planner.memory.gguf_types import Facts, Matrix, types_of
from planner.readers.gguf import GgufTensor, read_parts
from planner.units import MIB
from tests.record_llamacpp import CASES, unpacked

HEADERS = {row["model"]: row for row in map(json.loads, CASES.read_text().splitlines())}
SIZES = {
    row["model"]: row["sizes"] for row in map(json.loads, (CASES.parent / "file_types.jsonl").read_text().splitlines())
}
KEPT = re.compile(r"_norm\.weight|position_embd|ffn_gate_inp\.weight|altup|laurel|per_layer_model_proj|ssm_conv1d|shortconv\.conv\.weight|indexer\.[kq]_proj")  # fmt: skip
KINDS = (
    ("attn_qkv.weight", "attn_v"), ("attn_kv_b.weight", "attn_v"), ("attn_v.weight", "attn_v"), ("attn_k.weight", "attn_k"),
    ("attn_q.weight", "attn_q"), ("attn_output.weight", "attn_output"), ("ffn_up", "ffn_up"), ("ffn_gate", "ffn_gate"),
    ("ffn_down", "ffn_down"),
)  # fmt: skip


def layer_of(tensor: GgufTensor) -> int:
    return int(tensor.name.split(".")[1]) if tensor.name.startswith("blk.") else -1


def matrix_of(tensor: GgufTensor) -> Matrix:
    own = {"output.weight": "output", "token_embd.weight": "embedding", "per_layer_token_embd.weight": "embedding"}
    kind = own.get(tensor.name) or next((kind for part, kind in KINDS if part in tensor.name), "other")
    return Matrix(kind + ("_exps" if len(tensor.shape) > 2 and tensor.shape[2] > 1 else ""), layer_of(tensor), tensor.shape[0])  # fmt: skip


def first(metadata: Any, key: str, default: int) -> int:
    value = metadata.get(f"{metadata['general.architecture']}.{key}", default)
    return int(value[0] if isinstance(value, (list, tuple)) else value)


@pytest.mark.parametrize("model", SIZES)
def test_every_file_type_takes_what_the_quantiser_of_llama_cpp_works_out(tmp_path: Path, model: str) -> None:
    file = read_parts(str(unpacked(HEADERS[model], tmp_path)))
    tensors = sorted(file.tensors, key=lambda one: (layer_of(one), one.name))
    touched = [t for t in tensors if len(t.shape) > 1 and t.name.endswith("weight") and not KEPT.search(t.name)]
    names = {tensor.name for tensor in touched}
    rest = sum(tensor.bytes for tensor in tensors if tensor.name not in names)
    heads = first(file.metadata, "attention.head_count", 0)
    arch, layers = file.metadata["general.architecture"], first(file.metadata, "block_count", 0)
    kv_heads = first(file.metadata, "attention.head_count_kv", heads)
    for file_type, mib in SIZES[model].items():
        facts = Facts(
            file_type, layers, heads // kv_heads if kv_heads else 0, first(file.metadata, "expert_count", 0),
            tied="output.weight" not in names, falcon=arch == "falcon",
        )  # fmt: skip
        found = types_of([matrix_of(tensor) for tensor in touched], facts)
        size = rest + sum(
            row_bytes(name, t.shape[0]) * (t.elements // t.shape[0]) for t, name in zip(touched, found, strict=True)
        )
        assert size / MIB == pytest.approx(mib, abs=0.011), file_type


def test_quantisers_before_2026_gave_one_matrix_of_q_k_and_v_types_of_its_own() -> None:
    """llama-quant.cpp of 2025; bartowski's Phi-3.5-mini-instruct in 20 types is so (tests/cases/gguf_files.csv)."""
    one = [Matrix("attn_qkv", layer, 3072) for layer in range(32)]
    old = {kind: set(types_of(one, Facts(kind, 32, older=True))) for kind in ("q2_k", "q3_k_l", "q4_k_m", "iq2_m")}
    assert old == {"q2_k": {"q2_k"}, "q3_k_l": {"q4_k"}, "q4_k_m": {"q5_k"}, "iq2_m": {"iq2_s"}}
    assert set(types_of(one, Facts("q2_k", 32))) == {"q3_k"}


def test_a_table_of_each_layers_embeddings_follows_the_head_since_2026() -> None:
    """Of gemma-3n-E4B in Q4_K_M, quantised in 2025, 4,237,064,064 B; of gemma-4-E4B, in 2026, 5,335,291,936 B."""
    table = [Matrix("layer_embedding", 0, 8960)]
    assert list(types_of(table, Facts("q4_k_m", 35, tied=True, older=True))) == ["q4_k"]
    assert list(types_of(table, Facts("q4_k_m", 35, tied=True))) == ["q6_k"]
