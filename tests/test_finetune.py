"""Fine-tuning: what learns and how fast, what is hidden and mixed, what stands beside its numbers, and what is refused."""

import csv
import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision
from torch import nn

from mavil_edu import MAViL, cli, tiny
from mavil_edu.classification import (
    confusion,
    confusion_picture,
    loss_of,
    metrics,
    probabilities,
    trivial_answers,
    write_predictions,
)
from mavil_edu.config import AudioConfig, ModelConfig, TransformerConfig, VideoConfig
from mavil_edu.data.batch import Batch, Sample, Skipped
from mavil_edu.data.labelled import Asked, Part, Task, asked, choose_column, open_task, thinned
from mavil_edu.finetune import finetune, score, start
from mavil_edu.finetune_run import default_source, finetune_on, with_steps
from mavil_edu.layerwise import layer_number, make_optimiser, set_drop_path
from mavil_edu.masking import visible_places
from mavil_edu.mavil import Masks
from mavil_edu.mixing import Mixed, augmentation_masks, draw_mixing, inputs_of
from mavil_edu.recipe import FinetuneConfig, paper_recipe
from mavil_edu.released import export_released, load_released
from mavil_edu.transformer import Block, drop_path

SIZES = ModelConfig(
    audio=AudioConfig(seconds=0.32, frames=32, patch_frames=8, patch_bins=32),
    video=VideoConfig(seconds=0.32, frames=2, height=16, width=16, patch_height=8, patch_width=8),
    encoder=TransformerConfig(width=24, depth=2, heads=2),
    decoder=TransformerConfig(width=16, depth=1, heads=2),
    projection=16,
)
PITCHES = {"low": 300.0, "mid": 900.0, "high": 2700.0}


class Tones:
    """Clips whose class is their pitch and their colour; every seventh gives no sample where `broken`."""

    def __init__(self, n: int, broken: bool = False, several: bool = False):
        self.n, self.broken = n, broken
        names = [list(PITCHES)[i % 3] for i in range(n)]
        self.labels = {"tone": [(name, "sound") if i % 2 else (name,) for i, name in enumerate(names)] if several else names}

    def __len__(self):
        return self.n

    def name(self, index):
        return f"tone {index}"

    def sample(self, index, generator):
        if self.broken and index % 7 == 0:
            return Skipped(self.name(index), "broken")
        kind = index % 3
        time = torch.arange(SIZES.audio.samples) / 16_000
        waveform = 0.3 * torch.sin(2 * math.pi * (list(PITCHES.values())[kind] + index) * time)
        frames = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
        frames[..., kind] = 200
        return Sample(waveform, torch.tensor([0, len(waveform)]), frames, torch.ones(2, dtype=torch.bool))


