"""Claims about the way from a waveform to the normalised log-mel spectrogram, and back to sound."""

import json
import math
import os
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.compliance import kaldi

from mavil_edu import audio
from mavil_edu.config import AudioConfig, AugmentConfig, paper, tiny
from mavil_edu.patches import patchify

TINY, PAPER = tiny().model.audio, paper().model.audio
SMALL = AudioConfig(seconds=0.4, frames=48, patch_frames=8, patch_bins=32)
PADDING = 4.2677393 / (2 * 4.5689974)  # 0.467: a log-mel of 0, normalised


def reference(waveform):
    """The paper's call: one clip (samples,) -> (frames, 128)."""
    return kaldi.fbank(
        (waveform - waveform.mean())[None],
        htk_compat=True,
        use_energy=False,
        window_type="hanning",
        num_mel_bins=128,
        dither=0.0,
        frame_shift=10,
        sample_frequency=16000,
    )


def noise(*shape, seed=0, level=0.1):
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(hertz, samples=16000, level=0.5):
    return level * torch.sin(2 * math.pi * hertz / 16000 * torch.arange(samples, dtype=torch.float64)).float()


def click(samples=16000):
    return torch.nn.functional.one_hot(torch.tensor(samples // 2), samples).float()


SYNTHETIC = {
    "noise": noise(16000),
    "loud noise": noise(16000, level=1.0),
    "quiet noise": noise(16000, level=1e-5),
    "tone": tone(440),
    "offset": 0.1 * tone(1000) + 0.3,
    "click": click(),
    "half silent": torch.cat([noise(8000), torch.zeros(8000)]),
    "silence": torch.zeros(16000),
    "one frame": noise(400),
    "just short of two frames": noise(559),
}


def _decode(path):
    import av

    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=16000)
        parts = [part for frame in container.decode(container.streams.best("audio")) for part in resampler.resample(frame)]
        parts += resampler.resample(None)
    return torch.cat([torch.from_numpy(part.to_ndarray()[0].copy()) for part in parts])


@pytest.fixture(scope="module")
def real_sounds():
    """Name -> (samples,), at most 10 s: the sound of every good clip, and ten recordings of spoken digits at 8 kHz."""
    folder = os.environ.get("MAVIL_DATA")
    if not folder:
        pytest.skip("needs real sound: set MAVIL_DATA to the folder that holds clips/ and av_mnist/")
    clips = Path(folder) / "clips"
    expected = json.loads((clips / "expected.json").read_text())
    paths = [clips / name for name, facts in expected.items() if facts.get("expect") == "ok"]
    paths += sorted((Path(folder) / "av_mnist" / "samples").glob("*.wav"))
    assert len(paths) > 10
    return {path.name: _decode(path)[:160_000] for path in paths}


# From sound to spectrogram


@pytest.mark.parametrize("name", SYNTHETIC)
def test_log_mel_equals_kaldis_on_synthetic_sound(name):
    assert (audio.log_mel(SYNTHETIC[name][None])[0] - reference(SYNTHETIC[name])).abs().max() <= 1e-3


def test_log_mel_equals_kaldis_on_real_sound(real_sounds):
    for name, waveform in real_sounds.items():
        assert (audio.log_mel(waveform[None])[0] - reference(waveform)).abs().max() <= 1e-3, name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_log_mel_on_a_gpu_equals_kaldis_on_real_sound(real_sounds):
    # All sounds together: on a loud pure tone, Kaldi's own rounding error exceeds 1e-3 in some 3 % of the values.
    apart = torch.cat([(audio.log_mel(x[None].cuda())[0].cpu() - reference(x)).abs().flatten() for x in real_sounds.values()])
    assert (apart <= 1e-3).float().mean() >= 0.999
    assert apart.max() <= 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_sound_made_on_a_gpu_is_as_good():
    values = audio.log_mel(noise(2, 16000).cuda())
    waveform = audio.to_waveform(values)
    assert waveform.device == values.device
    assert (audio.log_mel(waveform) - values).abs().mean() <= 0.2


@settings(deadline=None, max_examples=30)
@given(st.integers(400, 5000))
def test_frames_are_counted_as_kaldi_counts(samples):
    waveform = noise(samples)
    assert len(reference(waveform)) == audio.frame_count(samples) == audio.log_mel(waveform[None]).shape[1]


def test_ten_seconds_give_998_frames_and_less_than_a_frame_gives_none():
    assert audio.frame_count(160_000) == 998
    assert audio.log_mel(torch.zeros(2, 399)).shape == (2, 0, 128)
    assert audio.log_mel(torch.zeros(0, 16000)).shape == (0, 98, 128)


def test_with_everything_heard_the_spectrogram_equals_the_papers_call():
    waveform = noise(160_000) + 0.2
    wanted = torch.nn.functional.pad(reference(waveform), (0, 0, 0, 1024 - 998))
    wanted = (wanted + 4.2677393) / (2 * 4.5689974)
    for heard in (None, torch.tensor([[0, 160_000]])):
        found = audio.spectrogram(waveform[None], PAPER, heard)
        assert found.shape == (1, 1, 1024, 128)
        assert (found[0, 0] - wanted).abs().max() <= 1e-4


@pytest.mark.parametrize("front", [audio.log_mel, lambda waveform: audio.spectrogram(waveform, AudioConfig())])
def test_whole_numbers_are_no_waveform(front):
    samples = (0.1 * 32768 * torch.randn(1, 16_000)).to(torch.int16)
    with pytest.raises(ValueError, match=r"The waveform is torch.int16; give numbers in \[-1, 1\]: .* waveform / 32768"):
        front(samples)
    front(samples / 32768)


def test_padding_is_0_before_normalisation_and_0_467_after():
    assert round(PADDING, 3) == 0.467
    found = audio.spectrogram(noise(1, 160_000), PAPER)[0, 0]
    torch.testing.assert_close(found[998:], torch.full((26, 128), PADDING))
    assert not (found[:998] == found[998, 0]).all(1).any()


def test_a_longer_waveform_is_cut_and_a_shorter_one_is_padded():
    long = noise(1, 2 * SMALL.samples) - noise(1, 2 * SMALL.samples).mean()
    found = audio.spectrogram(long, SMALL)
    assert found.shape == (1, 1, SMALL.frames, 128)
    torch.testing.assert_close(audio.to_log_mel(found, SMALL), audio.log_mel(long)[:, : SMALL.frames])
    assert (audio.spectrogram(long[:, :300], SMALL) - PADDING).abs().max() < 1e-5


def test_filter_3_of_128_is_empty_and_stays_at_the_floor():
    bank = audio.mel_bank(128)
    assert (bank.sum(0) == 0).nonzero().flatten().tolist() == [3]
    values = audio.log_mel(noise(1, 16000, level=0.5))[0]
    assert values.min(0).values.argsort()[0] == 3
    torch.testing.assert_close(values[:, 3], torch.full((98,), -15.9424))
    assert values[:, torch.arange(128) != 3].min() > -15.94


def test_a_batch_equals_its_clips_one_by_one():
    waveform = noise(2 * audio.CLIPS_AT_ONCE + 1, 8000)
    alone = torch.cat([audio.log_mel(clip[None]) for clip in waveform])
    torch.testing.assert_close(audio.log_mel(waveform), alone, atol=1e-3, rtol=0)


@settings(deadline=None, max_examples=20)
@given(st.floats(0.01, 10))
def test_a_gain_adds_twice_its_logarithm_down_to_the_floor(gain):
    before, after = audio.log_mel(noise(1, 4000)), audio.log_mel(gain * noise(1, 4000))
    wanted = (before + 2 * math.log(gain)).clamp_min(audio.FLOOR)
    above = before > audio.FLOOR
    assert (after - wanted)[above].abs().max() < 0.01 and above.float().mean() > 0.9


@pytest.mark.parametrize("hertz", [440, 1000, 3000, 7000])
def test_a_tone_is_loudest_in_the_band_around_its_frequency(hertz):
    def mel(f):
        return 1127 * math.log(1 + f / 700)

    step = (mel(8000) - mel(20)) / 129
    band = audio.log_mel(tone(hertz)[None])[0].mean(0).argmax().item()
    assert abs((mel(hertz) - mel(20)) / step - 1 - band) <= 1  # within a band: each filter reaches to its neighbours' centres
    assert band == reference(tone(hertz)).mean(0).argmax()


def test_autocast_does_not_blur_the_spectrogram():
    waveform = noise(1, 4000)
    with torch.autocast("cpu", torch.bfloat16):
        found = audio.log_mel(waveform)
    assert torch.equal(found, audio.log_mel(waveform))


def test_the_filter_bank_made_in_inference_mode_serves_gradients_too():
    audio.mel_bank.cache_clear()
    with torch.inference_mode():
        audio.log_mel(noise(1, 800))
    waveform = noise(1, 800).requires_grad_()
    audio.log_mel(waveform).sum().backward()
    assert waveform.grad.abs().sum() > 0


def test_64_clips_together_take_less_cpu_time_than_kaldis_function_64_times():
    waveform, threads = noise(64, TINY.samples), torch.get_num_threads()

    def seconds(action):
        times = []
        for _ in range(5):
            start = time.process_time()
            action()
            times.append(time.process_time() - start)
        return min(times)

    torch.set_num_threads(1)  # threads that wait for each other count as work, and on a busy machine they wait long
    try:
        ours, kaldis = seconds(lambda: audio.log_mel(waveform)), seconds(lambda: [reference(clip) for clip in waveform])
    finally:
        torch.set_num_threads(threads)
    assert ours < kaldis


# What was heard

RANGES = st.tuples(st.integers(0, SMALL.samples), st.integers(0, SMALL.samples)).map(sorted)


@settings(deadline=None, max_examples=50)
@given(RANGES)
def test_what_lies_outside_the_heard_range_changes_nothing(heard):
    start, stop = heard
    waveform, other = noise(1, SMALL.samples) + 0.2, noise(1, SMALL.samples, seed=1, level=1.0) - 0.5
    other[:, start:stop] = waveform[:, start:stop]
    heard = torch.tensor([heard])
    assert torch.equal(audio.spectrogram(waveform, SMALL, heard), audio.spectrogram(other, SMALL, heard))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 39), st.integers(0, SMALL.samples))
