"""What the fuzz campaign found, mended: one claim for each line of docs/robustness.md."""

import json
import struct
import time
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import pytest
import torch
from made_clips import make_clip, pictures, tone
from safetensors.torch import load_file, save_file

from mavil_edu import MAViL, cli, inspection, media, streams, tiny
from mavil_edu.checkpoint import load_checkpoint, save_checkpoint, save_model
from mavil_edu.config import AudioConfig, Config, ModelConfig, TransformerConfig, VideoConfig, from_dict, to_dict
from mavil_edu.data.folder import FolderClips, TiledClips
from mavil_edu.data.labels import folder_labels
from mavil_edu.data.shard_files import ShardError, StoredClip
from mavil_edu.data.shards import Shards
from mavil_edu.data.vggsound import read_vggsound
from mavil_edu.inspection import inspect_file
from mavil_edu.media import MediaError, clip_seconds, read_clip
from mavil_edu.run import stored_run
from mavil_edu.start import starting_config
from mavil_edu.train import Progress, _go_on, make_fabric, make_optimiser

CONFIG = tiny()
TINY = CONFIG.model
SAMPLES = Path(__file__).parent.parent / "data_samples"


# ------------------------------------------------------------------------------------------------------------------------ media


def test_a_damaged_first_picture_is_a_loss_and_not_passed_over(tmp_path):
    raw = bytearray((SAMPLES / "000.mp4").read_bytes())
    raw[942:958] = b"\x55" * 16
    (tmp_path / "a.mp4").write_bytes(raw)
    verdict = inspect_file(tmp_path / "a.mp4", TINY)
    assert (verdict.status, verdict.corrupt_packets) == ("partial", 1)
    assert "1 corrupt packet" in read_clip(tmp_path / "a.mp4", 2.56, 2.56, 8).note


def test_a_picture_that_claims_more_pixels_than_the_header_is_not_decoded(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.webm", pictures(25), vcodec="libvpx", gop=1)
    raw, place = bytearray(path.read_bytes()), 0
    while (place := raw.find(b"\x9d\x01\x2a", place)) >= 0:
        raw[place + 3 : place + 7] = struct.pack("<HH", 800, 800)
        place += 4
    path.write_bytes(raw)
    monkeypatch.setattr(streams, "MAX_PIXELS", 10_000)
    verdict = inspect_file(path, TINY)
    assert verdict.status == "unreadable" and verdict.frames == 0 and verdict.corrupt_packets


@pytest.mark.parametrize("rate", [1, 2**31 - 1])
def test_sound_of_an_absurd_rate_is_refused_before_it_is_resampled(tmp_path, rate):
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate, rate, 1, 8) + b"data" + struct.pack("<I", 4000) + bytes(range(250)) * 16
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    verdict = inspect_file(tmp_path / "a.wav", TINY)
    assert verdict.status == "unreadable" and f"claims {rate} samples a second" in verdict.message
    with pytest.raises(MediaError, match="samples a second"):
        read_clip(tmp_path / "a.wav", 2.56, 2.56, 8)
    assert clip_seconds(tmp_path / "a.wav") >= 0


def test_a_flipped_bit_in_flac_is_found_by_its_checksum(tmp_path):
    path = make_clip(tmp_path / "a.mkv", pictures(50), sound=tone(2), acodec="flac")
    assert inspect_file(path, TINY).status == "ok"
    raw = bytearray(path.read_bytes())
    raw[-8000] ^= 16
    path.write_bytes(raw)
    verdict = inspect_file(path, TINY)
    assert verdict.status == "partial" and verdict.corrupt_packets == 1


def lying(path: Path, seconds: float) -> Path:
    """A Matroska file whose header tells another length."""
    make_clip(path, pictures(50), sound=tone(2), acodec="flac")
    raw = path.read_bytes()
    place = raw.index(b"\x44\x89\x88") + 3
    path.write_bytes(raw[:place] + struct.pack(">d", 1000 * seconds) + raw[place + 8 :])
    return path


def test_a_header_that_promises_years_does_not_fill_the_memory_with_windows(tmp_path):
    path = lying(tmp_path / "a.mkv", 1e9)
    assert clip_seconds(path) == pytest.approx(2, abs=0.1)
    assert len(TiledClips(FolderClips([path], TINY, CONFIG.train.augment))) == 1


