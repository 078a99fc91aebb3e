"""The flags of `sglang serve`: read from the parser of SGLang 0.5.23, and earlier names that are still pasted."""

from __future__ import annotations

from planner.launch.table import Table, table

USED = """
model-path|--model=                              model text
quantization=                                    quantization text
dtype=                                           dtype text
context-length=                                  max_model_len tokens
tp-size|--tensor-parallel-size|--tp=             tp count
pp-size|--pipeline-parallel-size|--pp=           pp count
dp-size|--data-parallel-size|--dp=               dp count
ep-size|--expert-parallel-size|--ep=             ep count
dcp-size|--decode-context-parallel-size=         dcp count
enable-dp-attention                              dp_attention switch
attn-dp-size|--attention-data-parallel-size=     attn_dp count
enable-ep-moe                                    expert_parallel switch
mem-fraction-static=                             fraction share
max-total-tokens=                                pool_tokens count
kv-cache-dtype=                                  kv_dtype text
page-size=                                       block_size count
max-running-requests=                            max_running_requests count
chunked-prefill-size=                            chunked_prefill_size signed
cuda-graph-max-bs|--cuda-graph-max-bs-decode=    cuda_graph_max_bs count
swa-full-tokens-ratio=                           swa_ratio ratio
mamba-full-memory-ratio=                         mamba_ratio ratio
mamba-ssm-dtype=                                 mamba_ssm_dtype text
mamba-radix-cache-strategy|--mamba-scheduler-strategy= mamba_strategy text
max-mamba-cache-size=                            state_slots count
disable-radix-cache                              disable_radix_cache switch
speculative-algorithm|--speculative-algo=        draft_method text
speculative-draft-model-path|--speculative-draft-model= draft_model text
speculative-num-draft-tokens=                    num_speculative_tokens count
speculative-num-steps=                           draft_steps count
cpu-offload-gb=                                  cpu_offload_bytes gib
kt-num-gpu-experts=                              gpu_experts signed
enable-lora=?                                    lora switch
lora-paths=+                                     lora_modules texts
max-loras-per-batch=                             max_loras count
max-lora-rank=                                   max_lora_rank count
"""
MATTERS = """
base-gpu-id= : the first device of the machine that is taken
speculative-eagle-topk= : drafts branch: more tokens are verified in a step
attention-backend= : which attention kernel runs: speed, and the page size it wants
attn-cp-size|--attention-context-parallel-size= : prompts split over ranks: TTFT
bf16-gemm-backend= : which matrix kernel runs: speed
boundary-reduction= : how ranks add at layer borders: speed
c128-page-size= : pages of compressed caches
config= : flags in a file that this text only names: paste that file (kvplan check FILE)
cp-strategy= : prompts split over ranks: TTFT
cuda-graph-backend-decode= : CUDA graphs of decode: graph memory and decode speed
cuda-graph-backend-prefill= : CUDA graphs of prefill: graph memory and TTFT
cuda-graph-bs|--cuda-graph-bs-decode=+ : which batches have CUDA graphs: graph memory and decode speed
cuda-graph-bs-prefill=+ : which prompts have CUDA graphs: graph memory
cuda-graph-config= : which batches have CUDA graphs: graph memory and decode speed
cuda-graph-max-bs-prefill= : which prompts have CUDA graphs: graph memory
cuda-graph-max-seq-len-prefill= : which prompts have CUDA graphs: graph memory
cuda-graph-prefill-max-context|--context-bucket= : which prompts have CUDA graphs: graph memory
dcp-comm-backend= : how context-parallel ranks exchange: speed
dcp-replicate-q-proj : query projections on every context-parallel rank: more weights a rank
decode-attention-backend= : which attention kernel runs: speed
deepep-config= : how tokens reach the ranks of their experts: speed
deepep-dispatcher-output-dtype= : how tokens reach the ranks of their experts: speed
deepep-mode= : how tokens reach the ranks of their experts: speed and buffers
deepep-v2-mode= : how tokens reach the ranks of their experts: speed and buffers
device= : another kind of device
disable-aiter-allreduce-fusion-in-decode : which all-reduce runs: speed
disable-aiter-allreduce-fusion-in-prefill : which all-reduce runs: speed
disable-attn-tp-gather : exchange between ranks: speed
disable-chunked-prefix-cache : how long prefixes are read in prefill: TTFT
disable-cuda-graph : no CUDA graphs: 0.3 to 3 GiB less, and slower decode of small batches
disable-cuda-graph-padding : graphs only for exact batches: decode speed
disable-custom-all-reduce : NCCL in place of SGLang's own all-reduce: slower decode with --tp
disable-decode-cuda-graph : no CUDA graphs: 0.3 to 3 GiB less, and slower decode of small batches
disable-flashinfer-autotune : kernels not tuned at start: speed
disable-flashinfer-cutlass-moe-fp4-allgather : exchange between ranks: speed
disable-hybrid-swa-memory : windows are kept at full length: a larger cache than is said
disable-overlap-schedule : steps are not scheduled ahead: a few per cent of speed
disable-prefill-cuda-graph : no CUDA graphs of prefill: less graph memory
disable-shared-experts-fusion : shared experts in a kernel of their own: speed
disaggregation-decode-enable-offload-kvcache : the cache moves to the host: a cache of prefixes
disaggregation-decode-extra-slots= : further requests that are being received: request table
disaggregation-mode= : this server only prefills or only decodes
dllm-algorithm= : diffusion decoding: several tokens a step
dllm-algorithm-config= : diffusion decoding: several tokens a step
dllm-fdfo : diffusion decoding: several tokens a step
dsa-decode-backend|--nsa-decode-backend= : which sparse-attention kernel runs: speed
dsa-paged-mqa-logits-backend= : which sparse-attention kernel runs: speed
dsa-prefill-backend|--nsa-prefill-backend= : which sparse-attention kernel runs: speed
dsa-topk-backend= : which sparse-attention kernel runs: speed
dsa-triton-union= : which sparse-attention kernel runs: speed
dsv4-attn-backend= : which attention kernel runs: speed
dsv4-prefill-backend= : which attention kernel runs: speed
dwdp-size= : weights split over data-parallel ranks
elastic-ep-backend= : ranks join and leave: buffers for them
enable-adaptive-dispatch-to-encoder : encoders on other servers
enable-aiter-allreduce-fusion : which all-reduce runs: speed
enable-amd-monokernel : whole layers in one kernel: speed
enable-attn-tp-input-scattered : exchange between ranks: speed
enable-cp-decode-attn-tp : attention of decode split as by --tp: speed
enable-cudagraph-gc : garbage collection while graphs are made: start-up time
enable-decoder-swa-bounded-replay : windows recomputed in place of kept
enable-deepseek-v4-fp4-indexer : indexer keys in fp4: a smaller cache than is said
enable-deterministic-inference : slower kernels that repeat exactly
enable-dp-lm-head : the head of each data-parallel rank whole: more weight a rank
enable-draft-weights-cpu-backup : a copy of the drafter on the host
enable-dsa-cache-layer-split : indexer caches split over ranks
enable-dsa-fused-indexer : which sparse-attention kernel runs: speed
enable-dynamic-chunking : prompts are cut by measured time: TTFT
enable-dense-mlp-attn-tp : dense layers split as attention is: weights a rank
enable-elastic-expert-backup : copies of experts on the host
enable-encoder-swa-bounded-replay : windows recomputed in place of kept
enable-eplb : expert load balancing: copies of busy experts, and speed
enable-deepep-moe : how tokens reach the ranks of their experts: speed and buffers
enable-flashinfer-allreduce-fusion : which all-reduce runs: speed
enable-flashinfer-mla : which attention kernel runs: speed
enable-flexkv : the cache moves to the host or disk: a cache of prefixes
enable-fp32-lm-head : the head in fp32: more weight
enable-fused-moe-sum-all-reduce : which all-reduce runs: speed
enable-fused-qk-norm-rope : which kernel runs: speed
enable-hierarchical-cache|--enable-hicache : the cache moves to the host or disk: a cache of prefixes, not more requests at once
enable-hisparse : the cache of sparse attention moves to the host: more requests than is said
enable-int8-mamba-checkpoint : recurrent states of prefixes in int8
enable-kv-cache-sharding : latent caches split over ranks in place of copied: more requests than is said
enable-layernorm-sp : norms split over ranks: activations
enable-lean-attention=? : which attention kernel runs: speed
enable-linear-replayssm : recurrent states recomputed in place of kept
enable-linear-replayssm-spec : recurrent states recomputed in place of kept
enable-linker-mla-dedup : latent caches kept once in the outer tier
enable-lmcache : the cache moves to the host or disk: a cache of prefixes
enable-megamoe-for-layernorm-sp : which expert kernel runs: speed
enable-memory-saver : memory can be given back while the server rests
enable-mis : several items scored in one pass
enable-mixed-chunk : prompts and decode in one step: TPOT
enable-mscclpp : which all-reduce runs: speed
enable-multi-layer-eagle : a drafter of several layers
enable-multimodal=? : encoders are loaded: their weight
enable-nccl-nvls : which all-reduce runs: speed
enable-nvidia-megakernel : whole layers in one kernel: speed
enable-page-major-kv-layout : order of the pages: speed
enable-paged-experts : experts in the host's memory: less weight on the device, slower steps
enable-pdmux : prefill and decode share the device at once: TTFT and TPOT
enable-prefill-cp : prompts split over ranks: TTFT
enable-prefill-delayer : prompts wait for one another: TTFT
enable-prefix-mm-cache : encoder outputs kept
enable-quant-communications=? : ranks exchange fewer bits: speed
enable-scattered-sconv : exchange between ranks: speed
enable-shared-experts-attn-tp : shared experts split as attention is: weights a rank
enable-single-batch-overlap : exchange and products overlap: speed
enable-symm-mem : which all-reduce runs: speed and buffers
enable-tf32-matmul : products of fp32 in tf32: speed
enable-torch-compile : compiled kernels: speed and start-up time
enable-torch-symm-mem : which all-reduce runs: speed and buffers
enable-tp-lm-head-all-to-all : exchange of the head: speed
enable-two-batch-overlap : two half batches overlap: speed, and twice the buffers
enable-unified-cache-external-linker : the cache moves to another store
enable-unified-memory : one pool for windows and full layers
enable-w4a4-mxfp4-megamoe : which expert kernel runs: speed
enable-waterfill : balance of shared experts: speed
enable-watermark : text watermark
enable-weights-cpu-backup : a copy of the weights on the host
encoder-only : only the encoder is loaded
enforce-disable-flashinfer-allreduce-fusion : which all-reduce runs: speed
enforce-shared-experts-fusion : shared experts in the experts' kernel: speed
ep-dispatch-algorithm= : balance of experts: speed
ep-num-redundant-experts= : copies of busy experts: more weight a rank
eplb-algorithm= : balance of experts: speed
experts-shared-outer-loras : adapters of experts share a half
flashinfer-a2a-dispatch-type= : how tokens reach the ranks of their experts: speed
flashinfer-allreduce-fusion-backend= : which all-reduce runs: speed
flashinfer-mla-disable-ragged : which attention kernel runs: speed
flashinfer-mxfp4-moe-precision= : type of the experts' activations: speed
fp4-gemm-backend= : which matrix kernel runs: speed
fp8-gemm-backend|--fp8-gemm-runner-backend= : which matrix kernel runs: speed
fuseep-mode= : how tokens reach the ranks of their experts: speed
gpu-id-step= : which devices of the machine are taken
hicache-ratio= : host memory of the outer cache tier, for each byte of the pool
hicache-size= : GB of host memory of the outer cache tier
hicache-host-memory-fraction= : host memory of the outer cache tier
hisparse-config|--hierarchical-sparse-attention-extra-config= : the cache of sparse attention moves to the host
init-expert-location= : which experts a rank holds: balance
int8-mamba-ckpt-size= : recurrent states of prefixes in int8
json-model-override-args= : keys of the config are replaced: write them into a config.json and name it as the model
kt-cpuinfer= : experts on the processor (KTransformers): host threads
kt-max-deferred-experts-per-token= : experts on the processor (KTransformers): speed
kt-method= : experts on the processor (KTransformers): less weight on the device, slower steps
kt-threadpool-count= : experts on the processor (KTransformers): host threads
kt-weight-path= : experts on the processor (KTransformers): their own checkpoint
language-model-only : the encoders are not loaded: less weight than is counted for a model with images or sound
language-only : the encoders are on other servers: less weight than is counted
limit-mm-data-per-request= : images a prompt: encoder activations
linear-attn-backend= : which linear-attention kernel runs: speed
linear-attn-decode-backend= : which linear-attention kernel runs: speed
linear-attn-prefill-backend= : which linear-attention kernel runs: speed
linear-attn-verify-backend= : which linear-attention kernel runs: speed
linear-replayssm-cache-len= : recurrent states recomputed: their buffers
lora-backend= : which adapter kernel runs: speed
lora-target-modules=+ : which layers have adapters: their buffers
lora-use-virtual-experts : adapters of experts: their buffers
mamba-backend= : which recurrent kernel runs: speed
mamba-max-states-per-path= : recurrent states of prefixes that are kept
mamba-track-interval= : recurrent states of prefixes that are kept
max-ep-size= : room for ranks that join later
max-loaded-loras= : adapters on the host
max-lora-chunk-size= : adapter buffers
max-prefill-tokens= : tokens of prompts a step: TTFT
min-free-slots-delay= : prompts wait for one another: TTFT
mm-attention-backend= : which encoder kernel runs: speed
mm-enable-dp-encoder : the whole encoder on every rank: more weight a rank
mm-feature-transport= : how images reach the engine
mm-process-config= : size of images: encoder activations
model-impl= : `transformers` runs the model's own code: speed
modelopt-quant= : quantized at start: weights smaller than stored
moe-a2a-backend= : how tokens reach the ranks of their experts: speed and buffers
moe-dense-tp-size= : dense layers split over fewer ranks: more weight a rank
moe-dp-size|--moe-data-parallel-size= : how experts are split: weight a rank
moe-runner-backend= : which expert kernel runs: speed
monokernel-backend= : whole layers in one kernel: speed
nnodes= : ranks on several nodes: slower exchange than is counted
num-continuous-decode-steps= : decode steps between prompts: TTFT against TPOT
num-reserved-decode-tokens= : tokens kept free for running requests: fewer requests than is said
offload-group-size= : every so many layers some are kept on the host: less weight on the device, slower steps
offload-mode= : where offloaded weights are kept: speed
offload-num-in-group= : so many layers of each group are kept on the host: less weight on the device, slower steps
offload-prefetch-step= : how early weights return from the host: speed
paged-experts-num-resident= : so many experts stay on the device: less weight, slower steps
pdmux-config-path= : prefill and decode share the device at once: TTFT and TPOT
ple-offload-backend= : per-layer embeddings on the host or disk: less weight on the device
ple-offload-dir= : per-layer embeddings on disk: less weight on the device
ple-offload-embedding : per-layer embeddings on the host: less weight on the device
pp-async-batch-depth= : batches in flight between stages: speed
pp-max-micro-batch-size= : requests of one stage at once
prefill-attention-backend= : which attention kernel runs: TTFT
prefill-decode-interval= : decode steps between prompts: TTFT against TPOT
prefill-decode-interval-min-bs= : decode steps between prompts: TTFT against TPOT
prefill-delayer-max-delay-ms= : prompts wait for one another: TTFT
prefill-delayer-max-delay-passes= : prompts wait for one another: TTFT
prefill-delayer-queue-min-ratio= : prompts wait for one another: TTFT
prefill-delayer-token-usage-low-watermark= : prompts wait for one another: TTFT
prefill-kv-cache-dequant-dtype= : which attention kernel runs: TTFT
prefill-max-requests= : prompts a step: TTFT
prefill-only-disable-kv-cache : no cache is kept: prefill alone
qsa-indexer-dtype= : type of indexer keys: a smaller cache than is said
quantization-param-path= : scales of an fp8 cache
quantize-and-serve : quantized at start: weights smaller than stored
radix-cache-backend= : where prefixes are kept
rl-on-policy-target= : slower kernels that repeat exactly
sampling-backend= : which sampling kernel runs: speed
schedule-conservativeness= : how many requests are admitted for a given pool: TTFT
shared-experts-tp-size= : shared experts split over fewer ranks: more weight a rank
sm-group-num= : prefill and decode share the device at once
speculative-accept-threshold-acc= : drafts accepted more freely: speed
speculative-accept-threshold-single= : drafts accepted more freely: speed
speculative-adaptive : draft length by load: speed
speculative-adaptive-config= : draft length by load: speed
speculative-attention-mode= : which kernel verifies drafts: speed
speculative-dflash-block-size= : tokens of a draft: speed and buffers
speculative-domino-candidate-pool-size= : drafts tried: speed
speculative-draft-attention-backend= : which kernel drafts: speed
speculative-draft-kv-cache-dtype= : type of the drafter's cache
speculative-draft-model-quantization= : weights of the drafter
speculative-draft-sink-size= : tokens that the drafter keeps
speculative-draft-window-size= : tokens that the drafter keeps
speculative-dsa-topk-backend= : which sparse-attention kernel drafts: speed
speculative-dspark-align-verify-tokens-to-graph-tier : drafts padded to graphs: speed
speculative-dspark-block-size= : tokens of a draft: speed and buffers
speculative-dspark-confidence-sts-path= : draft length by confidence: speed
speculative-dspark-sps-table-path= : draft length by load: speed
speculative-enable-w4a4-mxfp4-megamoe : which expert kernel drafts: speed
speculative-moe-a2a-backend= : which exchange drafts: speed
speculative-moe-runner-backend= : which expert kernel drafts: speed
speculative-ngram-capacity= : drafts from the text itself: host memory
speculative-ngram-match-type= : drafts from the text itself: speed
speculative-ngram-max-bfs-breadth= : drafts from the text itself: speed
speculative-ngram-max-trie-depth= : drafts from the text itself: speed
speculative-ngram-min-bfs-breadth= : drafts from the text itself: speed
speculative-token-map= : the drafter's head is smaller
speculative-use-block-verification : how drafts are accepted: speed
speculative-use-rejection-sampling : how drafts are accepted: speed
swa-prefix-tails= : windows of prefixes that are kept
tbo-token-distribution-threshold= : two half batches overlap: speed
torch-compile-max-bs= : compiled kernels: speed and start-up time
triton-attention-num-kv-splits= : attention kernel: speed and buffers
triton-attention-reduce-in-fp32 : attention kernel: speed
triton-attention-split-tile-size= : attention kernel: speed
uno-lora-path= : an adapter merged at start
ds-channel-config-path= : double sparsity (no longer): speed
ds-heavy-channel-num= : double sparsity (no longer): speed
ds-heavy-channel-type= : double sparsity (no longer): speed
ds-heavy-token-num= : double sparsity (no longer): speed
ds-sparse-decode-threshold= : double sparsity (no longer): speed
enable-double-sparsity : double sparsity (no longer): speed
enable-flashinfer-cutedsl-moe : which expert kernel runs: speed
enable-flashinfer-cutlass-moe : which expert kernel runs: speed
enable-flashinfer-mxfp4-moe : which expert kernel runs: speed
enable-flashinfer-trtllm-moe : which expert kernel runs: speed
enable-triton-kernel-moe : which expert kernel runs: speed
enable-flashmla : which attention kernel runs: speed
enable-nsa-prefill-context-parallel : prompts split over ranks: TTFT
nsa-prefill-cp-mode= : prompts split over ranks: TTFT
nsa-decode= : which sparse-attention kernel runs: speed
nsa-prefill= : which sparse-attention kernel runs: speed
enable-piecewise-cuda-graph : CUDA graphs of prefill: graph memory and TTFT
piecewise-cuda-graph-compiler= : CUDA graphs of prefill: graph memory and TTFT
piecewise-cuda-graph-max-tokens= : CUDA graphs of prefill: graph memory and TTFT
piecewise-cuda-graph-tokens=+ : CUDA graphs of prefill: graph memory and TTFT
hybrid-kvcache-ratio=? : share of the pool that windows get
keep-mm-feature-on-device : images stay on the device: memory outside the pool
n-share-experts-fusion= : shared experts in the experts' kernel: speed
torchao-config= : quantized at start: weights smaller than stored
disaggregation-decode-tp= : the other server's layout
disaggregation-decode-dp= : the other server's layout
disaggregation-prefill-pp= : the other server's layout
"""
QUIET = """
abort-on-priority-when-disabled admin-api-key= allow-auto-truncate allowed-media-domains=+ api-key=
asr-max-buffer-seconds= asr-max-concurrent-sessions= batch-notify-size= bucket-e2e-request-latency=+
bucket-inter-token-latency=+ bucket-time-to-first-token=+ chat-template= checkpoint-engine-wait-weights-before-ready
completion-template= constrained-json-disable-any-whitespace constrained-json-max-whitespace-cnt=
constrained-json-whitespace-pattern= crash-dump-folder= custom-weight-loader=+ debug-cuda-graph
debug-tensor-dump-input-file= debug-tensor-dump-layers=+ debug-tensor-dump-output-folder= decode-log-interval=
decoupled-spec-bind-endpoint= decoupled-spec-connect-endpoints= decoupled-spec-rank= decoupled-spec-role=
decrypted-config-file= decrypted-draft-config-file= default-chat-template-kwargs= default-priority-value=
delete-ckpt-after-loading detokenizer-worker-num= disable-fast-image-processor disable-outlines-disk-cache
disable-priority-preemption disable-tokenizer-batch-decode disaggregation-bootstrap-port=
disaggregation-decode-allocation-policy= disaggregation-decode-enable-radix-cache
disaggregation-decode-host-receive-threshold= disaggregation-decode-polling-interval=
disaggregation-decode-retraction-backup= disaggregation-enable-kv-checksum disaggregation-ib-device=
disaggregation-transfer-backend= dist-init-addr|--nccl-init-addr= dist-timeout= download-dir=
dynamic-batch-tokenizer-batch-size= dynamic-batch-tokenizer-batch-timeout= elastic-ep-initial-size=
elastic-ep-join-mode= elastic-ep-join-rank-offset= elastic-ep-scale-timeout= enable-broadcast-mm-inputs-process
enable-cache-report enable-custom-logit-processor enable-dp-attention-local-control-broadcast
enable-dynamic-batch-tokenizer enable-forward-pass-metrics enable-http-worker-reuseport enable-http2
enable-layerwise-nvtx-marker enable-lora-overlap-loading= enable-mamba-cache-stochastic-rounding enable-metrics
enable-metrics-for-all-schedulers enable-mfu-metrics enable-mm-global-cache enable-p2p-check enable-pd-role-switch
enable-precise-embedding-interpolation enable-priority-scheduling enable-profile-cuda-graph
enable-request-time-stats-logging enable-response-store enable-return-aux-hidden-states enable-return-hidden-states
enable-return-indexer-topk enable-return-routed-experts enable-session-radix-cache enable-ssl-refresh
enable-streaming-session enable-strict-thinking enable-tokenizer-batch-encode enable-torch-compile-debug-mode
enable-trace encoder-bootstrap-port= encoder-register-urls=+ encoder-transfer-backend= encoder-urls=+
engine-info-bootstrap-port= eplb-min-rebalancing-utilization-threshold= eplb-rebalance-layers-per-chunk=
eplb-rebalance-num-iterations= expert-balancedness-report-mode= expert-distribution-recorder-buffer-size=
expert-distribution-recorder-mode= export-metrics-to-file export-metrics-to-file-dir= extra-metric-labels=
fastapi-root-path= file-storage-path= flashinfer-autotune-skip-ops=+ flexkv-config-file= forward-hooks=
forward-pass-metrics-ipc-name= forward-pass-metrics-worker-id= gated-launch-port= gc-threshold=+
gc-warning-threshold-secs= generation-tokens-buckets=+ grammar-backend= grpc-mode grpc-port=
grpc-response-timeout-secs= hf-chat-template-name= hicache-host-memory-mode= hicache-io-backend= hicache-mem-layout=
hicache-storage-backend= hicache-storage-backend-extra-config= hicache-storage-prefetch-policy=
hicache-storage-prefetch-retry-max-attempts= hicache-storage-prefetch-retry-poll-interval= hicache-write-policy=
host= http2-initial-connection-window-size= http2-max-concurrent-streams= image-processor-backend=
incremental-streaming-output is-embedding kv-canary= kv-canary-real-data= kv-canary-sweep-interval=
kv-events-config= lmcache-config-file= load-balance-method= load-format= load-publish-endpoint=
load-snapshot-publish-interval= log-level= log-level-http= log-requests log-requests-format= log-requests-level=
log-requests-target=+ lora-drain-wait-threshold= lora-eviction-policy= lora-strict-loading
mamba-cache-philox-rounds= max-queued-requests= media-url-max-file-size-mb= mlx-enable-sampling
mm-global-cache-backend= mm-io-worker-num= mm-preprocess-cache-size-mb= mm-processor-worker-num= model-checksum=?
model-config-parser= model-loader-extra-config= modelexpress-config= modelopt-checkpoint-restore-path=
modelopt-checkpoint-save-path= modelopt-export-path= mooncake-ib-device= msprobe-dump-config= nccl-port= node-rank=
numa-node=+ optimistic-prefill-attempts= otlp-service-name= otlp-traces-endpoint= port= pre-warm-nccl
preferred-sampling-params= prefill-delayer-forward-passes-buckets=+ prefill-delayer-wait-seconds-buckets=+
priority-scheduling-preemption-threshold= prompt-tokens-buckets=+ radix-eviction-policy=
radix-eviction-policy-config= random-seed= reasoning-parser= remote-instance-weight-loader-backend=
remote-instance-weight-loader-seed-instance-ip= remote-instance-weight-loader-seed-instance-service-port=
remote-instance-weight-loader-send-weights-group-ports= remote-instance-weight-loader-start-seed-via-transfer-engine
retraction-policy= return-aux-hidden-state-layer-ids=+ return-hidden-states-mode= return-input-ids return-output-ids
revision= rl-quant-profile= sampling-defaults= sampling-mask-max-tokens= schedule-low-priority-values-first
schedule-policy= scheduler-recv-interval= served-model-name= show-time-cost sidecar= sidecar-args=
skip-server-warmup skip-tokenizer-init sleep-on-idle smg-grpc-mode smg-http-sidecar-port|--grpc-http-sidecar-port=
soft-watchdog-timeout= spec-trace-dir= speculative-draft-load-format= speculative-draft-model-revision=
speculative-ngram-external-corpus-max-tokens= speculative-ngram-external-corpus-path=
speculative-ngram-external-sam-budget= ssl-ca-certs= ssl-certfile= ssl-keyfile= ssl-keyfile-password=
startup-weight-load-mode= stream-interval= stream-response-default-include-usage strip-thinking-cache
tokenizer-backend= tokenizer-metrics-allowed-custom-labels=+ tokenizer-metrics-custom-labels-header= tokenizer-mode=
tokenizer-path= tokenizer-worker-num= tool-call-parser= tool-server= trace-modules= trust-mm-content-hashes
trust-remote-code trust-request-chat-template unified-cache-external-linker-backend=
unified-cache-external-linker-config= use-ray uvicorn-access-log-exclude-prefixes=+ warmups= watchdog-timeout=
watermark-config= weight-cache-mode= weight-cache-socket= weight-cache-timeout= weight-loader-disable-mmap
weight-loader-drop-cache-after-load weight-loader-prefetch-checkpoints weight-loader-prefetch-num-threads=
weight-version= collect-tokens-histogram custom-sigquit-handler= debug-tensor-dump-inject=
debug-tensor-dump-prefill-only disable-hicache-numa-detect enable-expert-distribution-metrics enable-nan-detection
load-watch-interval= mm-max-concurrent-calls= mm-per-request-timeout= multi-item-scoring-delimiter=
oltp-traces-endpoint= prefill-round-robin-balance stream-output max-micro-batch-size= -h|--help
speculative-ngram-branch-length= speculative-ngram-max-match-window-size= speculative-ngram-min-match-window-size=
"""

TABLE: Table = table(
    "sglang",
    "SGLang 0.5.23",
    USED,
    matters=MATTERS,
    quiet=QUIET,
    opposites="no",
    abbreviations=True,
    underscores=False,
    equals=True,
)
