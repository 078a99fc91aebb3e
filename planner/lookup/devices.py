"""A device's name as people write it -> one machine: which cards, how many, each with its own memory.

The name and every name of the catalogue are read into the same parts (`planner.lookup.device_parts`). A card sold
with two sizes of memory, or in two forms of unlike speed, is asked back; a size that no such card has is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

from planner.catalogue.device import Device
from planner.catalogue.entries import device_state, devices, known_device
from planner.errors import BadRequest, UnknownName, one_line
from planner.frozen import dataclass
from planner.lookup.device_parts import MOST_DEVICES, DeviceParts, counted, device_parts
from planner.lookup.instances import instance

LIST_THEM = "`kvplan gpus QUERY` lists them"
MOST_CHOICES = 8
# Words before a card's number that people leave out: "Orin Nano", "AI Max+ 395", "W7900", "B70", "910B".
_PREFIXES = re.compile(r"^(?:(?:jetson|agx|ryzen|ai|arc|ascend|atlas|hd|max|dgx)+(?=\w)|(?:arc)?pro(?=[a-z]\d))")
_MAYBE_SUPER = re.compile(r"[2-5]0\d0s")  # a 4070S is the Super, two 4070s are not
_STRICT = frozenset({"sxm", "nvl", "maxq"})  # another card, not another word for it
_FORMS = _STRICT | {"pcie", "hbm2", "hbm2e", "hbm3", "hbm3e", "server", "workstation"}

# AMD's compiler targets, as rocminfo and logs have them -> how the chips' names begin
_TARGETS = {
    "gfx900": "vega mi25", "gfx906": "mi50 mi60 vii", "gfx908": "mi100", "gfx90a": "mi210 mi250",
    "gfx942": "mi300 mi308 mi325", "gfx950": "mi350 mi355", "gfx1030": "6800 6900 6950", "gfx1100": "7900 w7900",
    "gfx1101": "7700 7800 w7700", "gfx1102": "7600", "gfx1103": "780m", "gfx1150": "890m", "gfx1151": "8060s",
    "gfx1200": "9060", "gfx1201": "9070 r9700",
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """The devices that one name gives, each with its own memory; alike, or not ("3090+3060").

    How a model is split over unlike cards is the engine's matter: llama.cpp splits by memory, vLLM and SGLang give
    every rank the same share, so the smallest card limits.

    asked    the name as it was written
    devices  one for each card
    notes    what was assumed, each in a few words
    """

    asked: str
    devices: tuple[Device, ...]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(self.devices)

    @property
    def mixed(self) -> bool:
        """Whether the cards differ."""
        return len({device.name for device in self.devices}) > 1

    @property
    def smallest(self) -> Device:
        """The card with the least memory; of equal ones the slowest."""
        return min(self.devices, key=lambda device: (device.memory_bytes, device.bandwidth_bytes_per_s or 0))

    @property
    def memory_bytes(self) -> int:
        """Bytes of all cards together."""
        return sum(device.memory_bytes for device in self.devices)

    @property
    def name(self) -> str:
        """`2x RTX-3090-24GB`, or `RTX-3090-24GB + RTX-3060-12GB`."""
        counts: dict[str, int] = {}
        for device in self.devices:
            counts[device.name] = counts.get(device.name, 0) + 1
        return " + ".join(name if count == 1 else f"{count}x {name}" for name, count in counts.items())


# Between unlike cards: +, &, "and", or a count ("2x3090 2x3060"); the + of "AI Max+ 392" is of a name.
_TOGETHER = re.compile(r"(?<!max)\+|&|\sand\s|(?<=\w)\s+(?=\d{1,2}\s?[x×]\s?[a-z0-9])", re.IGNORECASE)
_PROVIDERS = re.compile(
    r"^\s*(?:google\s+)?(?:runpod|vast(?:\.ai)?|lambda(?:\s?labs)?|colab|kaggle|modal|nebius)[\s:]+(?=\S)", re.I
)


def _without_brackets(name: str) -> str:
    """`NVIDIA DGX Spark (GB10)` says the same twice."""
    return re.sub(r"\s*\([^()]*[a-zA-Z][^()]*\)\s*$", "", name) or name


class Several(UnknownName):
    """A name that may be two devices."""


def machine_named(name: str) -> Machine:
    """Finds the machine that `name` means; UnknownName where no device is meant, or more than one may be.

    >>> machine_named("2x RTX 3090").name, machine_named("3090+3060").name, machine_named("p4d.24xlarge").count
    ('2x RTX-3090-24GB', 'RTX-3090-24GB + RTX-3060-12GB', 8)
    """
    if not name.strip():
        raise UnknownName(f"an empty device name; {LIST_THEM}")
    try:
        return _one_kind(name)
    except Several:
        raise
    except UnknownName:
        if (plain := _without_brackets(name)) != name:
            return machine_named(plain)
        pieces = [piece for piece in _TOGETHER.split(name) if piece.strip()]
        if len(pieces) < 2:
            raise
        try:
            machines = [_one_kind(piece) for piece in pieces]
        except UnknownName as error:
            raise UnknownName(f"of {one_line(name, 60)!r}: {error}") from None
        devices = tuple(device for found in machines for device in found.devices)
        notes = tuple(dict.fromkeys(note for found in machines for note in found.notes))
        return Machine(name, devices, notes)


def _one_kind(name: str) -> Machine:
    """Devices of one kind: a card, a card with a count, or a cloud instance."""
    if (known := known_device(name)) is not None:
        return Machine(name, (known,))
    if (found := instance(name)) is not None:
        count, card = found
        device = find_card(card)
        return Machine(name, (device,) * count, (f"{one_line(name, 40)} has {count} x {device.name}",))
    count, rest = counted(_PROVIDERS.sub("", name))
    if not 1 <= count <= MOST_DEVICES:
        raise BadRequest(f"{one_line(name, 40)!r} names {count:,} devices; 1 to {MOST_DEVICES:,} are wanted")
    return Machine(name, (find_card(rest),) * count)


def find_card(name: str) -> Device:
    """Finds the one device that a card's name means, without a count.

    >>> find_card("NVIDIA A100-SXM4-80GB").name, find_card("A100 80GB SXM").name, find_card("3090s").name
    ('A100-SXM4-80GB', 'A100-SXM4-80GB', 'RTX-3090-24GB')
    """
    asked = device_parts(name)
    plural = name.strip().removesuffix("s")
    if _MAYBE_SUPER.fullmatch(asked.card) and _of_card(replace(asked, card=f"{asked.card.removesuffix('s')}super")):
        plural = ""
    if (known := known_device(name) or known_device(plural)) is not None:
        return known
    found = _of_card(asked)
    if not found and (match := re.fullmatch(r"(.*\w)[- ](\d{2,3})", name.strip())):  # A100-80
        ending = replace(device_parts(match.group(1)), gb=int(match.group(2)))
        if found := [item for item in _of_card(ending) if ending.gb in item.sizes]:
            asked = ending
    if not found and (begun := _begun(asked)):
        raise Several(_which(name, begun))
    if not found:
        raise UnknownName(_nothing(name, asked))
    sized = [item for item in found if asked.gb is None or asked.gb in item.sizes]
    if not sized and found[0].device.vendor == "CPU" and len(found) == 1 and asked.gb:
        return replace(found[0].device, memory_bytes=asked.gb << 30, memory_source="the name")
    if not sized:
        sizes = ", ".join(item.device.name for item in found[:MOST_CHOICES])
        raise UnknownName(
            f"no device is called {one_line(name, 60)!r}: with another memory there is {sizes}; "
            f"--gpu {found[0].device.name} --memory {asked.gb}GiB takes its speed and that memory"
        )
    best = _of_form(asked, sized)
    if not best:
        forms = ", ".join(sorted(asked.forms & _FORMS)).upper()
        others = ", ".join(item.device.name for item in sized[:MOST_CHOICES])
        raise UnknownName(f"no device is called {one_line(name, 60)!r}: {others} is known, not as {forms}; {LIST_THEM}")
    if len(best) > 1 and asked.gb is None:  # the one that goes by the bare name
        bare = [item for item in best if any(part.card == asked.card and part.gb is None for part in item.parts)]
        best = bare if len(bare) == 1 and bare[0].device.vendor != "Apple" else best
    if len(best) > 1:
        raise Several(_which(name, best))
    return best[0].device


def taken_memory(name: str, device: Device) -> str:
    """Says which memory is taken where `name` gives none and the chip is sold with several; "" anywhere else.

    >>> taken_memory("M2 Ultra", find_card("M2 Ultra"))
    'Apple-M2-Ultra is taken with 192 GB, the largest; Apple-M2-Ultra-64GB, Apple-M2-Ultra-128GB are others'
    """
    if device.vendor != "Apple" or device_parts(name).gb is not None or device_parts(device.name).gb is not None:
        return ""
    others = [other.name for other in devices() if other.name.startswith(f"{device.name}-")]
    if not others or not device.advertised_gb:
        return ""
    return f"{device.name} is taken with {device.advertised_gb:g} GB, the largest; {', '.join(others)} are others"


def _which(name: str, items: list[_Known]) -> str:
    names = [item.device.name for item in items]
    more = f" and {len(names) - MOST_CHOICES} more" if len(names) > MOST_CHOICES else ""
    return f"{one_line(name, 60)!r} could be {', '.join(names[:MOST_CHOICES])}{more}: say which; {LIST_THEM}"


def _begun(asked: DeviceParts) -> list[_Known]:
    """What a name may be that leaves the end out (910B), gives a slice alone, or an AMD target (gfx1151)."""
    known = _index(device_state())
    if asked.slice and not asked.card:
        return [item for item in known if any(part.slice == asked.slice for part in item.parts)]
    if len(asked.card) < 4 or asked.slice:
        return []
    target = next((word for word in _TARGETS if asked.card.endswith(word)), "")
    begins = _TARGETS.get(target, asked.card).split()
    return [
        item
        for item in known
        if any(
            part.card != asked.card and part.card.startswith(tuple(begins)) and not (part.slice or part.laptop)
            for part in item.parts
        )
        and (asked.gb is None or asked.gb in item.sizes)
    ]


@dataclass(frozen=True)
class _Known:
    device: Device
    parts: tuple[DeviceParts, ...]

    @property
    def sizes(self) -> frozenset[int]:
        """Memory sizes by which it is known: its label's, and those in its names."""
        label = self.device.advertised_gb
        named = {part.gb for part in self.parts if part.gb is not None}
        return frozenset(named | ({round(label)} if label else set()))

    @property
    def forms(self) -> frozenset[str]:
        return frozenset(form for part in self.parts for form in part.forms)


