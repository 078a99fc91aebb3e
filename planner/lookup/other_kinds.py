"""What a name says that is no decoder of text: encoders, pictures, sound, speech, text by diffusion, closed models.

Each is refused by what it is. Only names that no rule has understood come here, so an embedding model that is a
decoder of the catalogue (e5-mistral-7b, Qwen3-Embedding) is answered before.
"""

from __future__ import annotations

import re

# Embedding models, re-rankers and classifiers that have no decoder. `bert` stands in the names of most.
_ENCODER = re.compile(
    r"(?<!hu)bert(?!-?gpt)|roberta|electra|minilm|mpnet|xlm-?r(?![a-z])|xlnet|splade|simcse|specter|labse|canine|splinter|"
    r"(?:^|/)bge-(?!en-icl|multilingual-gemma|reranker-v2-(?:gemma|minicpm)|reranker-v2\.5)|mxbai-(?:embed|rerank-(?:x?small|base|large)-v1)|"
    r"nomic-embed|e5-(?:small|base|large)|arctic-embed|gte-(?:small|base|large|tiny|multilingual|modernbert)|"
    r"granite-embedding|jina-(?:embeddings-v[123]|reranker-v[12]|colbert)|uae-large|kure-v|koe5|solon-embeddings|"
    r"(?:^|/)(?:all|multi-qa|paraphrase|msmarco|stsb)-|sentence-?t5|sentence-transformers/|cross-encoder/|medcpt|(?:^|/)dpr-|"
    r"mdbr-leaf|gist-(?:small|large|embedding)|(?:^|/)potion-|model2vec|neural-sparse|gliner|prompt-guard|llm-embedder|"
    r"(?:^|/)(?:bros|lilt|luke|luar|esm2?|molformer|layoutlm)(?:[-_v0-9]|$)"
)
# Decoders of the catalogue's shapes that look both ways: everything is read at once, nothing is kept.
_BOTH_WAYS = re.compile(
    r"(?:llama-)?(?:nemotron-)?embed-(?:nemotron|1b|vl|8b)|nv-embed|llm2vec|pplx-embed|bidirectional"
)
_SPEECH = re.compile(
    r"(?<!cha)tts(?:[^a-z]|$)|text-to-speech|speecht5|parler|kokoro|xtts|vibevoice|omnivoice|voxcpm|cosyvoice|"
    r"(?:^|/)(?:csm|dia2?|zonos|bark|moshi|hf-moshi|s[12]-pro|fish-speech|higgs-(?:audio|tts)|outetts|melotts|openvoice|styletts|f5|indicf5)"
    r"(?:[-_v0-9/]|ko|$)|audio-tokenizer|encodec|(?:^|/)mimi$|(?:^|/)dac[_-]|(?:^|/)snac|musicgen|stable-audio|ace-step|(?:^|/)mms-|vits(?:[-_]|$)"
)
_NO_TEXT = re.compile(
    r"stable[- ]?diffusion|(?:^|[/ -])sd(?:xl|3)|(?:^|/)(?:x?flux)|qwen-?image(?!-bench)|z-image|hunyuan-?(?:image|video|3d)|"
    r"(?:^|/)wan-?2|ltx-?video|cogvideo|parakeet|canary-|wav2vec|w2v-|wavlm|hubert|(?:^|/)sam-?[23]|"
    r"(?:^|/)(?:[a-z]+-)?clip-|siglip|dinov|c-radio|(?:^|/)(?:vit|resnet|detr|yolo|swin|convnext|depth-anything)[-_v0-9]|seamless-m4t|"
    r"(?:^|/)(?:chronos|timesfm|moirai)|(?:^|/)clap-"
)
_DIFFUSION = re.compile(
    r"llada|(?:^|/)dream-(?:org|v0|coder)|/dream-v|diffusion-?gemma|diffucoder|(?:labs-)?diffusion-\d+b|(?:^|/)sdar-|fast-?dllm|dllm"
)
# Served by their makers alone: nobody else knows how they are made.
_CLOSED = re.compile(
    r"(?:^|/)(?:claude|gemini(?! nano)|chatgpt|gpt-?(?:3\.5|4|4o|4\.[15]|5)(?![0-9]*b)|o[134](?:-|$)|grok-?[3-9])",
)
_MAKERS = ("openai/", "anthropic/", "google/", "x-ai/", "xai/", "openrouter/")


def what_else(name: str) -> str | None:
    """Says what a name stands for that is no decoder of text, without its advice; None where the name says none.

    >>> what_else("DeepPavlov/rubert-base-cased")
    'is an encoder: it reads a text at once, keeps no KV cache and takes its weights alone; kvplan counts decoders'
    >>> what_else("Qwen/Qwen3-8B") is None
    True
    """
    text = name.lower()
    if "gpt" in text.rpartition("/")[2]:  # distilbert/distilgpt2
        text = text.rpartition("/")[2]
    if _DIFFUSION.search(text):
        return (
            "writes by diffusion, a block of tokens at once over many steps, and what it keeps depends on the program; "
            "kvplan counts models that write token by token"
        )
    if _SPEECH.search(text):
        return "makes or reads sound: its codec and the cache of what speaks are not known here; kvplan counts decoders of text"
    if _NO_TEXT.search(text):
        return "makes or reads pictures or sound and has no decoder of text; kvplan counts those"
    if _ENCODER.search(text):
        return "is an encoder: it reads a text at once, keeps no KV cache and takes its weights alone; kvplan counts decoders"
    if _BOTH_WAYS.search(text):
        return (
            "embeds a text that it reads in both directions at once, keeps no KV cache and takes its weights alone; "
            "kvplan counts decoders"
        )
    plain = text
    for maker in _MAKERS:
        plain = plain.removeprefix(maker)
    if "/" not in plain and _CLOSED.search(plain):
        return "is served by its maker alone, and how it is made is not public"
    return None
