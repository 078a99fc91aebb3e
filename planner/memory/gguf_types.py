"""Which ggml type each matrix of a GGUF file has, by the type of the file, as llama.cpp's quantiser chooses it.

Source: llama.cpp src/llama-quant.cpp (`llama_tensor_get_type_impl`, `tensor_type_fallback`); the sizes that libllama b11739
works out in a dry run are in tests/cases/llamacpp/file_types.jsonl, b8368 of March 2026 says the same. Sources of 2025 give
Q, K and V in one matrix and a table for each layer's embedding other types (`Facts.older`). A publisher may choose otherwise
with --tensor-type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from planner.dtypes.ggml import block_of

# File type -> type of the matrices that no rule names.
DEFAULTS = {
    **{name: name for name in (
        "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q6_k", "iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq3_xxs", "iq3_s",
        "iq4_xs", "iq4_nl", "tq1_0", "tq2_0", "q1_0", "q2_0")},
    "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k", "q4_k_s": "q4_k", "q4_k_m": "q4_k",
    "q5_k_s": "q5_k", "q5_k_m": "q5_k", "iq2_s": "iq2_xs", "iq2_m": "iq2_s", "iq3_xs": "iq3_s", "iq3_m": "iq3_s",
    "mxfp4_moe": "q8_0",
}  # fmt: skip
FLOATS = ("f16", "bf16", "f32")
FALLBACKS = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_0", "q2_k", "q3_k", "tq1_0", "tq2_0", "q1_0"), "q4_0"),
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip
LOW = ("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m")
OF_TWO_BITS = ("iq2_s", "iq2_m")
EIGHT_OUTPUT = (
    "q2_k",
    "iq3_xs",
    "iq3_xxs",
    "q3_k_s",
    "q3_k_m",
    "iq4_nl",
    "q4_k_s",
    "q4_k_m",
    "iq3_s",
    "iq3_m",
    "iq4_xs",
)
# Q, K and V in one matrix, until the quantiser of 2026 took it for V.
OLDER_QKV = {"q3_k_m": "q4_k", "q3_k_l": "q4_k", "iq3_m": "q4_k", "q4_k_m": "q5_k", "q5_k_m": "q6_k"}
OUTPUTS = {"q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k"}


@dataclass(frozen=True)
class Facts:
    """What the quantiser asks of a model.

    queries   heads that share one of K and V, of the first layer (0: it has none)
    layers    all layers, those that draft too
    imatrix   quantised with an importance matrix, as all files of two bits and less are
    older     by a quantiser of 2025 or before
    """

    file_type: str
    layers: int
    queries: int = 1
    experts: int = 0
    tied: bool = False
    falcon: bool = False
    seventy: bool = False
    imatrix: bool = False
    older: bool = False


@dataclass(frozen=True)
class Matrix:
    """One matrix on its way to a type: what it is (embedding, layer_embedding, output, attn_q, ffn_down, ...), its layer, numbers of a row."""

    kind: str
    layer: int
    cols: int


def types_of(matrices: Iterable[Matrix], facts: Facts) -> Iterator[str]:
    """Gives each matrix its ggml type, in the order of the layers.

    >>> llama = [Matrix(kind, layer, 4096) for layer in range(32) for kind in ("attn_v", "ffn_down", "ffn_up")]
    >>> found = list(types_of(llama, Facts("q4_k_m", 32, 4)))
    >>> found[:3], found.count("q6_k"), list(types_of([Matrix("ffn_up", 0, 2880)], Facts("q4_k_m", 1)))
    (['q6_k', 'q6_k', 'q4_k'], 32, ['q5_0'])
    """
    matrices = list(matrices)
    layers_of_v = sorted({one.layer for one in matrices if one.kind in ("attn_v", "attn_qkv")})
    value = {layer: index for index, layer in enumerate(layers_of_v)}
    before = {"ffn_down": 0, "ffn_gate": 0, "ffn_up": 0}
    for one in matrices:
        kind = one.kind.removesuffix("_exps")
        chosen = _chosen(one, facts, value.get(one.layer, 0), values=len(value), before=before.get(kind, 0))
        if kind in before:
            before[kind] += 1
        yield _whole_blocks(chosen, one.cols)


def _whole_blocks(name: str, cols: int) -> str:
    """The type itself where its blocks go into a row, the one of 32 numbers that stands in for it, or f16."""
    if cols % block_of(name) == 0:
        return name
    other = FALLBACKS.get(name, "f16")
    return other if cols % block_of(other) == 0 else "f16"


def _more_bits(layer: int, layers: int) -> bool:
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _chosen(one: Matrix, facts: Facts, value: int, *, values: int, before: int) -> str:
    """The type by what the matrix is, before the fallback; `value` and `before` count such matrices before it."""
    file_type, base = facts.file_type, DEFAULTS.get(facts.file_type, facts.file_type)
    if base in FLOATS:
        return base
    tables = ("embedding",) if facts.older else ("embedding", "layer_embedding")
    if one.kind == "output" or (one.kind in tables and facts.tied):
        return _output(one, facts, base)
    if file_type == "mxfp4_moe":
        return "mxfp4" if one.kind.endswith("_exps") else "q8_0"
    if one.kind == "attn_qkv" and facts.older:
        return OLDER_QKV.get(file_type, base)
    kind = one.kind.removesuffix("_exps").replace("attn_qkv", "attn_v")
    if kind in ("embedding", "layer_embedding"):
        return _embedding(file_type, base)
    if file_type in LOW:
        return _of_few_bits(kind, facts, base, downs=before)
    if kind == "attn_v":
        return _value(facts, base, value, values=values)
    if kind in ("attn_k", "attn_q"):
        if kind == "attn_k" and facts.experts == 8:
            return "q8_0"
        return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(file_type, base)
    if kind == "ffn_down":
        return _down(facts, base, one.layer if facts.experts > 1 else before)
    if kind == "attn_output":
        return _attention_output(facts, base)
    if kind in ("ffn_gate", "ffn_up") and file_type == "iq3_xs":
        inner = facts.layers // 8 <= (one.layer if facts.experts > 1 else before) < 7 * facts.layers // 8
        return "iq3_xxs" if inner else base
    return base


def _output(one: Matrix, facts: Facts, base: str) -> str:
    if facts.file_type == "mxfp4_moe" or facts.falcon or one.cols % block_of(base):
        return "q8_0"
    if facts.file_type in (*LOW, "iq3_xxs"):
        return "q5_k"
    return base if base == "q8_0" else "q6_k"


def _embedding(file_type: str, base: str) -> str:
    if file_type in ("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"):
        return "q2_k"
    if file_type in ("iq2_s", "iq2_m", "iq3_xxs"):
        return "iq3_s"
    return "q4_k" if file_type in ("tq1_0", "tq2_0", "q2_0") else base


def _of_few_bits(kind: str, facts: Facts, base: str, *, downs: int) -> str:
    larger = "iq3_s" if facts.file_type in OF_TWO_BITS else "q2_k"
    if kind == "attn_v":
        return "q4_k" if facts.queries >= 4 or facts.experts >= 4 else larger
    if kind == "attn_k" and facts.experts == 8:
        return "q4_k"
    if kind == "ffn_down":
        return larger if downs < facts.layers // 8 else base
    if kind == "attn_output":
        if facts.experts == 8:
            return "q5_k"
        return {"iq1_s": "iq2_xxs", "iq1_m": "iq2_xxs"}.get(facts.file_type, larger if larger == "iq3_s" else base)
    return base


def _value(facts: Facts, base: str, value: int, *, values: int) -> str:
    file_type, grouped = facts.file_type, facts.queries >= 4
    chosen = base
    if file_type == "q2_k":
        chosen = "q4_k" if grouped else "q3_k"
    elif file_type in ("q2_k_s", "iq3_xs", "iq3_s") and grouped:
        chosen = "q4_k"
    elif file_type == "iq3_xxs":
        chosen = "q4_k" if grouped else "iq3_xxs" if facts.imatrix else "iq3_s"
    elif file_type == "iq3_m":
        chosen = "q4_k"
    elif file_type == "q3_k_m":
        chosen = "q5_k" if value < 2 else "q4_k"
    elif file_type == "q3_k_l" or (file_type in ("iq4_nl", "iq4_xs") and grouped):
        chosen = "q5_k"
    elif file_type in ("q4_k_m", "q5_k_m") and _more_bits(value, values):
        chosen = "q6_k"
    elif file_type == "q4_k_s" and value < 4:
        chosen = "q5_k"
    if facts.seventy and chosen in ("q3_k", "q4_k"):
        chosen = "q5_k"
    return "q8_0" if facts.experts == 8 else chosen


# long: a branch a file type
def _down(facts: Facts, base: str, layer: int) -> str:
    file_type, layers = facts.file_type, facts.layers
    first, more = layer < layers // 8, _more_bits(layer, layers)
    if file_type == "q2_k":
        return "q3_k"
    if file_type == "q2_k_s":
        return "q4_k" if first else base
    if file_type == "iq3_xxs" and not facts.imatrix:
        return "q4_k" if first else "q3_k"
    if file_type == "q3_k_m":
        return "q5_k" if layer < layers // 16 else "q4_k" if not facts.falcon or more else "q3_k"
    if file_type == "iq3_m" and (first or (facts.experts == 8 and more)):
        return "q4_k"
    if file_type == "q3_k_l":
        return "q4_k" if facts.falcon else "q5_k"
    if file_type == "q4_k_m" and facts.falcon:
        return "q6_k" if layer < layers // 16 else "q5_k" if more else "q4_k"
    if file_type in ("q4_k_m", "q5_k_m"):
        return "q6_k" if more else base
    if file_type in ("iq4_nl", "iq4_xs") and first and not facts.imatrix:
        return "q5_k"
    if file_type == "q4_k_s" and first and not facts.falcon:
        return "q5_k"
    if file_type in ("q4_0", "q5_0") and first and facts.imatrix:
        return "q4_1" if file_type == "q4_0" else "q5_1"
    return base


def _attention_output(facts: Facts, base: str) -> str:
    if facts.falcon:
        return "q4_k" if facts.file_type == "q3_k_l" else base
    if facts.experts == 8:
        return "q5_k" if facts.file_type in EIGHT_OUTPUT else base
    return OUTPUTS.get(facts.file_type, base)