def task_of(clips: Tones, trained: int = 30, batch: int = 12) -> Task:
    values = clips.labels["tone"]
    names = sorted({name for value in values for name in ((value,) if isinstance(value, str) else value)})
    numbers = list(range(trained)) * max(1, batch // trained)
    third = (len(clips) - trained) // 2
    return Task(
        column="tone", classes=names, multi_label=isinstance(values[0], tuple),
        training=Part(clips, numbers, "tone"), training_values=values[:trained],
        validation=asked(clips, list(range(trained, trained + third)), "tone"),
        test=asked(clips, list(range(trained + third, len(clips))), "tone"),
        modalities=("audio", "video"), fingerprint="made",
    )  # fmt: skip


def quick(steps: int = 25, **changes) -> FinetuneConfig:
    base = FinetuneConfig()
    plain = replace(base.train.augment, magnitude=False, crop=(1.0, 1.0))
    return replace(base, train=replace(base.train, steps=steps, batch=12, base_lr=0.1, evaluate_every=10, augment=plain), **changes)


@pytest.fixture(scope="module")
def pretrained() -> MAViL:
    torch.manual_seed(3)
    return MAViL(SIZES).eval()


def inputs(rows: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"audio": torch.randn(rows, 1, 32, 128, generator=generator), "video": torch.randn(rows, 3, 2, 16, 16, generator=generator)}


# The model


@pytest.mark.parametrize("source", ["both", "audio", "video"])
def test_the_head_is_a_norm_and_a_linear_layer_on_the_mean_patch_tokens_of_what_it_reads(pretrained, source):
    model = start(pretrained, task_of(Tones(60)), source, quick(), "fine-tuned").eval()
    given = inputs()
    encoded = model.encode(**given)
    pooled = {
        "both": torch.cat([encoded.fused_audio_tokens.mean(1), encoded.fused_video_tokens.mean(1)], dim=1),
        "audio": encoded.audio_embedding,
        "video": encoded.video_embedding,
    }[source]
    assert [type(part) for part in model.classifier] == [nn.LayerNorm, nn.Linear]
    assert torch.allclose(model.classify(**given), model.classifier(pooled), atol=1e-6)
    if source != "both":
        assert torch.equal(model.classify(**{source: given[source]}), model.classify(**given)), "the other input is not read"


def test_the_pre_trained_part_is_kept_and_its_decoders_and_projection_heads_are_dropped(pretrained):
    model = start(pretrained, task_of(Tones(60)), "both", quick(added_fusion=1), "fine-tuned")
    own, old = model.state_dict(), pretrained.state_dict()
    shared = [name for name in own if name in old]
    assert all(torch.equal(own[name], old[name]) for name in shared)
    assert {name.split(".")[0] for name in set(old) - set(own)} == {"audio_decoder", "video_decoder", "audio_head", "video_head"}
    assert {name.split(".")[0] for name in set(own) - set(old)} == {"classifier", "fusion"}, "one fresh block of fusion, as was released"
    assert model.config.fusion_depth == 3 and model.config.class_names == ("high", "low", "mid")


def test_from_scratch_shares_the_sizes_and_no_learnt_weight_and_the_seed_decides_it(pretrained):
    task = task_of(Tones(60))
    fresh, again, other = (start(pretrained, task, "both", quick(), "from scratch", seed) for seed in (1, 1, 2))
    name = "audio_encoder.transformer.blocks.0.attn.qkv.weight"
    assert torch.equal(fresh.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(fresh.state_dict()[name], other.state_dict()[name])
    assert not torch.equal(fresh.state_dict()[name], pretrained.state_dict()[name])


def test_a_head_on_one_modality_is_no_part_of_the_released_layout_and_one_on_both_is(pretrained, tmp_path):
    task = task_of(Tones(60))
    both = start(pretrained, task, "both", quick(), "fine-tuned").eval()
    export_released(both, tmp_path / "both.pth")
    there = load_released(tmp_path / "both.pth", heads=2, audio_grid=SIZES.audio.grid, video_grid=SIZES.video.grid)
    assert torch.allclose(there.classify(**inputs()), both.classify(**inputs()), atol=1e-5)
    heard = start(pretrained, task, "audio", quick(), "fine-tuned")
    assert "classifier" in export_released(heard, tmp_path / "audio.pth").left_out
    assert load_released(tmp_path / "audio.pth", heads=2, audio_grid=SIZES.audio.grid, video_grid=SIZES.video.grid).config.classes is None


def test_a_classifier_asks_for_what_it_reads(pretrained):
    model = start(pretrained, task_of(Tones(60)), "video", quick(), "fine-tuned")
    with pytest.raises(ValueError, match="pictures alone: give video"):
        model.classify(audio=inputs()["audio"])
    with pytest.raises(ValueError, match="no classifier"):
        pretrained.classify(**inputs())


# The recipe


def test_drop_path_changes_nothing_outside_training_and_nothing_at_0():
    x = torch.randn(4, 3, 2)
    assert drop_path(x, 0.0, True) is x and drop_path(x, 0.5, False) is x


def test_drop_path_leaves_a_share_of_the_clips_out_and_keeps_the_mean():
    torch.manual_seed(0)
    out = drop_path(torch.ones(20_000, 2, 2), 0.25, True)
    assert sorted(set(out.flatten().tolist())) == [0.0, pytest.approx(1 / 0.75)]
    assert float(out.mean()) == pytest.approx(1, abs=0.02)
    assert bool((out == out[:, :1, :1]).all()), "a clip's branch goes as a whole"


def test_a_forward_pass_is_the_same_bit_for_bit_with_drop_path_in_evaluation(pretrained):
    before = pretrained.encode(**inputs()).fused_audio_tokens
    model = start(pretrained, task_of(Tones(60)), "both", quick(), "fine-tuned").eval()
    set_drop_path(model, 0.5)
    assert torch.equal(model.encode(**inputs()).fused_audio_tokens, before)
    model.train()
    assert not torch.equal(model.encode(**inputs()).fused_audio_tokens, before)


def test_drop_path_grows_from_0_in_the_first_block_to_its_share_in_the_last(pretrained):
    model = start(pretrained, task_of(Tones(60)), "both", quick(), "fine-tuned")
    set_drop_path(model, 0.3)
    shares = {name: block.drop_path for name, block in model.named_modules() if isinstance(block, Block)}
    found = [shares[f"{part}.transformer.blocks.{i}"] for part in ("audio_encoder", "fusion") for i in (0, 1)]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3])
    assert shares["video_encoder.transformer.blocks.1"] == pytest.approx(0.1)


