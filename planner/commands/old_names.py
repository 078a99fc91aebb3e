"""Takes the names that flags had in 0.1, with a note on stderr: for one version.

--output is a file in every command; the tokens of an answer are --answer, and the words that profile goes on with --text.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

# command -> {old name: new name}; --output and profile's --prompt mean another thing today: their values tell
OLD = {
    "speed": {"--output": "--answer", "--output-file": "--output"},
    "plan": {"--output": "--answer", "--output-file": "--output"},
    "simulate": {"--output": "--answer", "--output-file": "--output"},
    "profile": {"--outputs": "--answer", "--prompt-tokens": "--prompt", "--prompt": "--text"},
    "sweep": {"output": "answer"},
}
_TOKENS = re.compile(r"-?[\d.,_]+[kKmM]?|p\d.*=.*")


def with_new_names(arguments: Sequence[str]) -> list[str]:
    """Returns the command line in today's names; each old one is noted on stderr.

    >>> with_new_names(["speed", "gpt2", "--answer", "500", "--output", "speed.json"])
    ['speed', 'gpt2', '--answer', '500', '--output', 'speed.json']
    """
    command, *rest = arguments
    old = OLD[command]
    names = {word.partition("=")[0] for word in rest}
    # plan and simulate want the lengths of answers: a file is theirs where nothing else says them
    is_file = command == "speed" or bool(names & {"--answer", "--trace"}) or "--prompt" not in names
    found: list[str] = [command]
    for word, after in zip(rest, [*rest[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        number = _TOKENS.fullmatch(value if equals else after) is not None
        today = (name == "--prompt" and number) or (name == "--output" and not number and is_file)
        if name not in old or today or (command == "sweep" and not equals):
            found.append(word)
            continue
        print(f"kvplan: note: {name} is now called {old[name]}", file=sys.stderr)
        found.append(old[name] + equals + value)
    return found