@lru_cache(maxsize=4)
def _index(state: object) -> tuple[_Known, ...]:
    """Every device with its names read; `state` changes when the catalogue does."""
    return tuple(
        _Known(device, tuple(dict.fromkeys(device_parts(name) for name in (device.name, *device.aliases))))
        for device in devices()
    )


def _of_card(asked: DeviceParts) -> list[_Known]:
    """Devices of that chip and slice; where none is, the same without what people leave out before or after it."""
    known = _index(device_state())

    def same(card: str, loose: bool) -> list[_Known]:
        return [
            item
            for item in known
            if any(
                (_bare(part.card) if loose else part.card) == card
                and part.slice == asked.slice
                and part.laptop == asked.laptop
                for part in item.parts
            )
        ]

    if not asked.card:
        return []
    if re.fullmatch(r"[2-6][05]00", asked.card) and "quadro" not in asked.forms:  # RTX 6000, of which there are four
        return [
            item
            for card in (asked.card, f"{asked.card}ada", f"a{asked.card}", f"pro{asked.card}")
            for item in same(card, False)
        ]
    if _MAYBE_SUPER.fullmatch(asked.card):
        plain = asked.card.removesuffix("s")
        return same(plain, False) + same(f"{plain}super", False)
    for card, loose in ((asked.card, False), (asked.card.removesuffix("s"), False), (_bare(asked.card), True)):
        if found := same(card, loose):
            return found
    if asked.laptop and asked.card.endswith("m"):
        return same(asked.card.removesuffix("m"), False)
    return []


