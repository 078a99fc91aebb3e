"""Makes one device of unlike cards that share a model: as fast as they are together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.catalogue.device import Device


def one_after_another(like: Device, cards: Sequence[Device], sizes: Sequence[int]) -> Device:
    """Returns a device that steps as fast as cards of which each passes a sequence on to the next (whole layers on each).

    Card i reads its s_i bytes at B_i and then the next begins, so all take sum(s_i / B_i) seconds, and one card with the
    mean rate sum(s_i) / sum(s_i / B_i) takes as long; so do FLOP/s, of the number types that every card has.

    like   gives the rest: name, memory, link
    sizes  bytes that a step reads of each card

    >>> from planner.catalogue.entries import find_device
    >>> fast, slow = find_device("rtx-3090"), find_device("rtx-3060")
    >>> fast.bandwidth_bytes_per_s, slow.bandwidth_bytes_per_s
    (936000000000, 360000000000)
    >>> one_after_another(slow, (fast, slow), (2 << 30, 1 << 30)).bandwidth_bytes_per_s  # 3 / (2 / 936 + 1 / 360)
    610434782608

    Leaves out: the link between them, and prompts that several cards work on at once.
    """
    return _with_rates(like, cards, sizes, together=lambda seconds: 1 / sum(seconds))


def side_by_side(like: Device, cards: Sequence[Device], sizes: Sequence[int]) -> Device:
    """Returns a device of which as many step as fast as cards that each compute a part of every matrix.

    All wait for the one that takes longest, max(s_i / B_i); n alike cards with 1/n of the bytes each take as long with
    B = sum(s_i) / n / max(s_i / B_i).

    >>> from planner.catalogue.entries import find_device
    >>> fast, slow = find_device("rtx-3090"), find_device("rtx-3060")
    >>> side_by_side(slow, (fast, slow), (1, 1)).bandwidth_bytes_per_s
    360000000000
    """
    return _with_rates(like, cards, sizes, together=lambda seconds: 1 / (len(cards) * max(seconds)))


def _with_rates(
    like: Device, cards: Sequence[Device], sizes: Sequence[int], *, together: Callable[[Sequence[float]], float]
) -> Device:
    """`like` with bandwidth and FLOP/s of all cards together, and their mean power; none where one card's are not known.

    together  the rate of all, of the seconds that each card takes for its share
    """
    shares = [size / sum(sizes) for size in sizes] if sum(sizes) else [1 / len(cards)] * len(cards)

    def rate(rates: Sequence[int]) -> int:
        return int(together([share / one for share, one in zip(shares, rates, strict=True)]))

    bandwidths = [card.bandwidth_bytes_per_s or 0 for card in cards]
    kinds = [kind for kind in like.dense_flops_per_s if all(card.dense_flops_per_s.get(kind) for card in cards)]
    watts = [card.tdp_watts or 0 for card in cards]
    return replace(
        like,
        tdp_watts=sum(watts) / len(watts) if all(watts) else None,
        prices=(),
        bandwidth_bytes_per_s=rate(bandwidths) if all(bandwidths) else None,
        dense_flops_per_s={kind: rate([card.dense_flops_per_s[kind] for card in cards]) for kind in kinds},
    )
