"""A pasted shell text -> its commands: words, and the environment that each sees. Nothing is run or opened."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planner.errors import BadRequest

MOST_CHARACTERS = 1 << 20
MOST_WORDS = 20_000
_ASSIGNED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_POWERSHELL = re.compile(r"^\s*\$env:([A-Za-z_]\w*)\s*=\s*(.*)$", re.IGNORECASE)
_CMD_SET = re.compile(r"^\s*set\s+\"?([A-Za-z_]\w*)=(.*?)\"?\s*$", re.IGNORECASE)
_SETENV = re.compile(r"^\s*(?:launchctl\s+setenv|setx|setenv)\s+([A-Za-z_]\w*)\s+(\S.*)$", re.IGNORECASE)
_SETS = re.compile(r"\s*(?:\$env:|set\s+\"?[A-Za-z_]\w*=|launchctl\s+setenv\s|setx\s|setenv\s)", re.IGNORECASE)
_AFTER_SET = re.compile(r"\s*(?:;|&&?)\s*(?=(?:[^\"']|\"[^\"]*\"|'[^']*')*$)")  # what parts it from the next command
_START_PROCESS = re.compile(
    r"^[ \t]*Start-Process\s+(?:-FilePath\s+)?(\"[^\"\n]*\"|\S+)\s+-ArgumentList\s+[\"']([^\"'\n]*)[\"'][^\n]*$",
    re.IGNORECASE | re.MULTILINE,
)
_ARITHMETIC = re.compile(r"\$\(\(([^()\n]{1,200})\)\)")
_ENGINES_OWN = re.compile(
    r"(VLLM|SGLANG|SGL|OLLAMA|LLAMA|GGML|CUDA|HIP|ROCR|HSA|HF|HUGGING_FACE|NCCL|RCCL|PYTORCH|TORCH|NVIDIA|TRTLLM|TLLM|"
    r"FLASHINFER|OMP|GPU)_"
)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::?[-=]([^{}]*))?\}|\((\w+)\)|(\w+))")
_WINDOWS = re.compile(r"(?:^|[\s\"'=])(?:[A-Za-z]:|\.{1,2}|\$\w+|%\w+%)\\[\w.]")
_PUNCTUATION = set(";&|()<>")


@dataclass(frozen=True)
class Command:
    """One command of a text.

    words   as the shell would pass them
    env     variables that it sees, of those that the text sets
    where   what to call it: the name of a service or of a model, where the file names it
    gpus    devices that the file gives it, None where it does not say
    notes   what the file says of it beside the command
    offline a Python text makes the engine for itself: no server
    device  what a manifest wants its nodes to have
    """

    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    where: str = ""
    gpus: int | None = None
    notes: tuple[str, ...] = ()
    offline: bool = False
    device: str = ""


def commands_of(text: str) -> list[Command]:
    """Splits a shell text into its commands, in order; assignments and exports are seen by those that follow.

    >>> found = commands_of("export A=1\\nM=org/m  # which\\nB=2 vllm serve $M \\\\\\n  --tp 2 > log &")
    >>> found[0].words, dict(found[0].env)
    (('vllm', 'serve', 'org/m', '--tp', '2'), {'A': '1', 'B': '2'})
    """
    if len(text) > MOST_CHARACTERS:
        raise BadRequest(f"the text has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")
    text, notes = plain_marks(text)
    text = _START_PROCESS.sub(r"\1 \2", text)
    text, arrays = _arrays(text)
    found: list[Command] = []
    env: dict[str, str] = {}
    variables: dict[str, str] = {}
    for line in _logical_lines(_ARITHMETIC.sub(_one_word, text)):
        line = _set_elsewhere(line, env)
        if not line:
            continue
        for words in _simple_commands(_split(line)):
            own: dict[str, str] = {}
            rest = _take_assignments(_substituted(words, {**variables, **env}, arrays), own)
            if not rest:
                variables.update(own)
                # Not exported, but on lines of their own it is how people paste an engine's variables.
                env.update({name: text for name, text in own.items() if _ENGINES_OWN.match(name)})
            elif rest[0] in ("export", "declare", "setenv"):
                _export(rest[1:], env)
            else:
                seen = {name: value for name, value in env.items() if not _only_of_the_text(name, text)}
                found.append(Command(tuple(rest), {**seen, **own}, notes=notes))
    return found


def _only_of_the_text(name: str, text: str) -> bool:
    """Whether a variable is there for the words of the text: $MODEL, and none that an engine reads."""
    written = rf"\$\{{?{re.escape(name)}\b|%{re.escape(name)}%"
    return not _ENGINES_OWN.match(name) and re.search(written, text) is not None


_ARRAY = re.compile(r"^[ \t]*(?:declare -a |local )?([A-Za-z_]\w*)(\+?)=\(([^()]*)\)[ \t]*(?:#.*)?$", re.MULTILINE)


def _arrays(text: str) -> tuple[str, dict[str, list[str]]]:
    """The text without its arrays, ARGS=(--a 1 --b), and their words."""
    found: dict[str, list[str]] = {}
    if "=(" not in text:
        return text, found
    for match in _ARRAY.finditer(text):
        lines = [re.sub(r"(^|\s)#.*$", "", line).rstrip().rstrip("\\") for line in match.group(3).splitlines()]
        words = _split(" ".join(lines))
        found[match.group(1)] = (found.get(match.group(1), []) if match.group(2) else []) + words
    return _ARRAY.sub("", text), found


def _substituted(words: Sequence[str], values: Mapping[str, str], arrays: Mapping[str, list[str]]) -> list[str]:
    """The words with variables by their values; an array, or a variable that holds flags, is several words."""
    found: list[str] = []
    for word in words:
        array = re.fullmatch(r"\$\{(\w+)\[[@*]\]\}", word)
        alone = re.fullmatch(r"\$\{?(\w+)\}?", word)
        if array and array.group(1) in arrays:
            found += [substitute(one, values) for one in arrays[array.group(1)]]
        elif alone and re.match(r"\s*-\S", held := values.get(alone.group(1), "")) and " " in held:
            found += [substitute(one, values) for one in _split(held)]
        else:
            found.append(substitute(word, values))
    if len(found) > MOST_WORDS:
        raise BadRequest(f"a command of {len(found):,} words; at most {MOST_WORDS:,} are read")
    return found


def plain_marks(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns the text with the dashes and quotes of a shell, and a note where a web page or a word processor changed
    them.

    >>> plain_marks("vllm serve “m” –max-model-len 8k")[0]
    'vllm serve "m" --max-model-len 8k'
    """
    plain = re.sub(r"(?<!\S)[–—−]+-?(?=[A-Za-z]{1,4}(?:\s|$))(?!tp|pp|dp)", "-", text)
    plain = re.sub(r"(?<!\S)[–—−]+-?(?=[A-Za-z])", "--", plain)
    plain = plain.translate({0x201C: '"', 0x201D: '"', 0x201E: '"', 0x2018: "'", 0x2019: "'", 0xA0: " "})
    return plain, (
        "typographic dashes or quotes are read as plain ones; a shell takes only those",
    ) if plain != text else ()


