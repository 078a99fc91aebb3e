"""SGLang's pool of recurrent states: how many fit, how many one request holds, and what drafts take beside them.

Sources: sglang `profile_max_num_token` of 0.5.2 and 0.5.3; `handle_max_mamba_cache` of 0.5.4 to 0.5.6, 0.5.8, 0.5.12 to
0.5.15; `kv_cache_configurator.py` of 0.5.18 to 0.5.23; `_mamba_radix_cache_resolution` for the strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from planner.dtypes.names import FLOAT_BYTES
from planner.engines.base import Options, Version, caches_of
from planner.engines.drafting import draft_tokens
from planner.errors import UnsupportedModel
from planner.memory.estimate import Estimate
from planner.model.recurrent import CONVOLVED, CONVOLVED_IN_TURNS, FOUR_CONVOLUTIONS, FOUR_CONVOLUTIONS_2, Recurrent

MAMBA_RATIO = Fraction(9, 10)
INKLING_RATIO = Fraction(1, 10)  # of its states and of its windows (`arg_groups/model_overrides/inkling.py`)
UNSHARED_STATES = 512  # max_mamba_cache_size where no prefix is shared and no flag says how many requests run
DRAFTING_REQUESTS = 48  # max_running_requests of a server that drafts
SHARED_SINCE: Version = (0, 5, 4)  # prefixes of states are kept, and the pool is sized by the ratio
SCRATCH_SINCE: Version = (0, 5, 7)  # drafts write into states of their own, one set a running request
JOINT_SINCE: Version = (0, 5, 13)  # states and that scratch are solved for together
BUFFERED_SINCE: Version = (0, 5, 14)  # mamba_radix_cache_strategy auto: extra_buffer where the type has it
PADDED_SINCE: Version = (0, 5, 18)  # a slot more that is never handed out
SHARED_HELD, BUFFERS, LAZY_BUFFERS = 3, 2, 1
# Types whose auto is extra_buffer (`_MAMBA_EXTRA_BUFFER_ARCHS`); Kimi's since a later release than the others.
BUFFERED_TYPES = ("qwen3_5", "qwen3_next", "falcon_h1", "granitemoehybrid", "nemotron_h", "bailing_moe", "minicpmv4")
BUFFERED_LATER_TYPES = ("kimi_linear", "kimi_k3", "qwen4", "glm5_next", "inkling")


UNREAD_STATES = {
    CONVOLVED: "SGLang reads Zaya's older form alone (the -legacy repositories)",
    FOUR_CONVOLUTIONS_2: "SGLang does not read Inkling 2",
}


@dataclass(frozen=True)
class StateRule:
    """How a release shares a budget between recurrent states and tokens.

    drafts   tokens that a step proposes, 0 without a drafter
    held     slots that the server reserves for each running request
    fixed    slots where a flag or an old default says how many, whatever fits; None where the ratio decides
    running  most requests at once that the scratch of drafts is made for
    ratio    bytes of states for each byte of tokens
    """

    version: Version
    drafts: int
    held: int
    fixed: int | None
    running: int
    ratio: Fraction = MAMBA_RATIO

    def split(self, size: int, state: int) -> tuple[int, int]:
        """Returns (slots, bytes that they and the drafts' scratch take of `size`) where one request's state has `state` bytes.

        slots = budget / state, budget = size · ratio / (1 + ratio); with D drafts and h slots a request, from 0.5.13,
        slots = budget / (state · (1 + D / h)).

        >>> StateRule((0, 5, 23), 0, 3, None, 48).split(1900, 10)
        (89, 900)
        >>> StateRule((0, 5, 2), 0, 1, 512, 2048).split(1900, 10)      # more than there is: the server does not start
        (512, 5120)
        """
        one, pad = state * (1 + self.drafts), int(self.version >= PADDED_SINCE)
        if self.version < SCRATCH_SINCE:
            slots = self._budget(size) // one if self.fixed is None else self.fixed
            return slots, slots * one
        if self.version < JOINT_SINCE:
            scratch = state * self.running * self.drafts
            slots = self._budget(size - scratch) // state if self.fixed is None else self.fixed
            return slots, scratch + slots * state
        if self.fixed is not None:
            return self.fixed, self._taken(self.fixed, state, pad=pad) + pad * state
        slots = max(0, int((self._budget(size) - pad * one) // (state * (1 + Fraction(self.drafts, self.held)))))
        return slots, self._taken(slots, state, pad=pad) + pad * state

    def requests(self, slots: int) -> int:
        """Counts the requests that may run at once."""
        return slots // self.held

    def said(self) -> str:
        """Says in words how many slots there are, and how many a request takes."""
        slots = "recurrent states get a pool of their own before the tokens"
        if self.fixed is not None:
            slots += f": {self.fixed:,} slots, whatever fits"
        held = "" if self.held == 1 else f"; a running request takes {self.held} (--disable-radix-cache: 1)"
        return slots + held + (f", and its drafts {self.drafts} beside" if self.drafts else "")

    def _budget(self, size: int) -> int:
        return int(max(0, size) * self.ratio / (1 + self.ratio))

    def _taken(self, slots: int, state: int, *, pad: int) -> int:
        return slots * state + state * self.drafts * (min(self.running, self.requests(slots)) + pad)


def state_rule(estimate: Estimate, options: Options, version: Version) -> StateRule:
    """Reads the rule of a release off the flags: --max-mamba-cache-size, --max-running-requests, --disable-radix-cache,
    --mamba-full-memory-ratio and --mamba-radix-cache-strategy.
    """
    drafts = draft_tokens(estimate, options)
    shared = version >= SHARED_SINCE and not options.disable_radix_cache
    replicas = estimate.request.sharding.dp if options.enable_dp_attention else 1
    running = options.max_running_requests or (DRAFTING_REQUESTS if drafts else None)
    fixed = options.state_slots
    if fixed is None and not shared and (running is not None or version < JOINT_SINCE):
        fixed = running or UNSHARED_STATES
    return StateRule(
        version=version,
        drafts=drafts,
        held=_held(estimate, options, version) if shared else 1,
        fixed=None if fixed is None else max(1, fixed // replicas),
        running=max(1, (running or UNSHARED_STATES) // replicas),
        ratio=_ratio(estimate) if options.mamba_ratio is None else options.mamba_ratio,
    )


def _ratio(estimate: Estimate) -> Fraction:
    return INKLING_RATIO if estimate.spec.model_type.startswith("inkling") else MAMBA_RATIO


def _held(estimate: Estimate, options: Options, version: Version) -> int:
    """Slots a request with shared prefixes: 3, and 2 more where states are copied while the next step runs."""
    strategy = options.mamba_strategy or "auto"
    if strategy == "auto":
        types = BUFFERED_TYPES + (BUFFERED_LATER_TYPES if version >= PADDED_SINCE else ())
        buffered = version >= BUFFERED_SINCE and estimate.spec.model_type.startswith(types)
        strategy = "extra_buffer" if buffered else "no_buffer"
    return SHARED_HELD + {"extra_buffer": BUFFERS, "extra_buffer_lazy": LAZY_BUFFERS}.get(strategy, 0)


def inkling_state_bytes(cache: Recurrent, estimate: Estimate) -> int:
    """Counts the state of one of Inkling's layers: (kernel - 1) columns in bf16 of k and v as of both kinds of layers,
    whichever this one is, and of two outputs. Source: SGLang 0.5.23 configs/inkling.py, `mamba2_cache_params`.
    """
    found = [c for c in caches_of(estimate) if isinstance(c, Recurrent) and c.label == cache.label]
    keys = {c.parts[0].elements for c in found}  # one where both kinds are equally wide
    both = sum(keys) if len(keys) > 1 else 2 * sum(keys)
    elements, kernel = both + cache.parts[1].elements, cache.parts[0].columns
    return 2 * elements // kernel * (kernel - 1)


def state_bytes(cache: Recurrent, estimate: Estimate) -> int:
    """Counts a layer's state: conv (columns - 1) in the model's dtype, the rest fp32 (`mamba_ssm_dtype`, its default); Zaya's are all conv."""
    if why := UNREAD_STATES.get(cache.label):
        raise UnsupportedModel(f"{estimate.spec.name}: {why}")
    if cache.label == CONVOLVED_IN_TURNS:
        return cache.state_bytes(estimate.fmt)
    if cache.label == FOUR_CONVOLUTIONS:
        return inkling_state_bytes(cache, estimate)
    two = estimate.fmt.model_dtype_bytes
    return sum(
        part.elements // part.columns * (part.columns - 1) * two
        if part.columns
        else part.elements * FLOAT_BYTES["fp32"]
        for part in cache.parts
    )
