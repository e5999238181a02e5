"""A model's card: what it is, and, from its run, what it was trained on and how well it does beside the answers without learning."""

import json
import re
from pathlib import Path
from typing import Any

from mavil_edu.config import ModelConfig

SUMMARY_FILE = "summary.json"  # in a run's folder

CARD = """---
library_name: mavil_edu
license: {license}
tags: [masked-autoencoder, audio-visual, self-supervised]
---
# A MAViL model

{trained}

```python
from mavil_edu import MAViL

model = MAViL.from_pretrained("{name}")
encoded = model.eval().encode(audio=spectrogram, video=clip)  # audio (b, 1, {audio}), video (b, 3, {video})
encoded.audio_embedding, encoded.video_embedding
```

{tokens}. Method: MAViL, arXiv 2212.08071; this is an independent implementation{whose}.
"""
OURS = (
    "Pre-trained with [mavil_edu] on unlabelled clips: masked reconstruction of sound and pictures, and contrast between and within them."
)
STUDENT = (
    "Pre-trained with [mavil_edu] on unlabelled clips, stage 2: from masked sound and pictures it predicts a frozen teacher's "
    "tokens of the complete clip, with contrast between and within the two. It cannot draw pictures."
)
FINETUNED = (
    "Fine-tuned with [mavil_edu] on labelled clips: `model.classify` scores {classes} classes from {read}; `model.config.class_names` "
    "names them. The licence of the weights that it began from holds."
)
READ = {"both": "sound and pictures", "audio": "sound alone", "video": "pictures alone"}
THEIRS = "Weights without decoders, for use in [mavil_edu]. Where they were read from another project's file, its licence holds."
LOOKS = {"audio": "hidden patches of the sound", "video": "hidden patches of the pictures"}
METRICS = {
    "accuracy": ("accuracy", "majority"),
    "map": ("mean average precision", "map"),
}  # of fine-tuning, and the answers without learning
WAYS = {"audio_to_video": "the picture of a sound", "video_to_audio": "the sound of a picture"}


def run_of(folder: Path) -> Path | None:
    """The run's folder that a model's folder belongs to: itself, or the one around `model/`, where a summary lies there; else None."""
    places = [folder, folder.parent] if folder.name == "model" else [folder]
    return next((place for place in places if (place / SUMMARY_FILE).is_file()), None)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} cannot be read ({error}), so no model card can be made from it.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object, so no model card can be made from it.")
    return found


def _data(run: Path) -> str:
    """What a run was trained on, by the last part of its path: where it lay on a machine is nobody's business."""
    stored = _read(run / "config.json") if (run / "config.json").is_file() else {}
    names = [re.sub(r"[^\w .,()+-]", "_", Path(str(stored[key])).name) for key in ("data", "list") if stored.get(key)]
    return ", ".join(names) or "not told"


def _numbers(summary: dict[str, Any]) -> list[str]:
    """The rows of the table: each number beside its trivial answer."""
    rows = []
    for metric, (label, answer) in METRICS.items():
        if metric in (summary.get("test") or {}):
            ours, without = 100 * summary["test"][metric], 100 * summary["trivial"][answer]
            rows.append(f"| {summary['column']}, {label} | {ours:.1f} % | {without:.1f} % |")
    for side, label in LOOKS.items():
        if part := summary.get(side):
            rows.append(f"| {label}, masked MSE | {part['masked_mse']:.3f} | {part['best_trivial_mse']:.3f} |")
    found = summary.get("retrieval") or {}
    for way, label in WAYS.items():
        for rank in ("r1", "r5"):
            if way in found and rank in found[way]:
                ours, chance = 100 * found[way][rank], 100 * found[f"chance_{rank}"]
                rows.append(f"| {label} among {found['clips']} clips, R@{rank[1:]} | {ours:.1f} % | {chance:.1f} % |")
    return rows


def run_text(run: Path) -> str:
    """The part of a card that a run's `summary.json` and `config.json` tell. Raises ValueError where they cannot be read."""
    summary = _read(run / SUMMARY_FILE)
    clips = summary.get("clips") or {}
    lines = ["## Training", "", f"- data: {_data(run)}" + (f", {clips['trained']} clips" if "trained" in clips else "")]
    if {"steps", "seconds"} <= set(summary):
        lines.append(f"- steps: {summary['steps']}, in {summary['seconds']:.0f} s")
    if summary.get("machine"):
        lines.append(f"- machine: {summary['machine']}")
    if summary.get("shuffled_pairs"):
        lines.append("- **a control**: each training sound came with another clip's picture")
    try:
        rows = _numbers(summary)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{run / SUMMARY_FILE} lacks {error}, so no model card can be made from it.") from error
    if rows:
        where = "held-out clips" if summary.get("held_out", True) else "**clips that it was trained on**"
        lines += ["", f"## On {clips.get('held_out', '')} {where}".replace("  ", " "), ""]
        lines += ["| | this model | the best answer without learning |", "| --- | --- | --- |", *rows, ""]
        if "test" not in summary:
            lines.append(f"Errors are in the space of the training target ({summary.get('target', 'normalised')}).")
    return "\n".join(lines) + "\n"


def model_card(config: ModelConfig, name: str, run: Path | None = None) -> str:
    """A model's README.md, as the Hugging Face Hub shows it.

    name: by which `from_pretrained` is to load it. run: the run's folder that its numbers come from; None: the card has none.
    """
    without = FINETUNED.format(classes=config.classes, read=READ[config.classes_from]) if config.class_names else THEIRS
    text = CARD.format(
        name=name,
        license="mit" if config.decoder else "other",
        trained=(STUDENT if config.target == "teacher" else OURS) if config.decoder else without,
        whose=", and not the authors' weights" if config.decoder else "",
        audio=f"{config.audio.frames}, {config.audio.mel_bins}",
        video=f"{config.video.frames}, {config.video.height}, {config.video.width}",
        tokens=f"{config.audio.tokens} audio tokens of {config.audio.seconds:g} s, "
        f"{config.video.tokens} video tokens of {config.video.seconds:g} s",
    )
    return text if run is None else f"{text}\n{run_text(run)}"
