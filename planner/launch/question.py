"""What a start command asks, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.engines.base import Options
from planner.engines.placement import Placement


@dataclass(frozen=True)
class Said:
    """One flag or variable of the text, as it is shown: never with a secret.

    kind     used, matters (it changes what is not counted), no effect, or not known
    effect   what a flag that matters changes
    """

    name: str
    value: str
    kind: str
    effect: str = ""

    def text(self) -> str:
        """The flag with its value, for people."""
        joined = "=" if not self.name.startswith("-") else " "
        return f"{self.name}{joined}{self.value}" if self.value else self.name


TABLES_DRAFT = ("ngram", "suffix")  # drafts out of the text itself: no model, no cache


@dataclass(frozen=True)
class Drafting:
    """Speculative decoding as the command asks for it.

    method   mtp, eagle, eagle3, ngram, model ... as the engine calls it, in small letters; "" where it does not say
    model    the draft model by name
    tokens   drafted in one step, None for the engine's own default
    """

    method: str = ""
    model: str | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Adapters:
    """LoRA adapters that the server has room for: so many of a rank."""

    count: int
    rank: int


@dataclass(frozen=True)
class Question:
    """A start command as a question: which model, on which engine, in which layout, with which limits.

    engine         a name of planner.engines.registry
    said           the program, for people: `vllm serve`
    version        of the engine, where the text names one
    model          as the text names it
    weights        --quantization or the quantization in a file's name, as written; None: as the model is published
    usual_weights  of the program, where neither the text nor the model's name says any
    dtype          the float type it runs in, as written
    k_dtype, v_dtype   of the cache, as written; None: the engine's default
    ep             expert-parallel ranks
    devices        how many the text leaves visible, None where it does not say
    requests       sequences at once that the text asks for (-np, a batch of llama-bench); None where it does not
    seq_tokens     tokens of one request, where the text sets a limit
    pool_tokens    most tokens of the pool, whatever fits (SGLang --max-total-tokens)
    options        the engine's own flags
    flags, environment   every one of them, named
    notes          what was understood of the text beside its flags
    device         what a manifest wants its nodes to have, "" where it does not say
    backend        of llama.cpp, where the text names one: vulkan, cuda
    """

    engine: str
    said: str
    version: str | None = None
    model: str | None = None
    weights: str | None = None
    usual_weights: str | None = None
    dtype: str | None = None
    k_dtype: str | None = None
    v_dtype: str | None = None
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    dcp: int = 1
    devices: int | None = None
    requests: int | None = None
    seq_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    options: Options = field(default_factory=Options)
    drafting: Drafting | None = None
    adapters: Adapters | None = None
    placement: Placement | None = None
    projector: str | None = None
    overhead_bytes: int = 0
    pool_tokens: int | None = None
    flags: tuple[Said, ...] = ()
    environment: tuple[Said, ...] = ()
    notes: tuple[str, ...] = ()
    where: str = ""
    device: str = ""
    backend: str | None = None
