"""DeepSeek-V4.1: windows in every layer, a compressed past that groups of layers share, and n-gram tables (Engram).

Structure as in vLLM 0.33.0 `models/deepseek_v41`; no class of transformers 5.24.0 has it.
"""

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadConfig, UnsupportedModel
from planner.model.attention import Mixer
from planner.model.moe import Moe
from planner.model.shared_past import SharedPast
from planner.model.weights import Weight, linear
from planner.readers import decoder, more_towers
from planner.readers.families import latent
from planner.readers.families.latent import ROUTED, hyper_connections, v4_core, v4_head
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import MOE, SLIDING, all_of, layer_count
from planner.readers.model_types import Type

POOLED = "pooled"
ENGRAM = "engram"
_READ = ("compress_ratios", "kv_source_layer_ids", "index_source_layer_ids")


def _kinds(f: Fields) -> list[str]:
    """`compress_ratios`: 0 a window alone, 1 or 2 a past of an entry for so many tokens; the tail is the MTP layers'."""
    ratios, layers = f.int_list("compress_ratios", low=0) or [], layer_count(f)
    if len(ratios) < layers:
        raise BadConfig(f"{f.where}: compress_ratios has {len(ratios)} entries for {layers} layers")
    unknown = next((ratio for ratio in ratios[:layers] if ratio > 2), None)
    if unknown is not None:
        raise UnsupportedModel(f"{f.where}: key 'compress_ratios' has {unknown}; 0, 1 and 2 are known for this type")
    return [POOLED if ratio else SLIDING for ratio in ratios[:layers]]


def _window(f: Fields, index: int) -> tuple[Mixer, ...]:
    return (v4_core(f),)


def _pooled(f: Fields, index: int) -> tuple[Mixer, ...]:
    """The window and the past; both kinds of sources are listed, and each pooled layer has one before it or is one."""
    core = v4_core(f)
    sources, choosers = (f.int_list(key, low=0) or [] for key in _READ[1:])
    if not any(source <= index for source in sources) or not any(chooser <= index for chooser in choosers):
        raise BadConfig(
            f"{f.where}: layer {index} has no layer before it in kv_source_layer_ids or index_source_layer_ids"
        )
    past = SharedPast(
        hidden=core.hidden,
        dim=core.dim,
        rate=(f.int_list("compress_ratios", low=0) or [])[index],
        q_rank=core.q_rank,
        heads=f.int("index_n_heads", 32),
        key=f.int("index_head_dim", 128),
        is_source=index in sources,
        chooses=index in choosers,
    )
    return (core, past)


def _extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """Two hyper-connections, and in some layers an Engram: rows of `engram_head_dim` looked up by hashes of n-grams.

    Table [engram_num_embeddings, head_dim], wkv [(1 + m)·hidden, columns·head_dim], scales of query and key [m, hidden];
    columns = (engram_max_ngram_size - 1) · engram_n_heads.
    """
    hidden, streams = f.int("hidden_size"), f.int("hc_mult", 4)
    connections = hyper_connections(f, index)
    chosen, rows = f.int_list("engram_layer_ids", low=0) or [], f.int_list("engram_num_embeddings", low=1) or []
    if index not in chosen:
        return connections
    if len(rows) != len(chosen):
        raise BadConfig(f"{f.where}: engram_num_embeddings has {len(rows)} entries for {len(chosen)} engram_layer_ids")
    width = f.int("engram_head_dim", 256)
    columns = (f.int("engram_max_ngram_size", 4, low=2) - 1) * f.int("engram_n_heads", 8)
    note = "n-gram tables are counted with the weights; vLLM keeps them in host memory unless told (engram_config.cpu_offload)"
    if note not in f.notes:
        f.notes.append(note)
    return (
        *connections,
        *(replace(w, active=0) for w in linear(ENGRAM, rows[chosen.index(index)], width, split="rows", name="embed")),
        *linear("attention", (1 + streams) * hidden, columns * width, split="rows", name="engram_wkv"),
        Weight("norm", streams, hidden, 2, linear=False),
    )


def _mtp(f: Fields) -> tuple[Weight, ...]:
    """DSpark: windowed layers with fewer experts, a projection of three layers' vectors, a Markov head of low rank."""
    count, hidden = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS), f.int("hidden_size")
    if not count:
        return ()
    experts = f.int("dspark_n_routed_experts", f.int("num_experts"))
    active = f.int("dspark_num_experts_per_tok", f.int("num_experts_per_tok"), high=experts)
    (base,) = decoder.moe(f, 0)
    assert isinstance(base, Moe)
    moe = replace(base, experts=experts, active=active)
    layer = tuple(w for piece in (v4_core(f), moe) for w in piece.weights())
    connections = hyper_connections(f, 0)
    targets = len(f.int_list("dspark_target_layer_ids", low=0) or [])
    rank, vocab = f.int("dspark_markov_rank", 0, low=0), f.int("vocab_size")
    joined = linear("mtp", hidden, targets * hidden, name="main_proj") if targets else ()
    markov = (Weight("mtp", vocab, rank, 2, linear=False),) if rank else ()
    return (
        *((*layer, *connections, *decoder.norm(f, hidden, 2)) * count),
        *joined,
        *markov,
        *decoder.norm(f, hidden, 2),
    )


_TEXT = Type(
    source="vLLM 0.33.0 models/deepseek_v41; experts and fp8 matrices of DeepSeek-V4.1-Flash come out to the weight",
    renames=ROUTED,
    defaults={"num_experts": 384, "num_experts_per_tok": 6, "q_lora_rank": 1280, "moe_intermediate_size": 2304},
    implied={"n_shared_experts": 1},
    kinds=_kinds,
    mixers={SLIDING: _window, POOLED: _pooled},
    mlp_kinds=all_of(MOE),
    extra=_extra,
    model_extra=v4_head,
    mtp=_mtp,
    per_layer=True,
    ignore=(*_READ, *latent.INDEX_IDLE, "index_n_heads", "index_head_dim"),
)
TYPES: dict[str, Type] = {
    "deepseek_v41_text": _TEXT,
    "deepseek_v41": Type(nested=("text_config",), text="deepseek_v41_text", towers=more_towers.deepseek_v41),
}
