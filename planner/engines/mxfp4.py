"""What vLLM adds to experts in mxfp4 when it loads them: each expert kernel wants widths that are multiples of its tiles."""

from __future__ import annotations

from planner.engines.base import Version
from planner.engines.vllm_setting import architecture, platform_of
from planner.memory.activations import Estimated
from planner.memory.estimate import Estimate
from planner.memory.sharding import stage_sizes
from planner.memory.weight_formats import is_matrix
from planner.units import ceil_div

TRITON_SINCE: Version = (0, 11)  # its kernels come with vLLM's wheels
TRTLLM_128_SINCE: Version = (0, 28)
BLOCK = 32  # weights that share an e8m0 scale


def padding(estimate: Estimate, version: Version) -> Estimated:
    """Bytes on one device that padding adds to experts in mxfp4, with both ends; nothing where there are none.

    Marlin (Ampere, Ada, Hopper before 0.11): intermediate to 128, hidden to 256. FlashInfer's TRT-LLM (B200, GB200) alike; its
    intermediate to 256 before 0.28. Triton (Hopper from 0.11): the reduction to 256 in its swizzled codes, scales as they are.
    Source: vLLM 0.10.2 and 0.14.1 quantization/mxfp4.py, 0.19.1 to 0.32.0 fused_moe/oracle/mxfp4.py; gpt-oss-120b on H100
    loads 65.97 GiB in 0.10.1 (issue 23278: 65.93 by this rule) and 64.38 in 0.14.1 (issue 33155: 64.36).
    """
    matrices = experts_in_mxfp4(estimate)
    if not matrices or platform_of(estimate) != "gpu":
        return Estimated(0, 0, 0)
    arch = architecture(estimate)
    marlin = sum(_padded(matrix, 128) for matrix in matrices)
    if arch == "Hopper" and version >= TRITON_SINCE:
        codes = sum((_up(cols, 256) - cols) * rows * count // 2 for rows, cols, count, _ in matrices)
        return Estimated(codes, 0, max(codes, marlin), "experts padded for Triton")
    if arch.startswith("CDNA") or arch == "":
        return Estimated(0, 0, marlin)
    wide = sum(_padded(matrix, 256) for matrix in matrices)
    capacity = estimate.capacity
    trtllm = (
        arch.startswith("Blackwell") and capacity is not None and capacity.name.startswith(("B1", "B2", "B3", "GB"))
    )
    likely = wide if trtllm and version < TRTLLM_128_SINCE else marlin
    return Estimated(likely, 0, max(likely, marlin), "experts padded to whole tiles")


Matrix = tuple[int, int, int, bool]


def experts_in_mxfp4(estimate: Estimate) -> list[Matrix]:
    """Lists the matrices in mxfp4 on the fullest device: rows, columns, how many, whether the rows are the hidden state."""
    sharding, plan = estimate.request.sharding, estimate.plan
    stage = max(stage_sizes(len(estimate.spec.layers), sharding.pp)) / max(1, len(estimate.spec.layers))
    found = []
    for layer, times in estimate.spec.groups:
        for weight in layer.weights:
            shares = plan.mixed.get((weight.part, weight.name), ())
            held = sum(share for fmt, share in shares if fmt.name == "mxfp4")
            if weight.part == "experts" and held and is_matrix(weight):
                here = weight.on_rank(sharding.tp, sharding.ep)
                share = held / sum(share for _, share in shares) * stage
                down = weight.name.startswith("down_proj")
                found.append((here.rows, here.cols, round(here.count * times * share), down))
    return found


def _padded(matrix: Matrix, intermediate: int) -> int:
    """Bytes that both sides add: the side of the hidden state to 256, the other to `intermediate`."""
    rows, cols, count, down = matrix
    up, across = _up(rows, 256 if down else intermediate), _up(cols, intermediate if down else 256)
    return (_bytes(up, across) - _bytes(rows, cols)) * count


def _bytes(rows: int, cols: int) -> int:
    return rows * (cols // 2 + ceil_div(cols, BLOCK))


def _up(size: int, multiple: int) -> int:
    return ceil_div(size, multiple) * multiple
