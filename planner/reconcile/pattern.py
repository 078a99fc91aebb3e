"""What a line of a log is known by: a pattern, the facts that its groups carry, and the short hand that rows are written in."""

from __future__ import annotations

import re
from dataclasses import dataclass

NUMBER = r"(-?\d{1,18}(?:,\d{3}){0,6}(?:\.\d{1,12})?)"
WHOLE = r"(\d{1,18})(?!\d)"
ANYTHING = r"(?! {0,40}\[)([-+.,\w]{0,24}?)"  # where a number should stand: a comma alone, nan, nothing; no list
NAME = r"(\w[^:=\n]{0,60}?)"  # a device as its driver calls it, with spaces: AMD Radeon RX 5600 XT
GIB, MIB = "gib", "mib"


@dataclass(frozen=True)
class Pattern:
    """`facts`: a name for each group; the end of the name says the unit (_gib, _mib; none: as it is).

    `start`: the first line of a server, which opens a new run. `key`: the group that tells devices or buffers apart.
    `needs`: a phrase that stands somewhere in the line as well. `unreadable`: the same line with anything for a number.
    `fixed`: the longest text that each such line holds; to look for it costs a tenth of a search.
    """

    engine: str
    regex: re.Pattern[str]
    facts: tuple[str, ...]
    start: bool = False
    key: int | None = None
    needs: str = ""
    unreadable: re.Pattern[str] | None = None
    fixed: str = ""

    def search(self, line: str) -> re.Match[str] | None:
        """Return the first match in `line`, None where there is none."""
        return self.regex.search(line) if self.needs in line else None

    def is_unreadable(self, line: str) -> bool:
        """Tells whether `line`, in which nothing was found, would match if its number could be read."""
        return self.unreadable is not None and self.needs in line and self.unreadable.search(line) is not None


def p(engine: str, regex: str, *facts: str, start: bool = False, key: int | None = None, needs: str = "") -> Pattern:
    written, anything = _written(regex, NUMBER, WHOLE), _written(regex, ANYTHING, ANYTHING)
    unreadable = None if anything == written else re.compile(anything, re.ASCII)
    return Pattern(engine, re.compile(written, re.ASCII), facts, start, key, needs, unreadable, fixed_text(written))


_TOKEN = re.compile(r"\\u\w{4}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{[\d,]+\}|.", re.DOTALL)
_LITERAL = re.compile(r"[^][\\.^$*+?{}|()]|\\[^\w]")


def fixed_text(regex: str) -> str:
    r"""Returns the longest text that stands outside all groups of a regex, so in every match of it; "" where none does.

    >>> fixed_text(r"# (?:GPU|HPU) blocks: (\d+)(?:, more)?"), fixed_text(r"took \d+ Gi?B"), fixed_text("one|other")
    (' blocks: ', 'took ', '')
    """
    runs, depth = [""], 0
    for token in _TOKEN.findall(regex):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token == "|":
            return ""
        if depth == 0 and _LITERAL.fullmatch(token):
            runs[-1] += token[-1]
            continue
        if token[0] in "?*{":  # what stands before it may be missing
            runs[-1] = runs[-1][:-1]
        runs.append("")
    return max(runs, key=len)


_SHORT = re.compile(r"(?<![A-Z_])(?:NUM|DEV)(?![A-Z_])|\(\\d\+\)|\\[dwS][*+]| [*+](?!\])")


def _written(regex: str, number: str, whole: str) -> str:
    """Put what they stand for into the places NUM and DEV (OLLAMA_NUM_PARALLEL is none), and bounds to `\\d+` and its like."""
    parts = {
        "NUM": number, "DEV": NAME, r"(\d+)": whole, r"\d+": r"\d{1,18}", r"\w+": r"\w{1,40}", r"\w*": r"\w{0,20}",
        r"\S+": r"\S{1,200}", " +": " {1,40}", " *": " {0,40}",
    }  # fmt: skip
    begin = r"(?<![\d,.])" if regex.startswith("NUM") else ""  # a long number is tried once, not at each digit
    return begin + _SHORT.sub(lambda found: parts[found.group()], regex)


VLLM, SGLANG, LLAMA, OLLAMA, TRT, LMDEPLOY = "vllm", "sglang", "llamacpp", "ollama", "tensorrt-llm", "lmdeploy"
LMSTUDIO = "lmstudio"
TORCH, MLX = "pytorch", "mlx"  # TORCH: lines of whichever server runs in PyTorch
TABBY = "tabbyapi"
SHOWN = "says: "  # a fact with this before it stands among the readings under the words that follow


def shown(engine: str, regex: str, *names: str, key: int | None = None) -> Pattern:
    """Makes the row of a line that stands beside the pool: its numbers are readings under these names, no entry.

    >>> shown("vllm", r"freed NUM GiB memory", "freed, GiB").facts
    ('says: freed, GiB',)
    """
    return p(engine, regex, *(SHOWN + name for name in names), key=key)
