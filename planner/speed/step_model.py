"""Tabulates the seconds of a step as a function of its tokens, for simulations that ask a million times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from planner.catalogue.device import Device
from planner.frozen import dataclass
from planner.memory.estimate import Estimate
from planner.speed.constants import Constants
from planner.speed.passes import (
    LARGE_MESSAGE_BYTES,
    Rates,
    between_ranks_seconds,
    expert_power_factor,
    large_reduces,
    power_factor,
    prefill_efficiency,
    rates_of,
    sent_between,
)
from planner.speed.step import StepTerms
from planner.speed.work import Work, pairs, work
from planner.units import PS_PER_SECOND


@dataclass(frozen=True)
class Costs:
    """What each thing in a step takes, in picoseconds; the same in every step.

    fixed, sequence    a step whatever is in it, and each decoding sequence
    chunk, request     each piece of a prompt, and the first piece of one
    weights            reading all weights but the experts, once
    row, row_state     computing a decoding sequence's token, and reading what it keeps whatever its length
    token, head        computing a prompt's token, and the logits of a piece
    reads              by kind of layer: its reach, a query with a key in a prompt, and reading a cached token for it
    expert_byte        reading a byte of the experts that are hit
    pad_flop           computing a FLOP of the rows that fill an expert's tile
    sent, reduces      sending a token's vector between ranks, and all-reduces of large messages (`sent_between`)
    """

    fixed: float
    sequence: float
    chunk: float
    request: float
    weights: float
    row: float
    row_state: float
    token: float
    head: float
    reads: tuple[tuple[int | None, float, float], ...]
    expert_byte: float
    pad_flop: float
    sent: float
    reduces: float


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
        sums, each, serial = self.sums, self.costs, self.constants.serial
        rows = max(1.0, sequences / sums.sharding.pp) if sequences else 0.0
        fixed = each.fixed + sequences * each.sequence
        memory, compute, new = each.weights + rows * each.row_state, rows * each.row, 0
        for tokens, before in chunks:
            new += tokens
            for reach, pair, read in each.reads:
                compute += pair * pairs(reach, tokens, before)
                memory += read * (before + tokens if reach is None else min(before + tokens, reach))
        if chunks:
            fixed += len(chunks) * each.chunk
            compute += new * each.token + len(chunks) * each.head
            if serial:  # the host's work, on the same cores
                fixed += each.request * sum(not before for _, before in chunks)
                if sequences:  # their rows are read and computed beside those that decode; the step starts once
                    memory += serial * each.weights
        if sums.experts:
            memory += each.expert_byte * sums.experts_read(rows + new)
            compute += each.pad_flop * sums.expert_pads(new) if new else 0.0
        if each.reduces or each.sent:
            size = (rows + new) * sums.row_message_bytes
            fixed += each.sent * (rows + new) + each.reduces * size / (size + LARGE_MESSAGE_BYTES)
        return StepTerms(round(fixed), round(memory + serial * compute), round(compute + serial * memory))

    @cached_property
    def costs(self) -> Costs:
        """The picoseconds of each thing, by the constants of this model and the rates of this device."""
        sums, rates, c = self.sums, self.rates, self.constants
        scale = PS_PER_SECOND * c.tpot_scale
        byte = scale * c.roof_scale / rates.bandwidth_bytes_per_s  # at the whole bandwidth
        flop = scale / rates.flops_per_s
        prompt = flop * c.prompts_scale * power_factor(rates, c)
        grouped = flop * c.prompts_scale * expert_power_factor(rates, c) / c.expert_prefill_efficiency
        narrow = prompt / prefill_efficiency(sums.packed, rates.narrow, c)
        plain = prompt * rates.flops_per_s / (rates.plain_flops_per_s or rates.flops_per_s) / c.attention_efficiency
        decode = (sums.row_flops + sums.head_flops + sums.sequence_flops) / c.compute_efficiency
        decode += sums.expert_products(1) / c.expert_compute_efficiency
        layers = sums.launches * c.layer_seconds + sums.routed_layers * c.expert_layer_seconds
        one = sent_between(sums, rates, 1.0)
        waited = between_ranks_seconds(one._replace(message_seconds=0.0, large_reduces=0.0), c)
        reading = c.packed_efficiency if sums.packed else c.memory_efficiency
        return Costs(
            fixed=scale * c.fixed_scale * (layers + c.step_seconds + waited),
            sequence=scale * c.fixed_scale * c.sequence_seconds,
            chunk=scale * c.prompts_scale * c.prompt_layer_seconds * sums.launches,
            request=scale * c.serial * c.request_seconds,
            weights=byte * (sums.weight_bytes + sums.head_bytes) / reading,
            row=flop * c.roof_scale * decode,
            row_state=byte * sums.sequence_bytes / c.cache_efficiency,
            token=narrow * sums.row_flops + grouped * sums.expert_products(1),
            head=narrow * sums.head_flops,
            reads=tuple(
                (read.reach, plain * read.pair_flops, byte * read.token_bytes / c.cache_efficiency)
                for read in sums.reads
            ),
            expert_byte=byte / c.expert_efficiency,
            pad_flop=grouped * c.expert_pad_rows,
            sent=scale * c.fixed_scale * one.message_seconds / c.link_efficiency,
            reduces=scale * c.fixed_scale * large_reduces(sums) * c.large_reduce_seconds,
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
