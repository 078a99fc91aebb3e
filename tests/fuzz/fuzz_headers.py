"""Coverage-guided fuzzing of the header parsers; not part of the test suite.

    pip install atheris
    python tests/fuzz/fuzz_headers.py safetensors -max_total_time=300
    python tests/fuzz/fuzz_headers.py gguf -max_total_time=300
    python tests/fuzz/fuzz_headers.py index -max_total_time=60

What comes after the target goes to libFuzzer. A target may answer or refuse with a KvplanError; anything else,
a piece read of over 32 MiB, or 512 MiB in use is a finding. Seeds are small true files, written to a folder of their own.

Last run: atheris 3.0.0, Python 3.11, four minutes each (index one): safetensors 10,291,059 inputs, GGUF 495,690, index
1,681,968. One finding, mended and kept as a test: a GGUF list that claimed 60 million empty texts took 12 seconds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MAX_PIECE = 32 << 20


class Memory:
    """The input as a file; with `hole`, as the beginning of one of 50 GB."""

    name = "input"

    def __init__(self, data: bytes, hole: bool) -> None:
        self.data, self.size = data, 50 * 10**9 if hole else len(data)

    def read(self, offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= self.size and length <= MAX_PIECE, (offset, length)
        piece = self.data[offset : offset + length]
        return piece + bytes(length - len(piece))


def fuzz_safetensors(data: bytes) -> None:
    from planner.errors import KvplanError
    from planner.readers.safetensors import parse_header, read_header, unpacked

    with suppress(KvplanError):
        tensors = parse_header(data[2:], int.from_bytes(data[:2], "little"), "input")
        unpacked(tensors, {"bits": 4})
    with suppress(KvplanError):
        read_header(Memory(data, hole=False))


def fuzz_gguf(data: bytes) -> None:
    """First byte: a hole behind the header or not. The table of tensors, then the model."""
    from planner.errors import KvplanError
    from planner.memory.estimate import estimate
    from planner.memory.request import Request
    from planner.readers.gguf import read_gguf_file
    from planner.readers.gguf_models import spec_of

    with suppress(KvplanError):
        spec = spec_of(
            read_gguf_file(Memory(data[1:], hole=bool(data[:1] and data[0] & 1))), name="input", shown="input"
        )
        answer = estimate(spec, Request(64))
        assert answer.kv_bytes >= 0 and answer.weight_bytes >= 0


def fuzz_index(data: bytes) -> None:
    from planner.errors import KvplanError
    from planner.readers.safetensors import read_index

    def opened(name: str) -> Memory:
        assert "/" not in name and "\\" not in name and name.endswith(".safetensors"), name
        return Memory(b"\x02\0\0\0\0\0\0\0{}", hole=False)

    with suppress(KvplanError):
        read_index(data, "input", opened)


TARGETS: dict[str, Callable[[bytes], None]] = {"safetensors": fuzz_safetensors, "gguf": fuzz_gguf, "index": fuzz_index}


def seeds(target: str) -> list[bytes]:
    """Small true files."""
    from tests.planner.readers.headers import gguf_header, llama_tensors, safetensors_header
    from tests.planner.readers.test_gguf import CASES

    if target == "index":
        return [b'{"metadata": {"total_size": 0}, "weight_map": {"a.weight": "model-00001-of-00001.safetensors"}}']
    if target == "gguf":
        found = []
        for case in CASES.values():
            pairs = {key: value for key, value in case.pairs.items() if not key.startswith("tokenizer.")}
            found.append(b"\1" + gguf_header(pairs | {"tokenizer.ggml.tokens": ["a", "b"]}, case.tensors)[0])
        return found
    small = {"a.qweight": ("I32", [4, 2]), "a.scales": ("F16", [1, 2]), "b": ("F32", [])}
    found = []
    for tensors in (small, llama_tensors(layers=1)):
        head, data = safetensors_header(tensors)  # type: ignore[arg-type]
        found += [(data & 0xFFFF).to_bytes(2, "little") + head[8:], head + bytes(data)]
    return found


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(TARGETS)} [libFuzzer options]")
    sys.path.insert(0, str(ROOT))
    import atheris

    target = sys.argv[1]
    with atheris.instrument_imports(include=["planner"]):
        import planner.memory.estimate
        import planner.readers.gguf
        import planner.readers.gguf_models
        import planner.readers.safetensors
    planner.readers.gguf.MAX_TEXTS = 10_000  # stepping over millions takes a second, and finds nothing
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-"))
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = ["-rss_limit_mb=512", "-max_len=16384", "-timeout=10", *sys.argv[2:]]
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
