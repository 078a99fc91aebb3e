"""Lists what one forward pass runs: its products and its attention reads. `planner.speed.work` sums them.

The matrices are those of the model's weights; q, k and v are one product and so are gate and up, as the profiler's GPT
and every engine run them. Pure shapes, no rates: `planner.machine.calibration` looks their seconds up.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.frozen import dataclass
from planner.model.attention import Attention, Mixer
from planner.model.latent_attention import LatentAttention
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight
from planner.units import ceil_div


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
    """One layer's attention on one rank: what a query reads and computes for each cached token.

    kv_heads, k_dim, v_dim   a cached token is kv_heads · (k_dim + v_dim) numbers; a latent is one head of k_dim
    heads                    queries
    decode_width             multiply-adds of a query head with one cached token, decoding: k_dim + v_dim, or
                             2 · kv_rank + rope where the query is brought to the latent
    prefill_width            the same in a prefill: nope + rope + v where a latent is expanded to heads first
    expands                  a prefill expands the latent to one KV head for each query head
    """

    kv_heads: int
    heads: int
    k_dim: int
    v_dim: int
    decode_width: int
    prefill_width: int
    window: int | None = None
    expands: bool = False

    @property
    def decode_flops(self) -> float:
        """FLOPs of one query with one cached token: 2 · heads · width."""
        return 2.0 * self.heads * self.decode_width

    @property
    def pair_flops(self) -> float:
        """The same in a prefill."""
        return 2.0 * self.heads * self.prefill_width

    def reach(self, context_tokens: int) -> int:
        """How many of the cached tokens are read."""
        return context_tokens if self.window is None else min(context_tokens, self.window)


def layer_matmuls(layer: Layer) -> tuple[Matmul, ...]:
    """Lists the matrix products of one layer; those that read the same input are one where engines fuse them.

    >>> from planner.model.attention import Attention
    >>> from planner.model.mlp import Mlp
    >>> layer_matmuls(Layer((Attention(768, 12, 12, 64),), (Mlp(768, 3072, gated=False),)))
    ... # doctest: +NORMALIZE_WHITESPACE
    (Matmul(outputs=2304, inputs=768, count=1, share=1.0), Matmul(outputs=768, inputs=768, count=1, share=1.0),
     Matmul(outputs=3072, inputs=768, count=1, share=1.0), Matmul(outputs=768, inputs=3072, count=1, share=1.0))
    """
    found: list[Matmul] = []
    for mixer in layer.mixers:
        found += _products(mixer.weights(), fused=type(mixer) is Attention)
    for mlp in layer.mlps:
        found += _products(mlp.weights(), fused=True)
    return (*found, *_products(layer.extra, fused=False))


def _products(weights: Iterable[Weight], *, fused: bool) -> list[Matmul]:
    """A product a matrix, none a table that is only looked up; `fused`: one for all that split by rows and read the same input."""
    outputs: dict[tuple[object, ...], int] = {}
    for i, weight in enumerate(weights):
        if weight.cols > 1 and not weight.is_row_table:
            together = fused and weight.split in ("rows", "kv")
            routed = 0 <= weight.active < weight.count
            share = weight.active / weight.count if routed else 1.0
            key = (weight.part if together else i, weight.cols, weight.count, share)
            outputs[key] = outputs.get(key, 0) + weight.rows
    return [Matmul(rows, *key[1:]) for key, rows in outputs.items()]  # type: ignore[arg-type]


def mixer_attention(mixer: Mixer, tp: int = 1) -> AttentionRead | None:
    """Returns the attention of a mixer on one of `tp` ranks; None for one that is neither plain nor latent attention.

    >>> from planner.model.latent_attention import LatentAttention
    >>> found = mixer_attention(LatentAttention(7168, 128, 1536, 512, 128, 64, 128))
    >>> found.decode_width, found.prefill_width                     # 2 · 512 + 64; 128 + 64 + 128
    (1088, 320)
    """
    if isinstance(mixer, Attention):
        heads, kv_heads = ceil_div(mixer.heads, tp), max(1, ceil_div(mixer.kv_heads, tp))
        width = mixer.head_dim + mixer.value_dim
        return AttentionRead(
            kv_heads, heads, mixer.head_dim, mixer.value_dim, width, width, mixer.window or mixer.chunk
        )
    if isinstance(mixer, LatentAttention):
        expanded = mixer.nope_dim + mixer.rope_dim + mixer.v_dim
        latent, heads = mixer.kv_rank + mixer.rope_dim, ceil_div(mixer.heads, tp)
        return AttentionRead(1, heads, latent, 0, latent + mixer.kv_rank, expanded, mixer.reach, expands=True)
    return None


def layer_attention(layer: Layer) -> tuple[AttentionRead, ...]:
    """Lists the plain and latent attention of one layer, on one rank."""
    return tuple(read for mixer in layer.mixers if (read := mixer_attention(mixer)) is not None)


def head_weights(spec: ModelSpec) -> list[Weight]:
    """Returns the weights that make logits: the embedding where it is tied, else `lm_head`."""
    tied = [w for w in spec.before if w.part == "embedding"][:1] if spec.tied else []
    return [*tied, *(w for w in spec.after if w.part == "lm_head")]


def head_matmul(spec: ModelSpec) -> Matmul:
    """Returns the last product of a model: logits over the vocabulary."""
    matrices = [w for w in head_weights(spec) if w.cols > 1]
    return Matmul(matrices[0].rows, matrices[0].cols) if matrices else Matmul(spec.vocab, spec.hidden)
