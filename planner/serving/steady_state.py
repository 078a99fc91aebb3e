"""A serving replica in its steady state: how many sequences decode at once, TPOT, TTFT, and the load it can carry.

The step model (`planner.speed.step`) says how long one step of n decoding sequences takes, with or without a piece of a
prompt in it. Little's law says how many sequences there are. Together:

    x        time that one request's prompt adds to the steps that hold its pieces
    d(n)     a step that decodes n sequences
    TPOT(n)  = d(n) + n·x / steps          each decoding sequence waits for the prompts that arrive meanwhile
    rate(n)  = n / (steps · TPOT(n))       Little's law for the decoding sequences, steps = output - 1

TPOT(n) follows from: a request decodes `steps` steps, of which the prompts of others take the share rate·x of the
time, so TPOT = d / (1 - rate·x). Both grow with n, so a load has one n.

TTFT is what is left of the running step, the prompt's own steps, and waiting: for prompts before it, as M/G/1 with
the Pollaczek-Khinchine mean, and for room among `most` sequences, as M/G/c with Sakasegawa's approximation (Sakasegawa
1977; exact for M/M/1). Percentiles take the waiting time as zero or exponential. It is an approximation: the
simulator (`kvplan simulate`) plays the requests one by one.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

from planner.frozen import dataclass
from planner.speed.step import StepModel, step_ps
from planner.units import PS_PER_SECOND
from planner.workloads.arrivals import cached_tokens
from planner.workloads.load import Load

GRID = tuple(4**power for power in range(16))  # the prompts' share of a step is computed at so many sequences
NEARLY_FULL = 0.995  # prompts that fill more of the time than this pile up
BISECTIONS = 40

Piece = tuple[int, int]
"""New tokens, and tokens of the same prompt before them."""


@dataclass(frozen=True)
class State:
    """A replica under its share of the load.

    decoding       sequences that decode, on average
    seen           sequences in the steps of one that decodes: itself and the others
    waiting        requests that wait for room, on average (closed loop: users beyond `most`)
    prefill_share  share of the time that goes into prompts
    utilisation    rate over the rate at which the replica is full
    """

    users: float
    rate_per_s: float
    decoding: float
    seen: float
    waiting: float
    step_seconds: float
    tpot_seconds: float
    ttft_seconds: float
    ttft_mean_seconds: float
    prefill_seconds: float
    prefill_share: float
    utilisation: float


class _Prompt(NamedTuple):
    """What a prompt adds to the steps that hold it: its full pieces, and the last one alone or beside another's."""

    full_seconds: float
    alone_seconds: float
    shared_seconds: float
    steps: int

    def added_seconds(self, alone: float) -> float:
        """Returns what a prompt adds to the steps: its last piece from as beside another's (`alone` 0) to as alone (1)."""
        return self.full_seconds + self.shared_seconds - alone * (self.shared_seconds - self.alone_seconds)


@dataclass(frozen=True)
class FirstToken:
    """The time to the first token: what comes first, the prompt's own steps by share and on average, and waiting.

    wait_seconds   on average; it is 0 with probability 1 - chance, else exponential
    """

    first_seconds: float
    own: list[tuple[float, float]]
    own_seconds: float
    wait_seconds: float
    chance: float

    @property
    def mean_seconds(self) -> float:
        return self.first_seconds + self.wait_seconds + self.own_seconds

    def quantile_seconds(self, share: float) -> float:
        return self.first_seconds + _quantile(self.own, self.wait_seconds, self.chance, share=share)


class Moment(NamedTuple):
    """A replica at n decoding sequences: d, x and TPOT in seconds, and requests a second."""

    step_seconds: float
    added_seconds: float
    tpot_seconds: float
    rate_per_s: float


