"""Hostile and broken archives: each is refused with its own sentence, at the latest when its shard is first used."""

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mavil_edu import media, tiny
from mavil_edu.config import AugmentConfig
from mavil_edu.data.loader import evaluation_samples, training_steps
from mavil_edu.data.shard_files import Settings, ShardError, encode_picture
from mavil_edu.data.shard_writer import write_shards
from mavil_edu.data.shards import Shards

CONFIG = tiny()


@pytest.fixture(scope="module")
def honest(tmp_path_factory) -> Path:
    """Two shards of one clip each."""
    clips, out = tmp_path_factory.mktemp("clips"), tmp_path_factory.mktemp("out")
    for path in sorted((Path(__file__).parent.parent / "data_samples").glob("*.mp4"))[:2]:
        shutil.copy(path, clips)
    write_shards(clips, out, Settings(32, 12.5, 60.0, 1.0, 90, 1), lambda: (media.find_media([clips]), []))
    return out


@pytest.fixture
def folder(honest, tmp_path) -> Path:
    shutil.copytree(honest, tmp_path / "shards")
    return tmp_path / "shards"


def opened(folder: Path, **options) -> Shards:
    return Shards(folder, CONFIG.model, AugmentConfig(), **options)


def change(path: Path, edit) -> None:
    """Edits a JSON file."""
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(values))