def test_timestamps_that_claim_more_than_a_week_are_refused(tmp_path, monkeypatch):
    path = lying(tmp_path / "a.mkv", 2.0)
    assert clip_seconds(path) == pytest.approx(2.0)
    monkeypatch.setattr(media, "LONGEST", 1.0)
    with pytest.raises(MediaError, match="claims to last"):
        clip_seconds(path)
    assert len(TiledClips(FolderClips([path], TINY, CONFIG.train.augment))) == 1


def test_a_long_file_whose_header_says_that_it_is_short_is_decoded_in_parts(tmp_path, monkeypatch):
    path = make_clip(tmp_path / "a.mkv", pictures(240, 16, 16), fps=4, sound=tone(60), acodec="flac", gop=4)
    raw = path.read_bytes()
    place = raw.index(b"\x44\x89\x88") + 3
    path.write_bytes(raw[:place] + struct.pack(">d", 3000.0) + raw[place + 8 :])
    whole = inspect_file(path, TINY)
    monkeypatch.setattr(inspection, "LONG", 20.0)
    monkeypatch.setattr(inspection, "MANY", 50)
    monkeypatch.setattr(inspection, "END_PART", 4.0)
    parts = inspect_file(path, TINY)
    assert "in parts" in parts.message and "in parts" not in whole.message and parts.frames < 0.7 * whole.frames
    assert parts.video_seconds == pytest.approx(whole.video_seconds, abs=2)


def test_a_clip_is_measured_by_its_last_packet_whatever_the_units_of_its_streams(tmp_path):
    for name, images, seconds in (("a.mp4", 75, 1.0), ("b.mp4", 25, 3.0)):
        source = streams.Source(make_clip(tmp_path / name, pictures(images), sound=tone(seconds)))
        assert source.measured() == pytest.approx(3.0, abs=0.1)
        source.close()


# ---------------------------------------------------------------------------------------------------------------------- configs


@pytest.mark.parametrize(
    ("name", "number"),
    [("base_lr", 1e308), ("batch", 10**400), ("steps", 10**400), ("accumulate", 2**63)],
    ids=["base_lr", "batch", "steps", "accumulate"],
)
def test_a_number_that_makes_no_finite_rate_is_refused_at_birth(name, number):
    with pytest.raises(ValueError, match=f"train.{name} is .*; it must be "):
        replace(CONFIG.train, **{name: number})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model.audio.mean", "model.video.mean", "objective.tau_inter", "train.base_lr", "train.clip_norm"])
def test_a_number_that_is_none_is_refused_at_birth(number, where):
    values = to_dict(CONFIG)
    *holders, last = where.split(".")
    holder = values
    for name in holders:
        holder = holder[name]
    holder[last] = [number, 0, 0] if isinstance(holder[last], list) else number
    with pytest.raises(ValueError, match=f"{last} is .*finite number"):
        from_dict(Config, json.loads(json.dumps(values)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: TransformerConfig(width=2**31, heads=1), "width is 2147483648"),
        (lambda: TransformerConfig(depth=10**9), "depth"),
        (lambda: TransformerConfig(mlp_ratio=0.0), "mlp_ratio"),
        (lambda: ModelConfig(fusion_depth=2**31), "fusion_depth"),
        (lambda: ModelConfig(classes=10**12), "classes"),
        (lambda: ModelConfig(bottlenecks=10**12), "bottlenecks"),
        (lambda: AudioConfig(seconds=1e9), "audio.seconds"),
        (lambda: AudioConfig(frames=2**30), "audio.frames"),
        (lambda: AudioConfig(mean=1e300), "audio.mean"),
        (lambda: AudioConfig(std=1e-30), "audio.std"),
        (lambda: VideoConfig(height=2**20, width=2**20), "video.height"),
        (lambda: VideoConfig(frames=512, height=1024, width=1024), "frames times height"),
        (lambda: VideoConfig(mean=(0.0, 1e299, 0.0)), "video.mean"),
        (lambda: ModelConfig(audio=AudioConfig(frames=2**16, patch_frames=1), encoder=TransformerConfig(width=16_384)), "tokens"),
    ],
)
def test_sizes_that_no_model_has_are_refused_at_birth(build, words):
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("values", [[], 3, {"class_names": {"x": 1}}, {"class_names": 1e308}, {"video": {"std": -1}}, {"audio": []}])
def test_a_config_of_the_wrong_kinds_is_told_and_does_not_trip_the_reader(values):
    with pytest.raises(ValueError, match="This is no ModelConfig"):
        from_dict(ModelConfig, values)


