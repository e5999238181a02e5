"""Options that do less work than the paper: some hidden patches decoded, by cross-attention; blocks recomputed, blocks compiled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_model import SMALL, batch_of, masks_of

from mavil_edu import MAViL, draw_masks, paper
from mavil_edu.blocks import compile_blocks, recompute_blocks
from mavil_edu.cli import _config_for, _parsed, main
from mavil_edu.config import Config, ConfigError, ObjectiveConfig
from mavil_edu.fast import fast, less_work
from mavil_edu.masking import at_places, draw_hidden_places, hidden_places, random_mask
from mavil_edu.mavil import draw_asked, patch_targets, stage_one_losses
from mavil_edu.multiply_adds import forward_by_part

ROOT = Path(__file__).parent.parent
LEDGER = json.loads((ROOT / "results" / "options" / "standard" / "ledger.json").read_text(encoding="utf-8"))["claims"]
ROWS = {
    "both: what `--fast` sets": "cross decoder, a quarter",
    "cross-attention decoders": "cross decoder",
    "a quarter decoded": "a quarter decoded",
    "from nine tenths hidden down to 80 %": "from nine tenths hidden",
}
DECODERS = replace(SMALL.model.decoder, depth=2)  # with one block what is asked for could not reach each other anyway, but through it


def config_with(attention: str, share: float = 1.0) -> Config:
    model = replace(SMALL.model, decoder=DECODERS, decoder_attention=attention)
    return replace(SMALL, model=model, objective=replace(SMALL.objective, decoded_share=share))


def model_of(config: Config) -> MAViL:
    torch.manual_seed(0)
    return MAViL(config).eval()


def asked_of(config: Config, masks, seed: int = 0):
    return draw_asked(masks, config.model, config.objective, torch.Generator().manual_seed(seed))


def test_a_share_of_the_hidden_places_is_drawn_from_them_alone_and_each_is_as_likely():
    mask = random_mask(3000, (5, 4), 0.8, torch.Generator().manual_seed(0))
    places = draw_hidden_places(mask, 0.25, torch.Generator().manual_seed(1))
    assert places.shape == (3000, 4) and mask.gather(1, places).all()
    assert (places.diff(dim=1) > 0).all(), "in order, none twice"
    often = torch.bincount(places.flatten(), minlength=20) / 3000
    assert (often - 0.2).abs().max() < 4 * (0.2 * 0.8 / 3000) ** 0.5
    assert not torch.equal(places, draw_hidden_places(mask, 0.25, torch.Generator().manual_seed(2)))


def test_the_whole_share_draws_nothing_and_gives_every_hidden_place():
    generator = torch.Generator().manual_seed(0)
    mask, before = random_mask(5, 20, 0.6, torch.Generator().manual_seed(3)), generator.get_state()
    assert torch.equal(draw_hidden_places(mask, 1.0, generator), hidden_places(mask))
    assert torch.equal(generator.get_state(), before)
    assert hidden_places(mask).shape == (5, 12) and mask.gather(1, hidden_places(mask)).all()
    assert draw_hidden_places(torch.zeros(5, 20, dtype=torch.bool), 0.5).shape == (5, 0), "nothing is hidden"
    assert draw_hidden_places(mask, 0.001).shape == (5, 1), "one at least"


def test_the_papers_way_asks_for_every_place():
    masks = masks_of(2)
    assert asked_of(config_with("self"), masks) is None
    assert torch.equal(asked_of(config_with("cross"), masks).audio, hidden_places(masks.audio))
    everything = replace(SMALL.objective, scored="all")
    assert draw_asked(masks, config_with("cross").model, everything) is None


@pytest.mark.parametrize("attention", ["self", "cross"])
def test_all_hidden_places_alone_are_told_what_they_are_told_among_all(attention):
    """Self-attention among visible and hidden places is all of it; and cross-attention never looked at the others."""
    config, masks = config_with(attention), masks_of(3)
    model, (audio, video) = model_of(config), batch_of(3)
    with torch.no_grad():
        everything = model(audio, video, masks)
        places = type(asked_of(config_with("cross"), masks))(*(hidden_places(mask) for mask in masks))
        some = model(audio, video, masks, None, places)
    for whole, part, where in zip(everything[:2], some[:2], places, strict=True):
        assert torch.allclose(at_places(whole.patches, where), part.patches, atol=1e-5)
        assert torch.allclose(at_places(whole.statistics, where), part.statistics, atol=1e-5)
        assert torch.equal(part.places, where)


@pytest.mark.parametrize(("attention", "alone"), [("self", False), ("cross", True)])
def test_what_is_said_of_a_place_hangs_on_the_others_asked_for_with_self_attention_only(attention, alone):
    config, masks = config_with(attention), masks_of(3)
    model, (audio, video) = model_of(config), batch_of(3)
    some = asked_of(config_with(attention, 0.25), masks)
    with torch.no_grad():
        everything, part = model(audio, video, masks), model(audio, video, masks, None, some)
    assert part.audio.patches.shape[1] == 13 and everything.audio.patches.shape[1] == 64
    assert torch.allclose(at_places(everything.audio.patches, some.audio), part.audio.patches, atol=1e-5) == alone
    assert torch.allclose(at_places(everything.video.patches, some.video), part.video.patches, atol=1e-5) == alone


@pytest.mark.parametrize(("attention", "share"), [("self", 0.25), ("cross", 1.0), ("cross", 0.25)])
def test_the_loss_is_the_mean_over_what_was_asked_for_and_scored(attention, share):
    config, masks = config_with(attention, share), masks_of(4)
    model, (audio, video) = model_of(config), batch_of(4)
    asked = asked_of(config, masks)
    content = torch.arange(64) < 40  # the rest is padding
    scored = masks.audio & content, masks.video & content
    output = model(audio, video, masks, None, asked)
    found = stage_one_losses(output, audio, video, *scored, config.model, config.objective)
    targets, errors = patch_targets(audio, video, config.model).audio, []
    for row in range(4):
        for n, place in enumerate(asked.audio[row].tolist()):
            if place < 40:
                errors.append((output.audio.patches[row, n] - targets[row, place]).square().mean())
    assert torch.isclose(found.audio, torch.stack(errors).mean(), atol=1e-6)


@pytest.mark.parametrize(("attention", "share"), [("self", 0.25), ("cross", 1.0), ("cross", 0.25)])
def test_every_parameter_gets_a_gradient(attention, share):
    config, masks = config_with(attention, share), masks_of(4)
    model, (audio, video) = model_of(config), batch_of(4)
    output = model(audio, video, masks, masks_of(4, 2), asked_of(config, masks))
    stage_one_losses(output, audio, video, *masks, config.model, config.objective).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(("attention", "share"), [("self", 0.25), ("cross", 1.0)])
def test_one_batch_can_be_overfitted(attention, share):
    config = config_with(attention, share)
    model, (audio, video), generator = model_of(config).train(), batch_of(2), torch.Generator().manual_seed(0)
    audio = torch.nn.functional.interpolate(audio[..., ::64, ::64], scale_factor=(64, 64), mode="bilinear")
    video = torch.nn.functional.interpolate(video[:, :, ::4, ::16, ::16], scale_factor=(4, 16, 16), mode="trilinear")
    masks, optimiser, losses = masks_of(2), torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(150):
        output = model(audio, video, masks, None, draw_asked(masks, config.model, config.objective, generator))
        losses.append(stage_one_losses(output, audio, video, *masks, config.model, config.objective))
        optimiser.zero_grad()
        (losses[-1].audio + losses[-1].video).backward()
        optimiser.step()
    assert losses[-1].audio < 0.4 * losses[0].audio and losses[-1].video < 0.4 * losses[0].video


@pytest.mark.parametrize("attention", ["self", "cross"])
def test_recomputed_blocks_give_the_same_gradients_bit_for_bit(attention):
    config, masks, (audio, video), found = config_with(attention, 0.5), masks_of(3), batch_of(3), []
    for again in (False, True):
        model = model_of(config).train()
        recompute_blocks(model, again)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, kept=kept: kept.append(x.numel()) or x, lambda x: x):
            output = model(audio, video, masks, masks_of(3, 2), asked_of(config, masks))
            loss = stage_one_losses(output, audio, video, *masks, config.model, config.objective).total
        loss.backward()
        found.append((sum(kept), [p.grad for p in model.parameters()]))
    assert all(map(torch.equal, found[0][1], found[1][1]))
    assert found[1][0] < 0.6 * found[0][0], "and keep less until then"


def test_compiled_blocks_say_what_plain_ones_say():
    config = config_with("cross", 0.5)
    model, (audio, video), masks = model_of(config), batch_of(2), masks_of(2)
    with torch.no_grad():
        plain = model(audio, video, masks)
        names = list(model.state_dict())
        compile_blocks(model)
        compiled = model(audio, video, masks)
    assert torch.allclose(plain.audio.patches, compiled.audio.patches, atol=1e-4) and list(model.state_dict()) == names


@pytest.mark.parametrize("wrong", [{"decoded_share": 0.0}, {"decoded_share": 1.5}, {"decoded_share": 0.5, "scored": "all"}])
def test_a_share_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="decoded_share"):
        ObjectiveConfig(**wrong)
    with pytest.raises(ConfigError, match="decoder_attention"):
        replace(SMALL.model, decoder_attention="none")


def test_masks_are_drawn_as_they_were_whatever_is_decoded():
    one, other = (draw_masks(4, c.model, c.objective, torch.Generator().manual_seed(5)) for c in (SMALL, config_with("cross", 0.25)))
    assert all(map(torch.equal, one, other))


def test_fast_halves_the_papers_arithmetic_and_leaves_what_was_chosen():
    before, after = (sum(forward_by_part(config, 64).values()) for config in (paper(), less_work(paper())))
    assert after < 0.505 * before
    assert less_work(SMALL).objective.second_ratio == SMALL.objective.second_ratio == 0.5, "tiny chose its own"
    assert less_work(SMALL, fresh_decoder=False).model == SMALL.model, "decoders that are there stay what they are"
    assert fast(SMALL, torch.device("cpu")) == less_work(SMALL)
    assert fast(SMALL, torch.device("cuda")).train.compile


def test_the_command_takes_fast_and_every_number_can_still_be_given():
    asked = ["pretrain", "--data", "x", "--out", "y", "--fast"]
    assert _config_for(asked) == less_work(SMALL)
    assert _config_for([*asked, "--preset", "paper"]) == less_work(paper())
    assert _config_for([*asked, "--start", "tiny"]).model.decoder_attention == "self"
    assert _config_for(asked[:-1]) == SMALL
    bound = _parsed([*asked, "--config.objective.decoded-share", "0.5"])
    assert bound.keywords["config"].objective.decoded_share == 0.5 and bound.keywords["config"].model.decoder_attention == "cross"


def test_a_run_with_fast_trains_and_its_model_reconstructs_every_place(tmp_path, capsys):
    clips, out = tmp_path / "clips", tmp_path / "run"
    assert main(["world", "--clips", "12", "--seed", "8", "--size", "32", "--out", str(clips)]) == 0
    asked = ["pretrain", "--data", str(clips), "--out", str(out), "--steps", "2", "--fast", "--config.train.batch", "4", "--workers", "0"]
    assert main(asked) == 0, capsys.readouterr().err
    model = MAViL.from_pretrained(out)
    assert model.config.decoder_attention == "cross"
    with torch.no_grad():
        assert model(*batch_of(2), masks_of(2)).video.patches.shape[:2] == (2, 64)
    assert (out / "report.html").exists()


def test_the_benchmark_takes_the_usual_way_and_the_option_in_turns(capsys):
    asked = ["benchmark", "fast", "--batch", "2", "--repetitions", "1", "--only", "a quarter decoded"]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["options"]
    assert list(found) == ["a quarter decoded"] and found["a quarter decoded"]["times_less_arithmetic"] > 1.1
    assert main(asked) == 0 and "a quarter decoded" in capsys.readouterr().out
    assert main([*asked[:-1], "magic"]) == 2 and "cross-attention decoders" in capsys.readouterr().err


def told(difference: dict) -> str:
    """A difference as docs/fast.md writes it."""
    mean, low, high = (f"{difference[name]:+.1f}".replace("-", "−") for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def test_what_docs_fast_says_of_quality_is_what_the_stored_ledger_says():
    text = (ROOT / "docs" / "fast.md").read_text(encoding="utf-8")
    found = {(one["what"].split(" − ")[0], one["metric"]): one for one in LEDGER["less-work"]["differences"]}
    for row, arm in ROWS.items():
        cells = [told(found[arm, metric]) for metric in ("skill", "retrieval", "reconstruction")]
        assert f"| {row} | {' | '.join(cells)} |" in text
    for one in LEDGER["fast"]["differences"][:3]:
        assert f"| {told(one)} |" in text and one["seeds"] == 5
    assert {one["seeds"] for one in found.values()} == {5}
    assert LEDGER["less-work"]["verdict"] == LEDGER["fast"]["verdict"] == "undecided" and text.count("**undecided**") == 2
    for one in LEDGER["fast-again"]["differences"]:
        fast, alike = (one["means"][f"{name}, fresh seeds"] for name in ("fast", "second view as the first"))
        assert f"| {alike:.1f} | {fast:.1f} | {told(one)} | not worse" in text and one["seeds"] == 15
    assert LEDGER["fast-again"]["verdict"] == "holds" and text.count("**It holds:**") == 1
