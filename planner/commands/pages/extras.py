"""What shares the devices, and where idle sessions lie: the lines of a table and the block of the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.terminal.tables import dim
from planner.units import gib, human_bytes, human_count, human_seconds, human_tokens

KINDS = {"model": "a model of its own", "mtp": "the checkpoint's own layers", "eagle": "an EAGLE head", "eagle3": "an EAGLE-3 head"}  # fmt: skip


def extra_lines(found: Mapping[str, Any], seq_tokens: int) -> list[str]:
    """Writes a table of what lies beside the model, then the tiers."""
    lines: list[str] = []
    if "lines" in found:
        rows = [[f"  {line['name']}", gib(line["bytes"]), _words(line["name"], found)] for line in found["lines"]]
        if rows:
            lines += ["Beside the model on each device", *_left_table(rows)]
        else:  # a drafter lies on the last of the devices that split the layers
            lines.append("Nothing beside the model on the fullest device: a drafter lies on the last one")
        if found["sequence_bytes"]:
            lines.append(f"  and {human_bytes(found['sequence_bytes'])} for each sequence of {human_tokens(seq_tokens)} tokens: "
                         "the drafter's cache and the slots of a step's drafts")  # fmt: skip
        lines += [dim(f"  note: {note}") for note in found.get("drafter", {}).get("notes", [])]
    if "idle" in found:
        lines += ([""] if lines else []) + _idle_lines(found["idle"], seq_tokens)
    return lines


def _left_table(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"{name.ljust(widths[0])}  {size.rjust(widths[1])}  {words}" for name, size, words in rows]


def _words(name: str, found: Mapping[str, Any]) -> str:
    for lora in found.get("lora", ()):
        if name == lora["name"]:
            where = "every linear layer" if lora["targets"] == ["all"] else ", ".join(lora["targets"])
            kind = "slots, preallocated for" if lora["slots"] else "on"
            return f"{human_count(lora['adapter_parameters'])} parameters each, {kind} {where}"
    drafter = found.get("drafter")
    if drafter and name == f"drafter {drafter['model']}":
        return f"{KINDS[drafter['kind']]}, {human_count(drafter['parameters'])} parameters, {_plural(drafter['draft_tokens'], 'token')} drafted a step"
    for other in found.get("models", ()):
        if name == f"model {other['model']}":
            share = f"; {other['share']:.0%} of what is left" if other["share"] else ""
            return f"room for {other['sequences']:,} x {human_tokens(other['seq_tokens'])} tokens{share}: {other['most_sequences']:,} at once"
    said = {"idle sessions": "kept on the device", "image buffer": "estimated, of one image"}
    return "its weights, as stored" if name.startswith("tower ") else said.get(name, "")


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}" + ("" if count == 1 else "s")


def _idle_lines(idle: Mapping[str, Any], seq_tokens: int) -> list[str]:
    lines = [f"Idle sessions of {human_tokens(seq_tokens)} tokens: {human_bytes(idle['session_bytes'])} each"]
    for tier, name in (("host", "host memory"), ("ssd", "disk")):
        most = idle[f"{tier}_sessions_most"]
        if most is None:
            continue
        back = idle[f"{tier}_restore_seconds_bound"]
        words = "" if back is None else f", back in at least {human_seconds(back)}"
        used = f"{idle[f'{tier}_sessions']:,} of them used, " if idle["sessions"] else ""
        lines.append(f"  {name.ljust(11)}  holds {most:,}: {used}{human_bytes(idle['session_bytes'])} each{words}")
    if idle.get("device_sessions"):
        lines.append(
            f"  device       holds all {idle['device_sessions']:,}: they count as sequences; --host-memory or --ssd takes them off"
        )
    if idle["sessions_left"]:
        lines.append(f"  no room for {idle['sessions_left']:,}: computed again when they come back")
    if idle["recompute_seconds"] is not None:
        lines.append(f"  computing one again takes about {human_seconds(idle['recompute_seconds'])} (estimated)")
    return lines
