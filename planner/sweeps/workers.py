"""Who computes: this process, several processes here, or a Ray cluster. The answers come in the order of the grid."""

from __future__ import annotations

import signal
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from planner.errors import KvplanError, one_line
from planner.sweeps.questions import FORMULAS, Point, Row, Shared, answer_rows

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

A = TypeVar("A")
B = TypeVar("B")
Rows = Generator[list[Row], None, None]
CHUNK_POINTS = {"estimate": 128, "fit": 8, "speed": 64}
MAX_WORKERS = 1024
KNOCK_SECONDS = 10


def chunks(question: str, points: Sequence[Point]) -> list[Sequence[Point]]:
    """Cuts the points into chunks that one worker answers at a time."""
    size = CHUNK_POINTS[question]
    return [points[start : start + size] for start in range(0, len(points), size)]


def here(shared: Shared, work: Iterable[Sequence[Point]]) -> Rows:
    """Answers one chunk after the other, in this process."""
    for points in work:
        yield answer_rows(shared, points)


def in_processes(shared: Shared, work: Iterable[Sequence[Point]], workers: int) -> Rows:
    """Answers the chunks in `workers` processes of this machine."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start, initargs=(shared,))
    try:
        yield from _window(partial(_submit, pool), _result, work, width=3 * workers)
    except BrokenProcessPool:
        raise KvplanError(
            "a worker process was ended from outside (out of memory?); try again with fewer --workers and --resume"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, points: Sequence[Point]) -> Future[list[Row]]:
    """A process that is started here is born deaf to Ctrl-C, which goes to all of a terminal's processes."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: whoever runs this handles signals
        return pool.submit(_answer, points)
    try:
        return pool.submit(_answer, points)
    finally:
        signal.signal(signal.SIGINT, before)


def _result(future: Future[list[Row]]) -> list[Row]:
    return future.result()


_shared: Shared | None = None


def _start(shared: Shared) -> None:
    """In a worker process: what all points have in common."""
    global _shared
    _shared = shared


def _answer(points: Sequence[Point]) -> list[Row]:
    assert _shared is not None
    return answer_rows(_shared, points)


def on_ray(shared: Shared, work: Iterable[Sequence[Point]], address: str) -> Rows:
    """Answers the chunks on the workers of a Ray cluster; refused where they run another kvplan than this one."""
    ray = _ray()
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
        raise KvplanError(
            f"--ray {one_line(address, 80)}: no cluster answers there ({one_line(str(error), 160)}); "
            "ray start --head starts one and prints its address"
        ) from None
    try:
        remote = ray.remote(max_retries=3)(_answer_on_ray)
        common = ray.put(shared)
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield from _window(lambda points: remote.remote(common, points, FORMULAS), ray.get, work, width=3 * cores)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise KvplanError(one_line(str(cause if isinstance(cause, KvplanError) else error), 300)) from None
    except ray.exceptions.RayError as error:
        raise KvplanError(f"the Ray cluster failed: {one_line(str(error), 300)}; --resume goes on") from None
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Whether anybody listens there: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        if address not in ("auto", "local"):
            raise ValueError("write host:port, auto or local")
        return
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{one_line(port, 20)!r} is not a port")
    socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK_SECONDS).close()


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise KvplanError(
            "--ray needs ray: pip install 'llm-kvplan[cluster]', or --workers N on this machine"
        ) from None
    return ray


def _answer_on_ray(shared: Shared, points: Sequence[Point], formulas: int) -> list[Row]:
    if formulas != FORMULAS:
        raise KvplanError("the Ray workers run another kvplan than this one; install the same on every machine")
    return answer_rows(shared, points)


def _window(submit: Callable[[A], B], result: Callable[[B], list[Row]], work: Iterable[A], *, width: int) -> Rows:
    """Results in the order of `work`, with at most `width` under way: a million points do not queue up in memory."""
    waiting: deque[B] = deque()
    for item in work:
        waiting.append(submit(item))
        if len(waiting) >= width:
            yield result(waiting.popleft())
    while waiting:
        yield result(waiting.popleft())
