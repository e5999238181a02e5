"""The generated world keeps its word: causes are independent, and seen and heard where they should be."""

import dataclasses
import hashlib
import itertools

import pytest
import torch

from mavil_edu import media, tiny
from mavil_edu.data.difficulty import DIFFICULTIES
from mavil_edu.data.factors import (
    AMBIENCES,
    BACKGROUNDS,
    HEARD_ONLY,
    MATERIALS,
    SEEN_ONLY,
    SHARED,
    Factors,
    flight_height,
    impact_speeds,
    impact_times,
    impacts_within,
    labels,
    sample_factors,
)
from mavil_edu.data.world import World, write_world
from mavil_edu.data.world_picture import BEHIND, FLOOR, radius, render_video
from mavil_edu.data.world_sound import pitch, render_audio

CONFIG = tiny()
MALLET_COLOUR = torch.tensor([0.96, 0.90, 0.80]) * 255
TIMES = (torch.arange(8, dtype=torch.float64) + 0.5) * 0.32


def equal(one: Factors, two: Factors) -> bool:
    return all(torch.equal(getattr(one, name), getattr(two, name)) for name in SHARED + SEEN_ONLY + HEARD_ONLY)


def quiet(factors: Factors) -> Factors:
    """The same clips almost without a background sound, in a dry room, at full gain."""
    level, zero = torch.full_like(factors.ambience_level, -120), torch.zeros_like(factors.gain)
    return dataclasses.replace(factors, ambience_level=level, room=zero, gain=zero)


def of_material(factors: Factors, name: str) -> Factors:
    return dataclasses.replace(factors, material=torch.full_like(factors.material, MATERIALS.index(name)))


def test_a_clip_is_the_same_however_many_are_drawn_and_seeds_differ():
    assert equal(sample_factors(20, seed=3)[5:9], sample_factors(4, seed=3, first=5))
    assert not equal(sample_factors(4, seed=3), sample_factors(4, seed=4))


def test_every_field_is_shared_or_seen_only_or_heard_only():
    assert sorted((*SHARED, *SEEN_ONLY, *HEARD_ONLY, "companion")) == sorted(f.name for f in dataclasses.fields(Factors))


@pytest.mark.parametrize("difficulty", ["default", "hard"])
def test_every_cause_is_drawn_independently_of_every_other(difficulty):
    f = sample_factors(4000, seed=0, difficulty=difficulty)
    columns = {name: getattr(f, name) for name in (*SHARED, *SEEN_ONLY, *HEARD_ONLY) if getattr(f, name).ndim == 1}
    columns["first"] = f.first / f.gaps[:, 0]  # the first impact lies within the flight around the clip's start
    columns |= {"gap": f.gaps[:, 1], "dark": f.dark.mean(1), "bright": f.bright.mean(1), "phase": f.phase[:, 0]}
    columns |= {f"camera {i}": f.camera[:, i] for i in range(2)}
    if difficulty == "hard":
        other = f.companion
        columns |= {f"clutter {i}": f.clutter[:, 0, i] for i in range(6)}
        columns |= {"its material": other.material, "its size": other.size, "its gap": other.gaps[:, 1], "its place": other.place}
    for (a, x), (b, y) in itertools.combinations(columns.items(), 2):
        table = torch.zeros(4, 4)
        bins = [torch.searchsorted(v.double().quantile(torch.tensor([0.25, 0.5, 0.75]).double()), v.double().contiguous()) for v in (x, y)]
        table.index_put_(tuple(bins), torch.ones(4000), accumulate=True)
        expected = table.sum(1, keepdim=True) * table.sum(0, keepdim=True) / 4000
        chi2 = float(((table - expected) ** 2 / expected.clamp(min=1e-9)).sum())
        assert chi2 < 37, f"{a} and {b}: {chi2}"  # 9 degrees of freedom, 600 pairs: p = 0.02 that one is above


def test_every_kind_occurs_about_equally_often():
    f = sample_factors(3000, seed=1)
    for index, names in ((f.material, MATERIALS), (f.background, BACKGROUNDS), (f.ambience, AMBIENCES)):
        share = torch.bincount(index, minlength=len(names)) / 3000
        assert (share - 1 / len(names)).abs().max() < 0.03
        assert len(share) == len(names)


