"""Writes the generated pages: python docs/make.py [--check]

docs/cli.md            every command's help, as the commands print it
docs/model-types.md    the model types that are read, with what each implies and its source
docs/known-figures.md  figures that teaching texts and calculators get wrong, ours beside them, the working
docs/accuracy.md       our numbers against implementations and server logs, counted
README.md              the output below each `$ kvplan ...`, run anew
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click

from kvplan.cli import COMMANDS
from kvplan.group import cli
from planner.catalogue import find_model
from planner.explain import equations
from planner.memory import Request, estimate
from planner.mixers import Attention, LatentAttention
from planner.readers import read_entry
from planner.readers.registry import find_type, known_types
from planner.spec import ModelSpec

GENERATED = "<!-- written by `python docs/make.py`; edit that, not this -->\n\n"


def cli_page() -> str:
    """Each command's own help."""
    parts = ["# Commands\n", help_of(cli, "kvplan")]
    context = click.Context(cli, info_name="kvplan")
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        parts += [f"## kvplan {name}\n", help_of(command, f"kvplan {name}")]
    parts.append(
        "Exit codes: 0 answered, 1 an input that is wrong, 2 usage, 3 does not fit. Errors are one line on stderr.\n"
    )
    return GENERATED + "\n".join(parts)


def help_of(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=100, max_content_width=100)
    return f"```\n{command.get_help(context)}\n```\n"


def model_types_page() -> str:
    """A row a model type."""
    lines = [
        "# Model types",
        "",
        f"{len(known_types())} values of `model_type` are read. Implied structure and the defaults of keys that published",
        "files omit are those of the transformers 5.23.0 configuration and modelling files, unless a source is named.",
        "Any other type is refused, unless `--assume full-attention` asks for an upper bound.",
        "",
        "| model_type | defaults of absent keys | implied by the type | source |",
        "|---|---|---|---|",
    ]
    for name in known_types():
        kind = find_type(name)
        assert kind is not None
        defaults = ", ".join(f"{key} {_shown(value)}" for key, value in sorted(kind.defaults.items()))
        implied = ", ".join(f"{key} {_shown(value)}" for key, value in sorted(kind.implied.items()))
        lines.append(f"| `{name}` | {defaults or '-'} | {implied or '-'} | {kind.source or 'transformers 5.23.0'} |")
    return GENERATED + "\n".join(lines) + "\n"


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."


KNOWN = (
    # model, tokens, KV dtype, what is often quoted, why it is wrong
    ("gpt2", 1024, "fp32", "37 MB", "that is the fp16 figure; GPT-2's own weights and cache are fp32"),
    ("gpt3-175b", 2048, "fp32", "4.7 GB", "that is half of the fp16 figure (9.66 GB): K or V alone"),
    ("gpt3-175b", 2048, "fp16", "4.7 GB", "K or V alone, the factor 2 forgotten"),
    ("llama-7b", 1024, "fp16", "1-2 GB", "0.5 MiB a token times 1024 tokens is 0.5 GiB; 1-2 GB is 2048 to 4096 tokens"),
    ("mistral-7b-v0.1", 32768, "bf16", "-", "every layer keeps a window of 4096 tokens, not all of them"),
    ("falcon-7b", 2048, "bf16", "-", "one KV head (multi_query), not 71: no key of the file says num_key_value_heads"),
    ("gemma-3-27b", 32768, "bf16", "-", "five of six layers keep a window of 1024"),
    ("deepseek-v3", 32768, "bf16", "-", "the cache is one latent of 512 + 64 a token, not 128 heads of 192 + 128"),
    ("qwen3-next-80b", 32768, "bf16", "-", "three of four layers keep a state that does not grow"),
)


