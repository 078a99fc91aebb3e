"""Changes one key at a time of a small config of every known type and compares with the transformers implementation.

    python benchmarks/config_sweep.py                 # all types; needs transformers and torch, on the meta device
    python benchmarks/config_sweep.py llama bart -v   # some, with each change that is not exact
    python benchmarks/config_sweep.py --kept sweep.jsonl  # all, a line a type; started again it goes on where it stopped
    python benchmarks/config_sweep.py llama --pairs 60    # two changes at a time, 60 drawn for each type (the same in every run)

Each key that decides a size is dropped, set to null, doubled, given under another name of its class, and keys of other
types are added. The parameters decide. Counted are: exact, explained (a note or a
warning of ours says what differs), refused (one line, no number), rejected (transformers does not build it either), and wrong. Exit code 1 when any is wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from planner.errors import KvplanError
from planner.model.parameters import parameters
from planner.readers.huggingface import read_config
from planner.readers.registry import known_types
from planner.readers.type_keys import type_keys

FOREIGN: dict[str, Any] = {
    "num_key_value_heads": 2, "head_dim": 48, "mlp_bias": True, "attention_bias": True, "qkv_bias": True, "intermediate_size": 176,
    "shared_expert_intermediate_size": 80, "n_shared_experts": 2, "word_embed_proj_dim": 40, "num_experts": 6, "norm": "layer",
    "layer_norms": 4, "qk_norm": "head", "mlp_gated": False, "lm_head_bias": True, "embed_norms": 1, "final_norm": False,
}  # fmt: skip
FEW = 4
SECTIONS = ("text_config", "thinker_config", "llm_config")  # the text model of a multimodal file
# What a class leaves open, and every published file gives.
FILLED: dict[str, dict[str, Any]] = {
    "deepseek_v2": {"num_experts_per_tok": 6}, "glm4_moe": {"head_dim": 128}, "dots1": {"n_routed_experts": 8, "num_experts_per_tok": 2, "n_shared_experts": 2},
    "dbrx": {"attn_config": {"kv_n_heads": 1, "rope_theta": 500000.0}},
    "deepseek_ocr2": {"text_config": {"num_experts_per_tok": 6, "mlp_layer_types": ["dense", *["sparse"] * 3]}},
    "granite4_vision": {"downsample_rate": "4/8", "deepstack_layer_map": [[-2, 3], [-5, 7]]},
    "hunyuan_vl": {"text_config": {"head_dim": 128}},
    "hunyuan_v1_dense": {"head_dim": 128}, "hunyuan_v1_moe": {"head_dim": 128},
    "aya_vision": {"vision_config": {"num_attention_heads": 16}}, "glm4v_moe": {"text_config": {"head_dim": 128}},
    "dots3_note": {"vision_config": {"mlp_layer_types": ["dense", "sparse", "sparse", "dense"]}},
    "ovis2": {"hidden_size": 4096, "vocab_size": 151936},  # as in every published file, those of its text model
    "inkling2_loop_text": {"loop_layer_index_start": 2, "loop_layer_index_end": 4, "n_layers_per_attn_res_block": 2},
    "inkling2_loop": {"text_config": {"loop_layer_index_start": 2, "loop_layer_index_end": 4, "n_layers_per_attn_res_block": 2}},
    "zamba2": {"kv_channels": None, "num_query_groups": None},
    "qwen3_omni_moe_thinker": {"text_config": {"head_dim": 128}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv", "full_attention"]},
    "nemotron": {"head_dim": 128, "num_key_value_heads": 8}, "molmo2": {"adapter_config": {"vision_feature_layer": [-1, -2]}}, "ministral": {"head_dim": 128},
}  # fmt: skip
DEPTHS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
)
SIZES = (
    "head_dim", "num_key_value_heads", "intermediate_size", "tie_word_embeddings", "attention_bias", "mlp_bias", "num_experts",
    "num_local_experts", "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts",
    "shared_expert_intermediate_size", "first_k_dense_replace", "q_lora_rank", "kv_lora_rank", "v_head_dim", "qk_rope_head_dim",
    "qk_nope_head_dim", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "d_model", "n_embd", "n_layer",
    "n_head", "ffn_dim", "n_inner", "encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads",
    "encoder_ffn_dim", "decoder_ffn_dim", "d_kv", "d_ff", "num_layers", "num_heads", "conv_bias", "use_conv_bias", "use_bias",
    "enable_bias", "state_size", "conv_kernel", "expand", "mamba_d_state", "mamba_expand", "mamba_n_heads", "mamba_d_conv",
    "multi_query", "new_decoder_architecture", "bias", "add_cross_attention", "qk_layernorm", "use_qk_norm", "sliding_window",
)  # fmt: skip


def changes(config: Mapping[str, Any], model_type: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(what was changed, the changed config), one key at a time."""
    keys = type_keys(model_type)
    for key in SIZES:
        if key not in config:
            continue
        value = config[key]
        yield f"drop {key}", {name: given for name, given in config.items() if name != key}
        yield f"null {key}", {**config, key: None}
        if isinstance(value, bool):
            yield f"flip {key}", {**config, key: not value}
        elif isinstance(value, int):
            yield f"double {key}", {**config, key: 2 * value}
        for alias, target in keys.aliases.items():
            if target == key and isinstance(value, int) and not isinstance(value, bool):
                moved = {name: given for name, given in config.items() if name != key}
                yield f"alias {alias} for {key}", {**moved, alias: value}
                yield f"alias {alias} beside {key}", {**config, alias: 2 * value}
    for key, value in FOREIGN.items():
        if key not in config and keys.foreign(key):
            yield f"foreign {key}", {**config, key: value}
    for key in SECTIONS:
        inner = config.get(key)
        if isinstance(inner, dict) and isinstance(inner.get("model_type"), str):
            for what, changed in changes(inner, inner["model_type"]):
                yield f"{key}: {what}", {**config, key: changed}


