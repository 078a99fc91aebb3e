"""The command `kvplan`: a plain `estimate` is answered at once, everything else goes through click.

The one place where an error becomes one line on stderr and an exit code: 1 what is wrong, 2 usage,
3 does not fit (raised by the commands themselves).
"""

from __future__ import annotations

import gc
import os
import sys

from planner.errors import KvplanError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

# name -> (module with `command`, what `kvplan --help` says of it)
COMMANDS = {
    "estimate": ("planner.commands.estimate", "Memory of a model: KV cache to the byte, weights, and whether it fits."),
    "fit": ("planner.commands.fit", "Most sequences, longest context, fewest devices, which devices."),
    "speed": ("planner.commands.speed", "How fast: TTFT, TPOT, tokens a second, with range, bound, and what binds."),
    "plan": ("planner.commands.plan", "From a load and targets to devices, layout, formats, cost."),
    "simulate": (
        "planner.commands.simulate",
        "A server under a load, request by request: queueing, percentiles, KV occupancy.",
    ),
    "engines": ("planner.commands.engines", "What vLLM, SGLang, llama.cpp and others make of it, side by side."),
    "reconcile": ("planner.commands.reconcile", "A server's start-up log: where every GiB went, and why it differs."),
    "accuracy": ("planner.commands.accuracy", "Our numbers beside measured ones, counted from case files."),
    "compare-models": ("planner.commands.compare_models", "Several models side by side."),
    "models": ("planner.commands.models", "The model catalogue."),
    "show": ("planner.commands.show", "A model's layers: cache kind, bytes a token, config fields behind each."),
    "gpus": ("planner.commands.gpus", "The device catalogue."),
    "sweep": ("planner.commands.sweep", "Any grid of questions to CSV or Parquet, here or on a Ray cluster."),
    "profile": ("profiler.commands.profile", "A model built and run here: bytes and speed beside their prediction."),
    "calibrate": ("profiler.commands.calibrate", "What this machine reaches, for --gpu local and every speed answer."),
    "report": (
        "reports.commands.report",
        "A report as a folder: HTML, Markdown, figures, tables; with --profile measured too.",
    ),
    "plot": ("reports.commands.plot", "One figure of a report as SVG, PNG or PDF."),
    "verify": ("profiler.commands.verify", "Our numbers against the real transformers implementation."),
}


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line; every way out has one line and a code."""
    sys.exit(_guarded(sys.argv[1:] if args is None else args))


def _guarded(arguments: list[str]) -> int:
    if sys.stdout is None:  # started with it closed (>&-): whoever did that wants no output, or uses -o
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    elif hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KvplanError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted", 130)
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as error:
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):  # click's mark of a broken pipe
            return _reader_gone()
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            return _reader_gone()
        return error.code if isinstance(error.code, int) else 0
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _say(f"{error.strerror or error}{where}", 1)


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["estimate"]:
        from planner.commands.flags import ESTIMATE, quick_values

        values = quick_values(arguments[1:], ESTIMATE)
        if values is not None:
            gc.disable()  # nothing to collect in the few milliseconds that follow
            from planner.commands import estimate_page

            estimate_page.run(values)
            return 0
    from kvplan.group import run  # click: as long again as the whole answer

    return run(arguments)


def _reader_gone() -> int:
    """The reader went away (| head): not an error, and nothing more can be said on stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(message: str, code: int) -> int:
    if sys.stderr is not None:
        try:  # noqa: SIM105 (contextlib is not loaded on the plain way)
            print(f"kvplan: {one_line(message, 500)}", file=sys.stderr)
        except OSError:  # stderr is full or gone: the code still tells
            pass
    return code