TEXTS = {
    "digits": b'{"seed": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 100_000,
    "latin": b'{"a": "\xe9"}',
    "utf16": '{"a": 1}'.encode("utf-16"),
    "mark": b"\xef\xbb\xbf{}",
    "list": b"[]",
    "empty": b"",
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_json_file_that_is_none_is_named_wherever_it_is_read(tmp_path, what):
    model, run = MAViL(CONFIG), tmp_path / "run"
    optimiser = make_optimiser(model, CONFIG.train)
    save_model(model, run / "model")
    save_checkpoint(run / "checkpoints", model, optimiser, {"step": 1})
    (run / "config.json").write_bytes(TEXTS[what])
    (run / "checkpoints" / "step-0000001" / "state.json").write_bytes(TEXTS[what])
    with pytest.raises(ValueError, match=r"config\.json .*(cannot be read|holds)"):
        stored_run(run)
    with pytest.raises(ValueError, match=r"state\.json .*(cannot be read|holds)"):
        load_checkpoint(run / "checkpoints", model, optimiser)
    with pytest.raises(ValueError, match=r"config\.json (cannot be read|holds)"):
        starting_config(str(run))
    (run / "model" / "config.json").write_bytes(TEXTS[what])
    with pytest.raises(ValueError, match=r"config\.json (cannot be read|holds)"):
        MAViL.from_pretrained(run)


# ------------------------------------------------------------------------------------------------------------------ checkpoints


def spoil(path: Path, name: str, value: float) -> None:
    tensors = load_file(path)
    tensors[name].view(-1)[0] = value
    save_file(tensors, path)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    save_model(MAViL(CONFIG), tmp_path / "m")
    spoil(tmp_path / "m" / "model.safetensors", "video_decoder.predict.weight", value)
    with pytest.raises(ValueError, match=r"video_decoder\.predict\.weight in .* holds NaN or infinity"):
        MAViL.from_pretrained(tmp_path / "m")


def test_a_config_that_claims_a_giant_is_compared_with_the_file_before_anything_is_made(tmp_path):
    save_model(MAViL(CONFIG), tmp_path / "m")
    values = json.loads((tmp_path / "m" / "config.json").read_text())
    values["encoder"] |= {"width": 32_768, "heads": 2, "depth": 2}  # 50 GB
    (tmp_path / "m" / "config.json").write_text(json.dumps(values))
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"cannot be read: .* has shape"):
        MAViL.from_pretrained(tmp_path / "m")
    assert time.monotonic() - began < 10


@pytest.fixture
def saved(tmp_path) -> tuple[Path, MAViL, torch.optim.Optimizer]:
    """A checkpoint after one step; its folder, and what it is of."""
    torch.manual_seed(0)
    model = MAViL(CONFIG)
    optimiser = make_optimiser(model, CONFIG.train)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    save_checkpoint(tmp_path, model, optimiser, {"step": 1})
    return tmp_path / "step-0000001", model, optimiser


def test_moments_that_are_no_numbers_or_not_of_these_weights_are_refused(saved, tmp_path):
    folder, model, optimiser = saved
    path = folder / "optimiser.safetensors"
    whole = path.read_bytes()
    spoil(path, "3.exp_avg", float("nan"))
    with pytest.raises(ValueError, match=r"3\.exp_avg in .*NaN or infinity"):
        load_checkpoint(tmp_path, model, optimiser)
    for change in (
        lambda t: t.update({"3.exp_avg": torch.zeros(5)}),
        lambda t: t.pop("3.exp_avg"),
        lambda t: t.update({"9999.step": torch.zeros(())}),
        lambda t: t.update({"nothing": torch.zeros(1)}),
    ):
        path.write_bytes(whole)
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        with pytest.raises(ValueError, match="step-0000001 cannot be read"):
            load_checkpoint(tmp_path, model, optimiser)


@pytest.mark.parametrize(
    "change",
    [
        {"params": [0]},
        {"params": [[1, 2]]},
        {"betas": [0.9, float("nan")]},
        {"lr": float("nan")},
        {"lr": "fast"},
        {"weight_decay": -1.0},
    ],
    ids=str,
)
def test_an_optimiser_of_other_groups_or_numbers_is_refused(saved, tmp_path, change):
    folder, model, optimiser = saved
    state = json.loads((folder / "state.json").read_text())
    for groups in ([state["param_groups"][0] | change, *state["param_groups"][1:]], [3], "x", []):
        (folder / "state.json").write_text(json.dumps(state | {"param_groups": groups}))
        with pytest.raises(ValueError, match="step-0000001 cannot be read"):
            load_checkpoint(tmp_path, model, optimiser)


