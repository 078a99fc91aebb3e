"""What a GGUF file holds beside the weights that transformers builds of the same model."""

from __future__ import annotations

from dataclasses import replace

from planner.model.spec import Layer, ModelSpec
from planner.model.weights import Weight

# Layers that attend over another's cache have K and V projections of their own in the checkpoint, and in the file.
SHARING = ("gemma3n", "gemma3n_text", "gemma4", "gemma4_text")


def held_in_a_gguf(spec: ModelSpec, *, head: bool = False) -> ModelSpec:
    """Returns the model with what its published GGUF files hold: with `head` a copy of a tied one, and K and V of all layers.

    Source: Gemma-4-E4B in BF16, 15,053,097,856 B: 7,517,930,000 parameters, 55,050,240 of them such projections; Qwen's own
    Qwen2.5-3B in FP16, whose 6,800,646,784 B are 3.40 B parameters of a model of 3.09 B.
    """
    if head and spec.tied:
        copy = Weight("lm_head", spec.vocab, spec.hidden, split="rows", linear=False)
        spec = replace(
            spec,
            tied=False,
            after=(*spec.after, copy),
            notes=(*spec.notes, "the file holds a head beside the embedding that it is tied to"),
        )
    if spec.model_type in SHARING:
        spec = replace(spec, layers=_with_projections(spec.layers))
    return spec


def _with_projections(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Gives each layer without K and V those of the last layer with queries of its shape."""
    found: list[Layer] = []
    kinds: dict[tuple[int, ...], tuple[Weight, ...]] = {}
    for layer in layers:
        kind = tuple(one.rows for one in layer.weights if one.name == "q_proj")
        own = tuple(one for one in layer.weights if one.part == "attention" and one.name in ("k_proj", "v_proj"))
        if own:
            kinds[kind] = own
        found.append(layer if own else replace(layer, extra=(*layer.extra, *kinds.get(kind, ()))))
    return tuple(found)
