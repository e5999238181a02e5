"""The verdict on media files, and the only place where it is given: what is in them, how much decodes, whether they can be trained on."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import av
import torch

from mavil_edu.audio import audio_content
from mavil_edu.config import SAMPLE_RATE, ModelConfig
from mavil_edu.media import centre, find_media, is_silent
from mavil_edu.streams import MediaError, Mono, Source
from mavil_edu.video import video_content

ENOUGH = 0.9  # share of the promised time that must decode
LONG = 600.0  # seconds; of longer files only parts are decoded, unless all is asked for
MANY = 20_000  # frames; a file that gives more, and lasts longer than its header says, is decoded in parts as well
END_PART = 60.0  # seconds decoded at the start and at the end of a long file
POINTS, POINT_PART = 20, 0.5  # places between them, and the seconds decoded from the keyframe before each
KEYFRAME_REACH = 30.0  # seconds before a point within which that keyframe must lie


@dataclass(frozen=True)
class Inspection:
    """What is in one file; numbers are those of the best streams. None: no such stream, or not told."""

    path: Path
    status: str  # unreadable, partial, no_audio, no_video, too_short, silent or ok: the first that applies
    message: str  # a sentence
    trainable: bool  # ok, or partial with enough of both that is not silent
    container: str | None = None  # FFmpeg's name of the format
    promised_seconds: float | None = None  # by the header
    audio_seconds: float = 0.0  # decoded, counted in samples; estimated where a long file is decoded in parts
    video_seconds: float = 0.0  # decoded, from the first frame to the end of the last
    n_video: int | None = None  # streams, album covers not counted
    n_audio: int | None = None
    video_codec: str | None = None
    width: int | None = None  # as stored, before rotation
    height: int | None = None
    fps: float | None = None  # average
    rotation: int | None = None  # degrees against the clock that make the picture upright
    frames: int | None = None  # decoded
    audio_codec: str | None = None
    sample_rate: int | None = None
    layout: str | None = None  # of the channels
    audio_tokens: int = 0  # tokens of the clip's middle window that hold sound, not padding only, for the given model
    video_tokens: int = 0  # likewise for pictures
    corrupt_packets: int = 0


@dataclass
class _Tally:
    """What decodes of one stream."""

    kind: str  # "audio" or "video"
    frames: int = 0
    samples_seconds: float = 0.0
    start: float = math.inf  # in the file's time
    end: float = -math.inf
    lost: int = 0
    silent: bool = True
    rotation: int | None = None
    estimated: float | None = None  # seconds, where only parts were decoded
    mono: Mono | None = field(default=None, repr=False)

    def take(self, frame: "av.AudioFrame | av.VideoFrame", source: Source) -> None:
        length = source.shown_for(frame) if self.kind == "video" else frame.samples / frame.sample_rate
        time = frame.time if frame.time is not None else max(self.end, 0.0)
        self.frames += 1
        self.start, self.end = min(self.start, time), max(self.end, time + length)
        if self.kind == "video":
            self.rotation = frame.rotation if self.rotation is None else self.rotation
            return
        self.samples_seconds += length
        if self.silent:  # checked after the mix-down, as a model hears it, and only up to the first sound
            self.mono = self.mono if self.mono is not None and self.mono.fits(frame) else Mono(frame)
            self.silent = is_silent(self.mono.mix(frame))

    def add(self, other: "_Tally") -> None:
        """Takes in what a later part of the same stream gave."""
        self.frames, self.lost, self.silent = self.frames + other.frames, self.lost + other.lost, other.silent
        self.start, self.end = min(self.start, other.start), max(self.end, other.end)
        self.rotation = other.rotation if self.rotation is None else self.rotation

    @property
    def seconds(self) -> float:
        if self.estimated is not None:
            return self.estimated
        return self.samples_seconds if self.kind == "audio" else max(self.end - self.start, 0.0)


def _decode_all(source: Source, long: float = math.inf) -> dict[str, _Tally] | None:
    """Decodes everything; a place that cannot be read counts once. None where there turns out to be far more than `long` seconds."""
    tallies = {kind: _Tally(kind) for kind in source.streams}
    for packet in source.packets(*tallies):
        frames, lost = source.decode(packet)
        tally = tallies[packet.stream.type] if packet is not None else next(iter(tallies.values()))
        tally.lost += lost
        for frame in frames:
            tally.take(frame, source)
        if tally.end - source.zero > long and tally.frames > MANY:
            return None
    return tallies


def _decode_parts(source: Source, kind: str, length: float) -> tuple[_Tally, bool]:
    """Decodes parts of a long stream; returns their tally, and whether its last minute gave anything.

    Raises av.FFmpegError where the file cannot be sought in.
    """
    stands_for = (length - 2 * END_PART) / POINTS  # seconds, each point
    points = [(END_PART + stands_for * (i + 0.5), POINT_PART) for i in range(POINTS)]
    whole, decoded = _Tally(kind), 0.0
    for start, wanted in ((0.0, END_PART), *points, (length - END_PART, END_PART)):
        part = _Tally(kind, silent=whole.silent)
        since = source.zero + start - (KEYFRAME_REACH if wanted == POINT_PART else 1e-6)
        until = source.zero + start + wanted
        source.seek(kind, source.zero + start)
        for packet in source.packets(kind):
            frames, lost = source.decode(packet)
            part.lost += lost and part.frames > 0  # right after a seek a decoder may miss what came before
            times = [part.end if frame.time is None else frame.time for frame in frames]
            for frame, time in zip(frames, times, strict=True):
                if since <= time < until:
                    part.take(frame, source)
            if part.end - part.start >= wanted or any(time >= until for time in times):
                break
        if wanted == POINT_PART:
            decoded += stands_for * (part.seconds >= wanted / 2)
        else:
            decoded += min(part.seconds, wanted)
        whole.add(part)
    whole.estimated = decoded
    return whole, part.frames > 0


def _decode(source: Source, full: bool) -> tuple[dict[str, _Tally], bool]:
    """What decodes of each stream, and whether only parts of it were decoded."""
    length = source.promised if source.promised is not None else source.measured()
    for _ in range(2):
        if full:
            break
        if length <= LONG:
            if (tallies := _decode_all(source, LONG)) is not None:
                return tallies, False
        else:
            try:
                parts = {kind: _decode_parts(source, kind, length) for kind in source.streams}
            except av.FFmpegError:
                break
            if any(reached for _, reached in parts.values()):
                return {kind: tally for kind, (tally, _) in parts.items()}, True
        length = source.measured()  # much more than was promised, or nothing in the last minute: the header may lie
    source.rewind()
    return _decode_all(source), False


def _promises(source: Source, tallies: dict[str, _Tally]) -> list[str]:
    """What was promised and does not decode, in words: each stream's own duration, else the container's for the longest stream."""
    own = {kind: s.duration and s.duration > 0 and float(s.duration * s.time_base) for kind, s in source.streams.items()}
    missing = [
        f"{tallies[kind].seconds:.1f} of {seconds:.1f} s of {'sound' if kind == 'audio' else 'pictures'} decode"
        for kind, seconds in own.items()
        if seconds and tallies[kind].seconds < ENOUGH * seconds
    ]
    longest, whole = max(t.seconds + max(t.start - source.zero, 0) for t in tallies.values() if t.frames), source.container_seconds
    if not all(own.values()) and whole and longest < ENOUGH * whole:
        missing.append(f"{longest:.1f} of {whole:.1f} s decode")
    return missing


def _tokens(source: Source, tallies: dict[str, _Tally], model: ModelConfig) -> tuple[int, int]:
    """Tokens of the middle window that hold content: those that training and metrics count."""
    start = {kind: tally.start - source.zero for kind, tally in tallies.items()}
    end = {kind: tally.end - source.zero for kind, tally in tallies.items()}
    middle = centre(max(end.values()), model.audio.seconds, model.video.seconds)
    audio_tokens = video_tokens = 0
    if "audio" in tallies:
        begin = middle - model.audio.seconds / 2
        heard = [round(min(max(time - begin, 0.0), model.audio.seconds) * SAMPLE_RATE) for time in (start["audio"], end["audio"])]
        audio_tokens = int(audio_content(torch.tensor([heard]), model.audio).sum())
    if "video" in tallies:
        begin, step = middle - model.video.seconds / 2, model.video.seconds / model.video.frames
        seen = [start["video"] <= begin + (i + 0.5) * step < end["video"] for i in range(model.video.frames)]
        video_tokens = int(video_content(torch.tensor([seen]), model.video).sum())
    return audio_tokens, video_tokens


def _facts(source: Source) -> dict:
    """What the header says of the best streams, usable or not."""
    audio, video = ([*source.candidates(kind), None] for kind in ("audio", "video"))
    facts = {"container": source.container.format.name, "n_audio": len(audio) - 1, "n_video": len(video) - 1}
    facts["promised_seconds"] = source.promised if source.promised is not None else source.container_seconds
    sound, picture = source.streams.get("audio", audio[0]), source.streams.get("video", video[0])
    if sound is not None and (context := sound.codec_context) is not None:
        facts |= {"audio_codec": context.name, "sample_rate": context.sample_rate, "layout": context.layout.name}
    if picture is not None:
        context = picture.codec_context
        facts |= {"fps": float(picture.average_rate) if picture.average_rate else None, "frames": 0}
        facts |= {"width": context.width, "height": context.height, "video_codec": context.name} if context else {"width": 0, "height": 0}
    return facts


def _judge(source: Source, tallies: dict[str, _Tally], min_seconds: float) -> tuple[str, str, bool]:
    """Status, message and whether the file can be trained on, from what was decoded."""
    decoded = {kind: tally for kind, tally in tallies.items() if tally.frames}
    if not decoded:
        why = [f"{kind}: {reason}" for kind, reason in source.unusable.items()]
        return (
            "unreadable",
            f"Nothing decodes ({'; '.join(why) or 'no usable stream'}); convert the file with FFmpeg, or get it again.",
            False,
        )
    sound, picture = decoded.get("audio"), decoded.get("video")
    together, silent = 0.0, sound is not None and sound.silent
    if sound and picture:
        overlap = min(sound.end, picture.end) - max(sound.start, picture.start)
        together = max(0.0, min(overlap, sound.seconds, picture.seconds))
    problems = _promises(source, tallies)
    if lost := sum(tally.lost for tally in tallies.values()):
        problems.append(f"{lost} corrupt packet{'s' * (lost > 1)}")
    if problems:
        trainable = together >= min_seconds and together > 0 and not silent
        end = "" if trainable else f"; {together:.2f} s of sound and picture together{', silent' * silent}: not enough to train on"
        return "partial", f"{'; '.join(problems)}{end}.", trainable
    for kind, status, word in (("audio", "no_audio", "sound"), ("video", "no_video", "picture")):
        if kind not in decoded:
            why = source.unusable.get(kind, "none decodes" if kind in tallies else "the file holds no such stream")
            return status, f"There is no {word}: {why}.", False
    if together < min_seconds:
        return "too_short", f"{together:.2f} s of sound and picture together, less than {min_seconds:g} s.", False
    if silent:
        return "silent", "Every sample of the sound is zero.", False
    return "ok", f"{sound.seconds:.1f} s of sound, {picture.seconds:.1f} s of pictures.", True


def inspect_file(path: Path | str, model: ModelConfig, min_seconds: float = 1.0, full: bool = False) -> Inspection:
    """Decodes a file and gives its verdict; a bad file is a verdict, never an error.

    model: whose windows count the tokens. min_seconds: least length of sound and picture together. full: decode all of a file longer
    than 10 minutes; else its first and last minute and 20 points stand for it, and seconds are estimated from their share.
    """
    path = Path(path)
    try:
        with closing(Source(path)) as source:
            facts = _facts(source)
            tallies, in_parts = _decode(source, full) if source.streams else ({}, False)
            status, message, trainable = _judge(source, tallies, min_seconds)
            decoded = {kind: tally for kind, tally in tallies.items() if tally.frames}
            audio_tokens, video_tokens = _tokens(source, decoded, model) if decoded else (0, 0)
    except (MediaError, av.FFmpegError, OSError) as error:
        return Inspection(path, "unreadable", str(error), False)
    if "video" in tallies:
        facts |= {"frames": tallies["video"].frames, "rotation": tallies["video"].rotation}
    return Inspection(
        path=path,
        status=status,
        message=message + " Decoded in parts: the first and last minute and 20 points." * in_parts,
        trainable=trainable,
        audio_seconds=decoded["audio"].seconds if "audio" in decoded else 0.0,
        video_seconds=decoded["video"].seconds if "video" in decoded else 0.0,
        audio_tokens=audio_tokens,
        video_tokens=video_tokens,
        corrupt_packets=sum(tally.lost for tally in tallies.values()),
        **facts,
    )


Progress = Callable[[int, int], None]  # told the number of files done and of all


def inspect_paths(
    paths: list[Path | str], model: ModelConfig, min_seconds=1.0, full=False, progress: Progress | None = None, workers: int | None = None
) -> Iterator[Inspection]:
    """The verdicts on files and on the media files of folders, one by one in order, decoded by `workers` threads side by side.

    min_seconds, full: as `inspect_file` takes them. workers: by default one a processor, at most 8.
    """
    files = find_media(paths)
    pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))
    try:
        for done, verdict in enumerate(pool.map(lambda path: inspect_file(path, model, min_seconds, full), files), start=1):
            if progress is not None:
                progress(done, len(files))
            yield verdict
    finally:
        pool.shutdown(cancel_futures=True)


def table(verdicts: list[Inspection]) -> None:
    """Prints one row a file."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = Table("file", "status", "train", "sound, picture (s)", "promised (s)", "tokens", "message")
    for v in verdicts:
        promised = "?" if v.promised_seconds is None else f"{v.promised_seconds:.1f}"
        numbers = f"{v.audio_seconds:.1f}, {v.video_seconds:.1f}", promised, f"{v.audio_tokens} + {v.video_tokens}"
        rows.add_row(escape(v.path.name), v.status, "yes" if v.trainable else "no", *numbers, escape(v.message))
    for column in rows.columns[1:3]:
        column.no_wrap = True
    Console().print(rows)
