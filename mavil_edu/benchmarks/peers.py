"""A masked autoencoder's step beside transformers' VideoMAE and ViTMAE, set alike: tokens, sizes, share hidden, batch, loss."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from math import isqrt
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mavil_edu.benchmarks.interleaved import interleaved, ratio, spread, told
from mavil_edu.config import AudioConfig, Config, TransformerConfig, VideoConfig
from mavil_edu.decoder import Decoder
from mavil_edu.encoder import Encoder
from mavil_edu.hardware import Memory, matrix_peak
from mavil_edu.losses import masked_mse, normalise_patches
from mavil_edu.masking import random_mask, visible_count
from mavil_edu.memory import give_back, keep_freed_memory
from mavil_edu.patches import input_shape, patchify
from mavil_edu.processes import join, machine
from mavil_edu.transformer import initialise

WAYS = ("ours", "eager", "sdpa")  # the last two are transformers' ways to compute attention
MEMORY_STEPS = 3
SAME = "tokens, visible tokens, widths, depths, heads, patch values, batch, per-patch normalised targets, mean over hidden places, float32"
DIFFERENCES = {
    "videomae": "VideoMAE embeds hidden patches too, has no class token, computes q, k and v apart and k without bias, ends its encoder "
    "with a norm, predicts hidden places only, and normalises its targets colour by colour.",
    "vitmae": "ViTMAE embeds hidden patches too, computes q, k and v apart, and ends its encoder with a norm; it predicts all places, "
    "as ours.",
}


class Work(NamedTuple):
    """What all of them are to do."""

    inputs: AudioConfig | VideoConfig
    encoder: TransformerConfig
    decoder: TransformerConfig
    visible: int  # tokens of each clip that are not hidden
    batch: int


def work_for(peer: str, config: Config, batch: int) -> Work:
    """The preset's work in the peer's reach: `videomae` takes square patches of frames, `vitmae` a square grid of square patches.

    Where the preset's patches are not square, the nearest ones are taken: of `tiny` 4 × 4 × 4 tubelets of 2 × 8 × 8 for 8 × 1 × 8 columns,
    which are as many tokens of as many values. Sound has 8 × 8 or (`paper`) 22 × 22 = 484 of its 32 × 2 or 64 × 8 patches.
    """
    model, objective = config.model, config.objective
    if peer == "videomae":
        inputs, share = model.video, objective.video_ratio
        if inputs.patch_height != inputs.patch_width:
            times, side = inputs.frames // 2, isqrt(inputs.patch_values // 6)  # two frames of three colours
            across = side * isqrt(inputs.tokens // times)
            inputs = VideoConfig(frames=inputs.frames, height=across, width=across, patch_frames=2, patch_height=side, patch_width=side)
    else:
        side, share = isqrt(model.audio.patch_values), objective.audio_ratio
        across = side * isqrt(model.audio.tokens)
        inputs = AudioConfig(frames=across, mel_bins=across, patch_frames=side, patch_bins=side)
    return Work(inputs, model.encoder, model.decoder, visible_count(inputs.tokens, share), batch)


class PlainMAE(nn.Module):
    """One modality's masked autoencoder: the package's encoder and decoder, no fusion, no contrast."""

    def __init__(self, work: Work):
        super().__init__()
        self.inputs = work.inputs
        self.encoder = Encoder(work.inputs, work.encoder)
        self.decoder = Decoder(work.inputs, work.encoder.width, work.decoder, work.inputs.patch_values)
        self.apply(initialise)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The loss of a batch: spectrograms or clips as `patchify` takes them, and (b, n) bool."""
        patches = patchify(x, self.inputs)
        return masked_mse(self.decoder(self.encoder(patches, mask), mask), normalise_patches(patches), mask)


def _transformers() -> Any:
    try:
        import transformers  # heavy, and an extra
    except ModuleNotFoundError as missing:
        raise ValueError("This benchmark needs transformers: pip install 'mavil-edu[bench]'.") from missing
    return transformers