def known_figures_page() -> str:
    """Ours beside what is often quoted."""
    lines = [
        "# Figures that are often wrong",
        "",
        'One sequence. GB is 10^9 bytes. "Naive" is what 2 x tokens x layers x heads x head_dim x bytes gives with every',
        "attention head and every layer counted alike. The quoted figures are those that teaching texts repeat.",
        "",
        "| model | tokens | KV dtype | often quoted | naive | kvplan | bytes | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    working = ["", "## The working", ""]
    for name, tokens, dtype, quoted, why in KNOWN:
        spec = read_entry(find_model(name))
        answer = estimate(spec, Request(tokens, k_dtype=dtype, v_dtype=dtype))
        naive = _naive_bytes(spec, tokens, answer.fmt.k.vector_bytes(1))
        lines.append(
            f"| {name} | {tokens:,} | {dtype} | {quoted} | {naive / 1e9:.4g} GB | {answer.kv_bytes / 1e9:.4g} GB "
            f"| {answer.kv_bytes:,} | {why} |"
        )
        working.append(f"{name}, {tokens:,} tokens, {dtype}:")
        working += [f"- {part.kind}: {part.text} = {part.bytes:,} B" for part in equations(answer)]
        working.append("")
    return GENERATED + "\n".join(lines + working)


def _naive_bytes(spec: ModelSpec, tokens: int, element_bytes: int) -> int:
    """The textbook formula with all heads of the first attention layer in every layer."""
    mixers = [mixer for layer in spec.layers for mixer in layer.mixers]
    first = next(mixer for mixer in mixers if isinstance(mixer, (Attention, LatentAttention)))
    if isinstance(first, LatentAttention):
        width = first.heads * (first.nope_dim + first.rope_dim + first.v_dim)
    else:
        width = first.heads * (first.head_dim + first.value_dim)
    return tokens * len(spec.layers) * width * element_bytes


def accuracy_page() -> str:
    """How many references agree, and the reason for each that does not."""
    from tests import engine_truth, truth

    worked = [(case, truth.kv_answer(case)) for case in truth.kv_cases()]
    exact = sum(
        (a.kv_bytes, a.state_bytes, a.per_device.kv_bytes)
        == (c["cache_bytes"], c["state_bytes"], c["cache_bytes_per_device"])
        for c, a in worked
    )
    parameter_rows = truth.rows("parameters.csv")
    counted = [row for row in parameter_rows if row["model"] not in truth.PARAMETER_REASONS]
    equal = sum(bool(ours & reference) for ours, reference in map(truth.parameter_counts, counted))
    cache_rows = [row for row in truth.rows("cache_elements.csv") if row["model"] not in truth.CACHE_REASONS]
    same = sum(int(row["elements"]) in truth.cache_sizes(row)[0] for row in cache_rows)
    log_rows = truth.rows("engine_plain.csv")
    within = sum(low <= difference <= high for difference, low, high in map(truth.logged_difference, log_rows))
    verified = truth.verified()
    reasons = {**truth.CACHE_REASONS, **truth.BYTES_REASONS, **truth.PARAMETER_REASONS}
    lines = [
        "# Predicted against real",
        "",
        "| reference | agree | of |",
        "|---|---|---|",
        f"| worked cases, to the byte, per device too (`tests/cases/kv_cases.json`) | {exact} | {len(worked)} |",
        f"| parameter counts of transformers 5.23.0 models built at full size | {equal} | {len(counted)} |",
        f"| cache tensors that those models made, elements | {same} | {len(cache_rows)} |",
        f"| bytes per token in start-up logs of real servers, within their rounding | {within} | {len(log_rows)} |",
        f"| catalogue models that `kvplan verify --all` found exact or explained, layer by layer | {verified.agree} | {verified.built} |",
        "",
        "transformers drops the oldest token of a window (and of a chunk) after a forward pass: it keeps window - 1; both",
        "counts are accepted above. Left out, or compared in elements only, with the reason:",
        "",
        *[f"- {name}: {reason}" for name, reason in sorted(reasons.items())],
        "",
        "Rows of a log that compare with more than the pool alone may stand above ours:",
        "",
        *[f"- {kind}: up to {above} %, {reason}" for kind, (above, reason) in truth.LOG_REASONS.items()],
        "",
        "## Engines",
        "",
        "Start-up logs of real servers beside the rules of docs/engines.md: given the budget that a log prints, the tokens,",
        "blocks, concurrency, cells and buffers that it prints (`tests/cases/engine_logs.csv`, `llamacpp_memory.csv`).",
        "",
        *engine_truth.accuracy_lines(),
        "",
        *verified.lines,
    ]
    return GENERATED + "\n".join(lines) + "\n"


CONSOLE = re.compile(r"```console\n\$ (kvplan [^\n]*)\n.*?```", re.DOTALL)


def readme_page() -> str:
    """README.md with the output below each command as the command prints it now."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return CONSOLE.sub(lambda match: f"```console\n$ {match.group(1)}\n{output_of(match.group(1))}```", text)


def output_of(command: str) -> str:
    """What a command line prints, in a process of its own."""
    arguments = shlex.split(command)[1:]
    done = subprocess.run([sys.executable, "-m", "kvplan", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout + done.stderr


PAGES: dict[str, Callable[[], str]] = {
    "README.md": readme_page,
    "docs/cli.md": cli_page,
    "docs/model-types.md": model_types_page,
    "docs/known-figures.md": known_figures_page,
    "docs/accuracy.md": accuracy_page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are stale."""
    stale = []
    for name, page in PAGES.items():
        path, text = ROOT / name, page()
        if arguments == ["--check"]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run python docs/make.py", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
