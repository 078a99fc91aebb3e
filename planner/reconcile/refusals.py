"""Why a server would not start, where its own error says so in one line: a row an error, with what mends it.

The groups of a row's pattern stand in its words and mends as {0}, {1}. The forms are those of the engines' sources;
`tests/cases/logs/lines.jsonl` has a line of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.reconcile.pattern import LLAMA, LMDEPLOY, SGLANG, TABBY, TRT, VLLM, Pattern, p

SEPARATOR = "\x1f"
REFUSAL = "refusal "  # the fact of row 7 is "refusal 7"


@dataclass(frozen=True)
class Refusal:
    """`text`: what it comes to. `mends`: flags that mend it, the surest first. `late`: it counts after the pool was made, too."""

    engine: str
    regex: str
    text: str
    mends: tuple[str, ...] = ()
    late: bool = False


REFUSALS: tuple[Refusal, ...] = (
    # vLLM
    Refusal(VLLM, r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len \([\w.]{1,60}=(\d+)",
            "refused to start: max_model_len {0} is more than the {1} tokens of the model's own positions",
            ("--max-model-len {1}", "--hf-overrides with RoPE scaling")),
    Refusal(VLLM, r"max_num_batched_tokens \((\d+)\) is smaller than max_model_len \((\d+)\)",
            "refused to start: a step of {0} tokens cannot take a request of {1} without chunked prefill",
            ("--max-num-batched-tokens {1}", "--enable-chunked-prefill", "--max-model-len {0}")),
    Refusal(VLLM, r"max_num_batched_tokens \((\d+)\) must be greater than or equal to max_num_seqs \((\d+)\)",
            "refused to start: a step of {0} tokens is less than {1} sequences", ("--max-num-batched-tokens {1}", "--max-num-seqs {0}")),
    Refusal(VLLM, r"GPU memory utilization must be less than \d\.\d\. Got (\d{1,4}(?:\.\d{1,6})?)",
            "refused to start: gpu_memory_utilization {0} is more than the card", ("--gpu-memory-utilization 0.95",)),
    Refusal(VLLM, r"CUDA out of memory occurred when warming up (sampler|pooler)[^\n]{0,40}? with (\d+) dummy requests",
            "ran out of memory: its {0} was warmed up with {1} requests, after the cache was made",
            ("--max-num-seqs", "a lower --gpu-memory-utilization"), late=True),
    Refusal(VLLM, r"Available memory on node \d{1,4} \(NUM/NUM GiB\) on kv cache allocation is less than requested memory for kv \(NUM GiB\)",
            "refused to start: {0} of the node's {1} GiB are free and {2} GiB of cache are wanted", ("--gpu-memory-utilization", "--kv-cache-memory-bytes")),
    Refusal(VLLM, r"Available memory on node \d{1,4} \(NUM/NUM GiB\) on startup is less than desired CPU memory utilization \(NUM, NUM GiB\)",
            "refused to start: {0} of the node's {1} GiB are free and {3} GiB are wanted", ("--gpu-memory-utilization",)),
    Refusal(VLLM, r"The worker already uses NUM GiB [^\n]{0,60}?more than the NUM GiB of CPU memory reserved",
            "refused to start: weights and runtime take {0} GiB of the {1} GiB that are its share", ("--gpu-memory-utilization", "--tensor-parallel-size")),
    Refusal(VLLM, r"Externally held weights on device [^\n]{0,40}?\(NUM/NUM GiB\) exceed the desired GPU memory utilization",
            "refused to start: weights held outside take {0} of the card's {1} GiB, more than the share", ("--gpu-memory-utilization",)),
    Refusal(VLLM, r"frontend multimodal GPU decoding reserves NUM GiB [^\n]{0,160}?but only NUM GiB",
            "refused to start: {0} GiB are kept for decoding images and {1} GiB are there", ("--gpu-memory-utilization",)),
    Refusal(VLLM, r"LoRA rank (\d{1,6}) is greater than max_lora_rank {1,2}(\d{1,6})",
            "refused an adapter: its rank is {0} and {1} was reserved", ("--max-lora-rank {0}",), late=True),
    Refusal(VLLM, r"Number of requested LoRAs \((\d{1,6})\) is greater than the number of GPU LoRA slots \((\d{1,6})\)",
            "refused adapters: {0} were asked for and {1} fit on the device at once", ("--max-loras {0}",), late=True),
    Refusal(VLLM, r"max_cpu_loras \((\d{1,6})\) must be >= max_loras \((\d{1,6})\)",
            "refused to start: max_cpu_loras {0} is less than max_loras {1}", ("--max-cpu-loras {1}",)),
    Refusal(VLLM, r"Total number of attention heads \((\d{1,6})\) must be divisible by tensor parallel size \((\d{1,6})\)",
            "refused to start: {0} heads cannot be divided by {1} ranks", ("--tensor-parallel-size",)),
    Refusal(VLLM, r"max_tokens_per_mm_item \((\d+)\) is larger than max_num_batched_tokens \((\d+)\)",
            "refused to start: an image of {0} tokens is more than a step of {1}", ("--max-num-batched-tokens {0}",)),
    Refusal(VLLM, r"num_speculative_tokens:(\d{1,6}) must be divisible by n_predict=(\d{1,6})",
            "refused to start: {0} drafts are no multiple of the {1} layers that draft", ("--speculative-config with num_speculative_tokens {1}",)),
    Refusal(VLLM, r"speculative_max_model_len=(\d+) cannot be larger than (?:draft|target)_max_model_len=(\d+)",
            "refused to start: the drafter's longest request {0} is more than {1}", ("--speculative-config with max_model_len {1}",)),
    Refusal(VLLM, r"mamba state page \((\d+) bytes\) does not fit the MLA page \((\d+) bytes\)",
            "refused to start: a state of {0} B does not fit a page of {1} B", ("--tensor-parallel-size", "--kv-cache-dtype auto")),
    # SGLang
    Refusal(SGLANG, r"(alloc_req_slots runs out of memory)", "stopped: its table of requests is full", ("--max-running-requests",), late=True),
    Refusal(SGLANG, r"LoRA adapter [^\n]{1,120}? with rank (\d{1,6}) is incompatible with the current LoRA memory pool",
            "refused an adapter: its rank {0} does not fit the pool of adapters", ("--max-lora-rank {0}",), late=True),
    Refusal(SGLANG, r"(No available buffer slots) found\. Please ensure the number of active \(pinned\) loras",
            "refused an adapter: all places on the device are taken", ("--max-loras-per-batch",), late=True),
    Refusal(SGLANG, r"No host memory is left for HiCache after the (\d{1,6}) GiB reserve",
            "refused to start: no host memory is left for its second cache beside {0} GiB", ("--hicache-size", "--hicache-ratio")),
    Refusal(SGLANG, r"(--swa-full-tokens-ratio) should be in range", "refused to start: the share of window tokens is not between 0 and 1", ("--swa-full-tokens-ratio 0.8",)),
    Refusal(SGLANG, r"Not enough host memory available\. Requesting NUM GB but only have NUM GB free",
            "refused to start: {0} GB of host memory are wanted for its second cache and {1} GB are free", ("--hicache-size", "--hicache-ratio")),
    Refusal(SGLANG, r"User-specified context_length \((\d+)\) is greater than the derived context_length \((\d+)\)",
            "refused to start: context_length {0} is more than the {1} tokens of the model's own positions", ("--context-length {1}",)),
    # llama.cpp
    Refusal(LLAMA, r"quantized V cache (was requested, but this requires Flash Attention|requires flash_attn)",
            "did not load: a quantised V cache needs flash attention", ("--flash-attn on", "--cache-type-v f16")),
    Refusal(LLAMA, r"model does not support different K \((\w{1,10})\) and V \((\w{1,10})\) cache types",
            "did not load: K of {0} and V of {1} where this model needs one type", ("--cache-type-v {0}",)),
    Refusal(LLAMA, r"(K|V) cache type (\w{1,10}) with block size (\d{1,5}) does not divide n_embd_head_[kv]=(\d{1,6})",
            "did not load: blocks of {2} in {1} do not divide a head of {3}", ("--cache-type-k f16", "--cache-type-v f16")),
    Refusal(LLAMA, r"seq_id=(\d{1,6}) >= n_seq_max=(\d{1,6}) Try using a bigger --parallel",
            "stopped: sequence {0} of {1} slots", ("--parallel",), late=True),
    Refusal(LLAMA, r"unable to allocate (\w{1,40}) buffer", "did not load: a buffer of {0} was not to be had", ("--n-gpu-layers", "--ctx-size")),
    Refusal(LLAMA, r"failed to allocate buffer for (rs cache|lora adapter|DSV\d compressor state)",
            "did not load: a device would not give the buffer of its {0}", ("--n-gpu-layers", "--ctx-size", "--parallel")),
    # ExLlama under TabbyAPI
    Refusal(TABBY, r"(Insufficient VRAM) (?:in split )?for model and cache",
            "did not load: weights and cache are more than the cards have", ("a smaller cache_size", "cache_mode 4,4", "chunk_size 512")),
    Refusal(TABBY, r"(Insufficient space in device allocation)",
            "did not load: its gpu_split leaves too little", ("a larger gpu_split", "a smaller cache_size")),
    Refusal(TABBY, r"max_num_tokens must be a multiple of (\d+)", "did not load: its cache is no multiple of {0} tokens", ("a cache_size in multiples of {0}",)),
    # TensorRT-LLM, LMDeploy
    Refusal(TRT, r"(Impossible to fit) in any sequence in kvCache", "refused to start: not one sequence fits its cache", ("--kv_cache_free_gpu_memory_fraction", "--max_seq_len")),
    Refusal(LMDEPLOY, r"No enough gpu memory for (kv cache|state cache|runtime)",
            "refused to start: nothing is left for its {0}", ("--cache-max-entry-count", "--max-batch-size", "--tp")),
)  # fmt: skip

REFUSED: tuple[Pattern, ...] = tuple(
    p(row.engine, row.regex, f"{REFUSAL}{number}") for number, row in enumerate(REFUSALS)
)


def said(number: int, value: str) -> tuple[str, tuple[str, ...]]:
    """Returns the words and the mends of a refusal, with what its line said filled in.

    >>> said(2, SEPARATOR.join(("128", "256")))
    ('refused to start: a step of 128 tokens is less than 256 sequences', ('--max-num-batched-tokens 256', '--max-num-seqs 128'))
    """
    row, groups = REFUSALS[number], value.split(SEPARATOR)
    return row.text.format(*groups), tuple(mend.format(*groups) for mend in row.mends)
