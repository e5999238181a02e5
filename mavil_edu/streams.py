"""An opened media file, by PyAV (FFmpeg): its streams are chosen, its packets decoded, its sound mixed to mono. Losses are counted.

With `media.py`, which reads windows and writes files on top of it, the only place that touches real media.
"""

import stat
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from av.codec.context import Flags
from av.stream import Discard, Disposition

from mavil_edu.config import SAMPLE_RATE

MAX_PIXELS = 2**26  # of a picture (8192 × 8192); a header that says more is taken for a lie, and FFmpeg decodes none that is larger
RATES = 1000, 768_000  # samples a second, least and most; resampling from others takes memory without bounds
CHECKED = frozenset(["flac", "png"])  # codecs whose checksums FFmpeg looks at only when it is told to
ODDEST_PIXEL = 4  # times as wide as high, or as high as wide; a header that says more is taken for a lie
READ_FAILURES = 100  # after which a file is taken to be at its end


class MediaError(ValueError):
    """A file that cannot be used: one sentence with the file, what is wrong, and what to do."""


class Source:
    """An opened media file: its best sound and picture streams, its time zero, its promised length. To be closed.

    `streams` maps "audio" and "video" to a stream, as far as there is one that can be decoded; `unusable` tells why not. Streams
    must not be kept: after `rewind` or `close`, PyAV crashes when an old one is touched.
    Raises MediaError where the file cannot be opened.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            status = self.path.stat()
        except OSError as error:
            raise MediaError(f"{self.path} cannot be opened ({error.strerror}); check the path and your rights to it.") from error
        if not stat.S_ISREG(status.st_mode):  # opening a pipe might wait for ever
            raise MediaError(f"{self.path} is a folder or a device, not a file; give a media file.")
        if status.st_size == 0:
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
            limits = {"protocol_whitelist": "file", "max_pixels": str(MAX_PIXELS)}
            self.container = av.open(f"file:{self.path}", metadata_errors="replace", options=limits)
        except (av.FFmpegError, OSError) as error:
            raise MediaError(f"{self.path} cannot be read as media ({error.strerror}); is it complete, and sound or video?") from error
        self.streams, self.unusable = {}, {}
        self._intact: dict[str, bool] = {}  # of the last frame of each kind; not there before the first
        for kind in ("audio", "video"):
            for stream in self.candidates(kind):
                context = stream.codec_context
                if context is None:
                    self.unusable.setdefault(kind, "its codec is unknown")
                elif kind == "video" and context.width * context.height > MAX_PIXELS:
                    self.unusable.setdefault(kind, f"its header claims {context.width} × {context.height} pixels")
                elif kind == "audio" and not RATES[0] <= context.sample_rate <= RATES[1]:
                    self.unusable.setdefault(kind, f"its header claims {context.sample_rate} samples a second")
                else:
                    strict = {"err_detect": "crccheck+explode"} if context.name in CHECKED else {}
                    context.options = {"max_pixels": str(MAX_PIXELS)} | strict  # a picture may claim another size than the header
                    context.thread_type, context.thread_count = "NONE", 1  # clips are decoded side by side, not each by many threads
                    context.flags |= Flags.output_corrupt  # after a loss some decoders else give nothing up to the next keyframe
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
        failures = 0
        while failures < READ_FAILURES:
            try:
                yield from self.container.demux(wanted)
                return
            except IndexError:  # a packet of a stream that turned up after opening, which PyAV does not expect
                continue
            except av.FFmpegError:
                failures += 1
                yield None

    def decode(self, packet: "av.Packet | None") -> tuple[list, bool]:
        """A packet's frames, and whether something is lost here: a corrupt packet costs that packet only.

        Pictures that suffer from an earlier loss are given, as a player shows them, and not counted again; those that need one
        from before the start, or before a place that was sought, are left out. A damaged keyframe needs none: it counts as a loss.
        """
        if packet is None:
            return [], True
        kind = packet.stream.type
        try:
            frames = packet.decode()
        except av.EOFError:  # nothing is left in the decoder
            return [], False
        except av.FFmpegError:
            self._intact.update({kind: False} if kind in self._intact else {})
            return [], True
        lost, given = packet.is_corrupt, []
        for frame in frames:
            if kind == "audio" and not RATES[0] <= frame.sample_rate <= RATES[1]:
                lost = True
                continue
            if frame.is_corrupt and kind not in self._intact:
                lost |= kind == "video" and frame.key_frame
                continue
            lost |= frame.is_corrupt and self._intact[kind]
            self._intact[kind] = not frame.is_corrupt
            given.append(frame)
        return given, lost

    def seek(self, kind: str, seconds: float) -> None:
        """Goes to a keyframe at or before a place in the file's time. Raises av.FFmpegError where the container cannot."""
        stream, self._intact = self.streams[kind], {}
        self.container.seek(int(seconds / stream.time_base), stream=stream)

    def rewind(self) -> None:
        """Goes back to the start by opening the file again, which works for every container."""
        self.container.close()
        self._open()

    def measured(self) -> float:
        """The clip's length in seconds by its packets' timestamps, read to the end without decoding; rewinds."""
        self.rewind()
        units = {stream.index: stream.time_base for stream in self.streams.values()}
        ends: dict[int, int] = {}  # by a stream's number, in its own unit: a fraction for each packet would take seconds of a long file
        for packet in self.packets(*self.streams) if units else ():
            if packet is not None and (pts := packet.pts) is not None and (index := packet.stream_index) in units:
                end = pts + (packet.duration or 0)
                ends[index] = max(ends.get(index, end), end)
        self.rewind()
        return max([0.0, *(float(end * units[index]) - self.zero for index, end in ends.items())])

    def codec(self, kind: str) -> str | None:
        """The name of a stream's codec, as FFmpeg's decoder has it."""
        return self.streams[kind].codec_context.name if kind in self.streams else None

    def shown_for(self, frame: av.VideoFrame) -> float:
        """Seconds that a frame is shown for when none follows: its duration, else one over the frame rate, else 0.04."""
        if frame.duration:
            return float(frame.duration * frame.time_base)
        rate = self.streams["video"].average_rate or self.streams["video"].guessed_rate
        return float(1 / rate) if rate else 0.04

    def pixel_width(self) -> float:
        """How wide a player shows a pixel of the pictures that is 1 high; 1 where the header does not tell, or what nobody records."""
        told = self.streams["video"].sample_aspect_ratio
        return float(told) if told and 1 / ODDEST_PIXEL <= told <= ODDEST_PIXEL else 1.0

    def close(self) -> None:
        self.container.close()