def test_a_heard_only_cause_leaves_the_picture_alone_and_a_seen_only_cause_the_sound():
    one, two = sample_factors(6, seed=1), sample_factors(6, seed=2)
    heard = dataclasses.replace(one, **{name: getattr(two, name) for name in HEARD_ONLY})
    assert torch.equal(render_video(one, TIMES, 32, 32), render_video(heard, TIMES, 32, 32))
    assert not torch.equal(render_audio(one), render_audio(heard))
    seen = dataclasses.replace(one, **{name: getattr(two, name) for name in SEEN_ONLY})
    assert torch.equal(render_audio(one), render_audio(seen))
    assert not torch.equal(render_video(one, TIMES, 32, 32), render_video(seen, TIMES, 32, 32))


@pytest.mark.parametrize("name", HEARD_ONLY)
def test_each_heard_only_cause_is_heard_by_itself(name):
    one, two = sample_factors(12, seed=1), sample_factors(12, seed=2)
    assert not torch.equal(render_audio(one), render_audio(dataclasses.replace(one, **{name: getattr(two, name)})))


@pytest.mark.parametrize("name", SEEN_ONLY)
def test_each_seen_only_cause_is_seen_by_itself(name):
    one, two = sample_factors(12, seed=1, difficulty="hard"), sample_factors(12, seed=2, difficulty="hard")
    changed = dataclasses.replace(one, **{name: getattr(two, name)})
    assert not torch.equal(render_video(one, TIMES, 32, 32), render_video(changed, TIMES, 32, 32))


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_cause_changes_both(name):
    one, two = sample_factors(6, seed=1), sample_factors(6, seed=2)
    changed = dataclasses.replace(one, **{name: getattr(two, name)})
    assert not torch.equal(render_audio(one), render_audio(changed))
    assert not torch.equal(render_video(one, TIMES, 32, 32), render_video(changed, TIMES, 32, 32))


def onsets(waveform: torch.Tensor) -> torch.Tensor:
    """When the sound's energy jumps, in seconds: where a 2-ms frame is much louder than the 4 before it."""
    energy = waveform.unfold(0, 32, 32).square().mean(1)
    before = energy.unfold(0, 4, 1).amax(1)[:-1]
    jump = energy[4:] / (before + 1e-9)
    peaks = (jump > 1.5) & (energy[4:] > 1e-6)
    return (peaks.nonzero().flatten() + 4) * 0.002


def test_each_impact_is_heard_within_20_ms_of_its_time():
    f = quiet(sample_factors(40, seed=5))
    f = of_material(f, "stone")  # short rings: every onset stands out
    for times, waveform in zip(impact_times(f), render_audio(f), strict=True):
        heard = onsets(waveform)
        for time in times[(times > 0.02) & (times < 2.5)]:
            assert (heard - time).abs().min() < 0.02


@pytest.mark.parametrize("material", MATERIALS)
def test_the_sound_of_every_material_starts_at_its_impact(material):
    """Without its later impacts a clip is the same until 2 ms before them, and within 20 ms of the first by a tenth of the peak other."""
    f = of_material(sample_factors(8, seed=5), material)
    times = impact_times(f)
    whole = render_audio(f)
    later = dataclasses.replace(f, gaps=f.gaps.clone())
    later.gaps[:, 3:] += 100.0  # the fifth impact and those after it never come
    short = render_audio(later)
    for time, a, b in zip(times[:, 4], whole, short, strict=True):
        if not 0.1 < time < 2.3:
            continue
        at = round(float(time) * 16_000)
        difference = (a - b).abs()
        assert difference[: at - 32].max() < 1e-3
        assert difference[at : at + 320].max() > 0.1 * difference.max()


@pytest.mark.parametrize("struck", [False, True], ids=["bouncing", "struck"])
def test_each_impact_is_seen_within_20_ms_of_its_time_at_100_frames_a_second(struck):
    """What strikes (a bouncing object, or the mallet's head) reaches its lowest row then, and only then; told from the pictures alone."""
    f = of_material(sample_factors(24, seed=6), "stone")  # nothing of it has the colour of the mallet
    f = dataclasses.replace(f, struck=torch.full_like(f.struck, struck), drift=torch.zeros_like(f.drift), light=torch.ones_like(f.light),
                            dark=torch.zeros_like(f.dark), bright=torch.zeros_like(f.bright), clutter=f.clutter[:, :0],
                            camera=torch.zeros_like(f.camera), lamp=torch.zeros_like(f.lamp))  # fmt: skip
    rate = 100
    pictures = render_video(f, torch.arange(256, dtype=torch.float64) / rate, 96, 96)[:, :, : int(FLOOR * 96) - 1]
    moving = (pictures - MALLET_COLOUR).abs().amax(-1) < 2 if struck else pictures.amax(-1) > 20
    seen = moving.any(dim=3)  # (n, t, rows)
    lowest = (seen * torch.arange(1, seen.shape[2] + 1)).amax(dim=2)  # the lowest row it covers
    for times, rows in zip(impact_times(f), lowest, strict=True):
        for time in times[(times > 0.12) & (times < 2.43)]:
            first = round(float(time) * rate) - 10
            around = rows[first : first + 21]
            lowest_at = (around == around.max()).nonzero().float().mean() + first  # frames; at one row's moment it may stay for some
            assert abs(lowest_at / rate - float(time)) < 0.02, "it is seen to strike when it is heard"
            assert around.max() >= rows.max() - 1, "at the floor, or at the object"
            assert around[[0, -1]].max() < around.max(), "and is gone from there a tenth of a second before and after"


