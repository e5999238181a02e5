"""Where a training step's time goes, part by part, forward and backward: marks at modules' edges switch a watch."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mavil_edu.mavil import MAViL

REST = "the rest"  # what no part claims: patchify, masks put in order, joints between modules


def wait_for(device: torch.device) -> None:
    """Returns when a device that computes on its own has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Seconds by part: at any time one part runs, and `switch` says which is next. It waits for the device at each switch."""

    def __init__(self, device: torch.device):
        self.device, self.part, self.since = device, REST, time.perf_counter()
        self.seconds: dict[str, float] = defaultdict(float)

    def switch(self, part: str) -> None:
        wait_for(self.device)
        now = time.perf_counter()
        self.seconds[self.part] += now - self.since
        self.part, self.since = part, now

    def take(self) -> dict[str, float]:
        """The seconds since the last time, by part; the watch begins anew with the rest."""
        self.switch(REST)
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


class _Mark(torch.autograd.Function):
    """Changes nothing; on the way back it switches a watch."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, watch: Stopwatch, part: str) -> Tensor:
        ctx.watch, ctx.part = watch, part
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        ctx.watch.switch(ctx.part)
        return gradient, None, None


def _marked(value: Any, watch: Stopwatch, part: str) -> Any:
    """The value with a mark on each tensor in it that gets a gradient."""
    if isinstance(value, Tensor):
        return _Mark.apply(value, watch, part) if value.requires_grad else value
    if isinstance(value, tuple):
        parts = [_marked(one, watch, part) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def modules_of(model: MAViL) -> dict[str, list[nn.Module]]:
    """The modules of each part. An encoder less its blocks is the embedding."""
    encoders = [model.audio_encoder, model.video_encoder]
    return {
        "embed": encoders,
        "encoders": [encoder.transformer for encoder in encoders],
        "fusion": [model.fusion],
        "decoders": [model.audio_decoder, model.video_decoder],
        "heads": [model.audio_head, model.video_head],
    }


@contextmanager
def watching(model: MAViL, watch: Stopwatch) -> Iterator[None]:
    """While the block runs, the model's parts switch the watch when they begin and end, forward and backward; gradients stay the same."""
    outer: list[str] = []  # parts that are interrupted by the one that runs

    def begin(part: str) -> Callable:
        def hook(_module: nn.Module, arguments: tuple) -> tuple:
            outer.append(watch.part)
            arguments = _marked(arguments, watch, outer[-1])  # backward, what lies before it follows here
            watch.switch(part)
            return arguments

        return hook

    def end(part: str) -> Callable:
        def hook(_module: nn.Module, _arguments: tuple, output: Any) -> Any:
            watch.switch(outer.pop())
            return _marked(output, watch, part)

        return hook

    hooks = []
    for part, modules in modules_of(model).items():
        for module in modules:
            hooks += [module.register_forward_pre_hook(begin(part)), module.register_forward_hook(end(part))]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
