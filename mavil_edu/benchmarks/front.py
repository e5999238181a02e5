"""The front ends beside what one would write first: the media reader and plain PyAV loops, the log-mel and torchaudio's function."""

import tempfile
from pathlib import Path
from typing import Any

import av
import torch
from einops import rearrange
from torch import Tensor

from mavil_edu.audio import log_mel
from mavil_edu.benchmarks.data import plain_loop
from mavil_edu.benchmarks.interleaved import interleaved, ratio, spread, told
from mavil_edu.config import SAMPLE_RATE, Config
from mavil_edu.data.source import usable_files
from mavil_edu.data.windows import short_side
from mavil_edu.data.world import write_world
from mavil_edu.media import read_clip
from mavil_edu.processes import machine

EQUAL = 1e-3  # the most that a log-mel value may differ from Kaldi's
CPU = torch.device("cpu")


def plain_window(path: Path, audio_seconds: float, video_seconds: float) -> int:
    """What one would write next: PyAV seeks to the windows in the clip's middle, and decodes and converts all that lies in them.

    Returns how many frames, of sound and picture together, lay there.
    """
    found, longest = 0, max(audio_seconds, video_seconds)
    with av.open(str(path)) as container:
        middle = (container.duration or 0) / av.time_base / 2
        container.seek(round(max(0.0, middle - longest / 2) * av.time_base))
        resampler = av.AudioResampler("flt", "mono", SAMPLE_RATE)
        for frame in container.decode():
            pictures = isinstance(frame, av.VideoFrame)
            apart = (frame.time or 0.0) - middle
            if apart > longest / 2:
                break
            if abs(apart) <= (video_seconds if pictures else audio_seconds) / 2:
                frame.to_ndarray(format="rgb24") if pictures else resampler.resample(frame)
                found += 1
    return found


def benchmark_decode(config: Config, data: Path | None, clips: int, seconds: float, rounds: int) -> dict[str, Any]:
    """`mavil-edu benchmark decode`: clips a second of our reader, of a plain loop over the same window, and over the whole clip.

    data: a folder of clips, or None: generated ones of so many seconds. Ratios are of seconds, ours over the loop's, round by round.
    The reader's pictures are the wanted ones only and shrunk; the loops keep every frame at full size, and lose what they meet of
    broken clips. Raises ValueError for numbers below 1, DataError where a folder holds no usable clip.
    """
    if min(clips, rounds) < 1 or seconds <= 0:
        raise ValueError(f"A benchmark needs 1 clip and round or more ({clips}, {rounds}), and clips longer than 0 s ({seconds:g}).")
    model = config.model
    with tempfile.TemporaryDirectory(prefix="mavil-edu-benchmark-") as place:
        if data is None:
            data = Path(place)
            write_world(data, clips, seed=0, seconds=seconds)
        paths = usable_files(data, model, 1.0)[0][:clips]
        lengths = model.audio.seconds, model.video.seconds
        side = short_side(model, config.train.augment)

        def ours() -> None:
            for path in paths:
                read_clip(path, *lengths, model.video.frames, short_side=side)

        def window() -> None:
            for path in paths:
                plain_window(path, *lengths)

        took = interleaved({"ours": ours, "window": window, "whole": lambda: plain_loop(paths)}, rounds)
    return {
        "machine": machine(CPU),
        "pyav": av.__version__,
        "clips": len(paths),
        "rounds": rounds,
        "windows_seconds": {"audio": lengths[0], "video": lengths[1]},
        "clips_per_second": {way: spread([len(paths) / second for second in one.wall]) for way, one in took.items()},
        "ratio": {way: ratio(took["ours"].wall, took[way].wall) for way in ("window", "whole")},
    }