def test_the_heard_part_looks_as_it_would_alone(first, samples):
    start = first * audio.HOP
    stop = min(start + samples, SMALL.samples)
    waveform = noise(1, SMALL.samples) + 0.2
    found = audio.spectrogram(waveform, SMALL, torch.tensor([[start, stop]]))[0, 0]
    frames = audio.frame_count(stop - start)
    alone = audio.spectrogram(waveform[:, start:stop], SMALL)[0, 0, :frames]
    torch.testing.assert_close(found[first : first + frames], alone, atol=1e-4, rtol=0)
    outside = torch.cat([found[:first], found[first + frames :]])
    assert (outside - PADDING).abs().max() < 1e-5


def test_the_mean_that_is_subtracted_is_that_of_the_heard_part(monkeypatch):
    # Each frame loses its own mean as well, so that the spectrogram cannot tell: look at the waveform that is analysed.
    seen = []
    monkeypatch.setattr(audio, "_log_mel_in_parts", lambda waveform, mel_bins: seen.append(waveform) or torch.zeros(1, 38, mel_bins))
    waveform = torch.cat([noise(1, 3200) + 0.3, torch.zeros(1, 3200)], 1)
    audio.spectrogram(waveform, SMALL, torch.tensor([[0, 3200]]))
    torch.testing.assert_close(seen[0][:, :3200], waveform[:, :3200] - waveform[:, :3200].mean())


