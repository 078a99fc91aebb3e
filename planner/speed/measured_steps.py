"""A replica's steps from what was measured of the engine itself: time by batch, and prefill time by length.

    step(n decoding, chunks) = decode(n) + Σ chunks prefill(c) + cached tokens beyond those measured

`decode` and `prefill` are tables with straight lines between measured places; a step that does both takes both. What a
cached token adds to a decode step was not measured (static batches have one length): its bytes, at the bandwidth that
the step of one sequence reached. What it adds to a later chunk of a prompt is measured by prompts of several chunks.

The model of operators that scales a bound (`planner.speed.step_model`) says how a step grows on a device that nobody
measured; where batches were measured, their growth is that of the engine, its threads and its scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

from planner.errors import BadRequest
from planner.files.read import parse_json
from planner.speed.step import StepTerms
from planner.speed.work import Work, decode_of
from planner.units import PS_PER_SECOND

Points = tuple[tuple[int, float], ...]
FORM = '{"decode_ms": {"1": 16.4, "8": 21.8}, "decode_context": 80, "prefill_ms": {"64": 48, "512": 314}, "chunk_tokens": 512}'


@dataclass(frozen=True)
class MeasuredSteps:
    """A StepModel (`planner.speed.step`) from measured points.

    decode          (sequences, seconds of a step), by sequences
    context_tokens  mean context of those steps
    prefill         (prompt tokens, seconds to the first token with nothing else running), by tokens
    chunk_tokens    prompt tokens of one step when they were measured
    sums            the model's bytes
    """

    decode: Points
    context_tokens: int
    prefill: Points
    chunk_tokens: int
    sums: Work

    @property
    def reaches(self) -> tuple[int | None, ...]:
        """The window of each kind of attention layer."""
        return tuple(read.reach for read in self.sums.reads)

    @cached_property
    def kv_ps(self) -> tuple[int, ...]:
        """Time to read one cached token: its bytes at the bandwidth that the smallest batch reached."""
        sequences, seconds = self.decode[0]
        step = decode_of(self.sums, sequences, self.context_tokens, last_tokens=self.context_tokens)
        return tuple(_ps(read.token_bytes * seconds / step.read_bytes) for read in self.sums.reads)

    @property
    def score_ps(self) -> tuple[int, ...]:
        """Returns zeros: the time to compute with one cached token is part of `kv_ps`."""
        return (0,) * len(self.sums.reads)

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """Lists the terms of a step, which add up: the engine was measured step by step, not operator by operator.

        A step of `sequences` was measured at `context_tokens` each; what the simulator adds for each cached token is
        taken off there.
        """
        total = 0
        if sequences:
            reached = (min(self.context_tokens, reach or self.context_tokens) for reach in self.reaches)
            measured = sum(ps * tokens for ps, tokens in zip(self.kv_ps, reached, strict=True))
            total += max(0, _ps(on_line(self.decode, sequences)) - sequences * measured)
        total += sum(_ps(self.chunk_seconds(tokens, before)) for tokens, before in chunks)
        return StepTerms(0, total, 0)

    @cached_property
    def _first_chunks(self) -> Points:
        """Prompts of one step; two at least."""
        short = tuple(point for point in self.prefill if point[0] <= self.chunk_tokens)
        return short if len(short) > 1 else self.prefill[:2]

    @cached_property
    def pair_seconds(self) -> float:
        """Least squares of the longer prompts: what their later chunks take beside the same tokens at the start."""
        above = below = 0.0
        for tokens, seconds in self.prefill:
            if tokens > self.chunk_tokens:
                whole, rest = divmod(tokens, self.chunk_tokens)
                pieces = [self.chunk_tokens] * whole + [rest] * bool(rest)
                alone = sum(on_line(self._first_chunks, piece) for piece in pieces)
                pairs = sum(piece * i * self.chunk_tokens for i, piece in enumerate(pieces))
                above, below = above + pairs * (seconds - alone), below + pairs**2
        return max(0.0, above / below) if below else 0.0

    def chunk_seconds(self, tokens: int, before: int) -> float:
        """A step of one chunk and nothing else, after `before` cached tokens."""
        return on_line(self._first_chunks, tokens) + self.pair_seconds * tokens * before


def on_line(points: Points, x: float) -> float:
    """Reads a value off the straight lines between measured points. The outer lines go on beyond the first and the last
    point, never below zero.

    >>> on_line(((1, 10.0), (3, 20.0)), 2), on_line(((1, 10.0), (3, 20.0)), 5), on_line(((4, 8.0),), 9)
    (15.0, 30.0, 8.0)
    """
    if len(points) == 1:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1 or (x1, y1) == points[-1]:
            return max(0.0, y0 + (x - x0) * (y1 - y0) / (x1 - x0))
    raise AssertionError(x)


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_SECOND)


def measured_steps(text: str, where: str, sums: Work) -> MeasuredSteps:
    """Reads measured step times from a JSON file: milliseconds by sequences and by prompt tokens; BadRequest for
    anything else.

    `sums`: the model's work, for what a cached token adds.
    """
    try:
        raw = parse_json(text, where, error=BadRequest)
        decode, prefill = (_points(raw[key], f"{where}: {key}") for key in ("decode_ms", "prefill_ms"))
        context, chunk = int(raw.get("decode_context", 0)), int(raw.get("chunk_tokens", 8192))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadRequest(f"{where}: no measured steps; write {FORM}") from None
    if len(prefill) < 2 or context < 0 or chunk < 1:
        raise BadRequest(f"{where}: at least two prefill lengths are wanted; write {FORM}")
    return MeasuredSteps(decode, context, prefill, chunk, sums)


def _points(raw: Mapping[str, Any], name: str) -> Points:
    found = sorted((int(key), float(value) / 1e3) for key, value in raw.items())
    if not found or any(key < 1 or not 0 < value < 1e6 for key, value in found):
        raise BadRequest(f"{name}: counts of at least 1 with times above zero are wanted; write {FORM}")
    if any(later < earlier for (_, earlier), (_, later) in pairwise(found)):
        found = [(key, max(value for other, value in found if other <= key)) for key, _ in found]  # noise of the clock
    return tuple(found)