def test_flight_is_zero_at_impacts_and_as_high_as_its_speed_tells():
    f = sample_factors(30, seed=7)
    impacts = impact_times(f)
    for i in range(len(f)):
        one = f[i : i + 1]
        assert flight_height(one, impacts[i][1:-1]).abs().max() < 1e-9
        middle = (impacts[i][:-1] + impacts[i][1:]) / 2
        speed = impact_speeds(one)[0][1:]
        gravity = 2 * speed / f.gaps[i]
        assert torch.allclose(flight_height(one, middle)[0], speed**2 / (2 * gravity))


def test_larger_objects_look_larger_and_sound_lower():
    f = sample_factors(200, seed=8)
    order = f.size.argsort()
    assert (radius(f)[order].diff() >= 0).all()
    assert (pitch(f)[order].diff() <= 0).all()
    assert radius(f).min() < 0.16 and radius(f).max() > 0.26
    tone = quiet(of_material(f, "wood"))[:16]
    spectrum = torch.fft.rfft(render_audio(tone)).abs()
    peak = spectrum[:, : int(1200 * 2.56)].argmax(dim=1) / 2.56
    assert ((peak - pitch(tone)) / pitch(tone)).abs().max() < 0.03


def test_faster_impacts_are_louder():
    f = quiet(sample_factors(1, seed=9))
    f = dataclasses.replace(of_material(f, "stone"), gaps=torch.tensor([[0.3, 0.8, 0.3, 0.8] * 4]).double())
    times, waveform = impact_times(f)[0], render_audio(f)[0]
    levels = {}
    for time, speed in zip(times.tolist(), impact_speeds(f)[0].tolist(), strict=True):
        if 0.1 < time < 2.4:
            levels.setdefault(round(speed, 3), []).append(float(waveform[int(time * 16_000) :][:800].abs().max()))
    slow, fast = (levels[key] for key in sorted(levels))
    assert min(fast) > 3 * max(slow)


def test_sound_is_never_silent_never_clips_and_noise_has_a_floor_at_every_frequency():
    waveform = render_audio(sample_factors(100, seed=10))
    assert waveform.abs().amax(1).min() > 0.02
    assert waveform.abs().max() < 1.0
    power = torch.fft.rfft(waveform).abs().square()
    thirds = power[:, 400:].unfold(1, 2000, 2000).mean(2)
    assert (thirds > 0).all() and (thirds.amin(1) / thirds.amax(1) > 1e-7).all()


def test_a_hall_rings_on_where_a_dry_room_does_not():
    f = of_material(quiet(sample_factors(16, seed=12)), "stone")
    f = dataclasses.replace(f, struck=torch.ones_like(f.struck))
    hall = dataclasses.replace(f, room=torch.ones_like(f.room))
    f = dataclasses.replace(f, gaps=torch.full_like(f.gaps, 0.83), first=torch.zeros_like(f.first))
    hall = dataclasses.replace(hall, gaps=f.gaps, first=f.first)

    def late(waveform: torch.Tensor) -> torch.Tensor:  # energy 0.15 s to 0.25 s after an impact, over that of its first 20 ms
        first = round(0.83 * 16_000)
        return waveform[:, first + 2400 : first + 4000].square().mean(1) / waveform[:, first : first + 320].square().mean(1)

    assert (late(render_audio(hall)) > 20 * late(render_audio(f))).all()


