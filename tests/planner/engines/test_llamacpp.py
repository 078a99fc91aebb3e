"""llama.cpp's rules by version: padding, streams, window cells, MLA; figures from its logs and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from planner.catalogue.entries import find_model
from planner.engines import llamacpp, llamacpp_buffers
from planner.engines.base import Options
from planner.errors import BadRequest, UnsupportedModel
from planner.extras.shared_device import Extras, mtp_head
from planner.memory.estimate import estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.model.latent_attention import LatentAttention
from planner.model.latent_window import WindowedLatentAttention
from planner.model.spec import Layer
from planner.readers import read_entry
from planner.units import GIB, MIB


def answer(
    name: str, build: str | None = None, program: str = "llamacpp", seq: int = 512, batch: int = 1,
    kv: str | None = None, capacity: Capacity | None = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    found = estimate(read_entry(find_model(name)), Request(seq, batch, k_dtype=kv, v_dtype=kv), capacity)
    return llamacpp.answer(found, Options(**options), build, program).to_dict()


def test_slots_are_padded_one_by_one() -> None:
    """1024 over 3 slots: 3 x pad256(341) = 1536 cells, although the log says "rounding down"."""
    found = answer("llama-3-8b", ctx_size=1024, parallel=3)
    assert (found["pool_tokens"], found["streams"], found["kv_full_cells"]) == (1536, 3, 512)
    assert answer("llama-3-8b", ctx_size=1024, parallel=3, kv_unified=True)["pool_tokens"] == 1024


def test_padding_before_late_2025_is_32_without_flash_attention() -> None:
    """2528 stays 2528 (SYCL log), with flash attention 2560."""
    assert answer("llama-3-8b", "4500", ctx_size=2528)["pool_tokens"] == 2528
    assert answer("llama-3-8b", "4500", ctx_size=2528, flash_attn=True)["pool_tokens"] == 2560
    assert answer("llama-3-8b", ctx_size=2528)["pool_tokens"] == 2560


def test_a_sequence_length_is_what_each_slot_holds() -> None:
    """Without --ctx-size the context is --seq for every slot."""
    assert answer("llama-3-8b", seq=8192, batch=4)["ctx_size"] == 32768
    assert answer("llama-3-8b", seq=8192, parallel=2)["pool_bytes"] == 2 * 8192 * 131072


def test_window_cells_by_version() -> None:
    """gpt-oss, window 128, ubatch 512: 768 padded to 256, 640 without flash attention, batch for ubatch at first."""
    assert answer("gpt-oss-20b", ctx_size=8192)["kv_swa_cells"] == 768
    assert answer("gpt-oss-20b", "6100", ctx_size=4096, flash_attn=False)["kv_swa_cells"] == 640
    assert answer("gpt-oss-20b", "5500", ctx_size=8192)["kv_swa_cells"] == 2048 + 128
    assert answer("gpt-oss-20b", "5000", ctx_size=8192)["kv_swa_cells"] == 8192
    assert answer("gpt-oss-20b", ctx_size=8192, swa_full=True)["kv_swa_cells"] == 8192


def test_window_cells_of_a_unified_cache_count_every_slot() -> None:
    """Gemma 4 12B, 4 slots, ubatch 2048: 4 x 1024 + 2048 = 6144 cells, as logged; Gemma 2 2B 4 x 4096 + 512 > 8192."""
    assert answer("gemma-2-2b", ctx_size=8192, parallel=4, kv_unified=True)["kv_swa_cells"] == 8192
    assert answer("gemma-3-27b", ctx_size=65536, parallel=4, kv_unified=True, ubatch_size=2048)["kv_swa_cells"] == 6144


def test_relatives_keep_windows_in_full() -> None:
    """ik_llama.cpp always; ollama and LM Studio to the releases that changed it (ollama PR 16031, LM Studio 2.11)."""
    old = (("ik_llamacpp", None), ("ollama", "0.6.2"), ("lmstudio", "2.10"))
    for program, version in old:
        assert answer("gpt-oss-20b", version, program, ctx_size=8192)["kv_swa_cells"] == 8192
    for program, version in (("ollama", None), ("ollama", "0.30.0"), ("lmstudio", None), ("lmstudio", "2.11.0")):
        assert answer("gpt-oss-20b", version, program, ctx_size=8192)["kv_swa_cells"] == 768


def test_ollamas_own_engine_keeps_windows_in_one_pool() -> None:
    """v0.12.3 kvcache/causal.go: slots x window + batch cells; gpt-oss keeps 4,096 tokens; gemma-3-4b at 128k 2,560 + 174 MiB."""
    assert answer("gemma-3-4b", "0.12.3", "ollama", ctx_size=32768, parallel=4)["kv_swa_cells"] == 4 * 1024 + 512
    assert answer("gpt-oss-20b", "0.12.3", "ollama", ctx_size=32768)["kv_swa_cells"] == 4096 + 512
    now = answer("gemma-3-4b", None, "ollama", ctx_size=131072)
    assert (now["kv_full_bytes"] / MIB, now["kv_swa_bytes"] / MIB) == (2560, 174)


def test_v_rows_are_padded_to_the_widest_without_flash_attention() -> None:
    """Gemma 4 31B: V of 4 x 512 and of 16 x 256 numbers; all rows take 4,096 where V lies transposed (libllama v0.5.0)."""
    on, off = (answer("gemma-4-31b", ctx_size=8192, flash_attn=flash) for flash in (True, False))
    assert on["k_bytes"] == off["k_bytes"]
    assert off["v_bytes"] == (10 * 8192 + 50 * 1536) * 4096 * 2


def test_k_and_v_of_an_mla_cache_are_of_one_type() -> None:
    found = estimate(read_entry(find_model("deepseek-v3")), Request(512, k_dtype="q8_0", v_dtype="fp16"))
    with pytest.raises(BadRequest, match="one type"):
        llamacpp.answer(found, Options(ctx_size=4096), None)


def test_a_ubatch_is_at_most_the_batch() -> None:
    """window 1024 + 256, padded to 256."""
    assert answer("gemma-3-27b", ctx_size=8192, batch_size=256, ubatch_size=512)["kv_swa_cells"] == 1280


def test_snapshots_only_where_the_state_can_be_rolled_back() -> None:
    """Qwen3.5 keeps 1 + drafts states of a slot, Qwen3-Next one (`llm_arch_supports_rs_rollback`)."""
    for name, times in (("qwen3.5-35b-a3b", 3), ("qwen3-next-80b-a3b", 1)):
        sizes = [answer(name, ctx_size=4096, num_speculative_tokens=n)["state_bytes"] for n in (0, 2)]
        assert sizes[1] == times * sizes[0]


def test_hybrids_held_the_whole_context_in_every_stream_to_late_2025() -> None:
    old, new = (
        answer("qwen3.5-35b-a3b", build, ctx_size=8192, parallel=2, flash_attn=True) for build in ("6845", "7100")
    )
    assert (old["kv_full_cells"], new["kv_full_cells"]) == (8192, 4096)


def test_logits_of_the_whole_ubatch_to_june_2026() -> None:
    """Qwen3-1.7B on b8100: 512 x (151,936 + 2,048) x 4 B = 300.75 MiB, as logged (node-llama-cpp issue 560)."""
    assert answer("qwen3-1.7b", "8100", ctx_size=4096)["compute_buffer_bytes"] == int(300.75 * MIB)
    assert answer("qwen3-1.7b", "9400", ctx_size=4096)["compute_buffer_bytes"] < 100 * MIB


def test_models_of_windows_alone_are_kept_in_full() -> None:
    assert answer("mistral-7b-v0.1", ctx_size=32768)["kv_bytes"] == 32768 * 131072


def test_mla_by_version_and_mode() -> None:
    """DeepSeek-V3, 32768 tokens of 61 layers: all heads, K 576 and V 512, K alone; ik's modes likewise."""
    token = 32768 * 61 * 2
    assert answer("deepseek-v3", "4553", ctx_size=32768)["kv_bytes"] == token * 128 * (192 + 128)
    assert answer("deepseek-v3", "5331", ctx_size=32768)["kv_bytes"] == token * (576 + 512)
    assert answer("deepseek-v3", ctx_size=32768)["kv_bytes"] == token * 576
    for version, width in (
        ("0.5.7", 128 * 320),
        ("0.6.6", 128 * 320),
        ("0.6.7", 1088),
        ("0.29.0", 1088),
        ("0.30.0", 576),
    ):
        assert answer("deepseek-v3", version, program="ollama", ctx_size=32768)["kv_bytes"] == token * width
    modes = {0: 128 * 320, 1: 1088, 2: 576, 3: 576}
    for mode, width in modes.items():
        assert answer("deepseek-v3", program="ik_llamacpp", ctx_size=32768, mla_mode=mode)["kv_bytes"] == token * width
    flash = answer("deepseek-v3", program="ik_llamacpp", ctx_size=32768, mla_mode=1, flash_attn=True, kv="q8_0")
    assert round(flash["kv_bytes"] / MIB, 2) == 1166.62  # ik_llama.cpp log


