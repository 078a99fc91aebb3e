"""What the start-up lines of each engine look like: a pattern, and the facts its groups carry.

The formats are those that the engines' own sources print; every number may have commas. A pattern is searched
anywhere in a line, so prefixes (time, level, rank, container) do not matter. Every repetition has a bound (` *`, `\\d+`
and their like get theirs in `_written`), and a pattern begins with its phrase: the time of a search grows with the
length of a line, not with its square.
"""

from __future__ import annotations

import re

from planner.reconcile.beside import BESIDE
from planner.reconcile.pattern import (
    LLAMA,
    LMDEPLOY,
    LMSTUDIO,
    MLX,
    OLLAMA,
    SGLANG,
    TORCH,
    TRT,
    VLLM,
    Pattern,
    p,
)
from planner.reconcile.refusals import REFUSED

OWN: tuple[Pattern, ...] = (
    # vLLM
    p(VLLM, r"vLLM API server version v?([\w.+-]{1,60})", "version", start=True),
    p(VLLM, r"Initializing an? (?:V[01] )?LLM engine \(v([\w.+-]{1,60})\)", "version", start=True),
    p(VLLM, r"(Initializing a V1 LLM) engine", "is_v1"),
    p(VLLM, r"\u2588 {1,8}version +v?([\w.+-]{1,60})", "version", start=True),  # the banner of 0.18 and later
    p(VLLM, r"\u2588 {1,8}model +(\S{1,200})", "model"),
    p(VLLM, r"Loading model weights took NUM Gi?B", "weights_gib"),
    p(VLLM, r"Model loading took NUM Gi?B", "weights_gib"),
    p(VLLM, r"total_gpu_memory \(NUM ?GiB\) x gpu_memory_utilization \((\d\.\d+)\) = NUM ?GiB", "card_gib", "fraction", "budget_gib"),
    p(VLLM, r"model weights take NUM ?GiB; non_torch_memory takes NUM ?GiB; PyTorch activation peak memory takes NUM ?GiB; "
             r"the rest of the memory reserved for KV Cache is NUM ?GiB",
       "weights_gib", "non_torch_gib", "activation_gib", "available_gib"),
    p(VLLM, r"total_gpu_memory=NUM ?GiB", "card_gib"),
    p(VLLM, r"peak_torch_memory=NUM ?GiB", "peak_torch_gib"),
    p(VLLM, r"non_torch_memory=NUM ?GiB", "non_torch_gib"),
    p(VLLM, r"kv_cache_size=NUM ?GiB", "available_gib"),
    p(VLLM, r"gpu_memory_utilization=(\d\.\d+)", "fraction"),
    p(VLLM, r"torch peak memory increase: NUM ?GiB", "activation_gib"),
    p(VLLM, r"non-torch forward increase memory: NUM ?GiB", "non_torch_gib"),
    p(VLLM, r"weights memory: NUM ?GiB", "weights_gib"),
    p(VLLM, r"# (?:GPU|cuda|rocm|hpu|xpu|neuron|tpu|HPU) blocks: NUM(?:, # CPU blocks: NUM)?", "blocks", "cpu_blocks"),
    p(VLLM, r"Available KV cache memory: NUM GiB", "available_gib"),
    p(VLLM, r"(?:GPU|CPU|TPU|XPU|HPU) KV cache size: NUM tokens", "tokens"),
    p(VLLM, r"(CPU) KV cache size", "on_cpu"),
    p(VLLM, r"Initial free memory NUM GiB, reserved NUM GiB memory for KV Cache", "free_gib", "available_gib"),
    p(VLLM, r"(reserved) [\d.]{1,12} GiB memory for KV Cache as specified by kv_cache_memory_bytes", "pool_given"),
    p(VLLM, r"Explicitly set \(NUM/NUM\) GiB for KV cache", "available_gib", "node_gib"),
    p(VLLM, r"(Explicitly set) \([\d.]{1,12}/[\d.]{1,12}\) GiB for KV cache", "pool_given"),
    p(VLLM, r"Auto set \(NUM/NUM\) GiB for KV cache on node \d{1,4}, with NUM GiB requested memory for the worker\. NUM GiB",
       "available_gib", "node_gib", "budget_gib", "consumed_gib"),
    p(VLLM, r"The current --gpu-memory-utilization=(\d\.\d{1,6}) is equivalent", "fraction"),
    p(VLLM, r"max_num_seqs \((\d{1,9})\) exceeds available Mamba cache blocks \((\d{1,9})\)", "sequences", "state_blocks"),
    p(VLLM, r"Init model \| hbm=\[\(NUM, NUM\)", "weights_gib", "card_gib"),  # TPUs: used and there, of each chip
    p(VLLM, r"Init kv-cache \| shape=\d{1,6} \* \((\d{1,9}), (\d{1,6}),", "blocks", "block_size"),
    p(VLLM, r"Maximum concurrency for NUM tokens per request: NUMx", "max_model_len", "concurrency"),
    p(VLLM, r"Graph capturing finished in .{0,40}? took NUM GiB", "graphs_gib"),
    p(VLLM, r"Estimated CUDA graph memory: NUM GiB", "graphs_estimated_gib"),
    p(VLLM, r"Free memory on device (?:\S{1,12} )?\(NUM/NUM GiB\) on startup", "free_gib", "card_gib"),
    p(VLLM, r"on startup (is less than) .{0,90}?\((\d\.\d{1,6}), NUM GiB\)", "not_free", "fraction", "budget_gib"),
    p(VLLM, r"(No available memory) for the cache blocks", "no_room"),
    p(VLLM, r"(Cannot auto-fit max_model_len)", "no_room"),
    p(VLLM, r"Auto-fit max_model_len: full model context length NUM fits", "max_model_len"),
    p(VLLM, r"Auto-fit max_model_len: reduced from NUM to NUM to fit in available GPU memory \(NUM GiB",
       "asked_model_len", "max_model_len", "available_gib"),
    p(VLLM, r"Overriding num_gpu_blocks=NUM with num_gpu_blocks_override=NUM", "fitting_blocks", "blocks"),
    p(VLLM, r"CUDA graph pool memory: NUM GiB \(actual\), NUM GiB \(estimated\)", "graphs_gib", "graphs_estimated_gib"),
    p(VLLM, r"SimpleCPUOffloadWorker\b[^\n]{0,120}?NUM CPU blocks \(NUM GB\)", "host_blocks", "host_gb"),
    p(VLLM, r"Desired GPU memory utilization is \((\d\.\d+), NUM GiB\)", "fraction", "budget_gib"),
    p(VLLM, r"Actual usage is NUM GiB for weight, NUM GiB for peak activation, NUM GiB for non-torch memory, and NUM GiB for CUDAGraph",
       "weights_gib", "activation_gib", "non_torch_gib", "graphs_gib"),
    p(VLLM, r"Actual usage is NUM GiB for consumed memory \(weights \+ non-torch\), NUM GiB for peak activation, and NUM GiB for CUDAGraph",
       "consumed_gib", "activation_gib", "graphs_gib"),
    p(VLLM, r"Current kv cache memory in use is NUM GiB", "available_gib"),
    p(VLLM, r"Num Sequences = (\d+)", "sequences"),
    p(VLLM, r"attention block size to NUM tokens", "block_tokens"),
    p(VLLM, r"max_num_batched_tokens=(\d+)", "batched_tokens"),
    p(VLLM, r"model(?:'s|s's) max(?:imum)? seq(?:uence)? len(?:gth)? \((\d{1,9})\)", "max_model_len"),
    p(VLLM, r"NUM GiB KV cache is needed", "needed_gib"),
    p(VLLM, r"the available KV cache memory \(NUM GiB\)", "available_gib"),
    p(VLLM, r"estimated maximum model length is (\d+)", "estimated_max_len"),
    p(VLLM, r"tokens that can be stored in (?:the )?KV cache \((\d+)\)", "stored_tokens"),
    # SGLang
    p(SGLANG, r"(server_args=ServerArgs)\(", "seen", start=True),
    p(SGLANG, r"Load weight begin\. avail mem=NUM GB", "before_gib"),
    p(SGLANG, r"Load weight end\.[^\n]{0,300}?avail mem=NUM GB(?:, mem usage=NUM GB)?", "after_gib", "weights_gib"),
    p(SGLANG, r"KV Cache (?:is allocated|VA upper bound)\.[^\n]{0,200}?#tokens: NUM, K size: NUM GB, V size: NUM GB", "pool_tokens", "k_gib", "v_gib", key=0),
    p(SGLANG, r"KV Cache (?:is allocated|VA upper bound)\.[^\n]{0,200}?#tokens: NUM, KV size: NUM GB", "pool_tokens", "k_gib", key=0),
    p(SGLANG, r"max_total_tokens=\d{1,12} is larger than the profiled value (-?\d{1,12})", "profiled_tokens"),
    p(SGLANG, r"Using KV cache dtype: (torch\.\w{1,20})", "kv_dtype"),
    p(SGLANG, r"(Not enough memory)\. Please try to increase --mem-fraction-static", "no_room"),
    p(SGLANG, r"Current value: (?:self\.server_args\.)?mem_fraction_static=(\d\.\d{1,6})", "fraction"),
    p(SGLANG, r"(Not enough GPU memory) for hybrid \(mamba", "no_room"),
    p(SGLANG, r"(state cache is too small) to serve any requests", "no_room"),
    p(SGLANG, r"max_running_requests was reduced from the requested NUM to NUM", "asked_requests", "running_requests"),
    p(SGLANG, r"max_running_requests is capped to NUM by the mamba state cache \(max_mamba_cache_size=NUM", "running_requests", "state_slots"),
    p(SGLANG, r"Load weight end\.[^\n]{0,300}?dtype=(torch\.\w{1,20})", "dtype"),
    p(SGLANG, r"Memory pool end\. avail mem=NUM GB", "left_gib"),
    p(SGLANG, r"max_total_num_tokens=(\d+)", "tokens"),
    p(SGLANG, r"full_layer_tokens=(\d+), swa_layer_tokens=(\d+)", "tokens", "swa_tokens"),
    p(SGLANG, r"max_total_num_tokens=[^\n]{0,300}?max_running_requests=(\d{1,9})", "running_requests"),
    p(SGLANG, r"max_total_num_tokens=[^\n]{0,300}?context_len=(\d{1,9})", "max_model_len"),
    p(SGLANG, r"max_total_num_tokens=[^\n]{0,300}?available_gpu_mem=NUM GB", "left_gib"),
    p(SGLANG, r"(Loaded weights leave no GPU memory for the KV cache) under --mem-fraction-static=(\d\.\d{1,6})", "no_room", "fraction"),
    p(SGLANG, r"Capture ([\w -]{0,40}?)(?:cuda graph|CUDA graph|draft extend) end\b[^\n]{0,300}?mem usage=NUM GB", "capture", "graphs_gib", key=0),
    p(SGLANG, r"Mamba Cache is allocated\.[^\n]{0,200}?max_mamba_cache_size: (\d+), conv_state size: NUM ?GB, ssm_state size: NUM ?GB",
       "state_slots", "conv_gib", "ssm_gib"),
    # llama.cpp and ik_llama.cpp
    p(LLAMA, r"\bbuild(?::| =) ?(\d+) \(", "version", start=True),
    p(LLAMA, r'msg="(starting (?:ollama )?(?:runner|llama server|engine))"', "runner", start=True),
    p(LLAMA, r"(llama_model_loader: loaded meta)", "loaded", start=True),
    p(LLAMA, r"Welcome to KoboldCpp - Version ([\w.-]{1,20})", "kobold", start=True),
    p(LLAMA, r"useswa=(True)", "kobold_windows"),
    p(LLAMA, r"using device \w{1,40} \([^\n]{0,120}?\) - NUM MiB free", "free_mib"),
    p(LLAMA, r"file size *= *NUM GiB", "file_gib"),
    p(LLAMA, r"file size *= *NUM MiB", "file_mib"),
    p(LLAMA, r"offloaded (\d{1,5})/(\d{1,5}) layers to GPU", "layers_on", "layers_all"),
    p(LLAMA, r"n_parallel is set to auto, using n_parallel = (\d{1,4}) and kv_unified = (\w{4,5})", "n_seq_max", "kv_unified"),
    p(LLAMA, r"projected to use NUM MiB of device memory vs\. (?:a total of )?NUM MiB", "projected_mib", "device_free_mib"),
    p(LLAMA, r"projected to use NUM MiB of host memory vs\. NUM MiB", "projected_host_mib", "host_mib"),
    p(LLAMA, r"context size reduced from (\d{1,9}) to (\d{1,9})", "asked_ctx", "fitted_ctx"),
    p(LLAMA, r"(failed to fit params) to free device memory", "not_fitted"),
    p(LLAMA, r"allocating NUM MiB on device \w{1,40}: \w{1,40} failed: (out of memory)", "oom_mib", "oom"),
    p(LLAMA, r"failed to allocate (?:\w{1,40} )?buffer of size (\d{1,18})", "oom_bytes"),
    p(LLAMA, r"ailed to (allocate buffer for kv cache|allocate compute buffers|create context|load model)", "not_loaded"),
    p(LLAMA, r"general\.name(?: str)? *= *(\S[^\n]{0,120})", "name"),
    p(LLAMA, r"print_(?:info|meta): arch *= *(\w+)", "arch"),
    *(p(LLAMA, rf"print_(?:info|meta): {key} *= *(\d+)", key)
      for key in ("n_layer", "n_head", "n_head_kv", "n_embd", "n_embd_head_k", "n_embd_head_v", "n_vocab", "n_ff", "n_swa", "n_expert")),
    *(p(LLAMA, rf"(?:llama_context|llama_new_context_with_model|llama_init_from_model): {key} *= *(\d+)", key)
      for key in ("n_seq_max", "n_ctx", "n_ctx_seq", "n_batch", "n_ubatch", "n_rs_seq", "mla_attn")),
    p(LLAMA, r"llama_context: n_ctx_(?:per_)?seq \((\d{1,9})\) [<>]", "n_ctx_seq"),
    p(LLAMA, r"llama_context: (n_ctx_per_seq)", "old_words"),
    p(LLAMA, r"loaded meta data with [\w ]{1,60} from (\S{1,400}\.gguf)", "file"),
    p(LLAMA, r"(?:llama_context|llama_new_context_with_model|llama_init_from_model): flash_attn *= *(\w+)", "flash_attn"),
    p(LLAMA, r"llama_context: kv_unified *= *(\w+)", "kv_unified"),
    p(LLAMA, r"(?:load_tensors|llm_load_tensors): {1,20}DEV(?:\[[\w.:-]{1,60}\])? (?:model )?buffer size *= *NUM Mi?B", "device", "weights_mib", key=0),
    p(LLAMA, r"creating +((?:non-)?SWA) KV cache", "section"),
    p(LLAMA, r"creating (MTP) draft context", "section"),
    p(LLAMA, r"llama_kv_cache\w*: size *= *NUM MiB \( *(\d+) cells, *(\d+) layers", "kv_mib", "cells", "kv_layers", key=1),
    p(LLAMA, r"llama_kv_cache\w*: size *=[^\n]{0,120}?K \((\w+)\): *NUM MiB, V \((\w+)\): *NUM MiB", "k_type", "k_mib", "v_type", "v_mib"),
    p(LLAMA, r"[Kk][Vv] self size *= *NUM Mi?B", "kv_self_mib"),
    p(LLAMA, r"self size *=[^\n]{0,120}?K \((\w+)\): *NUM MiB, V \((\w+)\): *NUM MiB", "k_type", "k_mib", "v_type", "v_mib"),
    p(LLAMA, r"self size *=[^\n]{0,120}?c\^KV \((\w+)\): *NUM MiB", "k_type", "k_mib"),
    p(LLAMA, r"llama_kv_cache\w*: {1,20}DEV(?:\[[\w.:-]{1,60}\])? KV buffer size *= *NUM MiB", "device", "kv_device_mib", key=0),
    p(LLAMA, r"llama_kv_cache\w*: (?:kv_size|size) = (\d{1,9}),", "cells_older"),
    p(LLAMA, r"llama_kv_cache\w*: [^\n]{0,80}?type_k = '(\w{2,8})', type_v = '(\w{2,8})'", "k_type", "v_type"),
    p(LLAMA, r"llama_memory_recurrent: size *= *NUM MiB", "state_mib"),
    p(LLAMA, r"llama_memory_recurrent: size *=[^\n(]{0,40}\([^\n)]{0,60}? seqs +(\d{1,4}) rs_seq\)", "n_rs_seq"),
    p(LLAMA, r"(?<!alloc_compute_meta)(?<!reserve_compute_meta): {1,20}DEV(?:\[[\w.:-]{1,60}\])? compute buffer size *(?:of|=) *NUM MiB", "device", "compute_mib", key=0),
    p(LLAMA, r"memory_breakdown_print: \| +- ([\w ()./:-]{1,60}?) +\| *(\d{1,8}) *= *(\d{1,20}) *\+ *\( *(\d{1,8}) *= *(\d{1,8}) *\+ *(\d{1,8}) *\+ *(\d{1,8})\)",
       "device", "card_mib", "card_free_mib", "own_mib", "own_model_mib", "own_context_mib", "own_compute_mib", key=0),
    p(LLAMA, r"memory_breakdown_print: \| +- (Host[\w ()./:-]{0,50}?) +\| *(\d{1,8}) *= *(\d{1,8}) *\+ *(\d{1,8}) *\+ *(\d{1,8}) *\|",
       "device", "own_mib", "own_model_mib", "own_context_mib", "own_compute_mib", key=0),
    p(LLAMA, r"llama_new_context_with_model: (attn_max_b|fused_moe|fused_up_gate|ser|graph_reuse) *=", "ik"),
    # ollama, besides the lines of the llama.cpp inside it
    p(OLLAMA, r"Listening on \S+ \(version ([\w.-]{1,40})\)", "version", start=True),
    p(OLLAMA, r'msg="kv cache" device=(\S+) size="NUM GiB"', "device", "kv_gib", key=0),
    p(OLLAMA, r'msg="kv cache" device=(\S+) size="NUM MiB"', "device", "kv_mib", key=0),
    p(OLLAMA, r'msg="model weights" (?:device|buffer)=(\S+) size="NUM GiB"', "device", "weights_gib", key=0),
    p(OLLAMA, r'msg="model weights" (?:device|buffer)=(\S+) size="NUM MiB"', "device", "weights_mib", key=0),
    p(OLLAMA, r'msg="compute graph" (?:device|backend)=(\S+)[^\n]{0,60}? size="NUM MiB"', "device", "compute_mib", key=0),
    p(OLLAMA, r'msg="compute graph" (?:device|backend)=(\S+)[^\n]{0,60}? size="NUM GiB"', "device", "compute_gib", key=0),
    p(OLLAMA, r'msg="total memory" size="NUM GiB"', "whole_gib"),
    p(OLLAMA, r'memory\.available="\[NUM GiB', "free_gib"),
    p(OLLAMA, r'memory\.required\.full="NUM GiB"', "whole_gib"),
    p(OLLAMA, r'layers\.model=(\d{1,5}) layers\.offload=(\d{1,5})', "layers_all", "layers_on"),
    p(OLLAMA, r'msg="offloaded (\d{1,5})/(\d{1,5}) layers to GPU"', "layers_on", "layers_all"),
    p(OLLAMA, r'(requires more system memory) \(NUM GiB\) than is available \(NUM GiB\)', "too_much", "whole_gib", "free_gib"),
    p(OLLAMA, r'memory\.required\.kv="NUM GiB"', "kv_gib"),
    p(OLLAMA, r'memory\.required\.kv="NUM MiB"', "kv_mib"),
    p(OLLAMA, r'memory\.weights\.total="NUM GiB"', "weights_gib"),
    p(OLLAMA, r'memory\.graph\.full="NUM MiB"', "compute_mib"),
    p(OLLAMA, r'memory\.graph\.full="NUM GiB"', "compute_gib"),
    p(OLLAMA, r"OLLAMA_NUM_PARALLEL[=:](\d+)", "parallel"),
    p(OLLAMA, r"\bKvSize:(\d{1,9})", "ctx_size", needs="msg=load"),
    p(OLLAMA, r"\bParallel:(\d{1,6})", "parallel", needs="msg=load"),
    p(OLLAMA, r" --ctx-size (\d{1,9})", "ctx_size", needs="ollama"),
    p(OLLAMA, r" --parallel (\d{1,6})", "parallel", needs="ollama"),
    # TensorRT-LLM
    p(TRT, r"TensorRT-LLM version:? v?([\w.+-]{1,40})", "version", start=True),
    p(TRT, r"Loaded engine size: NUM MiB", "weights_mib"),
    p(TRT, r"Rank \d{1,4} uses NUM GB for model weights", "weights_gib"),
    p(TRT, r"prefetching (\S{0,200}?models--\S{1,200}?/snapshots/\w{1,60})", "model"),
    p(TRT, r"Allocated NUM GiB for execution context memory", "execution_gib"),
    p(TRT, r"Allocated NUM MiB for execution context memory", "execution_mib"),
    p(TRT, r"Allocated NUM ([MG])i?B.{0,40}for.{0,20}runtime buffers", "runtime_gib", "runtime_unit"),
    p(TRT, r"Allocated NUM ([MG])i?B.{0,40}for.{0,20}decoder", "decoder_gib", "decoder_unit"),
    p(TRT, r"paged kv cache: total: NUM GiB, available: NUM GiB", "card_gib", "free_gib"),
    p(TRT, r"Allocated NUM GiB for max tokens in paged KV cache \((\d+)\)", "available_gib", "tokens"),
    p(TRT, r"Using (\d+) (?:total )?tokens in paged KV cache", "tokens"),
    p(TRT, r"[Nn]umber of tokens per block: (\d+)", "block_tokens"),
    p(TRT, r"[Nn]umber of blocks in KV cache primary pool: (\d+)", "blocks"),
    p(TRT, r"Max KV cache (?:blocks|pages) per sequence: \d{1,9} \[window size=\d{1,9}\], tokens per block=(\d{1,6}), primary blocks=(\d{1,9})",
       "block_tokens", "blocks"),
    p(TRT, r"Allocate (\d{1,15}) bytes for k/v cache", "kv_bytes"),
    p(TRT, r"Peak memory during memory usage profiling \(torch \+ non-torch\): NUM GiB, available KV cache memory when calculating max tokens: NUM GiB",
       "peak_gib", "available_gib"),
    p(TRT, r"fraction is set (\d\.\d{1,6}), kv size (?:per token )?is (\d{1,9})", "fraction", "token_bytes"),
    p(TRT, r"device total memory NUM GiB", "card_gib"),
    p(TRT, r"Memory used after loading model weights \(inside torch\) in memory usage profiling: NUM GiB", "weights_gib"),
    p(TRT, r"Memory used outside torch .{0,60}?in memory usage profiling: NUM GiB", "outside_gib"),
    p(TRT, r"max memory in KV cache ?: NUM GiB", "available_gib"),
    p(TRT, r"max tokens in KV cache ?: (\d{1,12})", "tokens"),
    p(TRT, r"max sequence length=(\d{1,9})", "max_model_len"),
    # PyTorch's own words, whichever server runs in it
    p(TORCH, r"(?:CUDA|HIP|XPU) out of memory\. Tried to allocate NUM GiB", "oom_gib"),
    p(TORCH, r"(?:CUDA|HIP|XPU) out of memory\. Tried to allocate NUM MiB", "oom_mib"),
    p(TORCH, r"has a total capacity of NUM GiB of which NUM GiB is free", "oom_card_gib", "oom_free_gib"),
    p(TORCH, r"has a total capacity of NUM GiB of which NUM MiB is free", "oom_card_gib", "oom_free_mib"),
    p(TORCH, r"NUM GiB total capacity; NUM GiB already allocated; NUM GiB free", "oom_card_gib", "oom_torch_gib", "oom_free_gib"),
    p(TORCH, r"NUM GiB total capacity; NUM GiB already allocated; NUM MiB free", "oom_card_gib", "oom_torch_gib", "oom_free_mib"),
    p(TORCH, r"rocess (?:\d{1,9} )?has NUM GiB memory in use", "oom_used_gib"),
    p(TORCH, r"allocated memory NUM GiB is allocated by PyTorch", "oom_torch_gib"),
    # mlx-lm
    p(MLX, r"a model that requires NUM MB which is close to the maximum recommended size of NUM MB", "weights_mib", "card_mib"),
    p(MLX, r"Peak memory: NUM GB", "peak_gb"),
    # LM Studio: its own estimate before a load, and how it fits a context to MLX
    p(LMSTUDIO, r"Model load size estimate with raw num offload layers '\w{1,12}' and context length '(\d{1,9})'", "max_model_len", start=True),
    p(LMSTUDIO, r"^\s{1,8}Model: NUM GB$", "weights_gb"),
    p(LMSTUDIO, r"^\s{1,8}Context: NUM GB$", "kv_gb"),
    p(LMSTUDIO, r"^\s{1,8}Total: NUM GB$", "whole_gb"),
    p(MLX, r"Model context auto-fit: family=\w{1,40} max=NUM fitted=NUM", "asked_model_len", "max_model_len"),
    p(MLX, r"working_set=NUM ?GiB reserve=NUM ?GiB safe_ceiling=NUM ?GiB", "card_gib", "reserve_gib", "ceiling_gib"),
    p(MLX, r"baseline=NUM ?GiB full_kv=NUM ?B/token", "weights_gib", "token_bytes"),
    p(MLX, r"attention=NUM ?B/token estimated_peak=NUM ?GiB", "score_bytes", "peak_gib"),
    # LMDeploy
    p(LMDEPLOY, r"(TurbomindEngineConfig)\(", "seen", start=True),
    p(LMDEPLOY, r"\b(CacheConfig)\(max_batches=", "pytorch_engine"),
    p(LMDEPLOY, r"\[BlockManager\] block_size ?= ?NUM MB", "block_mib"),
    p(LMDEPLOY, r"\[BlockManager\] max_block_count ?= ?(\d+)", "blocks"),
    p(LMDEPLOY, r"\[TM\][^\n]{0,200}?max cached tokens: (\d{1,12})", "tokens"),
)  # fmt: skip

