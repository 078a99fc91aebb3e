"""Models on the Hub, by a transport that serves small repositories from memory and writes down what was asked."""

from __future__ import annotations

import http.server
import importlib.util
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from planner.errors import BadConfig, BadRequest, KvplanError, UnknownName
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.readers import hub
from planner.readers.hub import HubName, hub_name, read_hub
from tests.planner.readers.headers import LLAMA, gguf_header, llama_tensors, safetensors_header
from tests.planner.readers.test_gguf import CASES

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Fake:
    """A repository in memory; data behind the headers is never there, so that reading it would fail."""

    contents: dict[str, bytes]
    sizes: dict[str, int] = field(default_factory=dict)
    commit: str = COMMIT
    asked: list[tuple[str, int, int]] = field(default_factory=list)

    def files(self, repo: str, revision: str | None) -> tuple[str, Mapping[str, int]]:
        self.revision = revision
        return self.commit, {name: self.sizes.get(name, len(data)) for name, data in self.contents.items()}

    def read(self, repo: str, commit: str, file: str, offset: int, length: int) -> bytes:
        assert commit == COMMIT
        self.asked.append((file, offset, length))
        data = self.contents[file]
        return data[offset : offset + length] + b"\0" * max(0, offset + length - max(len(data), offset))

    @property
    def bytes_asked(self) -> int:
        return sum(length for _, _, length in self.asked)


def sharded(count: int = 3) -> tuple[Fake, int]:
    """LLAMA in shards, each claiming 20 GB behind its header."""
    items = list(llama_tensors().items())
    contents: dict[str, bytes] = {"config.json": json.dumps(LLAMA).encode()}
    where: dict[str, str] = {}
    sizes: dict[str, int] = {}
    total = 0
    for number in range(count):
        name = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        tensors: dict[str, Any] = dict(items[number::count])
        tensors[f"model.layers.0.self_attn.rotary_emb.inv_freq{number}"] = ("F32", [5 * 10**9])
        head, data = safetensors_header(tensors)
        contents[name], sizes[name] = head, len(head) + data
        where |= dict.fromkeys(tensors, name)
        total += data
    contents["model.safetensors.index.json"] = json.dumps(
        {"weight_map": where, "metadata": {"total_size": total}}
    ).encode()
    return Fake(contents, sizes), total


def test_a_sharded_repository_is_read_by_its_headers_and_pinned() -> None:
    fake, total = sharded()
    spec = read_hub("org/model@main", fake)
    assert spec.stored is not None and spec.stored.bytes == total > 60 * 10**9
    assert fake.bytes_asked < 1 << 20 and len(fake.asked) == 5
    assert any(f"org/model at revision {COMMIT}" in note for note in estimate(spec, Request(8)).assumptions)
    assert fake.revision == "main" and spec.name == "org/model"


def test_a_repository_of_one_file_and_one_of_a_config_alone() -> None:
    head, data = safetensors_header(llama_tensors())
    config = json.dumps(LLAMA).encode()
    fake = Fake({"config.json": config, "model.safetensors": head}, {"model.safetensors": len(head) + data})
    spec = read_hub("hf://org/model", fake)
    assert spec.stored is not None and spec.stored.bytes == data
    assert read_hub("org/model", Fake({"config.json": config})).stored is None


def gguf_repository() -> Fake:
    case = CASES["gqa"]
    head, data = gguf_header(case.pairs, case.tensors)
    names = ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-f16.gguf", "README.md"]
    return Fake(dict.fromkeys(names, head), dict.fromkeys(names, len(head) + data))


