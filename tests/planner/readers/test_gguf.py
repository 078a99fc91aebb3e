"""GGUF headers: exact bytes by tensor type, the cache that the metadata says, hostile files refused.

Each model stands twice: as GGUF metadata and tensors, and as the config.json of the same model; their caches
must be equal. Files are written by hand from ggml's description; where the `gguf` package is installed its
writer and reader are held against ours too.
"""

from __future__ import annotations

import importlib.util
import struct
import time
import tracemalloc
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.dtypes.ggml import TENSOR_TYPES
from planner.errors import BadConfig, KvplanError, UnsupportedModel
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.parameters import active_parameters, parameters
from planner.model.spec import ModelSpec
from planner.readers.gguf import read_gguf_file
from planner.readers.huggingface import read_config
from tests.planner.readers.headers import gguf_header, text, write_gguf

HAS_GGUF = importlib.util.find_spec("gguf") is not None
HIDDEN, VOCAB, FFN = 256, 512, 512
Shapes = dict[str, tuple[str, list[int]]]


def top() -> Shapes:
    return {
        "token_embd.weight": ("Q4_K", [HIDDEN, VOCAB]),
        "output_norm.weight": ("F32", [HIDDEN]),
        "output.weight": ("Q6_K", [HIDDEN, VOCAB]),
    }


def attention(i: int, heads: int = 8, kv: int = 2, k: int = 32, v: int = 32) -> Shapes:
    return {
        f"blk.{i}.attn_norm.weight": ("F32", [HIDDEN]),
        f"blk.{i}.attn_q.weight": ("Q4_K", [HIDDEN, heads * k]),
        f"blk.{i}.attn_k.weight": ("Q8_0", [HIDDEN, kv * k]),
        f"blk.{i}.attn_v.weight": ("Q6_K", [HIDDEN, kv * v]),
        f"blk.{i}.attn_output.weight": ("Q4_0", [heads * v, HIDDEN]),
    }


def mlp(i: int) -> Shapes:
    return {
        f"blk.{i}.ffn_norm.weight": ("F32", [HIDDEN]),
        f"blk.{i}.ffn_gate.weight": ("Q4_K", [HIDDEN, FFN]),
        f"blk.{i}.ffn_up.weight": ("Q4_K", [HIDDEN, FFN]),
        f"blk.{i}.ffn_down.weight": ("Q6_K", [FFN, HIDDEN]),
    }


def moe(i: int, experts: int = 4, width: int = 64, shared: int = 0) -> Shapes:
    found: Shapes = {
        f"blk.{i}.ffn_norm.weight": ("F32", [HIDDEN]),
        f"blk.{i}.ffn_gate_inp.weight": ("F32", [HIDDEN, experts]),
        f"blk.{i}.ffn_gate_exps.weight": ("MXFP4", [HIDDEN, width, experts]),
        f"blk.{i}.ffn_up_exps.weight": ("MXFP4", [HIDDEN, width, experts]),
        f"blk.{i}.ffn_down_exps.weight": ("MXFP4", [width, HIDDEN, experts]),
    }
    if shared:
        found[f"blk.{i}.ffn_up_shexp.weight"] = ("Q8_0", [HIDDEN, shared])
        found[f"blk.{i}.ffn_gate_shexp.weight"] = ("Q8_0", [HIDDEN, shared])
        found[f"blk.{i}.ffn_down_shexp.weight"] = ("Q8_0", [shared, HIDDEN])
    return found


def mla(i: int, absorbed: bool = True) -> Shapes:
    found: Shapes = {
        f"blk.{i}.attn_norm.weight": ("F32", [HIDDEN]),
        f"blk.{i}.attn_q.weight": ("Q8_0", [HIDDEN, 8 * 48]),
        f"blk.{i}.attn_kv_a_mqa.weight": ("Q8_0", [HIDDEN, 64 + 16]),
        f"blk.{i}.attn_kv_a_norm.weight": ("F32", [64]),
        f"blk.{i}.attn_output.weight": ("Q8_0", [8 * 32, HIDDEN]),
    }
    if absorbed:
        return found | {
            f"blk.{i}.attn_k_b.weight": ("Q8_0", [32, 64, 8]),
            f"blk.{i}.attn_v_b.weight": ("Q8_0", [64, 32, 8]),
        }
    return found | {f"blk.{i}.attn_kv_b.weight": ("Q8_0", [64, 8 * 64])}


