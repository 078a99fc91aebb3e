"""Hybrid and recurrent models: parameters and cache of published models, layer plans, and refusals.

Where a row names no other source, `parameters` is the number of weights in the published checkpoint (its
safetensors index), equal to what transformers 5.23.0 builds, and the cache is what that implementation makes
for 2 sequences of 64 tokens in bf16: elements and bytes of all its tensors.
"""

from __future__ import annotations

from typing import Any

import pytest

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.errors import BadConfig, KvplanError, UnsupportedModel
from planner.model.parameters import active_parameters, parameters
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config

Config = dict[str, Any]
BF16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))


def read(config: Config, **changes: Any) -> ModelSpec:
    return read_config({**config, **changes})


def cache(spec: ModelSpec, tokens: int = 64, sequences: int = 2) -> tuple[int, int]:
    """(elements, bytes in bf16) of all sequences."""
    elements = sum(n * c.elements(tokens, 0) for layer, n in spec.groups for c in layer.caches)
    size = sum(
        n * (c.kv_bytes(tokens, 0, BF16) + c.state_bytes(BF16)) for layer, n in spec.groups for c in layer.caches
    )
    return sequences * elements, sequences * size


def kinds(spec: ModelSpec) -> str:
    """One letter a layer: a attention, s state, b both, w window, - nothing."""
    letters = []
    for layer in spec.layers:
        names = [c.kind for c in layer.caches]
        has_state = any(name.startswith("state") for name in names)
        has_kv = any(name.startswith(("full", "latent")) for name in names)
        window = any(name.startswith("sliding") for name in names)
        letters.append("b" if has_state and has_kv else "s" if has_state else "w" if window else "a" if has_kv else "-")
    return "".join(letters)


def plan(pattern: str, **names: str) -> list[str]:
    return [names[letter] for letter in pattern]


def qwen_plan(layers: int) -> list[str]:
    return ["full_attention" if i % 4 == 3 else "linear_attention" for i in range(layers)]


def granite_plan(layers: int, full: set[int]) -> list[str]:
    return ["attention" if i in full else "mamba" for i in range(layers)]


MAMBA: Config = {"model_type": "mamba", "hidden_size": 2560, "num_hidden_layers": 64, "state_size": 16, "expand": 2,
                 "intermediate_size": 5120, "conv_kernel": 4, "time_step_rank": 160, "vocab_size": 50280,
                 "tie_word_embeddings": True}  # fmt: skip
FALCON_MAMBA: Config = {"model_type": "falcon_mamba", "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 16,
                        "expand": 16, "intermediate_size": 8192, "conv_kernel": 4, "time_step_rank": 256,
                        "vocab_size": 65024, "tie_word_embeddings": False}  # fmt: skip
CODESTRAL: Config = {"model_type": "mamba2", "num_heads": 128, "head_dim": 64, "vocab_size": 32768,
                     "hidden_size": 4096, "state_size": 128, "num_hidden_layers": 64, "expand": 2, "conv_kernel": 4,
                     "n_groups": 8, "tie_word_embeddings": False}  # fmt: skip
