"""What to change in a start command, and what llama.cpp and ollama change themselves; each change is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from planner.answers.setup import has_experts
from planner.engines import ollama_releases
from planner.engines.base import EngineAnswer, parse_version
from planner.engines.placement import FIT_LEAVES_BYTES, Placement
from planner.engines.registry import family
from planner.launch.question import Question
from planner.launch.read import with_flags
from planner.memory.limits import largest, smallest
from planner.model.spec import ModelSpec
from planner.units import human_tokens

FIT_SINCE = 7410
"""The build of llama.cpp (December 2025, PR 16653) from which --fit sets what the command leaves open."""
FIT_LEAST_TOKENS = 4096
"""The shortest context that --fit chooses. Source: common/arg.cpp, --fit-ctx."""


@dataclass(frozen=True)
class Tried:
    """A question that is being changed.

    given    devices that there are
    tokens   of one request
    starts   whether a changed question starts with bytes left free on each device
    longest  the longest request that starts, 0 where none does
    """

    question: Question
    spec: ModelSpec
    given: int
    tokens: int
    starts: Callable[[Question, int], bool]
    longest: Callable[[], int]

    @property
    def placement(self) -> Placement:
        """What is where, everything on the devices where the command does not say."""
        return self.question.placement or Placement()

    def with_experts(self, count: int) -> Question:
        """The experts of the first layers on the host."""
        return replace(self.question, placement=replace(self.placement, expert_layers=count))

    def with_layers(self, count: int) -> Question:
        """So many layers on the devices."""
        return replace(self.question, placement=replace(self.placement, layers=count))

    def with_length(self, tokens: int) -> Question:
        """Requests of so many tokens."""
        return with_length(self.question, tokens)


def with_length(question: Question, tokens: int) -> Question:
    """Returns the question for requests of so many tokens in each slot."""
    return replace(question, seq_tokens=tokens, options=replace(question.options, ctx_size=tokens * streams(question)))


def streams(question: Question) -> int:
    """How many times a slot's length the context is: the slots, or one where they share its cells."""
    alone = question.options.kv_unified or family(question.engine) == "exllama"
    return 1 if alone else question.options.parallel or 1


# What a change is called, by engine; {} in `slots` is how many. llama.cpp parts its context among its slots.
_FLAGS = {
    "vllm": {"kv": "--kv-cache-dtype fp8", "weights": "--quantization fp8", "length": "--max-model-len", "share": "--gpu-memory-utilization", "tp": "--tensor-parallel-size", "slots": "--max-num-seqs {}"},
    "sglang": {"kv": "--kv-cache-dtype fp8_e4m3", "weights": "--quantization fp8", "length": "--context-length", "tp": "--tp", "slots": "--max-running-requests {}"},
    "tensorrt-llm": {"kv": "kv_cache_config: {dtype: fp8}", "length": "--max_seq_len", "tp": "--tp_size", "slots": "--max_batch_size {}"},
    "lmdeploy": {"kv": "--quant-policy 8", "length": "--session-len", "tp": "--tp", "slots": "--max-batch-size {}"},
    "exllamav3": {"kv": "cache_mode 8,8", "length": "cache_size", "tp": "tensor_parallel true with a gpu_split of"},
    "exllamav2": {"kv": "cache_mode Q8", "length": "cache_size", "tp": "a gpu_split of"},
}  # fmt: skip


