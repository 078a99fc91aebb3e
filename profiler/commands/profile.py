"""`kvplan profile`: a model built and run here, prediction beside measurement."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from planner.files.write import check_file, make_parent
from planner.terminal.output import emit, write_whole
from planner.terminal.tables import bad, bold, dim, good, table, wrapped
from planner.units import bandwidth, plural
from profiler.commands.profile_asked import ProfileAsked, profile_asked
from profiler.commands.torch_wanted import want_torch

if TYPE_CHECKING:
    from profiler.results import Check, Measurement, Point, Reading

NOT_EXACT = 3
INTERRUPTED = 130


@click.command(
    name="profile",
    epilog="Example: kvplan profile gpt2; kvplan profile gpt2 --sweep batch=1,4,16 context=128..1024 cache=concat,static",
)
@click.argument("words", nargs=-1, metavar="MODEL [AXIS=VALUES]...")
@click.option("--config", metavar="FILE", help="A config.json, in place of MODEL.")
@click.option("--dtype", metavar="D", help="fp32, fp16 or bf16 (default: as the config says).")
@click.option("--device", metavar="NAME", help="cuda, cuda:N, mps or cpu (default: the fastest that is there).")
@click.option("--batch", metavar="N", default="1", show_default=True, help="Sequences at once.")
@click.option(
    "--cache",
    metavar="LIST",
    default="static,concat",
    show_default=True,
    help="Strategies to time, the first throughout: concat, static, sliding, paged, int8, int4. Sizes of all are checked.",
)
@click.option(
    "--answer", metavar="LIST", help="Answer lengths, cached against uncached (default: 10,25,50,100,200,500,1000)."
)
@click.option(
    "--prompt", "prompt_tokens", metavar="N", default="16", show_default=True, help="Length of the prompt before them."
)
@click.option(
    "--linear",
    type=click.Choice(["plain", "packed", "auto"]),
    default="auto",
    show_default=True,
    help="How matrices are stored; packed is oneDNN's layout for CPUs, auto the faster one at this dtype and batch, "
    "measured first.",
)
@click.option("--layers", metavar="N", help="Run the first N layers only, at full width.")
@click.option("--extrapolate", is_flag=True, help="Measure two depths and predict the time of all layers.")
@click.option("--full", is_flag=True, help="Run long generations whole, in place of integrating sampled steps.")
@click.option("--repeats", metavar="N", default="5", show_default=True, help="Repeats of each measurement.")
@click.option("--seed", metavar="N", default="0", show_default=True, help="Of the random weights.")
@click.option(
    "--sweep", is_flag=True, help="Run a grid: batch=1,4,16 context=128..4096 cache=concat,static dtype=fp32,bf16."
)
@click.option("--resume", metavar="FILE", help="Go on with the sweep whose result FILE holds, and write there.")
@click.option("--weights", metavar="FILE", help="Real weights, .safetensors or a folder (default: random).")
@click.option("--text", metavar="TEXT", help="With --weights: text to go on with.")
@click.option("--tokenizer", metavar="FILE", help="A tokenizer.json (default: the one beside the weights).")
@click.option("--new-tokens", metavar="N", default="100", show_default=True, help="With --text: how many at most.")
@click.option("--temperature", type=float, default=0.0, show_default=True, help="With --text: 0 is greedy.")
@click.option("--top-k", type=int, help="With --text: choose among the K likeliest.")
@click.option("--top-p", type=float, help="With --text: choose among the likeliest of this share.")
@click.option(
    "--compile", "compiled", is_flag=True, help="Measure decode through torch.compile too (CUDA graphs where they are)."
)
@click.option("--trace", metavar="FILE", help="Write a Chrome trace of a prefill and some steps.")
@click.option(
    "--tp",
    metavar="N",
    help="Tensor parallel over N processes: torchrun --nproc-per-node N -m kvplan profile MODEL --tp N.",
)
@click.option("--json", "as_json", is_flag=True, help="The whole result as JSON on the screen.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the result to FILE (default: a new file in results/ of the config folder).",
)
def command(**values: Any) -> None:
    """Build MODEL here, run it with and without a KV cache, and put each prediction beside its measurement.

    Random weights unless --weights names some: sizes and speed do not depend on them. Nothing is downloaded.
    The exit code is 3 when a size that should be exact is not, and 130 after Ctrl-C, which keeps what is done.
    """
    want_torch("kvplan profile")
    asked = profile_asked(values)
    check_file(asked.output or asked.resume)
    check_file(asked.settings.trace, "--trace")
    if asked.tp is not None:
        from profiler.parallel import profile_parallel

        result, path = profile_parallel(asked.spec, asked.settings, asked.tp), asked.output
        if result is None:
            return  # another rank speaks
    else:
        result, path = _run(asked)
    if path is None and not asked.as_json:
        path = _new_path(result)
        make_parent(path)
    if path is not None:
        write_whole(path, result.to_json() + "\n")
    emit(result.to_json() if asked.as_json else wrapped(page(result, path)))
    if not result.complete:
        click.echo("kvplan: interrupted: what was measured before is kept", err=True)
        raise SystemExit(INTERRUPTED)
    if result.failed:
        raise SystemExit(NOT_EXACT)


def _run(asked: ProfileAsked) -> tuple[Measurement, str | None]:
    """(the result, where it is to be written)."""
    from planner.terminal.progress import Progress
    from profiler.profile import profile

    spec, settings = asked.spec, asked.settings
    if not asked.sweeps:
        return profile(spec, settings, Progress(0)), asked.output
    from profiler.profile import running_dtype
    from profiler.results import load
    from profiler.sweep import parse_grid, sweep

    begun = load(asked.resume) if asked.resume else None
    path = asked.output or asked.resume
    grid = parse_grid(list(asked.axes), running_dtype(spec, settings.dtype))
    save = (lambda result: write_whole(path, result.to_json() + "\n")) if path else None
    return sweep(spec, settings, grid, begun=begun, save=save, progress=Progress(0)), path


def _new_path(result: Measurement) -> str:
    """A file of its own for each run, in results/ of the user's config folder."""
    from planner.catalogue.entries import user_folder

    folder = os.path.join(user_folder(), "results")
    stamp = "".join(ch for ch in result.environment.date[:19] if ch.isdigit())
    name = "".join(ch if ch.isalnum() or ch in "-._" else "_" for ch in result.model)[:60]
    path, number = os.path.join(folder, f"{name}-{stamp}.json"), 2
    while os.path.exists(path):
        path, number = os.path.join(folder, f"{name}-{stamp}-{number}.json"), number + 1
    return path


