"""A start command's question -> model, layout, formats and flags as the planner's own terms."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from planner.catalogue.device import Device
from planner.dtypes.names import float_dtype
from planner.engines import ollama_releases
from planner.engines.positions import CAPS, OVERRIDES, SCALES_ITSELF
from planner.engines.registry import family
from planner.errors import BadRequest, KvplanError, one_line
from planner.extras.lora import Lora, slot_rank
from planner.extras.projector import Projector
from planner.extras.shared_device import Drafter, Extras, draft_model, eagle_head, mtp_head
from planner.launch.question import TABLES_DRAFT, Drafting, Question
from planner.launch.secrets import shown
from planner.lookup.parts import parts_of
from planner.memory.request import Request
from planner.memory.sharding import Sharding
from planner.model.spec import ModelSpec
from planner.options.check import catalogue_model
from planner.options.engine import EngineAsked
from planner.options.extras import DRAFTING
from planner.options.tables import LLAMA
from planner.readers.mmproj import read_mmproj

DEFAULT_TOKENS = 8192
# --quantization and --model-format -> our weight format; None: as the checkpoint says
_QUANTIZATIONS = {
    "fp8": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "w8a8_fp8": "fp8", "modelopt": "fp8", "modelopt_fp8": "fp8",
    "awq": "awq", "awq_marlin": "awq", "gptq": "gptq", "gptq_marlin": "gptq", "gptq_bitblas": "gptq",
    "bitsandbytes": "nf4", "modelopt_fp4": "nvfp4", "nvfp4": "nvfp4", "petit_nvfp4": "nvfp4", "mxfp4": "mxfp4", "w8a8_int8": "int8",
}  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What is to be answered.

    request  of one sequence of the asked length
    asked    engine, version, flags
    devices  that the layout takes
    notes    what was understood or taken as given, in words
    cards    each device where they are unlike
    """

    question: Question
    spec: ModelSpec
    request: Request
    asked: EngineAsked
    devices: int
    notes: tuple[str, ...]
    cards: tuple[Device, ...] = ()

    @property
    def memories(self) -> tuple[int, ...]:
        """Bytes of each device where they are unlike."""
        return tuple(card.memory_bytes for card in self.cards)


def _with_stored_cache(question: Question, spec: ModelSpec, notes: list[str]) -> Question:
    """Leaves ollama's cache in f16 where its release takes a quantised one with flash attention alone, and that is off.

    Source: ollama llm/server.go, "quantized kv cache requested but flash attention disabled" (issue 14137); ollama before 0.30.
    """
    asked, version = question.k_dtype, ollama_releases.version_of(question.version)
    if question.engine != "ollama" or asked is None or asked.lower() in ("f16", "fp16"):
        return question
    if version >= ollama_releases.SERVER_SINCE:
        return question
    flash = question.options.flash_attn
    if flash if flash is not None else ollama_releases.flash_by_default(spec.model_type, version):
        return question
    notes.append(
        f"the cache stays in f16: ollama {question.version} takes OLLAMA_KV_CACHE_TYPE={shown(asked, 20)} with flash attention "
        "alone; set OLLAMA_FLASH_ATTENTION=1"
    )
    return replace(question, k_dtype=None, v_dtype=None)


def setup(question: Question, spec: ModelSpec, *, seq: int | None = None) -> Setup:
    """Translates the question into the planner's terms.

    seq   tokens of a request, in place of the longest that the command admits
    """
    notes = list(question.notes)
    if spec.read_as is not None and any(spec.read_as.spread):  # a file whose types its publisher chose
        notes += spec.read_as.notes
    spec = _without_unused_towers(question, spec, notes)
    question, spec = _within_positions(question, spec, notes)
    question = _with_stored_cache(question, spec, notes)
    whole = None if question.engine == "mlx" else spec.max_positions  # mlx-lm reserves nothing
    longest = question.seq_tokens or whole or DEFAULT_TOKENS
    tokens = min(seq or longest, longest) if question.seq_tokens else seq or longest
    sharding = _sharding(question, spec, notes)
    request = Request(
        seq_tokens=tokens,
        dtype=_weights(question, spec, notes),
        k_dtype=_cache_type(question.k_dtype),
        v_dtype=_cache_type(question.v_dtype),
        sharding=sharding,
        extras=_extras(question, spec, notes),
    )
    options = question.options
    if question.engine not in LLAMA and options.max_model_len is None and question.seq_tokens:
        options = replace(options, max_model_len=question.seq_tokens)
    return Setup(
        question,
        spec,
        request,
        EngineAsked(question.engine, question.version, options),
        _devices(question, sharding),
        tuple(notes),
    )


