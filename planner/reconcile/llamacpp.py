"""llama.cpp's log, alone or inside ollama, and ollama's own lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from planner.engines.base import EngineAnswer, Options, parse_version
from planner.engines.llamacpp_setting import KOBOLD_WINDOWS_SINCE, build_of
from planner.errors import KvplanError, one_line
from planner.memory.estimate import estimate
from planner.memory.request import Request
from planner.model.spec import ModelSpec
from planner.reconcile.facts import Run
from planner.reconcile.ledger import HALF_MIB, Draft, Entry, Figure, Given, exact, gain
from planner.reconcile.model import answer_or_note, spec_of
from planner.units import GIB, MAX_TOKENS, MIB

GGML_NAMES = {"f16": "fp16", "f32": "fp32"}
DRAFTERS = "/MTP"  # what the reader adds to devices of a drafting context


# long: a log from its first line to its last
def llama(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of one llama.cpp or ik_llama.cpp server, or of the runner inside ollama."""
    ollama = any(name.startswith("ollama_") for name, _ in run.values)
    ik = run.text("mla_attn") is not None or run.text("ik") is not None
    program = given.program or ("ik_llamacpp" if ik else "llamacpp")
    made.change(engine="ollama" if ollama and given.program is None else "koboldcpp" if run.text("kobold") else program)
    made.change(kv_dtype=run.text("k_type"))
    if made.ledger.engine == "ollama":
        made.change(version=given.version or run.text("ollama_version"))
    elif made.ledger.engine == "koboldcpp":
        made.change(version=given.version or run.text("kobold"))
    elif given.version is None and run.text("version") is None:
        made.miss("the build: --engine llamacpp==bNNNN; the newest rules are used")
    spec = spec_of(run, given, made)
    summed = _of_the_model(run, "kv_mib") or run.bytes("kv_self_mib")
    devices = _of_the_model(run, "kv_device_mib") or None  # 0.00 MiB each: a dry run (--fit)
    kv = summed or devices
    state, compute = run.bytes("state_mib"), run.by_key("compute_mib")
    answer = _predicted(run, given, made, spec=spec, program=program) if spec else None
    values = answer.to_dict() if answer else {}
    for device, size in sorted(run.by_key("weights_mib").items()):
        made.add(Entry(f"weights on {one_line(device, 20)}", _mib(size)))
    cache = exact(values["kv_bytes"]) if values else None
    made.add(Entry("KV cache", kv, cache, "; ".join(answer.reasons) if answer else ""))
    drafter = sum(_mib(size) for key, size in run.by_key("kv_device_mib").items() if DRAFTERS in key)
    if drafter:
        made.add(Entry("KV cache of the drafter (MTP)", drafter))
    if state is not None or values.get("state_bytes"):
        made.add(Entry("recurrent state", state, exact(values["state_bytes"]) if values else None))
    for device, size in sorted(compute.items()):
        host = device.upper().endswith(("HOST", "CPU"))
        ours = None if host or answer is None else answer.compute_buffer
        words = ""
        if ours is not None and _layers_on_cpu(run) and _mib(size) > ours.high:
            words = "layers lie on the CPU: their weights are copied to the card for a batch, which is not modelled"
        made.add(Entry(f"compute buffer on {one_line(device, 20)}", _mib(size), ours, words))
    made.add(*_breakdown(run))
    if summed is not None and devices is not None:
        made.change(unexplained=devices - summed)
    elif kv is not None and cache is not None:
        made.change(unexplained=kv - cache.bytes)
    if _half_of_two(run, values):
        made.miss("one of the two caches (layers with windows and those without): a whole log")
        made.change(unexplained=None)
    elif cache is not None and kv is not None:
        half = max(1, len(run.all("kv_mib"))) * HALF_MIB
        made.add_figures(_kv_figure(kv, cache.bytes, half, unlike="another build, --swa-full"))
    if kv is None:
        made.miss('the KV cache ("KV self size", "llama_kv_cache: size"): a log from the start of the model')
    _more_room(made, run, kv)


def _kv_figure(logged: int, ours: int, half: float, *, unlike: str) -> Figure:
    """The cache in MiB beside ours, which is known to `half` of a printed digit; `unlike` may be why it is another."""
    figure = Figure("KV cache MiB", logged / MIB, (ours - half) / MIB, (ours + half) / MIB)
    words = "within the rounding of the log" if figure.agrees else f"{unlike}, layers or type than found in the log"
    return replace(figure, reason=words)


def _of_the_model(run: Run, name: str) -> int | None:
    """Sums the cache's lines without those of a drafting context beside it, which is made after the model's own."""
    sizes = [_mib(size) for key, size in run.by_key(name).items() if DRAFTERS not in key]
    return sum(sizes) if sizes else None


def _layers_on_cpu(run: Run) -> bool:
    return any(key.split("/")[-1].split("#")[0].upper().startswith("CPU") for key in run.by_key("kv_device_mib"))


def _breakdown(run: Run) -> list[Entry]:
    """llama.cpp's own sums of each device (`llama_memory_breakdown_print`, at the end of a run)."""
    made = []
    for fact, words in (("own_model_mib", "weights"), ("own_context_mib", "cache"), ("own_compute_mib", "compute")):
        for device, size in sorted(run.by_key(fact).items()):
            made.append(Entry(f"{words} on {one_line(device, 30)} at the end", _mib(size)))
    return made


def _half_of_two(run: Run, predicted: Mapping[str, Any]) -> bool:
    """One summed line, where the model or the buffers of the devices show two caches."""
    keys = [*run.by_key("kv_device_mib"), *run.by_key("kv_mib")]
    two = any(key.endswith("SWA") for key in keys) or bool(
        predicted.get("kv_swa_bytes") and predicted.get("kv_full_bytes")
    )
    return two and len(run.all("kv_mib")) == 1


