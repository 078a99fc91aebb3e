"""`kvplan completion`: what the shell reads so that it completes models, devices, number types, engines and flags."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from planner.commands.click_options import Sectioned

SHELLS = {
    "bash": ('eval "$(kvplan completion bash)"', "~/.bashrc"),
    "zsh": ('eval "$(kvplan completion zsh)"', "~/.zshrc"),
    "fish": ("kvplan completion fish | source", "~/.config/fish/config.fish"),
}
"""Shell -> the line that turns it on, and the file that the line belongs in."""


@click.command(cls=Sectioned, name="completion", epilog="\b\nExample: kvplan completion bash")
@click.argument("shell", required=False, type=click.Choice(list(SHELLS)))
def command(shell: str | None) -> None:
    """Completion of models, devices, number types, engines, commands and flags: for bash, zsh or fish.

    Without SHELL it says how to turn it on.
    """
    click.echo("\n".join(_how()) if shell is None else script(shell))


def _how() -> list[str]:
    lines = ["One line in the file that your shell starts with turns completion on:", ""]
    lines += [f"  {name:<5} {line:<40}{file}" for name, (line, file) in SHELLS.items()]
    return [*lines, "", "Then: kvplan estimate qwen3-<Tab>, --gpu h1<Tab>, --kv-dtype fp<Tab>"]


def script(shell: str) -> str:
    """Returns the script that a shell evaluates; click's own, and no shell is started for it."""
    from kvplan.group import cli

    found = get_completion_class(shell)
    assert found is not None
    return ShellComplete.source(found(cli, {}, "kvplan", "_KVPLAN_COMPLETE"))
