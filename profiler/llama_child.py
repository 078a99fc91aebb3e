"""Asks a libllama what a GGUF file's caches take: run by `profiler.verify_llama` in a process of its own, for a library may abort.

The file is opened without its weights (`no_alloc`), a context is made for each question, and what the library logs of it is
printed: one line of JSON each, marked. The parameters go by value in structures whose fields are checked against the
library's own defaults before any is set; the first of `ERAS` that they agree with is the library's. Source of the layouts:
llama.cpp's include/llama.h from b7830 (January 2026) to b11739 (October 2026).
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
MAPPED = ("use_mmap", "use_direct_io", "use_mlock")  # before load_mode
ERAS = (  # (names of the modes, of the counts behind n_seq_max, has ctx_type, has moe_cache_size)
    (
        ("load_mode", "lazy_mode"),
        ("n_rs_seq", "n_outputs_max", "n_outputs_per_seq"),
        True,
        True,
    ),  # from b11548 or before
    (("load_mode", "lazy_mode"), ("n_rs_seq", "n_outputs_max", "n_outputs_per_seq"), True, False),
    (("load_mode",), ("n_rs_seq", "n_outputs_max", "n_outputs_per_seq"), True, False),
    (("load_mode",), ("n_rs_seq", "n_outputs_max"), True, False),
    ((), ("n_rs_seq", "n_outputs_max"), True, False),
    ((), ("n_rs_seq",), True, False),
    ((), (), False, False),
)


def model_params(modes: tuple[str, ...]) -> type[ctypes.Structure]:
    """Lays out `llama_model_params`."""
    flags = ("vocab_only", *(() if modes else MAPPED), "check_tensors", "use_extra_bufts", "no_host", "no_alloc")
    fields = (
        *((name, PTR) for name in ("devices", "tensor_buft_overrides")),
        *((name, I32) for name in ("n_gpu_layers", "split_mode", *modes, "main_gpu")),
        *((name, PTR) for name in ("tensor_split", "progress_callback", "progress_data", "kv_overrides")),
        *((name, BOOL) for name in (*flags, *(("load_mtp",) if modes else ()))),
        ("spare", ctypes.c_byte * SPARE),
    )  # fmt: skip
    return type("ModelParams", (ctypes.Structure,), {"_fields_": fields})


def context_params(counts: tuple[str, ...], ctx_type: bool, moe_cache: bool) -> type[ctypes.Structure]:
    """Lays out `llama_context_params`."""
    kinds = ("ctx_type",) if ctx_type else ()
    fields = (
        *((name, U32) for name in ("n_ctx", "n_batch", "n_ubatch", "n_seq_max", *counts)),
        *((name, I32) for name in ("n_threads", "n_threads_batch", *kinds, "rope", "pooling", "attention", "flash_attn")),
        *((name, ctypes.c_float) for name in ("base", "scale", "ext", "attn", "fast", "slow")),
        ("orig_ctx", U32), ("defrag", ctypes.c_float), ("cb_eval", PTR), ("cb_data", PTR),
        ("type_k", I32), ("type_v", I32), *((("moe_cache_size", ctypes.c_size_t),) if moe_cache else ()),
        ("abort", PTR), ("abort_data", PTR),
        *((name, BOOL) for name in ("embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified")),
        ("spare", ctypes.c_byte * SPARE),
    )  # fmt: skip
    return type("ContextParams", (ctypes.Structure,), {"_fields_": fields})


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


def known_layout(model: ctypes.Structure, context: ctypes.Structure) -> bool:
    """Tells whether the library's own defaults lie where an era's structures have them."""
    numbers = (
        "n_batch",
        "n_ubatch",
        "n_seq_max",
        "n_threads",
        "n_threads_batch",
        "rope",
        "flash_attn",
        "type_k",
        "type_v",
    )
    on = [model.use_extra_bufts, context.offload_kqv, context.op_offload]  # type: ignore[attr-defined]
    off = [model.vocab_only, model.check_tensors, model.no_host, model.no_alloc]  # type: ignore[attr-defined]
    found = tuple(getattr(context, name) for name in numbers)
    return found == (2048, 512, 1, 4, 4, -1, -1, 1, 1) and all(on) and not any(off) and getattr(model, "use_mmap", True)


def layout_of(lib: ctypes.CDLL) -> tuple[ctypes.Structure, ctypes.Structure] | None:
    """Finds the library's default parameters in the structures of its era; None of a library that none agrees with."""
    for modes, counts, ctx_type, moe_cache in ERAS:
        lib.llama_model_default_params.restype = model_params(modes)
        lib.llama_context_default_params.restype = context_params(counts, ctx_type, moe_cache)
        found = lib.llama_model_default_params(), lib.llama_context_default_params()
        if known_layout(*found):
            return found
    return None


def set_where_known(params: ctypes.Structure, values: dict[str, Any]) -> None:
    """Sets the fields that the library's structure has."""
    for name, value in values.items():
        if any(name == field[0] for field in params._fields_):
            setattr(params, name, value)


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
    found = layout_of(lib)
    if found is None:
        say({"error": f"{name} lays its parameters out otherwise than llama.cpp from b7830 to b11739, which are known"})
        return
    wanted, plain = found
    lib.llama_model_load_from_file.restype = lib.llama_init_from_model.restype = ctypes.c_void_p
    lib.llama_model_load_from_file.argtypes = [ctypes.c_char_p, type(wanted)]
    lib.llama_init_from_model.argtypes = [ctypes.c_void_p, type(plain)]
    lib.llama_free.argtypes = [ctypes.c_void_p]
    host = {
        "n_gpu_layers": 0,
        "use_mmap": False,
        "load_mode": 0,
        "lazy_mode": 0,
        "use_extra_bufts": False,
        "no_alloc": True,
    }
    set_where_known(wanted, {**host, "load_mtp": False})
    model = lib.llama_model_load_from_file(file.encode(), wanted)
    version = ""
    if hasattr(lib, "llama_version"):  # from b10335 or a little before
        lib.llama_version.restype = ctypes.c_char_p
        version = lib.llama_version().decode()
    say({"library": name, "version": version, "loaded": bool(model), "log": "".join(log)[-20000:]})
    if not model:
        return
    for index, question in enumerate(questions[start:], start):
        log.clear()
        asked = lib.llama_context_default_params()
        fixed = {"n_threads": 1, "n_threads_batch": 1, "swa_full": False}  # as llama-server has it, not as the library
        given = {key: TYPES[value] if key in ("type_k", "type_v") else value for key, value in question.items()}
        set_where_known(asked, {**fixed, **given, "n_outputs_max": given.get("n_seq_max", 1)})
        say({"begin": index})
        context = lib.llama_init_from_model(model, asked)
        say({"index": index, "made": bool(context), "log": "".join(log)[-20000:]})
        if context:
            lib.llama_free(context)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    main(given["library"], given["file"], given["questions"], given["start"])
