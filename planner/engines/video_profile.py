"""What vLLM's profile run takes for the images and the video of Qwen2-VL and Qwen2.5-VL: no config bounds their size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.engines.base import Version
from planner.memory.estimate import Estimate
from planner.units import GIB

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen2_5_omni")
IMAGE_TOKENS = 16384  # the processor's max_pixels of 12,845,056 by 28 x 28 pixels a token
PATCHES_A_TOKEN = 4
FRAMES_A_TOKEN = 2  # two frames are one patch in time
# (since, most frames of a video, whether an image's tokens are taken off the length first)
FRAMES: tuple[tuple[Version, int, bool], ...] = (((0, 11), 14, False), ((0, 10), 16, False), ((0,), 16, True))


def encoder_tokens(version: Version, longest: int, *, v1: bool, items: tuple[int, int] | None) -> int:
    """Counts the tokens that one pass of the encoder makes at start: of the largest video that `longest` tokens allow.

    V1 passes one item, the larger of image and video (its budget is one item where a step has fewer tokens); V0 passes
    all that `--limit-mm-per-prompt` admits, one image and one video by default.

    >>> encoder_tokens((0, 8, 5), 128_000, v1=True, items=None), encoder_tokens((0, 8, 5), 8192, v1=True, items=None)
    (98304, 16384)
    >>> encoder_tokens((0, 8, 5), 128_000, v1=True, items=(1, 0)), encoder_tokens((0, 9), 8192, v1=False, items=(10, 1))
    (16384, 180224)

    Source: vLLM 0.7.3 to 0.32 `Qwen2VLProcessingInfo.get_num_frames_with_most_features`, `_MAX_FRAMES_PER_VIDEO`.
    """
    images, videos = (1, 1) if items is None else items
    most, less_images = next((most, less) for since, most, less in FRAMES if version >= since)
    room = longest - (IMAGE_TOKENS * images if less_images else 0)
    groups = max(1, min(most // FRAMES_A_TOKEN, room // IMAGE_TOKENS // max(1, videos)))
    if v1:
        return IMAGE_TOKENS * (groups if videos else 1 if images else 0)
    return IMAGE_TOKENS * (images + groups * videos)


def encoder_bytes(
    estimate: Estimate, version: Version, longest: int, *, v1: bool, items: tuple[int, int] | None
) -> int:
    """Estimates the peak of that pass on one rank; a GiB for other towers, whose size their configs bound, 0 without one.

    A patch holds the stream and its norm, and q, k, v with the rotary halves of q and k in fp32 twice, or gate, up and
    their product, of which tensor parallelism leaves its share: B = 8 · width + max(16 · width, 6 · inner) / tp.
    Left out: kernels that write the scores (before compute capability 8.0), the images before the first layer.
    """
    if not estimate.spec.towers or items == (0, 0):
        return 0
    tower = _tower(estimate)
    if tower is None:
        return GIB
    width, inner = tower
    tp = estimate.request.sharding.tp
    a_patch = 8 * width + max(16 * width, 6 * inner) // tp
    return PATCHES_A_TOKEN * encoder_tokens(version, longest, v1=v1, items=items) * a_patch


def _tower(estimate: Estimate) -> tuple[int, int] | None:
    """(width, inner width) of a tower that takes images of any size; None for another."""
    if not estimate.spec.model_type.startswith(FAMILIES):
        return None
    config: Mapping[str, Any] = estimate.spec.config
    thinker = config.get("thinker_config")
    section = (thinker if isinstance(thinker, Mapping) else config).get("vision_config")
    vision: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
    if estimate.spec.model_type.startswith("qwen2_vl"):
        width = _whole(vision.get("embed_dim"), 1280)
        return width, 4 * width
    return _whole(vision.get("hidden_size"), 1280), _whole(vision.get("intermediate_size"), 3420)


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and value > 0 else default
