"""Media files: damaged in their containers, packets and timestamps, or made to harm; then inspected, read and trained on."""

import json
import math
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import av
import torch

from fuzzing.containers import damage_part, parts, seal_pages
from fuzzing.hostile import HOURS, SPECIALS, ten_hours
from fuzzing.mutations import ANYWHERE, splice
from fuzzing.pool import Outcome, step
from fuzzing.sources import gather, remux
from fuzzing.told import attempt
from mavil_edu import MAViL, tiny
from mavil_edu.config import TransformerConfig
from mavil_edu.data.batch import Sample, Skipped, collate, to_inputs
from mavil_edu.data.folder import FolderClips, TiledClips
from mavil_edu.inspection import Inspection, inspect_file
from mavil_edu.mavil import draw_masks, draw_second_masks, stage_one_losses
from mavil_edu.media import Clip, read_clip, read_whole

CONFIG = tiny()
MODEL = replace(CONFIG.model, encoder=TransformerConfig(24, 1, 2), decoder=TransformerConfig(16, 1, 2), fusion_depth=1, projection=24)
AUGMENT = replace(CONFIG.train.augment, roll=True, magnitude=True, crop=(0.6, 1.0))
STATUSES = {"unreadable", "partial", "no_audio", "no_video", "too_short", "silent", "ok"}
LOST = re.compile(r"error while decoding MB|Error at MB|conceal|CRC (error|mismatch)|damaged at|skipped MB", re.IGNORECASE)
MUTE = {"ffv1", "mjpeg"}  # decoders that conceal damage and leave no sign of it but words
CASES = 5400


@dataclass
class Context:
    """What all cases of the family share."""

    sources: list[Path]
    whole: dict[Path, tuple[float, ...]]  # of each source, seconds of sound and of pictures that decode, and those promised
    packets: dict[Path, list[tuple[int, int]]]  # where each packet's bytes lie, and how many they are
    place: Path
    net: MAViL
    good: Sample


def prepare(place: Path, hours: float = HOURS) -> Context:
    """Writes the sources and takes their measure. hours: of the file that is to be long."""
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    sources = gather(place)
    ten_hours(place / "ten_hours.mkv", hours)
    whole, packets = {}, {}
    for path in sources:
        verdict = inspect_file(path, MODEL)
        whole[path] = (verdict.audio_seconds, verdict.video_seconds, verdict.promised_seconds or 0.0)
        with av.open(str(path)) as container:
            packets[path] = [(p.pos, p.size) for p in container.demux() if p.pos is not None and p.pos >= 0 and p.size]
    torch.manual_seed(0)
    good = FolderClips([sources[0]], MODEL, AUGMENT).sample(0, None)
    return Context(sources, whole, packets, place, MAViL(MODEL).eval(), good)


def _damage_packet(rng: Random, raw: bytearray, packets: list[tuple[int, int]]) -> str:
    place, size = rng.choice(packets)
    size = min(size, 1 << 16, max(0, len(raw) - place))
    how = rng.choice(["zero", "ones", "noise", "flip", "remove", "twice", "swap"])
    if how == "remove":
        del raw[place : place + size]
    elif how == "twice":
        raw[place:place] = raw[place : place + size]
    elif how == "swap":
        other, length = rng.choice(packets)
        raw[place : place + size], raw[other : other + size] = raw[other : other + size], raw[place : place + size]
    elif how == "flip":
        for _ in range(rng.choice([1, 3, 10])):
            if size:
                raw[place + rng.randrange(size)] ^= 1 << rng.randrange(8)
    else:
        raw[place : place + size] = {"zero": b"\0" * size, "ones": b"\xff" * size}.get(how) or rng.randbytes(size)
    return f"packet at {place}: {how}"


def _lying_times(rng: Random, source: Path, target: Path) -> str:
    """Packets copied with other timestamps, or some left out; into a container that keeps what it is told."""
    how = rng.choice(["far", "back", "same", "negative", "missing", "huge", "gap"])
    which, amount = rng.randrange(40), rng.choice([1, 60, 3600, 36_000, 10**7])

    def change(number: int, packet: av.Packet) -> bool:
        unit = 1 / packet.time_base
        if how == "missing":
            return number % 40 != which
        if how == "gap":
            return not which < number < which + 20
        if (how in ("far", "huge") and number >= which) or (how in ("back", "same", "negative") and number == which):
            shift = {"far": amount, "huge": 10**9, "back": -1, "same": 0, "negative": -amount}[how] * unit
            packet.dts = max(int(packet.dts + shift), -(1 << 40))
            packet.pts = packet.dts if how == "same" or packet.pts is None else max(int(packet.pts + shift), -(1 << 40))
        return True

    try:
        remux(source, target, 10.0, change)
    except (av.FFmpegError, ValueError, OverflowError) as error:  # a container that cannot say so; what it holds by then will do
        how = f"{how} ({type(error).__name__})"
    return f"times {how} from packet {which} by {amount}"


