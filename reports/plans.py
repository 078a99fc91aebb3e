"""Answers of `kvplan plan --json`: read, and their rows as data frames."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from planner.errors import KvplanError, one_line
from planner.units import significant
from reports.runs import run_name, unique
from reports.words import listing, seconds

MAX_BYTES = 64 << 20
POINT_KEYS = ("device", "devices", "layout", "weight_dtype", "kv_dtype", "usd_per_hour", "tpot_seconds", "ttft_seconds", "meets_targets", "front")  # fmt: skip
ROW_KEYS = (
    "device", "devices", "replicas", "layout", "weight_dtype", "kv_dtype", "usd_per_hour", "tpot_seconds",
    "tpot_seconds_low", "tpot_seconds_high", "ttft_seconds", "ttft_seconds_low", "ttft_seconds_high", "utilisation",
    "binds",
)  # fmt: skip
NUMBERS = ("devices", "usd_per_hour", "tpot_seconds", "ttft_seconds")


@dataclass(frozen=True, eq=False)
class PlanFile:
    """An answer and the name it goes by."""

    name: str
    path: str
    data: Mapping[str, Any]

    @property
    def asked(self) -> str:
        """The load and the targets in words."""
        load, targets = self.data["load"], self.data["targets"]
        who = f"{load['users']:,} users at once" if load["users"] else f"{significant(load['rate_per_s'])} requests/s"
        words = [f"{name} {seconds(value)}" for name, value in (("TTFT", targets["ttft_seconds"]), ("TPOT", targets["tpot_seconds"])) if value]  # fmt: skip
        return f"{self.data['model']} for {who}" + (f", {' and '.join(words)}" if words else "")


def load_plans(paths: Sequence[str]) -> tuple[PlanFile, ...]:
    """The answers in these files; KvplanError for a file that is none."""
    found = [PlanFile(run_name(path), path, _read(path)) for path in dict.fromkeys(paths)]
    names = unique([plan.name for plan in found])
    return tuple(PlanFile(name, plan.path, plan.data) for name, plan in zip(names, found, strict=True))


def _read(path: str) -> Mapping[str, Any]:
    shown = one_line(path, 80)
    wrong = KvplanError(f"--plan {shown} is no answer of `kvplan plan --json`; write one with --json -o FILE")
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
            raise wrong
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise KvplanError(f"--plan {shown} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise wrong from None
    if not _sound(data):
        raise wrong
    return data  # type: ignore[no-any-return]


def _sound(data: Any) -> bool:
    """Whether it holds what the figure and the table read, in the types they read it in."""
    if not isinstance(data, dict) or not isinstance(data.get("model"), str):
        return False
    load, targets = data.get("load"), data.get("targets")
    if not isinstance(load, dict) or not isinstance(targets, dict):
        return False
    if not (_number(load.get("users")) or _number(load.get("rate_per_s"))):
        return False
    if not all(targets.get(name) is None or _number(targets[name]) for name in ("ttft_seconds", "tpot_seconds")):
        return False
    points, plans = data.get("points"), data.get("plans")
    if not isinstance(points, list) or not isinstance(plans, list):
        return False
    return all(_sound_row(row, POINT_KEYS) for row in points) and all(_sound_row(row, ROW_KEYS) for row in plans)


def _sound_row(row: Any, keys: Sequence[str]) -> bool:
    if not isinstance(row, dict) or not all(key in row for key in keys):
        return False
    priced = [name for name in NUMBERS if not (name == "usd_per_hour" and row[name] is None)]
    return all(_number(row[name]) for name in priced) and all(
        isinstance(row[name], str) for name in ("device", "layout", "weight_dtype", "kv_dtype")
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def points(plan: PlanFile) -> pd.DataFrame:
    """Every deployment that was looked at and has a price: cost against TPOT, and whether nothing is better in both."""
    frame = pd.DataFrame([{key: row[key] for key in POINT_KEYS} for row in plan.data["points"] if row["usd_per_hour"]])
    if frame.empty:
        return frame
    return frame.assign(plan=plan.asked, tpot_target_seconds=plan.data["targets"]["tpot_seconds"])


def rows(plan: PlanFile) -> pd.DataFrame:
    """The plans that meet the targets, the best first."""
    frame = pd.DataFrame([{key: row[key] for key in ROW_KEYS} for row in plan.data["plans"]], columns=list(ROW_KEYS))
    return frame.rename(columns={"utilisation": "utilisation_share", "usd_per_hour": "usd_per_h"})


def best_words(plan: PlanFile) -> str:
    """The first of the ranking in a sentence, or that there is none."""
    if not plan.data["plans"]:
        return f"Nothing that was searched meets the targets of {plan.asked}."
    best = plan.data["plans"][0]
    cost = "no price known" if best["usd_per_hour"] is None else f"{best['usd_per_hour']:,.2f} USD/h"
    return (
        f"{best['devices']} x {best['device']} ({best['layout']}), weights in {best['weight_dtype']}, KV in "
        f"{best['kv_dtype']}: {cost}, {seconds(best['tpot_seconds'])} a token, first token in {seconds(best['ttft_seconds'])}."
    )


def front_sees(frame: pd.DataFrame) -> str:
    """What to see in the figure."""
    front = frame[frame["front"]].sort_values("usd_per_hour")
    first, last = front.iloc[0], front.iloc[-1]
    words = (
        f"{frame['plan'].iloc[0]}: the line joins the deployments that no other beats in both cost and time a token."
    )
    low = f"{int(first['devices'])} x {first['device']} at {first['usd_per_hour']:,.2f} USD/h and {seconds(first['tpot_seconds'])}"
    if len(front) == 1:
        return f"{words} There is one: {low}."
    high = f"{int(last['devices'])} x {last['device']} at {last['usd_per_hour']:,.2f} USD/h and {seconds(last['tpot_seconds'])}"
    return f"{words} It runs from {low} a token to {high}; filled points meet the targets, hollow ones do not."


def front_alt(frame: pd.DataFrame) -> str:
    front = frame[frame["front"]].sort_values("usd_per_hour")
    named = [f"{row['usd_per_hour']:,.2f} USD/h {seconds(row['tpot_seconds'])}" for row in front.to_dict("records")]
    devices = listing(dict.fromkeys(map(str, frame["device"])))
    return f"Cost an hour against time between tokens of {len(frame):,} deployments on {devices}. On the front: {listing(named)}."
