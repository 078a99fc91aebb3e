"""Encoder-decoders: T5 and its heirs, BART and its heirs, Whisper.

The encoder runs once and caches nothing. Each decoder layer caches its own keys and values, which grow
with the answer, and those of the encoder's output, which do not.
Defaults and structure as in the configuration and modelling files of transformers 5.23.0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.errors import BadConfig, UnsupportedModel
from planner.model.attention import Attention, Mixer
from planner.model.cross_attention import CrossAttention, EncoderAttention
from planner.model.mlp import Mlp
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight, vector
from planner.readers import decoder
from planner.readers.fields import MAX_LAYERS, Fields
from planner.readers.model_types import Type

# The keys of a stack, after "encoder_" or "decoder_": layers, attention_heads, ffn_dim, positions.
ENCODER, DECODER = "encoder", "decoder"


def build(f: Fields, kind: Type, name: str, model_type: str) -> ModelSpec:  # parameters: as every builder
    """Builds an encoder and a decoder that share one width and one vocabulary."""
    if not f.flag("is_encoder_decoder", True):
        raise UnsupportedModel(
            f"{f.where}: key 'is_encoder_decoder' is false; kvplan knows {model_type} only with both halves"
        )
    _check_activation(f)
    hidden, vocab = f.int("hidden_size"), f.int("vocab_size")
    tied = f.flag("tie_word_embeddings")
    table = Weight("embedding", vocab, hidden, split="rows", linear=False)
    head = Weight("lm_head", vocab, hidden, split="rows", linear=False)
    # Untied, BART gives each half a table of its own beside the shared one.
    own = () if tied or not f.flag("untied_tables") else (table,)
    return ModelSpec(
        name=name,
        model_type=model_type,
        hidden=hidden,
        vocab=vocab,
        layers=_stack(f, DECODER),
        before=(table, *own, *_around(f, DECODER)),
        after=() if tied else (head,),
        tied=tied,
        encoder=_stack(f, ENCODER),
        encoder_extra=(*_front(f), *own, *_around(f, ENCODER)),
        max_positions=f.maybe_int("decoder_positions"),
        source_tokens=_source_tokens(f),
    )


def _source_tokens(f: Fields) -> int | None:
    """The encoder's length, where its input is always padded to it."""
    return f.int("encoder_positions") if f.flag("padded_source") else None


def _stack(f: Fields, side: str) -> tuple[Layer, ...]:
    """The equal layers of one half; a decoder layer has cross attention and a norm more."""
    f.touched.clear()
    hidden = f.int("hidden_size")
    mixers: tuple[Mixer, ...] = (_attention(f, side),)
    if side == DECODER:
        own = _attention(f, side)
        cross = CrossAttention(
            own.hidden, own.heads, own.kv_heads, own.head_dim, qkv_bias=own.qkv_bias, out_bias=own.out_bias,
            k_bias=own.k_bias, source_width=hidden, fixed_tokens=_source_tokens(f),
        )  # fmt: skip
        mixers += (cross,)
    fields = tuple(sorted(f.touched))
    mlp = Mlp(hidden, f.int(f"{side}_ffn_dim"), _gated(f), f.flag("mlp_bias"))
    extra = decoder.norm(f, hidden, len(mixers) + 1)
    if f.text("relative_bias") == "all":
        extra += (_relative_bias(f),)
    layer = Layer(mixers, (mlp,), extra, fields)
    count = f.int(f"{side}_layers", f.int("encoder_layers", high=MAX_LAYERS), high=MAX_LAYERS)
    return (layer,) * count


def _attention(f: Fields, side: str) -> Attention:
    hidden, heads = f.int("hidden_size"), f.int(f"{side}_attention_heads")
    width = f.maybe_int("head_dim")
    if width is None and hidden % heads:
        raise BadConfig(f"{f.where}: {f.file_key('hidden_size')} {hidden} is not a multiple of {heads} {side} heads")
    bias = f.flag("attention_bias")
    kind = EncoderAttention if side == ENCODER else Attention
    return kind(
        hidden, heads, heads, width or hidden // heads, qkv_bias=bias, out_bias=bias,
        k_bias=f.flag("k_bias", bias),
    )  # fmt: skip


def _around(f: Fields, side: str) -> tuple[Weight, ...]:
    """What a stack has beside its layers: position table, norms at both ends, T5's shared position bias."""
    hidden = f.int("hidden_size")
    weights = decoder.norm(f, hidden, f.int("embed_norms", 0, low=0) + f.int("final_norm", 1, low=0))
    rows = f.maybe_int(f"{side}_positions")
    if rows is not None:
        weights += (Weight("embedding", rows + f.int("position_offset", 0, low=0), hidden, linear=False),)
    if f.text("relative_bias") == "first":
        weights += (_relative_bias(f),)
    return weights


def _relative_bias(f: Fields) -> Weight:
    """One learned logit for each distance bucket and head."""
    heads, buckets = f.int("encoder_attention_heads"), f.int("relative_attention_num_buckets")
    return Weight("attention", heads, buckets, split="rows", units=heads, linear=False)