JAMBA: Config = {"model_type": "jamba", "vocab_size": 65536, "tie_word_embeddings": False, "hidden_size": 4096,
                 "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
                 "num_key_value_heads": 8, "num_experts_per_tok": 2, "num_experts": 16, "expert_layer_period": 2,
                 "expert_layer_offset": 1, "attn_layer_period": 8, "attn_layer_offset": 4, "mamba_d_state": 16,
                 "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256}  # fmt: skip
FALCON_H1: Config = {"model_type": "falcon_h1", "mamba_d_conv": 4, "mamba_d_head": 128, "mamba_expand": 2,
                     "mamba_rms_norm": True, "tie_word_embeddings": False, "hidden_size": 5120,
                     "num_hidden_layers": 72, "num_attention_heads": 20, "num_key_value_heads": 4, "head_dim": 128,
                     "intermediate_size": 21504, "vocab_size": 261120, "mamba_d_ssm": 4096, "mamba_n_heads": 32,
                     "mamba_d_state": 256, "mamba_n_groups": 2}  # fmt: skip
ZAMBA2: Config = {"model_type": "zamba2", "vocab_size": 32000, "hidden_size": 2560, "num_hidden_layers": 54,
                  "layers_block_type": ["hybrid" if i in (6, 12, 18, 24, 30, 36, 42, 47, 51) else "mamba"
                                        for i in range(54)],
                  "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_ngroups": 1, "n_mamba_heads": 80,
                  "intermediate_size": 10240, "num_attention_heads": 32, "num_key_value_heads": 32,
                  "num_mem_blocks": 2, "tie_word_embeddings": True, "attention_head_dim": 160, "mamba_headdim": 64,
                  "kv_channels": 80}  # fmt: skip
NEMOTRON_9B: Config = {"model_type": "nemotron_h", "hidden_size": 4480, "num_hidden_layers": 56,
                       "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
                       "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
                       "intermediate_size": 15680, "mamba_num_heads": 128, "mamba_head_dim": 80, "n_groups": 8,
                       "ssm_state_size": 128, "conv_kernel": 4, "expand": 2, "vocab_size": 131072,
                       "tie_word_embeddings": False}  # fmt: skip
NEMOTRON_SUPER: Config = {
    "model_type": "nemotron_h", "conv_kernel": 4, "expand": 2, "head_dim": 128, "hidden_size": 4096,
    "hybrid_override_pattern": "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*"
                               "EMEMEMEM*EMEMEMEME",
    "intermediate_size": 2688, "mamba_head_dim": 64, "mamba_num_heads": 128, "moe_intermediate_size": 2688,
    "moe_latent_size": 1024, "moe_shared_expert_intermediate_size": 5376, "n_groups": 8, "n_routed_experts": 512,
    "num_attention_heads": 32, "num_experts_per_tok": 22, "num_hidden_layers": 88, "num_key_value_heads": 2,
    "num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*E", "ssm_state_size": 128,
    "tie_word_embeddings": False, "vocab_size": 131072}  # fmt: skip
GRANITE_SMALL: Config = {
    "model_type": "granitemoehybrid", "hidden_size": 4096, "num_hidden_layers": 40, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 768, "shared_intermediate_size": 1536, "num_local_experts": 72,
    "num_experts_per_tok": 10, "vocab_size": 100352, "layer_types": granite_plan(40, {5, 15, 25, 35}),
    "mamba_n_heads": 128, "mamba_d_head": 64, "mamba_d_state": 128, "mamba_n_groups": 1, "mamba_d_conv": 4,
    "mamba_expand": 2, "tie_word_embeddings": True}  # fmt: skip
GRANITE_350M: Config = {
    "model_type": "granitemoehybrid", "hidden_size": 768, "intermediate_size": 2048,
    "layer_types": granite_plan(32, {10, 13, 17, 27}), "mamba_d_conv": 4, "mamba_d_head": 32, "mamba_d_state": 128,
    "mamba_n_groups": 1, "mamba_n_heads": 48, "num_attention_heads": 12, "num_experts_per_tok": 0,
    "num_hidden_layers": 32, "num_key_value_heads": 4, "num_local_experts": 0, "shared_intermediate_size": 2048,
    "tie_word_embeddings": True, "vocab_size": 100352}  # fmt: skip
QWEN3_NEXT: Config = {
    "model_type": "qwen3_next", "decoder_sparse_step": 1, "full_attention_interval": 4, "head_dim": 256,
    "hidden_size": 2048, "intermediate_size": 5120, "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_value_head_dim": 128, "mlp_only_layers": [],
    "moe_intermediate_size": 512, "num_attention_heads": 16, "num_experts": 512, "num_experts_per_tok": 10,
    "num_hidden_layers": 48, "num_key_value_heads": 2, "shared_expert_intermediate_size": 512,
    "tie_word_embeddings": False, "use_sliding_window": False, "vocab_size": 151936}  # fmt: skip
QWEN38: Config = {
    "model_type": "qwen3_5_moe_text", "full_attention_interval": 4, "head_dim": 256, "hidden_size": 8192,
    "layer_types": qwen_plan(92), "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
    "linear_num_key_heads": 16, "linear_num_value_heads": 128, "linear_value_head_dim": 128,
    "moe_intermediate_size": 2048, "mtp_num_hidden_layers": 1, "num_attention_heads": 64, "num_experts": 512,
    "num_experts_per_tok": 10, "num_hidden_layers": 92, "num_key_value_heads": 4,
    "shared_expert_intermediate_size": 2048, "tie_word_embeddings": False, "vocab_size": 248320}  # fmt: skip
KIMI: Config = {
    "model_type": "kimi_linear", "vocab_size": 163840, "hidden_size": 2304, "intermediate_size": 9216,
    "moe_intermediate_size": 1024, "num_hidden_layers": 27, "num_attention_heads": 32, "num_key_value_heads": 32,
    "num_shared_experts": 1, "kv_lora_rank": 512, "q_lora_rank": None, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "qk_nope_head_dim": 128, "num_experts_per_token": 8, "first_k_dense_replace": 1, "moe_layer_freq": 1,
    "tie_word_embeddings": False, "num_experts": 256, "head_dim": 72,
    "linear_attn_config": {"full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
                           "kda_layers": [i for i in range(1, 27) if i % 4], "head_dim": 128, "num_heads": 32,
                           "short_conv_kernel_size": 4}}  # fmt: skip
MINIMAX: Config = {
    "model_type": "minimax", "hidden_size": 6144, "num_hidden_layers": 80, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9216, "num_local_experts": 32,
    "num_experts_per_tok": 2, "vocab_size": 200064, "tie_word_embeddings": False,
    "layer_types": ["full_attention" if i % 8 == 7 else "linear_attention" for i in range(80)]}  # fmt: skip
LFM2: Config = {"model_type": "lfm2", "vocab_size": 65536, "hidden_size": 1024, "num_hidden_layers": 16,
                "num_attention_heads": 16, "num_key_value_heads": 8, "conv_L_cache": 3, "block_ff_dim": 6656,
                "full_attn_idxs": [2, 5, 8, 10, 12, 14], "tie_embedding": True}  # fmt: skip
RECURRENT_GEMMA: Config = {
    "model_type": "recurrent_gemma", "num_hidden_layers": 26, "vocab_size": 256000, "hidden_size": 2560,
    "intermediate_size": 15360, "num_attention_heads": 10, "lru_width": 2560, "attention_window_size": 2048,
    "conv1d_width": 4, "block_types": ["recurrent", "recurrent", "attention"], "num_key_value_heads": 1,
    "head_dim": 256}  # fmt: skip
OLMO_HYBRID: Config = {
    "model_type": "olmo_hybrid", "vocab_size": 100352, "hidden_size": 3840, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 30, "num_key_value_heads": 30, "tie_word_embeddings": False,
    "layer_types": qwen_plan(32), "linear_num_key_heads": 30, "linear_num_value_heads": 30,
    "linear_key_head_dim": 96, "linear_value_head_dim": 192, "linear_conv_kernel_dim": 4}  # fmt: skip

PUBLISHED = [
    ("state-spaces/mamba-2.8b-hf", MAMBA, 2_768_345_600, 13_107_200, 47_185_920),
    ("tiiuae/falcon-mamba-7b", FALCON_MAMBA, 7_272_665_088, 20_971_520, 75_497_472),
    ("mistralai/Mamba-Codestral-7B-v0.1", CODESTRAL, 7_285_403_648, 139_460_608, 547_356_672),
    ("ai21labs/Jamba-v0.1", JAMBA, 51_570_323_328, 10_223_616, 35_127_296),
    ("tiiuae/Falcon-H1-34B-Base", FALCON_H1, 33_642_516_224, 163_381_248, 628_752_384),
    ("Zyphra/Zamba2-2.7B", ZAMBA2, 2_662_214_560, 49_453_056, 169_684_992),
    ("nvidia/NVIDIA-Nemotron-Nano-9B-v2", NEMOTRON_9B, 8_888_227_328, 74_481_664, 290_521_088),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B", NEMOTRON_SUPER, 120_668_687_360, 87_687_168, 343_146_496),
    ("ibm-granite/granite-4.0-h-small", GRANITE_SMALL, 32_207_337_984, 78_979_072, 308_953_088),
    ("ibm-granite/granite-4.0-h-350m", GRANITE_350M, 340_332_224, 11_673_600, 45_367_296),
    ("Qwen/Qwen3-Next-80B-A3B-Instruct", QWEN3_NEXT, 79_674_391_296, 41_680_896, 158_859_264),
    ("Qwen/Qwen3.8-2.4T-A95B", QWEN38, 2_419_804_697_984, 306_741_248, 1_192_296_448),
    ("moonshotai/Kimi-Linear-48B-A3B-Instruct", KIMI, 49_122_675_072, 23_453_696, 88_850_432),
    ("MiniMaxAI/MiniMax-Text-01", MINIMAX, 456_089_655_296, 149_422_080, 298_844_160),
    ("LiquidAI/LFM2-350M", LFM2, 354_483_968, 847_872, 1_695_744),
    ("google/recurrentgemma-2b", RECURRENT_GEMMA, 2_682_862_080, 892_928, 1_970_176),
    ("allenai/Olmo-Hybrid-7B", OLMO_HYBRID, 7_430_870_688, 36_618_240, 126_320_640),
]


@pytest.mark.parametrize(("name", "config", "count", "elements", "size"), PUBLISHED, ids=[p[0] for p in PUBLISHED])
def test_published_models_to_the_parameter_and_to_the_byte(
    name: str, config: Config, count: int, elements: int, size: int
) -> None:
    spec = read(config)
    assert parameters(spec) == count
    assert cache(spec) == (elements, size)
    assert not spec.warnings


def test_qwen3_next_at_32k_is_four_fifths_attention_and_a_fixed_state() -> None:
    """12 layers x 2 heads x 256 x K and V x 32,768 tokens, beside 36 states of fp32."""
    spec = read(QWEN3_NEXT)
    caches = [c for layer in spec.layers for c in layer.caches]
    assert sum(c.kv_bytes(32768, 0, BF16) for c in caches) == 805_306_368
    assert sum(c.state_bytes(BF16) for c in caches) == 77_856_768


@pytest.mark.parametrize(
    ("config", "mtp"),
    [
        (QWEN3_NEXT, 81_324_862_720 - 79_674_391_296),
        (QWEN38, 2_446_182_725_504 - 2_419_804_697_984),
        (NEMOTRON_SUPER, 123_611_012_096 - 120_668_687_360),
    ],
)
def test_mtp_layers_are_what_the_checkpoint_holds_beyond_the_model(config: Config, mtp: int) -> None:
    spec = read(config)
    assert sum(weight.parameters for weight in spec.mtp) == mtp


def test_active_parameters_count_only_the_chosen_experts() -> None:
    """Model cards: Qwen3-Next 80B-A3B, Granite 4.0 H Small 32B-A9B, Nemotron 3 Super 120B-A12B."""
    assert 3.0e9 < active_parameters(read(QWEN3_NEXT)) < 4.0e9
    assert 8.5e9 < active_parameters(read(GRANITE_SMALL)) < 9.5e9
    assert 12e9 < active_parameters(read(NEMOTRON_SUPER)) < 13.5e9


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (JAMBA, "ssssasss" * 4),
        (FALCON_H1, "b" * 72),
        (NEMOTRON_9B, NEMOTRON_9B["hybrid_override_pattern"].replace("M", "s").replace("*", "a")),
        (QWEN3_NEXT, "sssa" * 12),
        (KIMI, "sssa" * 6 + "ssa"),
        (MINIMAX, "sssssssa" * 10),
        (LFM2, "ssassassasasasas"),
        (RECURRENT_GEMMA, "ssw" * 8 + "ss"),
    ],
)
def test_each_layer_keeps_what_the_plan_says(config: Config, expected: str) -> None:
    assert kinds(read(config)) == expected


