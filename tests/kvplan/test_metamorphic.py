"""Rules that hold between answers, whatever the model, device and length: drawn from the whole catalogue.

Nothing here knows a right number; each rule compares two answers of kvplan, as a reader with a calculator would.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import kvplan
from planner.catalogue.entries import devices, models
from planner.engines.registry import ENGINES
from planner.errors import KvplanError

SEED = 20261129
GPUS = ("l4", "rtx-4090", "a100-80gb-sxm", "h100-sxm", "b200", "mi300x")


def drawn(count: int, salt: int) -> Iterator[random.Random]:
    """`count` generators; the same on every run, so that a failure can be repeated."""
    for index in range(count):
        yield random.Random(f"{SEED} {salt} {index}")


def a_model(draw: random.Random) -> str:
    return str(draw.choice(models()).name)


def answered(ask: Callable[[], Any]) -> Any:
    """The answer, or None where kvplan refuses this model or layout in words."""
    try:
        return ask()
    except KvplanError as refused:
        assert "\n" not in str(refused)
        return None


def _numbers(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object of an answer with its path."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from _numbers(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _numbers(value, f"{path}[{index}]")


def check_ranges(answer: Any, asked: object) -> None:
    """x_low <= x <= x_high wherever an answer has all three, and nothing that counts bytes or tokens is negative."""
    for path, node in _numbers(answer):
        for key, value in node.items():
            low, high = node.get(f"{key}_low"), node.get(f"{key}_high")
            if all(isinstance(one, (int, float)) for one in (value, low, high)):
                assert low <= value <= high, (asked, path, key, low, value, high)
            if key.endswith(("_bytes", "_tokens", "_seconds", "fraction")) and isinstance(value, (int, float)):
                assert value >= 0 or key in ("free_bytes", "pool_bytes"), (asked, path, key, value)


@pytest.mark.parametrize("draw", list(drawn(40, 1)), ids=range(40))
def test_memory_grows_with_length_and_with_batch_and_ranges_hold(draw: random.Random) -> None:
    name, seq, batch = a_model(draw), draw.randint(1, 20_000), draw.randint(1, 64)
    gpu = draw.choice(GPUS)
    ask = [answered(lambda s=s, b=b: kvplan.estimate(name, seq=s, batch=b, gpu=gpu)) for s, b in  # type: ignore[misc]
           ((seq, batch), (seq + draw.randint(1, 5000), batch), (seq, batch + draw.randint(1, 9)))]  # fmt: skip
    first, longer, more = ask
    if first is None or longer is None or more is None:
        return
    one = first.to_dict()
    check_ranges(one, (name, seq, batch, gpu))
    for other in (longer.to_dict(), more.to_dict()):
        assert other["kv_bytes"] >= one["kv_bytes"], (name, seq, batch)
        assert other["per_device"]["total_bytes"] >= one["per_device"]["total_bytes"], (name, seq, batch)
    assert more["kv_bytes"] * batch == one["kv_bytes"] * more["batch"], (name, seq, batch)


@pytest.mark.parametrize("draw", list(drawn(14, 2)), ids=range(14))
def test_the_most_sequences_fit_and_one_more_does_not(draw: random.Random) -> None:
    name, gpu, seq = a_model(draw), draw.choice(GPUS), draw.choice((512, 2048, 8192))
    found = answered(lambda: kvplan.fit(name, gpu=gpu, seq=seq))
    if found is None or not 0 < (found["most_sequences"] or 0) < 10**6:
        return
    most = found["most_sequences"]
    verdicts = [answered(lambda n=n: kvplan.estimate(name, gpu=gpu, seq=seq, batch=n)) for n in (most, most + 1)]  # type: ignore[misc]
    if None not in verdicts:
        assert [verdict["per_device"]["fits"] for verdict in verdicts] == [True, False], (name, gpu, seq, most)


@pytest.mark.parametrize("draw", list(drawn(20, 3)), ids=range(20))
def test_devices_together_hold_at_least_the_whole_and_each_no_more_than_one_alone(draw: random.Random) -> None:
    name, ranks = a_model(draw), draw.choice((2, 4, 8))
    one = answered(lambda: kvplan.estimate(name, seq=4096))
    many = answered(lambda: kvplan.estimate(name, seq=4096, tp=ranks))
    if one is None or many is None:
        return
    for key in ("kv_bytes", "weight_bytes"):
        whole, part = one["per_device"][key], many["per_device"][key]
        assert part <= whole <= part * ranks, (name, ranks, key, whole, part)


@pytest.mark.parametrize("draw", list(drawn(8, 4)), ids=range(8))
def test_the_command_the_function_and_the_csv_say_the_same(draw: random.Random, run: Callable[..., Any]) -> None:
    name, seq, batch = a_model(draw), draw.randint(1, 9000), draw.randint(1, 16)
    found = answered(lambda: kvplan.estimate(name, seq=seq, batch=batch, gpu="l4"))
    words = ("estimate", name, "--seq", str(seq), "--batch", str(batch), "--gpu", "l4")
    if found is None:
        assert run(*words, "--json").code == 1
        return
    as_json = run(*words, "--json")
    assert json.loads(as_json.out) == json.loads(json.dumps(found.to_dict())), words
    assert as_json.code == found.exit_code == run(*words).code
    (row,) = csv.DictReader(io.StringIO(run(*words, "--csv").out))
    assert int(row["kv_bytes"]) == found["kv_bytes"] and int(row["weight_bytes"]) == found["weight_bytes"]


@pytest.mark.parametrize("draw", list(drawn(20, 5)), ids=range(20))
def test_a_speed_lies_in_its_range_and_never_beats_its_bound(draw: random.Random) -> None:
    name, gpu, batch = a_model(draw), draw.choice(GPUS), draw.choice((1, 4, 32))
    found = answered(lambda: kvplan.speed(name, gpu=gpu, batch=batch))
    if found is None:
        return
    answer = found.to_dict()
    check_ranges(answer, (name, gpu, batch))
    for key in ("ttft_seconds", "tpot_seconds", "request_seconds"):
        if answer[key] is not None:
            assert answer[key] >= answer[f"{key}_bound"] * (1 - 1e-9), (name, gpu, batch, key)
    for key in ("decode_tokens_per_s", "prefill_tokens_per_s"):
        if answer[key] is not None:
            assert answer[key] <= answer[f"{key}_bound"] * (1 + 1e-9), (name, gpu, batch, key)


@pytest.mark.parametrize("draw", list(drawn(30, 6)), ids=range(30))
def test_an_engines_figures_lie_in_their_ranges_on_any_number_of_ranks(draw: random.Random) -> None:
    """At 16 and 64 ranks a pool once lay outside its own range (non-torch memory of vLLM 0.6.6)."""
    engine, name = draw.choice(sorted(ENGINES)), draw.choice(("gpt2", "llama-3.1-70b", a_model(draw)))
    ranks = draw.choice((1, 2, 8, 16, 32, 64))
    version = draw.choice(("", "==0.6.6.post1")) if engine == "vllm" else ""
    found = answered(lambda: kvplan.engine(name, f"{engine}{version}", gpu=draw.choice(GPUS), tp=ranks))
    if found is not None:
        check_ranges(found.to_dict(), (engine, version, name, ranks))


@pytest.mark.parametrize("ranks", [1, 2, 8, 9, 16, 64])
def test_vllm_0_6_6_over_many_ranks_lies_in_its_range(ranks: int) -> None:
    for name in ("gpt2", "llama-3.1-70b", "deepseek-v3"):
        found = answered(lambda name=name: kvplan.engine(name, "vllm==0.6.6.post1", gpu="h100-sxm", tp=ranks))  # type: ignore[misc]
        if found is not None:
            check_ranges(found.to_dict(), (name, ranks))


PLANNED = [
    ("llama-3.1-8b", 5, "l40s,h100-sxm"), ("llama-3.1-8b", 40, "l40s,h100-sxm"), ("qwen3-30b-a3b", 12, "a100-80g,l4"),
    ("gpt-oss-20b", 30, "rtx-4090,h100-sxm"), ("gemma-3-27b", 8, "h100-sxm"), ("deepseek-v2-lite", 20, "l40s"),
    ("llama-3.1-70b", 6, "h100-sxm"), ("qwen2.5-0.5b", 200, "l4"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "users", "gpus"), PLANNED)
def test_the_plan_that_is_ranked_first_fits_by_estimate(name: str, users: int, gpus: str) -> None:
    found = kvplan.plan(
        name, users=users, prompt=1000, answer=200, tpot="80ms", ttft="4s", gpu=gpus.split(","), as_published=True
    )
    best = found["plans"][0]
    gpu = next(one.name for one in devices() if best["device"] in (one.name, getattr(one, "label", one.name)))
    per_replica = best["devices"] // best["replicas"]
    each = -(-users // best["replicas"])
    held = kvplan.estimate(name, seq=1200, batch=each, gpu=gpu, kv_dtype=best["kv_dtype"], tp=per_replica)
    assert held["per_device"]["fits"], best
