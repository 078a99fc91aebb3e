"""`kvplan verify`: our numbers against the transformers implementation on the meta device, and how they are compared.

A model of each family with constants that no published model has must verify too: the readers follow the config,
not the name. Those tests need transformers and torch; how a comparison is made and reported does not.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from planner.catalogue.entries import find_model
from planner.errors import KvplanError
from planner.model.parameters import parameters
from planner.readers.huggingface import read_config
from profiler import verify
from profiler.commands.verify import command
from profiler.dryrun import CacheTensor, DryRun, Run, Shape, complete
from profiler.verify import DIFFERENT, EXACT, EXPLAINED, FAILED, UNKNOWN, Task, Verdict, verify_config

Config = dict[str, Any]
HAS_TRANSFORMERS = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
needs_transformers = pytest.mark.skipif(not HAS_TRANSFORMERS, reason="needs transformers and torch")

SMALL: Config = {
    "hidden_size": 96, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 3, "intermediate_size": 208,
    "vocab_size": 331,
}  # fmt: skip
EXPERTS: Config = {"num_experts_per_tok": 3, "moe_intermediate_size": 56}
MLA: Config = {"kv_lora_rank": 40, "qk_nope_head_dim": 24, "qk_rope_head_dim": 16, "v_head_dim": 20, "num_key_value_heads": 6,
               "n_routed_experts": 10, "n_group": 1, "topk_group": 1, "n_shared_experts": 2, **EXPERTS}  # fmt: skip
CHANGED: dict[str, Config] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 90, "n_layer": 3, "n_head": 5, "n_positions": 77, "vocab_size": 331, "n_inner": 123},
    "llama": {**SMALL, "model_type": "llama", "attention_bias": True, "tie_word_embeddings": True, "head_dim": 24},
    "mistral window": {**SMALL, "model_type": "mistral", "sliding_window": 37},
    "qwen2 late windows": {**SMALL, "model_type": "qwen2", "use_sliding_window": True, "sliding_window": 29, "max_window_layers": 3},
    "qwen3": {**SMALL, "model_type": "qwen3", "head_dim": 40},
    "gemma3 another pattern": {**SMALL, "model_type": "gemma3_text", "head_dim": 24, "sliding_window": 31, "sliding_window_pattern": 3,
                               "num_hidden_layers": 7},
    "falcon": {"model_type": "falcon", "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 6, "vocab_size": 331, "multi_query": True},
    "mixtral": {**SMALL, "model_type": "mixtral", "num_local_experts": 7, "num_experts_per_tok": 3, "sliding_window": 33},
    "qwen3 moe": {**SMALL, **EXPERTS, "model_type": "qwen3_moe", "num_experts": 9, "head_dim": 32, "decoder_sparse_step": 2, "mlp_only_layers": [3]},
    "gpt-oss": {**SMALL, "model_type": "gpt_oss", "num_local_experts": 6, "num_experts_per_tok": 2, "head_dim": 32, "sliding_window": 27},
    "deepseek v3": {**SMALL, **MLA, "model_type": "deepseek_v3", "q_lora_rank": 56, "first_k_dense_replace": 2},
    "deepseek v3 without query rank": {**SMALL, **MLA, "model_type": "deepseek_v3", "q_lora_rank": None, "first_k_dense_replace": 0},
    "deepseek v3.2 indexer": {**SMALL, **MLA, "model_type": "deepseek_v32", "q_lora_rank": 56, "index_head_dim": 32, "index_n_heads": 4},
    "mamba": {"model_type": "mamba", "hidden_size": 80, "num_hidden_layers": 3, "vocab_size": 331, "state_size": 12, "conv_kernel": 3, "expand": 3},
    "mamba2": {"model_type": "mamba2", "hidden_size": 96, "num_hidden_layers": 3, "vocab_size": 331, "state_size": 24, "num_heads": 6,
               "head_dim": 32, "expand": 2, "n_groups": 2, "conv_kernel": 3, "chunk_size": 8},
    "qwen3-next": {**SMALL, **EXPERTS, "model_type": "qwen3_next", "num_experts": 6, "head_dim": 32, "linear_num_key_heads": 3,
                   "linear_num_value_heads": 6, "linear_key_head_dim": 20, "linear_value_head_dim": 28, "linear_conv_kernel_dim": 3,
                   "full_attention_interval": 3, "shared_expert_intermediate_size": 40},
    "lfm2": {**SMALL, "model_type": "lfm2", "conv_L_cache": 5, "layer_types": ["conv", "full_attention", "conv", "conv", "full_attention"],
             "block_auto_adjust_ff_dim": False},
    "jamba": {**SMALL, "model_type": "jamba", "num_experts": 5, "num_experts_per_tok": 2, "attn_layer_period": 3, "attn_layer_offset": 1,
              "expert_layer_period": 2, "expert_layer_offset": 1, "mamba_d_state": 12, "mamba_d_conv": 3, "mamba_expand": 2, "mamba_dt_rank": 8},
    "t5": {"model_type": "t5", "d_model": 96, "d_kv": 20, "d_ff": 150, "num_layers": 2, "num_decoder_layers": 4, "num_heads": 5,
           "vocab_size": 331, "is_encoder_decoder": True},
    "whisper": {"model_type": "whisper", "d_model": 96, "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 4,
                "decoder_attention_heads": 6, "encoder_ffn_dim": 150, "decoder_ffn_dim": 130, "vocab_size": 331, "num_mel_bins": 20,
                "max_source_positions": 60, "max_target_positions": 50, "is_encoder_decoder": True, "pad_token_id": 0},
}  # fmt: skip


@needs_transformers
@pytest.mark.parametrize("name", CHANGED)
def test_a_model_with_changed_constants_verifies_to_the_parameter_and_the_byte(name: str) -> None:
    found = verify_config(CHANGED[name], name)
    assert found.status in (EXACT, EXPLAINED), (found.words, [check.differences for check in found.caches])
    assert found.ours_parameters == found.theirs_parameters > 0
    assert not found.filled
    for check in found.caches:
        assert check.exact + check.explained == check.layers and not check.differences
        if not any("sliding" in str(key) for key in CHANGED[name]):
            assert check.ours_bytes == check.theirs_bytes and not check.explained


@needs_transformers
def test_a_window_is_filled_and_its_missing_token_explained() -> None:
    found = verify_config(CHANGED["mistral window"], "mistral")
    assert found.status == EXPLAINED
    assert [(check.batch, check.tokens) for check in found.caches] == [(2, 24), (2, 26), (1, 45), (1, 47)]
    assert found.caches[-1].reasons == (verify.WINDOW,)
    assert found.caches[-1].theirs_bytes * 37 == found.caches[-1].ours_bytes * 36


@needs_transformers
def test_a_wrong_formula_is_found_out() -> None:
    from profiler.dryrun import dry_run

    def of_another_model(config: Config, shapes: Sequence[Shape], steps: int) -> DryRun:
        return dry_run({**config, "num_key_value_heads": 2}, shapes, steps)

    found = verify_config(CHANGED["llama"], "llama", of_another_model)
    assert found.status == DIFFERENT and "parameters: ours" in found.words
    assert all(check.exact == 0 and "layer 0: ours" in check.differences[0] for check in found.caches)


@needs_transformers
def test_children_verify_several_models_within_their_limits(tmp_path: Path) -> None:
    tasks = [
        Task("good", CHANGED["llama"]),
        Task("unknown", {**SMALL, "model_type": "internlm2"}),
        Task("refused", {"model_type": "nothing"}),
    ]
    found = {verdict.model: verdict for verdict in verify.verify_all(tasks, limit_seconds=600, memory_bytes=4 << 30)}
    assert found["good"].status == EXACT
    assert found["unknown"].status == UNKNOWN and "no model_type 'internlm2'" in found["unknown"].words
    assert found["refused"].status == FAILED and "not one kvplan knows" in found["refused"].words
    (late,) = verify.verify_all([Task("late", CHANGED["llama"])], limit_seconds=0.01)
    assert late.status == FAILED and "stopped after" in late.words


# -- without transformers ----------------------------------------------------------------------------------


def pretend(
    config: Config, change: Callable[[CacheTensor], CacheTensor | None] = lambda tensor: tensor, extra: int = 0
) -> Callable[..., DryRun]:
    """A runner that keeps K and V as a plain implementation of `config` would, changed here and there."""
    spec = read_config(config)
    heads, dim = config["num_key_value_heads"], config["hidden_size"] // config["num_attention_heads"]

    def run(_: Config, shapes: Sequence[Shape], steps: int) -> DryRun:
        runs = []
        for shape in shapes:
            for tokens in (shape.prefill_tokens, shape.prefill_tokens + steps):
                size = (shape.batch, heads, tokens, dim)
                count = shape.batch * heads * tokens * dim
                made = [
                    CacheTensor(layer, "self", name, size, "bfloat16", count, 2 * count)
                    for layer in range(len(spec.layers))
                    for name in ("keys", "values")
                ]
                kept = tuple(tensor for tensor in map(change, made) if tensor is not None)
                runs.append(Run(shape, tokens, len(spec.layers), kept))
        return DryRun("Pretended", parameters(spec) + extra, False, (), (), tuple(runs), "5", "2")

    return run


PLAIN: Config = {**SMALL, "model_type": "llama"}


def test_equal_numbers_are_exact() -> None:
    found = verify_config(PLAIN, "plain", pretend(PLAIN))
    assert found.status == EXACT and [check.exact for check in found.caches] == [5, 5]


def test_one_parameter_more_is_a_difference() -> None:
    found = verify_config(PLAIN, "plain", pretend(PLAIN, extra=1))
    assert found.status == DIFFERENT and f"theirs {parameters(read_config(PLAIN)) + 1:,}" in found.words


@pytest.mark.parametrize(
    "change",
    [
        lambda tensor: None if tensor.slot == 3 and tensor.name == "values" else tensor,
        lambda tensor: replace(tensor, bytes=2 * tensor.bytes, dtype="float32") if tensor.slot == 3 else tensor,
        lambda tensor: replace(tensor, bytes=tensor.bytes + 2) if tensor.slot == 3 else tensor,
    ],
    ids=["missing", "dtype", "one element"],
)
def test_a_layer_that_keeps_anything_else_is_named(change: Callable[[CacheTensor], CacheTensor | None]) -> None:
    found = verify_config(PLAIN, "plain", pretend(PLAIN, change))
    assert found.status == DIFFERENT
    for check in found.caches:
        assert check.exact == 4 and len(check.differences) == 1 and check.differences[0].startswith("layer 3: ours")


def test_heads_that_are_stored_broadcast_are_a_reason_for_falcon_alone() -> None:
    falcon = {"model_type": "falcon", "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "num_kv_heads": 3,
              "new_decoder_architecture": True, "vocab_size": 10}  # fmt: skip
    shape = Run(Shape(1, 24), 24, 2, ())
    spec = read_config(falcon)
    made = tuple(
        CacheTensor(i, "self", name, (1, 6, 24, 16), "bfloat16", 2304, 4608) for i in range(2) for name in ("k", "v")
    )
    assert verify.check_run(spec, replace(shape, tensors=made)).reasons == (verify.BROADCAST,)
    assert verify.check_run(replace(spec, model_type="llama"), replace(shape, tensors=made)).differences


def test_keys_that_a_file_leaves_out_are_said_and_never_overwritten() -> None:
    raw = {"model_type": "qwen3_vl", "text_config": {"hidden_size": 64}, "vision_config": {"depth": 2}}
    filled, said = complete(raw)
    assert filled["vision_config"] == {"depth": 2, "out_hidden_size": 64} and said == (
        "vision_config.out_hidden_size 64",
    )
    given = {**raw, "vision_config": {"out_hidden_size": 5}}
    assert complete(given) == (given, ())
    assert complete({"model_type": "deepseek_v3", "q_lora_rank": 7}) == (
        {"model_type": "deepseek_v3", "q_lora_rank": 7},
        (),
    )


def test_a_changed_answer_changes_the_key() -> None:
    keys = {
        verify.key_of(read_config(config))
        for config in (PLAIN, {**PLAIN, "num_key_value_heads": 2}, {**PLAIN, "torch_dtype": "float16"})
    }
    assert len(keys) == 3 and verify.key_of(read_config(PLAIN)) in keys


# -- the command -------------------------------------------------------------------------------------------


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """`verify_all` without children: every model is as its name says; the names that were asked for."""
    asked: list[str] = []

    def pretended(tasks: Iterable[Task], **limits: Any) -> Iterator[Verdict]:
        for task in tasks:
            asked.append(task.name)
            found = verify_config(PLAIN, "plain", pretend(PLAIN, extra=int("different" in task.name)))
            status = {"failing": FAILED, "unknown": UNKNOWN}.get(task.name, found.status)
            words = found.words or status
            yield replace(
                found,
                model=task.name,
                status=status,
                words="" if status == EXACT else words,
                key=verify.key_of(read_config(task.config, name=task.name)),
            )

    monkeypatch.setattr(verify, "verify_all", pretended)
    monkeypatch.setattr(verify, "library_versions", lambda: ("5", "2"))
    return asked


def configs(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / f"{name}.json").write_text(json.dumps(PLAIN))
    return [str(folder / f"{name}.json") for name in names]


@pytest.mark.parametrize(("name", "code"), [("good", 0), ("different", 3), ("failing", 1), ("unknown", 1)])
def test_the_exit_code_says_how_it_went(tmp_path: Path, children: list[str], name: str, code: int) -> None:
    found = CliRunner().invoke(command, configs(tmp_path, name))
    assert found.exit_code == code and name in found.output


def test_a_report_is_taken_up_again_where_it_was_left(tmp_path: Path, children: list[str]) -> None:
    report = str(tmp_path / "report.json")
    first = configs(tmp_path, "one", "different")
    assert CliRunner().invoke(command, [*first, "-o", report]).exit_code == 3
    more = configs(tmp_path, "one", "different", "two")
    assert CliRunner().invoke(command, [*more, "-o", report]).exit_code == 3
    assert children == ["one", "different", "different", "two"]  # what differed is asked again
    (tmp_path / "one.json").write_text(json.dumps({**PLAIN, "num_hidden_layers": 4}))
    CliRunner().invoke(command, [*more, "-o", report])
    assert children[4:] == ["one", "different"]
    CliRunner().invoke(command, [*more, "-o", report, "--fresh"])
    assert children[6:] == ["one", "different", "two"]
    written = json.loads(Path(report).read_text())
    assert [model["model"] for model in written["models"]] == ["one", "different", "two"]
    assert written["counts"] == {"exact": 2, "different": 1}


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path: Path, children: list[str]) -> None:
    (tmp_path / "report.json").write_text("{}")
    found = CliRunner().invoke(command, [*configs(tmp_path, "one"), "-o", str(tmp_path / "report.json")])
    assert isinstance(found.exception, KvplanError) and (tmp_path / "report.json").read_text() == "{}"


def test_json_has_every_run(tmp_path: Path, children: list[str]) -> None:
    found = CliRunner().invoke(command, [*configs(tmp_path, "one"), "--json"])
    (model,) = json.loads(found.stdout)["models"]
    assert [check["tokens"] for check in model["caches"]] == [24, 26]


def test_without_the_extra_one_line_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verify, "find_spec", lambda name: None)
    found = CliRunner().invoke(command, configs(tmp_path, "one"))
    assert isinstance(found.exception, KvplanError) and "pip install 'llm-kvplan[verify]'" in str(found.exception)


def test_a_gguf_file_has_no_config_to_build_from(tmp_path: Path, children: list[str]) -> None:
    from tests.planner.readers.test_gguf import CASES, write

    found = CliRunner().invoke(command, [write(CASES["gqa"], tmp_path)])
    assert isinstance(found.exception, KvplanError) and "config.json is wanted" in str(found.exception)


def test_what_transformers_holds_of_experts_that_pass_a_token_on_is_known() -> None:
    """LongCat-Flash: transformers 5.24.0 builds 741,053,585,408 parameters, the checkpoint has 560,664,958,976."""
    spec = read_config(find_model("longcat-flash-560b").config)
    assert verify._idle_experts(spec) == 741_053_585_408 - 560_664_958_976