def test_a_gguf_of_a_repository_is_named_by_its_type_or_its_file() -> None:
    fake = gguf_repository()
    by_type, by_file = read_hub("org/m-GGUF:q4_k_m", fake), read_hub("org/m-GGUF/m-Q4_K_M.gguf", fake)
    assert by_type.stored is not None and by_file.stored is not None
    assert by_type.stored.bytes == by_file.stored.bytes
    assert by_type.name == "org/m-GGUF:m-Q4_K_M"
    with pytest.raises(BadRequest, match="2 GGUF models that match; name one as org/m-GGUF:Q4_K_M"):
        read_hub("org/m-GGUF", fake)
    with pytest.raises(BadRequest, match="0 GGUF models"):
        read_hub("org/m-GGUF:Q3", fake)
    with pytest.raises(BadConfig, match="no file"):
        read_hub("org/m-GGUF/other.gguf", fake)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", HubName("org/name")),
        ("hf://org/name@v1.0", HubName("org/name", "v1.0")),
        ("org/name:Q4_K_M", HubName("org/name", None, None, "Q4_K_M")),
        ("org/name/sub/m.gguf", HubName("org/name", None, "sub/m.gguf")),
        ("https://huggingface.co/org/name", HubName("org/name")),
        ("https://huggingface.co/org/name/tree/refs", HubName("org/name", "refs")),
        ("https://hf.co/org/name/resolve/main/a/m.gguf?download=true", HubName("org/name", "main", "a/m.gguf")),
    ],
)
def test_names_and_addresses_are_understood(text: str, name: HubName) -> None:
    assert hub_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "org",
        "org/",
        "/org/name",
        "org/na me",
        "org/name@a b",
        "org/name/../x.gguf",
        "org/name/x.bin",
        "hf://",
        "https://x/",
        "https://huggingface.co/",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(BadRequest, match=r"is no name of the Hub|is not the Hub's host|of the repository is wanted"):
        hub_name(text)


def test_nothing_is_asked_of_the_network_unless_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HuggingFaceTransport", lambda: pytest.fail("the network was asked"))
    monkeypatch.delenv("KVPLAN_ONLINE", raising=False)
    for name in ("hf://org/model", "https://huggingface.co/org/model", "org/model-that-is-not-known"):
        with pytest.raises(UnknownName, match="--online reads config and headers from the Hub"):
            model_spec(name)


def test_with_online_the_hub_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, _ = sharded()
    monkeypatch.setattr(hub, "HuggingFaceTransport", lambda: fake)
    assert model_spec("org/model", online=True).stored is not None
    assert model_spec("gpt2", online=True).stored is None  # the catalogue's: no owner named
    monkeypatch.setenv("KVPLAN_ONLINE", "1")
    assert model_spec("org/model").stored is not None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(KvplanError, match=r"pip install 'llm-kvplan\[hub\]'"):
        model_spec("hf://org/model", online=True)


def test_a_server_that_lies_about_sizes_or_commits_is_refused() -> None:
    fake, _ = sharded()
    fake.commit = "main"
    with pytest.raises(BadConfig, match="no commit"):
        read_hub("org/model", fake)
    fake, _ = sharded()
    fake.sizes["config.json"] = 1 << 40
    with pytest.raises(BadConfig, match="at most are read"):
        read_hub("org/model", fake)
    with pytest.raises(BadConfig, match=r"neither a config\.json nor GGUF"):
        read_hub("org/model", Fake({"README.md": b""}))


# -- huggingface_hub itself, against a server on this machine --------------------------------------------

TOKEN = "hf_" + "s" * 34
RANGES = {"on": True}


