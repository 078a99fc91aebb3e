"""The flags of `vllm serve`: read from the parsers of vLLM 0.33.0, 0.24.0 and 0.15.1, and those of 0.8 that are gone."""

from __future__ import annotations

from planner.launch.table import Table, table

# name|alias, what it takes (nothing, = a value, =? perhaps one, =+ one or more), field, reader
USED = """
model=                                           model text
quantization|-q=                                 quantization text
dtype=                                           dtype text
max-model-len=                                   max_model_len vllm_tokens
tensor-parallel-size|-tp=                        tp count
pipeline-parallel-size|-pp=                      pp count
data-parallel-size|-dp=                          dp count
decode-context-parallel-size|-dcp=               dcp count
enable-expert-parallel|-ep                       expert_parallel switch
device-ids=                                      device_ids text
gpu-memory-utilization|--device-memory-utilization= fraction share
kv-cache-memory-bytes|--kv-cache-memory=         pool_bytes vllm_bytes
num-gpu-blocks-override=                         num_gpu_blocks_override count
kv-cache-dtype=                                  kv_dtype text
block-size=                                      block_size count
swap-space=                                      swap_space gib
cpu-offload-gb=                                  cpu_offload_bytes gib
max-num-seqs=                                    max_num_seqs count
max-num-batched-tokens=                          max_num_batched_tokens vllm_tokens
disable-hybrid-kv-cache-manager                  disable_hybrid switch
mamba-ssm-cache-dtype=                           mamba_ssm_dtype text
mamba-cache-mode=                                mamba_cache_mode text
speculative-config|-sc=                          speculative_config json
spec-method=                                     draft_method text
spec-model=                                      draft_model text
spec-tokens=                                     num_speculative_tokens count
speculative-model=                               draft_model text
num-speculative-tokens=                          num_speculative_tokens count
enable-prefix-caching                            prefix_caching switch
enable-chunked-prefill=?                         chunked_prefill switch
performance-mode=                                performance_mode text
async-scheduling                                 async_scheduling switch
kv-events-config=                                kv_events_config json
enable-lora                                      lora switch
max-loras=                                       max_loras count
max-lora-rank=                                   max_lora_rank count
lora-modules=+                                   lora_modules texts
limit-mm-per-prompt=                             mm_limits limits
skip-mm-profiling                                mm_unmeasured switch
"""
# name|alias, what it takes : what it changes, and is not counted
MATTERS = """
additional-config= : settings of a plug-in platform
all2all-backend= : how tokens reach the ranks of their experts: speed
attention-backend= : which attention kernel runs: speed, and the block size it wants
attention-config|-ac= : which attention kernel runs: speed, and the block size it wants
calculate-kv-scales : scales of an fp8 cache, computed at start: kilobytes
compilation-config|-cc= : compilation and CUDA graphs: graph memory (0.3 to 3 GiB) and decode speed
config= : flags in a file that this text only names: paste that file (kvplan check FILE)
convert= : a pooling model: no decode, so no cache beyond one prompt
cp-kv-cache-interleave-size|--dcp-kv-cache-interleave-size= : how a sequence is dealt over context-parallel ranks
cpu-offload-params=+ : which weights --cpu-offload-gb may move
cudagraph-capture-sizes=+ : which batches have CUDA graphs: graph memory and decode speed
data-parallel-rank|-dpn= : this process is one of the data-parallel ranks; the answer is for one rank's devices
data-parallel-size-local|-dpl= : ranks on this node: the others need devices of their own
data-parallel-start-rank|-dpr= : this node's first rank: the others need devices of their own
dbo-decode-token-threshold= : when two half batches overlap: speed
dbo-prefill-token-threshold= : when two half batches overlap: speed
dcp-comm-backend= : how context-parallel ranks exchange: speed
dcp-q-replicate : query projections on every context-parallel rank: more weights a rank, less traffic
diffusion-config|-dc= : settings of diffusion decoding
disable-cascade-attn : speed with long shared prefixes
disable-chunked-mm-input : an image is never split over two steps: larger steps
disable-custom-all-reduce : NCCL in place of vLLM's own all-reduce: slower decode with --tensor-parallel-size
disable-sliding-window : windows are not used and the context is cut to one: the cache holds at most a window
ec-manager-config= : a shared cache of encoder outputs
ec-transfer-config= : encoder outputs come from another server
elastic-ep-max-dp-size= : room for ranks that join later
enable-batch-sharded-sampling : sampling split over ranks: speed of large batches
enable-cumem-allocator : vLLM's own allocator: a little more is reserved
enable-dbo : two half batches overlap: speed of MoE on many ranks, and twice the buffers
enable-elastic-ep : ranks join and leave: buffers for them
enable-ep-weight-filter : ranks read only their own experts at start: load time
enable-eplb : expert load balancing: copies of busy experts, and speed
enable-flashinfer-autotune : kernels tuned at start: speed
enable-hc-sp : sequence parallelism of hyper-connections: activations
enable-mixed-moe-lora-format : adapters of several shapes: their buffers
enable-mm-embeds : images come as embeddings: no encoder pass
enable-moe-shared-loras : adapters on shared experts: their buffers
enable-prompt-embeds : prompts come as embeddings: activations of one step
enable-return-routed-experts : routing of each token is kept: megabytes on the host
enable-sleep-mode : vLLM's own allocator: a little more is reserved
enable-tower-connector-lora : adapters on the encoder: their buffers
enforce-eager : no CUDA graphs: 0.3 to 3 GiB less, and slower decode of small batches
engram-config= : n-gram memory tables of the model: where they are kept
eplb-config= : expert load balancing: copies of busy experts, and speed
expert-placement-strategy= : which experts a rank holds: balance
fully-sharded-loras : adapters split over ranks: less memory a rank
gdn-prefill-backend= : which linear-attention kernel runs: speed
hf-config-path= : the config comes from elsewhere: name that one as the model
hf-overrides= : keys of the config are replaced: write them into a config.json and name it as the model
kda-decode-backend= : which linear-attention kernel runs: speed
kda-prefill-backend= : which linear-attention kernel runs: speed
kernel-config= : which kernels run: speed
kv-cache-dtype-skip-layers=+ : these layers keep the model's type: a larger cache than --kv-cache-dtype says
kv-offloading-backend= : where blocks go that leave the device
kv-offloading-size= : host memory for blocks that leave the device: a cache of prefixes, not more requests at once
kv-sharing-fast-prefill : layers that share a cache are skipped in prefill: TTFT
kv-transfer-config= : the cache is sent or received: this server only prefills or only decodes, and buffers for it
language-model-only : the encoders are not loaded: less weight than is counted for a model with images or sound
linear-backend= : which matrix kernel runs: speed
long-prefill-token-threshold= : longer prompts wait for shorter ones: TTFT
long-prefill-token-threshold-adaptive : longer prompts wait for shorter ones: TTFT
lora-dtype= : type of the adapters
lora-target-modules=+ : which layers have adapters: their buffers
mamba-backend= : which recurrent kernel runs: speed
mamba-block-size= : how often recurrent states are cached
mamba-cache-dtype= : type of convolution states
mamba-ssu-algorithm= : which recurrent kernel runs: speed
max-cudagraph-capture-size= : largest batch with a CUDA graph: graph memory and decode speed
max-num-active-seqs= : fewer requests run than --max-num-seqs has buffers for
max-num-partial-prefills= : prompts cut at once: TTFT
max-long-partial-prefills= : long prompts cut at once: TTFT
max-num-scheduled-tokens= : fewer tokens a step than buffers are made for: TTFT
mm-encoder-attn-backend= : which encoder kernel runs: speed
mm-encoder-attn-dtype= : type of the encoder's attention
mm-encoder-only : the language model is not loaded: only the encoder's weight
mm-encoder-tp-mode= : `data` keeps the whole encoder on every rank: more weight a rank
mm-ipc-gpu-memory-gb= : GiB of the device for images in transfer
mm-processor-device= : images are prepared on the device: memory outside the pool
mm-processor-kwargs= : size of images: encoder activations
mm-tensor-ipc= : how images reach the engine: memory of the device where they go by it
model-class-overrides= : other code for the model
model-impl= : `transformers` runs the model's own code: speed
moe-backend= : which expert kernel runs: speed
monokernel : whole layers in one kernel: speed of small batches
nnodes|-n= : ranks on several nodes: slower exchange than is counted
offload-backend= : how weights are kept on the host: speed
offload-group-size= : every so many layers some are kept on the host: less weight on the device, slower steps
offload-num-in-group= : so many layers of each group are kept on the host: less weight on the device, slower steps
offload-params=+ : which weights are kept on the host
offload-prefetch-step= : how early weights return from the host: speed
optimization-level|-O= : compilation and CUDA graphs: graph memory and speed
override-attention-dtype= : type of the attention
prefill-context-parallel-size|-pcp= : prompts split over further devices
prefill-schedule-interval= : how often prompts join: TTFT
prefix-cache-retention-interval= : which blocks of a prefix stay
prefix-match-unit= : how prefixes are matched
quantization-config= : quantization of single layers
replayssm-buffer-len= : recurrent states recomputed: their buffers
runner= : a pooling model: no decode, so no cache beyond one prompt
scheduler-cls= : other code for the scheduler
scheduler-reserve-full-isl : a request waits until its whole prompt has room
sparse-indexer-topk-backend= : which sparse-attention kernel runs: speed
specialize-active-lora : graphs by number of adapters: graph memory
swa-bounded-replay : windows recomputed in place of kept
task= : a pooling model: no decode, so no cache beyond one prompt
ubatch-size= : how many parts of a batch overlap: speed
use-replayssm : recurrent states recomputed in place of kept
video-pruning-method= : tokens of a video that are dropped
video-pruning-rate= : share of a video's tokens that is dropped
watermark= : share of the blocks that is kept free: fewer requests than is said
worker-cls= : other code for the worker
rope-scaling= : positions are scaled: a longer context than the model's own
rope-theta= : positions are scaled: a longer context than the model's own
num-scheduler-steps= : V0: steps between schedules: TPOT
preemption-mode= : V0: what happens when the cache is full
worker-extension-cls= : other code for the worker
"""
# Neither memory nor speed of the device. A switch has --no-NAME (and --disable- beside --enable-) by vLLM's own rule.
QUIET = """
aggregate-engine-logging allow-credentials allow-deprecated-quantization allowed-headers= allowed-local-media-path=
allowed-media-domains=+ allowed-methods= allowed-origins= anthropic-disabled-thinking-effort= api-key=+
api-server-count|-asc= aux-output-config= chat-template= chat-template-content-format= code-revision= cohere-format=
cohere-is-reasoning-model collect-detailed-traces=+ config-format= cpu-distributed-timeout-seconds=
cudagraph-metrics custom-histogram-buckets= data-parallel-address|-dpa= data-parallel-backend|-dpb=
data-parallel-external-lb|-dpe data-parallel-hybrid-lb|-dph data-parallel-multi-port-external-lb|-dpm
data-parallel-rpc-port|-dpp= data-parallel-supervisor-port= default-chat-template-kwargs= default-mm-loras=
disable-access-log-for-endpoints= disable-fastapi-docs disable-log-stats disable-nccl-for-dp-synchronization
disable-uvicorn-access-log distributed-executor-backend= distributed-timeout-seconds= download-dir=
dp-supervisor-probe-failure-threshold= dp-supervisor-probe-interval-s= dp-supervisor-probe-timeout-s=
dp-sync-interval= enable-auto-tool-choice enable-fault-tolerance enable-flash-late-interaction
enable-force-include-usage enable-layerwise-nvtx-tracing enable-log-deltas enable-log-outputs enable-log-requests
enable-logging-iteration-details enable-mamba-cache-stochastic-rounding enable-mamba-shared-prefix-checkpoint
enable-mfu-metrics enable-nccl-comm-suspend enable-offline-docs enable-per-request-metrics
enable-prompt-tokens-details enable-request-id-headers enable-scale-out enable-server-load-tracking
enable-shm-tensor-arena enable-ssl-refresh enable-tokenizer-info-endpoint enable-trace-replay
exclude-tools-when-tool-choice-none fail-on-environ-validation fault-tolerance-config= fingerprint-mode=
fingerprint-value= generation-config= grpc grpc-port= h11-max-header-count= h11-max-incomplete-event-size= headless
hf-token=? host= ignore-patterns=+ interleave-mm-strings io-processor-plugin= ir-op-priority= jit-monitor-mode=
jit-monitor-verbose kv-cache-metrics kv-cache-metrics-sample= load-format= log-config-file=
log-error-stack log-level= logging-config= logits-processors=+ logprobs-mode= mamba-cache-philox-rounds=
master-addr= master-port= max-cpu-loras= max-log-len= max-logprobs= max-lora-cls-labels= max-num-queued-reqs=
max-num-queued-tokens= max-parallel-loading-workers= media-io-kwargs= middleware=+ mm-device-do-normalize
mm-encoder-fp8-scale-path= mm-encoder-fp8-scale-save-margin= mm-encoder-fp8-scale-save-path= mm-hasher-algorithm=
mm-processor-cache-gb= mm-processor-cache-type= mm-shm-cache-max-object-size-mb= model-loader-extra-config=
node-rank|-r= numa-bind numa-bind-cpus=+ numa-bind-nodes=+ otlp-traces-endpoint= override-generation-config=
per-request-spec-decode-metrics= pooler-config= port= prefix-caching-hash-algo= profiler-config=
pt-load-map-location= ray-workers-use-nsight reasoning-config= reasoning-effort-map= reasoning-parser=
reasoning-parser-plugin= renderer-num-workers= response-role= return-sampling-mask return-tokens-as-token-ids
revision= root-path= safetensors-load-strategy= safetensors-prefetch-block-size= safetensors-prefetch-num-threads=
scheduling-policy= seed= served-model-name= show-hidden-metrics-for-version= shutdown-timeout= skip-tokenizer-init
sleep-mode-backend= sleep-mode-offload-cudagraph sleep-preserve-parameter-names=+ sse-keep-alive-interval=
ssl-ca-certs= ssl-cert-reqs= ssl-certfile= ssl-ciphers= ssl-keyfile= stream-interval= structured-outputs-config=
tokenizer= tokenizer-mode= tokenizer-revision= tokens-only tool-call-parser= tool-parser-plugin= tool-server=
tool-strict-level= trust-remote-code trust-request-chat-template trust-request-mm-kwargs uds= use-fp64-gumbel
use-tqdm-on-load uvicorn-log-level= watchdog-config= watermark-config= weight-transfer-config= disable-log-requests
enable-reasoning guided-decoding-backend= max-seq-len-to-capture= use-v2-block-manager
enable-frontend-multiprocessing disable-frontend-multiprocessing logits-processor-pattern= -h|--help=?
multi-step-stream-outputs= max-context-len-to-capture=
tokenizer-pool-size= return-tokens disable-async-output-proc enable-prompt-adapter
guided-decoding-disable-any-whitespace lora-extra-vocab-size= qlora-adapter-name-or-path=
disable-mm-preprocessor-cache mm-processor-cache
"""

TABLE: Table = table(
    "vllm",
    "vLLM 0.33.0",
    USED,
    matters=MATTERS,
    quiet=QUIET,
    opposites="disable",
    abbreviations=True,
    underscores=True,
    equals=True,
)
