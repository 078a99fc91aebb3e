"""Which model and formats a log is about, and our estimate and engine answer for them."""

from __future__ import annotations

import re

from planner.catalogue.entries import cached_repository, find_model, models
from planner.dtypes.names import canonical, float_dtype
from planner.engines.base import EngineAnswer, Options, parse_version
from planner.engines.registry import answer_of
from planner.errors import KvplanError, one_line
from planner.memory.estimate import Estimate, estimate
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.readers.by_hand import by_hand
from planner.reconcile.facts import Run
from planner.reconcile.ledger import Draft, Given
from planner.units import MAX_TOKENS

BY_DIMENSIONS = "the dimensions in the log"
_SUFFIXES = re.compile(
    r"[-_.](?:instruct|chat|it|hf|base|awq|gptq|int4|int8|fp8|fp16|bf16|gguf|bnb|4bit|8bit|unsloth|nvfp4|w4a16|w8a8|dynamic|thinking|"
    r"block|unquantized|qat|q\d[\w]*|iq\d\w*|v?\d{4,8})$",
    re.IGNORECASE,
)
_WEIGHTS = {
    "bitsandbytes": "nf4_dq", "awq": "awq", "awq_marlin": "awq", "gptq": "gptq", "gptq_marlin": "gptq", "fp8": "fp8",
    "compressed-tensors": None, "modelopt": "fp8", "modelopt_fp4": "nvfp4", "mxfp4": "mxfp4",
}  # fmt: skip


def model_named(name: str) -> ModelSpec | None:
    """Finds the catalogue's model behind a name or path of a log: whole, its last part, then without publishers'
    suffixes.

    >>> model_named("/models/Qwen2.5-7B-Instruct-AWQ").name
    'qwen2.5-7b-awq'
    >>> model_named("/root/.cache/huggingface/hub/models--Qwen--Qwen2.5-7B-Instruct/snapshots/a09a3545").name
    'qwen2.5-7b'
    """
    name = cached_repository(name) or name
    last = name.rstrip("/").rsplit("/", 1)[-1]
    candidates = [name, last, last.replace(" ", "-")]
    short = last.replace(" ", "-")
    for _ in range(6):
        shorter = _SUFFIXES.sub("", short)
        if shorter == short:
            break
        short = shorter
        candidates.append(short)
    for candidate in candidates:
        try:
            return read_entry(find_model(candidate[:200]))
        except KvplanError:
            continue
    try:
        near = models(short[:200])  # a publisher's variant of the same model, where there is but one
        return read_entry(near[0]) if len(near) == 1 else None
    except KvplanError:
        return None


def spec_of(run: Run, given: Given, made: Draft) -> ModelSpec | None:
    """Finds the model: as given, else as the log names it, else (llama.cpp) from the dimensions it prints."""
    if given.spec is not None:
        made.change(taken_as=given.spec.name)
        return given.spec
    if made.ledger.model:
        found = model_named(made.ledger.model)
        if found is not None and _same_layers(run, found):
            made.change(taken_as=found.name)
            return found
    found = _by_dimensions(run)
    if found is not None:
        made.change(taken_as=BY_DIMENSIONS)
        return found
    what = f"model {made.ledger.model!r} is not in the catalogue" if made.ledger.model else "the model is not named"
    made.miss(f"{what}: --model NAME or --config FILE")
    return None


def _same_layers(run: Run, spec: ModelSpec) -> bool:
    """A name can lie: the layers that llama.cpp prints must be the model's (or one more, for drafting)."""
    layers = run.whole("n_layer")
    return layers is None or layers - len(spec.layers) in (0, 1)


def _by_dimensions(run: Run) -> ModelSpec | None:
    """A plain attention model from llama.cpp's own print-out; None where windows, states or latents are at play."""
    numbers = {
        key: run.whole(key) for key in ("n_layer", "n_head", "n_head_kv", "n_embd_head_k", "n_embd", "n_ff", "n_vocab")
    }
    plain = (run.text("arch") or "") in (
        "llama",
        "qwen2",
        "qwen3",
        "phi3",
        "mistral",
        "granite",
        "starcoder2",
        "glm4",
        "gemma",
        "qwen2moe",
        "qwen3moe",
    )
    if (
        not plain
        or run.whole("n_swa")
        or run.bytes("state_mib")
        or None in (numbers["n_layer"], numbers["n_head"], numbers["n_head_kv"])
    ):
        return None
    heads, embd = numbers["n_head"] or 1, numbers["n_embd"] or 0
    dimensions: dict[str, int | None] = {
        "layers": numbers["n_layer"], "heads": heads, "kv_heads": numbers["n_head_kv"],
        "head_dim": numbers["n_embd_head_k"] or (embd // heads or None),
    }  # fmt: skip
    if embd and numbers["n_ff"] and numbers["n_vocab"]:
        dimensions |= {"hidden": embd, "intermediate": numbers["n_ff"], "vocab": numbers["n_vocab"]}
    try:
        return by_hand(dimensions)
    except KvplanError:
        return None


def estimate_of(run: Run, given: Given, made: Draft, *, spec: ModelSpec, seq: int) -> Estimate | None:
    """Estimates with the log's layout and formats; what the log leaves open is named."""
    running = float_dtype((run.text("dtype") or "").removeprefix("torch.")) if run.text("dtype") else None
    quantised = run.text("quantization")
    published = bool(spec.config.get("quantization_config"))  # the entry itself says how it is stored
    stored = None if published else _WEIGHTS.get(quantised.lower()) if quantised else running
    made.change(weight_dtype=given.dtype or stored)
    said = canonical(run.text("kv_dtype") or "auto")
    said = "auto" if said.startswith("torch") else said
    made.change(kv_dtype=given.kv_dtype or (running if said == "auto" else said) or None)
    if quantised and made.ledger.weight_dtype is None and not published:
        made.miss(f"how {one_line(quantised, 40)} stores the weights: --dtype")
    request = Request(
        seq_tokens=min(max(seq, 1), MAX_TOKENS),
        dtype=made.ledger.weight_dtype,
        k_dtype=made.ledger.kv_dtype,
        v_dtype=made.ledger.kv_dtype,
        sharding=Sharding(tp=made.ledger.tp, pp=made.ledger.pp, dcp=run.ranks("dcp") or 1),
    )
    try:
        return estimate(spec, request, given.capacity)
    except KvplanError as error:
        made.note(f"no prediction: {error}")
        return None


def answer_or_note(
    made: Draft, engine: str, version: str | None, *, estimate: Estimate, options: Options
) -> EngineAnswer | None:
    """Asks the engine for its answer; a refusal becomes a note, and None."""
    try:
        return answer_of(engine, version, estimate, options=options)
    except KvplanError as error:
        made.note(f"no prediction: {error}")
        return None


def known_version(made: Draft) -> str | None:
    """Returns the version if it can be read, else the newest rules, and says so."""
    if made.ledger.version is None:
        made.miss("the version: --engine NAME==VERSION; the rules of the newest confirmed one are used")
        return None
    return made.ledger.version if parse_version(made.ledger.version) or "dev" in made.ledger.version else None