def agree(folder: Path) -> None:
    """Makes the index agree with the first shard as it now is, as whoever made a hostile archive would."""
    path = folder / "shard-000000.tar"
    facts = {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    facts["index_sha256"] = hashlib.sha256(path.with_suffix(".json").read_bytes()).hexdigest()
    change(folder / "index.json", lambda index: index["shards"][0].update(facts))


def rewrite(folder: Path, extra: list[tarfile.TarInfo], contents: dict[str, bytes] | None = None) -> None:
    """Packs the first shard anew: members appended, contents replaced."""
    path = folder / "shard-000000.tar"
    with tarfile.open(path) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for member, content in members:
            content = (contents or {}).get(member.name.split(".", 1)[1], content)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in extra:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    agree(folder)


def refusals(folder: Path) -> list[str]:
    """What is said on first use, and by looking at everything; the sound shard beside it is not to be blamed."""
    said = []
    for attempt in (lambda: opened(folder).sample(0, None), lambda: opened(folder, verify=True)):
        with pytest.raises(ShardError) as caught:
            attempt()
        said.append(str(caught.value))
    assert "\n" not in "".join(said)
    return said


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, size
    return made


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (member("/etc/passwd", size=5), "'/etc/passwd', which has an absolute path"),
        (member("C:\\windows\\x"), "absolute path"),
        (member("../outside.json", size=5), "leads out of its folder by '..'"),
        (member("a/../../b"), "leads out"),
        (member("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link to '/etc/passwd'"),
        (member("hard", tarfile.LNKTYPE, "000000000.json"), "is a link to '000000000.json'"),
        (member("device", tarfile.CHRTYPE), "is a device"),
        (member("pipe", tarfile.FIFOTYPE), "is a device"),
        (member("folder", tarfile.DIRTYPE), "a folder"),
        (member("000000000.json", size=5), "000000000.json', which is there twice"),
        (member("000000009.json", size=5), "is not in the index"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_members_that_no_shard_has_are_refused(folder, extra, sentence):
    rewrite(folder, [extra])
    assert all(sentence in said for said in refusals(folder))


@pytest.mark.parametrize("workers", [0, 1])
def test_training_and_evaluation_stop_with_the_sentence_alone(folder, workers):
    rewrite(folder, [member("/etc/passwd", size=5)])
    for stream in (training_steps(opened(folder), 2, seed=0, workers=workers), evaluation_samples(opened(folder), workers=workers)):
        with pytest.raises(ValueError, match="absolute path") as caught:
            next(stream)
        assert "Traceback" not in str(caught.value)


def test_what_is_hidden_after_the_archives_end_is_refused(folder):
    with (folder / "shard-000000.tar").open("ab") as file:
        file.write(b"hidden".ljust(512, b"\0"))
    agree(folder)
    assert all("holds more after its end" in said for said in refusals(folder))


def test_a_member_of_another_size_or_a_missing_one_is_refused(folder):
    rewrite(folder, [], {"json": b"{}"})
    assert all("another size" in said for said in refusals(folder))
    shutil.copy(folder / "shard-000001.tar", folder / "shard-000000.tar")
    agree(folder)
    assert all("000000001.json', which is not in the index" in said for said in refusals(folder))


def test_a_picture_that_is_larger_than_the_index_says_is_not_unpacked(folder):
    beside = folder / "shard-000000.json"
    bomb = encode_picture(np.zeros((4000, 4000, 3), np.uint8), 10)
    rewrite(folder, [], {"0002.jpg": bomb})
    change(beside, lambda values: values["clips"][0]["sizes"].__setitem__(4, len(bomb)))
    agree(folder)
    with pytest.raises(ShardError, match="claims 4000 × 4000 pixels where the index says 32 × 32; it is not opened"):
        opened(folder).sample(0, None)
    change(beside, lambda values: values["clips"][0].update(height=40_000, width=40_000))
    agree(folder)
    assert all("claims 40000 × 40000 pixels of clip 000000000" in said for said in refusals(folder))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"offset": 1 << 40}, "beyond the end of shard-000000.tar"),
        ({"offset": 256}, "cannot be"),
        ({"offset": -512}, "cannot be"),
        ({"offset": 1024}, "does not lie where the index says"),
        ({"samples": 1 << 40}, "cannot be"),
        ({"heard": [0, 1 << 40]}, "cannot be"),
        ({"heard": [0]}, "is not what mavil-edu shards writes"),
        ({"key": "../../etc"}, "cannot be"),
        ({"seconds": float("nan")}, "cannot be"),
        ({"sizes": [10, 10]}, "cannot be"),
        ({"surprise": 1}, "is not what mavil-edu shards writes"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_numbers_that_cannot_be_are_refused(folder, fields, sentence):
    change(folder / "shard-000000.json", lambda values: values["clips"][0].update(fields))
    agree(folder)
    assert all(sentence in said for said in refusals(folder))


@pytest.mark.parametrize("name", ["../shard-000000.tar", "/etc/passwd", "shard-000000.tar/../x", "shard-000000.tar\n"])
def test_an_index_that_points_elsewhere_is_refused(folder, name):
    change(folder / "index.json", lambda index: index["shards"][0].update(name=name))
    with pytest.raises(ShardError, match="which is no shard of this folder"):
        opened(folder)


def test_an_index_that_does_not_fit_its_files_is_refused_when_it_is_opened(folder):
    kept = (folder / "index.json").read_text()
    for edit, sentence in (
        (lambda index: index["shards"].append(index["shards"][0]), "names a shard twice"),
        (lambda index: index.update(version=2), "is of version 2"),
        (lambda index: index["shards"][0].pop("sha256"), "is not what mavil-edu shards writes"),
        (lambda index: index["shards"][0].update(bytes=1), "bytes where the index says 1"),
        (lambda index: index["shards"][1].update(clips=2**63), "counts 9223372036854775808 clips in shard-000001.tar"),
        (lambda index: index["shards"][0].update(clips=-1), "counts -1 clips"),
        (lambda index: index["shards"][0].update(clips=index["settings"]["clips_per_shard"] + 1), "a shard has 0 to"),
    ):
        change(folder / "index.json", edit)
        with pytest.raises(ShardError, match=sentence):
            opened(folder)
        (folder / "index.json").write_text(kept)
    for text in ("[]", "{", ""):
        (folder / "index.json").write_text(text)
        with pytest.raises(ShardError):
            opened(folder)
    (folder / "index.json").write_text(kept)
    (folder / "shard-000001.json").write_text("{}")
    with pytest.raises(ShardError, match="is not the file that index.json was written with"):
        opened(folder).sample(1, None)
    archive = folder / "shard-000001.tar"
    archive.rename(folder / "elsewhere")
    with pytest.raises(ShardError, match="cannot be found"):
        opened(folder)
    archive.symlink_to(folder / "elsewhere")
    with pytest.raises(ShardError, match="is a link"):
        opened(folder)


def test_a_changed_byte_is_found_by_its_checksum(folder):
    path = folder / "shard-000000.tar"
    raw = bytearray(path.read_bytes())
    raw[3000] ^= 1
    path.write_bytes(raw)
    with pytest.raises(ShardError, match="another checksum than the index says"):
        opened(folder, verify=True)
