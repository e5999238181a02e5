"""What a path is: labels, tiles, targets and weights, official lists with their clips, and training on each kind of data."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mavil_edu import cli, media, tiny
from mavil_edu.config import AudioConfig, AugmentConfig
from mavil_edu.data.avmnist import AVMNIST
from mavil_edu.data.batch import Sample, Skipped, evaluation_batch
from mavil_edu.data.folder import FolderClips, TiledClips, count_clips, tiles_of
from mavil_edu.data.labelled import Part, open_task
from mavil_edu.data.labels import csv_labels, folder_labels, sampling_weights, take, targets
from mavil_edu.data.listing import ListError
from mavil_edu.data.shards import Shards
from mavil_edu.data.shuffled import ShuffledPairs
from mavil_edu.data.source import DataError, open_data, open_run
from mavil_edu.data.world import World

CONFIG = tiny()
PLAIN = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)
SAMPLES = Path(__file__).parent.parent / "data_samples"


def film(path: Path, seconds: float = 1.2, silent_from: float = 1e9) -> Path:
    """A clip whose grey tells the time: 20 a second."""
    time = torch.arange(round(16_000 * seconds)) / 16_000
    sound = torch.where(time < silent_from, 0.3 * torch.sin(2 * torch.pi * 440 * time), 0)
    frames = (torch.arange(round(25 * seconds)) * 0.8).to(torch.uint8)[:, None, None, None].expand(-1, 32, 32, 3)
    media.write_mp4(path, frames, 25, sound)
    return path


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("one") / "film.mp4")


def copies(one: Path, folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(one, folder / name)
    return [folder / name for name in names]


# Tiles


@pytest.mark.parametrize("seconds", [2.6, 5.12, 7.0, 7.68, 60.0, 1000.3])
def test_tiles_cover_a_clip_from_start_to_end_without_a_gap_and_with_no_window_too_many(seconds):
    tiles = tiles_of(0, seconds, 2.56)
    assert len(tiles) == pytest.approx(seconds / 2.56, abs=1)
    assert tiles[0].start == 0 and tiles[-1].start + 2.56 == pytest.approx(seconds)
    assert all(0 < b.start - a.start <= 2.56 + 1e-9 for a, b in zip(tiles, tiles[1:], strict=False))
    for tile in tiles:  # where the reader will lay the window
        assert media.centre(seconds, 2.56, 2.56, tile.position) - 1.28 == pytest.approx(tile.start, abs=1e-6)


def test_a_clip_no_longer_than_the_window_has_one_tile():
    assert [len(tiles_of(0, seconds, 2.56)) for seconds in (0.0, 1.0, 2.56, 2.561)] == [1, 1, 1, 1]


def test_tiles_of_a_file_show_its_successive_parts_with_its_labels(tmp_path, one):
    paths = [film(tmp_path / "long.mp4", 7.0, silent_from=4.0), *copies(one, tmp_path, "short.mp4")]
    clips = FolderClips(paths, CONFIG.model, PLAIN, {"class": ["a", "b"], "size": [1.0, 2.0]})
    tiled = TiledClips(clips)
    assert [tiled.name(i) for i in range(len(tiled))] == ["long.mp4 at 0.00 s", "short.mp4", "long.mp4 at 2.56 s", "long.mp4 at 4.44 s"]
    assert tiled.labels == {"class": ["a", "b", "a", "a"], "size": [1.0, 2.0, 1.0, 1.0]}
    windows = [tiled.sample(i, None) for i in range(4)]
    for index, start in ((0, 0.0), (2, 2.56)):
        expected = torch.tensor([20 * (start + (i + 0.5) * 0.32) for i in range(8)])
        assert (windows[index].frames.float().mean(dim=(1, 2, 3)) - expected).abs().max() < 3
    assert isinstance(windows[3], Skipped) and "silent" in windows[3].reason
    batch, kept, skipped = evaluation_batch(tiled)
    assert kept == [0, 1, 2] and len(skipped) == 1 and count_clips(tiled, kept) == 2 and count_clips(clips, [0, 1]) == 2
    augmented = tiled.sample(2, torch.Generator().manual_seed(0))
    assert isinstance(augmented, Sample) and torch.equal(augmented.waveform, windows[2].waveform)
    paths[0].unlink()
    assert isinstance(tiled.sample(0, None), Skipped) and len(TiledClips(clips)) == 2


def test_where_the_windows_differ_the_longer_one_is_laid_out(tmp_path):
    model = replace(CONFIG.model, audio=AudioConfig(seconds=1.28, frames=128, patch_frames=32))
    tiled = TiledClips(FolderClips([film(tmp_path / "a.mp4", 5.2)], model, PLAIN))
    assert [round(tile.start, 2) for tile in tiled.tiles] == [0.0, 2.56, 2.64]


# Some of the clips in place of all


def test_where_some_files_stand_for_all_every_class_is_among_them_each_time_the_same(tmp_path, one):
    copies(one, tmp_path, *(f"{name}/{i}.mp4" for name in ("ape", "bat", "cat") for i in range(4)))
    clips = open_data(tmp_path, CONFIG.model, PLAIN).clips
    for some in (clips, Part(clips, list(range(12)), "class"), ShuffledPairs(clips, 0)):
        _, kept, _ = evaluation_batch(some, 6)
        assert len(set(kept)) == 6 and kept == sorted(kept) == evaluation_batch(some, 6)[1]
        assert {clips.labels["class"][i] for i in kept} == {"ape", "bat", "cat"}
    assert evaluation_batch(clips, 12)[1] == list(range(12))


def test_of_clips_that_are_mixed_from_the_start_the_first_stand_for_all(tmp_path):
    world = World(8, 1, CONFIG.model, PLAIN, quiet=True)
    files, shards = tmp_path / "clips", tmp_path / "shards"
    assert cli.main(["world", "--clips", "8", "--size", "48", "--out", str(files)]) == 0
    assert cli.main(["shards", "--data", str(files), "--out", str(shards), "--workers", "1"]) == 0
    stored = open_data(shards, CONFIG.model, PLAIN).clips
    for clips in (world, Part(world, list(range(8)), "material"), ShuffledPairs(world, 0), stored):
        assert evaluation_batch(clips, 4)[1] == [0, 1, 2, 3]
    assert evaluation_batch(Part(world, [5, 1, 7, 3], "material"), 2)[1] == [1, 3], "generated clips 1 and 3"


def test_where_some_tiles_stand_for_all_every_clip_is_among_them_before_one_comes_twice(tmp_path):
    paths = copies(film(tmp_path / "long.mp4", 7.0), tmp_path, *(f"{i}.mp4" for i in range(4)))
    tiled = TiledClips(FolderClips(paths, CONFIG.model, PLAIN))
    clips = [tiled.tiles[i].clip for i in evaluation_batch(tiled, 6)[1]]
    assert clips[:4] == [0, 1, 2, 3] and len(clips) == 6


# Names


def test_a_clip_is_named_by_its_path_below_the_folder_wherever_it_goes(tmp_path, one):
    paths = copies(one, tmp_path, *(f"{kind}/{i}.mp4" for kind in ("ape", "bat/old") for i in range(4)), "8.mp4")
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    clips = open_data(tmp_path, CONFIG.model, PLAIN).clips
    assert sorted(clips.name(i) for i in range(9)) == sorted(names)
    assert open_data(paths[0], CONFIG.model, PLAIN).clips.name(0) == "0.mp4"
    run, task = open_run(tmp_path, None, CONFIG.model, PLAIN, seed=0), open_task(tmp_path, CONFIG.model, PLAIN)
    for some in (run.training, run.evaluation, task.training):
        assert {some.name(i) for i in range(len(some))} < set(names)
    assert len(task.test.names) == 2 and set(task.test.names) < set(names[:8])


# Labels


def test_labels_come_from_sub_folders(tmp_path, one):
    paths = copies(one, tmp_path, "dog/a.mp4", "dog/deep/b.mp4", "cat/c.mp4", "d.mp4")
    assert folder_labels(tmp_path, paths) == ({"class": ["dog", "dog", "cat", ""]}, None)
    assert folder_labels(tmp_path, paths[:2]) == ({}, None)  # one name alone tells nothing


def test_a_class_whose_folder_is_no_utf8_is_text_that_can_be_drawn(tmp_path):
    paths = [tmp_path / name / "1.mp4" for name in ("ape", os.fsdecode(b"caf\xe9"))]
    assert folder_labels(tmp_path, paths) == ({"class": ["ape", r"caf\udce9"]}, None)


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_labels_come_from_a_csv_in_the_folder_or_beside_it(tmp_path, one):
    paths = copies(one, tmp_path / "films", "x/a.mp4", "b.mp4", "c.mp4", "d.mp4")
    lines = ["clip,kind,size,when", "x/a.mp4,dog,1.5,0.1 0.2", "./b.mp4,dog,-2,0.3", 'c.mp4,"cat, black",,0.4', "gone.mp4,dog,3,0.5"]
    write_csv(tmp_path / "films.csv", *lines)
    labels, note = folder_labels(tmp_path / "films", paths)
    assert labels["kind"] == ["dog", "dog", "cat, black", ""] and set(labels) == {"kind", "size"}
    assert labels["size"][:2] == [1.5, -2.0] and all(value != value for value in labels["size"][2:])
    assert "1 of the 4 clips that it names are not there; 1 of 4 clips have no labels" in note
    write_csv(tmp_path / "films" / "labels.csv", "clip,kind", *(f"{name},{kind}" for name, kind in (("x/a.mp4", "one"), ("b.mp4", "one"))))
    assert folder_labels(tmp_path / "films", paths)[0] == {"kind": ["one", "one", "", ""]}


def test_the_generated_worlds_own_table_is_read(one):
    clips = open_data(SAMPLES, CONFIG.model, PLAIN).clips
    assert len(clips) == 24 and clips.labels["material"][:2] == ["glass", "string"] and clips.labels["size"][0] == 0.4486
    assert "impacts" not in clips.labels  # times, no two alike


def test_a_csv_that_is_no_table_of_labels_is_left_aside_and_a_broken_one_is_told(tmp_path, one):
    paths = copies(one, tmp_path, "a.mp4", "b.mp4")
    labels, note = csv_labels(write_csv(tmp_path / "t.csv", "file,kind", "a.mp4,dog"), tmp_path, paths)
    assert labels == {} and "is not used for labels" in note
    labels, note = csv_labels(write_csv(tmp_path / "t.csv", "clip,kind", "z.mp4,dog"), tmp_path, paths)
    assert labels == {} and "2 of 2 clips have no labels" in note
    for line, words in (
        ("b.mp4,dog,3", "line 3: 3 fields under 2 titles"),
        ("a.mp4,cat", "line 3: a.mp4 stands there for the second time"),
    ):
        with pytest.raises(ListError, match=words):
            csv_labels(write_csv(tmp_path / "t.csv", "clip,kind", "a.mp4,dog", line), tmp_path, paths)


def test_clips_want_one_label_each(one):
    with pytest.raises(ValueError, match="'class' has 2 values for 1 clips"):
        FolderClips([one], CONFIG.model, PLAIN, {"class": ["a", "b"]})
    assert take({"class": ["a", "b", "c"]}, [2, 0]) == {"class": ["c", "a"]}


# Targets and weights


def test_targets_hold_a_one_for_each_class_of_a_clip():
    classes = ["a", "b", "c"]
    assert targets([("a", "c"), (), ("b",)], classes).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert targets(["c", "a"], classes).tolist() == [[0, 0, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match="Clip 0 has the class 'd'"):
        targets([("d",)], classes)


def test_balanced_weights_equal_a_double_loop_and_sum_to_one():
    answer = (torch.rand(40, 5, generator=torch.Generator().manual_seed(0)) < torch.tensor([0.9, 0.4, 0.1, 0.05, 0.0])).float()
    naive = [sum(1 / sum(other[c] for other in answer.tolist()) for c in range(5) if row[c]) for row in answer.tolist()]
    weights = sampling_weights(answer)
    assert torch.allclose(weights, torch.tensor(naive) / sum(naive)) and float(weights.sum()) == pytest.approx(1)


def test_with_one_class_a_clip_every_class_is_drawn_equally_often():
    answer = targets(["common"] * 90 + ["rare"] * 9 + ["single"], ["common", "rare", "single", "never"])
    drawn = torch.multinomial(sampling_weights(answer), 30_000, replacement=True, generator=torch.Generator().manual_seed(1))
    share = answer[drawn].mean(dim=0)
    assert torch.allclose(share, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.0]), atol=0.02)
    with pytest.raises(ValueError, match="No clip has a class"):
        sampling_weights(torch.zeros(3, 2))


# Data sets


@pytest.fixture
def downloads(tmp_path, one):
    """Four of six listed clips, one of them broken."""
    rows = ["_bcdefghijk,1,dog barking,train", "-bcdefghijk,20,cat purring,train", "Abcdefghijk,30,dog barking,train"]
    rows += ["Bbcdefghijk,40,cat purring,train", "Cbcdefghijk,50,cat purring,test", "Dbcdefghijk,60,dog barking,test"]
    write_csv(tmp_path / "vggsound.csv", *rows)
    copies(one, tmp_path / "clips", "_bcdefghijk_000001.mp4", "x/-bcdefghijk_20_30.mp4", "Cbcdefghijk.mp4", "unlisted.mp4")
    (tmp_path / "clips" / "Abcdefghijk_000030.mp4").write_bytes(b"junk")
    return tmp_path


def test_a_list_gives_its_split_and_missing_clips_are_listed_and_not_fatal(downloads):
    listed, clips = downloads / "vggsound.csv", downloads / "clips"
    train = open_data(clips, CONFIG.model, PLAIN, split="train", listed=listed)
    assert [path.name for path in train.clips.paths] == ["_bcdefghijk_000001.mp4", "-bcdefghijk_20_30.mp4"]
    assert train.clips.labels == {"class": ["dog barking", "cat purring"]}
    assert train.missing == ["Bbcdefghijk_000040"] and "1 of the 4 clips" in train.notes[0]
    assert [Path(entry["path"]).name for entry in train.skipped] == ["Abcdefghijk_000030.mp4"]
    assert len(open_data(clips, CONFIG.model, PLAIN, listed=listed).clips) == 3
    assert [path.name for path in open_data(clips, CONFIG.model, PLAIN, split="test", listed=listed).clips.paths] == ["Cbcdefghijk.mp4"]
    with pytest.raises(ListError, match="no clip of the split 'val'"):
        open_data(clips, CONFIG.model, PLAIN, split="val", listed=listed)
    (downloads / "none").mkdir()
    with pytest.raises(DataError, match="None of the 6 clips of .* files are named like _bcdefghijk_000001.mp4"):
        open_data(downloads / "none", CONFIG.model, PLAIN, listed=listed)
    with pytest.raises(DataError, match="give the list too"):
        open_data(clips, CONFIG.model, PLAIN, classes=listed)


def test_audiosets_clips_have_several_classes(shared_data, tmp_path, one):
    copies(one, tmp_path, "--4gqARaEJE_0_10.mp4", "--BfvyPmVMo_000020.mp4")
    listed, classes = (shared_data / "labels" / f"audioset_{name}.csv" for name in ("eval_segments", "class_labels_indices"))
    opened = open_data(tmp_path, CONFIG.model, PLAIN, split="test", listed=listed, classes=classes)
    assert opened.clips.labels["class"] == [("Domestic animals, pets", "Squeak", "Dog", "Animal"), ("Hammer",)]
    assert len(opened.missing) == 20371 - 2


def test_of_a_folder_a_tenth_is_held_out_with_its_labels(tmp_path, one):
    copies(one, tmp_path, *(f"{name}/{i}.mp4" for name in ("dog", "cat") for i in range(6)))
    data = open_run(tmp_path, None, CONFIG.model, PLAIN, seed=0)
    assert data.held_out and len(data.training) == 11 and len(data.evaluation) == 1
    for clips, paths in ((data.training, data.training.paths), (data.evaluation, data.evaluation.clips.paths)):
        assert clips.labels["class"] == [path.parent.name for path in paths]
    held = {seed: open_run(tmp_path, None, CONFIG.model, PLAIN, seed=seed).evaluation.name(0) for seed in range(4)}
    assert len(set(held.values())) > 1
    again = open_run(tmp_path, None, CONFIG.model, PLAIN, seed=0)
    assert again.fingerprint == data.fingerprint and again.training.paths == data.training.paths
    same = open_run(tmp_path, tmp_path, CONFIG.model, PLAIN, seed=0)
    assert not same.held_out and len(same.training) == 12


def test_av_mnist_trains_on_its_train_split_and_is_measured_on_its_val_split(shared_data):
    data = open_run(shared_data / "av_mnist", None, CONFIG.model, PLAIN, seed=0)
    assert isinstance(data.training, AVMNIST) and data.held_out and (len(data.training), len(data.evaluation)) == (1500, 500)
    assert len(open_data(shared_data / "av_mnist", CONFIG.model, PLAIN, split="test").clips) == 1000


def test_pretrain_on_a_list_writes_what_is_missing_and_resumes_with_its_own_clips_only(downloads, capsys):
    run, ask = downloads / "run", ["pretrain", "--data", str(downloads / "clips"), "--list", str(downloads / "vggsound.csv")]
    assert cli.main([*ask, "--steps", "1", "--out", str(run)]) == 0, capsys.readouterr().err
    assert "1 of the 4 clips" in capsys.readouterr().err
    assert (run / "missing.txt").read_text() == "Bbcdefghijk_000040\n"
    clips = json.loads((run / "summary.json").read_text())["clips"]
    assert (clips["missing"], clips["trained"], clips["held_out"], clips["windows"]) == (1, 1, 1, 1)
    assert json.loads((run / "config.json").read_text())["list"].endswith("vggsound.csv")
    assert cli.main([*ask, "--out", str(run), "--resume"]) == 0
    assert cli.main([*ask[:3], "--out", str(run), "--resume"]) == 2
    assert "not those that the run" in capsys.readouterr().err


def keep_lines(path: Path, count: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


def test_pretrain_goes_on_av_mnist_and_refuses_to_resume_with_another(shared_data, tmp_path, capsys):
    some = shutil.copytree(shared_data / "av_mnist", tmp_path / "some", ignore=shutil.ignore_patterns("samples"))
    for split, count in (("train", 40), ("val", 20)):
        keep_lines(some / f"pairs_speaker_{split}.csv", 1 + count)
    ask = ["pretrain", "--data", str(some), "--out", str(tmp_path / "run")]
    assert cli.main([*ask, "--steps", "1"]) == 0, capsys.readouterr().err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["held_out"] and summary["clips"]["trained"] == 40 and summary["clips"]["held_out"] == 20
    keep_lines(some / "pairs_speaker_train.csv", 40)
    assert cli.main([*ask, "--resume"]) == 2
    assert "not those that the run" in capsys.readouterr().err


def test_pretrain_reads_shards_holds_some_out_keeps_their_labels_and_resumes_with_its_own(tmp_path):
    clips, shards, run = tmp_path / "clips", tmp_path / "shards", tmp_path / "run"
    assert cli.main(["world", "--clips", "14", "--seed", "3", "--size", "48", "--out", str(clips)]) == 0
    assert cli.main(["shards", "--data", str(clips), "--out", str(shards), "--clips-per-shard", "6", "--workers", "1"]) == 0
    opened = open_data(shards, CONFIG.model, CONFIG.train.augment)
    files = open_data(clips, CONFIG.model, CONFIG.train.augment)
    assert isinstance(opened.clips, Shards) and len(opened.clips) == 14
    known = [{c.name(i).split("/")[-1]: c.labels["size"][i] for i in range(14)} for c in (opened.clips, files.clips)]
    assert known[0] == known[1]
    arguments = ["pretrain", "--data", str(shards), "--steps", "1", "--out", str(run), "--config.train.batch", "4"]
    assert cli.main(arguments) == 0
    assert json.loads((run / "summary.json").read_text())["clips"]["held_out"] == 1
    data = open_run(shards, None, CONFIG.model, CONFIG.train.augment, seed=0)
    assert data.held_out and not data.training.names() & data.evaluation.names()
    again = open_run(shards, shards, CONFIG.model, CONFIG.train.augment, seed=0)
    assert not again.held_out, "the same clips measure what was trained on"
    assert cli.main(["shards", "--data", str(clips), "--out", str(tmp_path / "b"), "--clips-per-shard", "7", "--workers", "1"]) == 0
    assert cli.main([*arguments[:2], str(tmp_path / "b"), *arguments[3:], "--resume"]) == 2
