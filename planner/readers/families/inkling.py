"""Inkling, Inkling 2 and its looped form: attention with a bias of distance, and short convolutions that keep columns.

Structure and defaults as in the configuration and modelling files of transformers 5.24.0. In each layer four convolutions
of `conv_kernel_size` remember their newest inputs, in fp32: those of k, of v, behind attention and behind the MLP.
"""

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadConfig
from planner.model.attention import Attention, Mixer, Repeated
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.recurrent import FOUR_CONVOLUTIONS, FOUR_CONVOLUTIONS_2, FP32, StateMixer, StatePart, depthwise
from planner.model.weights import Weight, linear, vector
from planner.readers import inkling_towers
from planner.readers.families.multimodal import outer
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import DENSE, FULL, MOE, SLIDING, all_of, layer_count, listed
from planner.readers.model_types import ExtraMaker, LayerKinds, MixerMaker, Type

RESIDUAL = "attention_residual"
_NAMES = {"hybrid": FULL, "hybrid_sliding": SLIDING}
_PERIOD = 6


def _every_sixth(f: Fields) -> list[str]:
    return [SLIDING if (index + 1) % _PERIOD else FULL for index in range(layer_count(f))]


def _by_ids(f: Fields) -> list[str]:
    """Layers of `local_layer_ids` have a window; without the list all but every sixth."""
    ids = f.int_list("local_layer_ids")
    return _every_sixth(f) if ids is None else [SLIDING if index in ids else FULL for index in range(layer_count(f))]


def _attention(f: Fields, *, window: bool) -> Attention:
    """A layer's heads: windowed layers have keys of their own for them."""
    keys = ("swa_num_attention_heads", "swa_num_key_value_heads", "swa_head_dim")
    heads, kv_heads, width = keys if window else ("num_attention_heads", "num_key_value_heads", "head_dim")
    base = Attention(
        f.int("hidden_size"),
        f.int(heads),
        f.int(kv_heads),
        f.int(width),
        window=f.int("sliding_window") if window else None,
    )
    if base.heads % base.kv_heads:
        raise BadConfig(
            f"{f.where}: {base.heads} query heads cannot share {base.kv_heads} KV heads; a multiple is wanted"
        )
    return base


def _convolutions(f: Fields, base: Attention, label: str) -> StateMixer:
    """Filters of k, v [kv_heads · head_dim, kernel] and of two outputs [hidden, kernel], and their columns in fp32."""
    kernel, hidden = f.int("conv_kernel_size", 4), base.hidden
    width = base.kv_heads * base.head_dim
    weights = (
        *depthwise(width, kernel, base.kv_heads, bias=False) * 2,
        *depthwise(hidden, kernel, hidden, bias=False) * 2,
    )
    parts = (
        StatePart("conv k v", 2 * width * kernel, FP32, base.kv_heads, kernel),
        StatePart("conv outputs", 2 * hidden * kernel, FP32, 0, kernel),
    )
    return StateMixer(label, weights, parts)


def _distance_bias(f: Fields, base: Attention) -> tuple[Weight, ...]:
    """A vector of `d_rel` a head from each token [heads · d_rel, hidden], and what it makes of each distance [d_rel, reach]."""
    low = f.int("d_rel", 16)
    reach = f.int("rel_extent", 1024) if base.window is None else base.window
    return (
        *linear("attention", base.heads * low, base.hidden, split="rows", units=base.heads, name="r_proj"),
        Weight("attention", low, reach, linear=False),
    )


# --- Inkling -----------------------------------------------------------------------------------------------


def _inkling(window: bool) -> MixerMaker:
    def mixers(f: Fields, index: int) -> tuple[Mixer, ...]:
        base = replace(_attention(f, window=window), qk_norm="head")
        state = _convolutions(f, base, FOUR_CONVOLUTIONS)
        return base, replace(state, weight_list=state.weight_list + _distance_bias(f, base))

    return mixers


def _widths(f: Fields) -> tuple[int, int]:
    """Widths of the dense MLP and of an expert: beside `dense_intermediate_size`, intermediate_size is an expert's."""
    dense = f.maybe_int("dense_intermediate_size")
    if dense is not None:
        return dense, f.int("intermediate_size")
    return f.int("intermediate_size"), f.int("moe_intermediate_size")


