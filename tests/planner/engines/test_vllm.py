"""vLLM's rules, each by an example whose outcome was printed by a server or follows from the source by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.catalogue.entries import find_model
from planner.engines import vllm, vllm_v1
from planner.engines.base import Options
from planner.errors import BadRequest, UnsupportedModel
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Capacity, Request
from planner.memory.sharding import Sharding
from planner.readers import read_entry
from planner.readers.huggingface import read_config
from planner.units import GIB


def asked(
    name: str, seq: int = 1024, kv: str | None = None, capacity: Capacity | None = None, **ranks: int
) -> Estimate:
    request = Request(seq, k_dtype=kv, v_dtype=kv, sharding=Sharding(**ranks))
    return estimate(read_entry(find_model(name)), request, capacity)


def pool_of(found: Estimate, version: str | None, **options: object) -> dict[str, object]:
    given = Options(**{"pool_bytes": 10 * GIB, **options})  # type: ignore[arg-type]
    return vllm.answer(found, given, version).to_dict()


def test_recurrent_states_enlarge_the_block() -> None:
    """Blocks of 1056 (Qwen3.6-35B-A3B), 1072 with two draft tokens, 2096 with an fp8 cache: as logged."""
    assert pool_of(asked("qwen3.5-35b-a3b"), "0.19.1")["block_tokens"] == 1056
    assert pool_of(asked("qwen3.5-35b-a3b"), "0.19.1", num_speculative_tokens=2)["block_tokens"] == 1072
    assert pool_of(asked("qwen3.5-35b-a3b", kv="fp8"), "0.19.1")["block_tokens"] == 2096


def test_a_mamba_state_of_4_mib_gives_blocks_of_4160_and_8432() -> None:
    """Nemotron-3-Super: 4160 with a 16-bit cache, 8432 with fp8 and three draft tokens: as logged."""
    assert pool_of(asked("nemotron-3-super-120b-a12b-fp8", kv="bf16"), "0.19.1")["block_tokens"] == 4160
    fp8 = asked("nemotron-3-super-120b-a12b-fp8", kv="fp8")
    assert pool_of(fp8, "0.19.1", num_speculative_tokens=3)["block_tokens"] == 8432


def test_qwen3_next_keeps_states_in_the_models_dtype() -> None:
    """32·128·128·2 B + 8192·3·2 B = 1,097,728 B over 2,048 B a token, to a multiple of 16: 544."""
    assert pool_of(asked("qwen3-next-80b-a3b"), "0.11.2")["block_tokens"] == 544
    assert pool_of(asked("qwen3-next-80b-a3b"), "0.11.2", mamba_ssm_dtype="fp32")["block_tokens"] == 1056


def test_hybrids_hold_two_states_from_0_28() -> None:
    """Prefix caching became their default (vLLM PR 50991): 2 + drafts blocks of each group of states, as align has."""
    found = asked("qwen3.5-35b-a3b", 8192)
    old, new = (pool_of(found, version, max_model_len=8192) for version in ("0.27.1", "0.28.0"))
    assert (old["groups"], old["block_tokens"]) == (new["groups"], new["block_tokens"]) == (4, 1056)
    block = int(str(old["block_bytes"]))
    assert old["request_bytes"] == (8 + 3 * 1) * block
    assert new["request_bytes"] == (8 + 3 * 2) * block
    assert pool_of(found, "0.28.0", max_model_len=8192, prefix_caching=False)["request_bytes"] == old["request_bytes"]
    assert pool_of(found, "0.27.1", max_model_len=8192, prefix_caching=True)["request_bytes"] == new["request_bytes"]


def test_a_window_is_charged_with_the_batched_tokens_and_one_block() -> None:
    """Gemma 4 26B at 8192: 6 groups, full 256 blocks of 32, sliding cdiv(1023 + 4096, 16) + 1 = 321."""
    found = pool_of(asked("gemma-4-26b-a4b", 8192), "0.20.0", max_model_len=8192, max_num_batched_tokens=4096)
    assert found["groups"] == 6
    assert found["request_bytes"] == (256 + 5 * 321) * int(str(found["block_bytes"]))


def test_printed_tokens_change_their_meaning_at_0_21() -> None:
    """To 0.20 the capacity, from 0.21 concurrency times length; the pool is the same."""
    old = pool_of(asked("gemma-3-27b"), "0.20.0", max_model_len=8192)
    new = pool_of(asked("gemma-3-27b"), "0.21.0", max_model_len=8192)
    assert old["pool_blocks"] == new["pool_blocks"]
    assert old["printed_tokens"] == old["pool_tokens"]
    assert int(str(new["printed_tokens"])) > int(str(old["printed_tokens"]))


def test_before_the_hybrid_manager_windows_cost_their_full_length() -> None:
    """0.8 to 0.9.0, and the flag: 62 layers of Gemma 3 27B at full length."""
    full = 16 * 62 * 2 * 16 * 128 * 2
    assert pool_of(asked("gemma-3-27b"), "0.8.4")["block_bytes"] == full
    assert pool_of(asked("gemma-3-27b"), "0.11.2", disable_hybrid=True)["block_bytes"] == full
    assert pool_of(asked("gemma-3-27b"), "0.11.2")["block_bytes"] == full // 62 * 10


def test_llama_4_chunks_are_charged_in_full() -> None:
    """Chunked local attention with the hybrid manager is off by default (0.11.2)."""
    found = pool_of(asked("llama-4-scout", 4096), "0.11.2")
    assert found["groups"] == 1
    assert found["request_bytes"] == 4096 * 48 * 2 * 8 * 128 * 2


def test_a_sparse_indexer_keeps_132_bytes_whatever_the_cache_type() -> None:
    """GLM-5.2: 78 x 656 + 21 x 132 B a token (jupiter log); fp8 means fp8_ds_mla there, and so does auto."""
    for kv in ("fp8", "fp8_ds_mla", None):
        assert pool_of(asked("glm-5.2", kv=kv), "0.23.1")["page_bytes"] == 64 * (78 * 656 + 21 * 132)
    assert pool_of(asked("glm-5.2", kv="bf16"), "0.23.1")["page_bytes"] == 64 * (78 * 1152 + 21 * 132)


def test_mla_blocks_by_device() -> None:
    """64 with FlashMLA, 128 with CUTLASS MLA on Blackwell, 16 where neither runs or the record is not 576."""
    hopper, ampere = Capacity("H100-SXM5-80GB", 80 * GIB), Capacity("A100-SXM4-80GB", 80 * GIB)
    blackwell = Capacity("B200-HGX-180GB", 180 * GIB)
    assert pool_of(asked("deepseek-v3", capacity=hopper), "0.11.2")["block_tokens"] == 64
    assert pool_of(asked("deepseek-v3", capacity=blackwell), "0.11.2")["block_tokens"] == 128
    assert pool_of(asked("deepseek-v3", capacity=ampere), "0.11.2")["block_tokens"] == 16
    assert pool_of(asked("mistral-small-4-119b"), "0.11.2")["block_tokens"] == 16


def test_mla_by_version_of_the_first_engine() -> None:
    """Before 0.7.1 as plain attention of heads padded to 256; 0.7.2 to 0.8 each latent starts at 256 bytes."""
    found = asked("deepseek-v3", tp=8)
    assert pool_of(found, "0.6.6")["block_bytes"] == 16 * 61 * 16 * 2 * 256 * 2
    assert pool_of(found, "0.7.1")["block_bytes"] == 16 * 61 * 1152
    assert pool_of(found, "0.7.3")["block_bytes"] == 16 * 61 * 1280


def test_gpt_bigcode_of_0_1_stored_its_one_head_for_every_query_head() -> None:
    """WizardCoder 15B on two ranks: 24 heads a rank, 24 times what later versions store (vLLM issue 761)."""
    old, new = (pool_of(asked("starcoder-15b", tp=2), version) for version in ("0.1.4", "0.2.7"))
    assert old["block_bytes"] == 24 * int(str(new["block_bytes"]))


def test_pipeline_stages_before_0_7_3_leave_the_remainder_to_the_last() -> None:
    """62 layers on 4 stages: 17 on the last, later 16 at most."""
    spec = read_config({"model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 62, "num_attention_heads": 8,
                        "intermediate_size": 2048, "vocab_size": 1000})  # fmt: skip
    found = estimate(spec, Request(1024, sharding=Sharding(pp=4)))
    token = 2 * 8 * 128 * 2
    assert pool_of(found, "0.6.6")["block_bytes"] == 16 * 17 * token
    assert pool_of(found, "0.8.5", block_size=16)["block_bytes"] == 16 * 16 * token


def test_the_start_up_check_adds_all_layers_under_pipeline_parallelism() -> None:
    """Qwen3-Coder-30B-A3B, pp 2, 262144 tokens: 24.0 GiB needed, as logged."""
    found = asked("qwen3-30b-a3b", pp=2)
    answer = pool_of(found, "0.15.2", max_model_len=262144)
    assert answer["needed_bytes"] == 24 * GIB
    assert int(str(answer["block_bytes"])) * 2 == 16 * 48 * 2048


def test_decode_context_parallel_multiplies_the_printed_tokens() -> None:
    one = pool_of(asked("kimi-k2", tp=8), "0.12.0")
    eight = pool_of(asked("kimi-k2", tp=8, dcp=8), "0.12.0")
    assert eight["printed_tokens"] == 8 * int(str(one["printed_tokens"]))


def test_older_devices_and_encoder_decoders_run_the_first_engine_to_0_10() -> None:
    t4 = Capacity("T4", 15 * GIB)
    assert pool_of(asked("llama-3.2-1b", capacity=t4), "0.9.2")["generation"] == "v0"
    assert pool_of(asked("llama-3.2-1b", capacity=t4), "0.11.0")["generation"] == "v1"
    assert pool_of(asked("whisper-large-v3-turbo", 448), "0.9.0.1")["generation"] == "v0"
    assert pool_of(asked("llama-3.2-1b"), "0.9.2")["generation"] == "v1"


def test_group_sizes_by_version() -> None:
    """12 and 13 layers (gpt-oss with an EAGLE layer) pad to 13 from 0.11.1; 10 and 14 only from the factor 1.5 on."""
    assert [vllm_v1.group_size([12, 13], v) for v in ((0, 11, 0), (0, 11, 1))] == [12, 13]
    assert [vllm_v1.group_size([10, 14], v) for v in ((0, 12), (0, 18))] == [10, 14]


def test_a_model_of_states_alone_gets_one_block_a_request() -> None:
    found = pool_of(asked("mamba-2.8b", 4096), "0.11.2", max_model_len=4096)
    assert found["block_tokens"] == 4096
    assert found["max_concurrency"] == float(str(found["pool_blocks"]))


def test_the_logged_sampler_costs_39_bytes_a_sequence_and_entry() -> None:
    """Qwen2.5-7B on an A10G, V0 of 0.8.1: activation peak 1.43 GiB with 256 sequences of a vocabulary of 152,064."""
    estimate = asked("qwen2.5-7b", capacity=Capacity("A10G", 22 * GIB))
    found = vllm.answer(estimate, Options(max_model_len=6600), "0.8.1", "v0").to_dict()
    assert abs(int(str(found["activation_bytes"])) / GIB - 1.43) < 0.03


def test_given_figures_have_no_range() -> None:
    found = asked("llama-3.1-8b", capacity=Capacity("L4", 22 * GIB))
    given = replace(
        found, request=replace(found.request, activation_override=GIB, overhead_override={"non_torch": GIB})
    )
    answer = pool_of(given, "0.11.2", pool_bytes=None)
    assert answer["activation_bytes_low"] == answer["activation_bytes_high"] == GIB
    assert answer["overhead_bytes_low"] == answer["overhead_bytes_high"] == GIB


def test_a_pool_too_small_for_one_block_is_an_answer() -> None:
    found = pool_of(asked("llama-3.1-8b"), "0.11.2", pool_bytes=1)
    assert (found["pool_blocks"], found["most_requests"], found["fits"]) == (0, 0, False)


def test_what_is_not_modelled_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="not modelled"):
        pool_of(asked("deepseek-v4.1-flash"), "0.33.0")
    with pytest.raises(UnsupportedModel, match="rg-lru"):
        pool_of(asked("recurrentgemma-2b"), "0.20.0")
    with pytest.raises(BadRequest, match="fp8_ds_mla"):
        pool_of(asked("deepseek-v3", kv="fp8_ds_mla"), "0.6.6")


def test_requests_beyond_the_longest_are_refused() -> None:
    found = pool_of(asked("llama-3.1-8b", 8192), "0.11.2", max_model_len=4096)
    assert (found["most_requests"], found["fits"]) == (0, False)
    assert "refused" in found["differences"][-1]  # type: ignore[index]


def test_replicas_share_the_batch() -> None:
    """Data parallelism: 8 sequences on two replicas are 4 on each."""
    spec = read_entry(find_model("llama-3.1-8b"))
    for batch, fits in ((8, True), (10, False)):
        found = estimate(spec, Request(8192, batch, sharding=Sharding(dp=2)))
        assert pool_of(found, "0.11.2", pool_bytes=4 * GIB, max_model_len=8192)["fits"] is fits


@pytest.mark.parametrize(("generation", "version"), [("v0", "0.11.2"), ("v1", "0.6.6")])
def test_engines_that_a_version_does_not_have_are_refused(generation: str, version: str) -> None:
    with pytest.raises(BadRequest, match="name vllm or"):
        vllm.answer(asked("llama-3.1-8b"), Options(), version, generation)


def test_a_window_is_charged_a_second_batch_from_0_26() -> None:
    """Gemma-4-31B at 262,144 with 32,768 batched tokens: 45.79 GiB to 0.25, 70.79 from 0.26 (PR 47728), where
    scheduling overlaps; one batch without it and on CPU."""
    found = asked("gemma-4-31b", 262144)
    given = {"max_model_len": 262144, "max_num_batched_tokens": 32768, "pool_bytes": 100 * GIB}

    def needed(version: str, **more: object) -> float:
        return round(int(str(pool_of(found, version, **given, **more)["needed_bytes"])) / GIB, 2)

    assert (needed("0.25.1"), needed("0.26.0"), needed("0.33.0")) == (45.79, 70.79, 70.79)
    assert needed("0.33.0", async_scheduling=False) == 45.79


def test_states_of_mamba_2_hold_a_checkpoint_from_0_32() -> None:
    """2 blocks a request and group to 0.31, 3 from 0.32; without prefix caching one; no attention: one."""
    found = asked("nemotron-nano-9b-v2", 8192)
    blocks = {}
    for version in ("0.31.0", "0.32.0"):
        answer = pool_of(found, version, max_model_len=8192)
        blocks[version] = int(str(answer["request_bytes"])) // int(str(answer["block_bytes"]))
    groups = int(str(answer["groups"]))
    assert blocks["0.32.0"] - blocks["0.31.0"] == groups - 1
    off = pool_of(found, "0.32.0", max_model_len=8192, prefix_caching=False)
    assert off["mamba_cache_mode"] == "none"
    pure = pool_of(asked("mamba2-2.7b", 8192), "0.33.0", max_model_len=8192)
    assert pure["mamba_cache_mode"] == "none" and pure["pool_blocks"] == int(str(pure["max_concurrency"]).split(".")[0])


def test_explicit_prefix_caching_sets_the_mode_of_its_release() -> None:
    """`align` for gated DeltaNet from 0.15, `all` for Mamba to 0.27, `align` for all from 0.28."""
    gdn, mamba = asked("qwen3.5-35b-a3b", 8192), asked("nemotron-nano-9b-v2", 8192)
    modes = {
        (name, version): pool_of(found, version, prefix_caching=True, max_model_len=8192)["mamba_cache_mode"]
        for name, found in (("gdn", gdn), ("mamba", mamba))
        for version in ("0.14.1", "0.24.0", "0.28.0")
    }
    assert [modes["gdn", v] for v in ("0.14.1", "0.24.0", "0.28.0")] == ["none", "align", "align"]
    assert [modes["mamba", v] for v in ("0.14.1", "0.24.0", "0.28.0")] == ["all", "all", "align"]


def test_nemotron_states_by_release() -> None:
    """16-bit to 0.19 where the config does not say (PR 29978, 39032), fp32 from 0.20."""
    found = asked("nemotron-nano-9b-v2", 8192)
    sizes = [int(str(pool_of(found, v, max_model_len=8192)["page_bytes"])) for v in ("0.19.1", "0.20.0")]
    assert 1.8 < sizes[1] / sizes[0] < 2.05


def test_events_turn_the_hybrid_manager_off_to_0_19() -> None:
    found = asked("gemma-3-27b", 8192)
    groups = [pool_of(found, v, max_model_len=8192, kv_events=True)["groups"] for v in ("0.19.1", "0.20.0")]
    assert groups[0] == 1 and int(str(groups[1])) > 1


def test_a_large_card_batches_16384_tokens_from_0_28() -> None:
    found = asked("llama-3.1-8b", 8192, capacity=Capacity("B200", 178 * GIB))
    assert [pool_of(found, v)["max_num_batched_tokens"] for v in ("0.27.1", "0.28.0")] == [8192, 16384]


def test_more_sequences_than_blocks_of_states_refuse_to_start_from_0_20() -> None:
    """ "max_num_seqs (1024) exceeds available Mamba cache blocks": exit and flags that mend it (vllm-project/recipes 551)."""
    found = asked("qwen3.5-27b", 8192, capacity=Capacity("H100", 79 * GIB))
    answer = pool_of(found, "0.22.0", max_model_len=8192, max_num_seqs=1024, pool_bytes=20 * GIB)
    blocks = answer["pool_blocks"]
    assert answer["refusal"] == f"max_num_seqs (1024) exceeds available Mamba cache blocks ({blocks})"
    assert answer["fits"] is False and f"--max-num-seqs {blocks}" in list(answer["mends"])  # type: ignore[call-overload]
    assert pool_of(found, "0.22.0", max_model_len=8192, max_num_seqs=blocks, pool_bytes=20 * GIB)["refusal"] is None
    assert pool_of(found, "0.19.1", max_model_len=8192, max_num_seqs=1024, pool_bytes=20 * GIB)["refusal"] is None


def test_the_block_that_is_never_handed_out_counts_from_0_29() -> None:
    """A pool of exactly one request starts to 0.28; from 0.29 it wants a block more."""
    found = asked("llama-3.1-8b", 8192)
    exact = int(str(pool_of(found, "0.28.0", max_model_len=8192)["needed_bytes"]))
    refusals = [pool_of(found, v, max_model_len=8192, pool_bytes=exact)["refusal"] for v in ("0.28.0", "0.29.0")]
    assert refusals[0] is None and refusals[1] is not None


def test_v1_came_with_0_7() -> None:
    """vllm#12569: 1,381 blocks of 16 and 10.79 x 2,048 tokens in a log of January 2025."""
    found = asked("llama-3.1-70b")
    block = 16 * 2 * 8 * 128 * 2 * 80
    answer = vllm.answer(found, Options(pool_bytes=1381 * block, max_model_len=2048), "0.7.0", "v1").to_dict()
    assert (answer["pool_blocks"], answer["max_concurrency"]) == (1381, 10.79)
    with pytest.raises(BadRequest):
        vllm.answer(found, Options(pool_bytes=GIB), "0.6.6", "v1")


def test_too_few_state_blocks_at_the_low_end_is_a_tight_start() -> None:
    """Qwen3.8-27B in fp8 on an RTX PRO 6000 had 939 blocks for 1,024 sequences (vllm-project/recipes PR 831): the estimate spans it."""
    spec = read_entry(find_model("qwen3.6-27b-fp8"))
    card = Capacity("RTX-PRO-6000-Blackwell-96GB", int(94.97 * GIB))
    found = vllm.answer(estimate(spec, Request(8192), card), Options(), "0.27.0", None)
    assert found.ranged is not None and found.ranged.low.blocks is not None and found.ranged.pool.blocks is not None
    assert found.refusal is None and found.ranged.low.blocks < 939 < 1024 < found.ranged.pool.blocks
    assert f"({found.ranged.low.blocks})" in found.low_refusal