def test_a_list_of_layers_wins_over_the_interval() -> None:
    assert (
        kinds(read(QWEN3_NEXT, num_hidden_layers=4, layer_types=["full_attention"] * 3 + ["linear_attention"]))
        == "aaas"
    )
    assert kinds(read(QWEN3_NEXT, num_hidden_layers=6, full_attention_interval=3)) == "ssassa"
    without = {key: value for key, value in QWEN3_NEXT.items() if key != "full_attention_interval"}
    assert kinds(read(without, num_hidden_layers=8)) == "sssasssa"


def test_nemotron_by_list_equals_nemotron_by_pattern() -> None:
    letters = {"M": "mamba", "-": "mlp", "*": "attention", "E": "moe"}
    listed = {key: value for key, value in NEMOTRON_SUPER.items() if key != "hybrid_override_pattern"}
    del listed["num_hidden_layers"]
    listed["layers_block_type"] = plan(NEMOTRON_SUPER["hybrid_override_pattern"], **letters)
    assert read(listed).layers == read(NEMOTRON_SUPER).layers


def test_bamba_attends_in_the_layers_listed() -> None:
    bamba: Config = {"model_type": "bamba", "vocab_size": 1000, "hidden_size": 256, "num_hidden_layers": 6,
                     "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 512,
                     "mamba_n_heads": 16, "mamba_n_groups": 2, "mamba_d_state": 16}  # fmt: skip
    assert kinds(read(bamba, attn_layer_indices=[1, 4])) == "sassas"
    assert kinds(read(bamba)) == "ssssss"
    with pytest.raises(BadConfig, match="names layer 6"):
        read(bamba, attn_layer_indices=[6])


