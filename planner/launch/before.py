"""What stands before a server's name: sudo, nohup, numactl. None of it is dropped in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from planner.launch.question import Said
from planner.launch.secrets import shown
from planner.launch.table import MATTERS, QUIET, UNKNOWN

_SILENT = re.compile(r"(python|pypy)[\d.]*(\.exe)?|exec|command|env|bash|sh|zsh|dash|&&|;|then|do|-[a-z]*c")
"""Words that only say how a program is found."""
_QUIET = frozenset(
    "sudo doas nohup numactl nice ionice taskset chrt time timeout stdbuf setsid systemd-run systemd-inhibit xvfb-run tini "
    "dumb-init gosu su-exec runuser caffeinate screen tmux script unbuffer nsys ncu perf strace start "
    "setarch prlimit ulimit chroot flock retry".split()
)
_FINDERS = frozenset("uv uvx pipx poetry pixi hatch rye conda mamba micromamba".split())
_RANKS = frozenset("mpirun mpiexec srun torchrun accelerate deepspeed ray".split())
_MANY = re.compile(
    r"-(?:n|np|N|c|-n|-ntasks|-nodes|-nnodes|-nproc[-_]per[-_]node|-num[-_]processes)[ =]?0*(?:[2-9]|1\d)"
)
_SEVERAL = "starts several processes; one server is counted"
_NAME = re.compile(r"[A-Za-z_]\w*=")


def said_before(words: Sequence[str]) -> tuple[Said, ...]:
    """Names what stands before a program, each with its own options.

    >>> [(one.name, one.kind) for one in said_before(["FOO=1", "sudo", "-E", "numactl", "--cpunodebind=0", "python3"])]
    [('sudo -E', 'no effect'), ('numactl --cpunodebind=0', 'no effect')]
    >>> [(one.name, one.kind) for one in said_before(["mpirun", "-n", "8", "launch.sh"])], said_before(["uvx", "vllm==0.11.0"])
    ([('mpirun -n 8 launch.sh', 'matters')], ())
    """
    found = []
    for group in _groups(words):
        base, text = _base(group[0]), shown(" ".join(group[:8]), 80)
        if base in _FINDERS:
            continue  # a version that they name is read
        several = base in _RANKS and _MANY.search(text) is not None
        kind = MATTERS if several else QUIET if base in _QUIET | _RANKS else UNKNOWN
        found.append(Said(text, "", kind, _SEVERAL if several else ""))
    return tuple(found[:8])


def _base(word: str) -> str:
    return re.split(r"[/\\]", word)[-1].lower()


def _groups(words: Iterable[str]) -> list[list[str]]:
    """Words by the program that they belong to; those that only find a program, and variables, left out."""
    groups: list[list[str]] = []
    silent = False
    for word in words:
        silent = bool(_NAME.match(word) or _SILENT.fullmatch(_base(word)) or (silent and word.startswith("-")))
        if silent:
            continue
        if not groups or _base(word) in _QUIET | _FINDERS | _RANKS:
            groups.append([word])
        else:
            groups[-1].append(word)
    return groups
