"""Start commands and files as people paste them -> questions."""

from __future__ import annotations

import shlex
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import BadRequest, KvplanError, UnknownName
from planner.launch.question import Question
from planner.launch.read import one_question, question_of, questions_in
from tests.kvplan.test_own_names import run


def asked(text: str) -> Question:
    return question_of(shlex.split(text))


def kinds(found: Question) -> dict[str, str]:
    return {one.name: one.kind for one in (*found.flags, *found.environment)}


SERVE = "Qwen/Qwen3-8B --tensor-parallel-size 2 --max-model-len 65536 --kv-cache-dtype fp8"


@pytest.mark.parametrize(
    "start",
    [
        f"vllm serve {SERVE}",
        f"vllm serve --model {SERVE}",
        f"python -m vllm.entrypoints.openai.api_server --model {SERVE}",
        f"sudo -E nohup python3 -m vllm.entrypoints.openai.api_server --model {SERVE}",
        f"uv run vllm serve {SERVE}",
        f"env A=1 /opt/venv/bin/vllm serve {SERVE}",
        f"numactl -N 0 vllm serve {SERVE}",
        f"bash -c 'source activate && exec vllm serve {SERVE}'",
        f"docker run --gpus all -v ~/.cache:/root -p 8000:8000 --ipc=host vllm/vllm-openai:latest --model {SERVE}",
        f"podman run --rm -it --device nvidia.com/gpu=all docker.io/vllm/vllm-openai:v0.11.0 --model {SERVE}",
        f"docker run --entrypoint bash vllm/vllm-openai -c 'vllm serve {SERVE}'",
        f"srun -N 1 --gres=gpu:2 vllm serve {SERVE}",
        f"vllm serve {SERVE.replace('-size', '_size').replace('max-model-len ', 'max_model_len=')}",
        f"vllm serve {SERVE.replace('tensor-parallel-size', 'tensor-parallel')}",
    ],
)
def test_one_server_under_every_wrapper_is_one_question(start: str) -> None:
    found = asked(start)
    assert (found.engine, found.model, found.tp, found.seq_tokens, found.k_dtype) == (
        "vllm",
        "Qwen/Qwen3-8B",
        2,
        65536,
        "fp8",
    )
    assert set(kinds(found).values()) <= {"used", "no effect", "not known"}


@pytest.mark.parametrize("image, version", [("vllm/vllm-openai:v0.11.2", "0.11.2"), ("vllm/vllm-openai:latest", None),
                                            ("registry.io:5000/vllm/vllm-openai:0.10.1.post1-cu128", "0.10.1.post1")])  # fmt: skip
def test_the_images_tag_names_the_version(image: str, version: str | None) -> None:
    assert asked(f"docker run {image} --model m").version == version


@pytest.mark.parametrize(
    "text, tokens", [("4096", 4096), ("64k", 64_000), ("64K", 65_536), ("25.6k", 25_600), ("auto", None), ("-1", None)]
)
def test_vllm_reads_lengths_by_its_own_rule(text: str, tokens: int | None) -> None:
    """Source: vLLM 0.33.0 utils/argparse_utils.py, human_readable_int and its docstring."""
    assert asked(f"vllm serve m --max-model-len {text}").seq_tokens == tokens


def test_vllm_takes_no_decimals_before_a_capital() -> None:
    with pytest.raises(BadRequest, match="no decimals before K"):
        asked("vllm serve m --max-model-len 65.5K")


@pytest.mark.parametrize("flags", ["""--speculative-config '{"method":"mtp","num_speculative_tokens":3}'""",
                                   "--speculative-config.method mtp --speculative-config.num_speculative_tokens 3",
                                   "--spec-method mtp --spec-tokens 3",
                                   """-sc '{"method":"qwen3_next_mtp","num_speculative_tokens":3}'"""])  # fmt: skip