PATTERNS: tuple[Pattern, ...] = OWN + BESIDE + REFUSED

# Arguments in a line that lists them all: (engine, phrase of the line, fact, patterns of its value)
_WORD = r"""['"]?([\w./:@+~-]{1,200})"""
ARGUMENTS: tuple[tuple[str, re.Pattern[str], tuple[tuple[str, re.Pattern[str]], ...]], ...] = (
    (
        VLLM,
        re.compile(r"LLM engine|LLMEngine|args: Namespace|non-default args"),
        tuple(
            (name, re.compile(rf"\b{key}['\"]?[=:] ?{_WORD}", re.ASCII))
            for name, key in (
                ("model", "model"), ("dtype", "dtype"), ("max_model_len", "max_seq_len"), ("max_model_len", "max_model_len"),
                ("tp", "tensor_parallel_size"), ("pp", "pipeline_parallel_size"), ("dcp", "decode_context_parallel_size"),
                ("kv_dtype", "kv_cache_dtype"), ("quantization", "quantization"), ("fraction", "gpu_memory_utilization"),
                ("batched_tokens", "max_num_batched_tokens"), ("sequences", "max_num_seqs"), ("block_size", "block_size"),
                ("swap", "swap_space"), ("offload", "cpu_offload_gb"), ("lora_rank", "max_lora_rank"),
                ("prefix_caching", "enable_prefix_caching"), ("speculative", "num_speculative_tokens"),
                ("speculative", "num_spec_tokens"), ("method", "method"), ("mamba_mode", "mamba_cache_mode"),
                ("ssm_dtype", "mamba_ssm_cache_dtype"), ("hybrid_off", "disable_hybrid_kv_cache_manager"),
                ("async", "async_scheduling"), ("pool_bytes", "kv_cache_memory_bytes"), ("served", "served_model_name"),
            )
        ),
    ),
    (
        SGLANG,
        re.compile(r"server_args"),
        tuple(
            (name, re.compile(rf"\b{key}['\"]?[=:] ?{_WORD}", re.ASCII))
            for name, key in (
                ("model", "model_path"), ("dtype", "dtype"), ("kv_dtype", "kv_cache_dtype"), ("quantization", "quantization"),
                ("fraction", "mem_fraction_static"), ("tp", "tp_size"), ("pp", "pp_size"), ("page_size", "page_size"),
                ("max_model_len", "context_length"), ("swa_ratio", "swa_full_tokens_ratio"),
                ("chunk", "chunked_prefill_size"), ("graph_batch", "cuda_graph_max_bs"), ("dp", "dp_size"),
                ("dp_attention", "enable_dp_attention"), ("running_requests", "max_running_requests"),
                ("served", "served_model_name"),
            )
        ),
    ),
    (
        LMDEPLOY,
        re.compile(r"\bCacheConfig\(max_batches="),
        tuple(
            (name, re.compile(rf"\b{key}['\"]?[=:] ?{_WORD}", re.ASCII))
            for name, key in (
                ("sequences", "max_batches"), ("block_size", "block_size"), ("blocks", "num_gpu_blocks"),
                ("fraction", "cache_max_entry_count"), ("quant_policy", "quant_policy"), ("chunk", "max_prefill_token_num"),
            )
        ),
    ),
    (
        LMDEPLOY,
        re.compile(r"TurbomindEngineConfig"),
        tuple(
            (name, re.compile(rf"\b{key}['\"]?[=:] ?{_WORD}", re.ASCII))
            for name, key in (
                ("model", "model_name"), ("tp", "tp"), ("max_model_len", "session_len"), ("fraction", "cache_max_entry_count"),
                ("block_size", "cache_block_seq_len"), ("quant_policy", "quant_policy"),
            )
        ),
    ),
)  # fmt: skip

# Which worker wrote a line, where the engine says so.
RANK = re.compile(
    r"\((?:VllmWorkerProcess|RayWorkerWrapper|RayWorkerProc|VllmWorker|Worker|EngineCore)[^)]{0,80}?(?:rank=(\d{1,9})|((?:_?(?:DP|PP|TP|EP|DCP)\d{1,9}){1,5})|pid=(\d{1,9}))"
    r"|\[[^\]]{0,60}?((?:(?:DP|PP|TP|EP)\d{1,9} ?){1,5})\]|\[RANK (\d{1,9})\]",
    re.ASCII,
)
"""A worker's name, or its process where it has none; the driver's lines have neither."""


def rank_of(line: str) -> str:
    """Finds the rank that wrote a line, "" where the line names none.

    >>> rank_of("(VllmWorker rank=1 pid=77) INFO"), rank_of("[2025-01-01 10:00:00 TP0] Load"), rank_of("INFO 01-01")
    ('1', 'TP0', '')
    """
    match = RANK.search(line[:200])
    return next((group.strip(" _") for group in match.groups() if group), "") if match else ""