_LIFTING = (
    "--hf-overrides", "--json-model-override-args", "--rope-scaling", "--rope-scale", "--rope-freq-scale", "--rope-freq-base",
    "--rope-theta", "--override-kv", "--rope-scaling-factor", "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "TLLM_ALLOW_LONG_MAX_MODEL_LEN", "LLAMA_ARG_ROPE_SCALING_TYPE",
    "LLAMA_ARG_ROPE_SCALE",
)  # fmt: skip


def _within_positions(question: Question, spec: ModelSpec, notes: list[str]) -> tuple[Question, ModelSpec]:
    """The question with requests no longer than the engine takes of the model; a flag that lifts its positions is believed.

    vLLM and SGLang refuse a longer one and are left to say so; the others start, and take less.
    """
    limit, wanted = spec.max_positions, question.seq_tokens
    if not limit or not wanted or wanted <= limit:
        return question, spec
    said = [
        one.name.replace("_", "-") if one.name.startswith("-") else one.name
        for one in (*question.flags, *question.environment)
    ]
    if any(name in _LIFTING for name in said) or question.engine in SCALES_ITSELF:
        notes.append(f"{wanted:,} tokens are beyond the model's {limit:,} positions: taken as scaled, not judged")
        return question, replace(spec, max_positions=wanted)
    if question.engine.split("-v")[0] in OVERRIDES:
        return question, spec
    if question.engine == "ollama" and ollama_releases.version_of(question.version) < ollama_releases.TRIMS_SINCE:
        notes.append(f"{wanted:,} tokens are beyond the model's {limit:,} positions, where answers fall apart: ollama before "
                     "0.9.3 holds them all the same")  # fmt: skip
        return question, replace(spec, max_positions=wanted)
    capped = CAPS.get(question.engine, "beyond them answers fall apart")
    notes.append(f"{wanted:,} tokens are asked, and the model has {limit:,} positions: {capped}")
    options = question.options
    if question.engine not in LLAMA:
        options = replace(options, max_model_len=limit)
    elif question.engine == "ollama":
        options = replace(options, ctx_size=limit * (options.parallel or 1))
    return replace(question, seq_tokens=limit, options=options), spec


def _without_unused_towers(question: Question, spec: ModelSpec, notes: list[str]) -> ModelSpec:
    """llama.cpp loads an image encoder only from --mmproj (or with -hf); vLLM leaves it out when told to.

    Where the file of --mmproj is not here, its name says whether it is in Q8_0.
    """
    if not spec.towers:
        return spec
    from_hub = any(flag.name in ("-hf", "-hfr", "--hf-repo", "--hf") for flag in question.flags)
    if question.engine in ("llamacpp", "ik_llamacpp") and not question.projector and not from_hub:
        notes.append("no --mmproj: the image or sound encoder is not loaded")
        return replace(spec, towers=())
    if question.projector and os.path.isfile(question.projector):
        return replace(spec, towers=())
    if any(flag.name.replace("_", "-") == "--language-model-only" for flag in question.flags):
        return replace(spec, towers=())
    kind = parts_of(os.path.basename(question.projector or "")).gguf
    if kind == "q8_0" and spec.quantization is not None:  # mmproj-Qwen3-VL-2B-Instruct-Q8_0.gguf; others have 16 bit
        own = {**spec.quantization.get("own", {}), "tower": kind}
        return replace(spec, quantization={**spec.quantization, "own": own})
    return spec


def has_experts(spec: ModelSpec) -> bool:
    """Tells whether any layer is a mixture of experts."""
    return any(weight.part == "experts" for layer, _ in spec.groups for weight in layer.weights)


def _sharding(question: Question, spec: ModelSpec, notes: list[str]) -> Sharding:
    """Ranks; vLLM and SGLang spread experts over the ranks of data-parallel attention, with or without --ep."""
    ep = question.ep
    if not has_experts(spec):
        if ep > 1:
            notes.append("expert parallelism has no effect: the model has no experts")
        ep = 1
    elif question.dp > 1 and question.engine in ("vllm", "vllm-v1", "sglang"):
        ep = question.tp * question.dp
    return Sharding(tp=question.tp, pp=question.pp, dp=question.dp, ep=ep, dcp=question.dcp)


