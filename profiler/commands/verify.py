"""`kvplan verify`: our numbers against the real transformers implementation, built without memory."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import click

from planner.catalogue.entries import models
from planner.errors import BadConfig, BadRequest, KvplanError, one_line
from planner.files.read import parse_json, read_text
from planner.lookup import model_spec
from planner.terminal.output import emit, to_json, write_whole
from planner.terminal.tables import bad, dim, good, table, wrapped
from planner.units import gib, plural
from profiler import verify
from profiler.commands.verify_asked import VerifyAsked, verify_asked
from profiler.verify import DIFFERENT, EXACT, EXPLAINED, FAILED, UNKNOWN, Task, Verdict
from profiler.verify_engine import EngineVerdict, verify_vllm
from profiler.verify_llama import LlamaVerdict, verify_llama

UNEXPLAINED = 3
MAX_PROCESSES = 64
MAX_FILE_BYTES = 256 << 20
MAX_SECONDS = 24 * 3600


@click.command(name="verify", epilog="\b\nExample: kvplan verify llama-3.1-8b ./my-model/config.json")
@click.argument("names", metavar="MODEL...", nargs=-1)
@click.option(
    "--engine",
    metavar="vllm|llamacpp[==BUILD]",
    help="Compare with an installed vLLM ([verify-vllm], KVPLAN_ENGINE_PYTHON): blocks, tokens, concurrency; or with a libllama: caches of a .gguf MODEL, by the rules of BUILD (b9879) where the library does not say its own.",
)
@click.option(
    "--library", metavar="PATH", help="llamacpp: folder or file of a libllama (default: KVPLAN_LLAMA_LIBRARY)."
)
@click.option("--all", "every", is_flag=True, help="Every model of the catalogue.")
@click.option(
    "--processes",
    metavar="N",
    default=1,
    show_default=True,
    type=click.IntRange(1, MAX_PROCESSES),
    help="Models at once.",
)
@click.option(
    "--time-limit",
    metavar="S",
    default=300,
    show_default=True,
    type=click.IntRange(1, MAX_SECONDS),
    help="Seconds a model may take.",
)
@click.option(
    "--memory-limit", metavar="SIZE", default="4GiB", show_default=True, help="Private memory a process may take."
)
@click.option("--fresh", is_flag=True, help="Take nothing over from an earlier -o FILE.")
@click.option("--json", "as_json", is_flag=True, help="JSON in place of the table.")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write the JSON to FILE after each model; what it holds already is taken over.",
)
def command(names: tuple[str, ...], **values: Any) -> None:
    """Compare parameters and cache bytes of every layer with the transformers implementation.

    With --engine the engine itself is asked in place of transformers.

    MODEL is a name of `kvplan models`, a config.json or a folder with one: any whose model_type the installed
    transformers knows. The model is built at full size on torch's meta device, which takes no memory, and runs a
    prefill and two decode steps with its own cache classes. Needs the [verify] extra (transformers, torch).
    Exit code 3 on a difference without a known reason, 1 when a model could not be compared.
    """
    asked = verify_asked(names, values)
    if asked.engine == "llamacpp":
        _against_libllama(asked)
    elif asked.engine:
        _against_engine(asked)
    else:
        _against_transformers(asked)


def _against_transformers(asked: VerifyAsked) -> None:
    """Each model beside its class in transformers, the file written after each; ends the command."""
    tasks = _tasks(asked)
    transformers, torch = verify.library_versions()
    known = {} if asked.fresh or not asked.output else _earlier(asked.output, transformers, torch)
    verdicts: list[Verdict] = []
    for verdict in _progress(_run(tasks, known, asked), len(tasks)):
        verdicts.append(verdict)
        if asked.output and known.get(verdict.model) is not verdict:
            write_whole(asked.output, _file_text(_report(verdicts, transformers, torch)))
    order = {task.name: i for i, task in enumerate(tasks)}
    verdicts.sort(key=lambda verdict: order.get(verdict.model, len(order)))
    report = _report(verdicts, transformers, torch)
    if asked.output:
        write_whole(asked.output, _file_text(report))
    emit(to_json(report) if asked.as_json else wrapped("\n".join(_page(verdicts, transformers, torch))))
    raise SystemExit(_exit_code(verdicts, asked.every))


def _against_engine(asked: VerifyAsked) -> None:
    """Each model beside the installed vLLM; ends the command."""
    verdicts = [verify_vllm(task.name, task.config) for task in _tasks(asked)]
    _end(verdicts, _engine_page(verdicts), asked)
    if any(one.error for one in verdicts):
        raise SystemExit(1)
    raise SystemExit(0 if all(one.agrees for one in verdicts) else UNEXPLAINED)


def _against_libllama(asked: VerifyAsked) -> None:
    """Each GGUF file's contexts beside libllama; ends the command."""
    verdicts = []
    for name in asked.names:
        if not name.lower().endswith(".gguf") or not os.path.isfile(name):
            raise BadRequest(
                f"{one_line(name, 80)}: libllama reads GGUF files; name one (its header is enough, weights are not read)"
            )
        verdicts.append(
            verify_llama(os.path.basename(name), model_spec(name), name, library=asked.library, version=asked.version)
        )
    if not verdicts:
        raise click.UsageError("which .gguf files? --all is of the catalogue, which holds configs")
    _end(verdicts, _llama_page(verdicts), asked)
    if any(one.agrees is False for found in verdicts for one in found.contexts):
        raise SystemExit(UNEXPLAINED)
    raise SystemExit(0 if all(one.agrees for one in verdicts) else 1)