def damaged(case: int, context: Context, target: Path) -> tuple[str, Path, str]:
    """Writes the file of a case; what was done, to which source, and whether to the `end` alone, to `packets` alone or `anywhere`."""
    rng = Random(f"media {case}")
    source = rng.choice(context.sources)
    if rng.random() < 0.08:
        copy = target.with_suffix(rng.choice([".mkv", ".mov", ".ts", ".avi"]))
        done = _lying_times(rng, source, copy)
        if copy.exists() and copy.stat().st_size:
            copy.rename(target)
            return f"{source.name}: {done}", source, "anywhere"
    raw = bytearray(source.read_bytes())
    ogg, told, only = raw[:4] == b"OggS", [], None
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        kind = rng.choice(["packet", "part", "part", "anywhere", "anywhere", "splice", "end"])
        if kind == "packet" and context.packets[source]:
            done = _damage_packet(rng, raw, context.packets[source])
        elif kind == "part":
            done = damage_part(rng, raw)
        elif kind == "splice":
            done = splice(rng, raw, rng.choice(context.sources).read_bytes())
        elif kind == "end":
            keep = rng.randrange(len(raw) + 1)
            done = f"cut after {keep} of {len(raw)} bytes"
            del raw[keep:]
        else:
            done = None
        if done is None:
            kind, done = "anywhere", rng.choice(ANYWHERE)(rng, raw)
        told.append(done)
        only = kind if only in (None, kind) else "anywhere"
    if ogg and rng.random() < 0.5 and parts(bytes(raw))[0] == "ogg":
        seal_pages(raw)
        told.append("pages sealed again")
    target.write_bytes(raw)
    return f"{source.name}: {'; '.join(told)}", source, only


# ----------------------------------------------------------------------------------------------------------------------- claims


def faults_of_clip(clip: Clip, samples: int, frames: int) -> list[str]:
    """What of a window cannot be: values beyond their range, content where there is said to be none."""
    w, f, (start, stop) = clip.waveform, clip.frames, clip.heard
    checks = {
        "the waveform's shape": w.shape == (samples,) and w.dtype == torch.float32,
        "the waveform's values": bool(w.isfinite().all()) and bool((w.abs() <= 1).all()),
        "heard": 0 <= start <= stop <= samples,
        "sound outside heard": not bool(w[:start].any()) and not bool(w[stop:].any()),
        "the frames' shape": f.ndim == 4 and len(f) == len(clip.seen) == frames and f.shape[3] == 3 and f.dtype == torch.uint8,
        "a picture that is not seen": not bool(f[~clip.seen].any()),
        "times": all(math.isfinite(x) for x in (clip.seconds, clip.audio_start, clip.video_start)) and clip.seconds >= 0,
    }
    return [f"garbage: {what}" for what, right in checks.items() if not right]


def faults_of_verdict(verdict: Inspection, source: tuple[float, ...] | None = None, cut: bool = False) -> list[str]:
    """What of a verdict cannot be. source: seconds of the whole file's sound and pictures, and promised ones; cut: its end was cut off."""
    v, faults = verdict, []
    try:
        json.dumps(asdict(v) | {"path": ""}, allow_nan=False)
    except ValueError:
        faults.append("garbage: the verdict has numbers that are none")
    if v.status not in STATUSES or "\n" in v.message or len(v.message) > 1500 or not v.message:
        faults.append(f"garbage: the verdict is {v.status!r}, {v.message[:100]!r}")
    if v.audio_seconds < 0 or v.video_seconds < 0 or v.audio_tokens > MODEL.audio.tokens or v.video_tokens > MODEL.video.tokens:
        faults.append("garbage: the verdict's numbers")
    if v.status == "ok":
        decoded, promised = max(v.audio_seconds, v.video_seconds), v.promised_seconds or 0.0
        if v.corrupt_packets or decoded < 0.85 * promised:
            faults.append(f"silent: ok with {v.corrupt_packets} corrupt packets and {decoded:.1f} of {promised:.1f} s")
        if cut and source is not None and abs(promised - source[2]) < 0.01 < promised:
            if decoded < 0.85 * max(source[:2]):
                faults.append(f"silent: ok with {decoded:.2f} of {max(source[:2]):.2f} s, its end cut off")
    return faults


