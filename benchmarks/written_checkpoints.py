"""Lets the tools that write quantised checkpoints write small random models, and compares their bytes with kvplan's.

    python benchmarks/written_checkpoints.py mlx modelopt            # a table: written, counted, what is left out
    python benchmarks/written_checkpoints.py compressed-tensors -o written.json

Tools: mlx (mlx-lm), compressed-tensors (llm-compressor), modelopt (nvidia-modelopt), auto-round, quark (amd-quark), bitsandbytes, torchao;
each needs its own packages, transformers and torch, and no GPU. tests/cases/written_checkpoints.json holds what they wrote
(the configs, and bytes by kind of tensor); tests/planner/memory/test_written_checkpoints.py holds kvplan against it.
A tool that fails on a model prints why and goes on.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.written_models import SMALL, build, tokenizer
from planner.lookup import model_spec
from planner.memory.estimate import estimate
from planner.memory.request import Request

# What an engine needs beside the matrices and kvplan does not count: shapes, one number a matrix or head, a row of AWQ's.
LEFT_OUT = (
    "weight_shape", "weight_global_scale", "weight_scale_2", "input_scale", "input_global_scale", "k_scale", "v_scale",
    "pre_quant_scale", "e_score_correction_bias", "quant_map", "nested_quant_map", "weight_format", "g_idx", "bitsandbytes__nf4", "bitsandbytes__fp4",
)  # fmt: skip
Writer = Callable[[str, str, Path], None]  # model, recipe, folder


def tensors(folder: Path) -> dict[str, int]:
    """Reads the headers of a folder's safetensors files: last piece of the name and dtype -> bytes."""
    found: Counter[str] = Counter()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                found[f"{name.rsplit('.', 1)[-1]} {entry['dtype']}"] += end - start
    return dict(sorted(found.items()))


def written_bytes(by_tensor: dict[str, int]) -> tuple[int, int]:
    """Returns the bytes that kvplan counts, and those of what it leaves out."""
    out = sum(size for kind, size in by_tensor.items() if kind.split()[0] in LEFT_OUT)
    return sum(by_tensor.values()) - out, out


def in_16_bit(by_tensor: dict[str, int]) -> dict[str, int]:
    """AutoRound on a CPU leaves what it does not quantise in fp32, and its config says bf16: half of that is taken."""
    own = (*LEFT_OUT, "weight_scale")  # of the format
    return {
        kind: size // 2 if kind.endswith(" F32") and kind.split()[0] not in own else size
        for kind, size in by_tensor.items()
    }


# -- mlx-lm ------------------------------------------------------------------------------------------------
MLX = {
    **{f"{bits} bits, groups of 64": {"bits": bits, "group_size": 64} for bits in (3, 4, 5, 6, 8)},
    "4 bits, groups of 32": {"bits": 4, "group_size": 32}, "2 bits, groups of 128": {"bits": 2, "group_size": 128},
    "mxfp4": {"bits": 4, "group_size": 32, "mode": "mxfp4"}, "nvfp4": {"bits": 4, "group_size": 16, "mode": "nvfp4"},
    "mxfp8": {"bits": 8, "group_size": 32, "mode": "mxfp8"},
    **{name: {"recipe": name} for name in ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")},
}  # fmt: skip


def mlx(model: str, recipe: str, folder: Path) -> None:
    """Quantises as `mlx_lm.convert -q` does."""
    import mlx.core as mx
    from mlx_lm.convert import mixed_quant_predicate_builder
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    mx.set_default_device(mx.cpu)
    plain = folder / "plain"
    build(model).save_pretrained(plain)
    config = json.loads((plain / "config.json").read_text())
    config = {"rope_theta": 10000.0, "partial_rotary_factor": 0.25, "num_experts": 4, "vocab_size": 1024, **config}
    (plain / "config.json").write_text(json.dumps(config))
    module, config = load_model(plain, lazy=True)
    asked = dict(MLX[recipe])
    mixed = asked.pop("recipe", None)
    if mixed is not None:
        asked = {"bits": 4, "group_size": 64, "quant_predicate": mixed_quant_predicate_builder(mixed, module)}
    module, config = quantize_model(module, config, **asked)
    save_model(folder, module)
    save_config(config, folder / "config.json")


# -- llm-compressor ----------------------------------------------------------------------------------------
def _weights(bits: int, kind: str = "int", strategy: str = "group", **more: Any) -> dict[str, Any]:
    group = {"group_size": 128} if strategy == "group" else {}
    return {"num_bits": bits, "type": kind, "strategy": strategy, "symmetric": True, **group, **more}


_DYNAMIC = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True, "symmetric": True}
_EXPERTS_ALONE = ["re:.*lm_head", "re:.*self_attn.*", "re:.*linear_attn.*", "re:.*mlp.gate$", "re:.*visual.*", "re:.*vision_tower.*", "re:.*projector.*"]  # fmt: skip
COMPRESSED: dict[str, dict[str, Any]] = {
    **{name: {"scheme": name} for name in ("NVFP4A16", "MXFP4A16", "MXFP8A16", "FP8_DYNAMIC", "FP8_BLOCK", "W4A16", "W4A16_ASYM", "W8A16")},
    "FP8 a tensor": {"weights": _weights(8, "float", "tensor")},
    "W8A8": {"weights": _weights(8, "int", "channel"), "inputs": _DYNAMIC},
    "W4A16 a row": {"weights": _weights(4, strategy="channel")},
    "W4A16 a row, asymmetric": {"weights": _weights(4, strategy="channel", symmetric=False)},
    "W4A16, groups of 32": {"weights": _weights(4, group_size=32)},
    "W4A16, in order of activations": {"weights": _weights(4, actorder="weight")},
    **{f"W{bits}A16": {"weights": _weights(bits)} for bits in (2, 3, 5)},
    "W6A16, asymmetric": {"weights": _weights(6, symmetric=False)},
    "W4A8": {"weights": _weights(4), "inputs": _DYNAMIC},
    "W4AFP8": {"weights": _weights(4), "inputs": {**_DYNAMIC, "type": "float"}},
    "FP8, the head too": {"scheme": "FP8_DYNAMIC", "ignore": []},
    "W4A16, lists by expression": {"scheme": "W4A16", "ignore": _EXPERTS_ALONE},
    "attention in FP8, MLP in NVFP4": {"groups": {
        "re:.*self_attn.(q|k|v|o)_proj$": _weights(8, "float", "channel"),
        "re:.*mlp.*(gate|up|down)_proj$": _weights(4, "float", "tensor_group", group_size=16)}},
    "FP8, its cache too": {"scheme": "FP8_DYNAMIC", "cache": _weights(8, "float", "tensor")},
}  # fmt: skip


