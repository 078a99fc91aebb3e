"""The flags of llama-server and llama-cli (llama.cpp v0.5.0 of September 2026), older names, and those of llama-bench.

ik_llama.cpp's own flags of August 2026 are here too: it is started by the same names.
"""

from __future__ import annotations

from planner.launch.table import Table, table

USED = """
-m|--model=                                      model text
-hf|-hfr|--hf-repo|--hf=                         hub_model text
-hff|--hf-file=                                  hub_file text
-dr|--docker-repo=                               hub_model text
-mu|--model-url=                                 model_url text
-c|--ctx-size|--n-ctx=                           ctx_size signed
-kvups|--kv-unified-per-slot=                    ctx_per_slot count
-np|--parallel|--n-parallel=                     parallel signed
-b|--batch-size=                                 batch_size count
-ub|--ubatch-size=                               ubatch_size count
-ctk|--cache-type-k=                             k_dtype text
-ctv|--cache-type-v=                             v_dtype text
-fa|--flash-attn=?                               flash_attn switch_auto
-no-fa|--no-flash-attn                           flash_attn_off switch
-ngl|--gpu-layers|--n-gpu-layers=                gpu_layers text
-cmoe|--cpu-moe                                  cpu_moe switch
-ncmoe|--n-cpu-moe=                              n_cpu_moe signed
-ncffn|--n-cpu-ffn=                              n_cpu_ffn signed
-ot|--override-tensor=                           override_tensor texts
-nkvo|--no-kv-offload                            kv_on_host switch
-kvu|--kv-unified                                kv_unified switch
-no-kvu|--no-kv-unified                          kv_unified_off switch
--swa-full                                       swa_full switch
-ts|--tensor-split=                              tensor_split text
-sm|--split-mode=                                split_mode text
-dev|--device=                                   devices text
-mm|--mmproj=                                    mmproj text
-mmu|--mmproj-url=                               mmproj text
--no-mmproj|--no-mmproj-auto                     mmproj_off switch
-md|--model-draft|--spec-draft-model=            draft_model text
-hfd|-hfrd|--hf-repo-draft|--spec-draft-hf=      draft_model text
--draft|--draft-n|--draft-max|--spec-draft-n-max= num_speculative_tokens count
-ctkd|--cache-type-k-draft|--spec-draft-type-k=  draft_k_dtype text
-ctvd|--cache-type-v-draft|--spec-draft-type-v=  draft_v_dtype text
--spec-type=                                     draft_method text
-mla|--mla-use|--mla-mode=                       mla_mode signed
-mtp|--multi-token-prediction                    draft_mtp switch
-n|--predict|--n-predict=                        output_tokens signed
"""
MATTERS = """
-mg|--main-gpu= : which device takes small tensors, or all with --split-mode none
-fit|--fit= : llama.cpp fits context and layers to the free memory where they are not given
-fitt|--fit-target= : memory that --fit leaves free on each device
-fitc|--fit-ctx= : least context that --fit keeps
-gfm|--gpu-fit-margin|--fit-margin= : memory that is left free on each device
--no-mmproj-offload : the image encoder runs on the processor: its weight is not on the device
--image-min-tokens= : tokens of an image
--image-max-tokens= : tokens of an image
--mtmd-batch-max-tokens= : tokens of images in one step: encoder activations
--no-op-offload : products of host weights stay on the processor: slower prompts
--rpc= : layers on devices of other machines
-t|--threads= : threads of the processor: speed of what stays on the host
-tb|--threads-batch= : threads of the processor: speed of what stays on the host
-C|--cpu-mask= : cores of the processor: speed of what stays on the host
-Cr|--cpu-range= : cores of the processor: speed of what stays on the host
-Cb|--cpu-mask-batch= : cores of the processor: speed of what stays on the host
-Crb|--cpu-range-batch= : cores of the processor: speed of what stays on the host
--cpu-strict= : cores of the processor: speed of what stays on the host
--cpu-strict-batch= : cores of the processor: speed of what stays on the host
--numa= : memory of several processors: speed of what stays on the host
--no-host : host buffers are left out so that other buffers can be used: speed of what stays on the host
--repack : weights rearranged for the processor: speed, and a copy on the host
-nr|--no-repack : weights not rearranged for the processor: speed of what stays on the host
-lm|--load-mode= : how the file is read: host memory while it runs
--mlock : the file stays in host memory
--no-mmap : weights that stay on the host are read whole: host memory
-dio|--direct-io : how the file is read: load time
-lzm|--lazy-mode= : weights read when they are first needed
-cb|--cont-batching : requests join a running batch (the default)
-nocb|--no-cont-batching : requests wait for the running batch to end: speed under load
-cram|--cache-ram= : MiB of host memory for prompts that left their slot
-ctxcp|--ctx-checkpoints|--swa-checkpoints= : copies of windows or recurrent states a slot, in host memory
-cms|--checkpoint-min-step= : how often such copies are made
--rope-scaling= : positions are scaled: a longer context than the model's own
--rope-scale= : positions are scaled: a longer context than the model's own
--rope-freq-base= : positions are scaled: a longer context than the model's own
--rope-freq-scale= : positions are scaled: a longer context than the model's own
--yarn-orig-ctx= : positions are scaled: a longer context than the model's own
--yarn-ext-factor= : positions are scaled: no memory
--yarn-attn-factor= : positions are scaled: no memory
--yarn-beta-slow= : positions are scaled: no memory
--yarn-beta-fast= : positions are scaled: no memory
-gan|--grp-attn-n= : self-extend: a longer context than the model's own
-gaw|--grp-attn-w= : self-extend: a longer context than the model's own
--lora= : an adapter: its own file's size, on the device
--lora-scaled= : an adapter: its own file's size, on the device
--lora-init-without-apply : adapters are loaded and not used at once
--control-vector= : one vector a layer: megabytes
--control-vector-scaled= : one vector a layer: megabytes
--override-kv= : a key of the file is replaced
--embedding|--embeddings : an embedding model: no decode
--rerank|--reranking : a ranking model: no decode
--pooling= : an embedding model: no decode
--attention= : causal or not: no memory
-bs|--backend-sampling : sampling on the device: speed
-ngld|--gpu-layers-draft|--n-gpu-layers-draft|--spec-draft-ngl= : layers of the drafter on the device
-cd|--ctx-size-draft= : context of the drafter
-devd|--device-draft|--spec-draft-device= : device of the drafter
-cmoed|--cpu-moe-draft|--spec-draft-cpu-moe : experts of the drafter on the host
-ncmoed|--n-cpu-moe-draft|--spec-draft-n-cpu-moe|--spec-draft-ncmoe= : experts of the drafter on the host
-otd|--override-tensor-draft|--spec-draft-override-tensor= : tensors of the drafter on the host
--draft-min|--draft-n-min|--spec-draft-n-min= : shortest draft: speed
--draft-p-min|--spec-draft-p-min= : how sure a drafter must be: speed
--draft-p-split|--spec-draft-p-split= : when drafts branch: speed
--spec-draft-backend-sampling|--no-spec-draft-backend-sampling : sampling of drafts on the device: speed
-td|--threads-draft|--spec-draft-threads= : threads of the drafter
-tbd|--threads-batch-draft|--spec-draft-threads-batch= : threads of the drafter
-Cd|--cpu-mask-draft|--spec-draft-cpu-mask= : cores of the drafter
-Crd|--cpu-range-draft|--spec-draft-cpu-range= : cores of the drafter
-Cbd|--cpu-mask-batch-draft|--spec-draft-cpu-mask-batch= : cores of the drafter
-Crbd|--cpu-range-batch-draft|--spec-draft-cpu-range-batch= : cores of the drafter
--cpu-strict-draft|--spec-draft-cpu-strict= : cores of the drafter
--cpu-strict-batch-draft|--spec-draft-cpu-strict-batch= : cores of the drafter
--prio-draft|--spec-draft-prio= : priority of the drafter's threads
--prio-batch-draft|--spec-draft-prio-batch= : priority of the drafter's threads
--poll-draft|--spec-draft-poll= : how the drafter's threads wait
--poll-batch-draft|--spec-draft-poll-batch= : how the drafter's threads wait
--spec-default : drafts from the text itself: speed
--spec-ngram-size-n|--spec-ngram-simple-size-n|--spec-ngram-map-k-size-n|--spec-ngram-map-k4v-size-n= : drafts from the text itself: speed
--spec-ngram-size-m|--spec-ngram-simple-size-m|--spec-ngram-map-k-size-m|--spec-ngram-map-k4v-size-m= : drafts from the text itself: speed
--spec-ngram-min-hits|--spec-ngram-simple-min-hits|--spec-ngram-map-k-min-hits|--spec-ngram-map-k4v-min-hits= : drafts from the text itself: speed
--spec-ngram-mod-n-match|--spec-ngram-mod-n-min|--spec-ngram-mod-n-max= : drafts from the text itself: speed
--spec-synth-len|--spec-synth-rates= : drafts made up, for measuring
-lcs|--lookup-cache-static= : drafts from a file: speed
-lcd|--lookup-cache-dynamic= : drafts from a file: speed
--models-dir= : a router: one server for each model of a folder; give one model's command
--models-preset= : a router: one server for each model of a file; give one model's command
--models-max= : a router: how many models are loaded at once
--fim-qwen-1.5b-default|--fim-qwen-3b-default|--fim-qwen-7b-default|--fim-qwen-7b-spec|--fim-qwen-14b-spec|--fim-qwen-30b-default : a preset names the model and its settings: write -hf and the settings
--gpt-oss-20b-default|--gpt-oss-120b-default|--vision-gemma-4b-default|--vision-gemma-12b-default|--embd-gemma-default : a preset names the model and its settings: write -hf and the settings
-fmoe|--fused-moe : ik_llama.cpp: up and gate in one kernel: speed
-no-fmoe|--no-fused-moe : ik_llama.cpp: up and gate in two kernels: speed
-amb|--attention-max-batch= : ik_llama.cpp: most MiB of one attention product: a smaller compute buffer
-rtr|--run-time-repack : ik_llama.cpp: weights rearranged at start: host memory, speed
-ser|--smart-expert-reduction= : ik_llama.cpp: fewer experts a token: speed
-smgs|--split-mode-graph-scheduling : ik_llama.cpp: how several devices share a step: speed
-smf16|--split-mode-f16|-smf32|--split-mode-f32 : ik_llama.cpp: what devices exchange: speed
-grt|--graph-reduce-type= : ik_llama.cpp: what devices exchange: speed
-mqkv|--merge-qkv : ik_llama.cpp: Q, K and V in one product: speed
-muge|--merge-up-gate-experts : ik_llama.cpp: up and gate in one product: speed
-ger|--grouped-expert-routing : ik_llama.cpp: how experts are chosen: speed
-gr|--graph-reuse|-no-gr|--no-graph-reuse : ik_llama.cpp: graphs are kept: speed
-khad|--k-cache-hadamard|-vhad|--v-cache-hadamard : ik_llama.cpp: K or V turned before rounding: quality
-ctk-first|--cache-type-k-first|-ctk-last|--cache-type-k-last= : ik_llama.cpp: other types of K in the first or last layers
-ctv-first|--cache-type-v-first|-ctv-last|--cache-type-v-last= : ik_llama.cpp: other types of V in the first or last layers
-ictk|--indexer-cache-type-k= : ik_llama.cpp: type of indexer keys
-ooae|--offload-only-active-experts|-no-ooae|--no-offload-only-active-experts : ik_llama.cpp: only chosen experts are copied: speed of prompts
-op|--offload-policy= : ik_llama.cpp: which products of host weights go to the device: speed of prompts
-cuda|--cuda-params= : ik_llama.cpp: CUDA settings: speed
--max-gpu= : ik_llama.cpp: so many devices a layer
-sas|--scheduler-async : ik_llama.cpp: devices work at once: speed
-wgt|--worst-graph-tokens= : ik_llama.cpp: tokens that buffers are made for
--max-extra-alloc= : ik_llama.cpp: most MiB of extra buffers
-dsa|--dsa|-dsatk|--dsa-top-k= : ik_llama.cpp: sparse attention: speed
-fdn|--fused-delta-net= : ik_llama.cpp: which recurrent kernel runs: speed
-no-mmad|--no-fused-mul-multiadd|-no-fug|--no-fused-up-gate|-rcache|--rope-cache : ik_llama.cpp: which kernel runs: speed
--draft-params= : ik_llama.cpp: settings of the drafter
-thp|--transparent-huge-pages : ik_llama.cpp: pages of host memory: speed
-dt|--defrag-thold= : when the cache was tidied (no longer)
"""
QUIET = """
adaptive-decay= adaptive-target= api-key= api-key-file= api-prefix= cache-idle-slots|--no-cache-idle-slots
cache-prompt|--no-cache-prompt cache-reuse= chat-template= chat-template-file= chat-template-kwargs= check-tensors
completion-bash context-shift|--no-context-shift control-vector-layer-range=2 cors-credentials|--no-cors-credentials
cors-headers= cors-methods= cors-origins= display-prompt|--no-display-prompt dry-allowed-length= dry-base=
dry-multiplier= dry-penalty-last-n= dry-sequence-breaker= dynatemp-exp= dynatemp-range= embd-normalize=
frequency-penalty= grammar= grammar-file= host= ignore-eos image|--audio|--video= jinja|--no-jinja keep=
list-devices log-colors= log-disable log-file= log-jsonl|--no-log-jsonl log-prefix|--no-log-prefix log-prompts-dir=
log-timestamps|--no-log-timestamps mcp-servers-config= mcp-servers-json= media-path= metrics min-p= mirostat=
mirostat-ent= mirostat-lr= models-autoload|--no-models-autoload offline path= perf|--no-perf poll= poll-batch= port=
prefill-assistant|--no-prefill-assistant presence-penalty= prio= prio-batch= props reasoning-budget=
reasoning-budget-message= reasoning-effort= reasoning-format= reasoning-preserve|--no-reasoning-preserve
repeat-last-n= repeat-penalty= reuse-port sampler-seq|--sampling-seq= samplers= server-base=
show-timings|--no-show-timings simple-io skip-chat-parsing|--no-skip-chat-parsing sleep-idle-seconds=
slot-save-path= slots|--no-slots spm-infill sse-ping-interval= ssl-cert-file= ssl-key-file= tags=
temp|--temperature= threads-http= tools= tools-runtime= top-k= top-nsigma|--top-n-sigma= top-p= typical|--typical-p=
ui|--webui|--no-ui|--no-webui ui-config|--webui-config= ui-config-file|--webui-config-file=
ui-mcp-proxy|--webui-mcp-proxy|--no-ui-mcp-proxy|--no-webui-mcp-proxy verbose-prompt version video-ffmpeg-dir=
video-fps= video-timestamp-interval= warmup|--no-warmup xtc-probability= xtc-threshold= -a|--alias=
-ag|--agent|-no-ag|--no-agent -bf|--binary-file= -cl|--cache-list -co|--color= -e|--escape|--no-escape -f|--file=
-h|--help|--usage -hft|--hf-token= -j|--json-schema= -jf|--json-schema-file= -l|--logit-bias=
-lv|--verbosity|--log-verbosity= -mli|--multiline-input -o|--output|--output-file= -p|--prompt= -r|--reverse-prompt=
-rea|--reasoning= -s|--seed= -sp|--special -sps|--slot-prompt-similarity= -st|--single-turn -sys|--system-prompt=
-sysf|--system-prompt-file= -to|--timeout= -v|--verbose|--log-verbose -kvo|--kv-offload mmproj-offload op-offload
mmproj-auto -cnv|--conversation|-no-cnv|--no-conversation|-nocnv -i|--interactive|-if|--interactive-first|-ins
--in-prefix= --in-suffix= --in-prefix-bos prompt-cache= prompt-cache-all prompt-cache-ro slots-endpoint-disable
-ld|--logdir= log-enable log-new log-append log-format= -ptc|--print-token-count= --tfs=
penalize-nl|--no-penalize-nl chat-template-inputs= parallel-tool-calls
"""
TABLE: Table = table("llamacpp", "llama.cpp v0.5.0", USED, matters=MATTERS, quiet=QUIET, underscores=True)

