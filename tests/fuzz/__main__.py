"""Fuzzes the readers of what comes from outside: `python -m tests.fuzz --n 10000` prints a row a reader.

A reader may answer or refuse with a KvplanError in one line. Anything else is a traceback, more than `HANG_SECONDS`
of one input a hang. The inputs are true files with pieces changed, drawn from a seed, so that a finding can be repeated.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from planner.errors import KvplanError
from tests.fuzz.fuzz_headers import Memory
from tests.fuzz.fuzz_headers import seeds as header_seeds

ROOT = Path(__file__).resolve().parents[2]
HANG_SECONDS = 10.0
HOSTILE: tuple[bytes, ...] = (
    b"null", b"-1", b"0", b"1e308", b"1e999", b"NaN", b"[]", b"{}", b'""', b'"\\ud800"', b"9" * 5000, b"true", b",",
    b"\x00", b"\xff", b"\x1b[31m", b"!!float ''", b"!!int '-'", b"!!timestamp 'x'", b"&a", b"*a", b"[" * 200, b"{" * 200,
    b" " * 3000, b"\n", b"=", b"--", b"'", b'"', b"$(x)", b"1" * 300,
)  # fmt: skip


@dataclass
class Row:
    """What came of the inputs of one reader; `first` is the first finding."""

    inputs: int = 0
    answered: int = 0
    refused: int = 0
    tracebacks: int = 0
    hangs: int = 0
    first: str = ""


def mutated(seed: bytes, draw: random.Random) -> bytes:
    """Return `seed` with one to four pieces cut, doubled, replaced by a hostile word or by other bytes."""
    data = seed
    for _ in range(draw.randint(1, 4)):
        start = draw.randrange(len(data) + 1)
        end = min(len(data), start + draw.choice((0, 1, 4, 20, 200)))
        piece = draw.choice((b"", 2 * data[start:end], draw.choice(HOSTILE), draw.randbytes(draw.randint(1, 6))))
        if draw.random() < 0.5 and (colon := data.find(b":", start)) >= 0:  # a value in place of a value
            stop = min((at for at in (data.find(mark, colon) for mark in (b",", b"\n", b"}")) if at > 0), default=colon)
            data = data[: colon + 1] + draw.choice(HOSTILE) + data[stop:]
        else:
            data = data[:start] + piece + data[end:]
    return data


VALUES: tuple[object, ...] = (
    None, True, -1, 0, 0.5, -2.5, 1e30, 1e308, 10**25, 10**39, 2**63, "", "x", "\x1b[31m", "1", [], {}, [[]], {"a": 1}, [0] * 50
)  # fmt: skip


def other_value(seed: bytes, draw: random.Random) -> bytes:
    """Return the JSON `seed` with one value, anywhere in it, replaced by a hostile one or left out."""
    whole = json.loads(seed)
    places = [(node, key) for node in _nodes(whole) for key in (node if isinstance(node, dict) else range(len(node)))]
    node, key = draw.choice(places)
    if draw.random() < 0.1:
        del node[key]
    else:
        node[key] = draw.choice(VALUES)
    return json.dumps(whole).encode()


def _nodes(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _nodes(inner)


def read_run(data: bytes) -> None:
    from profiler.results import Measurement

    Measurement.from_json(data.decode("utf-8", "replace"), "input")


def read_calibration(data: bytes) -> None:
    from planner.machine.calibration import calibration_from_json

    calibration_from_json(data.decode("utf-8", "replace"), "input")


def read_own(data: bytes) -> None:
    """A stored speed, and a question that uses it."""
    from planner.catalogue.entries import find_device
    from planner.catalogue.own_speeds import own_from_json, with_own
    from planner.speed.constants import constants_for

    own = own_from_json(data.decode("utf-8", "replace"), "input")
    constants_for(None, with_own(own, find_device("l4"), "input")).of_model("12x768 fp16", experts=False)


def read_server(data: bytes) -> None:
    """What a server says of itself, as each engine would be understood."""
    from planner.files.read import parse_json
    from planner.measured.server_config import PATHS, server_config

    raw = parse_json(data.decode("utf-8", "replace"), "input", error=KvplanError)
    for engine in PATHS:
        json.dumps(vars(server_config(engine, raw)), allow_nan=False)


def read_yaml(data: bytes) -> None:
    from planner.catalogue.yaml_files import parse_entries

    parse_entries(data.decode("utf-8", "replace"), "input")


def read_log(data: bytes) -> None:
    from planner.reconcile.facts import Log, engines_of
    from planner.reconcile.ledger import Given
    from planner.reconcile.reader import clean
    from planner.reconcile.runs import ledger_of

    found = Log().read(clean(line) for line in data.decode("utf-8", "replace").split("\n"))
    for run in engines_of(found):
        ledger_of(run, Given())


def read_hub(data: bytes) -> None:
    from planner.readers.hub import _sizes
    from planner.readers.huggingface import parse_json

    siblings = parse_json(data, "input").get("siblings")
    if isinstance(siblings, list) and all(isinstance(item, dict) for item in siblings):
        _sizes("o/n", siblings)


def read_config(data: bytes) -> None:
    from planner.readers.huggingface import parse_json
    from planner.readers.huggingface import read_config as read

    read(parse_json(data, "input"))


def read_plan(data: bytes) -> None:
    from planner.files.read import parse_json
    from reports.plans import _check

    _check(parse_json(data.decode("utf-8", "replace"), "input"), "input")


def read_command(data: bytes) -> None:
    """A start command, a compose file or a manifest, and what it comes to on two cards."""
    from kvplan.pasted import check_command

    check_command(data.decode("utf-8", "replace"), {"gpu": "2xl4"}).to_dict()


def read_gguf(data: bytes) -> None:
    """First byte: with the weights behind the header as a hole, or without."""
    from planner.readers.gguf import read_gguf_file
    from planner.readers.gguf_models import spec_of

    spec_of(read_gguf_file(Memory(data[1:], hole=bool(data[:1] and data[0] & 1))), name="input", shown="input")


def read_safetensors(data: bytes) -> None:
    from planner.readers.safetensors import read_header

    read_header(Memory(data, hole=False))


def read_benchmark(data: bytes) -> None:
    """A file that a benchmark wrote, of any of the formats that are known by content."""
    from planner.measured.reader import measured_text

    measured_text(data.decode("utf-8", "replace"), "input")


def read_metrics(data: bytes) -> None:
    """What a server's /metrics said, read twice: its figures now, and between two readings."""
    pytest.importorskip("prometheus_client", reason="the extra `watch` is not installed")
    from planner.measured.metrics import reading, served, to_dict
    from planner.measured.metrics_text import samples

    found = reading(samples(data.decode("utf-8", "replace"), "input"))
    if found is not None:
        to_dict(served(found, found, 10.0))