def test_nothing_heard_is_all_padding_and_no_content():
    heard = torch.tensor([[0, 0], [100, 499], [6400, 6400], [5000, 300]])
    found = audio.spectrogram(noise(4, SMALL.samples), SMALL, heard)
    assert (found - PADDING).abs().max() < 1e-5
    assert not audio.audio_content(heard, SMALL).any()


@settings(deadline=None, max_examples=50)
@given(RANGES)
def test_a_token_has_content_exactly_if_its_patch_is_not_all_padding(heard):
    heard = torch.tensor([heard])
    patches = patchify(audio.spectrogram(noise(1, SMALL.samples), SMALL, heard), SMALL)
    assert torch.equal(audio.audio_content(heard, SMALL), ((patches - PADDING).abs() > 1e-5).any(-1))


def test_content_is_counted_in_time_major_order_for_each_clip():
    content = audio.audio_content(torch.tensor([[0, 80_000], [80_000, 160_000], [0, 160_000]]), PAPER)
    assert content.shape == (3, 512)
    assert content.sum(1).tolist() == [32 * 8, 32 * 8, 63 * 8]  # 498 frames; frames 500 to 997; 998 frames
    assert content[0, : 32 * 8].all() and content[1, 31 * 8 : 63 * 8].all()


# Augmentation


