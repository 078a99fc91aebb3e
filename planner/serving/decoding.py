"""Sums over the sequences that decode together, as functions of the number of steps done.

Every step gives each of them one token, so a sequence that has `base + k` tokens in the cache after step k keeps its
`base` from the first step to the last. What a step costs and what the pool holds are sums over the bases:

    tokens read      Σ min(base + k, reach)              = Σ of bases + count · k, while none crosses its reach
    blocks held      Σ ceil(min(base + k, limit) / 16)   from Σ (base // 16) and how many bases leave each rest

so thousands of steps cost as much as one. A sequence that crosses a window changes sums: that step is an event.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

from planner.serving.block_pool import BlockKind, Pool

Entry = tuple[int, int]  # (step, ticket) of a heap


class Residues:
    """Σ ceil((base + k) / block) over bases, for any k.

    >>> found = Residues(16)
    >>> for base in (0, 15, 16): found.add(base, 1)
    >>> found.blocks(0), found.blocks(1), found.blocks(17)      # 0 + 1 + 1, 1 + 1 + 2, 2 + 2 + 3
    (2, 4, 7)
    """

    def __init__(self, block_tokens: int) -> None:
        self.block_tokens = block_tokens
        self.count = 0
        self.quotients = 0
        self.by_rest = [0] * block_tokens

    def add(self, base: int, sign: int) -> None:
        quotient, rest = divmod(base, self.block_tokens)
        self.count += sign
        self.quotients += sign * quotient
        self.by_rest[rest] += sign

    def blocks(self, k: int) -> int:
        quotient, rest = divmod(k, self.block_tokens)
        # (rest of base + rest of k) spans 0 to 2·block - 2: one block more, two beyond a whole one, none for 0
        more = self.count + sum(self.by_rest[self.block_tokens - rest + 1 :])
        if rest == 0:
            more -= self.by_rest[0]
        return self.quotients + self.count * quotient + more


class Window:
    """Sequences below and beyond one limit: those below by the sum of their bases, those beyond by their number."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.below = 0
        self.below_bases = 0
        self.beyond = 0
        self.crossings: list[Entry] = []


class Decoding:
    """The sequences that decode, and the step that each of them ends at."""

    def __init__(self, reaches: Sequence[int | None], pool: Pool) -> None:
        limits = {limit for limit in (*reaches, *(kind.limit_tokens for kind in pool.kinds)) if limit is not None}
        self.windows = {limit: Window(limit) for limit in sorted(limits)}
        self.reaches = tuple(reaches)
        self.kinds: tuple[tuple[BlockKind, Residues], ...] = tuple(
            (kind, Residues(kind.block_tokens)) for kind in pool.kinds
        )
        self.sequence_bytes = pool.sequence_bytes
        self.count = 0
        self.bases = 0
        self.step = 0
        self.ends: list[Entry] = []
        self.bases_by_ticket: dict[int, int] = {}
        self._held: dict[int, int] = {}  # bytes by step, of the sequences that are here now

    def join(self, ticket: int, tokens: int, steps_left: int) -> None:
        """Lets a sequence with `tokens` in the cache decode for `steps_left` steps; a ticket is used once."""
        base = tokens - self.step
        self.bases_by_ticket[ticket] = base
        self._count(base, 1)
        heappush(self.ends, (self.step + steps_left, ticket))
        for window in self.windows.values():
            if tokens < window.limit:
                heappush(window.crossings, (window.limit - base, ticket))

    def leave(self, ticket: int) -> int:
        """Takes a sequence out and returns how many tokens it has in the cache."""
        base = self.bases_by_ticket.pop(ticket)
        self._count(base, -1)
        return base + self.step

    def _count(self, base: int, sign: int) -> None:
        tokens = base + self.step
        self._held.clear()
        self.count += sign
        self.bases += sign * base
        for window in self.windows.values():
            if tokens < window.limit:
                window.below += sign
                window.below_bases += sign * base
            else:
                window.beyond += sign
        for kind, residues in self.kinds:
            if kind.limit_tokens is None or tokens < kind.limit_tokens:
                residues.add(base, sign)

    def advance(self, steps: int) -> None:
        """Adds `steps` tokens to each sequence; none may cross a window before the last of them (`next_event`)."""
        self.step += steps
        for window in self.windows.values():
            self._cross(window)

    def _cross(self, window: Window) -> None:
        crossings = window.crossings
        while crossings and crossings[0][0] <= self.step:
            base = self.bases_by_ticket.get(heappop(crossings)[1])
            if base is None:
                continue
            self._held.clear()
            window.below -= 1
            window.below_bases -= base
            window.beyond += 1
            for kind, residues in self.kinds:
                if kind.limit_tokens == window.limit:
                    residues.add(base, -1)

    def ended(self) -> list[int]:
        """Tickets whose last step is done, in order of ticket."""
        found, ends = [], self.ends
        while ends and ends[0][0] <= self.step:
            ticket = heappop(ends)[1]
            if ticket in self.bases_by_ticket:
                found.append(ticket)
        return found

    def next_event(self) -> int:
        """Steps from here to the next end or crossing; at least one sequence must decode."""
        steps = _first(self.ends, self.bases_by_ticket) - self.step
        for window in self.windows.values():
            if window.below:
                steps = min(steps, _first(window.crossings, self.bases_by_ticket) - self.step)
        return steps

    def reached(self, steps: int) -> list[int]:
        """Counts the cached tokens that each kind of attention layer reads, all sequences together, in the step so
        many from here.
        """
        step = self.step + steps
        found = []
        for reach in self.reaches:
            if reach is None:
                found.append(self.bases + self.count * step)
            else:
                window = self.windows[reach]
                found.append(window.below_bases + window.below * step + window.beyond * reach)
        return found

    def growing(self) -> list[int]:
        """Returns by how many tokens `reached` grows each step."""
        return [self.count if reach is None else self.windows[reach].below for reach in self.reaches]

    def held_bytes(self, steps: int) -> int:
        """Counts what the sequences hold of the pool in the step so many from here, as far as `next_event`."""
        step = self.step + steps
        found = self._held.get(step)
        if found is None:
            found = self._held[step] = self._held_at(step)
        return found

    def _held_at(self, step: int) -> int:
        total = self.count * self.sequence_bytes
        for kind, residues in self.kinds:
            blocks = residues.blocks(step)
            if kind.limit_tokens is not None:
                blocks += self.windows[kind.limit_tokens].beyond * kind.blocks(kind.limit_tokens)
            total += kind.block_bytes * blocks
        return total


def _first(heap: list[Entry], alive: dict[int, int]) -> int:
    """The step of the first entry whose sequence is still here; those before it are dropped."""
    while heap[0][1] not in alive:
        heappop(heap)
    return heap[0][0]
