"""Decoders with Mamba layers, alone or beside attention: Mamba, Jamba, Granite 4, Nemotron-H, Zamba...

Defaults and structure as in the configuration and modelling files of transformers 5.23.0, unless a
type names another source. The recurrent mixers themselves stand in `planner.model.recurrent`.
"""

# long: a declaration a model type, with the rule of its layers

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from planner.errors import BadConfig, UnsupportedModel, one_line
from planner.model.attention import Attention, Mixer
from planner.model.mlp import Mlp
from planner.model.moe import Moe
from planner.model.recurrent import mamba1, mamba2
from planner.model.spec import ModelSpec
from planner.model.weights import Weight, linear, vector
from planner.readers import decoder
from planner.readers.families.state_keys import (
    ATTENTION_KEYS,
    HYBRID,
    LINEAR,
    MAMBA_KEYS,
    MIXER_ONLY,
    NAMES,
    TIED,
    auto_width,
    by_index,
    check_multiple,
    inside_period,
    required_list,
    warn_once,
)
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import DENSE, FULL, MOE, NONE, all_of, layer_count, listed
from planner.readers.model_types import LayerKinds, Type
from planner.units import ceil_div

# ---------------------------------------------------------------- Mamba


def _width(f: Fields) -> int:
    """Inner width of a Mamba layer: given, else mamba_expand times hidden."""
    given = f.maybe_int("mamba_width")
    return given if given is not None else max(1, int(f.number("mamba_expand", 2) * f.int("hidden_size")))


def _mamba1(f: Fields, index: int) -> tuple[Mixer, ...]:
    hidden, width = f.int("hidden_size"), _width(f)
    heads = f.int("n_mamba_heads", 1)  # Zamba only: x and dt projections in blocks, of the same size together
    check_multiple(f, "mamba_width", width, of="n_mamba_heads", base=heads)
    return (
        mamba1(
            hidden=hidden,
            width=width,
            state=f.int("mamba_d_state"),
            conv_kernel=f.int("mamba_d_conv"),
            dt_rank=auto_width(f, "mamba_dt_rank", ceil_div(hidden, 16)),
            proj_bias=f.flag("mamba_proj_bias"),
            conv_bias=f.flag("mamba_conv_bias", True),
            inner_norms=f.flag("mamba_inner_norms"),
        ),
    )


