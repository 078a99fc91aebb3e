"""Reads what a device's name says: how many, which card, how much memory, which form.

"8x NVIDIA A100-SXM4-80GB" -> 8; card a100; 80 GB; form sxm
"""

from __future__ import annotations

import re
from functools import lru_cache

from planner.frozen import dataclass

MAX_NAME = 200
MOST_DEVICES = 4096

# Words that stand round a card's name and never tell two cards apart.
NOISE = frozenset(
    "nvidia geforce tesla amd radeon instinct intel apple google aws graphics gpu gpus card cards accelerator "
    "device tensor core desktop generation edition corporation inc advanced micro devices ati vga compatible controller "
    "3d the a memory vram of with unified chip mac macbook studio mini silicon soc module oem founders fe dev kit "
    "devkit developer agx nvlink nvlinked bridge wormhole blackhole radv nvgpu gmktec asus msi evga gigabyte zotac palit "
    "pny inno3d sapphire powercolor xfx asrock tuf gaming oc suprim ventus aorus air modded mod custom slot slots blower "
    "runpod vast vastai lambda lambdalabs colab kaggle modal nebius gcp azure oci coreweave hyperstack paperspace tensordock".split()
)
# Form factor, cooling, kind of memory: words that a name may leave out.
FORMS = frozenset(
    "sxm sxm2 sxm3 sxm4 sxm5 sxm6 pcie nvl hgx dgx oam blackwell server workstation maxq rtx gtx rx quadro hbm2 hbm2e hbm3 "
    "hbm3e hbm gddr6 gddr6x gddr7 ddr4 ddr5 lpddr4 lpddr4x lpddr5 lpddr5x per gcd uma".split()
)
_COUNT_BEFORE = re.compile(r"\s*(\d{1,4})\s*(?:[x×*]\s*|\s+)(?=\S)(.+)", re.IGNORECASE)
_COUNT_AFTER = re.compile(r"(.+?)(?:\s*[×*]\s*|\s+x\s*|(?<=[\dsSgGbB])x(?=[1-9]\d?\s*$))(\d{1,4})\s*", re.IGNORECASE)
_COUNT_LAST = re.compile(r"(.+?)\s*\(\s*x?\s*(\d{1,4})\s*x?\s*\)\s*", re.IGNORECASE)
_COUNT_GPUS = re.compile(r"(.+?)[\s-]+(\d{1,4})[\s-]*gpus?\s*", re.IGNORECASE)
_WORDS = {"single": 1, "one": 1, "dual": 2, "two": 2, "twin": 2, "triple": 3, "three": 3, "quad": 4, "four": 4,
          "six": 6, "eight": 8, "octo": 8}  # fmt: skip
_MEMORY = re.compile(
    r"(?<![\d.a-z])(\d{1,4}(?=\s*gi?b)|\d{1,3}(?=\s*g))\s*(?:gib|gb|g)(?![a-z0-9])|(?<=[a-z])-(\d{2,3})(?=$|\s)",
    re.IGNORECASE,
)
_TERABYTES = re.compile(
    r"(?<![\d.a-z])(\d(?:\.\d+)?)\s*ti?b(?![a-z0-9])", re.IGNORECASE
)  # of a processor: EPYC 9755 1.5TB
_MIG = re.compile(r"(?<![\d.a-z])([1-7]g\.\d{1,3}gb)(?:\+me(?:\.all)?)?", re.IGNORECASE)


@dataclass(frozen=True)
class DeviceParts:
    """What one name of a device says.

    card    letters and digits that name the chip, in order and joined: 4070tisuper, a100, m3max
    gb      the memory on the label, None where the name gives none
    forms   form factor and the like: sxm, pcie, maxq, rtx
    laptop  a mobile part, which is another chip under the same number
    slice   a MIG profile: 3g.40gb
    """

    card: str
    gb: int | None = None
    forms: frozenset[str] = frozenset()
    laptop: bool = False
    slice: str = ""


def counted(name: str) -> tuple[int, str]:
    """Splits a name into how many devices it says, and the rest of it.

    >>> counted("2x3090"), counted("RTX 3090 x2"), counted("8xH200"), counted("dual 4090"), counted("7900 XTX")
    ((2, '3090'), (2, 'RTX 3090'), (8, 'H200'), (2, '4090'), (1, '7900 XTX'))
    """
    text = name.strip()
    first, _, rest = text.partition(" ")
    if first.lower() in _WORDS and rest.strip():
        return _WORDS[first.lower()], rest.strip()
    if (match := _COUNT_BEFORE.fullmatch(text)) and _is_count(match.group(1), match.group(2), text):
        return int(match.group(1)), match.group(2).strip()
    for pattern in (_COUNT_LAST, _COUNT_GPUS, _COUNT_AFTER):
        if match := pattern.fullmatch(text):
            return int(match.group(2)), match.group(1).strip()
    return 1, text