def _bare(card: str) -> str:
    """A card's number without the words before it; Apple's M chips keep theirs, which come after."""
    return card if re.match(r"m\d", card) else _PREFIXES.sub("", card)


def _of_form(asked: DeviceParts, found: list[_Known]) -> list[_Known]:
    """Those of the asked form; none where the form asked for is another card's."""
    wanted = asked.forms & _FORMS
    if wanted:
        fitting = [item for item in found if wanted <= item.forms]
        if not fitting and (wanted & _STRICT or ("pcie" in wanted and any(item.forms & _STRICT for item in found))):
            return []
        found = fitting or found
    exact = {form for form in asked.forms if re.fullmatch(r"sxm\d|blackwell", form)}
    if exact and (fitting := [item for item in found if exact <= item.forms]):
        found = fitting
    families = asked.forms & {"rtx", "gtx", "rx", "quadro"}
    if families and (fitting := [item for item in found if families <= item.forms]):
        found = fitting
    if len(found) > 1 and asked.forms & {"hgx", "dgx"}:  # boards of eight, never cards for a slot
        found = [item for item in found if "sxm" in item.forms] or found
    if len(found) > 1 and not wanted:
        found = [item for item in found if any(not part.forms & {"maxq", "server"} for part in item.parts)] or found
    return found


