"""Says in a Python caller's words what the planner says in those of the command line."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from planner.errors import KvplanError

F = TypeVar("F", bound=Callable[..., object])

# --seq, with the value that stands behind it: a number, a quoted text, an upper-case word, or what follows "for example"
_FLAG = re.compile(
    r"(?P<example>for example |write |add |with )?--(?P<name>[a-z][a-z0-9-]*)(?P<value> (?:'[^']*'|[0-9][\w.%/]*|[A-Z]+\b))?"
)
_EXAMPLE = re.compile(r"(for example )(\w+)= (?!or\b|and\b)([\w.=/-]*\w)")


def python_words(text: str) -> str:
    """Words a message with keywords in place of flags.

    >>> python_words("--seq 0 is not a whole number; write for example --seq 8k")
    'seq=0 is not a whole number; write for example seq="8k"'
    >>> python_words("--kv-dtype sets both; give --k-dtype and --v-dtype without it")
    'kv_dtype= sets both; give k_dtype= and v_dtype= without it'
    """

    def keyword(match: re.Match[str]) -> str:
        value = (match["value"] or "").strip()
        quoted = value if not value or value[0] == "'" or value.isdigit() or value.isupper() else f'"{value}"'
        return f"{match['example'] or ''}{match['name'].replace('-', '_')}={quoted}"

    return _EXAMPLE.sub(r'\1\2="\3"', _FLAG.sub(keyword, text))


def in_python_words(function: F) -> F:
    """Decorates a public function: its errors name keywords, never flags of the command line."""

    @wraps(function)
    def call(*args: object, **options: object) -> object:
        try:
            return function(*args, **options)
        except KvplanError as error:
            raise type(error)(python_words(str(error))) from None

    return call  # type: ignore[return-value]


def renamed(**old: str) -> Callable[[F], F]:
    """Return a decorator that takes the keywords of the version before for one version, with a DeprecationWarning.

    >>> double = renamed(number="count")(lambda count: 2 * count)
    >>> double(count=4)
    8
    """

    def decorate(function: F) -> F:
        @wraps(function)
        def call(*args: object, **options: object) -> object:
            for before, now in old.items():
                if before in options:
                    warnings.warn(f"{before}= is now called {now}=", DeprecationWarning, stacklevel=2)
                    options.setdefault(now, options.pop(before))
            return function(*args, **options)

        return call  # type: ignore[return-value]

    return decorate
