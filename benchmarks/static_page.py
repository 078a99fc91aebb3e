"""How long the page without a server (`kvplan web --static`) takes in Chromium until it answers by itself.

    npm install pyodide
    python benchmarks/static_page.py --pyodide node_modules/pyodide --visits 5

Exports the page, serves it from this machine, and opens it several times in one browser profile: the first visit loads all,
compiles the Python and keeps the memory of the started planner; later ones begin with that. Between the visits it opens a page
that starts Pyodide and does nothing else. Prints seconds from the address to the first answer that the planner in the page
gave, with the processor seconds of all the browser's processes meanwhile, and seconds from a changed control to its answer.
Needs the extras `web` and `dev`, Chromium, and Linux for processor seconds.
"""

from __future__ import annotations

import argparse
import glob
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from machine import header

from kvplan.web.export import export, size_words

SHOWN = "return document.querySelector('.model')?.textContent ?? ''"
BARE = """<!doctype html><script type="module">
import { loadPyodide } from "./pyodide/pyodide.mjs";
await loadPyodide();
document.title = "started";
</script>"""
"""A page that starts Pyodide and does nothing else."""
TYPED = "const f = document.querySelector('[name=seq]'); f.value = arguments[0]; f.dispatchEvent(new Event('input', {bubbles: true}))"


def main() -> None:
    """Prints a line a visit, and one for the controls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pyodide", default="node_modules/pyodide")
    parser.add_argument("--visits", type=int, default=5)
    asked = parser.parse_args()
    print(f"{header()}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as made:
        site = export(f"{made}/site", asked.pyodide)
        print(size_words(site))
        Path(site, "bare.html").write_text(BARE)
        with served(site) as address, browser(f"{made}/profile") as page:
            later, bare = visits(page, address, asked.visits)
            print(f"later visits: {spread(later)}")
            print(f"Pyodide alone: {spread(bare)}")
            waits = [changed(page, 600 + number) for number in range(20)]
            print(
                f"a changed control: median {statistics.median(waits) * 1e3:.0f} ms, longest {max(waits) * 1e3:.0f} ms"
            )


def visits(page: Any, address: str, count: int) -> tuple[list[Took], list[Took]]:
    """Opens the page `count` times, and before each later visit Pyodide alone; prints a line each."""
    later, bare = [], []
    for number in range(1, count + 1):
        if number > 1:
            bare.append(timed(page, partial(alone, page, f"{address}bare.html")))
            print(f"Pyodide alone: {bare[-1]}")
        tokens = 500 + number
        took = timed(page, partial(visit, page, f"{address}?model=gpt2&gpu=l4&seq={tokens}", tokens))
        print(f"visit {number}: {took}")
        later += [took] if number > 1 else []
        time.sleep(5 if number > 1 else 15)  # what the first visit keeps is written
    return later, bare


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, seconds of the processor, and the machine's load then."""

    seconds: float
    processor: float
    load: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, {self.processor:.2f} s of the processor (load {self.load:.1f})"


def timed(page: Any, do: Callable[[], float]) -> Took:
    """What `do` took, on a page that was left before."""
    page.get("about:blank")
    before = processor_seconds(page.service.process.pid)
    seconds = do()
    return Took(seconds, processor_seconds(page.service.process.pid) - before, os.getloadavg()[0])


def spread(found: list[Took]) -> str:
    """Median and range of seconds and of processor seconds."""
    if not found:
        return "none"
    words = []
    for name, values in (
        ("s", [one.seconds for one in found]),
        ("s of the processor", [one.processor for one in found]),
    ):
        words.append(f"median {statistics.median(values):.2f} {name} ({min(values):.2f} to {max(values):.2f})")
    return ", ".join(words)


def processor_seconds(root: int) -> float:
    """Seconds that a process, those below it, and those that these have waited for, have taken (Linux; else 0)."""
    total = 0
    try:
        fields = Path(f"/proc/{root}/stat").read_text().rpartition(")")[2].split()
        total = sum(map(int, fields[11:15]))
        below = [Path(one).read_text().split() for one in glob.glob(f"/proc/{root}/task/*/children")]
    except OSError:
        return 0.0
    return total / os.sysconf("SC_CLK_TCK") + sum(processor_seconds(int(pid)) for pids in below for pid in pids)


@contextmanager
def served(folder: str) -> Iterator[str]:
    """The folder over HTTP, on this machine alone."""
    handler = partial(_Quiet, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing a request."""


@contextmanager
def browser(profile: str) -> Iterator[Any]:
    """Chromium without a window, with a profile that keeps its caches."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for word in ("headless", "no-sandbox", "disable-gpu", f"user-data-dir={profile}"):
        options.add_argument(f"--{word}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def alone(page: Any, address: str) -> float:
    """Seconds until Pyodide has started in a page that wants nothing else."""
    begun = time.monotonic()
    page.get(address)
    return wait(page, lambda: page.title == "started", begun)


def visit(page: Any, address: str, tokens: int) -> float:
    """Seconds until the planner in the page has answered for the address."""
    begun = time.monotonic()
    page.get(address)
    return wait(page, lambda: f"{tokens} tokens" in page.execute_script(SHOWN), begun)


def changed(page: Any, tokens: int) -> float:
    """Seconds from a changed length to its answer, the page's own wait of 25 ms in it."""
    begun = time.monotonic()
    page.execute_script(TYPED, str(tokens))
    return wait(page, lambda: f"{tokens} tokens" in page.execute_script(SHOWN), begun)


def wait(page: Any, done: Callable[[], bool], begun: float) -> float:
    """Seconds since `begun` when `done` holds."""
    while not done():
        if time.monotonic() - begun > 300:
            raise SystemExit(f"no answer: {page.execute_script('return document.body.textContent')[:500]}")
        time.sleep(0.01)
    return time.monotonic() - begun


if __name__ == "__main__":
    main()