def test_a_stored_progress_of_other_kinds_is_refused(tmp_path):
    model, fabric = MAViL(CONFIG), make_fabric(CONFIG)
    optimiser = make_optimiser(model, CONFIG.train)
    state = {"step": 3, "drawn": 96, "seconds": 1.5, "skipped": {"a.mp4": "silent"}, "held_out": None}
    save_checkpoint(tmp_path / "checkpoints", model, optimiser, state)
    assert _go_on(tmp_path, CONFIG, model, optimiser, fabric) == Progress(**state)
    path = tmp_path / "checkpoints" / "step-0000003" / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"drawn": "many"}))
    with pytest.raises(ValueError, match="This is no Progress: .*drawn"):
        _go_on(tmp_path, CONFIG, model, optimiser, fabric)


def test_a_name_too_long_for_a_file_is_no_model():
    with pytest.raises(ValueError, match="cannot be a model's folder"):
        MAViL.from_pretrained("x" * 5000)


# ---------------------------------------------------------------------------------------------------------------- shards, lists

CLIP = {"key": "000000000", "name": "a.mp4", "seconds": 1.0, "samples": 16_000, "heard": [0, 16_000], "first_picture": 0}
CLIP |= {"height": 8, "width": 8, "offset": 0, "sizes": [10, 32_044, 10]}


@pytest.mark.parametrize("value", [float("inf"), ["a", 5], {"x": 1}, None, True])
def test_a_label_in_an_index_that_is_no_label_is_refused(value):
    assert StoredClip(**CLIP, labels={"size": float("nan"), "class": "wood", "all": ["a"], "count": 3})
    with pytest.raises(ShardError, match="label 'size' of clip 000000000 is no text, number or list"):
        StoredClip(**CLIP, labels={"size": value})


def test_a_column_of_numbers_and_texts_is_refused(tmp_path, monkeypatch):
    clips = [StoredClip(**CLIP, labels={"size": value}) for value in (1.5, "big")]
    monkeypatch.setattr("mavil_edu.data.shards.read_clips", lambda folder, shard: clips)
    shards = object.__new__(Shards)
    shards.folder, shards._keep, shards.index = tmp_path, [0, 1], SimpleNamespace(shards=[None])
    with pytest.raises(ShardError, match="'size' is text of some clips and numbers of others"):
        _ = shards.labels


def test_an_index_with_a_number_without_end_is_told(tmp_path):
    (tmp_path / "index.json").write_bytes(TEXTS["digits"])
    with pytest.raises(ShardError, match=r"index\.json is no JSON"):
        Shards(tmp_path, TINY, CONFIG.train.augment)
    (tmp_path / "index.json").write_text(json.dumps({"version": "v" * 5000}))
    with pytest.raises(ShardError, match="is of version 'vvv") as caught:
        Shards(tmp_path, TINY, CONFIG.train.augment)
    assert len(str(caught.value)) < 500


def test_what_is_wrong_in_a_list_is_told_in_a_sentence_however_long_the_field(tmp_path):
    (tmp_path / "list.csv").write_text(f"abcdefghijk,30,dog,{'x' * 100_000}\n")
    with pytest.raises(ValueError, match="the split is 'xxx") as caught:
        read_vggsound(tmp_path / "list.csv")
    assert len(str(caught.value)) < 500


def test_the_command_line_tells_an_error_of_the_system_in_words(capsys):
    assert cli.main(["inspect", "x" * 5000]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: xxx") and ": File name too long." in said and "Errno" not in said and len(said) < 400


def test_a_name_in_labels_csv_that_is_too_long_for_a_file_is_not_there(tmp_path):
    files = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    (tmp_path / "labels.csv").write_text(f"clip,material\na.mp4,wood\nb.mp4,wood\n{'x' * 5000},wood\n")
    labels, note = folder_labels(tmp_path, files)
    assert labels == {"material": ["wood", "wood"]} and "3 of the 3 clips that it names are not there" in note


def test_the_smallest_config_of_a_model_without_decoders_still_loads(tmp_path):
    """Shapes are compared without drawing a weight, also of models that lack parts."""
    model = MAViL(replace(TINY, decoder=None, projection=None, fusion_kind="none", classes=3))
    save_model(model, tmp_path / "m", dtype=torch.float16)
    copytree(tmp_path / "m", tmp_path / "n")
    assert MAViL.from_pretrained(tmp_path / "n").config == model.config
