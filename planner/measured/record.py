"""Rows of a case file for points of benchmarks, in the columns of `tests/cases/serving_speed.csv`: a row a time.

model, gpu, tp, pp, ep, weight_dtype, kv_dtype, engine, engine_version, load, batch, prompt, output, measured, value, apart, source,
dp, note. `measured` is ttft_ms, tpot_ms or request_ms; a value is a mean.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from planner.errors import KvplanError, one_line
from planner.files.read import csv_rows, read_text
from planner.measured.points import MeasuredPoint

MOST_BYTES = 64 << 20
COLUMNS = (
    "model", "gpu", "tp", "pp", "ep", "weight_dtype", "kv_dtype", "engine", "engine_version", "load", "batch", "prompt",
    "output", "measured", "value", "apart", "source", "dp", "note",
)  # fmt: skip
LOADS = {"serving": "closed_loop", "static": "static_batch"}


def merged_points(path: str, points: Sequence[MeasuredPoint], known: Mapping[str, Any]) -> str:
    """Writes the text of the case file `path` with a row for each time of each point; a row that is there is not added again.

    known   what the user says beside: model, gpu, tp, pp, weight_dtype, kv_dtype, engine
    Raises KvplanError where the file is none of speeds.
    """
    shown = one_line(path, 80)
    old = _old(path, shown)
    header = csv_rows(old, 1)
    columns = list(COLUMNS) if not old else next(iter(header or []), [])
    if lacks := [name for name in ("model", "batch", "measured", "value") if name not in columns]:
        raise KvplanError(
            f"--record {shown} has no column `{lacks[0]}`: rows of speeds have columns of their own; name a new file"
        )
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", extrasaction="ignore", restval="")
    if not old:
        writer.writeheader()
    written = set(old.splitlines())
    for row in (row for point in points for row in rows_of(point, known)):
        line = io.StringIO()
        csv.DictWriter(line, columns, lineterminator="\n", extrasaction="ignore", restval="").writerow(row)
        if line.getvalue().rstrip("\n") not in written:
            written.add(line.getvalue().rstrip("\n"))
            out.write(line.getvalue())
    return old + ("" if not old or old.endswith("\n") else "\n") + out.getvalue()


def rows_of(point: MeasuredPoint, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists the rows of a point; none where it does not say requests at once and lengths."""
    found = point.observed()
    if found is None:
        return []
    times = (("ttft_ms", point.ttft_seconds), ("tpot_ms", point.tpot_seconds), ("request_ms", point.request_seconds))
    shared = {
        "model": known.get("model") or point.model or "", "gpu": known.get("gpu") or "", "tp": known.get("tp") or 1,
        "pp": known.get("pp") or 1, "ep": 1, "weight_dtype": known.get("weight_dtype") or "",
        "kv_dtype": known.get("kv_dtype") or "", "engine": known.get("engine") or point.engine or "",
        "engine_version": known.get("engine_version") or "", "load": LOADS[point.load], "batch": found.batch,
        "prompt": found.prompt_tokens, "output": found.output_tokens, "source": one_line(point.source, 200), "dp": 1,
        "note": f"{point.tool}{f' {point.version}' if point.version else ''}",
    }  # fmt: skip
    return [{**shared, "measured": name, "value": f"{1e3 * value:.6g}"} for name, value in times if value is not None]


def _old(path: str, shown: str) -> str:
    """Reads the file as it is; "" where there is none yet."""
    if not os.path.exists(path):
        return ""
    try:
        old = read_text(path, most_bytes=MOST_BYTES, what="a case file (CSV)", option="--record")
    except KvplanError as error:
        raise KvplanError(f"{error}; --record {shown} stays as it was") from None
    if csv_rows(old, 1) is None:
        raise KvplanError(f"--record {shown} is no CSV file; name a new file, or a case file")
    return old
