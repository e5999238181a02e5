"""The cost explorer: what a run takes on so many devices of a kind, with a network of a speed, and what they wait for meanwhile."""

from dataclasses import replace
from typing import Any

from ipywidgets import BoundedIntText, Layout

from mavil_edu.config import Config
from mavil_edu.cost import Plan, Rate, Reading, predict
from mavil_edu.explorers.widgets import Explorer, Shown, choice
from mavil_edu.figures import BLUE, GREEN, INK, ORANGE, PAPER, TRACE, _axes
from mavil_edu.overlay import Overlay

KINDS = {"V100": 125.0, "A100": 312.0, "H100": 989.0}  # 10^12 operations a second in 16 bits, as their maker states them [O]
NETWORKS = {"2.5 GB/s": 2.5, "25 GB/s": 25.0, "250 GB/s": 250.0}  # that a device sends: 20 to 2,000 Gbit/s
NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
AT_ONCE = 32  # clips on one device, at most; more are taken in rounds
COLOURS = {"arithmetic": BLUE, "exchange": ORANGE, "held-out clips": TRACE, "checkpoints": GREEN}
LIMITS = (0.1, 1000.0)  # hours on the axis


class CostView:
    """Hours over the number of devices, one number marked, and the shares of its time; drawn quickly again and again."""

    def __init__(self) -> None:
        figure, axes = _axes(8.8, 2.7, 1, 2, width_ratios=[1.6, 1])
        self._hours, self._shares = axes[0]
        self._hours.set(xscale="log", yscale="log", xlim=(0.85, 600), ylim=LIMITS)
        self._hours.set_xticks(NUMBERS, [str(number) for number in NUMBERS])
        self._hours.minorticks_off()
        self._hours.set_xlabel("devices; dotted: as fast as their number", fontsize=8, color=INK)
        self._hours.set_ylabel("hours", fontsize=8, color=INK)
        self._shares.set(xlim=(0, 100), ylim=(len(COLOURS) - 0.4, -0.6), yticks=range(len(COLOURS)), yticklabels=list(COLOURS))
        self._shares.set_xlabel("share of the time at the mark, %", fontsize=8, color=INK)
        self._overlay = Overlay(figure)

    def png(self, hours: list[float], marked: int, shares: dict[str, float]) -> bytes:
        """hours: for each of NUMBERS. marked: the place of one of them. shares: percents by the names of COLOURS."""
        lines = self._hours
        artists = lines.plot(NUMBERS, [hours[0] / number for number in NUMBERS], color=INK, linewidth=0.9, linestyle=":")
        artists += lines.plot(NUMBERS, hours, color=BLUE, linewidth=1.6, marker="o", markersize=3)
        artists += lines.plot(NUMBERS[marked], hours[marked], "o", markersize=9, markerfacecolor=PAPER, markeredgecolor=ORANGE)
        values = [shares.get(name, 0.0) for name in COLOURS]
        artists += list(self._shares.barh(range(len(values)), values, color=list(COLOURS.values()), height=0.7))
        return self._overlay.png(artists)


def planned(config: Config, clips: int, epochs: int, devices: int, tflops: float, gigabytes_a_second: float) -> dict[str, Any]:
    """`cost.predict` of the run: a device takes at most 32 clips at once, and a checkpoint is written every 2,000 steps.

    Raises ValueError where the devices do not share the batch.
    """
    rounds = max(1, config.train.batch // (devices * AT_ONCE))
    config = replace(config, train=replace(config.train, accumulate=rounds, save_every=2000))
    return predict(config, Plan(clips, epochs, devices, gigabytes_a_second=gigabytes_a_second), Rate(tflops), Reading())


def cost_explorer(config: Config, clips: int, epochs: int, devices: int = 64, kind: str = "H100", share: int = 40) -> Explorer:
    """Choose how many devices, of which kind, what share of their peak a step reaches, and their network: see hours and what is waited for.

    config: whose batch is a multiple of 512. devices: one of NUMBERS, chosen first, as are kind (of KINDS) and share (percent).
    Rates are stated and not measured, as `cost.predict` has them. Raises ValueError for another batch, number or kind.
    """
    if config.train.batch % NUMBERS[-1] or devices not in NUMBERS or kind not in KINDS:
        raise ValueError(
            f"The batch is {config.train.batch}, the devices {devices} of kind {kind!r}; give a batch that is a multiple of {NUMBERS[-1]}, "
            f"devices of {', '.join(map(str, NUMBERS))}, and a kind of {', '.join(KINDS)}."
        )
    view = CostView()

    def show(devices: int, tflops: float, share: int, network: float) -> Shown:
        found = {number: planned(config, clips, epochs, number, tflops * share / 100, network) for number in NUMBERS}
        hours, one = [run["hours"] for run in found.values()], found[devices]
        shares = {name: 100 * value / 3600 / one["hours"] for name, value in one["seconds"].items() if value}
        named = next(name for name, peak in KINDS.items() if peak == tflops)
        parts = ", ".join(f"{name} {value:.0f} %" for name, value in shares.items())
        sentence = (
            f"{devices} {named} at {share} % of their peak, {network:g} GB/s: {one['hours']:.1f} hours, "
            f"{one['device_hours']:.0f} of one device, {hours[0] / one['hours']:.1f} times as fast as one; {parts}; "
            f"{one['memory_megabytes']['peak'] * 2**20 / 1e9:.0f} GB on each."
        )
        return Shown(sentence, view.png(hours, NUMBERS.index(devices), shares))

    controls = {
        "devices": choice({str(number): number for number in NUMBERS}, devices, "Devices"),
        "tflops": choice(KINDS, KINDS[kind], "Kind"),
        "share": BoundedIntText(value=share, min=5, max=100, step=5, description="Share of the peak, %", layout=Layout(width="15em")),
        "network": choice(NETWORKS, 25.0, "Network"),
    }
    return Explorer(controls, show)