def _logical_lines(text: str) -> Iterator[str]:
    """Lines with their continuations joined: a mark at the end (\\ ` ^), an open quote, or a next line of flags."""
    held = ""
    for raw in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = raw.strip("\ufeff ").rstrip()
        bare = line.lstrip("\t ")
        if re.match(r"%%\w+", bare):
            continue  # a notebook's cell
        if held and _open_quote(held):
            held += "\n" + line
        elif bare.startswith("#"):
            continue
        elif held.endswith("\0"):
            held = held[:-1] + " " + line
        elif held and bare.startswith("-") and not re.match(r"---?$|- ", bare):
            held += " " + line
        else:
            if held.strip():
                yield held
            held = re.sub(r"^\s*(?:[$>%] (?=\S)|! ?(?=[a-z]))", "", line)  # a prompt that was copied too
        if re.search(r"(^|\s)[\\`^]$", held) or (held.endswith("\\") and not held.endswith("\\\\")):
            held = held[:-1] + "\0"
    if held.strip("\0 "):
        yield held.strip("\0")


def _open_quote(line: str) -> bool:
    quote = ""
    escaped = False
    for place, ch in enumerate(line):
        if escaped:
            escaped = False
        elif ch == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if ch == quote else quote
        elif ch in "'\"":
            quote = ch
        elif ch == "#" and (place == 0 or line[place - 1] in " \t"):
            return False  # the rest is a comment
    return bool(quote)


def _split(line: str) -> list[str]:
    line = re.sub(r"(?<=\s)[0-9]>", ">", line)  # 2> is not an argument 2
    if _WINDOWS.search(line):
        line = re.sub(r"\\(?=[\w.\-])", r"\\\\", line)  # its backslashes part folders, they quote nothing
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(_without_comment(lexer, line))
    except ValueError:
        raise BadRequest("a quote in the text is never closed; paste the whole command") from None
    if len(words) > MOST_WORDS:
        raise BadRequest(f"a command of {len(words):,} words; at most {MOST_WORDS:,} are read")
    return words


