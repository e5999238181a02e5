"""What a path is, and the clips in it: the only place where a data set is recognised, its clips are judged, and some are held out."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mavil_edu import media
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.avmnist import AVMNIST, is_avmnist
from mavil_edu.data.batch import Clips, Labels
from mavil_edu.data.esc50 import ESC50, FOLDS, is_esc50
from mavil_edu.data.folder import FolderClips, TiledClips
from mavil_edu.data.labels import folder_labels
from mavil_edu.data.listing import Listing, find_clips
from mavil_edu.data.official import of_split, read_list
from mavil_edu.data.shards import Shards, is_shards
from mavil_edu.data.sounds import modalities
from mavil_edu.data.speech_commands import SpeechCommands, is_speech_commands
from mavil_edu.inspection import Inspection, inspect_paths
from mavil_edu.progress import tracked

HELD_OUT_SHARE = 0.1  # of the clips, where a data set has no split for evaluation
MOST_HELD_OUT = 1000  # clips held out then


class DataError(ValueError):
    """A path that gives no clips; the message says why and what to do."""


@dataclass(frozen=True)
class Opened:
    """The clips of one split of one data set."""

    clips: Clips
    fingerprint: str  # of what the clips are, so that a run is resumed with its own
    skipped: list[dict[str, str]] = field(default_factory=list)  # files that cannot be used: path and reason
    missing: list[str] = field(default_factory=list)  # clips that a list names and the folder does not hold
    notes: list[str] = field(default_factory=list)  # sentences for the user


@dataclass(frozen=True)
class Data:
    """The clips of a run: those it trains on, and those it is measured on."""

    training: Clips
    evaluation: Clips
    held_out: bool  # False where clips that are trained on are evaluated too, for there are no others
    skipped: list[dict[str, str]]
    fingerprint: str = ""  # of the training clips
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _judged(paths: list[Path], what: str, model: ModelConfig, min_seconds: float) -> tuple[list[int], list[dict[str, str]]]:
    """The numbers of the files that can be trained on, and the others with the reason. Raises DataError where there is no usable one."""
    verdicts: list[Inspection] = list(tracked(inspect_paths(paths, model, min_seconds), "inspecting", len(paths)))
    usable = [i for i, verdict in enumerate(verdicts) if verdict.trainable]
    skipped = [{"path": str(v.path), "reason": f"{v.status}: {v.message}"} for v in verdicts if not v.trainable]
    if not paths:
        raise DataError(f"There is no media file in {what}.")
    if not usable:
        raise DataError(
            f"None of the {len(paths)} media files in {what} can be trained on. The first, {skipped[0]['path']}: {skipped[0]['reason']} "
            f"See mavil-edu inspect {what}"
        )
    return usable, skipped


def _check_there(path: Path) -> None:
    if not path.exists():
        raise DataError(
            f"There is no folder {path}. Name a folder of clips, or make some: mavil-edu world --clips 64 --seed 1 --out {path}"
        )


def usable_files(folder: Path, model: ModelConfig, min_seconds: float) -> tuple[list[Path], list[dict[str, str]]]:
    """The media files of a folder that can be trained on, and those that cannot, with the reason. Raises DataError where none can."""
    _check_there(folder)
    paths = media.find_media([folder])
    usable, skipped = _judged(paths, str(folder), model, min_seconds)
    return [paths[i] for i in usable], skipped


def _of_files(paths: list[Path]) -> str:
    clips = [f"{path.name}:{path.stat().st_size}" for path in paths]
    return hashlib.sha256("\n".join(clips).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _open_folder(folder: Path, model: ModelConfig, augment: AugmentConfig, min_seconds: float) -> Opened:
    kept, skipped = usable_files(folder, model, min_seconds)
    labels, note = folder_labels(folder, kept) if folder.is_dir() else ({}, None)
    clips = FolderClips(kept, model, augment, labels, folder if folder.is_dir() else None)
    return Opened(clips, _of_files(kept), skipped, notes=[note] if note else [])


def _open_listed(
    folder: Path, listing: Listing, split: str | None, model: ModelConfig, augment: AugmentConfig, min_seconds: float
) -> Opened:
    wanted = set(of_split(listing, split))
    found = [(e, path) for e, path in zip(listing.entries, find_clips(listing.entries, folder), strict=True) if e in wanted]
    there = [(entry, path) for entry, path in found if path is not None]
    missing = [entry.name for entry, path in found if path is None]
    if not there:
        raise DataError(f"None of the {len(found)} clips of {listing.path} is in {folder}; files are named like {found[0][0].name}.mp4.")
    usable, skipped = _judged([path for _, path in there], str(folder), model, min_seconds)
    names = [there[i][0].labels for i in usable]
    labels: Labels = {"class": [of_one for (of_one,) in names] if listing.kind == "vggsound" else names}
    kept = [there[i][1] for i in usable]
    notes = [f"{len(missing)} of the {len(found)} clips of {listing.path} are not in {folder}."] if missing else []
    if listing.repeated:
        notes.append(f"{listing.repeated} lines of {listing.path} repeat a clip; its first line counts.")
    return Opened(FolderClips(kept, model, augment, labels, folder), _of_files(kept), skipped, missing, notes)


def open_data(
    path: Path,
    model: ModelConfig,
    augment: AugmentConfig,
    *,
    split: str | None = None,
    listed: Path | None = None,
    classes: Path | None = None,
    min_seconds: float = 1.0,
    fold: int = FOLDS,
) -> Opened:
    """The clips at a path, whatever it is: AV-MNIST, ESC-50, Speech Commands, shards, a list's clips in a folder, any folder of clips.

    split: "train", "val" or "test", where the data set has splits; None: AV-MNIST's train split, all clips of the others. A folder of clips
    has none, and neither has a list that tells of none: then all clips are given. listed: VGGSound's or AudioSet's CSV file. classes: its
    class names. min_seconds: least length of a clip's sound and picture together. fold: of ESC-50, the one that is tested on. The sounds
    of ESC-50 and Speech Commands have no pictures: `mavil_edu.data.sounds.modalities` tells.
    Raises DataError or ListError where the path gives no clips.
    """
    _check_there(path)
    if classes is not None and listed is None:
        raise DataError(f"--classes {classes} names the classes of a list; give the list too, by --list.")
    if listed is not None:
        listing = read_list(listed, classes=classes)
        return _open_listed(path, listing, split if listing.splits else None, model, augment, min_seconds)
    if is_avmnist(path):
        clips = AVMNIST(path, split or "train", model, augment)
        return Opened(clips, clips.fingerprint())
    if is_esc50(path) or is_speech_commands(path):
        if is_esc50(path):
            clips = ESC50.of_split(path, split, model, augment, fold)
        else:
            clips = SpeechCommands.of_split(path, split, model, augment)
        notes = [f"{len(clips.missing)} sounds that the lists name are not in {path}."] if clips.missing else []
        return Opened(clips, _of_files(clips.paths), missing=list(clips.missing), notes=notes)
    if is_shards(path):
        clips = Shards(path, model, augment)
        return Opened(clips, hashlib.sha256("".join(shard.sha256 for shard in clips.index.shards).encode()).hexdigest()[:16])
    return _open_folder(path, model, augment, min_seconds)


def has_splits(path: Path) -> bool:
    """Whether a path's data set has a train, a val and a test split of its own."""
    return is_avmnist(path) or is_esc50(path) or is_speech_commands(path)