def page(result: Measurement, path: str | None = None) -> str:
    """Writes the short answer for a screen."""
    here = result.environment
    lines = [
        bold(result.model) + f"  {result.model_type}, {result.layers_run} of {result.layers} layers, {result.dtype}, "
        f"{result.linear} matrices, {'random weights' if result.weights == 'random' else result.weights}",
        _verdict(result),
        f"on {here.device} ({here.device_kind}, {here.threads} threads), torch {here.torch}, {here.date[:10]}",
    ]  # fmt: skip
    if result.text:
        lines += ["", result.text]
    if result.checks:
        lines += ["", _checks(result)]
    for what, title in (("prefill", "Prefill"), ("decode", "Decode")):
        points = [p for p in result.points if p.what == what]
        if points:
            lines += ["", f"{title}", _points(points)]
    if speeds := _outputs(result):
        lines += ["", *speeds]
    lines += ["", *(dim(f"  {note}") for note in result.notes)] if result.notes else []
    lines += [bad("  note: ") + warning for warning in result.warnings]
    if path:
        lines.append(dim(f"  the whole result: {path}"))
    return "\n".join(lines)


def _verdict(result: Measurement) -> str:
    """Whether every size that is known to the byte came out so, and how fast the longest decode was."""
    exact = [check for check in result.checks if check.expect == "exact" and check.verdict != "not measured"]
    wrong = sum(check.failed for check in exact)
    decoded = [p for p in result.points if p.what == "decode" and p.status == "done" and p.cache != "none"]
    speed = ""
    if decoded:
        last = decoded[-1].readings
        speed = f"{last['tokens_per_s'].value:,.1f} tok/s, {_seconds(last['step_seconds'].value)} a token"
    if wrong:
        return bad(f"DIFFERS: {wrong:,} of {len(exact):,} exact sizes are not as predicted.")
    if exact:
        return good(f"AS PREDICTED: {plural(len(exact), 'exact size')}, to the byte{'; ' + speed if speed else ''}.")
    return f"MEASURED: {speed}." if speed else "MEASURED: nothing that is predicted to the byte."


