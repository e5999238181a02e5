"""One modality's encoder: keep the visible patches, embed them, add positions and the class token, encode."""

from typing import NamedTuple

import torch
from einops import pack, repeat, unpack
from torch import Tensor, nn

from mavil_edu.config import AudioConfig, TransformerConfig, VideoConfig
from mavil_edu.masking import keep_visible
from mavil_edu.positions import sincos_positions
from mavil_edu.transformer import Transformer


class Tokens(NamedTuple):
    """What stands for one modality of a batch of clips."""

    class_token: Tensor  # (b, 1, d)
    patch_tokens: Tensor  # (b, k, d): k visible tokens, or all n

    def pool(self) -> Tensor:
        """The mean over the patch tokens, class token left out: (b, d). Needs at least one patch token."""
        return self.patch_tokens.mean(dim=1)


class Encoder(nn.Module):
    """A ViT over the visible patches of a spectrogram or of a clip."""

    def __init__(self, inputs: AudioConfig | VideoConfig, transformer: TransformerConfig):
        super().__init__()
        self.patch_embed = nn.Linear(inputs.patch_values, transformer.width)
        self.class_token = nn.Parameter(torch.empty(transformer.width).normal_(std=0.02))
        self.register_buffer("positions", sincos_positions(inputs.grid, transformer.width))  # saved: a released model brings its own
        self.transformer = Transformer(transformer)

    def forward(
        self, patches: Tensor, mask: Tensor | None = None, maps: dict | None = None, name: str = "encoder", layers: dict | None = None
    ) -> Tokens:
        """Encodes the visible patches; without a mask, all of them.

        patches: (b, n, values). mask: (b, n) bool, True = hidden. Hidden patches are dropped before anything is computed,
        so nothing of them can reach the visible tokens.
        """
        positions = repeat(self.positions[1:], "n d -> b n d", b=len(patches))
        if mask is not None:
            patches, positions = keep_visible(patches, mask), keep_visible(positions, mask)
        patch_tokens = self.patch_embed(patches) + positions
        class_token = repeat(self.class_token + self.positions[0], "d -> b 1 d", b=len(patches))
        x, shapes = pack([class_token, patch_tokens], "b * d")
        return Tokens(*unpack(self.transformer(x, maps, name, layers), shapes, "b * d"))
