"""The command that stores clips for training at scale: shards."""

import json as json_module
from pathlib import Path

import tyro

from mavil_edu.commands.common import Preset, say
from mavil_edu.config import PRESETS


def shards(
    out: Path,
    data: Path | None = None,
    preset: Preset = "tiny",
    size: int | None = None,
    frame_rate: float | None = None,
    max_seconds: float = 60.0,
    min_seconds: float = 1.0,
    quality: int = 90,
    clips_per_shard: int = 64,
    workers: int | None = None,
    verify: tyro.conf.FlagCreatePairsOff[bool] = False,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Decodes clips once, into archives that training reads quickly; given again after a stop, it goes on. Or verifies such archives.

    Example: mavil-edu shards --data my_clips --out my_shards --workers 2

    Args:
        out: the folder of shards, new or begun by the same command.
        data: a folder of clips; files that cannot be trained on are left out and listed in the index.
        preset: whose windows decide what can be trained on, and the defaults of size and frame rate.
        size: pixels of the shorter side; by default what the preset's smallest random crop needs. Never enlarged.
        frame_rate: pictures a second; by default four times the preset's.
        max_seconds: of a longer clip the middle is kept.
        min_seconds: least length of a clip's sound and picture together.
        quality: of the JPEG pictures, 1 to 100.
        clips_per_shard: clips in one archive.
        workers: processes that decode; by default one a processor, at most 8. Their number changes no byte.
        verify: write nothing; check every archive in OUT against its checksum and its index.
        json: print what was written or verified as JSON.
    """
    import os

    from mavil_edu import media
    from mavil_edu.data.labels import folder_labels
    from mavil_edu.data.shard_files import Settings, ShardError, read_index, verify_shard
    from mavil_edu.data.shard_writer import write_shards
    from mavil_edu.data.source import usable_files
    from mavil_edu.data.windows import short_side
    from mavil_edu.progress import tracked

    if verify == (data is not None):
        raise ShardError(f"Give --data to write shards, or --verify to check those in {out}; one of them.")
    if verify:
        index = read_index(out)
        for shard in tracked(index.shards, "verifying", len(index.shards)):
            verify_shard(out, shard)
    else:
        config = PRESETS[preset]()
        settings = Settings(
            size=size or short_side(config.model, config.train.augment),
            frame_rate=frame_rate or 4 * config.model.video.frame_rate,
            max_seconds=max_seconds,
            min_seconds=min_seconds,
            quality=quality,
            clips_per_shard=clips_per_shard,
        )
        several = workers or min(8, os.cpu_count() or 1)
        files = media.find_media([data])
        columns, note = folder_labels(data, files) if data.is_dir() else ({}, None)
        if note:
            say(note)
        known = {path.relative_to(data).as_posix(): {name: values[i] for name, values in columns.items()} for i, path in enumerate(files)}
        index = write_shards(data, out, settings, lambda: usable_files(data, config.model, min_seconds), several, known)
    clips, size_bytes = sum(shard.clips for shard in index.shards), sum(shard.bytes for shard in index.shards)
    if json:
        answer = {"clips": clips, "shards": len(index.shards), "bytes": size_bytes, "cut": index.cut, "skipped": index.skipped}
        print(json_module.dumps(answer, indent=1))
    done = "are whole and as the index says" if verify else f"are in {out}"
    say(f"{clips} clips in {len(index.shards)} shard{'s' * (len(index.shards) != 1)}, {size_bytes / 1e6:.1f} MB, {done}.")
    if index.cut:
        say(f"{index.cut} of them were longer than {index.settings.max_seconds:g} s: their middle is kept.")
    if index.skipped:
        say(f"{len(index.skipped)} files were left out; the first, {index.skipped[0]['path']}: {index.skipped[0]['reason']}")
    return 0
