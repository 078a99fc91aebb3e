"""Vision and audio towers in GGUF files of their own: bytes as stored, patches by llama.cpp's rules, and beside a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvplan
from planner.errors import BadConfig, UnsupportedModel, UsageError
from planner.extras.projector import Projector
from planner.readers.mmproj import read_mmproj
from planner.units import MIB
from tests.planner.readers.headers import write_gguf

# google/gemma-3-27b-it: SigLIP of 896 x 896 in patches of 14
GEMMA: dict[str, Any] = {
    "general.architecture": "clip", "general.type": "mmproj", "clip.has_vision_encoder": True,
    "clip.projector_type": "gemma3", "clip.vision.image_size": 896, "clip.vision.patch_size": 14,
    "clip.vision.embedding_length": 1152, "clip.vision.feed_forward_length": 4304, "clip.vision.block_count": 27,
    "clip.vision.attention.head_count": 16,
}  # fmt: skip
TENSORS = {"v.blk.0.attn_q.weight": ("F16", [1152, 1152]), "mm.input_projection.weight": ("F16", [1152, 5376])}
SIZE = 2 * 1152 * (1152 + 5376)


def written(folder: Path, metadata: dict[str, Any], name: str = "mmproj.gguf") -> str:
    write_gguf(folder / name, metadata, TENSORS)
    return str(folder / name)


def test_a_tower_of_one_image_size_has_its_patches(tmp_path: Path) -> None:
    tower = read_mmproj(written(tmp_path, GEMMA))
    assert (tower.stored_bytes, tower.patches, tower.most_patches) == (SIZE, 4096, 4096)


def test_a_tower_of_any_image_size_is_warmed_up_with_one_and_takes_larger(tmp_path: Path) -> None:
    """Qwen2.5-VL: 46 x 46 tokens of 2 x 2 patches, at most 4,096 tokens (llama.cpp clip.cpp)."""
    tower = read_mmproj(written(tmp_path, {**GEMMA, "clip.projector_type": "qwen2.5vl_merger"}))
    assert (tower.patches, tower.most_patches) == (92 * 92, 4096 * 4)


def test_the_buffer_of_an_image_has_the_scores_without_flash_attention(tmp_path: Path) -> None:
    """llama.cpp's logs of 2025 for Gemma 3: CUDA0 compute buffer size = 1132 MiB."""
    tower = read_mmproj(written(tmp_path, GEMMA))
    lines = Projector(tower, flash=False).lines()
    assert lines[0].bytes == SIZE and lines[1].bytes / MIB == pytest.approx(1132, rel=0.02)
    assert Projector(tower).lines()[1].bytes < lines[1].bytes // 8


def test_an_audio_tower_is_counted_by_its_weights(tmp_path: Path) -> None:
    audio = {"general.architecture": "clip", "clip.has_audio_encoder": True, "clip.audio.embedding_length": 1280}
    assert len(Projector(read_mmproj(written(tmp_path, audio))).lines()) == 1


@pytest.mark.parametrize(
    "key", ["clip.vision.image_size", "clip.vision.patch_size", "clip.vision.attention.head_count"]
)
@pytest.mark.parametrize("value", [None, 0, 10**9, "many"])
def test_a_number_that_is_missing_or_odd_is_refused_by_name(tmp_path: Path, key: str, value: object) -> None:
    metadata = {name: given for name, given in {**GEMMA, key: value}.items() if given is not None}
    with pytest.raises(BadConfig, match=key):
        read_mmproj(written(tmp_path, metadata))


def test_a_models_own_file_is_no_tower(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"no tower \(mmproj\): its architecture is 'llama'"):
        read_mmproj(written(tmp_path, {"general.architecture": "llama"}))


def test_it_lies_beside_the_model_in_estimate_and_fit(tmp_path: Path) -> None:
    path = written(tmp_path, GEMMA)
    buffer = Projector(read_mmproj(path)).lines()[1].bytes
    alone = kvplan.estimate("llama-3.1-8b", gpu="rtx-4090", seq="8k").to_dict()
    both = kvplan.estimate("llama-3.1-8b", gpu="rtx-4090", seq="8k", mmproj=path).to_dict()
    more = both["per_device"]["total_bytes"] - alone["per_device"]["total_bytes"]
    assert more == pytest.approx(SIZE + buffer, rel=0.03)  # the allocator's share of it besides
    fits = kvplan.fit("llama-3.1-8b", gpu="rtx-4090", seq="8k", mmproj=path).to_dict()
    assert [line["bytes"] for line in fits["extras"]["lines"]] == [SIZE, buffer]


def test_an_engine_that_loads_towers_with_the_checkpoint_takes_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"llama\.cpp"):
        kvplan.estimate("llama-3.1-8b", gpu="l4", engine="vllm", mmproj=written(tmp_path, GEMMA))


def test_a_start_command_counts_the_tower_that_it_names(tmp_path: Path) -> None:
    path = written(tmp_path, GEMMA)
    command = f"llama-server -m gemma-3-27b-it-Q4_K_M.gguf -c 8192 -ngl 99 --mmproj {path}"
    found = kvplan.check(command, gpu="rtx-5090").to_dict()
    assert any("counted from its file: mmproj.gguf" in note for note in found["notes"])
