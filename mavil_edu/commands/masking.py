"""Commands about masks: masks."""

from pathlib import Path

from mavil_edu.commands.common import Preset, say
from mavil_edu.config import PRESETS


def masks(
    out: Path, clip: Path | None = None, preset: Preset = "paper", ratios: tuple[float, ...] = (0.5, 0.8, 0.9), seed: int = 1
) -> None:
    """Draws what each masking strategy hides of a clip, at some ratios: one picture.

    Example: mavil-edu masks --out masking.png

    Example: mavil-edu masks --clip holiday.mp4 --preset tiny --ratios 0.75 0.9 --out masking.png

    Args:
        out: the PNG file to write.
        clip: any media file; without one, a generated clip.
        preset: whose patches and windows are drawn.
        ratios: shares of the patches to hide, a column each.
        seed: of the masks and of the generated clip.
    """
    from mavil_edu.masking_picture import write_masking

    say(write_masking(out, PRESETS[preset]().model, ratios, clip, seed).sentence)
