"""The one builder of decoder-only models: canonical fields in, ModelSpec out.

Canonical keys are those of Hugging Face's LlamaConfig. Structure that a type implies (`Type.implied`,
or `Type.defaults` where a file may say otherwise):

  norm              "rms" (one gain), "layer" (gain and bias), "layer_nobias", "none"
  layer_norms       norms of width hidden in a layer (2)
  final_norm        true; norm_affine false takes the parameters from every norm
  qkv_bias, o_bias  biases of the attention projections; `attention_bias` in the file sets both
  qk_norm           "", "head", "full", "per_head"
  mlp_gated, mlp_bias
  learned_positions rows of a learned position table (0: none)
  embed_norms       norms after the embedding
  lm_head_bias      bias of the head
"""

from __future__ import annotations

from collections.abc import Callable

from planner.errors import BadConfig
from planner.model.attention import Attention, Mixer
from planner.model.mlp import Mlp
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight, linear, vector
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.layer_kinds import CHUNKED, DENSE, FULL, MOE, NONE, SLIDING, all_of
from planner.readers.model_types import MixerMaker, MlpMaker, Type
from planner.readers.positions import longest_tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.model.moe import Moe


def head_dim(f: Fields) -> int:
    """Reads the width of a head: `head_dim`, or hidden / heads where the file has none."""
    value = f.maybe_int("head_dim")
    if value is not None:
        return value
    hidden, heads = f.int("hidden_size"), f.int("num_attention_heads")
    if hidden % heads:
        raise BadConfig(
            f"{f.where}: hidden_size {hidden} is not a multiple of {heads} heads and head_dim is missing; add head_dim"
        )
    return hidden // heads


def kv_heads(f: Fields) -> int:
    """Reads the number of KV heads (as many as query heads where the file has none); BadConfig where the query heads
    cannot share them.
    """
    heads = f.int("num_attention_heads")
    count = f.int("num_key_value_heads", heads)
    if count > heads:
        raise BadConfig(f"{f.where}: {count} KV heads for {heads} query heads; at most as many are wanted")
    if heads % count:
        raise BadConfig(f"{f.where}: {heads} query heads cannot share {count} KV heads; a multiple is wanted")
    return count


def attention(f: Fields, index: int, *, window: int | None = None, chunk: int | None = None) -> Attention:
    """Builds a layer's attention from the canonical keys; types adjust it with `dataclasses.replace`."""
    bias = f.flag("attention_bias")
    return Attention(
        hidden=f.int("hidden_size"),
        heads=f.int("num_attention_heads"),
        kv_heads=kv_heads(f),
        head_dim=head_dim(f),
        qkv_bias=f.flag("qkv_bias", bias),
        out_bias=f.flag("o_bias", bias),
        qk_norm=f.text("qk_norm"),
        gate=f.int("attn_gate", 0, low=0),
        sinks=f.flag("attn_sinks"),
        window=window,
        chunk=chunk,
    )