def server_changes(tried: Tried, engine: EngineAnswer, starts: bool) -> Iterator[tuple[str, Question, int]]:
    """Lists (flags to write, the question with them, devices) in the order of what they cost.

    starts   whether the command starts as it is: then only changes that admit more requests are of use
    """
    question, given = tried.question, tried.given
    names = flags_of(question.engine)
    for mend in engine.refusal.mends if engine.refusal is not None else ():
        if mend.startswith("--") and len(mend.split()) == 2:  # others name a flag to give, without a value
            flag, value = mend.split()
            if flag == names.get("length") and value.isdigit() and 2 * int(value) < (longer := tried.longest()):
                mend = f"{flag} {longer}"  # where the profile run shrinks with the length, the pool grows
            yield mend, with_flags(question, mend), given
    if question.k_dtype is None and "kv" in names:
        fp8 = {"lmdeploy": "int8", "exllamav3": "exl3_q8", "exllamav2": "exl3_q8", "lmdeploy-pytorch": "int8"}.get(
            question.engine, "fp8"
        )
        yield names["kv"], replace(question, k_dtype=fp8, v_dtype=fp8), given
    if not starts and (length := tried.longest()):
        options = replace(question.options, max_model_len=length)
        if family(question.engine) == "exllama":
            options = replace(question.options, ctx_size=length)
        yield (
            f"{names.get('length', '--max-model-len')} {length}",
            replace(question, seq_tokens=length, options=options),
            given,
        )
    if not starts and question.engine == "vllm" and tried.spec.towers and question.options.mm_items is None:
        options = replace(question.options, mm_items=(1, 0))
        yield '--limit-mm-per-prompt {"video":0}', replace(question, options=options), given
    if not starts and "weights" in names and question.weights is None and tried.spec.quantization is None:
        yield names["weights"], replace(question, weights="fp8"), given
    fraction = question.options.fraction
    if "share" in names and (fraction is None or fraction < Fraction(19, 20)):
        options = replace(question.options, fraction=Fraction(19, 20))
        yield f"{names['share']} 0.95", replace(question, options=options), given
    for tp in () if starts else (2, 4, 8, 16):
        devices = tp * question.pp * question.dp
        if tp > question.tp:
            words = f"{names.get('tp', '--tp')} {tp}" + (f" on {devices} devices" if devices > given else "")
            yield words, replace(question, tp=tp), max(devices, given)


_LLAMA_FLAGS = {
    "llamacpp": {
        "kv": "-ctk q8_0 -ctv q8_0",
        "ctx": "-c",
        "moe": "--n-cpu-moe",
        "layers": "-ngl",
        "slots": "-np {} with twice the -c",
    },
    "koboldcpp": {"kv": "--quantkv 1", "ctx": "--contextsize", "moe": "--moecpu", "layers": "--gpulayers"},
    "ollama": {
        "kv": "OLLAMA_KV_CACHE_TYPE=q8_0",
        "ctx": "",
        "moe": "",
        "layers": "",
        "slots": "OLLAMA_NUM_PARALLEL={}",
    },
}


def flags_of(engine: str) -> dict[str, str]:
    """Returns what the changes are called by an engine: `kv`, `weights`, `length`, `tp` and others, those that it has.

    >>> flags_of("vllm-v1")["tp"], flags_of("koboldcpp")["kv"], flags_of("transformers")
    ('--tensor-parallel-size', '--quantkv 1', {})
    """
    own = {"ik_llamacpp": "llamacpp"}.get(engine, engine)
    return _FLAGS.get(own) or _FLAGS.get(family(own)) or _LLAMA_FLAGS.get(own, {})


def llama_changes(tried: Tried) -> Iterator[tuple[str, Question, int]]:
    """Lists the same for llama.cpp and its kin, of a command that does not start."""
    question, given = tried.question, tried.given
    ollama = question.engine == "ollama"
    names = _LLAMA_FLAGS.get(question.engine, _LLAMA_FLAGS["llamacpp"])
    if question.k_dtype is None:
        options = replace(question.options, flash_attn=True)
        yield names["kv"], replace(question, k_dtype="q8_0", v_dtype="q8_0", options=options), given
    longest = tried.longest()
    if longest:
        words = f"OLLAMA_CONTEXT_LENGTH={longest}" if ollama else f"{names['ctx']} {longest * streams(question)}"
        yield words, tried.with_length(longest), given
    if ollama:
        return
    experts = _fewest_experts(tried, 0)
    if experts is not None:
        yield f"{names['moe']} {experts}", tried.with_experts(experts), given
    most = largest(lambda n: tried.starts(tried.with_layers(n), 0), len(tried.spec.layers))
    if most:
        yield f"{names['layers']} {most}", tried.with_layers(most), given


