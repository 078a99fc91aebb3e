"""What the name of a GGUF file says beyond its type: whose recipe it is, and how far his files lie from llama.cpp's rule.

Unsloth's dynamic files (`UD-`) give matrices types by measurement of each model, which no name tells: they are counted as
the plain type, and the range is how far published files lie from that. Since 2026 Unsloth, bartowski and ggml-org also
choose some types by hand in files of plain names. Sizes behind the ranges: tests/cases/gguf_files.csv, and the publishers'
lists of gemma-4-26B-A4B, Kimi-K2 and Qwen3.8-27B.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Spread = tuple[float, float]
EXACT: Spread = (0.0, 0.0)

# By the start of the type: how far files of "UD-" lie below and above the plain type, as parts of it.
DYNAMIC: dict[str, Spread] = {
    "tq1": (0.05, 0.25), "iq1": (0.05, 0.45), "iq2": (0.21, 0.30), "iq3": (0.21, 0.12), "iq4": (0.08, 0.06),
    "q2_k": (0.16, 0.10), "q3_k": (0.10, 0.08), "q4_k": (0.08, 0.16), "q5_k": (0.03, 0.18), "q6_k": (0.12, 0.17),
    "q8_k": (0.10, 0.50), "mxfp4": (0.05, 0.27),
}  # fmt: skip
# The same for plain names of the newer models, by publisher; "" where a name has none.
BY_HAND: dict[str, Spread] = {
    "unsloth": (0.10, 0.12),
    "bartowski": (0.01, 0.09),
    "ggml-org": (0.01, 0.16),
    "": (0.10, 0.12),
}
HAND_MADE = re.compile(r"i?q[1-6]_|mxfp4")
# Model types first published as GGUF since 2026, and three of 2025 where the publishers did so already.
NEWER = (
    "bailing_moe", "bailing_moe_v2", "ernie4_5_moe", "gemma3n", "gemma3n_text",
    "axk1", "axk2", "bailing_hybrid", "bailing_moe_v3", "cohere2_moe", "deepseek_v32", "deepseek_v4", "gemma4", "gemma4_text",
    "gemma4_unified", "glm4_moe_lite", "glm_moe_dsa", "glm5_next", "hy_v3", "hy_v4", "kimi_k25", "kimi_k3", "laguna", "minimax_m3",
    "muse_glimmer", "nemotron_h", "qwen3_5", "qwen3_5_moe", "qwen3_5_text", "qwen3_5_moe_text", "qwen4_exp", "step3p5", "step3p7",
)  # fmt: skip
# Unsloth's mixes of a model with a table of embeddings for each layer may keep that in Q8_0.
LAYER_TABLE_ABOVE = 0.30
WITH_IMATRIX, WITHOUT_IMATRIX = ("unsloth", "bartowski"), ("microsoft",)
# In these files a head lies beside the embedding that it is tied to: of a publisher and a version, or of all of a type.
HEAD_APART = (("qwen", "2.5"), ("ai21labs", ""))
HEAD_APART_TYPES = ("falcon",)
# What converters of 2023 wrote otherwise, and what that makes of the size.
OF_2023 = {
    ("thebloke", "mixtral"): ((0.12, 0.01), "the experts lie apart"),
    ("thebloke", ""): ((0.01, 0.15), "Q2_K has more matrices in more bits"),
    ("thebloke", "phi"): ((0.01, 0.05), "Q, K and V are one matrix"),
}


@dataclass(frozen=True)
class Recipe:
    """How one publisher makes a type: what it is counted as, what he changes, and why it is an estimate.

    own     types of `embedding` and `output`, of an `embedding_apart` from the head, and `imatrix`, for `planner.memory.gguf_plan`
    spread  how far files of that name lie from the count
    """

    base: str
    own: dict[str, object]
    spread: Spread = EXACT
    note: str = ""


def recipe(kind: str, owner: str, words: frozenset[str]) -> Recipe:
    """Returns the recipe of a type as `planner.lookup.parts` reads it, of an owner, with the other words of the format.

    >>> recipe("q2_k_l", "unsloth", frozenset()).own, recipe("q3_k_xl", "bartowski", frozenset()).base
    ({'embedding_apart': 'q4_k', 'imatrix': True}, 'q3_k_l')
    >>> recipe("q4_k_xl", "unsloth", frozenset({"ud"})).note
    'UD-Q4_K_XL is a mix of its publisher, counted as Q4_K_M: such files lie 8 % below to 16 % above; read the file for its bytes'
    """
    has = owner in WITH_IMATRIX or bool(words & {"i1", "imat", "imatrix"})
    own: dict[str, object] = {"imatrix": has} if has or owner in WITHOUT_IMATRIX else {}
    match = re.fullmatch(r"(q([2-8])_k)_(xl|l)", kind)
    tables = bool(match) and owner != "unsloth" and "ud" not in words
    if tables and (kind == "q3_k_xl" or (match and match.group(3) == "l" and match.group(2) != "3")):
        base = {"q3_k": "q3_k_l", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}.get(kind[:4], kind[:4])
        note = f"{kind.upper()} is taken as bartowski's: {base.upper()} with embedding and head in Q8_0"
        return Recipe(base, {**own, "embedding": "q8_0", "output": "q8_0"}, note=note)
    if kind == "q2_k_l" and "ud" not in words:
        note = "Q2_K_L of Unsloth is Q2_K, an embedding apart from the head in Q4_K"
        return Recipe("q2_k", {"embedding_apart": "q4_k", **own}, note=note)
    base = _plain(kind)
    if kind == "iq4_xs" and owner == "unsloth":
        own["embedding_apart"] = "q4_k"
    if "ud" not in words and not kind.endswith("_xl"):
        return Recipe(base, own)
    spread = next((found for start, found in DYNAMIC.items() if kind.startswith(start)), EXACT)
    if spread == EXACT:
        return Recipe(base, own)
    said = kind.upper() if "ud" not in words else f"UD-{kind.upper()}"
    counted = f", counted as {base.upper()}" if base != kind else ""
    note = f"{said} is a mix of its publisher{counted}: such files lie {_percent(spread)}; read the file for its bytes"
    return Recipe(base, own, spread, note)


def _plain(kind: str) -> str:
    """The type that llama.cpp's quantiser has nearest to a name; Q6_K_XL and Q8_K_XL are mean bits of their own."""
    if kind in ("q6_k_xl", "q8_k_xl"):
        return kind
    if match := re.fullmatch(r"(q[2-8]_k)_(xl|l)", kind):
        plain = {"q2_k": "q2_k", "q6_k": "q6_k", "q3_k": "q3_k_l" if match.group(2) == "l" else "q3_k_m"}
        return plain.get(match.group(1), match.group(1) + "_m")
    return f"{kind}_m" if kind in ("q4_k", "q5_k", "q3_k") else kind