@settings(deadline=None, max_examples=30)
@given(RANGES, st.integers(0, 1000))
def test_a_roll_moves_only_what_was_heard_and_loses_nothing(heard, seed):
    start, stop = heard
    waveform = noise(1, SMALL.samples)
    config = AugmentConfig(magnitude=False)
    found = audio.augment_waveform(waveform, torch.tensor([heard]), config, torch.Generator().manual_seed(seed))[0]
    assert torch.equal(found[:start], waveform[0, :start]) and torch.equal(found[stop:], waveform[0, stop:])
    inside = found[start:stop]
    if len(inside):
        shift = (inside == waveform[0, start]).nonzero()[0].item()
        assert torch.equal(inside, waveform[0, start:stop].roll(shift))


def test_rolls_reach_everywhere_and_differ_between_clips():
    waveform = torch.nn.functional.one_hot(torch.zeros(500, dtype=torch.long), 1000).float()
    config = AugmentConfig(magnitude=False)
    place = audio.augment_waveform(waveform, None, config, torch.Generator().manual_seed(0)).argmax(1).float()
    assert place.unique().numel() > 300
    assert abs(place.mean() - 500) < 50 and place.min() < 50 and place.max() > 950


def test_magnitudes_lie_evenly_between_a_half_and_one_and_a_half():
    config = AugmentConfig(roll=False)
    gain = audio.augment_waveform(torch.ones(2000, 4), None, config, torch.Generator().manual_seed(0))
    assert (gain == gain[:, :1]).all()
    assert 0.5 <= gain.min() < 0.51 and 1.49 < gain.max() <= 1.5 and abs(gain.mean() - 1) < 0.02


def test_speeds_change_the_pitch_by_as_much_and_lie_between_the_two_given():
    tone = torch.cos(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000).expand(300, -1)
    config = AugmentConfig(roll=False, magnitude=False, speed=(0.8, 1.25))
    found = audio.augment_waveform(tone, None, config, torch.Generator().manual_seed(0))
    pitch = torch.fft.rfft(found * torch.hann_window(16_000)).abs().argmax(dim=1)
    assert 795 <= pitch.min() < 815 and 1225 < pitch.max() <= 1255 and abs(pitch.log().mean().exp() - 1000) < 20
    assert (found[pitch > 1200, :500] == 0).all(), "played faster it ends sooner, and silence is around it"


@settings(deadline=None, max_examples=30)
@given(RANGES, st.integers(0, 1000))
def test_speed_changes_only_what_was_heard(heard, seed):
    start, stop = heard
    waveform, config = noise(1, SMALL.samples), AugmentConfig(roll=False, magnitude=False, speed=(0.7, 1.4))
    found = audio.augment_waveform(waveform, torch.tensor([heard]), config, torch.Generator().manual_seed(seed))[0]
    assert torch.equal(found[:start], waveform[0, :start]) and torch.equal(found[stop:], waveform[0, stop:])
    assert found.isfinite().all() and found.abs().max() <= waveform.abs().max()


