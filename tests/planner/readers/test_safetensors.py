"""Headers of safetensors files: exact bytes by dtype and part, contradictions named, hostile files refused.

Files are written by hand from the format's description; where the `safetensors` package, torch and transformers
are installed, also by them, and then the sizes are the files' own.
"""

from __future__ import annotations

import importlib.util
import json
import struct
import time
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadConfig, KvplanError
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.parameters import parameters
from planner.model.spec import ModelSpec
from planner.model.stored import part_of
from planner.readers.checkpoint import read_checkpoint
from planner.readers.safetensors import parse_header, read_folder
from tests.planner.readers.headers import (
    LLAMA,
    checkpoint,
    llama_tensors,
    safetensors_header,
    write_safetensors,
    write_sharded,
)


def read(folder: Path) -> ModelSpec:
    return model_spec(str(folder))


def contradictions(spec: ModelSpec) -> list[str]:
    return [line for line in spec.warnings if line.startswith("contradiction")]


# -- sizes -------------------------------------------------------------------------------------------------


def test_weights_are_the_bytes_that_the_headers_give_dtype_by_dtype(tmp_path: Path) -> None:
    size = checkpoint(tmp_path, LLAMA, llama_tensors())
    spec = read(tmp_path)
    answer = estimate(spec, Request(1024))
    assert spec.stored is not None
    assert answer.weight_bytes == spec.stored.bytes == size
    assert spec.stored.by_dtype == {"BF16": size - 5 * 64 * 4, "F32": 5 * 64 * 4}
    assert spec.stored.by_part == {
        "mlp": 2 * 3 * 128 * 64 * 2, "attention": 2 * (2 * 64 + 2 * 16) * 64 * 2, "embedding": 12800, "lm_head": 12800, "norm": 1280,
    }  # fmt: skip
    assert answer.exactness["weight_bytes"] == "exact" and "as stored" in answer.plan.words
    assert contradictions(spec) == []


def test_the_cache_is_the_configs_and_a_dtype_that_is_asked_for_wins(tmp_path: Path) -> None:
    checkpoint(tmp_path, LLAMA, llama_tensors())
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps(LLAMA))
    with_weights, without = read(tmp_path), read(plain)
    assert estimate(with_weights, Request(999)).kv_bytes == estimate(without, Request(999)).kv_bytes
    asked = Request(999, dtype="fp8")
    assert estimate(with_weights, asked).weight_bytes == estimate(without, asked).weight_bytes


def test_a_sharded_index_counts_all_of_its_files(tmp_path: Path) -> None:
    items = list(llama_tensors("F16", "F16").items())
    size = write_sharded(tmp_path, [dict(items[:7]), dict(items[7:13]), dict(items[13:])])
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    for name in (f"{tmp_path}/", str(tmp_path / "model-00002-of-00003.safetensors")):
        spec = model_spec(name)
        assert spec.stored is not None and spec.stored.bytes == size and spec.stored.source == "3 safetensors files"
    (tmp_path / "model.safetensors.index.json").unlink()
    spec = read(tmp_path)  # a numbered set without its index
    assert spec.stored is not None and spec.stored.bytes == size


def test_ranks_share_what_is_stored_in_the_proportion_of_their_parameters(tmp_path: Path) -> None:
    size = checkpoint(tmp_path, LLAMA, llama_tensors("BF16", "BF16"))
    spec = read(tmp_path)
    for tp in (1, 2, 4):
        config_only = estimate(model_spec(config=str(tmp_path / "config.json")), Request(64, sharding=Sharding(tp=tp)))
        from_headers = estimate(spec, Request(64, sharding=Sharding(tp=tp)))
        assert from_headers.per_device.weight_bytes == config_only.per_device.weight_bytes
    assert estimate(spec, Request(64)).per_device.weight_bytes == size
    assert sum(stage.weight_bytes for stage in estimate(spec, Request(64, sharding=Sharding(pp=2))).stages) == size


def test_layer_bytes_add_up_to_all_that_is_not_embedding_head_or_last_norm(tmp_path: Path) -> None:
    size = checkpoint(tmp_path, LLAMA, llama_tensors())
    spec = read(tmp_path)
    assert spec.stored is not None
    assert len(spec.stored.layer_bytes) == 2 and sum(spec.stored.layer_bytes) == size - 2 * 12800 - 256