def _is_count(digits: str, rest: str, text: str) -> bool:
    """`8 H200` counts; `3090 24GB` and `7900 XTX` name a card."""
    has_times = re.match(rf"\s*{digits}\s*[x×*]", text, re.IGNORECASE) is not None
    if has_times:
        return bool(re.search(r"\d{3}|[a-z]\w|[a-z] ?\d", rest, re.IGNORECASE)) and not re.match(
            r"t[xi]?(?:[\s+&].*)?$", rest, re.IGNORECASE
        )
    return int(digits) <= 64 and bool(re.match(r"(?:nvidia|rtx|gtx|rx|tesla|[ahlbgm]\w*\d|\d{4})", rest, re.IGNORECASE))


@lru_cache(maxsize=4096)
def device_parts(name: str) -> DeviceParts:
    """What `name` says, by its words alone.

    >>> found = device_parts("NVIDIA GeForce RTX 4070 Ti SUPER 16GB")
    >>> found.card, found.gb, sorted(found.forms)
    ('4070tisuper', 16, ['rtx'])
    >>> device_parts("H100 MIG 3g.40gb").slice, device_parts("A100-40G").gb, device_parts("M3 Max 36GB").card
    ('3g.40gb', 40, 'm3max')
    """
    text = name[:MAX_NAME].lower().replace("_", " ").replace("®", "").replace("(r)", "").replace("(tm)", "")
    if "[" in text and (inside := re.search(r"\[([^\]]*\d[^\]]*)\]", text)):  # lspci: GA102 [GeForce RTX 3090] (rev a1)
        text = inside.group(1)
    text = re.sub(r"\(rev \w+\)", " ", text)
    mig = _MIG.search(text)
    if mig:
        text = f"{text[: mig.start()]} {text[mig.end() :]}"
        text = re.sub(r"(?<![a-z])mig(?![a-z])", " ", text)
    text = re.sub(r"max-q", "maxq", re.sub(r"^nvidia\.com/", "", text))
    text = re.sub(r"(r9[67]00d?) ai pro(?!\w)", r"ai pro \1", text)
    text = re.sub(r"n1-\w+-\d+", " ", text)  # Google's machine that a card is added to
    text = re.sub(r"(?<=\w) dual[- ]slot", " ", text)
    text = re.sub(r"(?<![a-z0-9])([2-6][05]00) pro(?![a-z0-9])", r"pro \1", text)  # RTX 6000 Pro
    text = re.sub(r"macbook (?:pro|air)|mac (?:mini|studio|pro)|(?<!\w)imac|\d+[- ]?cores?(?!\w)", " ", text)
    text, gb = _take_memory(text)
    words = [word for word in re.split(r"[^a-z0-9.]+", text) if word]
    laptop = bool({"laptop", "mobile", "notebook"} & set(words)) or _mobile(words)
    forms = frozenset(form for word in words if word in FORMS for form in (word, _form(word)))
    kept = [word for word in words if word not in NOISE and word not in FORMS and word not in _LAPTOP]
    card = "".join(kept)
    if card.startswith(("rtx", "gtx")) and len(card) > 3:
        forms, card = forms | {card[:3]}, card[3:]
    elif re.match(r"rx\d", card):
        forms, card = forms | {"rx"}, card[2:]
    return DeviceParts(card, gb, forms, laptop, mig.group(1).lower() if mig else "")


_LAPTOP = frozenset({"laptop", "mobile", "notebook"})


def _mobile(words: list[str]) -> bool:
    """`4090m` and `rtx4090m` are the laptop's."""
    return any(re.fullmatch(r"(?:rtx)?[2-5]0[5-9]0m", word) for word in words)


def _take_memory(text: str) -> tuple[str, int | None]:
    found = None
    text = _TERABYTES.sub(lambda match: f"{round(float(match.group(1)) * 1024)}gb", text)
    for match in _MEMORY.finditer(text):
        if match.group(1):
            found = match
    if found is None:
        return text, None
    return f"{text[: found.start()]} {text[found.end() :]}", int(found.group(1))


def _form(word: str) -> str:
    return "sxm" if word.startswith("sxm") else word
