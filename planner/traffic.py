"""Requests as they reach a server: from a trace, or drawn from a mix of lengths at a rate."""

from __future__ import annotations

from typing import NamedTuple


class Arrival(NamedTuple):
    """One request: when it comes and how long it is.

    cached_tokens   prompt tokens that a prefix cache is stated to hold already (`--prefix-share`)
    hash_ids        the prompt's blocks of 512 tokens by the hash of their prefix; equal ones can be shared
    """

    time_ps: int
    prompt_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    hash_ids: tuple[int, ...] = ()
