"""The fuzz campaign: it notices what it is there for, each planted here once, and a small part of it finds nothing."""

import json
import os
import re
import sys
import time
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
import torch

from mavil_edu import streams
from mavil_edu.data import batch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the campaign reads /proc")
NAMES = ("pool", "told", "mutations", "containers", "media", "lists", "shards", "configs", "checkpoints", "arguments")
pool, told, mutations, containers, media, lists, shards, configs, checkpoints, arguments = (import_module(f"fuzzing.{n}") for n in NAMES)
fuzz = import_module("fuzz")


# --------------------------------------------------------------------------------------------------------------------- the pool


def waits_for_ever() -> None:
    time.sleep(1000)


def spins() -> None:
    while True:
        pass


def piles_up() -> None:
    assert len(bytearray(256 << 20))  # touched, all of it; four times the limit, for the system may take pages back meanwhile


def asks_for_too_much() -> None:
    np.empty(1 << 33, np.uint8)


def divides_by_nothing() -> None:
    print(1 / 0)


PLANTED = {
    "crash": (os.abort, r"crash: signal 6 while harming; .*Fatal Python error: Aborted.*test_fuzz\.py"),
    "end": (lambda: os._exit(3), "crash: exit 3 while harming"),
    "wait": (waits_for_ever, r"hang: over 0\.3 s while harming; .*test_fuzz\.py.* in waits_for_ever"),
    "spin": (spins, r"hang: over 0\.3 s while harming; .*test_fuzz\.py.* in spins"),
    "peak": (piles_up, r"memory: \d+ MB were taken"),
    "refused": (asks_for_too_much, "memory: an allocation was refused"),
    "raised": (divides_by_nothing, r"raised: ZeroDivisionError: division by zero \(test_fuzz\.py:\d+ divides_by_nothing\)"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_whatever_a_case_does_is_told_and_the_next_case_goes_on(tmp_path, monkeypatch, what):
    monkeypatch.setattr(pool, "PEAK", 64 << 20)
    monkeypatch.setattr(pool, "AHEAD", 1 << 30)
    harm, sentence = PLANTED[what]

    def work(case: int) -> pool.Outcome:
        pool.step(f"input {case}")
        if case == 1:
            pool.step("harming")
            harm()
        return pool.Outcome("fine", f"input {case}")

    found = dict(pool.campaign(work, [0, 1, 2], tmp_path / "log", seconds=0.3))
    assert [found[case].outcome for case in (0, 2)] == ["fine", "fine"] and not found[0].faults + found[2].faults
    assert found[1].mutation == "input 1"
    [fault] = found[1].faults
    assert re.search(sentence, fault), fault


def test_each_step_of_a_case_has_its_own_time(tmp_path):
    def work(case: int) -> pool.Outcome:
        for number in range(4):
            pool.step(f"step {number}")
            until = time.process_time() + 0.2
            while time.process_time() < until:
                pass
        return pool.Outcome("fine", "")

    [(_, found)] = pool.campaign(work, [0], tmp_path / "log", seconds=0.5)
    assert found.outcome == "fine"


# ------------------------------------------------------------------------------------------------------------------ the oracles


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """The media made of data_samples alone, and nothing long."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MAVIL_DATA", raising=False)
        yield media.prepare(tmp_path_factory.mktemp("media"), hours=0.01)
    av.logging.restore_default_callback()
    av.logging.set_level(None)


@pytest.fixture
def film(context, tmp_path) -> Path:
    """A film without a fault."""
    (tmp_path / "film").write_bytes(context.sources[0].read_bytes())
    assert media.check(tmp_path / "film", context) == ("ok", [])
    return tmp_path / "film"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda c: c.waveform.__setitem__(5, float("nan")), "garbage: the waveform's values"),
        (lambda c: c.waveform.__setitem__(5, 1.5), "garbage: the waveform's values"),
        (lambda c: c.seen.__setitem__(0, False), "garbage: a picture that is not seen"),
    ],
)
def test_values_that_cannot_be_are_noticed(context, film, monkeypatch, spoil, sentence):
    read = media.read_clip

    def spoilt(*arguments):
        clip = read(*arguments)
        spoil(clip)
        return clip

    monkeypatch.setattr(media, "read_clip", spoilt)
    assert media.check(film, context)[1] == [sentence]


def test_sound_where_none_is_said_to_be_and_times_that_are_none_are_noticed(context, film):
    clip = media.read_clip(film, 2.56, 2.56, 8)
    assert media.faults_of_clip(clip, 40_960, 8) == []
    assert media.faults_of_clip(clip._replace(heard=(0, 100)), 40_960, 8) == ["garbage: sound outside heard"]
    assert media.faults_of_clip(clip._replace(seconds=float("nan")), 40_960, 8) == ["garbage: times"]
    assert "garbage: heard" in media.faults_of_clip(clip._replace(heard=(0, 50_000)), 40_960, 8)


def test_a_nan_that_reaches_the_loss_is_noticed(context, film, monkeypatch):
    monkeypatch.setattr(batch.video, "normalise", lambda frames, config: torch.full((len(frames), 3, 8, 32, 32), float("nan")))
    found = media.check(film, context)[1]
    assert "nan: the video loss is not finite" in found and "nan: the total loss is not finite" in found


def test_silence_that_is_handed_to_training_is_noticed(context):
    silent = context.good._replace(waveform=torch.zeros_like(context.good.waveform))
    assert media.faults_of_sample(silent, context) == ["silence: a silent sample is handed to training"]
    assert media.faults_of_sample(context.good, context) == []


def test_a_loss_that_the_package_keeps_to_itself_is_noticed(context, film, monkeypatch):
    raw = bytearray(film.read_bytes())
    raw[942:958] = b"\x55" * 16  # in the first picture
    film.write_bytes(raw)
    assert media.check(film, context) == ("partial", [])
    decode = streams.Source.decode
    monkeypatch.setattr(streams.Source, "decode", lambda self, packet: (decode(self, packet)[0], False))
    status, faults = media.check(film, context)
    assert status == "ok though a decoder complained" and any("silent: ok, but the decoder said 'h264: error" in fault for fault in faults)


def test_a_file_that_is_cut_off_and_called_whole_is_noticed(context, film, monkeypatch):
    whole = media.inspect_file(film, media.MODEL)
    source = whole.audio_seconds, whole.video_seconds, whole.promised_seconds
    part = replace(whole, audio_seconds=1.0, video_seconds=1.0)
    assert media.faults_of_verdict(whole, source, cut=True) == []
    assert any("1.0 of 2.6 s" in fault for fault in media.faults_of_verdict(part, source, cut=True))
    assert media.faults_of_verdict(replace(whole, corrupt_packets=1))
    assert media.faults_of_verdict(replace(whole, audio_seconds=float("nan")))
    assert media.faults_of_verdict(replace(part, status="partial"), source, cut=True) == []


def test_an_error_that_is_no_sentence_of_the_package_is_noticed(tmp_path):
    def found(work) -> str:
        return " ".join(told.attempt(work)[2])

    assert "untold: ValueError" in found(lambda: int("x"))
    assert "untold: KeyError" in found(lambda: {}["x"])
    assert "untold: FileNotFoundError" in found(lambda: (tmp_path / "none").read_text())
    assert "memory: refused by the system" in found(lambda: (_ for _ in ()).throw(RuntimeError("can't allocate memory")))
    assert found(lambda: streams.Source(tmp_path / "none")) == ""
    assert "no sentence" in found(lambda: streams.Source(tmp_path / "no\nne"))


def test_shards_that_were_changed_and_pass_the_check_are_noticed(tmp_path, monkeypatch):
    shelf = shards.prepare(tmp_path)
    assert shards.check(shelf.honest, shelf, changed=False) == ("read", [])
    assert shards.check(shelf.honest, shelf, changed=True)[1] == ["silent: changed, and verified all the same"]


def test_a_config_of_numbers_that_are_none_is_noticed():
    wrong = replace(media.MODEL, audio=replace(media.MODEL.audio))
    object.__setattr__(wrong.audio, "mean", float("nan"))  # past its own check
    assert configs.not_finite(wrong) == [".audio.mean"]
    assert configs._build(wrong) == ["nan: the audio input of a config that was taken"]


def test_weights_that_are_none_are_noticed():
    model = media.MAViL(media.MODEL)
    assert checkpoints._finite(model) == []
    model.audio_encoder.class_token.data[0] = float("inf")
    assert checkpoints._finite(model) == ["nan: audio_encoder.class_token was loaded"]


# ---------------------------------------------------------------------------------------------------------------- the mutations


def test_containers_are_taken_apart_to_their_last_part(context):
    for word, wanted in (("000.mp4", {"moov", "stsd", "stsz"}), ("_ffv1_", {"4489", "b0", "a3"}), ("_rawvideo_", {"strf", "avih"})):
        raw = next(path for path in context.sources if word in path.name).read_bytes()
        kind, parts = containers.parts(raw)
        assert kind and wanted <= {name for *_, name in parts}
        assert all(start < content <= end <= len(raw) for start, content, end, _ in parts)


def test_sealed_pages_have_the_checksums_that_the_encoder_gave_them(context):
    raw = next(path for path in context.sources if path.suffix == ".ogg").read_bytes()
    sealed = bytearray(raw)
    containers.seal_pages(sealed)
    assert bytes(sealed) == raw


def test_a_case_is_the_same_whenever_it_is_made(context, tmp_path):
    for case in (100, 101, 102, 103):
        made = []
        for name in "ab":
            told_of, _, _ = media.damaged(case, context, tmp_path / name)
            made.append((told_of, (tmp_path / name).read_bytes()))
        assert made[0] == made[1]
    value = {"a": [1, 2.5], "b": {"c": "d"}}
    changed = [mutations.change_json(Random(number), value) for number in range(50)]
    assert repr(changed) == repr([mutations.change_json(Random(number), value) for number in range(50)])
    assert value == {"a": [1, 2.5], "b": {"c": "d"}} and len({repr(new) for new, _ in changed}) > 20


# -------------------------------------------------------------------------------------------------------------- a small part of it


SLOW = {2, 11, 18, 45}  # of the files made to harm: a second or more each


def test_a_small_part_of_the_campaign_finds_nothing(context, tmp_path):
    first = len(media.SPECIALS)
    for case in sorted({*range(first + 20)} - SLOW):
        found = media.run(case, context)
        assert not found.faults, (case, found.mutation)
    for family, count in ((lists, 60), (configs, 8), (checkpoints, 5), (shards, 5)):
        (tmp_path / family.__name__).mkdir()
        ground = family.prepare(tmp_path / family.__name__)
        for case in range(count):
            found = family.run(case, ground)
            assert not found.faults, (family.__name__, case, found.mutation)


def test_a_case_can_be_run_again_by_its_number_alone(tmp_path, monkeypatch, capsys):
    said = []
    for more in ([], ["--keep", str(tmp_path / "kept")]):
        monkeypatch.setattr(sys, "argv", ["fuzz.py", "--only", "lists", "--case", "62", *more])
        assert fuzz.main() == 0
        said.append(json.loads(capsys.readouterr().out.split("}\n{")[0].rstrip("}\n") + "}"))
    guarded, kept = said
    assert (guarded["mutation"], guarded["outcome"]) == (kept["mutation"], kept["outcome"])
    assert list((tmp_path / "kept" / "case").glob("*.csv"))


def test_results_of_families_that_are_run_apart_stand_in_one_file(tmp_path, monkeypatch, capsys):
    for family in ("lists", "configs"):
        monkeypatch.setattr(sys, "argv", ["fuzz.py", "--only", family, "--cases", "3", "--out", str(tmp_path / "fuzz.json")])
        assert fuzz.main() == 0
    stored = json.loads((tmp_path / "fuzz.json").read_text())
    assert {name: one["cases"] for name, one in stored["families"].items()} == {"lists": 3, "configs": 3}
    assert [path.name for path in tmp_path.iterdir()] == ["fuzz.json"]


def test_what_docs_robustness_says_of_the_campaign_is_what_the_stored_result_says():
    text = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    families = json.loads((ROOT / "results" / "fuzz.json").read_text(encoding="utf-8"))["families"]
    assert set(families) == set(fuzz.FAMILIES)
    for name, found in families.items():
        family = "command lines" if name == "arguments" else name
        ((cases, became),) = re.findall(rf"^\| {family} \| ([\d,]+) \| 0, 0, 0 \| (.*) \|$", text, re.MULTILINE)
        assert cases == f"{found['cases']:,}" and found["cases"] == import_module(f"fuzzing.{name}").CASES and not found["faults"]
        assert sum(int(number.replace(",", "")) for number in re.findall(r"([\d,]*\d) [a-z]", became)) == found["cases"]
    most = max(found["most_memory"]["megabytes"] for found in families.values())
    assert f"that a case took was {most} MB" in " ".join(text.split())
