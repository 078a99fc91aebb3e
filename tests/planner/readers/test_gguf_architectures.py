"""Every architecture that a llama.cpp knows is read, or refused for what it is; those of 2026 by their own rules.

What libllama allocates for them is in tests/cases/llamacpp/contexts.jsonl; here stand the rules that no log line shows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.engines.base import Options
from planner.errors import BadConfig, BadRequest, KvplanError, UnsupportedModel
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.parameters import parameters
from planner.readers.gguf_archs import ARCHITECTURES, DRAFTS, NO_CACHE, NOT_READ, OTHER_FILES
from planner.speed.work import work_of
from profiler.verify_llama import ours
from tests.planner.readers.headers import write_gguf

HIDDEN, HEADS = (
    64,
    {"attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 16, "attention.value_length": 16},
)
NAMES = json.loads((Path(__file__).parents[2] / "cases" / "llamacpp" / "architectures.json").read_text())
Shapes = dict[str, tuple[str, list[int]]]


def layer(prefix: str, kv: int = 2) -> Shapes:
    shapes = {"attn_q": [HIDDEN, 64], "attn_k": [HIDDEN, 16 * kv], "attn_v": [HIDDEN, 16 * kv], "attn_output": [64, HIDDEN],
              "ffn_up": [HIDDEN, 128], "ffn_down": [128, HIDDEN]}  # fmt: skip
    return {f"{prefix}.{name}.weight": ("F16", shape) for name, shape in shapes.items()}


def made(folder: Path, arch: str, metadata: dict[str, Any], tensors: Shapes) -> str:
    path = folder / "model.gguf"
    pairs = {"embedding_length": HIDDEN, "context_length": 4096, **HEADS, **metadata}
    write_gguf(
        path,
        {"general.architecture": arch, **{f"{arch}.{key}": value for key, value in pairs.items()}},
        {"token_embd.weight": ("F16", [HIDDEN, 100]), **tensors},
    )
    return str(path)


def refused(name: str) -> bool:
    return name in DRAFTS or name in OTHER_FILES or name in NOT_READ or any(word in name for word in NO_CACHE)


@pytest.mark.parametrize("build", NAMES)
def test_every_architecture_of_a_build_is_read_or_refused_with_its_reason(build: str) -> None:
    """The names are those for which the build's libllama does not answer "unknown model architecture"; of ik_llama.cpp
    those of its src/llama-arch.cpp of 2026-08-15."""
    for name in NAMES[build]:
        assert (name in ARCHITECTURES) != refused(name), name


def test_no_architecture_is_read_that_no_build_knows() -> None:
    assert set(ARCHITECTURES) <= {name for names in NAMES.values() for name in names}


@pytest.mark.parametrize("arch", ["clef", "t5encoder", "bert"])
def test_a_model_without_a_cache_is_refused_for_having_none(tmp_path: Path, arch: str) -> None:
    """clef decides in one pass: b11739 makes no cache for it (its graph is that of an encoder)."""
    with pytest.raises(UnsupportedModel, match="no autoregressive decoder; it keeps no KV cache"):
        model_spec(made(tmp_path, arch, {"block_count": 1}, layer("blk.0")))


def test_openpangu_is_refused_with_what_it_would_keep(tmp_path: Path) -> None:
    with pytest.raises(
        UnsupportedModel, match=r"'openpangu' \(latents, windows, an indexer.*give its Hugging Face config.json"
    ):
        model_spec(made(tmp_path, "openpangu", {"block_count": 1}, layer("blk.0")))


def test_a_file_of_predicting_layers_alone_is_a_drafter(tmp_path: Path) -> None:
    """llama.cpp's converter writes such files with --mtp."""
    path = made(tmp_path, "qwen35", {"block_count": 3, "nextn_predict_layers": 1}, layer("blk.2"))
    with pytest.raises(UnsupportedModel, match=r"layers that predict further tokens .MTP. alone: a drafter"):
        model_spec(path)


@pytest.mark.parametrize("arch", ["beam", "kolibri1", "maion-coder", "maple", "muse-spark", "spark2_5"])
def test_windows_are_where_the_file_lists_them(tmp_path: Path, arch: str) -> None:
    """All of these take `attention.sliding_window_pattern` as a list, and b11739 does not load them without it."""
    own = {"block_count": 3, "attention.sliding_window": 32}
    tensors = layer("blk.0") | layer("blk.1") | layer("blk.2")
    listed = model_spec(made(tmp_path, arch, own | {"attention.sliding_window_pattern": [True, False, True]}, tensors))
    assert [cache.kind for one in listed.layers for cache in one.caches] == [
        "sliding window 32",
        "full attention",
        "sliding window 32",
    ]
    with pytest.raises(KvplanError, match=r"no .*sliding_window_pattern says which layers have the window"):
        model_spec(made(tmp_path, arch, own, tensors))


@pytest.mark.parametrize("arch", ["t5encoder", "llama-embed"])
def test_a_cache_that_nothing_reads_is_said(tmp_path: Path, arch: str) -> None:
    """b11739 logs one for these; for bert, gemma-embedding, modern-bert, llada, dream, rnd1 and their like none."""
    with pytest.raises(UnsupportedModel, match=r"keeps no KV cache between tokens; llama.cpp allocates K and V"):
        model_spec(made(tmp_path, arch, {"block_count": 1}, layer("blk.0")))