def test_ollama_has_flash_attention_by_release_and_model() -> None:
    """granite3.2:8b with four slots of 16,384 tokens took 21.7 to 23.6 GB (granite-code issue 88): 4 GiB of it are scores."""
    off, on = (answer("granite-3.1-8b", version, program="ollama", ctx_size=65536) for version in ("0.6.0", "0.13.5"))
    assert off["compute_buffer_bytes"] > 65536 * 512 * 32 * 4 > 8 * on["compute_buffer_bytes"]
    own = [answer("qwen3-8b", version, program="ollama", ctx_size=65536) for version in ("0.12.3", "0.12.4")]
    assert own[0]["compute_buffer_bytes"] > 8 * own[1]["compute_buffer_bytes"]


def test_states_are_f32_for_every_slot_and_snapshot() -> None:
    """Qwen3.5-27B: 149.62 MiB a slot (log), three times that with two snapshots for drafts."""
    one = answer("qwen3.5-27b", ctx_size=8192)["state_bytes"]
    assert round(one / MIB, 2) == 149.62
    assert answer("qwen3.5-27b", ctx_size=8192, parallel=2)["state_bytes"] == 2 * one
    assert answer("qwen3.5-27b", ctx_size=8192, num_speculative_tokens=2)["state_bytes"] == 3 * one


