"""How the answer of `kvplan fit` looks on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from planner.answers.fit import FitAnswer
from planner.answers.users import Users
from planner.commands.pages.assumed import assumed_lines
from planner.commands.pages.model_line import headline, named
from planner.engines.base import EngineAnswer
from planner.memory.offload import Offload
from planner.options.engine import STARTED_FOR
from planner.options.tables import LLAMA
from planner.terminal.tables import bad, dim, good, table
from planner.units import gib, human_bytes, human_seconds, human_tokens


def _offload_lines(offload: Offload, found: dict[str, Any]) -> list[str]:
    """llama.cpp's layers on the card; weights and caches exact, the rest of the card estimated."""
    reads = found["offload"]
    where = f"batch {found['batch']:,} of {human_tokens(found['seq_tokens'])} tokens"
    head = " and the head" if offload.head_on_device else ""
    return [
        f"llama.cpp at {where}: {offload.flags}, {offload.layers_on_device} of {offload.layers} layers{head} on the card"
        + (f", experts of {offload.cpu_moe_layers} on the host" if offload.cpu_moe_layers else ""),
        f"  card  {gib(offload.device_bytes)}: weights {gib(offload.device_weight_bytes)}, cache "
        f"{gib(offload.device_cache_bytes)}, {gib(offload.device_other_bytes)} estimated for the rest",
        f"  host  weights {gib(offload.host_weight_bytes)}, cache {gib(offload.host_cache_bytes)}{_host_verdict(offload)}",
        f"  a token reads {human_bytes(reads['device_read_bytes'])} on the card and {human_bytes(reads['host_read_bytes'])} on the host"
        f"{_host_speed(reads)}",
    ]


def _host_verdict(offload: Offload) -> str:
    if offload.host_fits is None or offload.host_memory is None:
        return ""
    return f": {'fits' if offload.host_fits else 'does not fit'} in {gib(offload.host_memory)}"


def _host_speed(block: dict[str, Any]) -> str:
    """The most that bandwidth alone allows, host memory at 40 to 80 GB/s (two channels of DDR4 and DDR5)."""
    slow, fast = block["tokens_per_s_most_low"], block["tokens_per_s_most_high"]
    return "" if slow is None else f": at most {slow:.3g} to {fast:.3g} tok/s with host memory of 40 to 80 GB/s"


# long: the page from top to bottom
def page(answer: FitAnswer, verbose: bool = False) -> list[str]:
    """Writes the figures, a table by length, and what only some questions ask for."""
    if answer.start_file is not None:
        return answer.start_file.splitlines()  # alone, so that it can be written to a file
    found = answer.to_dict()
    paint = good if answer.verdict.ok else bad
    pieces = [
        f" on {found['device']}",
        "" if " + " in found["device"] else f" ({gib(found['capacity_bytes'])})",
        f"; sequences of {found['seq_tokens']:,} tokens",
        f", KV in {found['kv_dtype']}",
    ]
    first, more = headline(answer.asked.spec, pieces, drop=(3, 1))
    lines = [first, paint(answer.verdict.line()), *more, ""]
    most = found["most_sequences"]
    count = "no bound: nothing is kept" if most is None else f"{most:,}"
    if most and answer.engine is None and not answer.verdict.ok:
        count += " by memory alone"
    seq = human_tokens(found["seq_tokens"])
    rows = [
        ["  left for cache", _left(found["pool_bytes"])],
        [f"  one sequence of {seq} tokens", human_bytes(found["sequence_bytes"])],
        [f"  most sequences of {seq} tokens", (good if answer.verdict.ok else bad)(count)],
        [f"  longest context at batch {found['batch']:,}", _longest(found)],
        ["  fewest devices", _devices(found)],
    ]
    if answer.engine is not None and answer.engine.name in LLAMA and most:
        rows.insert(2, ["  started with", _slots(answer.engine)])
    width = max(len(row[0]) for row in rows)
    lines += [f"{name.ljust(width)}  {value}" for name, value in rows]
    by_length = [[f"  {human_tokens(row['seq_tokens'])} tokens", "no bound" if row["most_sequences"] is None else f"{row['most_sequences']:,}"]
                 for row in found["by_length"]]  # fmt: skip
    started = answer.asked.engine is not None and answer.asked.engine.name in STARTED_FOR
    lines += ["", table(["  started for" if started else "  length", "most sequences"], by_length)]
    if answer.users is not None:
        lines += ["", *_users_lines(answer.users)]
    if "length_mix" in found:
        lines += ["", *_mix_lines(found["length_mix"])]
    if "extras" in found:
        from planner.commands.pages.extras import extra_lines

        lines += ["", *extra_lines(found["extras"], found["seq_tokens"])]
    if answer.offload is not None:
        lines += ["", *_offload_lines(answer.offload, found)]
    lines += ["", _holder_line(found)]
    lines += _engine_lines(answer)
    lines += [bad("  note: ") + line for line in found["warnings"] if line != answer.estimate.beyond_note]
    own = answer.engine.assumptions if answer.engine is not None else ()
    plain = found["assumptions"]
    if answer.engine is not None and answer.engine.placed is not None:
        plain = [line for line in plain if not line.startswith("PP ")]  # llama.cpp lays layers out by its own rule
    return lines + assumed_lines([*plain, *own], verbose)