def recurrent(i: int, prefix: str = "ssm_", **rows: int) -> Shapes:
    found: Shapes = {f"blk.{i}.attn_norm.weight": ("F32", [HIDDEN])}
    return found | {f"blk.{i}.{prefix}{name}.weight": ("F16", [HIDDEN, size]) for name, size in rows.items()}


@dataclass(frozen=True)
class Case:
    """One model: metadata without the architecture's prefix, tensors, the config.json of the same model."""

    arch: str
    metadata: dict[str, Any]
    tensors: Shapes
    config: dict[str, Any]

    @property
    def pairs(self) -> dict[str, Any]:
        sizes = {"block_count": self.config["num_hidden_layers"], "embedding_length": HIDDEN, "context_length": 4096}
        own = {f"{self.arch}.{key}": value for key, value in {**sizes, **self.metadata}.items()}
        return {"general.architecture": self.arch, **own, "tokenizer.ggml.tokens": [f"t{i}" for i in range(VOCAB)],
                "tokenizer.ggml.scores": [0.0] * VOCAB}  # fmt: skip


HEADS = {
    "attention.head_count": 8,
    "attention.head_count_kv": 2,
    "attention.key_length": 32,
    "attention.value_length": 32,
}
BASE: dict[str, Any] = {
    "hidden_size": HIDDEN, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 32, "intermediate_size": FFN,
    "vocab_size": VOCAB, "torch_dtype": "float16",
}  # fmt: skip


def dense_layers(count: int, **shapes: int) -> Shapes:
    found = top()
    for i in range(count):
        found |= attention(i, **shapes) | mlp(i)
    return found


def windowed(arch: str, model_type: str, layers: int, **config: Any) -> Case:
    return Case(
        arch, {**HEADS, "attention.sliding_window": 64}, dense_layers(layers),
        {**BASE, "model_type": model_type, "num_hidden_layers": layers, "sliding_window": 64, **config},
    )  # fmt: skip


def hybrid(
    arch: str, metadata: dict[str, Any], config: dict[str, Any], attends: tuple[bool, ...], state: Shapes | None = None
) -> Case:
    tensors = top()
    for i, full in enumerate(attends):
        own = {
            name.replace("blk.0", f"blk.{i}"): shape
            for name, shape in (state or recurrent(0, conv1d=4, out=256)).items()
        }
        tensors |= (attention(i) if full else own) | mlp(i)
    return Case(arch, metadata, tensors, {**BASE, **config, "num_hidden_layers": len(attends)})


MLA_KEYS = {"attention.head_count": 8, "attention.head_count_kv": 1, "attention.kv_lora_rank": 64, "rope.dimension_count": 16,
            "attention.key_length": 80, "attention.value_length": 64, "attention.key_length_mla": 48, "attention.value_length_mla": 32,
            "expert_used_count": 2}  # fmt: skip
MLA_CONFIG = {**BASE, "model_type": "deepseek_v3", "num_hidden_layers": 2, "q_lora_rank": None, "kv_lora_rank": 64, "qk_rope_head_dim": 16,
              "qk_nope_head_dim": 32, "v_head_dim": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
              "n_shared_experts": 1, "moe_intermediate_size": 64, "num_key_value_heads": 8}  # fmt: skip
DELTA = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 128,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 4,
    "ssm.group_count": 2,
}
DELTA_CONFIG = {"model_type": "qwen3_5_text", "linear_conv_kernel_dim": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 32,
                "linear_num_key_heads": 2, "linear_num_value_heads": 4, "full_attention_interval": 4}  # fmt: skip
MAMBA2 = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 512,
    "ssm.state_size": 32,
    "ssm.time_step_rank": 8,
    "ssm.group_count": 2,
}

