"""Probes find what was planted and nothing else; collapse is told from spread; the scorecard holds each number beside its controls."""

import json
import math
from pathlib import Path

import pytest
import torch

from mavil_edu import MAViL, tiny
from mavil_edu.cli import main
from mavil_edu.commands import probing
from mavil_edu.data.batch import evaluation_batch
from mavil_edu.data.world import World
from mavil_edu.probes import ProbeError, effective_rank, embedding_std, features, probe, raw_features, untrained
from mavil_edu.scorecard import CONTROL, OURS, RAW, UNTRAINED, print_table, probe_table, scorecard, table_rows

CONFIG = tiny()


def planted(n: int, values: torch.Tensor, seed: int, strength: float = 3.0) -> torch.Tensor:
    """Noise of 20 dimensions, in two of which the values stand."""
    x = torch.randn(n, 20, generator=torch.Generator().manual_seed(seed))
    x[:, 0] += strength * values
    x[:, 1] -= strength * values
    return 5 + 10 * x  # neither centred nor scaled: the probe has to see to that


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_a_probe_finds_a_planted_class_and_is_at_chance_without_it(method):
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (600,), generator=generator)
    names = [("drum", "bell", "harp")[i] for i in classes]
    x, noise = planted(600, classes.float(), 1), torch.randn(600, 20, generator=generator)
    found = probe(x[:400], names[:400], x[400:], names[400:], method)
    assert found.value > (0.9 if method == "linear" else 0.75) and found.metric == "accuracy" and found.clips == 200
    assert found.chance < 0.45
    blind = probe(noise[:400], names[:400], noise[400:], names[400:], method)
    assert abs(blind.value - 1 / 3) < 4 * blind.error
    assert blind.error == pytest.approx(math.sqrt(blind.value * (1 - blind.value) / 200))


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_a_probe_finds_a_planted_quantity_and_none_in_noise(method):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(600, generator=generator)
    x, noise = planted(600, values, 1, 20.0), torch.randn(600, 20, generator=generator)
    found = probe(x[:400], values[:400].tolist(), x[400:], values[400:].tolist(), method)
    assert found.value > 0.75 and found.metric == "r2" and found.chance == 0 and 0 < found.error < 0.1
    assert probe(noise[:400], values[:400].tolist(), noise[400:], values[400:].tolist(), method).value < 0.05


def test_a_probe_finds_several_classes_at_once():
    flags = torch.rand(400, 2, generator=torch.Generator().manual_seed(0)) < 0.3
    values = [tuple(n for n, f in zip(("dog", "rain"), row, strict=True) if f) or ("wind",) for row in flags]
    x = planted(400, flags[:, 0].float(), 1) + 30 * torch.nn.functional.pad(flags[:, 1:].float(), (5, 14))
    found = probe(x[:300], values[:300], x[300:], values[300:])
    assert found.metric == "map" and found.value > 0.8 and found.chance < 0.5
    noise = torch.randn(400, 20)
    assert probe(noise[:300], values[:300], noise[300:], values[300:]).value < 0.7


@pytest.mark.parametrize("method", ["linear", "knn"])
def test_of_several_classes_a_single_one_that_training_and_test_clips_share_is_asked_for_alone(method):
    x = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    dog = (x[:, 0] > 0).tolist()
    train = [("dog", "cat") if barks else ("cat",) for barks in dog[:200]]
    test = [("dog", "rain") if barks else ("rain",) for barks in dog[200:]]
    found = probe(x[:200], train, x[200:], test, method)
    assert found.metric == "map" and found.value > found.chance + 0.3 and found.chance == pytest.approx(sum(dog[200:]) / 100)


def test_labels_of_test_clips_never_help():
    """With training labels in disorder, a probe is at chance, however well the test labels fit the features."""
    classes = torch.randint(0, 2, (600,), generator=torch.Generator().manual_seed(3))
    x, names = planted(600, classes.float(), 1), ["ab"[i] for i in classes]
    disorder = torch.randperm(400, generator=torch.Generator().manual_seed(4))
    found = probe(x[:400], [names[i] for i in disorder], x[400:], names[400:])
    assert abs(found.value - 0.5) < 0.15


def test_test_clips_of_no_known_value_change_nothing():
    classes = torch.randint(0, 2, (300,), generator=torch.Generator().manual_seed(5))
    x, names = planted(300, classes.float(), 1), ["ab"[i] for i in classes]
    said = probe(x[:200], names[:200], torch.cat([x[200:], 1e6 * torch.ones(50, 20)]), names[200:] + [""] * 50)
    assert said == probe(x[:200], names[:200], x[200:], names[200:])