def by_hand(kind: str, owner: str, model_type: str, *, per_layer: bool = False) -> tuple[Spread, str]:
    """Returns how far a file of a plain name may lie from llama.cpp's rule, with the reason.

    per_layer   the model has a table of embeddings for each layer, which Unsloth keeps in more bits in Q8_0 as well

    >>> by_hand("q4_k_m", "bartowski", "gemma4")
    ((0.01, 0.09), 'bartowski chooses some types by hand since 2026: such files lie 1 % below to 9 % above')
    >>> by_hand("q4_k_m", "lmstudio-community", "gemma4"), by_hand("q4_k_m", "bartowski", "qwen3")
    (((0.0, 0.0), ''), ((0.0, 0.0), ''))
    """
    old = OF_2023.get((owner, model_type)) or (OF_2023.get((owner, "")) if kind == "q2_k" else None)
    if old:
        return old[0], f"in files of 2023 {old[1]}: such files lie {_percent(old[0])}"
    spread = BY_HAND.get(owner)
    if owner == "unsloth" and kind.startswith("mxfp4"):
        spread = DYNAMIC["mxfp4"]
    elif spread is not None and kind == "q8_0" and per_layer and owner in ("unsloth", ""):
        spread = (0.0, 0.03)
    elif spread is None or model_type not in NEWER or not HAND_MADE.match(kind):
        return EXACT, ""
    who = f"{owner} chooses" if owner else "some publishers choose"
    return spread, f"{who} some types by hand since 2026: such files lie {_percent(spread)}"


def head_apart(owner: str, versions: frozenset[str], model_type: str) -> bool:
    """Tells whether such files hold a tied head beside the embedding.

    >>> head_apart("qwen", frozenset({"2.5"}), "qwen2"), head_apart("bartowski", frozenset({"2.5"}), "qwen2")
    (True, False)
    """
    named = any(owner == name and (not version or version in versions) for name, version in HEAD_APART)
    return named or model_type in HEAD_APART_TYPES


def _percent(spread: Spread) -> str:
    low, high = (round(100 * part) for part in spread)
    return f"{low} % below to {high} % above"
