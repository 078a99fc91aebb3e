"""The weights of a GGUF file of which only the type is known: each matrix in the ggml type that llama.cpp's quantiser gives it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from planner.dtypes.ggml import tensor_format
from planner.dtypes.kinds import WeightFormat
from planner.dtypes.names import weight_format
from planner.memory.gguf_types import DEFAULTS, Facts, Matrix, types_of
from planner.memory.weight_formats import Shares, WeightPlan
from planner.model.attention import Attention
from planner.model.latent_attention import LatentAttention
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import TOWERS, Weight
from planner.units import ceil_div

# transformers' types whose GGUF files hold Q, K and V in one matrix, attn_qkv.
ONE_QKV = (
    "bloom",
    "chatglm",
    "codeshell",
    "dbrx",
    "falcon",
    "gpt2",
    "gpt_bigcode",
    "gpt_neox",
    "mpt",
    "phi3",
    "phi4mm",
    "qwen",
)
# First published before March 2026: the files that are there come from a quantiser of before.
OLDER = (*ONE_QKV, "gemma3n", "gemma3n_text")
# Matrices of these parts stay in 16 bit (`tensor_allows_quantization`: altup, laurel, per_layer_model_proj).
KEPT_PARTS = ("altup", "laurel")
# Published in MXFP4: their experts stay as they are, whatever the type of the file.
KEPT_EXPERTS = ("gpt_oss",)
# Tables of n-grams are published in one type, whatever the file's: 28.8 GB of Qwen3.8-Flash-Next.
TABLES = {"qwen4_exp": "iq4_nl"}
# Of 80 layers and with few KV heads the quantiser gives V a type more (`LLM_TYPE_70B`).
OF_SEVENTY = ("llama", "qwen2", "qwen2_vl", "qwen2_5_vl", "deci", "nemotron-nas", "apertus")
_NEVER = ("router", "norm", "embedding", "lm_head", *KEPT_PARTS)
_LEAVES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
_FEEDS = {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "gate_up_proj": "ffn_up", "down_proj": "ffn_down"}
Key = tuple[str, str, int, int]
_HALF, _FLOAT = tensor_format("f16"), tensor_format("f32")


@dataclass(frozen=True, eq=False, repr=False)
class GgufPlan(WeightPlan):
    """Every matrix of a shape and name in the types that its layers have; vectors, filters and routers in f32; towers, which
    lie in a file of their own, in 16 bit or in `tower`.
    """

    shapes: Mapping[Key, Shares] | None = None
    tower: WeightFormat | None = None

    def _bytes(self, weight: Weight, count: int) -> int:
        matrices = weight.count * count
        if _kept(weight):
            return _HALF.matrix_bytes(weight.rows, weight.cols) * matrices
        if weight.part in TOWERS:
            return _of_tower(weight, self.tower or _HALF).matrix_bytes(weight.rows, weight.cols) * matrices
        found = (self.shapes or {}).get((weight.part, weight.name, weight.rows, weight.cols))
        shares = found or self.mixed.get((weight.part, weight.name))
        if (
            shares is None
            or weight.cols == 1
            or not (found or weight.linear or weight.part in ("embedding", "lm_head"))
        ):
            return self.float_fmt.matrix_bytes(weight.rows, weight.cols) * matrices
        layers = sum(share for _, share in shares)
        return ceil_div(
            sum(fmt.matrix_bytes(weight.rows, weight.cols) * matrices * share for fmt, share in shares), layers
        )


def is_file_type(name: str) -> bool:
    """Tells whether a dtype names a type of GGUF files whose matrices are known.

    >>> is_file_type("q4_k_m"), is_file_type("q4_k"), is_file_type("awq")
    (True, False, False)
    """
    return name in DEFAULTS


def gguf_plan(spec: ModelSpec, file_type: str, *, own: Mapping[str, object] | None = None) -> GgufPlan:
    """Returns the plan of a file of one type; `own`: a publisher's types of `embedding` and `output`, and whether he has
    an importance matrix (`imatrix`).

    Without that word: with one for the types of `iq`, as they are published, without one for the others.
    """
    own = dict(own or {})
    if not spec.tied and own.get("embedding_apart"):
        own["embedding"] = own["embedding_apart"]
    facts = _facts(spec, file_type, imatrix=bool(own.get("imatrix", file_type.startswith("iq"))))
    placed = list(_matrices(spec))
    shapes: dict[Key, dict[str, tuple[WeightFormat, int]]] = {}
    for (weight, kind, layer), name in zip(placed, types_of([_matrix(*one) for one in placed], facts), strict=True):
        fmt = tensor_format(name)
        if own.get(kind):
            fmt = tensor_format(str(own[kind]))
        elif kind == "ngram_table" and spec.model_type in TABLES:
            fmt = tensor_format(TABLES[spec.model_type])
        elif kind.endswith("_exps") and spec.model_type in KEPT_EXPERTS:
            fmt = tensor_format("mxfp4")
        elif weight.name == "kv_b_proj":
            fmt = _halves(spec, layer, facts)
        held = shapes.setdefault((weight.part, weight.name, weight.rows, weight.cols), {})
        held[fmt.name] = (fmt, held.get(fmt.name, (fmt, 0))[1] + 1)
    shares = {key: tuple(held.values()) for key, held in shapes.items()}
    by_name: dict[tuple[str, str], Shares] = {}
    for (part, leaf, _, _), found in shares.items():
        by_name[part, leaf] = by_name.get((part, leaf), ()) + found
    fmt = weight_format(file_type)
    return GgufPlan(
        fmt, tensor_format("f32"), exactness="estimated", mixed=by_name, shapes=shares, tower=tensor_format(str(own.get("tower", "f16"))),
        words=f"weights in {fmt.name}, each matrix in the type that llama.cpp's quantiser gives it",
    )  # fmt: skip


def _kept(weight: Weight) -> bool:
    """Whether a matrix stays in 16 bit: AltUp's and Laurel's, and what projects onto the embeddings of all layers."""
    if weight.cols == 1 or not weight.linear:
        return False
    return weight.part in KEPT_PARTS or (weight.part == "per_layer_embedding" and not weight.name)


def _of_tower(weight: Weight, fmt: WeightFormat) -> WeightFormat:
    """The type of a tower's weight: vectors and tables in f32, rows that are no whole number of blocks of 32 in f16.

    Of the patches' convolution files in F16 have 16 bit, all others f32 (convert_hf_to_gguf.py).
    """
    if weight.cols == 1 or not weight.linear:
        return _FLOAT
    if fmt.name == _HALF.name:
        return _HALF
    if weight.part == "vision" and not weight.name:
        return _FLOAT
    return _HALF if weight.cols % 32 else fmt


def _facts(spec: ModelSpec, file_type: str, *, imatrix: bool) -> Facts:
    first = spec.layers[0].mixers[0] if spec.layers and spec.layers[0].mixers else None
    queries = first.heads // max(1, first.kv_heads) if isinstance(first, Attention) else 0
    experts = max((w.count for layer, _ in spec.groups for w in layer.weights if w.part == "experts"), default=0)
    return Facts(
        file_type, len(spec.layers), first.heads if isinstance(first, LatentAttention) else queries, experts,
        tied=spec.tied, falcon=spec.model_type == "falcon", imatrix=imatrix, older=spec.model_type in OLDER,
        seventy=len(spec.layers) == 80 and queries > 1 and spec.model_type in OF_SEVENTY,
    )  # fmt: skip


def _matrix(weight: Weight, kind: str, layer: int) -> Matrix:
    return Matrix(kind, layer, weight.cols)


def _matrices(spec: ModelSpec) -> Iterator[tuple[Weight, str, int]]:
    """The matrices that are quantised, with what they are in a GGUF file, layer by layer."""
    for weight in (*spec.before, *spec.after, *spec.encoder_extra):
        kind = _top_kind(weight)
        if kind:
            yield weight, kind, 0
    for layers in (spec.encoder, spec.layers):
        for index, layer in enumerate(layers):
            yield from _of_layer(layer, index, spec.model_type)


def _top_kind(weight: Weight) -> str:
    if weight.cols == 1 or weight.part in TOWERS or weight.part in ("norm", "router", "buffer"):
        return ""
    if weight.part == "per_layer_embedding":  # the table alone: its projection is small and kept
        return "" if weight.linear else "layer_embedding"
    if weight.part in KEPT_PARTS:
        return ""
    return {"embedding": "embedding", "lm_head": "output"}.get(weight.part, "other" if weight.linear else "")


def _of_layer(layer: Layer, index: int, model_type: str) -> Iterator[tuple[Weight, str, int]]:
    """A layer's matrices."""
    for weight in layer.weights:
        if weight.is_row_table:
            yield weight, "ngram_table", index
            continue
        if weight.cols == 1 or not weight.linear or weight.part in _NEVER:
            continue
        kind = _kind(weight, model_type)
        if kind in ("attn_q", "attn_k") and model_type in ONE_QKV:
            kind = "attn_qkv"
        if kind == "attn_v" and model_type in ONE_QKV:
            kind = "attn_qkv"
        yield weight, kind, index


