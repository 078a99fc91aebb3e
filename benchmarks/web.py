"""How many requests a second `kvplan web` answers on one core, how late the last of a hundred is, and what memory it takes.

    python benchmarks/web.py --requests 2000 --questions 200 --hostile 2000

Starts the server on a free port, held to one core, and asks /api/estimate over one connection that stays open. Then random
questions are held against the command line's JSON, hostile ones (types, sizes, paths) are asked in this process, and bytes
that are no HTTP at all over sockets; at last controls of the page are changed, for the largest models of the catalogue. Needs the extras `web` and `dev`.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import random
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(Path(__file__).resolve().parent)]

from machine import header

ASKED = "/api/estimate?model=llama-3.1-8b&seq={seq}&batch={batch}&gpu=rtx-4090"
GARBAGE = (b"", b"\0" * 500, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 70_000, b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
           b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", b"POST /api/fit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
           b"\x16\x03\x01\x02\x00", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")  # fmt: skip


def main() -> None:
    """Prints one line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("requests", 2_000), ("questions", 200), ("hostile", 2_000), ("garbage", 200)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    print(header())
    server, host = started()
    try:
        speed(server.pid, host, asked.requests)
        garbage(host, asked.garbage)
    finally:
        server.terminate()
        _, said = server.communicate(timeout=20)
    print(f"tracebacks on the server's stderr: {said.count('Traceback')}")
    same(asked.questions)
    hostile(asked.hostile)
    changes()


def started() -> tuple[subprocess.Popen[str], str]:
    """The server, held to one core, and host:port."""
    words = [sys.executable, "-m", "kvplan", "web", "--port", "0"]
    server = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.stdout is not None
    found = re.search(r"http://([^/\s]+)", server.stdout.readline())
    assert found is not None
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(server.pid, {max(os.sched_getaffinity(0))})
    return server, found.group(1)


def speed(pid: int, host: str, count: int) -> None:
    """Requests a second over one connection, their delays, and the server's memory before and after."""
    connection = http.client.HTTPConnection(host, timeout=60)
    chance = random.Random(1)

    def ask() -> float:
        begun = time.perf_counter()
        connection.request("GET", ASKED.format(seq=chance.randint(1, 131072), batch=chance.randint(1, 64)))
        response = connection.getresponse()
        assert response.status == 200 and response.read()
        return time.perf_counter() - begun

    for _ in range(200):
        ask()
    before, begun = resident(pid), time.perf_counter()
    delays = sorted(ask() for _ in range(count))
    seconds = time.perf_counter() - begun
    print(f"/api/estimate, one core, one connection: {count / seconds:,.0f} requests a second")
    print(
        f"  delay: p50 {delays[count // 2] * 1e3:.1f} ms, p99 {delays[count * 99 // 100] * 1e3:.1f} ms, longest {delays[-1] * 1e3:.0f} ms"
    )
    print(f"  resident memory: {before} MiB after 200 requests, {resident(pid)} MiB after {count:,} more")


def resident(pid: int) -> str:
    """MiB that a process holds; `?` where the system does not say."""
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        found = None
    return f"{int(found.group(1)) / 1024:.0f}" if found else "?"


def garbage(host: str, count: int) -> None:
    """Bytes that are no request, then one that is."""
    name, port = host.rsplit(":", 1)
    for number in range(count):
        with socket.create_connection((name, int(port)), timeout=10) as line:
            line.settimeout(0.05)
            try:
                line.sendall(GARBAGE[number % len(GARBAGE)])
                line.recv(4096)
            except OSError:
                pass  # it hung up, or waits for more
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", "/api/estimate?model=gpt2&seq=1k")
    print(f"after {count} connections with bytes that are no HTTP: status {connection.getresponse().status}")


def same(count: int) -> None:
    """Random questions over HTTP and on the command line."""
    from starlette.testclient import TestClient

    from kvplan.web.app import create_app
    from tests.kvplan.web.test_http import command_line, question

    chance, equal = random.Random(19), 0
    with TestClient(create_app()) as client:
        for _ in range(count):
            kind, asked = question(chance)
            flags = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items() if name != "model"]
            _, out, err = command_line([kind, asked["model"], *flags, "--json"])
            found = client.get(f"/api/{kind}", params=asked)
            said = out.strip() if found.status_code == 200 else err.strip().removeprefix("kvplan: ")
            equal += said == (found.text.strip() if found.status_code == 200 else found.json()["detail"])
    print(f"random questions whose answer is the command line's: {equal} of {count}")


def hostile(count: int) -> None:
    """Requests with something wrong, by GET and by POST."""
    from kvplan.web.app import create_app
    from tests.kvplan.web.test_http import hostile_requests

    begun = time.perf_counter()
    statuses = asyncio.run(hostile_requests(create_app(), count))
    each = (time.perf_counter() - begun) / count * 1e3
    print(f"{count:,} hostile requests, {each:.1f} ms each: {dict(sorted(statuses.items()))}")


LARGEST = ("deepseek-v3", "deepseek-v4-pro", "kimi-k2", "kimi-k3", "glm-5.2", "llama-3.1-405b")
CHANGED = ({"seq": "16k"}, {"batch": "7"}, {"seq": "33k"}, {"gpu": "h100"}, {"gpu": "b200"}, {"tp": "4"}, {"seq": "9000", "batch": "3"})  # fmt: skip


def changes() -> None:
    """What a changed control costs on the page of the largest models: milliseconds of the processor, made in this process."""
    from kvplan.web.screens import Asked, answer

    answer(Asked("model=gpt2&gpu=l4"))
    for engine in ("", "vllm", "sglang", "llamacpp"):
        found = []
        for model in LARGEST:
            asked = {"model": model, "gpu": "h200", "tp": "8", "seq": "8k", "batch": "4", "engine": engine}
            answer(Asked(urlencode(asked)))
            for changed in CHANGED:
                begun = time.process_time()
                assert "verdict" in answer(Asked(urlencode(asked | changed)))
                found.append(((time.process_time() - begun) * 1e3, model))
        found.sort()
        middle, (longest, of) = found[len(found) // 2][0], found[-1]
        print(
            f"a changed control, {len(LARGEST)} large models, {engine or 'no engine'}: median {middle:.0f} ms, longest {longest:.0f} ms ({of})"
        )


if __name__ == "__main__":
    main()
