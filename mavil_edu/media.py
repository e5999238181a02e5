"""Real media files: with `streams.py`, on which it stands, the only place where they are read and written.

Sound and pictures are placed by their timestamps, never by counting, so that they stay in step whatever the container does.
"""

import math
import wave
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation
from torch import Tensor

from mavil_edu.config import SAMPLE_RATE
from mavil_edu.files import replacing
from mavil_edu.streams import MAX_PIXELS, MediaError, Mono, Source

MEDIA_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .asf .avi .flac .flv .m2ts .m4a .m4v .mka .mkv .mov .mp3 .mp4 .mpeg .mpg .mts .mxf .oga .ogg .ogv .opus .ts .wav"
    " .webm .wma .wmv".split()
)
SILENCE = 2.0**-16  # half a step of 16-bit sound: what stays below it is zero in a WAV file
SEEK_FROM = 3.0  # seconds; windows that begin earlier are reached by decoding from the file's start
RUN_UPS = (0.5, 8.0)  # seconds before the wanted time where decoding starts after a seek; decoders need a little to warm up
JUMP = 0.01  # seconds that a timestamp may stray from the count of samples before sound is placed anew: under one packet
VORBIS_JUMP = 0.03  # likewise; in Matroska the timestamps of Vorbis lag by up to a block of 0.02 s, back and forth
EDGE = 0.03  # seconds of sound decoded before and after a window, so that resampling sees across its ends
THIN = 250.0  # bytes a second; a header that promises so long a clip in so small a file is not believed
LONGEST = 7 * 86_400.0  # seconds of a clip; timestamps that say more are taken for a lie
SHORTFALL = 0.25  # seconds missing at a window's end that make us doubt the header's duration


class Clip(NamedTuple):
    """One window of sound and one of pictures, with the same centre; places without content hold zeros."""

    waveform: Tensor  # (samples,) float32 in [-1, 1], 16 kHz, mono
    heard: tuple[int, int]  # samples [start, stop) that hold sound, (0, 0) for none
    frames: Tensor  # (t, height, width, 3) uint8
    seen: Tensor  # (t,) bool, False where there is no picture
    seconds: float  # length of the whole clip
    audio_start: float  # seconds; where the sound's window begins, in the clip's time
    video_start: float  # likewise for the pictures
    note: str | None  # what was lost on the way


def find_media(paths: list[Path | str]) -> list[Path]:
    """The media files among paths: a file is taken as it is, a folder gives its files with a media suffix, sorted, hidden ones left out."""
    found = []
    for path in map(Path, paths):
        if not path.is_dir():
            found.append(path)
            continue
        inside = (p for p in path.rglob("*") if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
        found += sorted(p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts))
    return found


def centre(length: float, audio_seconds: float, video_seconds: float, position: float = 0.5) -> float:
    """Where both windows have their centre, in seconds from the start of a clip of `length` seconds (our choice).

    Both windows lie inside the clip where it is long enough, else the shorter one does; `position` in [0, 1] slides them from
    the first possible place to the last. In a clip shorter than both, the shorter window starts with the clip.
    """
    long, short = max(audio_seconds, video_seconds), min(audio_seconds, video_seconds)
    window = long if length >= long else short
    return window / 2 + position * max(length - window, 0.0)


def clip_seconds(path: Path | str) -> float:
    """The length of a clip by its file's header, or by its packets' timestamps where the header tells none, or far too much.

    Raises MediaError where the file cannot be opened, or claims to last longer than a week.
    """
    with closing(Source(path)) as source:
        seconds = source.promised
        if seconds is None or source.path.stat().st_size < THIN * seconds:
            seconds = source.measured()
    if seconds > LONGEST:
        raise MediaError(f"{path} claims to last {seconds / 86_400:.0f} days, which is taken for damage; write it anew with FFmpeg.")
    return seconds


def is_silent(waveform: Tensor | np.ndarray) -> bool:
    """Whether a waveform is all zeros once written with 16 bits; an empty one is."""
    return len(waveform) == 0 or not bool((abs(waveform) >= SILENCE).any())


# ------------------------------------------------------------------------------------------------------------------ reading


