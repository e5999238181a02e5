"""Claims about the verdict on files: each name is the claim."""

import json
import os
import threading
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from made_clips import make_clip, pictures, spoil_packet, tone

from mavil_edu import config, inspection, streams
from mavil_edu.audio import audio_content
from mavil_edu.inspection import Inspection, inspect_file, inspect_paths, table
from mavil_edu.media import read_clip, write_mp4
from mavil_edu.video import video_content

TINY, PAPER = config.tiny().model, config.paper().model
STATUSES = ("unreadable", "partial", "no_audio", "no_video", "too_short", "silent", "ok")


def cut(path: Path, share: float) -> Path:
    """A copy of a file's first part."""
    raw = path.read_bytes()
    part = path.with_stem(f"{path.stem}_cut")
    part.write_bytes(raw[: int(len(raw) * share)])
    return part


def webm(path: Path, seconds: float, sound: np.ndarray | None = None) -> Path:
    """A file that can still be read when its end is cut off."""
    sound = tone(seconds, 48_000) if sound is None else sound
    return make_clip(path, pictures(int(seconds * 25)), sound=sound, rate=48_000, vcodec="libvpx", acodec="libopus")


# -------------------------------------------------------------------------------------------------------------- the seven statuses


def test_a_whole_clip_is_ok_and_its_numbers_are_told(tmp_path):
    verdict = inspect_file(make_clip(tmp_path / "a.mp4", pictures(75), sound=tone(3)), TINY)
    assert (verdict.status, verdict.trainable, verdict.corrupt_packets) == ("ok", True, 0)
    assert verdict.audio_seconds == pytest.approx(3, abs=0.1) and verdict.video_seconds == pytest.approx(3)
    assert verdict.promised_seconds == pytest.approx(3, abs=0.1)
    assert (verdict.width, verdict.height, verdict.fps, verdict.frames, verdict.rotation) == (64, 48, 25, 75, 0)
    assert (verdict.video_codec, verdict.audio_codec, verdict.sample_rate, verdict.layout) == ("h264", "aac", 16_000, "mono")
    assert (verdict.n_video, verdict.n_audio) == (1, 1) and verdict.container.startswith("mov,mp4")


def test_what_we_write_is_ok(tmp_path):
    write_mp4(tmp_path / "a.mp4", np.zeros((8, 32, 32, 3), np.uint8), 3.125, tone(2.56))
    assert inspect_file(tmp_path / "a.mp4", TINY).status == "ok"


