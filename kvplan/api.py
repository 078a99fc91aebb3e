"""The commands as functions: `import kvplan; kvplan.estimate("llama-7b", seq="8k").kv_bytes`.

Every function reads its keywords once into a frozen dataclass of `planner.options`, by the same readers as the command
line, and returns an answer of `planner.answers`: `to_dict()` is what `--json` prints, `to_frame()` a pandas DataFrame,
and a notebook shows a table. A length is a number or a text (`8192`, `"8k"`); a model is a name, a path, a Hugging Face
id, a config as a dict, or a `ModelSpec`. What is wrong raises a KvplanError in one line that names the keyword.
"""

# parameters: a notebook user names what he wants, so each function here has a keyword for every flag of its command.

# long: every public function with all that it takes, and its documentation

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from kvplan.python_words import in_python_words, renamed
from planner.catalogue.device import Device
from planner.catalogue.entries import ModelEntry
from planner.model.spec import ModelSpec
from planner.options.tables import ENGINE_FLAGS, PLACEMENT_FLAGS, given

if TYPE_CHECKING:
    from planner.answers.check import CheckAnswer
    from planner.answers.engines import EnginesAnswer
    from planner.answers.estimate import EstimateAnswer
    from planner.answers.fit import FitAnswer
    from planner.answers.plan import DeploymentsAnswer
    from planner.answers.several import Answers
    from planner.answers.simulate import SimulateAnswer
    from planner.answers.speed import SpeedAnswer
    from planner.engines.base import EngineAnswer
    from planner.machine.calibration import Calibration
    from planner.options.tables import Flag
    from planner.sweeps.asked import SweepAnswer
    from profiler.results import Measurement

Model = str | ModelSpec | Mapping[str, Any]
Tokens = int | str
EngineFlags = Mapping[str, str | int | float | bool]
OPTION = "an option here; `kvplan COMMAND --help` names them"
ENGINE_FLAG = "an engine's flag; write for example max_model_len"


@in_python_words
def show(model: Model, *, assume: str | None = None) -> ModelSpec:
    """Returns the model as kvplan knows it: a catalogue name, a Hugging Face id of one, a config.json or its folder, a dict.

    >>> len(show("gemma-3-27b").layers)
    62
    """
    return _spec(model, assume)


