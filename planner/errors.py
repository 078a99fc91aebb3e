"""What can go wrong, each with one line for the reader: what came, what was wanted, what to do."""

from __future__ import annotations


class KvplanError(Exception):
    """Anything that kvplan refuses; the command line prints it as one line and exits with `exit_code`."""

    exit_code = 1


class UsageError(KvplanError):
    """A command line that cannot be meant: options that exclude each other, a model not named."""

    exit_code = 2


class UnknownName(KvplanError):
    """A model, device or dtype that the catalogue does not hold."""


class BadConfig(KvplanError):
    """A config file that cannot be read, or that says something impossible."""


class UnsupportedModel(KvplanError):
    """A config that is well formed, but whose cache kvplan does not know; guessing would be worse."""


class BadRequest(KvplanError):
    """A question that cannot be answered for this model: a length of zero, 3 KV heads' worth of ranks..."""


def one_line(text: str, limit: int = 200) -> str:
    """Returns `text` as it may stand in a one-line message: no control characters, cut at `limit`.

    >>> one_line("a\\nb\\x1b[31m")
    'a b [31m'
    """
    clean = "".join(ch if ch.isprintable() else " " for ch in text[: 8 * limit])  # a text may be megabytes
    clean = " ".join(clean.split())
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"