def _without_comment(lexer: shlex.shlex, line: str) -> Iterator[str]:
    """Words up to a comment: a word that begins with # in the text, not one that was quoted."""
    quoted = set(re.findall(r"[\"'](#[^\s\"']*)", line))
    for count, word in enumerate(lexer):
        if word.startswith("#") and word.split()[0] not in quoted:
            return
        if count > MOST_WORDS:
            raise BadRequest(f"a command of more than {MOST_WORDS:,} words")
        yield word


def _simple_commands(words: Sequence[str]) -> Iterator[list[str]]:
    """Pieces between ; && || | and &, without redirections."""
    piece: list[str] = []
    skip = False
    for word in words:
        if word and set(word) <= _PUNCTUATION:
            if set(word) & set("<>"):
                skip = True  # `> file`, `>& 1`: the next word is a file or a number
            else:
                if piece:
                    yield piece
                piece = []
            continue
        if skip:
            skip = False
            continue
        piece.append(word)
    if piece:
        yield piece


def substitute(text: str, env: Mapping[str, str]) -> str:
    """Replaces variables by their values: $NAME, ${NAME}, ${NAME:-default} and Kubernetes' $(NAME). An unknown one
    stays.

    >>> substitute("${M:-a/b} $X", {"X": "1"}), substitute("$(N)/$Y", {"N": "q"})
    ('a/b 1', 'q/$Y')
    """

    def value(found: re.Match[str]) -> str:
        name = found.group(1) or found.group(3) or found.group(4)
        if name in env:
            return env[name]
        return found.group(0) if found.group(2) is None else found.group(2)

    if text.count("%") > 1:  # cmd's %NAME%
        text = re.sub(r"%([A-Za-z_]\w*)%", lambda found: env.get(found.group(1), found.group(0)), text)
    if "$" not in text:
        return text
    text = _ARITHMETIC.sub(lambda found: _calculated(found, env), text)
    return _VARIABLE.sub(value, text)[:MOST_CHARACTERS]


def _one_word(found: re.Match[str]) -> str:
    return re.sub(r"\s+", "", found.group(0))


def _calculated(found: re.Match[str], env: Mapping[str, str]) -> str:
    """$((128*1024)) as its number; as it is where it holds anything but whole numbers, known names and + - * /."""
    inside = re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", lambda name: env.get(name.group(1), name.group(0)), found.group(1))
    terms = re.split(r"([-+])", inside.replace(" ", ""))
    total, sign = 0, 1
    for term in terms:
        if term in ("+", "-"):
            sign = 1 if term == "+" else -1
            continue
        factors = re.split(r"([*/])", term)
        if len(factors) > 20 or not all(re.fullmatch(r"\d{1,15}|[*/]", factor) for factor in factors):
            return found.group(0)
        product = int(factors[0])
        for mark, factor in zip(factors[1::2], factors[2::2], strict=True):
            if mark == "/" and not int(factor):
                return found.group(0)
            product = product * int(factor) if mark == "*" else product // int(factor)
        total += sign * product
    return str(total)


def _take_assignments(words: list[str], env: dict[str, str]) -> list[str]:
    place = 0
    while place < len(words) and _ASSIGNED.match(words[place]):
        name, _, value = words[place].partition("=")
        env[name] = value
        place += 1
    return words[place:]


def _export(words: Sequence[str], env: dict[str, str]) -> None:
    for word in words:
        if _ASSIGNED.match(word):
            name, _, value = word.partition("=")
            env[name] = value


def _set_elsewhere(line: str, env: dict[str, str]) -> str:
    """What is left of a line after PowerShell's $env:NAME = "value", cmd's set NAME=value, systemd's Environment=A=b."""
    line = line.strip("\0")
    while _SETS.match(line):
        first, _, rest = _AFTER_SET.sub("\0", line, count=1).partition("\0")
        found = _POWERSHELL.match(first) or _CMD_SET.match(first) or _SETENV.match(first)
        if found is None:
            break
        env[found.group(1)] = found.group(2).strip().strip("\"'")
        line = rest
    if line.lstrip().startswith("Environment="):
        _export(_split(line.lstrip().removeprefix("Environment=")), env)
        return ""
    return line
