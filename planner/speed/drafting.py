"""Speculative decoding: tokens a step, what verifying them takes, and what the drafts themselves take.

    tokens a step = 1 + a + a² + ... + a^k          each of k drafted tokens counts if it and all before it are accepted
    TPOT          = (step that runs 1 + k tokens a sequence + k steps of the drafter) / tokens a step

Source: Leviathan et al. 2023, arXiv:2211.17192, equation 1. The acceptance `a` is a property of drafter, model and text,
not of the hardware: it is asked for, or taken from what was published of the method, with its range.
"""

from __future__ import annotations

from dataclasses import replace

from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.estimate import Estimate, estimate
from planner.model.spec import ModelSpec
from planner.speed.work import Experts, Read, Work, work


@dataclass(frozen=True)
class Method:
    """A way of drafting: published acceptance of a drafted token, low to high, and what drafts one.

    drafter   "" nothing runs (n-gram lookup), "layer" one layer and the head, "model" a model of its own
    """

    name: str
    acceptance: float
    low: float
    high: float
    drafter: str
    source: str


METHODS = {
    method.name: method
    for method in (
        Method("ngram", 0.35, 0.05, 0.75, "", "prompt lookup: little in chat, most where answers quote the prompt; "
               "blog.vllm.ai 2024-10-17, 0.8 to 2.8 times as fast"),
        Method("eagle3", 0.7, 0.5, 0.85, "layer", "EAGLE-3, arXiv:2503.01840"),
        Method("mtp", 0.75, 0.6, 0.9, "layer", "DeepSeek-V3, arXiv:2412.19437, section 5.4.3: 85 to 90 % of second tokens"),
        Method("draft-model", 0.65, 0.5, 0.8, "model", "Leviathan et al., arXiv:2211.17192, table 3"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Drafts:
    """`tokens` drafted a step, accepted with chance `acceptance` each (`low` to `high`), made by `method`.

    sums   what one step of the drafter reads and computes; None where nothing runs
    """

    tokens: int
    acceptance: float
    low: float
    high: float
    method: str
    sums: Work | None = None

    @property
    def tokens_a_step(self) -> float:
        """Tokens that a step gives each sequence."""
        return tokens_a_step(self.tokens, self.acceptance)

    def widened(self, low: float, high: float) -> tuple[float, float]:
        """A range of TPOT, as factors, by what the range of the acceptance adds to it.

        >>> Drafts(1, 0.5, 0.0, 1.0, "mtp").widened(0.8, 1.2)
        (0.6, 1.8)
        """
        fast, slow = (tokens_a_step(self.tokens, share) for share in (self.high, self.low))
        return round(low * self.tokens_a_step / fast, 12), round(high * self.tokens_a_step / slow, 12)

    def words(self) -> str:
        """What was taken, for an assumption line.

        >>> drafts(3, acceptance=0.7).words()
        '3 drafted tokens a step, each accepted with 0.7 (given): 2.53 tokens a step'
        """
        known = METHODS.get(self.method)
        of = (
            f"{self.low:g} to {self.high:g}, {known.name}: {known.source}"
            if known and self.low < self.high
            else "given"
        )
        return (
            f"{self.tokens} drafted tokens a step, each accepted with {self.acceptance:g} ({of}): "
            f"{self.tokens_a_step:.3g} tokens a step"
        )


def tokens_a_step(tokens: int, acceptance: float) -> float:
    """Sums the tokens that a step yields, on average: 1 + a + ... + a^k for k drafts of acceptance a.

    >>> tokens_a_step(3, 0.0), tokens_a_step(3, 0.5), tokens_a_step(3, 1.0)
    (1.0, 1.875, 4.0)
    """
    return float(sum(acceptance**i for i in range(tokens + 1)))


def drafts(
    tokens: int, *, method: str | None = None, acceptance: float | None = None, target: Work | None = None,
    drafter: Work | None = None,
) -> Drafts:  # fmt: skip
    """Builds the drafts of a step, `tokens` of them, by a method of METHODS or with an acceptance of 0 to 1.

    target, drafter   the work of the model and of a draft model of its own
    Raises BadRequest for an unknown method or an acceptance that is no share.
    """
    if acceptance is not None and not 0 <= acceptance <= 1:
        raise BadRequest(f"--acceptance {acceptance!r} is not a share; write 0 to 1, for example 0.7")
    name = method or ("draft-model" if drafter is not None else "mtp" if acceptance is None else "")
    if name and name not in METHODS:
        raise BadRequest(f"draft method {name!r} is not known; write one of: {', '.join(METHODS)}")
    known = METHODS.get(name)
    kind = known.drafter if known else "layer"
    sums = (
        drafter if kind == "model" or drafter is not None else one_layer(target) if kind == "layer" and target else None
    )
    if acceptance is None:
        assert known is not None
        return Drafts(tokens, known.acceptance, known.low, known.high, name, sums)
    return Drafts(tokens, acceptance, acceptance, acceptance, name or "given", sums)


@dataclass(frozen=True)
class DraftingAsked:
    """Speculative decoding as it is asked: a method of METHODS or a draft model, and what is known.

    acceptance   None: by method
    """

    method: str | None
    model: ModelSpec | None
    tokens: int
    acceptance: float | None


def drafts_of(one: Estimate, asked: DraftingAsked | None) -> Drafts | None:
    """What is drafted, with the work of the drafter in the layout and formats of its target."""
    if asked is None:
        return None
    drafter = None if asked.model is None else work(estimate(asked.model, replace(one.request, source_tokens=None)))
    return drafts(asked.tokens, method=asked.method, acceptance=asked.acceptance, target=work(one), drafter=drafter)


def pays_words(first: int | None) -> str:
    """From which batch on drafting costs more than it saves; None: nowhere.

    >>> pays_words(None), pays_words(65)
    ('drafting saves time at every batch up to 4,096', 'drafting costs more than it saves from batch 65 on')
    """
    if first is None:
        return "drafting saves time at every batch up to 4,096"
    where = "at every batch" if first == 1 else f"from batch {first:,} on"
    return f"drafting costs more than it saves {where}"


def one_layer(sums: Work) -> Work:
    """Returns the mean layer of a model and its head: what an MTP module or an EAGLE drafter runs for a token.

    Leaves out the projection that joins hidden state and token.
    """
    share, routed = 1 / sums.layers, 1 / max(1, sums.routed_layers)
    return replace(
        sums,
        weight_bytes=sums.weight_bytes * share,
        row_flops=sums.row_flops * share,
        experts=tuple(
            Experts(e.read_bytes * routed, e.row_flops * routed, e.active, e.count) for e in sums.experts
        ),
        reads=tuple(
            Read(r.reach, r.token_bytes * share, r.token_flops * share, r.pair_flops * share, r.unshared_bytes * share)
            for r in sums.reads
        ),
        sequence_bytes=0.0,
        sequence_flops=0.0,
        layers=1,
        launches=sums.launches * share,
        routed_layers=min(1, sums.routed_layers),
    )  # fmt: skip
