"""Decode speed: our caches, transformers' generate and llama.cpp in turn, in one run, and what a cache gains.

    python benchmarks/decode.py                 # GPT-2 124M, fp32, batch 1, 4 and 16; 128 and 512 new tokens
    python benchmarks/decode.py --layouts --layers 4    # plain, packed and what `--linear auto` takes, in fp32 and bf16
    python benchmarks/decode.py --speedup       # cached against uncached over output lengths, beside what tutorials say

Random weights, the same for all: ours are filled from the transformers model where that is installed, and the
tokens that both write must be equal. All contenders run in turn, round by round, so that a slow moment hits all.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))


import torch

from benchmarks.machine import header
from planner.errors import BadRequest
from planner.lookup import model_spec
from planner.machine.calibration import load_calibration, speedup
from planner.model.spec import ModelSpec
from planner.readers.huggingface import read_config
from planner.speed.work import decode_read_bytes
from planner.terminal.tables import table
from profiler import speed
from profiler.device import Device, choose
from profiler.generate import generate
from profiler.gpt import GPT, build, initialise
from profiler.layout import faster_layout

PROMPT_TOKENS = 16
LAYOUT_CONTEXT = 128
BASELINE = "transformers, dynamic cache"
# What tutorials print for GPT-2, by new tokens; a T4 is quoted with 7x on long outputs.
CLAIMED = {10: 7.5, 25: 12.5, 50: 16.0, 100: 16.7}
WHY = (
    "The claims do not say what they compare. A step reads all weights once, be it for 1 token or for 60, so where "
    "reading weights is what takes the time an uncached step of a short sequence costs as much as a cached one: the "
    "gain starts near 1 and grows with the length. 7x and more within 10 tokens wants a long prompt, logits of all "
    "positions at every step, or a first call that was not warmed up."
)


@dataclass
class Contender:
    """One way to write `new_tokens` after each prompt; `skipped` says why it does not run."""

    label: str
    run: Callable[[torch.Tensor, int], Any] | None = None
    skipped: str = ""
    same_weights: bool = True
    seconds: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    tokens: dict[tuple[int, int], list[int]] = field(default_factory=dict)


def ours(model: GPT, cache: str) -> Callable[[torch.Tensor, int], list[int]]:
    def run(ids: torch.Tensor, new: int) -> list[int]:
        return list(generate(model, ids.tolist(), new, cache=cache).sequences[0])

    return run


def theirs(model: Any, **options: Any) -> Callable[[torch.Tensor, int], list[int]]:
    def run(ids: torch.Tensor, new: int) -> list[int]:
        found = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new, do_sample=False,
            pad_token_id=0, **options,
        )  # fmt: skip
        return list(found[0, ids.shape[1] :].tolist())

    return run


def llama_cpp(path: str | None, threads: int, written: bool, why_not: str) -> Contender:
    label = "llama.cpp"
    if not importlib.util.find_spec("llama_cpp"):
        return Contender(label, skipped="llama-cpp-python is not installed")
    if path is None:
        return Contender(label, skipped=f"no --gguf FILE, and {why_not}")
    from llama_cpp import Llama

    model = Llama(path, n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False)

    def run(ids: torch.Tensor, new: int) -> list[int]:
        model.reset()
        model.eval(ids[0].tolist())
        found = []
        for _ in range(new):
            found.append(int(model.sample(temp=0.0)))
            model.eval(found[-1:])
        return found

    return Contender(f"{label} ({Path(path).name}, batch 1)", run, same_weights=written)


# GPT-2's names in transformers and in GGUF; Conv1D keeps its matrices [in, out], GGUF wants [out, in].
GGUF_NAMES = {
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm", "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}  # fmt: skip
GGUF_TOP = {
    "transformer.wte.weight": "token_embd.weight", "transformer.wpe.weight": "position_embd.weight",
    "transformer.ln_f.weight": "output_norm.weight", "transformer.ln_f.bias": "output_norm.bias",
}  # fmt: skip


def write_gguf(state: dict[str, torch.Tensor], spec: ModelSpec, path: str) -> None:
    """The same random weights for llama.cpp: fp32, or matrices in bf16 where the model is; no tokenizer."""
    import gguf

    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(spec.config["n_positions"])
    writer.add_embedding_length(spec.hidden)
    writer.add_block_count(spec.config["n_layer"])
    writer.add_feed_forward_length(4 * spec.hidden)
    writer.add_head_count(spec.config["n_head"])
    writer.add_layer_norm_eps(1e-5)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(spec.vocab)
    for name, tensor in state.items():
        if name == "lm_head.weight":
            continue  # tied
        matrix = ".c_" in name and name.endswith("weight")
        found = tensor.detach().T.contiguous() if matrix else tensor.detach()
        half = found.dtype == torch.bfloat16 and found.ndim > 1 and "wpe" not in name
        raw_dtype = gguf.GGMLQuantizationType.BF16 if half else None
        data = found.contiguous().view(torch.uint8).numpy() if half else found.float().numpy()
        writer.add_tensor(_gguf_name(name), data, raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    """
    >>> _gguf_name("transformer.h.3.mlp.c_fc.weight")
    'blk.3.ffn_up.weight'
    """
    if name in GGUF_TOP:
        return GGUF_TOP[name]
    layer, rest = name.removeprefix("transformer.h.").split(".", 1)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[module]}.{kind}"


def transformers_model(spec: ModelSpec, dtype: str) -> Any:
    """A GPT2LMHeadModel of the same config with our kind of random weights; None where it is not installed."""
    if not importlib.util.find_spec("transformers"):
        return None
    from transformers import AutoModelForCausalLM, GPT2Config

    torch.manual_seed(0)
    config = GPT2Config(**{key: value for key, value in spec.config.items() if key != "model_type"})
    model = AutoModelForCausalLM.from_config(
        config, dtype=getattr(torch, {"fp32": "float32", "bf16": "bfloat16"}[dtype])
    )
    return model.eval()


def contenders(spec: ModelSpec, dtype: str, gguf: str | None, folder: str) -> list[Contender]:
    reference = transformers_model(spec, dtype)
    plain, packed = build(spec, dtype=dtype), build(spec, dtype=dtype)
    if reference is not None:
        from profiler.weights import load_state

        for model in (plain, packed):
            load_state(model, reference.state_dict())
    else:
        initialise(packed)
    label, why_not = "kvplan, static cache, packed", ""
    try:
        packed.pack()
    except BadRequest as error:  # this CPU has no such products
        why_not = str(error)
    found = [
        Contender(label, None if why_not else ours(packed, "static"), why_not),
        Contender("kvplan, static cache, plain", ours(plain, "static")),
        Contender("kvplan, concat cache, plain", ours(plain, "concat")),
    ]
    missing = "" if reference is not None else "transformers is not installed"
    dynamic, static = ({}, {"cache_implementation": "static", "disable_compile": True})
    for label, options in ((BASELINE, dynamic), ("transformers, static cache", static)):
        found.append(Contender(label, None if missing else theirs(reference, **options), missing))
    written, why_not = False, "the weights to write one are transformers', which is not installed"
    if gguf is None and reference is not None and importlib.util.find_spec("llama_cpp"):
        why_not = "gguf is not installed"
        if importlib.util.find_spec("gguf"):
            gguf = f"{folder}/gpt2-{dtype}.gguf"
            write_gguf(reference.state_dict(), spec, gguf)
            written = True
    return [*found, llama_cpp(gguf, torch.get_num_threads(), written, why_not)]


def measure(all_of: list[Contender], places: list[tuple[int, int]], rounds: int, vocab: int) -> None:
    """Every contender at every (batch, new tokens), `rounds` times in turn; a short run of each first."""
    for batch, new in places:
        ids = torch.randint(0, vocab, (batch, PROMPT_TOKENS), generator=torch.Generator().manual_seed(batch))
        running = [row for row in all_of if row.run is not None and (batch == 1 or "llama.cpp" not in row.label)]
        for number in range(rounds + 1):
            for row in running:
                assert row.run is not None
                start = time.perf_counter()
                tokens = row.run(ids, new if number else 8)
                seconds = time.perf_counter() - start
                if number:
                    row.seconds.setdefault((batch, new), []).append(seconds)
                    row.tokens[batch, new] = tokens


def disagreement(rows: list[Contender]) -> str | None:
    """The first contender with the same weights that did not write what transformers wrote."""
    wanted = next((row.tokens for row in rows if row.label == BASELINE), {})
    for row in rows:
        if row.same_weights and any(wanted.get(place, tokens) != tokens for place, tokens in row.tokens.items()):
            return row.label
    return None


def show(
    rows: list[Contender], places: list[tuple[int, int]], spec: ModelSpec, element_bytes: int, read: float
) -> None:
    base = next(row for row in rows if row.label == BASELINE)
    width = max(len(row.label) for row in rows)
    for place in places:
        batch, new = place
        print(f"\nbatch {batch}, {PROMPT_TOKENS} prompt tokens, {new} new tokens")
        print(f"{'':{width}}  {'tok/s':>8}  {'best':>8}  {'x transformers':>14}  {'GB/s':>6}  share of read bandwidth")
        for row in rows:
            if row.skipped:
                print(f"{row.label:{width}}  skipped: {row.skipped}")
                continue
            if place not in row.seconds:
                continue
            middle = statistics.median(row.seconds[place])
            ratio = f"{statistics.median(base.seconds[place]) / middle:.2f}" if place in base.seconds else "-"
            moved = decode_read_bytes(
                spec, batch=batch, context_tokens=PROMPT_TOKENS + new // 2, element_bytes=element_bytes
            )
            rate = moved * new / middle
            print(
                f"{row.label:{width}}  {batch * new / middle:8.1f}  {batch * new / min(row.seconds[place]):8.1f}  {ratio:>14}  "
                f"{rate / 1e9:6.1f}  {100 * rate / read:.0f} %"
            )


def speedups(spec: ModelSpec, dtype: str, device: Device, outputs: list[int], whole: bool) -> list[dict[str, Any]]:
    """Cached (static) and uncached seconds at each output length; uncached ones integrated unless `whole`."""
    model = build(spec, dtype=dtype)
    longest = max(outputs)
    cached: list[list[float]] = []
    uncached: list[speed.Curve] = []
    for _ in range(3):  # in turn
        cached.append(
            speed.run_times(model, device, batch=1, prompt=PROMPT_TOKENS, new_tokens=longest, strategy="static")
        )
        if whole:
            run = speed.run_times(model, device, batch=1, prompt=PROMPT_TOKENS, new_tokens=longest, strategy="none")
            uncached.append(speed.Curve((tuple(run),), longest))
            break
        steps = {
            n: speed.uncached_times(model, device, batch=1, tokens=n, plan=speed.Plan(2, 1.0))
            for n in speed.sampled_lengths(PROMPT_TOKENS, PROMPT_TOKENS + longest - 1)
        }
        uncached.append(speed.integrate(steps, PROMPT_TOKENS, longest))
    rows = []
    known = load_calibration()
    if known is not None and not known.serves(dtype):
        known = None
    for tokens in outputs:
        fast = statistics.median(run[tokens - 1] for run in cached)
        slow = statistics.median(curve.seconds(tokens).value for curve in uncached)
        kind = "measured" if whole else "integrated"
        foreseen = None
        if known is not None:
            foreseen = speedup(
                known, spec, prompt_tokens=PROMPT_TOKENS, new_tokens=tokens, batch=1, dtype=dtype, linear="plain"
            )
        rows.append(
            {
                "predicted_speedup": foreseen,
                "new_tokens": tokens,
                "cached_seconds": fast,
                "uncached_seconds": slow,
                "speedup": slow / fast,
                "uncached": kind,
            }
        )
    return rows


def show_speedups(rows: list[dict[str, Any]]) -> None:
    print(f"\n{'new tokens':>10}  {'cached':>9}  {'no cache':>9}  {'speedup':>8}  {'predicted':>14}  claimed")
    for row in rows:
        claimed = CLAIMED.get(row["new_tokens"])
        said = f"{claimed:g}x" if claimed else "7x on a T4" if row["new_tokens"] >= 500 else "-"
        ratio = row["predicted_speedup"]
        foreseen = "-" if ratio is None else f"{ratio:.1f}x ({100 * (ratio / row['speedup'] - 1):+.0f} %)"
        print(
            f"{row['new_tokens']:>10}  {row['cached_seconds']:7.2f} s  {row['uncached_seconds']:7.2f} s  {row['speedup']:7.1f}x  {foreseen:>14}  {said}"
        )
    print(
        f"\nno cache: {rows[0]['uncached']}"
        + ("" if rows[0]["uncached"] == "measured" else " from steps at sampled lengths (--full runs them)")
    )
    print("predicted: from kvplan calibrate's device file, which saw none of these runs")
    print(WHY)


def layout_rows(spec: ModelSpec, dtype: str, batches: list[int], rounds: int, device: Device) -> list[list[str]]:
    """A row a batch: the shortest step of each layout, runs of some steps in turns, and which of the two auto takes."""
    models = {"plain": build(spec, dtype=dtype)}
    try:
        models["packed"] = build(spec, dtype=dtype, linear="packed")
    except BadRequest as error:  # this CPU has no such products
        print(str(error).split(";")[0])
    rows = []
    for batch in batches:
        taken = faster_layout(spec, dtype, rows=(batch,), device=device).kind
        least = dict.fromkeys(models, float("inf"))
        for _ in range(rounds):
            for name, model in models.items():
                times = speed.decode_times(model, device, batch=batch, context=LAYOUT_CONTEXT, strategy="static")
                least[name] = min(least[name], *times.seconds)
        shown = [f"{1e3 * least[name]:.2f} ms" if name in least else "-" for name in ("plain", "packed")]
        rows.append([dtype, str(batch), *shown, taken, f"{least['plain'] / least[taken]:.2f}"])
    return rows


def read_bandwidth(device: Device) -> tuple[float, str]:
    """What `kvplan calibrate` found here, else a quick measurement."""
    found = load_calibration()
    if found is not None and found.read_bytes_per_s and found.environment.get("threads") == torch.get_num_threads():
        return found.read_bytes_per_s, f"kvplan calibrate, {found.date}"
    return (256 << 20) / speed.read_rate(device).median, "measured now"


def numbers(text: str) -> list[int]:
    return [int(item) for item in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--batches", type=numbers, help="(default: 1,4,16)")
    parser.add_argument("--tokens", type=numbers, default=[128, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gguf", help="a GGUF file for llama.cpp (default: the same weights, written for this run)")
    parser.add_argument("--layers", type=int, help="fewer layers, for a quick look")
    parser.add_argument(
        "--layouts", action="store_true", help="a decode step in each layout and in that of --linear auto"
    )
    parser.add_argument("--speedup", action="store_true", help="cached against uncached over output lengths")
    parser.add_argument("--outputs", type=numbers, default=list(speed.OUTPUT_TOKENS))
    parser.add_argument("--full", action="store_true", help="run long uncached generations whole")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = choose("cpu")
    spec = model_spec("gpt2")
    if arguments.layers:
        spec = read_config({**spec.config, "n_layer": arguments.layers}, name="gpt2", where="gpt2")
    machine = f"{header()}, torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.dtype}"
    torch.set_grad_enabled(False)
    if arguments.speedup:
        rows = speedups(spec, arguments.dtype, device, arguments.outputs, arguments.full)
        if arguments.json:
            print(json.dumps({"machine": machine, "speedup": rows, "claimed": CLAIMED}, indent=1))
        else:
            print(machine)
            show_speedups(rows)
        return 0
    if arguments.layouts:
        print(f"{machine.rpartition(', ')[0]}, {len(spec.layers)} layers of GPT-2, {LAYOUT_CONTEXT} tokens cached")
        batches = arguments.batches or [1, 2, 4, 16]
        rows = [
            row for dtype in ("fp32", "bf16") for row in layout_rows(spec, dtype, batches, arguments.rounds, device)
        ]
        print(table(["dtype", "batch", "plain", "packed", "auto takes", "x plain"], rows))
        return 0
    read, origin = read_bandwidth(device)
    # Long answers at batch 1, as people read them; the shorter length at the other batches.
    places = [
        (b, n) for b in arguments.batches or [1, 4, 16] for n in (arguments.tokens if b == 1 else arguments.tokens[:1])
    ]
    with tempfile.TemporaryDirectory() as folder:
        running = contenders(spec, arguments.dtype, arguments.gguf, folder)
        measure(running, places, arguments.rounds, spec.vocab)
    if arguments.json:
        rows_of = {row.label: {f"batch {b}, {n} tokens": s for (b, n), s in row.seconds.items()} for row in running}
        print(
            json.dumps(
                {"machine": machine, "rounds": arguments.rounds, "read_bytes_per_s": read, "seconds": rows_of}, indent=1
            )
        )
    else:
        print(f"{machine}, {arguments.rounds} rounds, all in turn; read bandwidth {read / 1e9:.1f} GB/s ({origin})")
        show(running, places, spec, 4 if arguments.dtype == "fp32" else 2, read)
    if arguments.dtype == "fp32" and (label := disagreement(running)):
        print(f"\n{label} did not write the tokens that transformers wrote", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
