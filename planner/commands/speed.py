"""`kvplan speed`: time to first token, time between tokens, tokens a second, on a device or several."""

from __future__ import annotations

from typing import Any

import click

from planner.answers.speed import Answer, speed_answer
from planner.catalogue.device import Device
from planner.commands.options import tables as flags
from planner.commands.options.click_options import with_flags
from planner.commands.options.engine import prepare
from planner.commands.options.model import maybe_count, one_format, request_of, spec_of
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup import device
from planner.terminal.output import emit, to_csv, to_json
from planner.units import parse_tokens

DOES_NOT_FIT = 3


MAX_BATCHES = 1000


DEFAULT_BATCHES = "1,8,32,128"


FLAGS: tuple[flags.Flag, ...] = (
    *flags.MODEL,
    ("--gpu", "NAME", "A device of `kvplan gpus`, `local` for this machine, or several: h100-sxm,l40s."),
    ("--prompt", "N", "Tokens of a prompt: 2k, 2048 (default: 1k)."),
    ("--output", "N", "Tokens of an answer (default: 256)."),
    ("--batch", "LIST", f"Sequences at once, one or a list (default: {DEFAULT_BATCHES})."),
    ("--load", "static|serving", "One batch from prompt to end, or a server where a new request takes the place of each that ends (default: serving)."),
    ("--measured", "POINT", "What was measured at one point, for example \"tpot_ms=14.2 batch=8 seq=2048\"; also ttft_ms, tok_s, prompt, output."),
    *flags.DTYPE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    ("--linear", "plain|packed", "With --gpu local: how torch holds the matrices (default: plain)."),
    ("--engine", "NAME", "What an engine reaches, and what it admits: vllm, vllm==0.11.2, sglang, llamacpp, tensorrt-llm ..."),
    *flags.ENGINE_FLAGS,
    ("--explain", "", "Every term of a step with its numbers."),
    *flags.OUTPUT_FILE,
)  # fmt: skip


@click.command(
    name="speed",
    epilog="\b\nExample: kvplan speed llama-3.1-8b --gpu h100-sxm --engine vllm --prompt 2k --output 500 --batch 1,8,32,128",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """How fast: time to first token (TTFT), time between tokens (TPOT), tokens a second, each with its range.

    Beside the expectation stands the bound of the hardware, what binds, the batch from which decode is bound by
    compute, the largest batch that memory admits, and where the constants come from: this machine's calibration
    (--gpu local), a point that you measured (--measured), or fits to published measurements.

    JSON: one object a device (a list with several), `batches` with an object for each batch; of a single batch its
    keys stand at the top as well. A batch beyond memory has "fits": false, its figures are as if there were room.
    Exit code 3 when memory admits none of the batches.
    """
    one_format(values["as_json"], values["as_csv"])
    if values["explain"] and (values["as_json"] or values["as_csv"]):
        raise UsageError("--explain is for people; leave it out with --json and --csv")
    if values["gpu"] is None:
        raise UsageError("a device is wanted: --gpu NAME (kvplan gpus lists them), or --gpu local")
    prompt, output = (_length(values, name, tokens) for name, tokens in (("prompt", 1024), ("output", 256)))
    batches = parse_batches(values.pop("batch") or DEFAULT_BATCHES)
    devices = devices_of(values["gpu"])
    if values["measured"] is not None and len(devices) > 1:
        raise UsageError("--measured is of one device: give one --gpu, the one it was measured on")
    values |= {"seq": str(prompt + output), "batch": None}
    asked = prepare(values)
    spec = spec_of(values)
    answers = [
        speed_answer(
            spec, request_of(values, prompt + output), found, prompt_tokens=prompt, output_tokens=output, batches=batches,
            load=values["load"], asked=asked, measured=values["measured"], linear=values["linear"],
        )
        for found in devices
    ]  # fmt: skip
    emit(_render(answers, values), values["output_file"])
    if not any(answer.fits(batch) for answer in answers for batch in batches):
        raise SystemExit(DOES_NOT_FIT)


def _length(values: dict[str, Any], name: str, default: int) -> int:
    return default if values[name] is None else parse_tokens(values[name], f"--{name}")


def parse_batches(text: str) -> list[int]:
    """
    >>> parse_batches("1,8, 32")
    [1, 8, 32]
    """
    found = [maybe_count(item, "--batch") or 1 for item in text.split(",")]
    if len(found) > MAX_BATCHES:
        raise BadRequest(f"--batch names {len(found):,} batches; {MAX_BATCHES:,} at most")
    return list(dict.fromkeys(found))


def devices_of(text: str) -> list[Device]:
    """The devices of a list `h100-sxm,l40s`."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise BadRequest(f"--gpu {one_line(text, 60)!r} names an empty device; write for example h100-sxm,l40s")
    return [device(name) for name in dict.fromkeys(names)]


def _render(answers: list[Answer], values: dict[str, Any]) -> str:
    found = [answer.to_dict() for answer in answers]
    if values["as_json"]:
        return to_json(found[0] if len(found) == 1 else found)
    if values["as_csv"]:
        lists = ("batches", "notes", "assumptions", "warnings")
        shared = [{key: value for key, value in one.items() if key not in lists} for one in found]
        return to_csv(
            [{**one, **batch} for one, whole in zip(shared, found, strict=True) for batch in whole["batches"]]
        )
    from planner.commands.pages.speed import page

    return "\n".join(page(answers, explain=values["explain"]))
