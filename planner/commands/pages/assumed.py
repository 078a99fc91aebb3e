"""What was assumed, at the end of a page: the usual only where it is asked for."""

from __future__ import annotations

from planner.terminal.tables import dim

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What a person takes for granted: the config's own types, an engine's defaults, arrivals at random.
USUAL = (
    "weights in ",
    "KV cache in ",
    "K in f16, V in f16",
    "prefill in steps of ",
    "gpu_memory_utilization ",
    "mem_fraction_static ",
    "Poisson arrivals",
    "prompts in pieces of at most ",
    "TTFT under load is approximate",
    "users do not start together",
)


def assumed_lines(assumed: Iterable[str], verbose: bool) -> list[str]:
    """Returns a line for each assumption; without `verbose` the usual ones are only counted."""
    every = list(dict.fromkeys(assumed))
    usual = [] if verbose else [line for line in every if line.startswith(USUAL)]
    lines = [dim(f"  assumed: {line}") for line in every if line not in usual]
    return (
        [*lines, dim(f"  assumed: {len(usual)} usual things, which -v says")]
        if len(usual) > 1
        else ([*lines, *(dim(f"  assumed: {line}") for line in usual)])
    )
