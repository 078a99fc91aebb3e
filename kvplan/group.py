"""The click group `kvplan`: loads a command's module only when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click

from kvplan import __version__
from kvplan.table import CHECKS, COMMANDS, MEANT, MEANT_FLAGS
from planner.errors import KvplanError, UsageError, one_line


class Interrupted(Exception):
    """Ctrl-C, on its way to the one place that says so."""


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
        for heading, chosen in (("Commands", [n for n in COMMANDS if n not in CHECKS]), ("Checks", CHECKS)):
            with formatter.section(heading):
                formatter.write_dl([(name, COMMANDS[name][1]) for name in chosen])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches  # only on the way to an error

            _no_engine(name)
            meant = MEANT.get(name.lower())
            close = [meant] if meant else get_close_matches(name[:60], COMMANDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"no command {one_line(name, 40)!r}{hint} (kvplan --help lists them)")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C passes click by, which would print an empty line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None


def _no_engine(name: str) -> None:
    """Says what to do with the name of an engine that stands where a command is wanted."""
    from planner.engines.registry import parse_engine  # only on the way to an error

    try:
        engine, _ = parse_engine(name)
    except KvplanError:
        return
    raise click.UsageError(
        f"{one_line(name, 40)!r} is an engine: kvplan estimate MODEL --gpu NAME --engine {engine}; or paste the command "
        "that starts it: kvplan check --gpu NAME -- COMMAND"
    )


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    epilog="\b\nExample: kvplan estimate llama-7b --seq 8192",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, "-V", "--version", prog_name="kvplan")
@click.pass_context
def cli(context: click.Context) -> None:
    """How much memory will the KV cache of this model take, does it fit, how many users?"""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def run(arguments: list[str]) -> int:
    """Run a command line through click; its own errors come out as ours."""
    try:
        # Click returns 0 for --help; commands return None or raise SystemExit.
        result = cli.main(args=arguments, prog_name="kvplan", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        if isinstance(error, click.NoSuchOption):
            from planner.commands.own_flags import whose  # only on the way to an error

            owner = whose(arguments)
            if owner is not None:
                raise UsageError(owner) from None
            meant = MEANT_FLAGS.get(error.option_name)
            if meant and error.ctx and any(meant in one.opts for one in error.ctx.command.params):
                raise UsageError(
                    f"no option {error.option_name}; did you mean {meant}? (see {error.ctx.command_path} --help)"
                ) from None
        where = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        raise UsageError(f"{error.format_message()}{where}") from None
    except click.ClickException as error:
        raise KvplanError(error.format_message()) from None
    except (click.Abort, Interrupted):
        raise KeyboardInterrupt from None
