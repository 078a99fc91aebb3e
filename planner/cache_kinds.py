"""What one layer keeps for one sequence: the kinds of plain attention (from `planner.attention_cache`) and the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.attention_cache import Cache, Chunked, Full, Shared, SlidingWindow, heads_on_rank
from planner.dtypes import FLOAT_BYTES, CacheFormat
from planner.units import ceil_div

__all__ = [
    "Cache",
    "Chunked",
    "Cross",
    "Full",
    "Latent",
    "Recurrent",
    "Shared",
    "SlidingWindow",
    "StatePart",
    "heads_on_rank",
]


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

    @property
    def symbols(self) -> str:
        return "batch x tokens x (latent + rope [+ indexer]) x bytes x layers, stored once"

    @property
    def copied(self) -> bool:
        return True

    @property
    def spreads_over_context(self) -> bool:
        return True

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

    @property
    def symbols(self) -> str:
        return "batch x (state tensors) x layers, whatever the length"

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