def make_peer(peer: str, work: Work, attention: str) -> nn.Module:
    """transformers' model for pre-training, freshly initialised, at the sizes of the work. attention: eager or sdpa.

    Raises ValueError where transformers is not installed.
    """
    transformers = _transformers()
    inputs, encoder, decoder = work.inputs, work.encoder, work.decoder
    sizes = {
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.depth,
        "num_attention_heads": encoder.heads,
        "intermediate_size": int(encoder.width * encoder.mlp_ratio),
        "decoder_hidden_size": decoder.width,
        "decoder_num_hidden_layers": decoder.depth,
        "decoder_num_attention_heads": decoder.heads,
        "decoder_intermediate_size": int(decoder.width * decoder.mlp_ratio),
        "layer_norm_eps": 1e-6,
        "norm_pix_loss": True,
    }
    if isinstance(inputs, VideoConfig):
        config = transformers.VideoMAEConfig(
            image_size=inputs.height, patch_size=inputs.patch_height, num_frames=inputs.frames, tubelet_size=inputs.patch_frames, **sizes
        )
    else:
        share = 1 - (work.visible + 0.5) / inputs.tokens  # ViTMAE rounds down, which is exact from the middle
        config = transformers.ViTMAEConfig(
            image_size=inputs.frames, patch_size=inputs.patch_frames, num_channels=1, mask_ratio=share, **sizes
        )
    model = transformers.AutoModelForPreTraining.from_config(config, attn_implementation=attention)
    if model.config._attn_implementation != attention:
        raise ValueError(f"transformers {version('transformers')} has no {attention} attention for {peer}; install another version.")
    return model.train()


