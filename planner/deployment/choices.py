"""What a search tries on one device: layouts that engines accept, and formats that the device and engine know."""

from __future__ import annotations

from collections.abc import Iterator

from planner.catalogue.device import Device
from planner.errors import BadRequest
from planner.frozen import dataclass
from planner.memory.request import device_capacity
from planner.memory.sharding import Sharding
from planner.memory.weight_plan import weight_plan
from planner.model.attention import Attention
from planner.model.cross_attention import EncoderAttention
from planner.model.latent_attention import LatentAttention
from planner.model.spec import ModelSpec
from planner.speed.passes import bridged_ranks

NODE_DEVICES = 8


TP_SIZES = (1, 2, 4, 8)


NODES = (2, 4)


GGUF_ENGINES = ("llamacpp", "ik_llamacpp", "ollama", "lmstudio", "koboldcpp")


FLOATS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Formats:
    """How weights and cache are stored; None leaves them as published."""

    dtype: str | None = None
    kv_dtype: str | None = None

    @property
    def as_published(self) -> bool:
        return self.dtype is None and self.kv_dtype is None


def shares_memory(device: Device) -> bool:
    """Tells whether it is one device that shares its memory with the host: nothing to be parallel with."""
    link = device.interconnect
    processor = device.vendor is None and device.name == "cpu"  # this machine's, where it has no GPU
    return processor or device_capacity(device).kind == "host" or bool(link and link.type == "unified memory")


def over_pcie(device: Device, sharding: Sharding) -> bool:
    """Tells whether tensor-parallel ranks (or those of experts) have no link of their own, or a bridge that joins fewer."""
    return max(sharding.tp, sharding.ep) > bridged_ranks(device)


def layouts(spec: ModelSpec, device: Device) -> Iterator[Sharding]:
    """Lists the layouts of one replica that engines start, the simplest first.

    TP of 1, 2, 4, 8 where heads divide; the same with whole experts on each rank; MLA attention in DP with experts
    over all ranks; stages inside a node where no link joins all its devices; beyond a node whole nodes as
    stages. A device that shares the host's memory stands alone.

    >>> from planner.lookup import device, model_spec
    >>> [(s.tp, s.pp) for s in layouts(model_spec("llama-3.1-8b"), device("h100-sxm"))]
    [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4)]
    """
    if shares_memory(device):
        yield Sharding()
        return
    for layout in _all_layouts(spec, device):
        try:
            layout.check(spec)
        except BadRequest:
            continue
        yield layout


def _all_layouts(spec: ModelSpec, device: Device) -> Iterator[Sharding]:
    sizes = [tp for tp in TP_SIZES if heads_divide(spec, tp)]
    experts = any(weight.part == "experts" for layer, _ in spec.groups for weight in layer.weights)
    latent = any(isinstance(mixer, LatentAttention) for layer, _ in spec.groups for mixer in layer.mixers)
    for tp in sizes:
        yield Sharding(tp=tp)
        if tp > 1 and experts:
            yield Sharding(tp=tp, ep=tp)
        if tp > 1 and latent:
            yield Sharding(dp=tp, ep=tp if experts else 1)
    if bridged_ranks(device) < NODE_DEVICES:
        for tp in sizes:
            for pp in (2, 4, 8):
                if tp * pp <= NODE_DEVICES:
                    yield Sharding(tp=tp, pp=pp)
    if NODE_DEVICES in sizes:
        for nodes in NODES:
            yield Sharding(tp=NODE_DEVICES, pp=nodes)


def heads_divide(spec: ModelSpec, tp: int) -> bool:
    """Tells whether TP splits query heads evenly and splits or copies KV heads whole, as engines demand.

    >>> from planner.lookup import model_spec
    >>> [tp for tp in (1, 2, 4, 8) if heads_divide(model_spec("gpt2"), tp)]        # 12 heads
    [1, 2, 4]
    """
    for layer, _ in spec.groups:
        for mixer in layer.mixers:
            if isinstance(mixer, Attention) and not isinstance(mixer, EncoderAttention):
                many, few = max(mixer.kv_heads, tp), min(mixer.kv_heads, tp)
                if mixer.heads % tp or many % few:
                    return False
            elif isinstance(mixer, LatentAttention) and mixer.heads % tp:
                return False
    return True


def weight_dtypes(spec: ModelSpec, device: Device, engine: str | None) -> tuple[str | None, ...]:
    """Lists weight formats worth a try: as published, and what shrinks that and the device and engine run.

    A 16-bit model in fp8 where the device has the rate, else in int8; in 4 bit (AWQ, unpacked to 16 bit; nvfp4
    where the device has the rate). A model published in 8 bit in 4 bit alone. GGUF formats for llama.cpp's family and
    for devices that share the host's memory. A checkpoint on disk and what is smaller already stay as they are.

    >>> from planner.lookup import device, model_spec
    >>> weight_dtypes(model_spec("llama-3.1-8b"), device("h100-sxm"), None)
    (None, 'fp8', 'awq')
    >>> weight_dtypes(model_spec("deepseek-v3"), device("h100-sxm"), None)
    (None, 'awq')
    """
    if spec.stored is not None:
        return (None,)
    published = weight_plan(spec).fmt.name
    gguf = engine in GGUF_ENGINES or (engine is None and shares_memory(device))
    wide = published in FLOATS
    if gguf:
        return (None, "q8_0", "q4_k_m") if wide else ("q8_0", "q4_k_m")
    rates = device.dense_flops_per_s
    found: list[str | None] = [None]
    if wide and "fp8" in rates:
        found.append("fp8")
    elif wide and "int8" in rates:
        found.append("int8")
    if wide or published.startswith("fp8"):
        found.append("awq")
        if "fp4" in rates and engine in (None, "vllm", "sglang", "tensorrt-llm"):
            found.append("nvfp4")
    return tuple(found)


def kv_dtypes(device: Device, engine: str | None) -> tuple[str | None, ...]:
    """Lists cache formats worth a try: the float type the model runs in, and 8 bit as the engine has it.

    fp8 where the device computes in it: elsewhere it depends on the attention kernel whether an engine takes it.

    >>> from planner.lookup import device
    >>> kv_dtypes(device("h100-sxm"), "vllm"), kv_dtypes(device("apple-m4-max"), None), kv_dtypes(device("a10"), None)
    ((None, 'fp8'), (None, 'q8_0'), (None,))
    """
    if engine == "transformers":
        return (None,)
    if engine in GGUF_ENGINES or (engine is None and shares_memory(device)):
        return (None, "q8_0")
    return (None, "fp8") if "fp8" in device.dense_flops_per_s else (None,)