CASES = {
    "dense": Case("llama", {"attention.head_count": 8}, dense_layers(3, kv=8),
                  {**BASE, "model_type": "llama", "num_hidden_layers": 3, "num_key_value_heads": 8}),
    "gqa": Case("qwen3", HEADS, dense_layers(3), {**BASE, "model_type": "qwen3", "num_hidden_layers": 3}),
    "moe": Case("qwen3moe", {**HEADS, "expert_used_count": 2}, {**top(), **attention(0), **moe(0), **attention(1), **moe(1)},
                {**BASE, "model_type": "qwen3_moe", "num_hidden_layers": 2, "num_experts": 4, "num_experts_per_tok": 2,
                 "moe_intermediate_size": 64, "norm_topk_prob": True}),
    "mla": Case("deepseek2", MLA_KEYS, {**top(), **mla(0), **mlp(0), **mla(1), **moe(1, shared=64)}, MLA_CONFIG),
    "window of two": windowed("gemma2", "gemma2", 5),
    "window of six": windowed("gemma3", "gemma3_text", 13),
    "window of four": windowed("cohere2", "cohere2", 9),
    "window gpt-oss": windowed("gpt-oss", "gpt_oss", 5, num_local_experts=4, num_experts_per_tok=2),
    "window listed": Case("gemma4", {**HEADS, "attention.sliding_window": 64, "attention.key_length": 64, "attention.value_length": 64,
                                     "attention.key_length_swa": 32, "attention.value_length_swa": 32,
                                     "attention.sliding_window_pattern": [True, True, False]},
                          {**top(), **attention(0), **mlp(0), **attention(1), **mlp(1), **attention(2, k=64, v=64), **mlp(2)},
                          {**BASE, "model_type": "gemma4_text", "num_hidden_layers": 3, "sliding_window": 64, "global_head_dim": 64,
                           "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "num_kv_shared_layers": 0,
                           "hidden_size_per_layer_input": 0}),
    "chunked": Case("llama4", {**HEADS, "attention.sliding_window": 8192, "expert_used_count": 1},
                    {**top(), **{k: v for i in range(5) for k, v in {**attention(i), **moe(i)}.items()}},
                    {**BASE, "model_type": "llama4_text", "num_hidden_layers": 5, "num_local_experts": 4, "intermediate_size_mlp": FFN}),
    "shared": Case("gemma3n", {**HEADS, "attention.sliding_window": 64, "attention.shared_kv_layers": 4}, dense_layers(10),
                   {**BASE, "model_type": "gemma3n_text", "num_hidden_layers": 10, "sliding_window": 64, "num_kv_shared_layers": 4}),
    "per layer heads": Case("deci", {**HEADS, "attention.head_count": [8, 8, 8], "attention.head_count_kv": [2, 4, 8]},
                            {**top(), **attention(0), **mlp(0), **attention(1, kv=4), **mlp(1), **attention(2, kv=8), **mlp(2)},
                            {"num_hidden_layers": 3}),
    "mamba": Case("mamba", {"attention.head_count": 0, "ssm.conv_kernel": 4, "ssm.inner_size": 512, "ssm.state_size": 16, "ssm.time_step_rank": 16},
                  {**top(), **recurrent(0, conv1d=4, out=256), **recurrent(1, conv1d=4, out=256)},
                  {"model_type": "mamba", "hidden_size": HIDDEN, "num_hidden_layers": 2, "vocab_size": VOCAB, "state_size": 16, "conv_kernel": 4,
                   "intermediate_size": 512, "time_step_rank": 16, "torch_dtype": "float16"}),
    "hybrid mamba2": hybrid("granitehybrid", {**HEADS, "attention.head_count_kv": [0, 2, 0], **MAMBA2},
                            {"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention", "mamba"], "mamba_n_heads": 8,
                             "mamba_d_head": 64, "mamba_n_groups": 2, "mamba_d_state": 32, "mamba_d_conv": 4, "mamba_expand": 2,
                             "num_local_experts": 0, "shared_intermediate_size": FFN}, (False, True, False)),
    "hybrid delta": hybrid("qwen35", {**HEADS, **DELTA}, DELTA_CONFIG, (False, False, False, True)),
    "hybrid conv": hybrid("lfm2", {**HEADS, "attention.head_count_kv": [0, 0, 2], "shortconv.l_cache": 3},
                          {"model_type": "lfm2", "layer_types": ["conv", "conv", "full_attention"], "conv_L_cache": 3},
                          (False, False, True), recurrent(0, "shortconv.", conv=3, in_proj=768, out_proj=256)),
    "side by side": Case("falcon-h1", {**HEADS, **MAMBA2},
                         {**top(), **attention(0), **recurrent(0, **{"in": 1024, "conv1d": 4, "out": 256}), **mlp(0)},
                         {**BASE, "model_type": "falcon_h1", "num_hidden_layers": 1, "mamba_n_heads": 8, "mamba_d_head": 64,
                          "mamba_n_groups": 2, "mamba_d_state": 32, "mamba_d_conv": 4, "mamba_d_ssm": 512}),
}  # fmt: skip