class Replica:
    """One replica of a model: its step model, the load's lengths, and what bounds it.

    chunk_tokens    prompt tokens of one step, at most
    most            sequences that decode at once, at most
    share           of the requests that the TTFT is said for
    before_seconds  a request's way in, before its prompt runs
    queue_scale     the waiting is multiplied by this: what points measured under load showed beside the formula
    slower          all times of steps are multiplied by this (the ends of a range)
    """

    def __init__(
        self,
        model: StepModel,
        load: Load,
        *,
        chunk_tokens: int,
        most: int,
        share: float = 0.95,
        before_seconds: float = 0.0,
        queue_scale: float = 1.0,
        slower: float = 1.0,
    ) -> None:  # parameters: the quantities of its equation, each by name
        self.model, self.load, self.chunk_tokens, self.most = model, load, chunk_tokens, most
        self.share, self.before_seconds, self.slower = share, before_seconds, slower
        self.queue_scale = queue_scale
        self.reached = [
            sum(
                held.share * (held.tokens if reach is None else min(held.tokens, reach)) for held in load.held_sequences
            )
            for reach in model.reaches
        ]
        self._steps: dict[int, float] = {}
        self._prompts: dict[int, tuple[_Prompt, ...]] = {}
        self._means: dict[int, _Prompt] = {}
        self._moments: dict[tuple[float, float], Moment] = {}
        self._durations: dict[tuple[int, tuple[Piece, ...]], int] = {}  # of steps, by what is in them

    def slowed(self, factor: float) -> Replica:
        """The same replica with steps `factor` times as long."""
        other = Replica(
            self.model, self.load, chunk_tokens=self.chunk_tokens, most=self.most, share=self.share,
            before_seconds=self.before_seconds, queue_scale=self.queue_scale, slower=self.slower * factor,
        )  # fmt: skip
        other._durations = self._durations
        return other

    # Steps

    def _step(self, sequences: int, chunks: tuple[Piece, ...] = ()) -> float:
        found = self._durations.get((sequences, chunks))
        if found is None:
            reached = [round(sequences * mean) for mean in self.reached]
            found = step_ps(self.model, sequences, reached, chunks=chunks)
            self._durations[sequences, chunks] = found
        return self.slower * found / PS_PER_SECOND

    def decode_seconds(self, sequences: float) -> float:
        """Returns d(n), the seconds of a step without prompts; n need not be whole."""
        low = max(1, math.floor(sequences))
        share = max(0.0, sequences - low)
        for n in (low, low + 1) if share else (low,):
            if n not in self._steps:
                self._steps[n] = self._step(n)
        return self._steps[low] + (share * (self._steps[low + 1] - self._steps[low]) if share else 0.0)

    def _prompts_at(self, sequences: int) -> tuple[_Prompt, ...]:
        """Each bin of prompts, beside so many decoding sequences."""
        if sequences not in self._prompts:
            alone = self._step(sequences)
            self._prompts[sequences] = tuple(
                self._prompt(item.tokens, cached_tokens(item.tokens, self.load.prefix_share), sequences, alone=alone)
                for item in self.load.prompts
            )
        return self._prompts[sequences]

    def _prompt(self, tokens: int, hit: int, sequences: int, *, alone: float) -> _Prompt:
        """What a prompt adds to steps of so many sequences, of which one takes `alone`; the rest of a prompt once by
        itself and once with another's."""
        whole, rest = pieces(tokens, hit, self.chunk_tokens)
        full = first = second = 0.0
        for count, piece in whole:
            full += count * (self._step(sequences, (piece,)) - alone)
        if rest is not None:
            one = self._step(sequences, (rest,))
            first, second = one - alone, self._step(sequences, (rest, rest)) - one
        return _Prompt(full, first, second, sum(count for count, _ in whole) + (rest is not None))

    def prompts(self, decoding: float, others: float) -> list[tuple[float, int]]:
        """(x, steps) of each bin at n decoding sequences; between the points of GRID on lines.

        A step hides part of a piece's work behind the weights that it reads anyway. Pieces that arrive during one
        step share the next, and what is hidden counts once: with y pieces to a step, Poisson, a piece hides
        (1 - exp(-y)) / y of that.
        """
        alone = self._alone(decoding, others)
        low, high, share = self._between(decoding, others)
        return [
            (a.added_seconds(alone) * (1 - share) + b.added_seconds(alone) * share, a.steps)
            for a, b in zip(self._prompts_at(low), self._prompts_at(high), strict=True)
        ]

    def _alone(self, decoding: float, others: float) -> float:
        """(1 - exp(-y)) / y of the y pieces that come in one step."""
        pieces = others * decoding / self.load.decode_steps
        return -math.expm1(-pieces) / pieces if pieces > 1e-9 else 1.0

    def _between(self, decoding: float, others: float) -> tuple[int, int, float]:
        """The points of GRID around n, and how far n is from the lower one to the upper."""
        n = max(1.0, self._seen(decoding, others))
        place = bisect_right(GRID, n * (1 + 1e-9))
        low, high = GRID[place - 1], GRID[place]
        share = (n - low) / (high - low)
        return (low, high, share) if share > 1e-9 else (low, low, 0.0)

    # The state at n decoding sequences

    def at(self, decoding: float, others: float = 1.0) -> Moment:
        """Returns d, x, TPOT and the rate at n decoding sequences, by the equations above; `others` is 1, or
        (users - 1) / users in a closed loop.
        """
        asked = decoding, others
        found = self._moments.get(asked)
        if found is None:
            alone = self._alone(decoding, others)
            low, high, share = self._between(decoding, others)
            added = self._mean_prompt(low).added_seconds(alone)
            if share:
                added += share * (self._mean_prompt(high).added_seconds(alone) - added)
            step, steps = self.decode_seconds(self._seen(decoding, others)), self.load.decode_steps
            tpot = step + others * decoding * added / steps
            found = self._moments[asked] = Moment(step, added, tpot, decoding / (steps * tpot))
        return found

    def added_seconds(self, decoding: float, others: float = 1.0) -> float:
        """Returns x, what one request's prompt adds to the steps on average."""
        return self.at(decoding, others).added_seconds

    def _mean_prompt(self, sequences: int) -> _Prompt:
        """All bins together."""
        if sequences not in self._means:
            full = first = second = 0.0
            for prompt, item in zip(self._prompts_at(sequences), self.load.prompts, strict=True):
                full += prompt.full_seconds * item.share
                first += prompt.alone_seconds * item.share
                second += prompt.shared_seconds * item.share
            self._means[sequences] = _Prompt(full, first, second, 0)
        return self._means[sequences]

    def cached_share(self, decoding: float) -> float:
        """The part of x that goes into attending to cached tokens: what new tokens standing alone would not take."""
        if not self.load.cached_tokens:
            return 0.0
        n = max(1, round(decoding))
        alone = self._step(n)
        bare = whole = 0.0
        for item in self.load.prompts:
            hit = cached_tokens(item.tokens, self.load.prefix_share)
            bare += item.share * self._prompt(item.tokens - hit, 0, n, alone=alone).added_seconds(1.0)
            whole += item.share * self._prompt(item.tokens, hit, n, alone=alone).added_seconds(1.0)
        return max(0.0, 1 - bare / whole)

    def _seen(self, decoding: float, others: float) -> float:
        """Sequences in the step of one that decodes: itself, and the others as an outsider would find them."""
        return min(float(self.most), 1 + others * decoding)

    def tpot_seconds(self, decoding: float, others: float = 1.0) -> float:
        """Returns TPOT(n) = d(1 + others·n) + others·n·x / steps."""
        return self.at(decoding, others).tpot_seconds

    def rate_per_s(self, decoding: float, others: float = 1.0) -> float:
        """Requests a second at which so many decode on average."""
        return self.at(decoding, others).rate_per_s

    def prefill_share(self, decoding: float, others: float = 1.0) -> float:
        """Share of the time in steps that hold prompts, where pieces of several prompts fill one step."""
        found = self.at(decoding, others)
        return found.rate_per_s * (found.added_seconds + self.new_tokens / self.chunk_tokens * found.step_seconds)

    @cached_property
    def new_tokens(self) -> float:
        return self.load.prompt_tokens - self.load.cached_tokens

    def held(self, decoding: float, others: float = 1.0) -> float:
        """Sequences that the pool holds, in decoding ones: prompts under way hold half of themselves on average."""
        found = self.at(decoding, others)
        under_way = sum(
            (added + steps * found.step_seconds) * item.share * item.tokens
            for (added, steps), item in zip(self.prompts(decoding, others), self.load.prompts, strict=True)
        )
        return decoding + found.rate_per_s * under_way / (2 * self.held_tokens)

    @cached_property
    def held_tokens(self) -> float:
        """Returns the tokens that a decoding sequence holds on average."""
        return sum(held.tokens * held.share for held in self.load.held_sequences)

    @cached_property
    def full(self) -> float:
        """Returns how many sequences decode when nothing more goes in: the pool is full, or prompts fill the time."""

        def over(n: float) -> float:
            return max(self.prefill_share(n) - NEARLY_FULL, self.held(n) / self.most - 1)

        return root(over, 0.0, float(self.most))

    @cached_property
    def full_rate_per_s(self) -> float:
        return self.rate_per_s(self.full)

    def ttft(self, decoding: float, others: float = 1.0, closed: bool = False) -> FirstToken:
        """The time to the first token while there is room."""
        step, x, tpot, rate = self.at(decoding, others)
        own, mean, square = [], 0.0, 0.0
        for (added, steps), item in zip(self.prompts(decoding, others), self.load.prompts, strict=True):
            seconds = added + steps * step
            own.append((seconds, item.share))
            mean += seconds * item.share
            square += seconds**2 * item.share
        held = min(1.0, rate * mean)
        busy = min(NEARLY_FULL, self.prefill_share(decoding, others))
        queue = rate * square / (2 * (1 - busy))
        first = self.before_seconds
        if closed and not self.load.think_seconds:
            # The next request comes as an answer ends, between two steps, with those of others whose answers end there.
            filled = min(1.0, rate * tpot * self.new_tokens / self.chunk_tokens)
            wait, chance = others * (rate * tpot * x + filled * queue), others * held
        else:
            current = rate * square + (1 - held) * step  # the step that an arrival finds: long ones more often
            beside = rate * current / 2 * x  # pieces that come later and share its step
            wait, chance = others * (queue + beside), others * held
            first += (1 - held) * step / 2 * min(1.0, others * decoding)
        wait *= self.queue_scale
        if not closed:  # users that each have one request never exceed the room that there is
            room, likely = self._wait_for_room(decoding)
            wait, chance = wait + room, max(chance, likely)
        return FirstToken(first, own, mean, wait, chance)

    def _wait_for_room(self, decoding: float) -> tuple[float, float]:
        """Sakasegawa: W = S·(1 + cv²)/2 · ρ^(√(2(c + 1)) - 1) / (c·(1 - ρ)), and about how likely a wait is."""
        ratio = min(self.held(decoding) / self.most, 0.9999)
        likely = ratio ** (math.sqrt(2 * (self.most + 1)) - 1)
        held = self.load.decode_steps * self.tpot_seconds(decoding)
        spread = (1 + self.load.output_spread) / 2
        return held * spread * likely / (self.most * (1 - ratio)), likely

    # The state under a load

    def at_rate(self, rate_per_s: float) -> State | None:
        """Requests that arrive at random; None where they are more than the replica can carry."""
        if rate_per_s >= self.full_rate_per_s:
            return None
        decoding = root(lambda n: self.rate_per_s(n) - rate_per_s, 0.0, self.full)
        found = self.ttft(decoding)
        mean, at_share = found.mean_seconds, found.quantile_seconds(self.share)
        tpot = self.tpot_seconds(decoding)
        users = rate_per_s * (mean + self.load.decode_steps * tpot + self.load.think_seconds)
        return self._state(users, rate_per_s, decoding, waiting=0.0, others=1.0, mean=mean, at_share=at_share)

    def at_users(self, users: int) -> State:
        """Users who send their next request `think_seconds` after an answer: they wait rather than overload it."""
        others = (users - 1) / users

        def all_users(n: float) -> float:
            took = (
                self.ttft(n, others, closed=True).mean_seconds
                + self.load.decode_steps * self.tpot_seconds(n, others)
                + self.load.think_seconds
            )
            return self.rate_per_s(n, others) * took

        full = min(self.full, float(users))
        if all_users(full) > users:
            decoding = root(lambda n: all_users(n) - users, 0.0, full)
            found = self.ttft(decoding, others, closed=True)
            mean, at_share = found.mean_seconds, found.quantile_seconds(self.share)
            return self._state(
                users,
                self.rate_per_s(decoding, others),
                decoding,
                waiting=0.0,
                others=others,
                mean=mean,
                at_share=at_share,
            )
        rate = self.rate_per_s(full, others)
        decode = self.load.decode_steps * self.tpot_seconds(full, others)
        found = self.ttft(full, others, closed=True)
        mean, at_share = found.mean_seconds, found.quantile_seconds(self.share)
        queued = max(0.0, users / rate - decode - self.load.think_seconds - mean)
        return self._state(
            users, rate, full, waiting=queued * rate, others=others, mean=mean + queued, at_share=at_share + queued
        )

    def _state(
        self, users: float, rate: float, decoding: float, *, waiting: float, others: float, mean: float, at_share: float
    ) -> State:  # parameters: the quantities of its equation, each by name
        seen = self._seen(decoding, others)
        step = self.decode_seconds(seen)
        own = sum(
            (added + steps * step) * item.share
            for (added, steps), item in zip(self.prompts(decoding, others), self.load.prompts, strict=True)
        )
        return State(
            users=users,
            rate_per_s=rate,
            decoding=decoding,
            seen=seen,
            waiting=waiting,
            step_seconds=step,
            tpot_seconds=self.tpot_seconds(decoding, others),
            ttft_seconds=at_share,
            ttft_mean_seconds=mean,
            prefill_seconds=own,
            prefill_share=min(1.0, rate * self.added_seconds(decoding, others)),
            utilisation=min(1.0, rate / self.full_rate_per_s),
        )


