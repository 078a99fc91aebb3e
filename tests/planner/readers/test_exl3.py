"""ExLlamaV3 lists every tensor beside the config: its bytes go before a mean of bits a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import BadConfig
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers.exl3 import storage_of
from planner.readers.huggingface import read_file

CONFIG = {
    "model_type": "llama", "hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 256,
    "intermediate_size": 256, "max_position_embeddings": 512, "torch_dtype": "float16",
    "quantization_config": {"quant_method": "exl3", "bits": 3.0, "head_bits": 6},
}  # fmt: skip
SHAPES = {"self_attn.q_proj": (128, 128, 3), "self_attn.k_proj": (128, 128, 3), "self_attn.v_proj": (128, 128, 4),
          "self_attn.o_proj": (128, 128, 3), "mlp.gate_proj": (128, 256, 3), "mlp.up_proj": (128, 256, 3),
          "mlp.down_proj": (256, 128, 2)}  # fmt: skip


def storage() -> dict[str, Any]:
    """Every module as conversion/quant_config.py of exllamav3 writes it."""
    table: dict[str, Any] = {}

    def add(module: str, tensors: dict[str, tuple[list[int], str, int]]) -> None:
        held = {f"{module}.{name}": {"shape": shape, "n_bytes": size, "dtype": f"torch.{dtype}"}
                for name, (shape, dtype, size) in tensors.items()}  # fmt: skip
        table[module] = {"stored_tensors": held}

    for module, (columns, rows, bits) in {
        **{f"model.layers.0.{n}": s for n, s in SHAPES.items()},
        "lm_head": (128, 256, 6),
    }.items():
        add(module, {"trellis": ([columns // 16, rows // 16, 16 * bits], "int16", columns * rows * bits // 8),
                     "suh": ([columns], "float16", 2 * columns), "svh": ([rows], "float16", 2 * rows)})  # fmt: skip
    add("model.embed_tokens", {"weight": ([256, 128], "float16", 2 * 256 * 128)})
    for norm in ("model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.norm"):
        add(norm, {"weight": ([128], "float16", 256)})
    return table


def worked() -> int:
    matrices = [*SHAPES.values(), (128, 256, 6)]
    return sum(c * r * b // 8 + 2 * (c + r) for c, r, b in matrices) + 2 * 256 * 128 + 3 * 256


def test_the_listed_tensors_are_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    mean = estimate(read_file(str(tmp_path)), Request(8))
    assert mean.exactness["weight_bytes"] == "estimated"
    (tmp_path / "quantization_config.json").write_text(
        json.dumps({**CONFIG["quantization_config"], "tensor_storage": storage()})
    )  # type: ignore[dict-item]
    found = estimate(read_file(str(tmp_path)), Request(8))
    assert found.weight_bytes == worked()
    assert found.exactness["weight_bytes"] == "exact"
    assert found.spec.stored is not None and found.spec.stored.parameters == found.parameters


def test_a_file_without_the_list_leaves_the_mean() -> None:
    assert storage_of({"quant_method": "exl3", "bits": 3.0}, "x") is None
    assert storage_of({"tensor_storage": {"a": 1}}, "x") is None


@pytest.mark.parametrize("size", [-1, 1.5, "9", None, True, 1 << 60])
def test_sizes_that_are_none_are_named(size: Any, tmp_path: Path) -> None:
    table = {"tensor_storage": {"q": {"stored_tensors": {"q.trellis": {"shape": [1, 1, 48], "n_bytes": size}}}}}
    with pytest.raises(BadConfig, match="trellis"):
        storage_of(table, "x")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "quantization_config.json").write_text(json.dumps(table))
    spec = read_file(str(tmp_path))  # the config still says what it says
    assert spec.stored is None and any("q.trellis" in line for line in spec.warnings)