def write(case: Case, folder: Path, **metadata: Any) -> str:
    path = folder / "model.gguf"
    write_gguf(path, case.pairs | metadata, case.tensors)
    return str(path)


# -- sizes and caches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_bytes_are_those_of_the_tensors_type_by_type(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    size = write_gguf(tmp_path / "model.gguf", case.pairs, case.tensors)
    spec = model_spec(str(tmp_path / "model.gguf"))
    assert spec.stored is not None
    assert estimate(spec, Request(16)).weight_bytes == spec.stored.bytes == size
    assert spec.stored.by_part.get("other") is None
    assert parameters(spec) == spec.stored.parameters
    assert set(spec.stored.by_dtype) == {kind for kind, _ in case.tensors.values()}
    assert not [line for line in spec.warnings if "contradiction" in line]


@pytest.mark.parametrize("name", [name for name in CASES if "model_type" in CASES[name].config])
@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 100, 9000])
def test_the_cache_equals_that_of_the_same_models_config(tmp_path: Path, name: str, tokens: int) -> None:
    case = CASES[name]
    spec, twin = model_spec(write(case, tmp_path)), read_config(case.config)
    ours, theirs = (
        estimate(spec, Request(tokens)),
        estimate(twin, Request(tokens, k_dtype="fp16", v_dtype="fp16", dtype="fp16")),
    )
    assert (ours.kv_bytes, ours.state_bytes) == (theirs.kv_bytes, theirs.state_bytes)
    assert [[cache.kind for cache in layer.caches] for layer in spec.layers] == [
        [cache.kind for cache in layer.caches] for layer in twin.layers
    ]


def test_kv_heads_of_each_layer_are_its_own(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["per layer heads"], tmp_path))
    assert estimate(spec, Request(100)).kv_bytes == 100 * (2 + 4 + 8) * 2 * 32 * 2


def test_a_latent_without_widths_of_its_own_keeps_k_and_v_of_every_head(tmp_path: Path) -> None:
    """llama.cpp v0.5.0: MiniCPM3-4B at 4,096 tokens 1,860 MiB of K and 1,240 of V, 62 layers of 40 heads of 96 and 64."""
    case = CASES["mla"]
    gone = ("attention.key_length", "attention.value_length")
    kept = {name: value for name, value in case.pairs.items() if not any(key in name for key in gone)}
    arch = case.pairs["general.architecture"]
    path = tmp_path / "model.gguf"
    write_gguf(path, kept | {f"{arch}.attention.key_length": 96, f"{arch}.attention.value_length": 64,
                             f"{arch}.attention.head_count_kv": 8}, case.tensors)  # fmt: skip
    spec = model_spec(str(path))
    assert estimate(spec, Request(100)).kv_bytes == len(spec.layers) * 100 * 8 * (96 + 64) * 2
    assert any("key_length_mla" in note for note in spec.notes)