def noise_for(work: Work, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch of noise, as `patchify` takes it, and its mask."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(work.batch, *input_shape(work.inputs), generator=generator)
    mask = random_mask(work.batch, work.inputs.tokens, 1 - work.visible / work.inputs.tokens, generator)
    return x.to(device), mask.to(device)


def loss_of(model: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """The loss of ours or of a peer on one batch: the same numbers, the same places hidden."""
    if isinstance(model, PlainMAE):
        return model(x, mask)
    if x.ndim == 5:
        return model(rearrange(x, "b c t h w -> b t c h w"), mask).loss
    order = torch.arange(mask.shape[1], device=mask.device) / (2 * mask.shape[1])
    return model(x, noise=mask + order).loss  # ViTMAE keeps the tokens of the least noise, in its order


def make(way: str, peer: str, work: Work, device: torch.device) -> tuple[nn.Module, Callable[[], None]]:
    """A model, and what is timed: the gradients of one batch, written anew."""
    torch.manual_seed(0)
    model = (PlainMAE(work) if way == "ours" else make_peer(peer, work, way)).to(device)
    x, mask = noise_for(work, device)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss_of(model, x, mask).backward()

    return model, step


def multiply_adds(way: str, peer: str, work: Work) -> int:
    """Multiply-adds of a step as torch counts them, forward and backward, attention's products among them."""
    _, step = make(way, peer, work._replace(batch=1), torch.device("cpu"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others compute attention anew on the way back
        step()
    return work.batch * counter.get_total_flops() // 2


def peak_megabytes(way: str, peer: str, work: Work, threads: int) -> float:
    """The most memory that weights, gradients and steps hold, beside what the process held before; to be called in a process of its own."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    _transformers()  # both with the same imports
    device = join().device
    make(way, peer, work._replace(encoder=TransformerConfig(24, 1, 1), decoder=TransformerConfig(24, 1, 1)), device)[1]()  # … all of them
    memory = Memory(device)
    give_back()
    memory.reset()
    before = memory.peak()
    _, step = make(way, peer, work, device)
    for _ in range(MEMORY_STEPS):
        step()
    return memory.peak() - before


def _measured(peer: str, work: Work, rounds: int, device: torch.device) -> dict[str, Any]:
    made = {way: make(way, peer, work, device) for way in WAYS}
    peak = matrix_peak(device, torch.float32)
    took = interleaved({way: step for way, (_, step) in made.items()}, rounds, device)
    peak = max(peak, matrix_peak(device, torch.float32))
    found: dict[str, Any] = {"tflops_of_matrix_products": peak.tflops}
    for way, (model, _) in made.items():
        counted, wall = multiply_adds(way, peer, work), took[way].wall
        found[way] = {
            "ms": spread([1000 * second for second in wall]),
            "cpu_ms": spread([1000 * second for second in took[way].cpu]),
            "multiply_adds": counted,
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
            "mfu": {
                name: 2e-12 * counted / second / peak.tflops
                for name, second in (("median", spread(wall)["median"]), ("fastest", min(wall)))
            },
        }
    for name, field in (("ratio", "wall"), ("cpu_ratio", "cpu")):
        found[name] = {way: ratio(getattr(took["ours"], field), getattr(took[way], field)) for way in WAYS[1:]}
    return found


def benchmark_peers(config: Config, peers: list[str], batch: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """`mavil-edu benchmark peers`: forward and backward of one batch of noise, ours and transformers', eager and SDPA, in turn.

    `ratio` is ours over theirs, round by round, in seconds, `cpu_ratio` in CPU seconds of this process, which other programs disturb less.
    `mfu` is what torch counts over the time, over the machine's fastest matrix product in the same run. Memory is of one process each.
    Raises ValueError for numbers below 1, and where transformers is not installed.
    """
    if batch < 1 or rounds < 1:
        raise ValueError(f"A benchmark needs 1 clip and round or more ({batch}, {rounds}).")
    _transformers()
    device, found = join().device, {}
    keep_freed_memory()
    for peer in dict.fromkeys(peers):
        work = work_for(peer, config, batch)
        say(f"timing {peer} and ours, {work.inputs.tokens} tokens, {work.visible} visible")
        found[peer] = _measured(peer, work, rounds, device)
        for way in WAYS:
            say(f"memory of {way}")
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                found[peer][way]["megabytes"] = pool.submit(peak_megabytes, way, peer, work, torch.get_num_threads()).result()
        found[peer] |= {"tokens": work.inputs.tokens, "visible": work.visible, "patch_values": work.inputs.patch_values}
        found[peer]["differences"] = DIFFERENCES[peer]
    return {
        "machine": machine(device),
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "batch": batch,
        "rounds": rounds,
        "same": SAME,
        "peers": found,
    }


def table(answer: dict[str, Any]) -> str:
    """The numbers as text: a line a way."""
    lines = [
        f"forward and backward of {answer['batch']} clips, {answer['rounds']} rounds in turn, {answer['machine']}, "
        f"torch {answer['torch']}, transformers {answer['transformers']}",
        f"alike: {answer['same']}",
    ]
    for peer, one in answer["peers"].items():
        lines += [
            "",
            f"{peer}: {one['tokens']} tokens, {one['visible']} visible; matrix products: {one['tflops_of_matrix_products']:.3g} TFLOP/s",
            f"{'':<7}{'ms (quartiles)':>24}{'ours / it':>20}{'in CPU seconds':>20}{'of peak':>9}{'fastest':>9}{'G m-adds':>10}{'MB':>7}",
        ]
        for way in WAYS:
            this = one[way]
            both = ["", ""] if way == "ours" else [told(one[name][way]) for name in ("ratio", "cpu_ratio")]
            lines.append(
                f"{way:<7}{told(this['ms'], 1):>24}{both[0]:>20}{both[1]:>20}{100 * this['mfu']['median']:>7.0f} %"
                f"{100 * this['mfu']['fastest']:>7.0f} %{this['multiply_adds'] / 1e9:>10.4g}{this['megabytes']:>7.0f}"
            )
        lines.append(f"not alike: {one['differences']}")
    return "\n".join(lines)
