"""`kvplan watch`: what a server says, beside what is expected; nothing sent elsewhere, nothing secret printed."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

pytest.importorskip("prometheus_client")

from kvplan.watch import metrics_url
from planner.errors import KvplanError
from planner.measured.metrics import Histogram, Reading, reading, served
from planner.measured.metrics_text import samples
from planner.measured.server_config import ServerConfig, server_config

Run = Callable[..., Any]
CASES = Path(__file__).parents[1] / "cases" / "metrics"
FILES = sorted(CASES.glob("*.txt"))
ONE, TWO = CASES / "vllm-1.txt", CASES / "vllm-2.txt"


def read(path: Path) -> Reading:
    found = reading(samples(path.read_text(), path.name))
    assert found is not None
    return found


# file -> engine, running, waiting, TTFT, TPOT: what the file says, by hand
SAID = {
    "vllm-1.txt": ("vllm", 12, 1, 0.12, 0.015),
    "sglang.txt": ("sglang", 7, 2, 0.2, 0.012),
    "llama-server.txt": ("llamacpp", 2, 1, None, 0.02),
    "tgi.txt": ("tgi", 5, 1, None, 0.025),
    "tensorrt-llm.txt": ("tensorrt-llm", None, 1, 0.2, 0.012),
    "dynamo.txt": ("dynamo", 9, 3, 0.3, 0.015),
}


@pytest.mark.parametrize("name", sorted(SAID))
def test_each_engine_is_read_by_its_own_names(name: str) -> None:
    found = served(read(CASES / name))
    said = (found.engine, found.running, found.waiting, found.ttft_seconds, found.tpot_seconds)
    assert said == tuple(
        value if value is None or isinstance(value, str) else pytest.approx(value) for value in SAID[name]
    )


def test_two_reads_say_what_came_between_them() -> None:
    found = served(read(TWO), read(ONE), 10.0)
    assert found.ttft_seconds == pytest.approx((27 - 12) / 100)
    assert found.requests_per_s == 10
    assert found.output_tokens_per_s == 2560
    assert found.preemptions == 3
    assert found.prefix_hit_share == pytest.approx(0.25)
    assert found.pool_tokens == 27000 * 16
    assert found.in_flight == pytest.approx(10 * 4.0)  # Little's law


def test_an_engine_without_histograms_of_lengths_has_its_counters() -> None:
    """sglang.txt: tokens over requests, by hand."""
    found = served(read(CASES / "sglang.txt"))
    assert (found.prompt_tokens, found.output_tokens) == (51_200 / 50, 12_800 / 50)


def test_tensorrt_llm_says_lengths_hits_and_pool_by_its_counters() -> None:
    """tensorrt-llm.txt: 20 requests, tokens over them, 2,048 of 20,480 cached, 6,000 blocks of 32."""
    found = served(read(CASES / "tensorrt-llm.txt"))
    assert (found.prompt_tokens, found.output_tokens) == (20_480 / 20, 5_120 / 20)
    assert found.prefix_hit_share == pytest.approx(0.1)
    assert found.pool_tokens == 6_000 * 32


def test_a_server_that_was_started_anew_counts_from_there() -> None:
    assert served(read(ONE), read(TWO), 10.0).ttft_seconds == pytest.approx(0.12)


def test_a_quantile_lies_inside_its_bucket_and_is_unknown_beyond_the_last() -> None:
    found = Histogram(10.0, 10, {1.0: 5.0, 2.0: 9.0, math.inf: 10.0})
    assert found.quantile(0.5) == 1.0
    assert found.quantile(0.7) == pytest.approx(1.5)
    assert found.quantile(0.95) is None


def test_two_files_are_two_reads(run: Run) -> None:
    found = run("watch", ONE, TWO, "--every", "10s", "--gpu", "h100-sxm", "--json").json
    assert found["seconds"] == 10
    assert found["expected"]["batch"] == 40
    assert found["expected"]["prompt_tokens"] == 1024
    assert found["most_users"] > 40
    assert found["misses"] == []


def test_the_verdict_is_line_two_and_the_exit_code(run: Run) -> None:
    met = run("watch", ONE, TWO, "--every", "10s", "--gpu", "h100-sxm", "--ttft", "1s", "--tpot", "50ms")
    assert met.code == 0
    assert met.out.splitlines()[1].startswith("Meets TTFT 1.00 s, TPOT 50.0 ms.")
    assert "more at once until" in met.out.splitlines()[1]
    missed = run("watch", ONE, TWO, "--tpot", "10ms")
    assert missed.code == 3
    assert missed.out.splitlines()[1].startswith("Misses TPOT")


def test_without_a_device_it_says_what_is_wanted(run: Run) -> None:
    assert "wants the device: --gpu NAME" in run("watch", ONE).out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("/nowhere.txt",), "cannot be read"),
        ((str(CASES / "README.md"),), "no text in Prometheus' format"),
        (("ftp://localhost",), "is not an address"),
        (("http://me:secret@localhost",), "no user and no password"),
        (("http://127.0.0.1:1",), "is the server running?"),
        ((str(ONE), str(TWO), str(ONE)), "one address, or one or two files"),
    ],
)
def test_what_cannot_be_read_is_one_line(run: Run, given: tuple[str, ...], words: str) -> None:
    line = run("watch", *given).refused()
    assert words in line
    assert "secret" not in line


class Handler(BaseHTTPRequestHandler):
    """A server that notes what it was asked."""

    asked: list[tuple[str, str | None]]
    elsewhere = ""
    says: ClassVar[dict[str, bytes]] = {}
    metrics = ONE.read_bytes()

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", self.elsewhere)
            self.end_headers()
            return
        if self.path == "/closed":
            self.send_error(401)
            return
        if self.path not in ("/metrics", "/garbage") and self.path not in self.says:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        if self.path in self.says:
            self.wfile.write(self.says[self.path])
            return
        self.wfile.write(b"garbage {{{\n" if self.path == "/garbage" else self.metrics)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing on stderr."""


