"""In-painting of single clips as files: what the model fills in with its own partner, with another clip's, and with none."""

from pathlib import Path

import torch

from mavil_edu import audio, figures, media
from mavil_edu.config import ObjectiveConfig
from mavil_edu.data.batch import Batch, to_inputs
from mavil_edu.examples import WATCH_RATE, watchable
from mavil_edu.inpaint import PARTNER, PARTNERS, WORDS, Modality, next_clips, with_partner
from mavil_edu.mavil import MAViL, draw_masks
from mavil_edu.reconstruct import Reconstruction, reconstruct


def filled_in(
    model: MAViL, batch: Batch, modality: Modality, objective: ObjectiveConfig, clips: int, seed: int = 0
) -> list[dict[str, Reconstruction]]:
    """The first clips' reconstructions by partner, "own", "another's", "none"; the masks are those of `inpaint.fill` at this seed."""
    device = next(model.parameters()).device
    masks = draw_masks(len(batch.waveform), model.config, objective, torch.Generator().manual_seed(seed))
    rows = slice(0, clips)
    inputs, others = (to_inputs(Batch(*(field[rows] for field in b)).to(device), model.config) for b in (batch, next_clips(batch)))
    shown = type(masks)(*(mask[rows].to(device) for mask in masks))
    found = {name: reconstruct(model, *with_partner(inputs, others, shown, modality, name)) for name in PARTNERS}
    return [{name: results[i] for name, results in found.items()} for i in range(len(inputs.audio))]


def _titles(modality: Modality) -> dict[str, str]:
    partner = WORDS[PARTNER[modality]]
    return {name: f"filled in {words.format(partner=partner)}" for name, words in PARTNERS.items()}


def _sound_files(model: MAViL, batch: Batch, i: int, found: dict[str, Reconstruction], name: str, out: Path) -> list[dict[str, str]]:
    titles, config = _titles("audio"), model.config.audio
    own = found["own"].spectrogram
    hidden = figures.hidden_cells(found["own"].masks.audio, config.grid, (config.patch_frames, config.patch_bins))
    panels = {"original": own.original, "what is shown of it": own.masked}
    panels |= {titles[key]: result.spectrogram.completed for key, result in found.items()}
    picture = figures.spectrogram_panels(panels, config.seconds, {"what is shown of it": hidden})
    entries = [{"file": picture.save(out / f"{name}.png").name, "caption": picture.sentence}]
    spectrograms = torch.stack([result.spectrogram.completed for result in found.values()])
    waveform, heard = batch.waveform[i], batch.heard[i]
    made = audio.to_waveform(spectrograms, samples=len(waveform), heard=heard.expand(len(spectrograms), 2)).clamp(-1, 1)
    sounds = {"original": ("the original", waveform)} | {k: (titles[k], sound) for k, sound in zip(found, made, strict=True)}
    for key, (caption, sound) in sounds.items():
        file = out / f"{name}-{key.replace(chr(39), '')}.wav"
        media.write_wav(file, sound)
        entries.append({"file": file.name, "caption": f"{name}, sound: {caption}"})
    return entries


def _picture_files(model: MAViL, batch: Batch, i: int, found: dict[str, Reconstruction], name: str, out: Path) -> list[dict[str, str]]:
    titles, config = _titles("video"), model.config.video
    own = found["own"].frames
    panels = {"original": own.original, "what is shown of it": own.masked}
    panels |= {titles[key]: result.frames.completed for key, result in found.items()}
    picture = figures.frame_panels(panels, config.seconds)
    entries = [{"file": picture.save(out / f"{name}.png").name, "caption": picture.sentence}]
    beside = torch.cat([own.original, *(result.frames.completed for result in found.values())], dim=2)
    file = out / f"{name}.mp4"
    media.write_mp4(file, watchable(beside, config.seconds), WATCH_RATE, batch.waveform[i])
    caption = f"{name}, from left to right: the original, {', '.join(titles.values())}; the sound is its own"
    return [*entries, {"file": file.name, "caption": caption}]


def write_inpainted(
    model: MAViL, batch: Batch, names: list[str], modality: Modality, objective: ObjectiveConfig, out: Path, clips: int = 3, seed: int = 0
) -> list[dict[str, str]]:
    """Writes the first clips' pictures (PNG, and MP4 beside one another) or sounds (PNG and WAV); returns each file's name and caption.

    names: one for each clip of the batch. objective: from `inpaint.hiding`. The captions say where a picture borrows the hidden
    patches' own mean and std.
    """
    out.mkdir(parents=True, exist_ok=True)
    write = _sound_files if modality == "audio" else _picture_files
    entries = []
    for i, found in enumerate(filled_in(model, batch, modality, objective, clips, seed)):
        name = f"{modality}-{i}-{Path(names[i]).stem.replace(' ', '-')}"
        written = write(model, batch, i, found, name, out)
        borrowed = " The hidden patches' own mean and std are used." if found["own"].borrowed else ""
        entries += [entry | {"caption": entry["caption"] + borrowed} for entry in written]
    return entries