def _checks(result: Measurement) -> str:
    rows = []
    for check in _shown(result.checks):
        error = "" if check.error is None or check.verdict == "exact" else f"{100 * check.error:+.1f} %"
        verdict = check.verdict
        paint = good if verdict in ("exact", "within 2 %", "in range") else bad if check.expect == "exact" else str
        rows.append(
            [
                _name(check.name),
                check.where,
                _value(check.name, check.predicted),
                _value(check.name, check.measured),
                error,
                verdict,
            ]
        )
        rows[-1][-1] = paint(verdict)
    return table(["", "", "predicted", "measured", "", ""], rows, left=2)


def _shown(checks: tuple[Check, ...]) -> list[Check]:
    """Exact cache checks that came true stand in one line a strategy; the rest as they are."""
    seen: set[tuple[str, str]] = set()
    shown = []
    for check in checks:
        key = (check.name, check.where.split(", batch")[0])
        if check.name == "kv_bytes" and check.verdict == "exact":
            if key in seen:
                continue
            seen.add(key)
        shown.append(check)
    return shown


def _name(key: str) -> str:
    return key.rsplit("_", 1)[0].replace("_", " ") if not key.startswith("speedup") else "speedup"


def _value(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name.endswith("_bytes"):
        return f"{int(value):,} B"
    if name.endswith("_seconds"):
        return _seconds(value)
    return f"{value:.2f}"


def _seconds(value: float) -> str:
    return f"{value * 1e3:,.2f} ms" if value < 1 else f"{value:,.2f} s"


def _points(points: list[Point]) -> str:
    rows = []
    for point in points:
        name = "ttft_seconds" if point.what == "prefill" else "step_seconds"
        place = [point.dtype, f"batch {point.batch}", f"{point.context_tokens:,} tokens", point.cache]
        if point.mode != "eager":
            place[-1] += f", {point.mode}"
        if point.status != "done":
            rows.append([*place, point.status.replace("_", " "), "", "", "  " + point.note[:60]])
            continue
        seconds, rate = point.readings[name], point.readings["tokens_per_s"]
        about = "" if seconds.kind == "measured" else f"  {seconds.kind}: {seconds.note}"
        rows.append([*place, _seconds(seconds.value), f"{rate.value:,.1f} tok/s", _reach(point), about])
    head = "TTFT" if points[0].what == "prefill" else "TPOT"
    return table(["", "", "", "", head, "", "reached", ""], [[f"  {row[0]}", *row[1:]] for row in rows], left=4)


def _reach(point: Point) -> str:
    read, share = point.readings.get("read_bytes_per_s"), point.readings.get("read_share")
    if read is not None:
        words = bandwidth(read.value)
    elif (rate := point.readings.get("flops_per_s")) is not None:
        words, share = f"{rate.value / 1e9:,.0f} GFLOP/s", point.readings.get("flops_share")
    else:
        return ""
    return words + (f" ({100 * share.value:.0f} %)" if share is not None else "")


def _outputs(result: Measurement) -> list[str]:
    """Cached against uncached, a row an output length."""

    def seconds(what: str, tokens: int, cache: str) -> Reading | None:
        found = (p.readings["total_seconds"] for p in result.of(what) if (p.new_tokens, p.cache) == (tokens, cache))
        return next(found, None)

    def cell(reading: Reading | None) -> str:
        return "-" if reading is None else _seconds(reading.value) + ("~" if reading.kind == "estimated" else "")

    caches = list(dict.fromkeys(p.cache for p in result.of("generate")))
    lengths = sorted({p.new_tokens for p in result.of("generate")})
    ratios = {p.new_tokens: p.readings["speedup"] for p in result.of("speedup")}
    if not lengths:
        return []
    rows = []
    for tokens in lengths:
        ratio = ratios.get(tokens)
        rows.append([
            f"  {tokens:,}", *(cell(seconds("generate", tokens, c)) for c in caches), cell(seconds("generate_uncached", tokens, "none")),
            f"{ratio.value:.1f}x" if ratio else "-",
        ])  # fmt: skip
    lines = [table(["  new tokens", *(f"{c} cache" for c in caches), "no cache", "speedup"], rows, left=0)]
    if any(
        p.readings["total_seconds"].kind == "estimated"
        for p in (*result.of("generate"), *result.of("generate_uncached"))
    ):
        lines.append(dim("  ~ integrated from single steps measured at sampled lengths; --full runs them whole"))
    if crossing := result.figures.get("crossing_tokens"):
        lines.append(f"  the cache pays from {crossing.value:.0f} new token{'s' if crossing.value != 1 else ''} on")
    return lines