BENCH_USED = """
-m|--model=                                      model text
-hf|-hfr|--hf-repo=                              hub_model text
-hff|--hf-file=                                  hub_file text
-p|--n-prompt=                                   prompt_tokens counts
-n|--n-gen=                                      output_tokens counts
-pg=                                             prompt_and_output text
-d|--n-depth=                                    depth_tokens counts
-b|--batch-size=                                 batch_size counts
-ub|--ubatch-size=                               ubatch_size counts
-ctk|--cache-type-k=                             k_dtype text
-ctv|--cache-type-v=                             v_dtype text
-ngl|--n-gpu-layers=                             gpu_layers text
-ncmoe|--n-cpu-moe=                              n_cpu_moe counts
-sm|--split-mode=                                split_mode text
-nkvo|--no-kv-offload=                           kv_on_host text
-fa|--flash-attn=                                flash_attn text
-dev|--device=                                   devices text
-ts|--tensor-split=                              tensor_split text
-ot|--override-tensor=                           override_tensor texts
-mla|--mla-use=                                  mla_mode counts
"""
BENCH_MATTERS = """
-mg|--main-gpu= : which device takes small tensors, or all with --split-mode none
-t|--threads= : threads of the processor: speed of what stays on the host
-C|--cpu-mask= : cores of the processor: speed of what stays on the host
--cpu-strict= : cores of the processor: speed of what stays on the host
--numa= : memory of several processors: speed of what stays on the host
-rpc|--rpc= : layers on devices of other machines
-lm|--load-mode= : how the file is read: host memory while it runs
-lzm|--lazy-mode= : weights read when they are first needed
-mmp|--mmap= : how the file is read: host memory while it runs
-dio|--direct-io= : how the file is read: load time
-embd|--embeddings= : an embedding model: no decode
-nopo|--no-op-offload= : products of host weights stay on the processor: slower prompts
--no-host= : host buffers are left out: speed of what stays on the host
--repack= : weights rearranged for the processor: speed
-fitt|--fit-target= : memory that is left free on each device
-fitc|--fit-ctx= : least context that is kept
-fmoe|--fused-moe= : ik_llama.cpp: up and gate in one kernel: speed
-amb|--attention-max-batch= : ik_llama.cpp: most MiB of one attention product: a smaller compute buffer
-rtr|--run-time-repack= : ik_llama.cpp: weights rearranged at start: speed
-ser|--smart-expert-reduction= : ik_llama.cpp: fewer experts a token: speed
"""
BENCH_QUIET = """
-h|--help --version -hft|--hf-token= --offline --list-devices --poll= -r|--repetitions= --prio= --delay= -o|--output=
-oe|--output-err= -v|--verbose --progress --no-warmup -w|--warmup=
"""
BENCH: Table = table(
    "llamacpp", "llama-bench of llama.cpp v0.5.0", BENCH_USED, matters=BENCH_MATTERS, quiet=BENCH_QUIET
)

