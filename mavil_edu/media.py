"""Real media files: the only place where they are read and written. PyAV (FFmpeg) does the decoding; time rules everything.

Sound and pictures are placed by their timestamps, never by counting, so that they stay in step whatever the container does.
"""

import math
import os
import wave
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.stream import Discard, Disposition
from av.video.reformatter import Interpolation
from torch import Tensor

from mavil_edu.config import SAMPLE_RATE

MEDIA_SUFFIXES = frozenset(
    ".3g2 .3gp .aac .asf .avi .flac .flv .m2ts .m4a .m4v .mka .mkv .mov .mp3 .mp4 .mpeg .mpg .mts .mxf .oga .ogg .ogv .opus .ts .wav"
    " .webm .wma .wmv".split()
)
MAX_PIXELS = 2**26  # of a picture (8192 × 8192); a header that says more is taken for a lie
SILENCE = 2.0**-16  # half a step of 16-bit sound: what stays below it is zero in a WAV file
SEEK_FROM = 3.0  # seconds; windows that begin earlier are reached by decoding from the file's start
RUN_UPS = (0.5, 8.0)  # seconds before the wanted time where decoding starts after a seek; decoders need a little to warm up
JUMP = 0.03  # seconds that a timestamp may stray from the count of samples (Matroska's do, by 0.01) before sound is placed anew
SHORTFALL = 0.25  # seconds missing at a window's end that make us doubt the header's duration
READ_FAILURES = 100  # after which a file is taken to be at its end


class MediaError(ValueError):
    """A file that cannot be used: one sentence with the file, what is wrong, and what to do."""


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


def is_silent(waveform: Tensor | np.ndarray) -> bool:
    """Whether a waveform is all zeros once written with 16 bits; an empty one is."""
    return len(waveform) == 0 or not bool((abs(waveform) >= SILENCE).any())


# ------------------------------------------------------------------------------------------------------------ an opened file


class Source:
    """An opened media file: its best sound and picture streams, its time zero, its promised length. To be closed.

    `streams` maps "audio" and "video" to a stream, as far as there is one that can be decoded; `unusable` tells why not.
    Raises MediaError where the file cannot be opened.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            what = "is a folder or a device; give a media file" if self.path.exists() else "does not exist; check the path"
            raise MediaError(f"{self.path} {what}.")
        if self.path.stat().st_size == 0:
            raise MediaError(f"{self.path} is empty (0 bytes); copy or download it again.")
        self._open()
        starts = [float(s.start_time * s.time_base) for s in self.streams.values() if s.start_time is not None]
        self.zero = min(starts, default=(self.container.start_time or 0) / av.time_base)  # the clip's time 0, in the file's time
        whole = self.container.duration
        self.container_seconds = whole / av.time_base if whole and whole > 0 else None
        ends = [self.promised_end(kind) for kind in self.streams]
        self.promised = None if not ends or None in ends else max(ends) - self.zero  # seconds of the whole clip, by the header

    def _open(self) -> None:
        try:  # "file:" keeps names such as "concat:a" from being taken for a protocol; the white list keeps playlists local
            self.container = av.open(f"file:{self.path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path} cannot be read as media ({error.strerror}); is it complete, and sound or video?") from error
        self.streams, self.unusable = {}, {}
        for kind in ("audio", "video"):
            for stream in self.candidates(kind):
                context = stream.codec_context
                if context is None:
                    self.unusable.setdefault(kind, "its codec is unknown")
                elif kind == "video" and context.width * context.height > MAX_PIXELS:
                    self.unusable.setdefault(kind, f"its header claims {context.width} × {context.height} pixels")
                else:
                    context.thread_type, context.thread_count = "NONE", 1  # clips are decoded side by side, not each by many threads
                    self.streams[kind] = stream
                    break

    def candidates(self, kind: str) -> list:
        """The streams of a kind, FFmpeg's best choice first; album covers are not video."""
        streams = [s for s in self.container.streams if s.type == kind and not s.disposition & Disposition.attached_pic]
        best = self.container.streams.best(kind)
        return sorted(streams, key=lambda stream: best is None or stream.index != best.index)

    def promised_end(self, kind: str) -> float | None:
        """Where the header says that a stream ends, in the file's time: its own duration, else the container's."""
        stream = self.streams[kind]
        if stream.duration and stream.duration > 0:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        if self.container_seconds is None:
            return None
        return (self.container.start_time or 0) / av.time_base + self.container_seconds

    def packets(self, *kinds: str) -> Iterator["av.Packet | None"]:
        """Packets of these kinds from here to the end; None for a place where the file could not be read."""
        wanted = [self.streams[kind] for kind in kinds]
        for stream in self.container.streams:
            stream.discard = Discard.default if stream in wanted else Discard.all
        for _ in range(READ_FAILURES):
            try:
                yield from self.container.demux(wanted)
                return
            except av.FFmpegError:
                yield None

    def seek(self, kind: str, seconds: float) -> None:
        """Goes to a keyframe at or before a place in the file's time. Raises av.FFmpegError where the container cannot."""
        stream = self.streams[kind]
        self.container.seek(int(seconds / stream.time_base), stream=stream)

    def rewind(self) -> None:
        """Goes back to the start by opening the file again, which works for every container."""
        self.container.close()
        self._open()

    def measured(self) -> float:
        """The clip's length in seconds by its packets' timestamps, read to the end without decoding; rewinds."""
        self.rewind()
        end = self.zero
        for packet in self.packets(*self.streams):
            if packet is not None and packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        self.rewind()
        return end - self.zero

    def close(self) -> None:
        self.container.close()


