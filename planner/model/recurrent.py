"""Describes recurrent mixers: what a layer keeps in place of K and V, and the weights that fill it.

One pure function a kind, each with its recurrence, the shapes of its weights ([out, in]) and of its state,
and the source. None of these states grows with the length. Shapes of the states are those that transformers
5.23.0 allocates: a depthwise convolution keeps `conv_kernel` columns, not conv_kernel - 1, except in
RecurrentGemma; the recurrent part stays fp32 whatever the model's dtype, except in lightning attention.

A state or weight that tensor parallelism can cut says in how many equal units; where heads, groups and keys
are cut differently, one tensor stands as two parts.
"""

from __future__ import annotations

from dataclasses import replace

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import FLOAT_BYTES
from planner.frozen import dataclass
from planner.model.attention import Mixer
from planner.model.cache import Cache
from planner.model.weights import Weight, linear, vector
from planner.units import ceil_div


@dataclass(frozen=True)
class StatePart:
    """One tensor of a recurrent state.

    `dtype` None: the model's dtype; else it stays so (fp32). `split`: how many equal units tensor
    parallelism can split it into (heads, channels); 0 means each rank holds all of it. `columns`: how many
    columns of a convolution's input these elements are; 0 where it is no convolution.
    """

    name: str
    elements: int
    dtype: str | None = None
    split: int = 0
    columns: int = 0

    def bytes(self, fmt: CacheFormat) -> int:
        return self.elements * (FLOAT_BYTES[self.dtype] if self.dtype else fmt.model_dtype_bytes)

    def on_rank(self, tp: int) -> StatePart:
        if not self.split:
            return self
        units = max(1, ceil_div(self.split, tp))
        return replace(self, elements=self.elements // self.split * units, split=units)


@dataclass(frozen=True)
class Recurrent(Cache):
    """State of a recurrent layer (Mamba, delta rule, linear attention, short convolution): fixed size.

    >>> from planner.dtypes.kinds import CacheFormat
    >>> from planner.dtypes.names import kv_format
    >>> bf16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))
    >>> mamba = Recurrent("mamba", (StatePart("conv", 5120 * 4), StatePart("ssm", 5120 * 16, "fp32")))
    >>> mamba.state_bytes(bf16) * 64                              # Mamba 2.8B
    23592960
    """

    label: str
    parts: tuple[StatePart, ...]

    @property
    def kind(self) -> str:
        return f"state ({self.label})"

    @property
    def symbols(self) -> str:
        return "batch x (state tensors) x layers, whatever the length"

    def state_bytes(self, fmt: CacheFormat) -> int:
        return sum(part.bytes(fmt) for part in self.parts)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return sum(part.elements for part in self.parts)

    def on_rank(self, tp: int) -> Cache:
        return replace(self, parts=tuple(part.on_rank(tp) for part in self.parts))

    def equation(
        self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat
    ) -> str:  # parameters: as every cache
        parts = " + ".join(
            f"{p.name} {p.elements} x {FLOAT_BYTES[p.dtype] if p.dtype else fmt.model_dtype_bytes} B"
            for p in self.parts
        )
        return f"{batch} x ({parts})"


@dataclass(frozen=True)
class StateMixer(Mixer):
    """A recurrent mixer given by its weights and state parts; makers in `planner.model.recurrent` name the formulas."""

    label: str
    weight_list: tuple[Weight, ...]
    parts: tuple[StatePart, ...]

    def weights(self) -> tuple[Weight, ...]:
        return self.weight_list

    def cache(self) -> Cache:
        return Recurrent(self.label, self.parts)


PART = "mixer"
NGRAMS = "conv n-grams"  # Qwen4-Exp's columns of hashed n-grams, all of which are kept


FP32 = "fp32"
CONVOLVED = "compressed convolutional attention"  # Zaya's states, beside the K and V of the same layer
FOUR_CONVOLUTIONS = "four short convolutions"  # Inkling's: of k, of v, behind attention and behind the MLP
FOUR_CONVOLUTIONS_2 = "four short convolutions of Inkling 2"  # the same parts, which no engine reads yet
CONVOLVED_IN_TURNS = "compressed convolutional attention, the hidden state kept"  # as SGLang keeps them


def depthwise(channels: int, kernel: int, units: int, *, bias: bool) -> tuple[Weight, ...]:
    """Describes a depthwise causal convolution: one filter of `kernel` a channel; quantisers leave it alone.

    >>> sum(w.parameters for w in depthwise(5120, 4, 5120, bias=True))
    25600
    """
    filters = Weight(PART, channels, kernel, split="rows", units=units, linear=False)
    return (filters, vector(PART, channels, split="rows", units=units)) if bias else (filters,)


def conv_state(name: str, channels: int, columns: int, *, units: int) -> StatePart:
    """Returns the newest `columns` inputs of a depthwise convolution, in the model's dtype."""
    return StatePart(name, channels * columns, None, units, columns)


def mamba1(
    *,
    hidden: int,
    width: int,
    state: int,
    conv_kernel: int,
    dt_rank: int,
    proj_bias: bool = False,
    conv_bias: bool = True,
    inner_norms: bool = False,
) -> StateMixer:  # parameters: what it makes is made of, each by name
    """Describes Mamba: a selective state space of `state` numbers a channel.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t x_t,  y_t = C_t h_t + D x_t,  Δ, B, C computed from x_t.

    in [2·width, hidden], conv [width, conv_kernel], x [dt_rank + 2·state, width], dt [width, dt_rank] + bias,
    A_log [width, state], D [width], out [hidden, width]; Jamba adds norms of dt_rank, state and state.
    State: conv [width, conv_kernel], ssm [width, state] in fp32.
    Source: arXiv:2312.00752; transformers MambaMixer, JambaMambaMixer.

    >>> mixer = mamba1(hidden=2560, width=5120, state=16, conv_kernel=4, dt_rank=160)       # Mamba 2.8B
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)
    (41241600, 102400)
    """
    weights = (
        *linear(PART, 2 * width, hidden, bias=proj_bias, split="rows", units=width, name="in_proj"),
        *depthwise(width, conv_kernel, width, bias=conv_bias),
        *linear(PART, dt_rank + 2 * state, width, split="cols", units=width, name="x_proj"),
        *linear(PART, width, dt_rank, bias=True, split="rows", units=width, name="dt_proj"),
        Weight(PART, width, state, split="rows", units=width, linear=False),
        vector(PART, width, split="rows", units=width),
        *linear(PART, hidden, width, bias=proj_bias, split="cols", units=width, name="out_proj"),
    )
    if inner_norms:
        weights += (vector("norm", dt_rank), vector("norm", state, 2))
    parts = (conv_state("conv", width, conv_kernel, units=width), StatePart("ssm", width * state, FP32, width))
    return StateMixer("mamba", weights, parts)


def mamba2(
    *,
    hidden: int,
    heads: int,
    head_dim: int,
    groups: int,
    state: int,
    conv_kernel: int,
    in_bias: bool = False,
    out_bias: bool = False,
    conv_bias: bool = True,
    gated_norm: bool = True,
) -> StateMixer:  # parameters: what it makes is made of, each by name
    """Describes Mamba-2: a state of head_dim x state a head, one decay a head, B and C shared by a group of heads.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t x_t B_tᵀ,  y_t = h_t C_t + D x_t

    With width = heads·head_dim: in [2·width + 2·groups·state + heads, hidden] (gate, x, B, C, Δ),
    conv [width + 2·groups·state, conv_kernel], A_log, D, Δ bias [heads], gated norm [width],
    out [hidden, width].
    State: conv [width + 2·groups·state, conv_kernel], ssm [heads, head_dim, state] in fp32. Ranks split
    heads and groups; a group is copied when ranks outnumber groups (vLLM MambaMixer2).
    Source: arXiv:2405.21060; transformers Mamba2Mixer, BambaMixer, NemotronHMamba2Mixer, FalconH1Mixer.

    >>> mixer = mamba2(hidden=4096, heads=128, head_dim=64, groups=8, state=128, conv_kernel=4)
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)  # Mamba-Codestral 7B
    (109635968, 1089536)
    """
    width, shared = heads * head_dim, 2 * groups * state
    weights = (
        *linear(PART, 2 * width, hidden, bias=in_bias, split="rows", units=heads, name="in_proj"),
        *linear(PART, shared, hidden, bias=in_bias, split="rows", units=groups, name="in_proj|in_proj_bc"),
        *linear(PART, heads, hidden, bias=in_bias, split="rows", units=heads, name="in_proj|in_proj_dt"),
        *depthwise(width, conv_kernel, heads, bias=conv_bias),
        *depthwise(shared, conv_kernel, groups, bias=conv_bias),
        vector(PART, heads, 3, split="rows", units=heads),
        *linear(PART, hidden, width, bias=out_bias, split="cols", units=heads, name="out_proj"),
    )
    if gated_norm:
        weights += (vector("norm", width, split="rows", units=heads),)
    parts = (
        conv_state("conv x", width, conv_kernel, units=heads),
        conv_state("conv B C", shared, conv_kernel, units=groups),
        StatePart("ssm", width * state, FP32, heads),
    )
    return StateMixer("mamba2", weights, parts)


def gated_delta_net(
    *, hidden: int, key_heads: int, value_heads: int, key_dim: int, value_dim: int, conv_kernel: int
) -> StateMixer:
    """Describes the gated delta rule (Qwen3-Next, Qwen3.5, OLMo Hybrid): a matrix of key_dim x value_dim a value head.

    S_t = α_t S_{t-1} (I - β_t k_t k_tᵀ) + β_t v_t k_tᵀ,  o_t = S_t q_t, with one decay α a head.

    With K = key_heads·key_dim and V = value_heads·value_dim: q, k [K, hidden], v and gate z [V, hidden],
    α and β [value_heads, hidden], conv [2·K + V, conv_kernel], A_log and Δ bias [value_heads],
    norm [value_dim], out [hidden, V]. No biases.
    State: conv [2·K + V, conv_kernel], recurrent [value_heads, key_dim, value_dim] in fp32.
    Source: arXiv:2412.06464; transformers Qwen3NextGatedDeltaNet, OlmoHybridGatedDeltaNet.

    >>> mixer = gated_delta_net(
    ...     hidden=2048, key_heads=16, value_heads=32, key_dim=128, value_dim=128, conv_kernel=4
    ... )
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)  # Qwen3-Next
    (33718464, 557056)
    """
    keys, values = key_heads * key_dim, value_heads * value_dim
    weights = (
        *linear(PART, 2 * keys, hidden, split="rows", units=key_heads, name="in_proj_qkvz|in_proj_qkv|q_proj|k_proj"),
        *linear(PART, values, hidden, split="rows", units=value_heads, name="in_proj_qkvz|in_proj_qkv|v_proj"),
        *linear(PART, values, hidden, split="rows", units=value_heads, name="in_proj_qkvz|in_proj_z|g_proj"),
        *linear(PART, value_heads, hidden, split="rows", units=value_heads, name="in_proj_ba|in_proj_b|b_proj"),
        *linear(PART, value_heads, hidden, split="rows", units=value_heads, name="in_proj_ba|in_proj_a|a_proj"),
        *depthwise(2 * keys, conv_kernel, key_heads, bias=False),
        *depthwise(values, conv_kernel, value_heads, bias=False),
        vector(PART, value_heads, 2, split="rows", units=value_heads),
        vector("norm", value_dim),
        *linear(PART, hidden, values, split="cols", units=value_heads, name="out_proj|o_proj"),
    )
    parts = (
        conv_state("conv q k", 2 * keys, conv_kernel, units=key_heads),
        conv_state("conv v", values, conv_kernel, units=value_heads),
        StatePart("recurrent", value_heads * key_dim * value_dim, FP32, value_heads),
    )
    return StateMixer("gated delta net", weights, parts)


def kimi_delta(
    *,
    hidden: int,
    heads: int,
    head_dim: int,
    conv_kernel: int,
    full_rank_gate: bool = False,
    full_rank_decay: bool = False,
) -> StateMixer:
    """Describes Kimi delta attention: the gated delta rule with a decay for each channel of the key.

    S_t = Diag(α_t) S_{t-1} (I - β_t k_t k_tᵀ) + β_t v_t k_tᵀ,  o_t = S_t q_t, α_t a vector of head_dim.

    With W = heads·head_dim: q, k, v [W, hidden], conv [3·W, conv_kernel], decay through a low rank
    [head_dim, hidden], [W, head_dim] with bias [W] and A_log [heads], β [heads, hidden], output gate through
    a low rank of the same shapes, norm [head_dim], out [hidden, W]; `full_rank_gate` and `full_rank_decay` put
    one matrix [W, hidden] for the two of a low rank (Kimi K3; Ling 3).
    State: conv [3·W, conv_kernel], recurrent [heads, head_dim, head_dim] in fp32.
    Source: arXiv:2510.26692; transformers KimiLinearDeltaAttention.

    >>> mixer = kimi_delta(hidden=2304, heads=32, head_dim=128, conv_kernel=4)  # Kimi Linear 48B
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)
    (39514272, 573440)
    """
    width = heads * head_dim

    def rank(letter: str, full: bool, spelled: str) -> tuple[Weight, ...]:
        name = f"{letter}_proj|{spelled}{letter}_proj"
        if full:
            return linear(PART, width, hidden, split="rows", units=heads, name=name)
        down = linear(PART, head_dim, hidden, name=name.replace("_proj", "_a_proj"))
        return down + linear(PART, width, head_dim, split="rows", units=heads, name=name.replace("_proj", "_b_proj"))

    weights = (
        *(each for n in "qkv" for each in linear(PART, width, hidden, split="rows", units=heads, name=f"{n}_proj")),
        *depthwise(3 * width, conv_kernel, heads, bias=False),
        *rank("f", full_rank_decay, "forget_gate."),
        vector(PART, width, split="rows", units=heads),
        vector(PART, heads, split="rows", units=heads),
        *linear(PART, heads, hidden, split="rows", units=heads, name="b_proj"),
        *rank("g", full_rank_gate, ""),
        vector("norm", head_dim),
        *linear(PART, hidden, width, split="cols", units=heads, name="o_proj|out_proj"),
    )
    parts = (
        conv_state("conv", 3 * width, conv_kernel, units=heads),
        StatePart("recurrent", heads * head_dim * head_dim, FP32, heads),
    )
    return StateMixer("kimi delta", weights, parts)


def lightning_attention(*, hidden: int, heads: int, head_dim: int) -> StateMixer:
    """Describes lightning attention (MiniMax-01): linear attention with a fixed decay a head.

    S_t = λ S_{t-1} + k_t v_tᵀ,  o_t = q_tᵀ S_t

    qkv [3·heads·head_dim, hidden], output gate [heads·head_dim, hidden], norm [heads·head_dim],
    out [hidden, heads·head_dim]. State: [heads, head_dim, head_dim] in the model's dtype.
    Source: arXiv:2401.04658, arXiv:2501.08313; transformers MiniMaxLightningAttention.

    >>> mixer = lightning_attention(hidden=6144, heads=64, head_dim=128)  # MiniMax-Text-01
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)
    (251666432, 1048576)
    """
    width = heads * head_dim
    weights = (
        *linear(PART, 4 * width, hidden, split="rows", units=heads, name="qkv_proj|output_gate"),
        vector("norm", width, split="rows", units=heads),
        *linear(PART, hidden, width, split="cols", units=heads, name="o_proj|out_proj"),
    )
    parts = (StatePart("linear attention", width * head_dim, None, heads),)
    return StateMixer("lightning attention", weights, parts)


def short_conv(*, hidden: int, conv_kernel: int, bias: bool = False) -> StateMixer:
    """Describes a gated short convolution (LFM2): y = out(c · conv(b · x)), with b, c, x from one projection.

    in [3·hidden, hidden], conv [hidden, conv_kernel], out [hidden, hidden].
    State: conv [hidden, conv_kernel] in the model's dtype. Source: transformers Lfm2ShortConv.

    >>> mixer = short_conv(hidden=1024, conv_kernel=3)  # LFM2 350M
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)
    (4197376, 3072)
    """
    weights = (
        *linear(PART, 3 * hidden, hidden, bias=bias, split="rows", units=hidden, name="in_proj"),
        *depthwise(hidden, conv_kernel, hidden, bias=bias),
        *linear(PART, hidden, hidden, bias=bias, split="cols", units=hidden, name="out_proj"),
    )
    return StateMixer("short conv", weights, (conv_state("conv", hidden, conv_kernel, units=hidden),))


def rg_lru(*, hidden: int, width: int, heads: int, conv_kernel: int) -> StateMixer:
    """Describes Griffin's recurrent block: a real-gated linear recurrent unit behind a short convolution.

    h_t = a_t h_{t-1} + sqrt(1 - a_t²) (i_t x_t), with a_t and i_t from block-diagonal gates.

    y and x [width, hidden] + bias, conv [width, conv_kernel] + bias, two gates of `heads` blocks
    [width/heads, width/heads] + bias, decay [width], out [hidden, width] + bias.
    State: conv [width, conv_kernel - 1] in the model's dtype, recurrent [width] in fp32.
    Source: arXiv:2402.19427; transformers RecurrentGemmaRecurrentBlock.

    >>> mixer = rg_lru(hidden=2560, width=2560, heads=10, conv_kernel=4)  # RecurrentGemma 2B
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)
    (20999680, 10240)
    """
    block = width // heads
    gate = linear(PART, width, block, bias=True, split="rows", units=heads, name="rg_lru")
    weights = (
        *linear(PART, 2 * width, hidden, bias=True, split="rows", units=heads, name="linear_x|linear_y"),
        *depthwise(width, conv_kernel, heads, bias=True),
        *gate,
        *gate,
        vector(PART, width, split="rows", units=heads),
        *linear(PART, hidden, width, bias=True, split="cols", units=heads, name="linear_out"),
    )
    parts = (
        conv_state("conv", width, conv_kernel - 1, units=heads),
        StatePart("recurrent", width, FP32, heads),
    )
    return StateMixer("rg-lru", weights, parts)


def rwkv4(*, hidden: int, width: int, ffn_width: int) -> StateMixer:
    """Describes RWKV-4: a weighted sum over the past with a decay for each channel, and a gated MLP that looks one token back.

    num_t = exp(-w) num_{t-1} + exp(k_t) v_t,  den_t = exp(-w) den_{t-1} + exp(k_t),
    wkv_t = (num + exp(u + k_t) v_t) / (den + exp(u + k_t)), scaled by the running maximum of the exponents.

    Time mixing: k, v, r [width, hidden], out [hidden, width], w and u [width], three mixing vectors [hidden].
    Channel mixing: key [ffn_width, hidden], value [hidden, ffn_width], r [hidden, hidden], two mixing vectors.
    State: the last input of both halves, 2 x [hidden] in the model's dtype; num, den and maximum, 3 x [hidden]
    in fp32 (transformers sizes all five by hidden). Source: arXiv:2305.13048; transformers RwkvModel.

    >>> mixer = rwkv4(hidden=768, width=768, ffn_width=3072)  # RWKV-4 169M
    >>> sum(w.parameters for w in mixer.weights()), mixer.cache().elements(1, 0)
    (7673088, 3840)
    """
    weights = (
        *linear(PART, width, hidden, name="key|value|receptance") * 3,
        *linear(PART, hidden, width, name="output"),
        vector(PART, width, 2),
        vector(PART, hidden, 3),
        *linear("mlp", ffn_width, hidden),
        *linear("mlp", hidden, hidden),
        *linear("mlp", hidden, ffn_width),
        vector("mlp", hidden, 2),
    )
    parts = (StatePart("shift", 2 * hidden), StatePart("wkv", 3 * hidden, FP32))
    return StateMixer("rwkv", weights, parts)
