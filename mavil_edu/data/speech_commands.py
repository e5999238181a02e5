"""Speech Commands: a second of one spoken word, some 105,000 files of 35 words, by its official lists, from its own folder.

The folder is that of the published archive: one folder a word with WAV files in it, `validation_list.txt` and `testing_list.txt`; what
neither list names trains. `_background_noise_` is no word and is left out. CC BY 4.0. The split is that of torchaudio's SPEECHCOMMANDS,
whose reader decodes through torchcodec and so through a system's FFmpeg; here PyAV decodes.
Source: Warden, "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", 2018.
"""

from pathlib import Path, PurePosixPath
from typing import Literal

from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.listing import ListError
from mavil_edu.data.sounds import SoundClips

LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}
SPEAKER = "_nohash_"  # in the name of every recording, after its speaker
Split = Literal["train", "val", "test"]


def is_speech_commands(folder: Path) -> bool:
    """Whether a folder is that of Speech Commands."""
    return all((folder / name).is_file() for name in LISTS.values())


def read_split(folder: Path, split: str) -> list[str]:
    """The recordings that an official list names, `word/file.wav` each. Raises ListError with file and line."""
    path = folder / LISTS[split]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"{path} cannot be read ({error}); take the file of the published archive.") from error
    names = []
    for number, line in enumerate(lines, start=1):
        if not (name := line.strip()):
            continue
        parts = PurePosixPath(name).parts
        if len(parts) != 2 or ".." in parts or "\\" in name:
            raise ListError(f"{path}, line {number}: {name!r} is no recording as word/file.wav; take the file of the published archive.")
        names.append(name)
    return names


class SpeechCommands(SoundClips):
    """The recordings of one split, sound alone, by speaker, so that a first part of them is spread over the words; labels: "word".

    missing: those that the split's list names and the folder does not hold; the train split has no list, and so none.
    """

    def __init__(
        self, paths: list[Path], model: ModelConfig, augment: AugmentConfig, labels=None, missing: tuple[str, ...] = (), root=None
    ):
        super().__init__(paths, model, augment, labels, root)
        self.missing = missing

    @classmethod
    def of_split(cls, folder: Path, split: Split | None, model: ModelConfig, augment: AugmentConfig) -> "SpeechCommands":
        """folder: the archive's. split: None for all recordings. Raises ListError where a list is broken, or no recording is there."""
        files = (path for path in folder.glob("*/*.wav") if not path.parent.name.startswith(("_", ".")) and SPEAKER in path.name)
        there = [f"{path.parent.name}/{path.name}" for path in sorted(files, key=lambda path: (path.name, path.parent.name))]
        listed = {name: read_split(folder, name) for name in LISTS}
        if both := set(listed["val"]) & set(listed["test"]):
            raise ListError(f"{folder}: {min(both)} stands in both {LISTS['val']} and {LISTS['test']}; take the archive's own lists.")
        missing: tuple[str, ...] = ()
        if split in LISTS:
            wanted = set(listed[split])
            missing = tuple(sorted(wanted - set(there)))
            there = [name for name in there if name in wanted]
        elif split == "train":
            others = set(listed["val"]) | set(listed["test"])
            there = [name for name in there if name not in others]
        if not there:
            raise ListError(f"{folder} has no recording of the split {split or 'all'}: files are named word/speaker{SPEAKER}0.wav.")
        return cls([folder / name for name in there], model, augment, {"word": [name.split("/")[0] for name in there]}, missing, folder)
