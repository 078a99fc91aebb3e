"""Says what a model's name was taken for, where it is not one of the catalogue's own."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class ReadAs:
    """What a model's name was taken for, where it is not one of the catalogue's own.

    asked    the name as it was written
    model    what it was read as
    weights  the weight format that the name gives, in words; "" where it gives none
    notes    what was passed over or assumed
    rough    the name leaves something of the weights open: their bytes are an estimate
    gguf     the name is of a GGUF file
    spread   how far below and above the count such files lie, as parts of it
    """

    asked: str
    model: str
    weights: str = ""
    notes: tuple[str, ...] = ()
    rough: bool = False
    gguf: bool = False
    spread: tuple[float, float] = (0.0, 0.0)

    @property
    def words(self) -> str:
        """One line for people.

        >>> ReadAs("Qwen/Qwen3.6-27B-FP8", "qwen3.6-27b", "fp8 (block 128)").words
        'read as qwen3.6-27b, weights fp8 (block 128)'
        """
        return f"read as {self.model}" + (f", weights {self.weights}" if self.weights else "")

    def to_dict(self) -> dict[str, object]:
        return {"asked": self.asked, "model": self.model, "weights": self.weights or None, "notes": list(self.notes)}