def test_speculative_decoding_in_every_spelling(flags: str) -> None:
    found = asked(f"vllm serve m {flags}")
    assert found.drafting is not None
    assert (found.drafting.method, found.drafting.tokens, found.options.num_speculative_tokens) == ("mtp", 3, 3)


def test_every_flag_is_named_with_its_class() -> None:
    found = asked(
        "vllm serve m -tp 2 --no-enable-prefix-caching --enforce-eager --disable-log-requests --brand-new 7 --port 80"
    )
    assert kinds(found) == {
        "-tp": "used", "--no-enable-prefix-caching": "used",
        "--enforce-eager": "matters", "--disable-log-requests": "no effect",
        "--brand-new": "not known", "--port": "no effect",
    }  # fmt: skip


def test_sglang_data_parallel_attention_shares_its_ranks() -> None:
    """SGLang: with --enable-dp-attention the data-parallel groups are of the --tp devices."""
    found = asked(
        "python -m sglang.launch_server --model-path m --tp 8 --dp 4 --enable-dp-attention --mem-fraction-static 0.85"
    )
    assert (found.engine, found.tp, found.dp, found.options.fraction) == ("sglang", 2, 4, Fraction(17, 20))


def test_llama_server_in_short_flags() -> None:
    found = asked("llama-server -hf unsloth/Qwen3-30B-A3B-GGUF:UD-Q4_K_XL -c 32768 -ngl 99 -fa -ctk q8_0 -ctv q4_0 -np 4 "
                  "-ub 1024 -b 2048 --n-cpu-moe 20 -ts 3,1 -ot exps=CPU -ot ffn=CPU --no-mmap -md d.gguf --draft-max 8")  # fmt: skip
    assert (found.engine, found.model, found.weights) == ("llamacpp", "unsloth/Qwen3-30B-A3B-GGUF", "UD-Q4_K_XL")
    assert (found.seq_tokens, found.requests, found.k_dtype, found.v_dtype) == (8192, 4, "q8_0", "q4_0")
    assert found.placement is not None and found.drafting is not None
    assert (found.placement.layers, found.placement.expert_layers, found.placement.shares) == (99, 20, (3.0, 1.0))
    assert found.placement.overrides == ("exps=CPU", "ffn=CPU")
    assert (found.options.flash_attn, found.options.ubatch_size, found.drafting.tokens) == (True, 1024, 8)


@pytest.mark.parametrize("program", ["./llama-server", "/opt/llama.cpp/build/bin/llama-server", r"C:\llama\llama-server.exe",
                                     "llama-cli", "./main", "llama-mtmd-cli"])  # fmt: skip
def test_programs_of_llama_cpp_by_any_path(program: str) -> None:
    assert question_of([program, "-m", "/models/Qwen3-8B-Q4_K_M.gguf", "-c", "8192"]).weights == "Q4_K_M"


def test_llama_server_without_np_makes_four_slots_over_one_pool() -> None:
    """Its own log: "n_parallel is set to auto, using n_parallel = 4 and kv_unified = true" (PR 16736 and 17997)."""
    options = asked("llama-server -m m.gguf -c 8192").options
    assert (options.parallel, options.kv_unified) == (4, True)
    for other in (
        "llama-cli -m m.gguf -c 8192",
        "llama-server -m m.gguf -np 2",
        "./ik_llama.cpp/llama-server -m m.gguf -fmoe",
    ):
        assert asked(other).options.parallel != 4 and not asked(other).options.kv_unified


def test_llama_arg_variables_are_flags_and_flags_win() -> None:
    found = asked("LLAMA_ARG_CTX_SIZE=4096 LLAMA_ARG_N_PARALLEL=2 LLAMA_ARG_SWA_FULL=1 llama-server -m m.gguf -np 4")
    assert (found.options.ctx_size, found.requests, found.options.swa_full) == (4096, 4, True)


