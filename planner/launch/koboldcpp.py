"""The flags of KoboldCpp (its parser of v1.76, and the names that came since, to v1.115)."""

from __future__ import annotations

from planner.launch.table import Table, table

USED = """
-m|--model=                                 model text
--contextsize=                              ctx_size signed
--gpulayers|--gpu-layers=?                  gpu_layers text
--moecpu=?                                  moe_cpu text
--tensor_split|--tensor-split=+             tensor_split texts
--batchsize|--blasbatchsize=                ubatch_size signed
--quantkv=                                  kv_level signed
--flashattention                            flash_attn switch
--useswa                                    useswa switch
--lowvram                                   kv_on_host switch
--mmproj=                                   mmproj text
--overridetensors|--override-tensors=       override_tensor texts
--draftmodel=                               draft_model text
--draftamount=                              num_speculative_tokens count
--usecpu                                    on_cpu switch
"""
MATTERS = """
--usecublas|--usecuda|--usehipblas=+ : the devices; `lowvram` among its words keeps the cache on the host: write --lowvram
--usevulkan=+ : the devices
--useclblast=2 : the device
--maingpu= : the device that takes small tensors
--draftgpulayers= : layers of the drafter on the device
--draftgpusplit=+ : shares of the devices for the drafter
--draftquantkv= : type of the drafter's cache
--ropeconfig=+ : positions are scaled: a longer context than the model's own
--overridenativecontext= : positions are scaled from another length
--overridekv= : a key of the file is replaced
--lora=+ : an adapter: its own file's size, on the device
--moeexperts= : other than the model's number of experts a token: speed
--threads|--blasthreads= : threads of the processor: speed of what stays on the host
--nommap : weights that stay on the host are read whole: host memory
--usemmap : how the file is read: host memory while it runs
--usemlock : the file stays in host memory
--nopipelineparallel : several devices take turns on one batch: smaller buffers, slower prompts
--noavx2 : slower products on the processor
--smartcontext : half of the context is kept free for what comes
--mmprojcpu : the image encoder runs on the processor: its weight is not on the device
--visionmaxres= : tokens of an image
--sdmodel= : an image model beside it: its own file's size
--whispermodel= : a speech model beside it: its own file's size
--ttsmodel= : a voice model beside it: its own file's size
--embeddingsmodel= : an embedding model beside it: its own file's size
--config= : a file of settings: give its flags
"""
QUIET = """
port= host= launch benchmark=? prompt= promptlimit= multiuser=? multiplayer remotetunnel highpriority foreground
preloadstory= quiet ssl=2 nocertify password= ignoremissing chatcompletionsadapter= forceversion= nomodel noshift
nofastforward debugmode=? onready= showgui skiplauncher hordemodelname= hordeworkername= hordekey= hordemaxctx=
hordegenlen= websearch jinja jinja_tools admin admindir= adminpassword= savedatafile= singleinstance defaultgenamt=
nobostoken enableguidance maxrequestsize= failsafe genlimit= ratelimit= cli exporttemplate= exportconfig= unpack=
-h|--help version analyze= testmemory
"""
TABLE: Table = table("koboldcpp", "KoboldCpp v1.115", USED, matters=MATTERS, quiet=QUIET, underscores=False)
