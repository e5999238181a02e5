"""Training that goes on from a trained model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mavil_edu import MAViL, cli
from mavil_edu.config import digits, tiny
from mavil_edu.start import start_from, starting_config
from mavil_edu.teacher import teachers_config

SAMPLES = Path(__file__).parent.parent / "data_samples"


@pytest.fixture(autouse=True)
def one_example(monkeypatch) -> None:
    monkeypatch.setattr("mavil_edu.run.EXAMPLES", 1)


def run(out: Path, *options) -> int:
    small = ["--config.train.batch", "8", "--config.train.save-every", "100", "--config.train.evaluate-every", "100"]
    return cli.main(["pretrain", "--data", str(SAMPLES), "--out", str(out), "--steps", "1", *small, *map(str, options)])


def test_a_run_begins_with_the_weights_it_starts_from(tmp_path):
    assert run(tmp_path / "on", "--start", "tiny", "--config.train.base-lr", 1e-12) == 0
    ours, theirs = (MAViL.from_pretrained(place).state_dict() for place in (tmp_path / "on", "tiny"))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    summary, stored = (json.loads((tmp_path / "on" / name).read_text()) for name in ("summary.json", "config.json"))
    assert stored["start"] == "tiny"
    assert run(tmp_path / "fresh", "--config.train.base-lr", 1e-12) == 0
    fresh = json.loads((tmp_path / "fresh" / "summary.json").read_text())
    for side in ("audio", "video"):
        assert summary[side]["masked_mse"] < 0.7 * fresh[side]["masked_mse"]


def test_a_run_that_is_resumed_goes_on_from_its_own_weights(tmp_path):
    assert run(tmp_path / "run", "--start", "tiny") == 0
    learnt = MAViL.from_pretrained(tmp_path / "run").state_dict()
    assert run(tmp_path / "run", "--start", "tiny", "--resume") == 0
    again = MAViL.from_pretrained(tmp_path / "run").state_dict()
    assert all(torch.equal(learnt[name], again[name]) for name in learnt)
    assert any(not torch.equal(learnt[name], value) for name, value in MAViL.from_pretrained("tiny").state_dict().items())


def test_without_a_preset_a_run_has_the_sizes_of_what_it_starts_from(tmp_path):
    assert starting_config("tiny-squares").model == MAViL.from_pretrained("tiny-squares").config
    config = replace(digits(), train=replace(digits().train, steps=7))
    MAViL(config).save_pretrained(tmp_path / "run" / "model")
    assert starting_config(str(tmp_path / "run")).train.steps == tiny().train.steps, "a model alone tells nothing of its training"


def test_decoders_that_are_missing_or_predict_something_else_begin_fresh(tmp_path):
    model = MAViL.from_pretrained("tiny")
    model.save_pretrained(tmp_path / "bare", decoders=False)
    MAViL(replace(model.config, target="teacher", target_width=96, predict_statistics=False)).save_pretrained(tmp_path / "student")
    for place, kept in ((tmp_path / "bare", "audio_encoder"), (tmp_path / "student", "audio_decoder.blocks")):
        config = starting_config(str(place))
        assert config.model.target == "normalised" and config.model.decoder is not None
        fresh = start_from(MAViL(config.model), str(place))
        assert fresh and all(name.startswith(("audio_decoder", "video_decoder")) for name in fresh)
        assert not any(name.startswith(kept) for name in fresh)


def test_a_fine_tuned_model_starts_a_run_and_teaches_one_without_its_classifier(tmp_path):
    model, named = MAViL.from_pretrained("tiny"), {"class_names": ("dog", "cat", "rain"), "multi_label": True, "classes_from": "audio"}
    MAViL(replace(model.config, decoder=None, projection=None, predict_statistics=False, classes=3, **named)).save_pretrained(
        tmp_path / "m"
    )
    tuned = str(tmp_path / "m")
    for config in (starting_config(tuned), teachers_config(tuned)):
        assert (config.model.classes, config.model.class_names, config.model.multi_label) == (None, (), False)
        assert config.model.decoder is not None and MAViL(config.model).classifier is None
    fresh = start_from(MAViL(starting_config(tuned).model), tuned)
    assert all(name.startswith(("audio_decoder", "video_decoder")) for name in fresh), "all else comes from the fine-tuned model"


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, capsys):
    assert run(tmp_path / "run", "--start", "tiny", "--preset", "digits") == 2
    assert run(tmp_path / "run", "--start", "tiny", "--teacher", "tiny") == 2
    assert run(tmp_path / "run", "--start", tmp_path / "nothing") == 2
    told = capsys.readouterr().err
    assert "does not fit this run" in told and "not both" in told and "nothing" in told and "Traceback" not in told
    assert not (tmp_path / "run" / "config.json").exists()
