"""ESC-50 and Speech Commands: folders of their layout, heard without pictures, probed, embedded and fine-tuned; hostile lists."""

import json
import os
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mavil_edu import cli, tiny
from mavil_edu.config import AudioConfig, AugmentConfig, TransformerConfig, VideoConfig
from mavil_edu.data.batch import Sample, evaluation_batch, to_inputs
from mavil_edu.data.esc50 import ESC50, TABLE, folds_of, is_esc50, read_table
from mavil_edu.data.labelled import open_task
from mavil_edu.data.listing import ListError
from mavil_edu.data.sounds import SoundClips, modalities
from mavil_edu.data.source import has_splits, open_data, open_run
from mavil_edu.data.speech_commands import SpeechCommands, is_speech_commands
from mavil_edu.mavil import MAViL

BASE = tiny().model
MODEL = replace(
    BASE,
    audio=AudioConfig(seconds=0.64, frames=64, patch_frames=16, patch_bins=64),
    video=VideoConfig(seconds=2.0, frames=2, height=16, width=16, patch_height=8, patch_width=8),
    encoder=TransformerConfig(24, 1, 2),
    decoder=TransformerConfig(16, 1, 2),
)
PLAIN = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
CATEGORIES = {"dog": 300.0, "rain": 900.0, "clock": 2700.0}


