"""Keys, tokens and passwords never leave: what may be printed of a text from outside."""

from __future__ import annotations

import re

from planner.errors import one_line

HIDDEN = "***"
_NAMES = re.compile(
    r"(?i)(api[-_.]?keys?|auth[-_]?key|token(?!s|iz|_id|-id)|passw(or)?d|passphrase|secret|credential|private[-_]?key|bearer|"
    r"access[-_]?key|keyfile-password|\bpat\b|licen[cs]e[-_]?key|ngrok|hft\b)"
)
_VALUES = re.compile(
    r"(hf_[A-Za-z0-9]{6,}|sk-[A-Za-z0-9_+/=-]{6,}|ghp_[A-Za-z0-9]{6,}|github_pat_\w{6,}|glpat-[\w-]{6,}|nvapi-[\w-]{6,}|"
    r"xox[abprs]-[\w-]{6,}|AKIA[A-Z0-9]{8,}|AIza[\w-]{8,}|eyJ[\w-]{8,}\.[\w.-]{4,}|(?i:bearer)\s+\S+)"
)
_URL = re.compile(r"([a-z][a-z0-9+.-]*://)[^/\s@]+@", re.IGNORECASE)
_QUERY = re.compile(r"(?i)([?&;][^=&\s]*(?:key|token|secret|password|sig|auth)[^=&\s]*=)[^&\s]+")


def is_secret_name(name: str) -> bool:
    """Tells whether a flag or a variable of this name holds a secret.

    >>> [is_secret_name(name) for name in ("--api-key", "HF_TOKEN", "--max-num-batched-tokens", "--tokenizer", "-hft")]
    [True, True, False, False, True]
    """
    return bool(_NAMES.search(name))


def shown(text: str, limit: int = 80, *, name: str = "") -> str:
    """Returns `text` as it may be printed: one line, cut at `limit`, without what looks like a secret.

    >>> shown("http://me:pw@host/v1?api_key=abc"), shown("hunter2", name="--api-key"), shown("hf_AbCdEf123456")
    ('http://***@host/v1?api_key=***', '***', '***')
    """
    if name and is_secret_name(name):
        return HIDDEN
    # A key near the cut would lose its beginning: hide first, in a bounded piece, then cut.
    clean = _VALUES.sub(HIDDEN, text[: 16 * limit])
    clean = _QUERY.sub(rf"\g<1>{HIDDEN}", _URL.sub(rf"\g<1>{HIDDEN}@", clean))
    return one_line(clean, limit)
