"""The flags of `lmdeploy serve api_server`: read from the parser of LMDeploy 0.18.0."""

from __future__ import annotations

from planner.launch.table import Table, table

USED = """
model-path=                                      model text
tp=                                              tp count
dp=                                              dp count
ep=                                              ep count
session-len=                                     max_model_len count
cache-max-entry-count=                           fraction share
cache-block-seq-len=                             block_size count
quant-policy=                                    quant_policy signed
model-format=                                    quantization text
dtype=                                           dtype text
max-batch-size=                                  max_num_seqs count
max-prefill-token-num=                           max_num_batched_tokens count
speculative-algorithm=                           draft_method text
speculative-draft-model=                         draft_model text
speculative-num-draft-tokens=                    num_speculative_tokens count
backend=                                         backend text
"""
MATTERS = """
adapters=+ : adapters: their size on the device
async= : steps scheduled ahead: speed
block-size= : tokens of a diffusion block
communicator= : how ranks exchange: speed
cp= : a sequence dealt over ranks
cudagraph-capture-batch-sizes=+ : which batches have CUDA graphs: graph memory and decode speed
device= : another kind of device
disable-gdr : how the cache is sent
dllm-block-length= : diffusion decoding: several tokens a step
dllm-confidence-threshold= : diffusion decoding: several tokens a step
dllm-denoising-steps= : diffusion decoding: several tokens a step
dllm-unmasking-strategy= : diffusion decoding: several tokens a step
dummy-prefill : the cache is not sent
eager-mode : no CUDA graphs: less memory, slower decode of small batches
empty-init : weights come later
enable-eplb : expert load balancing: copies of busy experts, and speed
enable-microbatch : two half batches overlap: speed, and twice the buffers
enable-prefix-caching : requests that share a prefix keep it once: more may fit than is said
hf-overrides= : keys of the config are replaced: write them into a config.json and name it as the model
kernel-block-size= : tokens of a block of the kernel
kv-transfer-config= : the cache is sent or received
language-model-only : the encoders are not loaded: less weight than is counted
max-prefill-iters= : prompts in pieces: TTFT
migration-backend= : how the cache is sent
migration-protocol= : how the cache is sent
link-type= : how the cache is sent
moe-a2a-backend= : how tokens reach the ranks of their experts: speed
nnodes= : ranks on several nodes: slower exchange than is counted
num-gpu-blocks= : so many blocks of cache, whatever fits
num-tokens-per-iter= : tokens of a prompt a step: TTFT
piecewise-cudagraph-max-tokens= : prompts with CUDA graphs: graph memory
prefix-cache-decode-state-interval= : recurrent states of prefixes that are kept
prefix-cache-state-budget= : recurrent states of prefixes that are kept
role= : this server only prefills or only decodes
rope-scaling-factor= : positions are scaled: a longer context than the model's own
speculative-dflash-block-size= : tokens of a draft: speed and buffers
use-logn-attn : attention scaled by length: no memory
vision-max-batch-size= : images at once: encoder activations
quant-dtype= : weights quantized before serving
"""
QUIET = """
allow-credentials allow-headers=+ allow-methods=+ allow-origins=+ allow-terminate-by-client allowed-media-domains=+
api-keys=+ batch-size= calib-dataset= calib-samples= calib-seqlen= chat-template= disable-cache-status
disable-fastapi-docs disable-metrics dist-init-addr= distributed-executor-backend= download-dir= dp-rank=
enable-abort-handling enable-return-routed-experts generation-config= log-level= logprobs-mode=
max-concurrent-requests= max-log-len= model-name= node-rank= proxy-url= reasoning-parser= repetition-penalty=
revision= routing-strategy= search-scale server-name= server-port= serving-strategy= session-id= ssl stream-output
tool-call-parser= top-k= top-p= trust-remote-code work-dir= -temp|--temperature= -h|--help enable-metrics
"""
TABLE: Table = table("lmdeploy", "LMDeploy 0.18.0", USED, matters=MATTERS, quiet=QUIET, abbreviations=True, equals=True)
