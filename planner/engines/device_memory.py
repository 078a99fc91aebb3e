"""What an engine takes besides weights and cache: the calibrated part, each figure with its range.

Nothing published predicts these; the structure is (tokens in flight x widths, sequences x vocabulary), the
constants were fitted on the start-up lines of `tests/cases/engine_logs.csv` that print them.
"""

from __future__ import annotations

from fractions import Fraction

from planner.engines.base import Version
from planner.engines.video_profile import encoder_bytes as tower_bytes
from planner.frozen import dataclass
from planner.memory.activations import Estimated, activation_bytes
from planner.memory.estimate import Estimate
from planner.model.recurrent import Recurrent
from planner.units import GIB, MIB, plural

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.catalogue.device import Device

# Bytes that vLLM's sampler run has alive for one sequence and one entry of the vocabulary: logits in two types,
# sorted values and indices, probabilities, their sum. 38.7 to 39.6 in ten logs of 0.7 to 0.10.
SAMPLER_BYTES = 39
# FlashInfer's kernel sorts nothing: 11.8, 13.7 and 17.6 in the logs of 0.11 and 0.16 that name it. The default in 0.11.0
# (taken back by vLLM PR 26859) and again from 0.21 (PR 40376).
FLASHINFER_BYTES = 14
FLASHINFER_SINCE: Version = (0, 21)
FLASHINFER_ONCE: tuple[Version, Version] = ((0, 11), (0, 11, 1))
# A Triton kernel masks in place from 0.17 (PR 33538) for 8 sequences and more: what is alive is the logits in two types,
# probabilities and their draws (2 + 4 + 4 + 4 B), and a row of scratch for each program. Source: `topk_topp_sampler.py`, 0.17.1.
TRITON_BYTES, TRITON_PROGRAMS, TRITON_LEAST = 14, 132, 8
TRITON_SINCE: Version = (0, 17)
# Between PR 2031 (0.2.5, whose worker.py asks `mem_get_info`) and PR 9352 (0.6.4) the profile run asked the driver, which also counts what torch's
# allocator has cached: both parts of the run add up, and fragments double the forward pass.
DRIVER_PROFILE: tuple[Version, Version] = ((0, 2, 5), (0, 6, 4))
# AWQ's kernel wrote eight partial products of every token until PR 2566 (0.3.0) dequantised first.
AWQ_COPIES = 8
AWQ_COPIES_UNTIL: Version = (0, 3)
# Until its overhaul (PR 10511, 12126) the profile counted NCCL and contexts of all ranks as non-torch memory.
OLD_NON_TORCH: tuple[Version, Version] = ((0, 6, 4), (0, 7))
RANKS_OF_A_NODE = 8  # ranks of other machines hold no context on this one's devices
MORE_NON_TORCH_SINCE: Version = (0, 12)
SECOND_RUNNER_SINCE: Version = (0, 25, 1)


@dataclass(frozen=True)
class ProfileRun:
    """What one dummy step of vLLM's start-up holds; `sequences_most` where the server may have been given more.

    mm_items   images and videos that a prompt may hold, where a flag says so
    """

    version: Version
    v1: bool
    tokens: int
    sequences: int
    sequences_most: int
    sequences_given: bool
    longest: int = 0
    mm_items: tuple[int, int] | None = None


def forward_bytes(estimate: Estimate, tokens: int) -> int:
    """Estimates one forward pass of `tokens` tokens on one rank, without logits: `activation_bytes` of the memory estimate."""
    found = activation_bytes(
        estimate.spec,
        prefill_tokens=tokens,
        sequences=0,
        context=0,
        dtype_bytes=estimate.fmt.model_dtype_bytes,
        tp=estimate.request.sharding.tp,
    )
    return found.bytes


def sampler_entry_bytes(run: ProfileRun, cuda: bool = True) -> int:
    """Returns the bytes that the sampler takes a sequence and entry of the vocabulary: 39, or 14 where FlashInfer
    samples by default (CUDA alone) or Triton's kernel does, whose scratch comes on top.

    >>> [sampler_entry_bytes(ProfileRun(version, True, 2048, 256, 256, True)) for version in ((0, 15), (0, 17), (0, 21))]
    [39, 14, 14]
    """
    once = FLASHINFER_ONCE[0] <= run.version < FLASHINFER_ONCE[1]
    flash = cuda and run.v1 and (once or run.version >= FLASHINFER_SINCE)
    if flash:
        return FLASHINFER_BYTES
    return TRITON_BYTES if _triton(run) else SAMPLER_BYTES