def _dense(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    return (Mlp(f.int("hidden_size"), _widths(f)[0]),)


def _experts(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Experts, of which the shared ones are scored by the router, too: [experts + shared, hidden] and one scale."""
    hidden, experts, shared = f.int("hidden_size"), f.int("num_experts"), f.int("n_shared_experts")
    width = _widths(f)[1]
    router = (Weight("router", experts + shared, hidden, linear=False, name="gate|router"), vector("router", 1))
    active = f.int("num_experts_per_tok", high=experts)
    return (Moe(hidden, experts, active, width, shared_width=shared * width, router=router),)


def _dense_first(f: Fields) -> list[str]:
    first = f.int("dense_mlp_idx", 0, low=0)
    return [DENSE if index < first else MOE for index in range(layer_count(f))]


_MLP_KINDS = listed("mlp_layer_types", {"dense": DENSE, "sparse": MOE}, _dense_first)


def _scale(f: Fields, index: int) -> tuple[Weight, ...]:
    """A dense MLP has one number that scales its output."""
    return (vector("mlp", 1),) if _MLP_KINDS(f)[index] == DENSE else ()


def _mtp(f: Fields) -> tuple[Weight, ...]:
    """Whole dense layers, each behind two norms and a projection of two vectors to one (vLLM 0.33.0 inkling/nvidia/mtp.py)."""
    own = f.sub(f.section("mtp_config") or {}, "mtp_config")
    count = f.int(
        "num_mtp_layers",
        own.int("num_nextn_predict_layers", own.int("n_layers", 0, low=0), low=0),
        low=0,
        high=MAX_LAYERS,
    )
    hidden, local = f.int("hidden_size"), f.int_list("mtp_local_layer_ids") or own.int_list("local_layer_ids") or []
    found: tuple[Weight, ...] = ()
    for depth in range(count):
        layer = (*_inkling(depth in local)(f, depth), *_dense(f, depth))
        found += tuple(weight for piece in layer for weight in piece.weights())
        found += (*linear("mtp", hidden, 2 * hidden), vector("norm", hidden, 4), vector("mlp", 1))
    return found + (
        (vector("norm", hidden),)
        if count and (f.flag("chain_hidden_post_norm") or own.flag("chain_hidden_post_norm"))
        else ()
    )


INKLING = Type(
    source="transformers 5.24.0 InklingTextConfig and modeling_inkling.py",
    renames={
        "num_experts": "n_routed_experts", "sliding_window": "sliding_window_size",
        "conv_kernel_size": ("sconv_kernel_size", "conv_kernel_size"),
        "num_mtp_layers": ("num_mtp_layers", "num_nextn_predict_layers"),
    },
    defaults={
        "num_key_value_heads": 8, "head_dim": 128, "swa_num_attention_heads": 64, "swa_num_key_value_heads": 16,
        "swa_head_dim": 128, "sliding_window": 512, "moe_intermediate_size": 3072, "num_experts": 256,
        "num_experts_per_tok": 6, "n_shared_experts": 2, "intermediate_size": 24576,
    },
    # `embed` and `unembed` are two tensors in every checkpoint.
    implied={"tie_word_embeddings": False, "embed_norms": 1},
    kinds=listed("layer_types", _NAMES, _by_ids),
    mlp_kinds=_MLP_KINDS,
    mixers={FULL: _inkling(False), SLIDING: _inkling(True)},
    mlps={DENSE: _dense, MOE: _experts},
    extra=_scale,
    per_layer=True,
    mtp=_mtp,
    ignore=("head_dim", "num_key_value_heads", "sliding_window_size"),  # of kinds of layers that a file may not have
)  # fmt: skip


# --- Inkling 2 ---------------------------------------------------------------------------------------------


def _second(f: Fields, base: Attention) -> tuple[Weight, ...]:
    """Gains of each q number and of each distance number, and a sink of each head that the token decides [heads, hidden]."""
    low = f.int("d_rel", 16)
    return (
        vector("norm", base.heads * base.head_dim, split="rows", units=base.heads),
        vector("norm", base.heads * low, split="rows", units=base.heads),
        *linear("attention", base.heads, base.hidden, split="rows", units=base.heads, name="sink_proj"),
        *_distance_bias(f, base),
    )


def _following(f: Fields, base: Attention) -> tuple[Weight, ...]:
    """Full layers: filters of k and v that the token moves, [kv_heads · kernel, hidden] each."""
    rows = base.kv_heads * f.int("conv_kernel_size", 4)
    return linear("attention", rows, base.hidden, split="rows", units=base.kv_heads, name="weight_proj") * 2


def _inkling2(window: bool) -> MixerMaker:
    def mixers(f: Fields, index: int) -> tuple[Mixer, ...]:
        base = _attention(f, window=window)
        base, state = replace(base, gate=base.head_dim), _convolutions(f, base, FOUR_CONVOLUTIONS_2)
        moved = () if window else _following(f, base)
        once = (base, replace(state, weight_list=state.weight_list + _second(f, base) + moved))
        return once + tuple(Repeated(mixer) for mixer in once) * _further_passes(f, index)

    return mixers


def _loop(f: Fields) -> tuple[int, int, int, int]:
    """(first looped layer, the one behind the last, passes, rank of the gates) of the looped form; else nothing loops."""
    if not f.has("loop_passes") and "loop_passes" not in f.defaults and f.section("loop_config") is None:
        return 0, 0, 1, 0
    inner = f.sub(f.section("loop_config") or {}, "loop_config")
    start = inner.int("core_start", f.int("loop_layer_index_start"))
    end = inner.int("core_end", f.int("loop_layer_index_end"))
    passes = inner.int("num_passes", f.int("loop_passes"), high=MAX_LAYERS)
    if not start < end <= layer_count(f):
        raise BadConfig(f"{f.where}: layers {start} to {end} loop, of {layer_count(f)}")
    return start, end, passes, inner.int("gate_rank", f.int("loop_gate_rank"))


def _further_passes(f: Fields, index: int) -> int:
    """How often a layer runs again, each time with a cache of its own."""
    start, end, passes, _ = _loop(f)
    return passes - 1 if start <= index < end else 0


def _residuals(kinds: LayerKinds) -> ExtraMaker:
    def extra(f: Fields, index: int) -> tuple[Weight, ...]:
        """Queries over the blocks of layers before, of the MLP and (but for the first layer) of attention; norms; gates.

        A full layer takes q, k and v from three queries, each with a norm of its own. A looped layer has four gates of
        what the pass before left behind: down [rank, 2 · hidden] and twice up [hidden, rank].
        """
        hidden, is_full = f.int("hidden_size"), kinds(f)[index] == FULL
        inputs = 3 if is_full else 1
        queries = Weight(RESIDUAL, 1 + (inputs if index else 0), hidden, linear=False)
        start, end, _, rank = _loop(f)
        gates: tuple[Weight, ...] = ()
        if start <= index < end:
            gates = (*linear(RESIDUAL, rank, 2 * hidden), *linear(RESIDUAL, hidden, rank) * 2) * 4
        return (vector("norm", hidden, inputs + 1), queries, *gates)

    return extra


def _around(f: Fields) -> tuple[Weight, ...]:
    """Rows of the embedding that the head has not, the query of the output, and the four of each looped layer."""
    hidden, rows = f.int("hidden_size"), f.int("embedding_rows") - f.int("vocab_size")
    if rows < 0:
        raise BadConfig(f"{f.where}: key 'unpadded_vocab_size' is over vocab_size {f.int('embedding_rows')}")
    start, end, passes, _ = _loop(f)
    if passes > 1:
        f.notes.append(
            f"layers {start} to {end - 1} run {passes} times, with a cache for each pass; speed counts their work once"
        )
    return (
        *((Weight("embedding", rows, hidden, linear=False),) if rows else ()),
        Weight(RESIDUAL, 1 + 4 * (end - start), hidden, linear=False),
    )


_KINDS2 = listed("layer_types", _NAMES, _every_sixth)
INKLING2 = Type(
    source="transformers 5.24.0 Inkling2TextConfig and modeling_inkling2.py",
    renames={
        "num_experts": ("num_local_experts", "n_routed_experts"), "sliding_window": ("sliding_window", "sliding_window_size"),
        "conv_kernel_size": ("sconv_kernel_size", "conv_kernel_size"),
        "vocab_size": "unpadded_vocab_size", "embedding_rows": "vocab_size",
        "moe_intermediate_size": ("intermediate_size", "moe_intermediate_size"),
    },
    defaults={
        "vocab_size": 200058, "embedding_rows": 201024, "num_key_value_heads": 8, "head_dim": 128,
        "swa_num_attention_heads": 48, "swa_num_key_value_heads": 8, "swa_head_dim": 128, "sliding_window": 1024,
        "moe_intermediate_size": 2304, "num_experts": 384, "num_experts_per_tok": 8,
    },
    implied={"tie_word_embeddings": False, "embed_norms": 1, "layer_norms": 0, "n_shared_experts": 0},
    kinds=_KINDS2,
    mlp_kinds=all_of(MOE),
    mixers={FULL: _inkling2(False), SLIDING: _inkling2(True)},
    extra=_residuals(_KINDS2),
    model_extra=_around,
    per_layer=True,
    ignore=("head_dim", "num_key_value_heads", "sliding_window_size"),  # of kinds of layers that a file may not have
)  # fmt: skip

TYPES: dict[str, Type] = {
    "inkling_text": INKLING,
    "inkling_model": INKLING,  # as vLLM's and SGLang's classes call it
    "inkling_mm_model": outer("inkling_text", inkling_towers.inkling, ties_from="inner", outer_keys=("mtp_config",)),
    "inkling2_text": INKLING2,
    "inkling2": outer("inkling2_text", inkling_towers.inkling2, ties_from="inner"),
    "inkling2_loop_text": replace(
        INKLING2,
        source="transformers 5.24.0 Inkling2LoopTextConfig and modeling_inkling2_loop.py",
        renames={**INKLING2.renames, "loop_passes": "loop_num_passes"},
        defaults={**INKLING2.defaults, "swa_num_attention_heads": 24, "num_experts": 128, "moe_intermediate_size": 1152,
                  "loop_passes": 3, "loop_layer_index_start": 6, "loop_layer_index_end": 18, "loop_gate_rank": 64},
    ),
    "inkling2_loop": outer("inkling2_loop_text", inkling_towers.inkling2, ties_from="inner"),
}  # fmt: skip