def _end(verdicts: Sequence[EngineVerdict | LlamaVerdict], page: list[str], asked: VerifyAsked) -> None:
    """Writes what was found."""
    found = to_json({"models": [one.to_dict() for one in verdicts]})
    if asked.output:
        write_whole(asked.output, found + "\n")
    emit(found if asked.as_json else wrapped("\n".join(page)))


def _llama_page(verdicts: list[LlamaVerdict]) -> list[str]:
    lines = []
    for found in verdicts:
        same = sum(one.agrees is True and not one.refused for one in found.contexts)
        compared = sum(one.agrees is not None and not one.refused for one in found.contexts)
        head = f"{found.model} in llama.cpp {found.version}".rstrip() + ": "
        lines.append(head + (bad(found.error) if found.error else f"{same} of {compared} contexts agree"))
        for one in found.contexts:
            asked = ", ".join(f"{key} {value}" for key, value in one.question.items())
            if one.refused:
                lines.append(dim(f"  {asked}: refused by both"))
            elif one.error:
                lines.append(dim(f"  {asked}: not compared, {one.error}"))
            elif not one.agrees:
                theirs = f"{one.kv_mib:.2f} + {one.state_mib:.2f} MiB in {'/'.join(map(str, one.cells))} cells"
                mine = f"{one.our_kv_mib:.2f} + {one.our_state_mib:.2f} MiB in {'/'.join(map(str, one.our_cells))}"
                lines.append(f"  {asked}: {theirs}; ours {mine}: {bad('differs')}")
    return lines


def _engine_page(verdicts: list[EngineVerdict]) -> list[str]:
    lines = []
    for one in verdicts:
        lines.append(
            f"{one.model} in vllm {one.version} ({one.platform})" if not one.error else f"{one.model}: {one.error}"
        )
        for row in one.rows:
            word = good("agrees") if row.agrees else bad("differs")
            theirs = ", ".join(f"{name} {value}" for name, value in row.theirs.items())
            ours = "" if row.agrees else "; ours " + ", ".join(f"{name} {value}" for name, value in row.ours.items())
            lines.append(f"  pool {gib(row.pool_bytes)}: {theirs}{ours}: {word}")
    return lines


def _exit_code(verdicts: list[Verdict], every: bool) -> int:
    found = {verdict.status for verdict in verdicts}
    if DIFFERENT in found:
        return UNEXPLAINED
    return int(FAILED in found or (UNKNOWN in found and not every))


def _tasks(asked: VerifyAsked) -> list[Task]:
    if asked.every:
        return [Task(entry.name, entry.config) for entry in models()]
    tasks: list[Task] = []
    for name in asked.names:
        spec = model_spec(name)
        if not isinstance(spec.config.get("model_type"), str):
            raise BadRequest(f"{one_line(name, 80)}: a config.json is wanted; transformers builds a model from that")
        tasks.append(Task(spec.name if spec.name not in {task.name for task in tasks} else name, spec.config))
    return tasks


def _run(tasks: list[Task], known: dict[str, Verdict], asked: VerifyAsked) -> Iterator[Verdict]:
    """What an earlier file holds, where neither the config nor our answer changed; then the others."""
    left = []
    for task in tasks:
        before = known.get(task.name)
        if before is not None and before.key == _key(task):
            yield before
        else:
            left.append(task)
    yield from verify.verify_all(
        left, processes=asked.processes, limit_seconds=asked.limit_seconds, memory_bytes=asked.memory_bytes
    )


def _key(task: Task) -> str:
    from planner.readers.huggingface import read_config

    try:
        return verify.key_of(read_config(task.config, name=task.name, where=task.name))
    except KvplanError:
        return "-"