def test_lfm2_without_a_list_attends_everywhere() -> None:
    without = {key: value for key, value in LFM2.items() if key != "full_attn_idxs"}
    assert kinds(read(without)) == "a" * 16
    assert kinds(read(LFM2, layer_types=["conv"] * 15 + ["full_attention"])) == "s" * 15 + "a"


def test_lfm3_attends_in_turn_over_everything_and_over_a_window() -> None:
    lfm3 = {**LFM2, "model_type": "lfm3", "full_attn_idxs": None}
    assert kinds(read(lfm3, num_hidden_layers=10, head_dim=64)) == "ssaswsasws"


def test_minimax_files_say_by_number_which_layers_are_softmax() -> None:
    original = {key: value for key, value in MINIMAX.items() if key != "layer_types"}
    original["attn_type_list"] = [int(i % 8 == 7) for i in range(80)]
    for model_type in ("minimax_text_01", "minimax_m1"):
        assert read(original, model_type=model_type).layers == read(MINIMAX).layers
    with pytest.raises(UnsupportedModel, match="attn_type_list"):
        read({key: value for key, value in original.items() if key != "attn_type_list"}, model_type="minimax_m1")
    with pytest.raises(BadConfig, match="attn_type_list"):
        read(original, model_type="minimax_m1", attn_type_list=[2] * 80)