def test_a_speed_of_one_is_no_change_and_draws_nothing():
    waveform, config = noise(2, SMALL.samples), AugmentConfig(roll=False, magnitude=False, speed=(1.0, 1.0))
    generator, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    torch.rand(2, 2, 1, generator=other)
    assert torch.equal(audio.augment_waveform(waveform, None, config, generator), waveform)
    assert torch.equal(generator.get_state(), other.get_state()), "runs of before speeds draw what they drew"


def test_augmentation_draws_from_its_generator_alone_and_can_be_switched_off():
    waveform, state = noise(3, 1000), torch.get_rng_state()
    one, two = (audio.augment_waveform(waveform, None, AugmentConfig(), torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and not torch.equal(one, waveform)
    assert torch.equal(state, torch.get_rng_state())
    off = audio.augment_waveform(waveform, None, AugmentConfig(roll=False, magnitude=False), torch.Generator())
    assert torch.equal(off, waveform)


# From spectrogram to sound


def test_normalisation_is_undone():
    waveform = noise(2, TINY.samples)
    values = audio.to_log_mel(audio.spectrogram(waveform, TINY), TINY)
    torch.testing.assert_close(values[:, :254], audio.log_mel(waveform), atol=1e-4, rtol=0)
    assert values[:, 254:].abs().max() < 1e-5


def test_the_inverse_of_the_filter_bank_is_nowhere_negative_and_sums_to_what_was_asked():
    values = audio.log_mel(torch.stack([noise(8000), tone(440, 8000), click(8000)]))
    power = audio.mel_to_power(values)
    again = (power @ audio.mel_bank(128)).clamp_min(audio.EPSILON).log()
    assert power.min() >= 0
    assert (again - values).abs().mean() < 0.01


def test_sound_made_from_a_spectrogram_of_real_sound_has_that_spectrogram(real_sounds):
    """The bar is 0.20 for each clip; the trivial answer, each band's mean over time, is 0.86 to 2.2 away."""
    found, trivial = {}, {}
    for name, waveform in real_sounds.items():
        wanted = audio.log_mel(waveform[None])
        again = audio.log_mel(audio.to_waveform(wanted, samples=len(waveform)))
        found[name] = (again - wanted).abs().mean().item()
        trivial[name] = (wanted.mean(1, keepdim=True) - wanted).abs().mean().item()
        print(f"{name}: log-mel L1 {found[name]:.3f}, temporal mean {trivial[name]:.2f}")
    assert max(found.values()) <= 0.20, found
    assert sum(found.values()) / len(found) <= 0.12, found
    assert min(trivial.values()) > 0.8, trivial


def test_sound_made_from_a_spectrogram_is_as_loud_as_the_original(real_sounds):
    for name, waveform in real_sounds.items():
        again = audio.to_waveform(audio.log_mel(waveform[None]), rounds=16)
        assert 0.8 < (again.std() / waveform.std()).item() < 1.2, name


def test_sound_keeps_its_place_in_time():
    waveform = torch.zeros(16000)
    waveform[8000:8800] = noise(800, level=0.5)
    again = audio.to_waveform(audio.log_mel(waveform[None]), samples=16000)[0]
    sample = torch.arange(16000)
    centre = [(sample * x.square()).sum() / x.square().sum() for x in (waveform, again)]
    assert abs(centre[0] - centre[1]) < 40  # 2.5 ms


def test_a_tone_comes_back_at_its_frequency():
    again = audio.to_waveform(audio.log_mel(tone(440)[None]), samples=16000)[0]
    assert abs(torch.fft.rfft(again).abs().argmax() - 440) <= 16  # bands are 32 Hz wide or more: half of that


def test_first_phases_make_low_tones_better_than_phases_of_zero(monkeypatch):
    values = audio.log_mel(torch.stack([tone(f) for f in (110, 220, 440)]))
    errors = [(audio.log_mel(audio.to_waveform(values)) - values).abs().mean()]
    monkeypatch.setattr(audio, "_first_phases", lambda power: torch.ones_like(power, dtype=torch.complex64))
    errors += [(audio.log_mel(audio.to_waveform(values)) - values).abs().mean()]
    assert errors[0] < 0.75 * errors[1]


def test_silence_stays_silence():
    values = audio.log_mel(torch.zeros(1, 4000))
    assert torch.equal(audio.to_waveform(values), torch.zeros(1, 240 + 160 * values.shape[1]))
    half = torch.cat([noise(16000), torch.zeros(16000)])
    again = audio.to_waveform(audio.log_mel(half[None]))[0]
    assert again[16400:].abs().max() < 1e-3 * again[:16000].abs().max()


def test_padding_would_be_loud_and_heard_keeps_it_silent():
    waveform = noise(3, SMALL.samples, level=0.01)
    heard = torch.tensor([[0, 3000], [1000, 5000], [0, 0]])
    values = audio.to_log_mel(audio.spectrogram(waveform, SMALL, heard), SMALL)
    loud = audio.to_waveform(values, rounds=8, samples=SMALL.samples)
    assert loud[0, 4000:].std() > 10 * waveform.std()
    again = audio.to_waveform(values, rounds=8, samples=SMALL.samples, heard=heard)
    for clip, (start, stop) in zip(again, heard.tolist(), strict=True):
        assert clip[:start].abs().sum() == 0 and clip[stop:].abs().sum() == 0
    assert 0.8 < again[0, :3000].std() / waveform[0, :3000].std() < 1.2
    assert 0.8 < again[0, 2800:3000].std() / waveform[0, 2800:3000].std() < 1.4  # not faded out towards the padding


def test_no_frames_make_no_sound():
    values = torch.zeros(2, 0, 128)
    assert audio.to_waveform(values).shape == (2, 0)
    assert torch.equal(audio.to_waveform(values, samples=300), torch.zeros(2, 300))


def test_frames_beyond_the_samples_asked_for_are_left_out():
    waveform = noise(1, TINY.samples, level=0.01)
    again = audio.to_waveform(audio.to_log_mel(audio.spectrogram(waveform, TINY), TINY), rounds=8, samples=TINY.samples)
    assert again.shape == waveform.shape
    assert again[:, -400:].std() < 2 * waveform.std()


def test_the_same_spectrogram_gives_the_same_sound_alone_or_in_a_batch():
    values = audio.log_mel(noise(3, 4000))
    one, two = audio.to_waveform(values, rounds=8), audio.to_waveform(values, rounds=8)
    assert torch.equal(one, two)
    alone = torch.cat([audio.to_waveform(clip[None], rounds=8) for clip in values])
    torch.testing.assert_close(one, alone, atol=1e-3, rtol=0)


def test_clipping_is_prevented_only_when_asked_and_only_where_needed():
    waveform = torch.stack([noise(4000, level=2.0), noise(4000, level=0.05)])
    values = audio.log_mel(waveform)
    free, tamed = audio.to_waveform(values, rounds=4), audio.to_waveform(values, rounds=4, prevent_clipping=True)
    assert free[0].abs().max() > 1
    torch.testing.assert_close(tamed[0].abs().max(), torch.tensor(1.0))
    torch.testing.assert_close(tamed[0], free[0] / free[0].abs().max())
    assert torch.equal(tamed[1], free[1])


# Mistakes are told


@pytest.mark.parametrize(
    ("action", "sentence"),
    [
        (lambda: audio.log_mel(torch.zeros(16000)), r"waveform\[None\]"),
        (lambda: audio.log_mel(torch.zeros(1, 16000), mel_bins=3), "4 bands or more"),
        (lambda: audio.spectrogram(torch.zeros(2, 6400), SMALL, torch.zeros(1, 2)), r"each of the 2 clips"),
        (lambda: audio.spectrogram(torch.zeros(6400), SMALL), r"waveform\[None\]"),
        (lambda: audio.audio_content(torch.zeros(2, 3), SMALL), "heard has shape"),
        (lambda: audio.augment_waveform(torch.zeros(2, 9), torch.zeros(3, 2), AugmentConfig(), torch.Generator()), "heard has shape"),
        (lambda: audio.to_waveform(torch.zeros(1, 1, 48, 128)), "as to_log_mel returns it"),
    ],
)
def test_a_wrong_shape_is_told_in_a_sentence(action, sentence):
    with pytest.raises(ValueError, match=sentence):
        action()