LISTING = json.dumps({"sha": "a" * 40, "siblings": [{"rfilename": f"m-{n}.gguf", "size": n} for n in range(5)]})
CONFIG = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99,
          "intermediate_size": 128, "num_key_value_heads": 2}  # fmt: skip
COMMANDS = (
    "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 8192 --tensor-parallel-size 2 --gpu-memory-utilization 0.9",
    "llama-server -hf Qwen/Qwen3-8B-GGUF:Q4_K_M -c 16384 -np 4 -ngl 99 --cache-type-k q8_0 -fa on",
    "docker run --gpus all -e HF_TOKEN=hf_abc vllm/vllm-openai:v0.11.2 --model Qwen/Qwen3-8B --max-num-seqs 64",
    "services:\n  llm:\n    image: lmsysorg/sglang\n    command: python -m sglang.launch_server --model-path Qwen/Qwen3-8B --tp 2\n",
)
SERVERS = (
    '{"data": [{"id": "chat", "root": "Qwen/Qwen3-8B", "max_model_len": 8192}]}',
    '{"model_path": "Qwen/Qwen3-8B", "context_length": 8192, "tp_size": 2, "mem_fraction_static": 0.85, "version": "0.5.3"}',
    '{"model_id": "Qwen/Qwen3-8B", "max_total_tokens": 4096, "max_concurrent_requests": 128, "version": "3.3.6"}',
)
JSON = ("run", "calibration", "hub", "config", "plan", "own", "server")
ENTRY = b"- name: mine\n  model_type: gpt2\n  parameters: 1000\n  n_layer: 2\n  n_head: 2\n  n_embd: 8\n"
READERS: dict[str, Callable[[bytes], None]] = {
    "run": read_run, "calibration": read_calibration, "yaml": read_yaml, "log": read_log, "hub": read_hub,
    "config": read_config, "plan": read_plan, "command": read_command, "gguf": read_gguf, "safetensors": read_safetensors,
    "benchmark": read_benchmark, "metrics": read_metrics, "own": read_own, "server": read_server,
}  # fmt: skip