@pytest.fixture
def server() -> Iterator[tuple[str, type[Handler]]]:
    handler = type("Noted", (Handler,), {"asked": []})
    found = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}", handler
    found.shutdown()
    found.server_close()


def test_a_server_is_asked_for_its_metrics_and_nothing_else(run: Run, server: tuple[str, type[Handler]]) -> None:
    url, handler = server
    assert run("watch", url, "--json").json["running"] == 12
    assert handler.asked == [("/metrics", None)]


def test_with_a_device_it_is_asked_once_what_it_is(
    run: Run, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    card = {"id": "chat", "root": "meta-llama/Llama-3.1-8B", "max_model_len": 8192}
    monkeypatch.setattr(handler, "says", {"/v1/models": json.dumps({"object": "list", "data": [card]}).encode()})
    lines = run("watch", url, "--gpu", "h100-sxm", "--every", "10ms", "--reads", "2", "--json").out.splitlines()
    assert [path for path, _ in handler.asked] == ["/metrics", "/v1/models", "/metrics"]
    assert [json.loads(line)["config"]["longest_tokens"] for line in lines] == [8192, 8192]


@pytest.mark.parametrize(
    "said", [b"", b"[]", b"{", b'{"data": 3}', b'{"data": [{"max_model_len": -1}]}', b"x" * (2 << 20)]
)
def test_what_it_says_of_itself_may_be_anything(
    run: Run, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    url, handler = server
    monkeypatch.setattr(handler, "says", {"/v1/models": said})
    found = run("watch", url, "--gpu", "h100-sxm", "--json").json
    assert found["config"] is None and found["expected"] is not None


# engine -> an answer under the names of its source, and what it says: by hand
SAYS = {
    "vllm": ({"data": [{"id": "chat", "root": "/models/Qwen3-8B", "max_model_len": 4096}]}, ServerConfig("/models/Qwen3-8B", longest_tokens=4096)),
    "sglang": (
        {"model_path": "Qwen/Qwen3-8B", "context_length": 8192, "tp_size": 2, "kv_cache_dtype": "fp8_e5m2", "mem_fraction_static": 0.85, "max_running_requests": 64, "version": "0.5.3"},
        ServerConfig("Qwen/Qwen3-8B", "0.5.3", 8192, 64, 2, "fp8_e5m2", 0.85),
    ),
    "llamacpp": (
        {"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "model_path": "/m/Qwen3-8B-Q4_K_M.gguf", "build_info": "b6500-abc"},
        ServerConfig("Qwen3-8B-Q4_K_M.gguf", "b6500", 4096, 4),
    ),
    "tgi": (
        {"model_id": "Qwen/Qwen3-8B", "max_total_tokens": 4096, "max_concurrent_requests": 128, "version": "3.3.6"},
        ServerConfig("Qwen/Qwen3-8B", "3.3.6", 4096, 128),
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", SAYS)
def test_each_engine_says_what_it_is_by_its_own_names(engine: str) -> None:
    raw, wanted = SAYS[engine]
    assert server_config(engine, raw) == wanted


def test_one_flag_more_is_answered_anew(run: Run) -> None:
    found = run("watch", ONE, TWO, "--every", "10s", "--gpu", "h100-sxm", "--json").json
    assert found["advice"]["now"]["most_users"] == found["most_users"]
    assert "--kv-cache-dtype fp8" in found["advice"]["tried"]
    for change in found["advice"]["changes"]:
        assert change["gain"] > 1.02
    page = run("watch", ONE, TWO, "--every", "10s", "--gpu", "h100-sxm").out
    assert "what one flag would change" in page


def test_slots_of_a_server_bound_its_users(
    run: Run, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    text = (CASES / "sglang.txt").read_bytes()
    monkeypatch.setattr(handler, "metrics", text)
    said = {"model_path": "meta-llama/Llama-3.1-8B", "max_running_requests": 8}
    monkeypatch.setattr(handler, "says", {"/get_server_info": json.dumps(said).encode()})
    found = run("watch", url, "--gpu", "h100-sxm", "--json").json
    assert (found["most_users"], found["bound_by"]) == (8, "slots")
    assert "--max-running-requests 16" in found["advice"]["tried"]


def test_every_reads_again(run: Run, server: tuple[str, type[Handler]]) -> None:
    lines = run("watch", server[0], "--every", "10ms", "--reads", "3", "--json").out.splitlines()
    assert [json.loads(line)["seconds"] is None for line in lines] == [True, False, False]


def test_a_redirect_is_not_followed_and_a_token_goes_nowhere_else(
    run: Run, server: tuple[str, type[Handler]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    handler.elsewhere = f"{url}/metrics"
    monkeypatch.setenv("KVPLAN_WATCH_TOKEN", "s3cret")
    line = run("watch", f"{url}/moved").refused()
    assert "points elsewhere, which is not followed" in line
    assert handler.asked == [("/moved", "Bearer s3cret")]
    closed = run("watch", f"{url}/closed").refused()
    assert "KVPLAN_WATCH_TOKEN" in closed
    assert "s3cret" not in line + closed
    assert "no text in Prometheus' format" in run("watch", f"{url}/garbage").refused()


def test_an_address_gets_its_path() -> None:
    assert metrics_url("https://host/") == "https://host/metrics"
    assert metrics_url("http://[::1]:8000/prometheus/metrics/") == "http://[::1]:8000/prometheus/metrics"


def changed(rng: random.Random, text: str) -> str:
    """A text with one to four places changed."""
    odd = ["NaN", "+Inf", "-1", "1e999", '"', "{", "}", "\\", "\x00", "9" * 50, 'le="', "\n", " ", "#", "_total", "é"]
    for _ in range(rng.randint(1, 4)):
        at, size = rng.randrange(len(text) + 1), rng.choice((0, 1, 5, 40))
        text = text[:at] + rng.choice(odd) + text[at + size :]
    return text


def test_changed_metrics_are_read_or_refused_in_one_line() -> None:
    """1,000 here; python -m tests.kvplan.test_watch 100000 for more."""
    check_changed(1000)


def check_changed(count: int) -> None:
    rng = random.Random(18)
    texts = [path.read_text() for path in FILES]
    for _ in range(count):
        text = changed(rng, rng.choice(texts))
        try:
            found = reading(samples(text, "changed"))
        except KvplanError as refused:
            assert "\n" not in str(refused)
            continue
        if found is not None:
            one = served(found, read(ONE) if rng.random() < 0.01 else None, 10.0)
            json.dumps(vars(one), allow_nan=False)
            one.point("x").observed()


if __name__ == "__main__":
    import sys

    check_changed(int(sys.argv[1]))
    print(f"{int(sys.argv[1]):,} changed texts: no traceback")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('dynamo_frontend_active_requests{model="m"} 5', ("running", 5.0)),  # since inflight_requests is deprecated
        ('trtllm_num_active_requests{model_name="m"} 3', ("running", 3.0)),
        ('trtllm_server_queue_length{model_name="m"} 2', ("waiting", 2.0)),
        ('sglang:num_queue_reqs{model_name="m",tp_rank="0"} 3\nsglang:num_queue_reqs{model_name="m",tp_rank="1"} 11', ("waiting", 14.0)),
    ],
)  # fmt: skip
def test_names_of_other_releases_are_known(line: str, says: tuple[str, float]) -> None:
    """By the engines' sources and public texts of 2026: Dynamo's frontend, TensorRT-LLM's collector, SGLang with DP attention."""
    found = reading(samples(line, "x"))
    assert found is not None and found.gauges[says[0]] == says[1]


def test_sglangs_own_histograms_of_lengths_are_read() -> None:
    text = "\n".join(
        f"sglang:{name}_{end} {value}"
        for name, total in (("prompt_tokens_histogram", 4096), ("generation_tokens_histogram", 512))
        for end, value in (("sum", total), ("count", 4))
    )
    found = reading(samples(text, "x"))
    assert found is not None
    assert (found.histograms["prompt_length"].mean, found.histograms["output_length"].mean) == (1024, 128)


def test_a_share_above_one_is_none() -> None:
    """A hit rate of 22.5 is percent or damaged: not guessed."""
    found = reading(samples('sglang:cache_hit_rate{model_name="m"} 22.5\nsglang:token_usage{model_name="m"} 0.94', "x"))
    assert found is not None and "hit_share" not in found.gauges and found.gauges["cache_share"] == 0.94
