"""Builds a small Llama of transformers with the layers of each of its quantisers and prints the bytes of its state.

    python benchmarks/quantized_layouts.py      # needs transformers and torch; nothing is computed, all on the meta device

The layers are those that transformers loads a quantised file into. tests/cases/quantized_layouts.json holds the output;
tests/planner/memory/test_quantization.py compares kvplan's count with it. Quantisers whose layers come from a package of
their own, or want a kernel, are left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

HEAD = ["lm_head"]
CONFIG = {
    "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 1000,
    "intermediate_size": 1024, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip


def layouts() -> dict[str, tuple[dict[str, Any], Callable[[Any], Any]]]:
    """Pairs each method's config, as transformers writes it, with the function that puts its layers in."""
    from transformers.integrations import bitnet, finegrained_fp8, gemma_quant, higgs
    from transformers.utils import quantization_config as configs

    fp8 = configs.FineGrainedFP8Config()
    mxfp8 = configs.FineGrainedFP8Config(weight_block_size=(1, 32), scale_fmt="ue8m0")
    bits = configs.BitNetQuantConfig()
    gemma = configs.GemmaQuantizationConfig(num_bits=4)
    mixed = configs.GemmaQuantizationConfig(num_bits=2, module_quant_configs={"self_attn": {"num_bits": 8}})
    of_higgs = configs.HiggsConfig(bits=4, p=2, group_size=256)
    return {
        "fp8": (fp8.to_dict(), lambda m: finegrained_fp8.replace_with_fp8_linear(m, HEAD, fp8, pre_quantized=True)),
        "mxfp8": (mxfp8.to_dict(), lambda m: finegrained_fp8.replace_with_fp8_linear(m, HEAD, mxfp8, pre_quantized=True)),
        "bitnet": (bits.to_dict(), lambda m: bitnet.replace_with_bitnet_linear(m, HEAD, bits)),
        "gemma": (gemma.to_dict(), lambda m: gemma_quant.replace_with_quant_layers(m, gemma, HEAD)),
        "gemma mixed": (mixed.to_dict(), lambda m: gemma_quant.replace_with_quant_layers(m, mixed, HEAD)),
        "higgs": (of_higgs.to_dict(), lambda m: higgs.replace_with_higgs_linear(m, HEAD, of_higgs)),
    }  # fmt: skip


def main() -> None:
    """Prints each method's config and bytes as JSON."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_default_dtype(torch.bfloat16)
    found = []
    for name, (config, put_in) in layouts().items():
        with torch.device("meta"):
            model = LlamaForCausalLM(LlamaConfig(**CONFIG))
        put_in(model)
        size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
        written = {
            key: str(getattr(value, "value", value)) if key == "quant_method" else value
            for key, value in config.items()
        }
        found.append({"name": name, "quantization_config": written, "bytes": size})
    print(
        json.dumps(
            {"transformers": __import__("transformers").__version__, "model": CONFIG, "layouts": found}, indent=1
        )
    )


if __name__ == "__main__":
    main()
