"""Names as people write them are answered for the right model or device, or asked back with the right choices.

tests/cases/names.csv: spellings from public threads of 2026 (names of models and devices alone), as collected for
this project; what they mean was decided by hand. tests/cases/names_of_our_own.csv: spellings in use on the Hugging
Face Hub, in ollama's library, in drivers' and clouds' own words, and in forums, from memory.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.catalogue.entries import devices, find_device, find_model, models
from planner.errors import KvplanError, UnknownName
from planner.lookup import capacity, device, machine, model_spec
from planner.lookup.devices import machine_named
from planner.lookup.models import Understood, _kind_of, _quantization, understand
from planner.lookup.plain import plain_name
from planner.memory.weight_plan import weight_plan

CASES = Path(__file__).parents[2] / "cases"
ROWS = [
    row
    for name in ("names.csv", "names_of_our_own.csv")
    for row in csv.DictReader((CASES / name).open(encoding="utf-8"))
]
# Models that no entry has yet: refused with what is near, or answered once there is one.
MISSING = frozenset(row["written"] for row in ROWS if row["means"] and row["choices"])


def base(name: str) -> str:
    """A name without the weight format at its end: an entry of that very format may be added."""
    return re.sub(r"-(fp8|nvfp4|mxfp4|awq|gptq-int4|gptq-int8|int4|bf16)$", "", name)


def kind(found: Understood) -> str:
    if found.weights:
        return found.weights.words if found.weights.kind in ("gguf", "mlx") else found.weights.kind
    return _kind_of(_quantization(found.entry)) or ""


def refused_with(error: KvplanError, choices: str) -> bool:
    return "\n" not in str(error) and any(choice in str(error) for choice in choices.split("|"))


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"] == "model"], ids=lambda row: row["written"])
def test_a_models_name_is_understood_or_asked_back(row: dict[str, str]) -> None:
    try:
        found = understand(row["written"])
    except UnknownName as error:
        assert not row["means"] or row["written"] in MISSING, error
        assert refused_with(error, row["choices"]), error
    else:
        assert base(found.name) == row["means"]
        assert row["written"] in MISSING or kind(found) == row["weights"]


@pytest.mark.parametrize("row", [row for row in ROWS if row["kind"] == "device"], ids=lambda row: row["written"])
def test_a_devices_name_is_understood_or_asked_back(row: dict[str, str]) -> None:
    if row["means"]:
        assert machine_named(row["written"]).name == row["means"]
        return
    with pytest.raises(UnknownName) as refused:
        machine_named(row["written"])
    assert refused_with(refused.value, row["choices"]), refused.value


# -- what holds for every name ------------------------------------------------------------------------------

MODELS = models()
MIRRORS = ("", "unsloth/", "bartowski/", "NousResearch/", "lmstudio-community/", "someone-else/")
SUFFIXES = {
    "": "", "-FP8": "fp8", "-FP8-Dynamic": "fp8", "-AWQ": "awq", "-AWQ-4bit": "awq", "-GPTQ-Int4": "gptq",
    "-NVFP4": "nvfp4", "-quantized.w4a16": "int4", "-bnb-4bit": "bnb", "-GGUF:Q4_K_M": "gguf", "-MLX-8bit": "mlx",
    "-Q5_K_M.gguf": "gguf", "-BF16": "bf16",
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    entry=st.sampled_from([entry for entry in MODELS if entry.hf_id]),
    owner=st.sampled_from(MIRRORS),
    suffix=st.sampled_from(sorted(SUFFIXES)),
    upper=st.sampled_from([str, str.lower, str.upper]),
)
def test_a_catalogue_name_under_any_case_mirror_and_suffix_is_that_entry_or_is_asked_back(
    entry: object, owner: str, suffix: str, upper: object
) -> None:
    hf_id = entry.hf_id  # type: ignore[attr-defined]
    assume(not (suffix and entry.name.endswith(("-fp8", "-awq", "-gptq-int4"))))  # type: ignore[attr-defined]
    plain = hf_id.rsplit("/", 1)[-1]
    written = owner + upper(plain) + suffix  # type: ignore[operator]
    try:
        found = understand(written)
    except UnknownName as error:
        assert entry.name in str(error) or base(entry.name) in str(error), (written, str(error))  # type: ignore[attr-defined]
        return
    # A published variant may have a shape of its own: the AWQ file of Qwen2.5-72B pads its MLPs.
    variant = found.entry.name.startswith(f"{entry.name}-")  # type: ignore[attr-defined]
    assert variant or _shape(found.entry) == _shape(entry), written
    if suffix and found.weights and found.weights.words.endswith(")"):
        assert found.weights.kind in (SUFFIXES[suffix], "mxfp4"), written


def _shape(entry: object) -> tuple[object, ...]:
    """What the formulas read of two entries of one model under several formats or vintages."""
    config = entry.config  # type: ignore[attr-defined]
    text = config.get("text_config") or config
    keys = ("num_hidden_layers", "hidden_size", "num_key_value_heads", "intermediate_size", "vocab_size")
    return tuple(text.get(key) for key in keys)


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_the_catalogues_own_names_stay_exact(entry: object) -> None:
    found = understand(entry.name)  # type: ignore[attr-defined]
    assert found.exact and found.entry.name == entry.name and found.weights is None  # type: ignore[attr-defined]


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused_in_one_line(text: str) -> None:
    for ask in (understand, machine_named):
        try:
            ask(text)
        except KvplanError as error:
            assert "\n" not in str(error) and len(str(error)) < 600


@pytest.mark.parametrize(
    "written",
    ["llama-3.1-9b", "llama-3.4-70b", "qwen3-33b", "gemma-3-28b-it", "Qwen/Qwen3-31B-A3B", "mixtral-8x8b",
     "deepseek-r1:33b", "phi-9", "gpt-oss-121b-moe-x", "Qwen3-30B-A4B", "llama-3.1-8b-vl"],
)  # fmt: skip
def test_a_size_or_version_that_no_entry_has_is_never_another_models(written: str) -> None:
    with pytest.raises(UnknownName):
        understand(written)


def test_what_is_near_is_near_in_meaning() -> None:
    with pytest.raises(UnknownName, match=r"that family and version has: llama-3\.1-8b"):
        understand("llama-3.1-9b")
    with pytest.raises(UnknownName, match=r"llama-3\.1-8b"):
        understand("lama-3.1-8b")
    with pytest.raises(UnknownName, match="none of its family is known here"):
        understand("nobodys-model-7b")


def test_a_suffix_decides_the_weights_and_the_plan_says_so() -> None:
    # Qwen's own Qwen3-8B-AWQ has 6.1 GB of files, TheBloke's Llama-2-70B-Chat-AWQ 36.61 GB.
    spec = model_spec("TheBloke/Llama-2-70B-Chat-AWQ")
    assert spec.read_as is not None and spec.read_as.words == "read as llama-2-70b, weights awq int4 (group 128)"
    assert "as the name says" in weight_plan(spec).words
    from planner.memory.estimate import estimate
    from planner.memory.request import Request

    assert estimate(spec, Request(128)).weight_bytes == pytest.approx(36.61e9, rel=2e-3)
    # mlx-community/Llama-3.3-70B-Instruct-8bit: 75 GB.
    assert estimate(
        model_spec("mlx-community/Llama-3.3-70B-Instruct-8bit"), Request(128)
    ).weight_bytes == pytest.approx(75e9, rel=2e-3)


@pytest.mark.parametrize(
    ("written", "bits"),
    # llama.cpp tools/quantize README, bits a weight of whole files of Llama 3.1 8B.
    [("IQ2_XXS", 2.3824), ("Q2_K", 3.1593), ("IQ4_XS", 4.4597), ("Q4_K_M", 4.8944), ("Q6_K", 6.5633), ("Q8_0", 8.5008)],
)
def test_a_gguf_type_in_a_name_counts_a_whole_file_of_that_type(written: str, bits: float) -> None:
    from planner.memory.estimate import estimate
    from planner.memory.request import Request

    found = estimate(model_spec(f"Meta-Llama-3.1-8B-Instruct-{written}.gguf"), Request(128))
    assert found.weight_bytes * 8 / found.parameters == pytest.approx(bits, rel=0.012)
    assert found.exactness["weight_bytes"] == "estimated"


@pytest.mark.parametrize(("written", "gib"), [("ggml-org/gpt-oss-20b-GGUF", 11.27), ("gpt-oss-120b-mxfp4.gguf", 59.02)])
def test_a_gguf_of_gpt_oss_keeps_its_experts_and_has_the_rest_in_q8_0(written: str, gib: float) -> None:
    # llama-bench prints "gpt-oss 20B MXFP4 MoE | 11.27 GiB" and "gpt-oss 120B MXFP4 MoE | 59.02 GiB"; as OpenAI
    # published them, attention and embeddings in bf16, they have 12.8 and 60.8.
    from planner.memory.estimate import estimate
    from planner.memory.request import Request

    assert estimate(model_spec(written), Request(128)).weight_bytes / 2**30 == pytest.approx(gib, rel=4e-3)


def test_a_file_that_is_there_is_read_and_never_guessed_from_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Qwen3-8B-Q4_K_M.gguf").write_bytes(b"no gguf")
    with pytest.raises(KvplanError, match=r"GGUF|gguf"):
        model_spec("Qwen3-8B-Q4_K_M.gguf")
    with pytest.raises(KvplanError, match="does not exist"):
        model_spec("./Qwen3-8B-Q5_K_M.gguf")


def test_an_address_on_the_hub_is_read_by_its_name_without_the_network() -> None:
    assert model_spec("https://huggingface.co/Qwen/Qwen3-8B").name == "qwen3-8b"
    with pytest.raises(UnknownName, match="does not use the network unasked"):
        model_spec("https://huggingface.co/nobody/nothing-7b")


# -- devices ------------------------------------------------------------------------------------------------


def test_a_device_is_found_by_each_of_its_names_with_a_count_before_or_behind() -> None:
    for known in devices()[::7]:
        assert device(known.name).name == known.name
        assert machine(f"2x {known.name}").devices == (find_device(known.name),) * 2


def test_unlike_cards_keep_their_own_memory() -> None:
    assert machine("7900xtx+3060").name == "RX-7900XTX-24GB + RTX-3060-12GB"  # 7900 is no count
    found = machine("2x3090+3060")
    assert found.mixed and found.count == 3
    assert found.smallest.name == "RTX-3060-12GB"
    assert found.memory_bytes == 2 * find_device("3090").memory_bytes + find_device("3060").memory_bytes


def test_a_name_of_several_devices_is_refused_where_one_is_wanted() -> None:
    with pytest.raises(KvplanError, match=r"'8xH200' names 8x H200"):
        device("8xH200")


def test_a_device_with_other_memory_keeps_its_speed() -> None:
    found = capacity("4090", "30GiB")
    assert found is not None and found.bytes == 30 << 30 and found.name.startswith("RTX-4090-24GB with 30GiB")


def test_an_apple_chip_without_its_memory_says_which_is_taken() -> None:
    from kvplan import estimate

    said = "Apple-M2-Ultra is taken with 192 GB, the largest; Apple-M2-Ultra-64GB, Apple-M2-Ultra-128GB are others"
    assert said in estimate("qwen3-8b", gpu="M2 Ultra").to_dict()["assumptions"]
    for gpu, memory in (("M2 Ultra 128GB", None), ("M2 Ultra", "64GiB"), ("3090", None)):
        assert not any(
            "taken with" in note for note in estimate("qwen3-8b", gpu=gpu, memory=memory).to_dict()["assumptions"]
        )


@pytest.mark.parametrize(
    ("written", "near"),
    [("rtx 4095", "RTX-4090-24GB"), ("rtx 7090", "RTX-5090-32GB"), ("A101", "A100-"), ("mi400", "MI355X"), ("h300", "H200-")],
)  # fmt: skip
def test_a_card_that_is_not_there_is_near_those_of_its_series(written: str, near: str) -> None:
    with pytest.raises(UnknownName, match=rf"near it: {near}"):
        machine_named(written)


def test_a_size_of_memory_or_a_runtime_is_no_card() -> None:
    with pytest.raises(UnknownName, match=r"--memory 24GiB"):
        machine_named("24 GB VRAM")
    with pytest.raises(UnknownName, match="--gpu local"):
        machine_named("cuda:0")


def test_a_processor_has_the_memory_that_its_name_gives() -> None:
    assert machine_named("EPYC 9654 768GB").smallest.memory_bytes == 768 << 30


@pytest.mark.parametrize("written", ["", " ", "0x3090", "5000xA10", "3090+x", "+", "banana", "x2"])
def test_a_name_of_no_device_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(KvplanError) as refused:
        machine_named(written)
    assert "\n" not in str(refused.value)


def test_find_model_still_knows_only_the_catalogues_own_names() -> None:
    with pytest.raises(UnknownName):
        find_model("unsloth/Qwen3-8B-FP8-Dynamic")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("https://huggingface.co/Qwen/Qwen3-8B/tree/main", "Qwen/Qwen3-8B"),
        ("huggingface.co/Qwen/Qwen3-8B/tree/main", "Qwen/Qwen3-8B"),
        ("HTTPS://HuggingFace.co/Qwen/Qwen3-8B/blob/main/config.json?x=1", "Qwen/Qwen3-8B"),
        ("www.huggingface.co/Qwen/Qwen3-8B#usage", "Qwen/Qwen3-8B"),
        ("hf://Qwen/Qwen3-8B/tree/main", "Qwen/Qwen3-8B"),
        ("Qwen/Qwen3-8B/tree/main", "Qwen/Qwen3-8B"),
        ("https://modelscope.cn/models/Qwen/Qwen3-8B/summary", "Qwen/Qwen3-8B"),
        ("hf.co/unsloth/Qwen3-8B-GGUF/resolve/main/Qwen3-8B-Q4_K_M.gguf", "unsloth/Qwen3-8B-Q4_K_M.gguf"),
        ("https://huggingface.co/gpt2/tree/main", "gpt2"),
        ("models/org/Qwen3-8B", "Qwen3-8B"),
    ],
)
def test_a_page_of_a_repository_is_its_repository(written: str, name: str) -> None:
    """Without https:// the last piece was taken: a model called `main`."""
    assert plain_name(written) == name


@pytest.mark.parametrize("name", ["Qwen2.5_7B_Instruct", "Qwen2.5-7B-Instruct", "qwen/Qwen2.5_7B_Instruct"])
def test_positions_are_the_releases_however_its_name_is_spelt(name: str) -> None:
    """Qwen2.5-7B-Instruct's config.json says 32,768, the base model's 131,072."""
    assert model_spec(name).max_positions == 32_768
