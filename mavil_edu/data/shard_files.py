"""What lies in a folder of shards, and the only place where it is checked: nothing that the index does not know of is ever read.

index.json           settings, source, skipped clips; of each shard its name, bytes, sha256, number of clips
shard-000000.tar     a plain POSIX archive in WebDataset's manner: files of one key after another, one key a clip
    000000000.json       name, seconds, times of the pictures, labels, fingerprint of the source
    000000000.wav        16-bit PCM, mono, 16 kHz
    000000000.0000.jpg   the pictures, in order
shard-000000.json    of each clip where its members lie: `offset` of the first one's header, then the sizes; each member takes
                     512 bytes of header and its size rounded up to a multiple of 512
"""

import hashlib
import io
import json
import math
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dacite
import numpy as np

from mavil_edu.streams import MAX_PIXELS, MediaError

VERSION = 1  # of the format
INDEX = "index.json"
BLOCK = 512  # bytes; all of a tar is counted in them
WAV_HEADER = 44  # bytes before the samples
SHARD_NAME = re.compile(r"shard-\d{6}\.tar")
KEY = re.compile(r"\d{9}")
LARGEST_JSON = 1 << 30  # bytes of an index; more is taken for an attack


class ShardError(ValueError):
    """A folder of shards that cannot be used: one sentence with the file, what is wrong, and what to do."""


@dataclass(frozen=True)
class Settings:
    """How clips are stored; one folder holds clips of one setting."""

    size: int  # pixels of the shorter side; smaller pictures stay as they are
    frame_rate: float  # pictures a second
    max_seconds: float  # of a longer clip the middle is kept
    min_seconds: float  # least length of a clip's sound and picture together
    quality: int  # of the JPEG files, 1 to 100
    clips_per_shard: int

    def __post_init__(self):
        for name, least, most in (("size", 8, 8192), ("quality", 1, 100), ("clips_per_shard", 1, 100_000)):
            if not least <= getattr(self, name) <= most:
                raise ShardError(f"{name} is {getattr(self, name)}; it must lie between {least} and {most}.")
        if not (0 < self.frame_rate <= 240 and 1 <= self.max_seconds * self.frame_rate <= 10_000):
            raise ShardError(
                f"{self.frame_rate:g} pictures a second of up to {self.max_seconds:g} s cannot be stored: a clip has 1 to 10,000 pictures."
            )


def _is_label(value: Any) -> bool:
    """Whether a value is a text, a number (NaN is an unknown one), or a list of texts."""
    if isinstance(value, list):
        return all(isinstance(text, str) for text in value)
    return isinstance(value, str) or (isinstance(value, int | float) and not isinstance(value, bool) and abs(value) != math.inf)


