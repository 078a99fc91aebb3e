"""Answers `fit`: the most sequences, the longest context, the fewest devices, and which devices hold a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from planner.answers.verdict import AT_MOST, DOES_NOT_FIT, FITS, Verdict, engine_verdict, mends_of, within
from planner.catalogue.entries import devices
from planner.errors import KvplanError
from planner.memory.estimate import SCHEMA_VERSION, Estimate, caches_on_rank, estimate, rank_kv_bytes
from planner.memory.limits import (
    Layout,
    fewest_devices,
    longest_context,
    most_sequences,
    pool_bytes,
    tensor_parallel_devices,
)
from planner.memory.request import Request, device_capacity
from planner.memory.sharding import stages
from planner.model.spec import ModelSpec
from planner.options.fit import FitAsked
from planner.options.tables import LLAMA
from planner.shown import NO, Shown
from planner.units import MAX_COUNT, gib, human_tokens, plural
from planner.workloads.lengths import Concurrency, LengthMix, concurrency

if TYPE_CHECKING:
    from planner.answers.users import Users
    from planner.engines.base import EngineAnswer
    from planner.memory.offload import Offload

TABLE_LENGTHS = (1024, 4096, 8192, 32768, 131072)


COLUMNS = ("device", "seq_tokens", "batch", "most_sequences", "longest_context_tokens", "verdict")


@dataclass(frozen=True, eq=False, repr=False)
class FitAnswer(Shown):
    """The inverse questions of one model on one device; what the request carries beside it counts.

    asked      the question, with what is left of the pool shared out among what shares the device
    plain      the question as it came
    estimate   of one sequence
    """

    asked: FitAsked
    plain: FitAsked
    estimate: Estimate

    @cached_property
    def most_sequences(self) -> int | None:
        """Sequences of the asked length that are held at once, by the engine where one is named; None: no bound."""
        if self.engine is not None and not _without_pool(self.engine):
            return self.engine.most_requests
        return self._most(self.asked.request)

    @cached_property
    def longest_context_tokens(self) -> int:
        """The longest sequence at the asked batch, 0 where none fits; the engine's where one is named."""
        if self.engine_longest_tokens is not None:
            return self.engine_longest_tokens
        return longest_context(self.asked.spec, self.asked.request, self.asked.capacity)

    @cached_property
    def pool_bytes(self) -> int:
        """Bytes for caches on the fullest device, as the engine reserves them where one is named."""
        if self.engine is not None and self.engine.ranged is not None:
            return self.engine.ranged.pool.bytes
        return pool_bytes(self.estimate)

    @cached_property
    def fewest(self) -> Layout | None:
        """The fewest devices that hold the request, and their layout."""
        return fewest_devices(self.plain.spec, self.plain.request, self.plain.capacity)

    @cached_property
    def fewest_tensor_parallel(self) -> Layout | None:
        """The fewest devices in a layout as servers are started: tensor parallel up to 8, stages of 8 beyond."""
        return tensor_parallel_devices(self.plain.spec, self.plain.request, self.plain.capacity)

    @cached_property
    def by_length(self) -> list[dict[str, Any]]:
        """Most sequences at usual lengths, and at the asked one."""
        request = self.asked.request
        return [{"seq_tokens": n, "most_sequences": self._most_at(n)} for n in _lengths(self.asked.spec, request)]

    @cached_property
    def devices_that_hold_it(self) -> list[dict[str, Any]]:
        """Catalogue devices that hold the request in its layout, the smallest first."""
        return _holders(self.plain.spec, self.plain.request)

    @cached_property
    def length_mix(self) -> dict[str, Any] | None:
        """How many requests of real lengths are held at once; None without --lengths."""
        asked = self.asked
        return None if asked.mix is None else _mix_answer(asked, asked.mix)

    @cached_property
    def extras(self) -> dict[str, Any] | None:
        """What shares the device, and where idle sessions lie; None where nothing does."""
        asked = self.asked
        if asked.request.extras is None and asked.tiers is None:
            return None
        from planner.answers.extras import extras_block

        return extras_block(self.estimate, asked.tiers, asked.device)

    @cached_property
    def offload(self) -> Offload | None:
        """llama.cpp's layers on the card: as asked, else the most that fit; None of what is no GGUF file."""
        asked = self.asked
        if asked.engine is not None and asked.engine.name in LLAMA:
            return None  # the engine's own answer says what lies where
        if (
            asked.spec.stored is None
            or not asked.spec.model_type.startswith("gguf ")
            or asked.request.sharding.devices > 1
        ):
            return None
        from planner.memory.offload import best_split, offload  # only of GGUF files

        if asked.ngl is not None:
            return offload(estimate(self.plain.spec, self.plain.request, asked.capacity), asked.ngl)
        host = None if asked.tiers is None else asked.tiers.host_bytes
        return best_split(estimate(asked.spec, asked.request, asked.capacity), asked.capacity.bytes, host)

    def _reads(self) -> dict[str, Any]:
        """What one token reads in llama.cpp's layout, and the most tokens a second that bandwidth alone allows."""
        from planner.catalogue.entries import find_device
        from planner.engines.placement import HOST_BYTES_PER_S
        from planner.memory.offload import read_bytes

        assert self.offload is not None
        card, host = read_bytes(estimate(self.plain.spec, self.plain.request, self.asked.capacity), self.offload)
        try:
            rate = find_device(self.asked.capacity.name).bandwidth_bytes_per_s
        except KvplanError:
            rate = None
        most: tuple[float | None, ...] = (None, None)
        if host and rate:
            most = tuple(1 / (card / rate + host / bandwidth) for bandwidth in HOST_BYTES_PER_S)
        return {
            "device_read_bytes": card,
            "host_read_bytes": host,
            "tokens_per_s_most_low": most[0],
            "tokens_per_s_most_high": most[1],
        }

    @property
    def kv_dtype(self) -> str:
        """The type of K and V, as the engine keeps them where one is named."""
        if self.asked.engine is None:
            return self.estimate.fmt.name
        from planner.answers.engine import kv_name

        return kv_name(self.estimate, self.asked.engine.name)

    @property
    def split_fits(self) -> bool:
        """The card and the host together hold a GGUF file, where --host-memory says what the host has."""
        split = self.offload
        return bool(split and split.host_fits and split.device_bytes <= self.asked.capacity.bytes)

    @cached_property
    def users(self) -> Users | None:
        """How many users at once the targets allow by the user's own measurements; None without such."""
        if self.asked.own is None:
            return None
        from planner.answers.users import users_of  # the formulas of speed, where they are asked

        return users_of(self.asked, self.estimate)

    @cached_property
    def engine(self) -> EngineAnswer | None:
        """The same request in the terms of the engine that was asked."""
        if self.asked.engine is None:
            return None
        from planner.answers.engine import engine_answer, with_most_slots, with_own_length

        asked = with_most_slots(self.asked.engine, self._whole)
        return with_own_length(asked, self._whole, engine_answer(asked, self._whole))

    @cached_property
    def engine_longest_tokens(self) -> int | None:
        """The longest context at the asked batch in the engine's pool."""
        if self.asked.engine is None:
            return None
        from planner.answers.engine import longest_request

        return longest_request(self.asked.engine, self._whole)

    @cached_property
    def command(self) -> str | None:
        """The engine's start command, where it was asked for."""
        if self.engine is None or self.asked.engine is None or not self.asked.emit:
            return None
        from planner.engines.emit import command

        return command(self.engine, self._whole, self.asked.engine.options)

    @cached_property
    def start_file(self) -> str | None:
        """The compose file or Kubernetes manifest that starts it, where one was asked for."""
        if (
            self.command is None
            or self.engine is None
            or self.asked.engine is None
            or self.asked.emit not in ("compose", "k8s")
        ):
            return None
        from planner.engines.emit_files import start_file

        devices = self.asked.request.sharding.devices
        return start_file(self.command, self.engine.name, self.asked.engine.version, devices, str(self.asked.emit))

    @property
    def exit_code(self) -> int:
        """0, or 3 where not even one sequence fits; with an engine named the engine's verdict counts."""
        return 0 if self.verdict.ok else NO

    @cached_property
    def verdict(self) -> Verdict:
        """The one verdict of text, JSON and exit code."""
        found = None if self.engine is None else engine_verdict(self.engine, self._whole)
        if found is None:
            return within(self.estimate, _memory_verdict(self)) or _memory_verdict(self)
        # A server that starts and holds one request at least is no refusal: how many it holds is the question here.
        starts = self.engine is not None and self.engine.refusal is None and bool(self.engine.most_requests)
        return replace(found, ok=True) if starts else found

    def figures(self) -> dict[str, Any]:
        """The figures of the answer, without lists of lengths and devices."""
        one, asked = self.estimate, self.asked
        return {
            "schema_version": SCHEMA_VERSION,
            "model": asked.spec.name,
            "read_as": asked.spec.read_as.to_dict() if asked.spec.read_as else None,
            "device": asked.capacity.name,
            "capacity_bytes": asked.capacity.bytes,
            "seq_tokens": asked.request.seq_tokens,
            "batch": asked.request.batch,
            "kv_dtype": self.kv_dtype,
            "weight_bytes": one.weight_bytes if asked.spec.weights_known else None,
            "verdict": self.verdict.word,
            "pool_bytes": self.pool_bytes,
            "sequence_bytes": one.per_device.sequence_bytes if self.engine is None else self.engine.request_bytes,
            "most_sequences": self.most_sequences,
            "longest_context_tokens": self.longest_context_tokens,
            "longest_context_limit_tokens": asked.spec.max_positions,
            "fewest_devices": _layout(self.fewest),
            "fewest_devices_tensor_parallel": _layout(self.fewest_tensor_parallel),
        }

    def to_dict(self) -> dict[str, Any]:
        """The JSON contract: base units, keys that stay."""
        one = self.estimate
        found = self.figures() | {
            "by_length": self.by_length,
            "devices_that_hold_it": self.devices_that_hold_it,
            "warnings": list(one.warnings),
            "assumptions": list(one.assumptions),
            "exactness": one.exactness,
        }
        return found | self._blocks()

    def _blocks(self) -> dict[str, Any]:
        """What only some questions ask for: real lengths, what shares the device, GGUF layers, an engine."""
        found: dict[str, Any] = {}
        if self.users is not None:
            found["users"] = self.users.to_dict()
        if self.length_mix is not None:
            found["length_mix"] = self.length_mix
        if self.extras is not None:
            found["extras"] = self.extras
        if self.offload is not None:
            found["offload"] = self.offload.to_dict() | self._reads()
        if self.engine is not None:
            found["engine"] = self.engine.to_dict() | {"longest_context_tokens": self.engine_longest_tokens}
            found["engine"] |= {"command": self.command} if self.command else {}
            found["engine"] |= {"file": self.start_file} if self.start_file else {}
            found["engine"] |= self._host_bound()
        return found

    def rows(self) -> list[dict[str, Any]]:
        """One row; lists as words."""
        found = self.to_dict()
        if self.extras is not None:
            found["extras"] = extras_row(self.extras)
        found["devices_that_hold_it"] = [row["device"] for row in self.devices_that_hold_it]
        found["by_length"] = [f"{row['seq_tokens']}:{row['most_sequences']}" for row in self.by_length]
        return [found]

    def _host_bound(self) -> dict[str, float]:
        """The most tokens a second where llama.cpp's host computes, as keys of JSON; none elsewhere."""
        from planner.answers.engine import host_bound

        bound = None if self.engine is None else host_bound(self.engine.placed, self.asked.capacity)
        return {"tokens_per_s_most_low": bound[0], "tokens_per_s_most_high": bound[1]} if bound else {}

    @cached_property
    def _whole(self) -> Estimate:
        """The estimate of the whole batch, as the question came."""
        return _stored(self.asked, estimate(self.plain.spec, self.plain.request, self.plain.capacity))

    def _most_at(self, tokens: int) -> int | None:
        """Sequences of another length, by the engine where one is named: it is then started for that length."""
        request, asked = replace(self.asked.request, seq_tokens=tokens), self.asked.engine
        if asked is None:
            return self._most(request)
        from planner.answers.engine import engine_answer, with_most_slots
        from planner.options.engine import started_for

        longer = asked._replace(options=replace(asked.options, max_model_len=None, ctx_size=None))
        whole = estimate(self.plain.spec, replace(self.plain.request, seq_tokens=tokens), self.plain.capacity)
        found = engine_answer(with_most_slots(started_for(longer, tokens), whole), whole)
        return self._most(request) if _without_pool(found) else found.most_requests

    def _most(self, request: Request) -> int | None:
        """None where nothing bounds the count (a cache of zero bytes)."""
        count = most_sequences(self.asked.spec, request, self.asked.capacity)
        return None if count >= MAX_COUNT else count


