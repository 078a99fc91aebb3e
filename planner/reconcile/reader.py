"""The lines of a log that may matter, out of a file of any size, in bounded memory.

A file is read a megabyte at a time and only lines that hold one of a few phrases are looked at. Gigabytes of
request lines differ in their digits alone: a line whose like was searched is not searched again. Lines
longer than a megabyte are cut. gzip and UTF-16 are read as they are.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from planner.errors import KvplanError, one_line
from planner.reconcile.known import PHRASES as KNOWN

CHUNK_BYTES = 1 << 20
LONGEST_LINE = 1 << 16
SHAPES = 1 << 15
LONGEST_SHAPE = 512
MOST_ZERO_BYTES = 16 << 20
MOST_SILENT_BYTES = 8 << 30  # a server that runs for months writes less between two starts
# The words of lines that may matter. None has a digit: lines that differ in digits alone are taken for alike.
_OWN: tuple[bytes, ...] = (
    b"for model weights", b"prefetching", b"vLLM API server version", b"LLM engine", b"LLMEngine", b"eights took", b"odel loading took", b"total_gpu_memory",
    b"eights take", b"blocks:", b"KV cache size", b"KV cache memory", b"KV cache is needed", b"KV cache (", b"Maximum concurrency",
    b"Graph capturing", b"attention block size", b"max_num_batched_tokens", b"non-default args", b"args: Namespace", b"Free memory on device", b"CUDA graph memory: ", b"Num Sequences = ",
    b"torch peak memory", b"server_args", b"Load weight", b"Memory pool end", b"KV Cache is allocated",
    b"max_total_num_tokens", b"sliding window memory", b"cuda graph end", b"Mamba Cache is",
    b"build: ", b"build = ", b"print_info", b"print_meta", b"llama_", b"buffer size", b"self size", b"ollama", b"OLLAMA_",
    b"msg=", b"\xe2\x96\x88", b"memory for KV Cache", b"for KV cache", b"gpu-memory-utilization=", b"Mamba cache blocks", b"hbm=[", b"Loaded weights leave",
    b"memory_breakdown", b"Loaded engine size", b"execution context memory", b"runtime buffers", b"memory for decoder", b"loaded meta data",
    b"TensorRT-LLM", b"paged KV cache", b"paged kv cache", b"MemUsageChange", b"BlockManager", b"max cached tokens", b"TurbomindEngineConfig", b"lmdeploy",
    b"No available memory", b"auto-fit max_model_len", b"Auto-fit max_model_len", b"Overriding num_gpu_blocks", b"CUDA graph pool memory",
    b"CPU blocks (", b"max seq len (", b"estimated maximum model length", b"KV Cache VA", b"Using KV cache dtype", b"Not enough memory",
    b"Current value: ", b"Not enough GPU memory for hybrid", b"state cache is too small", b"max_running_requests ", b"CUDA graph end", b"draft extend end",
    b"Welcome to KoboldCpp", b"useswa=", b"using device ", b"file size ", b"n_parallel is set", b"projected to use",
    b"context size reduced", b"failed to fit params", b"out of memory", b"buffer of size", b"ailed to allocate", b"ailed to create context",
    b"ailed to load model", b"requires more system memory", b"blocks per sequence", b"pages per sequence", b"for k/v cache",
    b"memory usage profiling", b"max memory in KV cache", b"max tokens in KV cache", b"total capacity", b"memory in use",
    b"allocated by PyTorch", b"close to the maximum recommended", b"Peak memory: ", b"desired GPU memory",
    b"kv cache memory in use", b"the profiled value", b"Model load size estimate", b"  Model: ", b"  Context: ", b"  Total: ", b"context auto-fit", b"working_set=", b"full_kv=",
    b"estimated_peak=",
    b"cache_size", b"max_seq_len", b"chunk_size with", b"Using draft model", b"MTP component", b"Insufficient ", b"max_num_tokens must",
    b"Post-capture KV", b"Sleep mode freed", b"frontend multimodal", b"persisted startup plan", b"utilization budget", b"raph capturing finished",
    b"Encoder cache will", b"Created mmap file", b"SimpleCPUOffload", b"primary tier (", b"offloaded parameters", b"HiSparse steady",
    b"decode workspace", b"RecoverSSM", b"Resized workspace", b"padding layers", b"Capping cudagraph", b"Free memory grew",
    b"Overriding draft model", b"kv cache block size", b"data type to store kv cache", b"KV cache size by the", b"VLLM_CPU_KVCACHE_SPACE",
    b"ybrid kv cache manager", b"ybrid KV cache manager", b"Enforce eager", b"torch distributed ends", b"host memory", b"HiCache", b"SWAKVPool",
    b"multimodal", b"DeepGEMM masked", b"checkpoint pool", b"LoRA ", b"DSV", b"Graph pool", b"unified-memory-pool", b"adaptive runtime",
    b"after target backend", b"per-forward workspace", b"mlx_limit=", b"KV cache dtype", b"swa_full_tokens", b"swa-full-tokens",
    b"hybrid SWA memory", b"worst-case memory", b"prompt cache is", b"cache state: ", b"context checkpoint", b"n_slots = ", b"free device memory",
    b"free memory target", b"fulfill margin", b"total surplus", b"total deficit", b", target=", b"clip_model", b"flash_attn since", b"capping per-slot",
    b"sizing KV pool", b"found in GPU", b"ggml_cuda_init", b"Auto Recommended", b"of GPU VRAM", b"Wired memory limit", b"max_prefill_token_num",
    b"CacheConfig(", b"kvCache", b"TRTGptModel", b"derived ", b"utilization must be less than", b"warming up", b"Available memory on node", b"worker already uses",
    b"max_lora_rank", b"LoRAs", b"max_cpu_loras", b"attention heads (", b"mm_item", b"max_model_len=", b"MLA page", b"alloc_req_slots",
    b"buffer slots", b"quantized V cache", b"cache types", b"cache type ", b"bigger --parallel", b"unable to allocate", b"No enough", b"kv_size = ",
)  # fmt: skip
PHRASES = tuple(
    phrase
    for number, phrase in enumerate(_OWN + KNOWN)
    if not any(
        other in phrase and (other != phrase or place < number) for place, other in enumerate(_OWN + KNOWN)
    )  # a phrase within another finds its lines as well
)
WRAPPERS = (
    "log",
    "message",
    "MESSAGE",
    "textPayload",
    "line",
)  # docker, log shippers, journalctl -o json, Google Cloud, Loki
_QUOTED = tuple(f'"{key}"' for key in WRAPPERS)
NARROWEST, LONGEST_WRAP = 60, 400
WIDTHS = (72, 78, 79, 80, 100, 120, 132, 160, 200)  # of terminals: a word is broken there
_BEGINS = re.compile(
    r"\s{0,40}(?:[\[{<|#*=>~/\\\x1b\u2588]|\([\w ]{1,60}(?:pid|rank)=|-(?!\d)|\d{2,4}[-:/.]\d\d[-:/.]|[A-Z][a-z]{2} {1,2}\d|(?:time|level|msg)=|[\w.]{1,60}: |\w{1,20}Error|INFO|WARN|ERROR|DEBUG|Traceback|File )"
)
_DIGITS = bytes.maketrans(b"0123456789", b"0000000000")
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


class Source:
    """A log being read: `text_bytes` and `zero_bytes` tell afterwards whether it was text at all."""

    def __init__(self, path: str, progress: Callable[[int], None] = lambda _: None) -> None:
        self.path = path
        self.progress = progress
        self.read_bytes = 0
        self.zero_bytes = 0
        self._told_at = 0
        self._seen: dict[bytes, bool] = {}

    def lines(self) -> Iterator[str]:
        """Lines with one of the phrases, without colours and wrappers, in order."""
        try:
            with self._open() as file:
                for chunk in self._chunks(file):
                    yield from self._marked(chunk)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return  # a cut archive: what came before the cut counts

    def _marked(self, chunk: bytes) -> Iterator[str]:
        """The lines of a chunk that hold a phrase; no phrase has a digit, so lines that differ in digits are alike."""
        lines, shapes = chunk.split(b"\n"), chunk.translate(_DIGITS).split(b"\n")
        fresh = {shape: number for number, shape in enumerate(shapes) if shape not in self._seen}
        marks = dict(zip(fresh, hold_a_phrase([lines[number] for number in fresh.values()]), strict=True))
        marked = [marks[shape] if shape in marks else self._seen[shape] for shape in shapes]
        for number, line in enumerate(lines):
            if marked[number]:
                self._told_at = self.read_bytes
                whole = line[:LONGEST_LINE].decode("utf-8", "replace")
                alone = number + 1 == len(lines) or marked[number + 1]
                after = "" if alone else lines[number + 1][:LONGEST_WRAP].decode("utf-8", "replace")
                for piece in clean(unwrapped(whole, after)).split("\r"):
                    if piece.strip():
                        yield piece
        if len(self._seen) > SHAPES:
            self._seen.clear()
        self._seen.update((shape, mark) for shape, mark in marks.items() if len(shape) <= LONGEST_SHAPE)

    def _open(self) -> BinaryIO:
        if self.path == "-":
            if sys.stdin is None:
                raise KvplanError("standard input is closed; name a log file")
            return sys.stdin.buffer
        try:
            file = open(self.path, "rb")  # noqa: SIM115
        except OSError as error:
            raise KvplanError(
                f"{one_line(self.path, 80)} cannot be read: {error.strerror}; name a log file, or - for standard input"
            ) from None
        except ValueError:
            raise KvplanError("the name of the log holds a zero byte; name a file") from None
        try:
            first = file.peek(2)[:2]
        except OSError as error:
            file.close()
            raise KvplanError(f"{one_line(self.path, 80)} cannot be read: {error.strerror}; name a log file") from None
        return io.BufferedReader(gzip.GzipFile(fileobj=file)) if first == b"\x1f\x8b" else file

    def _chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """Whole lines, about a megabyte at a time."""
        held, codec = b"", ""
        read = getattr(file, "read1", file.read)  # what is there: `read` waits for a whole megabyte, deaf to Ctrl-C
        while True:
            data = read(CHUNK_BYTES)
            if not data:
                break
            if not self.read_bytes and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                codec = "utf-16-le" if data[:2] == b"\xff\xfe" else "utf-16-be"
            self.read_bytes += len(data)
            self.progress(len(data))
            if codec and len(data) % 2:
                data += file.read(1)
            if codec:
                data = data[: len(data) // 2 * 2].decode(codec, "replace").encode("utf-8", "replace")
            self.zero_bytes += data.count(b"\0")
            self._check_log()
            data = held + data
            end = data.rfind(b"\n") + 1
            if not end and len(data) > CHUNK_BYTES:
                end = len(data)  # one endless line: cut it
            held = data[end:]
            yield data[:end]
        yield held

    def _check_log(self) -> None:
        """Refuse what never ends and is no log: a device of zeros, or a stream in which no line says anything."""
        shown = one_line(self.path, 80)
        if self.zero_bytes > MOST_ZERO_BYTES and 2 * self.zero_bytes > self.read_bytes:
            raise KvplanError(f"{shown} is not a text log; name a server's log")
        if self.read_bytes - self._told_at > MOST_SILENT_BYTES:
            raise KvplanError(
                f"{shown}: {MOST_SILENT_BYTES >> 30} GiB without one start-up line of a server; name a log from its start"
            )


def hold_a_phrase(lines: list[bytes]) -> list[bool]:
    """Says of each line whether it holds a phrase.

    >>> hold_a_phrase([b"hello", b"INFO GPU KV cache size: 5 tokens"])
    [False, True]
    """
    starts, at, found = _marked_starts(b"\n".join(lines)), 0, []
    for line in lines:
        found.append(at in starts)
        at += len(line) + 1
    return found


def _marked_starts(text: bytes) -> set[int]:
    """Where the lines begin that hold a phrase."""
    starts: set[int] = set()
    for phrase in PHRASES:
        at = text.find(phrase)
        while at >= 0:
            starts.add(text.rfind(b"\n", 0, at) + 1)
            at = text.find(phrase, _line_end(text, at))
    return starts


def unwrapped(line: str, after: str) -> str:
    """Returns a line with what was broken off it: a terminal breaks at its width, a page at a space.

    What begins as a line of its own does (time, level, function, JSON) is none. `after` is "" where the next line
    holds a phrase: that is a line by itself, too.

    >>> unwrapped("INFO the current vLLM instance can use total_gpu_memory (14.74GiB) x gpu_memory_utilization", "(0.69) = 10.22GiB")[-40:]
    'gpu_memory_utilization (0.69) = 10.22GiB'
    """
    length, rest = len(line.rstrip("\r")), after.rstrip("\r")
    if length < NARROWEST or not rest.strip() or _BEGINS.match(rest):
        return line
    return line.rstrip("\r") + ("" if length in WIDTHS or line.endswith(" ") else " ") + rest


def _line_end(chunk: bytes, at: int) -> int:
    end = chunk.find(b"\n", at)
    return len(chunk) if end < 0 else end


def clean(line: str) -> str:
    """Returns a line without colour codes, out of the JSON of docker, journald or a log shipper where it lies in that.

    >>> clean("\\x1b[32mINFO\\x1b[0m # GPU blocks: 5"), clean('{"log":"# GPU blocks: 5\\\\n","stream":"stderr"}')
    ('INFO # GPU blocks: 5', '# GPU blocks: 5')
    """
    if line.startswith('{"') and any(key in line for key in _QUOTED):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        texts = [record.get(key) for key in WRAPPERS] if isinstance(record, dict) else []
        line = next((text.rstrip("\n") for text in texts if isinstance(text, str)), line)
    return _ESCAPES.sub("", line) if "\x1b" in line else line