def hrm(folder: Path, **changes: int) -> str:
    own = {"block_count": 12, "hrm.layers_per_stack": 2, "hrm.h_cycles": 2, "hrm.l_cycles": 2, **changes}
    return made(folder, "hrm_text", own, {k: v for i in range(4) for k, v in layer(f"blk.{i}").items()})


def test_stacks_that_run_several_times_have_a_cache_for_each_pass_and_weights_once(tmp_path: Path) -> None:
    spec = model_spec(hrm(tmp_path))
    assert estimate(spec, Request(10)).kv_bytes == 12 * 10 * 2 * 2 * 16 * 2
    once = 4 * sum(rows * cols for _, (rows, cols) in layer("blk.0").values())
    assert parameters(spec) == once + HIDDEN * 100
    assert any("4 blocks of weights run as 12 layers" in note for note in spec.notes)
    assert (
        work_of(spec).weight_bytes == 3 * once * 2
    )  # low stack four times, high stack twice: each of 2 layers, 12 in all


def test_passes_that_do_not_make_the_layers_are_refused(tmp_path: Path) -> None:
    """llama.cpp asserts the same: layers · h_cycles · (l_cycles + 1)."""
    with pytest.raises(BadConfig, match="block_count is 12; 3 cycles of 2 and 1 passes over 2 layers are 18"):
        model_spec(hrm(tmp_path, **{"hrm.h_cycles": 3}))


def t5(folder: Path, encoder: int = 3, decoder: int = 3, **changes: int) -> str:
    tensors: Shapes = {"enc.output_norm.weight": ("F32", [HIDDEN]), "dec.output_norm.weight": ("F32", [HIDDEN])}
    for i in range(encoder):
        tensors |= layer(f"enc.blk.{i}", 4)
    for i in range(decoder):
        cross = {
            name.replace("attn_", "cross_attn_"): shape
            for name, shape in layer(f"dec.blk.{i}", 4).items()
            if "attn" in name
        }
        tensors |= layer(f"dec.blk.{i}", 4) | cross
    own = {"block_count": encoder, "attention.head_count_kv": 4, **changes}
    return made(folder, "t5", own | ({} if encoder == decoder else {"decoder_block_count": decoder}), tensors)


def test_t5_keeps_its_decoders_keys_and_those_of_the_source(tmp_path: Path) -> None:
    """2 · heads · 16 numbers of 2 B a token and layer, of 10 of its own and 100 of the encoder's."""
    spec = model_spec(t5(tmp_path))
    assert (len(spec.encoder), len(spec.layers)) == (3, 3)
    assert estimate(spec, Request(10, source_tokens=100)).kv_bytes == 3 * 2 * 4 * 16 * 2 * (10 + 100)
    assert spec.stored is not None and parameters(spec) == spec.stored.parameters


@pytest.mark.parametrize(("encoder", "decoder"), [(3, 3), (3, 2)])
def test_llamacpp_keeps_t5s_own_keys_alone_for_as_many_layers_as_the_encoder_has(
    tmp_path: Path, encoder: int, decoder: int
) -> None:
    found = ours(model_spec(t5(tmp_path, encoder, decoder)), None, {"n_ctx": 256})
    assert found["kv_bytes"] == encoder * 256 * 2 * 4 * 16 * 2


def test_llamacpp_takes_t5_in_one_stream_and_with_no_more_decoder_layers(tmp_path: Path) -> None:
    spec = model_spec(t5(tmp_path))
    with pytest.raises(BadRequest, match="aborts with T5 in 4 streams; give --parallel 1"):
        ours(spec, None, {"n_ctx": 1024, "n_seq_max": 4})
    assert ours(spec, None, {"n_ctx": 1024, "n_seq_max": 4, "kv_unified": True})["kv_bytes"]
    with pytest.raises(UnsupportedModel, match="3 decoder layers for 2 of the encoder"):
        model_spec(t5(tmp_path, 2, 3))


@pytest.mark.parametrize(("heads", "kv_heads"), [(0, 0), (4, 0), (4, 8)])
def test_t5_without_heads_is_refused(tmp_path: Path, heads: int, kv_heads: int) -> None:
    with pytest.raises(BadConfig, match=f"gives its layers {heads} heads and {kv_heads} KV heads"):
        model_spec(t5(tmp_path, **{"attention.head_count": heads, "attention.head_count_kv": kv_heads}))


