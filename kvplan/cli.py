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
    arguments = _short_ways(arguments)
    if arguments[:1] and arguments[0] in ("speed", "plan", "simulate", "profile", "sweep"):
        from planner.commands.old_names import with_new_names  # flags that were renamed in 0.2

        arguments = with_new_names(arguments)
    if any(word.startswith(("--engine", "--emit")) for word in arguments):
        from planner.commands.own_flags import with_own_names  # engines have names of their own for flags

        arguments = with_own_names(arguments)
    if arguments[:1] == ["estimate"]:
        gc.disable()  # nothing to collect in the few milliseconds of a plain answer
        _load_dataclasses()
        from planner.options.tables import ESTIMATE, quick_values

        values = quick_values(arguments[1:], ESTIMATE)
        if values is not None:
            from planner.commands.quick import estimate

            gc.freeze()  # what is loaded by now stays: the exit need not search it either
            estimate(values)
            return 0
        gc.enable()
    from kvplan.group import run  # click: as long again as the whole answer

    return run(arguments)


def _load_dataclasses() -> None:
    """Loads `dataclasses` without `inspect`, a tenth of a plain answer's time, which it asks of classes without docstring.

    It gets a stand-in that loads the real module on first use; nobody else ever sees that.
    """
    if "dataclasses" in sys.modules or "inspect" in sys.modules:
        return

    def asked(name: str) -> object:
        import inspect

        return getattr(inspect, name)

    stand_in = type(sys)("inspect")
    vars(stand_in)["__getattr__"] = asked
    sys.modules["inspect"] = stand_in
    try:
        import dataclasses  # noqa: F401
    finally:
        del sys.modules["inspect"]


def _short_ways(arguments: list[str]) -> list[str]:
    """`kvplan help CMD` asks for its help, and `kvplan MODEL ...` estimates."""
    first = arguments[0] if arguments else "-"
    if first == "help":
        return [*arguments[1:2], "--help"]
    if first.startswith("-") or first == "estimate":
        return arguments
    from kvplan.table import ALIASES, COMMANDS

    if first in ALIASES:
        return [ALIASES[first], *arguments[1:]]
    return arguments if first in COMMANDS or not _is_model(first) else ["estimate", *arguments]


def _is_model(name: str) -> bool:
    """Whether a first word that is no command names a model: a file, or a name that is found."""
    if os.sep in name or os.path.exists(name):
        return True
    if "==" in name:  # vllm==0.11.2
        return False
    from planner.lookup import model_spec  # only where there is no such command

    try:
        model_spec(name)
    except KvplanError as error:
        # No command has a digit in its name, and a family is asked back: say what is wrong with the model.
        family = "no model is called" not in str(error)
        return name.isprintable() and (family or any(letter.isdigit() for letter in name))
    return True


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
