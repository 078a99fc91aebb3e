"""llama-bench's rows (-o json, jsonl, csv, md): prompts processed (pp) and tokens generated (tg), alone on the device.

llama.cpp b1300 to b11434: n_prompt, n_gen, n_depth, avg_ns, avg_ts, model_filename, model_type, build_number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from planner.files.read import csv_rows
from planner.measured.points import MeasuredFile, MeasuredPoint, at, count, number, strange, words

TOOL = "llama-bench"
MOST_ROWS = 10_000
# tools/llama-bench/llama-bench.cpp, test::get_fields, and what builds since b1300 had there
KEYS = frozenset(
    "build_commit build_number cpu_info gpu_info backends model_filename model_type model_size model_n_params n_batch n_ubatch "
    "n_threads cpu_mask cpu_strict poll type_k type_v n_gpu_layers n_cpu_moe split_mode main_gpu no_kv_offload flash_attn devices "
    "tensor_split tensor_buft_overrides use_mmap use_direct_io embeddings no_op_offload no_host fit_target fit_min_ctx n_prompt "
    "n_gen n_depth test_time avg_ns stddev_ns avg_ts stddev_ts samples_ns samples_ts cuda opencl vulkan kompute metal sycl rpc "
    "gpu_blas blas mul_mat_q numa f16_kv reps n_kv_max tensor_split_buft hip musa cann load_mode repack".split()
)
# How the table calls its columns: markdown_printer::get_field_display_name, of ik_llama.cpp too
COLUMNS = KEYS | frozenset(
    "model size params backend test t/s ngl sm mg threads nkvo fa lm mmap dio embd nopo noh rpk dev ts ot fitt fitc ncmoe mla amb fmoe ser rtr".split()
)
_TEST = re.compile(r"(?:pp\s?(\d{1,9}))?\s?\+?\s?(?:tg\s?(\d{1,9}))?(?:\s?@\s?d(\d{1,9}))?")
_SPEED = re.compile(r"([\d.]{1,20})\s*(?:±.*)?")


def llama_bench(rows: Iterable[Mapping[str, Any]]) -> MeasuredFile | None:
    """Reads a point for each row of -o json, jsonl or csv; None where the rows are of something else."""
    rows = list(rows)[:MOST_ROWS]
    if not rows or not all("n_prompt" in row and "avg_ts" in row for row in rows):
        return None
    points = tuple(point for row in rows if (point := _row(row)) is not None)
    left = len(rows) - len(points)
    notes = strange(dict.fromkeys((key for row in rows for key in row), 0), KEYS, TOOL)
    return MeasuredFile(TOOL, points, ((f"{left} rows have no speed",) if left else ()) + notes)


def llama_bench_csv(text: str) -> MeasuredFile | None:
    """Reads a point for each row of -o csv."""
    if "n_prompt" not in text[:4000] or "avg_ts" not in text[:4000]:
        return None
    lines = [line for line in text.splitlines() if not line.startswith(("ggml_", "load_", "Device ", "  Device "))]
    header, *rows = csv_rows("\n".join(lines), MOST_ROWS + 1) or [[]]
    return llama_bench([dict(zip(header, row, strict=False)) for row in rows if row])


def llama_bench_md(text: str) -> MeasuredFile | None:
    """Reads the table that llama-bench prints by default: the last two columns are `test` and `t/s`."""
    header: list[str] = []
    points, left, build = list[MeasuredPoint](), 0, re.search(r"^build: \w+ \((\d{1,6})\)", text, re.MULTILINE)
    for line in text.splitlines()[:MOST_ROWS]:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.lstrip().startswith("|") else []
        if "test" in cells and "t/s" in cells:
            header = cells
        elif header and len(cells) == len(header) and not set("".join(cells)) <= set("-: "):
            point = _md_row(dict(zip(header, cells, strict=True)), build[1] if build else None)
            points, left = ([*points, point], left) if point else (points, left + 1)
    if not header:
        return None
    notes = strange(dict.fromkeys(header, 0), COLUMNS, TOOL)
    return MeasuredFile(
        TOOL, tuple(points), ((f"{left} rows of the table were not understood",) if left else ()) + notes
    )


def _md_row(row: Mapping[str, str], build: str | None) -> MeasuredPoint | None:
    test, speed = _TEST.fullmatch(row["test"][:60]), _SPEED.fullmatch(row["t/s"][:60])
    if not test or not speed or not (test[1] or test[2]):
        return None
    prompt, output, depth = (int(part or 0) for part in test.groups())
    return _point(prompt, output, depth, number(speed[1]), words(row.get("model")), build, 1)


def _row(row: Mapping[str, Any]) -> MeasuredPoint | None:
    prompt, output, depth = (count(row.get(key)) or 0 for key in ("n_prompt", "n_gen", "n_depth"))
    model = words(row.get("model_filename")) or words(row.get("model_type"))
    build = words(str(row.get("build_number") or "")) or None
    return _point(prompt, output, depth, number(row.get("avg_ts")), model, build, count(at(row, "reps")))


def _point(  # parameters: the columns of a row
    prompt: int,
    output: int,
    depth: int,
    per_s: float | None,
    model: str | None,
    build: str | None,
    requests: int | None,
) -> MeasuredPoint | None:
    """pp is a prefill, tg a decode from an empty context or from `depth`; both together (pg) part nothing and are left."""
    if per_s is None or not (prompt or output) or (prompt and output):
        return None
    said = {
        "tool": TOOL, "source": "", "load": "static", "engine": "llamacpp", "version": f"b{build}" if build else None,
        "model": model, "sequences": 1.0, "requests": requests,
    }  # fmt: skip
    if prompt:
        alone = None if depth else prompt / per_s  # behind a context it is no first token
        return MeasuredPoint(**said, prompt_tokens=float(prompt), output_tokens=1.0, ttft_seconds=alone, prefill_tokens_per_s=per_s)  # type: ignore[arg-type]  # fmt: skip
    return MeasuredPoint(
        **said, prompt_tokens=float(max(1, depth)), output_tokens=float(output), tpot_seconds=1 / per_s, output_tokens_per_s=per_s,  # type: ignore[arg-type]
    )  # fmt: skip