def _slots(engine: EngineAnswer) -> str:
    """The flags of llama.cpp's family for so many slots of the asked length."""
    assert engine.ranged is not None
    context, slots = engine.ranged.pool.extra["ctx_size"], engine.ranged.pool.extra["slots"]
    if engine.name == "ollama":
        return f"OLLAMA_NUM_PARALLEL={slots} OLLAMA_CONTEXT_LENGTH={context // slots}"
    placed = f" {engine.placed.placement.flags}" if engine.placed is not None and engine.placed.placement.flags else ""
    return {"koboldcpp": f"--contextsize {engine.request_tokens}", "lmstudio": f"context {context:,}"}.get(
        engine.name, f"-c {context} -np {slots}{placed}"
    )


def _users_lines(users: Users) -> list[str]:
    """How many users meet the targets by the user's own measurements, and what they see."""
    targets, found = users.targets, users.speed
    usual = " (usual targets)" if targets.assumed else ""
    aim = f"TTFT {human_seconds(targets.ttft_seconds or 0)}, TPOT {human_seconds(targets.tpot_seconds or 0)}{usual}"
    lengths = f"prompts of {users.asked.prompt_tokens:,}, answers of {users.asked.output_tokens:,}"
    if found is None:
        return [bad(f"By what you measured not one user meets {aim}: {users.by} fails; {lengths}.")]
    low, high = found.tpot_seconds.low, found.tpot_seconds.high
    return [
        f"By what you measured {users.most:,} at once meet {aim}; then {users.by} ends it.",
        f"  there TPOT {human_seconds(found.tpot_seconds.value)} ({human_seconds(low)} to {human_seconds(high)}), TTFT "
        f"{human_seconds(found.ttft_seconds.value)}; {lengths}",
        dim(f"  {found.constants_from}"),
    ]


def several_page(answers: Sequence[FitAnswer]) -> list[str]:
    """Writes how many devices, lengths and batches hold a sequence, then a row for each."""
    first = answers[0]
    devices = {answer.asked.capacity.name for answer in answers}
    where = f" on {first.asked.capacity.name}" if len(devices) == 1 else f" on {len(devices)} devices"
    engine = f", {first.asked.engine.label}" if first.asked.engine is not None else ""
    held = [answer for answer in answers if answer.verdict.ok]
    said = (
        good(f"FITS in all {len(answers)}.") if len(held) == len(answers)
        else bad(f"DOES NOT FIT in {len(answers) - len(held)} of {len(answers)}.") if held
        else bad(f"DOES NOT FIT in any of these {len(answers)}.")
    )  # fmt: skip
    rows = [
        [
            f"  {answer.asked.capacity.name}",
            f"{answer.asked.request.seq_tokens:,}",
            f"{answer.asked.request.batch:,}",
            "no bound" if answer.most_sequences is None else f"{answer.most_sequences:,}",
            f"{answer.longest_context_tokens:,}",
            answer.verdict.word,
        ]
        for answer in answers
    ]
    header = ["  device", "tokens", "batch", "most sequences", "longest context", "verdict"]
    notes = dict.fromkeys(line for answer in answers for line in answer.estimate.warnings)
    return [
        named(first.asked.spec) + f"{where}, KV in {first.kv_dtype}{engine}", said, "",
        table(header, rows), dim("  most sequences: of so many tokens; longest context: at that batch, in tokens"),
        *(bad("  note: ") + line for line in notes),
    ]  # fmt: skip


def _engine_lines(answer: FitAnswer) -> list[str]:
    """The same questions in the terms of the engine that was asked."""
    if answer.engine is None:
        return []
    from planner.commands.pages.engine import engine_lines

    return ["", *engine_lines(answer.engine, answer.command, answer.asked.capacity)]


def _longest(found: dict[str, Any]) -> str:
    longest, limit = found["longest_context_tokens"], found["longest_context_limit_tokens"]
    if not longest:
        return bad("none")
    return f"{longest:,} tokens" + (" (the model's limit)" if longest == limit else "")


def _left(size: int) -> str:
    """What weights and the rest leave, or by how much they are over."""
    return gib(size) if size >= 0 else bad(f"none: the rest is {gib(-size)} over")


def _devices(found: dict[str, Any]) -> str:
    fewest, servers = found["fewest_devices"], found["fewest_devices_tensor_parallel"]
    if fewest is None:
        return bad("no number of them holds it")
    words = _layout_words(fewest)
    if servers and servers != fewest:
        words += f"; as servers are started, {_layout_words(servers)}"
    return words


def _layout_words(layout: dict[str, int]) -> str:
    if layout["devices"] == 1:
        return "1"
    stages = f" x PP {layout['pp']}" if layout["pp"] > 1 else ""
    return f"{layout['devices']:,} (TP {layout['tp']}{stages})"


def _mix_lines(mix: dict[str, Any]) -> list[str]:
    return [
        f"Real lengths: {mix['source']}",
        f"  mean {mix['mean_tokens']:,}, p50 {mix['p50_tokens']:,}, p95 {mix['p95_tokens']:,}, longest {mix['longest_tokens']:,} tokens",
        f"  {mix['safe_sequences']:,} at once in 99 of 100 moments; {mix['average_sequences']:,} on average; "
        f"{mix['sequences_at_longest']:,} if every one were the longest",
        dim("  estimated: every request at its full length, lengths independent"),
    ]


def _holder_line(found: dict[str, Any]) -> str:
    holders = found["devices_that_hold_it"]
    asked = f"batch {found['batch']:,} of {human_tokens(found['seq_tokens'])} tokens"
    if not holders:
        return f"Catalogue devices that hold {asked} in this layout: none"
    names = ", ".join(f"{row['device']}" for row in holders[:8])
    more = f" and {len(holders) - 8} more" if len(holders) > 8 else ""
    return f"Catalogue devices that hold {asked} in this layout, smallest first: {names}{more}"