def test_background_sounds_rise_fall_pulse_or_stay_as_they_are_called():
    f = sample_factors(24, seed=13)
    f = dataclasses.replace(f, gaps=torch.full_like(f.gaps, 12.0), first=torch.full_like(f.first, -7.0), gain=torch.zeros_like(f.gain))
    for kind, name in enumerate(AMBIENCES):
        waveform = render_audio(dataclasses.replace(f, ambience=torch.full_like(f.ambience, kind)))  # nothing strikes in these
        power = torch.stft(waveform, 512, 256, window=torch.hann_window(512), return_complex=True).abs().square()[:, 5:120]
        loudest = power.argmax(dim=1).float()  # (n, frames)
        upwards = (loudest.diff(dim=1) > 0).float().mean(1) - (loudest.diff(dim=1) < 0).float().mean(1)
        loudness = power.sum(1)
        swell = loudness.quantile(0.9, dim=1) / loudness.quantile(0.1, dim=1)
        if name == "rising":
            assert (upwards > 0.2).all()
        elif name == "falling":
            assert (upwards < -0.2).all()
        else:
            assert (upwards.abs() < 0.2).all()
            assert (swell > 6).all() if name == "pulsing" else (swell < 4).all()


def test_a_clip_sounds_and_looks_the_same_alone_or_among_many_with_one_thread_or_several():
    f = sample_factors(20, seed=14)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        sound, picture = render_audio(f), render_video(f, TIMES, 32, 32)
        torch.set_num_threads(1)
        for i in (0, 7, 19):
            assert torch.equal(render_audio(f[i : i + 1])[0], sound[i])
            assert torch.equal(render_video(f[i : i + 1], TIMES, 32, 32)[0], picture[i])
    finally:
        torch.set_num_threads(threads)


def test_the_mallet_stays_in_the_picture_above_the_largest_object():
    f = sample_factors(60, seed=15)
    f = dataclasses.replace(f, struck=torch.ones_like(f.struck), size=torch.ones_like(f.size), camera=torch.zeros_like(f.camera),
                            light=torch.ones_like(f.light), clutter=f.clutter[:, :0])  # fmt: skip
    seen = (render_video(f, TIMES, 96, 96) - MALLET_COLOUR).abs().amax(-1) < 2
    assert (seen.flatten(2).sum(2) > 60).all()


def test_every_material_has_its_own_colour_and_texture():
    f = sample_factors(1, seed=16)
    f = dataclasses.replace(f, struck=torch.ones_like(f.struck), size=torch.ones_like(f.size))
    looks = [render_video(of_material(f, name), TIMES[:1], 96, 96)[0, 0].float() for name in MATERIALS]
    for a, b in itertools.combinations(looks, 2):
        changed = (a - b).abs().amax(-1) > 8
        assert changed.float().mean() > 0.1
        assert (a[changed].mean(0) - b[changed].mean(0)).abs().max() > 15, "another colour"
    greys = [look.mean(-1)[45:85] / look.mean(-1)[45:85].mean() for look in looks]
    assert min((a - b).abs().mean() for a, b in itertools.combinations(greys, 2)) > 0.05, "another texture, told without its colour"


def test_edges_are_soft():
    f = sample_factors(4, seed=17)
    f = dataclasses.replace(f, material=torch.full_like(f.material, MATERIALS.index("skin")))
    small, large = (render_video(f, TIMES, s, s).float() for s in (32, 320))
    shrunk = large.unflatten(2, (32, 10)).unflatten(4, (32, 10)).mean(dim=(3, 5))
    assert (shrunk - small).abs().quantile(0.998) < 40  # a hard edge is wrong by up to half the contrast at every second border pixel


def test_harder_worlds_hold_more_that_is_not_asked_for():
    easy, default, hard = (sample_factors(50, seed=18, difficulty=name) for name in DIFFICULTIES)
    assert torch.equal(easy.material, hard.material) and torch.equal(easy.size, default.size), "the causes asked for are the same"
    assert [f.clutter.shape[1] for f in (easy, default, hard)] == [0, 0, 4]
    spread = [float(f.gaps.std(dim=1).mean()) for f in (easy, default, hard)]
    assert spread[0] < 1e-6 < 0.005 < spread[1] < 0.05 < 0.1 < spread[2], "the beat is kept less and less"
    assert (easy.ambience_level < default.ambience_level).all() and (default.ambience_level < hard.ambience_level).all()
    assert easy.companion is None and default.companion is None and (hard.companion.material != hard.material).any()
    alone = dataclasses.replace(hard, companion=None)
    assert not torch.equal(render_audio(alone[:4]), render_audio(hard[:4]))
    behind = slice(int((FLOOR - BEHIND - 0.1) * 96), int((FLOOR - BEHIND) * 96))
    pictures = render_video(hard[:20], TIMES, 96, 96)[:, :, behind].float(), render_video(alone[:20], TIMES, 96, 96)[:, :, behind].float()
    assert ((pictures[0] - pictures[1]).abs().amax(dim=(1, 2, 3, 4)) > 20).float().mean() > 0.8, "seen, but where the front one hides it"
    assert render_audio(hard).abs().max() < 1
    with pytest.raises(ValueError, match="easy, default, hard"):
        sample_factors(1, seed=0, difficulty="impossible")