def test_what_cannot_be_opened_or_does_not_decode_is_unreadable(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no film " * 1000)
    (tmp_path / "words.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nsubtitles open, but hold neither sound nor picture\n")
    for path in (*tmp_path.iterdir(), tmp_path, tmp_path / "missing.mp4"):
        verdict = inspect_file(path, TINY)
        assert verdict.status == "unreadable" and not verdict.trainable and verdict.message.endswith((".", "?")), path


def test_missing_streams_are_told(tmp_path):
    mute = inspect_file(make_clip(tmp_path / "mute.mp4", pictures(50)), TINY)
    blind = inspect_file(make_clip(tmp_path / "blind.m4a", sound=tone(2)), TINY)
    assert (mute.status, mute.audio_tokens, mute.n_audio) == ("no_audio", 0, 0) and not mute.trainable
    assert (blind.status, blind.video_tokens, blind.n_video) == ("no_video", 0, 0) and not blind.trainable


def test_too_short_counts_sound_and_picture_together(tmp_path):
    brief = make_clip(tmp_path / "brief.mp4", pictures(50), sound=tone(0.5))
    apart = make_clip(tmp_path / "apart.mkv", pictures(50), sound=tone(2), sound_times=[1.5], acodec="pcm_s16le")
    for path in (brief, apart):
        assert inspect_file(path, TINY).status == "too_short"
        assert inspect_file(path, TINY, min_seconds=0.4).status == "ok"


def test_digital_silence_is_silent_and_the_faintest_sound_is_not(tmp_path):
    faint = np.zeros(32_000, np.float32)
    faint[-5] = 2 / 32768
    for sound, status in ((np.zeros(32_000), "silent"), (faint, "ok")):
        path = make_clip(tmp_path / f"{status}.mkv", pictures(50), sound=sound, acodec="pcm_s16le")
        assert inspect_file(path, TINY).status == status


def test_sound_that_cancels_itself_in_the_mix_is_silent(tmp_path):
    path = make_clip(tmp_path / "a.mkv", pictures(50), sound=np.stack([tone(2), -tone(2)]), layout="stereo", acodec="pcm_s16le")
    verdict = inspect_file(path, TINY)
    assert verdict.status == "silent" and not read_clip(path, 1, 1, 1).waveform.any()


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_one_corrupt_packet_makes_a_clip_partial_yet_it_can_be_trained_on(tmp_path, kind):
    whole = make_clip(tmp_path / "a.mp4", pictures(75), sound=tone(3))
    verdict = inspect_file(spoil_packet(whole, tmp_path / "b.mp4", kind), TINY)
    assert (verdict.status, verdict.trainable, verdict.corrupt_packets) == ("partial", True, 1)
    assert verdict.audio_seconds > 2.8 and verdict.video_seconds > 2.8 and "1 corrupt packet" in verdict.message


def test_less_than_nine_tenths_of_what_the_header_promises_is_partial(tmp_path):
    whole = webm(tmp_path / "a.webm", 6)
    assert inspect_file(whole, TINY).status == "ok"
    half = inspect_file(cut(whole, 0.5), TINY)
    assert half.status == "partial" and half.trainable and half.promised_seconds == pytest.approx(6, abs=0.1)
    assert 1.5 < half.audio_seconds < 5 and 1.5 < half.video_seconds < 5 and "of 6.0 s decode" in half.message
    assert inspect_file(cut(whole, 0.97), TINY).status == "ok"


def test_a_partial_clip_with_too_little_of_both_or_silent_is_not_trained_on(tmp_path):
    for path, why in ((webm(tmp_path / "a.webm", 6), "not enough"), (webm(tmp_path / "b.webm", 6, np.zeros(6 * 48_000)), "silent")):
        least = 5.5 if why == "not enough" else 1.0
        verdict = inspect_file(cut(path, 0.5), TINY, min_seconds=least)
        assert verdict.status == "partial" and not verdict.trainable and why in verdict.message


def test_a_stream_that_ends_early_by_its_own_word_is_not_partial(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(100), sound=tone(2))  # MP4 tells each stream's duration
    assert inspect_file(path, TINY).status == "ok"


def test_no_damage_raises_an_error_and_each_gives_one_of_the_statuses(tmp_path):
    whole = make_clip(tmp_path / "a.mp4", pictures(25), sound=tone(1)).read_bytes()
    generator = np.random.default_rng(0)
    for i in range(40):
        raw = bytearray(whole[: generator.integers(1, len(whole))] if i % 2 else whole)
        for place in generator.integers(0, len(raw), 30):
            raw[place] = generator.integers(256)
        (tmp_path / "b.mp4").write_bytes(raw)
        assert inspect_file(tmp_path / "b.mp4", TINY).status in STATUSES


# ---------------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("model", [TINY, PAPER])
@pytest.mark.parametrize("seconds", [1.2, 3.0, 11.0])
def test_tokens_are_those_that_the_middle_window_fills(tmp_path, model, seconds):
    path = make_clip(tmp_path / "a.mkv", pictures(round(seconds * 25)), sound=tone(seconds), acodec="pcm_s16le")
    clip = read_clip(path, model.audio.seconds, model.video.seconds, model.video.frames)
    verdict = inspect_file(path, model)
    assert verdict.audio_tokens == int(audio_content(torch.tensor([clip.heard]), model.audio).sum())
    assert verdict.video_tokens == int(video_content(clip.seen[None], model.video).sum())
    if seconds == 11.0:
        assert verdict.audio_tokens >= model.audio.tokens - model.audio.grid[1] and verdict.video_tokens == model.video.tokens


# ------------------------------------------------------------------------------------------------------------------ long files


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Path:
    seconds = 700
    path = tmp_path_factory.mktemp("long") / "long.webm"
    return make_clip(
        path, pictures(seconds * 2, 16, 16), fps=2, sound=tone(seconds), vcodec="libvpx", acodec="libopus", gop=10
    )  # Opus takes 16 kHz


def frames_decoded(monkeypatch) -> list[int]:
    counts = []
    decode = streams.Source.decode

    def counted(self, packet):
        frames, lost = decode(self, packet)
        counts.append(len(frames))
        return frames, lost

    monkeypatch.setattr(streams.Source, "decode", counted)
    return counts


def test_of_a_long_file_only_parts_are_decoded_unless_all_is_asked_for(long_clip, monkeypatch):
    counts = frames_decoded(monkeypatch)
    parts = inspect_file(long_clip, TINY)
    decoded_in_parts = sum(counts)
    counts.clear()
    whole = inspect_file(long_clip, TINY, full=True)
    assert parts.status == whole.status == "ok" and "in parts" in parts.message and "in parts" not in whole.message
    assert decoded_in_parts < 0.3 * sum(counts)
    for verdict in (parts, whole):
        assert verdict.audio_seconds == pytest.approx(700, rel=0.03) and verdict.video_seconds == pytest.approx(700, rel=0.03)
    assert (parts.audio_tokens, parts.video_tokens) == (whole.audio_tokens, whole.video_tokens)


def test_a_long_file_that_is_cut_off_is_partial_with_its_true_length(long_clip):
    verdict = inspect_file(cut(long_clip, 0.5), TINY)
    assert verdict.status == "partial" and verdict.trainable
    assert verdict.promised_seconds == pytest.approx(700, abs=2) and 250 < verdict.video_seconds < 450
    assert "in parts" not in verdict.message  # what is there is short enough to be decoded whole


def test_a_long_file_with_a_hole_is_partial(tmp_path, long_clip):
    raw = bytearray(long_clip.read_bytes())
    first, last = int(len(raw) * 0.25), int(len(raw) * 0.75)
    raw[first:last] = bytes(last - first)
    (tmp_path / "hole.webm").write_bytes(raw)
    verdict = inspect_file(tmp_path / "hole.webm", TINY)
    assert verdict.status == "partial" and "in parts" in verdict.message


def test_silence_in_every_part_of_a_long_file_is_silent(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(1300, 16, 16), fps=2, sound=np.zeros(650 * 16_000))
    assert inspect_file(path, TINY).status == "silent"


# ----------------------------------------------------------------------------------------------------------------- many files


def test_many_files_come_in_order_with_progress_and_bad_ones_among_them(tmp_path):
    good = make_clip(tmp_path / "00.mp4", pictures(30), sound=tone(1.2)).read_bytes()
    for i in range(1, 20):
        (tmp_path / f"{i:02}.mp4").write_bytes(good if i % 3 else good[:500])
    (tmp_path / "labels.csv").write_text("not media")
    seen = []
    verdicts = list(inspect_paths([tmp_path], TINY, progress=lambda done, total: seen.append((done, total)), workers=2))
    assert [v.path.name for v in verdicts] == [f"{i:02}.mp4" for i in range(20)]
    assert [v.status == "ok" for v in verdicts] == [i == 0 or i % 3 > 0 for i in range(20)]
    assert seen == [(i + 1, 20) for i in range(20)]


def test_files_are_decoded_side_by_side_and_an_early_stop_ends_the_rest(tmp_path, monkeypatch):
    for i in range(50):
        (tmp_path / f"{i}.mp4").touch()
    both, started = threading.Barrier(2, timeout=20), []

    def meet(path, *_):
        started.append(path)
        if len(started) <= 2:
            both.wait()  # passes only when two are under way
        return Inspection(path, "ok", "", True)

    monkeypatch.setattr(inspection, "inspect_file", meet)
    verdicts = inspect_paths([tmp_path], TINY, workers=2)
    next(verdicts)
    verdicts.close()
    assert 2 <= len(started) <= 50 and threading.active_count() < 20


def test_verdicts_can_be_written_as_json_and_shown_as_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "empty.mp4").touch()
    make_clip(tmp_path / "clip[b].mp4", pictures(50), sound=tone(2))
    verdicts = list(inspect_paths([tmp_path], TINY))
    values = json.loads(json.dumps([asdict(v) | {"path": str(v.path)} for v in verdicts]))
    assert [value["status"] for value in values] == ["ok", "unreadable"]
    table(verdicts)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("clip[b].mp4", "empty.mp4", "unreadable"))