def test_ik_allocates_glms_drafting_layer_before_3961() -> None:
    assert answer("glm-4.5-air", "3900", "ik_llamacpp", ctx_size=1024)["kv_bytes"] == 47 * 1024 * 4096
    assert answer("glm-4.5-air", "3964", "ik_llamacpp", ctx_size=1024)["kv_bytes"] == 46 * 1024 * 4096
    assert answer("glm-4.5-air", ctx_size=1024)["kv_bytes"] == 46 * 1024 * 4096


def test_k_and_v_are_f16_whatever_the_model_runs_in() -> None:
    assert answer("gpt2", ctx_size=1024)["kv_bytes"] == answer("gpt2", ctx_size=1024, kv="fp16")["kv_bytes"]


def test_a_given_pool_is_turned_into_the_longest_context() -> None:
    found = answer("llama-3-8b", pool_bytes=GIB)
    assert (found["pool_tokens"], found["ctx_size"]) == (8192, 8192)
    small = answer("llama-3-8b", pool_bytes=1000)
    assert (small["fits"], small["most_requests"]) == (False, 0)


def test_the_device_must_hold_weights_cells_and_buffers() -> None:
    assert answer("llama-3-8b", seq=8192, capacity=Capacity("c", 24 * GIB))["fits"] is True
    assert answer("llama-3-8b", seq=8192, capacity=Capacity("c", 15 * GIB))["fits"] is False


def test_what_is_not_modelled_is_refused() -> None:
    for name in ("whisper-large-v3-turbo", "recurrentgemma-2b"):
        with pytest.raises(UnsupportedModel):
            answer(name, seq=448)


def test_a_device_that_cannot_hold_it_serves_no_request() -> None:
    found = answer("llama-3-8b", seq=8192, capacity=Capacity("c", 15 * GIB))
    assert (found["fits"], found["most_requests"]) == (False, 0)
    assert found["mends"] == ["--n-gpu-layers 31"]


