"""Clips become rows: every window where it lies, what a modality lacks is null, what cannot be used is told, and a table is whole."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_clips import make_clip, pictures, tone
from test_released import layout

from mavil_edu import MAViL, embeddings, tiny
from mavil_edu.cli import main
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import Skipped, collate, to_inputs
from mavil_edu.data.folder import FolderClips, TiledClips
from mavil_edu.embeddings import Row, Window, embed_windows, windows, write_table

CONFIG = tiny().model  # windows of 2.56 s
WIDTH = CONFIG.encoder.width


@pytest.fixture(scope="module")
def model() -> MAViL:
    return MAViL.from_pretrained("tiny")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """One window, three windows, no sound, no picture, and two files that are none."""
    folder = tmp_path_factory.mktemp("clips")
    make_clip(folder / "a short.mp4", pictures(50), sound=tone(2.0))
    make_clip(folder / "b long.mp4", pictures(175), sound=tone(7.0, pitch=300))
    make_clip(folder / "c mute.mp4", pictures(60))
    make_clip(folder / "d dark.wav", sound=tone(2.56), acodec="pcm_s16le")
    make_clip(folder / "e silent.mp4", pictures(60), sound=0 * tone(2.4))
    (folder / "f broken.mp4").write_bytes(b"no film")
    return folder


def files(folder: Path, *names: str) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.name.startswith(names)]


@torch.no_grad()
def test_a_row_is_what_the_model_says_of_the_window_as_evaluation_reads_it(model, clips):
    paths = files(clips, "a", "b")
    rows = list(embed_windows(model, windows(paths, CONFIG)))
    tiled = TiledClips(FolderClips(paths, CONFIG, AugmentConfig()))
    assert len(rows) == len(tiled) == 4
    for number, tile in enumerate(tiled.tiles):
        (row,) = [r for r in rows if r.clip == str(paths[tile.clip]) and abs(r.audio_start - tile.start) < 0.03]
        inputs = to_inputs(collate([tiled.sample(number, None)]), CONFIG)
        encoded = model.encode(inputs.audio, inputs.video)
        assert torch.allclose(row.audio, encoded.audio_embedding[0], atol=1e-5)
        assert torch.allclose(row.video, encoded.video_embedding[0], atol=1e-5)
        fused = torch.cat([encoded.fused_audio_tokens.mean(1), encoded.fused_video_tokens.mean(1)], 1)
        assert torch.allclose(row.fused, fused[0], atol=1e-5)


def test_a_long_clip_is_covered_by_windows_whose_times_are_told(model, clips):
    rows = list(embed_windows(model, windows(files(clips, "b"), CONFIG)))
    starts = [row.audio_start for row in rows]
    assert starts == pytest.approx([0, 2.56, 7.0 - 2.56], abs=0.05)
    assert all(row.audio_stop - row.audio_start == pytest.approx(2.56) for row in rows)
    assert [row.video_start for row in rows] == pytest.approx(starts) and rows[0].video_stop == pytest.approx(2.56)


@torch.no_grad()
def test_a_missing_modality_is_none_and_the_other_is_encoded_without_it(model, clips):
    mute, dark, silent = embed_windows(model, windows(files(clips, "c", "d", "e"), CONFIG))
    for row in (mute, silent):
        assert row.audio is row.fused is row.audio_start is row.audio_stop is None and row.video_start is not None
    assert dark.video is dark.fused is dark.video_start is dark.video_stop is None
    (window,) = windows(files(clips, "c"), CONFIG)
    alone = model.encode(video=to_inputs(collate([window.sample]), CONFIG).video).video_embedding[0]
    assert torch.allclose(mute.video, alone, atol=1e-5)


def test_rows_keep_the_order_of_their_windows_whatever_they_lack(model, clips):
    found = [window for window in windows(sorted(clips.iterdir()) * 3, CONFIG) if isinstance(window, Window)]
    rows = list(embed_windows(model, iter(found)))
    assert len(found) > embeddings.AT_ONCE and [row.clip for row in rows] == [window.clip for window in found]
    assert [row.audio is not None for row in rows] == [window.heard for window in found]


def test_what_cannot_be_read_is_skipped_with_its_reason(clips, tmp_path):
    nothing = make_clip(tmp_path / "nothing.wav", sound=0 * tone(2.0), acodec="pcm_s16le")
    found = list(windows([*files(clips, "f"), nothing, tmp_path / "gone.mp4"], CONFIG))
    assert [type(one) for one in found] == [Skipped] * 3
    assert "broken.mp4" in found[0].path and "silent" in found[1].reason and "gone.mp4" in found[2].path


def test_the_command_writes_nulls_tells_and_counts_what_it_left_out(clips, tmp_path, capsys):
    assert main(["embed", str(clips), "--out", str(tmp_path / "f.parquet")]) == 0
    said = capsys.readouterr().err
    assert "left out" in said and "f broken.mp4" in said and "7 windows of 6 files" in said and "1 files or windows were left out" in said
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["clip", "audio_start", "audio_stop", "video_start", "video_stop", "audio", "video", "fused"]
    rows = {Path(row["clip"]).name: row for row in table.to_pylist()}
    assert len(rows) == 5 and len(rows["a short.mp4"]["audio"]) == WIDTH and len(rows["a short.mp4"]["fused"]) == 2 * WIDTH
    assert rows["c mute.mp4"]["audio"] is None and rows["c mute.mp4"]["audio_start"] is None and rows["c mute.mp4"]["video"] is not None
    assert rows["d dark.wav"]["video"] is None and rows["d dark.wav"]["audio"] is not None


def test_npz_holds_the_same_numbers_with_nan_for_what_is_missing(clips, tmp_path):
    paths = [str(path) for path in files(clips, "a", "c")]
    assert main(["embed", *paths, "--out", str(tmp_path / "f.npz")]) == 0
    assert main(["embed", *paths, "--out", str(tmp_path / "f.parquet")]) == 0
    stored = np.load(tmp_path / "f.npz", allow_pickle=False)
    table = pq.read_table(tmp_path / "f.parquet").to_pydict()
    assert stored["clip"].tolist() == table["clip"] == paths
    assert stored["audio"].dtype == np.float32 and np.array_equal(stored["audio"][0], np.float32(table["audio"][0]))
    assert np.isnan(stored["audio"][1]).all() and np.isnan(stored["audio_stop"][1]) and np.isnan(stored["fused"][1]).all()
    assert stored["video_start"].tolist() == table["video_start"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.npz", "f.parquet"]


@pytest.mark.parametrize("name", ["f.csv", "f", "f.parquet.gz"])
def test_an_unknown_suffix_is_refused_before_anything_is_read(tmp_path, capsys, name):
    assert main(["embed", str(tmp_path / "nowhere.mp4"), "--out", str(tmp_path / name), "--checkpoint", "none/there/is"]) == 2
    assert ".parquet or .npz" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_nothing_usable_and_nothing_named_end_with_a_sentence_and_without_a_table(clips, tmp_path, capsys):
    out = str(tmp_path / "f.parquet")
    for arguments, words in (
        ([str(files(clips, "f")[0])], "None of the clips can be used"),
        ([str(tmp_path)], "no media file"),
        ([], "Name one or more files"),
    ):
        assert main(["embed", *arguments, "--out", out]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_a_write_that_stops_midway_leaves_the_old_table_whole_and_no_rubbish(tmp_path, suffix):
    path = tmp_path / f"f{suffix}"
    row = Row("a", 0.0, 1.0, 0.0, 1.0, torch.zeros(4), torch.ones(4), torch.zeros(8))
    write_table(path, [row], 4)
    before = path.read_bytes()

    def failing():
        yield from [row] * 3000
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_table(path, failing(), 4)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_more_rows_than_are_written_at_once_all_arrive(tmp_path):
    rows = [Row(str(i), 0.0, 1.0, None, None, torch.full((4,), float(i)), None, None) for i in range(embeddings.GROUP * 2 + 1)]
    assert write_table(tmp_path / "f.parquet", iter(rows), 4) == len(rows)
    table = pq.read_table(tmp_path / "f.parquet").to_pydict()
    assert table["clip"] == [str(i) for i in range(len(rows))] and table["audio"][-1] == [len(rows) - 1.0] * 4


def test_a_file_of_released_weights_serves_as_a_checkpoint_and_a_broken_one_is_told(tmp_path, clips, capsys):
    weights = {"model": layout(width=64, depth=1, fusion=1) | {"decoder_pred.bias": torch.zeros(2)}}
    torch.save(weights, tmp_path / "released.pth")
    arguments = ["embed", str(files(clips, "a")[0]), "--out", str(tmp_path / "f.npz"), "--checkpoint"]
    assert main([*arguments, str(tmp_path / "released.pth")]) == 0
    assert "ignored: decoder_pred" in capsys.readouterr().err
    stored = np.load(tmp_path / "f.npz")
    assert stored["fused"].shape == (1, 128) and stored["audio_stop"] - stored["audio_start"] == pytest.approx(10.0)
    (tmp_path / "not.pth").write_bytes(b"junk")
    assert main(["embed", str(clips), "--out", str(tmp_path / "f.npz"), "--checkpoint", str(tmp_path / "not.pth")]) == 2
    assert "cannot be read as a torch file" in capsys.readouterr().err


def test_pyarrow_is_imported_only_where_parquet_is_written():
    code = "import sys, mavil_edu.embeddings, mavil_edu.commands.embedding; print('pyarrow' in sys.modules)"
    root = str(Path(__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