def seeds(reader: str) -> list[bytes]:
    """True inputs of a reader."""
    cases = ROOT / "tests" / "cases"
    if reader == "run":
        return [(ROOT / "docs" / "example-runs" / "gpt2.json").read_bytes()]
    if reader == "calibration":
        return [(cases / "robustness" / "calibration.json").read_bytes()]
    if reader == "own":
        return [(cases / "robustness" / "own-speed.json").read_bytes()]
    if reader == "server":
        return [(cases / "llama-server" / "props.json").read_bytes(), *map(str.encode, SERVERS)]
    if reader == "plan":
        whole = json.loads((cases / "robustness" / "plan-front.json").read_bytes())
        whole["points"][0]["front"] = True
        return [json.dumps(whole).encode()]
    if reader == "gguf":
        return header_seeds("gguf")
    if reader == "safetensors":
        return header_seeds("safetensors")[1::2]
    if reader == "command":
        return [text.encode() for text in COMMANDS]
    if reader == "benchmark":
        return [
            path.read_bytes()[:20_000] for path in sorted((cases / "benchmarks").glob("*.*")) if path.suffix != ".md"
        ]
    if reader == "metrics":
        return [path.read_bytes() for path in sorted((cases / "metrics").glob("*.txt"))]
    if reader == "log":
        return [path.read_bytes()[:6000] for path in sorted((cases / "logs").glob("*.log"))]
    return {"yaml": [ENTRY], "hub": [LISTING.encode()], "config": [json.dumps(CONFIG).encode()]}[reader]


def fuzz(reader: str, count: int, seed: int = 0) -> Row:
    """Read `count` changed inputs and count what came of them."""
    row, draw, true = Row(), random.Random(f"{reader}{seed}"), seeds(reader)
    for _ in range(count):
        change = other_value if reader in JSON and draw.random() < 0.6 else mutated
        data, start = change(draw.choice(true), draw), time.process_time()
        row.inputs += 1
        try:
            READERS[reader](data)
            row.answered += 1
        except KvplanError as refused:
            row.refused += 1
            if "\n" in str(refused):
                row.first = row.first or f"more than one line: {refused!s:.200}"
                row.tracebacks += 1
        except Exception as error:  # the finding that is looked for
            row.tracebacks += 1
            row.first = row.first or f"{type(error).__name__}: {error!s:.200} for ...{data[:300]!r}"
        if time.process_time() - start > HANG_SECONDS:
            row.hangs += 1
    return row


def main() -> int:
    """Print a row a reader; the exit code is 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--n", type=int, default=1000, help="inputs of each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader", choices=sorted(READERS), action="append")
    asked = parser.parse_args()
    found = 0
    print(f"{'reader':<12}{'inputs':>10}{'answered':>10}{'refused':>10}{'tracebacks':>12}{'hangs':>7}")
    for reader in asked.reader or READERS:
        row = fuzz(reader, asked.n, asked.seed)
        print(
            f"{reader:<12}{row.inputs:>10,}{row.answered:>10,}{row.refused:>10,}{row.tracebacks:>12,}{row.hangs:>7,}",
            flush=True,
        )
        if row.first:
            print(f"  first: {row.first}")
        found += row.tracebacks + row.hangs
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"largest memory of the process: {peak:,} MiB")
    return 1 if found or peak > 1024 else 0


if __name__ == "__main__":
    sys.exit(main())
