"""What `--fast` does: options that do less work than the paper's way, or the same work sooner, chosen together."""

from dataclasses import replace

import torch

from mavil_edu.config import Config

DECODED_SHARE = 0.25  # of the hidden patches
SECOND_RATIO = 0.9  # share that the second view hides, where a config leaves it at the first view's


def less_work(config: Config, fresh_decoder: bool = True) -> Config:
    """The config with less arithmetic a step: at `paper` half of it (`docs/fast.md` has the times, and what is learnt).

    A quarter of the hidden patches is decoded and scored, by cross-attention to the visible ones; a second view that hides as much as
    the first hides nine tenths. A second view of a ratio of its own keeps it. fresh_decoder: False where decoders are not new, and keep
    their kind of attention. All our choice [O]; the ideas are DiffMAViL's and CrossMAE's.
    """
    attention = "cross" if fresh_decoder else config.model.decoder_attention
    second = SECOND_RATIO if config.objective.second_ratio is None else config.objective.second_ratio
    share = DECODED_SHARE if config.objective.scored == "hidden" else 1.0
    return replace(
        config,
        model=replace(config.model, decoder_attention=attention),
        objective=replace(config.objective, decoded_share=share, second_ratio=second),
    )


def fast(config: Config, device: torch.device, fresh_decoder: bool = True) -> Config:
    """`less_work`, and on CUDA compiled blocks, and bf16 matrix products where the GPU has units for them.

    On a CPU neither is done: compiled blocks took as long as plain ones there (docs/fast.md). Nor are blocks compiled
    where weights are sharded: that was never tried.
    """
    config = less_work(config, fresh_decoder)
    if device.type != "cuda":
        return config
    bf16 = config.train.precision == "32-true" and torch.cuda.is_bf16_supported(including_emulation=False)
    precision = "bf16-mixed" if bf16 else config.train.precision
    return replace(config, train=replace(config.train, precision=precision, compile=not config.train.shard_weights))
