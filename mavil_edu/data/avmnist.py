"""AV-MNIST: real spoken digits paired with real handwriting, in memory.

The pairing is by digit, not by event; the picture does not move. The sound is that of the Free Spoken Digit Dataset
(CC BY-SA 4.0: whatever is made of it and handed on keeps this licence), the pictures are MNIST's test images, writers by QMNIST.
"""

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from einops import repeat
from torch import Generator, Tensor

from mavil_edu import video
from mavil_edu.config import SAMPLE_RATE, AugmentConfig, ModelConfig
from mavil_edu.data.batch import Labels, Sample, augment_sample
from mavil_edu.data.listing import ListError, read_rows

SOUND_FILE, PICTURE_FILE = "audio_fsdd.npz", "images_mnist_t10k.npz"
COLUMNS = ("audio_index", "image_index", "label", "speaker", "take", "writer", "hsf")  # of the pairs
SPLITS = ("train", "val", "test")
REMEDY = "Build the data set anew: mavil-edu avmnist --out FOLDER"

Split = Literal["train", "val", "test"]
Protocol = Literal["speaker", "official"]


class Pair(NamedTuple):
    """One clip: a recording and a picture of the same digit."""

    audio_index: int
    image_index: int
    label: int
    speaker: str
    take: int
    writer: int
    hsf: int  # 0: census staff, 4: students


def pairs_file(protocol: str, split: str) -> str:
    return f"pairs_{protocol}_{split}.csv"


def is_avmnist(folder: Path) -> bool:
    """Whether a folder holds this data set."""
    return (folder / SOUND_FILE).is_file() and (folder / PICTURE_FILE).is_file()


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of one split. Raises ListError with file and line."""
    header, *rows = read_rows(path)
    if tuple(header.fields) != COLUMNS or not rows:
        raise ListError(f"{path}, line {header.number}: the columns are not {', '.join(COLUMNS)}, or nothing follows them. {REMEDY}")
    pairs = []
    for row in rows:
        try:
            audio, image, label, speaker, *rest = row.fields
            pairs.append(Pair(int(audio), int(image), int(label), speaker, *map(int, rest)))
        except (ValueError, TypeError) as error:
            raise ListError(f"{path}, line {row.number}: {row.line!r} is no pair of the {len(COLUMNS)} columns. {REMEDY}") from error
    return pairs


def _arrays(path: Path, *names: str) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return [stored[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}). {REMEDY}") from error


def peak_normalised(recording: np.ndarray, rate: int) -> Tensor:
    """One recording at 16 kHz with its greatest magnitude at 1: (samples,) float32; silence stays silence.

    recording: (n,) int16. Two of the speakers were recorded some ten times quieter than the others, which an untrained classifier
    would else learn in place of the digits (accuracy on new speakers 0.43 against 0.83, logistic regression).
    """
    from torchaudio.functional import resample

    waveform = resample(torch.from_numpy(recording.astype(np.float32) / 32768), rate, SAMPLE_RATE)
    return waveform / waveform.abs().max().clamp_min(1e-9)


class AVMNIST:
    """Spoken and written digits of one split; see `mavil_edu.data.batch.Clips`.

    folder: as `mavil-edu avmnist` writes it. protocol: "speaker", where speakers and writers of the splits are disjoint, or "official", the
    recordings' own rule by takes, where only writers are. A recording is resampled to 16 kHz and peak-normalised. Shorter than
    the model's window, it stands in its middle, in training at a random place; `heard` tells where, and the rest is zeros, which no content
    mask counts. A longer one gives its middle, in training a random part. The picture, grey in three equal channels, is the same in
    all frames. It is never mirrored, whatever `augment` says: a mirrored 2 is no digit. labels: "digit", "speaker", "writer".
    Raises ValueError with a sentence where the folder is not what it should be.
    """

    def __init__(self, folder: Path, split: Split, model: ModelConfig, augment: AugmentConfig, protocol: Protocol = "speaker"):
        self.model, self.augment = model, replace(augment, flip=False)
        file = folder / pairs_file(protocol, split)
        if not file.is_file():
            raise ValueError(f"{folder} is no AV-MNIST folder: there is no {file.name} in it. {REMEDY}")
        self.pairs = read_pairs(file)
        samples, offsets, spoken, rate = _arrays(folder / SOUND_FILE, "samples", "offsets", "label", "sample_rate")
        images, written = _arrays(folder / PICTURE_FILE, "images", "label")
        for pair in self.pairs:
            if not (0 <= pair.audio_index < len(spoken) and 0 <= pair.image_index < len(written)):
                raise ValueError(
                    f"{file} names recording {pair.audio_index} and image {pair.image_index}, not both of which exist. {REMEDY}"
                )
            if not spoken[pair.audio_index] == written[pair.image_index] == pair.label:
                raise ValueError(f"{file} pairs recording {pair.audio_index} with image {pair.image_index}, another digit. {REMEDY}")
        recordings = (samples[offsets[pair.audio_index] : offsets[pair.audio_index + 1]] for pair in self.pairs)
        self.waveforms = [peak_normalised(recording, int(rate)) for recording in recordings]
        grey = torch.from_numpy(images[[pair.image_index for pair in self.pairs]])
        self.pictures = video.fit(repeat(grey, "b h w -> b h w c", c=3), model.video)[..., 0].contiguous()  # (b, height, width) uint8
        self.labels: Labels = {
            "digit": [str(pair.label) for pair in self.pairs],
            "speaker": [pair.speaker for pair in self.pairs],
            "writer": [str(pair.writer) for pair in self.pairs],
        }

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        pair = self.pairs[index]
        return f"{pair.label}, spoken by {pair.speaker} ({pair.take}), written by {pair.writer}"

    def fingerprint(self) -> str:
        """A digest of what the clips are: of the pairs, the sounds and the pictures."""
        digest = hashlib.sha256(repr(self.pairs).encode())
        for waveform in self.waveforms:
            digest.update((waveform * 32767).round().to(torch.int16).numpy().tobytes())
        digest.update(self.pictures.numpy().tobytes())
        return digest.hexdigest()[:16]

    def sample(self, index: int, generator: Generator | None) -> Sample:
        """Pair `index`, augmented and moved in time where a generator is given."""
        sound, window = self.waveforms[index], self.model.audio.samples
        place = 0.5 if generator is None else float(torch.rand((), generator=generator))
        waveform = torch.zeros(window)
        if len(sound) <= window:
            start = round(place * (window - len(sound)))
            waveform[start : start + len(sound)] = sound
            heard = torch.tensor([start, start + len(sound)])
        else:
            start = round(place * (len(sound) - window))
            waveform[:] = sound[start : start + window]
            heard = torch.tensor([0, window])
        frames = repeat(self.pictures[index], "h w -> t h w c", t=self.model.video.frames, c=3).contiguous()
        sample = Sample(waveform, heard, frames, torch.ones(len(frames), dtype=torch.bool))
        return sample if generator is None else augment_sample(sample, self.model, self.augment, generator)
