"""A ledger as a row of a case file, which `kvplan accuracy` reads."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from planner.accuracy.engine_logs import LLAMA_PROGRAMS
from planner.errors import KvplanError, one_line
from planner.files.read import csv_rows, read_text
from planner.reconcile.ledger import Ledger
from planner.reconcile.llamacpp import GGML_NAMES, flash_attention, window_in_full
from planner.reconcile.model import BY_DIMENSIONS
from planner.reconcile.vllm import generation

MOST_BYTES = 64 << 20
# Columns that are called as the facts of a log are.
AS_LOGGED = (
    "fraction", "max_model_len", "batched_tokens", "available_gib", "k_gib", "v_gib", "tokens", "blocks", "concurrency",
    "cpu_blocks", "needed_gib", "estimated_max_len", "weights_gib", "activation_gib", "non_torch_gib", "graphs_gib",
)  # fmt: skip
RENAMED = {"max_num_seqs": "sequences", "lora_rank": "lora_rank", "cpu_offload_gib": "offload", "swap_gib": "swap"}
SERVER_COLUMNS = (
    "id", "engine", "version", "model", "tp", "pp", "kv_dtype", "weight_dtype", "gpu", "gpu_memory_gib", *RENAMED,
    *AS_LOGGED, "reason", "source",
)  # fmt: skip
LLAMA_COLUMNS = (
    "id", "program", "build", "model", "ctx_size", "slots", "ubatch", "batch", "flash_attn", "kv_unified", "swa_full",
    "mla_mode", "k_dtype", "v_dtype", "kv_mib", "total_mib", "state_mib", "compute_mib", "reason", "source",
)  # fmt: skip


def merged(path: str, ledgers: Sequence[Ledger], log: str, *, gpu: str | None) -> str:
    """Writes the text of the case file `path` with a row for each ledger; a new file has the columns of its rows.

    Raises KvplanError where it is no case file, or one of the other kind: llama.cpp's rows have columns of their own.
    """
    shown = one_line(path, 80)
    rows = [_llama_row(made) if made.engine in LLAMA_PROGRAMS else _server_row(made, gpu) for made in ledgers]
    name = os.path.splitext(os.path.basename(log))[0] or "log"
    for row in rows:
        row |= {"id": one_line(name, 60), "source": one_line(log, 200)}
    old = _text(path, shown) if os.path.exists(path) else ""
    header = csv_rows(old, 1)
    if header is None:
        raise KvplanError(f"--record {shown} is no CSV file; name a new file, or a case file")
    columns = next(iter(header), [])
    if not columns:
        columns = list(dict.fromkeys(column for row in rows for column in _columns_of(row)))
    for row in rows:
        kind = "program" if "program" in row else "engine"
        if kind not in columns:
            raise KvplanError(
                f"--record {shown} has no column `{kind}`; name a new file, or a case file of "
                f"{'llama.cpp' if kind == 'program' else 'servers with a pool'}"
            )
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore", restval="")
    if not old:
        writer.writeheader()
    writer.writerows(rows)
    return old + ("" if not old or old.endswith("\n") else "\n") + out.getvalue()


def _columns_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    return LLAMA_COLUMNS if "program" in row else SERVER_COLUMNS


def _text(path: str, shown: str) -> str:
    try:
        return read_text(path, most_bytes=MOST_BYTES, what="a case file (CSV)", option="--record")
    except KvplanError as error:
        raise KvplanError(f"{error}; --record {shown} stays as it was") from None


def _server_row(made: Ledger, gpu: str | None) -> dict[str, Any]:
    assert made.run is not None
    run = made.run
    row: dict[str, Any] = {name: _plain(run.smallest(name)) for name in AS_LOGGED}
    row |= {column: _plain(run.smallest(fact)) for column, fact in RENAMED.items()}
    return row | {
        "engine": f"vllm-{generation(run)}" if made.engine == "vllm" else made.engine,
        "version": made.version or "",
        "model": _model(made),
        "tp": made.tp,
        "pp": made.pp,
        "kv_dtype": made.kv_dtype or "",
        "weight_dtype": made.weight_dtype or "",
        "gpu": gpu or "",
        "gpu_memory_gib": _plain(run.smallest("card_gib")),
    }


def _llama_row(made: Ledger) -> dict[str, Any]:
    """One buffer of cells as it is printed; windows and full layers, or several devices, as their sum."""
    assert made.run is not None
    run = made.run
    parts = run.all("kv_mib") or run.all("kv_self_mib") or run.all("kv_device_mib")
    ctx = run.whole("n_ctx") or run.whole("ctx_size")
    total = made.logged_bytes("KV cache")
    k, v = (GGML_NAMES.get((run.text(name) or "").lower(), (run.text(name) or "").lower()) for name in ("k_type", "v_type"))  # fmt: skip
    devices = {name: value for name, value in run.by_key("compute_mib").items() if not _on_host(name)}
    return {
        "program": made.engine,
        "build": (made.version or "").removeprefix("b"),
        "model": _model(made),
        "ctx_size": ctx or "",
        "slots": run.positive("n_seq_max") or run.positive("parallel") or 1,
        "ubatch": _plain(run.smallest("n_ubatch")),
        "batch": _plain(run.smallest("n_batch")),
        "flash_attn": {True: "on", False: "off", None: ""}[flash_attention(run)],
        "kv_unified": int((run.text("kv_unified") or "").lower() == "true"),
        "swa_full": int(ctx is not None and window_in_full(run, ctx)),
        "mla_mode": _plain(run.smallest("mla_attn")),
        "k_dtype": k,
        "v_dtype": v,
        "kv_mib": parts[0].replace(",", "") if len(parts) == 1 else "",
        "total_mib": f"{total / 2**20:.2f}" if total is not None and len(parts) != 1 else "",
        "state_mib": _plain(run.smallest("state_mib")),
        "compute_mib": next(iter(devices.values())).replace(",", "") if len(devices) == 1 else "",
    }


def _on_host(device: str) -> bool:
    return device.upper().endswith(("HOST", "CPU"))


def _model(made: Ledger) -> str:
    return made.model or "" if made.taken_as in (None, BY_DIMENSIONS) else str(made.taken_as)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    return str(int(value)) if value.denominator == 1 else f"{float(value):.6g}"
