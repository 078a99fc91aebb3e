"""The commands as functions: `import kvplan; kvplan.estimate("llama-7b", seq=8192).kv_bytes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from planner.catalogue.device import Device
from planner.catalogue.entries import ModelEntry
from planner.errors import BadRequest, one_line
from planner.lookup import capacity, model_spec
from planner.memory.estimate import Estimate
from planner.memory.estimate import estimate as _estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec

if TYPE_CHECKING:
    from planner.commands.options.tables import Flag
    from planner.engines.base import EngineAnswer, Options
    from planner.machine.calibration import Calibration
    from profiler.results import Measurement


def show(model: str, *, assume: str | None = None) -> ModelSpec:
    """The model as kvplan knows it: a catalogue name, a Hugging Face id of one, a config.json or its folder.

    >>> len(show("gemma-3-27b").layers)
    62
    """
    return model_spec(model, assume=assume)


def estimate(
    model: str | ModelSpec,
    *,
    seq: int,
    batch: int = 1,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpu: str | None = None,
    memory: str | None = None,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dp: int = 1,
    dcp: int = 1,
    source_tokens: int | None = None,
    prefill_tokens: int | None = None,
    fused_attention: bool = True,
    overhead: Mapping[str, int] | None = None,
    assume: str | None = None,
) -> Estimate:
    """Memory of one request: bytes as ints, see `Estimate` and its `to_dict`.

    >>> e = estimate("llama-7b", seq=8192)
    >>> e.kv_bytes, e.to_dict()["weight_bytes"]
    (4294967296, 13476831232)

    Raises KvplanError: unknown model, device or dtype; a config it does not understand; numbers out of range.
    """
    if kv_dtype is not None and (k_dtype is not None or v_dtype is not None):
        raise BadRequest("kv_dtype sets both; give k_dtype and v_dtype without it")
    request = Request(
        seq_tokens=seq,
        batch=batch,
        dtype=dtype,
        k_dtype=kv_dtype or k_dtype,
        v_dtype=kv_dtype or v_dtype,
        source_tokens=source_tokens,
        sharding=Sharding(tp=tp, pp=pp, ep=ep, dp=dp, dcp=dcp),
        prefill_tokens=prefill_tokens,
        fused_attention=fused_attention,
        overhead_override=overhead or {},
    )
    spec = model if isinstance(model, ModelSpec) else model_spec(model, assume=assume)
    return _estimate(spec, request, capacity(gpu, memory))


def fit(
    model: str | ModelSpec,
    *,
    gpu: str | None = None,
    memory: str | None = None,
    seq: int = 8192,
    batch: int = 1,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dp: int = 1,
    lengths: str | None = None,
    assume: str | None = None,
) -> dict[str, Any]:
    """The inverse questions, as `kvplan fit --json` answers them.

    >>> fit("llama-3.1-8b", gpu="rtx-4090", seq=8192)["most_sequences"]
    6
    """
    from planner.answers.fit import fit_answer
    from planner.workloads.lengths import parse_mix

    room = capacity(gpu, memory)
    if room is None:
        raise BadRequest("a device is wanted: gpu= or memory=")
    request = Request(seq, batch, dtype, kv_dtype, kv_dtype, sharding=Sharding(tp=tp, pp=pp, ep=ep, dp=dp))
    spec = model if isinstance(model, ModelSpec) else model_spec(model, assume=assume)
    return fit_answer(spec, request, room, None if lengths is None else parse_mix(lengths))


def engine(
    model: str | ModelSpec,
    name: str,
    *,
    gpu: str | None = None,
    memory: str | None = None,
    seq: int | None = None,
    assume: str | None = None,
    flags: Mapping[str, str | int | float | bool] | None = None,
    **options: Any,
) -> EngineAnswer:
    """What an engine makes of it, as `kvplan estimate --engine` answers: pool, requests at once, what it prints, and why.

    name     `vllm`, `vllm==0.11.2`, `sglang`, `llamacpp` ...
    seq      tokens of a request (default: what the flags say, else the model's limit, at most 8k)
    flags    the engine's own, by its own names: {"max_model_len": 4096, "gpu_memory_utilization": 0.8}
    options  batch, dtype, kv_dtype, tp and the rest, as `estimate` takes them

    >>> answer = engine("llama-3.1-8b", "vllm==0.11.2", gpu="l4", flags={"max_model_len": 4096})
    >>> answer.most_requests, answer.to_dict()["block_tokens"]
    (7, 16)

    Raises KvplanError: as `estimate`, and for an unknown engine or a flag that is another engine's.
    """
    from planner.answers.engine import engine_answer

    asked, wanted = _asked(name, flags, seq)
    assert asked is not None
    spec = model if isinstance(model, ModelSpec) else model_spec(model, assume=assume)
    length = min(spec.max_positions or 8192, 8192) if wanted is None else wanted
    return engine_answer(asked, estimate(spec, seq=length, gpu=gpu, memory=memory, **options))


def _asked(
    name: str | None, flags: Mapping[str, str | int | float | bool] | None, seq: int | None
) -> tuple[tuple[str, str | None, Options] | None, int | None]:
    """(engine, version, options) or None without a name; the length asked, or that only a flag names."""
    from planner.commands.options.engine import prepare
    from planner.commands.options.tables import ENGINE_FLAGS

    values = _values(ENGINE_FLAGS, flags or {}, "an engine's flag; write for example max_model_len")
    values |= {"engine": name, "seq": seq}
    asked = prepare(values)
    found = values["seq"]
    return asked, int(found) if isinstance(found, str) else found


def speed(
    model: str | ModelSpec,
    *,
    gpu: str,
    prompt: int = 1024,
    output: int = 256,
    batch: int | Sequence[int] = 1,
    load: str | None = None,
    engine: str | None = None,
    flags: Mapping[str, str | int | float | bool] | None = None,
    measured: str | None = None,
    linear: str | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    tp: int = 1,
    pp: int = 1,
    ep: int = 1,
    dp: int = 1,
    assume: str | None = None,
) -> dict[str, Any]:
    """How fast, as `kvplan speed --json` answers it: TTFT, TPOT, tokens a second with range and bound, what binds.

    batch    one (its figures stand at the top of the answer) or several (each in `batches`)
    load     "serving" (the default) or "static": one batch from prompt to end
    flags    the engine's own, as `engine` takes them
    measured "tpot_ms=14.2 batch=8 seq=2048": the constants are scaled to that point

    >>> answer = speed("llama-3.1-8b", gpu="h100-sxm", prompt=1000, output=2, load="static")
    >>> round(answer["tpot_seconds_bound"] * 1e3, 2)      # (15.01 GB of weights + 0.13 GB of cache) / 3.35 TB/s
    4.52

    Raises KvplanError: as `estimate`; a device whose bandwidth or FLOP/s are not known; a point that cannot be.
    """
    from planner.answers.speed import speed_answer
    from planner.lookup import device

    batches = [batch] if isinstance(batch, int) else list(batch)
    for name, value in (("prompt", prompt), ("output", output)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadRequest(f"{name} {one_line(repr(value), 40)} is not a whole number of tokens")
    asked, _ = _asked(engine, flags, prompt + output)
    request = Request(prompt + output, 1, dtype, kv_dtype, kv_dtype, sharding=Sharding(tp=tp, pp=pp, ep=ep, dp=dp))
    return speed_answer(
        model if isinstance(model, ModelSpec) else model_spec(model, assume=assume),
        request,
        device(gpu),
        prompt_tokens=prompt,
        output_tokens=output,
        batches=batches,
        load=load,
        asked=asked,
        measured=measured,
        linear=linear,
    ).to_dict()


def plan(model: str, *, top: int = 8, **options: object) -> dict[str, Any]:
    """From a load and targets to deployments, as `kvplan plan --json` answers; options as the command names them.

    >>> answer = plan("llama-3.1-8b", users=50, prompt="p50=800,p95=6000", output=200, tpot="40ms", gpu=["l40s"])
    >>> answer["plans"][0]["device"]
    'L40S'

    Raises KvplanError: as `estimate`, and for a load or a target that means nothing.
    """
    from planner.commands.plan import FLAGS, question_of
    from planner.deployment.answer import answer_dict
    from planner.deployment.search import search
    from planner.deployment.simulated import verified

    return answer_dict(verified(search(question_of({**_values(FLAGS, options, OPTION), "model": model}))), top)


def simulate(model: str, *, gpu: str, **options: object) -> dict[str, Any]:
    """A server under a load, request by request, as `kvplan simulate --json` answers; options as the command names them.

    >>> answer = simulate("gpt2", gpu="l4", prompt=100, output=20, rate="5/s", requests=50)
    >>> answer["served"], answer["preemptions"]
    (50, 0)

    Raises KvplanError: as `plan`; a trace that cannot be read.
    """
    from planner.commands.simulate import FLAGS, answer_of

    values = _values(FLAGS, {"gpu": gpu, **options}, OPTION)
    return answer_of({**values, "model": model}).to_dict()


OPTION = "an option here; `kvplan COMMAND --help` names them"


def _values(table: Sequence[Flag], options: Mapping[str, object], kind: str) -> dict[str, Any]:
    """What a command gets: every option of its table, those given as text; `kind` says what any other name is not."""
    from planner.commands.options.tables import empty

    values = empty(table)
    for name, value in options.items():
        if name not in values:
            raise BadRequest(f"{one_line(name, 40)!r} is not {kind}")
        if isinstance(values[name], tuple):
            values[name] = tuple(map(str, value)) if isinstance(value, (list, tuple)) else (str(value),)
        else:
            values[name] = value if isinstance(value, bool) or value is None else str(value)
    return values


def compare_models(*models: str, seq: int = 8192, **options: Any) -> list[Estimate]:
    """An Estimate for each model, at the same length; options as `estimate` takes them."""
    return [estimate(model, seq=seq, **options) for model in models]


def models(query: str | None = None) -> list[ModelEntry]:
    """Catalogue models, all or those that match."""
    from planner.catalogue.entries import models as find

    return find(query)


def gpus(query: str | None = None) -> list[Device]:
    """Catalogue devices, all or those that match."""
    from planner.catalogue.entries import devices

    return devices(query)


def profile(model: str | ModelSpec, **settings: Any) -> Measurement:
    """The model built and run here, as `kvplan profile` does; settings as `profiler.profile.Settings` names them.

    Needs torch: pip install 'llm-kvplan[profile]'.
    """
    from profiler.commands.torch_wanted import want_torch

    want_torch("kvplan.profile")
    from profiler.profile import Settings
    from profiler.profile import profile as run

    return run(model if isinstance(model, ModelSpec) else model_spec(model), Settings(**settings))


def calibrate(model: str | ModelSpec = "gpt2", **options: Any) -> Calibration:
    """What this machine reaches, as `kvplan calibrate` measures it; `to_json` is the device file.

    Needs torch: pip install 'llm-kvplan[profile]'.
    """
    from profiler.commands.torch_wanted import want_torch

    want_torch("kvplan.calibrate")
    from profiler.calibrate import calibrate as run

    return run(model if isinstance(model, ModelSpec) else model_spec(model), **options)
