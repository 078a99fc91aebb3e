"""What a deployment costs: the price of a device with who asked it and when, and what a million tokens come to."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from planner.catalogue.device import Device
from planner.catalogue.entries import device_key
from planner.errors import BadRequest, one_line
from planner.frozen import dataclass

SECONDS_PER_HOUR = 3600


MILLION = 10**6


MAX_USD_PER_HOUR = 10**6


@dataclass(frozen=True)
class HourlyPrice:
    """US dollars an hour for one device, and where that is from."""

    usd_per_hour: float
    words: str


def price_of(device: Device, given: dict[str, float] | None = None) -> HourlyPrice | None:
    """Returns the price given for a device, else the lowest of the catalogue, which names provider and date; None without one.

    >>> from planner.catalogue.entries import find_device
    >>> price_of(find_device("l4")).words
    'AWS g6.xlarge, 2026-10'
    >>> price_of(find_device("l4"), {"l4": 0.5}).usd_per_hour
    0.5
    """
    for name in (device.name, *device.aliases):
        if given and device_key(name) in given:
            return HourlyPrice(given[device_key(name)], "as given with --price")
    cheapest = min(device.prices, key=lambda price: price.usd_per_hour, default=None)
    if cheapest is None:
        return None
    return HourlyPrice(cheapest.usd_per_hour, f"{cheapest.provider}, {cheapest.date}")


def parse_usd_per_hour(text: str, what: str) -> float:
    """Reads `20/h`, `$20/h` or `20`.

    >>> parse_usd_per_hour("20/h", "--budget"), parse_usd_per_hour("$2.1", "--price")
    (20.0, 2.1)
    """
    match = re.fullmatch(r"\$?(\d{1,9}(?:\.\d{1,9})?)\s*(?:USD)?\s*(?:/\s*(?:h|hour))?", text.strip(), re.ASCII)
    value = float(match.group(1)) if match else math.nan
    if not 0 < value <= MAX_USD_PER_HOUR:
        raise BadRequest(f"{what} {one_line(text, 40)!r} is not a price in US dollars an hour; write for example 2.1/h")
    return value


def parse_prices(items: Iterable[str]) -> dict[str, float]:
    """Reads `h100-sxm=2.1/h,l4=0.5/h`, by the key under which the catalogue finds a device.

    >>> parse_prices(["NVIDIA H100=2.1/h,l4=0.5/h"])
    {'h100': 2.1, 'l4': 0.5}
    """
    found: dict[str, float] = {}
    for item in (piece for text in items for piece in text.split(",")):
        name, equals, price = item.partition("=")
        if not equals or not name.strip():
            raise BadRequest(f"--price {one_line(item, 40)!r} is not NAME=PRICE; write for example h100-sxm=2.1/h")
        found[device_key(name)] = parse_usd_per_hour(price, f"--price {one_line(name, 30)}")
    return found


@dataclass(frozen=True)
class TokenCosts:
    """US dollars for a million tokens, at the load asked and with idle time paid by it.

    prompt   tokens that are computed; `cached` tokens that are found in the cache; `output` tokens
    blended  all tokens of a request together
    """

    prompt: float
    cached: float | None
    output: float
    blended: float


def token_costs(
    *,
    usd_per_hour: float,
    requests_per_s: float,
    prompt_tokens: float,
    cached_tokens: float,
    output_tokens: float,
    prompt_seconds: float,
    cached_seconds: float,
    decode_seconds: float,
) -> TokenCosts:  # parameters: the quantities of its equation, each by name
    """Splits a request's share of the hour by the machine time that its parts take.

    request = usd_per_hour / 3600 / requests_per_s, divided as prompt_seconds : cached_seconds : decode_seconds;
    each part over its tokens. `prompt_seconds` is what the new tokens add to steps, `cached_seconds` what attending to
    the cached ones adds to that, `decode_seconds` the request's share of the decoding steps.

    Leaves out the memory that cached tokens hold between requests, and taxes on idle replicas beyond this load.

    >>> found = token_costs(usd_per_hour=3.6, requests_per_s=1, prompt_tokens=1000, cached_tokens=0,
    ...     output_tokens=100, prompt_seconds=0.1, cached_seconds=0, decode_seconds=0.3)
    >>> found.prompt, found.cached, round(found.output, 9)   # 0.001 USD a request: a quarter over 1000, the rest over 100
    (0.25, None, 7.5)
    """
    request = usd_per_hour / SECONDS_PER_HOUR / requests_per_s
    machine = prompt_seconds + cached_seconds + decode_seconds
    new = prompt_tokens - cached_tokens

    def each(seconds: float, tokens: float) -> float:
        return request * seconds / machine / tokens * MILLION

    return TokenCosts(
        prompt=each(prompt_seconds, new),
        cached=each(cached_seconds, cached_tokens) if cached_tokens else None,
        output=each(decode_seconds, output_tokens),
        blended=request / (prompt_tokens + output_tokens) * MILLION,
    )