def _earlier(path: str, transformers: str, torch: str) -> dict[str, Verdict]:
    """The comparisons in an earlier file of the same versions; a file that is something else is not overwritten."""
    if not os.path.exists(path):
        return {}
    try:
        raw = parse_json(read_text(path, most_bytes=MAX_FILE_BYTES, what="a report of `kvplan verify`"), "it")
        if (raw["schema_version"], raw["transformers"], raw["torch"]) != (verify.SCHEMA_VERSION, transformers, torch):
            return {}
        verdicts = [Verdict.from_dict(item) for item in raw["models"]]
    except (KvplanError, ValueError, KeyError, TypeError, AttributeError):
        raise BadConfig(
            f"-o {one_line(path, 80)} exists and is no report of `kvplan verify`; choose another name"
        ) from None
    return {verdict.model: verdict for verdict in verdicts if verdict.status in (EXACT, EXPLAINED)}


def _progress(verdicts: Iterator[Verdict], total: int) -> Iterator[Verdict]:
    """One line a model on stderr."""
    for count, verdict in enumerate(verdicts, start=1):
        if total > 1:
            words = f" {verdict.words}" if verdict.words and verdict.status != UNKNOWN else ""
            line = f"[{count}/{total}] {verdict.model}: {verdict.status}, {verdict.seconds} s{words}"
            print(one_line(line, 300), file=sys.stderr, flush=True)
        yield verdict


def _report(verdicts: list[Verdict], transformers: str, torch: str) -> dict[str, Any]:
    return {
        "schema_version": verify.SCHEMA_VERSION,
        "transformers": transformers,
        "torch": torch,
        "counts": dict(Counter(verdict.status for verdict in verdicts)),
        "models": [verdict.to_dict() for verdict in verdicts],
    }


def _file_text(report: dict[str, Any]) -> str:
    """The report as JSON with a line a model, so that two of them can be compared by eye and by diff."""
    rest = {name: value for name, value in report.items() if name != "models"}
    lines = ",\n".join(json.dumps(model, ensure_ascii=False) for model in report["models"])
    return f'{json.dumps(rest)[:-1]}, "models": [\n{lines}\n]}}\n'


def _page(verdicts: list[Verdict], transformers: str, torch: str) -> list[str]:
    rows = [_row(verdict) for verdict in verdicts if verdict.status in (EXACT, EXPLAINED, DIFFERENT)]
    counts = Counter(verdict.status for verdict in verdicts)
    said = ", ".join(
        f"{counts[status]} {status}" for status in (EXACT, EXPLAINED, DIFFERENT, FAILED, UNKNOWN) if counts[status]
    )
    who = verdicts[0].model if len(verdicts) == 1 else plural(len(verdicts), "model")
    lines = [
        f"{who} beside transformers {transformers}, built at full size on torch {torch}'s meta device, bf16",
        (bad if counts[DIFFERENT] or counts[FAILED] else good)(f"{plural(len(verdicts), 'model')}: {said}"),
        "",
    ]
    if rows:
        header = ["model", "class", "parameters", "", "cache: tokens x batch", "bytes", "theirs", "layers", ""]
        lines.append(table(header, [cells for row in rows for cells in row], left=2))
    for reason in sorted({reason for verdict in verdicts for check in verdict.caches for reason in check.reasons}):
        lines.append(dim(f"  explained: {reason}"))
    for verdict in verdicts:
        if verdict.words:
            lines.append(f"  {verdict.model}: {verdict.words}")
        if verdict.filled:
            lines.append(dim(f"  {verdict.model}: its file leaves out keys, taken as {', '.join(verdict.filled)}"))
        for difference in dict.fromkeys(text for check in verdict.caches for text in check.differences):
            lines.append(bad(f"  {verdict.model}: {difference}"))
    return lines


def _row(verdict: Verdict) -> list[list[str]]:
    """A row a run."""
    rows = []
    for index, check in enumerate(verdict.caches):
        agree = verdict.ours_parameters == verdict.theirs_parameters
        first = [verdict.model, verdict.class_name, f"{verdict.theirs_parameters:,}", EXACT if agree else DIFFERENT]
        word = DIFFERENT if check.differences else EXPLAINED if check.explained else EXACT
        counted = f"{check.exact + check.explained}/{check.layers}"
        rows.append(
            [*(first if index == 0 else [""] * 4), f"{check.tokens:,} x {check.batch}", f"{check.ours_bytes:,}",
             f"{check.theirs_bytes:,}", counted, word]
        )  # fmt: skip
    return rows
