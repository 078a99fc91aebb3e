"""A program and build of llama.cpp's family with its flags filled in: cells, streams, windows by release."""

from __future__ import annotations

from dataclasses import dataclass

from planner.dtypes.names import FLOAT_BYTES
from planner.engines import ollama_releases
from planner.engines.base import LATEST, Options, Version, keeps_compressed, parse_version, want
from planner.engines.drafting import draft_tokens
from planner.memory.estimate import Estimate
from planner.units import ceil_div

NEWEST_BUILD = 99_999  # where none is named; b11739 of October 2026 is the newest that was run
RELEASES = {(0, 2): 10_603, (0, 3): 10_796, (0, 4): 11_067}  # builds that name themselves so (`llama_version`)
MLA_SINCE, NO_V_SINCE = 5134, 7830
WINDOWS_SINCE, WINDOWS_BY_UBATCH_SINCE = 5427, 5554
STREAMS_SINCE = 5913
PADDED_SINCE = 6980
HEAD_FIRST_SINCE = 7450  # PR 18148 of December 2025: -ngl counts the head first
AUTO_SLOTS, AUTO_SLOTS_SINCE = 4, 6925  # llama-server without -np: 4 slots over one unified cache (PR 16736, PR 17997)
LOGITS_OF_OUTPUTS_SINCE = 9340  # PR 23861 of June 2026: logits of the slots alone, before of the whole ubatch
# ollama: windows as windows in its own engine (0.6.3), a llama-server for every GGUF from 0.30 (PR 16031).
OLLAMA_WINDOWS_SINCE: Version = (0, 6, 3)
OLLAMA_ENGINE_TYPES = ("gemma3", "gemma3n", "gemma4", "gpt_oss", "gpt-oss", "llama4", "mistral3", "olmo3")
GPT_OSS_MEMORY = 4096  # tokens that ollama's engine keeps of gpt-oss' windows of 128 (NewSWAMemCache)
LMSTUDIO_WINDOWS_SINCE: Version = (2, 11)
# Builds of 2026 that were run, the first that has a rule (the one before it that was run: 9102, 10335, 10152, 9445 and 10796).
ROLLBACK_SINCE = 9209  # n_rs_seq, PR 22673
ROLLBACK_OF_MORE_SINCE = 10_603  # Nemotron-H and LFM2 as well
MLA_OF_ONE_TYPE_SINCE = 10_236
MTP_IN_CACHE = (
    9554,
    11_067,
)  # GLM-4.5's drafting layer has K and V in the model's own cache, from the first to before the second
# Architectures whose state can be rolled back (`llm_arch_supports_rs_rollback`); elsewhere n_rs_seq is set to 0.
ROLLBACK = (
    "qwen3_5",
    "qwen35",
    "qwen4exp",
    "qwen4_exp",
    "kimi_k3",
    "kimi-k3",
    "nemotron_h",
    "lfm2",
    "deepseek4",
    "glm5_next",
    "glm5-next",
    "bailingmoe3",
)
# KoboldCpp: one unified pool of the context and some cells more (80, from 1.77 120 and by now 128), the batch is one ubatch,
# windows in full unless --useswa to 1.113, as windows from then on (its issue 2235), and llama.cpp as of each release's day.
KOBOLD_EXTRA_CELLS = (((1, 90), 128), ((1, 77), 120), ((0,), 80))
KOBOLD_WINDOWS_SINCE: Version = (1, 114)
KOBOLD_BUILDS = (((1, 115), 9340), ((1, 107), 7830), ((1, 102), 6980), ((1, 92), 5554), ((1, 89), 5134), ((0,), 3500))
IK_WITHOUT_MTP_SINCE = 3961
DEFAULT_UBATCH, DEFAULT_BATCH = 512, 2048
# The newest release that the rules were held against, on 2026-11-29.
NEWEST = {"llamacpp": "v0.5.0", "ollama": "0.32.15", "lmstudio": "2.11 or later", "koboldcpp": "1.115"}
FP32 = FLOAT_BYTES["fp32"]
IK_MTP_TYPES = ("glm4_moe", "glm4v_moe", "gguf glm4moe")


@dataclass(frozen=True)
class Setting:
    """A program and build, with the flags filled in. `seq_cells`: cells of one stream, `streams` of them."""

    program: str
    build: int
    n_ctx: int
    slots: int
    streams: int
    seq_cells: int
    ubatch: int
    batch: int
    flash: bool
    pad: int
    swa_full: bool
    mla_mode: int
    version: Version = LATEST
    snapshots: int = 0
    draft_types: tuple[str, str] = ("fp16", "fp16")

    @property
    def ollama_engine(self) -> bool:
        """ollama before 0.30: its own engine or the llama.cpp that was linked in, one pool for all slots."""
        return self.program == "ollama" and self.version < ollama_releases.SERVER_SINCE


def latent_build(setting: Setting) -> int:
    """Returns the build of llama.cpp whose latent rows (MLA) a program of this release has."""
    if setting.program != "ollama" or setting.version >= ollama_releases.SERVER_SINCE:
        return setting.build
    return MLA_SINCE if setting.version >= ollama_releases.MLA_SINCE else MLA_SINCE - 1


