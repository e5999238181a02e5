"""AV-MNIST: read from its folder, and built from (made) sources that are checked by their content."""

import gzip
import hashlib
import http.server
import io
import shutil
import struct
import threading
import wave
import zipfile
from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from mavil_edu import audio, cli, tiny
from mavil_edu.config import AudioConfig, AugmentConfig
from mavil_edu.data.avmnist import AVMNIST, PICTURE_FILE, SOUND_FILE, SPLITS, is_avmnist, pairs_file, peak_normalised, read_pairs
from mavil_edu.data.avmnist_build import SPEAKERS, Sources, build
from mavil_edu.data.batch import evaluation_batch, to_inputs
from mavil_edu.evaluate import scored_patches
from mavil_edu.mavil import draw_masks

CONFIG = tiny()
TAKES = 12
PEOPLE = sorted(name for names in SPEAKERS.values() for name in names)


def recording(speaker: int, digit: int, take: int) -> np.ndarray:
    """A tone of the digit's pitch; the later speakers are quieter, as in the real recordings."""
    time = np.arange(1200 + 40 * take) / 8000
    return (16_000 / (1 + 3 * speaker) * np.sin(2 * np.pi * 100 * (2 + digit) * time)).astype("<i2")


def wav(samples: np.ndarray, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        sound.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def idx(array: np.ndarray, kind: int) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def archive(path, recordings: dict[tuple[str, int, int], np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("fsdd-main/README.md", "digits")
        for (speaker, digit, take), samples in recordings.items():
            file.writestr(f"fsdd-main/recordings/{digit}_{speaker}_{take}.wav", wav(samples))


def sums(samples: bytes, images: bytes, labels: bytes, writers: bytes) -> dict[str, str]:
    parts = {"recordings": samples, "images": images, "labels": labels, "writers": writers}
    return {what: hashlib.sha256(content).hexdigest() for what, content in parts.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Made sources: 12 takes of each speaker and digit, 3,000 images by 60 writers, and QMNIST's longer table."""
    folder = tmp_path_factory.mktemp("sources")
    spoken = {(p, d, t): recording(PEOPLE.index(p), d, t) for p, d, t in product(PEOPLE, range(10), range(TAKES))}
    archive(folder / "fsdd.zip", dict(reversed(spoken.items())))
    rng = np.random.default_rng(0)
    labels = (np.arange(3000) % 10).astype("u1")
    images = rng.integers(0, 256, (3000, 28, 28), dtype=np.uint8)
    table = np.zeros((3500, 8), ">i4")
    table[:3000, 0], table[:, 1], table[:, 2] = labels, 4, 300 + rng.integers(0, 60, 3500)
    packed = {"images": idx(images, 8), "labels": idx(labels, 8), "writers": idx(table, 12)}
    for name, content in packed.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    samples = np.concatenate([spoken[key] for key in sorted(spoken)]).tobytes()
    return folder, sums(samples, packed["images"], packed["labels"], table[:3000, :3].tobytes())


def sources_of(folder, checksums) -> Sources:
    names = {"recordings": "fsdd.zip", "images": "images.gz", "labels": "labels.gz", "writers": "writers.gz"}
    return Sources(**{what: (folder / name).as_uri() for what, name in names.items()}, sums=checksums)


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    place = tmp_path_factory.mktemp("built") / "av_mnist"
    counts = build(place, 3, sources_of(*files))
    assert counts["pairs_speaker_train.csv"] == 3 * 10 * TAKES
    return place


def clips(folder, split="train", model=CONFIG.model, **changes):
    return AVMNIST(folder, split, model, replace(CONFIG.train.augment, **changes))


# Building


def test_the_splits_are_those_of_the_protocols_and_no_image_or_writer_is_met_twice(folder):
    for protocol in ("speaker", "official"):
        pairs = {split: read_pairs(folder / pairs_file(protocol, split)) for split in SPLITS}
        for split, of_split in pairs.items():
            assert len({pair.image_index for pair in of_split}) == len({pair.audio_index for pair in of_split}) == len(of_split)
            assert len(set(Counter(pair.label for pair in of_split).values())) == 1
            if protocol == "speaker":
                assert {pair.speaker for pair in of_split} == set(SPEAKERS[split])
        writers = [{pair.writer for pair in of_split} for of_split in pairs.values()]
        assert not writers[0] & writers[1] and not writers[0] & writers[2] and not writers[1] & writers[2]
    takes = {split: {pair.take for pair in of_split} for split, of_split in pairs.items()}  # of the official protocol
    assert takes == {"train": {10, 11}, "val": set(range(5, 10)), "test": set(range(5))}


def test_the_seed_decides_the_pairs(files, folder, tmp_path):
    build(tmp_path / "same", 3, sources_of(*files))
    build(tmp_path / "other", 4, sources_of(*files))
    for name in (pairs_file("speaker", "test"), SOUND_FILE):
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
    name = pairs_file("speaker", "test")
    writers = [{pair.writer for pair in read_pairs(place / name)} for place in (folder, tmp_path / "other")]
    assert writers[0] != writers[1]
    assert np.load(tmp_path / "other" / PICTURE_FILE)["split"].tolist() != np.load(folder / PICTURE_FILE)["split"].tolist()


def test_sources_come_over_http_as_well(files, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if not self.path.startswith("/cut"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"too little")

    place, checksums = files
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=place)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        there = Sources(f"{address}/fsdd.zip", f"{address}/images.gz", f"{address}/labels.gz", f"{address}/writers.gz", checksums)
        build(tmp_path / "out", 3, there)
        with pytest.raises(ValueError, match=r"gone\.gz cannot be downloaded \(File not found\)"):
            build(tmp_path / "not", 3, replace(there, labels=f"{address}/gone.gz"))
        with pytest.raises(ValueError, match=r"cut\.gz is no complete gzip file"):
            build(tmp_path / "not", 3, replace(there, labels=f"{address}/cut.gz"))
        server.shutdown()
    assert is_avmnist(tmp_path / "out") and not (tmp_path / "not").exists()


@pytest.mark.parametrize("what", ["recordings", "images", "labels", "writers"])
def test_a_source_whose_content_has_changed_is_refused_and_nothing_is_written(files, tmp_path, what):
    place, checksums = files
    with pytest.raises(ValueError, match=rf"{what[:4]}.*checksum|fsdd.*checksum"):
        build(tmp_path / "out", 3, sources_of(place, checksums | {what: "0" * 64}))
    assert not list(tmp_path.iterdir())


def test_a_source_that_is_cut_short_or_something_else_is_told(files, tmp_path):
    place = shutil.copytree(files[0], tmp_path / "sources")
    for name, content, words in (
        ("images.gz", (place / "images.gz").read_bytes()[:5000], "no complete gzip file"),
        ("writers.gz", b"<html>", "no complete gzip file"),
        ("fsdd.zip", (place / "fsdd.zip").read_bytes()[:5000], "no recordings that can be read"),
    ):
        whole = (place / name).read_bytes()
        (place / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            build(tmp_path / "out", 3, sources_of(place, files[1]))
        (place / name).write_bytes(whole)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="nothing is overwritten"):
        build(tmp_path / "full", 3, sources_of(place, files[1]))


def test_recordings_of_another_kind_are_refused(files, tmp_path):
    with zipfile.ZipFile(tmp_path / "fsdd.zip", "w") as file:
        file.writestr("fsdd/recordings/0_theo_0.wav", wav(recording(0, 0, 0), rate=44100))
    with pytest.raises(ValueError, match="not mono sound of 16 bits at 8000 Hz"):
        build(tmp_path / "out", 3, replace(sources_of(*files), recordings=(tmp_path / "fsdd.zip").as_uri()))


def test_the_real_content_passes_the_built_in_checksums(shared_data, tmp_path):
    real = shared_data / "av_mnist"
    sound, picture = np.load(real / SOUND_FILE), np.load(real / PICTURE_FILE)
    names, offsets, samples = sound["speaker_names"], sound["offsets"], sound["samples"]
    keys = zip(sound["speaker"], sound["label"], sound["take"], strict=True)
    archive(tmp_path / "fsdd.zip", {(names[p], d, t): samples[offsets[i] : offsets[i + 1]] for i, (p, d, t) in enumerate(keys)})
    table = np.zeros((10_000, 8), ">i4")
    table[:, 0], table[:, 1], table[:, 2] = picture["label"], picture["hsf"], picture["writer"]
    for name, array, kind in (("images", picture["images"], 8), ("labels", picture["label"], 8), ("writers", table, 12)):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array, kind), 1))
    counts = build(tmp_path / "out", 0, sources_of(tmp_path, Sources().sums))
    assert list(counts.values()) == [1500, 500, 1000, 2400, 300, 300]
    for name in (SOUND_FILE, PICTURE_FILE):
        ours, theirs = np.load(tmp_path / "out" / name), np.load(real / name)
        for key in set(theirs) - {"split"}:
            assert (ours[key] == theirs[key]).all(), key
    for protocol, split in product(("speaker", "official"), SPLITS):
        ours, theirs = (read_pairs(place / pairs_file(protocol, split)) for place in (tmp_path / "out", real))
        assert {pair.audio_index for pair in ours} == {pair.audio_index for pair in theirs}


# Clips


def test_a_digit_stands_in_the_middle_in_evaluation_and_anywhere_in_training(folder):
    data = clips(folder)
    samples = CONFIG.model.audio.samples
    start, stop = data.sample(0, None).heard.tolist()
    assert stop - start == len(data.waveforms[0]) and abs(start - (samples - stop)) <= 1
    starts = [int(data.sample(0, torch.Generator().manual_seed(seed)).heard[0]) for seed in range(40)]
    assert len(set(starts)) > 30 and min(starts) < samples / 5 and max(starts) > samples * 0.75
    again = [data.sample(0, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*again, strict=True))


def test_where_some_pairs_stand_for_all_every_speaker_is_among_them(folder):
    data = clips(folder)
    _, kept, _ = evaluation_batch(data, 60)
    assert {data.labels["speaker"][i] for i in kept} == set(data.labels["speaker"]) and len(set(data.labels["speaker"])) > 1


def test_around_the_digit_there_is_only_padding_and_it_is_not_scored(folder):
    data = clips(folder)
    for generator in (None, torch.Generator().manual_seed(1)):
        sample = data.sample(5, generator)
        start, stop = sample.heard.tolist()
        assert not sample.waveform[:start].any() and not sample.waveform[stop:].any() and sample.waveform[start:stop].any()
    batch, _, skipped = evaluation_batch(data, 8)
    assert not skipped
    inputs = to_inputs(batch, CONFIG.model)
    assert torch.equal(inputs.audio_content, audio.audio_content(batch.heard, CONFIG.model.audio)) and inputs.video_content.all()
    assert 0 < inputs.audio_content.float().mean() < 0.3
    masks = draw_masks(8, CONFIG.model, replace(CONFIG.objective, audio_ratio=1.0))
    assert torch.equal(scored_patches(masks, inputs, CONFIG.objective)[0], inputs.audio_content)


def test_a_recording_longer_than_the_window_gives_its_middle_or_in_training_a_random_part(folder):
    model = replace(CONFIG.model, audio=AudioConfig(seconds=0.1, frames=8, patch_frames=8))
    data = clips(folder, model=model, magnitude=False, roll=False)
    sample, whole = data.sample(0, None), data.waveforms[0]
    assert sample.heard.tolist() == [0, 1600] and torch.equal(sample.waveform, whole[(len(whole) - 1600) // 2 :][:1600])
    assert len({float(data.sample(0, torch.Generator().manual_seed(seed)).waveform[0]) for seed in range(10)}) > 5


def test_all_speakers_are_equally_loud_and_the_pitch_is_kept(folder):
    for split in SPLITS:
        peaks = torch.stack([waveform.abs().max() for waveform in clips(folder, split).waveforms])
        assert torch.allclose(peaks, torch.ones_like(peaks))
    waveform = peak_normalised(recording(3, 5, 9), 8000)
    assert len(waveform) == 2 * len(recording(3, 5, 9))
    spectrum = torch.fft.rfft(waveform).abs()
    assert abs(float(spectrum.argmax()) * 16_000 / len(waveform) - 700) < 12
    assert not peak_normalised(np.zeros(100, np.int16), 8000).any()


def test_the_picture_is_grey_does_not_move_and_is_never_mirrored(folder):
    data = clips(folder, flip=True)
    upright = data.sample(3, None).frames
    assert (upright == upright[:1]).all() and (upright == upright[..., :1]).all()
    for seed in range(8):
        assert torch.equal(data.sample(3, torch.Generator().manual_seed(seed)).frames, upright)
    stored = np.load(folder / PICTURE_FILE)["images"][data.pairs[3].image_index]
    small = torch.nn.functional.interpolate(upright[:1, ..., 0][None].float(), (28, 28), mode="area")[0, 0]
    assert np.corrcoef(small.flatten(), stored.flatten())[0, 1] > 0.7


def test_labels_and_names_tell_the_digit_the_speaker_and_the_writer(folder):
    data = clips(folder, "val")
    assert set(data.labels) == {"digit", "speaker", "writer"} and set(data.labels["speaker"]) == {"nicolas"}
    assert all(len(column) == len(data) for column in data.labels.values())
    pair = data.pairs[2]
    assert data.labels["digit"][2] == str(pair.label) and "nicolas" in data.name(2) and str(pair.writer) in data.name(2)
    assert clips(folder, "val").fingerprint() == data.fingerprint() != clips(folder, "test").fingerprint()


def test_the_real_data_set_has_its_numbers_and_its_two_protocols(shared_data):
    real = shared_data / "av_mnist"
    augment = AugmentConfig()
    assert len(AVMNIST(real, "train", CONFIG.model, augment)) == 1500
    official = AVMNIST(real, "test", CONFIG.model, augment, protocol="official")
    assert len(official) == 300 and len(set(official.labels["speaker"])) == 6
    assert min(len(waveform) for waveform in official.waveforms) >= 0.14 * 16_000


def test_a_folder_that_is_none_or_damaged_is_told_with_the_remedy(folder, tmp_path):
    with pytest.raises(ValueError, match="is no AV-MNIST folder: .*mavil-edu avmnist"):
        clips(tmp_path)
    for name, content, words in (
        (PICTURE_FILE, b"junk", f"{PICTURE_FILE} cannot be read"),
        (SOUND_FILE, (folder / SOUND_FILE).read_bytes()[:3000], f"{SOUND_FILE} cannot be read"),
        ("pairs_speaker_train.csv", b"a,b\n1,2\n", "line 1: the columns are not"),
    ):
        copy = shutil.copytree(folder, tmp_path / name)
        (copy / name).write_bytes(content)
        with pytest.raises(ValueError, match=words):
            clips(copy)
    table = (folder / "pairs_speaker_train.csv").read_text().splitlines()
    digit = table[1].split(",")
    for line, words in (
        (",".join(["99999", *digit[1:]]), "not both of which exist"),
        (",".join([*digit[:2], str((int(digit[2]) + 1) % 10), *digit[3:]]), "another digit"),
        ("1,2,three", "line 2: '1,2,three' is no pair"),
    ):
        (tmp_path / SOUND_FILE / "pairs_speaker_train.csv").write_text("\n".join([table[0], line, *table[2:]]))
        shutil.copy(folder / SOUND_FILE, tmp_path / SOUND_FILE)
        with pytest.raises(ValueError, match=words):
            clips(tmp_path / SOUND_FILE)


def test_the_command_says_where_it_failed_without_a_network(tmp_path, monkeypatch, capsys, files):
    monkeypatch.setattr("mavil_edu.data.avmnist_build.Sources", lambda: replace(sources_of(*files), images="file:///nowhere/images.gz"))
    assert cli.main(["avmnist", "--out", str(tmp_path / "out")]) == 2
    assert "images.gz cannot be downloaded" in capsys.readouterr().err
    monkeypatch.setattr("mavil_edu.data.avmnist_build.Sources", lambda: sources_of(*files))
    assert cli.main(["avmnist", "--out", str(tmp_path / "out"), "--seed", "3"]) == 0
    assert "CC BY-SA 4.0" in capsys.readouterr().err and is_avmnist(tmp_path / "out")
