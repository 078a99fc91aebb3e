"""Says the one verdict of an answer: what text, JSON and exit code agree on."""

from __future__ import annotations

from planner.frozen import dataclass
from planner.model.positions import too_long
from planner.units import ceil_div, gib, human_tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.engines.base import EngineAnswer
    from planner.memory.estimate import Estimate

FITS, TIGHT, DOES_NOT_FIT, AT_MOST = "fits", "fits tightly", "does not fit", "at most"
STARTS, REFUSES, UNCERTAIN = "starts", "refuses to start", "may or may not start"
STARTS_TIGHT = "starts tightly"
TOO_LONG, SCALED = "too long", "only with RoPE scaling"
BUDGETED = ("vllm", "sglang", "tensorrt-llm", "lmdeploy", "lmdeploy-pytorch")
"""Engines that take a budget and cut it into a cache; the others take what the flags ask for."""
NAMES = {
    "vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp", "ik_llamacpp": "ik_llama.cpp", "ollama": "ollama",
    "lmstudio": "LM Studio", "tensorrt-llm": "TensorRT-LLM", "lmdeploy": "LMDeploy", "lmdeploy-pytorch": "LMDeploy (PyTorch)", "transformers": "transformers",
    "mlx": "MLX", "koboldcpp": "KoboldCpp", "exllamav3": "ExLlamaV3",
    "exllamav2": "ExLlamaV2",
}  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """A verdict in one word group, `ok` for the exit code, and the sentence that people read.

    word   fits, fits tightly, does not fit, at most (only an upper bound does not fit); with an engine: starts, starts tightly (not at the low end of the estimate), refuses to start, may or may not start. Beyond the model's positions: too long, only with RoPE scaling
    """

    word: str
    ok: bool
    text: str
    mends: tuple[str, ...] = ()

    def line(self) -> str:
        """Returns the second line of a page: the sentence, and what would make it fit."""
        if not self.mends or self.mends[0] in self.text:
            return f"{self.text}."
        if self.word == UNCERTAIN:
            return f"{self.text}. By the estimate it starts with {' or '.join(self.mends)}."
        verb = {REFUSES: "starts", SCALED: "works"}.get(self.word, "fits")
        return f"{self.text}. It {verb} with {' or '.join(self.mends)}."


def memory_verdict(estimate: Estimate) -> Verdict | None:
    """Returns whether an estimate fits its device; None where no device is named."""
    room, free = estimate.capacity, estimate.free_bytes
    if room is None or free is None:
        return None
    low, high = estimate.per_device.total_range
    count = estimate.request.sharding.devices
    where = room.name if count == 1 else f"{count:,} x {room.name}"
    if free >= 0 and high <= room.bytes:
        return Verdict(FITS, True, f"FITS {where}: {gib(free)} of {gib(room.bytes)} free")
    if free >= 0:
        return Verdict(
            TIGHT,
            True,
            f"FITS {where}, TIGHTLY: {gib(free)} free; with estimates at their highest it needs {gib(high)}",
        )
    if estimate.fits is None:
        needed = f"at most {gib(estimate.per_device.total_bytes)} for {gib(room.bytes)}"
        words = "the weights or the cache are an upper bound, see the notes"
        return Verdict(AT_MOST, True, f"AT MOST, MAY FIT {where}: {needed}; {words}")
    lowest = f"; with estimates at their lowest it needs {gib(low)}" if low <= room.bytes else ""
    return Verdict(DOES_NOT_FIT, False, f"DOES NOT FIT {where}: short by {gib(-free)}{lowest}", mends_of(estimate))


def within(estimate: Estimate, memory: Verdict | None) -> Verdict | None:
    """Returns the verdict of memory, or that the length is more than the model's positions, whatever memory says.

    Without a device or an engine (`memory` is None) nothing is judged but the length.
    """
    found = too_long(estimate.spec, estimate.request.seq_tokens)
    if found is None:
        return memory
    beside = "" if memory is None else f". By memory alone it {_lowered(memory.text)}"
    if found.mend is None:
        return Verdict(TOO_LONG, False, f"TOO LONG: {found.words}{beside}")
    said = f"ONLY WITH ROPE SCALING ({found.mend}): {found.words}{beside}"
    return Verdict(SCALED, False, said, (found.mend,))


def _lowered(text: str) -> str:
    """A verdict as part of another's sentence.

    >>> _lowered("DOES NOT FIT L4: short by 1.00 GiB")
    'does not fit L4: short by 1.00 GiB'
    """
    for word in ("DOES NOT FIT", "AT MOST, MAY FIT", "FITS", "TIGHTLY"):
        text = text.replace(word, word.lower(), 1)
    return text


def mends_of(estimate: Estimate) -> tuple[str, ...]:
    """Returns the flags of the changes that are enough, at most two."""
    from planner.memory.advice import advise  # only where something does not fit

    enough = [change.flags for change in advise(estimate) if change.fits]
    return tuple(sorted(enough, key=lambda flags: flags.startswith("--seq ")))[
        :2
    ]  # a shorter length is no answer to it