def compressed(model: str, recipe: str, folder: Path) -> None:
    """Quantises as llm-compressor's `oneshot` does, without data."""
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from llmcompressor import oneshot
    from llmcompressor.modifiers.quantization import QuantizationModifier

    asked, module = COMPRESSED[recipe], build(model)
    groups = asked.get("groups") or ({"Linear": asked["weights"]} if "weights" in asked else {})
    inputs = QuantizationArgs(**asked["inputs"]) if "inputs" in asked else None
    schemes = {
        f"group_{n}": QuantizationScheme(
            targets=[target], weights=QuantizationArgs(**weights), input_activations=inputs
        )
        for n, (target, weights) in enumerate(groups.items())
    }
    kept: dict[str, Any] = {"config_groups": schemes} if schemes else {"targets": "Linear", "scheme": asked["scheme"]}
    if "cache" in asked:
        kept["kv_cache_scheme"] = QuantizationArgs(**asked["cache"])
    plain = folder / "plain"
    module.save_pretrained(plain)
    module.config._name_or_path = module.name_or_path = str(plain)
    module.config.dtype = module.dtype  # saving made it a word, which llm-compressor's own experts do not take
    modifier = QuantizationModifier(ignore=asked.get("ignore", ["lm_head"]), **kept)
    oneshot(model=module, processor=tokenizer(), pipeline="datafree", recipe=modifier)
    module.save_pretrained(folder, save_compressed=True)


# -- NVIDIA ModelOpt ---------------------------------------------------------------------------------------
MODELOPT = {
    "FP8": "FP8_DEFAULT_CFG", "NVFP4": "NVFP4_DEFAULT_CFG", "NVFP4 of MLPs": "NVFP4_MLP_ONLY_CFG",
    "NVFP4 of o and MLPs": "NVFP4_OMLP_ONLY_CFG", "W4A8_AWQ": "W4A8_AWQ_BETA_CFG", "INT4_AWQ": "INT4_AWQ_CFG",
    "FP8_PB_WO": "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG", "FP8 a row": "FP8_PER_CHANNEL_PER_TOKEN_CFG",
    "MXFP8": "MXFP8_DEFAULT_CFG", "MXFP4": "MXFP4_DEFAULT_CFG", "MXFP4 of MLPs": "MXFP4_MLP_WEIGHT_ONLY_CFG",
    "INT8_SQ": "INT8_SMOOTHQUANT_CFG", "W8A16": "INT8_WEIGHT_ONLY_CFG", "W4A8_NVFP4_FP8": "W4A8_NVFP4_FP8_CFG",
    "W4A8_MXFP4_FP8": "W4A8_MXFP4_FP8_CFG", "FP8, its cache too": "FP8_DEFAULT_CFG",
}  # fmt: skip