# ---------------------------------------------------------------------------------------------------------------- real clips


@pytest.mark.skipif("MAVIL_DATA" not in os.environ, reason="MAVIL_DATA is not set: no folder of real clips")
def test_every_real_clip_gets_the_expected_verdict_and_numbers():
    folder = Path(os.environ["MAVIL_DATA"]) / "clips"
    expected = json.loads((folder / "expected.json").read_text())
    verdicts = {v.path.name: v for v in inspect_paths([folder], PAPER, workers=2)}
    assert {name: v.status for name, v in verdicts.items()} == {name: e["expect"] for name, e in expected.items()}
    always = {"container": "container", "n_video": "n_video", "n_audio": "n_audio", "vcodec": "video_codec", "acodec": "audio_codec"}
    first_streams = {"width": "width", "height": "height", "fps": "fps", "rotation": "rotation", "frames_decoded": "frames"}
    first_streams |= {"sample_rate": "sample_rate", "layout": "layout"}
    for name, e in expected.items():
        fields = always if name.startswith("13_") else always | first_streams
        assert {ours: getattr(verdicts[name], ours) for ours in fields.values()} == {ours: e[theirs] for theirs, ours in fields.items()}
        assert verdicts[name].audio_seconds == pytest.approx(e["audio_seconds_decoded"] or 0, abs=0.001)
        assert verdicts[name].promised_seconds == (e["duration"] and pytest.approx(e["duration"], abs=0.002))
    best = next(v for name, v in verdicts.items() if name.startswith("13_"))
    assert (best.width, best.height, best.sample_rate, best.frames) == (480, 270, 16_000, 390)
    assert all(v.trainable for v in verdicts.values() if v.status in ("ok", "partial"))
