"""What this machine reaches: operator times at real shapes and rows, in under two minutes.

    bandwidth    read (a sum) and copy over more than any cache holds
    products     x Wᵀ for shapes and rows, W never in a cache: rates are measured by rows, never assumed (on CPUs
                 F.linear in fp32 falls off a cliff at two rows)
    attention    one layer's, by sequences, heads and length
    the rest     a layer whose products and attention are replaced by ready answers: norms, activation,
                 residuals, cache append and Python; and a step without layers
    probes       whole steps of one model at six points, which correct the sum for that model

Whole steps at points that none of these use are predicted and measured: `held_back`.

Operators and steps of the probed model are measured in ROUNDS rounds, one after the other, and the median of all
counts: a machine that is slower for half a minute (clock, neighbours) then shifts what predicts and what is
predicted alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import profiler.gpt
from planner.errors import BadRequest
from planner.machine.calibration import AttentionTime, Calibration, HeldBack, LayerTime, MatmulTime, Probe, Rate
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config
from planner.speed.operators import Matmul, head_matmul, layer_matmuls
from planner.terminal.progress import Progress
from profiler import speed
from profiler.attention import attend
from profiler.device import Device, busy_words, choose, environment
from profiler.generate import cache_for, decode_step, prefill
from profiler.gpt import GPT, blank, build, torch_dtype
from profiler.layout import matrix
from profiler.linear import LINEAR_KINDS, Linear, check_packing
from profiler.measure import UNSTABLE, Times, laps, measure, unstable
from profiler.memory import random_tokens
from profiler.profile import no_gradients, running_dtype
from profiler.speed import Plan

BATCHES = (1, 2, 4, 8, 16)
ROWS = (1, 2, 4, 8, 16, 64, 256, 1024)
CONTEXTS = (64, 256, 1024)
PROBE_PLACES = ((1, 64), (1, 1024), (4, 64), (4, 1024), (16, 64), (16, 1024))
PREFILL_PROBES = ((1, 64), (1, 512))
PREFILL_PLACES = ((1, 128), (1, 256), (4, 64))
# Between the sizes of models; (outputs, inputs).
SHAPES = ((512, 512), (1024, 1024), (4096, 1024), (1024, 4096), (16000, 1024))
ROUNDS = 2
STEPS = 4  # decode steps of one point in one round
PREFILLS = Plan(2, 0.1)
COLD_BYTES = 256 << 20  # matrices in rotation are more than this together, so that none is in a cache
LARGE_ELEMENTS = 4 << 20
SMALL = Plan(3, 0.03)  # repeats and seconds of one operator in one round

# A size that is never probed, to see how far the tables carry: LLaMA's operators, other widths than GPT-2's.
UNSEEN = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 16, "num_key_value_heads": 4,
    "intermediate_size": 2816, "vocab_size": 16000, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip


# What is measured, without its seconds: the key under which the rounds are pooled.
Key = tuple[str | int, ...]


@dataclass
class Samples:
    """Seconds of every repeat of every round, by what was measured."""

    bandwidth: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    gemm: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    matmuls: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    attention: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))
    layers: dict[Key, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    steps: dict[Key, list[float]] = field(default_factory=lambda: defaultdict(list))


def _row(kind: Any, key: Key, *seconds: float) -> Any:
    return kind(*key, *seconds)


def rate_of(times: Times, amount: float) -> Rate:
    """Computes a rate from times: `amount` over the median, with the range of the repeats."""
    return Rate(amount / times.median, amount / times.high, amount / times.low)


def calibrate(
    spec: ModelSpec,
    *,
    device: Device | None = None,
    dtypes: Sequence[str] = ("fp32", "bf16"),
    linears: Sequence[str] | None = None,
    progress: Progress | None = None,
    unseen: bool = True,
) -> Calibration:
    """Measures this machine with `spec` as the model to probe."""
    device = device or choose()
    progress = progress or Progress(0, quiet=True)
    with no_gradients():
        runner = Calibrator(spec, device, tuple(running_dtype(spec, name) for name in dtypes), linears=linears)
        work = [piece for number in range(ROUNDS) for piece in runner.work(unseen, first=number == 0)]
        progress.total = sum(weight for _, weight, _, _ in work)
        for words, weight, action, arguments in work:
            progress.show(words)
            action(*arguments)
            progress.step(words, weight)
        progress.close()
    return runner.calibration()


class Calibrator:
    """One machine, one model to probe; each method adds a round of samples."""

    def __init__(
        self, spec: ModelSpec, device: Device, dtypes: tuple[str, ...], *, linears: Sequence[str] | None
    ) -> None:
        self.spec, self.device, self.dtypes = spec, device, dtypes
        self.linears = {dtype: _linears(device, dtype, linears) for dtype in dtypes}
        self.samples = Samples()
        said = busy_words()
        self.warnings = [said] if said else []
        self.unseen = read_config(UNSEEN, name="unseen", where="calibrate")
        self.bandwidth_bytes = (256 << 20) if device.kind == "cpu" else (1 << 30)
        self.gemm_flops = 0.0

    def work(self, unseen: bool, first: bool = True) -> Iterator[tuple[str, float, Any, tuple[Any, ...]]]:
        """(words, weight, action, its arguments) of every piece of a round.

        Once: what is a small part of a step, and the size that nothing is fitted on.
        """
        yield "bandwidth", 2, self.bandwidth, ()
        for dtype in self.dtypes:
            yield f"{dtype} rate", 1, self.gemm, (dtype,)
            for linear in self.linears[dtype]:
                yield f"{dtype} products, {linear}", 12, self.products, (dtype, linear)
            yield f"{dtype} attention", 6, self.attention, (dtype,)
            if first:
                yield f"{dtype} layers", 4, self.rest, (dtype,)
            for linear in self.linears[dtype]:
                yield f"{dtype} steps of {self.spec.name}, {linear}", 8, self.whole_steps, (self.spec, dtype, linear)
                if unseen and not first:
                    yield f"{dtype} steps of another size, {linear}", 6, self.whole_steps, (self.unseen, dtype, linear)

    def calibration(self) -> Calibration:
        """The tables, and what they predict for the points that are not in them."""
        tables = self._tables()
        held_back = tuple(self._held_back(tables))
        return replace(tables, held_back=held_back, warnings=tuple(dict.fromkeys([*self.warnings, *self._unstable()])))

    def _tables(self) -> Calibration:
        samples, size = self.samples, self.bandwidth_bytes
        rates = {f"{name}_bytes_per_s": rate_of(Times(tuple(found)), size) for name, found in samples.bandwidth.items()}
        for dtype, found in samples.gemm.items():
            rates[f"{dtype}_flops_per_s"] = rate_of(Times(tuple(found)), self.gemm_flops)
        tables = Calibration(
            environment=asdict(environment(self.device)),
            rates=rates,
            matmuls=tuple(_row(MatmulTime, key, median(found)) for key, found in samples.matmuls.items()),
            attention=tuple(_row(AttentionTime, key, median(found)) for key, found in samples.attention.items()),
            layers=tuple(
                _row(LayerTime, key, median(layer for layer, _ in found), median(step for _, step in found))
                for key, found in samples.layers.items()
            ),
            probes=tuple(_row(Probe, key, median(found)) for key, found in samples.steps.items() if self._probed(key)),
        )
        return tables.with_whole_steps(self.spec)

    def _held_back(self, tables: Calibration) -> Iterator[HeldBack]:
        specs = {self.spec.name: self.spec, self.unseen.name: self.unseen}
        for key, found in self.samples.steps.items():
            if self._probed(key):
                continue
            model, dtype, linear, batch, context, new = key
            assert isinstance(model, str) and isinstance(dtype, str) and isinstance(linear, str)
            assert isinstance(batch, int) and isinstance(context, int) and isinstance(new, int)
            predicted = tables.step_seconds(
                specs[model], batch=batch, context_tokens=context, new_tokens=new, dtype=dtype, linear=linear
            )
            what = "prefill" if new > 1 else "decode"
            yield HeldBack(model, what, dtype, linear, batch, context, predicted, median(found))

    def _probed(self, key: Key) -> bool:
        """Whether a step of the probed model is one that corrects the sum; all others are held back."""
        model, _, _, batch, context, new = key
        limit = self.spec.max_positions or 4096  # a probe beyond it is made there
        places = PREFILL_PROBES if new != 1 else tuple((b, min(tokens, limit)) for b, tokens in PROBE_PLACES)
        return model == self.spec.name and (batch, context) in places

    def _unstable(self) -> Iterator[str]:
        """What spread widely, in words: the rates by name, the steps in one line."""
        for name, found in self.samples.bandwidth.items():
            if said := unstable(f"{name} bandwidth", Times(tuple(found))):
                yield said
        spreads = [Times(tuple(found)).spread for found in self.samples.steps.values()]
        wide = [spread for spread in spreads if spread > UNSTABLE]
        if wide:
            yield (
                f"the repeats of {len(wide)} of {len(spreads)} kinds of steps lie more than {100 * UNSTABLE:.0f} % apart "
                f"(up to {100 * max(wide):.0f} %); close other programs and repeat"
            )

    def bandwidth(self) -> None:
        size = self.bandwidth_bytes
        self.samples.bandwidth["read"] += speed.read_rate(self.device, size).seconds
        self.samples.bandwidth["copy"] += speed.copy_rate(self.device, size // 2).seconds  # half read, half written

    def gemm(self, dtype: str) -> None:
        times, self.gemm_flops = speed.gemm_rate(self.device, torch_dtype(dtype))
        self.samples.gemm[dtype] += times.seconds

    def products(self, dtype: str, linear: str) -> None:
        """Every shape of the model and some between, at every number of rows."""
        own = {(m.outputs, m.inputs) for m in (head_matmul(self.spec), *_matmuls(self.spec)) if m.share == 1.0}
        for outputs, inputs in sorted(own | set(SHAPES), key=lambda shape: shape[0] * shape[1]):
            for rows, seconds in matmul_times(outputs, inputs, dtype, linear=linear, device=self.device):
                self.samples.matmuls[dtype, linear, outputs, inputs, rows] += seconds

    def attention(self, dtype: str) -> None:
        """Plain heads as in GPT-2 and grouped ones as in LLaMA 3, one query and whole prompts."""
        for kv_heads, groups in ((12, 1), (4, 4)):
            for batch in (1, 4, 16):
                for context in CONTEXTS:
                    self._attention(dtype, batch, kv_heads, groups, context, 1)
            for tokens in (16, 64, 256, 1024):
                self._attention(dtype, 1, kv_heads, groups, tokens, tokens)

    def _attention(
        self, dtype: str, batch: int, kv_heads: int, groups: int, context: int, new: int
    ) -> None:  # parameters: the sides of a shape
        seconds = attention_seconds(dtype, batch, kv_heads, groups, 64, context, new, self.device)
        self.samples.attention[dtype, batch, kv_heads, groups, 64, context, new] += seconds

    def rest(self, dtype: str) -> None:
        for style in ("learned", "rope"):
            for hidden in (256, 768, 2048):
                for rows, layer, step in rest_times(style, hidden, dtype, device=self.device):
                    self.samples.layers[dtype, style, rows, hidden].append((layer, step))

    def whole_steps(self, spec: ModelSpec, dtype: str, linear: str) -> None:
        """Decode steps over the grid and some prefills, of a model built for it."""
        model = build(spec, device=self.device.torch_device, dtype=dtype, linear=linear)
        limit = spec.max_positions or 4096
        for batch in BATCHES:
            for context in sorted({min(context, limit) for context in CONTEXTS}):
                if self._room(spec, batch, context, dtype=dtype):
                    times = speed.decode_times(model, self.device, batch=batch, context=context, steps=STEPS)
                    self.samples.steps[spec.name, dtype, linear, batch, context, 1] += times.seconds
        probes = PREFILL_PROBES if spec.name == self.spec.name else ()
        for batch, tokens in (*probes, *PREFILL_PLACES):
            if tokens <= limit:
                times = speed.prefill_times(model, self.device, batch=batch, tokens=tokens, plan=PREFILLS)
                self.samples.steps[spec.name, dtype, linear, batch, tokens, tokens] += times.seconds

    def _room(self, spec: ModelSpec, batch: int, context: int, *, dtype: str) -> bool:
        """Whether a static cache of this size leaves half of the free memory alone."""
        from planner.memory.cache_strategies import layer_shapes, strategy_bytes

        wanted = strategy_bytes(
            layer_shapes(spec), "static", tokens=context, max_tokens=context, batch=batch,
            element_bytes=torch_dtype(dtype).itemsize,
        )  # fmt: skip
        free = self.device.free_bytes
        return free is None or 2 * wanted <= free


def _linears(device: Device, dtype: str, asked: Sequence[str] | None) -> tuple[str, ...]:
    """The layouts that this device can run."""
    found = []
    for linear in asked or LINEAR_KINDS:
        try:
            if linear == "packed":
                check_packing(device.torch_device, torch_dtype(dtype))
            found.append(linear)
        except BadRequest:
            if asked:
                raise
    return tuple(found)


def _matmuls(spec: ModelSpec) -> Iterator[Matmul]:
    for layer, _ in spec.groups:
        yield from layer_matmuls(layer)


def matmul_times(
    outputs: int, inputs: int, dtype: str, *, linear: str, device: Device
) -> Iterator[tuple[int, list[float]]]:
    """Measures (rows, seconds of one product, each repeat), over as many matrices in turn as no cache holds."""
    kind = torch_dtype(dtype)
    copies = max(1, -(-COLD_BYTES // (outputs * inputs * kind.itemsize)))
    modules = [matrix(outputs, inputs, kind, kind=linear, device=device) for _ in range(copies)]
    for rows in ROWS:
        x = torch.randn(rows, inputs, device=device.torch_device).to(kind)
        if rows > 256 and outputs * inputs > LARGE_ELEMENTS:
            return  # more rows take as much longer
        # Long products need no rotation: the matrix is a small part of their time.
        some = modules if rows <= 16 else modules[:1]

        def run(x: Tensor = x, some: list[Linear] = some) -> None:
            for module in some:
                module(x)

        # One pass over so many matrices needs no warm-up.
        warmup = 0 if len(some) > 1 else 1
        times = measure(run, device, repeats=SMALL.repeats, warmup=warmup, budget_seconds=SMALL.budget_seconds)
        yield rows, [seconds / len(some) for seconds in times.seconds]


def attention_seconds(
    dtype: str, batch: int, kv_heads: int, groups: int, dim: int, context: int, new: int, device: Device
) -> list[float]:  # parameters: the sides of a shape
    """Measures the seconds of one layer's attention, each repeat, over caches in turn that together exceed any cache."""
    kind, place = torch_dtype(dtype), device.torch_device
    pair_bytes = 2 * batch * kv_heads * context * dim * kind.itemsize
    copies = 1 if new > 1 else max(1, min(64, -(-COLD_BYTES // 2 // pair_bytes)))
    pairs = [torch.full((2, batch, kv_heads, context, dim), 0.01, dtype=kind, device=place) for _ in range(copies)]
    q = torch.randn(batch, kv_heads * groups, new, dim, device=place).to(kind)

    def run() -> None:
        for pair in pairs:
            attend(q, pair[0], pair[1], mask=None, causal=new > 1, scale=dim**-0.5)

    times = measure(run, device, repeats=SMALL.repeats, budget_seconds=SMALL.budget_seconds)
    return [seconds / copies for seconds in times.seconds]


class Ready(nn.Module):
    """Stands in for a matrix: answers with a tensor made before."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs
        self.answer = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.answer


def rest_spec(style: str, hidden: int, layers: int) -> ModelSpec:
    """Builds a small model of GPT-2's or LLaMA's operators."""
    heads = hidden // 64
    if style == "learned":
        config: dict[str, Any] = {
            "model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads, "vocab_size": 1000, "n_positions": 2048,
        }  # fmt: skip
    else:
        config = {
            "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": max(1, heads // 4), "intermediate_size": hidden * 11 // 4, "vocab_size": 1000,
            "max_position_embeddings": 2048, "tie_word_embeddings": False,
        }  # fmt: skip
    return read_config(config, name=style, where="calibrate")


def _hollow_model(spec: ModelSpec, dtype: str, device: Device) -> GPT:
    """A model without matrices: what stands in for each answers at once."""
    model = blank(spec, device=device.torch_device, dtype=torch_dtype(dtype))
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear):
                setattr(module, name, Ready(child.outputs))
    for parameter in model.parameters():
        parameter.fill_(1.0)
    return model


@contextmanager
def answers(model: GPT, batch: int, new: int) -> Iterator[None]:
    """Products, attention and head of a hollow model answer with tensors of this size; all else runs."""
    place = model.embedding.device
    dtype, first = model.embedding.dtype, model.layers[0]
    for module in model.modules():
        if isinstance(module, Ready):
            module.answer = torch.randn(batch, new, module.outputs, device=place).to(dtype)
    attention: Any = first.attention
    mixed = torch.randn(batch, new, attention.heads * attention.v_dim, device=place).to(dtype)
    own = torch.randn(batch, 1, model.spec.vocab, device=place).to(dtype)
    gpt: Any = profiler.gpt
    whole, logits = gpt.attend, model.logits
    gpt.attend = lambda *arguments, **more: mixed
    model.logits = lambda x: (model.norm(x), own)[1]  # type: ignore[method-assign]
    try:
        yield
    finally:
        gpt.attend = whole
        model.logits = logits  # type: ignore[method-assign]


def rest_times(style: str, hidden: int, dtype: str, *, device: Device) -> Iterator[tuple[int, float, float]]:
    """Measures (rows, rest of one layer, rest of one step), from hollow models of 2 and 6 layers.

    Up to 16 rows are sequences in decode; more are one prompt.
    """
    models = {layers: _hollow_model(rest_spec(style, hidden, layers), dtype, device) for layers in (2, 6)}
    for rows in (1, 4, 16, 64, 256, 1024):
        batch, new = (rows, 1) if rows <= 16 else (1, rows)
        found = {}
        for layers, model in models.items():
            with answers(model, batch, new):
                found[layers] = _rest(model, batch, new, device=device)
        layer = max((found[6] - found[2]) / 4, 1e-7)
        yield rows, layer, max(found[2] - 2 * layer, 1e-7)


def _rest(model: GPT, batch: int, new: int, *, device: Device) -> float:
    cache = cache_for(model, "static", batch=batch, max_tokens=256 if new == 1 else new)
    ids = random_tokens(model, batch, new)
    if new == 1:
        prefill(model, ids, cache)
        return laps(
            lambda: decode_step(model, ids, cache).argmax(-1), device, 16, warmup=3, budget_seconds=SMALL.budget_seconds
        ).median
    times = measure(
        lambda: prefill(model, ids, cache).argmax(-1), device, repeats=8, budget_seconds=SMALL.budget_seconds, warmup=1
    )
    return times.median


def errors(held_back: Iterable[HeldBack], **place: str) -> list[float]:
    """Lists the absolute errors of the points that match, in rising order."""
    found = (h for h in held_back if all(getattr(h, key) == value for key, value in place.items()))
    return sorted(abs(h.error) for h in found)
