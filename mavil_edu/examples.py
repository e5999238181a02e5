"""A reconstruction as files: pictures, sounds and videos of one clip, for a run's report and for `mavil-edu reconstruct`."""

from pathlib import Path

import torch
from torch import Tensor

from mavil_edu import audio as audio_end
from mavil_edu import figures, media
from mavil_edu import video as video_end
from mavil_edu.config import SAMPLE_RATE, ObjectiveConfig
from mavil_edu.data.batch import Batch, to_inputs
from mavil_edu.files import check_new, write_json
from mavil_edu.mavil import Masks, MAViL, draw_masks
from mavil_edu.reconstruct import Reconstruction, reconstruct
from mavil_edu.report import write_example_page

TITLES = {
    "original": "original",
    "masked": "masked: what the model is given",
    "reconstruction": "reconstruction: the model's word on every patch",
    "completed": "reconstruction with the visible patches",
}
HEARD = {
    "original": "sound of the original",
    "masked": "sound of the masked clip, hidden patches silent",
    "reconstruction": "sound of the reconstruction",
    "completed": "sound of the reconstruction with the visible patches",
}
WATCH_SIZE = 128  # pixels of a video's shorter side: small frames are enlarged, so that one can see them
WATCH_RATE = 25  # frames a second of a written video


def watchable(frames: Tensor, seconds: float) -> Tensor:
    """Frames (t, h, w, 3), repeated in time to 25 a second and enlarged by whole numbers."""
    times = (torch.arange(round(seconds * WATCH_RATE)) + 0.5) / WATCH_RATE
    shown = frames[(times / seconds * len(frames)).long().clamp(max=len(frames) - 1)]
    factor = max(1, -(-WATCH_SIZE // min(frames.shape[1:3])))
    return shown.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def pictures_of(result: Reconstruction, model: MAViL) -> dict[str, figures.Picture]:
    """The clip's pictures by name: everything together, the spectrograms alone, the frames alone."""
    audio, video = model.config.audio, model.config.video
    hidden = figures.hidden_cells(result.masks.audio, audio.grid, (audio.patch_frames, audio.patch_bins))
    frames = {TITLES[name]: view for name, view in result.frames._asdict().items()}
    spectrograms = {TITLES[name]: view for name, view in result.spectrogram._asdict().items()}
    share = float(result.masks.video.float().mean())
    return {
        "all": figures.reconstruction(frames, spectrograms, hidden, audio.seconds, share, result.borrowed),
        "spectrogram": figures.spectrogram_panels(spectrograms, audio.seconds, {TITLES["masked"]: hidden}),
        "frames": figures.frame_panels(frames, video.seconds),
    }


def sounds_of(result: Reconstruction, waveform: Tensor, heard: Tensor) -> dict[str, Tensor]:
    """The clip's sounds by name, each (samples,): the recording itself, and the other spectrograms made sound again.

    waveform: (samples,) the recording. heard: (2,) the samples [start, stop) that are not padding.
    """
    spectrograms = torch.stack([getattr(result.spectrogram, name) for name in list(HEARD)[1:]])
    made = audio_end.to_waveform(spectrograms, samples=len(waveform), heard=heard.expand(len(spectrograms), 2))
    return {"original": waveform} | dict(zip(list(HEARD)[1:], made.clamp(-1, 1), strict=True))


def write_example(model: MAViL, batch: Batch, masks: Masks, title: str, name: str, out: Path) -> dict:
    """Writes one clip's pictures, sounds and videos under `out`, and returns its entry for `examples.json`.

    batch, masks: of this one clip. name: what the files' names begin with.
    """
    device = next(model.parameters()).device
    [result] = reconstruct(model, to_inputs(batch.to(device), model.config), masks)
    entry: dict = {"name": name, "title": title, "figures": [], "audio": [], "video": []}
    for kind, picture in pictures_of(result, model).items():
        file = picture.save(out / "figures" / f"{name}-{kind}.png")
        entry["figures"].append({"file": str(file.relative_to(out)), "caption": picture.sentence, "alt": picture.sentence})
    sounds = sounds_of(result, batch.waveform[0], batch.heard[0])
    for kind, sound in sounds.items():
        file = out / "audio" / f"{name}-{kind}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        media.write_wav(file, sound)
        entry["audio"].append({"file": str(file.relative_to(out)), "caption": HEARD[kind]})
    for kind in ("original", "masked", "completed"):
        file = out / "video" / f"{name}-{kind}.mp4"
        file.parent.mkdir(parents=True, exist_ok=True)
        frames = watchable(getattr(result.frames, kind), model.config.video.seconds)
        media.write_mp4(file, frames, WATCH_RATE, _middle(sounds[kind], model.config.video.seconds))
        entry["video"].append({"file": str(file.relative_to(out)), "caption": f"{TITLES[kind]}, with its sound"})
    return entry


def _middle(waveform: Tensor, seconds: float) -> Tensor:
    """The middle of a sound, as long as the video's window."""
    wanted = min(round(seconds * SAMPLE_RATE), len(waveform))
    start = (len(waveform) - wanted) // 2
    return waveform[start : start + wanted]


def reconstruct_file(checkpoint: str | None, clip: Path, out: Path, hiding: ObjectiveConfig, position: float, seed: int) -> list[str]:
    """`mavil-edu reconstruct`: writes a file's reconstruction into `out`; returns what there is to say, line by line.

    checkpoint: a folder or name; None for the model that comes with the package. hiding: its ratios and strategies say what is hidden.
    Raises ValueError (MediaError) with a sentence.
    """
    check_new(out)
    if not 0 <= position <= 1:
        raise ValueError(f"--position is {position}; it must lie between 0 (the clip's start) and 1 (its end).")
    model = MAViL.from_pretrained(checkpoint or "tiny")
    config = model.config
    found = media.read_clip(clip, config.audio.seconds, config.video.seconds, config.video.frames, position)
    lines = [f"{clip}: {found.note}"] if found.note else []
    if found.heard[1] <= found.heard[0]:
        lines.append(f"{clip} has no sound in this window; the model hears silence.")
    if not bool(found.seen.any()):
        lines.append(f"{clip} has no picture in this window; the model sees black.")
    frames = video_end.fit(found.frames, config.video)
    batch = Batch(found.waveform[None], torch.tensor([found.heard]), frames[None], found.seen[None])
    masks = draw_masks(1, config, hiding, torch.Generator().manual_seed(seed))
    entry = write_example(model, batch, masks, clip.name, clip.stem, out)
    write_json(out / "examples.json", [entry])
    page = write_example_page(out, entry, checkpoint or "tiny", lines)
    counts = ", ".join(f"{len(entry[kind])} {name}" for kind, name in (("figures", "pictures"), ("audio", "sounds"), ("video", "videos")))
    return [*lines, entry["figures"][0]["caption"], f"{counts} are in {out}.", f"Open {page} in a browser to see and hear them."]