def test_a_recurrent_gemma_window_stops_growing() -> None:
    spec = read(RECURRENT_GEMMA)
    assert cache(spec, 2048) == cache(spec, 100_000)
    assert cache(spec, 2047) < cache(spec, 2048)


def test_zamba_blocks_are_shared_but_each_use_has_its_own_cache() -> None:
    """Two shared blocks serve nine layers: 80 million weights each, and nine caches of 32 heads of 160."""
    spec = read(ZAMBA2)
    assert kinds(spec).count("b") == 9
    one = read(ZAMBA2, num_mem_blocks=1)
    block = 3 * 5120 * 5120 + 2560 * 5120 + 3 * 10240 * 2560 + 5120 + 2560
    assert parameters(spec) - parameters(one) == block
    assert cache(spec) == cache(one)


def test_keys_of_layers_that_are_not_there_do_no_harm() -> None:
    """Granite 4.0 Micro has Mamba keys and no Mamba layer."""
    assert kinds(read(GRANITE_SMALL, layer_types=["attention"] * 40)) == "a" * 40
    assert kinds(read(GRANITE_SMALL, layer_types=["mamba"] * 40)) == "s" * 40


def test_the_inner_width_of_mamba_is_the_written_one_before_expand() -> None:
    """Falcon-Mamba's file has expand 16 and intermediate_size 8192 for hidden 4096."""
    assert cache(read(FALCON_MAMBA, expand=2)) == cache(read(FALCON_MAMBA))
    without = {key: value for key, value in FALCON_MAMBA.items() if key != "intermediate_size"}
    assert cache(read(without, expand=2)) == cache(read(FALCON_MAMBA))


def test_auto_values_are_derived() -> None:
    assert parameters(read(MAMBA, time_step_rank="auto")) == parameters(read(MAMBA))  # 2560 / 16 = 160
    assert read(GRANITE_SMALL, mamba_d_head="auto").layers == read(GRANITE_SMALL).layers


