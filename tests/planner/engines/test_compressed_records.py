"""What a refusal of DeepSeek-V4 in SGLang says: records counted by hand from the config."""

from __future__ import annotations

import pytest

from planner.engines import sglang
from planner.engines.base import Options
from planner.engines.compressed_records import least_bytes
from planner.errors import UnsupportedModel
from planner.lookup import device, model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request, device_capacity


def test_the_least_of_a_request_is_its_records() -> None:
    """DeepSeek-V4-Flash: 43 layers, 2 windows alone, 21 that compress by 4 and 20 by 128, windows of 128 in all."""
    asked = estimate(model_spec("deepseek-v4-flash"), Request(65536), device_capacity(device("h200")))
    by_hand = 21 * (65536 // 4) * (584 + 132) + 20 * (65536 // 128) * 584 + 43 * 128 * 584
    assert least_bytes(asked, 65536) == by_hand
    with pytest.raises(UnsupportedModel, match="584 B each and 132 B of index keys"):
        sglang.answer(asked, Options(), None)