@dataclass(frozen=True)
class StoredClip:
    """One clip in a shard, and where."""

    key: str  # nine digits; the files' common name
    name: str  # the source's path in its folder
    seconds: float
    samples: int  # of the sound
    heard: list[int]  # samples [start, stop) that hold sound
    first_picture: int  # number of the first picture, in units of 1 / frame rate from the sound's start
    height: int
    width: int
    labels: dict[str, Any]
    offset: int  # of the first member's header
    sizes: list[int]  # bytes of the JSON, the WAV and each JPEG

    def __post_init__(self):
        start, stop = self.heard
        sound = len(self.sizes) > 2 and self.sizes[1] == WAV_HEADER + 2 * self.samples
        counts = (self.offset, self.first_picture, start, stop - start, self.samples - stop, *self.sizes)
        whole = min(counts) >= 0 and self.offset % BLOCK == 0 and min(self.height, self.width) >= 1
        if not (KEY.fullmatch(self.key) and sound and whole and 0 <= self.seconds < 1e9):
            raise ShardError(f"The index's numbers of clip {self.key!r:.40} cannot be.")
        if wrong := [name for name, value in self.labels.items() if not _is_label(value)]:
            raise ShardError(f"The index's label {wrong[0]!r:.40} of clip {self.key} is no text, number or list of texts.")
        if self.height * self.width > MAX_PIXELS:
            raise ShardError(f"The index claims {self.height} × {self.width} pixels of clip {self.key}; no such picture is opened.")

    def members(self) -> Iterator[tuple[str, int, int]]:
        """Each file's name, the offset of its content, and its size."""
        suffixes = ["json", "wav", *(f"{number:04d}.jpg" for number in range(len(self.sizes) - 2))]
        offset = self.offset
        for suffix, size in zip(suffixes, self.sizes, strict=True):
            yield f"{self.key}.{suffix}", offset + BLOCK, size
            offset += BLOCK + -(-size // BLOCK) * BLOCK


@dataclass(frozen=True)
class Shard:
    """One archive, as `index.json` knows it."""

    name: str
    bytes: int
    sha256: str
    clips: int
    index_sha256: str  # of the JSON file beside it


@dataclass(frozen=True)
class Index:
    """What `index.json` holds."""

    version: int
    settings: Settings
    source: dict[str, Any]  # number of media files, and a digest of their names, sizes and labels
    skipped: list[dict[str, str]]  # path and reason of clips that are not in the shards
    cut: int  # clips longer than max_seconds
    shards: list[Shard]


def encode_picture(picture: np.ndarray, quality: int) -> bytes:
    """A picture (height, width, 3) uint8 as JPEG, with all of its colour."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()


def decode_picture(content: bytes, height: int, width: int, where: str) -> np.ndarray:
    """A JPEG as (height, width, 3) uint8. Raises MediaError where it is damaged, ShardError where its header claims another size."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as image:
            if image.size != (width, height):  # read from the header; nothing is unpacked yet
                claimed = f"{image.size[1]} × {image.size[0]}"
                raise ShardError(f"{where} claims {claimed} pixels where the index says {height} × {width}; it is not opened.")
            return np.asarray(image.convert("RGB"))
    except ShardError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise MediaError(f"{where} cannot be decoded ({error}); look at the whole folder with mavil-edu shards --verify.") from error


def sha256_of(path: Path) -> str:
    """A file's checksum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, sha256: str | None = None) -> Any:
    """A JSON file of the folder. Raises ShardError where it is not there, no JSON, or not of that checksum."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.stat().st_size > LARGEST_JSON:
            raise ShardError(f"{path} is a link, a folder or far too large; an index is a plain file. Do not use these shards.")
        content = path.read_bytes()
        if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
            raise ShardError(f"{path} is not the file that {INDEX} was written with; copy it again, or write the shards anew.")
        return json.loads(content)
    except OSError as error:
        raise ShardError(f"{path} cannot be read ({error.strerror}); copy the folder again, or write the shards anew.") from error
    except ShardError:
        raise
    except (ValueError, RecursionError) as error:  # no JSON, no Unicode, or a number without end
        raise ShardError(f"{path} is no JSON ({error}); copy the folder again, or write the shards anew.") from error


def _as(kind: type, values: Any, path: Path) -> Any:
    try:
        return dacite.from_dict(kind, values, dacite.Config(strict=True, check_types=True))
    except (dacite.DaciteError, TypeError, ValueError, AttributeError) as error:
        raise ShardError(f"{path} is not what mavil-edu shards writes: {str(error)[:300]}") from error


def read_index(folder: Path) -> Index:
    """A folder's `index.json`, checked against the archives' names and sizes.

    Raises ShardError where it is of another version, an archive is missing or of another size, a name points elsewhere, or a number of
    clips cannot be.
    """
    path = folder / INDEX
    values = read_json(path)
    version = values.get("version") if isinstance(values, dict) else None
    if version != VERSION:
        raise ShardError(f"{path} is of version {version!r:.60} and this program reads {VERSION}; write the shards anew.")
    index = _as(Index, values, path)
    names = [shard.name for shard in index.shards]
    for shard in index.shards:
        if not SHARD_NAME.fullmatch(shard.name):
            raise ShardError(f"{path} names {shard.name!r:.60}, which is no shard of this folder. Do not use these shards.")
        if not 0 <= shard.clips <= index.settings.clips_per_shard:
            most = index.settings.clips_per_shard
            raise ShardError(f"{path} counts {shard.clips} clips in {shard.name}, and a shard has 0 to {most}. Do not use these shards.")
        check_size(folder / shard.name, shard.bytes)
    if len(set(names)) < len(names):
        raise ShardError(f"{path} names a shard twice. Do not use these shards.")
    return index


def check_size(path: Path, size: int) -> None:
    """Raises ShardError where an archive is missing, a link, or of another size."""
    try:
        status = path.lstat()
    except OSError as error:
        raise ShardError(
            f"{path} cannot be found ({error.strerror}); copy it again, or give mavil-edu shards its command again."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise ShardError(f"{path} is a link or a folder; a shard is a plain file. Do not use these shards.")
    if status.st_size != size:
        raise ShardError(f"{path} has {status.st_size} bytes where the index says {size}; copy it again, or write the shards anew.")


def read_clips(folder: Path, shard: Shard) -> list[StoredClip]:
    """A shard's clips, from the JSON beside it. Raises ShardError where that does not agree with the index."""
    path = (folder / shard.name).with_suffix(".json")
    values = read_json(path, shard.index_sha256)
    if not isinstance(values, dict) or not isinstance(values.get("clips"), list) or len(values["clips"]) != shard.clips:
        raise ShardError(f"{path} does not list the {shard.clips} clips that {INDEX} counts; write the shards anew.")
    clips = [_as(StoredClip, clip, path) for clip in values["clips"]]
    for clip in clips:
        *_, (name, offset, size) = clip.members()
        if offset + size > shard.bytes:
            raise ShardError(f"{path} places {name} beyond the end of {shard.name}. Do not use these shards.")
    return clips


def _fault(member: tarfile.TarInfo, seen: set[str], expected: dict[str, tuple[int, int]], offset: int) -> str | None:
    """What is wrong with a member, or None."""
    if member.name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", member.name):
        return "has an absolute path"
    if ".." in re.split(r"[/\\]", member.name):
        return "leads out of its folder by '..'"
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname!r}"
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return "is a device, a folder or an extension, and no plain file"
    if member.name in seen:
        return "is there twice"
    if member.name not in expected:
        return "is not in the index"
    if expected[member.name] != (offset + BLOCK, member.size):
        return "does not lie where the index says, or is of another size"
    return None


def check_members(archive: int, path: Path, shard: Shard, clips: list[StoredClip]) -> None:
    """Walks through the headers of an opened archive (a file descriptor); contents are not read.

    Raises ShardError where a member has an absolute path or `..`, is a link or a device, is there twice, or is not as the index says.
    """
    expected = {name: (offset, size) for clip in clips for name, offset, size in clip.members()}
    seen: set[str] = set()
    offset = 0
    while offset < shard.bytes:
        header = os.pread(archive, BLOCK, offset)
        if not header.strip(b"\0"):
            break
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise ShardError(f"{path} is damaged at byte {offset} ({error}); copy it again, or write the shards anew.") from error
        if fault := _fault(member, seen, expected, offset):
            raise ShardError(f"{path} holds {member.name!r}, which {fault}. Do not use these shards.")
        seen.add(member.name)
        offset += BLOCK + -(-member.size // BLOCK) * BLOCK
    if missing := expected.keys() - seen:
        raise ShardError(f"{path} lacks {min(missing)}, which the index names; copy it again, or write the shards anew.")
    if any(os.pread(archive, shard.bytes - offset, offset).strip(b"\0")):
        raise ShardError(f"{path} holds more after its end, from byte {offset} on. Do not use these shards.")


def verify_shard(folder: Path, shard: Shard) -> None:
    """Reads an archive whole: checksum and every member. Raises ShardError."""
    path = folder / shard.name
    check_size(path, shard.bytes)
    if sha256_of(path) != shard.sha256:
        raise ShardError(f"{path} has another checksum than the index says; copy it again, or delete it and give the command again.")
    archive = os.open(path, os.O_RDONLY)
    try:
        check_members(archive, path, shard, read_clips(folder, shard))
    finally:
        os.close(archive)


def as_json(value: Any) -> str:
    """A dataclass or plain values as JSON text, the same each time; names that are no Unicode are kept."""
    plain = value if isinstance(value, dict) else asdict(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":")) + "\n"
