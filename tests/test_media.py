"""Claims about reading and writing media files: each name is the claim."""

import json
import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from made_clips import clicks, grey, make_clip, pictures, spoil_packet, tone, turn_in_header

from mavil_edu import media, streams
from mavil_edu.config import SAMPLE_RATE
from mavil_edu.media import Clip, centre, find_media, is_silent, read_clip, write_mp4, write_wav
from mavil_edu.streams import MediaError

lengths = st.floats(0.04, 100)
windows = st.floats(0.1, 20)
positions = st.floats(0, 1)


def numbers(clip: Clip) -> list[int | None]:
    """Which picture (modulo 20) each place shows; None where unseen."""
    values = clip.frames.float().mean(dim=(1, 2, 3))
    return [round((float(v) - 10) / 12) if seen else None for v, seen in zip(values, clip.seen, strict=True)]


def click_times(clip: Clip) -> list[float]:
    """When sound sets in after quiet, in the clip's time."""
    loud = np.flatnonzero(clip.waveform.abs().numpy() > 0.3)
    starts = loud[np.flatnonzero(np.diff(loud, prepend=-SAMPLE_RATE) > SAMPLE_RATE // 20)]
    return [clip.audio_start + start / SAMPLE_RATE for start in starts]


# ------------------------------------------------------------------------------------------------------------------- windows


@given(lengths, windows, windows, positions)
def test_windows_lie_inside_a_clip_that_is_long_enough_else_the_shorter_one_does(length, audio, video, position):
    c = centre(length, audio, video, position)
    for window in (audio, video):
        if length >= max(audio, video) or (window == min(audio, video) and length >= window):
            assert c - window / 2 >= -1e-6 and c + window / 2 <= length + 1e-6


@given(lengths, windows, windows)
def test_positions_slide_the_windows_from_the_first_possible_place_to_the_last(length, audio, video):
    first, middle, last = (centre(length, audio, video, position) for position in (0, 0.5, 1))
    assert first <= middle <= last and middle == pytest.approx((first + last) / 2)
    if length >= min(audio, video):
        assert middle == pytest.approx(length / 2)
        window = max(audio, video) if length >= max(audio, video) else min(audio, video)
        assert first == pytest.approx(window / 2) and last == pytest.approx(length - window / 2)


@given(st.floats(0, 0.99), windows, windows, positions)
def test_in_a_clip_shorter_than_both_the_shorter_window_starts_with_the_clip(share, audio, video, position):
    shorter = min(audio, video)
    assert centre(share * shorter, audio, video, position) == pytest.approx(shorter / 2)


def test_windows_of_sound_and_picture_share_their_centre(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(150), sound=tone(6))
    for position in (0, 0.3, 1):
        clip = read_clip(path, 3.0, 1.0, 4, position)
        assert clip.audio_start + 1.5 == pytest.approx(clip.video_start + 0.5)
        assert clip.audio_start == pytest.approx(position * (clip.seconds - 3.0))
        assert clip.waveform.shape == (48_000,) and clip.frames.shape == (4, 48, 64, 3)


def test_a_clip_shorter_than_its_windows_is_padded_at_the_end_with_zeros(tmp_path):
    path = make_clip(tmp_path / "a.mkv", pictures(25), sound=tone(1), acodec="pcm_s16le")
    clip = read_clip(path, 4.0, 2.0, 8)
    assert clip.video_start == 0 and clip.audio_start == -1.0
    assert numbers(clip) == [3, 9, 15, 1, None, None, None, None] and not clip.frames[4:].any()
    assert clip.heard == (16_000, 32_000)
    assert not clip.waveform[:16_000].any() and not clip.waveform[32_000:].any() and clip.waveform[16_000:32_000].std() > 0.1


# ------------------------------------------------------------------------------------------------------------------ pictures


def test_frames_are_those_a_player_shows_at_uneven_frame_rates(tmp_path):
    times = [0.0, 0.04, 0.5, 0.52, 0.56, 1.2, 1.21, 1.9, 2.5, 2.54, 3.0, 3.6, 3.7]
    path = make_clip(tmp_path / "uneven.mkv", pictures(len(times)), times=times, sound=tone(3.8))
    for position in (0.0, 0.37, 1.0):
        clip = read_clip(path, 2.0, 2.0, 16, position)
        wanted = [clip.video_start + (i + 0.5) * 2 / 16 for i in range(16)]
        assert numbers(clip) == [sum(time <= w for time in times) - 1 if w < 3.74 else None for w in wanted]  # the last lasts 1/25 s


def test_the_last_picture_lasts_for_its_duration_and_no_longer(tmp_path):
    path = make_clip(tmp_path / "a.mkv", pictures(10), fps=10, sound=tone(2))
    clip = read_clip(path, 2.0, 2.0, 200, position=0, short_side=8)  # a place each 0.01 s
    assert clip.seen.tolist() == [True] * 100 + [False] * 100


def test_only_wanted_pictures_are_converted(tmp_path, monkeypatch):
    converted = []
    convert = media._Picture._rgb
    monkeypatch.setattr(media._Picture, "_rgb", lambda self, frame: converted.append(frame.pts) or convert(self, frame))
    read_clip(make_clip(tmp_path / "a.mp4", pictures(100), sound=tone(4)), 4.0, 4.0, 8)
    assert len(converted) == 8


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_picture_is_set_upright(tmp_path, turns):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 250  # the top left corner
    path = make_clip(tmp_path / "turned.mp4", [image] * 10)
    turn_in_header(path, turns)
    frame = read_clip(path, 0.2, 0.2, 1).frames[0].numpy()
    upright = np.rot90(image, -turns)
    assert frame.shape == upright.shape
    assert np.abs(frame.astype(int) - upright).mean() < 10
    assert read_clip(path, 0.2, 0.2, 1, short_side=24).frames.shape == (1, *((32, 24) if turns % 2 else (24, 32)), 3)


@pytest.mark.parametrize(
    ("pixel", "shown"), [((64, 45), (48, 91)), ((1, 2), (48, 32)), ((1, 1), (48, 64)), ((0, 1), (48, 64)), ((90, 1), (48, 64))]
)
def test_a_picture_whose_pixels_are_not_square_is_as_wide_as_a_player_shows_it(tmp_path, pixel, shown):
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 250  # the top left corner
    path = make_clip(tmp_path / "wide.mp4", [image] * 10, pixel=Fraction(*pixel))
    frame = read_clip(path, 0.2, 0.2, 1).frames[0]
    assert frame.shape == (*shown, 3)
    bright = frame[:20, :, 0] > 125
    assert bright.sum(dim=1).tolist() == pytest.approx([shown[1] / 2] * 20, abs=2), "the corner is still half as wide"
    height, width = shown
    shrunk = (24, round(24 * width / height)) if height < width else (round(24 * height / width), 24)
    assert read_clip(path, 0.2, 0.2, 1, short_side=24).frames.shape == (1, *shrunk, 3)
    turn_in_header(path, 1)
    assert read_clip(path, 0.2, 0.2, 1).frames.shape == (1, *shown[::-1], 3)


def test_pictures_are_shrunk_in_proportion_and_never_enlarged(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(10, width=128, height=64))
    assert read_clip(path, 0.2, 0.2, 1, short_side=16).frames.shape == (1, 16, 32, 3)
    assert read_clip(path, 0.2, 0.2, 1, short_side=500).frames.shape == (1, 64, 128, 3)


def test_shrinking_averages_and_does_not_pick(tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    image[::2] = 200  # lines that picking would turn into black or white
    frame = read_clip(make_clip(tmp_path / "a.mp4", [image] * 5), 0.1, 0.1, 1, short_side=16).frames[0].float()
    assert frame.mean() == pytest.approx(100, abs=12) and frame.std() < 12


def test_an_album_cover_is_not_video(tmp_path):
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(pictures(1)[0], format="rgb24")) + cover.encode(None))
        frame = av.AudioFrame.from_ndarray(tone(1)[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(audio.encode(frame) + audio.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1  # FFmpeg itself does call it video
    source = streams.Source(path)
    assert set(source.streams) == {"audio"}
    source.close()
    assert not read_clip(path, 1.0, 1.0, 4).seen.any()


# --------------------------------------------------------------------------------------------------------------------- sound


def mono_level(tmp_path: Path, loud: list[int]) -> float:
    """Level of the mix when the given channels of 5.1 hold a tone of amplitude 0.5."""
    sound = np.zeros((6, 16_000), np.float32)
    sound[loud] = tone(1) * 0.5 / 0.3
    path = make_clip(tmp_path / "six.mka", sound=sound, layout="5.1", acodec="pcm_s16le")
    return float(read_clip(path, 0.5, 0.5, 1).waveform.abs().max())


def test_surround_sound_is_mixed_by_the_usual_weights_without_the_bass_channel_and_without_clipping(tmp_path):
    total = 1 + 2 * 0.5**0.5 + 2 * 0.5  # centre, left and right, both surrounds
    for channel, weight in enumerate([0.5**0.5, 0.5**0.5, 1, 0, 0.5, 0.5]):
        assert mono_level(tmp_path, [channel]) == pytest.approx(0.5 * weight / total, abs=0.002)
    assert mono_level(tmp_path, [0, 1, 2, 3, 4, 5]) == pytest.approx(0.5, abs=0.002)


def test_stereo_is_averaged_and_full_scale_does_not_clip(tmp_path):
    left, right = tone(1, pitch=300) / 0.3, tone(1, pitch=700) / 0.3
    path = make_clip(tmp_path / "two.mka", sound=np.stack([left, right]), layout="stereo", acodec="pcm_f32le")
    heard = read_clip(path, 1.0, 1.0, 1).waveform.numpy()
    assert np.abs(heard - (left + right) / 2).max() < 1e-3


def test_channels_without_a_place_are_averaged(tmp_path):
    path = tmp_path / "nine.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((9, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(np.tile(np.arange(9) * 1000, (16_000, 1)).astype("<i2").tobytes())
    assert read_clip(path, 0.5, 0.5, 1).waveform.mean() == pytest.approx(4000 / 32768, abs=1e-4)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_sample_rate_becomes_16_khz_without_delay(tmp_path, rate):
    path = make_clip(tmp_path / "a.mka", sound=tone(1, rate), rate=rate, acodec="pcm_s16le")
    heard = read_clip(path, 1.0, 1.0, 1).waveform.numpy()
    assert np.abs(heard - tone(1))[200:-200].max() < 5e-3


def test_non_finite_samples_become_zero(tmp_path):
    sound = tone(1)
    sound[4000], sound[8000] = np.nan, np.inf
    heard = read_clip(make_clip(tmp_path / "a.mka", sound=sound, acodec="pcm_f32le"), 1.0, 1.0, 1).waveform
    assert heard.isfinite().all() and heard.abs().max() <= 1 and heard[4000] == heard[8000] == 0
    assert float((heard[9000:] - torch.from_numpy(tone(1))[9000:]).abs().max()) < 1e-3


def test_a_gap_in_the_sound_stays_silent_and_what_follows_keeps_its_time(tmp_path):
    times = [0.0, 0.5, 1.5, 2.0]  # half a second is missing from 1.0 on
    path = make_clip(tmp_path / "gap.mkv", pictures(62), sound=tone(2), sound_times=times, acodec="pcm_s16le")
    heard = read_clip(path, 2.5, 2.5, 1).waveform
    assert not heard[16_000:24_000].any()
    assert float((heard[24_000:40_000] - torch.from_numpy(tone(2))[16_000:]).abs().max()) < 1e-3


def test_silence_is_what_16_bits_cannot_tell_from_zero():
    assert is_silent(torch.zeros(10)) and is_silent(torch.zeros(0)) and is_silent(np.full(5, 1e-6))
    assert not is_silent(torch.tensor([0.0, -1e-4]))


# ------------------------------------------------------------------------------------------------------------ time, and seeking


def test_time_zero_is_the_start_of_the_earliest_stream(tmp_path):
    path = make_clip(
        tmp_path / "late.mkv", pictures(50), [5 + i / 25 for i in range(50)], sound=tone(1), sound_times=[5.5], acodec="pcm_s16le"
    )
    clip = read_clip(path, 2.0, 2.0, 4)
    assert clip.seconds == pytest.approx(2.0, abs=0.05) and clip.audio_start == pytest.approx(0, abs=0.05)
    assert clip.seen.all() and clip.heard[0] == pytest.approx(8_000, abs=500) and clip.heard[1] == pytest.approx(24_000, abs=500)


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Path:
    """Eleven and a half minutes, a click each 5 s, picture i // 20 of grey(i) each 0.2 s, a keyframe each 10 s."""
    seconds = 690
    sound = clicks(seconds, [5.0 * i for i in range(seconds // 5)])
    return make_clip(tmp_path_factory.mktemp("long") / "long.mp4", pictures(seconds * 5, 16, 16), fps=5, sound=sound, gop=50)


@pytest.mark.parametrize("position", [0.1, 0.5, 0.77, 1.0])
def test_a_window_far_into_a_long_file_is_found_exactly_and_decoding_stays_near_it(long_clip, monkeypatch, position):
    decoded = []
    decode = streams.Source.decode
    monkeypatch.setattr(streams.Source, "decode", lambda self, packet: decoded.append(packet) or decode(self, packet))
    clip = read_clip(long_clip, 10.0, 4.0, 8, position)
    wanted = [clip.video_start + (i + 0.5) * 0.5 for i in range(8)]
    assert numbers(clip) == [int(w * 5 + 1e-6) % 20 for w in wanted]
    times = click_times(clip)
    assert len(times) in (2, 3) and all(abs(time - 5 * round(time / 5)) < 2e-3 for time in times)
    assert len(decoded) < 400  # of some 14,000 packets


def test_where_a_container_cannot_seek_the_file_is_decoded_from_its_start_with_the_same_result(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mkv", pictures(250), sound=clicks(10, [1.0, 3.0, 8.0]), acodec="pcm_s16le")
    sought = read_clip(path, 2.0, 2.0, 8, 0.9)

    def refuse(*_):
        raise av.error.PermissionError(1, "no seeking here")

    monkeypatch.setattr(streams.Source, "seek", refuse)
    decoded = read_clip(path, 2.0, 2.0, 8, 0.9)
    assert torch.equal(sought.waveform, decoded.waveform) and torch.equal(sought.frames, decoded.frames) and decoded.seen.all()


@pytest.mark.parametrize(
    "suffix, vcodec, acodec", [(".webm", "libvpx", "libopus"), (".ts", "libx264", "aac"), (".avi", "mpeg4", "libmp3lame")]
)
def test_sound_and_picture_agree_after_a_seek_in_other_containers(tmp_path, suffix, vcodec, acodec):
    images = pictures(250)
    for flash in (50, 200):
        images[flash] = np.full_like(images[0], 255)
    path = make_clip(tmp_path / f"a{suffix}", images, sound=clicks(10, [2.0, 8.0], 48_000), rate=48_000, vcodec=vcodec, acodec=acodec)
    clip = read_clip(path, 3.0, 3.0, 300, 0.9, short_side=16)
    flash = clip.video_start + int(np.flatnonzero(clip.frames.float().mean(dim=(1, 2, 3)) > 245)[0]) / 100
    assert click_times(clip) == [pytest.approx(flash, abs=0.045)]  # AVI knows no encoder delay: MP3's is heard there


# ------------------------------------------------------------------------------------------------------------- bad and odd files


def test_a_missing_stream_gives_zeros_and_says_so(tmp_path):
    mute = read_clip(make_clip(tmp_path / "mute.mp4", pictures(50)), 1.0, 1.0, 4)
    assert mute.heard == (0, 0) and not mute.waveform.any() and mute.seen.all()
    blind = read_clip(make_clip(tmp_path / "blind.mka", sound=tone(2)), 1.0, 1.0, 4, short_side=20)
    assert blind.frames.shape == (4, 20, 20, 3) and not blind.seen.any() and not blind.frames.any() and blind.heard == (0, 16_000)


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_corrupt_packet_costs_that_packet_only_and_is_reported(tmp_path, kind):
    whole = make_clip(tmp_path / "a.mp4", pictures(100), sound=tone(4, 48_000), rate=48_000)
    spoilt = spoil_packet(whole, tmp_path / "b.mp4", kind)
    before, after = (read_clip(path, 4.0, 4.0, 100) for path in (whole, spoilt))
    assert before.note is None and after.note == "1 corrupt packet"
    quiet = (before.waveform - after.waveform).abs() > 0.03
    other = (before.frames.int() - after.frames.int()).abs().amax(dim=(1, 2, 3)) > 3
    if kind == "audio":
        assert 0 < quiet.sum() < 0.08 * SAMPLE_RATE and not other.any()
    else:
        assert not quiet.any() and after.seen.all() and 0 < other.sum() <= 12  # not beyond the next keyframe


def test_after_a_loss_pictures_go_on_without_waiting_for_a_keyframe(tmp_path):
    whole = make_clip(tmp_path / "a.mp4", pictures(100), vcodec="libx265", gop=1000)
    clip = read_clip(spoil_packet(whole, tmp_path / "b.mp4", "video"), 4.0, 4.0, 50)
    assert clip.seen.all() and "corrupt" in clip.note


def test_sound_after_a_lost_packet_keeps_its_time_however_short_the_packet(tmp_path, monkeypatch):
    parts = [i / 200 for i in range(200)]  # of 5 ms each, less than timestamps may stray
    path = make_clip(tmp_path / "a.mka", sound=tone(1), sound_times=parts, acodec="pcm_s16le")
    decode = streams.Source.decode
    monkeypatch.setattr(streams.Source, "decode", lambda self, p: ([], True) if p.pts == 500 else decode(self, p))
    clip = read_clip(path, 1.0, 1.0, 1)
    wrong = (clip.waveform - torch.from_numpy(tone(1))).abs() > 0.02
    assert clip.note == "1 corrupt packet" and 0 < wrong.sum() <= 100 and not wrong[:7_980].any() and not wrong[8_100:].any()


@pytest.mark.parametrize("suffix, vcodec, acodec", [(".mp4", "libx264", "aac"), (".webm", "libvpx", "libopus")])
def test_a_truncated_file_counts_with_its_true_length(tmp_path, suffix, vcodec, acodec):
    path = make_clip(tmp_path / f"a{suffix}", pictures(200), sound=tone(8, 48_000), rate=48_000, vcodec=vcodec, acodec=acodec)
    if suffix == ".mp4":  # the index must stand first, or nothing can be read
        front = tmp_path / "front.mp4"
        with av.open(str(path)) as source, av.open(str(front), "w", options={"movflags": "faststart"}) as target:
            copies = {s.index: target.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = copies[packet.stream.index]
                    target.mux(packet)
        path = front
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    for position in (0.0, 0.5, 1.0):
        clip = read_clip(path, 2.0, 2.0, 8, position)
        assert clip.seen.sum() >= 7 and clip.heard[1] - clip.heard[0] > 28_000
    assert clip.seconds < 5.5 and "8.0 s promised" in clip.note


@pytest.mark.parametrize("error, gaps", [(IndexError(), 0), (av.error.InvalidDataError(1, "damaged"), 3)])
def test_reading_goes_on_after_a_late_stream_or_a_damaged_place(tmp_path, error, gaps):
    class Container:  # PyAV raises IndexError for a packet of a stream that it did not see when the file was opened
        def __init__(self, container):
            self.streams, self.packets, self.errors = container.streams, container.demux(container.streams.video[0]), 3

        def demux(self, _):
            for number, packet in enumerate(self.packets):
                yield packet
                if number == 4 and self.errors:
                    self.errors -= 1
                    raise error

    source = streams.Source(make_clip(tmp_path / "a.mp4", pictures(50)))
    whole, source.container = source.container, Container(source.container)
    packets = list(source.packets("video"))
    assert packets.count(None) == gaps and sum(packet is not None and packet.size > 0 for packet in packets) == 50
    whole.close()


def test_metadata_that_is_not_utf8_does_no_harm(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(25), sound=tone(1), title="XXXXXXXX")
    path.write_bytes(path.read_bytes().replace(b"XXXXXXXX", b"\xff\xfe\x80\xc3(\xe9\xe8\xff"))
    assert read_clip(path, 0.5, 0.5, 2).seen.all()


def test_names_of_files_may_hold_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a|b.mp4", "100 % é ☃.mp4", "http:x.mp4"):
        make_clip(tmp_path / "a.mp4", pictures(25), sound=tone(1)).rename(name)
        assert read_clip(name, 0.5, 0.5, 2).seen.all()


def test_what_is_no_media_file_is_refused_with_a_sentence_that_names_it(tmp_path):
    (tmp_path / "text.mp4").write_text("This is no film.\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(20_000))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.mp4'\n")
    for name in ("text.mp4", "empty.mp4", "noise.mkv", "folder.mp4", "list.mp4", "missing.mp4"):
        with pytest.raises(MediaError, match=name) as error:
            read_clip(tmp_path / name, 1.0, 1.0, 4)
        assert str(error.value).endswith((".", "?")) and "\n" not in str(error.value)
    os.mkfifo(tmp_path / "pipe.mp4")  # opening it would wait for ever
    with pytest.raises(MediaError, match="device"):
        read_clip(tmp_path / "pipe.mp4", 1.0, 1.0, 4)


def test_a_picture_of_absurd_size_is_refused(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mp4", pictures(10))
    monkeypatch.setattr(streams, "MAX_PIXELS", 1000)
    with pytest.raises(MediaError, match="64 × 48 pixels"):
        read_clip(path, 0.2, 0.2, 1)


def test_senseless_windows_are_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(10))
    for window in ((0, 1, 1, 0.5), (1, -1, 1, 0.5), (1, 1, 0, 0.5), (1, 1, 1, 1.5)):
        with pytest.raises(ValueError, match="window"):
            read_clip(path, *window)


def test_clips_can_be_read_in_a_loaders_workers(tmp_path):
    path = make_clip(tmp_path / "a.mp4", pictures(50), sound=tone(2))
    here = read_clip(path, 1.0, 1.0, 4)
    loader = torch.utils.data.DataLoader(_Reading(path), batch_size=None, num_workers=1, timeout=30)
    for waveform, frames in loader:
        assert torch.equal(waveform, here.waveform) and torch.equal(frames, here.frames)


class _Reading(torch.utils.data.Dataset):
    def __init__(self, path: Path):
        self.path = path

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple:
        clip = read_clip(self.path, 1.0, 1.0, 4)
        return clip.waveform, clip.frames


def test_in_folders_only_media_files_count_but_a_named_file_always_does(tmp_path):
    for name in ("b.mp4", "a.WEBM", "sub/c.mov", "notes.txt", ".hidden.mp4", ".trash/d.mp4", "sub/labels.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mp4").mkdir()
    assert [str(p.relative_to(tmp_path)) for p in find_media([tmp_path])] == ["a.WEBM", "b.mp4", "sub/c.mov"]
    assert find_media([tmp_path / "notes.txt", str(tmp_path / "sub")]) == [tmp_path / "notes.txt", tmp_path / "sub/c.mov"]


# ------------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize("rate, flash", [(25, 20), (3.125, 5), (30000 / 1001, 33)])
def test_a_click_and_a_flash_written_together_are_read_together(tmp_path, rate, flash):
    frames = np.zeros((int(2.56 * rate), 32, 32, 3), np.uint8)
    frames[flash] = 255
    write_mp4(tmp_path / "a.mp4", frames, rate, clicks(2.56, [flash / rate]))
    clip = read_clip(tmp_path / "a.mp4", 2.5, 2.5, 500)  # a place each 5 ms
    shown = np.flatnonzero(clip.frames.float().mean(dim=(1, 2, 3)) > 128)
    assert len(shown) / 200 == pytest.approx(1 / rate, abs=0.0051)
    assert clip.video_start + shown[0] / 200 == pytest.approx(flash / rate, abs=0.0051)
    assert click_times(clip) == [pytest.approx(flash / rate, abs=0.005)]
    assert clip.seconds == pytest.approx(2.56, abs=max(0.04, 1 / rate))


def test_the_same_clip_gives_the_same_bytes(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    written = set()
    for number in range(40):  # x264's code for the processor at hand gave other bytes in one to five of a hundred
        write_mp4(tmp_path / f"{number}.mp4", torch.from_numpy(frames), 10, torch.from_numpy(tone(2)))
        written.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(written) == 1


def test_odd_sizes_are_made_even_by_repeating_the_last_row_and_column(tmp_path):
    frames = np.full((5, 31, 45, 3), 60, np.uint8)
    frames[:, -1], frames[:, :, -1] = 200, 200
    write_mp4(tmp_path / "a.mp4", frames, 5, quality=5)
    read = read_clip(tmp_path / "a.mp4", 1, 1, 5).frames
    assert read.shape == (5, 32, 46, 3)
    assert read[:, 31].float().mean() > 180 and read[:, :, 45].float().mean() > 180 and read[:, :28, :42].float().mean() < 80


def test_colours_survive_writing_and_reading(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [120, 60, 200]], np.uint8)
    write_mp4(tmp_path / "a.mp4", np.tile(colours[:, None, None], (1, 32, 32, 1)), 1)
    read = read_clip(tmp_path / "a.mp4", 6, 6, 6).frames.float().mean(dim=(1, 2))
    assert (read - torch.from_numpy(colours)).abs().max() < 6


def test_what_is_written_plays_in_browsers(tmp_path):
    write_mp4(tmp_path / "a.mp4", np.zeros((5, 32, 32, 3), np.uint8), 5, tone(1))
    with av.open(str(tmp_path / "a.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert audio.codec_context.name.startswith("mp3") and audio.sample_rate == 16_000 and audio.channels == 1
        assert "creation_time" not in container.metadata


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"old")
    monkeypatch.setattr(wave.Wave_write, "writeframes", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_wav(tmp_path / "a.wav", tone(1))
    with pytest.raises(ValueError, match="uint8"):
        write_mp4(tmp_path / "b.mp4", np.zeros((5, 32, 32, 3), np.float32), 5)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"] and (tmp_path / "a.wav").read_bytes() == b"old"


def test_a_wav_holds_the_waveform_to_16_bits_and_cuts_what_is_too_loud(tmp_path):
    waveform = torch.from_numpy(tone(0.5)).clone()
    waveform[100], waveform[200] = 2.5, -2.5
    write_wav(tmp_path / "a.wav", waveform)
    read = read_clip(tmp_path / "a.wav", 0.5, 0.5, 1).waveform
    assert float((read - waveform.clamp(-1, 1)).abs().max()) < 1e-4
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert file.getparams()[:4] == (1, 2, 16_000, 8_000)


# ---------------------------------------------------------------------------------------------------------------- real clips

needs_clips = pytest.mark.skipif("MAVIL_DATA" not in os.environ, reason="MAVIL_DATA is not set: no folder of real clips")


@pytest.fixture
def real() -> Path:
    return Path(os.environ["MAVIL_DATA"]) / "clips"


@needs_clips
def test_every_usable_real_clip_is_heard_and_seen_in_its_middle(real):
    for name, expected in json.loads((real / "expected.json").read_text()).items():
        if expected["expect"] in ("ok", "partial"):
            clip = read_clip(real / name, 2.0, 2.0, 4, short_side=32)
            assert not is_silent(clip.waveform) and clip.seen.all() and clip.frames.float().std() > 0, name
            assert clip.waveform.isfinite().all() and clip.waveform.abs().max() <= 1


@needs_clips
def test_the_same_film_in_two_codecs_sounds_and_looks_the_same(real):
    one, two = (read_clip(next(real.glob(f"{number}_*")), 4.0, 4.0, 8, short_side=64) for number in ("01", "02"))
    correlation = np.correlate(one.waveform.numpy(), two.waveform.numpy()[400:-400], "valid")
    lag = int(correlation.argmax()) - 400
    assert abs(lag) <= 0.015 * SAMPLE_RATE  # Matroska's timestamps of Vorbis are good to a block
    assert (one.frames.float() - two.frames.float()).abs().mean() < 6


@needs_clips
def test_the_best_of_several_streams_is_chosen(real):
    source = streams.Source(next(real.glob("13_*")))
    assert {kind: stream.index for kind, stream in source.streams.items()} == {"audio": 4, "video": 3}
    source.close()


@needs_clips
def test_a_real_clip_shot_upside_down_is_set_upright(real):
    path = next(real.glob("14_*"))
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="rgb24")
    upright = read_clip(path, 0.1, 0.1, 1, 0.0).frames[0].numpy()
    assert np.abs(upright.astype(int) - stored[::-1, ::-1]).mean() < 2


@needs_clips
def test_an_unknown_codec_is_told(real):
    with pytest.raises(MediaError, match="codec is unknown"):
        read_clip(next(real.glob("31_*")), 1.0, 1.0, 1)


def test_grey_tells_the_number_of_a_picture():
    assert [round((grey(i) - 10) / 12) for i in range(40)] == [i % 20 for i in range(40)]