class _Window:
    """What a window of sound and one of pictures have in common: decoded frames are given to `take` in order, then comes `finish`."""

    def __init__(self, start: float, seconds: float):
        self.start, self.stop = start, start + seconds  # in the file's time
        self.end = -math.inf  # of what has been decoded
        self.begun = self.done = False  # a frame has come; no more are needed
        self.lost = 0  # packets

    def interrupt(self) -> None:
        """Something was lost here. Pictures: the one before it is shown on, as a player does."""


class _Sound(_Window):
    """The sound's window: samples are laid where their timestamps say."""

    def __init__(self, start: float, seconds: float, codec: str | None):
        super().__init__(start, seconds)
        self.jump = VORBIS_JUMP if codec == "vorbis" else JUMP
        self.waveform = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        self.heard = (0, 0)
        self._mono: Mono | None = None  # while samples follow one another without a gap

    def take(self, frame: av.AudioFrame) -> None:
        time = self.end if frame.time is None else frame.time
        if self._mono is not None and abs(time - self._expected) < self.jump and self._mono.fits(frame):
            time = self._expected
        else:
            self.interrupt()
        self.begun, self.end = True, time + frame.samples / frame.sample_rate
        self.done = time > self.stop + EDGE
        if self.done or self.end < self.start - EDGE:
            return
        if self._mono is None:
            self._mono, self._pieces, self._anchor, self._taken = Mono(frame), [], time, 0
        self._taken += frame.samples
        self._expected = self._anchor + self._taken / frame.sample_rate
        self._pieces.append(self._mono.mix(frame))

    def interrupt(self) -> None:
        if self._mono is None:
            return
        samples = np.concatenate([*self._pieces, self._mono.mix(None)])
        offset = round((self._anchor - self.start) * SAMPLE_RATE)
        first, last = max(offset, 0), min(offset + len(samples), len(self.waveform))
        if last > first:
            self.waveform[first:last] = samples[first - offset : last - offset]
            self.heard = (min(first, self.heard[0]), max(last, self.heard[1])) if self.heard[1] else (first, last)
        self._mono = None

    finish = interrupt


