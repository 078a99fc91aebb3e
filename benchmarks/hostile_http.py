"""Asks a started `kvplan web` over loopback what no friend would ask, and counts how it answers.

    python benchmarks/hostile_http.py --requests 100000 --slow 300

Types, sizes, paths, methods and headers by keep-alive connections; connections that send a byte a second, of a head and of
a body; and every so often a good question, whose answer must be the same. The server writes each file that it opens, each
connection and process that it makes to a list (an audit hook of Python), which must stay empty. Needs the extra `web`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote, urlencode

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from machine import header

from tests.kvplan.web.test_http import HOSTILE, wrong_question

GOOD = "/api/fit?model=llama-3.1-8b&gpu=l4&engine=vllm&seq=8k"
PAGES = (
    "/",
    "/answer",
    "/compare",
    "/check",
    "/plan",
    "/reconcile",
    "/docs",
    "/openapi.json",
    "/api/models",
    "/api/gpus",
    "/static/page.js",
)
PATHS = ("/../../etc/passwd", "/static/../app.py", "/static/%2e%2e/%2e%2e/etc/passwd", "/static//etc/passwd", "//etc/passwd", "/%00", "/api/",
         "/api/estimate/../../x", "/" + "a" * 4000, "/" + "%ff" * 900, "/.git/config", "/api/estimate%0d%0aX: y", "/static/..%5c..%5cx", "/report?model=../x")  # fmt: skip
METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "GETT")
HEADERS = ("Host: ", "Host: evil.example", "Content-Length: -1", "Content-Length: 99999999999999999999", "Content-Length: 5\r\nContent-Length: 6",
           "Transfer-Encoding: gzip", "Transfer-Encoding: chunked\r\nContent-Length: 3", "Content-Type: multipart/form-data; boundary=" + "x" * 500,
           "Content-Encoding: gzip", "Range: bytes=0-9999999999", "Expect: 100-continue", "Upgrade: websocket\r\nConnection: Upgrade", "X-Forwarded-Prefix: /../..",
           "Cookie: " + "a=b; " * 900, "Accept-Language: " + "x," * 2000, "Accept: \xe9\xff", "Referer: file:///etc/passwd", "X-Nothing: \x01",
           "\r\n".join(f"X-{number}: y" for number in range(300)), "If-None-Match: *", "Origin: null", "Authorization: Basic !!!")  # fmt: skip
# Starts the server, and once it listens writes what it opens.
LAUNCH = """
import sys
OWN = tuple({sys.prefix, sys.base_prefix, *(path for path in sys.path if path), *sys.argv[2:]})
listening, out = False, open(sys.argv[1], "a", buffering=1)
def heard(event, given):
    if listening and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.listdir", "os.scandir"):
        what = str(given[0] if event != "socket.connect" else given[1])
        if not what.startswith(OWN) and ".config/kvplan" not in what and not what.isdigit():
            out.write(f"{event} {what!r}" + chr(10))
sys.addaudithook(heard)
import click
echo = click.echo
def said(*given, **named):
    global listening
    echo(*given, **named)
    listening = True
click.echo = said
from kvplan.cli import main
sys.exit(main(["web", "--port", "0"]))
"""


def request_of(chance: random.Random) -> bytes:
    """One request with something wrong in it."""
    kind, asked = wrong_question(chance)
    query = urlencode({name: str(value) for name, value in asked.items()}, errors="replace")
    method, path, lines, body = "GET", f"/api/{kind}?{query}", "", b""
    roll = chance.random()
    if roll < 0.4:
        pass
    elif roll < 0.7:
        method, path, body = "POST", f"/api/{kind}", json.dumps(asked).encode()
    elif roll < 0.78:
        path = chance.choice(PAGES) + "?" + query
    elif roll < 0.84:
        path = chance.choice(PATHS)
    elif roll < 0.87:
        method, path = chance.choice(METHODS), chance.choice((*PAGES, f"/api/{kind}"))
    elif roll < 0.94:
        lines = chance.choice(HEADERS) + "\r\n"
    elif roll < 0.97:
        method, path = "POST", chance.choice(("/api/reconcile", "/reconcile", "/gguf?size=9&name=x", f"/api/{kind}"))
        body = chance.choice(
            (
                b"{",
                b"[" * 20_000,
                b'{"model":' * 400,
                b"\0" * 9_000,
                b"GGUF" + b"\xff" * 3_000,
                bytes(chance.randbytes(2_000)),
            )
        )
    elif roll < 0.9995:
        path = f"/check?command={quote(chance.choice(HOSTILE))}&gpu={quote(chance.choice(HOSTILE), safe='')}"
    else:
        method, path, body = "POST", "/api/reconcile", b"x" * chance.choice((1 << 20, 17 << 20))
    length = (
        f"Content-Length: {len(body)}\r\n"
        if method == "POST" and "Content-Length" not in lines and "Transfer" not in lines
        else ""
    )
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{lines}\r\n".encode("latin-1", "replace") + body


class Line:
    """A connection that is opened again where the server has closed it."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.place, self.file, self.sock = place, None, None

    def ask(self, asked: bytes) -> tuple[int, bytes, float]:
        """(status, body, seconds); 0 where the server hung up without an answer."""
        begun = time.perf_counter()
        try:
            if self.file is None:
                self.sock = socket.create_connection(self.place, timeout=60)
                self.file = self.sock.makefile("rb")
            # A body that never comes is waited for, as long as the server gives it: not by us.
            self.sock.settimeout(1 if b"Transfer-Encoding" in asked or asked.count(b"Content-Length") > 1 else 60)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.sock.sendall(asked)
            status, body, keeps = self._answer(asked.startswith(b"HEAD"))
            keeps = keeps and status != 413  # what follows would be read as the body
        except (OSError, ValueError):
            status, body, keeps = 0, b"", False
        if not keeps and self.sock is not None:
            self.sock.close()
            self.file = None
        return status, body, time.perf_counter() - begun

    def _answer(self, head: bool) -> tuple[int, bytes, bool]:
        while True:
            first = self.file.readline(4096)
            status = int(first.split()[1]) if first.startswith(b"HTTP/") else 0
            length, keeps = 0, bool(status)
            while (line := self.file.readline(65536)).strip():
                name, _, value = line.decode("latin-1").partition(":")
                length = int(value) if name.lower() == "content-length" else length
                keeps = keeps and not (name.lower() == "connection" and "close" in value)
            if status != 100:
                return status, b"" if head else self.file.read(length), keeps


