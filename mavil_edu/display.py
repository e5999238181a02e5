"""Players for notebooks and reports: they play in a page that has not been run, and each says what it holds in a sentence."""

import base64
import html
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import media
from mavil_edu.config import SAMPLE_RATE

SHORT = 24_000  # samples; a sound up to this is put into a page as WAV, a longer one as MP3, which takes a quarter of the bytes


@dataclass(frozen=True)
class Player:
    """Sound or video inline in a page, with its caption; `sentence` is its plain-text twin."""

    html: str
    sentence: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.sentence}


def _element(tag: str, kind: str, data: bytes, sentence: str, size: str = "") -> str:
    """`src` on the element itself, and its name as `title`: Jupyter strips `<source src>` and `aria-label` from untrusted notebooks."""
    encoded, text = base64.b64encode(data).decode(), html.escape(sentence)
    return (
        f'<figure style="margin:0"><{tag} controls preload="metadata" title="{text}"{size} src="data:{kind};base64,{encoded}"></{tag}>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _bytes_of(suffix: str, write) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"media{suffix}"
        write(path)
        return path.read_bytes()


def sound_sentence(waveform: Tensor, caption: str) -> str:
    """What a sound is like: its length, its level in dB of full scale, and its strongest frequency.

    waveform: (samples,) in [−1, 1], 16 kHz. Raises ValueError where there are no samples.
    """
    if not len(waveform):
        raise ValueError(f"{caption}: the sound has no samples; there is nothing to play.")
    if not bool(waveform.any()):
        return f"{caption}: {len(waveform) / SAMPLE_RATE:.2f} s of silence."
    level = 10 * float(torch.log10(waveform.square().mean() + 1e-12))
    spectrum = torch.fft.rfft(waveform * torch.hann_window(len(waveform))).abs()
    strongest = float(spectrum.argmax()) * SAMPLE_RATE / len(waveform)
    seconds = len(waveform) / SAMPLE_RATE
    return f"{caption}: sound of {seconds:.2f} s, {level:.0f} dB of full scale, strongest near {round(strongest, -1):.0f} Hz."


def player(waveform: Tensor, caption: str) -> Player:
    """A player for a waveform (samples,) float32 in [−1, 1], 16 kHz; WAV up to 1.5 s, MP3 beyond."""
    waveform = waveform.detach().cpu()
    sentence = sound_sentence(waveform, caption)
    kind, suffix, write = ("audio/wav", ".wav", media.write_wav) if len(waveform) <= SHORT else ("audio/mpeg", ".mp3", media.write_mp3)
    return Player(_element("audio", kind, _bytes_of(suffix, lambda path: write(path, waveform)), sentence), sentence)


def video_player(frames: Tensor, frame_rate: float, waveform: Tensor | None, caption: str, width: int = 240) -> Player:
    """A player for frames (t, height, width, 3) uint8 with, or without, their sound: H.264 and MP3 in MP4."""
    t, rows, columns = frames.shape[:3]
    sound = "without sound" if waveform is None else "with sound"
    sentence = f"{caption}: video of {t / frame_rate:.2f} s, {t} frames of {columns} × {rows}, {sound}."
    data = _bytes_of(".mp4", lambda p: media.write_mp4(p, frames, frame_rate, waveform, quality=28))
    return Player(_element("video", "video/mp4", data, sentence, f' width="{width}" playsinline'), sentence)
