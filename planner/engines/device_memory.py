"""What an engine takes besides weights and cache: the calibrated part, each figure with its range.

Nothing published predicts these; the structure is (tokens in flight x widths, sequences x vocabulary), the
constants were fitted on the start-up lines of `tests/cases/engine_logs.csv` that print them.
"""

from __future__ import annotations

from planner.activations import ActivationRate, Estimated, activation_rate
from planner.memory import Estimate
from planner.units import GIB, MIB

# Bytes that vLLM's sampler run has alive for one sequence and one entry of the vocabulary: logits in two types,
# sorted values and indices, probabilities, their sum. 38.7 to 39.4 in eight logs of 0.7 to 0.10 on one device.
SAMPLER_BYTES = 39


def forward_bytes(estimate: Estimate, tokens: int) -> int:
    """One forward pass of `tokens` tokens on one rank, without logits: `activation_rate` of the memory estimate."""
    rate: ActivationRate = activation_rate(
        estimate.spec, dtype_bytes=estimate.fmt.model_dtype_bytes, tp=estimate.request.sharding.tp
    )
    return int(rate.bytes(tokens, 0, 0))


def vllm_activation(estimate: Estimate, tokens: int, sequences: int) -> Estimated:
    """Peak of vLLM's profile run: the larger of the forward pass and of the sampler's dummy run.

    bytes = max(forward(tokens), 39 · sequences · vocab), plus what an encoder of a multimodal model takes.
    The sampler sees the whole vocabulary on the rank that decides, whatever the tensor parallelism.
    """
    given = estimate.request.activation_override
    if given is not None:
        return Estimated(given, given, given, "as given")
    spec = estimate.spec
    forward = forward_bytes(estimate, tokens)
    sampler = SAMPLER_BYTES * sequences * spec.vocab
    size = max(forward, sampler)
    encoder = encoder_bytes(estimate, sequences)
    low = max(forward // 2, sampler // 10)  # servers are often started with fewer sequences
    high = max(2 * forward, sampler * 6 // 5) + 2 * encoder
    words = f"profile run of {tokens:,} tokens and {sequences:,} sequences"
    if encoder:
        words += ", with a pass of the encoder"
    if spec.encoder:
        return Estimated(max(size, encoder), min(low, encoder) // 2, high, words)
    return Estimated(size + encoder // 2, low, high + (3 * GIB if spec.towers else 0), words)


def encoder_bytes(estimate: Estimate, sequences: int) -> int:
    """An encoder that runs over `sequences` inputs at once (Whisper, BART), or a vision tower's pass."""
    spec = estimate.spec
    if spec.encoder:
        width = 2 * spec.hidden + max(mlp.activation_width for layer in spec.encoder for mlp in layer.mlps)
        return sequences * estimate.source_tokens * width * estimate.fmt.model_dtype_bytes
    return GIB if spec.towers else 0


def non_torch(estimate: Estimate, old: bool) -> Estimated:
    """What CUDA, NCCL and kernels hold outside torch on one device.

    One device: 0.02 to 0.35 GiB; tensor parallel: 0.2 to 0.6 GiB, in 2024's releases up to 7.7 GiB on eight;
    ROCm: 0.6 to 6 GiB.
    """
    given = estimate.request.overhead_override.get("non_torch")
    if given is not None:
        return Estimated(given, given, given, "as given")
    devices = estimate.request.sharding.devices
    name = estimate.capacity.name.lower() if estimate.capacity else ""
    if name.startswith("mi"):
        return Estimated(3 * GIB, GIB // 4, 8 * GIB, "ROCm and RCCL")
    if devices == 1:
        return Estimated(80 * MIB, 0, 512 * MIB, "CUDA and kernels outside torch")
    if old and devices >= 8:
        return Estimated(4 * GIB, GIB // 4, 9 * GIB, "NCCL and custom all-reduce")
    return Estimated(640 * MIB, 128 * MIB, 5 * GIB // 2, "NCCL and custom all-reduce")


def cuda_graphs(estimate: Estimate) -> Estimated:
    """CUDA graphs of one device: 0.01 to 3.1 GiB in the logs, growing with layers and sizes captured."""
    given = estimate.request.overhead_override.get("cuda_graphs")
    if given is not None:
        return Estimated(given, given, given, "as given")
    size = len(estimate.spec.layers) * 24 * MIB
    return Estimated(size, size // 8, 5 * size // 2, "CUDA graphs")


def weights_loaded(estimate: Estimate) -> Estimated:
    """Weights as a loader leaves them on the fullest device: the counted bytes, with what loaders add or spare.

    16-bit checkpoints load 0.02 to 0.3 GiB above their count (buffers, padded vocabularies, LoRA slots);
    quantised ones differ by which layers a publisher left alone (-5 to +30 %; 23 and 30 % in two of vision models).
    """
    device = estimate.per_device
    size = device.weight_bytes + device.resident_bytes  # adapters' slots are made while the model is loaded
    exact = estimate.plan.fmt.name in ("bf16", "fp16", "fp32")
    if exact:
        return Estimated(size, size, size + size // 50 + GIB * 3 // 10, "counted")
    likely = size + size * 12 // 100 if estimate.spec.towers else size
    return Estimated(likely, size * 93 // 100, size + size * 3 // 10 + GIB // 4, "counted, quantised")


def added(parts: list[Estimated], words: str) -> Estimated:
    return Estimated(sum(p.bytes for p in parts), sum(p.low for p in parts), sum(p.high for p in parts), words)
