"""Says on stderr what a report leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import click


def warn(lines: Sequence[str]) -> None:
    """Prints one line each on stderr."""
    for line in lines:
        click.echo(f"kvplan: left out: {line}", err=True)
