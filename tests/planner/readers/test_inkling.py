"""Inkling and Inkling 2: small files by hand; against transformers they stand in tests/cases/type_configs.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.engines.sglang_states import inkling_state_bytes
from planner.engines.vllm_v1 import LayerKind, Steps, equal_pages
from planner.errors import BadConfig, UnsupportedModel
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.parameters import parameters
from planner.model.recurrent import Recurrent
from planner.readers.huggingface import read_config

SMALL = {
    case["config"]["model_type"]: case["config"]
    for case in json.loads((Path(__file__).parents[2] / "cases" / "type_configs.json").read_text(encoding="utf-8"))[
        "models"
    ]
}
INKLING: dict[str, Any] = SMALL["inkling_text"]
LOOP: dict[str, Any] = SMALL["inkling2_loop_text"]


def test_a_layer_of_inkling_by_hand() -> None:
    """Layer 2: 4 heads of 16 over 2 KV heads, d_rel 4, reach 24; convolutions of 4; 6 experts of 32 and two shared ones."""
    attention = 2 * 64 * 64 + 2 * 32 * 64 + 2 * 16  # q and o, k and v, norms of q and k
    bias = 4 * 4 * 64 + 4 * 24
    convolutions = 4 * (2 * 32 + 2 * 64)
    experts = (6 + 2) * 3 * 64 * 32 + (6 + 2) * 64 + 1
    spec = read_config(INKLING)
    layer = sum(w.parameters for w in spec.layers[2].weights)
    assert layer == attention + bias + convolutions + experts + 2 * 64


def test_windowed_and_full_layers_keep_their_own_heads_and_four_convolutions() -> None:
    """Per token K and V of a window 2·4·8, of a full layer 2·2·16; columns 4 · (2·width + 2·64), in fp32."""
    spec = read_config(INKLING)
    kinds = [[cache.kind for cache in layer.caches] for layer in spec.layers]
    assert kinds[0] == ["sliding window 16", "state (four short convolutions)"] and kinds[2][0] == "full attention"
    assert [layer.caches[1].elements(24, 0) for layer in spec.layers] == [4 * (2 * 32 + 2 * 64)] * 4


def test_predicting_layers_are_said_and_counted_apart() -> None:
    """Two dense layers, one with a window, each behind a projection [64, 128] and two norms, and one norm behind all."""
    config = {**INKLING, "num_mtp_layers": 2, "mtp_local_layer_ids": [0], "chain_hidden_post_norm": True}
    spec = read_config(config)
    dense = 3 * 64 * 96 + 1
    window = 2 * 64 * 64 + 2 * 32 * 64 + 2 * 8 + 8 * 4 * 64 + 4 * 16 + 4 * (2 * 32 + 2 * 64)
    full = 2 * 64 * 64 + 2 * 32 * 64 + 2 * 16 + 4 * 4 * 64 + 4 * 24 + 4 * (2 * 32 + 2 * 64)
    own = 2 * 64 * 64 + 2 * 64 + 2 * 64
    assert sum(w.parameters for w in spec.mtp) == 2 * dense + window + full + 2 * own + 64
    assert parameters(spec) == parameters(read_config(INKLING))


def test_mtp_layers_are_read_from_the_outer_file_by_either_name() -> None:
    for key in ("num_nextn_predict_layers", "n_layers"):
        spec = read_config({"model_type": "inkling_mm_model", "text_config": INKLING, "mtp_config": {key: 1}})
        assert spec.mtp


def test_looped_layers_keep_a_cache_for_each_pass_and_weights_once() -> None:
    spec, once = read_config(LOOP), read_config({**LOOP, "loop_config": {**LOOP["loop_config"], "num_passes": 1}})
    assert [len(layer.caches) for layer in spec.layers] == [2, 2, 6, 6, 6, 6]
    assert parameters(spec) == parameters(once)
    assert any("run 3 times" in line for line in spec.notes)


@pytest.mark.parametrize(
    ("base", "change", "named"),
    [
        (LOOP, {"loop_config": {"core_start": 4, "core_end": 9}}, "layers 4 to 9"),
        (LOOP, {"unpadded_vocab_size": 501}, "unpadded_vocab_size"),
        (INKLING, {"swa_num_key_value_heads": 3}, "3 KV heads"),
        (INKLING, {"sconv_kernel_size": 0}, "sconv_kernel_size"),
    ],
)
def test_a_wrong_value_is_named(base: dict[str, Any], change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadConfig, match=named):
        read_config({**base, **change})


def test_a_layer_type_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="hybrid"):
        read_config({**INKLING, "layer_types": ["full_attention"] * 4})


def test_vllm_pages_the_convolutions_as_a_window_of_four_tokens() -> None:
    """A full layer of the model of 66: 8 KV heads · 2,048 numbers in bf16, four tokens a block, as many bytes as a page.

    2 · 128 + 2 · 6144 / 8 = 1,792, up to 2,048; a window's layer 2 · 128 + 2 · 6144 / 16 = 1,024. Both blocks have
    131,072 bytes, twice an attention page of 16 tokens of the full layers (vLLM 0.33.0 sconv_swa_attn.py).
    """
    full = LayerKind("full", 2 * 8 * 128 * 2)
    window = LayerKind("sliding", 2 * 16 * 128 * 2, limit=512)
    streams = (
        LayerKind("sliding", 8 * 2048 * 2, limit=4, tokens=4),
        LayerKind("sliding", 16 * 1024 * 2, limit=4, tokens=4),
    )
    blocks, page = equal_pages([full, window, *streams], Steps(16, 16, 131072))
    assert page == 131_072
    assert [blocks[kind] for kind in (full, window, *streams)] == [32, 16, 4, 4]


def test_sglang_keeps_the_columns_of_both_kinds_of_layers_in_each() -> None:
    """3 columns of 2 · 2·16 and 2 · 4·8 numbers (k and v of either kind), and of 2 · 64, in bf16; then heads of 32."""
    found = estimate(read_config(INKLING), Request(seq_tokens=24))
    state = next(cache for layer in found.spec.layers for cache in layer.caches if isinstance(cache, Recurrent))
    assert inkling_state_bytes(state, found) == 2 * 3 * (2 * 32 + 2 * 32 + 2 * 64)
    wide = estimate(read_config({**INKLING, "head_dim": 32}), Request(seq_tokens=24))
    assert inkling_state_bytes(state, wide) == 2 * 3 * (2 * 64 + 2 * 32 + 2 * 64)