def _without_pool(engine: EngineAnswer) -> bool:
    """Whether the engine counts no requests (transformers): memory bounds them, and the batch is what it is given."""
    return engine.ranged is None and engine.most_requests is None


def _stored(asked: FitAsked, estimate: Estimate) -> Estimate:
    """The estimate in the formats that the engine stores, where one is named."""
    if asked.engine is None:
        return estimate
    from planner.answers.engine import as_stored

    return as_stored(asked.engine, estimate)


def fit_answer(asked: FitAsked) -> FitAnswer:
    """Answers the inverse questions of one model on one device."""
    plain = asked
    if asked.request.extras is not None:
        from planner.extras.shared_device import split_pool

        asked = replace(asked, request=split_pool(asked.spec, asked.request, asked.capacity))
    one = _stored(asked, estimate(asked.spec, replace(asked.request, batch=1), asked.capacity))
    answer = FitAnswer(asked, plain, one)
    answer._blocks()  # what cannot be answered is said here, not where it is printed
    return answer


def _memory_verdict(answer: FitAnswer) -> Verdict:
    """How many sequences fit, in kvplan's own terms."""
    asked, most = answer.asked, answer.most_sequences
    count = asked.request.sharding.devices
    where = asked.capacity.name if count == 1 else f"{count:,} x {asked.capacity.name}"
    length = f"{human_tokens(asked.request.seq_tokens)} tokens"
    if most is None:
        return Verdict(FITS, True, f"FITS {where}: any number of sequences, since nothing is kept")
    if most:
        batch, tokens = asked.request.batch, answer.longest_context_tokens
        longest = (
            f"one alone of up to {tokens:,} tokens" if batch == 1 else f"{batch:,} of up to {tokens:,} tokens each"
        )
        longest = longest if tokens else f"not {batch:,} of any length"
        return Verdict(FITS, True, f"FITS {where}: {plural(most, 'sequence')} of {length} at once; {longest}")
    if answer.estimate.bounded:
        return Verdict(
            AT_MOST, True, f"AT MOST, MAY FIT {where}: the weights or the cache are an upper bound, see the notes"
        )
    if answer.split_fits and answer.offload is not None:
        host = f"{gib(answer.offload.host_bytes)} of {gib(answer.offload.host_memory or 0)} in host memory"
        return Verdict(FITS, True, f"FITS {where} with {host}: {answer.offload.flags}")
    short = max(0, answer.estimate.per_device.sequence_bytes - answer.pool_bytes)
    return Verdict(
        DOES_NOT_FIT,
        False,
        f"DOES NOT FIT {where}: short by {gib(short)} for one sequence of {length}",
        mends_of(answer.estimate),
    )