def test_jamba_with_one_expert_is_dense() -> None:
    spec = read(JAMBA, num_experts=1)
    assert not any(weight.part == "experts" for layer in spec.layers for weight in layer.weights)


def test_a_missing_shared_expert_width_is_said_aloud() -> None:
    trimmed = {key: value for key, value in NEMOTRON_SUPER.items() if not key.startswith("moe_shared")}
    assert len([w for w in read(trimmed).warnings if "7688" in w]) == 1


# ---------------------------------------------------------------- Kimi K3 and Nemotron-NAS


def test_kimi_k3_caches_24_latents_and_69_states() -> None:
    """27,648 bytes a token (24 x 576 x 2) and a state of 454,459,392 bytes."""
    full = [*range(4, 93, 4), 93]
    text: Config = {**KIMI, "hidden_size": 7168, "intermediate_size": 33792, "moe_intermediate_size": 3072,
                    "num_hidden_layers": 93, "num_attention_heads": 96, "num_key_value_heads": 96,
                    "num_shared_experts": 2, "q_lora_rank": 1536, "num_experts": 896, "num_experts_per_token": 16,
                    "routed_expert_hidden_size": 3584,
                    "linear_attn_config": {"full_attn_layers": full,
                                           "kda_layers": [i for i in range(1, 94) if i not in full],
                                           "head_dim": 128, "num_heads": 96, "short_conv_kernel_size": 4,
                                           "use_full_rank_gate": True}}  # fmt: skip
    spec = read_config({"model_type": "kimi_k3", "text_config": text})
    caches = [c for layer in spec.layers for c in layer.caches]
    assert sum(c.kv_bytes(1, 0, BF16) for c in caches) == 27_648
    assert sum(c.state_bytes(BF16) for c in caches) == 454_459_392
    assert parameters(spec) == pytest.approx(2_779_931_837_184, rel=0.001)
    assert any("Kimi K3" in warning for warning in spec.warnings)


def nas_block(group: int | None = 8, ffn_mult: float | None = 5.25, **attention: Any) -> Config:
    return {
        "attention": {"n_heads_in_group": group, "no_op": group is None, "replace_with_linear": False, **attention},
        "ffn": {"ffn_mult": ffn_mult, "no_op": ffn_mult is None, "replace_with_linear": False},
    }


def nas(*blocks: Config) -> Config:
    return {"model_type": "nemotron-nas", "hidden_size": 8192, "num_attention_heads": 64, "vocab_size": 128256,
            "num_hidden_layers": len(blocks), "num_key_value_heads": None, "tie_word_embeddings": False,
            "block_configs": list(blocks)}  # fmt: skip


def test_nas_blocks_may_lack_attention_or_mlp() -> None:
    spec = read(nas(nas_block(), nas_block(None, 1.3125), nas_block(16, None), nas_block(None, None)))
    assert kinds(spec) == "a-a-"
    assert [sum(c.elements(1, 0) for c in layer.caches) for layer in spec.layers] == [2 * 8 * 128, 0, 2 * 4 * 128, 0]


def test_nas_width_is_two_thirds_of_the_multiple_rounded_up_to_256() -> None:
    """ffn_mult 5.25 at hidden 8192 is the 28,672 of Llama 3 70B: such a model of 80 layers is that model."""
    spec = read(nas(*[nas_block()] * 80))
    assert parameters(spec) == 70_553_706_496


def test_nas_linear_replacements_are_one_matrix_and_cache_nothing() -> None:
    block = nas_block(replace_with_linear=True)
    block["ffn"]["replace_with_linear"] = True
    spec = read(nas(block))
    assert kinds(spec) == "-"
    assert sum(w.parameters for w in spec.layers[0].weights) == 2 * 8192 * 8192 + 2 * 8192


