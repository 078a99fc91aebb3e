"""The only file that rounds, and the only one that writes or reads units.

Inside kvplan bytes and tokens are ints. GiB is 2^30 bytes, GB is 10^9 bytes; both are always labelled.
A `k` in a length means 1024 tokens, as in "an 8k context" (8192).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from planner.errors import BadRequest, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fractions import Fraction

PS_PER_SECOND = 10**12


KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


MAX_TOKENS = 10**10  # beyond any model; a larger number is a typing error


MAX_COUNT = 10**9


MAX_BYTES = 1 << 60


_BYTE_UNITS = {
    "": 1, "b": 1,
    "k": KIB, "kib": KIB, "kb": 10**3,
    "m": MIB, "mib": MIB, "mb": 10**6,
    "g": GIB, "gib": GIB, "gb": 10**9,
    "t": TIB, "tib": TIB, "tb": 10**12,
}  # fmt: skip


_TOKEN_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}


def human_bytes(n: int) -> str:
    """Writes bytes in binary units with two decimals, exact below 1 KiB.

    >>> human_bytes(4_294_967_296), human_bytes(524_288), human_bytes(656), human_bytes(-1536)
    ('4.00 GiB', '512.00 KiB', '656 B', '-1.50 KiB')
    """
    size = abs(n)
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{n / unit:,.2f} {name}"
    return f"{n} B"


def gib(n: int) -> str:
    """Writes GiB always, two decimals; `<0.01` where rounding would print a lie of zero.

    >>> gib(4_294_967_296), gib(1000), gib(0)
    ('4.00 GiB', '<0.01 GiB', '0.00 GiB')
    """
    if 0 < n < GIB // 200:
        return "<0.01 GiB"
    return f"{n / GIB:,.2f} GiB"


def exact_bytes(n: int) -> str:
    """Writes bytes to the last one, and the nearest binary unit.

    >>> exact_bytes(4294967296)
    '4,294,967,296 B'
    """
    return f"{n:,} B"


def human_count(n: int) -> str:
    """Writes parameters the way papers print them.

    >>> human_count(6738415616), human_count(124439808), human_count(671026419200), human_count(512)
    ('6.74 B', '124.44 M', '671.03 B', '512')
    """
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if abs(n) >= unit:
            return f"{n / unit:.2f} {name}"
    return f"{n:,}"


def human_tokens(n: int) -> str:
    """Writes a length for a table heading: 8k only when it is exactly 8192.

    >>> human_tokens(8192), human_tokens(1_048_576), human_tokens(8000), human_tokens(512)
    ('8k', '1M', '8,000', '512')
    """
    if n >= 1 << 20 and n % (1 << 20) == 0:
        return f"{n >> 20}M"
    if n >= 1024 and n % 1024 == 0:
        return f"{n >> 10}k"
    return f"{n:,}"


def plural(count: int, noun: str) -> str:
    """Returns a count with its noun.

    >>> plural(1, "device"), plural(1200, "device")
    ('1 device', '1,200 devices')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def human_seconds(seconds: float) -> str:
    """Writes three digits, in the unit that reads best.

    >>> [human_seconds(s) for s in (0.0, 2.5e-6, 0.0142, 0.99951, 12.34, 100, 7200)]
    ['0 s', '2.50 us', '14.2 ms', '1.00 s', '12.3 s', '100 s', '2.00 h']
    """
    if not seconds:
        return "0 s"
    for unit, name in ((3600.0, "h"), (1.0, "s"), (1e-3, "ms")):
        if seconds >= 0.9995 * unit:
            return f"{significant(seconds / unit)} {name}"
    return f"{significant(seconds * 1e6)} us"


def significant(value: float) -> str:
    """Writes a measured or estimated number with three digits.

    >>> [significant(v) for v in (1.234, 45.67, 989.4, 12345.6, 0.0456)]
    ['1.23', '45.7', '989', '12,346', '0.0456']
    """
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def bandwidth(bytes_per_s: float) -> str:
    """Writes bytes a second as data sheets do.

    >>> bandwidth(3.35e12), bandwidth(1008e9)
    ('3.35 TB/s', '1,008 GB/s')
    """
    return f"{bytes_per_s / 1e12:.2f} TB/s" if bytes_per_s >= 2e12 else f"{bytes_per_s / 1e9:,.0f} GB/s"


def flops(flop_per_s: float) -> str:
    """Writes FLOP/s as data sheets do.

    >>> flops(989e12)
    '989 TFLOP/s'
    """
    return f"{flop_per_s / 1e12:,.0f} TFLOP/s"


def percent(part: float, whole: float) -> str:
    """Writes a share of a whole.

    >>> percent(1, 3), percent(1, 0)
    ('33 %', '-')
    """
    return f"{100 * part / whole:.0f} %" if whole else "-"


