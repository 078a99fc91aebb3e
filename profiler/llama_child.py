"""Asks a libllama what a GGUF file's caches take: run by `profiler.verify_llama` in a process of its own, for a library may abort.

The file is opened without its weights (`no_alloc`), a context is made for each question, and what the library logs of it is
printed: one line of JSON each, marked. The parameters go by value in structures whose fields are checked against the
library's own defaults before any is set. Source of the layout: llama.cpp's include/llama.h at v0.5.0 (September 2026).
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

MARK = "KVPLAN-ANSWER "
SPARE = 512  # bytes: more than any release's structure, so that one that has grown is handed over whole
TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
DEBUG = 1  # GGML_LOG_LEVEL_DEBUG
U32, I32, PTR, BOOL = ctypes.c_uint32, ctypes.c_int32, ctypes.c_void_p, ctypes.c_bool


class ModelParams(ctypes.Structure):
    """`llama_model_params`."""

    _fields_ = (
        *((name, PTR) for name in ("devices", "tensor_buft_overrides")),
        *((name, I32) for name in ("n_gpu_layers", "split_mode", "load_mode", "lazy_mode", "main_gpu")),
        *((name, PTR) for name in ("tensor_split", "progress_callback", "progress_data", "kv_overrides")),
        *((name, BOOL) for name in ("vocab_only", "check_tensors", "use_extra_bufts", "no_host", "no_alloc", "load_mtp")),
        ("spare", ctypes.c_byte * SPARE),
    )  # fmt: skip


class ContextParams(ctypes.Structure):
    """`llama_context_params`."""

    _fields_ = (
        *((name, U32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_per_seq")),
        *((name, I32) for name in ("n_threads", "n_threads_batch", "ctx_type", "rope", "pooling", "attention", "flash_attn")),
        *((name, ctypes.c_float) for name in ("base", "scale", "ext", "attn", "fast", "slow")),
        ("orig_ctx", U32), ("defrag", ctypes.c_float), ("cb_eval", PTR), ("cb_data", PTR),
        ("type_k", I32), ("type_v", I32), ("abort", PTR), ("abort_data", PTR),
        *((name, BOOL) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("spare", ctypes.c_byte * SPARE),
    )  # fmt: skip


def say(answer: dict[str, Any]) -> None:
    """Writes an answer as a line of JSON for the parent process."""
    print(MARK + json.dumps(answer), flush=True)


def library_in(folder: str) -> tuple[ctypes.CDLL, str]:
    """Finds (libllama, its file's name) of a folder or file; the ggml libraries beside it are loaded first."""
    path = Path(folder)
    files = [path] if path.is_file() else sorted(path.glob("libllama*.so*")) + sorted(path.glob("libllama*.dylib"))
    files = [file for file in files if "common" not in file.name]
    if not files:
        raise OSError(f"no libllama in {folder}")
    for name in ("libggml-base", "libggml-cpu", "libggml"):
        for beside in sorted(files[0].parent.glob(f"{name}.*")):
            if name != "libggml-cpu":
                ctypes.CDLL(str(beside), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(files[0]), mode=ctypes.RTLD_GLOBAL), files[0].name


def known_layout(model: ModelParams, context: ContextParams) -> bool:
    """Tells whether the library's own defaults lie where this release's structures have them."""
    numbers = (context.n_batch, context.n_ubatch, context.n_seq_max, context.n_rs_seq, context.type_k, context.type_v)
    flags = (model.vocab_only, model.check_tensors, model.no_alloc, context.offload_kqv, context.op_offload)
    return numbers == (2048, 512, 1, 0, 1, 1) and flags == (False, False, False, True, True)


# long: one session of a process of its own, from library to answer
def main(
    library: str, file: str, questions: list[dict[str, Any]], start: int
) -> None:  # parameters: the words of its command line
    """Prints the library's log of each context, from question `start` on."""
    lib, name = library_in(library)
    log: list[str] = []

    @ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    def on_log(level: int, text: bytes, _data: int) -> None:
        if level != DEBUG:
            log.append(text.decode("utf-8", "replace"))

    lib.llama_log_set(on_log, None)
    lib.ggml_backend_load_all_from_path(str(Path(library) if Path(library).is_dir() else Path(library).parent).encode())
    lib.llama_backend_init()
    lib.llama_model_default_params.restype = ModelParams
    lib.llama_context_default_params.restype = ContextParams
    lib.llama_model_load_from_file.restype = lib.llama_init_from_model.restype = ctypes.c_void_p
    lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, ModelParams]
    lib.llama_init_from_model.argtypes = [ctypes.c_void_p, ContextParams]
    lib.llama_free.argtypes = [ctypes.c_void_p]
    wanted, plain = lib.llama_model_default_params(), lib.llama_context_default_params()
    if not known_layout(wanted, plain):
        say(
            {"error": f"{name} lays its parameters out otherwise than llama.cpp v0.5.0, which is the one that is known"}
        )
        return
    wanted.n_gpu_layers, wanted.load_mode, wanted.use_extra_bufts, wanted.no_alloc, wanted.load_mtp = (
        0,
        0,
        False,
        True,
        False,
    )
    model = lib.llama_model_load_from_file(file.encode(), wanted)
    lib.llama_version.restype = ctypes.c_char_p
    say({"library": name, "version": lib.llama_version().decode(), "loaded": bool(model), "log": "".join(log)[-20000:]})
    if not model:
        return
    for index, question in enumerate(questions[start:], start):
        log.clear()
        asked = lib.llama_context_default_params()
        asked.n_threads = asked.n_threads_batch = 1
        asked.swa_full = False  # as llama-server and llama-cli have it, not as the library
        for key, value in question.items():
            setattr(asked, key, TYPES[value] if key in ("type_k", "type_v") else value)
        asked.n_outputs_max = asked.n_seq_max
        say({"begin": index})
        context = lib.llama_init_from_model(model, asked)
        say({"index": index, "made": bool(context), "log": "".join(log)[-20000:]})
        if context:
            lib.llama_free(context)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(given["library"], given["file"], given["questions"], given["start"])
