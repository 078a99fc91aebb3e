"""Types of the second half of 2026: A.X-K2, Muse Spark, and models that see over text models known already.

Structure as in the modelling files of transformers 5.24.0, unless a type names another source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from planner.errors import UnsupportedModel
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.weights import Weight, linear, vector
from planner.readers import audio_towers, decoder, more_towers, page_towers, towers
from planner.readers.families.latent import DEEPSEEK_V3, V3_DEFAULTS, mla_with_indexer
from planner.readers.families.multimodal import muse_gate, muse_kinds, outer
from planner.readers.fields import Fields
from planner.readers.layer_kinds import DENSE, MOE, all_of, expert_layers, layer_types, listed
from planner.readers.model_types import Type

INDEXED = "indexed_attention"
TOWER_SECTIONS = (
    "vision_config",
    "audio_config",
    "speech_config",
    "encoder_config",
    "perceiver_config",
    "qformer_config",
)


def _axk2_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Lists what an A.X-K2 layer has beyond DeepSeek's: a gate of the output, and low-rank gates of its norms.

    q and gate in one matrix [heads x (qk + v), 2 x q_rank], of which q_b [heads x qk, q_rank] is counted with the
    attention; fc1 [rank, hidden] and fc2 [hidden, rank] on the first norm, and on the second where there are experts.
    """
    hidden, heads, rank = f.int("hidden_size"), f.int("num_attention_heads"), f.int("gated_norm_rank", 16)
    query, low = f.int("qk_nope_head_dim") + f.int("qk_rope_head_dim"), f.int("q_lora_rank")
    gates = 1 + (expert_layers(1)(f)[index] == MOE)
    return (
        *linear("attention", heads * query, low, split="rows", units=heads, name="q_gate_proj"),
        *linear("attention", heads * f.int("v_head_dim"), 2 * low, split="rows", units=heads, name="q_gate_proj"),
        Weight("norm", rank, hidden, gates, linear=False),
        Weight("norm", hidden, rank, gates, linear=False),
    )


def _spark_experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Builds experts that read and write vectors of `moe_hidden_size`, with a norm before them and one behind."""
    inner = f.int("moe_hidden_size")
    return tuple(
        replace(piece, expert_hidden=inner, extra=(vector("norm", inner, 2),)) if isinstance(piece, Moe) else piece
        for piece in decoder.moe(f, index)
    )


def _spark_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Lists a Muse Spark layer's gate of the attention's output, and a gate of each residual in place of one norm."""
    return (*muse_gate(f, index), vector("norm", f.int("hidden_size"), 2))


def _molmo_rows(f: Fields) -> tuple[Weight, ...]:
    """Lists the rows for image tokens behind those of the vocabulary; the head has none."""
    if f.text("qk_norm_type", "qwen3") != "qwen3":
        raise UnsupportedModel(
            f"{f.where}: qk_norm_type {f.text('qk_norm_type', '')!r} of Molmo 2 is not read; its other one is"
        )
    return (Weight("embedding", f.int("additional_vocab_size"), f.int("hidden_size"), linear=False),)


def not_counted(what: str) -> Callable[[Fields, int], tuple[Weight, ...]]:
    """Makes the towers of a type whose text part alone is counted: none, and a line that says so."""

    def none(f: Fields, hidden: int) -> tuple[Weight, ...]:
        for key in TOWER_SECTIONS:
            f.get(key)
        f.leave_out(f"{what} not counted: the text model and its cache alone")
        return ()

    return none


TYPES: dict[str, Type] = {
    "axk2": replace(
        DEEPSEEK_V3,
        source="transformers 5.24.0 AXK2Config: DeepSeek-V3.2 with gated norms and a gate of the attention's output",
        defaults={**V3_DEFAULTS, "first_k_dense_replace": 1, "num_experts": 128, "moe_intermediate_size": 512,
                  "q_lora_rank": 384, "kv_lora_rank": 128, "qk_rope_head_dim": 32, "qk_nope_head_dim": 64, "v_head_dim": 64,
                  "index_n_heads": 16, "index_head_dim": 128},
        implied={"q_rank_required": True, "mlp_bias": False},
        kinds=listed("layer_types", {INDEXED: INDEXED}, all_of(INDEXED)),
        mixers={INDEXED: mla_with_indexer},
        mlp_kinds=expert_layers(1),
        extra=_axk2_extra,
        per_layer=True,
        mtp=None,
    ),
    "muse_spark_text": Type(
        source="transformers 5.24.0 MuseSparkTextConfig; norms of q, k and the output have no weights",
        renames={"num_experts": ("num_local_experts", "num_experts")},
        defaults={"num_key_value_heads": 16, "head_dim": 64, "sliding_window": 2048, "num_experts": 256,
                  "num_experts_per_tok": 8, "moe_intermediate_size": 4096, "moe_hidden_size": 4096},
        # Four norms, of which the one behind attention has no weights.
        implied={"layer_norms": 3, "shared_expert_intermediate_size": 0},
        kinds=layer_types(muse_kinds),
        mlp_kinds=listed("mlp_layer_types", {"dense": DENSE, "sparse": MOE}, all_of(MOE)),
        mlps={MOE: _spark_experts},
        extra=_spark_extra,
    ),
    "muse_spark": outer("muse_spark_text", audio_towers.muse_spark, ties_from="outer"),
    "molmo2_text": Type(
        source="transformers 5.24.0 Molmo2TextConfig: Qwen3, with rows of the embedding beyond the vocabulary",
        defaults={"num_key_value_heads": 8, "head_dim": 128, "additional_vocab_size": 128},
        implied={"qk_norm": "head", "tie_word_embeddings": False, "o_bias": False},
        model_extra=_molmo_rows,
    ),
    "molmo2": outer("molmo2_text", more_towers.molmo2),
    "kimi_vl": outer("deepseek_v3", towers.kimi_k25),
    "minicpmv4_6": outer("qwen3_5_text", more_towers.minicpmv4_6),
    "interns1": outer("qwen3", towers.internvl),
    "nemotron_h_omni": outer("nemotron_h", page_towers.radio),
}  # fmt: skip