def modelopt(model: str, recipe: str, folder: Path) -> None:
    """Quantises and exports as ModelOpt's hf_ptq example does."""
    import copy

    import modelopt.torch.quantization as mtq
    import torch
    from modelopt.torch.export import export_hf_checkpoint

    module = build(model)
    module.config.architectures = [type(module).__name__]
    config = copy.deepcopy(getattr(mtq, MODELOPT[recipe]))
    if recipe.endswith("cache too"):
        config = mtq.update_quant_cfg_with_kv_cache_quant(config, mtq.FP8_KV_CFG["quant_cfg"])

    def forward(one: Any) -> None:
        with torch.no_grad():
            one(input_ids=torch.randint(0, 1000, (1, 16)))

    mtq.quantize(module, config, forward)
    export_hf_checkpoint(module, export_dir=folder)


# -- AutoRound ---------------------------------------------------------------------------------------------
AUTO_ROUND: dict[str, dict[str, Any]] = {
    "W4A16": {"scheme": "W4A16"}, "W4A16 as GPTQ": {"scheme": "W4A16", "format": "auto_gptq"},
    "W4A16 as AWQ": {"scheme": "W4A16", "format": "auto_awq"}, "asymmetric": {"bits": 4, "group_size": 128, "sym": False},
    "W8A16": {"scheme": "W8A16"}, "W2A16G64": {"scheme": "W2A16G64"}, "W3A16": {"scheme": "W3A16"},
    "groups of 32": {"bits": 4, "group_size": 32, "sym": True},
    "layers of their own": {"scheme": "W4A16", "layer_config": {
        "model.layers.0.self_attn.q_proj": {"bits": 8}, "model.layers.1.mlp.down_proj": {"bits": 16}}},
    "MXFP4": {"scheme": "MXFP4"}, "MXFP8": {"scheme": "MXFP8"}, "NVFP4": {"scheme": "NVFP4"}, "FP8_STATIC": {"scheme": "FP8_STATIC"},
}  # fmt: skip


def auto_round(model: str, recipe: str, folder: Path) -> None:
    """Rounds to nearest, without tuning: the layout is that of a tuned file."""
    from auto_round import AutoRound

    module, asked = build(model), dict(AUTO_ROUND[recipe])
    plain = folder / "plain"
    module.save_pretrained(plain)
    module.config._name_or_path = module.name_or_path = str(plain)
    module.config.architectures = [type(module).__name__]
    form = asked.pop("format", "auto_round")
    text = ["t1 t2 t3 " * 200] * 4
    tuned = AutoRound(
        module,
        tokenizer(),
        iters=0,
        device_map="cpu",
        disable_opt_rtn=True,
        dataset=text,
        nsamples=2,
        seqlen=32,
        **asked,
    )
    tuned.quantize_and_save(str(folder), format=form)


# -- AMD Quark ---------------------------------------------------------------------------------------------
QUARK = ("fp8", "ptpc_fp8", "mxfp4", "mxfp6_e3m2", "int4_wo_128", "uint4_wo_128", "int8")


def quark(model: str, recipe: str, folder: Path) -> None:
    """Quantises and exports with Quark's template of the model type. Importing it compiles a small extension."""
    import torch
    from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors

    module = build(model)
    module.config.architectures = [type(module).__name__]
    config = LLMTemplate.get(module.config.model_type).get_config(
        scheme=recipe, exclude_layers=["lm_head", "*mlp.gate"]
    )
    quantiser = ModelQuantizer(config)
    made = quantiser.freeze(quantiser.quantize_model(module, [{"input_ids": torch.randint(0, 1000, (1, 16))}]))
    with torch.no_grad():
        export_safetensors(model=made, output_dir=str(folder))


# -- quantisers that transformers loads with ---------------------------------------------------------------
def _bitsandbytes() -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    spared = ["lm_head", "model.visual", "model.vision_tower", "model.layers.1.mlp"]
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    return {
        "nf4": BitsAndBytesConfig(**four), "nf4 twice": BitsAndBytesConfig(**four, bnb_4bit_use_double_quant=True),
        "fp4": BitsAndBytesConfig(load_in_4bit=True), "int8": BitsAndBytesConfig(load_in_8bit=True),
        "nf4 twice, a list": BitsAndBytesConfig(**four, bnb_4bit_use_double_quant=True, llm_int8_skip_modules=spared),
    }  # fmt: skip


def _torchao() -> dict[str, Any]:
    import torch
    import torchao.quantization as ao
    from transformers import TorchAoConfig

    groups = {"weight_granularity": ao.PerGroup(32)}
    return {
        "int8": TorchAoConfig(ao.Int8WeightOnlyConfig()), "fp8": TorchAoConfig(ao.Float8WeightOnlyConfig()),
        "int8 both": TorchAoConfig(ao.Int8DynamicActivationInt8WeightConfig()),
        "8da4w": TorchAoConfig(ao.Int8DynamicActivationIntxWeightConfig(weight_dtype=torch.int4, **groups)),
    }  # fmt: skip