class Handler(http.server.BaseHTTPRequestHandler):
    """Enough of the Hub: a repository's list of files, and ranges of them."""

    seen: ClassVar[list[tuple[str, str | None, str | None]]] = []
    fake, _ = sharded()

    hostile: ClassVar[str] = ""

    def do_GET(self) -> None:
        if self.hostile:
            return self._hostile(self.headers.get("Authorization") or "")
        self.seen.append((self.path, self.headers.get("Range"), self.headers.get("Authorization")))
        if self.path.startswith("/api/models/org/model"):
            _, sizes = self.fake.files("org/model", None)
            siblings = [{"rfilename": name, "size": size} for name, size in sizes.items()]
            return self._send(200, json.dumps({"id": "org/model", "sha": COMMIT, "siblings": siblings}).encode())
        if self.path.startswith(f"/org/model/resolve/{COMMIT}/"):
            file = self.path.rsplit("/", 1)[1]
            if not RANGES["on"]:
                return self._send(200, self.fake.contents[file] + b"\0" * 1_000_000)
            first, last = map(int, str(self.headers["Range"]).removeprefix("bytes=").split("-"))
            return self._send(206, self.fake.read("org/model", COMMIT, file, first, last - first + 1))
        return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _hostile(self, token: str) -> None:
        kind = self.hostile
        echoed = {"X-Error-Message": f"bad {token}"}
        if kind.isdigit():
            return self._send(int(kind), json.dumps({"error": f"bad {token}"}).encode(), echoed)
        if kind == "gated":
            return self._send(403, b"{}", {"X-Error-Code": "GatedRepo", **echoed})
        if kind == "large":
            return self._send(200, b" " * (hub.MAX_ANSWER_BYTES + 2))
        if kind == "garbage":
            return self._send(200, b"<html>\x1b[31m")
        if kind == "slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
            return None
        size: Any = {"text": "x", "negative": -5, "huge": 10**30, "list": [1]}[kind]
        found = {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": "config.json", "size": size}]}
        return self._send(200, json.dumps(found).encode())

    def _send(self, code: int, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    if importlib.util.find_spec("huggingface_hub") is None:
        pytest.skip("needs huggingface_hub")
    import huggingface_hub.constants as constants

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        Handler.seen, Handler.fake = [], sharded()[0]
        RANGES["on"], Handler.hostile = True, ""
        yield Handler
        server.shutdown()


def test_huggingface_hub_is_asked_for_ranges_with_the_users_token(server: type[Handler]) -> None:
    spec = model_spec("org/model", online=True)
    assert spec.stored is not None and spec.stored.bytes > 60 * 10**9
    files = [(path, ranged) for path, ranged, _ in server.seen if "/resolve/" in path]
    assert len(files) == 5 and all(ranged and ranged.startswith("bytes=0-") for _, ranged in files)
    assert {token for path, _, token in server.seen if "org/model" in path} == {f"Bearer {TOKEN}"}
    assert TOKEN not in repr(spec)


def test_a_server_that_ignores_ranges_is_refused_and_a_missing_model_named(server: type[Handler]) -> None:
    RANGES["on"] = False
    with pytest.raises(BadConfig, match="does not send parts of a file"):
        model_spec("org/model", online=True)
    with pytest.raises(UnknownName, match="no such repository") as refused:
        model_spec("org/other", online=True)
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "kind", ["400", "401", "403", "500", "gated", "large", "garbage", "slow", "text", "negative", "huge", "list"]
)
def test_a_hostile_server_is_one_line_without_a_secret(
    server: type[Handler], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(hub, "TOTAL_SECONDS", 0.5 if kind == "slow" else 60.0)
    monkeypatch.setattr(server, "hostile", kind)
    with pytest.raises(KvplanError) as refused:
        model_spec("org/model", online=True)
    said = str(refused.value)
    assert "org/model" in said and TOKEN not in said and said.isprintable(), said


def test_a_password_in_an_address_is_never_said() -> None:
    for text in ("https://me:pa55@huggingface.co/x", "https://me:pa55@evil.example/o/n", "hf://me:pa55@x/y/z.bin"):
        with pytest.raises(KvplanError) as refused:
            model_spec(text, online=True)
        assert "pa55" not in str(refused.value)
    with pytest.raises(KvplanError) as refused:
        model_spec("https://me:pa55@huggingface.co/o/n")
    assert "pa55" not in str(refused.value)


@pytest.mark.parametrize(
    "host", ["evil.example", "huggingface.co.evil.example", "localhost", "huggingface.co@evil.example"]
)
def test_an_address_of_another_host_is_refused(host: str) -> None:
    with pytest.raises(BadRequest, match="is not the Hub's host"):
        hub_name(f"https://{host}/o/n")


def test_the_host_of_the_endpoint_is_the_hubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:pw@mirror.example:8443")
    assert hub_name("https://mirror.example:8443/o/n").repo == "o/n"
    with pytest.raises(BadRequest, match="is not the Hub's host"):
        hub_name("https://mirror.example/o/n")
