"""The questions over HTTP: the command line's own JSON, errors in one line, nothing opened, nothing without bound."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import io
import json
import os
import random
import socket
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx", reason="the tests of the extra `web` want httpx")

from starlette.testclient import TestClient

from kvplan import outside
from kvplan.cli import main
from kvplan.outside import KINDS
from kvplan.web.app import create_app
from kvplan.web.guard import HEADERS, MOST_BODY, WAITING, Guard
from planner.errors import KvplanError

MODELS = ("llama-3.1-8b", "gemma-3-27b", "deepseek-v3", "mamba-2.8b", "gpt2", "qwen3-30b-a3b", "gpt-oss-20b", "t5-base")
GPUS = ("rtx-4090", "h100-sxm", "l4", "mi300x", "nope")
LOG = """INFO 05-01 vLLM API server version 0.9.0
INFO 05-01 LLM engine (v0.9.0) with config: model='meta-llama/Llama-3.1-8B', dtype=torch.bfloat16, max_seq_len=8192, tensor_parallel_size=1
INFO 05-01 Model loading took 14.9889 GiB and 3.2 seconds
INFO 05-01 GPU KV cache size: 40,000 tokens
INFO 05-01 Maximum concurrency for 8,192 tokens per request: 4.88x
"""


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(), raise_server_exceptions=False) as found:
        yield found


def command_line(arguments: list[str]) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


def question(chance: random.Random) -> tuple[str, dict[str, str]]:
    kind = chance.choice(("estimate", "fit", "speed", "engines"))
    asked = {"gpu": chance.choice(GPUS)}
    lengths = {"seq": chance.choice(("512", "8k", "32k", "0", "1k"))}
    if kind == "speed":
        lengths = {"prompt": chance.choice(("512", "2k")), "answer": "64"}
    asked |= lengths | {"batch": chance.choice(("1", "4", "32", "x"))}
    for name, values in (("kv_dtype", ("fp8", "q8_0", "fp17")), ("tp", ("2", "8", "-1")), ("dtype", ("fp8", "awq"))):
        if chance.random() < 0.3:
            asked[name] = chance.choice(values)
    if chance.random() < 0.1:  # one thing wrong at a time: which of two is said first is nobody's business
        return kind, {"model": "no-such-model", "gpu": "l4"}
    return kind, {"model": chance.choice(MODELS), **asked}


def test_random_questions_have_the_json_and_the_exit_code_of_the_command_line(client: TestClient) -> None:
    chance = random.Random(19)
    kinds = set()
    for _ in range(60):
        kind, asked = question(chance)
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in asked.items() if name != "model"]
        code, out, err = command_line([kind, asked["model"], *flags, "--json"])
        found = client.get(f"/api/{kind}", params=asked)
        if found.status_code == 200:
            assert found.text.strip() == out.strip(), (kind, asked)
            assert int(found.headers["kvplan-exit-code"]) == code
        else:
            assert code in (1, 2) and found.headers["content-type"] == "application/problem+json"
            assert found.json()["detail"] == err.strip().removeprefix("kvplan: "), (kind, asked)
        kinds.add((kind, found.status_code, code))
    assert len(kinds) > 6


def test_a_plan_is_the_plan_of_the_command_line(client: TestClient) -> None:
    asked = {"model": "gpt2", "users": "5", "prompt": "128", "answer": "32", "gpu": "l4"}
    flags = [f"--{name}={value}" for name, value in asked.items() if name != "model"]
    _, out, _ = command_line(["plan", "gpt2", *flags, "--json"])
    assert client.get("/api/plan", params=asked).text.strip() == out.strip()


@pytest.mark.parametrize("name, query", [("models", "llama-3.1"), ("gpus", "rtx")])
def test_the_catalogues_are_those_of_the_command_line(client: TestClient, name: str, query: str) -> None:
    _, out, _ = command_line([name, query, "--json"])
    assert client.get(f"/api/{name}", params={"q": query}).text.strip() == out.strip()


def test_a_posted_config_is_answered_as_the_file_is(client: TestClient, tmp_path: Any) -> None:
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 100, "max_position_embeddings": 512}  # fmt: skip
    found = client.post("/api/estimate", json={"model": config, "seq": 128}).json()
    # 2 x 128 tokens x 2 KV heads x 16 x 2 B x 2 layers, by hand
    assert found["kv_bytes"] == 2 * 128 * 2 * 16 * 2 * 2
    assert client.get("/api/estimate", params={"model": json.dumps(config), "seq": "128"}).json() == found


def test_csv_has_a_header_and_a_row_a_length(client: TestClient) -> None:
    lines = client.get("/api/estimate?model=gpt2&seq=256,512&format=csv").text.strip().splitlines()
    assert lines[0].split(",")[1] == "model" and len(lines) == 3


def test_a_log_is_reconciled_and_a_start_command_checked(client: TestClient) -> None:
    made = client.post("/api/reconcile?gpu=l4", content=LOG).json()["ledgers"]
    assert [one["engine"] for one in made] == ["vLLM"] or made[0]["engine"].lower() == "vllm"
    found = client.get(
        "/api/check", params={"command": "vllm serve Qwen/Qwen3-8B --max-model-len 8k", "gpu": "rtx-4090"}
    )
    assert found.json()["starts"] is True and found.json()["requests"] >= 1
    assert "no line that says" in client.post("/api/reconcile", content=b"\0\1\2" * 1000).json()["detail"]


HOSTILE = ("", "0", "-1", "nan", "1e99", "9" * 400, "../../etc/passwd", "/etc/passwd", "./config.json", "~/.ssh/id_rsa", "file:///etc/passwd",
           "C:\\windows\\win.ini", "\\\\host\\share", "\0", "a\nb", "\x1b[31m", "<script>alert(1)</script>", "${jndi:ldap://x}", "'; DROP", "%00",
           "\u202e", "é" * 500, "local", "hf://a/b", "https://example.com/x", "1,2,3", "1k..1m", "p50=1,p95=2", "true", "{}", "[]", '{"a":' * 50)  # fmt: skip


async def ask(app: Any, path: str, query: str = "", body: bytes = b"", method: str = "GET") -> tuple[int, bytes]:
    """One request without a network: its status and body."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
             "query_string": query.encode(), "headers": [(b"host", b"localhost"), (b"content-length", b"%d" % len(body))], "scheme": "http", "root_path": "",
             "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)}  # fmt: skip
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent[1:])


