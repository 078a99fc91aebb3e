"""Writes the generated pages: python docs/make.py [--check]

docs/cli.md            every command's help, as the commands print it
docs/model-types.md    the model types that are read, with what each implies and its source
docs/known-figures.md  figures that teaching texts and calculators get wrong, ours beside them, the working
docs/accuracy.md       our numbers against implementations and server logs, as `kvplan accuracy` counts them
docs/examples.md       five questions to `kvplan plan`, each answer worked out again by hand (docs/examples.py)
README.md              the output below each `$ kvplan ...`, run anew
docs/speed.md, docs/simulate.md and the other pages named in CONSOLE_PAGES   the same
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click

from kvplan.group import cli
from kvplan.table import COMMANDS
from planner.accuracy.cases import Cases
from planner.accuracy.page import compare
from planner.accuracy.page import page as counted_page
from planner.catalogue.entries import find_model
from planner.memory.equations import equations
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.attention import Attention
from planner.model.latent_attention import LatentAttention
from planner.model.spec import ModelSpec
from planner.readers import read_entry
from planner.readers.registry import find_type, known_types

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
    """What `kvplan accuracy` prints."""
    return counted_page(compare(Cases(ROOT / "tests" / "cases")))


CONSOLE = re.compile(r"```console\n\$ ((?:kvplan|python) [^\n]*)\n.*?```", re.DOTALL)


def console_page(name: str) -> str:
    """A page with the output below each command as the command prints it now."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return CONSOLE.sub(lambda match: f"```console\n$ {match.group(1)}\n{output_of(match.group(1))}```", text)


def output_of(command: str) -> str:
    """What a command line prints, in a process of its own."""
    program, *arguments = shlex.split(command)
    module = ["-m", "kvplan"] if program == "kvplan" else []
    screen = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run([sys.executable, *module, *arguments], cwd=ROOT, capture_output=True, text=True, env=screen)
    return done.stdout + done.stderr


CONSOLE_PAGES = (
    "docs/does-it-fit.md",
    "docs/servers.md",
    "docs/how-fast.md",
    "docs/what-to-rent.md",
    "docs/measure.md",
    "docs/speed.md",
    "docs/simulate.md",
    "docs/engines.md",
)
PAGES: dict[str, Callable[[], str]] = {
    "README.md": lambda: console_page("README.md"),
    "docs/cli.md": cli_page,
    "docs/model-types.md": model_types_page,
    "docs/known-figures.md": known_figures_page,
    "docs/accuracy.md": accuracy_page,
    **{name: partial(console_page, name) for name in CONSOLE_PAGES},
    "docs/examples.md": lambda: import_module("docs.examples").page(),
}


def main(arguments: list[str]) -> int:
    """Write the pages, or with --check say which are stale."""
    stale = []
    with ThreadPoolExecutor(2) as pool:  # most of a page is commands in processes of their own
        texts = list(pool.map(lambda page: page(), reversed(PAGES.values())))  # the longest stands last
    for name, text in zip(reversed(PAGES), texts, strict=True):
        path = ROOT / name
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
