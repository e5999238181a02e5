"""What the model claims, part by part."""

import math
from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mavil_edu import Masks, MAViL, draw_masks, large, paper, tiny
from mavil_edu.config import AudioConfig, ObjectiveConfig, TransformerConfig, VideoConfig
from mavil_edu.encoder import Encoder
from mavil_edu.mavil import draw_second_masks, stage_one_losses, terms_left_out
from mavil_edu.patches import input_shape, kernel_to_linear, patchify, unpatchify
from mavil_edu.positions import sincos_positions
from mavil_edu.transformer import multiply_adds

SMALL = tiny()
MODEL = SMALL.model


def batch_of(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    audio = torch.randn(rows, 1, MODEL.audio.frames, MODEL.audio.mel_bins, generator=generator)
    video = torch.randn(rows, 3, MODEL.video.frames, MODEL.video.height, MODEL.video.width, generator=generator)
    return audio, video


def masks_of(rows: int, seed: int = 0) -> Masks:
    return draw_masks(rows, MODEL, SMALL.objective, torch.Generator().manual_seed(seed))


def model_of(seed: int = 0, config=MODEL) -> MAViL:
    torch.manual_seed(seed)
    return MAViL(config).eval()


def losses_of(model: MAViL, audio, video, masks, second, objective=SMALL.objective, config=MODEL):
    return stage_one_losses(model(audio, video, masks, second), audio, video, masks.audio, masks.video, config, objective)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def paper_model() -> MAViL:
    with torch.device("meta"):
        return MAViL(paper())


def test_the_paper_has_512_audio_and_784_video_tokens():
    config = paper().model
    assert (config.audio.grid, config.audio.tokens) == ((64, 8), 512)
    assert (config.video.grid, config.video.tokens) == ((4, 14, 14), 784)


def test_the_papers_encoders_have_86_and_its_decoders_27_million_parameters(paper_model):
    for encoder in (paper_model.audio_encoder, paper_model.video_encoder):
        assert 85e6 < count(encoder) < 87e6
    for decoder in (paper_model.audio_decoder, paper_model.video_decoder):
        assert 25.5e6 < count(decoder) < 27.5e6


def test_large_is_two_vit_l_of_303_million_parameters_each_in_a_model_of_684_million(paper_model):
    with torch.device("meta"):
        model = MAViL(large())
    for encoder in (model.audio_encoder, model.video_encoder):
        assert 302e6 < count(encoder) < 305e6
    assert round(count(model) / 1e6) == 684 and "684 M parameters" in large.__doc__
    assert large().train == paper().train and large().objective == paper().objective


def test_the_papers_audio_encoder_takes_48_6_G_multiply_adds_with_attention(paper_model):
    """Counted by torch on the operations themselves, attention's products written out, and by our own formula."""
    maps = {}  # asks for attention maps, so that attention runs as plain matrix products, which the counter sees
    with FlopCounterMode(display=False) as counter:
        paper_model.audio_encoder(torch.empty(1, 512, 256, device="meta"), maps=maps)
    counted = counter.get_total_flops() / 2
    assert 48.4e9 < counted < 48.7e9
    embedding = 512 * 256 * 768
    assert multiply_adds(paper().model.encoder, 513) + embedding == counted


def test_patchify_orders_sound_by_time_then_frequency():
    config = AudioConfig()
    x = torch.arange(1024 * 128.0).view(1, 1, 1024, 128)
    patches = patchify(x, config)
    for t, f in ((0, 0), (3, 5), (63, 7)):
        expected = x[0, 0, 16 * t : 16 * t + 16, 16 * f : 16 * f + 16].reshape(-1)
        assert torch.equal(patches[0, t * 8 + f], expected)


def test_patchify_orders_video_by_time_height_width_and_colour_last():
    config = VideoConfig()
    x = torch.randn(1, 3, 8, 224, 224, generator=torch.Generator().manual_seed(0))
    patches = patchify(x, config)
    for t, h, w in ((0, 0, 0), (1, 2, 3), (3, 13, 13)):
        block = x[0, :, 2 * t : 2 * t + 2, 16 * h : 16 * h + 16, 16 * w : 16 * w + 16]
        assert torch.equal(patches[0, (t * 14 + h) * 14 + w], block.permute(1, 2, 3, 0).reshape(-1))


@pytest.mark.parametrize("config", [MODEL.audio, MODEL.video, AudioConfig(), VideoConfig()], ids=["tiny-a", "tiny-v", "paper-a", "paper-v"])
def test_unpatchify_undoes_patchify(config):
    x = torch.randn(2, *input_shape(config), generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpatchify(patchify(x, config), config), x)


def test_an_input_of_the_wrong_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"\(1, 1, 100, 128\).*\(batch, 1, 256, 128\)"):
        patchify(torch.zeros(1, 1, 100, 128), MODEL.audio)


