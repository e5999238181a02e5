"""Where audio and video tokens meet: joint attention over both, bottlenecks (MBT), or not at all."""

import torch
from einops import pack, reduce, repeat, unpack
from torch import Tensor, nn

from mavil_edu.config import ModelConfig, TransformerConfig
from mavil_edu.encoder import Tokens
from mavil_edu.transformer import Transformer, multiply_adds


class JointFusion(nn.Module):
    """Blocks over [audio class, audio tokens, video class, video tokens], the paper's vanilla fusion [P, C]."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)

    def forward(
        self, audio: Tokens | None, video: Tokens | None, maps: dict | None = None, layers: dict | None = None
    ) -> tuple[Tokens | None, Tokens | None]:
        """Fuses the tokens of both modalities; where one is None, the other passes through alone."""
        present = [tokens for tokens in (audio, video) if tokens is not None]
        x, shapes = pack([part for tokens in present for part in tokens], "b * d")
        parts = unpack(self.transformer(x, maps, "fusion", layers), shapes, "b * d")
        fused = iter([Tokens(*parts[i : i + 2]) for i in range(0, len(parts), 2)])
        return (None if audio is None else next(fused)), (None if video is None else next(fused))

    def multiply_adds(self, audio: int, video: int) -> int:
        """Of one clip's pass with so many tokens in each modality, class tokens counted."""
        return multiply_adds(self.config, audio + video)


class BottleneckFusion(nn.Module):
    """Each modality attends to itself and to a few shared tokens, which are averaged across modalities after each layer: MBT.

    So all that passes between sound and picture passes through the bottlenecks, and it needs two layers: in the first each modality
    writes into its copy of them, after it the copies are averaged, in the second the other modality reads. That MAViL may fuse so is
    known [P]; each modality has blocks of its own as in MBT's paper (Nagrani et al. 2021, recalled [R]); whether MAViL's shares them
    is not known to us, nor the number of bottlenecks [O].
    """

    def __init__(self, config: TransformerConfig, bottlenecks: int):
        super().__init__()
        self.config = config
        self.bottlenecks = nn.Parameter(torch.empty(bottlenecks, config.width).normal_(std=0.02))
        self.audio = Transformer(config)
        self.video = Transformer(config)

    def forward(
        self, audio: Tokens | None, video: Tokens | None, maps: dict | None = None, layers: dict | None = None
    ) -> tuple[Tokens | None, Tokens | None]:
        """Fuses the tokens of both modalities; where one is None, the other passes alone, with bottlenecks that only it writes.

        maps, layers: dicts that are filled with the attention maps and with the tokens after each layer, layer i's as
        "fusion.audio.i" and "fusion.video.i", each over [class, tokens, bottlenecks] (before these are averaged).
        """
        streams = {name: tokens for name, tokens in (("audio", audio), ("video", video)) if tokens is not None}
        rows = len(next(iter(streams.values())).class_token)
        shared = repeat(self.bottlenecks, "m d -> b m d", b=rows)
        for i in range(self.config.depth):
            written = []
            for name, tokens in streams.items():
                x, shapes = pack([*tokens, shared], "b * d")
                x = getattr(self, name).blocks[i](x, maps, f"fusion.{name}.{i}")
                if layers is not None:
                    layers[f"fusion.{name}.{i}"] = x
                *own, bottlenecks = unpack(x, shapes, "b * d")
                streams[name] = Tokens(*own)
                written.append(bottlenecks)
            shared = self.exchange(written)
        return streams.get("audio"), streams.get("video")

    @staticmethod
    def exchange(written: list[Tensor]) -> Tensor:
        """What the next layer reads: the mean of the modalities' bottlenecks, (b, m, d) each -> (b, m, d)."""
        return reduce(written, "modality b m d -> b m d", "mean")

    def multiply_adds(self, audio: int, video: int) -> int:
        """Of one clip's pass with so many tokens in each modality, class tokens counted."""
        return sum(multiply_adds(self.config, tokens + len(self.bottlenecks)) for tokens in (audio, video))


class NoFusion(nn.Module):
    """Tokens pass unchanged: two masked autoencoders side by side, for comparison [O]."""

    def forward(
        self, audio: Tokens | None, video: Tokens | None, maps: dict | None = None, layers: dict | None = None
    ) -> tuple[Tokens | None, Tokens | None]:
        return audio, video

    def multiply_adds(self, audio: int, video: int) -> int:
        return 0


def make_fusion(config: ModelConfig) -> JointFusion | BottleneckFusion | NoFusion:
    """The fusion that a model's config names."""
    if config.fusion_kind == "bottleneck":
        return BottleneckFusion(config.fusion, config.bottlenecks)
    return JointFusion(config.fusion) if config.fusion_kind == "joint" else NoFusion()
