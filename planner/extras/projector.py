"""A vision or audio tower of a file of its own (llama.cpp's mmproj) beside a model: weights and the buffer of one image."""

from __future__ import annotations

from planner.frozen import dataclass
from planner.memory.activations import OverheadLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from planner.readers.mmproj import Mmproj

FLOAT_BYTES = 4  # llama.cpp computes a tower in fp32


@dataclass(frozen=True, eq=False)
class Projector:
    """The tower on the first device; `flash` False where attention scores are written out."""

    tower: Mmproj
    flash: bool = True

    def image_bytes(self, patches: int, scores: bool) -> int:
        """patches · (MLP + 3 · hidden) · 4 B, and heads · patches² · 4 B more where scores are written out.

        Gemma 3's 4,096 patches of 1,152 with 16 heads and 4,304 inside: 121 MiB, and 1,145 MiB with scores, for which
        llama.cpp's logs of 2025 have 1,132.

        >>> from planner.readers.mmproj import Mmproj
        >>> tower = Mmproj("mmproj", 1, "gemma3", 4096, 4096, 1152, 16, 4304)
        >>> [Projector(tower).image_bytes(4096, scores) // 2**20 for scores in (False, True)]
        [121, 1145]
        """
        tower = self.tower
        plain = patches * (tower.inner + 3 * tower.width) * FLOAT_BYTES
        return plain + (tower.heads * patches**2 * FLOAT_BYTES if scores else 0)

    def lines(self) -> tuple[OverheadLine, ...]:
        """The weights, as stored, and the buffer of an image: estimated, to that of the largest image with all scores."""
        tower, size = self.tower, self.tower.stored_bytes
        weights = OverheadLine(f"tower {tower.name}", size, size, size, "its weights, as stored")
        if not tower.patches:
            return (weights,)
        low = self.image_bytes(tower.patches, scores=False)
        likely = low if self.flash else self.image_bytes(tower.patches, scores=True)
        high = max(
            self.image_bytes(tower.patches, scores=True), self.image_bytes(tower.most_patches, scores=not self.flash)
        )
        words = f"estimated, of {tower.patches:,} patches; the largest image has {tower.most_patches:,}"
        return weights, OverheadLine("image buffer", likely, low, high, words)