# -- quantised layouts -------------------------------------------------------------------------------------


def quantised(folder: Path, layout: dict[str, tuple[str, list[int]]], config: dict[str, Any]) -> ModelSpec:
    """LLAMA with every matrix of its blocks in `layout`: suffix -> (dtype, shape with 0 for out, 1 for in)."""
    tensors: dict[str, tuple[str, list[int]]] = {}
    for name, (dtype, shape) in llama_tensors().items():
        if ".layers." in name and len(shape) == 2:
            for suffix, (packed, axes) in layout.items():
                tensors[name.removesuffix("weight") + suffix] = (
                    packed,
                    [eval(str(axis), {"o": shape[0], "i": shape[1]}) for axis in axes],
                )
        else:
            tensors[name] = (dtype, shape)
    checkpoint(folder, {**LLAMA, "quantization_config": config}, tensors)
    return read(folder)


@pytest.mark.parametrize(
    ("layout", "config"),
    [
        ({"qweight": ("I32", ["i // 8", "o"]), "qzeros": ("I32", ["1", "o // 8"]), "scales": ("F16", ["1", "o"]), "g_idx": ("I32", ["i"])},
         {"quant_method": "gptq", "bits": 4, "group_size": 64}),
        ({"qweight": ("I32", ["i // 4", "o"]), "qzeros": ("I32", ["1", "o // 4"]), "scales": ("F16", ["1", "o"])},
         {"quant_method": "gptq", "bits": 8, "group_size": 64}),
        ({"qweight": ("I32", ["i", "o // 8"]), "qzeros": ("I32", ["1", "o // 8"]), "scales": ("F16", ["1", "o"])},
         {"quant_method": "awq", "bits": 4, "group_size": 64}),
        ({"weight": ("F8_E4M3", ["o", "i"]), "weight_scale_inv": ("F32", ["1", "1"])},
         {"quant_method": "fp8", "weight_block_size": [128, 128]}),
        ({"weight": ("U8", ["o * i // 2", "1"]), "weight.absmax": ("U8", ["o * i // 64"]), "weight.quant_map": ("F32", ["16"]),
          "weight.quant_state.bitsandbytes__nf4": ("U8", ["80"])}, {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ({"weight": ("U8", ["o", "i // 2"]), "weight_scale": ("F8_E4M3", ["o", "i // 16"]), "weight_scale_2": ("F32", [])},
         {"quant_method": "modelopt", "quant_algo": "NVFP4"}),
        ({"weight_packed": ("I32", ["o", "i // 8"]), "weight_scale": ("BF16", ["o", "1"]), "weight_shape": ("I64", ["2"])},
         {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int"}}}}),
        ({"weight": ("I8", ["o", "i"]), "SCB": ("F32", ["o"])}, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    ],
    ids=["gptq4", "gptq8", "awq", "fp8", "nf4", "nvfp4", "packed", "int8"],
)  # fmt: skip
def test_packed_numbers_are_counted_unpacked_and_their_scales_are_not_weights(
    tmp_path: Path, layout: dict[str, tuple[str, list[int]]], config: dict[str, Any]
) -> None:
    spec = quantised(tmp_path, layout, config)
    assert spec.stored is not None and not spec.stored.packed
    assert spec.stored.parameters == parameters(spec)
    assert contradictions(spec) == []
    assert estimate(spec, Request(8)).weight_bytes == spec.stored.bytes


def test_a_packing_that_is_not_understood_gives_bytes_and_no_count(tmp_path: Path) -> None:
    tensors = llama_tensors() | {"model.layers.0.mlp.up_proj.weight": ("U8", [128, 40])}
    size = checkpoint(tmp_path, LLAMA, tensors)
    spec = read(tmp_path)
    assert spec.stored is not None and spec.stored.packed and spec.stored.bytes == size
    assert spec.stored.to_dict()["parameters"] is None
    assert contradictions(spec) == []


def test_multi_token_prediction_layers_are_stored_and_not_counted_as_loaded(tmp_path: Path) -> None:
    tensors = llama_tensors(layers=3)
    size = checkpoint(tmp_path, {**LLAMA, "num_nextn_predict_layers": 1}, tensors)
    spec = read(tmp_path)
    assert spec.stored is not None and spec.stored.bytes == size
    assert 0 < spec.stored.bytes_of("mtp") == size - spec.stored.loaded_bytes
    assert estimate(spec, Request(8)).weight_bytes == spec.stored.loaded_bytes
    assert any("multi-token-prediction" in line for line in spec.warnings) and contradictions(spec) == []


# -- contradictions ----------------------------------------------------------------------------------------


def test_another_number_of_kv_heads_in_the_files_is_named_with_both_totals(tmp_path: Path) -> None:
    checkpoint(tmp_path, LLAMA, llama_tensors(kv_rows=64))
    (line,) = contradictions(read(tmp_path))
    assert "95,040" in line and "82,752" in line and "attention" in line


def test_another_depth_in_the_files_is_named(tmp_path: Path) -> None:
    checkpoint(tmp_path, LLAMA, llama_tensors(layers=3))
    (line,) = contradictions(read(tmp_path))
    assert "3 layers" in line and "2" in line


def test_another_vocabulary_in_the_files_is_named(tmp_path: Path) -> None:
    checkpoint(tmp_path, {**LLAMA, "vocab_size": 128}, llama_tensors())
    (line,) = contradictions(read(tmp_path))
    assert "100 x 64" in line and "128 x 64" in line


def test_a_tied_head_that_is_stored_all_the_same_is_no_contradiction(tmp_path: Path) -> None:
    checkpoint(tmp_path, {**LLAMA, "tie_word_embeddings": True}, llama_tensors())
    assert contradictions(read(tmp_path)) == []


def test_rotary_tables_and_causal_masks_are_buffers(tmp_path: Path) -> None:
    extra: dict[str, tuple[str, list[int]]] = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", [4]),
        "model.layers.0.self_attn.attention.bias": ("BOOL", [1, 1, 64, 64]),
    }
    size = checkpoint(tmp_path, LLAMA, llama_tensors() | extra)
    spec = read(tmp_path)
    assert contradictions(spec) == []
    assert spec.stored is not None and spec.stored.bytes_of("buffer") == 16 + 4096 and spec.stored.bytes == size


def test_an_index_that_disagrees_with_its_files_is_named(tmp_path: Path) -> None:
    write_sharded(tmp_path, [llama_tensors()], total=5)
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert any("index gives 5 bytes" in line for line in read(tmp_path).warnings)


# -- what is refused ---------------------------------------------------------------------------------------


def test_a_missing_shard_leaves_the_answer_to_the_config_and_says_so(tmp_path: Path) -> None:
    items = list(llama_tensors().items())
    write_sharded(tmp_path, [dict(items[:9]), dict(items[9:])])
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    spec = read(tmp_path)
    assert spec.stored is None and any("does not exist" in line for line in spec.warnings)
    with pytest.raises(BadConfig, match="does not exist"):
        model_spec(str(tmp_path / "model-00001-of-00002.safetensors"))


def test_weights_without_a_config_are_refused_with_what_they_hold(tmp_path: Path) -> None:
    size = write_safetensors(tmp_path / "model.safetensors", llama_tensors())
    with pytest.raises(BadConfig, match=rf"{size:,} bytes.*no config\.json"):
        model_spec(str(tmp_path / "model.safetensors"))


def test_an_index_cannot_name_files_of_other_folders(tmp_path: Path) -> None:
    for name in ("../x.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "x.bin"):
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(BadConfig, match="no safetensors file of its folder"):
            read_folder(str(tmp_path))


def entry(dtype: Any = "F32", shape: Any = (2, 2), offsets: Any = (0, 16)) -> bytes:
    return json.dumps({"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        (b"[]", 0, "not a JSON object"),
        (b"{", 0, "not JSON"),
        (b"\xff{}", 0, "not text"),
        (b'{"a":' + b"[" * 100_000, 0, "nested too deep|not JSON"),
        (b'{"a":1}', 0, "no object"),
        (b'{"a":{},"a":{}}', 0, "twice"),
        (entry(dtype="F31"), 16, "F31"),
        (entry(dtype=["F32"]), 16, "dtype"),
        (entry(shape=[2, -2]), 16, "shape"),
        (entry(shape=[1.0, 4]), 16, "shape"),
        (entry(shape=[True, 4]), 16, "shape"),
        (entry(shape=[1] * 17), 16, "shape"),
        (entry(shape=[2**40, 2**40]), 16, "beyond any memory"),
        (entry(shape="ab"), 16, "shape"),
        (entry(offsets=[0]), 16, "data_offsets"),
        (entry(offsets=[16, 0]), 16, "data_offsets"),
        (entry(offsets=[-16, 0]), 16, "data_offsets"),
        (entry(offsets=[0, 15]), 16, "needs 16"),
        (entry(offsets=[4, 20]), 20, "gap"),
        (entry(), 8, "cut short"),
        (entry(), 17, "something else"),
        (json.dumps({"a" * 2000: {}}).encode(), 0, "name of 2,000"),
        (b"{" * 300_000, 0, "entries"),
        (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', 4, "not JSON|shape|digits"),
    ],
    ids=range(24),
)
def test_a_header_that_cannot_be_true_is_refused_in_one_line(header: bytes, data: int, words: str) -> None:
    with pytest.raises(BadConfig, match=words) as refused:
        parse_header(header, data, "x")
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 600


def test_tensors_that_overlap_are_refused() -> None:
    raw = {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in "ab"}
    with pytest.raises(BadConfig, match="overlaps"):
        parse_header(json.dumps(raw).encode(), 16, "x")


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**64 - 1, 40 << 20, 100])
def test_a_header_length_beyond_the_file_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(BadConfig, match="gives its header"):
        read_checkpoint(str(path))
    path.write_bytes(b"1234")
    with pytest.raises(BadConfig, match="begins with the length"):
        read_checkpoint(str(path))


def test_a_50_gb_file_costs_a_few_mib_and_milliseconds(tmp_path: Path) -> None:
    layers, hidden, ffn = 80, 8192, 14336
    tensors: dict[str, tuple[str, list[int]]] = {"model.embed_tokens.weight": ("BF16", [128256, hidden])}
    for i in range(layers):
        tensors |= {
            f"model.layers.{i}.mlp.{name}_proj.weight": ("BF16", [ffn, hidden]) for name in ("gate", "up", "down")
        }
        tensors |= {f"model.layers.{i}.self_attn.{name}_proj.weight": ("BF16", [hidden, hidden]) for name in "qo"}
    size = write_safetensors(tmp_path / "model.safetensors", tensors)
    assert size > 50 * 10**9
    started = time.process_time()
    found = read_folder(str(tmp_path))
    seconds = time.process_time() - started
    tracemalloc.start()
    read_folder(str(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None and found.stored().bytes == size
    assert peak < 4 << 20
    assert seconds < 1.0  # 10 ms


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 100))
def test_no_bytes_make_the_parser_fail_in_any_other_way(header: bytes, data: int) -> None:
    with suppress(KvplanError):
        parse_header(header, data, "x")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["F32", "U8", "dtype"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON, st.integers(0, 64))
def test_no_json_makes_the_parser_fail_in_any_other_way(value: Any, data: int) -> None:
    with suppress(KvplanError):
        parse_header(json.dumps(value).encode(), data, "x")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_byte_is_read_rightly_or_refused(data: st.DataObject) -> None:
    head, size = safetensors_header(llama_tensors())
    raw = bytearray(head[8:])
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        tensors = parse_header(bytes(raw), size, "x")
    except KvplanError:
        return
    assert sum(tensor.bytes for tensor in tensors) == size


# -- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("transformer.wte.weight", "embedding"),
        ("transformer.h.0.attn.c_proj.weight", "attention"),
        ("transformer.h.0.mlp.c_proj.weight", "mlp"),
        ("gpt_neox.layers.3.attention.dense.weight", "attention"),
        ("gpt_neox.layers.3.mlp.dense_h_to_4h.bias", "mlp"),
        ("embed_out.weight", "lm_head"),
        ("model.layers.5.block_sparse_moe.gate.weight", "router"),
        ("model.layers.5.block_sparse_moe.experts.7.w2.weight", "experts"),
        ("model.layers.5.mlp.shared_experts.up_proj.weight", "shared_experts"),
        ("model.layers.5.mlp.shared_expert_gate.weight", "router"),
        ("model.layers.5.mlp.gate.e_score_correction_bias", "router"),
        ("model.layers.5.mlp.gate_proj.weight", "mlp"),
        ("model.layers.5.self_attn.kv_a_proj_with_mqa.weight", "attention"),
        ("model.layers.5.self_attn.kv_a_layernorm.weight", "norm"),
        ("model.layers.5.self_attn.indexer.wk.weight", "indexer"),
        ("model.layers.5.linear_attn.in_proj_qkvz.weight", "mixer"),
        ("backbone.layers.0.mixer.A_log", "mixer"),
        ("backbone.layers.0.mixer.q_proj.weight", "attention"),
        ("model.layers.0.conv.in_proj.weight", "mixer"),
        ("vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight", "vision"),
        ("model.visual.blocks.0.mlp.fc1.weight", "vision"),
        ("multi_modal_projector.linear_1.weight", "projector"),
        ("audio_tower.conv1.weight", "audio"),
        ("mtp.layers.0.self_attn.q_proj.weight", "mtp"),
        ("decoder.block.0.layer.0.SelfAttention.q.weight", "attention"),
        ("decoder.block.0.layer.1.EncDecAttention.q.weight", "cross_attention"),
        ("decoder.block.0.layer.2.DenseReluDense.wi.weight", "mlp"),
        ("model.decoder.layers.0.encoder_attn.k_proj.weight", "cross_attention"),
        ("model.decoder.layers.0.self_attn_layer_norm.weight", "norm"),
        ("output.weight", "lm_head"),
        ("blk.0.attn_output.weight", "attention"),
        ("blk.0.ffn_gate_exps.weight", "experts"),
        ("blk.0.ffn_gate_inp.weight", "router"),
        ("blk.0.ssm_conv1d.weight", "mixer"),
        ("v.blk.0.attn_q.weight", "vision"),
        ("blk.61.nextn.eh_proj.weight", "mtp"),
    ],
)
def test_a_name_says_its_part(name: str, part: str) -> None:
    assert part_of(name) == part


# -- files of the real packages ----------------------------------------------------------------------------

REAL = {
    "dense": {"model_type": "llama", "num_key_value_heads": 8},
    "gqa": {"model_type": "qwen2", "num_key_value_heads": 2},
    "tied": {"model_type": "gemma", "head_dim": 16, "num_key_value_heads": 1, "tie_word_embeddings": True},
    "gpt2": {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32},
    "moe": {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 2},
    "shared experts": {"model_type": "qwen2_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                       "shared_expert_intermediate_size": 48, "num_key_value_heads": 2},
    "mla": {"model_type": "deepseek_v3", "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4,
            "v_head_dim": 8, "n_routed_experts": 8, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "n_shared_experts": 1,
            "moe_intermediate_size": 16, "first_k_dense_replace": 1, "num_key_value_heads": 8},
    "window": {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 8, "num_key_value_heads": 2},
    "hybrid": {"model_type": "qwen3_next", "num_key_value_heads": 2, "head_dim": 16, "linear_num_key_heads": 2,
               "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "num_experts": 4,
               "num_experts_per_tok": 2, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
               "num_hidden_layers": 4},
    "mamba": {"model_type": "mamba", "state_size": 8},
}  # fmt: skip
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "intermediate_size": 128,
    "vocab_size": 128,
}


def missing(*packages: str) -> bool:
    return any(importlib.util.find_spec(package) is None for package in packages)


@pytest.mark.skipif(missing("torch", "transformers", "safetensors"), reason="needs torch, transformers and safetensors")
@pytest.mark.parametrize("kind", REAL)
def test_a_checkpoint_that_transformers_saved_is_read_to_its_own_size(tmp_path: Path, kind: str) -> None:
    import torch
    import transformers
    from safetensors import safe_open

    raw = {**SIZES, **REAL[kind], "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "mamba":
        raw.pop("intermediate_size")
    config = transformers.CONFIG_MAPPING[raw["model_type"]].from_dict(raw)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if kind in ("gqa", "moe"):
        model.model.layers[0].to(torch.float32)  # a mixture of dtypes
    model.save_pretrained(tmp_path, max_shard_size="60KB")
    if kind != "hybrid":  # written out, so that the reader sees what a published file would have
        written = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**written, **raw}))
    spec = model_spec(str(tmp_path) + "/")
    size = 0
    for path in tmp_path.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            size += sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    assert spec.stored is not None and spec.stored.bytes == size > 0
    assert spec.stored.by_part.get("other") is None
    assert contradictions(spec) == []
    assert estimate(spec, Request(16)).weight_bytes == size
    assert parameters(spec) == sum(parameter.numel() for parameter in model.parameters())
    if kind in ("gqa", "moe"):
        assert set(spec.stored.by_dtype) == {"BF16", "F32"}
