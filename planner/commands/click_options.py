"""Makes click options of the table of flags, and lists them under the headings of the table."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from planner.options.tables import SHORT, Flag

F = TypeVar("F", bound=Callable[..., Any])

# The headings of --help in their order, each with what to write under it.
SECTIONS = {
    "Model": ("llama-3.1-8b, Qwen/Qwen3-32B-FP8, ./config.json, - (stdin)", "--model qwen3-8b"),
    "Load": ("--seq 8k", "--users 200", "--rate 5/s", "--prompt 1k", "--answer 256", "--batch 16"),
    "Device": ("--gpu l4", "--memory 24GiB"),
    "Layout": ("--tp 2 --pp 2",),
    "Precision": ("--dtype fp8", "--kv-dtype fp8"),
    "Engine": ("--engine vllm==0.11.2",),
    "Output": ("--json -o answer.json", "-o answer.json"),
}
MOST_EXAMPLES = 3
BY_HAND = "By hand: "


class TableOption(click.Option):
    """An option of the table: it knows its heading, and the engines whose flag it is."""

    def __init__(self, *args: Any, section: str = "Output", owners: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section, self.owners = section, owners

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names of devices, types and engines, and the words of a choice; files for FILE."""
        from planner.commands.completion import completions  # only for a shell that asks

        found = completions(self.name or "", str(self.metavar or ""), incomplete)
        return super().shell_complete(ctx, incomplete) if found is None else [CompletionItem(one) for one in found]


class Sectioned(click.Command):
    """A command whose --help has headings; flags of engines are listed for the engine that is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remembers the engine for --help, which answers before the options are read."""
        ctx.meta["kvplan.engine"] = _engine_in(args)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes a list of options under each heading of the table, in its order."""
        engine = ctx.meta.get("kvplan.engine")
        if all(parameter.name != "engine" for parameter in self.get_params(ctx)):
            engine = ""  # the flags of every engine are read: those without an owner are listed
        found: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if record is not None and _is_shown(parameter, engine):
                found.setdefault(getattr(parameter, "section", "Output"), []).append(record)
        known = {
            name
            for parameter in self.get_params(ctx)
            for name in (*parameter.opts, "model" if parameter.name == "model" else "")
        }
        for heading in SECTIONS:
            rows = _by_hand(found.pop(heading, []))
            if heading == "Engine" and rows and not engine:
                where = "kvplan ..." if engine is None else "kvplan estimate"
                rows.append(("", f"The engines' own flags: {where} --engine NAME --help."))
            if not rows:
                continue
            with formatter.section(f"{heading}   {_example(heading, known)}".rstrip()):
                if engine and heading != "Engine":
                    formatter.write(_names(rows, formatter.width - formatter.current_indent))
                else:
                    formatter.write_dl(_for_one(rows) if engine else rows, col_max=26, col_spacing=2)
        if engine:
            with formatter.indentation():
                formatter.write_text("What the others mean: the same line without --engine.")


def _names(rows: list[tuple[str, str]], width: int) -> str:
    """The options of a heading by name alone; none is broken over two lines."""
    text = ", ".join(name.replace(" ", "\0") for name, _ in rows)
    lines = textwrap.wrap(text, width, break_on_hyphens=False, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines).replace("\0", " ") + "\n"


def _for_one(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The flags of the engine that is named, without its name before each.

    >>> _for_one([("--swap-space GIB", "vLLM V0: host memory."), ("--max-num-seqs N", "vLLM: sequences of one step.")])
    [('--swap-space GIB', 'vLLM V0: host memory.'), ('--max-num-seqs N', 'Sequences of one step.')]
    """
    found = []
    for name, words in rows:
        whose, colon, rest = words.partition(": ")
        owned = colon and whose.lower().replace(".", "") in OWNERS
        found.append((name, rest[:1].upper() + rest[1:] if owned else words))
    return found


OWNERS = {
    "vllm",
    "sglang",
    "llamacpp",
    "ik_llamacpp",
    "tensorrt-llm",
    "lmdeploy",
    "transformers",
    "ollama",
    "koboldcpp",
}


def _example(heading: str, known: Collection[str]) -> str:
    """How the options of a heading are written, of those that the command has."""
    if heading == "Model" and "model" in known and "--model" not in known:
        return SECTIONS[heading][0]
    pieces = [piece for piece in SECTIONS[heading] if piece.split()[0] in known]
    if heading == "Output":
        return pieces[0] if pieces else ""
    return (", or " if heading == "Device" else " ").join(pieces[:MOST_EXAMPLES])


def _engine_in(args: Sequence[str]) -> str | None:
    for word, value in zip(args, [*args[1:], ""], strict=False):
        if word.startswith("--engine="):
            return word.partition("=")[2].partition("==")[0]
        if word == "--engine":
            return value.partition("==")[0]
    return None


def _is_shown(parameter: click.Parameter, engine: str | None) -> bool:
    """Whether --help lists it: all but the flags of engines, of which those of the engine that is named."""
    if not isinstance(parameter, TableOption) or parameter.section != "Engine":
        return True
    if not parameter.owners:
        return engine is not None or parameter.name in ("engine", "emit", "measured")
    from planner.engines.registry import ALIASES  # only for --help

    return ALIASES.get(engine or "", engine) in parameter.owners


def _by_hand(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The dimensions that make a model by hand, in one row."""
    hand = [name.removesuffix(" N") for name, words in rows if words.startswith(BY_HAND)]
    kept = [(name, words) for name, words in rows if not words.startswith(BY_HAND)]
    return [*kept, ("--layers N ...", f"By hand: {' '.join(hand)}.")] if hand else kept


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the catalogue that begin as what is typed; files where it reads as a path."""
    from planner.commands.completion import model_names

    if incomplete.startswith((".", "/", "~")):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in model_names(incomplete)]


def with_flags(flags: Sequence[Flag], model: bool = False, several: bool = False) -> Callable[[F], F]:
    """Decorate a command with the options of a table, and with the argument MODEL, or several."""

    def apply(function: F) -> F:
        for flag in reversed(flags):
            function = _option(flag)(function)
        if several:
            return click.argument("model", nargs=-1, metavar="[MODEL]...", shell_complete=complete_models)(function)
        if model:
            return click.argument("model", required=False, shell_complete=complete_models)(function)
        return function

    return apply


def _option(flag: Flag) -> Callable[[F], F]:
    shorts = [short for short, long in SHORT.items() if flag.name == long]
    names = [flag.name, flag.parameter, *shorts]
    about: dict[str, Any] = {"section": flag.section, "owners": flag.owners}
    if not flag.metavar:
        return click.option(*names, cls=TableOption, is_flag=True, help=flag.help, **about)
    metavar = flag.metavar.removesuffix("...")
    return click.option(*names, cls=TableOption, metavar=metavar, multiple=flag.repeated, help=flag.help, **about)
