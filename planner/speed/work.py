"""What one forward pass must read, compute and send on one rank, and the seconds that no software can go below.

Sums over a model's weights and mixers are made once for a model, its formats and its layout (`work`); a step of any
batch and length is then a few multiplications. Under pipeline parallelism the sums are of the whole path through all
stages: a token passes through each of them, one after the other.

Left out: activations, kernel launches, images and sounds (towers run once a request, before the text).
"""

# long: one list of what a step reads and multiplies, and all sums over it

from __future__ import annotations

from functools import lru_cache

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import float_dtype
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate, cache_format
from planner.memory.limits import smallest
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.memory.weight_formats import WeightPlan
from planner.memory.weight_plan import weight_plan
from planner.model.attention import Attention, Mixer
from planner.model.cross_attention import CrossAttention, EncoderAttention
from planner.model.latent_attention import LatentAttention
from planner.model.moe import Moe
from planner.model.parameters import all_weights
from planner.model.recurrent import StateMixer
from planner.model.spec import Layer, ModelSpec
from planner.model.weights import TOWERS, Weight
from planner.speed.operators import head_weights, mixer_attention
from planner.units import ceil_div

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.device import Device


MOST_BATCH = 1 << 20


QK_NORM_LAUNCHES = 0.3  # of a plain layer's fixed time
DELTA_LAUNCHES = 2.0  # the same of a delta rule's state: convolution, norms and gates of its own, and the update itself
DELTA_RULES = ("gated delta net", "kimi delta")
NVFP4_LAUNCHES = (
    0.2  # the same of weights in nvfp4: its activations are scaled and cut to 4 bits by kernels of their own
)


_FAR = 1 << 20  # a length at which a curve's slope is taken


@dataclass(frozen=True)
class Step:
    """One forward pass, on one rank of tensor parallelism, through all pipeline stages."""

    read_bytes: float
    flops: float
    cache_bytes: float = 0.0  # of those read
    expert_bytes: float = 0.0  # of those read, the routed experts that are hit
    expert_flops: float = 0.0
    unshared_bytes: float = 0.0  # besides, by kernels that do not share KV heads among query heads
    attention_flops: float = 0.0  # of those computed, a prefill's scores and sums, which run in the float type
    pad_flops: float = 0.0  # besides, what one more row for each expert that is hit would compute

    @property
    def intensity(self) -> float:
        """FLOPs for each byte read."""
        return self.flops / self.read_bytes

    def seconds(self, bandwidth_bytes_per_s: float, flops_per_s: float) -> float:
        """max(bytes / bandwidth, FLOPs / rate): the roofline bound.

        >>> Step(3.35e9, 1e9).seconds(3.35e12, 989.4e12)
        0.001
        """
        return max(self.read_bytes / bandwidth_bytes_per_s, self.flops / flops_per_s)

    def bound_by(self, bandwidth_bytes_per_s: float, flops_per_s: float) -> str:
        slower = self.read_bytes / bandwidth_bytes_per_s >= self.flops / flops_per_s
        return "bandwidth" if slower else "compute"


@dataclass(frozen=True)
class Read:
    """What all layers of one reach read of the cache for one sequence, on one rank.

    reach         the window; None reads the whole context
    token_bytes   bytes of one cached token
    token_flops   FLOPs of one query with one cached token, decoding
    pair_flops    the same in a prefill, where a latent is expanded to heads
    unshared_bytes  what kernels read besides that fetch a KV head once for each of its query heads
    """

    reach: int | None
    token_bytes: float
    token_flops: float
    pair_flops: float
    unshared_bytes: float = 0.0


@dataclass(frozen=True)
class Experts:
    """Routed experts of all layers on one rank: `active` of `count` a token, read when a token hits them."""

    read_bytes: float
    row_flops: float
    active: int
    count: int

    def share(self, rows: float) -> float:
        """Expected share of the experts that `rows` tokens hit, routed evenly and independently.

        >>> Experts(0, 0, 2, 8).share(1), round(Experts(0, 0, 2, 8).share(4), 4)
        (0.25, 0.6836)
        """
        return float(1 - (1 - self.active / self.count) ** rows)


