"""Sounds without pictures: real files, as windows of sound alone. For tasks that are heard only."""

from dataclasses import replace
from pathlib import Path

from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Clips, Labels
from mavil_edu.data.folder import FolderClips


class SoundClips(FolderClips):
    """Sound files of any length, any suffix that FFmpeg reads; see `FolderClips`, whose rules for windows hold.

    A sample's frames are black and its `seen` is False throughout, so that no picture counts as content; `modalities` says that there is
    sound alone. paths, labels, augment, root: as `FolderClips` takes them. model: whose audio window is read; windows of pictures do not
    matter.
    """

    modalities = ("audio",)

    def __init__(
        self, paths: list[Path], model: ModelConfig, augment: AugmentConfig, labels: Labels | None = None, root: Path | None = None
    ):
        one_length = replace(model, video=replace(model.video, seconds=model.audio.seconds))  # tiles follow the sound
        super().__init__(paths, one_length, augment, labels, root)


def modalities(clips: Clips) -> tuple[str, ...]:
    """What a data set's samples have: ("audio", "video"), or one of them."""
    return getattr(clips, "modalities", ("audio", "video"))