def test_clips_drawn_on_the_fly_are_those_that_are_kept():
    kept, drawn = (World(6, 3, CONFIG.model, CONFIG.train.augment, keep=keep, quiet=True) for keep in (True, False))
    assert drawn.kept is None and len(drawn) == 6
    assert all(map(torch.equal, kept.sample(4, None), drawn.sample(4, None)))


def test_labels_name_every_cause_that_can_be_asked_for():
    f = sample_factors(30, seed=19)
    table = labels(f)
    assert all(len(values) == 30 for values in table.values())
    assert table["beat"] == pytest.approx([float(gaps.mean()) for gaps in f.gaps], abs=1e-4)
    assert all(abs(len(row) - 2.56 / beat) < 1.5 for row, beat in zip(impacts_within(f, 2.56), table["beat"], strict=True))
    assert {"material", "size", "event", "beat", "background", "ambience", "room", "gain", "light", "camera"} <= set(table)


def test_a_small_picture_looks_like_a_large_one_seen_from_afar():
    f = sample_factors(12, seed=11)
    small, large = (render_video(f, TIMES, s, s).float() for s in (32, 96))
    shrunk = large.unflatten(2, (32, 3)).unflatten(4, (32, 3)).mean(dim=(3, 5))
    assert (shrunk - small).abs().mean() < 4  # of 255


def test_the_data_set_is_cached_and_a_spoilt_cache_is_made_again(tmp_path):
    fresh = World(5, 1, CONFIG.model, CONFIG.train.augment, cache=tmp_path)
    [file] = tmp_path.iterdir()
    before = file.stat().st_mtime_ns
    again = World(5, 1, CONFIG.model, CONFIG.train.augment, cache=tmp_path)
    assert file.stat().st_mtime_ns == before
    assert all(map(torch.equal, fresh.kept, again.kept))
    file.write_bytes(file.read_bytes()[:1000])
    assert torch.equal(World(5, 1, CONFIG.model, CONFIG.train.augment, cache=tmp_path).kept[1], fresh.kept[1])
    World(6, 1, CONFIG.model, CONFIG.train.augment, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_world_needs_windows_of_one_length():
    video = dataclasses.replace(CONFIG.model.video, seconds=1.0)
    with pytest.raises(ValueError, match="one length"):
        World(2, 0, dataclasses.replace(CONFIG.model, video=video), CONFIG.train.augment)


def digest(folder) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_written_clips_are_the_same_bytes_for_the_same_seed_and_hold_what_was_rendered(tmp_path):
    write_world(tmp_path / "a", 3, seed=4)
    write_world(tmp_path / "b", 3, seed=4)
    write_world(tmp_path / "c", 3, seed=5)
    first, again = digest(tmp_path / "a"), digest(tmp_path / "b")
    assert first == again
    other = digest(tmp_path / "c")
    assert all(first[name] != other[name] for name in first if name != "LICENSE.txt")
    assert sorted(digest(tmp_path / "a")) == ["000.mp4", "001.mp4", "002.mp4", "LICENSE.txt", "labels.csv", "places.csv"]
    rows = (tmp_path / "a" / "labels.csv").read_text().splitlines()
    assert len(rows) == 4 and rows[0].startswith("clip,material,size,event")
    f = sample_factors(3, 4)
    assert rows[1].split(",")[1] == labels(f)["material"][0]
    clip = media.read_clip(tmp_path / "a" / "000.mp4", 2.56, 2.56, 8)
    rendered = render_audio(f)[0]
    correlation = torch.corrcoef(torch.stack([clip.waveform, rendered]))[0, 1]
    assert correlation > 0.9  # MP3 changes the waveform a little; a shift by 1 ms would destroy this
    assert clip.seen.all()
    expected = render_video(f[:1], (TIMES * 25).floor() / 25, 96, 96)[0]
    assert (clip.frames.float() - expected.float()).abs().mean() < 6


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"thesis\.txt"):
        write_world(tmp_path, 2, seed=0)
    with pytest.raises(ValueError, match="1 clip or more"):
        write_world(tmp_path / "new", 0, seed=0)
