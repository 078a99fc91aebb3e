"""`kvplan plan`: from a load and targets to a deployment."""

from __future__ import annotations

from typing import Any

import click

from planner.commands.options import tables as flags
from planner.commands.options.click_options import with_flags
from planner.commands.options.load import devices_of, load_of, targets_of
from planner.commands.options.model import maybe_count, one_format, spec_of
from planner.commands.pages.plan import page
from planner.deployment.answer import answer_dict
from planner.deployment.cost import parse_prices, parse_usd_per_hour
from planner.deployment.question import SORTS, Question
from planner.deployment.search import Answer, search
from planner.deployment.simulated import verified
from planner.dtypes.names import kv_format, weight_format
from planner.engines.base import Options
from planner.errors import BadRequest, UsageError, one_line
from planner.extras.shared_device import Residents
from planner.model.spec import ModelSpec
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.progress import Progress
from planner.units import parse_tokens

MISSES = 3
TOP = 8
RESIDENTS = ("--lora", "--drafter", "--draft-tokens", "--also", "--idle-sessions")
FLAGS: tuple[flags.Flag, ...] = (
    *flags.MODEL,
    ("--users", "N", "Users who each have one request running: 200."),
    ("--rate", "N/s", "Requests that arrive at random, in place of --users: 5/s, 300/min."),
    ("--trace", "FILE", "Recorded requests in place of --prompt and --output, and of --rate: CSV or JSON lines, as `kvplan simulate` reads."),
    ("--prompt", "MIX", "Prompt lengths: p50=800,p95=6000, one length, or a file of lengths."),
    ("--output", "MIX", "Output lengths: p50=200,p95=900, one length, or a file of lengths."),
    ("--longest", "N", "Longest request served, prompt and output (default: the longest of the mix that the model takes)."),
    ("--prefix-share", "X", "Share of each prompt that is one prefix of all requests: 0.6."),
    ("--think", "TIME", "A user's pause between an answer and the next request (default: none)."),
    ("--ttft", "TIME", "Target: time to the first token of 95 requests in 100, 1s; p99=2s says another share."),
    ("--tpot", "TIME", "Target: mean time between two tokens, 40ms."),
    ("--budget", "USD/h", "Target: at most so much an hour, 20/h."),
    ("--gpu", "NAME...", "Devices of `kvplan gpus` to search, a list: h100-sxm,l40s (default: all GPUs with a price)."),
    ("--price", "NAME=USD/h...", "A device's price, in place of the catalogue's: h100-sxm=2.1/h. Repeatable, or a list."),
    ("--dtype", "D", "Weights in this format alone (default: as published, and smaller ones that the device runs)."),
    ("--kv-dtype", "D", "KV cache in this format alone (default: the float type the model runs in, and 8 bit)."),
    ("--as-published", "", "No formats but the model's own: quantised ones change its answers."),
    ("--prefill-tokens", "N", "Prompt tokens of one step (default: 2048)."),
    *(flag for flag in flags.RESIDENTS if flag[0] in RESIDENTS),
    *flags.ENGINE[:-1],
    ("--sort", "|".join(SORTS), "What the best is (default: cost)."),
    ("--top", "N", f"So many plans are shown (default: {TOP})."),
    *flags.OUTPUT_FILE,
)  # fmt: skip


@click.command(
    name="plan",
    epilog="\b\nExample: kvplan plan llama-3.1-8b --users 200 --prompt p50=800,p95=6000 --output p50=200,p95=900 "
    "--ttft 1s --tpot 40ms --gpu h100-sxm,l40s,rtx-4090",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """Which devices, how many, laid out how: every layout and format that carries a load within its targets, ranked.

    Searches devices, tensor, pipeline, expert and data parallelism, formats of weights and KV cache, and replicas.
    Concurrency by Little's law on the speed model, waiting by queueing formulas; speeds are estimates with a range.
    Exit code 3 when nothing meets the targets: the nearest, and by how much it misses.
    """
    one_format(values["as_json"], values["as_csv"])
    question = question_of(values)
    top = maybe_count(values["top"], "--top") or TOP
    with Progress(len(question.devices)) as progress:

        def begun(done: int, devices: int) -> None:
            progress.step(f"{done:,} of {devices:,} devices", done - progress.done)

        answer = verified(search(question, begun))
    emit(_render(answer, top, values), values["output_file"])
    if not answer.plans:
        raise SystemExit(MISSES)


def question_of(values: dict[str, Any]) -> Question:
    """The Question that the options ask."""
    asked, online = _engine(values), values["online"]
    spec = spec_of(values)
    if not spec.weights_known:
        raise BadRequest(f"{spec.name}: a plan needs its weights; add --heads --hidden --intermediate --vocab")
    if values["sort"] not in (None, *SORTS):
        raise BadRequest(f"--sort {one_line(values['sort'], 40)!r} is not known; write {', '.join(SORTS)}")
    if values["as_published"] and (values["dtype"] or values["kv_dtype"]):
        raise UsageError("--as-published and --dtype or --kv-dtype exclude each other")
    if values["dtype"] is not None:
        weight_format(values["dtype"])
    if values["kv_dtype"] is not None:
        kv_format(values["kv_dtype"])
    chunk, budget = values["prefill_tokens"], values["budget"]
    return Question(
        spec,
        devices_of(values),
        load_of(values, spec.max_positions),
        targets_of(values),
        dtype=values["dtype"],
        kv_dtype=values["kv_dtype"],
        as_published=values["as_published"],
        engine=None if asked is None else (asked[0], asked[1]),
        options=Options() if asked is None else asked[2],
        chunk_tokens=None if chunk is None else parse_tokens(chunk, "--prefill-tokens"),
        prices=parse_prices(values["price"]),
        budget_usd_per_hour=None if budget is None else parse_usd_per_hour(budget, "--budget"),
        sort=values["sort"] or SORTS[0],
        residents=_residents(values, spec, None if asked is None else asked[0], online),
        idle_sessions=maybe_count(values["idle_sessions"], "--idle-sessions") or 0,
    )


def _residents(values: dict[str, Any], spec: ModelSpec, engine: str | None, online: bool) -> Residents | None:
    """What shares the devices; idle sessions apart, for they are spread over the replicas."""
    if not any(values[flags.parameter(option)] for option in RESIDENTS):
        return None
    from planner.commands.options.extras import residents_of

    return residents_of({**values, "idle_sessions": None}, spec, engine=engine, online=online)


def _engine(values: dict[str, Any]) -> tuple[str, str | None, Options] | None:
    """--engine and its flags; a KV dtype that the engine has not is refused here."""
    if not flags.engine_flags_given({**values, "emit": False}):
        return None
    from planner.answers.engine import KV_FORMATS
    from planner.commands.options.engine import prepare

    asked = prepare({**values, "seq": "1", "emit": False})
    known = KV_FORMATS.get(asked[0]) if asked is not None else None
    if asked is not None and known and values["kv_dtype"] and kv_format(values["kv_dtype"]).name not in known:
        raise BadRequest(f"{asked[0]} has no KV dtype {values['kv_dtype']}; choose one of: {', '.join(known)}")
    return asked


def _render(answer: Answer, top: int, values: dict[str, Any]) -> str:
    if values["as_json"]:
        return to_json(answer_dict(answer, top))
    if values["as_csv"]:
        return to_csv(answer_dict(answer, top)["plans"])
    return "\n".join(page(answer, top))