def test_nas_window_is_a_window() -> None:
    assert kinds(read(nas(nas_block(window_length=4096)))) == "w"


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("config", "changes", "match"),
    [
        (NEMOTRON_9B, {"hybrid_override_pattern": "M-X"}, "'X'"),
        (NEMOTRON_9B, {"hybrid_override_pattern": None}, "hybrid_override_pattern"),
        (NEMOTRON_9B, {"layers_block_type": ["mamba", "wormhole"]}, "wormhole"),
        (QWEN3_NEXT, {"layer_types": ["sliding_attention"] * 48}, "sliding_attention"),
        (RECURRENT_GEMMA, {"block_types": ["recurrent", "magic"]}, "magic"),
        (ZAMBA2, {"layers_block_type": None}, "layers_block_type"),
        ({**LFM2, "model_type": "lfm2_moe"}, {}, "layer_types"),
        (MINIMAX, {"sliding_window": 4096}, "sliding_window"),
        (QWEN3_NEXT, {"sliding_window": 4096, "use_sliding_window": True}, "sliding_window"),
        (nas(nas_block(num_sink_tokens=4)), {}, "num_sink_tokens"),
        (nas(nas_block()), {"block_configs": None}, "block_configs"),
    ],
)
def test_what_is_not_known_is_refused(config: Config, changes: Config, match: str) -> None:
    with pytest.raises(UnsupportedModel, match=match):
        read(config, **changes)


@pytest.mark.parametrize(
    ("config", "changes", "match"),
    [
        (JAMBA, {"attn_layer_offset": 8}, "attn_layer_offset"),
        (JAMBA, {"expert_layer_period": 0}, "expert_layer_period"),
        (JAMBA, {"num_experts_per_tok": 17}, "num_experts_per_tok"),
        (MAMBA, {"state_size": 0}, "state_size"),
        (MAMBA, {"conv_kernel": -4}, "conv_kernel"),
        (MAMBA, {"time_step_rank": "big"}, "time_step_rank"),
        (CODESTRAL, {"num_heads": 64}, "inner width"),
        (CODESTRAL, {"n_groups": 3}, "n_groups"),
        (CODESTRAL, {"expand": float("nan")}, "expand"),
        (FALCON_H1, {"mamba_d_head": 100}, "inner width"),
        (GRANITE_SMALL, {"layer_types": ["mamba"] * 39}, "39 entries for 40 layers"),
        (NEMOTRON_9B, {"num_hidden_layers": 55}, "must agree"),
        (NEMOTRON_SUPER, {"num_experts_per_tok": 513}, "num_experts_per_tok"),
        (QWEN3_NEXT, {"linear_num_value_heads": 24}, "linear_num_key_heads"),
        (QWEN3_NEXT, {"linear_conv_kernel_dim": 0}, "linear_conv_kernel_dim"),
        (QWEN3_NEXT, {"full_attention_interval": 0}, "full_attention_interval"),
        (KIMI, {"linear_attn_config": {"full_attn_layers": [1], "kda_layers": [2]}}, "each layer from 1 to 27"),
        (KIMI, {"linear_attn_config": {"full_attn_layers": [0], "kda_layers": [2]}}, "full_attn_layers"),
        (KIMI, {"linear_attn_config": [4]}, "linear_attn_config"),
        (LFM2, {"full_attn_idxs": [16]}, "names layer 16"),
        (LFM2, {"conv_L_cache": "3"}, "conv_L_cache"),
        (RECURRENT_GEMMA, {"lru_width": 2561}, "lru_width"),
        (RECURRENT_GEMMA, {"block_types": []}, "block_types"),
        (OLMO_HYBRID, {"num_key_value_heads": 31}, "31 KV heads"),
        (nas(nas_block(7)), {}, "n_heads_in_group 7"),
        (nas(nas_block(ffn_mult=-1.0)), {}, "ffn_mult"),
        (nas(nas_block()), {"num_hidden_layers": 2}, "1 entries for 2 layers"),
        (nas(nas_block()), {"block_configs": [5]}, "block_configs"),
    ],
)
def test_impossible_values_are_named(config: Config, changes: Config, match: str) -> None:
    with pytest.raises(BadConfig, match=match):
        read(config, **changes)


@pytest.mark.parametrize("value", [0, -1, "x", float("nan"), float("inf"), 10**30, 1.5, [], [1], {}, [None] * 6, True])
@pytest.mark.parametrize("config", [p[1] for p in PUBLISHED], ids=[p[0] for p in PUBLISHED])
def test_a_wrong_value_is_one_line_of_error_or_a_count(config: Config, value: Any) -> None:
    for key in config:
        if key == "model_type":
            continue
        try:
            assert parameters(read(config, **{key: value})) > 0
        except KvplanError as error:
            assert "\n" not in str(error)