def test_a_layer_that_shares_anothers_choice_keeps_no_indexer_keys(tmp_path: Path) -> None:
    """`attention.indexer.types` of GLM-5 decides even where the tensors are there; DeepSeek-V3.2 does not read it."""
    latent: Shapes = {
        "attn_q_a": ("F16", [HIDDEN, 32]),
        "attn_kv_a_mqa": ("F16", [HIDDEN, 40]),
        "indexer.attn_k": ("F16", [HIDDEN, 16]),
    }
    tensors = {f"blk.{i}.{name}.weight": shape for i in range(2) for name, shape in latent.items()}
    own = {"block_count": 2, "attention.kv_lora_rank": 32, "rope.dimension_count": 8, "attention.key_length_mla": 24, "attention.q_lora_rank": 32,
           "attention.value_length_mla": 16, "attention.indexer.head_count": 2, "attention.indexer.key_length": 16,
           "attention.indexer.types": [True, False]}  # fmt: skip
    kept = {
        arch: ours(model_spec(made(tmp_path, arch, own, tensors)), None, {"n_ctx": 256})["kv_index_bytes"]
        for arch in ("glm-dsa", "deepseek32")
    }
    assert kept == {"glm-dsa": 256 * 16 * 2, "deepseek32": 2 * 256 * 16 * 2}


@pytest.mark.parametrize(("rates", "keys"), [([0, 4], 2), ([0, 0], 1)])
def test_qwen4_exp_keeps_a_pooled_key_beside_each_where_it_pools(tmp_path: Path, rates: list[int], keys: int) -> None:
    assert ours(qwen4(tmp_path, rates), None, {"n_ctx": 256})["kv_index_bytes"] == keys * 16 * 2 * 256


def qwen4(folder: Path, rates: list[int], ngram: int = 3, kernel: int = 4) -> Any:
    own = {"block_count": 2, "attention.indexer.head_count": 2, "attention.indexer.key_length": 16, "attention.compress_ratios": rates,
           "ssm.conv_kernel": 4, "ssm.inner_size": 32, "ssm.state_size": 16, "ssm.time_step_rank": 2, "ssm.group_count": 1,
           "hyper_connection.count": 4, "ple.layers": [0], "ple.ngram_size": ngram, "ple.conv_kernel": kernel}  # fmt: skip
    tensors = layer("blk.1") | {
        "blk.0.ssm_out.weight": ("F16", [32, HIDDEN]),
        "blk.0.ple_conv1d.weight": ("F32", [kernel, 4 * HIDDEN]),
        "blk.1.indexer.k_proj.weight": ("F16", [HIDDEN, 16]),
        "blk.1.indexer.q_proj.weight": ("F16", [HIDDEN, 32]),
    }
    return model_spec(made(folder, "qwen4exp", own, tensors))


@pytest.mark.parametrize(("ngram", "kernel"), [(3, 4), (2, 3)])
def test_qwen4_exp_keeps_all_columns_of_its_ngrams_and_one_less_of_its_convolution(
    tmp_path: Path, ngram: int, kernel: int
) -> None:
    """fp32: convolution 3 · (2 · 16 + 32), state 2 · 16 · 16, n-grams (kernel - 1) · n · 4 streams · hidden."""
    found = ours(qwen4(tmp_path, [0, 4], ngram, kernel), None, {"n_ctx": 256})
    assert found["state_bytes"] == 4 * (3 * 64 + 512 + (kernel - 1) * ngram * 4 * HIDDEN)


def test_pools_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"compress_ratios are \[4, 8\]; one number above 1 is wanted"):
        qwen4(tmp_path, [8, 4])


@pytest.mark.parametrize("name", ["qwen3.8-flash-next", "hy4-preview", "glm-5"])
def test_a_catalogue_model_and_its_file_take_the_same(name: str, tmp_path: Path) -> None:
    """The files have the published dimensions; libllama's own answer to them is recorded."""
    from tests.record_llamacpp import CASES, unpacked

    row = next(row for row in map(json.loads, CASES.read_text().splitlines()) if row["model"] == name)
    file, ask = model_spec(str(unpacked(row, tmp_path))), {"n_ctx": 16384, "n_seq_max": 2}
    theirs, mine = ours(file, None, ask), ours(model_spec(name), None, ask)
    assert [mine[key] for key in ("kv_bytes", "kv_index_bytes", "state_bytes")] == [
        theirs[key] for key in ("kv_bytes", "kv_index_bytes", "state_bytes")
    ]


def test_value_experts_are_attention_and_their_used_ones_active(tmp_path: Path) -> None:
    """K2 Horizon: V is the sum of `attention.value_expert_used_count` of `value_expert_count` projections."""
    tensors = layer("blk.0")
    tensors.pop("blk.0.attn_v.weight")
    tensors["blk.0.attn_v_exps.weight"] = ("F16", [HIDDEN, 32, 4])
    own = {"block_count": 1, "attention.value_expert_count": 4, "attention.value_expert_used_count": 2}
    spec = model_spec(made(tmp_path, "k2-horizon", own, tensors))
    [held] = [weight for weight in spec.layers[0].weights if weight.count == 4]
    assert (held.part, held.active, held.parameters) == ("attention", 2, 4 * 32 * HIDDEN)


def test_fit_gives_t5_one_slot(tmp_path: Path) -> None:
    from planner.answers.engine import with_most_slots
    from planner.memory.request import Capacity
    from planner.options.engine import EngineAsked

    found = estimate(model_spec(t5(tmp_path)), Request(128), Capacity("card", 1 << 33))
    assert with_most_slots(EngineAsked("llamacpp", None, Options()), found).options.parallel == 1
