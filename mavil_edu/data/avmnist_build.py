"""AV-MNIST built from its public sources: downloaded, checked, cut into splits, paired."""

import csv
import gzip
import hashlib
import http.client
import io
import re
import urllib.error
import urllib.request
import wave
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mavil_edu.data.avmnist import COLUMNS, PICTURE_FILE, SOUND_FILE, SPLITS, Pair, pairs_file
from mavil_edu.files import check_new, write_folder, write_text

RATE = 8000  # of the recordings
TIMEOUT = 60  # seconds without an answer, after which a download has failed
MOST_BYTES = 200 << 20  # of one download, packed or unpacked
SPEAKERS = {"train": ("george", "jackson", "lucas"), "val": ("nicolas",), "test": ("theo", "yweweler")}  # of the speaker protocol
TAKES = {"test": range(5), "val": range(5, 10), "train": range(10, 50)}  # of the official protocol: takes 0–4 test; we cut 5–9 for val
WRITER_SHARES = {"train": 0.53, "val": 0.16, "test": 0.31}  # of the writers, so that every digit has images enough


@dataclass(frozen=True)
class Sources:
    """Where the parts are, and the SHA-256 of what is unpacked from them, which outlives any change of packing."""

    recordings: str = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/26eb9aaf76e8.zip"
    images: str = "https://raw.githubusercontent.com/kelas/mnist/283b387221ab46655e600cfcc25d843bb14292b9/t10k-images-idx3-ubyte.gz"
    labels: str = "https://raw.githubusercontent.com/kelas/mnist/283b387221ab46655e600cfcc25d843bb14292b9/t10k-labels-idx1-ubyte.gz"
    writers: str = (
        "https://raw.githubusercontent.com/facebookresearch/qmnist/c5d0468d749822b3dfc4fcb7110a1e94d541b1c1/qmnist-test-labels-idx2-int.gz"
    )
    sums: dict[str, str] = field(
        default_factory=lambda: {
            "recordings": "4e0317650d9c876eeda8788b4d4132af747e323d495a3da12c9bce9bc456a45f",  # all samples, by speaker, digit and take
            "images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",  # the file without gzip
            "labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",  # likewise
            "writers": "1128302eb4aea1b71e98213a30d31ec8798361c3d42f2a74d5d87c1aaf5035dc",  # class, series and writer of MNIST's 10,000
        }
    )


README = """# AV-MNIST: spoken digits and handwritten digits

Built by `mavil-edu avmnist` with seed {seed}. Recordings: Free Spoken Digit Dataset, {recordings} (CC BY-SA 4.0: keep this licence
on whatever is made of the sound and handed on). Images: MNIST's test set, {images}. Writers: QMNIST, {writers} (BSD).

Splits of `pairs_speaker_*`: speakers and writers are disjoint (train {train}; val {val}; test {test}). Splits of `pairs_official_*`:
takes 0–4 test, 5–9 val, the others train; writers are disjoint. Writers are put in the order of SHA-256("SEED writer NUMBER"), the first
53 % of them train, the next 16 % val, the others test. Each recording gets an image of its digit, none twice in a split: recordings in
order, images in that of SHA-256("SEED PROTOCOL image NUMBER"). The same seed gives the same pairs everywhere. A copy of this data set
that was made otherwise has the same recordings in each split, but may have other writers there, and pairs other images.

The pairing is by digit, not by event: score retrieval by digit, not by instance.
"""


