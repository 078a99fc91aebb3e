"""How fast: bytes and FLOPs of a step, constants, seconds."""
