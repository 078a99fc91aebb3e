"""Answers of `kvplan plan --json`: read, and their rows as data frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from planner.errors import KvplanError, one_line
from planner.files.read import figure, parse_json, read_text, visible
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
TEXTS = ("device", "layout", "weight_dtype", "kv_dtype", "binds")
FLAGS = ("meets_targets", "front")
OPTIONAL = ("usd_per_hour", "utilisation", "tpot_seconds_low", "ttft_seconds_low")  # null, or nought


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
    """Reads the answers in these files; KvplanError for a file that is none."""
    found = [PlanFile(run_name(path), path, _read(path)) for path in dict.fromkeys(paths)]
    names = unique([plan.name for plan in found])
    return tuple(PlanFile(name, plan.path, plan.data) for name, plan in zip(names, found, strict=True))


def _read(path: str) -> Mapping[str, Any]:
    shown = f"--plan {one_line(path, 80)}"
    text = read_text(path, most_bytes=MAX_BYTES, what="an answer of `kvplan plan --json`", option="--plan")
    try:
        data = parse_json(text, shown)
        _check(data, shown)
    except KvplanError as error:
        raise KvplanError(f"{error}; this is no answer of `kvplan plan --json`") from None
    return data  # type: ignore[no-any-return]


def _check(data: Any, shown: str) -> None:
    """Raises KvplanError, naming the key, where it lacks what the figure and the table read, or holds another kind."""
    if not isinstance(data, dict) or not isinstance(data.get("model"), str):
        raise KvplanError(f"{shown}: wants an object with a model")
    if visible(data["model"]) != data["model"]:
        raise KvplanError(f"{shown}: model holds a character that cannot be shown")
    load, targets = (_object(data, name, shown) for name in ("load", "targets"))
    if load.get("users") is None and load.get("rate_per_s") is None:
        raise KvplanError(f"{shown}: load lacks both users and rate_per_s")
    for part, held, names in (
        ("load", load, ("users", "rate_per_s")),
        ("targets", targets, ("ttft_seconds", "tpot_seconds")),
    ):
        for key in names:
            if held.get(key) is not None:
                figure(held[key], f"{shown}: {part}.{key}", low=1e-9, high=1e12)
            else:
                held[key] = None
    for name, keys in (("points", POINT_KEYS), ("plans", ROW_KEYS)):
        listed = data.get(name)
        if not isinstance(listed, list):
            raise KvplanError(f"{shown}: {name} wants a list")
        for index, row in enumerate(listed):
            _check_row(row, keys, f"{shown}: {name}[{index}]")
    priced = [row for row in data["points"] if row["usd_per_hour"]]
    if priced and not any(row["front"] for row in priced):
        raise KvplanError(f"{shown}: no point is on the front, of which a plan has one at least")


def _object(data: Mapping[str, Any], name: str, shown: str) -> dict[str, Any]:
    found = data.get(name)
    if not isinstance(found, dict):
        raise KvplanError(f"{shown}: {name} wants an object")
    return found


def _check_row(row: Any, keys: Sequence[str], where: str) -> None:
    if not isinstance(row, dict):
        raise KvplanError(f"{where} wants an object")
    for key in keys:
        if key not in row:
            raise KvplanError(f"{where} lacks {key}")
        value, place = row[key], f"{where}.{key}"
        if key in TEXTS:
            if not isinstance(value, str) or visible(value) != value:
                raise KvplanError(f"{place}: wants a text that can be shown, found {one_line(repr(value), 40)}")
        elif key in FLAGS:
            if not isinstance(value, bool) and not (key == "meets_targets" and value is None):
                raise KvplanError(f"{place}: wants true or false, found {one_line(repr(value), 40)}")
        elif not (value is None and key in OPTIONAL):
            figure(value, place, low=0 if key in OPTIONAL else 1e-12, high=1e12)


def points(plan: PlanFile) -> pd.DataFrame:
    """Returns every deployment that was looked at and has a price: cost against TPOT, and whether nothing is better in
    both.
    """
    frame = pd.DataFrame([{key: row[key] for key in POINT_KEYS} for row in plan.data["points"] if row["usd_per_hour"]])
    if frame.empty:
        return frame
    return frame.assign(plan=plan.asked, tpot_target_seconds=plan.data["targets"]["tpot_seconds"])


def rows(plan: PlanFile) -> pd.DataFrame:
    """Returns the plans that meet the targets, the best first."""
    frame = pd.DataFrame([{key: row[key] for key in ROW_KEYS} for row in plan.data["plans"]], columns=list(ROW_KEYS))
    return frame.rename(columns={"utilisation": "utilisation_share", "usd_per_hour": "usd_per_h"})


def best_words(plan: PlanFile) -> str:
    """Says the first of the ranking in a sentence, or that there is none."""
    if not plan.data["plans"]:
        return f"Nothing that was searched meets the targets of {plan.asked}."
    best = plan.data["plans"][0]
    cost = "no price known" if best["usd_per_hour"] is None else f"{best['usd_per_hour']:,.2f} USD/h"
    return (
        f"{best['devices']} x {best['device']} ({best['layout']}), weights in {best['weight_dtype']}, KV in "
        f"{best['kv_dtype']}: {cost}, {seconds(best['tpot_seconds'])} a token, first token in {seconds(best['ttft_seconds'])}."
    )


def front_sees(frame: pd.DataFrame) -> str:
    """Says what to see in the figure of cost against TPOT."""
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
    """Describes the figure of cost against TPOT for those who do not see it."""
    front = frame[frame["front"]].sort_values("usd_per_hour")
    named = [f"{row['usd_per_hour']:,.2f} USD/h {seconds(row['tpot_seconds'])}" for row in front.to_dict("records")]
    devices = listing(dict.fromkeys(map(str, frame["device"])))
    return f"Cost an hour against time between tokens of {len(frame):,} deployments on {devices}. On the front: {listing(named)}."
