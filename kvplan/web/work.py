"""Runs answers beside the server's loop: a few at once, each with a time in which it must be there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from planner.errors import KvplanError

T = TypeVar("T")
QUICK_SECONDS, LONG_SECONDS = 20.0, 90.0
QUICK, LONG = 4, 1
"""Threads for answers of milliseconds, and for plans and reports."""


class TooLong(KvplanError):
    """An answer that is not there in time."""


class Work:
    """Threads of their own for quick answers and for long ones, so that a plan does not keep an estimate waiting."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(QUICK, thread_name_prefix="quick")
        self._long = ThreadPoolExecutor(LONG, thread_name_prefix="long")

    async def run(self, job: Callable[[], T], *, long: bool = False) -> T:
        """What `job` returns; TooLong where it takes longer than is given to its kind."""
        threads, seconds = (self._long, LONG_SECONDS) if long else (self._quick, QUICK_SECONDS)
        future = asyncio.get_running_loop().run_in_executor(threads, job)
        try:
            return await asyncio.wait_for(asyncio.shield(future), seconds)
        except asyncio.TimeoutError:
            future.cancel()  # one that has not begun never will
            raise TooLong(f"no answer within {seconds:.0f} s; ask a smaller question, or ask again") from None

    def close(self) -> None:
        """Waits for nothing more."""
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._long.shutdown(wait=False, cancel_futures=True)