def _kind(weight: Weight, model_type: str) -> str:
    leaves = weight.name.split("|")
    if weight.part in ("mlp", "experts", "shared_experts"):
        kind = next((_FEEDS[leaf] for leaf in leaves if leaf in _FEEDS), "other")
        return f"{kind}_exps" if weight.part == "experts" else kind
    if weight.part == "mixer" and not model_type.startswith("kimi"):
        return "attn_qkv" if "in_proj_qkv" in leaves else "other"
    return next((_LEAVES[leaf] for leaf in leaves if leaf in _LEAVES), "other")


def _halves(spec: ModelSpec, layer: int, facts: Facts) -> WeightFormat:
    """A latent's K and V projections lie apart: attn_k_b with rows of a head's own key, attn_v_b with rows of the latent."""
    mixer = next(one for one in spec.layers[layer].mixers if isinstance(one, LatentAttention))
    k, v = (
        tensor_format(next(types_of([Matrix("other", layer, cols)], facts))) for cols in (mixer.nope_dim, mixer.kv_rank)
    )
    numerator = k.bits[0] * mixer.nope_dim * v.bits[1] + v.bits[0] * mixer.v_dim * k.bits[1]
    whole = (mixer.nope_dim + mixer.v_dim) * k.bits[1] * v.bits[1]
    return WeightFormat(f"{k.name} and {v.name}", (numerator, whole), everywhere=True)