@overload  # a text is a model, not a list of them
def estimate(  # type: ignore[overload-overlap]
    model: Model,
    *,
    seq: Tokens | None = None,
    batch: int | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpu: str | None = None,
    memory: Tokens | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    mmproj: str | None = None,
    host_memory: Tokens | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> EstimateAnswer: ...
@overload
def estimate(
    model: Model | Sequence[Model],
    *,
    seq: Tokens | Sequence[Tokens] | None = None,
    batch: int | Sequence[int] | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpu: str | Sequence[str] | None = None,
    memory: Tokens | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    mmproj: str | None = None,
    host_memory: Tokens | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> Answers[EstimateAnswer]: ...
@in_python_words
def estimate(
    model: Model | Sequence[Model],
    *,
    seq: Tokens | Sequence[Tokens] | None = None,
    batch: int | Sequence[int] | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpu: str | Sequence[str] | None = None,
    memory: Tokens | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    mmproj: str | None = None,
    host_memory: Tokens | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> EstimateAnswer | Answers[EstimateAnswer]:
    """Estimates the memory of one request, as `kvplan estimate` does; of several where a list of models, devices, batches or lengths is given.

    seq      tokens of a sequence (default: what an engine's flags say, else the model's own limit)
    memory   plain memory in place of a device: "24GiB", or bytes
    gpus     so many devices, laid out as --tp N up to 8 and pipeline stages of 8 beyond
    engine   answered in its terms too, with its own `flags`: {"max_model_len": 4096}

    >>> e = estimate("llama-7b", seq="8k")
    >>> e.kv_bytes, e.to_dict()["weight_bytes"], e.fits
    (4294967296, 13476831232, None)
    >>> [a.kv_bytes for a in estimate(["gpt2", "llama-7b"], seq=[1024])]
    [37748736, 536870912]

    Raises KvplanError: unknown model, device or dtype; a config it does not understand; numbers out of range.
    """
    values = _options(locals())
    from planner.answers.estimate import estimate_answers, several
    from planner.options.estimate import estimate_questions
    from planner.options.tables import ESTIMATE

    questions = estimate_questions({**_values(ESTIMATE, values), "model": model})
    answers = [answer for question in questions for answer in estimate_answers(question)]
    listed = any(isinstance(one, (list, tuple, range)) for one in (model, seq, gpu, batch))
    return answers[0] if len(answers) == 1 and not listed else several(answers)


@in_python_words
def fit(
    model: Model,
    *,
    gpu: str | None = None,
    memory: Tokens | None = None,
    seq: Tokens | None = None,
    batch: int | None = None,
    lengths: str | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    lora: str | Sequence[str] | None = None,
    mmproj: str | None = None,
    drafter: str | None = None,
    draft_tokens: int | None = None,
    also: str | Sequence[str] | None = None,
    idle_sessions: int | None = None,
    host_memory: Tokens | None = None,
    ssd: Tokens | None = None,
    host_bandwidth: Tokens | None = None,
    ssd_bandwidth: Tokens | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    ngl: int | None = None,
    measured: str | Sequence[str] | None = None,
    ttft: str | None = None,
    tpot: str | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> FitAnswer:
    """Answers the inverse questions, as `kvplan fit` does: most sequences, longest context, fewest devices.

    seq      tokens of a sequence (default: the model's own limit, at most 8k)
    lengths  real lengths: "p50=800,p95=6000", or a file of requests
    measured a point, or files of benchmarks: then how many users at once meet the targets `ttft` and `tpot`, too

    >>> answer = fit("llama-3.1-8b", gpu="rtx-4090", seq="8k")
    >>> answer.most_sequences, answer["most_sequences"]
    (6, 6)

    Raises KvplanError: as `estimate`; no device.
    """
    values = _options(locals())
    from planner.answers.fit import fit_answer
    from planner.options.fit import FLAGS, fit_asked

    return fit_answer(fit_asked(_values(FLAGS, values)))


@in_python_words
def engine(
    model: Model,
    name: str,
    *,
    gpu: str | None = None,
    memory: Tokens | None = None,
    seq: Tokens | None = None,
    flags: EngineFlags | None = None,
    **options: Any,
) -> EngineAnswer:
    """Tells what an engine makes of it: pool, requests at once, what it prints, and why it differs.

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
    from planner.answers.estimate import estimate_answers
    from planner.options.engine import engine_of, started_for
    from planner.options.estimate import estimate_asked
    from planner.options.model import usual_tokens
    from planner.options.tables import ESTIMATE, read_values

    spec = _spec(model, options.pop("assume", None))
    asked = engine_of(read_values(ENGINE_FLAGS, given(ENGINE_FLAGS, flags or {}, ENGINE_FLAG)) | {"engine": name})
    assert asked is not None
    length = seq if seq is not None else asked.longest_tokens or usual_tokens(spec)
    values = _options({**options, "model": spec, "gpu": gpu, "memory": memory, "seq": length})
    found = estimate_answers(estimate_asked(_values(ESTIMATE, values)))[0]
    return engine_answer(asked if seq is None else started_for(asked, found.request.seq_tokens), found)


@in_python_words
def engines(
    model: Model,
    *,
    gpu: str | None = None,
    memory: Tokens | None = None,
    seq: Tokens | None = None,
    batch: int | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    flags: EngineFlags | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> EnginesAnswer:
    """Asks every serving engine side by side, as `kvplan engines` does; each reads the `flags` that are its own.

    >>> answer = engines("gemma-3-27b", gpu="h100", flags={"max_model_len": "32k"})
    >>> answer.engines[1].label, answer.engines[1].answer.most_requests
    ('vLLM 0.11 to 0.20', 1)

    Raises KvplanError: as `estimate`; neither a device nor a pool.
    """
    values = _options(locals())
    from planner.answers.engines import engines_answer
    from planner.options.engines import FLAGS, engines_asked

    return engines_answer(engines_asked(_values(FLAGS, values)))


@renamed(output="answer")
@in_python_words
def speed(
    model: Model,
    *,
    gpu: str | Sequence[str],
    memory: str | None = None,
    seq: Tokens | None = None,
    prompt: Tokens | None = None,
    prefix_cached: Tokens | None = None,
    answer: Tokens | None = None,
    batch: int | Sequence[int] = 1,
    load: str | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    host: str | None = None,
    backend: str | None = None,
    drafter: str | None = None,
    draft_tokens: int | None = None,
    acceptance: float | str | None = None,
    bring_back: str | None = None,
    grid: float | str | None = None,
    measured: str | Sequence[str] | None = None,
    linear: str | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> SpeedAnswer | Answers[SpeedAnswer]:
    """Tells how fast a model runs, as `kvplan speed` answers it: TTFT, TPOT, tokens a second with range and bound, what binds.

    gpu      a device, `local`, or a list of devices (then a list of answers)
    memory   memory of the device in place of its own: "30GiB"
    batch    one (its figures stand at the top of the answer) or several (each in `batches`)
    load     "serving" (the default) or "static": one batch from prompt to end
    prefix_cached  tokens of each prompt, from its first on, whose cache is there from a request before
    flags    the engine's own, as `engine` takes them
    host     llama.cpp: the processor whose memory holds what flags={"n_cpu_moe": 24} or {"n_gpu_layers": 20} leave there
    backend  llama.cpp and its kin: "cuda", "rocm", "vulkan", "metal", "sycl", "cpu", in place of the device's own
    drafter  speculative decoding: a draft model, or "ngram", "eagle3", "mtp"; `acceptance` of a drafted token, 0 to 1
    bring_back  where a prompt's cache is kept, against computing it again: "host", "nvme", "5GB/s"
    grid     grams of CO2 of a kWh: 400, "400g/kWh"
    measured "tpot_ms=14.2 batch=8 seq=2048", or files of benchmarks: the constants are made from what was measured

    >>> answer = speed("llama-3.1-8b", gpu="h100-sxm", prompt=1000, answer=2, load="static")
    >>> round(answer["tpot_seconds_bound"] * 1e3, 2)      # (15.01 GB of weights + 0.13 GB of cache) / 3.35 TB/s
    4.52

    Raises KvplanError: as `estimate`; a device whose bandwidth or FLOP/s are not known; a point that cannot be.
    """
    values = _options(locals())
    from planner.answers.speed import speed_answer
    from planner.options.speed import FLAGS, speed_asked

    return speed_answer(speed_asked(_values(FLAGS, values)))


@in_python_words
def check(
    command: str | Sequence[str],
    *,
    gpu: str | None = None,
    memory: str | None = None,
    model: str | ModelSpec | None = None,
    seq: Tokens | None = None,
    engine: str | None = None,
    backend: str | None = None,
    service: str | None = None,
) -> CheckAnswer:
    """Tells what a start command comes to, as `kvplan check` answers it: does it start, for how many requests, how fast.

    command  the words of a command, or its text, or the text of a script, compose file or manifest
    gpu      a device, or several of a kind: "2x3090"
    model    what the command's model is, where the text does not say it
    backend  of llama.cpp, where the text does not say it: "vulkan"
    service  which server of a text that starts several

    >>> answer = check("vllm serve Qwen/Qwen3-8B --max-model-len 8192", gpu="l40s")
    >>> answer.starts, answer.to_dict()["seq_tokens"]
    (True, 8192)

    Raises KvplanError: as `engine`, and for a text that starts no server that kvplan knows.
    """
    from planner.answers.check import check_answer
    from planner.options.check import FLAGS, check_asked

    pasted = (command if " " in command else f"{command} ",) if isinstance(command, str) else tuple(command)
    values = {
        "gpu": gpu, "memory": memory, "model": None, "seq": seq, "engine": engine, "backend": backend, "service": service,
    }  # fmt: skip
    given_values = given(FLAGS, values, OPTION)
    return check_answer(check_asked(pasted, {**given_values, "model": model}))


@renamed(output="answer")
@in_python_words
def plan(
    model: Model,
    *,
    users: int | None = None,
    rate: float | str | None = None,
    trace: str | None = None,
    seq: Tokens | None = None,
    prompt: Tokens | None = None,
    answer: Tokens | None = None,
    longest: Tokens | None = None,
    prefix_share: float | str | None = None,
    think: str | None = None,
    ttft: str | None = None,
    tpot: str | None = None,
    budget: float | str | None = None,
    gpu: str | Sequence[str] | None = None,
    price: str | Sequence[str] | None = None,
    measured: str | Sequence[str] | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    as_published: bool = False,
    prefill_tokens: Tokens | None = None,
    disaggregate: bool = False,
    link: str | None = None,
    grid: float | str | None = None,
    lora: str | Sequence[str] | None = None,
    drafter: str | None = None,
    draft_tokens: int | None = None,
    acceptance: float | str | None = None,
    also: str | Sequence[str] | None = None,
    idle_sessions: int | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    backend: str | None = None,
    sort: str | None = None,
    top: int | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> DeploymentsAnswer:
    """From a load and targets to deployments, as `kvplan plan` answers.

    prompt, answer   lengths: a number, "p50=800,p95=6000", or a file of lengths
    rate             requests a second, 5 or "300/min", in place of users
    ttft, tpot       targets: "1s", "p99=2s"; "40ms"
    measured         a point, or files of benchmarks, of the one device that `gpu` names
    backend          llama.cpp and its kin: "vulkan", in place of each device's own
    grid             grams of CO2 of a kWh: 400, "400g/kWh"

    >>> answer = plan("llama-3.1-8b", users=50, prompt="p50=800,p95=6000", answer=200, tpot="40ms", gpu=["l40s"])
    >>> answer["plans"][0]["device"]
    'L40S'

    Raises KvplanError: as `estimate`, and for a load or a target that means nothing.
    """
    values = _options(locals())
    from planner.answers.plan import plan_answer
    from planner.options.plan import FLAGS, plan_asked

    return plan_answer(*plan_asked(_values(FLAGS, values)))


@renamed(output="answer")
@in_python_words
def simulate(
    model: Model,
    *,
    gpu: str,
    memory: str | None = None,
    trace: str | None = None,
    seq: Tokens | None = None,
    prompt: Tokens | None = None,
    answer: Tokens | None = None,
    rate: float | str | None = None,
    users: int | None = None,
    think: str | None = None,
    speed_up: float | str | None = None,
    requests: int | None = None,
    prefix_share: float | str | None = None,
    seed: int | None = None,
    replicas: int | None = None,
    routing: str | None = None,
    disaggregate: str | None = None,
    link: str | None = None,
    kv_offloading_size: str | None = None,
    kv_offloading_from: str | None = None,
    ttft: str | None = None,
    tpot: str | None = None,
    measured: str | Sequence[str] | None = None,
    steps: str | None = None,
    drafter: str | None = None,
    draft_tokens: int | None = None,
    acceptance: float | str | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    source_tokens: Tokens | None = None,
    prefill_tokens: Tokens | None = None,
    fused_attention: bool = True,
    activation: Tokens | None = None,
    overhead: Mapping[str, Tokens] | None = None,
    engine: str | None = None,
    flags: EngineFlags | None = None,
    backend: str | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
    online: bool = False,
) -> SimulateAnswer:
    """Simulates a server under a load, request by request, as `kvplan simulate` does.

    disaggregate     "2P3D": two replicas read prompts, three decode, joined by `link`
    steps            a file of steps measured on your own server, in place of the speed model

    >>> answer = simulate("gpt2", gpu="l4", prompt=100, answer=20, rate="5/s", requests=50)
    >>> answer["served"], answer["preemptions"]
    (50, 0)

    Raises KvplanError: as `plan`; a trace that cannot be read.
    """
    values = _options(locals())
    from planner.answers.simulate import simulate_answer
    from planner.options.simulate import FLAGS, simulate_asked

    return simulate_answer(simulate_asked(_values(FLAGS, values)))


@in_python_words
def compare_models(
    *models: Model,
    seq: Tokens | None = None,
    batch: int | None = None,
    gpu: str | None = None,
    memory: Tokens | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    rope_scaling: float | str | None = None,
    assume: str | None = None,
) -> Answers[EstimateAnswer]:
    """Compares several models at one length (default: the shortest of their usual ones), an answer each: `estimate` of a list."""
    values = _options(locals())
    from planner.answers.estimate import compared_answer
    from planner.options.estimate import estimate_questions
    from planner.options.tables import ESTIMATE

    named = list(values.pop("models"))
    return compared_answer(estimate_questions({**_values(ESTIMATE, values), "model": named}))


@renamed(output="answer")
@in_python_words
def sweep(
    question: str,
    *,
    model: str | Sequence[str],
    gpu: str | Sequence[str] | None = None,
    memory: str | Sequence[str] | None = None,
    engine: str | Sequence[str] | None = None,
    dtype: str | Sequence[str] | None = None,
    kv_dtype: str | Sequence[str] | None = None,
    tp: int | str | Sequence[int] | None = None,
    pp: int | str | Sequence[int] | None = None,
    ep: int | str | Sequence[int] | None = None,
    dp: int | str | Sequence[int] | None = None,
    dcp: int | str | Sequence[int] | None = None,
    batch: int | str | Sequence[int] | None = None,
    seq: Tokens | Sequence[Tokens] | None = None,
    prompt: Tokens | Sequence[Tokens] | None = None,
    answer: Tokens | Sequence[Tokens] | None = None,
    load: str | Sequence[str] | None = None,
    path: str | None = None,
    workers: int | None = None,
    ray: str | None = None,
    resume: bool = False,
    assume: str | None = None,
    online: bool = False,
    rope_scaling: float | str | None = None,
) -> SweepAnswer:
    """Answers a grid of questions ("estimate", "fit" or "speed"), one row a point, as `kvplan sweep` writes it.

    Axes take one value, a list, or a range as text ("1k..128k"); `path` names a .csv or .parquet file to write, which
    `workers`, `ray` and `resume` want.

    >>> rows = sweep("estimate", model=["gpt2", "llama-7b"], seq="1k..4k").rows()
    >>> len(rows), rows[3]["kv_bytes"]
    (6, 536870912)

    Raises KvplanError: an axis that the question does not have, or that it lacks.
    """
    values = dict(locals())
    from planner.sweeps.asked import sweep_answer, sweep_asked

    settings = {name: values.pop(name) for name in ("workers", "ray", "resume", "assume", "online", "rope_scaling")}
    axes = [
        f"{name}={_axis(value)}"
        for name, value in values.items()
        if value is not None and name not in ("question", "path")
    ]
    return sweep_answer(sweep_asked(question, axes, {**settings, "output": path}))


@in_python_words
def report(
    *models: str,
    output: str | None = None,
    force: bool = False,
    gpu: str | Sequence[str] = (),
    memory: str | Sequence[str] = (),
    seq: Tokens | None = None,
    batch: int | None = None,
    dtype: str | None = None,
    kv_dtype: str | None = None,
    k_dtype: str | None = None,
    v_dtype: str | None = None,
    tp: int | None = None,
    pp: int | None = None,
    ep: int | None = None,
    dp: int | None = None,
    dcp: int | None = None,
    run: str | Sequence[str] = (),
    plan: str | Sequence[str] = (),
    assume: str | None = None,
    rope_scaling: float | str | None = None,
    engine: str | None = None,
) -> str:
    """Writes a capacity report, as `kvplan report` does, and returns the path of its report.html.

    output   the folder to write (default: report-MODEL); `force` replaces the report that is in it
    run      results of `kvplan profile`, laid beside the estimates
    plan     answers of `kvplan plan --json`

    Needs pandas and matplotlib: pip install 'llm-kvplan[report]'.

    Raises KvplanError: as `estimate`; a folder that holds something else.
    """
    values = _options(locals())
    from reports.asked import FLAGS, report_asked
    from reports.written import written_report

    settings = {name: values.pop(name) for name in ("models", "output", "force")}
    for name in ("gpu", "memory", "run", "plan"):
        values[name] = (values[name],) if isinstance(values[name], str) else tuple(values[name])
    asked = report_asked(settings["models"], given(FLAGS, values, OPTION))
    return written_report(asked, output=output, force=force)


def _axis(value: Any) -> str:
    """The values of an axis as the command line has them."""
    return ",".join(map(str, value)) if isinstance(value, (list, tuple, range)) else str(value)


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """A function's keywords by the names of the flags."""
    values = dict(options)
    if not values.pop("fused_attention", True):
        values["attention"] = "eager"
    if isinstance(values.get("overhead"), Mapping):
        values["overhead"] = tuple(values["overhead"].items())
    return values


def _values(table: Sequence[Flag], options: Mapping[str, Any]) -> dict[str, Any]:
    """What a command would get: every flag of its table, MODEL, and the flags of an engine by their own names."""
    own = {name: value for name, value in options.items() if name not in ("model", "flags")}
    engine_flags = given((*ENGINE_FLAGS, *PLACEMENT_FLAGS), options.get("flags") or {}, ENGINE_FLAG)
    there = {flag.parameter for flag in table}
    return {
        **given(table, own, OPTION),
        **{name: value for name, value in engine_flags.items() if name in there},
        "model": options.get("model"),
    }


def _spec(model: Model, assume: str | None = None) -> ModelSpec:
    from planner.options.model import spec_of

    return spec_of({"model": model, "assume": assume})


def models(query: str | None = None) -> list[ModelEntry]:
    """Lists catalogue models, all or those that match."""
    from planner.catalogue.entries import models as find

    return find(query)


def gpus(query: str | None = None) -> list[Device]:
    """Lists catalogue devices, all or those that match."""
    from planner.catalogue.entries import devices

    return devices(query)


def profile(model: Model, **settings: Any) -> Measurement:
    """Builds the model and runs it here, as `kvplan profile` does; settings as `profiler.profile.Settings` names them.

    Needs torch: pip install 'llm-kvplan[profile]'.
    """
    from profiler.commands.torch_wanted import want_torch

    want_torch("kvplan.profile")
    from profiler.profile import Settings
    from profiler.profile import profile as run

    return run(_spec(model), Settings(**settings))


def calibrate(model: Model = "gpt2", **options: Any) -> Calibration:
    """Measures what this machine reaches, as `kvplan calibrate` does; `to_json` is the device file.

    Needs torch: pip install 'llm-kvplan[profile]'.
    """
    from profiler.commands.torch_wanted import want_torch

    want_torch("kvplan.calibrate")
    from profiler.calibrate import calibrate as run

    return run(_spec(model), **options)