def test_a_missing_value_length_is_hidden_by_heads(tmp_path: Path) -> None:
    """llama-model.cpp: n_embd_head_v is n_embd / n_head where the file gives none, whatever key_length says."""
    pairs = {"general.architecture": "llama", "llama.block_count": 1, "llama.embedding_length": HIDDEN,
             "llama.attention.head_count": 8, "llama.attention.head_count_kv": 2, "llama.attention.key_length": 64,
             "llama.context_length": 4096}  # fmt: skip
    path = tmp_path / "model.gguf"
    write_gguf(path, pairs, top() | attention(0, k=64, v=HIDDEN // 8) | mlp(0))
    assert estimate(model_spec(str(path)), Request(100)).kv_bytes == 100 * 2 * (64 + HIDDEN // 8) * 2


@pytest.mark.parametrize(("layers", "windows"), [(64, 48), (30, 0)])
def test_exaone_4_has_windows_in_its_large_model_alone(tmp_path: Path, layers: int, windows: int) -> None:
    """llama.cpp src/models/exaone4.cpp: the graph of the 30-layer model has none."""
    pairs = {"general.architecture": "exaone4", "exaone4.block_count": layers, "exaone4.embedding_length": HIDDEN,
             "exaone4.attention.head_count": 8, "exaone4.attention.head_count_kv": 2, "exaone4.context_length": 131072,
             "exaone4.attention.key_length": 32, "exaone4.attention.value_length": 32}  # fmt: skip
    path = tmp_path / "model.gguf"
    write_gguf(
        path, pairs, top() | {name: shape for i in range(layers) for name, shape in (attention(i) | mlp(i)).items()}
    )
    spec = model_spec(str(path))
    assert sum(cache.kind.startswith("sliding") for layer in spec.layers for cache in layer.caches) == windows


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"general.architecture": "clip", "general.type": "mmproj"}, "vision or audio tower .mmproj. of .*give the model"),
        ({"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}, "LoRA adapter .*name the base"),
        ({"general.architecture": "llama", "general.type": "vocab"}, "a vocabulary or a header, without tensors"),
        ({"general.architecture": "eagle3"}, "draft model"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_model_is_named_for_what_it_is(tmp_path: Path, metadata: dict[str, Any], words: str) -> None:
    path = tmp_path / "model.gguf"
    write_gguf(path, metadata, {"v.blk.0.attn_q.weight": ("F32", [32, 32])})
    with pytest.raises(UnsupportedModel, match=words):
        model_spec(str(path))


def test_config_takes_a_gguf_file_too(tmp_path: Path) -> None:
    path = write(CASES["mla"], tmp_path)
    assert (
        model_spec(config=path) == model_spec(path) or model_spec(config=path).model_type == model_spec(path).model_type
    )


def test_experts_that_a_token_passes_are_counted_active(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["moe"], tmp_path))
    experts = 2 * 3 * 4 * 64 * HIDDEN
    assert parameters(spec) - active_parameters(spec) == experts // 2


def test_multi_token_prediction_layers_cache_nothing_and_are_not_loaded(tmp_path: Path) -> None:
    case = CASES["gqa"]
    tensors = case.tensors | attention(3) | mlp(3) | {"blk.3.nextn.eh_proj.weight": ("Q8_0", [2 * HIDDEN, HIDDEN])}
    pairs = case.pairs | {"qwen3.block_count": 4, "qwen3.nextn_predict_layers": 1}
    size = write_gguf(tmp_path / "m.gguf", pairs, tensors)
    spec = model_spec(str(tmp_path / "m.gguf"))
    assert len(spec.layers) == 3 and spec.stored is not None and spec.stored.bytes == size
    assert estimate(spec, Request(8)).weight_bytes == size - spec.stored.bytes_of("mtp") < size


def test_tensor_parallel_ranks_hold_no_less_than_their_share(tmp_path: Path) -> None:
    spec = model_spec(write(CASES["gqa"], tmp_path))
    whole = estimate(spec, Request(8)).weight_bytes
    two = estimate(spec, Request(8, sharding=Sharding(tp=2)))
    assert whole // 2 < two.per_device.weight_bytes < whole and two.exactness["weight_bytes"] == "estimated"


def test_a_split_set_is_one_model_from_any_of_its_parts(tmp_path: Path) -> None:
    case = CASES["gqa"]
    items = list(case.tensors.items())
    parts = [dict(items[:9]), dict(items[9:20]), dict(items[20:])]
    size = 0
    for number, tensors in enumerate(parts, start=1):
        pairs = {"split.no": number - 1, "split.count": 3, "split.tensors.count": len(items)}
        pairs |= case.pairs if number == 1 else {}
        size += write_gguf(tmp_path / f"m-{number:05d}-of-00003.gguf", pairs, tensors)
    for name in ("m-00001-of-00003.gguf", "m-00003-of-00003.gguf", ""):
        spec = model_spec(str(tmp_path / name) + ("" if name else "/"))
        assert spec.stored is not None and spec.stored.bytes == size and spec.stored.source == "3 GGUF files"
    (tmp_path / "m-00002-of-00003.gguf").unlink()
    with pytest.raises(BadConfig, match=r"00002-of-00003.*does not exist"):
        model_spec(str(tmp_path / "m-00001-of-00003.gguf"))


def test_a_folder_of_several_models_wants_one_named_and_vision_files_are_left_aside(tmp_path: Path) -> None:
    case = CASES["gqa"]
    for name in ("m-Q4_K_M.gguf", "mmproj-f16.gguf"):
        write_gguf(tmp_path / name, case.pairs, case.tensors)
    assert model_spec(f"{tmp_path}/").name == "m-Q4_K_M"
    write_gguf(tmp_path / "m-Q8_0.gguf", case.pairs, case.tensors)
    with pytest.raises(BadConfig, match=r"holds 2 GGUF models; name the file of one: m-Q4_K_M\.gguf, m-Q8_0\.gguf"):
        model_spec(f"{tmp_path}/")


# -- contradictions and refusals ---------------------------------------------------------------------------


def test_a_width_that_tensors_and_metadata_give_differently_is_named(tmp_path: Path) -> None:
    case = CASES["gqa"]
    spec = model_spec(write(case, tmp_path, **{"qwen3.attention.head_count_kv": 4}))
    assert any("attn_k.weight has 64 rows in the tensors, the metadata gives 128" in line for line in spec.warnings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general.architecture": "newmodel"}, "not one kvplan knows"),
        ({"general.architecture": "bert"}, "no autoregressive decoder"),
        ({"general.architecture": ""}, "no general.architecture"),
        ({"qwen3.block_count": 0}, "block_count"),
        ({"qwen3.block_count": 20_000}, "block_count"),
        ({"qwen3.block_count": 4}, "layer 3 of 4 has no tensors"),
        ({"qwen3.attention.head_count": 0}, "0 heads"),
        ({"qwen3.attention.head_count_kv": [2]}, "1 entries for 3 layers"),
        ({"qwen3.attention.head_count_kv": 16}, "at most as many"),
        ({"qwen3.attention.head_count_kv": 2.0}, "whole number"),
        ({"qwen3.attention.key_length": True}, "whole number"),
        ({"qwen3.attention.key_length": 0}, "whole number"),
        ({"qwen3.embedding_length": 2**31}, "whole number"),
    ],
    ids=range(13),
)
def test_metadata_that_cannot_be_true_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    case = CASES["gqa"]
    write_gguf(tmp_path / "m.gguf", case.pairs | changes, case.tensors)
    with pytest.raises((BadConfig, UnsupportedModel), match=words):
        model_spec(str(tmp_path / "m.gguf"))


class Memory:
    """A file in memory, which remembers the longest piece that was asked for."""

    name = "x"

    def __init__(self, data: bytes, size: int | None = None) -> None:
        self.data, self.size, self.longest = data, len(data) if size is None else size, 0

    def read(self, offset: int, length: int) -> bytes:
        self.longest = max(self.longest, length)
        piece = self.data[offset : offset + length]
        return piece + b"\0" * (min(length, self.size - offset) - len(piece))


def header(pairs: bytes = b"", count: int = 0, tensors: bytes = b"", tensor_count: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensor_count, count) + pairs + tensors + b"\0" * 64


def tensor(
    name: bytes = b"a", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0, axes: int | None = None
) -> bytes:
    raw = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(shape) if axes is None else axes)
    return raw + b"".join(struct.pack("<Q", axis) for axis in shape) + struct.pack("<IQ", kind, offset)


HOSTILE = {
    "no magic": b"GGML" + b"\0" * 40,
    "short": b"GGUF",
    "old": header(version=1),
    "big-endian": header(version=3 << 24),
    "tensors": header(tensor_count=2**63),
    "pairs": header(count=2**63),
    "more pairs than bytes": header(count=60_000),
    "long key": header(struct.pack("<Q", 2**62) + b"a", 1),
    "long text": header(text("a") + struct.pack("<IQ", 8, 2**62), 1),
    "long list": header(text("a") + struct.pack("<IIQ", 9, 4, 2**62), 1),
    "list of many": header(text("a") + struct.pack("<IIQ", 9, 4, 9_000), 1),
    "list of texts": header(text("a") + struct.pack("<IIQ", 9, 8, 2**61), 1),
    "list of many texts": header(text("a") + struct.pack("<IIQ", 9, 8, 60_000_000), 1),
    "list of lists": header(text("a") + struct.pack("<IIQ", 9, 9, 1) * 50, 1),
    "type": header(text("a") + struct.pack("<I", 13), 1),
    "twice": header((text("a") + struct.pack("<II", 4, 1)) * 2, 2),
    "alignment": header(text("general.alignment") + struct.pack("<II", 4, 48), 1),
    "axes": header(tensors=tensor(axes=5), tensor_count=1),
    "no axes": header(tensors=tensor(axes=0), tensor_count=1),
    "empty": header(tensors=tensor(shape=(0, 4)), tensor_count=1),
    "huge": header(tensors=tensor(shape=(2**40, 2**40)), tensor_count=1),
    "tensor type": header(tensors=tensor(kind=5), tensor_count=1),
    "half a block": header(tensors=tensor(shape=(33,), kind=2), tensor_count=1),
    "unaligned": header(tensors=tensor(offset=8), tensor_count=1),
    "beyond": header(tensors=tensor(offset=2**40), tensor_count=1),
    "overlap": header(tensors=tensor() + tensor(b"b"), tensor_count=2),
    "same name": header(tensors=tensor() + tensor(offset=128), tensor_count=2),
    "long name": header(tensors=tensor(b"n" * 300), tensor_count=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused_in_one_line_before_anything_is_allocated(name: str) -> None:
    for size in (None, 50 * 10**9):
        source = Memory(HOSTILE[name], size)
        if size is not None and name in (
            "beyond",
            "short",
            "list of many",
            "more pairs than bytes",
            "long text",
            "long list",
        ):
            continue  # a file that large could be what it says, up to there
        with pytest.raises(BadConfig) as refused:
            read_gguf_file(source)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
        assert source.longest <= 1 << 20


def test_a_file_cut_anywhere_is_refused() -> None:
    case = CASES["gqa"]
    head, data = gguf_header(case.pairs, case.tensors)
    whole = Memory(head, len(head) + data)
    assert len(read_gguf_file(whole).tensors) == len(case.tensors)
    for cut in (*range(24, len(head), 97), len(head), len(head) + data - 32):
        with pytest.raises(BadConfig):
            read_gguf_file(Memory(head[:cut], cut))


def test_a_50_gb_file_with_a_large_vocabulary_costs_a_few_mib_and_milliseconds(tmp_path: Path) -> None:
    layers, hidden, ffn = 80, 8192, 28672
    tensors: Shapes = {"token_embd.weight": ("Q8_0", [hidden, 128256])}
    for i in range(layers):
        tensors |= {
            f"blk.{i}.attn_{name}.weight": ("Q8_0", [hidden, rows])
            for name, rows in (("q", 8192), ("k", 1024), ("v", 1024))
        }
        tensors[f"blk.{i}.attn_output.weight"] = ("Q8_0", [hidden, hidden])
        tensors |= {f"blk.{i}.ffn_{name}.weight": ("Q8_0", [hidden, ffn]) for name in ("gate", "up")}
        tensors[f"blk.{i}.ffn_down.weight"] = ("Q8_0", [ffn, hidden])
    pairs: dict[str, Any] = {
        "general.architecture": "llama", "llama.block_count": layers, "llama.embedding_length": hidden,
        "llama.attention.head_count": 64, "llama.attention.head_count_kv": 8, "llama.context_length": 131072,
        "tokenizer.ggml.tokens": [f"token{i}" for i in range(50_000)],
        "tokenizer.ggml.token_type": [1] * 50_000,
    }  # fmt: skip
    size = write_gguf(tmp_path / "m.gguf", pairs, tensors)
    assert size > 50 * 10**9
    started = time.process_time()
    spec = model_spec(str(tmp_path / "m.gguf"))
    seconds = time.process_time() - started
    tracemalloc.start()
    model_spec(str(tmp_path / "m.gguf"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spec.stored is not None and spec.stored.bytes == size
    assert estimate(spec, Request(1)).kv_bytes == 80 * 2 * 8 * 128 * 2
    assert peak < 8 << 20
    assert seconds < 2.0  # 0.1 s, most of it the vocabulary


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_bytes_make_the_parser_fail_in_any_other_way(raw: bytes, size: int) -> None:
    for data in (raw, b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + raw):
        with suppress(KvplanError):
            read_gguf_file(Memory(data, len(data) + size))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    case = CASES[data.draw(st.sampled_from(["gqa", "mla", "hybrid delta", "window listed"]))]
    pairs = {key: value for key, value in case.pairs.items() if not key.startswith("tokenizer.")}
    head, size = gguf_header(pairs, case.tensors)
    raw = bytearray(head)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("f") / "m.gguf"
    with open(path, "wb") as file:
        file.write(raw)
        file.truncate(len(raw) + size)
    try:
        spec = model_spec(str(path))
    except KvplanError:
        return
    assert isinstance(spec, ModelSpec) and estimate(spec, Request(64)).kv_bytes >= 0


# -- the gguf package --------------------------------------------------------------------------------------


@pytest.mark.skipif(not HAS_GGUF, reason="needs the gguf package")
def test_tensor_types_and_block_sizes_are_those_of_the_gguf_package() -> None:
    from gguf.constants import GGML_QUANT_SIZES

    theirs = {int(kind): (kind.name, *size) for kind, size in GGML_QUANT_SIZES.items()}
    own_only = {9, 31, 32, 33, 42} | {kind for kind in TENSOR_TYPES if kind >= 97}  # Q8_1 is 36 bytes in libggml itself
    ours = {kind: (name, block, size) for kind, (name, block, size, _) in TENSOR_TYPES.items() if kind not in own_only}
    assert {kind: theirs.get(kind) for kind in ours} == ours
    assert set(theirs) <= set(TENSOR_TYPES)


@pytest.mark.skipif(not HAS_GGUF, reason="needs the gguf package")
@pytest.mark.parametrize("name", ["gqa", "moe", "mla", "window of six", "hybrid delta"])
def test_a_file_that_the_gguf_package_wrote_is_read_to_the_byte(tmp_path: Path, name: str) -> None:
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from gguf.quants import quant_shape_to_byte_shape

    case, path = CASES[name], tmp_path / "m.gguf"
    writer = GGUFWriter(path, case.arch)
    for key, value in case.pairs.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif key != "general.architecture":
            writer.add_uint32(key, value)
    for tensor_name, (kind, shape) in case.tensors.items():
        number = GGMLQuantizationType[kind]
        if kind in ("F32", "F16"):
            writer.add_tensor(tensor_name, np.zeros(shape[::-1], np.float32 if kind == "F32" else np.float16))
        else:
            raw = np.zeros(quant_shape_to_byte_shape(tuple(shape[::-1]), number), np.uint8)
            writer.add_tensor(tensor_name, raw, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    theirs = GGUFReader(path)
    spec = model_spec(str(path))
    assert spec.stored is not None
    assert spec.stored.bytes == sum(int(tensor.n_bytes) for tensor in theirs.tensors)
    assert parameters(spec) == sum(int(tensor.n_elements) for tensor in theirs.tensors)
    assert spec.stored.file_bytes == path.stat().st_size
    twin = read_config(case.config)
    assert (
        estimate(spec, Request(100)).kv_bytes == estimate(twin, Request(100, k_dtype="fp16", v_dtype="fp16")).kv_bytes
    )


def test_deepseek_v4_keeps_a_window_entries_and_keys_of_its_indexer(tmp_path: Path) -> None:
    """Layers of ratio 0, 4 and 128; the same file with the dimensions of V4-Flash prints libllama v0.5.0's lines."""
    pairs = {
        "block_count": 3, "embedding_length": HIDDEN, "attention.head_count": 8, "attention.head_count_kv": 1, "context_length": 4096,
        "attention.key_length": 64, "attention.value_length": 64, "attention.q_lora_rank": 32, "attention.sliding_window": 128,
        "attention.compress_ratios": [0, 4, 128], "attention.indexer.head_count": 4, "attention.indexer.key_length": 16,
        "attention.output_group_count": 2, "attention.output_lora_rank": 32,
    }  # fmt: skip
    tensors = top()
    for i in range(3):
        tensors |= mlp(i) | {
            f"blk.{i}.attn_q_a.weight": ("F16", [HIDDEN, 32]),
            f"blk.{i}.attn_kv.weight": ("F16", [HIDDEN, 64]),
        }
    tensors |= {f"blk.{i}.attn_compressor_kv.weight": ("F16", [HIDDEN, 64]) for i in (1, 2)}
    path = tmp_path / "model.gguf"
    write_gguf(
        path,
        {"general.architecture": "deepseek4", **{f"deepseek4.{key}": value for key, value in pairs.items()}},
        tensors,
    )
    found = estimate(model_spec(str(path)), Request(1280))
    window, waiting = (
        3 * 128 * 64 * 2,
        4 * 2 * (64 + 16) * (2 + 4) // 2,
    )  # the block before: values in 16 bit, gates in fp32
    assert found.kv_bytes == window + (320 * (64 + 16) + 10 * 64) * 2 + waiting


def test_a_control_vector_is_named_for_what_it_is(tmp_path: Path) -> None:
    """`general.architecture` of llama-cvector-generator's files (llama.cpp tools/cvector-generator)."""
    key, name = b"general.architecture", b"controlvector"
    body = struct.pack("<Q", len(key)) + key + struct.pack("<IQ", 8, len(name)) + name
    body += struct.pack("<Q", 11) + b"direction.1" + struct.pack("<IQIQ", 1, 32, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + body
    path = tmp_path / "steer.gguf"
    path.write_bytes(head + b"\0" * (-len(head) % 32 + 128))
    with pytest.raises(UnsupportedModel, match="is a control vector"):
        model_spec(str(path))