def test_each_layer_learns_slower_than_the_one_above_it_by_the_decay(pretrained):
    model = start(pretrained, task_of(Tones(60)), "both", quick(), "fine-tuned")
    optimiser = make_optimiser(model, quick(layer_decay=0.5), "fine-tuned")
    scales = {id(p): group["scale"] for group in optimiser.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    order = ["audio_encoder.patch_embed.weight", "audio_encoder.transformer.blocks.0.mlp.fc1.weight"]
    order += ["video_encoder.transformer.blocks.1.mlp.fc1.weight", "fusion.transformer.blocks.0.mlp.fc1.weight"]
    order += ["fusion.transformer.blocks.1.mlp.fc1.weight", "classifier.1.weight"]
    assert [scales[id(named[name])] for name in order] == pytest.approx([0.5**k for k in (5, 4, 3, 2, 1, 0)])
    assert [layer_number(name, model.config) for name in order] == [0, 1, 2, 3, 4, 5]
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    assert decays[id(named["classifier.1.weight"])] > 0 == decays[id(named["classifier.1.bias"])]
    from_scratch = make_optimiser(model, quick(layer_decay=0.5), "from scratch")
    assert {group["scale"] for group in from_scratch.param_groups} == {1.0}


@pytest.mark.parametrize(
    ("source", "arm", "learning"),
    [
        ("both", "fine-tuned", {"audio_encoder", "video_encoder", "fusion", "classifier"}),
        ("audio", "fine-tuned", {"audio_encoder", "classifier"}),
        ("both", "frozen", {"classifier"}),
    ],
)
def test_what_learns_is_what_lies_on_the_way_to_the_head_and_frozen_the_head_alone(pretrained, tmp_path, source, arm, learning):
    task, recipe = task_of(Tones(60)), quick(steps=4)
    before = start(pretrained, task, source, recipe, arm, seed=0).state_dict()
    after = finetune(pretrained, task, recipe, tmp_path, classes_from=source, arm=arm).model.state_dict()
    assert {name.split(".")[0] for name in after if not torch.equal(before[name], after[name])} == learning


def test_masks_hide_whole_columns_rows_and_places_and_hidden_tokens_cannot_reach_the_head(pretrained):
    generator = torch.Generator().manual_seed(0)
    masks = augmentation_masks(3, SIZES, quick(mask_time=0.25, mask_frequency=0.25, mask_tubes=0.25), generator)
    grid = masks.audio.view(3, *SIZES.audio.grid)
    assert bool(((grid.all(dim=2)).sum(dim=1) == 1).all()), "one of four time columns"
    assert bool(((grid.all(dim=1)).sum(dim=1) == 1).all()), "one of four frequency rows"
    assert bool((masks.audio.sum(dim=1) == 7).all())
    model = start(pretrained, task_of(Tones(60)), "audio", quick(), "fine-tuned").eval()
    given = inputs()["audio"]
    one = masks.audio[:1]
    hidden = next(i for i in range(16) if i not in visible_places(one)[0].tolist())
    t, f = divmod(hidden, SIZES.audio.grid[1])
    spoilt = given[:1].clone()
    spoilt[:, :, 8 * t : 8 * t + 8, 32 * f : 32 * f + 32] = 9.0
    assert torch.equal(model.classify(audio=given[:1], masks=Masks(one, None)), model.classify(audio=spoilt, masks=Masks(one, None)))
    assert not torch.equal(model.classify(audio=given[:1]), model.classify(audio=spoilt))


def test_no_mask_is_drawn_where_nothing_is_to_be_hidden():
    assert augmentation_masks(3, SIZES, quick(mask_time=0, mask_frequency=0, mask_tubes=0), torch.Generator()) == Masks(None, None)


def test_mixing_mixes_a_share_of_the_clips_labels_and_all_and_leaves_the_rest():
    mixed = draw_mixing(2000, quick(mixup=0.5), seed=0, step=3)
    changed = mixed.share < 1
    assert float(changed.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert float(mixed.share[changed].mean()) == pytest.approx(0.5, abs=0.02) and bool((mixed.share > 0).all())
    assert sorted(mixed.partner.tolist()) == list(range(2000))
    again, other = draw_mixing(2000, quick(), 0, 3), draw_mixing(2000, quick(), 0, 4)
    assert torch.equal(mixed.share, again.share) and not torch.equal(mixed.share, other.share)
    assert not torch.equal(draw_mixing(2000, quick(), -1, 3).share, again.share), "a seed below 0 is one as well"


def test_a_mixed_clip_is_heard_where_either_is_and_an_unmixed_one_is_itself():
    clips = Tones(2)
    one, two = clips.sample(0, None), clips.sample(1, None)
    batch = Batch(*(torch.stack(part) for part in zip(one, two, strict=True)))
    batch.waveform[0, 2000:], batch.heard[0, 1] = 0, 2000
    plain = inputs_of(batch, SIZES)
    mixed = inputs_of(batch, SIZES, Mixed(torch.tensor([1, 0]), torch.tensor([0.5, 1.0])))
    for name in ("audio", "video"):
        assert torch.equal(mixed[name][1], plain[name][1])
    assert torch.allclose(mixed["video"][0], (plain["video"][0] + plain["video"][1]) / 2, atol=1e-6)
    late = mixed["audio"][0, 0, 20:28]
    assert float((late - plain["audio"][0, 0, 20:28]).abs().mean()) > 0.1, "where only the partner sounds it is heard"


# Learning


@pytest.fixture(scope="module")
def trained(pretrained, tmp_path_factory):
    """A run on tones, and its folder."""
    run = tmp_path_factory.mktemp("runs") / "tones"
    summary = finetune_on(task_of(Tones(60, broken=True)), pretrained, quick(steps=40), run, seed=1)
    return run, summary


def test_tones_are_learnt_far_above_chance_and_the_summary_says_what_needs_no_learning(trained):
    run, summary = trained
    assert summary["test"]["accuracy"] > 0.9 and summary["test"]["map"] > 0.9
    assert summary["trivial"]["chance"] == pytest.approx(1 / 3) and 0.2 < summary["trivial"]["majority"] < 0.5
    assert set(summary["controls"]) == {"fitted", "asked", "raw features", "untrained encoder", "pre-trained encoder"}
    assert json.loads((run / "summary.json").read_text()) == summary
    assert summary["clips"]["trained"] == 30 and summary["clips"]["held_out"] == 13, "15 test clips, of which two are broken"
    assert {entry["path"] for entry in summary["clips"]["skipped"]} >= {"tone 0", "tone 49"}


def test_a_run_holds_predictions_pictures_with_sentences_and_curves_beside_their_trivial_answers(trained):
    run, summary = trained
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert len(rows) == 13 and {"clip", "label", "prediction", "score low"} <= set(rows[0])
    right = sum(row["label"] == row["prediction"] for row in rows) / 13
    assert right == pytest.approx(summary["test"]["accuracy"])
    assert all(sum(float(row[f"score {name}"]) for name in PITCHES) == pytest.approx(1, abs=1e-4) for row in rows)
    captions = json.loads((run / "figures" / "captions.json").read_text())
    assert set(captions) == {"curves.png", "confusion.png"} and "13 clips in 3 classes" in captions["confusion.png"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    looks = [line for line in lines if line.get("held_out")]
    assert looks[0]["step"] == 0 and looks[0]["loss"] == pytest.approx(math.log(3), abs=0.01), "at first all classes are scored alike"
    assert all("accuracy_trivial" in line and "loss_trivial" in line for line in looks)
    assert {"step", "loss", "loss_trivial", "lr"} <= set(lines[1])


def test_a_fine_tuned_model_comes_back_with_its_classes_and_the_same_scores(trained):
    run, summary = trained
    model = MAViL.from_pretrained(run)
    assert model.config.class_names == ("high", "low", "mid") and not model.config.multi_label
    clips = Tones(60)
    sample = clips.sample(52, None)
    batch = Batch(*(part[None] for part in sample))
    with torch.no_grad():
        said = probabilities(model.classify(**inputs_of(batch, model.config)), False)[0]
    stored = next(row for row in csv.DictReader((run / "predictions.csv").open()) if row["clip"] == "tone 52")
    for i, name in enumerate(model.config.class_names):
        assert float(said[i]) == pytest.approx(float(stored[f"score {name}"]), abs=1e-4)
    card = (run / "model" / "README.md").read_text()
    assert f"{100 * summary['test']['accuracy']:.1f} %" in card and "scores 3 classes" in card and "masked MSE" not in card
    model.save_pretrained(run.parent / "copy")
    assert MAViL.from_pretrained(run.parent / "copy").config == model.config


def test_several_classes_a_clip_are_learnt_with_sigmoids_and_scored_by_map(pretrained, tmp_path):
    summary = finetune_on(task_of(Tones(60, several=True)), pretrained, quick(steps=40, mixup=0.0), tmp_path / "run", with_controls=False)
    assert summary["metric"] == "map" and summary["loss"] == "bce" and "accuracy" not in summary["test"]
    assert summary["test"]["map"] > summary["trivial"]["map"] + 0.2
    assert len(summary["test"]["per_class_ap"]) == 4
    rows = list(csv.DictReader((tmp_path / "run" / "predictions.csv").open()))
    assert {row["label"] for row in rows} >= {"low", "mid | sound"}
    assert MAViL.from_pretrained(tmp_path / "run").config.multi_label
    result = finetune(pretrained, task_of(Tones(60)), quick(steps=2), tmp_path / "one", bce=True)
    assert result.model.config.multi_label, "trained with sigmoids, and to be used so"
    with pytest.raises(ValueError, match="several classes"):
        finetune(pretrained, task_of(Tones(60, several=True)), quick(), tmp_path, bce=False)


def test_the_weights_kept_are_those_of_the_best_look_and_training_ends_when_nothing_gets_better(pretrained, tmp_path):
    task = task_of(Tones(60))
    shuffled = replace(task.validation, values=task.validation.values[::-1])  # on these, more training does harm
    recipe = quick(steps=90, patience=2)
    recipe = replace(recipe, train=replace(recipe.train, evaluate_every=5))
    result = finetune(pretrained, replace(task, validation=shuffled), recipe, tmp_path)
    looks = [row for row in map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()) if row.get("held_out")]
    best = max(looks, key=lambda row: (row["accuracy"], -row["loss"]))
    assert result.steps < 90 and looks[-1]["step"] == result.steps, "stopped early"
    assert result.best["step"] == best["step"] < result.steps
    scored = score(result.model, shuffled, False)
    assert float(loss_of(scored.logits, task.targets(shuffled.values), False)) == pytest.approx(best["loss"], abs=1e-5)


def test_the_same_seed_gives_the_same_run_and_test_clips_do_not_matter_to_it(pretrained, tmp_path):
    def losses(where, task, seed):
        finetune(pretrained, task, quick(steps=6), tmp_path / where, seed=seed)
        return [json.loads(line)["loss"] for line in (tmp_path / where / "metrics.jsonl").read_text().splitlines()]

    task = task_of(Tones(60))
    blind = replace(task, test=Asked(None, [], [], []))  # whoever looked at it would fail
    first = losses("a", task, 0)
    assert losses("b", blind, 0) == first and losses("c", task, 1) != first


def test_how_often_validation_clips_are_looked_at_changes_nothing_of_what_is_learnt(pretrained, tmp_path):
    def losses(every):
        recipe = quick(steps=6, drop_path=0.5)
        recipe = replace(recipe, train=replace(recipe.train, evaluate_every=every))
        finetune(pretrained, task_of(Tones(60)), recipe, tmp_path / str(every))
        rows = map(json.loads, (tmp_path / str(every) / "metrics.jsonl").read_text().splitlines())
        return [row["loss"] for row in rows if not row.get("held_out")]

    assert losses(2) == losses(100)


def test_scoring_clips_draws_nothing_from_torchs_own_generator(pretrained):
    model, task = start(pretrained, task_of(Tones(60)), "both", quick(), "fine-tuned"), task_of(Tones(60))
    before = torch.get_rng_state()
    score(model, task.validation, False)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_model_that_cannot_be_scored_stays_in_training_mode(pretrained):
    model, task = start(pretrained, task_of(Tones(60)), "both", quick(), "fine-tuned").train(), task_of(Tones(60))
    with pytest.raises(AttributeError):
        score(model, replace(task.validation, windows=["no clips", "these"]), False)
    assert model.training


def test_a_long_clips_score_is_the_mean_over_its_windows(pretrained):
    model = start(pretrained, task_of(Tones(60)), "both", quick(), "fine-tuned").eval()
    nn.init.normal_(model.classifier[1].weight)
    clips = Tones(6)
    single = score(model, asked(clips, [0, 1], "tone"), False).scores
    both = score(model, Asked(Part(clips, [0, 1], "tone"), [0, 0], ["long"], ["low"]), False)
    assert both.places == [0] and torch.allclose(both.scores[0], single.mean(dim=0), atol=1e-6)
    assert not torch.allclose(single[0], single[1], atol=1e-3)


def test_an_interrupt_ends_after_a_step_and_leaves_no_half_written_file(pretrained, tmp_path, monkeypatch):
    task, run = task_of(Tones(60)), tmp_path / "run"
    clips, count = task.training.clips, 0
    draw = clips.sample

    def sample(index, generator):
        nonlocal count
        count += generator is not None
        if count == 30:
            signal.raise_signal(signal.SIGINT)
        return draw(index, generator)

    monkeypatch.setattr(clips, "sample", sample)
    with pytest.raises(KeyboardInterrupt, match="after step"):
        finetune_on(task, pretrained, quick(steps=50), run)
    assert {path.name for path in run.iterdir()} == {"config.json", "metrics.jsonl"}
    assert all(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    with pytest.raises(ValueError, match="holds other files already"):
        finetune_on(task, pretrained, quick(), run)


# Metrics


def test_metrics_are_right_on_a_table_made_by_hand():
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    target = torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    found = metrics(scores, target, False)
    assert found["accuracy"] == 0.5 and found["error"] == pytest.approx(0.25)
    # class 0 in the order of its scores: yes, no, yes, no -> (1 + 2/3) / 2; class 1: yes, no, yes, no; class 2 has no clip
    assert found["per_class_ap"] == [pytest.approx(5 / 6), pytest.approx(5 / 6), None] and found["map"] == pytest.approx(5 / 6)
    assert confusion(scores, target).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_trivial_answers_are_those_of_the_training_shares():
    training = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    asked_of = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    found = trivial_answers(training, asked_of, False, False)
    assert found["majority"] == 0.25 and found["chance"] == 0.5 and found["map"] == 0.5
    assert found["loss"] == pytest.approx(-(math.log(0.75) + 3 * math.log(0.25)) / 4)
    assert set(trivial_answers(training, asked_of, True, True)) == {"map", "loss"}


def test_the_confusion_picture_says_what_is_right_and_what_is_taken_for_what():
    said = confusion_picture(torch.tensor([[5, 1], [4, 2]]), ["cat", "dog"]).sentence
    assert "12 clips in 2 classes: 7 right" in said and "most frequent class: 6" in said and "4 times, 'dog' was taken for 'cat'" in said
    assert "taken for" not in confusion_picture(torch.eye(3).long(), ["a", "b", "c"]).sentence
    with pytest.raises(ValueError, match="square"):
        confusion_picture(torch.eye(3).long(), ["a", "b"])


def test_predictions_survive_names_with_commas_and_quotes(tmp_path):
    path, classes = tmp_path / "p.csv", ['say "a", or', "b"]
    write_predictions(path, ['x, "y"\n.mp4'], torch.tensor([[1.0, 0]]), torch.tensor([[0.2, 0.8]]), classes, False)
    (row,) = csv.DictReader(path.open(newline=""))
    assert row["clip"] == 'x, "y"\n.mp4' and row["label"] == classes[0] and row["prediction"] == "b"


# Labels


def test_a_share_of_the_labels_is_that_share_of_each_class_and_at_least_one_clip():
    values = ["a"] * 100 + ["b"] * 50 + ["c"] * 3
    for share, counts in ((0.1, (10, 5, 1)), (0.01, (1, 1, 1)), (1.0, (100, 50, 3))):
        kept = [values[i] for i in thinned(values, share, 0)]
        assert tuple(kept.count(name) for name in "abc") == counts
    assert set(thinned(values, 0.01, 0)) <= set(thinned(values, 0.1, 0)), "few labels are among the more"
    assert thinned(values, 0.1, 0) != thinned(values, 0.1, 1)
    several = [("a", "b"), ("a",), ("b",), ("c",)]
    assert {name for i in thinned(several, 0.3, 0) for name in several[i]} == {"a", "b", "c"}
    for share in (0, 1.2, -1):
        with pytest.raises(ValueError, match="share of labels"):
            thinned(values, share, 0)


def test_balanced_drawing_meets_a_rare_class_as_often_as_a_common_one():
    clips = Tones(60)
    clips.labels = {"tone": ["rare" if i < 3 else "common" for i in range(60)]}
    weights = torch.tensor([1 / 3] * 3 + [1 / 57] * 57)
    part = Part(clips, list(range(60)), "tone", weights)
    drawn = [part.labels["tone"][i] for epoch in range(50) for i in part.order(torch.Generator().manual_seed(epoch))]
    assert drawn.count("rare") / len(drawn) == pytest.approx(0.5, abs=0.05)
    assert sorted(Part(clips, list(range(60)), "tone").order(torch.Generator())) == list(range(60))


def test_the_column_is_the_only_one_or_the_one_asked_for():
    labels = {"material": ["a", "b"], "size": [0.1, 0.2]}
    assert choose_column(labels, None, "x") == "material"
    assert choose_column({"speaker": ["a"], "digit": ["1"]}, None, "x") == "digit"
    for wrong, column, words in ((labels, "size", "no column 'size'"), ({}, None, "no labels"), (labels | {"c": ["a"]}, None, "--column")):
        with pytest.raises(ValueError, match=words):
            choose_column(wrong, column, "x")


def test_the_generated_worlds_parts_share_no_clip_and_its_labels_are_told_by_material():
    model = replace(tiny().model, encoder=TransformerConfig(24, 1, 2))
    task = open_task("world", model, tiny().train.augment, column="material", labels=0.5, batch=64, world_clips=60, balanced=True)
    assert len(set(task.training.numbers)) < 45 and len(task.training) >= 64, "few clips are repeated to fill a batch"
    assert task.training.weights is not None and len(task.training.weights) == len(task.training)
    first = [part.windows.sample(0, None).waveform for part in (task.validation, task.test)] + [task.training.sample(0, None).waveform]
    assert not any(torch.equal(a, b) for i, a in enumerate(first) for b in first[i + 1 :])


# What is refused


def test_a_recipe_out_of_range_is_told():
    for changes, words in (({"drop_path": 1.0}, "drop_path"), ({"mixup": -0.1}, "mixup"), ({"layer_decay": 0}, "layer_decay")):
        with pytest.raises(ValueError, match=words):
            FinetuneConfig(**changes)
    with pytest.raises(ValueError, match="accumulate"):
        FinetuneConfig(train=replace(FinetuneConfig().train, accumulate=2))
    with pytest.raises(ValueError, match="class_names has 1 names for 2"):
        replace(SIZES, classes=2, class_names=("a",))


def test_the_papers_recipe_is_what_the_facts_tell():
    recipe = paper_recipe()
    assert (recipe.layer_decay, recipe.drop_path, recipe.mixup, recipe.mask_time, recipe.mask_frequency) == (0.75, 0.1, 0.5, 0.2, 0.2)
    assert recipe.added_fusion == 1
    assert with_steps(FinetuneConfig(), 60).train.evaluate_every == 5 and with_steps(FinetuneConfig(), 3).train.evaluate_every == 1


def test_a_modality_that_clips_do_not_have_is_refused(pretrained):
    heard = replace(task_of(Tones(60)), modalities=("audio",))
    assert default_source(heard, None) == "audio" and default_source(task_of(Tones(60)), None) == "both"
    with pytest.raises(ValueError, match="needs video"):
        default_source(heard, "both")


def test_a_loss_that_is_not_finite_ends_the_run_with_what_to_do(pretrained, tmp_path):
    recipe = quick(steps=30)
    with pytest.raises(RuntimeError, match="lower learning rate"):
        finetune(pretrained, task_of(Tones(60)), replace(recipe, train=replace(recipe.train, base_lr=1e30)), tmp_path)


def test_in_16_mixed_a_step_whose_gradient_overflows_is_left_out_and_training_goes_on(pretrained, tmp_path, monkeypatch):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=3)
    plugin = MixedPrecision("16-mixed", "cpu", scaler=scaler)
    monkeypatch.setattr("mavil_edu.finetune.make_fabric", lambda recipe: Fabric(accelerator="cpu", devices=1, plugins=[plugin]))
    recipe = quick(steps=30)
    finetune(pretrained, task_of(Tones(60)), replace(recipe, train=replace(recipe.train, precision="16-mixed")), tmp_path)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    norms = [row["gradient_norm"] for row in rows if not row.get("held_out")]
    assert norms[0] is None and any(norm is not None for norm in norms), "the scale falls until gradients fit"
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_command_refuses_with_one_sentence(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    out = ["--out", str(tmp_path / "o")]
    for arguments, words in (
        (["--data", "world", "--out", str(tmp_path / "full")], "holds other files already"),
        (["--data", "world", "--frozen", "--from-scratch", *out], "give one of them"),
        (["--data", str(tmp_path / "none"), *out], "There is no folder"),
        (["--data", "world", "--clips", "30", *out], "--column"),
        (["--data", "world", "--clips", "30", "--column", "size", *out], "no column 'size'"),
        (["--data", "world", "--clips", "30", "--column", "material", "--labels", "7", *out], "share of labels"),
        (["--data", "world", "--checkpoint", str(tmp_path / "none"), *out], "none"),
    ):
        assert cli.main(["finetune", *arguments]) == 2, arguments
        said = capsys.readouterr().err
        assert words in said and "Traceback" not in said
    assert not (tmp_path / "o").exists()


# Parts of real folders


SAMPLES = Path(__file__).parent.parent / "data_samples"


def paths_of(task: Task) -> list[set]:
    clips = task.training.clips
    asked_of = [{path for path in part.windows.clips.paths} for part in (task.validation, task.test)]
    return [{clips.paths[i] for i in task.training.numbers}, *asked_of]


def test_a_labelled_folder_is_parted_by_class_and_seed_and_no_clip_is_in_two_parts():
    model, augment = tiny().model, tiny().train.augment
    task = open_task(SAMPLES, model, augment, column="material", seed=1)
    parts = paths_of(task)
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    assert len(set.union(*parts)) == 24 and all(parts)
    assert set(task.training_values) == set(task.test.values) == set(task.classes), "every class of two clips or more is tested"
    assert paths_of(open_task(SAMPLES, model, augment, column="material", seed=1)) == parts
    assert paths_of(open_task(SAMPLES, model, augment, column="material", seed=2)) != parts
    few = open_task(SAMPLES, model, augment, column="material", seed=1, labels=0.3)
    assert paths_of(few)[0] < parts[0] and paths_of(few)[1:] == parts[1:], "fewer labels leave validation and test as they are"


def test_clips_to_test_on_may_lie_elsewhere_and_classes_never_trained_are_left_out_and_told(tmp_path):
    lines = (SAMPLES / "labels.csv").read_text().splitlines()
    place = lines[0].split(",").index("material")
    other = tmp_path / "others"
    other.mkdir()
    table = [lines[0]]
    for number, line in enumerate(lines[1:9]):
        fields = line.split(",")
        (other / fields[0]).write_bytes((SAMPLES / fields[0]).read_bytes())
        fields[place] = "cheese" if number == 0 else fields[place]
        table.append(",".join(fields))
    (other / "labels.csv").write_text("\n".join(table) + "\n")
    task = open_task(SAMPLES, tiny().model, tiny().train.augment, column="material", test_path=other)
    assert len(task.test.values) == 7 and "cheese" not in task.classes
    assert any("1 test clips have a class that no training clip has" in note for note in task.notes)
    assert len(set(task.training.numbers)) + len(task.validation.values) == 24
    with pytest.raises(ValueError, match="holds clips that are trained on"):
        open_task(SAMPLES, tiny().model, tiny().train.augment, column="material", test_path=SAMPLES)


def test_a_list_gives_its_train_and_test_split(tmp_path):
    rows = []
    for number, file in enumerate(sorted(SAMPLES.glob("*.mp4"))[:16]):
        name = f"{number:011d}"
        (tmp_path / f"{name}_000000.mp4").write_bytes(file.read_bytes())
        rows.append(f"{name},0,{'dog barking' if number % 2 else 'cat purring'},{'test' if number >= 10 else 'train'}")
    rows.append("99999999999,0,dog barking,train")
    (tmp_path / "vggsound.csv").write_text("\n".join(rows) + "\n")
    task = open_task(tmp_path, tiny().model, tiny().train.augment, listed=tmp_path / "vggsound.csv")
    assert task.classes == ["cat purring", "dog barking"] and task.missing == ["99999999999_000000"]
    assert len(task.test.values) == 6 and len(task.validation.values) + len(set(task.training.numbers)) == 10
