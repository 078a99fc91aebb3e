"""Reads what a model's name says: family, version, size, length, vintage, tuning, and the format of its weights.

    "bartowski/Qwen_Qwen3-30B-A3B-Instruct-2507-GGUF:Q4_K_M"
    -> words qwen; version 3; size 30b; active a3b; vintage 2507; tuning instruct; format gguf, q4_k_m

No catalogue is asked here: the same reading is made of what the user wrote and of each of the catalogue's names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

MAX_NAME = 300  # the longest name on the Hub has 96 characters before and after its slash

# What says how a model was tuned or packed, and never what it is made of.
TUNING = frozenset(
    "instruct it chat base pt hf thinking think reasoning preview exp inst sft dpo rl rlhf pretrain pretrained text "
    "mpo grpo orpo kto final latest original official release terminus speciale nonthinking non mtp abliterated uncensored heretic "
    "derestricted cloud tuned finetuned finetune ft python versatile instant free saferl high paddle".split()
)
# Words round a name.
FILLER = frozenset(
    "the a an in at with of by on model models weights quant quants new local version lmstudio openrouter huggingface 16bit 1bit".split()
)
# Makers' names, which stand before a model's name or do not.
MAKERS = frozenset(
    "meta nvidia microsoft google alibaba mistralai openai ibm tencent baidu nous thudm facebook eleutherai arcee cohere "
    "liquidai zai zhipu moonshot moonshotai bytedance stepfun xiaomi upstage".split()
)
# A word that a name may leave out where its size says as much ("phi3:14b" is the medium one).
OMITTED = frozenset(
    "distill distilled vision mini medium small large lite tiny micro nano big moe scout maverick dense".split()
)
_SIZE = re.compile(r"\d+(?:\.\d+)?[bt]|\d{2,4}m|\d+x\d+(?:\.\d+)?b|e\d+b|\d+b\d")
_ACTIVE = re.compile(r"a\d+(?:\.\d+)?[bm]|\d{2,3}e")
_LENGTH = re.compile(r"\d+k|[12]m")
_VERSION = re.compile(r"\d+(?:\.\d+)*[a-z]?|[a-z]\d+(?:\.\d+)*")
_GROUP = re.compile(r"g(?:s)?\d{2,3}|\d{2,3}g|gs\d+")
_FORMAT = re.compile(
    r"fp8|fp8dynamic|dynamic|block|static|kv|e4m3|e5m2|(?:auto)?awq|(?:auto)?gptq|int[2348]|int8mix|fp16mix|mix|mixed|[2-8]bit|[2-8]bits"
    r"|w[248]a(?:4|8|16|fp8)|nvfp4|nvfp4a16|fp4|mxfp[48]|bnb|nf4|bitsandbytes|gguf|ggml|mlx|exl[23]|\d(?:\.\d+)?bpw|qat"
    r"|dwq|autoround|quantized|marlin|sym|asym|actorder|imatrix|imat|i1|ud|bf16|fp16|f16|fp32|f32|float16|bfloat16"
    r"|torchao|hqq|modelopt|unsloth|unquantized|quark|ct|optiq|qad|attnfp8|llmcompressor|quarot|spinquant|flatquant"
)
# A GGUF file type, however its parts are joined: Q4_K_M, q4-k-m, Q4KM, IQ3_XXS, UD-Q4_K_XL, Q8_0, plain Q4.
_GGUF = re.compile(
    r"(?<![a-z0-9])(?P<ud>ud[-_])?(?:smol[-_])?(?:"
    r"(?P<ik>i?q[1-8]_k(?:ss?|[lt])?(?=_r[48])|iq[1-6]_k(?:ss?|[lt])?)(?:_r[48])?"
    r"|(?P<iq>iq[1-4])[-_ ]?(?P<is>xxs|xs|s|m|nl)(?:_r[48])?"
    r"|q(?P<k>[2-8])[-_ ]?k(?:[-_ ]?(?P<ks>xl|s|m|l)(?![a-z]))?(?:[-_](?P<kx>xl|l))?"
    r"|q(?P<o>[458])[-_ ]?(?P<oz>[01])(?:_\d_\d|_r[48])?"
    r"|(?P<tq>tq[12])_0|(?P<moe>mxfp4)[-_]moe|(?<=qat[-_])(?P<qat>q4)|q(?P<bare>[2-8])"
    r")(?:[-_]pure)?(?![a-z0-9.])"
)
_BARE = {"2": "q2_k", "3": "q3_k_m", "4": "q4_k_m", "5": "q5_k_m", "6": "q6_k", "8": "q8_0"}


@dataclass(frozen=True)
class Parts:
    """What one name says. Each set holds words in lower case.

    words     family and what else sets a model apart: qwen, coder, vl, flash
    versions  3, 2.5, r1, k2; a leading v and a trailing .0 do not count
    sizes     8b, 270m, 8x7b, e4b: parameters, as the label has them
    active    a3b, 16e
    lengths   4k, 128k, 1m
    vintages  2507, 0528, 202408
    tuning    instruct, thinking ...
    formats   what the name says of its weights, in order: fp8, dynamic
    gguf      a GGUF file type, "" for none
    """

    owner: str = ""
    words: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()
    sizes: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()
    lengths: frozenset[str] = frozenset()
    vintages: frozenset[str] = frozenset()
    tuning: frozenset[str] = frozenset()
    formats: tuple[str, ...] = ()
    gguf: str = ""


_SITES = re.compile(
    r"^(?:hf://|https?://)?(?:www\.)?(?:huggingface\.co|hf\.co|modelscope\.cn|hf-mirror\.com)/|^hf://", re.IGNORECASE
)


def on_a_site(name: str) -> bool:
    """Says whether a name is an address of a model hub, with or without https://.

    >>> on_a_site("huggingface.co/Qwen/Qwen3-8B"), on_a_site("Qwen/Qwen3-8B")
    (True, False)
    """
    return _SITES.match(name.strip()) is not None


def without_site(name: str) -> str:
    """Returns `name` without the address of a model hub round it, and without a branch or a file's path in a
    repository.

    >>> without_site("https://huggingface.co/Qwen/Qwen3-8B/tree/main")
    'Qwen/Qwen3-8B'
    """
    text = _SITES.sub("", name.strip()).split("?")[0].split("#")[0]
    if text.startswith("models--"):
        text = text[len("models--") :].replace("--", "/", 1)
    text = re.sub(r"^models/", "", text)
    if match := re.match(r"([^/]+(?:/(?!tree/|blob/)[^/]+)?)/(?:blob|resolve|tree|raw)/[^/]+(/.*)?$", text):
        inside = match.group(2) or ""
        return match.group(1) + (inside if inside.lower().endswith(".gguf") else "")
    return text.rstrip("/")


@lru_cache(maxsize=4096)
def parts_of(name: str) -> Parts:
    """What `name` says, by its words alone.

    >>> found = parts_of("unsloth/Qwen3-30B-A3B-Instruct-2507-FP8-Dynamic")
    >>> sorted(found.words), sorted(found.sizes), sorted(found.vintages), found.formats
    (['qwen'], ['30b'], ['2507'], ('fp8', 'dynamic'))
    """
    owner, tokens, gguf = tokens_of(name)
    return sorted_into(owner, tokens, gguf)


def tokens_of(name: str) -> tuple[str, list[str], str]:
    """Splits a name into its owner, its words in their order, and its GGUF file type.

    >>> tokens_of("huihui-ai/Huihui-Qwen3.6-27B-abliterated-GGUF:Q4_K_M")
    ('huihui-ai', ['huihui', 'qwen', '3.6', '27b', 'abliterated', 'gguf'], 'q4_k_m')
    """
    text = without_site(name[:MAX_NAME])
    owner, text = _owner(text)
    text, _, after = text.lower().replace("×", "x").partition("@")
    if after and (
        _GGUF.fullmatch(after) or _FORMAT.fullmatch(re.split(r"[-_]", after)[0])
    ):  # LM Studio's qwen3-8b@q4_k_m; else a revision
        text = f"{text}-{after}"
    text = re.sub(r"\.(safetensors|bin)$", "", text)
    text = re.sub(r"(?:-\d{5}-of-\d{5})?\.gguf$", "-gguf", text)
    text = re.sub(r"-\d{5}-of-\d{5}$", "", text)
    text = re.sub(r"(?<=bpw)[-_]h\d(?:\.\d+)?(?:[-_]ng\d)?(?![a-z0-9])", "", text)  # ExLlama: head's, n-grams' bits
    text = re.sub(r"(?<=exl[23])_(?=\d)", "-", text)  # Qwen3-32B-exl3_4.5bpw
    text = _without_maker(text)
    gguf, text = _take_gguf(text)
    return owner, _tokens(text), gguf


def _owner(text: str) -> tuple[str, str]:
    pieces = [piece for piece in text.split("/") if piece]
    if len(pieces) < 2:
        return "", text
    is_file = pieces[-1].lower().endswith(".gguf")
    return pieces[0].lower(), pieces[-1] if is_file or len(pieces) > 2 else pieces[1]


def _without_maker(text: str) -> str:
    """bartowski writes the first owner before the name: `google_gemma-3-27b-it`."""
    maker, bar, rest = text.partition("_")
    known = ("-", "ai", "qwen", "google", "nvidia", "microsoft", "tencent", "openai", "thudm", "allenai", "baidu")
    if bar and not re.search(r"\d", maker) and (maker in MAKERS or any(word in maker for word in known[2:])):
        return rest
    if bar and re.fullmatch(r"[a-z]+-?(?:ai|org|llm|labs|research|granite|llama)|[a-z]+ai", maker):
        return rest
    return text


def _take_gguf(text: str) -> tuple[str, str]:
    match = _GGUF.search(text)
    if not match:
        return "", text
    part = match.groupdict()
    if part["ik"]:
        found = part["ik"]
    elif part["iq"]:
        found = f"{part['iq']}_{part['is']}"
    elif part["k"]:
        tail = part["kx"] or part["ks"]
        plain = part["k"] == "8" and tail != "xl"
        found = "q8_0" if plain else f"q{part['k']}_k" + (f"_{tail}" if tail else "")
    elif part["o"]:
        found = f"q{part['o']}_{part['oz']}"
    elif part["qat"]:
        found = "q4_0"
    elif part["tq"]:
        found = f"{part['tq']}_0"
    else:
        found = "mxfp4" if part["moe"] else _BARE[part["bare"]]
    again, rest = _take_gguf(
        f"{text[: match.start()]} {'ud' if part['ud'] else ''} {text[match.end() :]}"
    )  # qat-q4_0-...-Q4_0: the last is the file's
    return again or found, rest


def _tokens(text: str) -> list[str]:
    text = re.sub(r"(?<!\d{3})(?<=\d)_(?=\d)", ".", text)  # phi-1_5
    text = re.sub(r"(?<![\d.])v?(\d)p(\d)(?![a-z\d])", r"\1.\2", text)  # llama-v3p1
    text = re.sub(r"(?<=[a-z])\.(?=[a-z])|(?<=\d)\.(?=[a-z])", "-", text)  # dots.llm1.inst, quantized.w8a8
    text = re.sub(r"(?<=\d)[- ]bits?(?![a-z])", "bit", text)
    text = re.sub(r"(?<=\d) (?=b(?![a-z]))", "", text)  # 8 b
    text = re.sub(r"auto-round", "autoround", text)
    text = re.sub(
        r"(?<=[-_ ])(?:rtx[-_ ]?(?:pro[-_ ]?)?\d{4}|gb[123]0\d?|dgx[-_ ]?spark|sm1[02]\d)(?=[-_ ]|$)", "", text
    )  # made for
    text = re.sub(r"(?<=[-_])(\d{2,3})(?=[-_](?:int[48]|gptq|awq)(?![a-z]))", r"\1b", text)  # Qwen2.5-72-int4
    text = re.sub(r"(?<=gptq-)([2348])b(?![a-z0-9])", r"\1bit", text)
    text = re.sub(r"(?<!\d)(\d\d)-(20\d\d)(?!\d)", r"\2\1", text)  # 08-2024
    found: list[str] = []
    for token in re.split(r"[-_\s:/,()\[\]+~\"']+", text):
        if token := token.strip("."):
            found += _split(token)
    return found


_JOINED = re.compile(r"(deepseek|minimax|kimi|mimo|command)([a-z]\d.*)")
# Whose the version is where a name gives it alone: "r1 70b", "K2 thinking", "M2.5 AWQ".
_WHOSE = (("r1", "deepseek"), ("k2", "kimi"), ("k3", "kimi"), ("m2", "minimax"), ("m3", "minimax"))


def _split(token: str) -> list[str]:
    """`llama3.1` as llama and 3.1; `30ba3b` as 30b and a3b; what has a class of its own stays whole."""
    if _FORMAT.fullmatch(token) or _GROUP.fullmatch(token) or _SIZE.fullmatch(token) or _ACTIVE.fullmatch(token):
        return [token]
    if match := re.fullmatch(r"l(3(?:\.[0-3])?)", token):  # L3.3-70B-Euryale: of Llama 3.3
        return ["llama", match.group(1)]
    if match := _JOINED.fullmatch(token):
        return [match.group(1), *_split(match.group(2))]
    if match := re.fullmatch(r"(\d+(?:\.\d+)?b)(a\d+(?:\.\d+)?b)", token):
        return list(match.groups())
    if match := re.fullmatch(r"([a-z]{2,})(\d.*)", token):
        return [match.group(1), *_split(match.group(2))]
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]{2,})", token):
        return [match.group(1), match.group(2)]
    return [token]


def _is_vintage(token: str) -> bool:
    """MMDD, YYMM, YYYYMM, YYYYMMDD or a year."""
    if not re.fullmatch(r"\d{4}|\d{6}|\d{8}", token):
        return False
    if len(token) > 4:
        return token.startswith("20")
    first, second = int(token[:2]), int(token[2:])
    day = 1 <= first <= 12 and 1 <= second <= 31
    month = 23 <= first <= 29 and 1 <= second <= 12
    return day or month or 2023 <= int(token) <= 2029


def sorted_into(owner: str, tokens: list[str], gguf: str) -> Parts:
    """Sorts the words of a name by what they say."""
    sets: dict[str, set[str]] = {
        key: set() for key in ("words", "versions", "sizes", "active", "lengths", "vintages", "tuning")
    }
    formats: list[str] = []
    for token in tokens:
        if token in FILLER or token in MAKERS or (sets["vintages"] and re.fullmatch(r"0\d", token)):
            continue  # _20260424_01: the first upload of that day
        if token in TUNING:
            sets["tuning"].add(token)
        elif formats and sets["versions"] and re.fullmatch(r"v[1-3]", token):
            continue  # the second upload of that format: DeepSeek-R1-FP4-v2
        elif _FORMAT.fullmatch(token) or (formats and (_GROUP.fullmatch(token) or re.fullmatch(r"h\d", token))):
            formats.append(token)
        elif _SIZE.fullmatch(token):
            sets["sizes"].add(re.sub(r"\.0(?=[a-z])", "", token))
        elif _ACTIVE.fullmatch(token):
            sets["active"].add(token)
        elif _LENGTH.fullmatch(token):
            sets["lengths"].add(token)
        elif _is_vintage(token):
            sets["vintages"].add(token)
        elif _VERSION.fullmatch(token):
            sets["versions"].add(_version(token))
        else:
            sets["words"].add(token)
    if sets["words"] <= {"distill", "distilled"} and len(sets["versions"]) == 1:
        version = next(iter(sets["versions"])).split(".")[0]
        sets["words"] |= {family for short, family in _WHOSE if version == short}
    return Parts(owner, formats=tuple(formats), gguf=gguf, **{key: frozenset(value) for key, value in sets.items()})


def _version(token: str) -> str:
    token = re.sub(r"^v(?=\d)", "", token)
    return re.sub(r"(?<=\d)\.0$", "", token)