class Mono:
    """Decoded sound of one format as 16 kHz mono float32, piece by piece.

    libswresample mixes by the usual weights (centre 1, left and right 0.71, surrounds 0.5, the bass channel LFE left out) and,
    told rematrix_maxval=1, divides them by their sum: no mix is louder than its loudest channel, so nothing clips. Channels
    without a known place ("9 channels", ambisonics) are averaged.
    """

    def __init__(self, frame: av.AudioFrame):
        self._format = frame.format.name, frame.layout.name, frame.sample_rate
        name, count = frame.layout.name, frame.layout.nb_channels
        placeless = name.startswith("ambisonic") or (name.endswith(" channels") and count > 8)  # up to 8 FFmpeg knows the usual order
        layout, self._channels = (frame.layout, count) if placeless else ("mono", 1)
        self._resampler = av.AudioResampler("flt", layout, SAMPLE_RATE, options={"rematrix_maxval": "1.0"})

    def fits(self, frame: av.AudioFrame) -> bool:
        """Whether a frame is of the same format as the first."""
        return self._format == (frame.format.name, frame.layout.name, frame.sample_rate)

    def mix(self, frame: av.AudioFrame | None) -> np.ndarray:
        """The samples that a further frame completes, in [-1, 1], non-finite ones as 0; None gives the last ones."""
        pieces = [piece.to_ndarray().reshape(-1) for piece in self._resampler.resample(frame)]
        samples = np.nan_to_num(np.concatenate([np.zeros(0, np.float32), *pieces]), nan=0.0, posinf=0.0, neginf=0.0)
        return samples.reshape(-1, self._channels).mean(axis=1).clip(-1, 1)
