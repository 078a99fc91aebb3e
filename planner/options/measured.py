"""Reads --measured: a point written by hand, a benchmark's file, or several of both."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from planner.errors import BadRequest
from planner.measured.reader import read_measured
from planner.speed.measured_point import MEASURED_KEYS, observed_of
from planner.speed.observed import Observed

HELP = (
    'What was measured: a point, "tpot_ms=14.2 batch=8 seq=2048" (also ttft_ms, tok_s, prompt, answer), or the file of a '
    "benchmark (docs/measured.md). Repeatable."
)


@dataclass(frozen=True)
class MeasuredAsked:
    """What --measured gave.

    text     one point and nothing else: the constants are scaled to it
    points   several points, or those of files: the constants are fitted to them
    notes    what of the files is not part of that
    """

    text: str | None = None
    points: tuple[Observed, ...] = ()
    notes: tuple[str, ...] = ()


def measured_of(
    texts: Sequence[str] | str | None, *, load: str, prompt_tokens: int, output_tokens: int
) -> MeasuredAsked | None:
    """The points of all --measured; None without one.

    A text names a file where one is there, or where it holds no key of a point; the load and the lengths are those of
    points by hand that do not name them.
    """
    given = (texts,) if isinstance(texts, str) else tuple(texts or ())
    if not given:
        return None
    if len(given) == 1 and not _is_file(given[0]):
        return MeasuredAsked(text=given[0])
    points, notes = list[Observed](), list[str]()
    for text in given:
        if _is_file(text):
            file = read_measured(text, "--measured")
            found = [observed for point in file.points if (observed := point.observed()) is not None]
            notes += [f"{text}: {note}" for note in file.notes]
            if len(found) < len(file.points):
                notes.append(
                    f"{text}: {len(file.points) - len(found)} of {len(file.points)} points do not say {WANTED}"
                )
            points += found
        else:
            points.append(observed_of(text, load=load, prompt_tokens=prompt_tokens, output_tokens=output_tokens))
    if not points:
        raise BadRequest(f"--measured: no point says {WANTED}" + (f"; {notes[0]}" if notes else ""))
    return MeasuredAsked(points=tuple(points), notes=tuple(dict.fromkeys(notes)))


WANTED = "requests at once, lengths, and TTFT or TPOT"


def _is_file(text: str) -> bool:
    if any(f"{key}=" in text for key in MEASURED_KEYS) and not os.path.lexists(text):
        return False
    return (
        os.path.lexists(text)
        or "/" in text
        or text.lower().endswith((".json", ".jsonl", ".csv", ".md", ".yaml", ".yml", ".txt"))
    )