def _download(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            content = answer.read(MOST_BYTES + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        raise ValueError(f"{url} cannot be downloaded ({getattr(error, 'reason', error)}). Check the network and try again.") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{url} gives more than {MOST_BYTES >> 20} MB; it is not the file that was expected.")
    return content


def _check(what: str, content: bytes, sources: Sources) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != sources.sums[what]:
        raise ValueError(
            f"{getattr(sources, what)} is not what it was: the checksum (SHA-256) of its content is {found[:16]}…, "
            f"not {sources.sums[what][:16]}…. Try again; if it stays so, the source has changed and must not be trusted."
        )


def _unpacked(url: str) -> bytes:
    try:
        with gzip.open(io.BytesIO(_download(url))) as file:
            return file.read(MOST_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{url} is no complete gzip file ({error}). Try again.") from error


def _idx(url: str, content: bytes, kind: str, axes: int) -> np.ndarray:
    """An array in MNIST's IDX format: two zero bytes, type, number of axes, sizes, values."""
    sizes = np.frombuffer(content[4 : 4 + 4 * axes], ">i4")
    values = content[4 + 4 * axes :]
    if content[:2] != b"\0\0" or content[3:4] != bytes([axes]) or len(values) != np.prod(sizes) * np.dtype(kind).itemsize:
        raise ValueError(f"{url} is no IDX file of {axes} axes. Try again.")
    return np.frombuffer(values, kind).reshape(sizes)


def _recordings(sources: Sources) -> dict[str, np.ndarray]:
    """All recordings by speaker, digit and take, as they stand in `audio_fsdd.npz`."""
    found = {}
    try:
        with zipfile.ZipFile(io.BytesIO(_download(sources.recordings))) as archive:
            for member in archive.namelist():
                if parts := re.search(r"/recordings/(\d)_([a-z]+)_(\d+)\.wav$", member):
                    with archive.open(member) as file, wave.open(file) as sound:
                        if sound.getparams()[:3] != (1, 2, RATE):
                            raise ValueError(f"{member} in {sources.recordings} is not mono sound of 16 bits at {RATE} Hz.")
                        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
                        found[parts[2], int(parts[1]), int(parts[3])] = samples
    except (zipfile.BadZipFile, wave.Error, EOFError, zlib.error) as error:
        raise ValueError(f"{sources.recordings} holds no recordings that can be read ({error}). Try again.") from error
    if not found:
        raise ValueError(f"{sources.recordings} holds no recordings/DIGIT_SPEAKER_TAKE.wav.")
    keys = sorted(found)
    names = sorted({speaker for speaker, _, _ in keys})
    samples = np.concatenate([found[key] for key in keys])
    _check("recordings", samples.tobytes(), sources)
    return {
        "samples": samples,
        "offsets": np.cumsum([0, *(len(found[key]) for key in keys)]),
        "label": np.array([digit for _, digit, _ in keys], np.uint8),
        "speaker": np.array([names.index(speaker) for speaker, _, _ in keys], np.uint8),
        "take": np.array([take for _, _, take in keys], np.uint8),
        "speaker_names": np.array(names),
        "sample_rate": np.array(RATE, np.int32),
    }


def _place(*words: object) -> str:
    """A place in an order that follows from the words alone, on every machine and for ever."""
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()


def split_writers(writers: np.ndarray, seed: int) -> dict[int, str]:
    """The split of each writer, by the rule that the data set's README states."""
    order = sorted(set(writers.tolist()), key=lambda writer: _place(seed, "writer", writer))
    first, second = (round(len(order) * share) for share in (WRITER_SHARES["train"], WRITER_SHARES["train"] + WRITER_SHARES["val"]))
    return {writer: SPLITS[(i >= first) + (i >= second)] for i, writer in enumerate(order)}


def _images(sources: Sources, seed: int) -> dict[str, np.ndarray]:
    """MNIST's test images with their writers, as they stand in `images_mnist_t10k.npz`."""
    packed = {what: _unpacked(getattr(sources, what)) for what in ("images", "labels")}
    for what, content in packed.items():
        _check(what, content, sources)
    images = _idx(sources.images, packed["images"], "u1", 3)
    labels = _idx(sources.labels, packed["labels"], "u1", 1)
    known = _idx(sources.writers, _unpacked(sources.writers), ">i4", 2)[: len(images), :3]  # QMNIST goes on with more images
    _check("writers", known.tobytes(), sources)
    if len(known) != len(images) or not (len(labels) == len(images) and (known[:, 0] == labels).all()):
        raise ValueError(f"{sources.writers} and {sources.labels} do not speak of the same images.")
    writers = known[:, 2].astype(np.int32)
    split_of = split_writers(writers, seed)
    return {
        "images": images,
        "label": labels,
        "writer": writers,
        "hsf": known[:, 1].astype(np.uint8),
        "split": np.array([split_of[writer] for writer in writers.tolist()]),
    }


def pair_up(sound: dict[str, np.ndarray], picture: dict[str, np.ndarray], protocol: str, split: str, seed: int) -> list[Pair]:
    """The pairs of a split, by the rule that the data set's README states. Raises ValueError where images run out."""
    names = sound["speaker_names"].tolist()
    stacks: dict[int, list[int]] = {digit: [] for digit in range(10)}
    for image in sorted(np.flatnonzero(picture["split"] == split).tolist(), key=lambda image: _place(seed, protocol, "image", image)):
        stacks[int(picture["label"][image])].append(image)
    pairs = []
    for index, (digit, speaker, take) in enumerate(zip(*(sound[key].tolist() for key in ("label", "speaker", "take")), strict=True)):
        if (names[speaker] not in SPEAKERS[split]) if protocol == "speaker" else (take not in TAKES[split]):
            continue
        if not stacks[digit]:
            raise ValueError(f"There are not images enough of the digit {digit} for the {protocol} protocol's {split} split.")
        image = stacks[digit].pop(0)
        pairs.append(Pair(index, image, digit, names[speaker], take, int(picture["writer"][image]), int(picture["hsf"][image])))
    return pairs


def build(folder: Path, seed: int = 0, sources: Sources | None = None) -> dict[str, int]:
    """Downloads the sources and writes the data set's folder, whole or not at all; returns the number of pairs by file.

    folder: new or empty. seed: of the split of the writers and of the pairing. Raises ValueError with a sentence where a download
    fails, is not what it was, or the folder holds something.
    """
    sources = sources or Sources()
    check_new(folder)
    sound, picture = _recordings(sources), _images(sources, seed)
    pairs = {
        pairs_file(protocol, split): pair_up(sound, picture, protocol, split, seed)
        for protocol in ("speaker", "official")
        for split in SPLITS
    }

    def fill(place: Path) -> None:
        np.savez_compressed(place / SOUND_FILE, **sound)
        np.savez_compressed(place / PICTURE_FILE, **picture)
        for name, rows in pairs.items():
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(rows)
            write_text(place / name, text.getvalue())
        people = {split: ", ".join(names) for split, names in SPEAKERS.items()}
        addresses = {"recordings": sources.recordings, "images": sources.images, "writers": sources.writers}
        write_text(place / "README.md", README.format(seed=seed, **addresses, **people))

    write_folder(folder, fill)
    return {name: len(rows) for name, rows in pairs.items()}
