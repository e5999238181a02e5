"""Media files made to harm: sizes, lengths and rates that lie, ten hours, numbers that are none."""

import struct
import zlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fuzzing.containers import boxes, elements
from fuzzing.sources import EXACT

Make = Callable[[Path, list[Path]], str]
HOURS = 10


def _named(sources: list[Path], word: str) -> bytearray:
    return bytearray(next(path for path in sources if word in path.name).read_bytes())


def _png(width: int, height: int) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        raw, place = _named(sources, "_png_"), 0
        while (place := raw.find(b"IHDR", place)) >= 0:
            raw[place + 4 : place + 12] = struct.pack(">II", width, height)
            raw[place + 17 : place + 21] = struct.pack(">I", zlib.crc32(raw[place : place + 17]))
            place += 4
        target.write_bytes(raw)
        return f"PNG in MOV: each picture claims {width} × {height}"

    return make


def _jpeg(width: int, height: int) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        raw, place = _named(sources, "_mjpeg_"), 0
        while (place := raw.find(b"\xff\xc0\x00\x11\x08", place)) >= 0:
            raw[place + 5 : place + 9] = struct.pack(">HH", height, width)
            place += 4
        target.write_bytes(raw)
        return f"MJPEG in MOV: each picture claims {width} × {height}"

    return make


def _vp8(width: int, height: int) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        raw, place = _named(sources, "_libvpx_"), 0
        while (place := raw.find(b"\x9d\x01\x2a", place)) >= 0:
            raw[place + 3 : place + 7] = struct.pack("<HH", width, height)
            place += 4
        target.write_bytes(raw)
        return f"VP8: each key picture claims {width} × {height}"

    return make


def _rawvideo(width: int, height: int) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        raw = _named(sources, "_rawvideo_")
        place = raw.find(b"strf") + 8
        raw[place + 4 : place + 12] = struct.pack("<ii", width, height)
        target.write_bytes(raw)
        return f"raw pictures in AVI: the header claims {width} × {height}"

    return make


def _matroska(width: int, height: int) -> Make:
    """PixelWidth and PixelHeight of a Matroska file, one byte each, made longer; the sizes of what is around them are put right."""

    def make(target: Path, sources: list[Path]) -> str:
        raw = _named(sources, "_ffv1_")
        for name, value in (("b0", width), ("ba", height)):
            start, content, end, _ = next(part for part in elements(bytes(raw)) if part[3] == name)
            new = raw[start : start + 1] + b"\x84" + struct.pack(">I", value)
            grown = len(new) - (end - start)
            for outer, inside, stop, _ in elements(bytes(raw)):  # every element around it is longer now
                if outer < start and stop >= end:
                    first = outer + 9 - raw[outer].bit_length()  # after the element's name stands its size
                    long = inside - first
                    size = int.from_bytes(raw[first:inside], "big") & ((1 << 7 * long) - 1)
                    raw[first:inside] = ((size + grown) | 1 << 7 * long).to_bytes(long, "big")
            raw[start:end] = new
        target.write_bytes(raw)
        return f"Matroska: the track claims {width} × {height}"

    return make


def _stsd(width: int, height: int) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        raw = _named(sources, "000.mp4")
        for _, content, end, name in boxes(bytes(raw)):
            if name == "stsd" and (place := raw.find(b"avc1", content, end)) >= 0:
                raw[place + 28 : place + 32] = struct.pack(">HH", width, height)
            if name == "tkhd":
                raw[end - 8 : end] = struct.pack(">II", width << 16, height << 16)
        target.write_bytes(raw)
        return f"MP4: the track claims {width} × {height}"

    return make


def _duration(word: str, value: int) -> Make:
    """An MP4 whose movie, tracks and media are said to last 2^32 − 1 units, or a Matroska file."""

    def make(target: Path, sources: list[Path]) -> str:
        raw = _named(sources, word)
        for _, content, _, name in boxes(bytes(raw)):
            where = {"mvhd": 16, "mdhd": 16, "tkhd": 20}.get(name)
            if where is not None:
                raw[content + where : content + where + 4] = struct.pack(">I", value)
        for _, content, end, name in elements(bytes(raw)):
            if name == "4489":
                raw[content:end] = struct.pack(">d" if end - content == 8 else ">f", float(value))
        target.write_bytes(raw)
        return f"{word}: the header claims a length of {value:.3g} units"

    return make