def _mamba2(f: Fields, index: int) -> tuple[Mixer, ...]:
    heads, groups = f.int("mamba_n_heads"), f.int("mamba_n_groups")
    if f.flag("width_from_heads"):  # Nemotron-H: `expand` is there and not used
        head_dim = f.int("mamba_d_head")
    else:
        width = _width(f)
        head_dim = auto_width(f, "mamba_d_head", max(1, width // heads))
        if heads * head_dim != width:
            raise BadConfig(
                f"{f.where}: {heads} Mamba heads of {head_dim} ({f.file_key('mamba_n_heads')}, "
                f"{f.file_key('mamba_d_head')}) do not make the inner width {width}"
            )
    check_multiple(f, "mamba_n_heads", heads, of="mamba_n_groups", base=groups)
    proj_bias = f.flag("mamba_proj_bias")
    return (
        mamba2(
            hidden=f.int("hidden_size"),
            heads=heads,
            head_dim=head_dim,
            groups=groups,
            state=f.int("mamba_d_state"),
            conv_kernel=f.int("mamba_d_conv"),
            in_bias=proj_bias,
            out_bias=f.flag("mamba_out_bias", proj_bias),
            conv_bias=f.flag("mamba_conv_bias", True),
            gated_norm=f.flag("mamba_rms_norm", True),
        ),
    )


def _attention_and_mamba2(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Falcon-H1: both in every layer, side by side."""
    return (*decoder.full(f, index), *_mamba2(f, index))


def _jamba_mlp_kinds(f: Fields) -> list[str]:
    """Experts by period and offset; with one expert the layer is a plain MLP."""
    kinds = inside_period("expert_layer_period", "expert_layer_offset", MOE, otherwise=DENSE)(f)
    return kinds if f.int("num_experts") > 1 else [DENSE] * len(kinds)


MAMBA1_KEYS = {
    "mamba_d_state": "state_size",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_width": "intermediate_size",  # where given, it wins over expand (Falcon-Mamba has expand 16)
    "mamba_dt_rank": "time_step_rank",
    "mamba_proj_bias": "use_bias",
    "mamba_conv_bias": "use_conv_bias",
}
MAMBA2_KEYS = {
    "mamba_n_heads": "num_heads",
    "mamba_d_head": "head_dim",
    "mamba_n_groups": "n_groups",
    "mamba_d_state": "state_size",
    "mamba_d_conv": "conv_kernel",
    "mamba_expand": "expand",
    "mamba_proj_bias": "use_bias",
    "mamba_conv_bias": "use_conv_bias",
}
BAMBA_DEFAULTS = {"mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4}

MAMBA = Type(
    renames=MAMBA1_KEYS,
    defaults={"mamba_d_state": 16, "mamba_d_conv": 4, "tie_word_embeddings": True},
    implied={"layer_norms": 1},
    mixers={LINEAR: _mamba1},
    **MIXER_ONLY,
)


# ---------------------------------------------------------------- Granite 4


def _granite_mlp_kinds(f: Fields) -> list[str]:
    experts = f.int("num_experts", low=0)
    return [MOE if experts else DENSE] * layer_count(f)


def _shared_only(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Without experts only the shared MLP is left."""
    width = f.int("shared_expert_intermediate_size", low=0)
    return (Mlp(f.int("hidden_size"), width),) if width else ()


GRANITE_KEYS = {
    "num_experts": "num_local_experts",
    "moe_intermediate_size": "intermediate_size",
    "shared_expert_intermediate_size": "shared_intermediate_size",
}
GRANITE_DEFAULTS = {"num_experts": 8, "num_experts_per_tok": 2}


# ---------------------------------------------------------------- Nemotron-H

PATTERN = {"M": LINEAR, "E": MOE, "*": FULL, "-": DENSE}
BLOCK_NAMES = {**NAMES, "moe": MOE, "mlp": DENSE}


def _nothing(f: Fields, index: int) -> tuple[Mixer, ...]:
    """A layer that is only an MLP: it mixes nothing and keeps nothing."""
    return ()


def _pattern(f: Fields, key: str) -> list[str]:
    """The letters of a pattern: M Mamba-2, * attention, - MLP, E experts."""
    letters = f.text(key)
    for letter in letters:
        if letter not in PATTERN:
            raise UnsupportedModel(
                f"{f.where}: key {key!r} has a letter {one_line(letter, 4)!r}; known: {', '.join(PATTERN)}"
            )
    return [PATTERN[letter] for letter in letters]


def _nemotron_blocks(f: Fields) -> list[str]:
    """One block a layer, by list or by pattern; the list wins where a file has both."""
    f.get("hybrid_override_pattern")
    names = f.sequence("layers_block_type")
    if names is None:
        return _pattern(f, "hybrid_override_pattern")
    for name in names:
        if not isinstance(name, str) or name not in BLOCK_NAMES:
            raise UnsupportedModel(
                f"{f.where}: key {f.file_key('layers_block_type')!r} names {one_line(repr(name), 40)}; "
                f"known: {', '.join(BLOCK_NAMES)}"
            )
    return [BLOCK_NAMES[name] for name in names]


def _nemotron_kinds(f: Fields) -> list[str]:
    return [NONE if block in (DENSE, MOE) else block for block in _nemotron_blocks(f)]


def _nemotron_mlp_kinds(f: Fields) -> list[str]:
    return [block if block in (DENSE, MOE) else NONE for block in _nemotron_blocks(f)]


def _nemotron_moe(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Experts without a gate, one shared MLP of its own width, a narrower vector for the experts if given."""
    (base,) = decoder.moe(f, index)
    assert isinstance(base, Moe)
    inner = f.maybe_int("moe_latent_size") or 0
    if not f.has("shared_expert_intermediate_size"):
        warn_once(
            f,
            "moe_shared_expert_intermediate_size is not in the file; taken as "
            f"{base.shared_width}, the default of transformers 5.23.0",
        )
    biases: tuple[Weight, ...] = ()
    if f.flag("mlp_bias"):  # the shared MLP and the projections have it, the experts do not
        widths = (base.shared_width, base.hidden) + ((inner, base.hidden) if inner else ())
        biases = tuple(vector("mlp", width) for width in widths)
    return (replace(base, expert_hidden=inner, extra=biases),)


def _nemotron_mtp(f: Fields) -> tuple[Weight, ...]:
    """Each module: a projection of two vectors to one, their norms and a last one, the blocks of its pattern.

    Source: vLLM nemotron_h_mtp.py; counts agree with the published checkpoints of Nemotron 3 Super and Ultra.
    """
    count = f.int("num_nextn_predict_layers", 0, low=0, high=MAX_LAYERS)
    if not count:
        return ()
    hidden = f.int("hidden_size")
    makers = {FULL: decoder.full, LINEAR: _mamba2, DENSE: decoder.dense, MOE: _nemotron_moe}
    blocks = _pattern(f, "mtp_hybrid_override_pattern") or [FULL, MOE]
    weights = (*linear("mtp", hidden, 2 * hidden), *decoder.norm(f, hidden, 3 + len(blocks)))
    for block in blocks:
        for piece in makers[block](f, 0):
            weights += piece.weights()
    return weights * count


def _build_nemotron(f: Fields, kind: Type, name: str, model_type: str) -> ModelSpec:  # parameters: as every builder
    """The plan gives the number of layers; where num_hidden_layers stands too, they must agree."""
    blocks = _nemotron_blocks(f)
    if not blocks:
        raise UnsupportedModel(
            f"{f.where}: neither hybrid_override_pattern nor layers_block_type is there to name the layers"
        )
    written = f.maybe_int("num_hidden_layers")
    if written is not None and written != len(blocks):
        raise BadConfig(f"{f.where}: num_hidden_layers is {written} and the plan has {len(blocks)}; they must agree")
    f.implied = {**f.implied, "num_hidden_layers": len(blocks)}
    return decoder.decoder(f, kind, name, model_type)


# ---------------------------------------------------------------- Nemotron-NAS

NAS_UNREAD = ("num_sink_tokens", "sparsify", "unshifted_sink", "use_prefill_window_in_sink_attention")


def _nas_block(f: Fields, index: int) -> tuple[Fields, Fields]:
    """(attention, ffn) of block_configs[index]."""
    blocks = f.sequence("block_configs", layer_count(f))
    if blocks is None:
        raise UnsupportedModel(f"{f.where}: key 'block_configs' is missing; it says what each layer is")
    block = blocks[index]
    if not isinstance(block, Mapping):
        raise f.wrong("block_configs", block, "an object for each layer")
    where = f"block_configs[{index}]"
    inner = f.sub(block, where)
    return (
        inner.sub(inner.section("attention") or {}, "attention"),
        inner.sub(inner.section("ffn") or {}, "ffn"),
    )


def _nas_attention(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Heads grouped by n_heads_in_group; absent where no_op; a plain matrix where replace_with_linear."""
    block, _ = _nas_block(f, index)
    if block.flag("no_op"):
        return ()
    for key in NAS_UNREAD:
        if block.get(key) not in (None, False, 0):
            raise UnsupportedModel(f"{block.where}: key {key!r} is set; kvplan does not know its cache")
    hidden = f.int("hidden_size")
    if block.flag("replace_with_linear"):
        return (LinearLayer(hidden),)
    base = decoder.attention(f, index)
    group = block.int("n_heads_in_group")
    if base.heads % group:
        raise BadConfig(f"{block.where}: n_heads_in_group {group} does not divide {base.heads} heads")
    return (replace(base, kv_heads=base.heads // group, window=block.maybe_int("window_length")),)


@dataclass(frozen=True)
class LinearLayer(Mixer):
    """One matrix [hidden, hidden] in place of attention: nothing is mixed, nothing is kept."""

    hidden: int

    def weights(self) -> tuple[Weight, ...]:
        return linear("attention", self.hidden, self.hidden)


def _nas_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Width 2/3 · ffn_mult · hidden, rounded up to 256 (or intermediate_size where the block gives it)."""
    _, block = _nas_block(f, index)
    hidden = f.int("hidden_size")
    if block.flag("no_op") or block.flag("replace_with_linear"):
        return ()
    width = block.maybe_int("intermediate_size")
    if width is None:
        width = 256 * ceil_div(max(1, int(2 * block.number("ffn_mult") * hidden / 3)), 256)
    return (Mlp(hidden, width, bias=f.flag("mlp_bias")),)


def _nas_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """One norm before each half that is there; the plain matrix of an MLP replaced by one."""
    attention, ffn = _nas_block(f, index)
    hidden = f.int("hidden_size")
    halves = [half for half in (attention, ffn) if not half.flag("no_op")]
    extra = decoder.norm(f, hidden, len(halves))
    if ffn.flag("replace_with_linear") and not ffn.flag("no_op"):
        extra += linear("mlp", hidden, hidden)
    return extra


# ---------------------------------------------------------------- Zamba


@dataclass(frozen=True)
class SharedBlockAttention(Attention):
    """Attention that reads the hidden state beside the embedding: q, k, v [.., source_width], o [hidden, ..].

    Each use keeps its own K and V. `owner`: this layer is the first to use the block, and holds its weights.
    """

    source_width: int = 0
    owner: bool = True

    def weights(self) -> tuple[Weight, ...]:
        if not self.owner:
            return ()
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            *linear(self.part, q_width, self.source_width, split="rows", units=self.heads),
            *linear(self.part, kv_width, self.source_width, split="kv", units=self.kv_heads) * 2,
            *linear(self.part, self.hidden, q_width, split="cols", units=self.heads),
        )


def _zamba_attention(f: Fields, owner: bool) -> SharedBlockAttention:
    hidden, heads = f.int("hidden_size"), f.int("num_attention_heads")
    f.ignore("kv_channels", "num_query_groups")  # written by the class, not read by the model
    return SharedBlockAttention(
        hidden=hidden,
        heads=heads,
        kv_heads=decoder.kv_heads(f),
        head_dim=f.int("attention_head_dim", max(1, 2 * hidden // heads)),
        source_width=f.int("attention_hidden_size", 2 * hidden),
        owner=owner,
    )


def _zamba_kinds(plan: LayerKinds) -> LayerKinds:
    """The first `num_mem_blocks` hybrid layers hold the shared blocks, the later ones use them in turn."""

    def kinds(f: Fields) -> list[str]:
        owners = f.int("num_mem_blocks", 1)
        result = []
        for name in plan(f):
            if name == HYBRID:
                name = HYBRID if owners > 0 else TIED
                owners -= 1
            result.append(name)
        return result

    return kinds


def _zamba_plan(f: Fields) -> list[str]:
    """Zamba without a list: the third layer is hybrid, then by period and offset counted from the fourth."""
    period, offset = f.int("attn_layer_period", 6), f.int("attn_layer_offset", 4, low=0)
    count = layer_count(f)
    rest = [HYBRID if i % period == offset else LINEAR for i in range(count - 3)]
    return [LINEAR, LINEAR, HYBRID, *rest][:count]


ZAMBA_NAMES = {"mamba": LINEAR, LINEAR: LINEAR, HYBRID: HYBRID}
ZAMBA_KINDS = _zamba_kinds(listed("layers_block_type", ZAMBA_NAMES, _zamba_plan))
ZAMBA2_KINDS = _zamba_kinds(required_list("layers_block_type", ZAMBA_NAMES))


def _zamba_mlp_kinds(kinds: LayerKinds) -> LayerKinds:
    return lambda f: [DENSE if kind == HYBRID else NONE for kind in kinds(f)]


def _zamba_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """A hybrid layer's own matrix; with the shared block its two norms."""
    kind = ZAMBA_KINDS(f)[index]
    return _hybrid_extra(f, kind)


def _hybrid_extra(f: Fields, kind: str) -> tuple[Weight, ...]:
    if kind == LINEAR:
        return ()
    hidden = f.int("hidden_size")
    extra = linear("mixer", hidden, hidden)
    if kind == HYBRID:
        extra += (vector("norm", f.int("attention_hidden_size", 2 * hidden)), vector("norm", hidden))
    return extra


def _zamba2_extra(f: Fields, index: int) -> tuple[Weight, ...]:
    """As Zamba; for each use low-rank adapters of the shared MLP, and of q, k, v if the file says so."""
    kind = ZAMBA2_KINDS(f)[index]
    extra = _hybrid_extra(f, kind)
    if kind == LINEAR:
        return extra
    hidden, rank = f.int("hidden_size"), f.int("adapter_rank", 128)
    extra += linear("mlp", rank, hidden) + linear("mlp", 2 * _zamba_width(f), rank, split="rows")
    if f.flag("use_shared_attention_adapter"):
        wide = f.int("attention_hidden_size", 2 * hidden)
        extra += (linear("attention", rank, wide) + linear("attention", wide, rank)) * 3
    return extra


def _zamba_width(f: Fields) -> int:
    return f.int("intermediate_size", 4 * f.int("hidden_size"))


def _zamba_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    return (Mlp(f.int("hidden_size"), _zamba_width(f), bias=f.flag("mlp_bias")),)


TYPES: dict[str, Type] = {
    "mamba": MAMBA,
    "falcon_mamba": MAMBA,  # its norms of B, C and Δ have no gain
    "mamba2": Type(
        renames=MAMBA2_KEYS,
        defaults={"mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 8, "mamba_d_state": 128,
                  "mamba_d_conv": 4},
        implied={"layer_norms": 1},
        mixers={LINEAR: _mamba2},
        **MIXER_ONLY,
    ),
    "jamba": Type(
        renames={"moe_intermediate_size": "intermediate_size"},
        defaults={"num_key_value_heads": 8, "attn_layer_period": 8, "attn_layer_offset": 4,
                  "expert_layer_period": 2, "expert_layer_offset": 1, "num_experts": 16,
                  "num_experts_per_tok": 2, "mamba_d_state": 16, "mamba_d_conv": 4},
        implied={"attention_bias": False, "mamba_inner_norms": True},
        kinds=inside_period("attn_layer_period", "attn_layer_offset", FULL, otherwise=LINEAR),
        mlp_kinds=_jamba_mlp_kinds,
        mixers={LINEAR: _mamba1},
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS),
    ),
    "bamba": Type(
        defaults={**BAMBA_DEFAULTS, "num_key_value_heads": 8},
        kinds=by_index("attn_layer_indices", FULL, LINEAR),
        mixers={LINEAR: _mamba2},
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS),
    ),
    "falcon_h1": Type(
        renames={"mamba_width": "mamba_d_ssm", "mamba_out_bias": "projectors_bias"},
        defaults={**BAMBA_DEFAULTS, "num_key_value_heads": 8, "mamba_width": 1024, "mamba_out_bias": False,
                  "mamba_rms_norm": False},
        mixers={FULL: _attention_and_mamba2},
        ignore=("mamba_expand",),  # read where mamba_d_ssm is null
    ),
    "granitemoehybrid": Type(
        renames={**GRANITE_KEYS, "layer_types": ("layer_types", "layers_block_type")},
        defaults={**BAMBA_DEFAULTS, **GRANITE_DEFAULTS, "shared_expert_intermediate_size": 1024},
        kinds=listed("layer_types", NAMES, all_of(LINEAR)),
        mlp_kinds=_granite_mlp_kinds,
        mixers={LINEAR: _mamba2},
        mlps={DENSE: _shared_only},
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS),
    ),
    "zamba": Type(
        defaults={"tie_word_embeddings": True, "mamba_d_state": 16, "mamba_d_conv": 4, "n_mamba_heads": 2,
                  "num_key_value_heads": 16, "num_mem_blocks": 1},
        implied={"layer_norms": 1, "mlp_bias": False},
        kinds=ZAMBA_KINDS,
        mlp_kinds=_zamba_mlp_kinds(ZAMBA_KINDS),
        mixers={LINEAR: _mamba1,
                HYBRID: lambda f, i: (*_mamba1(f, i), _zamba_attention(f, True)),
                TIED: lambda f, i: (*_mamba1(f, i), _zamba_attention(f, False))},
        mlps={DENSE: _zamba_mlp},
        extra=_zamba_extra,
        # Read where there is no layers_block_type, which says the same.
        ignore=("attn_layer_period", "attn_layer_offset", *ATTENTION_KEYS),
    ),
    "zamba2": Type(
        renames={"mamba_n_heads": "n_mamba_heads", "mamba_d_head": "mamba_headdim",
                 "mamba_n_groups": "mamba_ngroups", "mamba_proj_bias": "add_bias_linear",
                 "mlp_bias": "add_bias_linear"},
        defaults={"tie_word_embeddings": True, "mamba_d_state": 64, "mamba_d_conv": 4, "mamba_n_groups": 1,
                  "mamba_n_heads": 8},
        implied={"layer_norms": 1, "mamba_conv_bias": True},  # use_conv_bias is not read by the model
        kinds=ZAMBA2_KINDS,
        mlp_kinds=_zamba_mlp_kinds(ZAMBA2_KINDS),
        mixers={LINEAR: _mamba2,
                HYBRID: lambda f, i: (*_mamba2(f, i), _zamba_attention(f, True)),
                TIED: lambda f, i: (*_mamba2(f, i), _zamba_attention(f, False))},
        mlps={DENSE: _zamba_mlp},
        extra=_zamba2_extra,
        ignore=ATTENTION_KEYS,
    ),
    "nemotron_h": Type(
        renames={"mamba_n_heads": "mamba_num_heads", "mamba_d_head": "mamba_head_dim",
                 "mamba_n_groups": ("mamba_n_groups", "n_groups"), "mamba_d_state": "ssm_state_size",
                 "mamba_d_conv": ("mamba_d_conv", "conv_kernel"), "mamba_proj_bias": "use_bias",
                 "mamba_conv_bias": ("mamba_conv_bias", "use_conv_bias"),
                 "head_dim": ("head_dim", "attention_head_dim"),
                 "layers_block_type": ("layers_block_type", "layer_types"),
                 "num_experts": ("n_routed_experts", "num_local_experts"),
                 "shared_expert_intermediate_size": "moe_shared_expert_intermediate_size"},
        defaults={"mamba_n_heads": 128, "mamba_d_head": 64, "mamba_n_groups": 8, "mamba_d_state": 128,
                  "mamba_d_conv": 4, "head_dim": 128, "num_key_value_heads": 8, "num_experts": 8,
                  "num_experts_per_tok": 2, "intermediate_size": 21504, "moe_intermediate_size": 7688,
                  "shared_expert_intermediate_size": 7688},
        implied={"attention_bias": False, "mlp_gated": False, "layer_norms": 1, "width_from_heads": True,
                 "tie_word_embeddings": False},  # the class names no tied weights
        kinds=_nemotron_kinds,
        mlp_kinds=_nemotron_mlp_kinds,
        mixers={NONE: _nothing, LINEAR: _mamba2},
        mlps={MOE: _nemotron_moe},
        # mamba_expand is never read: the width is heads times head_dim.
        ignore=(*ATTENTION_KEYS, *MAMBA_KEYS, "conv_kernel", "ssm_state_size"),
        build=_build_nemotron,
        mtp=_nemotron_mtp,
    ),
    "nemotron-nas": Type(
        source="Llama-3_3-Nemotron-Super-49B-v1 configuration_decilm.py, block_config.py, modeling_decilm.py",
        implied={"layer_norms": 0},
        mixers={FULL: _nas_attention},
        mlps={DENSE: _nas_mlp},
        extra=_nas_extra,
        per_layer=True,
        ignore=ATTENTION_KEYS,  # null in the files: the blocks say it
    ),
}  # fmt: skip