def pieces(tokens: int, hit: int, chunk_tokens: int) -> tuple[list[tuple[int, Piece]], Piece | None]:
    """Cuts what is new of a prompt, behind `hit` cached tokens, into (how many, full piece) and the rest that fills none.

    The first full piece has what a request costs on its way in; the others cost a line in the tokens before them, so the
    middle one stands for all of them.

    >>> pieces(1000, 100, 256)
    ([(1, (256, 100)), (2, (256, 484))], (132, 868))
    >>> pieces(64, 0, 256)
    ([], (64, 0))
    """
    whole, rest = divmod(tokens - hit, chunk_tokens)
    full = [(1, (chunk_tokens, hit))] if whole else []
    full += [(whole - 1, (chunk_tokens, hit + whole * chunk_tokens // 2))] if whole > 1 else []
    return full, (rest, hit + whole * chunk_tokens) if rest else None


def root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Finds where a rising function passes zero, or the end that is nearer where it does not.

    Chandrupatla (1997): inverse quadratic interpolation where three points lie well for it, the middle where not.
    """
    a, b = high, low
    of_a, of_b = rising(a), rising(b)
    if of_b >= 0 or of_a <= 0:
        return low if of_b >= 0 else high
    c, of_c, share = a, of_a, 0.5
    for _ in range(2 * BISECTIONS):
        x = a + share * (b - a)
        of_x = rising(x)
        if (of_x < 0) == (of_a < 0):
            c, of_c = a, of_a
        else:
            c, of_c, b, of_b = b, of_b, a, of_a
        a, of_a = x, of_x
        least = 0.5e-6 * max(abs(a), abs(b)) / abs(b - a)
        if least > 0.5 or not of_a:
            break
        across, up = (a - b) / (c - b), (of_a - of_b) / (of_c - of_b)
        share = 0.5
        if up**2 < across and (1 - up) ** 2 < 1 - across:
            share = of_a / (of_b - of_a) * of_c / (of_b - of_c) + (c - a) / (b - a) * of_a / (of_c - of_a) * of_b / (
                of_c - of_b
            )
        share = min(max(share, least), 1 - least)
    return a if abs(of_a) < abs(of_b) else b


def _quantile(own: Sequence[tuple[float, float]], wait: float, chance: float, *, share: float) -> float:
    """The `share` quantile of own + waiting, where waiting is 0 with 1 - chance and else exponential of mean wait.

    P(T <= t) = Σ share_i · (1 - chance·exp(-(t - own_i)·chance / wait)) over the own_i below t.

    >>> round(_quantile([(1.0, 1.0)], 0.5, 0.5, share=0.95), 4)     # 1 + ln(0.5 / 0.05) · (0.5 / 0.5)
    3.3026
    >>> _quantile([(1.0, 0.9), (5.0, 0.1)], 0.0, 0.0, share=0.95)
    5.0
    """
    if wait <= 0 or chance <= 0:
        below = 0.0
        for seconds, part in sorted(own):
            below += part
            if below >= share - 1e-9:
                return seconds
        return max(seconds for seconds, _ in own)
    scale = wait / chance

    def reached(t: float) -> float:
        return sum(part * (1 - chance * math.exp(-(t - s) / scale)) for s, part in own if t >= s)

    high = max(seconds for seconds, _ in own) + scale * (3 + math.log(1 / (1 - share)))
    return root(lambda t: reached(t) - share, 0.0, high)
