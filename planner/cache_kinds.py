"""What one layer keeps for one sequence: a curve of bytes over tokens, never bytes per token.

Every kind answers the same five questions:

- `kv_bytes(tokens, source_tokens, fmt)`  what grows with the length (K and V, latent, cross)
- `state_bytes(fmt)`                      what is there from the first token and does not grow
- `tokens_kept(tokens, source_tokens)`    positions held
- `on_rank(tp)`                           the same cache on the fullest of `tp` tensor-parallel ranks
- `equation(batch, tokens, source_tokens, fmt)`  the factors, for people

All are frozen and hashable: equal layers are counted once and multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.dtypes import FLOAT_BYTES, CacheFormat
from planner.errors import BadRequest
from planner.units import ceil_div


def heads_on_rank(heads: int, tp: int) -> int:
    """KV heads on the fullest rank: split while there are enough, then copied.

    >>> heads_on_rank(8, 4), heads_on_rank(8, 16), heads_on_rank(1, 8)
    (2, 1, 1)

    Source: vLLM `max(1, total_num_kv_heads // tensor_parallel_size)`; where the ranks do not divide the
    heads (engines refuse it) the fullest rank would hold the ceiling.
    """
    return max(1, ceil_div(heads, tp))


@dataclass(frozen=True)
class Cache:
    """Base of all kinds: keeps nothing."""

    @property
    def kind(self) -> str:
        return "no cache"

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return 0

    def state_bytes(self, fmt: CacheFormat) -> int:
        return 0

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return 0

    def elements(self, tokens: int, source_tokens: int) -> int:
        """Cached numbers, without scales."""
        return 0

    def on_rank(self, tp: int) -> Cache:
        return self

    def equation(self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat) -> str:
        return "0"


@dataclass(frozen=True)
class Full(Cache):
    """K and V of every token.

    bytes = tokens · kv_heads · (vector_bytes(k_dim) + vector_bytes(v_dim));
    with k_dim = v_dim = d and plain dtypes this is the familiar 2 · S · H_kv · d · bytes.

    >>> from planner.dtypes import CacheFormat, kv_format
    >>> fp16 = CacheFormat(kv_format("fp16"), kv_format("fp16"))
    >>> Full(32, 128, 128).kv_bytes(8192, 0, fp16) * 32        # LLaMA-7B at 8192: 4 GiB
    4294967296
    """

    kv_heads: int
    k_dim: int
    v_dim: int

    @property
    def kind(self) -> str:
        return "full attention"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return tokens

    def vector_pair_bytes(self, fmt: CacheFormat) -> int:
        """One token, one head: K and V together."""
        for side in (fmt.k, fmt.v):
            if side.name == "fp8_ds_mla":
                raise BadRequest("KV dtype fp8_ds_mla is for latent attention (MLA) layers only; choose fp8")
        return fmt.k.vector_bytes(self.k_dim) + fmt.v.vector_bytes(self.v_dim)

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return self.tokens_kept(tokens, source_tokens) * self.kv_heads * self.vector_pair_bytes(fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return self.tokens_kept(tokens, source_tokens) * self.kv_heads * (self.k_dim + self.v_dim)

    def on_rank(self, tp: int) -> Cache:
        return replace(self, kv_heads=heads_on_rank(self.kv_heads, tp))

    def equation(self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat) -> str:
        kept = self.tokens_kept(tokens, source_tokens)
        k, v = fmt.k, fmt.v
        if self.k_dim == self.v_dim and k == v and not k.group_bytes and k.bits % 8 == 0:
            return f"2 x {batch} x {kept} x {self.kv_heads} x {self.k_dim} x {k.bits // 8} B"
        pair = f"({k.vector_bytes(self.k_dim)} + {v.vector_bytes(self.v_dim)}) B"
        return f"{batch} x {kept} x {self.kv_heads} x {pair}"


@dataclass(frozen=True)
class SlidingWindow(Full):
    """As Full, but only the newest `window` tokens: min(tokens, window).

    transformers 5 keeps window - 1 after a forward pass (the next token makes it full); the curve counts
    the window that attention needs.
    """

    window: int

    @property
    def kind(self) -> str:
        return f"sliding window {self.window}"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return min(tokens, self.window)


@dataclass(frozen=True)
class Chunked(Full):
    """Attention inside chunks of `chunk` tokens (Llama 4): at most one chunk is needed."""

    chunk: int

    @property
    def kind(self) -> str:
        return f"chunked {self.chunk}"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return min(tokens, self.chunk)


@dataclass(frozen=True)
class Cross(Full):
    """K and V of the encoder's output: source_tokens long, computed once, no growth with the answer.

    `fixed_tokens`: the encoder's own length when the input is padded to it (Whisper: 1500).
    """

    fixed_tokens: int | None = None

    @property
    def kind(self) -> str:
        return "cross attention"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return source_tokens


@dataclass(frozen=True)
class Latent(Cache):
    """Multi-head latent attention: one compressed vector and one rope key a token, stored once, not twice.

    bytes = tokens · (vector_bytes(latent + rope) + indexer key). Every tensor-parallel rank holds it all.
    fp8_ds_mla: latent·1 B + 4 B per 128 + rope·2 B (656 B for 512 + 64). Source: DeepSeek-V2,
    arXiv:2405.04434; vLLM MLAAttentionSpec.

    >>> from planner.dtypes import CacheFormat, kv_format
    >>> bf16, ds = kv_format("bf16"), kv_format("fp8_ds_mla")
    >>> Latent(512, 64).kv_bytes(1, 0, CacheFormat(bf16, bf16)), Latent(512, 64).kv_bytes(1, 0, CacheFormat(ds, ds))
    (1152, 656)
    """

    latent_dim: int
    rope_dim: int
    indexer_dim: int = 0

    @property
    def kind(self) -> str:
        return "latent (MLA) + indexer" if self.indexer_dim else "latent (MLA)"

    def tokens_kept(self, tokens: int, source_tokens: int) -> int:
        return tokens

    def token_bytes(self, fmt: CacheFormat) -> int:
        if fmt.k.name == "fp8_ds_mla":
            record = self.latent_dim + 4 * ceil_div(self.latent_dim, 128) + 2 * self.rope_dim
            indexer = self.indexer_dim + 4 * ceil_div(self.indexer_dim, 128)
            return record + indexer
        indexer = fmt.k.vector_bytes(self.indexer_dim) if self.indexer_dim else 0
        return fmt.k.vector_bytes(self.latent_dim + self.rope_dim) + indexer

    def kv_bytes(self, tokens: int, source_tokens: int, fmt: CacheFormat) -> int:
        return tokens * self.token_bytes(fmt)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return tokens * (self.latent_dim + self.rope_dim + self.indexer_dim)

    def equation(self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat) -> str:
        widths = f"{self.latent_dim} + {self.rope_dim}" + (f" + {self.indexer_dim}" if self.indexer_dim else "")
        if fmt.k.group_bytes or fmt.k.bits % 8 or fmt.k.name == "fp8_ds_mla":
            return f"{batch} x {tokens} x {self.token_bytes(fmt)} B"
        return f"{batch} x {tokens} x ({widths}) x {fmt.k.bits // 8} B"


@dataclass(frozen=True)
class StatePart:
    """One tensor of a recurrent state.

    `dtype` None: the model's dtype; else it stays so (fp32). `split`: how many equal units tensor
    parallelism can split it into (heads, channels); 0 means each rank holds all of it.
    """

    name: str
    elements: int
    dtype: str | None = None
    split: int = 0

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

    >>> from planner.dtypes import CacheFormat, kv_format
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

    def state_bytes(self, fmt: CacheFormat) -> int:
        return sum(part.bytes(fmt) for part in self.parts)

    def elements(self, tokens: int, source_tokens: int) -> int:
        return sum(part.elements for part in self.parts)

    def on_rank(self, tp: int) -> Cache:
        return replace(self, parts=tuple(part.on_rank(tp) for part in self.parts))

    def equation(self, batch: int, tokens: int, source_tokens: int, fmt: CacheFormat) -> str:
        parts = " + ".join(
            f"{p.name} {p.elements} x {FLOAT_BYTES[p.dtype] if p.dtype else fmt.model_dtype_bytes} B"
            for p in self.parts
        )
        return f"{batch} x ({parts})"


@dataclass(frozen=True)
class Shared(Cache):
    """A layer that attends over an earlier layer's cache and stores none of its own."""

    @property
    def kind(self) -> str:
        return "shared with an earlier layer"