def tone(path: Path, pitch: float, seconds: float = 1.0, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes((10_000 * np.sin(2 * np.pi * pitch * time)).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def esc50(tmp_path_factory) -> Path:
    """30 sounds of 1.5 s at 44.1 kHz, six a fold; the table has more columns, and names one file that is not there."""
    folder = tmp_path_factory.mktemp("sounds") / "ESC-50"
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(30):
        fold, target = number % 5 + 1, number // 5 % 3
        name = f"{fold}-{number}-A-{target}.wav"
        tone(folder / "audio" / name, list(CATEGORIES.values())[target] + number, 1.5, 44_100)
        lines.append(f"{name},{fold},{target},{list(CATEGORIES)[target]},False,{number},A")
    lines.append("1-999-A-0.wav,1,0,dog,False,999,A")
    (folder / "meta").mkdir()
    (folder / TABLE).write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def commands(tmp_path_factory) -> Path:
    """Three words of eight speakers, of whom one validates and one tests, and noise that is no word."""
    folder = tmp_path_factory.mktemp("speech") / "commands"
    for word, pitch in CATEGORIES.items():
        for speaker in range(8):
            tone(folder / word / f"{speaker:08x}_nohash_0.wav", pitch + speaker)
    tone(folder / "_background_noise_" / "white_nohash_noise.wav", 50.0, 3.0)
    (folder / "validation_list.txt").write_text("".join(f"{word}/{6:08x}_nohash_0.wav\n" for word in CATEGORIES))
    (folder / "testing_list.txt").write_text("".join(f"{word}/{7:08x}_nohash_0.wav\n" for word in CATEGORIES))
    return folder


# Layouts


def test_each_folder_is_known_by_its_layout(esc50, commands, tmp_path):
    assert is_esc50(esc50) and not is_esc50(commands) and is_speech_commands(commands) and not is_speech_commands(esc50)
    assert has_splits(esc50) and has_splits(commands) and not has_splits(tmp_path)
    assert isinstance(open_data(esc50, MODEL, PLAIN).clips, ESC50) and isinstance(open_data(commands, MODEL, PLAIN).clips, SpeechCommands)


def test_esc50s_splits_are_its_folds_and_every_fold_is_tested_once(esc50):
    for fold in range(1, 6):
        parts = [folds_of(split, fold) for split in ("train", "val", "test")]
        assert parts[2] == {fold} and [len(part) for part in parts] == [3, 1, 1] and set().union(*parts) == {1, 2, 3, 4, 5}
        opened = open_data(esc50, MODEL, PLAIN, split="test", fold=fold)
        assert {path.name.split("-")[0] for path in opened.clips.paths} == {str(fold)} and len(opened.clips) == 6
    assert folds_of("val", 1) == {5} and folds_of(None) == {1, 2, 3, 4, 5}
    assert open_data(esc50, MODEL, PLAIN, split="test", fold=1).missing == ["1-999-A-0.wav"]
    clips = open_data(esc50, MODEL, PLAIN).clips
    assert clips.labels["category"] == [category for name, _, category in read_table(esc50) if name != "1-999-A-0.wav"]
    with pytest.raises(ListError, match="no fold 6"):
        open_data(esc50, MODEL, PLAIN, fold=6)


def test_speech_commands_splits_are_its_lists_and_noise_is_no_word(commands):
    parts = {split: open_data(commands, MODEL, PLAIN, split=split).clips for split in ("train", "val", "test")}
    assert {split: len(clips) for split, clips in parts.items()} == {"train": 18, "val": 3, "test": 3}
    names = [f"{path.parent.name}/{path.name}" for clips in parts.values() for path in clips.paths]
    assert len(set(names)) == 24 == len(open_data(commands, MODEL, PLAIN).clips)
    assert not any("noise" in name for name in names)
    assert {parts["val"].name(i) for i in range(3)} == {f"{path.parent.name}/{path.name}" for path in parts["val"].paths}
    assert parts["train"].labels["word"][:3] == ["clock", "dog", "rain"], "by speaker, so that a first part has all words"


def test_the_split_is_the_one_that_torchaudios_reader_makes(commands):
    datasets = pytest.importorskip("torchaudio.datasets")
    for split, theirs in (("train", "training"), ("val", "validation"), ("test", "testing")):
        reader = datasets.SPEECHCOMMANDS(commands.parent, url=f"{commands.name}.tar.gz", folder_in_archive="", subset=theirs)
        names = {Path(reader.get_metadata(i)[0]).name + reader.get_metadata(i)[2] for i in range(len(reader))}
        assert names == {path.name + path.parent.name for path in open_data(commands, MODEL, PLAIN, split=split).clips.paths}


# Sounds without pictures


def test_a_sound_alone_is_a_sample_whose_pictures_do_not_count(esc50):
    clips = open_data(esc50, MODEL, PLAIN).clips
    assert modalities(clips) == ("audio",)
    for generator in (None, torch.Generator().manual_seed(0)):
        sample = clips.sample(0, generator)
        assert isinstance(sample, Sample) and sample.frames.shape == (2, 16, 16, 3) and not sample.seen.any() and not sample.frames.any()
        spectrum = torch.fft.rfft(sample.waveform).abs()
        assert float(spectrum.argmax()) * 16_000 / len(sample.waveform) == pytest.approx(300, abs=3), "44.1 kHz became 16 kHz"
    batch, _, _ = evaluation_batch(clips, 3)
    inputs = to_inputs(batch, MODEL)
    assert inputs.audio_content.all() and not inputs.video_content.any()
    drawn = [clips.sample(0, torch.Generator().manual_seed(seed)).waveform for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2]), "windows are drawn by the generator"


def test_a_sound_longer_than_the_window_is_scored_by_windows_that_cover_it(esc50):
    task = open_task(esc50, MODEL, PLAIN, fold=2)
    assert len(task.test.values) == 6 and task.test.owners.count(0) == 3, "1.5 s in windows of 0.64 s"
    assert task.classes == ["clock", "dog", "rain"] and task.modalities == ("audio",)


def test_a_silent_sound_and_a_broken_one_are_skipped_with_their_reason(tmp_path):
    tone(tmp_path / "silent.wav", 0.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF no sound")
    clips = SoundClips([tmp_path / "silent.wav", tmp_path / "broken.wav"], MODEL, PLAIN)
    assert clips.sample(0, None).reason == "silent in every window tried" and "broken.wav" in clips.sample(1, None).path


def test_pre_training_and_retrieval_refuse_sounds_without_pictures(esc50, tmp_path, capsys):
    with pytest.raises(ValueError, match="sounds alone"):
        open_run(esc50, None, MODEL, PLAIN, seed=0)
    assert cli.main(["retrieve", "--data", str(esc50)]) == 2 and "sounds alone" in capsys.readouterr().err


# Hostile lists


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.wav,6,0,dog", "line 3"),
        ("a.wav,1,0,", "category"),
        ("../a.wav,1,0,dog", "no file's name"),
        ("..,1,0,dog", "no file's name"),
        ("1-0-A-0.wav,1,0,dog", "second time"),
        ("a.wav,1,0", "3 fields under 4 titles"),
    ],
)
def test_a_broken_line_of_esc50s_table_is_named(tmp_path, line, words):
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    (tmp_path / TABLE).write_text(f"filename,fold,target,category\n1-0-A-0.wav,1,0,dog\n{line}\n")
    with pytest.raises(ListError, match=words):
        open_data(tmp_path, MODEL, PLAIN)