def faults_of_sample(sample: Sample, context: Context) -> list[str]:
    """Whether a sample may reach a loss: finite, not silent, of the model's shape; and whether the loss is a number."""
    heard = sample.waveform[int(sample.heard[0]) : int(sample.heard[1])]
    faults = []
    if not len(heard) or not bool(heard.abs().max() >= 2.0**-16):
        faults.append("silence: a silent sample is handed to training")
    size = (MODEL.video.frames, MODEL.video.height, MODEL.video.width, 3)
    if tuple(sample.frames.shape) != size or not bool(sample.waveform.isfinite().all()):
        return [*faults, "nan: a sample's waveform or frames"]
    inputs = to_inputs(collate([sample, context.good]), MODEL)
    generator = torch.Generator().manual_seed(0)
    masks, second = (draw(2, MODEL, CONFIG.objective, generator) for draw in (draw_masks, draw_second_masks))
    with torch.no_grad():
        output = context.net(inputs.audio, inputs.video, masks, second)
        scored = masks.audio & inputs.audio_content, masks.video & inputs.video_content
        losses = stage_one_losses(output, inputs.audio, inputs.video, *scored, MODEL, CONFIG.objective)
    wrong = [name for name, value in losses._asdict().items() if value is not None and not bool(value.isfinite())]
    return faults + [f"nan: the {name} loss is not finite" for name in wrong]


def check(path: Path, context: Context, source: tuple[float, ...] | None = None, cut: bool = False) -> tuple[str, list[str]]:
    """All that the package does with a media file; in a word what became of it, and the claims it refutes."""
    step("inspect_file")
    with av.logging.Capture() as logs:
        verdict = inspect_file(path, MODEL)
    faults = faults_of_verdict(verdict, source, cut)
    if verdict.status == "ok":
        said = {(name, text.strip()) for _, name, text in logs if name in (verdict.audio_codec, verdict.video_codec)}
        told = {f"{name}: {text}" for name, text in said if name not in MUTE and LOST.search(text)}
        faults += [f"silent: ok, but the decoder said {line[:120]!r}" for line in sorted(told)[:3]]
    status = verdict.status + " though a decoder complained" * (verdict.status == "ok" and bool(said))

    def window() -> Clip:
        return read_clip(path, MODEL.audio.seconds, MODEL.video.seconds, MODEL.video.frames, 0.5, 64)

    for work, samples in ((window, MODEL.audio.samples), (lambda: read_whole(path, 12.5, 4.0, 32), None)):
        step("read_whole" if samples is None else "read_clip")
        clip, error, wrong = attempt(work)
        faults += wrong
        if clip is not None:
            faults += faults_of_clip(clip, len(clip.waveform) if samples is None else samples, len(clip.seen))
        elif verdict.status == "ok":
            faults.append(f"silent: ok, but it cannot be read: {error}")
    clips = FolderClips([path], MODEL, AUGMENT)
    step("TiledClips")
    tiles, _, wrong = attempt(lambda: TiledClips(clips))
    faults += wrong
    draws = [lambda: clips.sample(0, None), lambda: clips.sample(0, torch.Generator().manual_seed(1))]
    draws += [lambda: tiles.sample(len(tiles) - 1, None)] if tiles is not None and len(tiles) > 1 else []
    for draw in draws:
        step("sample")
        sample, _, wrong = attempt(draw)
        faults += wrong
        if isinstance(sample, Sample):
            faults += faults_of_sample(sample, context)
        elif isinstance(sample, Skipped) and ("\n" in sample.reason or not sample.reason):
            faults.append(f"untold: {sample.reason!r}")
    return status, faults


def run(case: int, context: Context, keep: bool = False) -> Outcome:
    """One case: made, checked, removed unless it is to be kept."""
    target = context.place / "case"
    try:
        if case < len(SPECIALS):
            done, source, kind = SPECIALS[case](target, [*context.sources, context.place / "ten_hours.mkv"]), None, None
        else:
            done, source, kind = damaged(case, context, target)
        step(done)
        status, faults = check(target, context, source and context.whole[source], kind == "end")
    finally:
        for left in context.place.glob("case*"):
            if not keep:
                left.unlink()
    return Outcome(status, done, faults)