def _devices(question: Question, sharding: Sharding) -> int:
    if question.engine not in LLAMA:
        return sharding.devices
    placement = question.placement
    if placement is not None and placement.split == "none":
        return 1
    return question.devices or (len(placement.shares) if placement is not None else 0) or 1


def _weights(question: Question, spec: ModelSpec, notes: list[str]) -> str | None:
    """The weights' format where the command names one."""
    text = (question.weights or "").strip()
    if spec.read_as is not None and spec.read_as.weights and (spec.quantization is not None or not text):
        return None  # the name says how they are stored
    if question.engine in LLAMA:
        if not text and question.engine == "ollama" and spec.stored is None and spec.quantization is None:
            notes.append("ollama's tags without a format are Q4_K_M")
            return "q4_k_m"
        if not text and spec.stored is None and question.model and spec.quantization is None:
            notes.append("the file's name says no quantization: weights counted in the model's own type")
        return text.lower() or None
    if text:
        key = text.lower().replace("-", "_")
        if spec.quantization is not None or spec.stored is not None:
            return None
        if key in _QUANTIZATIONS:
            return _QUANTIZATIONS[key]
        notes.append(f"--quantization {shown(text, 30)}: weights counted as the model is published")
        return None
    if question.dtype and spec.quantization is None and spec.stored is None:
        kind = {"half": "fp16", "float": "fp32"}.get(question.dtype.lower()) or float_dtype(question.dtype)
        if kind is None:
            raise BadRequest(
                f"--dtype {shown(question.dtype, 40)!r} is not known; write auto, bfloat16, float16 or float32"
            )
        return kind
    return None


def _cache_type(text: str | None) -> str | None:
    """The engines' further names of fp8."""
    if text is None:
        return None
    return {"fp8_inc": "fp8", "float8_e4m3fn": "fp8", "fp8_e4m3fn": "fp8"}.get(text.lower(), text)


def _extras(question: Question, spec: ModelSpec, notes: list[str]) -> Extras | None:
    """The adapters that the server has room for, and the drafter that it loads."""
    if not spec.weights_known:
        return None
    adapters: tuple[Lora, ...] = ()
    if question.adapters is not None:
        slots = family(question.engine) == "vllm"
        rank = slot_rank(question.adapters.rank) if slots else question.adapters.rank
        adapters = (Lora(question.adapters.count, rank, (), slots),)
    drafter, projector = _drafter(question, spec, notes), _projector(question, notes)
    found = Extras(adapters, drafter, (), 0, projector)
    return found if adapters or drafter is not None or projector is not None else None


def _projector(question: Question, notes: list[str]) -> Projector | None:
    """The tower of --mmproj where its file is here; elsewhere the model's config counts it, if it has one."""
    path = question.projector
    if not path or not os.path.isfile(path):
        return None
    try:
        found = Projector(read_mmproj(path), flash=question.options.flash_attn is not False)
    except KvplanError as error:
        notes.append(f"the tower of --mmproj is not counted: {one_line(str(error), 200)}")
        return None
    notes.append(f"the tower of --mmproj is counted from its file: {found.tower.name}")
    return found


def _drafter(question: Question, spec: ModelSpec, notes: list[str]) -> Drafter | None:
    """The drafter of the command; a note where only its layers in the pool can be counted."""
    asked = question.drafting
    if asked is None:
        return None
    if asked.method in TABLES_DRAFT:
        notes.append("speculative decoding without a model takes no memory")
        return None
    if question.engine not in DRAFTING:
        notes.append(
            f"speculative decoding of {question.engine} is not modelled: neither its cache nor its weights are counted"
        )
        return None
    try:
        found = _drafter_named(asked, spec)
    except KvplanError as error:
        notes.append(f"the drafter's weights are not counted: {one_line(str(error), 200)}")
        return None
    notes.append("speculative decoding: the drafter's cache and weights are counted")
    return found


def _drafter_named(asked: Drafting, spec: ModelSpec) -> Drafter:
    method = asked.method
    if method == "mtp" or (not method and asked.model is None):
        return mtp_head(spec, asked.tokens)
    if method in ("eagle", "eagle3"):
        return eagle_head(spec, method, asked.tokens)
    if asked.model is None:
        raise BadRequest(f"what {shown(method, 30)} loads is not known")
    return draft_model(spec, catalogue_model(asked.model), asked.tokens)