def test_llama_bench_asks_for_its_longest_run() -> None:
    found = asked("llama-bench -m m-Q8_0.gguf -p 512,2048 -n 128,256 -d 0,8192 -fa 0,1 -ngl 99")
    assert (found.seq_tokens, found.prompt_tokens, found.output_tokens) == (2048 + 8192, 2048, 256)


def test_ik_llama_is_seen_by_its_path_or_its_flags() -> None:
    assert asked("./ik_llama.cpp/build/bin/llama-server -m m.gguf -fmoe").engine == "ik_llamacpp"
    assert asked("llama-server -m m.gguf -mla 3").engine == "ik_llamacpp"


def test_ollama_reads_its_environment() -> None:
    found = asked(
        "OLLAMA_NUM_PARALLEL=4 OLLAMA_CONTEXT_LENGTH=32768 OLLAMA_KV_CACHE_TYPE=q8_0 ollama run qwen3:30b-a3b --verbose"
    )
    assert (found.model, found.seq_tokens, found.requests, found.k_dtype) == ("qwen3:30b-a3b", 32768, 4, "q8_0")
    assert found.options.ctx_size == 4 * 32768


def test_serve_and_run_of_ollama_are_one_question() -> None:
    found = one_question("OLLAMA_CONTEXT_LENGTH=8192 ollama serve &\nsleep 5\nollama run llama3.1")
    assert (found.model, found.seq_tokens) == ("llama3.1", 8192)


def test_a_modelfile() -> None:
    text = 'FROM qwen3:8b\nPARAMETER num_ctx 32768\nPARAMETER temperature 0.6\nSYSTEM """\nPARAMETER num_ctx 1\n"""\nPARAMETER nonesuch 1\n'
    found = one_question(text)
    assert (found.engine, found.model, found.seq_tokens) == ("ollama", "qwen3:8b", 32768)
    assert kinds(found) == {"num_ctx": "used", "temperature": "no effect", "nonesuch": "not known"}


COMPOSE = """
x-env: &env
  HF_TOKEN: hf_secretsecret
services:
  big:
    image: vllm/vllm-openai:v0.11.2
    environment: {<<: *env, VLLM_ATTENTION_BACKEND: FLASHINFER}
    command: ["--model", "Qwen/Qwen3-8B", "--max-model-len", "8192", "--api-key", "verysecret"]
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 2, capabilities: [gpu]}]}}}
  redis: {image: "redis:7"}
"""


def test_a_compose_file() -> None:
    found = one_question(COMPOSE)
    assert (found.model, found.version, found.devices, found.where) == ("Qwen/Qwen3-8B", "0.11.2", 2, "big")
    assert kinds(found)["VLLM_ATTENTION_BACKEND"] == "matters"
    assert "secret" not in repr(found)


def test_several_servers_are_asked_back_by_name() -> None:
    two = (
        COMPOSE
        + "  small:\n    image: ollama/ollama\n    command: serve\n    environment: [OLLAMA_CONTEXT_LENGTH=4096]\n"
    )
    with pytest.raises(BadRequest, match=r"--service NAME: big, small"):
        one_question(two)
    assert one_question(two, "small").seq_tokens == 4096
    with pytest.raises(BadRequest, match="it has big, small"):
        one_question(two, "middle")


POD = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: qwen}
spec:
  template:
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.10.0
        command: ["/bin/sh", "-c"]
        args: ["vllm serve $(MODEL) --tensor-parallel-size 4 --max-model-len 16k"]
        env:
        - {name: MODEL, value: Qwen/Qwen3-32B}
        - {name: HF_TOKEN, valueFrom: {secretKeyRef: {name: hf, key: token}}}
        resources: {limits: {nvidia.com/gpu: "4"}}
"""
LWS = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: big}
spec:
  leaderWorkerTemplate:
    size: 2
    leaderTemplate:
      spec:
        containers:
        - name: leader
          image: lmsysorg/sglang:v0.5.5
          command: [python3, -m, sglang.launch_server, --model-path, deepseek-ai/DeepSeek-V3, --tp, "16", --nnodes, "2"]
"""
KSERVE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata: {name: llama}
spec:
  predictor:
    model:
      modelFormat: {name: huggingface}
      args: [--model_name=llama, --model_id=meta-llama/Llama-3.1-8B, --max-model-len=8192]
      resources: {limits: {nvidia.com/gpu: "1"}}
