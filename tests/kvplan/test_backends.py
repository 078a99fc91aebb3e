"""`--backend` of `speed`, `plan`, `simulate` and `check`: what is said and printed, and what is refused with which exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import kvplan

LLAMA = ("speed", "llama-3.1-8b", "--batch", "1")
AMD = (*LLAMA, "--gpu", "rx-7900xtx", "--engine", "llamacpp")

Run = Callable[..., Any]


def _line(out: str) -> str:
    return " ".join(out.split())


def test_the_devices_own_is_taken_and_said(run: Run) -> None:
    for gpu, own in (("rtx-4090", "cuda"), ("rx-7900xtx", "rocm"), ("apple-m2-ultra", "metal"), ("arc-b580", "sycl")):
        words = (*LLAMA, "--gpu", gpu, "--engine", "llamacpp", "--dtype", "q4_k_m")
        assert f"backend: {own}, the device's own" in _line(run(*words).out)
        unsaid, said = run(*words, "--json").json, run(*words, "--backend", own, "--json").json
        assert unsaid == said and said["backend"] == own


def test_another_engine_has_none(run: Run) -> None:
    found = run(*LLAMA, "--gpu", "h100-sxm", "--engine", "vllm", "--json").json
    assert found["backend"] is None and not any("backend" in note for note in found["notes"])


def test_bf16_on_vulkan_is_slower_and_its_range_wider(run: Run) -> None:
    own, vulkan = (run(*AMD, "--dtype", "bf16", "--backend", name, "--json").json for name in ("rocm", "vulkan"))
    assert vulkan["backend"] == "vulkan"
    assert vulkan["tpot_seconds"] / own["tpot_seconds"] == pytest.approx(
        1.519, abs=0.001
    )  # (1.271 x 1.325 x 2.080)^(1/3)
    assert vulkan["tpot_seconds_high"] / vulkan["tpot_seconds"] > own["tpot_seconds_high"] / own["tpot_seconds"]
    page = _line(run(*AMD, "--dtype", "bf16", "--backend", "vulkan").out)
    assert "backend: vulkan: a token takes 1.52 times as long as with rocm (3 measured pairs, 1.27 to 2.08)" in page


def test_without_pairs_the_page_says_so(run: Run) -> None:
    words = (*LLAMA, "--gpu", "arc-b580", "--engine", "ollama", "--dtype", "q4_k_m", "--backend", "vulkan")
    assert "as long as with sycl (no rows of both on such a device: the range is wide)" in _line(run(*words).out)


def test_explained_terms_come_to_the_answer(run: Run) -> None:
    words = ("--dtype", "q4_k_m", "--backend", "vulkan", "--batch", "4")
    found = run(*AMD, *words, "--json").json
    assert sum(found["tpot_parts_seconds"].values()) == pytest.approx(found["tpot_seconds"])
    assert f"= {found['tpot_seconds'] * 1e3:.1f} ms" in _line(run(*AMD, *words, "--explain").out)


def test_several_devices_each_have_their_own(run: Run) -> None:
    words = (*LLAMA, "--gpu", "rx-7900xtx,rtx-4090", "--engine", "koboldcpp", "--dtype", "q4_k_m", "--json")
    assert [found["backend"] for found in run(*words).json] == ["rocm", "cuda"]
    assert [found["backend"] for found in run(*words, "--backend", "vulkan").json] == ["vulkan", "vulkan"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--gpu", "rx-7900xtx", "--engine", "llamacpp", "--backend", "cuda"), 1, "write rocm or vulkan"),
        (("--gpu", "rtx-4090,rx-7900xtx", "--engine", "llamacpp", "--backend", "cuda"), 1, "on RX-7900XTX-24GB"),
        (("--gpu", "rtx-4090+rx-7900xtx", "--engine", "llamacpp", "--backend", "cuda"), 1, "on RX-7900XTX-24GB"),
        (("--gpu", "apple-m2-ultra", "--engine", "lmstudio", "--backend", "vulkan"), 1, "write metal"),
        (("--gpu", "l4", "--engine", "llamacpp", "--backend", "cpu"), 1, "a processor is meant"),
        (("--gpu", "tpu-v5e", "--engine", "llamacpp", "--backend", "vulkan"), 1, "no backend that is known here"),
        (("--gpu", "l4", "--engine", "llamacpp", "--backend", "opencl"), 1, "write cuda, rocm, vulkan"),
        (("--gpu", "l4", "--engine", "llamacpp", "--backend", ""), 1, "--backend"),
        (("--gpu", "h100-sxm", "--engine", "vllm", "--backend", "cuda"), 2, "vllm has none"),
        (("--gpu", "h100-sxm", "--backend", "cuda"), 2, "say --engine llamacpp"),
        (
            ("--gpu", "l4", "--engine", "llamacpp", "--backend", "vulkan", "--measured", "tpot_ms=99"),
            2,
            "leave --backend out",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    assert said in run(*LLAMA, *words).refused(code)


def test_a_measured_point_has_no_backend_that_nobody_said(run: Run) -> None:
    words = ("--dtype", "q4_k_m", "--measured", "tpot_ms=20", "--json")
    assert run(*AMD, *words).json["backend"] is None


def test_the_keyword_answers_as_the_flag_does(run: Run) -> None:
    ours = kvplan.speed("llama-3.1-8b", gpu="rx-7900xtx", engine="llamacpp", dtype="q4_k_m", backend="vulkan")
    assert (
        json.loads(json.dumps(ours.to_dict())) == run(*AMD, "--dtype", "q4_k_m", "--backend", "vulkan", "--json").json
    )
    with pytest.raises(kvplan.KvplanError) as caught:
        kvplan.speed("llama-3.1-8b", gpu="h100-sxm", engine="vllm", backend="cuda")
    assert "--" not in str(caught.value) and "\n" not in str(caught.value)


PLAN = (
    "plan",
    "llama-3.1-8b",
    "--gpu",
    "rx-7900xtx",
    "--engine",
    "llamacpp",
    "--users",
    "1",
    "--prompt",
    "500",
    "--answer",
    "200",
)


def test_a_plan_is_of_the_backend_that_is_asked(run: Run) -> None:
    own, vulkan = (
        run(*PLAN, "--as-published", "--json", *more).json["plans"][0] for more in ((), ("--backend", "vulkan"))
    )
    assert (own["backend"], vulkan["backend"]) == ("rocm", "vulkan")
    assert vulkan["tpot_seconds"] / own["tpot_seconds"] == pytest.approx(1.519, abs=0.002)
    page = _line(run(*PLAN, "--as-published", "--backend", "vulkan", "-v").out)
    assert "backend: vulkan: a token takes 1.52 times as long as with rocm" in page


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plan", "llama-3.1-8b", "--gpu", "l40s", "--users", "4", "--seq", "2k", "--backend", "vulkan"), 2, "say --engine llamacpp"),
        (("plan", "llama-3.1-8b", "--gpu", "l40s", "--users", "4", "--seq", "2k", "--engine", "llamacpp", "--backend", "rocm"), 1, "write cuda or vulkan"),
        (("simulate", "llama-3.1-8b", "--gpu", "l40s", "--rate", "1", "--seq", "2k", "--backend", "vulkan"), 2, "vllm has none"),
        (("simulate", "llama-3.1-8b", "--gpu", "l40s", "--rate", "1", "--seq", "2k", "--engine", "llamacpp", "--backend", "vulkan"), 1, "is not simulated"),
        (("check", "--gpu", "l40s", "--backend", "vulkan", "--", "vllm", "serve", "meta-llama/Llama-3.1-8B"), 2, "vllm has none"),
    ],
)  # fmt: skip
def test_plan_simulate_and_check_refuse_as_speed_does(run: Run, words: tuple[str, ...], code: int, said: str) -> None:
    found = run(*words)
    assert found.code == code and said in found.err and found.err.count("\n") == 1


LLAMA_SERVER = ("llama-server", "-m", "llama-3.1-8b-Q4_K_M.gguf", "-c", "8192")


@pytest.mark.parametrize(
    ("asked", "command", "backend"),
    [
        ((), LLAMA_SERVER, "rocm"),
        ((), (*LLAMA_SERVER, "-dev", "Vulkan0"), "vulkan"),
        ((), ("docker", "run", "ghcr.io/ggml-org/llama.cpp:server-vulkan", *LLAMA_SERVER[1:]), "vulkan"),
        ((), ("koboldcpp", "--model", "llama-3.1-8b-Q4_K_M.gguf", "--usevulkan", "--contextsize", "8192"), "vulkan"),
        (("--backend", "rocm"), (*LLAMA_SERVER, "-dev", "Vulkan0"), "rocm"),
    ],
)
def test_check_times_the_backend_that_the_text_names(
    run: Run, asked: tuple[str, ...], command: tuple[str, ...], backend: str
) -> None:
    found = run("check", "--gpu", "rx-7900xtx", "--model", "llama-3.1-8b", *asked, "--json", "--", *command).json
    assert found["backend"] == backend


def test_check_says_that_a_device_does_not_run_the_backend_of_the_text(run: Run) -> None:
    found = run("check", "--gpu", "rtx-4090", "--model", "llama-3.1-8b", "--json", "--", *LLAMA_SERVER, "-dev", "ROCm0")
    assert found.code == 0 and found.json["speed"] is None
    assert "rocm, which RTX-4090-24GB does not run (cuda, vulkan)" in found.json["no_speed"]
