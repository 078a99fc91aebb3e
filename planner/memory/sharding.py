"""How a model is laid over devices: tensor, pipeline, expert, data and decode-context parallelism."""

from __future__ import annotations

from functools import lru_cache

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.model.cache import Cache, Full
from planner.model.spec import Layer, ModelSpec
from planner.units import ceil_div

MAX_RANKS = 65_536


@dataclass(frozen=True, repr=False)
class Sharding:
    """Ranks of each kind. `tp·pp·dp` devices in all; expert ranks are the same devices seen otherwise.

    tp   KV heads, attention heads, MLP widths and the vocabulary are split; KV heads are copied when there
         are more ranks than heads, and an MLA latent is copied on every rank
    pp   the layers are cut into contiguous stages
    dp   each replica serves its share of the sequences; attention is held whole by each
    ep   each expert rank holds whole experts; must divide tp·dp
    dcp  decode context parallel: the tokens of copied KV heads (or of a latent) are spread over dcp of the
         tp ranks in place of being copied
    """

    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    dcp: int = 1

    @property
    def devices(self) -> int:
        return self.tp * self.pp * self.dp

    def check(self, spec: ModelSpec) -> None:
        """Raises BadRequest where no engine could run this."""
        for name in ("tp", "pp", "ep", "dp", "dcp"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_RANKS:
                raise BadRequest(f"--{name} {value!r} is not a number of ranks; write 1 to {MAX_RANKS:,}")
        if self.pp > len(spec.layers):
            raise BadRequest(f"--pp {self.pp} is more stages than {spec.name} has layers ({len(spec.layers)})")
        if self.ep > 1:
            experts = max(
                (w.count for layer, _ in spec.groups for w in layer.weights if w.part == "experts"), default=0
            )
            if not experts:
                raise BadRequest(f"--ep {self.ep}: {spec.name} has no experts; leave --ep out")
            if self.ep > experts or (self.tp * self.dp) % self.ep:
                raise BadRequest(
                    f"--ep {self.ep} must divide tp x dp = {self.tp * self.dp} and be at most the {experts} experts"
                )
        if self.dcp > 1:
            self._check_dcp(spec)

    def _check_dcp(self, spec: ModelSpec) -> None:
        heads = max((cache.kv_heads for layer, _ in spec.groups for cache in layer.caches if isinstance(cache, Full)),
                    default=1)  # fmt: skip
        copies = self.tp // heads if heads < self.tp else 1
        if self.tp % self.dcp or (copies % self.dcp):
            raise BadRequest(
                f"--dcp {self.dcp} needs that many copies of each KV head: {heads} KV heads on {self.tp} ranks give "
                f"{copies}; it must divide them"
            )

    def on_rank(self, cache: Cache) -> Cache:
        return cache.on_rank(self.tp)

    def tokens_on_rank(self, cache: Cache, tokens: int) -> int:
        """Tokens that the fullest rank holds of a sequence of `tokens`."""
        if self.dcp > 1 and cache.spreads_over_context:
            return ceil_div(tokens, self.dcp)
        return tokens

    def sequences_on_rank(self, batch: int) -> int:
        return ceil_div(batch, self.dp)

    def words(self, spec: ModelSpec) -> tuple[str, ...]:
        """What the layout does to this model, for people."""
        lines = []
        kinds = [cache for layer, _ in spec.groups for cache in layer.caches]
        heads = {cache.kv_heads for cache in kinds if isinstance(cache, Full)}
        if self.tp > 1:
            for count in sorted(heads):
                if count >= self.tp:
                    share = ceil_div(count, self.tp)
                    lines.append(f"TP {self.tp}: {count} KV heads split, {share} a rank")
                else:
                    lines.append(
                        f"TP {self.tp}: {count} KV heads on {self.tp} ranks, each held {self.tp / count:g} times"
                    )
                if max(count, self.tp) % min(count, self.tp):
                    lines.append(
                        f"TP {self.tp} and {count} KV heads do not divide: engines refuse this; the fullest rank is shown"
                    )
            if any(cache.copied for cache in kinds):
                lines.append(f"TP {self.tp}: the MLA latent is copied on every rank, not split")
        if self.pp > 1:
            sizes = stage_sizes(len(spec.layers), self.pp)
            lines.append(f"PP {self.pp}: stages of {', '.join(map(str, sizes[:8]))}{', ...' if self.pp > 8 else ''} layers; "
                         "the fullest stage is shown")  # fmt: skip
        if self.ep > 1:
            lines.append(f"EP {self.ep}: whole experts on each expert rank")
        if self.dp > 1:
            lines.append(
                f"DP {self.dp}: each replica holds its share of the sequences and all of the attention weights"
            )
        if self.dcp > 1:
            lines.append(f"DCP {self.dcp}: the tokens of copied heads are spread over {self.dcp} ranks")
        return tuple(lines)


def stage_sizes(layers: int, pp: int) -> list[int]:
    """Returns the layers of each pipeline stage: equal, the remainder on the last stages but one.

    Source: vLLM 0.11 `get_pp_indices` (the last stage also holds the head, so it is spared).

    >>> stage_sizes(61, 4), stage_sizes(61, 2), stage_sizes(80, 4)
    ([15, 15, 16, 15], [31, 30], [20, 20, 20, 20])
    """
    sizes = [layers // pp] * pp
    for extra in range(layers % pp):
        sizes[-2 - extra] += 1
    return sizes


def stages(spec: ModelSpec, pp: int) -> list[list[tuple[Layer, int]]]:
    """Returns the layers of each stage, equal ones counted together."""
    if pp == 1:
        return [list(spec.groups)]
    return [list(stage) for stage in _stages(spec, pp)]


@lru_cache(maxsize=256)  # each layer's hash is taken: a search asks a thousand times
def _stages(spec: ModelSpec, pp: int) -> tuple[tuple[tuple[Layer, int], ...], ...]:
    result, start = [], 0
    for size in stage_sizes(len(spec.layers), pp):
        counts: dict[Layer, int] = {}
        for layer in spec.layers[start : start + size]:
            counts[layer] = counts.get(layer, 0) + 1
        result.append(tuple(counts.items()))
        start += size
    return tuple(result)
