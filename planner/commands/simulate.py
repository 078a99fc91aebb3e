"""`kvplan simulate`: a server under a load, request by request."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import click

from planner.commands.options import tables as flags
from planner.commands.options.click_options import with_flags
from planner.commands.options.engine import prepare
from planner.commands.options.load import mix_of, parse_rate, parse_seconds, parse_share, targets_of
from planner.commands.options.model import maybe_count, one_format, request_of, spec_of
from planner.commands.pages.simulate import page
from planner.errors import BadRequest, UsageError, one_line
from planner.lookup import device
from planner.memory.estimate import estimate
from planner.memory.request import device_capacity
from planner.model.spec import ModelSpec
from planner.serving.scheduler import ROUTINGS
from planner.serving.simulate import Answer, Asked, serve, server
from planner.speed.constants import constants_for
from planner.speed.measured_point import with_measured_point
from planner.terminal.output import emit, to_csv, to_json
from planner.terminal.progress import Progress
from planner.workloads.traces import read_trace
from planner.workloads.workload import Workload, checked_requests

MISSES = 3
MAX_REPLICAS = 1024
MAX_USERS = 10**6
FLAGS: tuple[flags.Flag, ...] = (
    *flags.MODEL,
    ("--gpu", "NAME", "A device of `kvplan gpus`, or `local`."),
    ("--trace", "FILE", "Recorded requests: Azure, Mooncake, BurstGPT or Vidur columns, or prompt,output[,time (s)]; CSV or JSON lines."),
    ("--prompt", "MIX", "Prompt lengths in place of a trace: p50=800,p95=6000, one length, or a file of lengths."),
    ("--output", "MIX", "Output lengths: p50=200,p95=900, one length, or a file of lengths."),
    ("--rate", "N/s", "Requests that arrive at random, 5/s or 300/min; a trace is sped up or slowed down to it."),
    ("--users", "N", "Users who each ask, wait for the answer, and ask again."),
    ("--think", "TIME", "A user's mean pause between an answer and the next request (default: none)."),
    ("--speed-up", "X", "A trace's own times divided by X."),
    ("--requests", "N", "Requests to run (default: the whole trace, else 5000, or 20 a user)."),
    ("--prefix-share", "X", "Share of each prompt that is found in the cache: 0.6."),
    ("--seed", "N", "Of all that is drawn (default: 1)."),
    ("--replicas", "N", "Replicas of the layout (default: 1)."),
    ("--routing", "|".join(ROUTINGS), "Which replica a request goes to (default: round-robin)."),
    ("--ttft", "TIME", "Target: time to the first token of 95 requests in 100, 1s; p99=2s says another share, for --tpot too."),
    ("--tpot", "TIME", "Target: time between two tokens of 95 requests in 100, 40ms."),
    ("--measured", "POINT", 'What was measured at one point, for example "tpot_ms=14.2 batch=8 seq=2048".'),
    *flags.DTYPE,
    *flags.LAYOUT,
    *flags.RUNTIME,
    ("--engine", "NAME", "Whose pool and speed: vllm (the default), vllm==0.11.2, sglang, tensorrt-llm, lmdeploy."),
    *flags.ENGINE_FLAGS,
    *flags.OUTPUT_FILE,
)  # fmt: skip


@click.command(
    name="simulate",
    epilog="\b\nExample: kvplan simulate llama-3.1-8b --gpu h100-sxm --rate 5/s --prompt p50=800,p95=6000 "
    "--output p50=200,p95=900 --ttft 1s --tpot 40ms",
)
@with_flags(FLAGS, model=True)
def command(**values: Any) -> None:
    """A server under a load, request by request: TTFT, TPOT, latency, queueing, KV occupancy, preemptions.

    Continuous batching by the rule of vLLM's V1 scheduler: a token budget a step, decodes first, prompts in chunks,
    first come first served, paged KV cache, preemption by recompute, prefix hits. Step times are those of
    `kvplan speed`. The same seed gives the same run. --csv has a row a request.
    Exit code 3 when a target is missed, or nothing fits.
    """
    one_format(values["as_json"], values["as_csv"])
    answer = answer_of(values)
    emit(_render(answer, values), values["output_file"])
    if answer.misses:
        raise SystemExit(MISSES)


def answer_of(values: dict[str, Any]) -> Answer:
    """The run that the options describe."""
    if values["gpu"] is None:
        raise UsageError("a device is wanted: --gpu NAME (kvplan gpus lists them)")
    targets = targets_of(values)
    workload = workload_of(values)
    replicas = _count(values, "--replicas", MAX_REPLICAS) or 1
    routing = values["routing"] or ROUTINGS[0]
    if routing not in ROUTINGS:
        raise BadRequest(f"--routing {one_line(routing, 40)!r} is not known; write {' or '.join(ROUTINGS)}")
    values["engine"] = values["engine"] or "vllm"
    asked = prepare(values | {"emit": False, "seq": "1"})
    assert asked is not None
    spec = spec_of(values)
    found = device(values["gpu"])
    request = request_of(values, _longest(workload, spec, asked))
    room = device_capacity(found)
    engine = "==".join(filter(None, asked[:2]))
    if values["measured"] is None:
        constants = constants_for(engine, found)
    else:
        constants = with_measured_point(values["measured"], estimate(spec, request, room), found, engine=engine)
    replica = server(spec, request, found, room, constants, asked)
    with Progress(workload.requests) as progress:

        def arrived(requests: int) -> None:
            progress.step(f"{requests:,} of {workload.requests:,} requests", requests - progress.done)

        return serve(
            replica, workload, device=found, replicas=replicas, routing=routing, targets=targets, progress=arrived
        )


def workload_of(values: dict[str, Any]) -> Workload:
    """The requests that the options describe."""
    wanted = checked_requests(maybe_count(values["requests"], "--requests"))
    rate, think, share, pace = (values[name] for name in ("rate", "think", "prefix_share", "speed_up"))
    seed = _seed(values["seed"])
    trace = prompts = outputs = None
    if values["trace"] is not None:
        if values["prompt"] is not None or values["output"] is not None:
            raise UsageError("--trace has its own lengths; leave --prompt and --output out")
        trace = read_trace(values["trace"], wanted)
    else:
        for name in ("prompt", "output"):
            if values[name] is None:
                raise UsageError(f"how long? --{name} p50=800,p95=6000, or one length, or --trace FILE")
        prompts, outputs = mix_of(values["prompt"], "--prompt"), mix_of(values["output"], "--output")
    return Workload(
        trace=trace,
        prompts=prompts,
        outputs=outputs,
        rate_per_s=None if rate is None else parse_rate(rate),
        speed_up=Fraction(1) if pace is None else _speed_up(pace),
        users=_count(values, "--users", MAX_USERS) or 0,
        think_seconds=0.0 if think is None else parse_seconds(think, "--think"),
        wanted=wanted,
        prefix_share=0.0 if share is None else parse_share(share, "--prefix-share"),
        seed=seed,
    )


def _longest(workload: Workload, spec: ModelSpec, asked: Asked) -> int:
    """Tokens of the longest request that is served: of the load, the model, --max-model-len."""
    limits = (workload.longest_tokens, spec.max_positions, asked[2].max_model_len)
    return min(limit for limit in limits if limit is not None)


def _count(values: dict[str, Any], option: str, most: int) -> int | None:
    count = maybe_count(values[flags.parameter(option)], option)
    if count is not None and count > most:
        raise BadRequest(f"{option} {count:,} is more than {most:,}")
    return count


def _seed(text: str | None) -> int:
    if text is not None and text.strip() == "0":
        return 0
    return 1 if text is None else maybe_count(text, "--seed") or 1


def _speed_up(text: str) -> Fraction:
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)\s*x?", text.strip(), re.ASCII)
    if match is None or not Fraction(match.group(1)):
        raise BadRequest(f"--speed-up {one_line(text, 40)!r} is not a factor; write for example 2 or 0.5")
    return Fraction(match.group(1))


def _render(answer: Answer, values: dict[str, Any]) -> str:
    if values["as_json"]:
        return to_json(answer.to_dict())
    if values["as_csv"]:
        return to_csv(answer.rows())
    return "\n".join(page(answer))
