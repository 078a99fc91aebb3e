"""What `architectures` says of a checkpoint's head: a language model's, another task's, none, or a draft's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from planner.errors import one_line
from planner.model.spec import ModelSpec
from planner.model.weights import Weight, vector
from planner.readers.type_keys import type_keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Compiled where they are asked: most configs of the catalogue name no class.
_DRAFT = r"(?i)eagle|medusa|mlpspeculator|dflash|NextN|MTPModel|MTPDraft|Speculator"
_BARE = r"^(?!.*For[A-Z])[A-Z]\w*(?:Model|TextModel|Embedding|EmbeddingModel)$|ForEmbedding$|EmbedModel$|BiModel$"
_OTHER = r"Reward|Rerank|Ranking|Classif|ProcessReward|MultipleChoice|ForRegression|ForScore"


def with_task_head(spec: ModelSpec, raw: Mapping[str, Any]) -> ModelSpec:
    """Replaces the language model's head by that of the class that `architectures` names first.

    A sequence classifier has a matrix [labels, hidden], a token classifier and a span finder one with a bias [labels or
    2]; a bare model (embeddings) has none; of a reward model or a re-ranker of another make the head is not counted.
    Source: transformers modeling_layers.py, GenericForSequenceClassification and its fellows.
    """
    named = raw.get("architectures")
    first = named[0] if isinstance(named, (list, tuple)) and named and isinstance(named[0], str) else ""
    if not first or spec.encoder or not spec.weights_known:
        return spec
    shown = one_line(first, 60)
    if re.search(_DRAFT, first):
        words = f"{shown} is a draft model: it runs beside its target (--drafter), and shares or adds tables that are not counted"
        return replace(spec, warnings=(*spec.warnings, words))
    if first.endswith("ForSequenceClassification"):
        return _without_head(
            spec,
            (Weight("lm_head", _labels(raw), spec.hidden, linear=False),),
            f"{shown}: a head of {_labels(raw)} labels, no language model's",
        )
    if first.endswith("ForTokenClassification"):
        head = (Weight("lm_head", _labels(raw), spec.hidden, linear=False), vector("lm_head", _labels(raw)))
        return _without_head(spec, head, f"{shown}: a head of {_labels(raw)} labels, no language model's")
    if first.endswith("ForQuestionAnswering"):
        return _without_head(
            spec,
            (Weight("lm_head", 2, spec.hidden, linear=False), vector("lm_head", 2)),
            f"{shown}: a head of 2 numbers a token",
        )
    if re.search(_BARE, first) and "LMHead" not in first and "auto_map" not in raw and type_keys(spec.model_type).known:
        return _without_head(spec, (), f"{shown}: no head")
    if re.search(_OTHER, first):
        return _without_head(spec, (), f"{shown}: the head of another task is not counted")
    return spec


def _labels(raw: Mapping[str, Any]) -> int:
    """How many labels: those that `id2label` lists, else `num_labels`, else two."""
    listed, count = raw.get("id2label"), raw.get("num_labels")
    if isinstance(listed, Mapping) and listed:
        return min(len(listed), 10**6)
    return count if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 10**6 else 2


def _without_head(spec: ModelSpec, head: tuple[Weight, ...], words: str) -> ModelSpec:
    after = tuple(weight for weight in spec.after if weight.part != "lm_head")
    return replace(spec, after=after + head, tied=False, notes=(*spec.notes, words))