def test_each_card_holds_its_own_layers() -> None:
    """Gemma-4-31B in 6 bit with 128k on two RTX 3090 loads (ik_llama.cpp issue 1607): weights and cells by card."""
    card = Capacity("RTX-3090", int(23.58 * GIB))
    spec = read_entry(find_model("gemma-4-31b"))
    one, two = (estimate(spec, Request(131072, dtype="q6_k", sharding=Sharding(pp=pp)), card) for pp in (1, 2))
    assert llamacpp.answer(two, Options(ctx_size=131072), None).fits
    refused = llamacpp.answer(one, Options(ctx_size=131072), None)
    assert refused.refusal is not None and not refused.fits


def test_the_cells_of_all_cards_are_the_whole_cache() -> None:
    spec = read_entry(find_model("gemma-3-27b"))
    found = estimate(spec, Request(8192, sharding=Sharding(pp=3)), Capacity("card", 80 * GIB))
    setting = llamacpp.settings(found, Options(ctx_size=8192), None, program="llamacpp")
    placed = llamacpp.answer(found, Options(ctx_size=8192), None).placed
    assert placed is not None and len(placed.cards) == 3 and not placed.host_cache_bytes
    assert sum(card.cache_bytes for card in placed.cards) == llamacpp_buffers.buffers(found, setting).total


def test_koboldcpp_keeps_windows_in_full_to_1_113_and_adds_cells() -> None:
    """koboldcpp issue 2235: eight times llama-server's cache for Gemma 4 31B, until --useswa or 1.114; issue 1054: 4,108 MiB
    (128.38 + 3,979.63) for Llama 3.1 8B at 32,768, which are 32,864 cells: 80 more, padded to 32."""
    server = answer("gemma-4-31b", ctx_size=131072)["pool_bytes"]
    in_full = answer("gemma-4-31b", "1.113.2", "koboldcpp", ctx_size=131072)["pool_bytes"]
    assert 7.5 < in_full / server < 10.5
    for version, flags in (("1.113.2", {"useswa": True}), ("1.114", {})):
        kept = answer("gemma-4-31b", version, "koboldcpp", ctx_size=131072, **flags)
        assert kept["kv_swa_cells"] == 1536 and kept["kv_full_cells"] == 131072 + 256
    llama = answer("llama-3.1-8b", "1.73", "koboldcpp", ctx_size=32768)
    assert (llama["kv_full_cells"], llama["kv_bytes"]) == (32864, 4108 * MIB)


def test_keys_of_a_sparse_indexer_lie_in_a_cache_of_their_own() -> None:
    """libllama v0.5.0, deepseek32 with 4,096 cells: 274.5 MiB of latents and 61 MiB of keys in 61 layers."""
    found = answer("deepseek-v3.2", seq=4096)
    assert found["kv_full_bytes"] == int(274.5 * MIB) and found["kv_index_bytes"] == 61 * MIB
    assert found["kv_bytes"] == int(335.5 * MIB)
    assert [line for line in found["prints"] if "61.00 MiB" in line]
    with pytest.raises(UnsupportedModel, match="not modelled for this version"):
        answer("deepseek-v3.2", "6900")


@pytest.mark.parametrize(("build", "index"), [("b10069", 0), ("b10152", 78 * 4096 * 128 * 2)])
def test_glm_5_ran_without_its_indexer_before_b10152(build: str, index: int) -> None:
    """Asked of b8368 to b10069, which make one cache, and of b10152, which makes two."""
    found = answer("glm-5", build, seq=4096)
    assert (found["kv_full_bytes"], found["kv_index_bytes"]) == (78 * 4096 * 576 * 2, index)


@pytest.mark.parametrize(("build", "layers"), [("4600", 0), ("4676", 21), (None, 21)])
def test_ik_keeps_glm_5s_indexer_keys_in_every_fourth_layer_in_f16(build: str | None, layers: int) -> None:
    """Layers 0, 1, 2, 6, ... 74 of 78 (its src/llama-hparams.cpp, indexer_is_full), whatever the type of K."""
    for kv in (None, "q8_0"):
        found = answer("glm-5", build, "ik_llamacpp", seq=4096, kv=kv)
        assert found["kv_index_bytes"] == layers * 4096 * 128 * 2
    with pytest.raises(UnsupportedModel, match="indexer keys is not modelled for this version"):
        answer("deepseek-v3.2", build, "ik_llamacpp")


