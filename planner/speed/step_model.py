"""Tabulates the seconds of a step as a function of its tokens, for simulations that ask a million times."""

from __future__ import annotations

from collections.abc import Sequence

from planner.catalogue.device import Device
from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.speed.constants import Constants
from planner.speed.passes import (
    Rates,
    between_ranks_seconds,
    expert_power_factor,
    power_factor,
    prefill_efficiency,
    rates_of,
    sent_between,
)
from planner.speed.step import StepTerms
from planner.speed.work import Work, pairs, work
from planner.units import PS_PER_SECOND


@dataclass(frozen=True)
class LinearSteps:
    """A replica's steps as `planner.speed.step.StepModel`; `terms` is computed from the sums each time."""

    sums: Work
    rates: Rates
    constants: Constants
    reaches: tuple[int | None, ...]
    kv_ps: tuple[int, ...]
    score_ps: tuple[int, ...]

    def terms(self, sequences: int, chunks: Sequence[tuple[int, int]]) -> StepTerms:
        """Weights are read once for decoding sequences and chunks together; chunks compute at the prefill's rate.

        Left out: on a processor, a request's way in (`request_seconds`) where the beginning of its prompt is cached: a
        chunk with tokens before it is taken for a later piece of its prompt.
        """
        sums, rates, c = self.sums, self.rates, self.constants
        rows = max(1.0, sequences / sums.sharding.pp) if sequences else 0.0
        new, cached = 0.0, rows * sums.sequence_bytes
        weights = sums.weight_bytes + sums.head_bytes
        decode = rows * (sums.row_flops + sums.head_flops + sums.sequence_flops)
        scores = 0.0
        for tokens, before in chunks:
            new += tokens
            for read in sums.reads:
                scores += read.pair_flops * pairs(read.reach, tokens, before)
                cached += read.token_bytes * min(before + tokens, read.reach or before + tokens)
        hit = sums.experts_read(rows + new) if sums.experts else 0.0
        prefill = new * sums.row_flops + len(chunks) * sums.head_flops
        attention = scores / c.attention_efficiency * rates.flops_per_s / (rates.plain_flops_per_s or rates.flops_per_s)
        products = prefill / prefill_efficiency(sums.packed, rates.narrow, c) + attention
        products *= power_factor(rates, c)
        if new and sums.experts:
            grouped = sums.expert_products(new) + sums.expert_pads(new) * c.expert_pad_rows
            products += grouped / c.expert_prefill_efficiency * expert_power_factor(rates, c)
        compute = decode / c.compute_efficiency + sums.expert_products(rows) / c.expert_compute_efficiency
        compute = compute * c.roof_scale + products * c.prompts_scale
        reading = c.packed_efficiency if sums.packed else c.memory_efficiency
        alone = sums.sharding.devices == 1
        between = 0.0 if alone else between_ranks_seconds(sent_between(sums, rates, rows + new), c)
        fixed = sums.launches * c.layer_seconds + sums.routed_layers * c.expert_layer_seconds + c.step_seconds
        fixed = (fixed + sequences * c.sequence_seconds + between) * c.fixed_scale
        fixed += len(chunks) * sums.launches * c.prompt_layer_seconds * c.prompts_scale
        memory = weights / reading + hit / c.expert_efficiency + cached / c.cache_efficiency
        fixed += (
            c.serial * c.request_seconds * sum(not before for _, before in chunks)
        )  # the host's work, on the same cores
        if chunks and sequences:  # their rows are read and computed beside those that decode; the step starts once
            memory += c.serial * weights / reading
        memory, compute = memory / rates.bandwidth_bytes_per_s * c.roof_scale, compute / rates.flops_per_s
        return StepTerms(
            _ps(fixed * c.tpot_scale),
            _ps((memory + c.serial * compute) * c.tpot_scale),
            _ps((compute + c.serial * memory) * c.tpot_scale),
        )


def step_model(estimate: Estimate, device: Device, constants: Constants) -> LinearSteps:
    """Builds the simulator's steps of one replica, in whole picoseconds, from the same work and constants as `speed`.

    A replica is one of the `dp` of the layout. Under pipeline parallelism a step is the way through all stages of one
    of `pp` micro-batches, so that all sequences get a token a step.
    """
    sums = work(estimate)
    return linear_steps(sums, rates_of(device, estimate), constants.of_model(sums.shape, experts=bool(sums.experts)))


def linear_steps(sums: Work, rates: Rates, constants: Constants) -> LinearSteps:
    """Makes the steps as `step_model` does, from a model's sums and the constants that are its own."""
    pp = sums.sharding.pp
    kv = tuple(
        _ps(
            (r.token_bytes + constants.unshared_reads * r.unshared_bytes)
            / pp
            / (rates.bandwidth_bytes_per_s * constants.cache_efficiency)
            * constants.roof_scale
            * constants.tpot_scale
        )
        for r in sums.reads
    )
    computing = constants.roof_scale * constants.tpot_scale
    scores = tuple(
        _ps(r.token_flops / pp / (rates.flops_per_s * constants.compute_efficiency) * computing) for r in sums.reads
    )
    if constants.serial:  # what the longer side does not hide of the shorter, as in `roof_seconds`
        both = tuple(zip(kv, scores, strict=True))
        kv = tuple(round(read + constants.serial * score) for read, score in both)
        scores = tuple(round(score + constants.serial * read) for read, score in both)
    return LinearSteps(sums, rates, constants, tuple(read.reach for read in sums.reads), kv, scores)


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_SECOND)
