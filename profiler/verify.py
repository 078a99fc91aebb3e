"""Our numbers beside those of the real implementation: parameters, and the cache bytes of every layer.

`verify_config` compares one model; `verify_all` many, each in a child process of its own that has a time and a
memory limit, so that one model that hangs or grows takes nothing else down.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from typing import Any

from planner.dtypes.kinds import CacheFormat
from planner.dtypes.names import kv_format
from planner.errors import KvplanError, one_line
from planner.model.cache import Cache, Full
from planner.model.parameters import parameters, parameters_by_part
from planner.model.recurrent import Recurrent
from planner.model.spec import Layer, ModelSpec
from planner.readers.huggingface import read_config
from profiler.dryrun import DECODE_STEPS, MISSING, CacheTensor, DryRun, NotKnownToTransformers, Run, Shape, dry_run

EXACT, EXPLAINED, DIFFERENT, UNKNOWN, FAILED = "exact", "explained", "different", "unknown to transformers", "failed"
SCHEMA_VERSION = 1
TOWERS = frozenset({"vision", "audio", "projector"})
BF16 = CacheFormat(kv_format("bf16"), kv_format("bf16"))
MAX_WINDOW = 131_072  # beyond it no window is filled: the score matrix costs nothing, the masks do
SHORT = Shape(2, 24)

WINDOW = "transformers keeps window - 1 tokens after a step; the next token needs the window"
CHUNK = "transformers keeps chunk - 1 tokens after a step; the next token needs the chunk"
BROADCAST = "transformers stores K and V broadcast to all query heads; engines store the KV heads"
STATE_DTYPE = "the same elements in another dtype"


@dataclass(frozen=True)
class CacheCheck:
    """One run: the bytes of all layers, how many layers agree, and what does not."""

    batch: int
    tokens: int
    ours_bytes: int
    theirs_bytes: int
    layers: int
    exact: int
    explained: int
    reasons: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """One model: exact, explained, different, unknown to transformers, or failed."""

    model: str
    model_type: str
    status: str
    words: str = ""
    class_name: str = ""
    ours_parameters: int = 0
    theirs_parameters: int = 0
    text_only: bool = False
    caches: tuple[CacheCheck, ...] = ()
    fallbacks: tuple[str, ...] = ()
    filled: tuple[str, ...] = ()
    seconds: float = 0.0
    key: str = field(default="", repr=False)

    def to_dict(self) -> dict[str, Any]:
        """What is not empty."""
        raw = {name: value for name, value in asdict(self).items() if value not in ("", (), 0, 0.0, False)}
        if self.caches:
            raw["caches"] = [
                {name: value for name, value in asdict(check).items() if value != ()} for check in self.caches
            ]
        return raw

    @staticmethod
    def from_dict(raw: Mapping[str, Any]) -> Verdict:
        """Of what `to_dict` wrote; anything else is an error.

        >>> verdict = Verdict("a", "llama", EXACT, caches=(CacheCheck(1, 8, 2, 2, 1, 1, 0),))
        >>> Verdict.from_dict(json.loads(json.dumps(verdict.to_dict()))) == verdict
        True
        """
        caches = tuple(
            CacheCheck(**{**check, **{name: tuple(check.get(name, ())) for name in ("reasons", "differences")}})
            for check in raw.get("caches", ())
        )
        lists = {name: tuple(raw.get(name, ())) for name in ("fallbacks", "filled")}
        return Verdict(**{**raw, **lists, "caches": caches})


# -- one model ---------------------------------------------------------------------------------------------


def shapes_for(spec: ModelSpec) -> tuple[Shape, ...]:
    """Lists a short run of two sequences; where layers have a window or chunk, a run that fills the largest as well."""
    limits = [limit for layer, _ in spec.groups for cache in layer.caches if (limit := limit_of(cache))]
    filled = [limit for limit in limits if SHORT.prefill_tokens < limit + 8 <= MAX_WINDOW]
    return (SHORT, Shape(1, max(filled) + 8)) if filled else (SHORT,)


def limit_of(cache: Cache) -> int | None:
    """Returns the length at which a cache stops growing."""
    limit: int | None = getattr(cache, "window", getattr(cache, "chunk", None))
    return limit


def verify_config(config: Mapping[str, Any], name: str = "config", runner: Callable[..., DryRun] = dry_run) -> Verdict:
    """Compare our reading of `config` with the implementation. Raises what reading and building raise."""
    spec = read_config(config, name=name, where=name)
    started = time.monotonic()
    shapes = shapes_for(spec)
    found = runner(config, shapes, DECODE_STEPS)
    checks = tuple(check_run(spec, run) for run in found.runs)
    ours, words = _compare_parameters(spec, found)
    parameters_agree = ours == found.parameters
    different = not parameters_agree or any(check.differences for check in checks)
    explained = bool(found.filled) or words == IDLE_EXPERTS or any(check.explained for check in checks)
    return Verdict(
        model=name,
        model_type=spec.model_type,
        status=DIFFERENT if different else EXPLAINED if explained else EXACT,
        words=words,
        class_name=found.class_name,
        ours_parameters=ours,
        theirs_parameters=found.parameters,
        text_only=found.text_only,
        caches=checks,
        fallbacks=found.fallbacks,
        filled=found.filled,
        seconds=round(time.monotonic() - started, 1),
        key=key_of(spec),
    )


def _compare_parameters(spec: ModelSpec, found: DryRun) -> tuple[int, str]:
    """(our count of what was built, words where it is not the whole model or does not agree)."""
    whole = parameters(spec)
    towers = sum(size for part, size in parameters_by_part(spec).items() if part in TOWERS)
    if found.parameters == whole - towers and towers and found.text_only:
        return whole - towers, "text model alone: its towers were not built"
    if found.parameters == whole:
        return whole, ""
    if spec.model_type == "longcat_flash" and found.parameters - whole == _idle_experts(spec):
        return found.parameters, IDLE_EXPERTS
    return whole, f"parameters: ours {whole:,}, theirs {found.parameters:,}"


IDLE_EXPERTS = "transformers holds gate and up of the experts that pass a token on; checkpoints do not"


def _idle_experts(spec: ModelSpec) -> int:
    """Parameters of LongcatFlashExperts beyond the routed ones: gate and up [2 x expert width, hidden] of each, unread."""
    config = spec.config
    idle, width = config.get("zero_expert_num") or 0, config.get("expert_ffn_hidden_size") or 0
    layers = config.get("num_layers") or config.get("num_hidden_layers") or 0
    return int(layers * idle * 2 * width * (config.get("hidden_size") or 0))


def check_run(spec: ModelSpec, run: Run) -> CacheCheck:
    """Compares layer by layer where the implementation has a slot a layer, else cache by cache, else the total alone."""
    theirs: dict[int, list[CacheTensor]] = {}
    for tensor in run.tensors:
        theirs.setdefault(tensor.slot, []).append(tensor)
    source = _source(spec, run)
    if run.slots == len(spec.layers):
        pairs = [(f"layer {i}", layer.caches, theirs.get(i, [])) for i, layer in enumerate(spec.layers)]
    else:
        pairs = _in_order(spec.layers, theirs, run, source=source)
    checked = [
        (where, *_explain(spec.model_type, caches, tensors, run=run, source=source)) for where, caches, tensors in pairs
    ]
    differences = [f"{where}: {words}" for where, verdict, words in checked if verdict == DIFFERENT]
    return CacheCheck(
        batch=run.shape.batch,
        tokens=run.tokens,
        ours_bytes=sum(_bytes(layer.caches, run, source)[0] for layer in spec.layers),
        theirs_bytes=sum(tensor.bytes for tensor in run.tensors),
        layers=len(pairs),
        exact=sum(verdict == EXACT for _, verdict, _ in checked),
        explained=sum(verdict == EXPLAINED for _, verdict, _ in checked),
        reasons=tuple(sorted({words for _, verdict, words in checked if verdict == EXPLAINED})),
        differences=tuple(differences[:5]) + ((f"and {len(differences) - 5} more",) if len(differences) > 5 else ()),
    )


Pair = tuple[str, tuple[Cache, ...], list[CacheTensor]]


def _in_order(layers: Iterable[Layer], theirs: Mapping[int, list[CacheTensor]], run: Run, *, source: int) -> list[Pair]:
    """Caches that hold something, in order, beside slots that do; all in one where their numbers differ."""
    ours = [cache for layer in layers for cache in layer.caches if _bytes((cache,), run, source)[0]]
    slots = [tensors for _, tensors in sorted(theirs.items()) if tensors]
    if len(ours) == len(slots):
        return [(f"cache {i}", (cache,), slot) for i, (cache, slot) in enumerate(zip(ours, slots, strict=True))]
    return [("all layers together", tuple(ours), [tensor for slot in slots for tensor in slot])]


def _source(spec: ModelSpec, run: Run) -> int:
    if not spec.has_cross_attention:
        return 0
    return spec.source_tokens if spec.source_tokens is not None else run.shape.source_tokens or run.shape.prefill_tokens


def _bytes(caches: Iterable[Cache], run: Run, source: int) -> tuple[int, int]:
    """(as a sequence needs them, with windows as transformers keeps them), all sequences together."""
    need = kept = 0
    for cache in caches:
        size, state = cache.kv_bytes(run.tokens, source, BF16), cache.state_bytes(BF16)
        limit = limit_of(cache)
        less = size // limit * (limit - 1) if limit is not None and run.tokens >= limit else size
        need, kept = need + size + state, kept + less + state
    return need * run.shape.batch, kept * run.shape.batch


def _explain(
    model_type: str, caches: tuple[Cache, ...], tensors: list[CacheTensor], *, run: Run, source: int
) -> tuple[str, str]:
    """(exact, explained or different; in words)."""
    need, kept = _bytes(caches, run, source)
    theirs = sum(tensor.bytes for tensor in tensors)
    if theirs == need:
        return EXACT, ""
    if theirs == kept:
        return EXPLAINED, CHUNK if any(hasattr(cache, "chunk") for cache in caches) else WINDOW
    if reason := _known_reason(model_type, caches, tensors, run=run, source=source):
        return EXPLAINED, reason
    kinds = " + ".join(cache.kind for cache in caches) or "no cache"
    shapes = ", ".join(f"{tensor.name} {list(tensor.shape)} {tensor.dtype}" for tensor in tensors[:4]) or "nothing"
    return (
        DIFFERENT,
        f"ours {need:,} B ({kinds}), theirs {theirs:,} B ({shapes}), at {run.tokens} tokens, batch {run.shape.batch}",
    )


def _known_reason(
    model_type: str, caches: tuple[Cache, ...], tensors: list[CacheTensor], *, run: Run, source: int
) -> str:
    if model_type == "falcon" and len(caches) == 1 and isinstance(caches[0], Full):
        heads = {tensor.shape[1] for tensor in tensors}
        need = _bytes(caches, run, source)[0]
        if len(heads) == 1 and sum(tensor.bytes for tensor in tensors) * caches[0].kv_heads == need * heads.pop():
            return BROADCAST
    elements = run.shape.batch * sum(cache.elements(run.tokens, source) for cache in caches)
    if any(isinstance(cache, Recurrent) for cache in caches) and elements == sum(t.elements for t in tensors):
        dtypes = "/".join(sorted({tensor.dtype for tensor in tensors}))
        return f"{STATE_DTYPE} ({dtypes})"
    return ""


def key_of(spec: ModelSpec) -> str:
    """Changes with the config and with our own answer: a verdict with another key is not taken over."""
    ours = [[_bytes((cache,), Run(SHORT, 4096, 0, ()), 1500)[0] for cache in layer.caches] for layer in spec.layers]
    text = json.dumps([dict(spec.config), parameters(spec), ours], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- many models -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    name: str
    config: Mapping[str, Any]


def library_versions() -> tuple[str, str]:
    """Finds (transformers, torch) as installed, without importing them; one line where one is missing."""
    from importlib.metadata import version

    if find_spec("torch") is None or find_spec("transformers") is None:
        raise KvplanError(MISSING)
    return version("transformers"), version("torch")


def verify_all(
    tasks: Iterable[Task], *, processes: int = 1, limit_seconds: float = 300.0, memory_bytes: int | None = None
) -> Iterator[Verdict]:
    """Returns a verdict a task, as they come in. At most `processes` children at a time."""
    library_versions()
    context = _context()
    waiting, running = deque(tasks), list[_Child]()
    try:
        while waiting or running:
            while waiting and len(running) < max(1, processes):
                running.append(_Child(context, waiting.popleft(), limit_seconds, memory_bytes=memory_bytes))
            patience = min(child.seconds_left() for child in running)
            wait([child.receiver for child in running], timeout=max(0.0, patience))
            for child in [child for child in running if child.done()]:
                running.remove(child)
                yield child.verdict()
    finally:
        for child in running:
            child.stop()


def _context() -> Any:
    """Children are forked from a server that has imported torch and transformers once, where the system can."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    for name, value in {"HF_HUB_OFFLINE": "1", "USE_HUB_KERNELS": "0", "OMP_NUM_THREADS": "1"}.items():
        os.environ.setdefault(name, value)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "transformers", "transformers.cache_utils", "profiler.verify"])
    return context


