"""Writes docs/examples.md: python docs/examples.py [--check | --time]

Five questions to `kvplan plan` with their answers, and under each the arithmetic of the winning row worked out again
from the published dimensions of the model, which are typed in here, so that a reader can redo it. The script stops
where the two differ by more than the tolerance beside each line. --time prints the CPU seconds of each command.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "examples.md"
GENERATED = "<!-- written by `python docs/examples.py`; edit that, not this -->\n\n"
GIB = 1 << 30
Z95 = 1.6449  # standard deviations to the 95th percentile
BITS = {"bf16": 16, "fp16": 16, "fp8": 8, "fp8_block": 8, "int8": 8, "awq": 4 + 20 / 128, "q8_0": 8.5, "q4_k_m": 4.5}
Q6_K = 6.5625  # bits of what a q4_k_m file keeps finer: the head, and V and the down projections of half the layers
BANDWIDTH = {"H100-SXM5-80GB": 3350e9, "H200-SXM-141GB": 4800e9, "RTX-4090-24GB": 1008e9, "RTX-3090-24GB": 936e9,
             "L40S": 864e9, "Apple-M4-Pro": 273e9, "Apple-M3-Pro": 150e9, "A100-SXM4-80GB": 2039e9}  # fmt: skip


@dataclass(frozen=True)
class Dense:
    """A dense model by its published config.json."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool = False

    @property
    def layer_words(self) -> str:
        return (
            f"{self.layers} x ({self.hidden} x ({self.heads} + 2 x {self.kv_heads}) x {self.head_dim} [q, k, v] + "
            f"{self.heads} x {self.head_dim} x {self.hidden} [out] + 3 x {self.hidden} x {self.intermediate} [MLP])"
        )

    @property
    def layer_parameters(self) -> int:
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def table_parameters(self) -> int:
        """Embedding and head; one table where they are tied."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def token_words(self) -> str:
        return f"2 x {self.layers} layers x {self.kv_heads} KV heads x {self.head_dim}"

    @property
    def token_elements(self) -> int:
        return 2 * self.layers * self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Latent:
    """DeepSeek-V3: 671.03 B parameters (the paper's 671 B), all but embedding, head and router in the weight format;
    a latent of 512 + 64 a token and layer that every rank holds whole."""

    layers: int = 61
    latent: int = 576
    parameters: float = 671.026e9
    tables: float = 2 * 129_280 * 7168


@dataclass(frozen=True)
class Example:
    title: str
    question: str
    command: str
    model: Dense | Latent
    output: tuple[int, int] = (0, 0)  # p50, p95


EXAMPLES = (
    Example(
        "A 7B chat on one consumer card",
        "Eight people chat with Mistral 7B at once. The fewest cards that keep the first token under a second and the "
        "text at reading speed or better (30 ms a token)? The hourly prices are the asker's own.",
        "kvplan plan mistral-7b-v0.3 --users 8 --prompt p50=500,p95=2000 --answer p50=250,p95=800 --longest 8k "
        "--ttft 1s --tpot 30ms --gpu rtx-4090,rtx-3090,rtx-4060ti-16gb --price rtx-4090=0.35/h,rtx-3090=0.22/h "
        "--sort devices --top 5",
        Dense(32, 4096, 14336, 32, 8, 128, 32768),
        (250, 800),
    ),
    Example(
        "A 70B at 32k for 200 users",
        "Long documents: prompts of 8,000 tokens in the middle and 24,000 at the 95th percentile, up to 32k with the "
        "answer, 200 users who each always have one request running.",
        "kvplan plan llama-3.1-70b --users 200 --prompt p50=8000,p95=24000 --answer p50=300,p95=1000 --longest 32k "
        "--ttft 10s --tpot 60ms --gpu h100-sxm,h200,a100-sxm4-80gb --top 5",
        Dense(80, 8192, 28672, 64, 8, 128, 128256),
        (300, 1000),
    ),
    Example(
        "DeepSeek-V3 for an office",
        "Sixty people at their desks, half a minute between reading an answer and the next question, and the model as "
        "it was published (fp8 weights).",
        "kvplan plan deepseek-v3 --users 60 --think 30s --prompt p50=1500,p95=8000 --answer p50=400,p95=1500 "
        "--longest 32k --ttft 3s --tpot 50ms --gpu h100-sxm,h200 --as-published --top 5",
        Latent(),
        (400, 1500),
    ),
    Example(
        "Agents with 90 % shared prefix",
        "Agents that send the same instructions and tools each time: 90 % of every prompt is one prefix. Eight requests "
        "a second, in vLLM's terms.",
        "kvplan plan qwen3-32b --engine vllm --rate 8/s --prompt p50=12000,p95=24000 --answer p50=150,p95=600 "
        "--longest 40k --prefix-share 0.9 --ttft 2s --tpot 40ms --gpu h100-sxm,l40s --top 5",
        Dense(64, 5120, 25600, 64, 8, 128, 151936),
        (150, 600),
    ),
    Example(
        "A classroom on laptops",
        "Thirty pupils ask a small model, twenty seconds between an answer and the next question. How many of the "
        "school's laptops have to serve it?",
        "kvplan plan llama-3.2-3b --users 30 --think 20s --prompt p50=300,p95=1500 --answer p50=200,p95=600 "
        "--longest 4k --ttft 3s --tpot 60ms --gpu apple-m3-pro,apple-m4-pro --sort devices --top 5",
        Dense(28, 3072, 8192, 24, 8, 128, 128256, tied=True),
        (200, 600),
    ),
)  # fmt: skip


class Working:
    """Lines of arithmetic, each beside the figure of the answer; stops where they are too far apart."""

    def __init__(self, title: str) -> None:
        self.title, self.lines = title, list[str]()

    def line(self, words: str, mine: float, answer: float, tolerance: float, write: str = "{:,.3g}") -> None:
        off = abs(mine / answer - 1)
        if off > tolerance:
            raise SystemExit(f"docs/examples.py: {self.title}: {words} = {mine:.6g}, the answer says {answer:.6g}")
        within = "the same" if off < 5e-4 else f"{100 * (mine / answer - 1):+.1f} %"
        self.lines.append(f"- {words} = {write.format(mine)} (kvplan: {write.format(answer)}, {within})")

    def say(self, words: str) -> None:
        self.lines.append(f"- {words}")


def working(example: Example, answer: dict[str, Any]) -> list[str]:
    """The winning row by hand."""
    plan, load = answer["plans"][0], answer["load"]
    done = Working(example.title)
    weights = _weights(done, example.model, plan)
    token = _token_bytes(done, example.model, plan)
    held = _held(done, example, load)
    _room(done, plan, load, token, held)
    _steps(done, example.model, plan, load, weights, token)
    _little(done, plan, load)
    _money(done, plan, load)
    return done.lines


def _weights(done: Working, model: Dense | Latent, plan: dict[str, Any]) -> float:
    """Bytes of weights on one device."""
    tp, bits = plan["sharding"]["tp"], BITS[plan["weight_dtype"]]
    own = plan["per_device"]["weight_bytes"]
    if isinstance(model, Latent):
        stored = (model.parameters - model.tables) * bits / 8 + model.tables * 2
        words = f"Weights: ({model.parameters / 1e9:.2f} B - {model.tables / 1e9:.2f} B) x {bits / 8:g} B + {model.tables / 1e9:.2f} B x 2 B [tables], over {tp} devices, GiB"
        done.line(words, stored / tp / GIB, own / GIB, 0.02)
        return stored / tp
    if plan["weight_dtype"] == "q4_k_m" and model.tied:
        return _k_quants(done, model, plan)
    table_bits = bits if plan["weight_dtype"].startswith("q") else 16
    stored = model.layer_parameters * bits / 8 + model.table_parameters * table_bits / 8
    tables = f"{model.table_parameters / 1e9:.3f} B x {table_bits / 8:g} B [embedding{' and head' if not model.tied else ''}]"
    words = f"Weights: {model.layer_words} = {model.layer_parameters / 1e9:.3f} B parameters, x {bits / 8:g} B + {tables}, over {tp} device{'s' if tp > 1 else ''}, GiB"
    done.line(words, stored / tp / GIB, own / GIB, 0.01)
    return stored / tp


def _k_quants(done: Working, model: Dense, plan: dict[str, Any]) -> float:
    """A q4_k_m file with a tied head: Q4_K, but Q6_K for the table and for V and the down projections of the first and last
    eighth of the layers and every third between (llama.cpp src/llama-quant.cpp, `use_more_bits`)."""
    bits, eighth, n = BITS["q4_k_m"], model.layers // 8, model.layers
    finer = sum(one < eighth or one >= 7 * n // 8 or (one - eighth) % 3 == 2 for one in range(n))
    each = model.hidden * (model.kv_heads * model.head_dim + model.intermediate)
    stored = (model.layer_parameters * bits + finer * each * (Q6_K - bits) + model.table_parameters * Q6_K) / 8
    words = (
        f"Weights: {model.layer_words} = {model.layer_parameters / 1e9:.3f} B parameters, x {bits / 8:g} B [Q4_K], and "
        f"{(Q6_K - bits) / 8:g} B more for V and down of {finer} layers: {finer} x {each / 1e6:.2f} M, + "
        f"{model.table_parameters / 1e9:.3f} B x {Q6_K / 8:g} B [embedding, Q6_K], over 1 device, GiB"
    )
    done.line(words, stored / GIB, plan["per_device"]["weight_bytes"] / GIB, 0.01)
    return stored


def _token_bytes(done: Working, model: Dense | Latent, plan: dict[str, Any]) -> float:
    """Cache of one token on one device."""
    tp, bits = plan["sharding"]["tp"], BITS[plan["kv_dtype"]]
    if isinstance(model, Latent):
        size = model.layers * model.latent * bits / 8
        done.say(
            f"KV a token: {model.layers} layers x {model.latent} x {bits / 8:g} B = {size:,.0f} B, held whole by each rank"
        )
        return size
    size = model.token_elements * bits / 8 / min(tp, model.kv_heads)
    done.say(f"KV a token and device: {model.token_words} x {bits / 8:g} B / {min(tp, model.kv_heads)} = {size:,.0f} B")
    return size


def _held(done: Working, example: Example, load: dict[str, Any]) -> float:
    """Mean tokens of a decoding sequence: its prompt, and half of an output that is long as often as it is met."""
    p50, p95 = example.output
    square = (math.log(p95 / p50) / Z95) ** 2
    tokens = load["prompt_tokens_mean"] + load["output_tokens_mean"] * math.exp(square) / 2
    words = (
        f"A decoding sequence holds its prompt and half an output, long ones met more often: "
        f"{load['prompt_tokens_mean']:,.0f} + {load['output_tokens_mean']:,.0f} x exp(s²) / 2 with s = ln({p95} / {p50}) / {Z95}, tokens"
    )
    done.line(words, tokens, load["decoding_tokens_mean"], 0.06, "{:,.0f}")
    return float(load["decoding_tokens_mean"])


def _room(done: Working, plan: dict[str, Any], load: dict[str, Any], token: float, held: float) -> None:
    device = plan["per_device"]
    left = device["capacity_bytes"] - device["weight_bytes"] - device["activation_bytes"] - device["overhead_bytes"]
    own = held - load["cached_tokens_mean"] if device["prefix_bytes"] else held
    words = f"Left for KV: {device['capacity_bytes'] / GIB:.2f} - {device['weight_bytes'] / GIB:.2f} - {device['activation_bytes'] / GIB:.2f} - {device['overhead_bytes'] / GIB:.2f} GiB"
    if device["prefix_bytes"]:
        done.say(
            f"{words} = {left / GIB:.2f} GiB; vLLM's own pool is {device['pool_bytes'] / GIB:.2f} GiB, of which the prefix "
            f"of the longest prompt takes {device['prefix_bytes'] / GIB:.2f} GiB once"
        )
    else:
        done.line(f"{words}, GiB", left / GIB, device["pool_bytes"] / GIB, 0.03)
    each = own * token
    done.line(
        f"Each takes {own:,.0f} tokens x {token:,.0f} B, MiB", each / 2**20, device["mean_sequence_bytes"] / 2**20, 0.06
    )
    average = (device["pool_bytes"] - device["prefix_bytes"]) / device["mean_sequence_bytes"]
    done.say(
        f"So {average:,.0f} of average length fit; {plan['admitted_per_rank']:,} are admitted (99 of 100 moments, at most "
        f"1,024), {plan['decoding_per_rank']:.1f} decode: it fits"
    )


def _steps(
    done: Working, model: Dense | Latent, plan: dict[str, Any], load: dict[str, Any], weights: float, token: float
) -> None:
    """The bound of a step, and what prompts add to it."""
    n, bandwidth = plan["decoding_per_rank"], BANDWIDTH[plan["device"]]
    held = load["decoding_tokens_mean"]
    if isinstance(model, Latent):
        experts = 58 * 256 * 3 * 7168 * 2048 * BITS[plan["weight_dtype"]] / 8 / plan["sharding"]["tp"]
        share = 1 - (1 - 8 / 256) ** (n + 1)
        read = weights - 129_280 * 7168 * 2 / plan["sharding"]["tp"] - (1 - share) * experts
        hit = f"{n + 1:.0f} tokens hit 1 - (1 - 8/256)^{n + 1:.0f} = {100 * share:.0f} % of the experts ({experts / GIB:.1f} GiB a device)"
        done.say(f"Weights read in a step: {hit}: {read / GIB:.2f} GiB")
        tolerance = 0.06
    else:
        table = (
            0
            if model.tied
            else model.vocab
            * model.hidden
            * (BITS[plan["weight_dtype"]] if plan["weight_dtype"].startswith("q") else 16)
            / 8
        )
        read = weights - table / plan["sharding"]["tp"]
        tolerance = 0.06
    words = f"The least time of a step: ({read / 1e9:.2f} GB of weights{'' if isinstance(model, Latent) else ' but the embedding'} + {n:.1f} x {held:,.0f} x {token:,.0f} B) / {bandwidth / 1e9:,.0f} GB/s, ms"
    done.line(words, (read + n * held * token) / bandwidth * 1e3, plan["tpot_seconds_bound"] * 1e3, tolerance)
    parts = plan["tpot_parts_seconds"]
    step = sum(value for name, value in parts.items() if name != "prompts of others")
    shown = " + ".join(f"{value * 1e3:.2f}" for name, value in parts.items() if name != "prompts of others")
    users = load["users"]
    ranks = plan["replicas"] * plan["sharding"]["dp"]
    others = 1.0 if users is None else 1 - 1 / math.ceil(users / ranks)
    share = others * plan["prefill_share"]
    words = f"TPOT: a step of {shown} ms, and others' prompts take {100 * share:.1f} % of the time: {step * 1e3:.2f} / (1 - {share:.3f}), ms"
    done.line(words, step / (1 - share) * 1e3, plan["tpot_seconds"] * 1e3, 0.02)


def _little(done: Working, plan: dict[str, Any], load: dict[str, Any]) -> None:
    ranks = plan["replicas"] * plan["sharding"]["dp"]
    rate, steps = plan["requests_per_s_per_rank"], load["output_tokens_mean"] - 1
    words = f"Little's law: {rate:.3f} requests/s a rank x {steps:,.0f} steps x {plan['tpot_seconds'] * 1e3:.2f} ms, decoding"
    done.line(words, rate * steps * plan["tpot_seconds"], plan["decoding_per_rank"], 0.01)
    if load["users"] is not None:
        took = plan["ttft_seconds_mean"] + steps * plan["tpot_seconds"] + load["think_seconds"]
        each = math.ceil(load["users"] / ranks)
        think = f" + {load['think_seconds']:g} pause" if load["think_seconds"] else ""
        words = f"Users: {rate:.3f} requests/s x ({plan['ttft_seconds_mean']:.3f} + {steps:,.0f} x {plan['tpot_seconds']:.4f}{think}) s, a rank"
        done.line(words, rate * took, float(each), 0.02)


def _money(done: Working, plan: dict[str, Any], load: dict[str, Any]) -> None:
    if plan["usd_per_hour"] is None:
        done.say("Cost: no price of this device is known; kvplan says so and ranks by devices")
        return
    price = plan["usd_per_hour"] / plan["devices"]
    tokens = plan["requests_per_s"] * (load["prompt_tokens_mean"] + load["output_tokens_mean"])
    words = f"Cost: {plan['devices']} x {price:g} = {plan['usd_per_hour']:.2f} USD/h; / 3600 / ({plan['requests_per_s']:.3f} x {load['prompt_tokens_mean'] + load['output_tokens_mean']:,.0f} tokens/s) x 10^6, USD a million tokens of all kinds"
    done.line(words, plan["usd_per_hour"] / 3600 / tokens * 1e6, plan["usd_per_million_tokens"], 0.005, "{:.4f}")
    fresh, hit = load["prompt_tokens_mean"] - load["cached_tokens_mean"], load["cached_tokens_mean"]
    parts = (
        fresh * plan["usd_per_million_prompt_tokens"]
        + load["output_tokens_mean"] * plan["usd_per_million_output_tokens"]
    )
    parts += hit * (plan["usd_per_million_cached_tokens"] or 0.0)
    shown = f"{fresh:,.0f} x {plan['usd_per_million_prompt_tokens']:.4f}" + (
        f" + {hit:,.0f} x {plan['usd_per_million_cached_tokens']:.4f}" if hit else ""
    )
    whole = (load["prompt_tokens_mean"] + load["output_tokens_mean"]) * plan["usd_per_million_tokens"]
    words = f"Its parts make a request: {shown} + {load['output_tokens_mean']:,.0f} x {plan['usd_per_million_output_tokens']:.4f}, USD a million requests"
    done.line(words, parts, whole, 0.005, "{:,.1f}")


def run(command: str, *more: str) -> str:
    """What a command line prints, in a process of its own."""
    words = [sys.executable, "-m", "kvplan", *shlex.split(command)[1:], *more]
    screen = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, env=screen)
    return done.stdout + done.stderr


def page() -> str:
    """The whole page, run anew."""
    parts = [
        "# Five questions, checked by hand\n",
        "Each answer is what the command prints, and under it the arithmetic of its first row, from the dimensions in the "
        "model's config.json, the device's published bandwidth and the load. Every line is computed again by "
        "`docs/examples.py`, which stops where it differs from the answer by more than a few percent; the difference "
        "is beside it. What cannot be checked on paper is how fast a step really is: docs/accuracy.md.\n",
    ]
    for example in EXAMPLES:
        shown = re.sub(r" (?=--)", " \\\n    ", example.command)
        parts += [
            f"## {example.title}\n",
            f"{example.question}\n",
            f"```console\n$ {shown}\n{run(example.command)}```\n",
        ]
        parts += [
            "The first row by hand:\n",
            "\n".join(working(example, json.loads(run(example.command, "--json")))) + "\n",
        ]
    return GENERATED + "\n".join(parts)


def main(arguments: list[str]) -> int:
    """Write the page; --check says whether it is stale; --time what the commands took."""
    if arguments == ["--time"]:
        for example in EXAMPLES:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run(example.command)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{seconds:5.2f} s of CPU  {example.title}")
        return 0
    text = page()
    if arguments == ["--check"]:
        stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
        print("stale: docs/examples.md; run python docs/examples.py" if stale else "docs/examples.md is fresh")
        return int(stale)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
