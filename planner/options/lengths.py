"""--seq of a load: prompt and answer together, in place of both of them or of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.errors import BadRequest, UsageError
from planner.options.readers import tokens
from planner.options.tables import Flag
from planner.workloads.lengths import LengthMix

USUAL_ANSWER = 256
SHARE_OF_ANSWER = 4  # an answer that nobody gives is at most a quarter of the whole
SEQ_OF_A_LOAD = Flag(
    "--seq", "N", "Prompt and answer together, in place of one of them or both (the answer is then 256, at most a quarter).",
    tokens, "Load",
)  # fmt: skip


def lengths_of(tokens: int) -> tuple[int, int]:
    """Returns (prompt, answer) of a sequence: the usual answer, at most a quarter of the whole.

    >>> lengths_of(8192), lengths_of(100)
    ((7936, 256), (75, 25))
    """
    answer = min(USUAL_ANSWER, max(1, tokens // SHARE_OF_ANSWER))
    return max(1, tokens - answer), answer


def parts_of(seq: int, prompt: int | None, answer: int | None) -> tuple[int, int]:
    """Returns (prompt, answer) that are `seq` tokens together, one of them given or neither.

    >>> parts_of(8192, None, 192), parts_of(8192, 8000, None)
    ((8000, 192), (8000, 192))
    """
    if prompt is not None and answer is not None:
        raise UsageError("--seq is --prompt and --answer together; leave one of the three out")
    if seq < 2:
        raise BadRequest(f"--seq {seq}: a prompt and an answer are 2 tokens at least")
    if prompt is None and answer is None:
        return lengths_of(seq)
    name, own = ("--answer", answer) if prompt is None else ("--prompt", prompt)
    assert own is not None
    if own >= seq:
        raise BadRequest(f"{name} {own:,} leaves nothing of --seq {seq:,}")
    return (seq - own, own) if prompt is None else (own, seq - own)


def usual_parts(usual: int, prompt: int | None, answer: int | None, *, positions: int | None) -> tuple[int, int]:
    """Returns (prompt, answer) where one or both are not asked: the usual ones, within the model's positions.

    usual      tokens of the prompt that nobody gives
    positions  of the model; None without a bound. What is asked is kept, beyond them too

    >>> usual_parts(1024, None, None, positions=131072), usual_parts(1024, None, None, positions=1024)
    ((1024, 256), (768, 256))
    >>> usual_parts(1024, None, 600, positions=1024), usual_parts(1024, 4000, None, positions=1024)
    ((424, 600), (4000, 256))
    """
    room = positions if positions is not None else usual + USUAL_ANSWER
    if prompt is None and answer is None:
        return (usual, USUAL_ANSWER) if usual + USUAL_ANSWER <= room else lengths_of(room)
    if prompt is None:
        assert answer is not None
        return (min(usual, room - answer) if answer < room else usual), answer
    if answer is None:
        return prompt, (min(USUAL_ANSWER, room - prompt) if prompt < room else USUAL_ANSWER)
    return prompt, answer


def with_parts(given: Mapping[str, Any]) -> dict[str, Any]:
    """Takes --seq of a load apart: --prompt and --answer as lengths that every request has."""
    found = dict(given)
    seq = found.pop("seq", None)
    if seq is None:
        return found
    if found.get("trace") is not None:
        raise UsageError("--trace has its own lengths; leave --seq out")
    parts = parts_of(seq, _single(found.get("prompt"), "--prompt"), _single(found.get("answer"), "--answer"))
    found["prompt"], found["answer"] = (LengthMix({part: 1}, f"of {part:,} tokens") for part in parts)
    return found


def _single(mix: LengthMix | None, name: str) -> int | None:
    """The one length of a mix."""
    if mix is None:
        return None
    if len(mix.counts) > 1:
        raise UsageError(f"--seq goes with one length of {name}; give --prompt and --answer for a mix")
    return mix.longest