@pytest.mark.parametrize(("build", "keys"), [("b11227", 1), ("b11413", 2)])
def test_qwen4_exp_keeps_pooled_keys_from_b11413_on(build: str, keys: int) -> None:
    """12 full layers of 48; b11067 and b11227 were asked for the one, b11413 to b11739 for the other."""
    assert answer("qwen3.8-flash-next", build, seq=4096)["kv_index_bytes"] == keys * 12 * 4096 * 128 * 2


@pytest.mark.parametrize(
    ("name", "numbers"), [("qwen3.8-flash-next", 2 * 2 * 256 + 2 * 128), ("glm-5", 576), ("qwen3.5-9b", 2 * 4 * 256)]
)
def test_a_predicting_layers_own_cache_is_the_librarys(name: str, numbers: int) -> None:
    """b11739's context of the predicting layers, 4,096 cells: 8 MiB and 2 of indexer keys, 4.5 MiB, 16 MiB."""
    spec = read_entry(find_model(name))
    drafted = estimate(spec, Request(4096, extras=Extras(drafter=mtp_head(spec))))
    found = llamacpp.answer(drafted, Options(), None, "llamacpp").to_dict()
    assert found["draft_cache_bytes"] == numbers * 4096 * 2


def test_latents_over_a_window_have_a_window_cache() -> None:
    """dots.note: a row of the window's own latent and rope key, and no V; in swa_full the whole context."""
    windowed, whole = (
        WindowedLatentAttention(64, 4, None, 32, 8, 16, 16, window=512),
        LatentAttention(64, 4, None, 64, 8, 16, 16),
    )
    spec = replace(read_entry(find_model("llama-7b")), layers=(Layer((windowed,)), Layer((whole,))), name="dots")
    found = {
        full: llamacpp.answer(estimate(spec, Request(8192)), Options(swa_full=full), None, "llamacpp").to_dict()
        for full in (False, True)
    }
    assert [found[full]["kv_swa_bytes"] for full in (False, True)] == [1024 * 48 * 2, 8192 * 48 * 2]
    assert found[False]["kv_full_bytes"] == 8192 * 80 * 2


@pytest.mark.parametrize("program", ["llamacpp", "ollama", "lmstudio"])
def test_deepseek_v4_1_whose_past_is_another_is_refused(program: str) -> None:
    flash = estimate(read_entry(find_model("deepseek-v4.1-flash")), Request(4096))
    with pytest.raises(UnsupportedModel, match="keeps compressed 1:2 is not modelled; leave --engine out"):
        llamacpp.answer(flash, Options(), None, program)


def test_deepseek_v4_keeps_windows_entries_keys_and_open_blocks() -> None:
    """libllama v0.5.0, V4-Flash at 4,096, as 31 more contexts of it: 43 raw layers of 768 cells, entries of 512 and keys of 128 numbers.

    21 layers with an entry for 4 tokens (1,024 cells), 20 with one for 128 (256 cells); open blocks in fp32.
    """
    found = answer("deepseek-v4-flash", seq=4096)
    assert found["kv_swa_bytes"] == 43 * 768 * 512 * 2 and found["kv_swa_cells"] == 768
    assert found["kv_compressed_bytes"] == 21 * 1024 * (512 + 128) * 2 + 20 * 256 * 512 * 2
    assert found["state_bytes"] == 2 * 4 * (21 * 8 * 2 * (512 + 128) + 20 * 128 * 512)
    assert found["kv_bytes"] == found["kv_swa_bytes"] + found["kv_compressed_bytes"]
    assert [line for line in found["prints"] if "21.00 MiB (  1024 cells,  21 layers" in line]
    with pytest.raises(BadRequest, match="one type"):
        refused = estimate(read_entry(find_model("deepseek-v4-flash")), Request(4096, k_dtype="q8_0", v_dtype="q4_0"))
        llamacpp.answer(refused, Options(), None, "llamacpp")


def test_every_slot_of_deepseek_v4_is_a_stream_of_its_own() -> None:
    apart, unified = (
        answer("deepseek-v4-flash", seq=4096, ctx_size=16384, parallel=4, kv_unified=one) for one in (False, True)
    )
    assert apart["streams"] == unified["streams"] == 4
    assert unified["kv_compressed_bytes"] > 3 * apart["kv_compressed_bytes"]
