"""One modality's decoder: mask tokens come back, and every patch is predicted."""

import torch
from einops import pack, rearrange, unpack
from torch import Tensor, nn

from mavil_edu.config import AudioConfig, TransformerConfig, VideoConfig
from mavil_edu.encoder import Tokens
from mavil_edu.masking import put_back
from mavil_edu.positions import sincos_positions
from mavil_edu.transformer import Transformer


class Decoder(nn.Module):
    """A narrower ViT over all places, with a linear prediction for each."""

    def __init__(self, inputs: AudioConfig | VideoConfig, encoder_width: int, transformer: TransformerConfig, values: int):
        super().__init__()
        self.embed = nn.Linear(encoder_width, transformer.width)
        self.mask_token = nn.Parameter(torch.empty(transformer.width).normal_(std=0.02))
        self.register_buffer("positions", sincos_positions(inputs.grid, transformer.width))
        self.transformer = Transformer(transformer)
        self.norm = nn.LayerNorm(transformer.width, eps=1e-6)
        self.predict = nn.Linear(transformer.width, values)

    def forward(self, tokens: Tokens, mask: Tensor, maps: dict | None = None, name: str = "decoder") -> Tensor:
        """Predicts every patch, visible and hidden: tokens with (b, k, d) visible patches, mask (b, n) -> (b, n, values)."""
        class_token, visible = self.embed(tokens.class_token), self.embed(tokens.patch_tokens)
        x, shapes = pack([class_token, put_back(visible, mask, self.mask_token)], "b * d")
        x = self.transformer(x + rearrange(self.positions, "n d -> 1 n d"), maps, name)
        _, patch_tokens = unpack(x, shapes, "b * d")
        return self.predict(self.norm(patch_tokens))