def decode(packet: "av.Packet | None") -> tuple[list, bool]:
    """A packet's frames, and whether something of it was lost; a corrupt packet costs that packet only."""
    if packet is None:
        return [], True
    try:
        frames = packet.decode()
    except av.EOFError:  # nothing is left in the decoder
        return [], False
    except av.FFmpegError:
        return [], True
    return frames, packet.is_corrupt or any(frame.is_corrupt for frame in frames)


def shown_for(frame: av.VideoFrame, stream: av.VideoStream) -> float:
    """Seconds that a frame is shown for when none follows: its duration, else one over the frame rate, else 0.04."""
    rate = stream.average_rate or stream.guessed_rate
    return float(frame.duration * frame.time_base) if frame.duration else float(1 / rate) if rate else 0.04


class Mono:
    """Decoded sound of one format as 16 kHz mono float32, piece by piece.

    libswresample mixes by the usual weights (centre 1, left and right 0.71, surrounds 0.5, the bass channel LFE left out) and,
    told rematrix_maxval=1, divides them by their sum: no mix is louder than its loudest channel, so nothing clips. Channels
    without a known place ("9 channels", ambisonics) are averaged.
    """

    def __init__(self, frame: av.AudioFrame):
        self._format = frame.format.name, frame.layout.name, frame.sample_rate
        placeless = frame.layout.name.endswith(" channels") or frame.layout.name.startswith("ambisonic")
        layout = frame.layout if placeless else "mono"
        self._resampler = av.AudioResampler("fltp", layout, SAMPLE_RATE, options={"rematrix_maxval": "1.0"})

    def fits(self, frame: av.AudioFrame) -> bool:
        """Whether a frame is of the same format as the first."""
        return self._format == (frame.format.name, frame.layout.name, frame.sample_rate)

    def mix(self, frame: av.AudioFrame | None) -> np.ndarray:
        """The samples that a further frame completes, in [-1, 1], non-finite ones as 0; None gives the last ones."""
        pieces = [piece.to_ndarray().mean(axis=0) for piece in self._resampler.resample(frame)]
        mixed = np.concatenate([np.zeros(0, np.float32), *pieces])
        return np.nan_to_num(mixed, copy=False, nan=0.0, posinf=0.0, neginf=0.0).clip(-1, 1)


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

    def __init__(self, start: float, seconds: float):
        super().__init__(start, seconds)
        self.waveform = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
        self.heard = (0, 0)
        self._mono: Mono | None = None  # while samples follow one another without a gap

    def take(self, frame: av.AudioFrame) -> None:
        time = self.end if frame.time is None else frame.time
        if self._mono is not None and abs(time - self._expected) < JUMP and self._mono.fits(frame):
            time = self._expected
        else:
            self.interrupt()
        self.begun, self.end = True, time + frame.samples / frame.sample_rate
        self.done = time > self.stop + JUMP
        if self.done or self.end < self.start - JUMP:
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

    def __init__(self, start: float, seconds: float, frames: int, stream: av.VideoStream | None, short_side: int | None):
        super().__init__(start, seconds)
        self.times = [start + (i + 0.5) * seconds / frames for i in range(frames)]
        self.pictures: list[np.ndarray | None] = []  # one for each of the first times; None is unseen
        self._stream, self._short_side = stream, short_side
        self._last: av.VideoFrame | None = None
        self._shape: tuple[int, int] | None = None  # of the first picture; a stream may change its size on the way

    def take(self, frame: av.VideoFrame) -> None:
        time = frame.time if frame.time is not None else max(self.end, self.start)
        if (self.begun and time <= self._time) or frame.width * frame.height > MAX_PIXELS:
            return  # a timestamp that goes back is never shown
        self._show_until(time)
        self._last, self._time, self.begun = frame, time, True
        self.end = time + shown_for(frame, self._stream)
        self.done = len(self.pictures) == len(self.times)

    def _show_until(self, end: float) -> None:
        """Gives the last frame to the wanted times before `end`."""
        picture = None
        while len(self.pictures) < len(self.times) and (wanted := self.times[len(self.pictures)]) < end - 1e-9:
            if self.begun and picture is None and self._time <= wanted + 1e-9:
                picture = self._rgb(self._last)
            self.pictures.append(picture)

    def _rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """A frame as (height, width, 3) uint8, upright, shrunk to the short side while it is converted."""
        turns = round(frame.rotation / 90) % 4  # quarter turns against the clock that make it upright
        if self._shape is None:
            scale = min(1.0, (self._short_side or math.inf) / min(frame.width, frame.height))
            height, width = max(1, round(frame.height * scale)), max(1, round(frame.width * scale))
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
        frames, lost = decode(packet)
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
    (i + 0.5) / frames of the way through the video window. position: in [0, 1], 0.5 = the middle. short_side: pixels that the
    shorter side is shrunk to, never enlarged. A clip whose header promises more than there is counts with its true length.
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
            sound = _Sound(middle - audio_seconds / 2, audio_seconds)
            picture = _Picture(middle - video_seconds / 2, video_seconds, frames, source.streams.get("video"), short_side)
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


# ------------------------------------------------------------------------------------------------------------------ writing


@contextmanager
def _replacing(path: Path | str) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when all went well, so that no half-written file is ever seen."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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
    with _replacing(path) as temporary, av.open(str(temporary), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": str(quality)})
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
    with _replacing(path) as temporary, wave.open(str(temporary), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", "not compressed"))
        file.writeframes(samples.tobytes())