def full(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a layer that attends to everything."""
    return (attention(f, index),)


def sliding(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a layer that attends to the last `sliding_window` tokens."""
    return (attention(f, index, window=f.int("sliding_window")),)


def chunked(f: Fields, index: int) -> tuple[Mixer, ...]:
    """Builds the mixer of a layer that attends within chunks of `attention_chunk_size` tokens."""
    return (attention(f, index, chunk=f.int("attention_chunk_size")),)


def dense(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Builds the one MLP of a layer."""
    hidden = f.int("hidden_size")
    width = f.int("intermediate_size", 4 * hidden if f.flag("mlp_4x") else None)
    return (Mlp(hidden, width, f.flag("mlp_gated", True), f.flag("mlp_bias")),)


def moe(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Builds the experts of a layer from the canonical keys: num_experts, num_experts_per_tok, moe_intermediate_size,
    shared_width.
    """
    from planner.model.moe import Moe as Experts  # only for a model that has them

    experts = f.int("num_experts")
    active = f.int("num_experts_per_tok", high=experts)
    return (
        Experts(
            hidden=f.int("hidden_size"),
            experts=experts,
            active=active,
            expert_width=f.int("moe_intermediate_size"),
            shared_width=shared_width(f),
            gated=f.flag("mlp_gated", True),
            bias=f.flag("expert_bias"),
            router_bias=f.flag("router_bias"),
            shared_gate=f.flag("shared_gate"),
        ),
    )


def shared_width(f: Fields) -> int:
    """Reads the width of the shared experts together: as given, or their number times an expert's width."""
    given = f.maybe_int("shared_expert_intermediate_size", low=0)
    if given is not None:
        return given
    return (f.maybe_int("n_shared_experts", low=0) or 0) * f.int("moe_intermediate_size")


def no_mlp(f: Fields, index: int) -> tuple[Mlp | Moe, ...]:
    """Returns nothing, for layers without an MLP."""
    return ()


MIXERS: dict[str, MixerMaker] = {FULL: full, SLIDING: sliding, CHUNKED: chunked}
MLPS: dict[str, MlpMaker] = {DENSE: dense, MOE: moe, NONE: no_mlp}


def norm(f: Fields, width: int, count: int = 1) -> tuple[Weight, ...]:
    """Builds `count` norms of `width`, with the parameters that the type's norm has."""
    if not f.flag("norm_affine", True):
        return ()
    vectors = {"rms": 1, "layer": 2, "layer_nobias": 1, "none": 0}[f.text("norm", "rms")]
    return (vector("norm", width, vectors * count),) if vectors * count else ()


def embeddings(f: Fields) -> tuple[tuple[Weight, ...], tuple[Weight, ...], bool]:
    """Builds (before, after, tied): token and position tables; final norm and head; whether the head is the embedding."""
    hidden, vocab = f.int("hidden_size"), f.int("vocab_size")
    width = f.int("word_embed_proj_dim", hidden)
    table = Weight("embedding", vocab, width, split="rows", linear=False)
    before: tuple[Weight, ...] = (table,)
    positions = f.int("learned_positions", 0, low=0)
    if positions:
        before += (Weight("embedding", positions, hidden, linear=False),)
    before += norm(f, hidden, f.int("embed_norms", 0, low=0))
    after = norm(f, hidden, int(f.flag("final_norm", True)))
    if width != hidden:  # OPT-350M projects in and out of a narrower embedding
        before += linear("embedding", hidden, width)
        after += linear("lm_head", width, hidden)
    tied = f.flag("tie_word_embeddings")
    if not tied:
        after += (Weight("lm_head", vocab, width, split="rows", linear=False),)
    if f.flag("lm_head_bias"):
        after += (vector("lm_head", vocab, split="rows"),)
    return before, after, tied


def layers(f: Fields, kind: Type, mixer_kinds: list[str], *, mlp_kinds: list[str]) -> tuple[Layer, ...]:
    """Builds one Layer a position; equal kinds share one object unless the type varies by layer."""
    mixers, mlps = {**MIXERS, **kind.mixers}, {**MLPS, **kind.mlps}
    made: dict[tuple[str, str, int], Layer] = {}
    result = []
    for index, key in enumerate(zip(mixer_kinds, mlp_kinds, strict=True)):
        slot = (*key, index if kind.per_layer else 0)
        if slot not in made:
            extra = norm(f, f.int("hidden_size"), f.int("layer_norms", 2, low=0))
            if kind.extra:
                extra += kind.extra(f, index)
            f.touched.clear()
            made_mixers = mixers[key[0]](f, index)
            fields = tuple(sorted(f.touched))
            made[slot] = Layer(made_mixers, mlps[key[1]](f, index), extra, fields)
        result.append(made[slot])
    return tuple(result)


def mtp_layers(
    mixer: MixerMaker, mlp: MlpMaker, *, copies: bool = True, key: str = "num_nextn_predict_layers"
) -> Callable[[Fields], tuple[Weight, ...]]:
    """Makes a builder of DeepSeek's multi-token-prediction layers: `num_nextn_predict_layers` whole layers in the
    checkpoint.

    Beside a layer's own weights each holds eh_proj [hidden, 2·hidden], the norms enorm, hnorm and that of
    the head, and mostly `copies` of embedding and head. Source: DeepSeek-V3 README_WEIGHTS.md; with it the
    checkpoints of DeepSeek-R1, V3.2, GLM-4.5 and (without copies) GLM-5 come out to the parameter.
    """

    def weights(f: Fields) -> tuple[Weight, ...]:
        count = f.int(key, 0, low=0, high=MAX_LAYERS)
        if not count:
            return ()
        hidden, vocab, index = f.int("hidden_size"), f.int("vocab_size"), f.int("num_hidden_layers")
        layer = tuple(w for piece in (*mixer(f, index), *mlp(f, index)) for w in piece.weights())
        own = (
            *linear("mtp", hidden, 2 * hidden),
            *norm(f, hidden, 3 + f.int("layer_norms", 2, low=0)),
        )
        tables = tuple(Weight(part, vocab, hidden, split="rows", linear=False) for part in ("embedding", "lm_head"))
        return (layer + own + (tables if copies else ())) * count

    return weights


def decoder(f: Fields, kind: Type, name: str, model_type: str) -> ModelSpec:  # parameters: as every builder
    """Builds a decoder-only model."""
    f.int("num_hidden_layers", high=MAX_LAYERS)
    mixer_kinds = (kind.kinds or all_of(FULL))(f)
    mlp_kinds = (kind.mlp_kinds or all_of(DENSE))(f)
    before, after, tied = embeddings(f)
    if kind.model_extra:
        before += kind.model_extra(f)
    return ModelSpec(
        name=name,
        model_type=model_type,
        hidden=f.int("hidden_size"),
        vocab=f.int("vocab_size"),
        layers=layers(f, kind, mixer_kinds, mlp_kinds=mlp_kinds),
        before=before,
        after=after,
        tied=tied,
        mtp=kind.mtp(f) if kind.mtp else (),
        max_positions=longest_tokens(f.raw, f.maybe_int("max_position_embeddings", low=0), model_type),
    )