def _predicted(run: Run, given: Given, made: Draft, *, spec: ModelSpec, program: str) -> EngineAnswer | None:
    ctx = given.max_model_len or given.options.ctx_size or context_of(run)
    if not ctx or not 0 < ctx <= MAX_TOKENS:
        made.miss("n_ctx: --max-model-len N")
        return None
    k, v = (
        GGML_NAMES.get((run.text(name) or "").lower(), (run.text(name) or "").lower()) for name in ("k_type", "v_type")
    )
    swa_full = window_in_full(run, ctx)
    kobold, version = run.text("kobold"), given.version or run.text("version") or _era(run, program)
    if kobold:  # the cells that it adds are in the context that it prints
        program, version = "llamacpp", f"b{min(build_of(given.version or kobold, 'koboldcpp'), 10**6)}"
        swa_full = swa_full or (
            run.text("kobold_windows") is None and (parse_version(kobold) or (1,)) < KOBOLD_WINDOWS_SINCE
        )
    options = given.overlaid(
        Options(
            ctx_size=ctx,
            parallel=run.positive("n_seq_max") or 1,
            ubatch_size=run.positive("n_ubatch"),
            batch_size=run.positive("n_batch"),
            flash_attn=flash_attention(run),
            kv_unified=bool(kobold) or (run.text("kv_unified") or "").lower() == "true",
            swa_full=swa_full,
            mla_mode=run.whole("mla_attn"),
            num_speculative_tokens=run.positive("n_rs_seq") or 0,
        )
    )
    try:
        found = estimate(spec, Request(1, k_dtype=k or None, v_dtype=v or k or None), given.capacity)
    except KvplanError as error:
        made.note(f"no prediction: {error}")
        return None
    return answer_or_note(made, program, version, estimate=found, options=options)


def context_of(run: Run) -> int | None:
    """Finds the context of all slots: as printed, else a slot's times the slots, else the cells of the largest cache."""
    whole = run.whole("n_ctx")
    if whole:
        return whole
    unified = (run.text("kv_unified") or "").lower() == "true"
    slot = run.largest("n_ctx_seq")
    if slot:
        return int(slot) * (1 if unified else run.positive("n_seq_max") or 1)
    cells = run.largest("cells")
    return int(cells) if cells else None


def _era(run: Run, program: str) -> str | None:
    """A build before late 2025 where the log's words say so: `n_ctx_per_seq` became `n_ctx_seq` with PR 17046."""
    return "b6900" if program == "llamacpp" and run.text("old_words") is not None else None


def flash_attention(run: Run) -> bool | None:
    """Tells what the log says of flash attention, None where it leaves it to the program."""
    said = (run.text("flash_attn") or "").lower()
    return {
        "1": True,
        "true": True,
        "enabled": True,
        "enabling": True,
        "0": False,
        "false": False,
        "disabled": False,
    }.get(said)


def window_in_full(run: Run, ctx: int) -> bool:
    """Tells whether the window layers hold the whole context (--swa-full): two cache lines have equal cells."""
    cells = [int(value) for value in run.all("cells") if value.isdigit()]
    return len(cells) > 1 and len(set(cells)) == 1 and cells[0] >= ctx


def _mib(text: str) -> int:
    return int(Fraction(text.replace(",", "")) * MIB)


def _more_room(made: Draft, run: Run, kv: int | None) -> None:
    cells = run.whole("n_ctx")
    if kv and made.ledger.kv_dtype in ("f16", "bf16"):
        gain(made, "--cache-type-k q8_0 --cache-type-v q8_0", kv - kv * 34 // 64, pool=kv, tokens=cells)
    ubatch, device = run.whole("n_ubatch"), run.largest("compute_mib")
    if ubatch and device and ubatch > 128 and device * MIB > 256 * MIB:
        gain(made, f"--ubatch-size {ubatch // 2}", int(device * MIB) // 2, pool=kv, tokens=cells)


def ollama(run: Run, given: Given, made: Draft) -> None:
    """Fills the ledger of ollama's own lines alone: sizes, no dimensions."""
    kv, weights, compute = (_in_both_units(run, name) for name in ("kv", "weights", "compute"))
    made.add(Entry("weights", weights), Entry("KV cache", kv), Entry("compute graph", compute))
    spec, ctx = spec_of(run, given, made), given.max_model_len or run.whole("ctx_size")
    if spec is None or not ctx:
        if not ctx:
            made.miss("the context: --max-model-len N")
        return
    found = estimate(spec, Request(1, k_dtype=given.kv_dtype, v_dtype=given.kv_dtype))
    answer = answer_or_note(
        made,
        "ollama",
        made.ledger.version,
        estimate=found,
        options=Options(ctx_size=ctx, parallel=run.positive("parallel") or 1),
    )
    if answer and kv is not None:
        size = answer.to_dict()["kv_bytes"] + answer.to_dict()["state_bytes"]
        weights_entry, cache_entry, *later = made.ledger.entries
        made.change(entries=(weights_entry, replace(cache_entry, predicted=exact(size)), *later))
        made.change(unexplained=kv - size)
        printed = GIB if run.text("kv_gib") else MIB
        half = max(1, len(run.all("kv_gib")) + len(run.all("kv_mib"))) * 0.051 * printed  # one decimal of each
        made.add_figures(_kv_figure(kv, size, half, unlike="another release"))


def _in_both_units(run: Run, name: str) -> int | None:
    """ollama prints a size in the unit that suits it: GiB of one device, MiB of another."""
    found = [size for unit in ("gib", "mib") if (size := run.total_bytes(f"{name}_{unit}")) is not None]
    return sum(found) if found else None
