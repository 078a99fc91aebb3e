"""How long `kvplan estimate llama-7b --seq 8192` takes to start, answer and end, beside others.

    python benchmarks/startup.py --rounds 40

Runs each command once a round, all in turn, so that a slow moment of the machine hits all of them. Peers are
timed where they are installed (in the environment of this Python, or on PATH) and skipped with a word where
they are not. For a table with all of them:

    python -m venv .venv
    .venv/bin/pip install . vramcalc llm-flops hf-mem
    .venv/bin/python benchmarks/startup.py

Standard library only.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from machine import header

REPOSITORY = Path(__file__).resolve().parent.parent
BARE = "python -c pass"
OURS = "python -m kvplan estimate llama-7b --seq 8192"

# LLaMA-7B, for peers that want a config file (arXiv:2302.13971, table 2).
LLAMA_7B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vocab_size": 32000,
}


@dataclass
class Row:
    """One command and its times; `skipped` says why it has none."""

    label: str
    command: list[str] = field(default_factory=list)
    note: str = ""
    skipped: str = ""
    seconds: list[float] = field(default_factory=list)


def installed(name: str) -> str | None:
    """The program `name` beside this Python, else on PATH."""
    beside = Path(sys.executable).parent / (name + (".exe" if os.name == "nt" else ""))
    return str(beside) if beside.exists() else shutil.which(name)


def python_row(code: str, *modules: str) -> Row:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    skipped = f"{missing[0]} is not installed" if missing else ""
    shown = repr(code) if " " in code else code
    return Row(f"python -c {shown}", [sys.executable, "-c", code], "", skipped)


def program_row(name: str, arguments: list[str], shown: str, note: str = "") -> Row:
    path = installed(name)
    return Row(f"{name} {shown}", [path or name, *arguments], note, "" if path else "not installed")


def rows(config: Path) -> list[Row]:
    ours = ["estimate", "llama-7b", "--seq", "8192"]
    flops = ["estimate", "meta-llama/Llama-2-7b-hf", "-s", "8192", "--no-hf", "--no-backward"]
    return [
        python_row("pass"),
        python_row("import click", "click"),
        python_row("import click, yaml", "click", "yaml"),
        Row(OURS, [sys.executable, "-m", "kvplan", *ours], "this checkout"),
        program_row("kvplan", ours, " ".join(ours), "as installed"),
        program_row("vramcalc", ["estimate", str(config), *ours[2:]], "estimate config.json --seq 8192"),
        program_row("llm-flops", flops, " ".join(flops)),
        program_row("hf-mem", ["--help"], "--help", "help only: its answers need the network"),
    ]


def once(row: Row) -> float:
    """Seconds of one run; a command that fails is skipped from here on."""
    # Python's own settings left out: with PYTHONDONTWRITEBYTECODE a checkout would be compiled every time.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    if row.label == OURS:
        environment["PYTHONPATH"] = str(REPOSITORY)
    start = time.perf_counter()
    done = subprocess.run(row.command, env=environment, capture_output=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        row.skipped = f"exit {done.returncode}: {lines[-1][:60] if lines else 'no message'}"
    return seconds


def measure(table: list[Row], rounds: int) -> None:
    """`rounds` times each command in turn, after an uncounted run of each (it writes the .pyc files)."""
    for number in range(rounds + 1):
        for row in table:
            if not row.skipped:
                seconds = once(row)
                if number:
                    row.seconds.append(seconds)


def ratio(row: Row, bare: Row) -> float:
    return statistics.median(row.seconds) / statistics.median(bare.seconds)


def show(table: list[Row]) -> None:
    bare = table[0]
    width = max(len(row.label) for row in table)
    print(f"{'':{width}}  {'min':>9}  {'median':>9}  {'x bare':>7}")
    for row in table:
        if row.skipped:
            print(f"{row.label:{width}}  skipped: {row.skipped}")
            continue
        low, middle = min(row.seconds), statistics.median(row.seconds)
        times = f"{low * 1e3:6.1f} ms  {middle * 1e3:6.1f} ms  {ratio(row, bare):7.2f}"
        print(f"{row.label:{width}}  {times}  {row.note}".rstrip())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--limit", type=float, help="exit 1 when kvplan takes over LIMIT bare interpreters")
    parser.add_argument("--json", action="store_true", help="print the times in seconds as JSON")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps(LLAMA_7B), encoding="utf-8")
        table = rows(config)
        measure(table, max(1, arguments.rounds))
    ours = next(row for row in table if row.label == OURS)
    if arguments.json:
        times = {row.label: row.seconds for row in table if not row.skipped}
        print(json.dumps({"machine": header(), "rounds": arguments.rounds, "seconds": times}, indent=1))
    else:
        print(f"{header()}, {arguments.rounds} rounds, all commands in turn\n")
        show(table)
    if ours.skipped:
        return 1
    return 1 if arguments.limit and ratio(ours, table[0]) > arguments.limit else 0


if __name__ == "__main__":
    sys.exit(main())
