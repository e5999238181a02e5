"""What may pass between sound and picture: everything (joint), only bottlenecks (MBT), or nothing."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mavil_edu import MAViL, draw_masks, paper, tiny
from mavil_edu.config import ModelConfig, ObjectiveConfig, to_dict
from mavil_edu.encoder import Tokens
from mavil_edu.fusion import BottleneckFusion, JointFusion, make_fusion
from mavil_edu.mavil import draw_second_masks, stage_one_losses

MODEL, OBJECTIVE = tiny().model, tiny().objective
WIDTH, HEADS = MODEL.encoder.width, MODEL.encoder.heads
KINDS = ("joint", "bottleneck", "none")


def config_of(kind: str, depth: int = 2, bottlenecks: int = 4) -> ModelConfig:
    return replace(MODEL, fusion_kind=kind, fusion_depth=depth, bottlenecks=bottlenecks)


def fusion_of(kind: str, depth: int = 2, seed: int = 0):
    torch.manual_seed(seed)
    fusion = make_fusion(config_of(kind, depth))
    for p in fusion.parameters():
        torch.nn.init.normal_(p, std=0.1)  # so that bottlenecks and biases carry something
    return fusion


def tokens_of(n: int, seed: int, rows: int = 2) -> Tokens:
    generator = torch.Generator().manual_seed(seed)
    return Tokens(torch.randn(rows, 1, WIDTH, generator=generator), torch.randn(rows, n, WIDTH, generator=generator))


def same(one: Tokens, two: Tokens) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def audio_depends_on_video(fusion) -> bool:
    """By value and by gradient, which must agree."""
    audio, video, other = tokens_of(5, 0), tokens_of(7, 1), tokens_of(7, 2)
    by_value = not same(fusion(audio, video)[0], fusion(audio, other)[0])
    video = Tokens(*(part.requires_grad_() for part in video))
    fused, _ = fusion(audio, video)
    total = sum(part.square().sum() for part in fused)
    gradients = torch.autograd.grad(total, video, allow_unused=True) if total.requires_grad else (None, None)
    by_gradient = any(g is not None and bool(g.any()) for g in gradients)
    assert by_value == by_gradient
    return by_value


def clips(rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(rows, 1, MODEL.audio.frames, MODEL.audio.mel_bins, generator=generator)
    return audio, torch.randn(rows, 3, MODEL.video.frames, MODEL.video.height, MODEL.video.width, generator=generator)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_joint_attention_lets_sound_see_the_picture_from_its_first_layer(depth):
    assert audio_depends_on_video(fusion_of("joint", depth)) == (depth >= 1)


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_bottlenecks_carry_the_picture_to_the_sound_from_their_second_layer_on(depth):
    assert audio_depends_on_video(fusion_of("bottleneck", depth)) == (depth >= 2)


def test_cutting_the_exchange_of_the_bottlenecks_cuts_everything_between_sound_and_picture(monkeypatch):
    fusion = fusion_of("bottleneck", 3)
    assert audio_depends_on_video(fusion)
    monkeypatch.setattr(fusion, "exchange", lambda written: torch.zeros_like(written[0]))
    assert not audio_depends_on_video(fusion)


def test_what_comes_after_the_last_layer_reaches_nobody(monkeypatch):
    fusion, written_by = fusion_of("bottleneck", 2), []
    before = fusion(tokens_of(5, 0), tokens_of(7, 1))

    def last_is_cut(written):
        written_by.append(len(written))
        return BottleneckFusion.exchange(written) if len(written_by) == 1 else torch.full_like(written[0], 1e6)

    monkeypatch.setattr(fusion, "exchange", last_is_cut)
    after = fusion(tokens_of(5, 0), tokens_of(7, 1))
    assert written_by == [2, 2]
    assert same(before[0], after[0]) and same(before[1], after[1])


def test_without_fusion_tokens_pass_unchanged_and_there_is_nothing_to_learn():
    fusion, audio, video = make_fusion(config_of("none")), tokens_of(5, 0), tokens_of(7, 1)
    assert fusion(audio, video) == (audio, video)
    assert fusion(audio, None) == (audio, None)
    assert count(fusion) == 0 and fusion.multiply_adds(6, 8) == 0
    assert not audio_depends_on_video(fusion)


@pytest.mark.parametrize(("kind", "depends"), [("joint", True), ("bottleneck", True), ("none", False)])
def test_the_sounds_reconstruction_depends_on_the_picture_where_there_is_fusion_alone(kind, depends):
    torch.manual_seed(0)
    model, (audio, video) = MAViL(config_of(kind)).eval(), clips()
    masks = draw_masks(3, MODEL, OBJECTIVE, torch.Generator().manual_seed(0))
    one, two = model(audio, video, masks), model(audio, video.flip(0), masks)
    assert torch.equal(one.audio.patches, two.audio.patches) != depends
    assert torch.equal(one.audio_projection, two.audio_projection), "embeddings are unimodal whatever the fusion"


def test_bottleneck_fusion_equals_the_method_written_out():
    fusion, audio, video = fusion_of("bottleneck", 3), tokens_of(5, 0), tokens_of(7, 1)
    a, v = torch.cat(audio, dim=1), torch.cat(video, dim=1)
    shared = fusion.bottlenecks.expand(2, -1, -1)
    for own_a, own_v in zip(fusion.audio.blocks, fusion.video.blocks, strict=True):
        a, v = own_a(torch.cat([a, shared], dim=1)), own_v(torch.cat([v, shared], dim=1))
        shared = (a[:, -4:] + v[:, -4:]) / 2
        a, v = a[:, :-4], v[:, :-4]
    fused_a, fused_v = fusion(audio, video)
    assert torch.allclose(torch.cat(fused_a, dim=1), a, atol=1e-5)
    assert torch.allclose(torch.cat(fused_v, dim=1), v, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_modality_alone_passes_and_the_other_stays_missing(kind):
    fusion, audio = fusion_of(kind), tokens_of(5, 0)
    fused, missing = fusion(audio, None)
    assert missing is None and [part.shape for part in fused] == [part.shape for part in audio]
    none, fused = fusion(None, audio)
    assert none is None and [part.shape for part in fused] == [part.shape for part in audio]


def test_a_modality_alone_reads_bottlenecks_that_it_alone_has_written(monkeypatch):
    fusion, audio, video = fusion_of("bottleneck"), tokens_of(5, 0), tokens_of(7, 1)
    alone, _ = fusion(audio, None)
    assert not same(alone, fusion(audio, video)[0])
    monkeypatch.setattr(fusion, "exchange", lambda written: written[0])
    assert same(alone, fusion(audio, video)[0])


def test_attention_maps_and_layers_of_bottleneck_fusion_come_by_name_and_change_nothing():
    torch.manual_seed(0)
    model, (audio, video), maps = MAViL(config_of("bottleneck")).eval(), clips(2), {}
    with_maps, without = model.encode(audio, video, maps=maps), model.encode(audio, video)
    assert torch.allclose(with_maps.fused_audio_tokens, without.fused_audio_tokens, atol=1e-5)
    names = [name for name in maps if name.startswith("fusion")]
    assert names == ["fusion.audio.0", "fusion.video.0", "fusion.audio.1", "fusion.video.1"]
    for side in ("audio", "video"):
        seen = getattr(MODEL, side).tokens + 1 + 4
        assert maps[f"fusion.{side}.1"].shape == (2, HEADS, seen, seen)
        assert torch.allclose(maps[f"fusion.{side}.1"].sum(-1), torch.ones(2, HEADS, seen), atol=1e-5)
    layers, fusion, audio = {}, fusion_of("bottleneck"), tokens_of(5, 0)
    fused, _ = fusion(audio, None, layers=layers)
    assert list(layers) == ["fusion.audio.0", "fusion.audio.1"]
    assert torch.equal(layers["fusion.audio.1"][:, 1:6], fused.patch_tokens)


def test_bottleneck_fusion_has_blocks_for_each_modality_and_the_bottlenecks():
    joint, bottleneck = (count(make_fusion(config_of(kind, 2, 6))) for kind in ("joint", "bottleneck"))
    assert bottleneck == 2 * joint + 6 * WIDTH
    with torch.device("meta"):
        paper_joint, paper_bottleneck = (count(make_fusion(replace(paper().model, fusion_kind=kind))) for kind in ("joint", "bottleneck"))
    assert 14.1e6 < paper_joint < 14.3e6 and paper_bottleneck == 2 * paper_joint + 4 * 768


@pytest.mark.parametrize("kind", KINDS)
def test_multiply_adds_are_those_that_torch_counts(kind):
    with torch.device("meta"):
        fusion = make_fusion(replace(paper().model, fusion_kind=kind))
        audio, video = (Tokens(torch.empty(1, 1, 768), torch.empty(1, n, 768)) for n in (512, 784))
    with FlopCounterMode(display=False) as counter:
        fusion(audio, video, {})  # asked for maps, attention runs as plain products, which the counter sees
    assert fusion.multiply_adds(513, 785) == counter.get_total_flops() / 2


def test_bottlenecks_cost_less_than_joint_attention():
    with torch.device("meta"):
        joint, bottleneck = (make_fusion(replace(paper().model, fusion_kind=kind)) for kind in ("joint", "bottleneck"))
    assert bottleneck.multiply_adds(513, 785) < 0.95 * joint.multiply_adds(513, 785)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_of_a_model_with_this_fusion_gets_a_gradient(kind):
    torch.manual_seed(0)
    model, (audio, video) = MAViL(config_of(kind)), clips(4)
    masks, second = (draw(4, MODEL, OBJECTIVE, torch.Generator().manual_seed(1)) for draw in (draw_masks, draw_second_masks))
    output = model(audio, video, masks, second)
    stage_one_losses(output, audio, video, *masks, MODEL, OBJECTIVE).total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("audio_ratio", "video_ratio"), [(1.0, 0.0), (0.0, 1.0), (1.0, 0.8), (1.0, 1.0)])
def test_all_of_a_modality_hidden_gives_finite_numbers_and_reconstructions_with_every_fusion(kind, audio_ratio, video_ratio):
    torch.manual_seed(0)
    model, (audio, video) = MAViL(config_of(kind)), clips()
    objective = ObjectiveConfig(audio_ratio=audio_ratio, video_ratio=video_ratio)
    masks, second = draw_masks(3, MODEL, objective), draw_second_masks(3, MODEL, objective)
    output = model(audio, video, masks, second)
    losses = stage_one_losses(output, audio, video, *masks, MODEL, objective)
    losses.total.backward()
    assert torch.isfinite(output.audio.patches).all() and torch.isfinite(output.video.patches).all()
    assert torch.isfinite(losses.total) and losses.inter is None
    assert (output.audio_projection is None) == (audio_ratio == 1) and (output.video_projection is None) == (video_ratio == 1)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_with_this_fusion_comes_back_from_its_folder(kind, tmp_path):
    torch.manual_seed(0)
    model, (audio, video) = MAViL(config_of(kind, 2, 3)).eval(), clips(2)
    model.save_pretrained(tmp_path / "m")
    again = MAViL.from_pretrained(tmp_path / "m")
    assert again.config == model.config
    for one, two in zip(model.encode(audio, video), again.encode(audio, video), strict=True):
        assert torch.equal(one, two)


def test_a_model_saved_before_there_was_a_choice_of_fusion_still_loads(tmp_path):
    torch.manual_seed(0)
    model = MAViL(MODEL)
    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "config.json"
    file.write_text(json.dumps({k: v for k, v in to_dict(MODEL).items() if k not in ("fusion_kind", "bottlenecks")}))
    again = MAViL.from_pretrained(tmp_path / "m")
    assert isinstance(again.fusion, JointFusion) and again.config == MODEL
    assert torch.equal(again.fusion.transformer.blocks[0].attn.qkv.weight, model.fusion.transformer.blocks[0].attn.qkv.weight)
