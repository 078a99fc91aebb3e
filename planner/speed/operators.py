"""What one forward pass runs: matrices, attention reads, and the bytes and FLOPs they come to.

The matrices are those of the profiler's GPT: q, k and v are one product, gate and up are one. Pure numbers,
no rates: seconds are in `planner.machine.calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.errors import UnsupportedModel
from planner.model.attention import Attention
from planner.model.latent_attention import LatentAttention
from planner.model.mlp import Mlp
from planner.model.spec import Layer, ModelSpec


@dataclass(frozen=True)
class Matmul:
    """`count` products x Wᵀ with W [outputs, inputs].

    share   of the rows that each of the products gets (experts: active / experts, spread evenly); 1 elsewhere
    """

    outputs: int
    inputs: int
    count: int = 1
    share: float = 1.0

    def used(self, rows: float) -> float:
        """How many of the matrices `rows` tokens touch: all, or count·(1 - (1 - share)^rows) experts."""
        return self.count if self.share == 1.0 else self.count * (1 - (1 - self.share) ** rows)

    def rows_each(self, rows: float) -> float:
        """Rows that each touched matrix gets."""
        return rows if self.share == 1.0 else max(1.0, rows * self.share * self.count / self.used(rows))

    def flops(self, rows: float) -> float:
        """2·rows·outputs·inputs, for each token's share of the matrices."""
        return 2 * rows * self.outputs * self.inputs * self.count * self.share


@dataclass(frozen=True)
class AttentionRead:
    """One layer's attention: `kv_heads` keys of k_dim and values of v_dim a token, `groups` queries for each."""

    kv_heads: int
    groups: int
    k_dim: int
    v_dim: int
    window: int | None = None

    def reach(self, context_tokens: int) -> int:
        return context_tokens if self.window is None else min(context_tokens, self.window)

    def read_elements(self, context_tokens: int) -> int:
        """Numbers that one query step reads: reach·kv_heads·(k_dim + v_dim)."""
        return self.reach(context_tokens) * self.kv_heads * (self.k_dim + self.v_dim)

    def prefill_flops(self, tokens: int) -> float:
        """q kᵀ and p v over the causal half: 2·heads·(k_dim + v_dim)·pairs."""
        reach = self.reach(tokens)
        pairs = reach * (reach + 1) / 2 + (tokens - reach) * reach
        return 2 * self.kv_heads * self.groups * (self.k_dim + self.v_dim) * pairs


def layer_matmuls(layer: Layer) -> tuple[Matmul, ...]:
    """The matrices of one layer.

    >>> from planner.model.attention import Attention
    >>> layer_matmuls(Layer((Attention(768, 12, 12, 64),), (Mlp(768, 3072, gated=False),)))
    ... # doctest: +NORMALIZE_WHITESPACE
    (Matmul(outputs=2304, inputs=768, count=1, share=1.0), Matmul(outputs=768, inputs=768, count=1, share=1.0),
     Matmul(outputs=3072, inputs=768, count=1, share=1.0), Matmul(outputs=768, inputs=3072, count=1, share=1.0))
    """
    found: list[Matmul] = []
    for mixer in layer.mixers:
        if type(mixer) is Attention:
            found.append(
                Matmul(mixer.heads * mixer.head_dim + mixer.kv_heads * (mixer.head_dim + mixer.value_dim), mixer.hidden)
            )
            found.append(Matmul(mixer.hidden, mixer.heads * mixer.value_dim))
        elif isinstance(mixer, LatentAttention):
            q_out = mixer.heads * (mixer.nope_dim + mixer.rope_dim)
            if mixer.q_rank:
                found += [Matmul(mixer.q_rank, mixer.hidden), Matmul(q_out, mixer.q_rank)]
            else:
                found.append(Matmul(q_out, mixer.hidden))
            found.append(Matmul(mixer.kv_rank + mixer.rope_dim, mixer.hidden))
            found.append(Matmul(mixer.heads * (mixer.nope_dim + mixer.v_dim), mixer.kv_rank))
            found.append(Matmul(mixer.hidden, mixer.heads * mixer.v_dim))
        else:
            raise UnsupportedModel(f"the speed of a layer with {mixer.cache().kind} is not modelled")
    for mlp in layer.mlps:
        if isinstance(mlp, Mlp):
            found += _mlp(mlp.hidden, mlp.width, mlp.gated)
            continue
        found.append(Matmul(mlp.experts, mlp.hidden))
        found += _mlp(
            mlp.expert_hidden or mlp.hidden, mlp.expert_width, mlp.gated, mlp.experts, mlp.active / mlp.experts
        )
        if mlp.expert_hidden:
            found += [Matmul(mlp.expert_hidden, mlp.hidden), Matmul(mlp.hidden, mlp.expert_hidden)]
        if mlp.shared_width:
            found += _mlp(mlp.hidden, mlp.shared_width, mlp.gated)
    return tuple(found)


def _mlp(hidden: int, width: int, gated: bool, count: int = 1, share: float = 1.0) -> list[Matmul]:
    return [Matmul(width * (2 if gated else 1), hidden, count, share), Matmul(hidden, width, count, share)]


def layer_attention(layer: Layer) -> tuple[AttentionRead, ...]:
    """The attention of one layer; latent attention reads its latents as one KV head."""
    found = []
    for mixer in layer.mixers:
        if type(mixer) is Attention:
            groups = max(1, mixer.heads // mixer.kv_heads)
            found.append(AttentionRead(mixer.kv_heads, groups, mixer.head_dim, mixer.value_dim, mixer.window))
        elif isinstance(mixer, LatentAttention):
            found.append(AttentionRead(1, mixer.heads, mixer.kv_rank + mixer.rope_dim, 0))
    return tuple(found)


def head_matmul(spec: ModelSpec) -> Matmul:
    """The last product: logits over the vocabulary."""
    return Matmul(spec.vocab, spec.hidden)


def weight_read_elements(spec: ModelSpec, rows: int) -> float:
    """Matrix elements that a step of `rows` tokens reads: every layer and the head once, experts as they are hit.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.readers import read_entry
    >>> weight_read_elements(read_entry(find_model("gpt2")), 1)       # 12 · 12 · 768² + 50257 · 768
    123532032.0
    """
    total = float(spec.vocab * spec.hidden)
    for layer, count in spec.groups:
        total += count * sum(m.outputs * m.inputs * m.used(rows) for m in layer_matmuls(layer))
    return total


def kv_read_elements(spec: ModelSpec, context_tokens: int) -> int:
    """Cached numbers that one sequence's step reads at this length, all layers, windows honoured."""
    return sum(
        count * read.read_elements(context_tokens) for layer, count in spec.groups for read in layer_attention(layer)
    )


def decode_read_bytes(spec: ModelSpec, *, batch: int, context_tokens: int, element_bytes: int) -> float:
    """Bytes a decode step has to read: weights once, the cache of every sequence.

    bytes = (weights + batch · kv) · element_bytes; leaves out activations and the embedding rows.
    """
    return (weight_read_elements(spec, batch) + batch * kv_read_elements(spec, context_tokens)) * element_bytes


def prefill_flops(spec: ModelSpec, *, batch: int, tokens: int) -> float:
    """Products of every layer on all tokens, causal attention, and the head on the last token alone."""
    total = head_matmul(spec).flops(batch)
    for layer, count in spec.groups:
        matrices = sum(m.flops(batch * tokens) for m in layer_matmuls(layer))
        total += count * (matrices + batch * sum(a.prefill_flops(tokens) for a in layer_attention(layer)))
    return total
