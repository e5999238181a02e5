"""Real and made media files, short, in as many containers and codecs as FFmpeg writes here: what the campaign damages."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from mavil_edu.config import SAMPLE_RATE
from mavil_edu.media import read_whole

os.environ.setdefault("SVT_LOG", "1")  # its encoder else fills the terminal
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 3.0  # of a real clip that are kept
LARGE = "bbb", "fire", "vp9"  # in names of clips of 1280 × 720, of which half a second is kept
SMALL = 200_000  # bytes; such a file is taken as it is
EXACT = {"fflags": "+bitexact"}
# suffix, codec of the pictures, of the sound, more for the muxer
MADE = [
    ("avi", "mpeg4", "libmp3lame", {}),
    ("ts", "mpeg2video", "mp2", {}),
    ("webm", "libvpx-vp9", "libopus", {}),
    ("mkv", "libvpx", "vorbis", {}),
    ("wmv", "wmv2", "wmav2", {}),
    ("mov", "mjpeg", "pcm_s16le", {}),
    ("mkv", "ffv1", "flac", {}),
    ("mp4", "libx265", "aac", {}),
    ("mkv", "libsvtav1", "libopus", {}),
    ("flv", "flv", "libmp3lame", {}),
    ("mov", "png", "pcm_f32le", {}),
    ("mov", "prores", "alac", {}),
    ("mp4", "libx264", "aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    ("mp4", "libx264", "aac", {"movflags": "faststart"}),
    ("avi", "rawvideo", "pcm_s16le", {}),
    ("avi", "huffyuv", "adpcm_ima_wav", {}),
    ("mpg", "mpeg2video", "mp2", {}),
    ("ts", "libx264", "aac", {}),
    ("mkv", "libx264", "ac3", {}),
]
SOUNDS = [
    ("wav", "pcm_s16le"),
    ("flac", "flac"),
    ("mp3", "libmp3lame"),
    ("ogg", "libopus"),
    ("aac", "aac"),
    ("m4a", "aac"),
    ("wma", "wmav2"),
]
FORMATS = {"mkv": "matroska", "ts": "mpegts", "wmv": "asf", "wma": "asf", "aac": "adts", "m4a": "ipod", "mpg": "mpeg", "ogv": "ogg"}
PIXELS = {"mjpeg": "yuvj420p", "png": "rgb24", "prores": "yuv422p10le", "rawvideo": "bgr24", "huffyuv": "yuv422p"}


def remux(source: Path, target: Path, seconds: float, change: Callable[[int, av.Packet], bool] | None = None) -> Path:
    """Copies the best streams' packets up to so many seconds; `change` may alter a packet, given its number, and leaves it out by False."""
    form = FORMATS.get(target.suffix[1:], target.suffix[1:])
    with av.open(str(source)) as old, av.open(str(target), "w", format=form, options=EXACT) as new:
        streams = [stream for kind in ("video", "audio") if (stream := old.streams.best(kind)) is not None]
        streams = [stream for stream in streams if stream.codec_context is not None]
        copies = {stream.index: new.add_stream_from_template(stream) for stream in streams}
        for number, packet in enumerate(old.demux(streams)):
            late = packet.dts is None or float(packet.dts * packet.time_base) > seconds
            if late or packet.stream_index not in copies:  # a stream may turn up on the way
                continue
            packet.stream = copies[packet.stream_index]
            if change is None or change(number, packet):
                new.mux(packet)
    return target


def encode(target: Path, frames: np.ndarray | None, rate: float, sound: np.ndarray, vcodec: str | None, acodec: str, options: dict) -> Path:
    """Writes pictures (t, height, width, 3) uint8 and sound (samples,) at 16 kHz by these codecs."""
    form = FORMATS.get(target.suffix[1:], target.suffix[1:])
    hertz = {"libopus": 48_000, "vorbis": 44_100, "wmav2": 44_100, "mp2": 32_000, "ac3": 32_000}.get(acodec, SAMPLE_RATE)
    hertz = 44_100 if form == "flv" else hertz
    with av.open(str(target), "w", format=form, options=EXACT | options) as container:
        if vcodec:
            whole = 25 if vcodec in ("mpeg2video", "wmv2", "flv") else Fraction(rate).limit_denominator(1000)
            quick = {"libsvtav1": {"preset": "11"}, "libx265": {"x265-params": "log-level=none:pools=none:frame-threads=1"}}.get(vcodec, {})
            video = container.add_stream(vcodec, rate=whole, options=quick)
            video.height, video.width, video.pix_fmt = *frames.shape[1:3], PIXELS.get(vcodec, "yuv420p")
            video.thread_count = 1
        layout, more = ("stereo", {"options": {"strict": "-2"}}) if acodec == "vorbis" else ("mono", {})
        audio = container.add_stream(acodec, rate=hertz, layout=layout, **more)
        audio.bit_rate = 64_000
        packets = []
        if vcodec:
            for number in range(round(len(frames) * whole / rate)):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[int(number * rate / whole)]), format="rgb24")
                frame.pts, frame.time_base = number, 1 / Fraction(whole)
                packets += video.encode(frame)
            packets += video.encode(None)
        heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.reshape(1, -1)), format="flt", layout="mono")
        heard.sample_rate, heard.pts, heard.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        packets += audio.encode(heard)
        packets += audio.encode(None)
        for packet in sorted(packets, key=lambda p: float((p.dts or 0) * p.time_base)):
            container.mux(packet)
    return target


def real_clips() -> list[Path]:
    """The clips in $MAVIL_DATA, where there are some; those that nothing can be copied of left out."""
    folder = Path(os.environ.get("MAVIL_DATA", "")) / "clips"
    return [p for p in sorted(folder.glob("*")) if p.suffix != ".json" and p.stat().st_size] if os.environ.get("MAVIL_DATA") else []


def gather(place: Path) -> list[Path]:
    """The files to damage, written into `place`: first those made of data_samples, then those of $MAVIL_DATA."""
    samples = sorted((ROOT / "data_samples").glob("*.mp4"))
    found = samples[:3]
    for number, (suffix, vcodec, acodec, options) in enumerate(MADE):
        clip = read_whole(samples[3 + number % 12], 12.5, 2.0)
        target = place / f"{number:02d}_{vcodec}_{acodec}.{suffix}"
        found.append(encode(target, clip.frames.numpy(), 12.5, clip.waveform.numpy(), vcodec, acodec, options))
    sound = read_whole(samples[20], 12.5, 2.0).waveform.numpy()
    for suffix, acodec in SOUNDS:
        found.append(encode(place / f"sound_{acodec}.{suffix}", None, 0, sound, None, acodec, {}))
    for path in real_clips():
        large, suffix = any(word in path.stem for word in LARGE), path.suffix[1:]
        if path.stat().st_size < SMALL and not large:
            found.append(path)
            continue
        found.append(remux(path, place / f"cut_{path.stem}.{suffix}", 0.5 if large else SECONDS))
        if suffix == "mp4" and "TRUNCATED" not in path.stem:
            found.append(remux(path, place / f"again_{path.stem}.{'mkv' if 'h264' in path.stem else 'mov'}", 0.5 if large else 1.0))
    return found
