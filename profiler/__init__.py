"""The only package that imports torch: a real GPT built from a ModelSpec, its caches, and what running it costs."""
