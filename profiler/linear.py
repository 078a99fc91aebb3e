"""y = x Wᵀ + b, with W stored in one of two ways that read memory at different rates.

plain    W [out, in], torch.nn.functional.linear. On CPU it reads a third to a half of what memory gives.
packed   W reordered once by oneDNN into its own blocks: a decode step then reads near memory bandwidth.
         CPU and inference only. Measured on two cores, GPT-2's shapes in fp32, 1 row: plain 15, packed 40 of
         42 GB/s; 4 rows: 11 and 40.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from planner.errors import BadRequest

LINEAR_KINDS = ("plain", "packed")
BLOCK_MOST = 64  # oneDNN pads each side of a matrix to its blocks, and none of its layouts has a longer one


class Linear(nn.Module):
    """W [out, in] and an optional bias; `pack` trades W for its reordered copy."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.weight: nn.Parameter | None = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.packed is not None:
            return packed_linear(x, self.packed, self.bias)
        assert self.weight is not None
        return nn.functional.linear(x, self.weight, self.bias)

    def pack(self) -> None:
        if self.packed is None and self.weight is not None:
            self.packed = pack_matrix(self.weight)
            self.weight = None

    @property
    def weight_bytes(self) -> int:
        """Bytes that one use reads."""
        bias = 0 if self.bias is None else self.bias.nbytes
        if self.packed is not None:
            return packed_bytes(self.packed) + bias
        assert self.weight is not None
        return self.weight.nbytes + bias


def pack_matrix(weight: Tensor) -> Tensor:
    """Reorders W [out, in] into oneDNN's own order: opaque, only `packed_linear` reads it."""
    check_packing(weight.device, weight.dtype)
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """Multiplies x by a matrix that `pack_matrix` reordered, and adds the bias."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return result


def packed_bytes(packed: Tensor) -> int:
    """Counts the bytes of a reordered matrix, padding to blocks included."""
    return int(torch.ops.mkldnn._nbytes(packed))


def unpacked_bytes(packed: Tensor) -> int:
    """Counts the bytes of the matrix that was reordered, as a checkpoint stores it."""
    return packed.numel() * packed.dtype.itemsize


def most_packed_bytes(packed: Tensor) -> int:
    """Bounds the bytes of a reordered matrix: both sides padded to the longest block there is."""
    outputs, inputs = (-(-side // BLOCK_MOST) * BLOCK_MOST for side in packed.shape)
    return outputs * inputs * packed.dtype.itemsize


def check_packing(device: torch.device, dtype: torch.dtype) -> None:
    """Raises BadRequest where packing is not possible."""
    if device.type != "cpu":
        raise BadRequest(f"--linear packed is oneDNN's layout for CPUs; on {device.type} use --linear plain")
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise BadRequest("--linear packed: this torch was built without oneDNN; use --linear plain")
    ops = torch.ops.mkldnn
    if dtype == torch.bfloat16 and not ops._is_mkldnn_bf16_supported():
        raise BadRequest("--linear packed: this CPU has no bf16 support in oneDNN; use --linear plain or fp32")
    if dtype == torch.float16 and not ops._is_mkldnn_fp16_supported():
        raise BadRequest("--linear packed: this CPU has no fp16 support in oneDNN; use --linear plain or fp32")