def _front(f: Fields) -> tuple[Weight, ...]:
    """Whisper: two convolutions over the spectrogram, [hidden, mels, 3] and [hidden, hidden, 3]."""
    mels = f.maybe_int("num_mel_bins")
    if mels is None:
        return ()
    hidden = f.int("hidden_size")
    first = Weight("audio", hidden, 3 * mels, linear=False)
    second = Weight("audio", hidden, 3 * hidden, linear=False)
    return (first, second, vector("audio", hidden, 2))


def _gated(f: Fields) -> bool:
    return f.text("feed_forward_proj").startswith("gated-")


def _check_activation(f: Fields) -> None:
    """T5 says `relu` or `gated-gelu`: at most one dash, and only after `gated`."""
    first, *rest = f.text("feed_forward_proj", "relu").split("-")
    if len(rest) > 1 or (rest and first != "gated"):
        raise f.wrong("feed_forward_proj", f.get("feed_forward_proj"), "an activation or gated-activation")


def _t5(f: Fields, kind: Type, name: str, model_type: str) -> ModelSpec:  # parameters: as every builder
    """T5: transformers ties the head whatever the file says."""
    spec = build(f, kind, name, model_type)
    if f.raw.get("tie_word_embeddings") is False:
        f.notes.append(
            "tie_word_embeddings is false in the file; transformers 5 ties the head of T5 all the same, "
            "and so it is counted (published T5 1.1 checkpoints store it apart: vocab_size x d_model more on disk)"
        )
    return spec


def _both(key: str, value: object) -> dict[str, Any]:
    """One key for both halves."""
    return {f"{side}_{key}": value for side in (ENCODER, DECODER)}


def _sizes(width: int, layers: int, heads: int, *, ffn: int, vocab: int) -> dict[str, Any]:
    """Class defaults of the sizes."""
    return {
        "hidden_size": width,
        "vocab_size": vocab,
        **_both("layers", layers),
        **_both("attention_heads", heads),
        **_both("ffn_dim", ffn),
    }


# num_decoder_layers, absent or null, is num_layers.
_T5_SIZES = {k: v for k, v in _sizes(512, 6, 8, ffn=2048, vocab=32128).items() if k != "decoder_layers"}
T5 = Type(
    renames={
        "hidden_size": ("d_model", "hidden_size"),
        "head_dim": ("d_kv", "head_dim"),
        "encoder_layers": ("num_layers", "num_hidden_layers"),
        "decoder_layers": "num_decoder_layers",
        **_both("attention_heads", ("num_heads", "num_attention_heads")),
        **_both("ffn_dim", "d_ff"),
    },
    defaults={**_T5_SIZES, "head_dim": 64, "relative_attention_num_buckets": 32, "feed_forward_proj": "relu"},
    # Positions are a bias that the first layer of each half holds; there is no table and no length limit.
    implied={"norm": "rms", "relative_bias": "first", "tie_word_embeddings": True},
    build=_t5,
)
_MT5_SIZES = {
    "encoder_layers": 8,
    **_both("attention_heads", 6),
    **_both("ffn_dim", 1024),
    "vocab_size": 250112,
}
MT5 = replace(T5, defaults={**T5.defaults, **_MT5_SIZES, "feed_forward_proj": "gated-gelu"})

_BIASED = {"norm": "layer", "attention_bias": True, "mlp_bias": True}
BART = Type(
    renames={"hidden_size": ("d_model", "hidden_size"), **_both("positions", "max_position_embeddings")},
    defaults={**_sizes(1024, 12, 16, ffn=4096, vocab=50265), **_both("positions", 1024), "tie_word_embeddings": True},
    # The position table has two rows more than positions; layers norm their output: no norm ends the stack.
    implied={**_BIASED, "position_offset": 2, "embed_norms": 1, "final_norm": 0, "untied_tables": True},
    build=build,
)

TYPES: dict[str, Type] = {
    "t5": T5,
    "mt5": MT5,
    "umt5": replace(MT5, implied={**MT5.implied, "relative_bias": "all"}),
    "bart": BART,
    "mbart": replace(BART, implied={**BART.implied, "final_norm": 1}),
    "pegasus": replace(
        BART, implied={**BART.implied, "position_offset": 0, "embed_norms": 0, "final_norm": 1}
    ),
    "whisper": Type(
        renames={
            "hidden_size": ("d_model", "hidden_size"),
            "encoder_positions": "max_source_positions",
            "decoder_positions": "max_target_positions",
        },
        defaults={
            **_sizes(384, 4, 6, ffn=1536, vocab=51865), "num_mel_bins": 80, "encoder_positions": 1500,
            "decoder_positions": 448, "tie_word_embeddings": True,
        },
        # Sound is padded to 30 s: the encoder's output always has max_source_positions vectors.
        implied={**_BIASED, "k_bias": False, "padded_source": True},
        build=build,
    ),
}  # fmt: skip