"""


@pytest.mark.parametrize(
    "text, engine, model, devices",
    [
        (POD, "vllm", "Qwen/Qwen3-32B", 4),
        (LWS, "sglang", "deepseek-ai/DeepSeek-V3", None),
        (KSERVE, "vllm", "meta-llama/Llama-3.1-8B", 1),
    ],
)
def test_kubernetes_manifests(text: str, engine: str, model: str, devices: int | None) -> None:
    found = one_question(text)
    assert (found.engine, found.model, found.devices) == (engine, model, devices)


def test_a_llama_swap_config_with_macros() -> None:
    text = 'macros:\n  srv: llama-server --port ${PORT}\nmodels:\n  q:\n    macros: {c: 16384}\n    cmd: |\n      ${srv}\n      # which\n      -m /m/Qwen3-8B-Q5_K_M.gguf\n      -c ${c} -ngl 99\n  r: {cmd: "ollama serve"}\n'
    found = one_question(text, "q")
    assert (found.seq_tokens, found.weights, found.where) == (16384, "Q5_K_M", "q")


def test_a_vllm_config_file() -> None:
    found = one_question(
        "model: Qwen/Qwen3-8B\ntensor-parallel-size: 2\nenable-expert-parallel: true\nspeculative_config: {method: ngram, num_speculative_tokens: 4}\n"
    )
    assert (found.model, found.tp, found.ep) == ("Qwen/Qwen3-8B", 2, 2)
    assert found.drafting is not None and found.drafting.method == "ngram"


def test_a_systemd_unit() -> None:
    text = '[Service]\nExecStart=/usr/local/bin/ollama serve\nEnvironment="OLLAMA_CONTEXT_LENGTH=16384"\nEnvironment="OLLAMA_NUM_PARALLEL=2"\nRestart=always\n'
    assert (
        questions_in(
            text.replace("ExecStart=/usr/local/bin/ollama serve\n", "") + "ExecStart=/usr/local/bin/ollama serve\n"
        )[0].seq_tokens
        == 16384
    )


def test_windows_paths_keep_their_folders() -> None:
    text = r"""$env:CUDA_VISIBLE_DEVICES = "0"
