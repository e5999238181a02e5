"""Small media files with known content, for the tests: pictures whose grey tells their number, sounds given sample by sample."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

IDENTITY = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)  # the matrix of an upright picture in MP4


def grey(number: int) -> int:
    """The grey of picture `number`: 20 of them, 12 apart, then again."""
    return 10 + 12 * (number % 20)


def tone(seconds: float, rate: int = 16_000, pitch: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def clicks(seconds: float, times: list[float], rate: int = 16_000) -> np.ndarray:
    sound = np.zeros(round(seconds * rate), np.float32)
    for time in times:
        sound[round(time * rate) : round(time * rate) + rate // 400] = 0.9
    return sound


def pictures(count: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    return [np.full((height, width, 3), grey(i), np.uint8) for i in range(count)]


def make_clip(
    path: Path,
    images: list[np.ndarray] | None = None,
    times: list[float] | None = None,
    fps: int = 25,
    sound: np.ndarray | None = None,
    sound_times: list[float] | None = None,
    rate: int = 16_000,
    layout: str = "mono",
    vcodec: str = "libx264",
    acodec: str = "aac",
    gop: int = 12,
    title: str | None = None,
    pixel: Fraction | None = None,
) -> Path:
    """Writes a clip: pictures at `times` or fps, sound (samples,) or (channels, samples) from 0 or in equal parts at `sound_times`.

    pixel: how wide the header says that a pixel is for its height.
    """
    with av.open(str(path), "w") as container:
        if title:
            container.metadata["title"] = title
        packets = []
        if images is not None:
            video = container.add_stream(vcodec, rate=fps, options={"crf": "12", "x265-params": "log-level=none"})
            video.height, video.width, video.pix_fmt, video.gop_size = *images[0].shape[:2], "yuv420p", gop
            video.codec_context.time_base = Fraction(1, 1000) if times else Fraction(1, fps)
            video.thread_count = 1
            if pixel is not None:
                video.codec_context.sample_aspect_ratio = pixel
        if sound is not None:
            audio = container.add_stream(acodec, rate=rate, layout=layout)
        if images is not None:
            for i, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = (round(times[i] * 1000), Fraction(1, 1000)) if times else (i, Fraction(1, fps))
                packets += video.encode(frame)
            packets += video.encode(None)
        if sound is not None:
            sound = np.atleast_2d(sound).astype(np.float32)
            if sound_times:
                parts = zip(np.split(sound, len(sound_times), axis=1), sound_times, strict=True)
            else:
                parts = [(sound[:, i : i + rate], i / rate) for i in range(0, sound.shape[1], rate)]
            for part, time in parts:
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = rate, round(time * rate), Fraction(1, rate)
                packets += audio.encode(frame)
            packets += audio.encode(None)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    return path


def spoil_packet(source: Path, target: Path, kind: str, which: float = 0.5) -> Path:
    """A copy of a file with one packet overwritten, at a share `which` of its stream."""
    with av.open(str(source)) as container:
        packets = [p for p in container.demux(container.streams.best(kind)) if p.size]
        packet = packets[int(len(packets) * which)]
        position, size = packet.pos, packet.size
    raw = bytearray(source.read_bytes())
    raw[position : position + size] = b"\xff" * size
    target.write_bytes(raw)
    return target


def turn_in_header(path: Path, quarter_turns_clockwise: int) -> None:
    """Sets the display matrix of an MP4's first track by hand: x' = a x + c y, y' = b x + d y, y pointing down."""
    a, b, c, d = {1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[quarter_turns_clockwise]
    turned = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    raw = path.read_bytes()
    place = raw.index(IDENTITY, raw.index(b"tkhd"))
    path.write_bytes(raw[:place] + turned + raw[place + len(IDENTITY) :])