def test_tables_without_columns_or_without_any_file_are_told(tmp_path):
    (tmp_path / "meta").mkdir()
    (tmp_path / "audio").mkdir()
    (tmp_path / TABLE).write_text("filename,fold,category\na.wav,1,dog\n")
    with pytest.raises(ListError, match="no column target"):
        open_data(tmp_path, MODEL, PLAIN)
    (tmp_path / TABLE).write_text("filename,fold,target,category\na.wav,1,0,dog\n")
    with pytest.raises(ListError, match="None of the 1 sounds"):
        open_data(tmp_path, MODEL, PLAIN)


def test_speech_commands_lists_that_lead_elsewhere_or_overlap_are_refused(commands, tmp_path):
    folder = tmp_path / "copy"
    folder.mkdir()
    for word in CATEGORIES:
        os.symlink(commands / word, folder / word)
    good = (commands / "testing_list.txt").read_text()
    (folder / "testing_list.txt").write_text(good)
    for text, words in (("../../secret.wav\n", "line 1"), ("dog\n", "no recording as word/file"), (good, "stands in both")):
        (folder / "validation_list.txt").write_text(text)
        with pytest.raises(ListError, match=words):
            open_data(folder, MODEL, PLAIN, split="train")
    (folder / "validation_list.txt").write_text("dog/00000001_nohash_9.wav\n")
    with pytest.raises(ListError, match="no recording of the split val"):
        open_data(folder, MODEL, PLAIN, split="val")


# The commands on them


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return MAViL(MODEL).save_pretrained(tmp_path_factory.mktemp("models") / "small")


def test_finetune_learns_sounds_by_their_folds_and_words_by_their_lists(esc50, commands, model, tmp_path, capsys):
    options = ["--checkpoint", str(model), "--steps", "16", "--config.train.batch", "9", "--config.train.base-lr", "0.1", "--no-controls"]
    for data, column, more in ((esc50, "category", ["--fold", "3"]), (commands, "word", ["--config.mixup", "0"])):
        out = tmp_path / column
        assert cli.main(["finetune", "--data", str(data), *options, *more, "--out", str(out)]) == 0, capsys.readouterr().err
        summary = json.loads((out / "summary.json").read_text())
        assert summary["modality"] == "audio" and summary["column"] == column
        assert summary["test"]["accuracy"] > summary["trivial"]["chance"] + 0.25
        assert summary["clips"]["held_out"] == {"category": 6, "word": 3}[column]
    assert cli.main(["finetune", "--data", str(esc50), *options, "--modality", "both", "--out", str(tmp_path / "no")]) == 2
    assert "needs video" in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_probe_and_embed_take_sounds_alone(esc50, model, tmp_path, capsys):
    assert cli.main(["probe", "--checkpoint", str(model), "--data", str(esc50), "--method", "linear", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["clips"] == {"fitted": 18, "held_out": 6} and not card["retrieval"]
    assert [row["modality"] for row in card["probes"]] == ["audio"] and card["probes"][0]["scores"]["raw features"]["value"] > 0.5
    assert set(card["collapse"]["this model"]) == {"audio"}
    assert cli.main(["probe", "--checkpoint", str(model), "--data", str(esc50), "--method", "linear"]) == 0
    said = capsys.readouterr().out
    assert "category from audio" in said and "sound to picture" not in said
    assert cli.main(["embed", str(esc50), "--checkpoint", str(model), "--out", str(tmp_path / "e.npz")]) == 0
    table = np.load(tmp_path / "e.npz")
    assert len(set(table["clip"])) == 30 and not np.isnan(table["audio"]).any() and np.isnan(table["video"]).all()
