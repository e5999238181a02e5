"""A folder of anyone's clips: silence never reaches a loss, padding is never scored, and a broken file costs itself only."""

from dataclasses import replace

import pytest
import torch

from mavil_edu import MAViL, draw_masks, media, paper, tiny
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import Sample, Skipped, collate, evaluation_batch, to_inputs
from mavil_edu.data.folder import FolderClips
from mavil_edu.evaluate import HeldOut, position_means, scored_patches
from mavil_edu.mavil import stage_one_losses

CONFIG = tiny()
PLAIN = AugmentConfig(roll=False, magnitude=False, crop=(1.0, 1.0), flip=False)


def write(path, seconds: float, silent_from: float = 1e9, silent_until: float = 0.0, size: int = 48):
    time = torch.arange(round(16_000 * seconds)) / 16_000
    sound = 0.3 * torch.sin(2 * torch.pi * 440 * time)
    sound[(time >= silent_from) | (time < silent_until)] = 0
    frames = torch.arange(round(25 * seconds))[:, None, None, None].expand(-1, size, size + 16, 3) % 200
    media.write_mp4(path, frames.to(torch.uint8), 25, sound)
    return path


def generators(count: int):
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def test_training_windows_differ_and_evaluation_windows_do_not(tmp_path):
    clips = FolderClips([write(tmp_path / "long.mp4", 8.0)], CONFIG.model, PLAIN)
    starts = {int(clips.sample(0, g).frames[0].float().mean()) for g in generators(12)}
    assert len(starts) > 5
    assert torch.equal(clips.sample(0, None).frames, clips.sample(0, None).frames)
    middle = clips.sample(0, None).frames.float().mean(dim=(1, 2, 3))
    expected = torch.tensor([float(int((2.72 + (i + 0.5) * 0.32) * 25 + 1e-6)) for i in range(8)])  # 8 s: the window is 2.72 to 5.28
    assert (middle - expected).abs().max() < 3