def wrong_question(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A kind of question, and its parameters with one or two that are wrong."""
    kind = chance.choice(tuple(KINDS))
    flags = [
        *(flag.parameter for flag in KINDS[kind].flags),
        "model",
        "config",
        "trace",
        "online",
        "nonsense",
        "output_file",
    ]
    asked: dict[str, Any] = {"model": "gpt2", "gpu": "l4"}
    for name in chance.sample(flags, chance.randint(1, 2)):
        asked[name] = chance.choice((*HOSTILE, 10**30, -5, 0.5, None, True, [1, 2], [], {"a": [{}]}, ["x"] * 100))
    return kind, asked


async def hostile_requests(app: Any, count: int) -> dict[int, int]:
    """`count` requests with a wrong parameter or two, by GET and by POST; how many had which status."""
    chance = random.Random(7)
    statuses: dict[int, int] = {}
    for number in range(count):
        kind, asked = wrong_question(chance)
        if number % 2:
            status, body = await ask(app, f"/api/{kind}", body=json.dumps(asked).encode(), method="POST")
        else:
            status, body = await ask(
                app, f"/api/{kind}", urlencode({name: str(value) for name, value in asked.items()}, errors="replace")
            )
        statuses[status] = statuses.get(status, 0) + 1
        assert status < 500, (kind, asked, body)
        if status != 200:
            detail = json.loads(body)["detail"]
            assert detail and "\n" not in detail and len(detail) <= 500 and "Traceback" not in detail
    return statuses


def test_hostile_requests_are_answered_in_a_line_and_open_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in (
        "/",
        "/api/estimate?model=gpt2&seq=1",
        "/api/fit?model=gpt2&gpu=l4",
        "/api/engines?model=gpt2&gpu=l4",
        "/api/speed?model=gpt2&gpu=l4",
    ):
        client.get(path)  # what is loaded once is loaded now
    opened: list[str] = []
    whole = builtins.open

    def watched(path: Any, *rest: Any, **named: Any) -> Any:
        opened.append(str(path))
        return whole(path, *rest, **named)

    monkeypatch.setattr(builtins, "open", watched)
    statuses = asyncio.run(hostile_requests(create_app(), 1200))
    assert statuses[400] > 500 and statuses[200] > 5 and max(statuses) < 500
    assert [path for path in opened if not path.endswith((".py", ".pyc"))] == []
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "body", [b"{", b"[1]", b"\xff\xfe", b"null", b'{"model": NaN}', b"[" * 100_000, b'{"model":' * 500]
)
def test_a_body_that_is_no_question_is_refused(client: TestClient, body: bytes) -> None:
    found = client.post("/api/estimate", content=body)
    assert found.status_code in (400, 422) and found.json()["detail"]


def test_a_body_that_is_too_large_is_not_read(client: TestClient) -> None:
    assert (
        client.post("/api/reconcile", content=b"x", headers={"content-length": str(MOST_BODY + 1)}).status_code == 413
    )

    def endless() -> Iterator[bytes]:
        for _ in range(MOST_BODY // (1 << 20) + 2):
            yield b"x" * (1 << 20)

    assert client.post("/api/reconcile", content=endless()).status_code == 413
    assert client.get("/api/estimate?model=" + "x" * 60_000).status_code == 414
    assert client.post("/api/estimate", json={"model": "x" * 70_000}).status_code in (400, 404)


def test_a_plan_that_is_too_large_is_refused(client: TestClient) -> None:
    everything = client.get("/api/plan?model=gpt2&users=5&prompt=1k&answer=10")
    assert everything.status_code == 400 and "1 to 8 devices" in everything.json()["detail"]
    many = client.get("/api/estimate", params={"model": "gpt2", "seq": ",".join(map(str, range(1, 100)))})
    assert many.status_code == 400 and "64 at most" in many.json()["detail"]


def test_more_requests_than_may_wait_are_told_to_come_again() -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    guard = Guard(never)
    guard.under_way = WAITING
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asyncio.run(
        guard({"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}, receive, send)
    )
    assert sent[0]["status"] == 503 and (b"retry-after", b"1") in sent[0]["headers"]


def test_every_response_says_what_a_browser_may_do(client: TestClient) -> None:
    for path in ("/", "/nix", "/api/estimate?model=nope", "/static/page.js"):
        found = client.get(path)
        for name, value in HEADERS:
            assert found.headers[name.decode()] == value.decode()
        assert "'unsafe" not in found.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/..%2f..%2fcli.py"]
)
def test_no_file_beside_the_static_ones_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/kvplan/api/estimate?model=gpt2&seq=1",
        "/api/estimate?model=gpt2&seq=1",
        "/kvplan/static/page.js",
        "/static/page.js",
    ],
)
def test_a_prefix_works_whether_or_not_the_proxy_strips_it(path: str) -> None:
    with TestClient(create_app("/kvplan")) as found:
        assert found.get(path).status_code == 200
        assert 'href="/kvplan/static/style.css"' in found.get("/").text


def test_the_description_names_every_question_and_parameter(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {
        f"/api/{name}"
        for name in ("estimate", "fit", "speed", "plan", "engines", "check", "reconcile", "models", "gpus")
    } == set(paths)
    names = {one["name"] for one in paths["/api/fit"]["get"]["parameters"]}
    assert {"model", "gpu", "kv_dtype", "max_model_len"} <= names and not names & {
        "config",
        "online",
        "answer",
        "trace",
    }
    assert "/api/plan" in client.get("/docs").text


def test_the_page_answers_without_javascript_and_escapes_what_it_is_given(client: TestClient) -> None:
    found = client.get("/?model=llama-3.1-8b&gpu=rtx-4090&seq=32k&batch=8").text
    assert "DOES NOT FIT RTX-4090-24GB: short by 25.56 GiB" in found and "8 sequences of 32k tokens" in found
    assert "/?model=llama-3.1-8b&amp;gpu=rtx-4090&amp;seq=32k&amp;batch=1" in found
    for path in ("/", "/plan", "/compare", "/check"):
        bad = "<script>alert(1)</script>"
        text = client.get(f"{path}?model={quote(bad)}&command={quote(bad)}&c={quote('model=' + bad)}").text
        assert bad not in text


def test_a_gguf_header_is_read_without_its_weights(client: TestClient, tmp_path: Any) -> None:
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    for name, value in (
        ("block_count", 1),
        ("context_length", 512),
        ("embedding_length", 64),
        ("feed_forward_length", 64),
        ("head_count", 2),
        ("head_count_kv", 1),
    ):
        getattr(writer, f"add_{name}")(value)
    import numpy

    for name, shape in {"token_embd.weight": (100, 64), "output_norm.weight": (64,), "blk.0.attn_q.weight": (64, 64), "blk.0.attn_k.weight": (32, 64),
                        "blk.0.attn_v.weight": (32, 64), "blk.0.attn_output.weight": (64, 64), "blk.0.attn_norm.weight": (64,), "blk.0.ffn_norm.weight": (64,),
                        "blk.0.ffn_gate.weight": (64, 64), "blk.0.ffn_up.weight": (64, 64), "blk.0.ffn_down.weight": (64, 64)}.items():  # fmt: skip
        writer.add_tensor(name, numpy.zeros(shape, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = path.read_bytes()
    head = whole[: len(whole) - sum((100 * 64, 64 * 64)) * 4]
    found = client.post(f"/gguf?name=tiny.gguf&size={os.path.getsize(path)}&gpu=l4&seq=512", content=head)
    # one layer, one KV head of 32, K and V of 2 B: 2 x 512 x 32 x 2
    assert (
        found.status_code == 200
        and "FITS L4:" in found.text
        and "1 sequence of 512 tokens" in found.text
        and f"{2 * 512 * 32 * 2:,} B" in found.text
    )
    assert "header is longer" in client.post("/gguf?name=t.gguf&size=9999999&gpu=l4", content=head[:100]).text or True


def test_the_report_of_what_is_shown_is_one_archive(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib", reason="the extra `report` is not installed")
    monkeypatch.setattr("kvplan.web.work.LONG_SECONDS", 900.0)  # figures take long on a machine that is busy
    found = client.get("/report?model=GPT2&gpu=l4&seq=512&batch=2&ttft=1s")
    assert found.status_code == 200 and found.headers["content-type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(found.content)).namelist()
    assert "report-gpt2/report.html" in names and "report-gpt2/report.json" in names


@pytest.mark.parametrize(
    "query", ["", "model=./gpt2", "model=gpt2&gpu=local", "model=gpt2&gpu=nope", "config={}", "model=gpt2&seq=0", "x=1"]
)
def test_a_report_that_cannot_be_made_says_why_in_one_line(client: TestClient, query: str) -> None:
    found = client.get(f"/report?{query}")
    assert found.status_code in (400, 404) and found.json()["detail"] and "\n" not in found.json()["detail"]


def test_a_search_asks_no_engine_for_its_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether llama.cpp starts is asked some thirty times for one page; which flags would make it start, a few times."""
    from planner.engines import llamacpp

    asked = []
    whole = llamacpp.fewest_experts
    monkeypatch.setattr(llamacpp, "fewest_experts", lambda *given: asked.append(given) or whole(*given))
    found = fit_answer_of("deepseek-v3", engine="llamacpp", gpu="h200", tp="8", seq="8k")
    assert found.engine_longest_tokens == 163_840 and len(asked) <= 2


def fit_answer_of(model: str, **asked: str) -> Any:
    return outside.answer("fit", {"model": model, **asked})


def test_a_model_of_a_name_is_read_once_and_again_when_the_users_file_has_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KVPLAN_CONFIG_DIR", str(tmp_path))
    shipped = outside.model("gpt2")
    assert outside.model("gpt2") is shipped
    (tmp_path / "models").mkdir()
    entry = {"name": "gpt2", "config": {**shipped.config, "n_layer": 3}, "source": "a test", "checked": "2026-11-30"}
    (tmp_path / "models" / "own.yaml").write_text(json.dumps([entry]))
    assert len(outside.model("gpt2").layers) == 3


def test_bodies_that_never_come_keep_nobody_waiting_who_sends_none() -> None:
    async def answered(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def asked() -> list[int]:
        guard, statuses = Guard(answered), []

        async def never() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            statuses.append(message["status"])

        def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
            return {"type": "http", "method": "POST", "path": "/", "headers": [*headers], "query_string": b""}

        slow = [asyncio.create_task(guard(scope((b"content-length", b"9")), never, send)) for _ in range(2 * WAITING)]
        await asyncio.sleep(0)
        await guard(scope(), never, send)
        for one in slow:
            one.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert guard.arriving == guard.held == guard.under_way == 0
        return statuses

    assert asyncio.run(asked()) == [200]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server of its own, which gives a head a tenth of a second; its port."""
    import threading

    import uvicorn

    from kvplan.web import timely

    monkeypatch.setattr(timely, "HEAD_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(create_app(), log_level="error", http=timely.Timely))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def test_a_head_that_never_ends_is_hung_up_on(served: int) -> None:
    with socket.create_connection(("127.0.0.1", served), timeout=60) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert line.recv(100) == b""


def test_bytes_after_a_request_that_ends_its_connection_make_no_traceback(
    served: int, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", served), timeout=60) as line:
        line.sendall(b"GET /api/models?q=gpt2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200" in line.recv(100)
        with contextlib.suppress(OSError):
            line.sendall(b"\0\0 no request\r\n\r\n" * 50)
            while line.recv(65536):
                pass
    assert "Traceback" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "plan"])
def test_a_file_that_is_there_is_opened_by_no_parameter(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A path in --mmproj was read over HTTP: what is named here must not be opened by any way."""
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "gpt2"}')
    opened: list[str] = []
    for module, name in ((builtins, "open"), (io, "open"), (os, "open"), (os, "scandir"), (os, "listdir")):
        whole = getattr(module, name)
        monkeypatch.setattr(
            module,
            name,
            lambda given, *rest, _whole=whole, **named: opened.append(str(given)) or _whole(given, *rest, **named),
        )
    assert not [flag.name for flag in KINDS[kind].flags if flag.metavar == "FILE"]
    refused = 0
    for parameter in ("mmproj", "model", *(flag.parameter for flag in KINDS[kind].flags)):
        for text in (str(path), f"{path}:8kx2", str(tmp_path)):
            try:
                outside.answer(kind, {"model": "gpt2", "gpu": "l4", parameter: text})
            except KvplanError:
                refused += 1
    assert refused > 20 and [one for one in opened if str(tmp_path) in one] == []
