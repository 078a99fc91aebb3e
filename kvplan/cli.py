"""The command `kvplan`: a group that loads a command's module only when it is called.

The one place where an error becomes one line on stderr and an exit code: 1 what is wrong, 2 usage,
3 does not fit (raised by the commands themselves).
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from kvplan import __version__
from planner.errors import KvplanError, one_line

# name -> (module with `command`, what `kvplan --help` says of it)
COMMANDS = {
    "estimate": ("planner.commands.estimate", "Memory of a model: KV cache to the byte, weights, and whether it fits."),
    "fit": ("planner.commands.fit", "Most sequences, longest context, fewest devices, which devices."),
    "compare-models": ("planner.commands.compare_models", "Several models side by side."),
    "models": ("planner.commands.models", "The model catalogue."),
    "show": ("planner.commands.show", "A model's layers: cache kind, bytes a token, config fields behind each."),
    "gpus": ("planner.commands.gpus", "The device catalogue."),
}


class LazyGroup(click.Group):
    """Commands by name; their modules load when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list from the table above: `kvplan --help` loads no command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches  # only on the way to an error

            close = get_close_matches(name[:60], COMMANDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"no command {one_line(name, 40)!r}{hint} (kvplan --help lists them)")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyGroup,
    epilog="Example: kvplan estimate llama-7b --seq 8192",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="kvplan")
def cli() -> None:
    """How much memory will the KV cache of this model take, does it fit, how many users?"""


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line; every way out has one line and a code."""
    sys.exit(_run(args))


def _run(args: list[str] | None) -> int:
    try:
        # Click's own code for --help is 0; commands return None or raise SystemExit.
        result = cli.main(args=args, prog_name="kvplan", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except KvplanError as error:
        return _say(str(error), error.exit_code)
    except click.UsageError as error:
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        return _say(f"{error.format_message()}{where}", 2)
    except click.ClickException as error:
        return _say(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _say("interrupted", 130)
    except BrokenPipeError:
        # The reader went away (| head): not our error, and nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _say(f"{error.strerror or error}: {error.filename or ''}", 1)


def _say(message: str, code: int) -> int:
    print(f"kvplan: {one_line(message, 500)}", file=sys.stderr)
    return code