def extras_row(found: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens the block of what shares the device into one row: columns that stay, one for all lines."""
    lines = [f"{line['name']}:{line['bytes']}" for line in found.get("lines", ())]
    kept = {key: value for key, value in found.items() if key not in ("lines", "lora", "models", "drafter")}
    return {**kept, "lines": lines}


def _layout(found: Layout | None) -> dict[str, int] | None:
    return None if found is None else {"devices": found.devices, "tp": found.sharding.tp, "pp": found.sharding.pp}


def _lengths(spec: ModelSpec, request: Request) -> list[int]:
    ceiling = max(spec.max_positions or request.seq_tokens, request.seq_tokens)
    return sorted({request.seq_tokens, *(n for n in TABLE_LENGTHS if n <= ceiling)})


def _holders(spec: ModelSpec, request: Request) -> list[dict[str, Any]]:
    """Catalogue devices that hold the request in its layout, the smallest first.

    What lies on a device depends on its kind alone (its driver's overhead), so one estimate stands for all of a kind.
    """
    needed: dict[str, int] = {}
    holders = []
    for found in devices():
        if not found.memory_bytes or found.name.startswith("MIG-"):
            continue  # the user's own memory; a part of a device that is listed
        room = device_capacity(found)
        if room.kind not in needed:
            needed[room.kind] = estimate(spec, request, room).per_device.total_bytes
        free = room.bytes - needed[room.kind]
        if free >= 0:
            holders.append({"device": found.name, "capacity_bytes": found.memory_bytes, "free_bytes": free})
    return sorted(holders, key=lambda row: (row["capacity_bytes"], row["device"]))


def _mix_answer(asked: FitAsked, mix: LengthMix) -> dict[str, Any]:
    """Requests of the mix held at once on the whole layout, by the average and safely."""
    spec, request, room = asked.spec, asked.request, asked.capacity
    if spec.max_positions:
        mix = mix.clipped(spec.max_positions)
    # Stage, activations and overhead as at the longest request: the pool is what is left beside them.
    longest = estimate(spec, replace(request, seq_tokens=mix.longest, batch=1), room)
    seen = request_bytes(longest, mix.counts)
    held: Concurrency = concurrency(mix, pool_bytes(longest), seen)
    replicas = request.sharding.dp
    return {
        "source": mix.words,
        "mean_tokens": round(mix.mean),
        "p50_tokens": mix.percentile(0.5),
        "p95_tokens": mix.percentile(0.95),
        "longest_tokens": mix.longest,
        "mean_request_bytes": held.mean_request_bytes,
        "average_sequences": held.average * replicas,
        "safe_sequences": held.safe * replicas,
        "sequences_at_longest": held.at_longest * replicas,
    }


def request_bytes(estimate: Estimate, lengths: Iterable[int]) -> dict[int, int]:
    """Counts the cache of one request of each length on the device that is fullest at the longest: a file may hold 10^5
    lengths.
    """
    sharding, stage = estimate.request.sharding, estimate.per_device
    caches = caches_on_rank(stages(estimate.spec, sharding.pp)[stage.stage], sharding)
    follows = estimate.request.source_tokens is None and estimate.spec.source_tokens is None
    source = estimate.source_tokens
    extras = estimate.request.extras

    def beside(length: int) -> int:
        return 0 if extras is None else extras.sequence_bytes(estimate, stage.stage, caches, tokens=length)

    return {
        length: stage.state_bytes
        + rank_kv_bytes(caches, sharding, length, source_tokens=length if follows else source, fmt=estimate.fmt)
        + beside(length)
        for length in lengths
    }