def slow_sender(place: tuple[str, int], end: threading.Event, number: int, closed: Counter[str]) -> None:
    """Sends a head, or a body, a byte a second, until it is hung up on; then again."""
    kind = "body" if number % 3 == 0 else "head"
    text = (
        b"POST /api/fit HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n"
        if kind == "body"
        else b"GET / HTTP/1.1\r\nHost: x\r\n"
    )
    while not end.is_set():
        with contextlib.suppress(OSError), socket.create_connection(place, timeout=30) as line:
            line.sendall(text)
            while not end.wait(1.0):
                line.sendall(b"X")
        closed[kind] += not end.is_set()


def asker(place: tuple[str, int], count: int, seed: int, found: dict) -> None:
    """Asks `count` of them, and a good question after each hundred."""
    chance, line, good, first = random.Random(seed), Line(place), Line(place), None
    for number in range(count):
        if time.monotonic() > found["until"]:
            break
        asked = request_of(chance)
        status, body, seconds = line.ask(asked)
        found["statuses"][status] += 1
        found["slow"].append((seconds, f"{status}: {asked[:90]!r}"))
        if len(found["slow"]) > 4000:
            found["slow"] = sorted(found["slow"], reverse=True)[:2000]
        found["tracebacks"] += b"Traceback" in body
        if number % 100 == 0:
            question = f"GET {GOOD} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            status, body, seconds = good.ask(question)
            if not status:  # a connection that was left alone for ten seconds is closed
                status, body, seconds = good.ask(question)
            first = first or body
            found["good"].append(seconds)
            found["wrong"] += status != 200 or body != first


def main() -> None:
    """Prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--slow", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=3600, help="end then, with as many as were asked by then")
    asked = parser.parse_args()
    print(header())
    with tempfile.TemporaryDirectory() as folder:
        opened = Path(folder, "opened")
        words = [sys.executable, "-c", LAUNCH, str(opened), str(REPOSITORY)]
        with open(Path(folder, "err"), "w+") as errors:
            server = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=errors, text=True)
            assert server.stdout is not None
            shown = re.search(r"http://([\d.]+):(\d+)", server.stdout.readline())
            assert shown is not None
            try:
                measure((shown[1], int(shown[2])), asked.requests, asked.slow, opened=opened, most=asked.seconds)
            finally:
                server.terminate()
                server.wait(30)
            errors.seek(0)
            text = errors.read()
            said = text.splitlines()
            if "Traceback" in text:
                print(text[text.index("Traceback") :][:4000])
        print(
            f"lines on the server's stderr: {len(said)}, with a traceback: {sum('Traceback' in line for line in said)}",
            *said[:3],
            sep="\n  ",
        )
        rows = Counter(opened.read_text().splitlines())
        print(
            f"files, connections and processes that it opened: {len(rows)}",
            *(f"{row} ({times})" for row, times in rows.most_common(8)),
            sep="\n  ",
        )


def measure(place: tuple[str, int], count: int, slow: int, *, opened: Path, most: float) -> None:
    """Asks from four connections at once, beside the slow ones."""
    warm = Line(place)
    for path in (*PAGES, GOOD):  # what is loaded once is loaded now
        warm.ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    opened.write_text("")
    found = {
        "statuses": Counter(),
        "slow": [],
        "good": [],
        "wrong": 0,
        "tracebacks": 0,
        "until": time.monotonic() + most,
    }
    end, closed = threading.Event(), Counter()
    senders = [threading.Thread(target=slow_sender, args=(place, end, number, closed)) for number in range(slow)]
    for one in senders:
        one.start()
    begun = time.perf_counter()
    askers = [threading.Thread(target=asker, args=(place, count // 4, seed, found)) for seed in range(4)]
    for one in askers:
        one.start()
    for one in askers:
        one.join()
    seconds = time.perf_counter() - begun
    end.set()
    for one in senders:
        one.join()
    statuses, slowest, good = found["statuses"], sorted(found["slow"], reverse=True), sorted(found["good"])
    print(
        f"{sum(statuses.values()):,} hostile requests over loopback in {seconds:,.0f} s beside {slow} slow senders: {dict(sorted(statuses.items()))}"
    )
    print(f"  with a traceback in the answer: {found['tracebacks']}; 0 is a connection that was closed without one")
    print(
        f"  longest: {slowest[0][0]:.2f} s ({slowest[0][1]}), the thousandth {slowest[min(999, len(slowest) - 1)][0] * 1e3:.0f} ms"
    )
    print(
        f"  good questions meanwhile: {len(good):,}, median {good[len(good) // 2] * 1e3:.0f} ms, 99th percentile {good[len(good) * 99 // 100] * 1e3:.0f} ms, not the same: {found['wrong']}"
    )
    print(f"  slow senders that were hung up on: {dict(closed)}")


if __name__ == "__main__":
    main()
