"""Times `kvplan reconcile` on lines and logs made to take long, at n, 2n and 4n; with --big a log of 2 GiB too.

    python benchmarks/reconcile_lines.py [--big]

A search that grew with the square of a line would print 4 and 16 in the last columns; 2 and 4 are in proportion.
The lines repeat the words that a pattern begins with, which makes it try again at every place. Below them stand
60,000, 120,000 and 240,000 lines as servers write them hour after hour.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from planner.reconcile.facts import Log, engines_of
from planner.reconcile.patterns import PATTERNS
from planner.reconcile.reader import LONGEST_LINE, Source

MIB = 1 << 20


def heads() -> Iterator[str]:
    """What a line is made of: the fixed words that a pattern begins with, alone and with digits, spaces, commas."""
    for pattern in PATTERNS:
        fixed = re.split(r"[\[({*+?|]", pattern.regex.pattern, maxsplit=1)[0]
        words = pattern.needs + re.sub(r"\\(.)", r"\1", fixed)
        yield from (words + tail for tail in ("", " ", "1,1", "9" * 18, " " * 40) if words + tail)


def line_of(head: str, length: int) -> str:
    """A line of `length` characters that repeats `head`."""
    return (head * (length // len(head) + 1))[:length]


def seconds(line: str) -> float:
    """CPU seconds that the patterns take with one line."""
    start = time.process_time()
    Log().read([line])
    return time.process_time() - start


def lines() -> None:
    """The slowest of all heads at a quarter, a half and the whole of the longest line that is looked at."""
    slowest = max(heads(), key=lambda head: seconds(line_of(head, LONGEST_LINE // 8)))
    sizes = [LONGEST_LINE // 4, LONGEST_LINE // 2, LONGEST_LINE]
    row(
        [
            f"the slowest line: {slowest[:24]!r} ...",
            *(min(seconds(line_of(slowest, size)) for _ in range(5)) for size in sizes),
        ]
    )


def logs(folder: Path) -> None:
    """Logs of 1, 2 and 4 MiB: that line again and again, a line of a log between requests, one line without an end."""
    slowest = max(heads(), key=lambda head: seconds(line_of(head, LONGEST_LINE // 8)))
    kinds = {
        "a log of such lines": line_of(slowest, LONGEST_LINE - 1) + "\n",
        "a log of requests": 'INFO 127.0.0.1:5000 - "POST /v1/completions HTTP/1.1" 200 OK\n' * 100
        + "INFO GPU KV cache size: 1,000 tokens\n",
        "a log of one line": "INFO GPU KV cache size: 1,000 tokens ",
    }
    for name, piece in kinds.items():
        row([name, *(read(folder / "server.log", piece, size * MIB) for size in (1, 2, 4))])


ORDINARY = {  # what servers write hour after hour: the first holds no word of a memory line, the others do
    "accesses": 'INFO:     10.0.0.{a}:{b} - "POST /v1/chat/completions HTTP/1.1" 200 OK',
    "requests of vLLM": "INFO 11-30 10:00:{c:02} [logger.py:43] Received request chatcmpl-{x}: prompt: '{w}', params: SamplingParams(n=1, "
    "temperature=0.{a}, max_tokens={b}), prompt_token_ids: None, multi_modal_placeholders: multimodal, lora_request: None.",
    "throughput of vLLM": "INFO 11-30 10:00:{c:02} [loggers.py:118] Engine 000: Avg prompt throughput: {a}.{c} tokens/s, Avg generation "
    "throughput: {b}.{a} tokens/s, Running: {c} reqs, Waiting: 0 reqs, GPU KV cache usage: {c}.1%, Prefix cache hit rate: {c}.0%",
    "slots of llama.cpp": "slot update_slots: id  {c} | task {b} | prompt done, n_tokens = {a}, memory_seq_rm [{b}, end), llama_decode {w}",
    "ollama": 'time=2026-11-30T10:00:{c:02}.{b}Z level=DEBUG source=sched.go:{a} msg="evaluating already loaded" model=/root/.ollama/blobs/sha256-{x}',
}  # fmt: skip


def ordinary(folder: Path) -> None:
    """Logs of 60,000, 120,000 and 240,000 lines of each kind of ordinary line, their digits, ids and words drawn anew."""
    path = folder / "server.log"
    for name, form in ORDINARY.items():
        times = []
        for count in (60_000, 120_000, 240_000):
            draw = random.Random(count)
            with path.open("w") as file:
                file.writelines(_ordinary_line(form, draw) for _ in range(count))
            times.append(seconds_of(path))
        row([f"60,000 lines: {name}", *times])


def _ordinary_line(form: str, draw: random.Random) -> str:
    words = " ".join(draw.choices(("a", "cache", "of", "tokens", "holds", "what", "was", "asked"), k=3))
    return (
        form.format(
            a=draw.randrange(256),
            b=draw.randrange(60_000),
            c=draw.randrange(60),
            x=f"{draw.getrandbits(64):x}",
            w=words,
        )
        + "\n"
    )


def read(path: Path, piece: str, size: int) -> float:
    """CPU seconds to read a file of `size` bytes that repeats `piece`."""
    path.write_text(line_of(piece, size))
    return seconds_of(path)


def seconds_of(path: Path) -> float:
    """CPU seconds that the log takes, as `kvplan reconcile` reads it."""
    start = time.process_time()
    engines_of(Log().read(Source(str(path)).lines()))
    return time.process_time() - start


def row(cells: list[object]) -> None:
    """One line of the table: seconds at n, 2n, 4n, then the two ratios to n."""
    name, *times = cells
    one, two, four = (float(str(value)) for value in times)
    print(f"{name!s:<48}{one:>9.3f}{two:>9.3f}{four:>9.3f}{two / one:>7.1f}{four / one:>7.1f}")


def big(folder: Path) -> None:
    """A log of 2 GiB: a server's start, then requests whose digits and words differ."""
    path = folder / "big.log"
    start = (
        "INFO Initializing a V1 LLM engine (v0.11.2) with config: model='gpt2'\nINFO GPU KV cache size: 1,000 tokens\n"
    )
    with path.open("w") as file:
        file.write(start)
        for number in range(2 << 10):
            piece = "".join(
                f'INFO 10.0.{number % 256}.{n % 256}:{n} - "POST /v1/{n * number:x} HTTP/1.1" 200 OK\n'
                for n in range(64)
            )
            file.write(line_of(piece, MIB - 1) + "\n")
    before = time.process_time()
    found = engines_of(Log().read(Source(str(path)).lines()))
    took = time.process_time() - before
    print(f"{path.stat().st_size / (1 << 30):.2f} GiB in {took:.1f} s of CPU, {len(found)} server found")


def main() -> int:
    """Print the table and the largest memory of this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--big", action="store_true", help="read a log of 2 GiB as well")
    asked = parser.parse_args()
    print(f"{'CPU seconds':<48}{'n':>9}{'2n':>9}{'4n':>9}{'2n/n':>7}{'4n/n':>7}")
    with tempfile.TemporaryDirectory() as folder:
        lines()
        logs(Path(folder))
        ordinary(Path(folder))
        if asked.big:
            big(Path(folder))
    print(f"largest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10:,} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