@dataclass(frozen=True)
class Work:
    """The sums of a model in its formats and layout, on one rank, over all pipeline stages.

    weight_bytes, row_flops   read by every step; computed for every token (the head apart)
    head_bytes, head_flops    logits: for each decoding sequence, and for the last token of each prompt
    sequence_bytes, _flops    read for each sequence whatever its length: recurrent state, cross attention
    encoder_bytes, _flops     an encoder over its source, once a request
    row_message_bytes         one token's vector, as all-reduces carry it
    launches                  layers, each counted by the small kernels it runs (see `layer_launches`)
    routed_layers             layers with routed experts
    shape                     layers, width and format of weights, by which measured models are known again
    packed                    weights are stored in codes that each product has to unpack (4 bits, GGUF blocks)
    """

    weight_bytes: float
    row_flops: float
    head_bytes: float
    head_flops: float
    experts: tuple[Experts, ...]
    reads: tuple[Read, ...]
    sequence_bytes: float
    sequence_flops: float
    encoder_bytes: float
    encoder_flops: float
    row_message_bytes: int
    layers: int
    launches: float
    routed_layers: int
    encoder_layers: int
    packed: bool
    sharding: Sharding
    shape: str = ""

    def rows_each(self, batch: float) -> float:
        """Sequences that one stage of one replica steps at a time: batch / dp in `pp` micro-batches."""
        return max(1.0, ceil_div(int(batch), self.sharding.dp) / self.sharding.pp)

    def expert_rows(self, rows: float) -> float:
        """Tokens that reach an expert rank when each replica steps `rows`: expert ranks serve several replicas."""
        sharding = self.sharding
        return rows * max(1, sharding.ep // sharding.tp)

    def weights_read(self, rows: float) -> float:
        """Bytes of weights that a step of `rows` tokens reads."""
        return self.weight_bytes + self.head_bytes + self.experts_read(rows)

    def experts_read(self, rows: float) -> float:
        """Bytes of the routed experts that `rows` tokens hit."""
        return sum(e.read_bytes * e.share(self.expert_rows(rows)) for e in self.experts)

    def expert_products(self, rows: float) -> float:
        """FLOPs of the routed experts for `rows` tokens."""
        return sum(e.row_flops * self.expert_rows(rows) for e in self.experts)

    def expert_pads(self, rows: float) -> float:
        """FLOPs of one row for each expert that `rows` tokens hit: products of few rows are padded to a tile."""
        hit = self.expert_rows(rows)
        return sum(e.row_flops * e.count / e.active * e.share(hit) for e in self.experts if e.active)

    def row_products(self, rows: float) -> float:
        """FLOPs of the products with weights for `rows` tokens, without the head."""
        return rows * self.row_flops + self.expert_products(rows)


def work(estimate: Estimate) -> Work:
    """Counts the bytes and FLOPs of a model by part, on one rank of the estimate's layout; made once for each model,
    format and layout.

    >>> from planner.catalogue.entries import find_model
    >>> from planner.memory.estimate import estimate
    >>> from planner.readers import read_entry
    >>> sums = work(estimate(read_entry(find_model("llama-7b")), Request(1)))
    >>> int(sums.weight_bytes + sums.head_bytes) == (6_738_415_616 - 32_000 * 4096) * 2     # all but the embedding
    True
    >>> [(read.reach, int(read.token_bytes)) for read in sums.reads]
    [(None, 524288)]

    Raises BadRequest for a model whose weights are not known.
    """
    request = estimate.request
    if not estimate.spec.weights_known:
        raise BadRequest(f"{estimate.spec.name}: its speed cannot be said without its weights; add --heads --hidden "
                         "--intermediate --vocab")  # fmt: skip
    return _work(
        estimate.spec,
        request.dtype,
        request.k_dtype,
        v_dtype=request.v_dtype,
        sharding=request.sharding,
        source_tokens=estimate.source_tokens,
    )


def work_of(spec: ModelSpec, dtype: str | None = None) -> Work:
    """Counts as `work` does, for a whole model on one device: weights and cache in `dtype`, or as its config says."""
    return _work(spec, dtype, dtype, v_dtype=dtype, sharding=Sharding(), source_tokens=spec.source_tokens or 0)


def decode_read_bytes(spec: ModelSpec, *, batch: int, context_tokens: int, element_bytes: int) -> float:
    """Counts the bytes that a decode step has to read: weights once (of the experts those hit), and the cache of every
    sequence.

    element_bytes: 4 or 2, of weights and cache. Leaves out activations and the embedding rows.
    """
    sums = work_of(spec, {4: "fp32", 2: "bf16"}[element_bytes])
    return decode_of(sums, batch, context_tokens, last_tokens=context_tokens).read_bytes


def prefill_flops(spec: ModelSpec, *, batch: int, tokens: int) -> float:
    """Counts the FLOPs of a prefill: products of every layer on all tokens, causal attention, and the head on the last
    token alone.
    """
    return prefill_of(work_of(spec), batch, tokens).flops


# long: one sum, a term a line
@lru_cache(maxsize=4096)
def _work(
    spec: ModelSpec,
    dtype: str | None,
    k_dtype: str | None,
    *,
    v_dtype: str | None,
    sharding: Sharding,
    source_tokens: int,
) -> Work:
    plan = weight_plan(spec, dtype)
    fmt = cache_format(spec, Request(1, dtype=dtype, k_dtype=k_dtype, v_dtype=v_dtype))
    size = _rank_bytes(spec, plan)
    body = head = row_flops = head_flops = 0.0
    experts: dict[tuple[int, int], tuple[float, float]] = {}
    heads = {id(w) for w in head_weights(spec)}
    for weight, count in _decoder_weights(spec):
        share = weight.on_rank(sharding.tp, sharding.ep)
        held, products = size(weight, share, count), 2.0 * share.rows * share.cols * share.count * count
        if 0 <= weight.active < weight.count:
            key = (weight.active, weight.count)
            before = experts.get(key, (0.0, 0.0))
            experts[key] = (before[0] + held, before[1] + products * weight.active / weight.count)
        elif id(weight) in heads:
            head, head_flops = head + held, head_flops + products
        else:
            body, row_flops = body + held, row_flops + products
    reads, sequence_bytes, sequence_flops = _reads(spec, fmt, sharding, source_tokens=source_tokens)
    encoder = [(weight, 1) for layer in spec.encoder for weight in layer.weights]
    return Work(
        weight_bytes=body,
        row_flops=row_flops,
        head_bytes=head,
        head_flops=head_flops,
        experts=tuple(Experts(held, flops, *key) for key, (held, flops) in experts.items()),
        reads=reads,
        sequence_bytes=sequence_bytes,
        sequence_flops=sequence_flops,
        encoder_bytes=sum(size(weight, weight.on_rank(sharding.tp, sharding.ep), count) for weight, count in encoder),
        encoder_flops=sum(2.0 * weight.on_rank(sharding.tp).parameters for weight, _ in encoder),
        row_message_bytes=spec.hidden * fmt.model_dtype_bytes,
        layers=len(spec.layers),
        launches=sum(count * layer_launches(layer) for layer, count in spec.groups)
        * (1 + NVFP4_LAUNCHES * stored_name(plan).startswith("nvfp4")),
        routed_layers=sum(count for layer, count in spec.groups if any(isinstance(mlp, Moe) for mlp in layer.mlps)),
        encoder_layers=len(spec.encoder),
        packed=is_packed(stored_name(plan))
        and not stored_name(plan).startswith("mxfp4"),  # there experts alone are packed
        sharding=sharding,
        shape=f"{len(spec.layers)}x{spec.hidden} {stored_name(plan)}{' ep' if sharding.ep > 1 else ''}",
    )


def layer_launches(layer: Layer) -> float:
    """Returns how long a layer's fixed time is beside that of a plain layer, whose ten or so small kernels count as 1.

    Norms of q and k are kernels of their own, and keep the rotation of q and k from being fused with what follows. What
    experts take besides has a time of its own (`Constants.expert_layer_seconds`).

    A delta rule (Qwen3.5, Kimi Linear) convolves, gates and norms apart: on an RX 7900 XT in llama.cpp a layer of one took 73 to
    79 us more than the formula without it at 4, 9 and 27 B, where a plain layer's is 43 us; on other devices 58 to 90 us.

    >>> layer_launches(Layer((Attention(4096, 32, 8, 128),))), layer_launches(Layer((Attention(4096, 32, 8, 128, qk_norm="head"),)))
    (1.0, 1.3)
    >>> layer_launches(Layer((StateMixer("gated delta net", (), ()),)))
    3.0
    """
    normed = any(isinstance(mixer, Attention) and mixer.qk_norm for mixer in layer.mixers)
    delta = any(isinstance(mixer, StateMixer) and mixer.label in DELTA_RULES for mixer in layer.mixers)
    return 1 + QK_NORM_LAUNCHES * normed + DELTA_LAUNCHES * delta


class _rank_bytes:
    """Bytes of a weight on one rank: by its format, or as its checkpoint stores the part it belongs to."""

    def __init__(self, spec: ModelSpec, plan: WeightPlan) -> None:
        self.plan = plan
        self.by_part: dict[str, float] = {}
        if getattr(plan, "stored", None) is not None:
            parts: dict[str, list[tuple[Weight, int]]] = {}
            for weight, count in all_weights(spec):
                parts.setdefault(weight.part, []).append((weight, count))
            for part, members in parts.items():
                elements = sum(weight.parameters * count for weight, count in members)
                self.by_part[part] = plan.total(members) / elements if elements else 0.0

    def __call__(self, weight: Weight, share: Weight, count: int) -> float:
        """Counts `count` times the `share` of a weight that lies on the rank."""
        if self.by_part:
            return share.parameters * count * self.by_part[weight.part]
        return float(self.plan.bytes(share) * count)


LOOKED_UP = ("embedding", "engram")  # tables of which a token reads a few rows; so are n-grams and per-layer embeddings


def _decoder_weights(spec: ModelSpec) -> list[tuple[Weight, int]]:
    """The weights that a decode step multiplies with: no towers, no encoder, no table that is only looked up; those of
    layers that run several times as often as they run."""
    skipped = {id(w) for w in (*spec.towers, *spec.encoder_extra)}
    for layer in spec.encoder:
        skipped |= {id(w) for w in layer.weights}
    kept = [
        (w, n)
        for w, n in all_weights(spec)
        if id(w) not in skipped and w.part not in TOWERS and w.part not in LOOKED_UP and not w.is_row_table
    ]
    return [*kept, *spec.again, *((w, 1) for w in head_weights(spec) if w.part == "embedding")]


def _reads(
    spec: ModelSpec, fmt: CacheFormat, sharding: Sharding, *, source_tokens: int
) -> tuple[tuple[Read, ...], float, float]:
    """(what is read a cached token, by reach; bytes and FLOPs a sequence whatever its length)."""
    found: dict[int | None, tuple[float, float, float, float]] = {}
    sequence_bytes = sequence_flops = 0.0
    for layer, count in spec.groups:
        for mixer in layer.mixers:
            for read in _mixer_reads(mixer, spec, fmt, sharding=sharding):
                if isinstance(mixer, CrossAttention):
                    tokens = mixer.fixed_tokens or source_tokens
                    sequence_bytes += count * read.token_bytes * tokens
                    sequence_flops += count * read.token_flops * tokens
                    continue
                before = found.get(read.reach, (0.0, 0.0, 0.0, 0.0))
                added = (read.token_bytes, read.token_flops, read.pair_flops, read.unshared_bytes)
                found[read.reach] = tuple(b + count * a for b, a in zip(before, added, strict=True))  # type: ignore[assignment]
            sequence_bytes += count * sharding.on_rank(mixer.cache()).state_bytes(fmt)
    reads = tuple(Read(reach, *sums) for reach, sums in found.items())
    return reads, sequence_bytes, sequence_flops


def _mixer_reads(mixer: Mixer, spec: ModelSpec, fmt: CacheFormat, *, sharding: Sharding) -> list[Read]:
    """What one mixer reads of one cached token, on one rank."""
    if isinstance(mixer, EncoderAttention):
        return []
    if isinstance(mixer, LatentAttention):
        return _latent_reads(mixer, spec, fmt, sharding=sharding)
    if isinstance(mixer, Attention):  # a cache that is shared is read as if it were its own
        found = mixer_attention(mixer, sharding.tp)
        assert found is not None
        token = found.kv_heads * (fmt.k.vector_bytes(found.k_dim) + fmt.v.vector_bytes(found.v_dim))
        each = token / sharding.dcp
        unshared = each * (found.heads / found.kv_heads - 1)
        return [Read(found.window, each, found.decode_flops, found.pair_flops, unshared)]
    cache = sharding.on_rank(mixer.cache())
    slope = cache.kv_bytes(_FAR, 0, fmt) / _FAR  # compressed pasts grow in steps: their mean slope
    if not slope:
        window = getattr(cache, "window", None)
        if window is None:
            return []
    window = getattr(cache, "window", None)
    per_token = cache.kv_bytes(1, 0, fmt) if window else slope
    heads = ceil_div(mixer.score_heads or getattr(mixer, "heads", 1), sharding.tp)
    elements = cache.elements(window or _FAR, 0) / (window or _FAR)
    return [Read(window, per_token, 2.0 * heads * elements, 2.0 * heads * elements)]


def _latent_reads(mixer: LatentAttention, spec: ModelSpec, fmt: CacheFormat, *, sharding: Sharding) -> list[Read]:
    """A latent is one key and value for all heads; with an indexer only its top tokens are read, and all its keys."""
    found = mixer_attention(mixer, sharding.tp)
    assert found is not None
    token = mixer.cache().kv_bytes(1, 0, fmt) / sharding.dcp
    top = spec.config.get("index_topk")
    if not (mixer.indexer_dim and isinstance(top, int)):
        return [Read(found.window, token, found.decode_flops, found.pair_flops)]
    keys = fmt.k.vector_bytes(mixer.indexer_dim) / sharding.dcp
    scores = 2.0 * mixer.indexer_heads * mixer.indexer_dim
    return [Read(top, token - keys, found.decode_flops, found.pair_flops), Read(None, keys, scores, scores)]


def mean_reach(reach: int | None, first: int, last: int) -> float:
    """Computes the mean of min(context, reach) over the contexts first..last.

    >>> mean_reach(None, 1, 3), mean_reach(4, 3, 6)
    (2.0, 3.75)
    """
    if reach is None or last <= reach:
        return (first + last) / 2
    if first >= reach:
        return float(reach)
    growing = reach - first
    return (growing * (first + reach - 1) / 2 + (last - reach + 1) * reach) / (last - first + 1)


def pairs(reach: int | None, new: float, before: float = 0.0) -> float:
    """Counts the query-key pairs of `new` tokens after `before` cached ones, each seeing at most `reach`.

    >>> pairs(None, 4), pairs(2, 4), pairs(None, 2, 10)
    (10.0, 7.0, 23.0)
    """
    if reach is None or before + new <= reach:
        return new * before + new * (new + 1) / 2
    if before >= reach:
        return new * reach
    growing = reach - before
    return growing * before + growing * (growing + 1) / 2 + (new - growing) * reach


def decode_step(estimate: Estimate, batch: int, context_tokens: int | None = None) -> Step:
    """Counts the work of one new token for each of `batch` sequences that hold `context_tokens` (the request's length
    unless given).

    bytes = weights (of the experts those expected to be hit) + rows · (cache read + state)
    FLOPs = rows · (2 · active weights + scores over the cached tokens)

    with rows the sequences that one replica's stage steps at a time. Sums are of one rank (see `work`).
    """
    tokens = estimate.request.seq_tokens if context_tokens is None else context_tokens
    return decode_of(work(estimate), batch, tokens, last_tokens=tokens)


def decode_of(sums: Work, batch: float, first_tokens: int, *, last_tokens: int, verified: int = 1) -> Step:
    """Counts as `decode_step` does: the mean of the steps at contexts first..last.

    verified   tokens of each sequence that the step runs: 1, or drafted ones beside it; they read its cache once
    """
    rows = sums.rows_each(batch)
    kept, scores, unshared = sums.sequence_bytes, sums.sequence_flops, 0.0
    for read in sums.reads:
        tokens = mean_reach(read.reach, first_tokens, last_tokens)
        kept += read.token_bytes * tokens
        scores += read.token_flops * tokens
        unshared += read.unshared_bytes * tokens
    new = rows * verified
    flops = sums.row_products(new) + new * (sums.head_flops + scores)
    hit = sums.experts_read(new)
    return Step(
        sums.weight_bytes + sums.head_bytes + hit + rows * kept, flops, rows * kept, hit, sums.expert_products(new),
        rows * unshared,
    )  # fmt: skip


def prefill_step(estimate: Estimate, batch: int, prompt_tokens: int | None = None) -> Step:
    """Counts the work of prefilling `batch` sequences at once; the head runs on the last token of each alone.

    FLOPs = 2 · rows · active weights + causal half of the scores + head; bytes = weights + the cache once.
    An encoder's layers run over the source, which is as long as the estimate says.
    """
    tokens = estimate.request.seq_tokens if prompt_tokens is None else prompt_tokens
    return prefill_of(
        work(estimate), ceil_div(batch, estimate.request.sharding.dp), tokens, source_tokens=estimate.source_tokens
    )


def prefill_of(
    sums: Work, prompts: float, prompt_tokens: int, *, source_tokens: int = 0, cached_tokens: int = 0
) -> Step:
    """Counts as `prefill_step` does, for `prompts` sequences on one replica, each after `cached_tokens` that are kept."""
    rows = prompts * prompt_tokens
    scores, kept = sums.sequence_flops * prompt_tokens, sums.sequence_bytes
    for read in sums.reads:
        scores += read.pair_flops * pairs(read.reach, prompt_tokens, cached_tokens)
        last = cached_tokens + prompt_tokens
        kept += read.token_bytes * mean_reach(read.reach, last, last)
    encoder = prompts * source_tokens * sums.encoder_flops
    flops = sums.row_products(rows) + prompts * (sums.head_flops + scores) + encoder
    read_bytes = sums.weights_read(rows) + sums.encoder_bytes + prompts * kept
    return Step(
        read_bytes, flops, prompts * kept, sums.experts_read(rows), sums.expert_products(rows),
        attention_flops=prompts * scores, pad_flops=sums.expert_pads(rows),
    )  # fmt: skip


def peak_flops_per_s(device: Device, estimate: Estimate) -> float | None:
    """Finds the dense FLOP/s of the type that products run in; None where the catalogue has no rate of the device.

    Weights in fp8, int8 or nvfp4 run at that rate where the device has it; weights of fewer bits are unpacked to the
    float type; those of GGUF files run in int8 or in the float type, whichever is faster.
    """
    plain, rates = plain_flops_per_s(device, estimate), device.dense_flops_per_s
    narrow = _narrow_rate(stored_name(estimate.plan))
    if narrow in rates and plain is not None:
        return max(plain, float(rates[narrow]))
    return plain


def plain_flops_per_s(device: Device, estimate: Estimate) -> float | None:
    """Finds the dense FLOP/s of the float type that the model runs in, or of the nearest that the catalogue has."""
    running = float_dtype(estimate.request.dtype or "") or estimate.spec.dtype or "bf16"
    running = running if running in ("fp32", "fp16") else "bf16"
    rates = device.dense_flops_per_s
    return next((float(rates[name]) for name in (running, "bf16", "fp16", "fp32") if name in rates), None)


_GGML = ("q2", "q3", "q4", "q5", "q6", "q8", "iq", "tq")


_UNPACKED = ("fp", "bf", "f16", "f32", "int8", "mxfp8", "nvfp4")


def stored_name(plan: WeightPlan) -> str:
    """Names the format of most weight bytes, in lower case.

    >>> from planner.dtypes.names import weight_format
    >>> stored_name(WeightPlan(weight_format("Q4_K_M"), weight_format("bf16")))
    'q4_k_m'
    """
    stored = getattr(plan, "stored", None)
    if stored is None:
        return plan.fmt.name
    sizes: dict[str, int] = stored.by_dtype
    return max(sizes, key=lambda name: sizes[name], default=plan.fmt.name).lower()


def is_packed(name: str) -> bool:
    """Tells whether weights of a format are codes of few bits that a kernel unpacks before it multiplies.

    >>> is_packed("q4_k_m"), is_packed("awq"), is_packed("bf16"), is_packed("fp8_block")
    (True, True, False, False)
    """
    return not name.startswith(_UNPACKED)


def _narrow_rate(name: str) -> str:
    """The rate that products with weights in this format may run at, "" for the float type."""
    if name.startswith("nvfp4"):
        return "fp4"
    if name.startswith(("fp8", "mxfp8")):
        return "fp8"
    if name == "int8" or name.startswith(_GGML):
        return "int8"
    return ""


def compute_bound_batch(estimate: Estimate, bandwidth_bytes_per_s: float, flops_per_s: float) -> int | None:
    """Finds the smallest batch at which a decode step is bound by compute; None where no batch is.

    Each sequence brings its cache: where that alone takes longer to read than to compute, none ever is.
    """
    sums, tokens = work(estimate), estimate.request.seq_tokens

    def computes(batch: int) -> bool:
        return (
            decode_of(sums, batch, tokens, last_tokens=tokens).bound_by(bandwidth_bytes_per_s, flops_per_s) == "compute"
        )

    return smallest(computes, MOST_BATCH)