def build_of(version: str | None, program: str) -> int:
    """Reads the number of a b-tag. The newest rules hold where none is named, for releases by three numbers (0.5.0,
    from 2026), and for programs with versions of their own.

    >>> build_of("b6900", "llamacpp"), build_of("v0.5.0", "llamacpp") == build_of(None, "llamacpp"), build_of("1.113.2", "koboldcpp")
    (6900, True, 7830)
    """
    number = parse_version(version) if version else None
    if number is None:
        return NEWEST_BUILD
    if program == "koboldcpp":
        return next(build for since, build in KOBOLD_BUILDS if number >= since)
    if program not in ("llamacpp", "ik_llamacpp"):
        return NEWEST_BUILD
    return number[0] if len(number) == 1 else RELEASES.get((number[0], number[1]), NEWEST_BUILD)


def settings(estimate: Estimate, options: Options, version: str | None, *, program: str) -> Setting:
    """Works out cells and streams from the flags, as the program does.

    From b6980 (PR 17046) the context is padded to 256; one stream of it when unified, else a stream a slot of
    pad256(n_ctx / slots) each, which may come to more than n_ctx. Before, padding is 256 with flash attention
    and 32 without, and before b5913 there is one stream; hybrids held the whole context in every stream.
    ik_llama.cpp has one stream and the older padding. The ubatch is at most the batch, and both at most the context.
    """
    build = build_of(version, program)
    number = (parse_version(version) if version else None) or LATEST
    slots = want(options.parallel, estimate.request.batch, "--parallel")
    n_ctx = want(options.ctx_size or options.max_model_len, estimate.request.seq_tokens * slots, "--ctx-size")
    kobold = program == "koboldcpp"
    if kobold:
        n_ctx += next(cells for since, cells in KOBOLD_EXTRA_CELLS if number >= since)
    mainline = program != "ik_llamacpp"
    new = mainline and build >= PADDED_SINCE
    default = ollama_releases.flash_by_default(estimate.spec.model_type, number) if program == "ollama" else new
    if program == "ollama" and estimate.fmt.v.name not in ("fp16", "bf16", "fp32"):
        default = True  # before 0.30 a quantised cache is taken with flash attention alone
    flash = options.flash_attn if options.flash_attn is not None else default
    pad = 256 if flash or new else 32
    one_pool = options.kv_unified or kobold or (program == "ollama" and number < ollama_releases.SERVER_SINCE)
    streams = slots if mainline and build >= STREAMS_SINCE and not one_pool else 1
    whole = ceil_div(n_ctx, 256) * 256 if new else n_ctx
    if streams > 1 and not new and estimate.spec.has_states:
        whole *= streams
    batch = min(want(options.batch_size, DEFAULT_UBATCH if kobold else DEFAULT_BATCH, "--batch-size"), max(n_ctx, 1))
    return Setting(
        program=program, build=build, n_ctx=n_ctx, slots=slots,
        streams=slots if keeps_compressed(estimate) else streams,  # a stream for every slot, unified or not
        seq_cells=ceil_div(max(ceil_div(whole, streams), 1), pad) * pad,
        ubatch=min(want(options.ubatch_size, batch if kobold else DEFAULT_UBATCH, "--ubatch-size"), batch), batch=batch, flash=flash, pad=pad,
        swa_full=options.swa_full or not (options.useswa or _keeps_windows(estimate, build, number, program=program)),
        mla_mode=3 if options.mla_mode is None else options.mla_mode, version=number,
        draft_types=(options.draft_k_dtype or "fp16", options.draft_v_dtype or "fp16"),
        snapshots=draft_tokens(estimate, options) if _rolls_back(estimate, build, program=program) else 0,
    )  # fmt: skip


def _rolls_back(estimate: Estimate, build: int, *, program: str) -> bool:
    """Tells whether drafts keep snapshots of the recurrent state (`llm_arch_supports_rs_rollback`)."""
    kind = estimate.spec.model_type.removeprefix("gguf ")
    if program == "ik_llamacpp":
        return True
    since = ROLLBACK_OF_MORE_SINCE if kind.startswith(("nemotron_h", "lfm2")) else ROLLBACK_SINCE
    return kind.startswith(ROLLBACK) and build >= since


def _keeps_windows(estimate: Estimate, build: int, version: Version, *, program: str) -> bool:
    """Tells whether layers with a window keep the window alone, by program and release.

    llama.cpp from b5427; KoboldCpp from 1.114; LM Studio from its engine 2.11; ollama in its own engine from 0.6.3 (the types it has) and
    for all from 0.30; ik_llama.cpp not.
    """
    if program == "ik_llamacpp":
        return False
    if program == "koboldcpp":
        return version >= KOBOLD_WINDOWS_SINCE
    if program == "lmstudio":
        return version >= LMSTUDIO_WINDOWS_SINCE
    if program == "ollama" and version < ollama_releases.SERVER_SINCE:
        kind = estimate.spec.model_type.removeprefix("gguf ")
        return version >= OLLAMA_WINDOWS_SINCE and kind.startswith(OLLAMA_ENGINE_TYPES)
    return build >= WINDOWS_SINCE