def _triton(run: ProfileRun) -> bool:
    return run.v1 and run.version >= TRITON_SINCE and run.sequences >= TRITON_LEAST


def sampler_bytes(run: ProfileRun, vocab: int, cuda: bool = True) -> int:
    """Returns what the sampler's dummy run holds: entries, and of Triton's kernel 4 B · min(sequences, 132 programs) · vocabulary.

    >>> run = ProfileRun((0, 18), True, 2048, 256, 256, True)
    >>> sampler_bytes(run, 152_064) == (14 * 256 + 4 * 132) * 152_064     # 80 MB of scratch, as PR 33538 says
    True
    """
    scratch = _triton(run) and not (cuda and run.version >= FLASHINFER_SINCE)
    return (sampler_entry_bytes(run, cuda) * run.sequences + 4 * min(run.sequences, TRITON_PROGRAMS) * scratch) * vocab


def _least_share(run: ProfileRun) -> Fraction:
    """Of the sampler's run at the low end: another kernel in V1, fewer sequences than assumed."""
    if not run.sequences_given:
        return Fraction(1, 10)
    return Fraction(1, 4) if run.v1 else Fraction(9, 10)


def vllm_activation(estimate: Estimate, run: ProfileRun) -> Estimated:
    """Estimates the peak of vLLM's profile run: the larger of the forward pass and of the sampler's dummy run.

    bytes = max(forward(tokens), 39 · sequences · vocab), plus what an encoder of a multimodal model takes; from
    0.2.6 to 0.6.3, measured by the driver, 2 · forward + sampler. The sampler sees the whole vocabulary on the
    rank that decides, whatever the tensor parallelism.
    """
    given = estimate.request.activation_override
    if given is not None:
        return Estimated(given, given, given, "as given")
    spec = estimate.spec
    forward = forward_bytes(estimate, run.tokens) + _unfused_fp8(estimate, run)
    sampler = sampler_bytes(run, spec.vocab, not _is_amd(estimate))
    size = max(forward, sampler)
    most = SAMPLER_BYTES * run.sequences_most * spec.vocab
    least = int(sampler * _least_share(run))
    low, high = max(forward // 2, least), max(2 * forward, most * 6 // 5)
    if DRIVER_PROFILE[0] <= run.version < DRIVER_PROFILE[1]:
        copies = _awq_copies(estimate, run)
        size = 2 * (forward + copies) + sampler
        # The kernel's own copies are what they are: fragments double the rest.
        low, high = max(forward, least) + copies, 3 * forward + sampler * 6 // 5 + 2 * copies
    words = f"profile run of {run.tokens:,} tokens and {plural(run.sequences, 'sequence')}"
    if spec.encoder:
        encoder = source_bytes(estimate, run.sequences)
        words += ", with a pass of the encoder"
        return Estimated(max(size, encoder), min(low, encoder) // 2, high + 2 * encoder, words)
    tower = tower_bytes(estimate, run.version, max(run.longest, 1), v1=run.v1, items=run.mm_items)
    if not tower:
        return Estimated(size, low, high, words)
    likely = max(size + min(tower, GIB) // 2, tower)
    words += ", with a pass of the encoder"
    return Estimated(likely, max(low, tower // 4) if tower > GIB else low, high + max(5 * GIB, 2 * tower), words)


def _unfused_fp8(estimate: Estimate, run: ProfileRun) -> int:
    """Without a fused kernel an fp8 product is written in fp32, scaled into another, then cast: 8 B a number more.

    Gate and up come in one product. ROCm in V0 (`apply_fp8_linear`, "unfused DQ"): 86.8 GiB of peak were logged for
    67.7 of weights and 32,768 tokens.
    """
    if run.v1 or not _is_amd(estimate) or not estimate.plan.fmt.name.startswith("fp8"):
        return 0
    tp = estimate.request.sharding.tp
    widest = 0
    for layer, _ in estimate.spec.groups:
        rows = [weight.on_rank(tp).rows for weight in layer.weights if weight.linear and weight.part == "mlp"]
        widest = max(widest, sum(sorted(rows)[-2:]))
    return 8 * run.tokens * widest


def _awq_copies(estimate: Estimate, run: ProfileRun) -> int:
    """Eight partial products of the widest matrix, for every token (`split_k_iters` of awq/gemm_kernels.cu)."""
    if estimate.plan.fmt.name != "awq" or run.version >= AWQ_COPIES_UNTIL:
        return 0
    sharding = estimate.request.sharding
    widest = max(
        weight.rows if weight.part == "experts" else weight.on_rank(sharding.tp).rows  # experts lay whole on a rank
        for layer, _ in estimate.spec.groups
        for weight in layer.weights
        if weight.linear
    )
    return AWQ_COPIES * run.tokens * widest * estimate.fmt.model_dtype_bytes


def source_bytes(estimate: Estimate, sequences: int) -> int:
    """Estimates an encoder that runs over `sequences` inputs at once (Whisper, BART)."""
    spec = estimate.spec
    width = 2 * spec.hidden + max(mlp.activation_width for layer in spec.encoder for mlp in layer.mlps)
    return sequences * estimate.source_tokens * width * estimate.fmt.model_dtype_bytes


def non_torch(estimate: Estimate, run: ProfileRun) -> Estimated:
    """Estimates what CUDA, NCCL and kernels hold outside torch on one device.

    One device: 0.02 to 0.1 GiB, 0.4 in logs of 0.15; tensor parallel: 0.2 to 0.6 GiB; 0.6.4 to 0.6.6: 3.6 GiB on two (PR 10511) and
    7.7 on eight; ROCm: 0.6 to 6 GiB on Instinct, 0.25 to 0.7 on Radeon.
    """
    given = estimate.request.overhead_override.get("non_torch")
    if given is not None:
        return Estimated(given, given, given, "as given")
    devices = estimate.request.sharding.devices
    device = device_of(estimate)
    if device is not None and device.vendor == "AMD":
        if (device.arch or "").startswith("CDNA"):
            return Estimated(3 * GIB, GIB // 4, 8 * GIB, "ROCm and RCCL")
        return Estimated(devices * GIB // 2, GIB // 8, devices * GIB, "ROCm")
    if devices == 1:
        size = (320 if run.version >= MORE_NON_TORCH_SINCE else 56) * MIB
        return Estimated(size, 0, 640 * MIB, "CUDA and kernels outside torch")
    if OLD_NON_TORCH[0] <= run.version < OLD_NON_TORCH[1]:
        size = 9 * GIB // 4 + min(devices, RANKS_OF_A_NODE) * 7 * GIB // 10
        most = 9 * GIB if devices <= RANKS_OF_A_NODE else 18 * GIB  # no log shows more than eight
        return Estimated(size, GIB // 4, most, "NCCL and contexts of all ranks of a machine")
    return Estimated(640 * MIB, 128 * MIB, 5 * GIB // 2, "NCCL and custom all-reduce")


def cuda_graphs(estimate: Estimate, version: Version) -> Estimated:
    """Estimates what the budget of vLLM 0.21 and later keeps for CUDA graphs, as its profile run does.

    0.13 to 2.4 GiB in the logs that print it, growing with layers and sizes captured. Dense models run on the
    second model runner from 0.25.1, which kept nothing there at first and about half in 0.26 (vLLM issues 49224, 50159).
    """
    given = estimate.request.overhead_override.get("cuda_graphs")
    if given is not None:
        return Estimated(given, given, given, "as given")
    size = len(estimate.spec.layers) * 24 * MIB
    if version >= SECOND_RUNNER_SINCE and _dense(estimate):
        return Estimated(size // 2, 0, 3 * size, "CUDA graphs, second model runner")
    return Estimated(size, size // 8, 3 * size, "CUDA graphs")


def _dense(estimate: Estimate) -> bool:
    """Attention and one MLP a layer."""
    layers = [layer for layer, _ in estimate.spec.groups]
    experts = any(weight.part == "experts" for layer in layers for weight in layer.weights)
    return not experts and not any(isinstance(cache, Recurrent) for layer in layers for cache in layer.caches)


ON_LOAD = ("nf4", "nf4_dq")
NAMED_WITH_TOWER = (
    "weights with 12 % more than --dtype counts: so much more do publishers of models with a tower leave in 16 bit; the "
    "checkpoint's own config counts them exactly"
)


def named_with_tower(estimate: Estimate) -> bool:
    """Tells whether a model with a tower is counted in a quantised format that --dtype names."""
    named = estimate.request.dtype is not None and estimate.plan.fmt.name not in ("bf16", "fp16", "fp32")
    return named and estimate.spec.stored is None and bool(estimate.spec.towers)


def weights_loaded(estimate: Estimate) -> Estimated:
    """Estimates the weights as a loader leaves them on the fullest device: the counted bytes, with what loaders add or
    spare.

    16-bit checkpoints load 0.02 to 0.3 GiB above their count (buffers, padded vocabularies). Quantised ones whose config says
    what each matrix is stored in load -1 to +5 %, to +9 % where an engine pads (gpt-oss on Hopper); of one that was named by
    --dtype a publisher may have left more alone (fp8 of one: +19 %; models with a tower 0 to +30 %, 12 % likely, which is
    said). A GGUF's file type and bitsandbytes, which packs what it loads, leave a publisher no choice: 3 % either way (-0.4 to
    +2.2 % in logs). A tower is counted in its own format, as the config says. The slots of LoRA adapters are made with the weights.
    """
    device = estimate.per_device
    size, slots = device.weight_bytes, device.extra_bytes
    name = estimate.plan.fmt.name
    if name in ("bf16", "fp16", "fp32"):
        return Estimated(size + slots, size + slots, size + slots + size // 50 + GIB * 3 // 10, "counted")
    named = estimate.request.dtype is not None and estimate.spec.stored is None
    tower = named_with_tower(estimate)
    likely = size + size * 12 // 100 if tower else size
    words = NAMED_WITH_TOWER if tower else "counted, quantised"
    if not tower and (estimate.plan.fmt.everywhere or name in ON_LOAD):
        low, high = size * 97 // 100, size * 103 // 100 + GIB // 8
        return Estimated(size + slots, low + slots, high + slots, words)
    spare = 30 if tower else 20 if named and name.startswith("fp8") else 12
    low, high = size * (93 if named else 99) // 100, size + size * spare // 100 + GIB // 4
    return Estimated(likely + slots, low + slots, high + slots, words)


def kept_on_device(weights: Estimated, offloaded_bytes: int) -> Estimated:
    """Returns what is left of the weights on a device of which so many bytes lie in host memory (--cpu-offload-gb)."""
    low, size, high = (max(0, value - offloaded_bytes) for value in (weights.low, weights.bytes, weights.high))
    return Estimated(size, low, high, weights.words)


def context_before_weights(estimate: Estimate) -> Estimated:
    """Estimates what CUDA and NCCL hold before the weights are loaded: SGLang's baseline of free memory.

    Its logs ("Load weight begin. avail mem", "Init torch distributed ends. mem usage") show 0.12 to 0.75 GiB on one
    device, 0.7 to 0.95 on several without a switch, 2.1 to 2.4 on four and more behind NVSwitch (H100, H200, H800).
    """
    sharding = estimate.request.sharding
    if sharding.devices == 1:
        return Estimated(GIB * 6 // 10, GIB // 10, 3 * GIB // 2, "CUDA context before the weights")
    if sharding.tp >= 4 and _switched(estimate):
        return Estimated(9 * GIB // 4, 3 * GIB // 4, 7 * GIB // 2, "CUDA context and NCCL before the weights")
    return Estimated(3 * GIB // 4, GIB // 4, 5 * GIB // 2, "CUDA context and NCCL before the weights")


def _switched(estimate: Estimate) -> bool:
    """NVLink through a switch: 150 GB/s and more to every other device."""
    device = device_of(estimate)
    link = device.interconnect if device else None
    return bool(link and link.type == "NVLink" and (link.bytes_per_s_per_direction or 0) >= 150e9)


def device_of(estimate: Estimate) -> Device | None:
    """Finds the catalogue's device of this capacity, None where it is a bare size."""
    return estimate.device


def _is_amd(estimate: Estimate) -> bool:
    device = device_of(estimate)
    return device is not None and device.vendor == "AMD"


def added(parts: list[Estimated], words: str) -> Estimated:
    """Adds estimates, their low and their high ends each, under one explanation."""
    return Estimated(sum(p.bytes for p in parts), sum(p.low for p in parts), sum(p.high for p in parts), words)
