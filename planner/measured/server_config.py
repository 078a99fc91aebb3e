"""What a running server says of itself: model, longest request, slots, layout; as its own address offers it.

vLLM: /v1/models, `data[0]` with `id`, `root`, `max_model_len` (entrypoints/openai/protocol.py, ModelCard). SGLang:
/get_server_info, the fields of ServerArgs (model_path, context_length, tp_size, kv_cache_dtype, quantization,
mem_fraction_static, max_running_requests) and `version` (srt/entrypoints/http_server.py); older ones /get_model_info with model_path.
llama-server: /props, `model_path` or `model_alias`, `default_generation_settings.n_ctx`, `total_slots`, `build_info` (tools/server).
TGI: /info, `model_id`, `max_total_tokens`, `max_concurrent_requests`, `version` (router/src/lib.rs, Info).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.measured.points import at, count, number, words

# engine -> paths to ask, the first that answers counts
PATHS = {
    "vllm": ("/v1/models",),
    "sglang": ("/get_server_info", "/get_model_info"),
    "llamacpp": ("/props",),
    "tgi": ("/info",),
    "tensorrt-llm": ("/v1/models",),
    "dynamo": ("/v1/models",),
}
MOST_BYTES = 1 << 20
_BUILD = re.compile(r"b(\d{3,6})")


@dataclass(frozen=True)
class ServerConfig:
    """A server in its own words; None for what it does not say.

    longest_tokens   of one request
    slots            requests that it runs at once
    fraction         share of the memory that it may take, as its flag gives it
    """

    model: str | None = None
    version: str | None = None
    longest_tokens: int | None = None
    slots: int | None = None
    tp: int | None = None
    kv_dtype: str | None = None
    fraction: float | None = None

    @property
    def words(self) -> str:
        """In a few words; "" where nothing is known."""
        parts = (
            ("longest request", self.longest_tokens), ("at once at most", self.slots), ("TP", self.tp),
            ("share of the memory", self.fraction),
        )  # fmt: skip
        said = [f"{name} {value:,}" for name, value in parts if value is not None]
        return ", ".join(([f"version {self.version}"] if self.version else []) + said)


def server_config(engine: str, raw: Any) -> ServerConfig:
    """Reads what an answer of one of `PATHS` says; nothing where it is of another form."""
    if not isinstance(raw, Mapping):
        return ServerConfig()
    if engine == "sglang":
        return _sglang(raw)
    if engine == "llamacpp":
        build = _BUILD.match(words(raw.get("build_info")) or "")
        path = words(raw.get("model_path")) or words(raw.get("model_alias"))
        return ServerConfig(
            model=path.rpartition("/")[2] if path else None, version=build[0] if build else None,
            longest_tokens=_whole(at(raw, "default_generation_settings", "n_ctx")), slots=_whole(raw.get("total_slots")),
        )  # fmt: skip
    if engine == "tgi":
        return ServerConfig(
            model=words(raw.get("model_id")), version=words(raw.get("version")),
            longest_tokens=_whole(raw.get("max_total_tokens")), slots=_whole(raw.get("max_concurrent_requests")),
        )  # fmt: skip
    cards = raw.get("data")
    first = next((card for card in cards if isinstance(card, Mapping)), {}) if isinstance(cards, list) else {}
    return ServerConfig(words(first.get("root")) or words(first.get("id")), longest_tokens=_whole(first.get("max_model_len")))  # fmt: skip


def _sglang(raw: Mapping[str, Any]) -> ServerConfig:
    kept = words(raw.get("kv_cache_dtype"))
    fraction = number(raw.get("mem_fraction_static"))
    return ServerConfig(
        model=words(raw.get("model_path")),
        version=words(raw.get("version")),
        longest_tokens=_whole(raw.get("context_length")),
        slots=_whole(raw.get("max_running_requests")),
        tp=_whole(raw.get("tp_size")),
        kv_dtype=kept if kept in ("fp8_e4m3", "fp8_e5m2") else None,
        fraction=fraction if fraction is not None and 0 < fraction <= 1 else None,
    )


def _whole(raw: Any) -> int | None:
    """A count of at least one, and none that no server has."""
    value = count(raw)
    return value if value is not None and 1 <= value <= 10**9 else None
