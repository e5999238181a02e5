"""Clips as rows of a table: each window's place and what a model makes of it, written as Parquet or NumPy."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mavil_edu import media, video
from mavil_edu.config import AugmentConfig, ModelConfig
from mavil_edu.data.batch import Sample, Skipped, collate, to_inputs
from mavil_edu.data.folder import tiles_of
from mavil_edu.data.windows import short_side
from mavil_edu.files import as_text, replacing
from mavil_edu.mavil import MAViL

AT_ONCE = 16  # windows that are encoded together
GROUP = 1024  # rows that are written together
EMBEDDINGS = ("audio", "video", "fused")
TIMES = ("audio_start", "audio_stop", "video_start", "video_stop")


class Window(NamedTuple):
    """One window of a clip, before the model."""

    clip: str  # its path
    start: tuple[float, float]  # seconds in the clip where the windows of sound and of picture begin
    sample: Sample
    heard: bool  # there is sound, and it is not silent
    seen: bool  # there is a picture


class Row(NamedTuple):
    """One window of a clip and its embeddings; what belongs to a modality that it has not is None."""

    clip: str
    audio_start: float | None  # seconds in the clip
    audio_stop: float | None
    video_start: float | None
    video_stop: float | None
    audio: Tensor | None  # (d,) mean of the unimodal patch tokens
    video: Tensor | None
    fused: Tensor | None  # (2 d,) the mean fused audio token, then the mean fused video token; None unless there are both


def windows(paths: Iterable[Path], config: ModelConfig) -> Iterator[Window | Skipped]:
    """The windows that cover media files, one after another as in evaluation; what cannot be used, with the reason.

    The longer of the model's two windows is laid out end to end, the last one ends with the clip; the shorter stands in its middle.
    """
    side = short_side(config, AugmentConfig())  # as everywhere where clips are evaluated, so that numbers are the same
    for path in paths:
        try:
            tiles = tiles_of(0, media.clip_seconds(path), max(config.audio.seconds, config.video.seconds))
        except (media.MediaError, OSError) as error:
            yield Skipped(str(path), str(error))
            continue
        for tile in tiles:
            place = str(path) if len(tiles) == 1 else f"{path} at {tile.start:.2f} s"
            try:
                clip = media.read_clip(path, config.audio.seconds, config.video.seconds, config.video.frames, tile.position, side)
            except (media.MediaError, OSError) as error:
                yield Skipped(place, str(error))
                continue
            heard, seen = not media.is_silent(clip.waveform[slice(*clip.heard)]), bool(clip.seen.any())
            if not heard and not seen:
                yield Skipped(place, "silent, and without picture")
                continue
            sample = Sample(clip.waveform, torch.tensor(clip.heard), video.fit(clip.frames, config.video), clip.seen)
            yield Window(str(path), (clip.audio_start, clip.video_start), sample, heard, seen)


@torch.no_grad()
def _encode(model: MAViL, found: list[Window]) -> list[Row]:
    """Rows of windows that all have the same modalities."""
    heard, seen, config = found[0].heard, found[0].seen, model.config
    device = next(model.parameters()).device
    inputs = to_inputs(collate([window.sample for window in found]).to(device), config)
    encoded = model.encode(inputs.audio if heard else None, inputs.video if seen else None)
    both = (encoded.fused_audio_tokens, encoded.fused_video_tokens) if heard and seen else ()
    fused = torch.cat([tokens.mean(dim=1) for tokens in both], dim=1).cpu() if both else [None] * len(found)
    audio = encoded.audio_embedding.cpu() if heard else [None] * len(found)
    pictures = encoded.video_embedding.cpu() if seen else [None] * len(found)
    rows = []
    for i, window in enumerate(found):
        first, second = window.start
        times = (first, first + config.audio.seconds) if heard else (None, None)
        times += (second, second + config.video.seconds) if seen else (None, None)
        rows.append(Row(window.clip, *times, audio[i], pictures[i], fused[i]))
    return rows


def embed_windows(model: MAViL, found: Iterable[Window]) -> Iterator[Row]:
    """The rows of windows, in their order; a window with sound alone, or picture alone, is encoded by that."""
    found = iter(found)
    while part := list(islice(found, AT_ONCE)):
        rows: dict[int, Row] = {}
        for kind in {(window.heard, window.seen) for window in part}:
            numbers = [i for i, window in enumerate(part) if (window.heard, window.seen) == kind]
            rows |= zip(numbers, _encode(model, [part[i] for i in numbers]), strict=True)
        yield from (rows[i] for i in range(len(part)))


def check_suffix(path: Path) -> None:
    """Raises ValueError unless a table can be written under this name."""
    if path.suffix not in (".parquet", ".npz"):
        raise ValueError(f"{path} should end in .parquet or .npz: a table of embeddings is written as Parquet or NumPy.")


def _write_parquet(path: Path, rows: Iterator[Row], width: int) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = [(name, pa.list_(pa.float32(), 2 * width if name == "fused" else width)) for name in EMBEDDINGS]
    schema = pa.schema([("clip", pa.string()), *((name, pa.float64()) for name in TIMES), *vectors])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, GROUP)):
            columns = {name: [getattr(row, name) for row in group] for name in schema.names}
            columns["clip"] = [as_text(name) for name in columns["clip"]]
            columns |= {name: [None if value is None else value.numpy() for value in columns[name]] for name in EMBEDDINGS}
            writer.write_table(pa.table(columns, schema=schema))
            count += len(group)
    return count


def _write_npz(path: Path, rows: Iterator[Row], width: int) -> int:
    all_rows = list(rows)
    columns = {"clip": np.array([row.clip for row in all_rows], dtype=np.str_)}
    columns |= {name: np.array([getattr(row, name) for row in all_rows], dtype=np.float64) for name in TIMES}  # None becomes NaN
    for name in EMBEDDINGS:
        columns[name] = np.full((len(all_rows), 2 * width if name == "fused" else width), np.nan, np.float32)
        for i, row in enumerate(all_rows):
            if (value := getattr(row, name)) is not None:
                columns[name][i] = value.numpy()
    with path.open("wb") as file:
        np.savez(file, **columns)
    return len(all_rows)


def write_table(path: Path, rows: Iterable[Row], width: int) -> int:
    """Writes rows as `.parquet` (what is missing is null) or `.npz` (NaN), whole or not at all; returns how many.

    Columns: clip; audio_start, audio_stop, video_start, video_stop, seconds in the clip; audio, video (width numbers), fused (2 · width).
    width: of the model's encoder. Raises ValueError for another suffix, or where there is no row.
    """
    check_suffix(path)
    with replacing(path) as temporary:
        count = (_write_parquet if path.suffix == ".parquet" else _write_npz)(temporary, iter(rows), width)
        if not count:
            raise ValueError("None of the clips can be used, so no table is written. See mavil-edu inspect.")
    return count
