"""One modality's decoder: mask tokens come back, and patches are predicted: all, or those of some hidden places."""

import torch
from einops import pack, rearrange, repeat, unpack
from torch import Tensor, nn

from mavil_edu.config import AudioConfig, DecoderAttention, TransformerConfig, VideoConfig
from mavil_edu.encoder import Tokens
from mavil_edu.masking import at_places, put_back, visible_places
from mavil_edu.positions import sincos_positions
from mavil_edu.transformer import CrossTransformer, Transformer


class Decoder(nn.Module):
    """A narrower ViT over all places, with a linear prediction for each.

    With attention="cross" the places that are asked for look at the visible tokens, and not at one another: cheaper, and what is said of
    one place hangs on no other that is asked for [our choice, after DiffMAViL].
    """

    def __init__(
        self,
        inputs: AudioConfig | VideoConfig,
        encoder_width: int,
        transformer: TransformerConfig,
        values: int,
        attention: DecoderAttention = "self",
    ):
        super().__init__()
        self.embed = nn.Linear(encoder_width, transformer.width)
        self.mask_token = nn.Parameter(torch.empty(transformer.width).normal_(std=0.02))
        self.register_buffer("positions", sincos_positions(inputs.grid, transformer.width))
        self.crosses = attention == "cross"
        self.transformer = CrossTransformer(transformer) if self.crosses else Transformer(transformer)
        self.norm = nn.LayerNorm(transformer.width, eps=1e-6)
        self.predict = nn.Linear(transformer.width, values)

    def forward(
        self, tokens: Tokens, mask: Tensor, places: Tensor | None = None, maps: dict | None = None, name: str = "decoder"
    ) -> Tensor:
        """Predicts every patch, visible and hidden: tokens with (b, k, d) visible patches, mask (b, n) -> (b, n, values).

        places: (b, m) long, the hidden places that are asked for; the others take no part, and (b, m, values) is returned.
        """
        class_token, visible = self.embed(tokens.class_token), self.embed(tokens.patch_tokens)
        if places is None and not self.crosses:
            x, shapes = pack([class_token, put_back(visible, mask, self.mask_token)], "b * d")
            x = self.transformer(x + rearrange(self.positions, "n d -> 1 n d"), maps, name)
            _, patch_tokens = unpack(x, shapes, "b * d")
            return self.predict(self.norm(patch_tokens))
        positions = repeat(self.positions[1:], "n d -> b n d", b=len(mask))
        given, shapes = pack([class_token + self.positions[0], visible + at_places(positions, visible_places(mask))], "b * d")
        asked = self.mask_token + (positions if places is None else at_places(positions, places))
        if self.crosses:
            asked = self.transformer(asked, given, maps, name)
        else:
            x, shapes = pack([given, asked], "b * d")
            _, asked = unpack(self.transformer(x, maps, name), shapes, "b * d")
        return self.predict(self.norm(asked))