# Where a variable is not LLAMA_ARG_ and the flag's longest name in capitals.
ENVIRONMENT = {
    "LLAMA_ARG_BATCH": "--batch-size",
    "LLAMA_ARG_UBATCH": "--ubatch-size",
    "LLAMA_ARG_N_PARALLEL": "--parallel",
    "LLAMA_ARG_N_GPU_LAYERS": "--n-gpu-layers",
    "LLAMA_ARG_ROPE_SCALING_TYPE": "--rope-scaling",
    "LLAMA_ARG_HF_REPO": "--hf-repo",
    "LLAMA_ARG_THINK": "--reasoning-format",
    "LLAMA_ARG_THINK_BUDGET": "--reasoning-budget",
    "LLAMA_ARG_ENDPOINT_METRICS": "--metrics",
    "LLAMA_ARG_ENDPOINT_PROPS": "--props",
    "LLAMA_ARG_ENDPOINT_SLOTS": "--slots",
    "LLAMA_ARG_STATIC_PATH": "--path",
    "LLAMA_ARG_DRAFT_MAX": "--draft-max",
    "LLAMA_ARG_MODEL_DRAFT": "--model-draft",
    "LLAMA_ARG_SPEC_DRAFT_HF_REPO": "--hf-repo-draft",
    "LLAMA_ARG_SPEC_DRAFT_MODEL": "--model-draft",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_K": "--cache-type-k-draft",
    "LLAMA_ARG_SPEC_DRAFT_CACHE_TYPE_V": "--cache-type-v-draft",
}