def check_pictures(clips: Clips, path: Path | str, what: str) -> None:
    """Raises DataError where a data set has sound alone, and `what`, the beginning of a sentence, needs pictures too."""
    if "video" not in modalities(clips):
        raise DataError(f"{what} needs clips with sound and picture, and {path} holds sounds alone; use probe, embed or finetune on it.")


def _parted(clips: FolderClips | Shards, seed: int) -> tuple[Clips, Clips]:
    """Clips parted for training and evaluation: a tenth, at least one and at most 1,000, is held out; of a single clip, none."""
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(seed)).tolist()
    held = set(order[: min(max(1, round(HELD_OUT_SHARE * len(clips))), MOST_HELD_OUT)])
    evaluation = [i for i in range(len(clips)) if i in held]
    training = [i for i in range(len(clips)) if i not in held] or evaluation
    return clips.subset(training), clips.subset(evaluation)


def _tiled(clips: Clips) -> Clips:
    return TiledClips(clips) if isinstance(clips, FolderClips) else clips


def open_run(
    path: Path,
    eval_path: Path | None,
    model: ModelConfig,
    augment: AugmentConfig,
    *,
    seed: int,
    listed: Path | None = None,
    classes: Path | None = None,
    min_seconds: float = 1.0,
) -> Data:
    """The clips that a run trains on and those it is measured on, long ones as tiles; see `open_data` for what a path may be.

    Trained on is the train split where there is one, else the only split there is. Measured on are the clips at `eval_path`; without it
    AV-MNIST's own val split, or a tenth of the training clips, drawn by the seed and held out: the test split is left for the end.
    """
    if listed is None:
        opened = open_data(path, model, augment, split="train", classes=classes, min_seconds=min_seconds)
    else:
        listing = read_list(listed, classes=classes)
        split = "train" if len(listing.splits) > 1 else None
        opened = _open_listed(path, listing, split, model, augment, min_seconds)
    training, more = opened.clips, Opened(opened.clips, "")
    check_pictures(training, path, "Pre-training")
    if eval_path is not None:
        more = open_data(eval_path, model, augment, split="val", min_seconds=min_seconds)
        evaluation = more.clips
        check_pictures(evaluation, eval_path, "Evaluating a pre-training")
    elif isinstance(training, AVMNIST):
        evaluation = AVMNIST(path, "val", model, augment)
    else:
        training, evaluation = _parted(training, seed)
    return Data(
        training,
        _tiled(evaluation),
        held_out=not share_clips(training, evaluation),
        skipped=opened.skipped + more.skipped,
        fingerprint=_of_files(training.paths) if isinstance(training, FolderClips) else opened.fingerprint,
        missing=opened.missing,
        notes=opened.notes + more.notes,
    )


def share_clips(one: Clips, other: Clips) -> bool:
    """Whether two data sets have a clip in common, as far as can be told: files by their paths, shards by their checksums."""
    if isinstance(one, FolderClips) and isinstance(other, FolderClips):
        return bool(set(map(Path.resolve, one.paths)) & set(map(Path.resolve, other.paths)))
    if isinstance(one, Shards) and isinstance(other, Shards):
        return bool(one.names() & other.names())
    return isinstance(one, AVMNIST) and isinstance(other, AVMNIST) and one.fingerprint() == other.fingerprint()