def parse_bytes(text: str, what: str = "memory") -> int:
    """Reads `24GiB`, `80 GB`, `512MiB` or plain bytes; a bare number too small for bytes is asked for its unit.

    >>> parse_bytes("24GiB"), parse_bytes("80 GB"), parse_bytes("1.5g"), parse_bytes("4194304")
    (25769803776, 80000000000, 1610612736, 4194304)
    """
    match = re.fullmatch(r"(\d{1,20}(?:\.\d{1,9})?)\s*([a-zA-Z]{0,3})", text.strip(), re.ASCII)
    unit = _BYTE_UNITS.get(match.group(2).lower()) if match else None
    if match is None or unit is None:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a size; write for example 24GiB or 80GB")
    whole, _, fraction = match.group(1).partition(".")
    value = int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
    if not 0 < value <= MAX_BYTES:
        raise BadRequest(
            f"{what} {one_line(text, 40)!r} is out of range; write a size from 1B to {MAX_BYTES // TIB}TiB"
        )
    if not match.group(2) and (fraction or value < MIB):
        raise BadRequest(
            f"{what} {one_line(text, 40)!r} has no unit; write for example {whole}GiB, or {whole}B for bytes"
        )
    return value


def parse_tokens(text: str, what: str = "length") -> int:
    """Reads one length: `8192`, `8k`, `1M`; k is 1024.

    >>> parse_tokens("8k"), parse_tokens("8192"), parse_tokens("1.5k")
    (8192, 8192, 1536)
    """
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text):  # the usual case, without a pattern
        return int(text)
    pattern = r"(\d+(?:_\d+)*(?:\.\d{1,6})?)\s*([kKmM]?)"
    match = re.fullmatch(pattern, text.strip(), re.ASCII) if len(text) <= 64 else None
    digits = match.group(1).replace("_", "") if match else ""
    if match is None:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a number of tokens; write for example 8192 or 8k")
    whole, _, fraction = digits.partition(".")
    unit = _TOKEN_UNITS[match.group(2).lower()]
    value = int(whole) * unit
    if fraction:
        extra = int(fraction) * unit
        if extra % 10 ** len(fraction):
            raise BadRequest(f"{what} {one_line(text, 40)!r} is not a whole number of tokens")
        value += extra // 10 ** len(fraction)
    if not 0 < value <= MAX_TOKENS:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is out of range; write 1 to {MAX_TOKENS:,} tokens")
    return value


def parse_lengths(text: str) -> list[int]:
    """Reads a list (`1k,8k,32k`) or a range that doubles (`1k..128k`), in the order given, without repeats.

    >>> parse_lengths("1k,8k"), parse_lengths("1k..8k"), parse_lengths("1k..6k")
    ([1024, 8192], [1024, 2048, 4096, 8192], [1024, 2048, 4096, 6144])
    """
    lengths: list[int] = []
    _refuse_thousands(text)
    for item in text.split(","):
        low_text, dots, high_text = item.partition("..")
        low = parse_tokens(low_text, "--seq")
        if not dots:
            lengths.append(low)
            continue
        high = parse_tokens(high_text, "--seq")
        if high < low:
            raise BadRequest(f"--seq {one_line(item, 40)!r} runs backwards; write low..high")
        while low < high:
            lengths.append(low)
            low *= 2
        lengths.append(high)
    return list(dict.fromkeys(lengths))


def _refuse_thousands(text: str) -> None:
    """`8,192` reads as one number to some and as two to others: the comma separates lengths, so ask."""
    if "," not in text or len(text) > 64 or not re.fullmatch(r"\d{1,3}(,\d{3})+", text.strip(), re.ASCII):
        return
    groups = [int(group) for group in text.split(",")]
    ascending = groups == sorted(set(groups))
    round_ones = all(group & (group - 1) == 0 for group in groups) and not re.search(r",0", text)  # 64,128
    if not ascending or (groups[0] < 100 and not round_ones):
        whole = text.strip().replace(",", "")
        raise BadRequest(
            f"--seq {one_line(text, 40)!r} may be one length or several; write {one_line(whole, 40)}, "
            "or a space after each comma"
        )


def ceil_div(a: int, b: int) -> int:
    """Divides and rounds up.

    >>> ceil_div(7, 2), ceil_div(8, 2)
    (4, 4)
    """
    return -(-a // b)


def product(numbers: Iterable[int]) -> int:
    """Multiplies whole numbers.

    >>> product([2, 3, 4])
    24
    """
    return math.prod(numbers)


def checked_share(value: Fraction, what: str) -> Fraction:
    """Returns a share of a whole, above 0 and up to 1; `what` is how an error names it.

    >>> from fractions import Fraction
    >>> checked_share(Fraction(9, 10), "--gpu-memory-utilization 0.9")
    Fraction(9, 10)
    """
    if not 0 < value <= 1:
        raise BadRequest(f"{what} is not a share; write a number above 0 and up to 1")
    return value


def checked_ratio(value: Fraction, what: str) -> Fraction:
    """Returns a ratio above 0, up to 100; `what` is how an error names it."""
    if not 0 < value <= 100:
        raise BadRequest(f"{what} is out of range; write a number above 0")
    return value
