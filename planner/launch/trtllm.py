"""The flags of `trtllm-serve` (TensorRT-LLM 1.2), and those of a YAML file of `--config`."""

from __future__ import annotations

from planner.launch.table import Table, table

USED = """
tensor-parallel-size|--tp-size|--tp=             tp count
pipeline-parallel-size|--pp-size|--pp=           pp count
moe-expert-parallel-size|--ep-size|--ep=         ep count
max-seq-len=                                     max_model_len count
max-batch-size=                                  max_num_seqs count
max-num-tokens=                                  max_num_batched_tokens count
free-gpu-memory-fraction|--kv-cache-free-gpu-memory-fraction|--kv-cache-free-gpu-mem-fraction= fraction share
kv-cache-dtype=                                  kv_dtype text
"""
MATTERS = """
backend= : `trt` runs a built engine, `_autodeploy` a converted model: speed
config|--extra-llm-api-options= : settings in a file that this text only names: put kv_cache_config and the sizes on the command line
context-parallel-size|--cp-size= : prompts split over further devices
moe-cluster-parallel-size|--cluster-size= : experts split in clusters: weight a rank
max-beam-width= : beams a request: cache times beams
max-input-len= : longest prompt
gpus-per-node= : devices of a machine: exchange between machines
enable-chunked-prefill : long prompts in pieces: step size and TTFT
disable-kv-cache-reuse : requests that share a prefix keep it each
server-role= : this server only prefills or only decodes
disagg-cluster-uri= : this server only prefills or only decodes
metadata-server-config-file= : this server only prefills or only decodes
"""
QUIET = """
tokenizer= custom-tokenizer= host= port= custom-module-dirs= log-level= num-postprocess-workers= trust-remote-code
revision= reasoning-parser= tool-parser= fail-fast-on-attention-window-too-large otlp-traces-endpoint= media-io-kwargs=
chat-template= skip-tokenizer-init help served-model-name= extra-encoder-options=
"""
TABLE: Table = table(
    "tensorrt-llm", "TensorRT-LLM 1.2", USED, matters=MATTERS, quiet=QUIET, underscores=True, equals=True
)