& "$LlamaDir\llama-server.exe" `
    -m C:\llama-cpp\models\27b\Qwen3.8-27B-Q8_0.gguf `
    --ctx-size 65535 `
    --parallel 1
"""
    found = one_question(text)
    assert (found.model, found.weights, found.seq_tokens) == (
        r"C:\llama-cpp\models\27b\Qwen3.8-27B-Q8_0.gguf",
        "Q8_0",
        65535,
    )
    assert one_question(r"C:\llama-cpp\llama-server.exe -m C:\m\x-Q4_0.gguf -c 4096").options.ctx_size == 4096


def test_flags_alone_are_read_as_those_of_the_server_that_knows_them() -> None:
    found = one_question(
        "--tensor-parallel-size 4 \\\n--kv-cache-dtype fp8 \\\n--max-model-len 131072 \\\n--max-num-seqs 16\n"
    )
    assert (found.engine, found.tp, found.model) == ("vllm", 4, None)
    compose = "services:\n  v:\n    build: .\n    command: >\n      --model a/b\n      --gpu-memory-utilization 0.78\n      --max-num-seqs 256\n"
    assert one_question(compose).model == "a/b"


def test_docker_run_with_everything_that_people_add() -> None:
    text = """docker stop x  ; docker pull vllm/vllm-openai:latest
docker run -d --restart=always \\
    --runtime=nvidia --gpus '"device=0,1,2,3"' --shm-size=10.24gb -p 5020:5020 \\
        -e NCCL_IGNORE_DISABLED_P2P=1 -e HUGGING_FACE_HUB_TOKEN=$TOKEN -e HF_HOME \\
    -u `id -u`:`id -g` -v "${HOME}"/.cache:$HOME/.cache/ --network host --name big \\
    vllm/vllm-openai:v0.6.1 \\
        --port=5020 --model=meta-llama/Meta-Llama-3.1-405B-Instruct-FP8 --tensor-parallel-size=4 \\
        --max_num_seqs=32 --enable_chunked_prefill=True --download-dir=$HOME/.cache/hub &>> logs.txt
"""
    found = one_question(text)
    assert (found.model, found.version, found.tp, found.devices) == (
        "meta-llama/Meta-Llama-3.1-405B-Instruct-FP8",
        "0.6.1",
        4,
        4,
    )
    assert "not known" not in {one.kind for one in found.flags}


@pytest.mark.parametrize("text, words", [("text-generation-launcher --model-id x", "--num-shard is --tensor-parallel-size"),
                                         ("vllm bench serve", "vllm serve"),
                                         ("mlx_vlm.server --model a/b-4bit", "estimate a/b-4bit --engine mlx"),
                                         ("lms server start", "lms load MODEL"),
                                         ("./llama-swap --config c.yaml", "kvplan check config.yaml")])  # fmt: skip
def test_another_server_is_refused_with_what_to_do(text: str, words: str) -> None:
    with pytest.raises(UnknownName, match=words):
        asked(text)


def test_a_text_without_a_server_says_which_are_known() -> None:
    with pytest.raises(BadRequest, match=r"no server is started by 'ls'; known are vllm serve"):
        asked("ls -la")


@pytest.mark.parametrize("text", ["vllm serve m --max-model-len abc", "vllm serve m -tp 0", "vllm serve m -tp -2", "vllm serve m --gpu-memory-utilization nan",
                                  "vllm serve m --gpu-memory-utilization 9", "vllm serve m -tp", "vllm serve m --speculative-config {a:1}",
                                  "llama-server -m m -c 1e9", "llama-server -m m -ts a,b", "vllm serve m -tp $TP"])  # fmt: skip
def test_a_value_that_cannot_be_read_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadRequest) as error:
        asked(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "secret",
    ["--api-key hunter2hunter2", "--api-key=hunter2hunter2", "--hf-token hunter2hunter2", "--foo-password hunter2hunter2",
     "--host http://me:hunter2hunter2@x", "--chat-template 'https://x/?api_key=hunter2hunter2'", "--bar hf_hunter2hunter2"],
)  # fmt: skip
def test_secrets_are_not_in_a_question(secret: str) -> None:
    assert "hunter2" not in repr(asked(f"TOKEN=hunter2hunter2 vllm serve m {secret}"))


BOMB = (
    "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{c}: &{c} [{','.join(['*' + p] * 10)}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    + "services: {s: {image: vllm/vllm-openai, command: *i}}\n"
)
MERGES = (
    "a: &a {k: v}\n"
    + "".join(
        f"{c}: &{c} {{<<: [*{p}, *{p}, *{p}, *{p}]}}\n"
        for p, c in zip("abcdefghijklmno", "bcdefghijklmnop", strict=True)
    )
    + "services: {}\n"
)


@pytest.mark.parametrize("text", [MERGES, "services: {a: {image: [1]}}", "services: [1]", "models: {a: 1}", "kind: Pod\nspec: 3", "- 1\n- 2", "a: !!python/object:os.system x",
                                  "{" * 3000, "FROM", "services:\n\ta: b", "\0\0\0", "   ", "apiVersion: v1\nkind: Pod\nspec: {containers: [{args: [{a: b}], image: 5}]}"])  # fmt: skip
def test_a_hostile_file_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(KvplanError) as error:
        one_question(text)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_anchors_do_not_make_a_small_text_large() -> None:
    assert one_question(BOMB).model is None


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "vllm",
                "serve",
                "m",
                "-tp",
                "2",
                "--",
                "-",
                "--x",
                "--max-model-len",
                "'",
                "=",
                "--kv-cache-dtype=",
                "docker",
                "run",
                "-e",
                "bash",
                "-c",
                "ollama",
                "llama-bench",
                "-p",
                "1,-2",
                "\n",
                "$A",
                "{}",
                "-ot",
                "--speculative-config.a.b",
            ]
        ),
        max_size=12,
    )
)
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    try:
        question_of(words)
    except KvplanError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "!vllm serve Qwen/Qwen3-8B --max-model-len 16384",
        "%%bash\nvllm serve Qwen/Qwen3-8B --max-model-len 16384",
        "vllm serve Qwen/Qwen3-8B –max-model-len 16384",
        "vllm serve “Qwen/Qwen3-8B” —max-model-len 16384",
        '{"model": "Qwen/Qwen3-8B", "max_model_len": 16384}',
        "python3 -m dynamo.vllm --model Qwen/Qwen3-8B --max-model-len 16384",
        "servingEngineSpec:\n  modelSpec:\n  - name: a\n    modelURL: Qwen/Qwen3-8B\n    vllmConfig: {maxModelLen: 16384}",
        "apiVersion: kubeai.org/v1\nkind: Model\nmetadata: {name: q}\nspec:\n  url: hf://Qwen/Qwen3-8B\n"
        "  engine: VLLM\n  args: [--max-model-len=16384]",
        "applications:\n- args:\n    llm_configs:\n    - model_loading_config: {model_id: q, model_source: Qwen/Qwen3-8B}\n"
        "      engine_kwargs: {max_model_len: 16384}",
        'CMD ["vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", "16384"]',
        '["vllm", "serve", "Qwen/Qwen3-8B", "--max-model-len", "16384"]',
        'command: ["vllm", "serve", "Qwen/Qwen3-8B"]\nargs: ["--max-model-len", "16384"]',
        "image: vllm/vllm-openai:v0.18.0\ncommand: --model Qwen/Qwen3-8B --max-model-len 16384",
    ],
    ids=[
        "notebook",
        "cell",
        "dash",
        "quotes",
        "json",
        "dynamo",
        "production-stack",
        "kubeai",
        "ray-serve",
        "cmd",
        "list",
        "container",
        "service",
    ],
)
def test_what_web_pages_notebooks_and_operators_make_of_a_command_is_that_command(text: str) -> None:
    found = one_question(text)
    assert (found.engine, found.model, found.seq_tokens) == ("vllm", "Qwen/Qwen3-8B", 16384)


def test_a_shell_in_a_container_keeps_the_images_version() -> None:
    text = """
kind: Deployment
spec: {template: {spec: {containers: [{name: v, image: "vllm/vllm-openai:v0.18.0", command: ["/bin/sh", "-c"],
  args: ["vllm serve Qwen/Qwen3-8B --max-model-len 16384"]}]}}}
"""
    found = one_question(text)
    assert (found.version, found.said) == ("0.18.0", "vllm serve in vllm/vllm-openai:v0.18.0")


def test_a_word_too_many_is_named_and_an_images_own_version_is_not_the_engines() -> None:
    assert kinds(asked("vllm serve Qwen/Qwen3-8B stray --port 80"))["stray"] == "not known"
    found = asked("docker run --gpus all nvcr.io/nvidia/vllm:25.11-py3 vllm serve openai/gpt-oss-120b")
    assert found.version is None and "25.11" in found.notes[-1]


def test_the_states_dtype_is_read_and_a_wrong_one_refused() -> None:
    assert asked("vllm serve m --mamba_ssm_cache_dtype float32").options.mamba_ssm_dtype == "fp32"
    with pytest.raises(BadRequest, match="states' dtype"):
        asked("vllm serve m --mamba-ssm-cache-dtype int3")


@pytest.mark.parametrize(
    "tag", ["!!timestamp 'x'", "!!int '-'", "!!float ''", "!!bool 'x'", "!!binary 'x'", "!reset []"]
)
def test_a_value_with_a_tag_in_a_compose_file_is_refused_in_one_line(tag: str) -> None:
    with pytest.raises(KvplanError) as refused:
        questions_in(f"services:\n  llm:\n    image: lmsysorg/sglang\n    command: {tag}\n")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "engine", "model", "tokens"),
    [
        ("[*]\nn-gpu-layers = 99\n[q]\nhf = unsloth/Qwen3-8B-GGUF:Q6_K\nc = 16384\njinja = true", "llamacpp", "unsloth/Qwen3-8B-GGUF", 16384),
        ('{"model": "qwen3:8b", "options": {"num_ctx": 16384}}', "ollama", "qwen3:8b", 16384),
        ("curl http://localhost:11434/api/generate -d '{\"model\": \"qwen3:8b\", \"options\": {\"num_ctx\": 16384}}'", "ollama", "qwen3:8b", 16384),
        ("kubectl run v --image=vllm/vllm-openai:v0.18.0 -- --model Qwen/Qwen3-8B --max-model-len 16384", "vllm", "Qwen/Qwen3-8B", 16384),
        ("kind: ConfigMap\ndata:\n  run.sh: |\n    M=Qwen/Qwen3-8B\n    vllm serve $M --max-model-len 16384", "vllm", "Qwen/Qwen3-8B", 16384),
        ("modelSpec:\n- modelURL: Qwen/Qwen3-8B\n  vllmConfig: {maxModelLen: 16384}", "vllm", "Qwen/Qwen3-8B", 16384),
        ("kind: LLMInferenceService\nspec:\n  model: {uri: 'hf://Qwen/Qwen3-8B'}\n  parallelism: {tensor: 2}\n  template:\n    containers:\n"
         "    - env: [{name: VLLM_ADDITIONAL_ARGS, value: '--max-model-len 16384'}]", "vllm", "Qwen/Qwen3-8B", 16384),
        ("kind: InferenceService\nspec: {predictor: {containers: [{image: vllm/vllm-openai, args: [--model, /mnt/models, --max-model-len, 16384],"
         " env: [{name: STORAGE_URI, value: 'hf://Qwen/Qwen3-8B'}]}]}}", "vllm", "Qwen/Qwen3-8B", 16384),
        ("docker run -v /data/Qwen3-8B:/model vllm/vllm-openai --model /model --max-model-len 16384", "vllm", "/data/Qwen3-8B", 16384),
        ("services:\n  a:\n    image: vllm/vllm-openai\n    volumes: ['/data/Qwen3-8B:/model:ro']\n    command: --model /model/ --max-model-len 16384",
         "vllm", "/data/Qwen3-8B", 16384),
        ("@echo off\nset M=C:\\models\\Qwen3-8B-Q4_K_M.gguf\nllama-server.exe -m %M% -c 16384", "llamacpp", "C:\\models\\Qwen3-8B-Q4_K_M.gguf", 16384),
        ('Start-Process -FilePath "C:\\l\\llama-server.exe" -ArgumentList "-m C:\\m\\Qwen3-8B.gguf -c 16384" -NoNewWindow', "llamacpp",
         "C:\\m\\Qwen3-8B.gguf", 16384),
        ("(APIServer pid=1) INFO 08-23 14:04:06 [utils.py:273] non-default args: {'model_tag': 'Qwen/Qwen3-8B', 'model': 'Qwen/Qwen3-8B', "
         "'max_model_len': 16384, 'api_key': ['sk-x'], 'speculative_config': {'method': 'mtp'}}", "vllm", "Qwen/Qwen3-8B", 16384),
        ("python3 -m sglang_router.launch_server --model-path Qwen/Qwen3-8B --context-length 16384", "sglang", "Qwen/Qwen3-8B", 16384),
    ],
    ids=["ini", "body", "curl", "kubectl", "configmap", "modelspec", "llmis", "storage-uri", "volume", "compose-volume", "percent",
         "start-process", "log", "router"],
)  # fmt: skip
def test_other_files_and_mounts_that_say_which_model_is_served(text: str, engine: str, model: str, tokens: int) -> None:
    found = one_question(text)
    assert (found.engine, found.model, found.seq_tokens) == (engine, model, tokens)


def test_a_service_of_ollama_gives_its_version_and_its_variables_to_the_run() -> None:
    text = "docker run -d -e OLLAMA_CONTEXT_LENGTH=16384 ollama/ollama:0.20.2 serve\ndocker exec -it o ollama run gemma4:26b"
    found = one_question(text)
    assert (found.version, found.seq_tokens, found.model) == ("0.20.2", 16384, "gemma4:26b")
    bare = one_question('[Service]\nEnvironment="OLLAMA_CONTEXT_LENGTH=16384"')
    assert (bare.engine, bare.model, bare.seq_tokens) == ("ollama", None, 16384)


def test_a_variable_of_the_text_alone_is_not_said_to_be_unknown() -> None:
    found = one_question("export MODEL=Qwen/Qwen3-8B\nexport VLLM_USE_V1=1\nexport FOO=1\nvllm serve $MODEL")
    assert {one.name for one in found.environment} == {"VLLM_USE_V1", "FOO"}


@pytest.mark.parametrize(
    "start, named",
    [
        ("FOO=1 sudo -E nohup numactl --cpunodebind=0 vllm serve m", {"sudo -E", "nohup", "numactl --cpunodebind=0"}),
        ("sudo docker run --gpus all vllm/vllm-openai:v0.11.2 --model m", {"sudo"}),
        ("sudo bash -c 'nice -n 10 vllm serve m'", {"sudo", "nice -n 10"}),
        ("python3 -u -m sglang.launch_server --model-path m", set()),
    ],
)
def test_what_stands_before_a_server_is_named_and_has_no_effect(start: str, named: set[str]) -> None:
    found = asked(start).environment
    assert {one.name for one in found if one.kind == "no effect"} == named
    assert {one.name for one in found if one.kind == "not known"} <= {"FOO"}


def test_a_wrapper_that_is_not_known_and_one_that_starts_several_are_said_so() -> None:
    assert kinds(asked("./mine.sh vllm serve m")) == {"./mine.sh": "not known"}
    assert kinds(asked("mpirun -n 8 vllm serve m")) == {"mpirun -n 8": "matters"}


def test_a_pinned_vllm_of_uvx_is_a_server() -> None:
    assert (asked("uvx vllm==0.11.0 serve m").version, asked("uvx vllm@0.11.0 serve m").model) == ("0.11.0", "m")


def test_the_environment_says_the_generation_and_engine_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """gpustack issue 1800: VLLM_USE_V1=0 in 0.8.3 is the first engine, which profiles images otherwise than V1."""
    line = "check --gpu 3090 --engine vllm==0.8.3 -- VLLM_USE_V1=0 vllm serve Qwen/Qwen2.5-VL-7B-Instruct --max-model-len 8192"
    _, out, _ = run(capsys, line)
    assert "vLLM 0.8.3, the first (V0) engine" in " ".join(out.split())


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/data/llamacpp/models/Qwen3-30B-A3B-IQ2_M/model.gguf", "Qwen3-30B-A3B-IQ2_M.gguf"),
        ("models/model.gguf", "models/model.gguf"),
        ("Qwen3-8B-Q4_K_M.gguf", "Qwen3-8B-Q4_K_M.gguf"),
    ],
)
def test_a_file_that_is_called_model_has_its_folders_name(path: str, model: str) -> None:
    """Jan keeps every model as NAME/model.gguf (janhq/jan issues 8181, 8236)."""
    assert question_of(shlex.split(f"llama-server -m {path} -c 8192")).model == model