def ten_hours(target: Path, hours: float = HOURS) -> Path:
    """Ten hours of tiny pictures, two a second, and of sound, in Matroska: one packet of each, again and again."""
    with av.open(str(target), "w", format="matroska", options=EXACT) as container:
        video, audio = container.add_stream("mpeg4", rate=2), container.add_stream("flac", rate=8000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt, video.gop_size = "yuv420p", 1
        picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), format="rgb24")
        sound = av.AudioFrame.from_ndarray(np.full((1, 16_000), 3000, np.int16), format="s16", layout="mono")
        picture.pts, picture.time_base, sound.sample_rate, sound.pts, sound.time_base = 0, Fraction(1, 2), 8000, 0, Fraction(1, 8000)
        (image,), heard = [*video.encode(picture), *video.encode(None)], [*audio.encode(sound), *audio.encode(None)]
        step = heard[0].duration * heard[0].time_base
        heard_bytes, image_bytes = bytes(heard[0]), bytes(image)
        time, shown = Fraction(0), 0
        while time < hours * 3600:
            for content, stream, at, length in ((heard_bytes, audio, time, step), (image_bytes, video, Fraction(shown, 2), Fraction(1, 2))):
                if stream is video and at > time:
                    continue
                packet = av.Packet(content)
                packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 8000), True
                packet.pts = packet.dts = int(at * 8000)
                packet.duration = int(length * 8000)
                container.mux(packet)
                shown += stream is video
            time += step
    return target


def _ten_hours(claimed: float | None) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        raw = _named(sources, "ten_hours")
        for _, content, end, name in elements(bytes(raw)) if claimed is not None else ():
            if name == "4489":
                raw[content:end] = struct.pack(">d" if end - content == 8 else ">f", 1000 * claimed)
        target.write_bytes(raw)
        return f"ten hours, and the header tells {'so' if claimed is None else f'{claimed:g} s'}"

    return make


def _wav(code: int, bits: int, rate: int, channels: int, content: bytes, what: str) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        block = channels * bits // 8
        head = struct.pack("<HHIIHH", code, channels & 0xFFFF, rate & 0xFFFFFFFF, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
        body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(content)) + content
        target.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
        return f"WAV: {what}"

    return make


def _floats(value: float) -> bytes:
    sound = (0.3 * np.sin(np.arange(32_000) / 5)).astype("<f4")
    sound[::7] = value
    return sound.tobytes()


def _in_film(value: float) -> Make:
    """A film whose sound of 32-bit floats holds a number that is none, at every 7th place."""

    def make(target: Path, sources: list[Path]) -> str:
        raw = _named(sources, "_png_")
        start = raw.find(b"mdat")
        sound = struct.pack("<f", value)
        for offset in range(start + 8, len(raw) - 4, 28 * 4):  # some of these lie in pictures, most files' sound is hit
            raw[offset : offset + 4] = sound
        target.write_bytes(raw)
        return f"sound in MOV: {value} at many places"

    return make


def _text(content: str, what: str) -> Make:
    def make(target: Path, sources: list[Path]) -> str:
        target.write_text(content.format(name=target.name, other=sources[0]))
        return what

    return make


NOISE = np.random.default_rng(0).integers(0, 256, 64_000, np.uint8).tobytes()
SPECIALS: list[Make] = [
    *(_png(*size) for size in ((100_000, 100_000), (16_000, 16_000), (8_192, 8_192), (2**31 - 1, 1), (1, 2**31 - 1))),
    *(_jpeg(*size) for size in ((65_535, 65_535), (16_000, 16_000), (8_192, 8_192), (1, 65_535))),
    *(_vp8(*size) for size in ((16_383, 16_383), (16_000, 16_000), (8_192, 8_192))),
    *(_rawvideo(*size) for size in ((100_000, 100_000), (16_000, 16_000), (2**31 - 1, -1), (0, 0))),
    *(_matroska(*size) for size in ((100_000, 100_000), (16_000, 16_000), (8_000, 8_000))),
    *(_stsd(*size) for size in ((65_535, 65_535), (0, 0))),
    *(_duration(word, value) for word in ("000.mp4", "_ffv1_") for value in (2**32 - 1, 2**31, 36_000_000)),
    _duration("_ffv1_", 10**300),
    _ten_hours(None),
    _ten_hours(3.0),
    _ten_hours(1e9),
    _wav(1, 8, 1, 1, NOISE, "one sample a second"),
    _wav(1, 8, 8, 1, NOISE, "8 samples a second"),
    _wav(1, 8, 2**31 - 1, 1, NOISE, "2^31 samples a second"),
    _wav(1, 8, 0, 1, NOISE, "no samples a second"),
    _wav(1, 8, 16_000, 65_535, NOISE, "65,535 channels"),
    _wav(1, 16, 16_000, 0, NOISE, "no channels"),
    *(_wav(3, 32, 16_000, 1, _floats(value), f"{value} among its samples") for value in (float("nan"), float("inf"), 3e38, 1e-42)),
    *(_in_film(value) for value in (float("nan"), float("-inf"), 3e38)),
    _wav(1, 16, 16_000, 1, bytes(64_000), "silence"),
    _text("ffconcat version 1.0\nfile {name}\nfile {name}\n", "a list that names itself"),
    _text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{name}\n#EXT-X-ENDLIST\n", "a playlist that names itself"),
    _text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{other}\n#EXT-X-ENDLIST\n", "a playlist of another file"),
    _text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/dev/zero\n", "a live playlist of an endless device"),
    _text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n", "a stream told"),
]  # fmt: skip