def _nothing(name: str, asked: DeviceParts) -> str:
    """The refusal, with what is near: the same chip as a slice or a laptop's, or chips that begin alike."""
    shown = repr(one_line(name, 60))
    if asked.card in ("cpu", "cpuonly"):
        return f"{shown} could be any processor: --gpu local asks this machine, or name one; {LIST_THEM}"
    if re.fullmatch(r"(?:cuda|gpu|hip|rocm|mps|metal|vulkan)?\d?", asked.card) and (asked.card or not asked.gb):
        return f"{shown} names no card: --gpu local asks this machine, or name one; {LIST_THEM}"
    if not asked.card or asked.card in ("ram", "memory", "vram"):
        return f"{shown} is a size of memory: --memory {asked.gb}GiB gives it without a device; {LIST_THEM}"
    known = _index(device_state())
    same = [item.device.name for item in known if any(part.card == asked.card for part in item.parts)]
    begins = [item.device.name for item in known if any(_alike(asked.card, part.card) for part in item.parts)]
    swapped = [item.device.name for item in known if any(_swapped(asked.card, part.card) for part in item.parts)]
    near = (
        list(dict.fromkeys(same + begins))[:MOST_CHOICES]
        or list(dict.fromkeys(swapped))[:MOST_CHOICES]
        or _of_near_number(asked, known)
        or _spelled(asked.card, known)
    )
    hint = f"; near it: {', '.join(near)}" if near else ""
    return f"no device is called {shown}{hint}; {LIST_THEM}"


def _swapped(one: str, other: str) -> bool:
    """Tells whether two neighbours stand in each other's place: rtx4900 and rtx4090."""
    differ = [place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]]
    if len(one) != len(other) or len(differ) != 2 or differ[1] != differ[0] + 1:
        return False
    first, second = differ
    return (one[first], one[second]) == (other[second], other[first])


_NUMBERED = re.compile(r"([a-z]{0,4}?)(\d{2,4})([a-z]*)")
_FAMILIES = frozenset({"rtx", "gtx", "rx", "quadro"})
MOST_NEAR = 5


def _of_near_number(asked: DeviceParts, known: tuple[_Known, ...]) -> list[str]:
    """Cards of that series with a number near: `rtx 4095` is near the 4090, `rtx 7090` near the other 90s."""
    match = _NUMBERED.fullmatch(asked.card)
    if match is None:
        return []
    letters, number = match.group(1), int(match.group(2))
    families = asked.forms & _FAMILIES
    found: dict[str, tuple[float, ...]] = {}
    for item in known:
        for part in item.parts:
            other = _NUMBERED.fullmatch(part.card)
            if other is None or other.group(1) != letters or part.slice or part.laptop != asked.laptop:
                continue
            if families and not families <= item.forms:
                continue
            far = abs(int(other.group(2)) - number)
            ending = int(other.group(2)) % 100 == number % 100 and len(other.group(2)) == len(match.group(2))
            if far < max(0.12 * number, 10) or ending or (letters and len(letters) > 1):
                cost = (not ending and far >= 100, far, other.group(3) != match.group(3), len(part.card))
                found[item.device.name] = min(cost, found.get(item.device.name, cost))
    return sorted(found, key=lambda name: found[name])[:MOST_NEAR]


def _alike(asked: str, card: str) -> bool:
    """Whether two chips' names begin with the same letters and number."""
    if len(asked) < 2 or not card:
        return False
    one, other = re.match(r"[a-z]*\d*", asked), re.match(r"[a-z]*\d*", card)
    return bool(one and other and one.group() == other.group() and len(one.group()) > 1)


def _spelled(card: str, known: tuple[_Known, ...]) -> list[str]:
    from difflib import get_close_matches  # slow to import, and only wanted when a name is wrong

    owner = {part.card: item.device.name for item in known for part in item.parts}
    return list(dict.fromkeys(owner[key] for key in get_close_matches(card[:40], list(owner), n=5, cutoff=0.75)))