def pairs(config: Mapping[str, Any], model_type: str, count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Draws `count` configs with two changes, the second made in what the first left; the type's name is the seed."""
    draw, first = random.Random(model_type), list(changes(config, model_type))
    for _ in range(count if first else 0):
        what, changed = draw.choice(first)
        second = list(changes(changed, model_type))
        if second:
            also, both = draw.choice(second)
            yield f"{what}, {also}", both


def small(model_type: str) -> dict[str, Any]:
    """The config of a type as transformers writes it by default, narrowed so that it is built in no time."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config: dict[str, Any] = CONFIG_MAPPING[model_type]().to_dict()
    config.pop("architectures", None)
    config = json.loads(json.dumps(config, default=str))
    _narrow(config)
    for key, value in FILLED.get(model_type, {}).items():
        config[key] = {**(config.get(key) or {}), **value} if isinstance(value, dict) else value
    return config


def _narrow(config: dict[str, Any]) -> None:
    """Four layers say as much as sixty, here and in every section."""
    deep = next((config[key] for key in DEPTHS if isinstance(config.get(key), int)), 0)
    config.pop("per_layer_config", None)  # a saved file's: it names layers that are cut off
    if deep > FEW and config.get("num_kv_shared_layers"):
        config["num_kv_shared_layers"] = 0
    for key, value in config.items():
        if key in DEPTHS and isinstance(value, int):
            config[key] = min(value, FEW)
        elif isinstance(value, list) and len(value) == deep > FEW:
            config[key] = value[:FEW]
        elif key == "cross_attention_layers" and isinstance(value, list):
            config[key] = [layer for layer in value if layer < FEW]
        elif isinstance(value, dict):
            _narrow(value)


def built(config: Mapping[str, Any]) -> int | None:
    """Parameters of the implementation, tied ones once; None where transformers refuses the config."""
    import torch
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    model_type = config["model_type"]
    names = None
    # An encoder-decoder's decoder alone is a causal model, too: the whole goes first.
    for mapping in (auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
                    auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
                    auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):  # fmt: skip
        if model_type in mapping:
            names = mapping[model_type]
            break
    if names is None:
        return None
    import transformers

    cls = getattr(transformers, names if isinstance(names, str) else names[0])
    try:
        with torch.device("meta"):
            model = cls(CONFIG_MAPPING[model_type].from_dict(dict(config)))  # as a file is read
    except Exception:
        return None
    return sum(weight.numel() for weight in {id(w): w for w in model.parameters()}.values())


def judged(config: Mapping[str, Any]) -> tuple[str, str]:
    """(exact | explained | refused | rejected | wrong, words)."""
    theirs = built(config)
    try:
        spec = read_config(config)
    except KvplanError as error:
        return ("refused" if theirs is not None else "rejected"), str(error)
    if theirs is None:
        return "rejected", "transformers does not build it"
    ours = parameters(spec)
    if ours == theirs:
        return "exact", ""
    said = [line for line in (*spec.notes, *spec.warnings) if "counted" in line or "tie" in line or "stored" in line]
    return ("explained" if said or spec.upper_bound else "wrong"), f"ours {ours:,}, theirs {theirs:,}" + (
        f"; {said[0]}" if said else ""
    )


def kept(path: str | None) -> dict[str, Counter[str]]:
    """The counts of each type that an earlier run wrote; none where there is no such file."""
    if not path or not Path(path).exists():
        return {}
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return {row.pop("type"): Counter(row) for row in rows}


def main() -> int:
    """Print the counts of each type and together; 1 when any answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("types", nargs="*", help="model types (default: all that transformers has)")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each change that is not exact")
    parser.add_argument(
        "--pairs", type=int, default=0, metavar="N", help="two changes at a time, N drawn for each type"
    )
    parser.add_argument(
        "--kept", metavar="FILE", help="write each type's counts there, and go on behind those that it has"
    )
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    import transformers

    transformers.logging.set_verbosity(60)
    done, total = kept(asked.kept), Counter[str]()
    for model_type in asked.types or known_types():
        if not type_keys(model_type).known:
            continue
        if model_type not in done:
            done[model_type] = swept(model_type, asked.verbose, asked.pairs)
            if asked.kept:
                with open(asked.kept, "a", encoding="utf-8") as file:
                    print(json.dumps({"type": model_type, **done[model_type]}), file=file)
        total += done[model_type]
    print("together: " + ", ".join(f"{count:,} {name}" for name, count in sorted(total.items())))
    return 1 if total["wrong"] else 0


def swept(model_type: str, verbose: bool, drawn: int = 0) -> Counter[str]:
    """The counts of one type; a base config that is not exact itself is not changed further."""
    base = small(model_type)
    counts: Counter[str] = Counter()
    changed = pairs(base, model_type, drawn) if drawn else changes(base, model_type)
    for what, config in (("as it is", base), *changed):
        verdict, words = judged(config)
        counts[verdict] += 1
        if (verbose and verdict not in ("exact", "rejected")) or verdict == "wrong":
            print(f"  {model_type}: {what}: {verdict}: {words[:160]}", flush=True)
        if what == "as it is" and verdict != "exact":
            break
    print(f"{model_type}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items())), flush=True)
    return counts


if __name__ == "__main__":
    raise SystemExit(main())
