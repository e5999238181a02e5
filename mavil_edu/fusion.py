"""Where audio and video tokens meet: joint attention over both."""

from einops import pack, unpack
from torch import nn

from mavil_edu.config import TransformerConfig
from mavil_edu.encoder import Tokens
from mavil_edu.transformer import Transformer


class Fusion(nn.Module):
    """Blocks over [audio class, audio tokens, video class, video tokens], the paper's vanilla fusion."""

    def __init__(self, transformer: TransformerConfig):
        super().__init__()
        self.transformer = Transformer(transformer)

    def forward(
        self, audio: Tokens | None, video: Tokens | None, maps: dict | None = None, layers: dict | None = None
    ) -> tuple[Tokens | None, Tokens | None]:
        """Fuses the tokens of both modalities; where one is None, the other passes through alone."""
        present = [tokens for tokens in (audio, video) if tokens is not None]
        x, shapes = pack([part for tokens in present for part in tokens], "b * d")
        parts = unpack(self.transformer(x, maps, "fusion", layers), shapes, "b * d")
        fused = iter([Tokens(*parts[i : i + 2]) for i in range(0, len(parts), 2)])
        return (None if audio is None else next(fused)), (None if video is None else next(fused))