def _fewest_experts(tried: Tried, free: int) -> int | None:
    """The fewest layers whose experts have to go to the host; None where that does not help."""
    if not has_experts(tried.spec) or tried.placement.expert_layers < 0:
        return None
    least = tried.placement.expert_layers + 1
    return smallest(lambda n: tried.starts(tried.with_experts(n), free), len(tried.spec.layers), least)


def adapted(tried: Tried) -> tuple[Question, str] | None:
    """Returns (the question as the engine itself changes it, in words), None where it changes nothing.

    KoboldCpp and ollama before 0.30 put the layers that do not fit on the host. llama.cpp's --fit shortens a context that the
    command leaves open, then moves experts, then layers; ollama starts it so from 0.30, with a context. What is set stays.
    """
    question = tried.question
    own = {"ollama": "ollama", "koboldcpp": "KoboldCpp"}.get(question.engine)
    served = (
        question.engine == "ollama" and ollama_releases.version_of(question.version) >= ollama_releases.SERVER_SINCE
    )
    if own and not served:
        return _fewer_layers(tried, 0, own) if tried.placement.layers is None else None
    if not (served or _has_fit(question)):
        return None
    if (
        not served
        and question.options.ctx_size is None
        and not any(flag.name in ("-c", "--ctx-size") for flag in question.flags)
    ):
        found = _shorter_context(tried)
        if found is not None:
            return found
        tried = replace(tried, question=tried.with_length(FIT_LEAST_TOKENS))
    if tried.placement != replace(Placement(), split=tried.placement.split, shares=tried.placement.shares):
        return None  # the command says itself what is where
    dealt_out = replace(tried, question=replace(tried.question, placement=replace(tried.placement, fill=True)))
    free = 0 if tried.given > 1 else FIT_LEAVES_BYTES  # dealing leaves as much on every card by itself
    experts = _fewest_experts(dealt_out, free)
    if experts is not None:
        dealt = ", and as many layers on each card as it holds" if tried.given > 1 else ""
        words = f"--fit keeps the experts of {experts} layers on the host, as --n-cpu-moe {experts}{dealt}"
        return dealt_out.with_experts(experts), words
    return _fewer_layers(tried, FIT_LEAVES_BYTES, "--fit")


def _has_fit(question: Question) -> bool:
    """Whether the program is a llama-server, or its like, with --fit on."""
    off = {flag.name for flag in question.flags if flag.value.strip().lower() in ("off", "0", "false")}
    build = (parse_version(question.version) if question.version else None) or (FIT_SINCE,)
    new = question.engine == "llamacpp" and question.said != "llama-bench" and build[0] >= FIT_SINCE
    return new and not off & {"-fit", "--fit"}


def _shorter_context(tried: Tried) -> tuple[Question, str] | None:
    """The longest context that leaves room free, in steps of 256; None below the shortest that --fit takes."""

    def holds(n: int) -> bool:
        return tried.starts(tried.with_length(256 * n), FIT_LEAVES_BYTES)

    tokens = 256 * largest(holds, tried.tokens // 256)
    if tokens < min(FIT_LEAST_TOKENS, tried.tokens):
        return None
    return tried.with_length(tokens), f"no -c: --fit takes a context of {human_tokens(tokens)} tokens, what fits"


def _fewer_layers(tried: Tried, free: int, who: str) -> tuple[Question, str] | None:
    count = len(tried.spec.layers)
    most = largest(lambda n: tried.starts(tried.with_layers(n), free), count)
    if not most and not tried.starts(tried.with_layers(0), free):
        return None
    return tried.with_layers(most), f"{who} keeps {most} of {count} layers on the device, the rest on the host"
