"""The log reader: whole logs of every engine, and the same logs mangled in every way that real ones are."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from kvplan.cli import main
from planner.errors import KvplanError
from planner.memory.request import Capacity
from planner.reconcile.facts import Log, engines_of
from planner.reconcile.ledger import Given, Ledger
from planner.reconcile.patterns import rank_of
from planner.reconcile.reader import Source
from planner.reconcile.runs import ledger_of
from planner.units import GIB

LOGS = Path(__file__).parents[2] / "cases" / "logs"
NAMES = sorted(path.name for path in LOGS.glob("*.log"))


def ledgers(path: Path, **given: Any) -> list[Ledger]:
    return [ledger_of(run, Given(**given)) for run in engines_of(Log().read(Source(str(path)).lines()))]


def one(name: str, **given: Any) -> Ledger:
    (found,) = ledgers(LOGS / name, **given)
    return found


@pytest.mark.parametrize(
    ("name", "engine", "version", "taken_as"),
    [
        ("vllm-v0.log", "vllm", "0.8.1", "qwen2.5-7b"),
        ("vllm-v1-tp2.log", "vllm", "0.11.2", "qwen2.5-14b"),
        ("vllm-hybrid.log", "vllm", "0.19.1", "qwen3.6-35b-a3b"),
        ("sglang-tp4.log", "sglang", None, "qwq-32b"),
        ("llama-cpp.log", "llamacpp", "6900", "gpt-oss-20b"),
        ("ik-llama-cpp.log", "ik_llamacpp", "3762", "deepseek-v3"),
        ("ollama.log", "ollama", "0.12.3", "llama-3.1-8b"),
        ("tensorrt-llm.log", "tensorrt-llm", "0.20.0", None),
        ("lmdeploy.log", "lmdeploy", None, "qwen3-8b"),
    ],
)
def test_engine_version_and_model_are_found(name: str, engine: str, version: str | None, taken_as: str | None) -> None:
    found = one(name)
    assert (found.engine, found.version, found.taken_as) == (engine, version, taken_as)


@pytest.mark.parametrize("name", NAMES)
def test_every_count_agrees_and_every_ledger_that_can_be_closed_closes(name: str) -> None:
    found = one(name)
    assert [figure for figure in found.figures if not figure.agrees] == []
    assert found.closes is not False
    if not name.startswith("vllm-") or name == "vllm-v0.log":
        assert found.closes is True


def test_the_poorest_worker_decides() -> None:
    """4.21 and 4.09 GiB on two ranks: the tokens are those of 4.09."""
    found = one("vllm-v1-tp2.log", capacity=Capacity("L4", int(22.16 * GIB)))
    pool = next(entry for entry in found.entries if entry.name == "KV cache pool")
    assert pool.logged == int(409 * GIB / 100)
    assert "poorest of 2" in pool.reason
    assert found.closes is True


def test_both_caches_of_llama_cpp_are_added() -> None:
    """3072 MiB of full layers and 18 MiB of windows (gpt-oss-20b)."""
    found = one("llama-cpp.log")
    cache = next(entry for entry in found.entries if entry.name == "KV cache")
    assert cache.logged == 3090 << 20
    assert found.unexplained == 0


def test_what_is_not_in_the_log_is_named_with_its_option() -> None:
    words = " ".join(one("vllm-v1-tp2.log").missing)
    assert "--gpu" in words
    assert "--model" in " ".join(one("tensorrt-llm.log").missing)


def test_more_room_names_flags_and_gains() -> None:
    found = one("vllm-v0.log")
    gains = {room.flags: room.gain_tokens for room in found.more_room}
    assert gains["--kv-cache-dtype fp8"] == 75856
    assert gains["--gpu-memory-utilization 0.95"] == pytest.approx(0.05 * 21.99 / 4.05 * 75856, rel=0.01)


def test_several_servers_in_one_file_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "all.log"
    path.write_text("".join((LOGS / name).read_text() for name in NAMES))
    found = ledgers(path)
    assert len(found) == len(NAMES)
    assert all(figure.agrees for made in found for figure in made.figures)


def test_a_restart_shows_the_last_start(tmp_path: Path) -> None:
    path = tmp_path / "twice.log"
    text = (LOGS / "vllm-v0.log").read_text()
    path.write_text(text.replace("4741", "9999") + text)
    (found,) = ledgers(path)
    assert next(figure for figure in found.figures if figure.name == "blocks").logged == 4741


def test_interleaved_servers_are_not_added_up(tmp_path: Path) -> None:
    """Lines of two servers between one another: said so, and no count is held against either."""
    first = (LOGS / "vllm-v0.log").read_text().splitlines()
    second = [line.replace("Qwen2.5-7B", "Qwen2.5-3B").replace("4741", "9000") for line in first]
    path = tmp_path / "mixed.log"
    path.write_text("\n".join(line for pair in zip(first, second, strict=True) for line in pair))
    for made in ledgers(path):
        assert made.closes is None
        assert made.figures == ()
        assert "several" in made.missing[0]


def test_wrappers_do_not_matter(tmp_path: Path) -> None:
    """docker's JSON, journald's prefix, colours, carriage returns, gzip, UTF-16."""
    text = (LOGS / "vllm-v0.log").read_text()
    lines = text.splitlines()
    docker = "\n".join(json.dumps({"log": line + "\n", "stream": "stderr", "time": "2025"}) for line in lines)
    journal = "\n".join(f"Mar 20 10:12:01 host vllm[123]: {line}" for line in lines)
    colours = "\n".join(f"\x1b[1;36m(pid=1)\x1b[0;0m \x1b[32mINFO\x1b[0m {line}\x1b[K" for line in lines)
    files = {
        "docker": docker.encode(),
        "journal": journal.encode(),
        "colours": colours.encode(),
        "returns": ("Loading: 10%\rLoading: 90%\r" + text.replace("\n", "\r\n")).encode(),
        "gzip": gzip.compress(text.encode()),
        "utf16": text.encode("utf-16"),
        "bom": text.encode("utf-8-sig"),
    }
    wanted = [figure.logged for figure in one("vllm-v0.log").figures]
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        (found,) = ledgers(path)
        assert [figure.logged for figure in found.figures] == wanted, name


@pytest.mark.parametrize("seed", range(40))
def test_mangled_logs_give_an_answer_or_one_line(seed: int, tmp_path: Path) -> None:
    """Lines dropped, repeated, swapped, cut and torn: no traceback, and a repeated line is never counted twice."""
    chance = random.Random(seed)
    lines = [line for name in chance.sample(NAMES, 1 + seed % 3) for line in (LOGS / name).read_text().splitlines()]
    mangled: list[str] = []
    for line in lines:
        roll = chance.random()
        if roll < 0.1:
            continue
        mangled.append(line[: chance.randrange(len(line) + 1)] if roll < 0.2 else line)
        if roll > 0.85:
            mangled.append(line)
    if seed % 2:
        chance.shuffle(mangled)
    data = "\n".join(mangled).encode()
    if seed % 5 == 0:
        data = b"".join(bytes([byte]) if chance.random() > 0.01 else b"\xff\x00" for byte in data)
    path = tmp_path / "mangled.log"
    path.write_bytes(data)
    for made in ledgers(path):
        json.dumps(made.to_dict(), allow_nan=False)
        for entry in made.entries:
            assert entry.logged is None or abs(entry.logged) < 1 << 50


HOSTILE = [
    "# GPU blocks: 99999999999999999999999999, # CPU blocks: -1",
    "Available KV cache memory: -3.20 GiB",
    "Available KV cache memory: 1,2,3.4.5 GiB",
    "GPU KV cache size: 0 tokens",
    "Maximum concurrency for 0 tokens per request: 0.00x\nAvailable KV cache memory: 0.00 GiB",
    "Initializing a V1 LLM engine (v9.9.9.9.9) with config: model='../../../etc/passwd', max_seq_len=99999999999, tensor_parallel_size=0",
    "INFO Initializing an LLM engine (v0.6.6) with config: model='gpt2', max_seq_len=1024, tensor_parallel_size=7\n# GPU blocks: 5, # CPU blocks: 5",
    "build: 99999999999 (abc)\nllama_context: n_ctx = 0\nllama_kv_cache: size = 1.00 MiB ( 0 cells, 0 layers, 0 seqs), K (zzz): 1.0 MiB, V (f16): 1.0 MiB",
    "print_info: arch = llama\nprint_info: n_layer = 999999999\nprint_info: n_head = 0\nprint_info: n_head_kv = 7\nKV self size = 1.00 MiB, K (f16): 0.5 MiB, V (f16): 0.5 MiB",
    "server_args=ServerArgs(model_path='gpt2', mem_fraction_static=7.5, tp_size=-4)\nKV Cache is allocated. #tokens: 0, K size: 0.00 GB, V size: 0.00 GB",
    "server_args=ServerArgs(model_path='gpt2', swa_full_tokens_ratio=0)\nmax_total_num_tokens=1\nfull_layer_tokens=0, swa_layer_tokens=0",
    "[TM][INFO] [BlockManager] block_size = 0.000 MB\n[TM][INFO] [BlockManager] max_block_count = 0",
    "[TensorRT-LLM][INFO] [MemUsageChange] Allocated 0.00 GiB for max tokens in paged KV cache (0).\npaged kv cache: total: 0 GiB, available: 0 GiB",
    '{"log": 5}\n{"log": "GPU KV cache size: 5 tokens"',
    '{"log":' + "[" * 5000 + "\nGPU KV cache size: 5 tokens",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_impossible_figures_are_survived(text: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.log"
    path.write_text(text)
    for given in ({}, {"capacity": Capacity("card", 24 * GIB)}, {"max_model_len": 4096}):
        for made in ledgers(path, **given):
            json.dumps(made.to_dict(), allow_nan=False)


def test_a_long_log_is_read_in_bounded_memory(tmp_path: Path) -> None:
    """Twenty megabytes of request lines and one line of five: the start is found, nothing large is kept."""
    import tracemalloc

    path = tmp_path / "long.log"
    request = "INFO 03-20 10:20:00 [metrics.py:481] Avg prompt throughput: 120.1 tokens/s, GPU KV cache usage: 3.1%, CPU: 0.0%.\n"
    with open(path, "w") as file:
        file.write("x" * (5 << 20) + "\n")
        file.write((LOGS / "vllm-v0.log").read_text())
        for _ in range(16):
            file.write(request * 10_000)
    tracemalloc.start()
    (found,) = ledgers(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.closes
    assert peak < 32 << 20


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


def test_lines_that_differ_in_digits_alone_are_searched_once_and_none_with_a_phrase_is_dropped(tmp_path: Path) -> None:
    """Two starts among a hundred thousand request lines: both are read, in order, whatever lies between."""
    request = '"POST /v1/completions" from 10.0.{0}.{1}:{2} took {3} ms\n'
    noise = "".join(request.format(n % 255, n % 7, n * 31 % 65536, n) for n in range(50_000))
    path = tmp_path / "long.log"
    blocks = "INFO # GPU blocks: {0}, # CPU blocks: 512\n"
    path.write_text(blocks.format(100) + noise + blocks.format(200) + noise + blocks.format(200))
    seen: list[int] = []
    source = Source(str(path), seen.append)
    assert [line.split()[4] for line in source.lines()] == ["100,", "200,", "200,"]
    assert sum(seen) == source.read_bytes == path.stat().st_size


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "is empty"), (bytes(range(256)) * 40, "not a text log"), (b"hello\nworld\n", "no start-up line"),
     (b"INFO vLLM API server version 0.8.1\n", "none that says how much cache")],
)  # fmt: skip
def test_a_file_without_a_cache_is_one_line(
    data: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(data)
    code, out, err = run(["reconcile", str(path)], capsys)
    assert (code, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1


def test_missing_files_and_folders_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "none.log"):
        code, _, err = run(["reconcile", str(path)], capsys)
        assert code == 1
        assert err.startswith("kvplan: ") and err.count("\n") == 1


def test_json_has_the_ledger_in_base_units(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["reconcile", str(LOGS / "vllm-v0.log"), "--json"], capsys)
    (found,) = json.loads(out)["ledgers"]
    assert code == 0
    assert found["closes"] is True
    assert {entry["name"]: entry["logged_bytes"] for entry in found["entries"]}["KV cache pool"] == int(4.05 * GIB)


def test_the_page_shows_logged_predicted_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(["reconcile", str(LOGS / "vllm-v0.log")], capsys)
    assert "blocks: logged 4,741, predicted 4,733 to 4,745: agrees" in out
    assert out.splitlines()[1].startswith("CLOSES: 0.00 GiB left over; ")


def test_ranks_by_prefix() -> None:
    assert rank_of("(VllmWorkerProcess pid=123) INFO") == "123"
    assert rank_of("(Worker_TP1 pid=102) INFO") == "TP1"
    assert rank_of("[2025-11-04 05:27:13 DP0 TP0 EP0] KV Cache") == "DP0 TP0 EP0"


def test_a_model_by_hand_closes_a_log_without_a_name() -> None:
    from planner.lookup import model_spec

    found = one("tensorrt-llm.log", spec=model_spec("llama-3.3-nemotron-super-49b"))
    assert [figure.agrees for figure in found.figures] == [True, True]


def test_a_wrong_model_is_seen_by_its_counts() -> None:
    from planner.lookup import model_spec

    found = one("vllm-v0.log", spec=model_spec("llama-3.1-8b"))
    assert not any(figure.agrees for figure in found.figures if figure.name == "blocks")
    with pytest.raises(KvplanError):
        model_spec("no-such-model-at-all")


def test_an_endless_device_ends_with_one_line() -> None:
    with pytest.raises(KvplanError, match="/dev/zero is not a text log"):
        list(Source("/dev/zero").lines())


def test_an_endless_stream_without_a_servers_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.reconcile.reader.MOST_SILENT_BYTES", 1 << 20)
    (tmp_path / "a.log").write_bytes(b"a line that says nothing\n" * 200_000)
    with pytest.raises(KvplanError, match="without one start-up line"):
        list(Source(str(tmp_path / "a.log")).lines())


def test_closed_standard_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(KvplanError, match="standard input is closed"):
        list(Source("-").lines())
