"""How long the page without a server (`kvplan web --static`) takes in Chromium until it answers by itself.

    npm install pyodide
    python benchmarks/static_page.py --pyodide node_modules/pyodide --visits 5

Exports the page, serves it from this machine, and opens it several times in one browser profile: the first visit loads all,
and compiles the Python; later ones find what the browser kept. Prints seconds from the address to the first answer that
the planner in the page gave, and from a changed control to its answer. Needs the extras `web` and `dev`, and Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
        with served(site) as address, browser(f"{made}/profile") as page:
            for number in range(1, asked.visits + 1):
                page.get("about:blank")
                print(
                    f"visit {number}: {visit(page, f'{address}?model=gpt2&gpu=l4&seq={500 + number}', 500 + number):.2f} s"
                )
                time.sleep(3)  # what was compiled is kept
            waits = [changed(page, 600 + number) for number in range(20)]
            print(
                f"a changed control: median {statistics.median(waits) * 1e3:.0f} ms, longest {max(waits) * 1e3:.0f} ms"
            )


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
