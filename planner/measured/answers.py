"""The timings that a program gives with an answer: ollama's --verbose and API, llama-server's and LM Studio's.

ollama: total_duration, prompt_eval_count, prompt_eval_duration, eval_count, eval_duration, in nanoseconds (docs/api.md);
--verbose prints the same in words. llama-server: `timings` with prompt_n, prompt_ms, predicted_n, predicted_ms. LM
Studio: `stats` with tokens_per_second and time_to_first_token, in seconds, beside `usage`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from typing import Any

from planner.measured.points import MeasuredFile, MeasuredPoint, at, milli, number, strange, words

OLLAMA, LLAMA_SERVER, LMSTUDIO = "ollama", "llama-server", "LM Studio"
_VERBOSE = re.compile(
    r"^\s*(prompt eval count|prompt eval duration|eval count|eval duration|total duration):\s+(\S{1,40})", re.MULTILINE
)
_LINE = re.compile(r"^\s*([a-z][a-z_ ]{2,40}):[ \t]+\S{1,40}(?: token\(s\)| tokens/s)?[ \t]*$", re.MULTILINE)
_SAID = frozenset(
    (
        "total duration",
        "load duration",
        *(f"{part}eval {what}" for part in ("", "prompt ") for what in ("count", "duration", "rate")),
    )
)
_SPAN = re.compile(r"([\d.]{1,20})(h|ms|m|s|µs|us|ns)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "us": 1e-6, "ns": 1e-9}
MOST_ANSWERS = 10_000
MOST_STATISTICS = 2_000  # characters of the lines after an answer
OLLAMA_KEYS = frozenset(
    "model created_at message response thinking done done_reason context total_duration load_duration prompt_eval_count "
    "prompt_eval_duration eval_count eval_duration remote_model remote_host logprobs".split()
)
TIMINGS = frozenset(
    "cache_n prompt_n prompt_ms prompt_per_token_ms prompt_per_second predicted_n predicted_ms predicted_per_token_ms "
    "predicted_per_second draft_n draft_n_accepted".split()
)
STATS = frozenset(
    "tokens_per_second time_to_first_token generation_time stop_reason time_to_first_token_seconds "
    "model_load_time_seconds input_tokens total_output_tokens reasoning_output_tokens draft_model total_draft_tokens_count "
    "accepted_draft_tokens_count rejected_draft_tokens_count ignored_draft_tokens_count".split()
)


def answer_timings(raw: Mapping[str, Any]) -> MeasuredFile | None:
    """Reads the point of one answer of an API; None where it carries no timings."""
    if "eval_duration" in raw and "eval_count" in raw:
        times = {
            key: value * 1e-9 if (value := number(raw.get(key))) else None
            for key in ("prompt_eval_duration", "eval_duration", "total_duration")
        }
        return _file(
            OLLAMA,
            "ollama",
            words(raw.get("model")),
            (number(raw.get("prompt_eval_count")), times["prompt_eval_duration"]),
            (number(raw.get("eval_count")), times["eval_duration"]),
            strange(raw, OLLAMA_KEYS, OLLAMA),
        )
    timings = raw.get("timings")
    if isinstance(timings, Mapping) and "predicted_ms" in timings:
        return _file(
            LLAMA_SERVER,
            "llamacpp",
            words(raw.get("model")),
            (number(timings.get("prompt_n")), milli(timings.get("prompt_ms"))),
            (number(timings.get("predicted_n")), _predicted(timings)),
            strange(timings, TIMINGS, LLAMA_SERVER),
        )
    stats = raw.get("stats")
    if isinstance(stats, Mapping) and "tokens_per_second" in stats:
        rate, output = number(stats.get("tokens_per_second")), number(at(raw, "usage", "completion_tokens"))
        prompt = number(at(raw, "usage", "prompt_tokens"))
        spent = output / rate if output and rate else None
        return _file(
            LMSTUDIO,
            "lmstudio",
            words(raw.get("model")),
            (prompt, number(stats.get("time_to_first_token"))),
            (output, spent),
            strange(stats, STATS, LMSTUDIO),
        )
    return None  # fmt: skip


def _predicted(timings: Mapping[str, Any]) -> float | None:
    """Computes the seconds of all tokens at the time between two: newer servers count from the first token to the last.

    >>> round(_predicted({"predicted_n": 64, "predicted_ms": 196.788, "predicted_per_token_ms": 3.12362}), 4)  # 63 of them
    0.1999
    """
    each, tokens = milli(timings.get("predicted_per_token_ms")), number(timings.get("predicted_n"))
    return each * tokens if each and tokens else milli(timings.get("predicted_ms"))


def ollama_verbose(text: str) -> MeasuredFile | None:
    """Reads a point for each block of lines that `ollama run --verbose` prints after an answer; None where there is
    none.
    """
    points, block = list[MeasuredPoint](), dict[str, str]()
    for name, value in _VERBOSE.findall(text)[: 5 * MOST_ANSWERS]:
        block[name] = value
        if name == "eval duration":
            spans = {key: _span(block.get(key, "")) for key in ("prompt eval duration", "eval duration")}
            points += _file(
                OLLAMA,
                "ollama",
                None,
                (number(block.get("prompt eval count")), spans["prompt eval duration"]),
                (number(block.get("eval count")), spans["eval duration"]),
            ).points
            block = {}
    return MeasuredFile(OLLAMA, tuple(points), strange(_statistics(text), _SAID, OLLAMA)) if points else None


def _statistics(text: str) -> dict[str, int]:
    """The names of the lines that stand together from `total duration` on; what follows them is of the next answer."""
    names: dict[str, int] = {}
    for begin in islice(re.finditer(r"^[ \t]*total duration:", text, re.MULTILINE), MOST_ANSWERS):
        for line in text[begin.start() : begin.start() + MOST_STATISTICS].splitlines():
            found = _LINE.match(line)
            if found is None:
                break
            names[found.group(1)] = 0
    return names


def _file(  # parameters: what every answer says of itself
    tool: str, engine: str, model: str | None, prompt: tuple[float | None, float | None], output: tuple[float | None, float | None], notes: tuple[str, ...] = ()
) -> MeasuredFile:  # fmt: skip
    """One sequence alone: a prompt of so many tokens in so many seconds, then so many tokens in so many seconds."""
    (before, ttft), (tokens, spent) = prompt, output
    if not tokens or not spent:
        return MeasuredFile(tool, (), ("the answer holds no time of its tokens",))
    point = MeasuredPoint(
        tool=tool, source="", load="static", engine=engine, model=model, sequences=1.0, prompt_tokens=before or 1.0,
        output_tokens=tokens, ttft_seconds=ttft if before else None, tpot_seconds=spent / tokens,
        output_tokens_per_s=tokens / spent, prefill_tokens_per_s=before / ttft if before and ttft else None, requests=1,
    )  # fmt: skip
    return MeasuredFile(tool, (point,), notes)


def _span(text: str) -> float | None:
    """Seconds of a span as Go prints it.

    >>> _span("1m2.5s"), _span("130.079ms"), _span("soon")
    (62.5, 0.130079, None)
    """
    parts = _SPAN.findall(text)
    if not parts or "".join(value + unit for value, unit in parts) != text:
        return None
    return sum((number(value) or 0.0) * _UNITS[unit] for value, unit in parts)