def test_linear_on_patches_equals_strided_convolution():
    config = VideoConfig(frames=4, height=32, width=32)
    convolution = nn.Conv3d(3, 24, (2, 16, 16), stride=(2, 16, 16)).double()
    x = torch.randn(2, 3, 4, 32, 32, dtype=torch.float64)
    linear = nn.functional.linear(patchify(x, config), kernel_to_linear(convolution.weight), convolution.bias)
    assert torch.allclose(linear, rearrange(convolution(x), "b d t h w -> b (t h w) d"), atol=1e-12)
    sound = AudioConfig(frames=64)
    convolution = nn.Conv2d(1, 24, 16, stride=16).double()
    x = torch.randn(2, 1, 64, 128, dtype=torch.float64)
    linear = nn.functional.linear(patchify(x, sound), kernel_to_linear(convolution.weight), convolution.bias)
    assert torch.allclose(linear, rearrange(convolution(x), "b d t f -> b (t f) d"), atol=1e-12)


@pytest.mark.parametrize(("grid", "width"), [((64, 8), 768), ((4, 14, 14), 768), ((4, 14, 14), 512), ((4, 4, 4), 64)])
def test_positions_tell_every_place_from_every_other_and_the_class_token_has_zeros(grid, width):
    table = sincos_positions(grid, width)
    assert table.shape == (1 + math.prod(grid), width)
    assert not table[0].any()
    distance = torch.cdist(table, table).fill_diagonal_(1)
    assert float(distance.min()) > 0.1


def test_positions_of_neighbours_differ_alike_everywhere_along_an_axis():
    table = sincos_positions((16, 4), 96)[1:].view(16, 4, 96)
    products = (table[:-1] * table[1:]).sum(-1)
    assert torch.allclose(products, products[0, 0].expand_as(products), atol=1e-4)


def test_a_mask_that_hides_nothing_is_the_identity():
    model, (audio, _) = model_of(), batch_of(2)
    patches = patchify(audio, MODEL.audio)
    nothing = torch.zeros(2, MODEL.audio.tokens, dtype=torch.bool)
    for masked, complete in zip(model.audio_encoder(patches, nothing), model.audio_encoder(patches), strict=True):
        assert torch.equal(masked, complete)


def test_hidden_content_cannot_reach_anything_the_model_computes():
    model, (audio, video), masks, second = model_of(), batch_of(2), masks_of(2), masks_of(2)
    before = model(audio, video, masks, second)
    noise_a, noise_v = batch_of(2, seed=9)
    hidden_a = unpatchify(masks.audio[..., None].expand(-1, -1, MODEL.audio.patch_values).float(), MODEL.audio).bool()
    hidden_v = unpatchify(masks.video[..., None].expand(-1, -1, MODEL.video.patch_values).float(), MODEL.video).bool()
    after = model(torch.where(hidden_a, noise_a, audio), torch.where(hidden_v, noise_v, video), masks, second)
    assert torch.equal(before.audio.patches, after.audio.patches)
    assert torch.equal(before.video.patches, after.video.patches)
    assert torch.equal(before.audio_projection, after.audio_projection)
    shown = model(torch.where(hidden_a, audio, noise_a), video, masks, second)  # the same test on visible content must see a change
    assert not torch.allclose(before.audio.patches, shown.audio.patches)


def test_sound_reaches_pictures_through_the_fusion_and_only_through_it():
    model, (audio, video), masks = model_of(), batch_of(2), masks_of(2)
    other, _ = batch_of(2, seed=5)
    one, two = model(audio, video, masks), model(other, video, masks)
    assert not torch.allclose(one.video.patches, two.video.patches)
    assert torch.equal(one.video_projection, two.video_projection)


def test_the_reconstruction_loss_has_no_gradient_on_visible_patches():
    model, (audio, video), masks = model_of(), batch_of(2), masks_of(2)
    output = model(audio, video, masks)
    output.audio.patches.retain_grad()
    output.video.patches.retain_grad()
    losses = stage_one_losses(output, audio, video, masks.audio, masks.video, MODEL, SMALL.objective)
    (losses.audio + losses.video).backward()
    for prediction, mask in ((output.audio.patches, masks.audio), (output.video.patches, masks.video)):
        assert not prediction.grad[~mask].any()
        assert (prediction.grad[mask].abs().sum(-1) > 0).all()