def test_the_same_draw_gives_the_same_window(tmp_path):
    clips = FolderClips([write(tmp_path / "long.mp4", 6.0)], CONFIG.model, CONFIG.train.augment)
    one, two = (clips.sample(0, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_silent_window_is_drawn_again(tmp_path):
    clips = FolderClips([write(tmp_path / "half.mp4", 20.0, silent_from=9.0)], CONFIG.model, PLAIN)
    drawn = [clips.sample(0, g) for g in generators(20)]
    assert sum(isinstance(sample, Sample) for sample in drawn) >= 18
    assert all(sample.waveform.abs().max() > 0.01 for sample in drawn if isinstance(sample, Sample))
    late = FolderClips([write(tmp_path / "late.mp4", 20.0, silent_until=14.0)], CONFIG.model, PLAIN)
    assert isinstance(late.sample(0, None), Sample)  # the middle is silent: evaluation looks elsewhere


def test_a_clip_that_is_silent_everywhere_or_gone_is_skipped_with_its_reason(tmp_path):
    gone = write(tmp_path / "gone.mp4", 3.0)
    clips = FolderClips([write(tmp_path / "silent.mp4", 3.0, silent_from=0), gone], CONFIG.model, PLAIN)
    gone.unlink()
    for index, words in ((0, "silent"), (1, "gone.mp4")):
        skipped = clips.sample(index, torch.Generator().manual_seed(0))
        assert isinstance(skipped, Skipped) and words in skipped.path + skipped.reason
    with pytest.raises(ValueError, match="None of 2 clips"):
        evaluation_batch(clips)


def test_a_short_clip_is_padded_and_its_padding_is_not_scored_except_at_the_papers_wish(tmp_path):
    clips = FolderClips([write(tmp_path / "short.mp4", 1.2)], CONFIG.model, PLAIN)
    sample = clips.sample(0, None)
    assert sample.seen.tolist() == [True] * 4 + [False] * 4
    assert int(sample.heard[0]) == 0 and abs(int(sample.heard[1]) - 19_200) < 1600
    inputs = to_inputs(collate([sample]), CONFIG.model)
    assert inputs.video_content.view(4, 16).all(1).tolist() == [True, True, False, False]
    assert inputs.audio_content.view(32, 2).all(1).tolist() == [True] * 16 + [False] * 16
    masks = draw_masks(1, CONFIG.model, replace(CONFIG.objective, audio_ratio=1.0, video_ratio=1.0))
    audio, video = scored_patches(masks, inputs, CONFIG.objective)
    assert (int(audio.sum()), int(video.sum())) == (32, 32)
    audio, video = scored_patches(masks, inputs, paper().objective)
    assert audio.all() and video.all()


def test_what_stands_in_the_padding_changes_no_loss(tmp_path):
    clips = FolderClips([write(tmp_path / f"{i}.mp4", 1.2) for i in range(2)], CONFIG.model, PLAIN)
    inputs = to_inputs(collate([clips.sample(i, None) for i in range(2)]), CONFIG.model)
    masks = draw_masks(2, CONFIG.model, replace(CONFIG.objective, audio_ratio=1.0, video_ratio=1.0))
    model = MAViL(CONFIG).eval()
    other = inputs.audio.clone()
    other[:, :, 128:] = 5.0
    terms = []
    for audio in (inputs.audio, other):
        output = model(audio, inputs.video, masks)
        scored = scored_patches(masks, inputs, CONFIG.objective)
        terms.append(stage_one_losses(output, audio, inputs.video, *scored, CONFIG.model, CONFIG.objective).audio)
    assert torch.equal(*terms)


def test_the_position_mean_leaves_padding_out(tmp_path):
    clips = FolderClips([write(tmp_path / "short.mp4", 1.2), write(tmp_path / "whole.mp4", 2.56)], CONFIG.model, PLAIN)
    both, _, _ = evaluation_batch(clips)
    whole = type(both)(*(field[1:] for field in both))
    means = [position_means(batch, CONFIG.model, torch.device("cpu")).video.view(4, 16, -1)[3] for batch in (both, whole)]
    assert torch.allclose(*means)
    held_out = HeldOut(both, position_means(both, CONFIG.model, torch.device("cpu")), CONFIG.model, CONFIG.objective)
    assert all(value >= 0 for value in (*held_out.audio_trivial.values(), *held_out.video_trivial.values()))


def test_a_clip_no_longer_than_its_window_is_decoded_once(tmp_path, monkeypatch):
    clips = FolderClips([write(tmp_path / "short.mp4", 2.0), write(tmp_path / "long.mp4", 4.0)], CONFIG.model, PLAIN)
    reads = []
    original = media.read_clip
    monkeypatch.setattr(media, "read_clip", lambda path, *rest: reads.append(path.stem) or original(path, *rest))
    for index in (0, 1, 0, 1):
        clips.sample(index, torch.Generator().manual_seed(index))
    assert reads == ["short", "long", "long"]


def test_real_files_of_many_kinds_become_one_batch(shared_data):
    names = ("01_rabbit", "02_rabbit", "09_movie", "12_bbb", "13_nasa", "14_fire", "16_water")
    paths = [path for path in media.find_media([shared_data / "clips"]) if path.name.startswith(names)]
    batch, kept, skipped = evaluation_batch(FolderClips(paths, CONFIG.model, CONFIG.train.augment))
    assert len(kept) == len(names) and not skipped
    inputs = to_inputs(batch, CONFIG.model)
    assert torch.isfinite(inputs.audio).all() and torch.isfinite(inputs.video).all()
    sound = dict(zip((path.name[:2] for path in paths), inputs.audio, strict=True))
    apart = {other: float((sound["01"] - sound[other]).abs().mean()) for other in sound if other != "01"}
    assert apart.pop("02") < 0.5 * min(apart.values())  # one film in two codecs is nearer to itself than to any other film
