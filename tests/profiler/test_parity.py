"""The same weights, the same logits: our GPT against the models of transformers, whole and step by step."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from tests.profiler.small_models import NEEDS_TORCH, SMALL, VOCAB, small

torch = pytest.importorskip("torch", reason=NEEDS_TORCH)
transformers = pytest.importorskip("transformers", reason="parity is checked against transformers (extra: verify)")

from planner.memory.cache_strategies import layer_shapes
from profiler.caches import make_cache
from profiler.gpt import GPT, blank
from profiler.weights import load_state

PROMPT, STEPS = 36, 64
CLOSE = 1e-4


def theirs(name: str) -> Any:
    """transformers' model of the same config, weights random and large enough for every part to matter."""
    kind, raw = SMALL[name]
    config_class = getattr(transformers, ("Gemma3Text" if kind == "Gemma3" else kind) + "Config")
    model_class = getattr(transformers, kind + ("LMHeadModel" if kind == "GPT2" else "ForCausalLM"))
    config = config_class(**{key: value for key, value in raw.items() if key != "model_type"})
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            gain = parameter.ndim == 1 and key.endswith("weight") and "Gemma" not in kind
            parameter.copy_(torch.randn_like(parameter) * 0.08 + float(gain))
        for key, buffer in model.named_buffers():
            if key.endswith("e_score_correction_bias"):  # zeros until trained
                buffer.copy_(torch.randn_like(buffer) * 0.3)
    return model


def ours(name: str, model: Any) -> GPT:
    mine = blank(small(name))
    assert load_state(mine, model.state_dict()) == []
    return mine


def largest(a: Any, b: Any) -> float:
    return float((a - b).abs().max())


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_logits_equal_transformers_in_prefill_and_in_64_cached_steps(name: str) -> None:
    model = theirs(name)
    mine = ours(name, model)
    ids = torch.randint(0, VOCAB, (2, PROMPT + STEPS), generator=torch.Generator().manual_seed(1))
    whole = model(ids).logits
    assert whole.abs().max() > 0.5  # small logits would hide a difference
    assert largest(mine(ids), whole) < CLOSE

    # transformers 5.40 calls `cache` what was `past_key_values`
    keyword = "cache" if "cache" in inspect.signature(type(model).forward).parameters else "past_key_values"
    past = transformers.DynamicCache(config=model.config)
    cache = make_cache("concat", layer_shapes(mine.spec), batch=2, max_tokens=PROMPT + STEPS)
    for start, end in [(0, PROMPT), *((at, at + 1) for at in range(PROMPT, PROMPT + STEPS))]:
        step = model(ids[:, start:end], **{keyword: past}, use_cache=True).logits
        found = mine(ids[:, start:end], cache)
        assert largest(found, step) < CLOSE, (start, end)
        assert largest(found, whole[:, start:end]) < CLOSE, (start, end)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral_window", "deepseek_v3"])
@torch.no_grad()
def test_padded_rows_equal_transformers_with_its_attention_mask(name: str) -> None:
    model = theirs(name)
    mine = ours(name, model)
    ids = torch.randint(0, VOCAB, (3, 24), generator=torch.Generator().manual_seed(2))
    starts = torch.tensor([0, 5, 23])
    mask = (torch.arange(24) >= starts[:, None]).long()
    positions = (torch.arange(24) - starts[:, None]).clamp_min(0)
    wanted = model(ids, attention_mask=mask, position_ids=positions).logits
    found = mine(ids, starts=starts)
    assert largest(found[mask.bool()], wanted[mask.bool()]) < CLOSE


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3", "mixtral", "deepseek_v3_yarn"])
@torch.no_grad()
def test_the_config_that_transformers_writes_itself_builds_the_same_model(name: str) -> None:
    """Saved configs hold more and newer keys (rope_parameters, layer_types) than published ones."""
    from planner.readers.huggingface import read_config

    model = theirs(name)
    mine = blank(read_config(model.config.to_dict(), name=name))
    load_state(mine, model.state_dict())
    ids = torch.randint(0, VOCAB, (1, 40))
    assert largest(mine(ids), model(ids).logits) < CLOSE


@pytest.mark.parametrize("name", SMALL)
def test_parameters_are_as_many_as_transformers_builds(name: str) -> None:
    model = theirs(name)
    assert sum(p.numel() for p in blank(small(name)).parameters()) == sum(p.numel() for p in model.parameters())