def decode_table(answer: dict[str, Any]) -> str:
    """The numbers as text."""
    audio, video = answer["windows_seconds"].values()
    names = {"ours": "our reader", "window": "plain loop, same windows", "whole": "plain loop, whole clips"}
    lines = [
        f"{answer['clips']} clips, windows of {audio:g} s of sound and {video:g} s of pictures, {answer['rounds']} rounds in turn, "
        f"{answer['machine']}, PyAV {answer['pyav']}",
        f"{'':<26}{'clips/s (quartiles)':>24}{'seconds, ours / it':>24}",
    ]
    for way, name in names.items():
        over = told(answer["ratio"][way]) if way in answer["ratio"] else ""
        lines.append(f"{name:<26}{told(answer['clips_per_second'][way], 1):>24}{over:>24}")
    return "\n".join(lines)


def kaldi_log_mel(waveforms: Tensor, mel_bins: int) -> Tensor:
    """The paper's call of torchaudio's Kaldi function, a clip at a time: (b, samples) -> (b, frames, mel_bins)."""
    from torchaudio.compliance.kaldi import fbank

    how = {"htk_compat": True, "use_energy": False, "window_type": "hanning", "dither": 0.0, "frame_shift": 10}
    clips = ((waveform - waveform.mean())[None] for waveform in waveforms)
    return torch.stack([fbank(clip, num_mel_bins=mel_bins, sample_frequency=SAMPLE_RATE, **how) for clip in clips])


def _sounds(batch: int, samples: int) -> Tensor:
    """Noise, and a tone of another pitch in every clip: (batch, samples)."""
    noise = 0.05 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(0))
    pitch = rearrange(220.0 * 2 ** (torch.arange(batch) / 12), "b -> b 1")
    return noise + 0.1 * torch.sin(2 * torch.pi * pitch * torch.arange(samples) / SAMPLE_RATE)


def benchmark_fbank(batch: int, seconds: float, mel_bins: int, rounds: int) -> dict[str, Any]:
    """`mavil-edu benchmark fbank`: our batched log-mel and torchaudio's Kaldi function, clip by clip, in turn, on the same sounds.

    `equal` says whether no value differs by more than 0.001. Raises ValueError for numbers that no spectrogram comes from.
    """
    if min(batch, rounds) < 1 or seconds < 0.025:
        raise ValueError(f"A benchmark needs 1 clip and round or more ({batch}, {rounds}), and 0.025 s of sound ({seconds:g}).")
    waveforms = _sounds(batch, round(seconds * SAMPLE_RATE))
    apart = float((log_mel(waveforms, mel_bins) - kaldi_log_mel(waveforms, mel_bins)).abs().max())
    took = interleaved({"ours": lambda: log_mel(waveforms, mel_bins), "kaldi": lambda: kaldi_log_mel(waveforms, mel_bins)}, rounds)
    return {
        "machine": machine(CPU),
        "torch": torch.__version__,
        "batch": batch,
        "seconds": seconds,
        "mel_bins": mel_bins,
        "rounds": rounds,
        "ms": {way: spread([1000 * second for second in one.wall]) for way, one in took.items()},
        "ratio": ratio(took["ours"].wall, took["kaldi"].wall),
        "cpu_ratio": ratio(took["ours"].cpu, took["kaldi"].cpu),
        "largest_difference": apart,
        "equal": apart <= EQUAL,
    }


def fbank_table(answer: dict[str, Any]) -> str:
    """The numbers as text."""
    verdict = "equal" if answer["equal"] else "NOT EQUAL"
    return "\n".join(
        [
            f"{answer['batch']} sounds of {answer['seconds']:g} s, {answer['mel_bins']} bands, {answer['rounds']} rounds in turn, "
            f"{answer['machine']}, torch {answer['torch']}",
            f"our log-mel, the batch at once      {told(answer['ms']['ours'], 1):>24} ms",
            f"torchaudio's, a clip at a time      {told(answer['ms']['kaldi'], 1):>24} ms",
            f"ours / theirs: {told(answer['ratio'])}, in CPU seconds {told(answer['cpu_ratio'])}",
            f"largest difference {answer['largest_difference']:.2g} ({verdict} to {EQUAL:g})",
        ]
    )