def test_what_cannot_be_asked_is_said_in_a_sentence():
    x = torch.randn(30, 4)
    for values, sentence in (
        (["a"] * 30, "two classes"),
        ([1.0] * 30, "same value"),
        (["a"] * 15 + [1.0] * 15, "one kind of value"),
        ([""] * 29 + ["a"], "have a value"),
    ):
        with pytest.raises(ProbeError, match=sentence):
            probe(x[:20], values[:20], x[20:], values[20:])
    rare = probe(x[:20], ["a"] * 19 + ["b"], x[20:], ["a"] * 10)
    assert rare.chance == 1.0, "a class of one training clip is fitted without cross-validation"


def test_a_label_too_few_is_said_and_not_taken_for_the_next_clips():
    x, values = torch.randn(30, 4), ["a", "b"] * 15
    with pytest.raises(ProbeError, match="There are 19 labels for 20 training clips; give one for each"):
        probe(x[:20], values[:19], x[20:], values[20:])
    with pytest.raises(ProbeError, match="There are 11 labels for 10 test clips"):
        probe(x[:20], values[:20], x[20:], values[19:])


def test_a_probe_that_does_not_converge_says_so(monkeypatch):
    import sklearn.linear_model

    class Impatient(sklearn.linear_model.LogisticRegression):
        def __init__(self, C=1.0, max_iter=1):  # noqa: N803
            super().__init__(C=C, max_iter=1)

    monkeypatch.setattr(sklearn.linear_model, "LogisticRegression", Impatient)
    classes = torch.randint(0, 3, (200,), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ProbeError, match="did not converge"):
        probe(torch.randn(200, 20), [str(int(i)) for i in classes], torch.randn(50, 20), ["1"] * 25 + ["2"] * 25)


def test_collapse_is_told_from_spread():
    generator = torch.Generator().manual_seed(0)
    line = torch.randn(500, 1, generator=generator) * torch.randn(1, 16, generator=generator)
    wide = torch.randn(5000, 16, generator=generator)
    assert effective_rank(torch.ones(50, 16)) == 0 and embedding_std(torch.ones(50, 16)) == pytest.approx(0, abs=1e-9)
    assert effective_rank(line + 7) == pytest.approx(1, abs=0.01)
    assert effective_rank(wide) == pytest.approx(16, abs=0.1) and embedding_std(wide) == pytest.approx(1, abs=0.02)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(1.0), "two centred points lie on a line"


@pytest.fixture(scope="module")
def worlds():
    """Fitted and asked clips: batches and labels."""
    made = [World(n, seed, CONFIG.model, CONFIG.train.augment, quiet=True) for n, seed in ((150, 41), (60, 42))]
    return [(evaluation_batch(world)[0], world.labels) for world in made]