class _Picture(_Window):
    """The pictures' window: keeps what is shown at each wanted time, and converts nothing else."""

    def __init__(self, start: float, seconds: float, frames: int, source: Source, short_side: int | None):
        super().__init__(start, seconds)
        self.times = [start + (i + 0.5) * seconds / frames for i in range(frames)]
        self.pictures: list[np.ndarray | None] = []  # one for each of the first times; None is unseen
        self._source, self._short_side = source, short_side
        self._last: av.VideoFrame | None = None
        self._shape: tuple[int, int] | None = None  # of the first picture; a stream may change its size on the way

    def take(self, frame: av.VideoFrame) -> None:
        time = frame.time if frame.time is not None else max(self.end, self.start)
        if (self.begun and time <= self._time) or frame.width * frame.height > MAX_PIXELS:
            return  # a timestamp that goes back is never shown
        self._show_until(time)
        self._last, self._time, self.begun = frame, time, True
        self.end = time + self._source.shown_for(frame)
        self.done = len(self.pictures) == len(self.times)

    def _show_until(self, end: float) -> None:
        """Gives the last frame to the wanted times before `end`."""
        picture = None
        while len(self.pictures) < len(self.times) and (wanted := self.times[len(self.pictures)]) < end - 1e-9:
            if self.begun and picture is None and self._time <= wanted + 1e-9:
                picture = self._rgb(self._last)
            self.pictures.append(picture)

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as (height, width, 3) uint8, upright, with square pixels, shrunk to the short side while it is converted."""
        turns = round(frame.rotation / 90) % 4  # quarter turns against the clock that make it upright
        if self._shape is None:
            shown = frame.width * self._source.pixel_width()  # as a player does, the width is stretched before a turn
            scale = min(1.0, (self._short_side or math.inf) / min(shown, frame.height))
            height, width = max(1, round(frame.height * scale)), max(1, round(shown * scale))
        else:
            height, width = self._shape[::-1] if turns % 2 else self._shape
        how = (Interpolation.AREA if height < frame.height else Interpolation.BICUBIC) | Interpolation.ACCURATE_RND
        picture = np.rot90(frame.reformat(width, height, "rgb24", interpolation=how, threads=1).to_ndarray(), turns)
        self._shape = picture.shape[:2]
        return picture

    def finish(self) -> None:
        self._show_until(self.end)
        self.pictures += [None] * (len(self.times) - len(self.pictures))

    def stacked(self) -> np.ndarray:
        """(t, height, width, 3) uint8; without any picture a black square of the short side."""
        blank = np.zeros((*(self._shape or [self._short_side or 1] * 2), 3), np.uint8)
        return np.stack([blank if picture is None else picture for picture in self.pictures])


def _decode_into(source: Source, windows: dict[str, _Sound | _Picture], sought: bool = False) -> bool:
    """Decodes from here until every window is done; False where a seek turns out to have gone too far."""
    for packet in source.packets(*windows):
        concerned = [window for kind, window in windows.items() if packet is None or packet.stream.type == kind]
        if all(window.done for window in concerned):
            continue
        frames, lost = source.decode(packet)
        for window in concerned:
            if lost and (window.begun or not sought):  # right after a seek a decoder may miss what came before
                window.lost += 1
                window.interrupt()
            for frame in frames:
                if sought and not window.begun and (frame.time or 0.0) > window.start:
                    return False
                window.take(frame)
        if all(window.done for window in windows.values()):
            break
    return True


def _fill(source: Source, windows: dict[str, _Sound | _Picture]) -> None:
    """Fills the windows: in one pass where they begin early in the file, else each after a seek of its own."""
    if all(window.start - source.zero < SEEK_FROM for window in windows.values()):
        _decode_into(source, windows)
    else:
        for kind, window in windows.items():
            if not _fill_after_seek(source, kind, window):
                source.rewind()
                _decode_into(source, {kind: window})
    for window in windows.values():
        window.finish()


def _fill_after_seek(source: Source, kind: str, window: _Sound | _Picture) -> bool:
    """Fills a window after a seek; False where the file must be decoded from its start."""
    for run_up in RUN_UPS:
        try:
            source.seek(kind, max(window.start - run_up, source.zero))
        except av.FFmpegError:
            return False
        arrived = _decode_into(source, {kind: window}, sought=True)
        if arrived and window.begun:
            return True
    return arrived  # nothing there: the stream ends before the window


def read_clip(
    path: Path | str, audio_seconds: float, video_seconds: float, frames: int, position: float = 0.5, short_side: int | None = None
) -> Clip:
    """Reads one window of a media file, at the place that `centre` gives.

    audio_seconds, video_seconds: lengths of the windows. frames: pictures wanted; number i is the one that a player would show
    (i + 0.5) / frames of the way through the video window, its width stretched where pixels are not square. position: in [0, 1],
    0.5 = the middle. short_side: pixels that the shorter side is shrunk to, never enlarged. A clip whose header promises more than
    there is counts with its true length.
    Raises MediaError where the file cannot be opened, or nothing in the window can be decoded.
    """
    if audio_seconds <= 0 or video_seconds <= 0 or frames < 1 or not 0 <= position <= 1:
        raise ValueError(f"A window needs lengths above 0 ({audio_seconds}, {video_seconds}), frames ({frames}) and a position in [0, 1].")
    notes = []
    with closing(Source(path)) as source:
        if not source.streams:
            why = "; ".join(f"{kind}: {reason}" for kind, reason in source.unusable.items()) or "there is no such stream"
            raise MediaError(f"{path} has neither sound nor pictures that can be decoded ({why}); convert it with FFmpeg.")
        seconds = source.measured() if source.promised is None else source.promised
        for attempt in range(2):
            middle = source.zero + centre(seconds, audio_seconds, video_seconds, position)
            sound = _Sound(middle - audio_seconds / 2, audio_seconds, source.codec("audio"))
            picture = _Picture(middle - video_seconds / 2, video_seconds, frames, source, short_side)
            windows = {kind: window for kind, window in (("audio", sound), ("video", picture)) if kind in source.streams}
            _fill(source, windows)
            due = source.zero + seconds - SHORTFALL  # the header lies where neither window gets what it should
            if attempt or any(window.done or window.end >= min(window.stop, due) for window in windows.values()):
                break
            promised, seconds = seconds, source.measured()
            notes.append(f"{promised:.1f} s promised, {seconds:.1f} s there")
    if not any(window.begun for window in windows.values()):
        raise MediaError(f"{path}: nothing can be decoded around {middle - source.zero:.1f} s; is it damaged? Try mavil-edu inspect.")
    lost = sum(window.lost for window in windows.values())
    notes += [f"{lost} corrupt packet{'s' * (lost > 1)}"] if lost else []
    picture.finish()
    return Clip(
        waveform=torch.from_numpy(sound.waveform),
        heard=sound.heard,
        frames=torch.from_numpy(picture.stacked()),
        seen=torch.tensor([shown is not None for shown in picture.pictures]),
        seconds=seconds,
        audio_start=sound.start - source.zero,
        video_start=picture.start - source.zero,
        note="; ".join(notes) or None,
    )


def read_whole(path: Path | str, frame_rate: float, max_seconds: float, short_side: int | None = None) -> Clip:
    """Reads all of a clip's sound, and its pictures at 0, 1, 2, … times 1 / frame_rate seconds from where the sound begins.

    max_seconds: of a longer clip the middle is read, as many whole picture times as fit; `seconds` is the whole clip's length all the same.
    A picture is the one that a player would show at its time. short_side: as `read_clip` takes it. Raises MediaError likewise.
    """
    if not frame_rate > 0 or max_seconds * frame_rate < 1:
        raise ValueError(f"Reading needs a frame rate above 0 ({frame_rate}) and time for one picture or more ({max_seconds} s).")
    with closing(Source(path)) as source:
        promised = source.measured() if source.promised is None else source.promised
    steps = max(1, min(math.ceil(promised * frame_rate - 1e-6), math.floor(max_seconds * frame_rate + 1e-6)))
    length = steps / frame_rate
    # read_clip takes pictures at the middle of equal intervals: with one more, centred likewise, the first lies at the sound's start
    clip = read_clip(path, length, length + 1 / frame_rate, steps + 1, 0.5, short_side)
    return clip._replace(frames=clip.frames[:-1], seen=clip.seen[:-1], video_start=clip.audio_start)


# ------------------------------------------------------------------------------------------------------------------ writing


def write_mp4(
    path: Path | str, frames: Tensor | np.ndarray, frame_rate: float, waveform: Tensor | np.ndarray | None = None, quality: float = 20.0
) -> None:
    """Writes a clip as H.264 and MP3 in MP4, which every browser plays; the same input gives the same bytes.

    frames: (t, height, width, 3) uint8; an odd height or width is made even by repeating the last row or column, as yuv420p
    needs. frame_rate: frames a second. waveform: (samples,) in [-1, 1], 16 kHz; None for no sound. quality: x264's CRF, 0 (best) to
    51. Raises ValueError for other shapes.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise ValueError(f"Frames must be uint8 of shape (t, height, width, 3), not {frames.dtype} of shape {frames.shape}.")
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    rate = Fraction(frame_rate).limit_denominator(10_000)
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        # x264's code for the processor at hand gave other bytes for the same pictures in 1 to 5 files of 100, its portable code never.
        video = container.add_stream("libx264", rate=rate, options={"crf": str(quality), "x264-params": "cpu-independent=1"})
        video.width, video.height, video.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        video.thread_count = 1  # more threads, other bytes
        if waveform is not None:
            audio = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000)
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if waveform is not None:
            samples = np.ascontiguousarray(np.asarray(waveform, np.float32).reshape(1, -1))
            sound = av.AudioFrame.from_ndarray(samples.clip(-1, 1), format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(sound))
            container.mux(audio.encode(None))


def write_wav(path: Path | str, waveform: Tensor | np.ndarray) -> None:
    """Writes sound as 16-bit PCM, mono, 16 kHz; values outside [-1, 1] are cut. waveform: (samples,)."""
    samples = (np.asarray(waveform, np.float64).reshape(-1).clip(-1, 1) * 32767).round().astype("<i2")
    with replacing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes(samples.tobytes())


def write_mp3(path: Path | str, waveform: Tensor | np.ndarray) -> None:
    """Writes sound as MP3, mono, 16 kHz, 64 kbit/s; the same input gives the same bytes. waveform: (samples,) in [-1, 1]."""
    samples = np.ascontiguousarray(np.asarray(waveform, np.float32).reshape(1, -1)).clip(-1, 1)
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp3", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libmp3lame", rate=SAMPLE_RATE, layout="mono", bit_rate=64_000)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