class _Child:
    """One model in a process of its own."""

    def __init__(self, context: Any, task: Task, limit_seconds: float, *, memory_bytes: int | None) -> None:
        self.task, self.limit = task, limit_seconds
        self.receiver, sender = context.Pipe(duplex=False)
        self.started = time.monotonic()
        self.process = context.Process(
            target=_work, args=(sender, task.name, dict(task.config), memory_bytes), daemon=True
        )
        self.process.start()
        sender.close()

    def seconds_left(self) -> float:
        return self.started + self.limit - time.monotonic()

    def done(self) -> bool:
        return self.receiver.poll() or self.seconds_left() <= 0 or not self.process.is_alive()

    def verdict(self) -> Verdict:
        answer: Verdict | None = None
        try:
            if self.receiver.poll():
                answer = self.receiver.recv()
        except (EOFError, OSError):
            answer = None
        late = answer is None and self.seconds_left() <= 0
        self.stop()
        if answer is not None:
            return answer
        words = (
            f"stopped after {self.limit:.0f} s"
            if late
            else f"its process ended (exit code {self.process.exitcode}): out of memory?"
        )
        model_type = self.task.config.get("model_type")
        return Verdict(
            self.task.name, str(model_type), FAILED, words, seconds=round(time.monotonic() - self.started, 1)
        )

    def stop(self) -> None:
        if self.process.is_alive():
            self.process.kill()
        self.process.join(10)
        self.receiver.close()


def _work(
    sender: Connection, name: str, config: dict[str, Any], memory_bytes: int | None
) -> None:  # parameters: what one run is made of
    """In the child: compare, send the verdict."""
    if memory_bytes is not None:
        _limit_memory(memory_bytes)
    started = time.monotonic()
    model_type = str(config.get("model_type"))
    try:
        verdict = verify_config(config, name)
    except NotKnownToTransformers as error:
        verdict = Verdict(name, model_type, UNKNOWN, str(error))
    except KvplanError as error:
        verdict = Verdict(name, model_type, FAILED, str(error), seconds=round(time.monotonic() - started, 1))
    except MemoryError:
        verdict = Verdict(name, model_type, FAILED, f"needs more than {memory_bytes:,} B of memory")
    except Exception as error:
        verdict = Verdict(name, model_type, FAILED, one_line(f"{type(error).__name__}: {error}", 200))
    sender.send(verdict)
    sender.close()


def _limit_memory(size: int) -> None:
    """A cap on private memory; systems without one go without."""
    try:
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        cap = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (cap, hard))
    except (ImportError, OSError, ValueError):
        return