class OnMps(torch.Tensor):
    """Behaves as a tensor on MPS does where numbers of 64 bits are asked for."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("measure", [effective_rank, embedding_std])
def test_collapse_is_measured_of_embeddings_on_a_device_without_float64(measure):
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    assert measure(x.as_subclass(OnMps)) == measure(x) > 0


def test_features_are_the_embeddings_and_raw_features_need_no_model(worlds):
    batch, _ = worlds[1]
    model = MAViL.from_pretrained("tiny")
    found = features(model, batch)
    assert found["audio"].shape == (60, 96) and found["fused"].shape == (60, 192)
    raw = raw_features(batch, CONFIG.model)
    assert raw["audio"].shape == (60, 128) and raw["video"].shape == (60, 192) and raw["audio, mean and std"].shape == (60, 256)
    again = torch.cat([features(model, type(batch)(*(f[i : i + 30] for f in batch)))["fused"] for i in (0, 30)])
    assert torch.allclose(found["fused"], again, atol=1e-5)


def test_the_untrained_model_is_the_same_each_time_and_leaves_randomness_alone():
    state = torch.random.get_rng_state()
    one, two = untrained(CONFIG.model), untrained(CONFIG.model)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(map(torch.equal, one.parameters(), two.parameters()))
    assert not torch.equal(one.audio_head[1].weight, untrained(CONFIG.model, 1).audio_head[1].weight)


def test_the_scorecard_holds_each_number_beside_its_controls(worlds, monkeypatch, capsys):
    model = MAViL.from_pretrained("tiny")
    card = scorecard(
        model, *worlds[0], *worlds[1], control=untrained(CONFIG.model, 5), columns=["material", "size"], class_columns=["material"]
    )
    card = json.loads(json.dumps(card))
    assert {(p["column"], p["modality"]) for p in card["probes"]} == {
        (c, m) for c in ("material", "size") for m in ("audio", "video", "fused")
    }
    by_name = {(p["column"], p["modality"]): p for p in card["probes"]}
    scores = by_name["material", "audio"]["scores"]
    assert scores[OURS]["value"] > scores[UNTRAINED]["value"] and {OURS, UNTRAINED, RAW, CONTROL} <= set(scores)
    heading, rows = table_rows(card)
    assert all(len(row) == len(heading) for row in rows)
    assert any(row[0].startswith("material from audio") for row in rows) and any("by material" in row[0] for row in rows)
    for width in (80, 100, 200):  # no column is lost, nor its numbers, however narrow the terminal
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(card)
        told = capsys.readouterr().out
        ends = {line.split()[-1] for line in told.splitlines() if line.strip()}
        assert max(map(len, told.splitlines())) <= width and {"chance", *(row[-1] for row in rows if row[-1])} <= ends


def test_columns_that_cannot_be_probed_are_left_out_and_told(worlds):
    (batch, labels), (asked, asked_labels) = worlds
    sets = {RAW: (raw_features(batch, CONFIG.model), raw_features(asked, CONFIG.model))}
    same = {"material": labels["material"], "place": ["here"] * 150}, {"material": asked_labels["material"], "place": ["here"] * 60}
    rows, left_out = probe_table(sets, *same)
    assert {row.column for row in rows} == {"material"} and "two classes" in left_out["place"]
    with pytest.raises(ProbeError, match="no column 'colour'"):
        probe_table(sets, *same, columns=["colour"])


@pytest.mark.parametrize("data", ["world", "data_samples"])
def test_a_column_that_is_not_there_is_refused_before_a_clip_is_read(data, monkeypatch, capsys):
    monkeypatch.setattr(probing, "_read", lambda *_: pytest.fail("a clip was read"))
    monkeypatch.chdir(Path(__file__).parent.parent)
    assert main(["probe", "--checkpoint", "tiny", "--data", data, "--column", "material", "colour"]) == 2
    assert "There is no column 'colour'; these clips have material, size" in capsys.readouterr().err


def test_commands_probe_and_retrieve(tmp_path, capsys):
    clips = tmp_path / "clips"
    assert main(["world", "--clips", "24", "--seed", "8", "--size", "32", "--out", str(clips)]) == 0
    capsys.readouterr()
    assert main(["probe", "--checkpoint", "tiny", "--data", str(clips), "--column", "size", "--method", "linear", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert {p["column"] for p in card["probes"]} == {"size"} and card["clips"] == {"fitted": 16, "held_out": 8}
    assert main(["retrieve", str(clips / "005.mp4"), "--data", str(clips), "--top", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(found[way]) for way in ("audio_to_video", "video_to_audio")] == [2, 2]
    assert main(["retrieve", "--data", str(clips), "--by", "material"]) == 0
    assert "median rank" in (told := capsys.readouterr().out) and "mAP" in told
    for arguments, sentence in (
        (["probe", "--checkpoint", str(tmp_path / "none")], "none"),
        (["probe", "--checkpoint", "tiny", "--data", str(clips), "--column", "colour"], "no column 'colour'"),
        (["retrieve", "--data", str(clips), "--by", "colour"], "no label 'colour'"),
        (["retrieve", str(clips / "005.mp4"), "--data", str(clips), "--top", "0"], "one clip or more"),
    ):
        assert main(arguments) == 2
        assert sentence in capsys.readouterr().err


def test_av_mnist_is_probed_on_speakers_and_writers_never_fitted_on(shared_data, capsys):
    assert (
        main(["probe", "--checkpoint", "tiny", "--data", str(shared_data / "av_mnist"), "--column", "digit", "--method", "knn", "--json"])
        == 0
    )
    card = json.loads(capsys.readouterr().out)
    assert card["clips"] == {"fitted": 1500, "held_out": 1000}, "the train and the test split of the speaker protocol"
    assert card["probes"][1]["scores"][RAW]["value"] > 0.6, "digits are read from thumbnails"