def engine_verdict(answer: EngineAnswer, estimate: Estimate) -> Verdict | None:
    """Returns whether the engine starts and how many requests it holds; None where no device or budget is named."""
    room = estimate.capacity
    if answer.fits is None:
        if not estimate.bounded or answer.ranged is None:
            return None
        words = "the weights or the cache are an upper bound, see the notes"
        return Verdict(AT_MOST, True, f"AT MOST, MAY START: {words}")
    if room is None and answer.fits and answer.name not in BUDGETED:
        return None  # its cache is as large as it is asked to be: nothing says that a device holds it
    where = f" on {_devices(estimate)}" if room is not None else ""
    name = f"{NAMES.get(answer.name, answer.name)} {_version(answer)}".rstrip()
    length = f"{human_tokens(answer.request_tokens)} tokens"
    if answer.fits and tight(answer):
        why = f", for {answer.low_refusal}" if answer.low_refusal else ""
        lowest = f"at the low end of the estimate it may not{why}{interval(answer)}"
        return Verdict(STARTS_TIGHT, True, f"{name}{where} STARTS, TIGHTLY: {_held(answer, length)}; {lowest}")
    if answer.fits:
        return Verdict(STARTS, True, f"{name}{where} STARTS: {_held(answer, length)}")
    if answer.refusal is None and answer.most_requests and not any("refuses" in line for line in answer.lines):
        asked = estimate.request.sharding.sequences_on_rank(estimate.request.batch)
        held = f"{answer.most_requests:,} of the {asked:,} requests of {length} at once"
        return Verdict(STARTS, False, f"{name}{where} STARTS, BUT HOLDS {held}; the others wait")
    if answer.refusal is not None and answer.refusal.starts:
        word = SCALED if answer.refusal.mends else TOO_LONG
        return Verdict(word, False, f"{name}{where}: {word.upper()}: {answer.refusal.text}", answer.refusal.mends)
    reason = answer.refusal.text if answer.refusal is not None else _why(answer, length)
    mends = tuple(mend for mend in (answer.refusal.mends if answer.refusal else ()) if " " in mend)[:2]
    if answer.refusal is not None and not answer.refusal.sure:
        return Verdict(UNCERTAIN, False, f"{name}{where} MAY OR MAY NOT START: {reason}{interval(answer)}", mends)
    return Verdict(REFUSES, False, f"{name}{where} REFUSES TO START: {reason}", mends)


def _version(answer: EngineAnswer) -> str:
    return answer.version if answer.version[:1].isdigit() or answer.version[:1] == "b" else ""


def _devices(estimate: Estimate) -> str:
    room, count = estimate.capacity, estimate.request.sharding.devices
    assert room is not None
    return room.name if count == 1 or " + " in room.name else f"{count:,} x {room.name}"


def tight(answer: EngineAnswer) -> bool:
    """Returns whether an engine that starts by the estimate would not at its low end: no request is held there."""
    ranged, most = answer.ranged, answer.most_requests
    if answer.low_refusal:
        return True
    if ranged is None or not most or not ranged.pool.tokens or ranged.low.bytes == ranged.high.bytes:
        return False
    return most * ranged.low.tokens // ranged.pool.tokens == 0


def _held(answer: EngineAnswer, length: str) -> str:
    if answer.most_requests is None:
        return f"it holds the request of {length}"
    held = f"{answer.most_requests:,} request{'' if answer.most_requests == 1 else 's'} of {length} at once"
    ranged = answer.ranged
    if ranged is None or ranged.low.bytes == ranged.high.bytes or not ranged.pool.tokens:
        return held
    low = answer.most_requests * ranged.low.tokens // ranged.pool.tokens
    high = -(-answer.most_requests * ranged.high.tokens // ranged.pool.tokens)
    if (
        cap := answer.extra.get("max_batch_size")
    ) and answer.block_tokens:  # what is there may hold more than it takes at once
        one = ceil_div(answer.request_tokens, answer.block_tokens) * answer.block_tokens
        low, high = min(cap, ranged.low.tokens // one), min(cap, ranged.high.tokens // one)
    low, high = (
        answer.extra.get(key, value) for key, value in (("most_requests_low", low), ("most_requests_high", high))
    )
    return held if low == high else f"{held} (estimated, {low:,} to {high:,})"


def _why(answer: EngineAnswer, length: str) -> str:
    said = [line for line in answer.lines if line.startswith("refuses to start: ")]
    return said[0].removeprefix("refuses to start: ") if said else f"its cache does not hold one request of {length}"


def interval(answer: EngineAnswer, by: str = "--activation or a log") -> str:
    """Returns the two ends of the cache, and what decides between them; nothing where they are one."""
    ranged = answer.ranged
    if ranged is None or ranged.low.bytes == ranged.high.bytes:
        return ""
    return f" ({gib(ranged.low.bytes)} to {gib(ranged.high.bytes)} for the cache; decide it with {by})"