def loaded(configs: Callable[[], dict[str, Any]]) -> Writer:
    """A quantiser of transformers: the model is loaded with it and saved."""

    def write(model: str, recipe: str, folder: Path) -> None:
        import torch

        module = build(model)
        plain = folder / "plain"
        module.save_pretrained(plain)
        made = type(module).from_pretrained(
            plain, quantization_config=configs()[recipe], dtype=torch.bfloat16, device_map="cpu"
        )
        made.save_pretrained(folder)

    return write


BITSANDBYTES = ("nf4", "nf4 twice", "fp4", "int8", "nf4 twice, a list")
TORCHAO = ("int8", "fp8", "int8 both", "8da4w")
# tool -> what writes, its recipes (all with the first model), and those that every other model has, too
TOOLS: dict[str, tuple[Writer, tuple[str, ...], tuple[str, ...]]] = {
    "mlx": (mlx, tuple(MLX), ("4 bits, groups of 64", "8 bits, groups of 64", "nvfp4", "mixed_3_6")),
    "compressed-tensors": (compressed, tuple(COMPRESSED), ("W4A16", "NVFP4A16", "FP8_DYNAMIC", "W4A16, lists by expression")),
    "modelopt": (modelopt, tuple(MODELOPT), ("FP8", "NVFP4")),
    "auto-round": (auto_round, tuple(AUTO_ROUND), ("W4A16", "NVFP4")),
    "quark": (quark, QUARK, ("fp8", "mxfp4")),
    "bitsandbytes": (loaded(_bitsandbytes), BITSANDBYTES, ("nf4",)),
    "torchao": (loaded(_torchao), TORCHAO, ("int8",)),
}  # fmt: skip
PACKAGES = {
    "mlx": "mlx-lm",
    "compressed-tensors": "llmcompressor",
    "modelopt": "nvidia-modelopt",
    "quark": "amd-quark",
}


def runs(tool: str, models: list[str]) -> Iterator[dict[str, Any]]:
    """Yields, for each model and recipe of a tool, what it wrote beside what kvplan counts."""
    from importlib.metadata import version

    write, recipes, of_all = TOOLS[tool]
    written_by = f"{PACKAGES.get(tool, tool)} {version(PACKAGES.get(tool, tool))}"
    for model in models:
        for recipe in recipes if model == next(iter(SMALL)) else of_all:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                try:
                    write(model, recipe, folder)
                    run = read(folder)
                    if tool == "auto-round":
                        run["tensors"] = in_16_bit(run["tensors"])
                    yield {"writer": written_by, "model": model, "recipe": recipe, **run}
                except Exception as error:  # a tool's own failure: said, and on to the next
                    print(f"{tool:18} {model:14} {recipe:32} {type(error).__name__}: {str(error)[:60]}", flush=True)


def read(folder: Path) -> dict[str, Any]:
    """Reads what lies in a folder, and asks kvplan of its config alone."""
    by_tensor = tensors(folder)
    if not by_tensor:  # AutoRound writes into a folder of the format's name
        folder = next(path.parent for path in sorted(folder.rglob("*.safetensors")) if path.parent.name != "plain")
        by_tensor = tensors(folder)
    names = ("config.json", "hf_quant_config.json", "quantize_config.json", "quant_config.json")
    files = {one: json.loads((folder / one).read_text()) for one in names if (folder / one).exists()}
    with tempfile.TemporaryDirectory() as bare:
        for one, content in files.items():
            (Path(bare) / one).write_text(json.dumps(content))
        counted = estimate(model_spec(bare), Request(8)).weight_bytes
    return {"files": files, "tensors": by_tensor, "counted": counted}


def main() -> None:
    """Prints the table, and writes the cases where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tools", nargs="+", choices=tuple(TOOLS))
    parser.add_argument("--models", nargs="+", choices=tuple(SMALL), default=tuple(SMALL))
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    found = []
    print(f"{'writer':28} {'model':12} {'recipe':32} {'written':>11} {'left out':>9} {'counted':>11} {'differs':>8}")
    for tool in asked.tools:
        for run in runs(tool, asked.models):
            kept, out = written_bytes(run["tensors"])
            print(
                f"{run['writer']:28} {run['model']:12} {run['recipe']:32} {kept + out:>11,} {out:>9,} {run['counted']:>11,} "
                f"{run['counted'] - kept:>+8,}",
                flush=True,
            )
            found.append(run)
    if asked.output:
        asked.output.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