def test_every_parameter_gets_a_gradient_and_each_loss_is_part_of_the_total():
    model, (audio, video) = model_of(), batch_of(4)
    losses = losses_of(model, audio, video, masks_of(4, 1), masks_of(4, 2))
    losses.total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    o = SMALL.objective
    expected = losses.audio + losses.video + losses.statistics + o.alpha * losses.inter + o.beta * losses.intra
    assert torch.isclose(losses.total, expected)


def test_one_batch_can_be_overfitted_by_all_terms():
    torch.manual_seed(0)
    model, (audio, video) = MAViL(MODEL), batch_of(3)
    audio = nn.functional.interpolate(audio[..., ::64, ::64], scale_factor=(64, 64), mode="bilinear")  # smooth: white noise has
    video = nn.functional.interpolate(video[:, :, ::4, ::16, ::16], scale_factor=(4, 16, 16), mode="trilinear")  # more rank than decoders
    masks, second = masks_of(3, 1), masks_of(3, 2)
    objective = ObjectiveConfig(alpha=1.0, beta=1.0, tau_intra=0.1, score_padding=False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = last = None
    for _ in range(200):
        last = losses_of(model, audio, video, masks, second, objective)
        first = first or last
        optimiser.zero_grad()
        last.total.backward()
        optimiser.step()
    assert last.audio < 0.25 * first.audio
    assert last.video < 0.25 * first.video
    assert last.inter < 0.1 < 0.5 < first.inter
    assert last.intra < 0.3


@pytest.mark.parametrize(("audio_ratio", "video_ratio"), [(1.0, 0.8), (0.8, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_extreme_ratios_leave_out_what_they_must_and_nothing_becomes_nan(audio_ratio, video_ratio):
    model, (audio, video) = model_of(), batch_of(3)
    objective = ObjectiveConfig(audio_ratio=audio_ratio, video_ratio=video_ratio)
    masks, second = draw_masks(3, MODEL, objective), draw_masks(3, MODEL, objective)
    losses = losses_of(model, audio, video, masks, second, objective)
    losses.total.backward()
    assert torch.isfinite(losses.total)
    assert (losses.inter is None) == (1.0 in (audio_ratio, video_ratio))
    assert (losses.intra is None) == (audio_ratio == video_ratio == 1.0)
    if audio_ratio == 0:
        assert losses.audio.item() == 0.0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_second_view_is_each_modality_under_its_own_mask():
    model, (audio, video), masks, second = model_of(), batch_of(3), masks_of(3, 1), masks_of(3, 2)
    both, alone = model(audio, video, masks, second), model(audio, video, second)
    assert torch.allclose(both.second_audio_projection, alone.audio_projection, atol=1e-6)
    assert torch.allclose(both.second_video_projection, alone.video_projection, atol=1e-6)
    assert not torch.allclose(both.second_audio_projection, both.audio_projection, atol=1e-3)
    assert not torch.allclose(both.second_video_projection, both.video_projection, atol=1e-3)


def test_without_a_second_view_there_is_no_intra_modal_term_and_the_rest_is_unchanged():
    model, (audio, video), masks = model_of(), batch_of(3), masks_of(3)
    first_view = replace(SMALL.objective, inter_views=1)
    both = losses_of(model, audio, video, masks, masks_of(3, 7), first_view)
    one = losses_of(model, audio, video, masks, None, first_view)
    assert one.intra is None
    assert torch.equal(both.audio, one.audio)
    assert torch.equal(both.inter, one.inter)


def test_contrast_between_modalities_on_both_views_is_the_mean_of_each_alone():
    model, (audio, video), first, second = model_of(), batch_of(3), masks_of(3), masks_of(3, 7)
    inter_views = replace(SMALL.objective, inter_views=2)
    both = losses_of(model, audio, video, first, second, inter_views).inter
    alone = [losses_of(model, audio, video, masks, None, inter_views).inter for masks in (first, second)]
    assert not torch.isclose(*alone)
    assert torch.allclose(both, sum(alone) / 2, atol=1e-6)


def test_the_second_view_hides_its_own_share_and_is_left_out_without_contrast_within_modalities():
    objective = replace(SMALL.objective, audio_ratio=0.8, video_ratio=0.75, second_ratio=0.5)
    masks = draw_second_masks(4, MODEL, objective, torch.Generator().manual_seed(0))
    assert [int(mask.sum()) for mask in masks] == [4 * MODEL.audio.tokens // 2, 4 * MODEL.video.tokens // 2]
    masks = draw_second_masks(4, MODEL, replace(objective, second_ratio=None))
    assert [int(mask[0].sum()) for mask in masks] == [round(0.8 * MODEL.audio.tokens), round(0.75 * MODEL.video.tokens)]
    assert draw_second_masks(4, MODEL, replace(objective, beta=0.0, inter_views=1)) is None


def test_both_views_are_drawn_by_the_objectives_strategies():
    objective = replace(SMALL.objective, audio_masking="time", video_masking="tube", second_ratio=0.5)
    first, second = draw_masks(4, MODEL, objective), draw_second_masks(4, MODEL, objective)
    for masks, columns, places in ((first, 26, 6), (second, 16, 4)):  # of 32 moments and 2 × 4 places
        audio = rearrange(masks.audio, "b (t f) -> b t f", f=MODEL.audio.grid[1])
        video = rearrange(masks.video, "b (t hw) -> b t hw", t=MODEL.video.grid[0])
        assert torch.equal(audio.all(dim=2), audio.any(dim=2)) and (audio.all(dim=2).sum(dim=1) == columns).all()
        assert torch.equal(video.all(dim=1), video.any(dim=1)) and (video.all(dim=1).sum(dim=1) == places).all()


def test_a_mask_made_by_hand_is_a_mask_like_any_other():
    model, (audio, video) = model_of(), batch_of(2)
    by_hand = Masks(torch.zeros(2, MODEL.audio.tokens, dtype=torch.bool), torch.zeros(2, MODEL.video.tokens, dtype=torch.bool))
    by_hand.audio[:, :5] = True
    by_hand.video[0, [0, 9]] = by_hand.video[1, [3, 4]] = True
    losses = losses_of(model, audio, video, by_hand, None)
    assert torch.isfinite(losses.total) and losses.audio > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"audio_ratio": 1.0, "second_ratio": 0.5, "inter_views": 2}, ["within the sound"]),
        ({"audio_ratio": 1.0, "second_ratio": 0.5, "inter_views": 1}, ["between modalities", "within the sound"]),
        ({"video_ratio": 1.0, "second_ratio": None}, ["between modalities", "within the picture"]),
        ({"audio_ratio": 1.0, "video_ratio": 1.0}, ["within the sound", "within the picture"]),
        ({"video_ratio": 1.0, "beta": 0.0, "inter_views": 1}, ["between modalities"]),
        ({"video_ratio": 1.0, "alpha": 0.0, "beta": 0.0, "inter_views": 1}, []),
        ({"second_ratio": 1.0, "inter_views": 1}, ["within the sound", "within the picture"]),
    ],
)
def test_what_is_said_to_be_left_out_is_what_the_losses_leave_out(changes, said):
    objective = replace(SMALL.objective, **changes)
    sentences = terms_left_out(MODEL, objective)
    assert len(sentences) == len(said) and all(words in sentence for words, sentence in zip(said, sentences, strict=True))
    model, (audio, video) = model_of(), batch_of(3)
    losses = losses_of(model, audio, video, draw_masks(3, MODEL, objective), draw_second_masks(3, MODEL, objective), objective)
    if objective.alpha:
        assert (losses.inter is None) == any("between" in sentence for sentence in sentences)
    if objective.beta:
        assert (losses.intra is None) == (sum("within" in sentence for sentence in sentences) == 2)


def test_contrast_alone_weighs_no_reconstruction():
    model, (audio, video) = model_of(), batch_of(3)
    objective = replace(SMALL.objective, reconstruction=0.0, alpha=0.3, beta=0.2)
    losses = losses_of(model, audio, video, masks_of(3), masks_of(3, 7), objective)
    assert losses.audio > 0, "it is still measured"
    assert torch.allclose(losses.total, 0.3 * losses.inter + 0.2 * losses.intra)


def test_encode_takes_either_modality_alone_and_its_unimodal_part_does_not_change():
    model, (audio, video) = model_of(), batch_of(2)
    both, alone = model.encode(audio, video), model.encode(audio=audio)
    assert torch.equal(both.audio_tokens, alone.audio_tokens)
    assert torch.allclose(alone.audio_embedding, alone.audio_tokens.mean(1))
    assert torch.allclose(alone.audio_projection.norm(dim=-1), torch.ones(2))
    assert alone.video_tokens is alone.fused_video_tokens is alone.video_embedding is alone.video_projection is None
    assert alone.fused_audio_tokens.shape == alone.audio_tokens.shape
    assert not torch.allclose(both.fused_audio_tokens, alone.fused_audio_tokens)
    with pytest.raises(ValueError, match="give audio, video, or both"):
        model.encode()


def test_attention_maps_come_by_name_and_change_nothing():
    model, (audio, video), maps = model_of(), batch_of(2), {}
    with_maps, without = model.encode(audio, video, maps=maps), model.encode(audio, video)
    assert torch.allclose(with_maps.fused_video_tokens, without.fused_video_tokens, atol=1e-5)
    depth = MODEL.encoder.depth
    encoders = [f"{side}_encoder.{i}" for side in ("audio", "video") for i in range(depth)]
    assert list(maps) == [*encoders, *(f"fusion.{i}" for i in range(MODEL.fusion_depth))]
    tokens = MODEL.audio.tokens + MODEL.video.tokens + 2
    assert maps["fusion.0"].shape == (2, MODEL.encoder.heads, tokens, tokens)
    assert torch.allclose(maps["fusion.0"].sum(-1), torch.ones(2, MODEL.encoder.heads, tokens), atol=1e-5)


def test_masks_that_do_not_fit_are_refused_with_a_sentence():
    model, (audio, video), masks = model_of(), batch_of(2), masks_of(2)
    uneven = masks.audio.clone()
    uneven[0] = False
    with pytest.raises(ValueError, match="same number"):
        model(audio, video, masks._replace(audio=uneven))
    with pytest.raises(ValueError, match=r"shape \(2, 64\)"):
        model(audio, video, masks_of(3))


def test_encoders_have_no_final_norm_and_pool_without_the_class_token():
    encoder = Encoder(MODEL.audio, TransformerConfig(96, 0, 3))
    patches = torch.randn(2, 64, MODEL.audio.patch_values)
    tokens = encoder(patches)
    assert torch.allclose(tokens.patch_tokens, encoder.patch_embed(patches) + encoder.positions[1:])
    assert torch.allclose(tokens.pool(), tokens.patch_tokens.mean(1))


@torch.no_grad()
def test_the_tokens_after_every_block_come_by_name_and_looking_changes_nothing():
    model, (audio, video), layers, maps = model_of(), batch_of(2), {}, {}
    looked, unseen = model.encode(audio, video, maps, layers), model.encode(audio, video, maps={})
    assert all(torch.equal(a, b) for a, b in zip(looked, unseen, strict=True))
    depth, names = MODEL.encoder.depth, ("audio_encoder", "video_encoder")
    assert list(layers) == [f"{name}.{i}" for name in names for i in range(depth)] + [f"fusion.{i}" for i in range(MODEL.fusion_depth)]
    assert layers.keys() == maps.keys()
    for name, tokens in zip(names, looked[:2], strict=True):
        assert torch.equal(layers[f"{name}.{depth - 1}"][:, 1:], tokens)
        block = getattr(model, name).transformer.blocks[1]
        assert torch.allclose(block(layers[f"{name}.0"]), layers[f"{name}.1"], atol=1e-5)
    n = MODEL.audio.tokens
    fused = layers[f"fusion.{MODEL.fusion_depth - 1}"]
    assert torch.equal(fused[:, 1 : 1 + n], looked.fused_audio_tokens) and torch.equal(fused[:, 2 + n :], looked.fused_video_tokens)
    alone = {}
    model.encode(audio=audio, layers=alone)
    assert not any(name.startswith("video") for name in alone) and "fusion.0" in alone


def test_a_model_without_decoders_encodes_and_says_what_it_cannot():
    model = model_of(config=replace(MODEL, decoder=None, classes=5))
    audio, video = batch_of(2)
    assert not [name for name in model.state_dict() if "decoder" in name]
    assert model.classify(audio, video).shape == (2, 5)
    with pytest.raises(ValueError, match="no decoders"):
        model(audio, video, masks_of(2))
    with pytest.raises(ValueError, match="no classifier"):
        model_of().classify(audio, video)
    with pytest.raises(ValueError, match="classes is 0"):
        replace(MODEL, classes=0)
