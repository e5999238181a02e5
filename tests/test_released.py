"""Published weights compute here what their layout defines, go back into it exactly, and a file that is not them does no harm."""

import argparse
import io
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from made_clips import grey, make_clip, pictures, tone
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from mavil_edu import MAViL, draw_masks, tiny
from mavil_edu.config import ModelConfig, ObjectiveConfig
from mavil_edu.image_vits import init_audio_from_image_mae, init_video_from_image_mae
from mavil_edu.patches import kernel_to_linear, linear_to_kernel, patchify
from mavil_edu.positions import sincos_positions
from mavil_edu.released import export_released, load_released, preprocess
from mavil_edu.weights_file import ReleasedError

D = 128  # 2 heads of 64


def made(*shape: int, seed: int, scale: float = 0.05) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale


def blocks(prefix: str, depth: int, width: int = D, ratio: int = 4) -> dict[str, Tensor]:
    """A stack in the layout's names: everything random, norms and biases too, so that nothing can be left out unseen."""
    shapes = {
        "norm1.weight": (width,), "norm1.bias": (width,), "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width), "attn.proj.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
        "mlp.fc1.weight": (ratio * width, width), "mlp.fc1.bias": (ratio * width,),
        "mlp.fc2.weight": (width, ratio * width), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    named = {f"{prefix}.{i}.{name}": shape for i in range(depth) for name, shape in shapes.items()}
    return {
        name: made(*shape, seed=len(prefix) * 1000 + n) + ("norm" in name and "weight" in name)
        for n, (name, shape) in enumerate(named.items())
    }


def layout(
    width: int = D, depth: int = 2, fusion: int = 2, classes: int | None = None, places: tuple[int, int] = (512, 784), ratio: int = 4
) -> dict[str, Tensor]:
    """A file of the released layout, written down from its description and not from our code."""
    state = {}
    for number, (suffix, kernel, n) in enumerate((("", (1, 16, 16), places[0]), ("_v", (3, 2, 16, 16), places[1]))):
        state |= {
            f"cls_token{suffix}": made(1, 1, width, seed=10 + number, scale=1),
            f"pos_embed{suffix}": made(1, 1 + n, width, seed=20 + number, scale=1),
            f"patch_embed{suffix}.proj.weight": made(width, *kernel, seed=30 + number),
            f"patch_embed{suffix}.proj.bias": made(width, seed=40 + number),
            **blocks(f"blocks{suffix}", depth, width, ratio),
        }
    state |= blocks("blocks_av", fusion, width, ratio)
    if classes:
        state |= {"fc_norm_av.weight": 1 + made(2 * width, seed=1), "fc_norm_av.bias": made(2 * width, seed=2)}
        state |= {"head_av.weight": made(classes, 2 * width, seed=3), "head_av.bias": made(classes, seed=4)}
    return state


def saved(path: Path, state: dict, **others) -> Path:
    torch.save({"model": state, **others}, path)
    return path


def reference_stack(x: Tensor, state: dict, prefix: str, depth: int, heads: int) -> Tensor:
    """Pre-norm blocks in plain torch, head by head."""
    width = x.shape[-1]
    e = width // heads
    for i in range(depth):
        s = {name.removeprefix(f"{prefix}.{i}."): value for name, value in state.items() if name.startswith(f"{prefix}.{i}.")}
        y = F.layer_norm(x, (width,), s["norm1.weight"], s["norm1.bias"], 1e-6)
        q, k, v = (y @ s["attn.qkv.weight"].T + s["attn.qkv.bias"]).split(width, dim=-1)
        mixed = []
        for head in range(heads):
            part = slice(head * e, (head + 1) * e)
            scores = q[..., part] @ k[..., part].transpose(1, 2) / e**0.5
            mixed.append(scores.softmax(-1) @ v[..., part])
        x = x + torch.cat(mixed, -1) @ s["attn.proj.weight"].T + s["attn.proj.bias"]
        y = F.layer_norm(x, (width,), s["norm2.weight"], s["norm2.bias"], 1e-6)
        x = x + F.gelu(y @ s["mlp.fc1.weight"].T + s["mlp.fc1.bias"]) @ s["mlp.fc2.weight"].T + s["mlp.fc2.bias"]
    return x


def reference(state: dict, audio: Tensor, video: Tensor, depth: int = 2, fusion: int = 2, heads: int = 2) -> dict[str, Tensor]:
    """What the layout defines, in plain torch: convolutions for the patches, slices for the tokens."""
    out = {}
    a = F.conv2d(audio, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=state["patch_embed.proj.weight"].shape[2:])
    v = F.conv3d(
        video, state["patch_embed_v.proj.weight"], state["patch_embed_v.proj.bias"], stride=state["patch_embed_v.proj.weight"].shape[2:]
    )
    streams = []
    for x, suffix in ((a, ""), (v, "_v")):
        x = x.flatten(2).transpose(1, 2)
        x = torch.cat([state[f"cls_token{suffix}"].expand(len(x), -1, -1), x], dim=1) + state[f"pos_embed{suffix}"]
        streams.append(reference_stack(x, state, f"blocks{suffix}", depth, heads))
    n = streams[0].shape[1]
    fused = reference_stack(torch.cat(streams, dim=1), state, "blocks_av", fusion, heads)
    out |= {"audio_tokens": streams[0][:, 1:], "video_tokens": streams[1][:, 1:]}
    out |= {"fused_audio_tokens": fused[:, 1:n], "fused_video_tokens": fused[:, n + 1 :]}
    if "head_av.weight" in state:
        pooled = torch.cat([out["fused_audio_tokens"].mean(1), out["fused_video_tokens"].mean(1)], dim=1)
        pooled = F.layer_norm(pooled, (pooled.shape[1],), state["fc_norm_av.weight"], state["fc_norm_av.bias"], 1e-6)
        out["scores"] = pooled @ state["head_av.weight"].T + state["head_av.bias"]
    return out


def off(ours: Tensor, theirs: Tensor) -> float:
    """The relative distance of two tensors, in L2."""
    return float((ours - theirs).norm() / theirs.norm())


def inputs(rows: int = 1) -> tuple[Tensor, Tensor]:
    return made(rows, 1, 1024, 128, seed=7, scale=1), made(rows, 3, 8, 224, 224, seed=8, scale=1)


SMALL = {"audio_grid": (4, 2), "video_grid": (2, 3, 3)}  # 8 and 18 patches


def small_layout(**sizes) -> dict[str, Tensor]:
    return layout(places=(8, 18), **sizes)


# What is computed


@torch.no_grad()
def test_a_pre_trained_file_computes_what_its_layout_defines(tmp_path):
    state = layout()
    model = load_released(saved(tmp_path / "a.pth", state))
    audio, video = inputs()
    encoded, wanted = model.encode(audio, video), reference(state, audio, video)
    for name, value in wanted.items():
        assert off(getattr(encoded, name), value) < 1e-5, name
    assert model.config.audio == ModelConfig().audio and model.config.video == ModelConfig().video
    assert not model.training


@torch.no_grad()
def test_a_fine_tuned_file_has_three_fusion_layers_and_classifies(tmp_path):
    state = layout(depth=1, fusion=3, classes=527)
    model = load_released(saved(tmp_path / "a.pth", state))
    audio, video = inputs()
    wanted = reference(state, audio, video, depth=1, fusion=3)
    scores = model.classify(audio=audio, video=video)
    assert scores.shape == (1, 527) and off(scores, wanted["scores"]) < 1e-5
    assert off(model.encode(audio, video).fused_video_tokens, wanted["fused_video_tokens"]) < 1e-5
    with pytest.raises(ValueError, match="both audio and video"):
        model.classify(audio=audio)


@torch.no_grad()
def test_the_blocks_are_timms_blocks(tmp_path):
    state = small_layout(depth=1)
    model = load_released(saved(tmp_path / "a.pth", state), **SMALL)
    block = timm.models.vision_transformer.Block(D, 2, qkv_bias=True, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))
    for prefix, ours in (("blocks.0.", model.audio_encoder), ("blocks_v.0.", model.video_encoder), ("blocks_av.1.", model.fusion)):
        block.load_state_dict({name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)})
        x = made(2, 9, D, seed=1, scale=1)
        assert off(ours.transformer.blocks[-1](x), block.eval()(x)) < 1e-6


@pytest.mark.parametrize(("width", "depth", "heads"), [(64, 1, 1), (192, 3, 3), (128, 2, 4), (96, 1, 3)])
@torch.no_grad()
def test_any_width_and_depth_is_read_from_the_shapes_and_heads_can_be_told(tmp_path, width, depth, heads):
    state = small_layout(width=width, depth=depth, fusion=1, ratio=3)
    told = None if heads * 64 == width else heads
    model = load_released(saved(tmp_path / "a.pth", state), heads=told, **SMALL)
    audio, video = made(2, 1, 64, 32, seed=7, scale=1), made(2, 3, 4, 48, 48, seed=8, scale=1)
    wanted = reference(state, audio, video, depth, 1, heads)
    encoded = model.encode(audio, video)
    assert all(off(getattr(encoded, name), value) < 1e-5 for name, value in wanted.items())
    if width == 128:
        other = load_released(tmp_path / "a.pth", **SMALL).encode(audio, video)
        assert off(other.audio_tokens, wanted["audio_tokens"]) > 1e-3, "the number of heads matters, and 2 is the default here"


def test_the_number_of_heads_must_be_told_where_64_does_not_divide_the_width(tmp_path):
    path = saved(tmp_path / "a.pth", small_layout(width=96, depth=1))
    with pytest.raises(ReleasedError, match="heads="):
        load_released(path, **SMALL)
    with pytest.raises(ReleasedError, match="96 is not a multiple of 5"):
        load_released(path, heads=5, **SMALL)


def test_the_positions_are_the_files_own_and_not_ours(tmp_path):
    state = small_layout(depth=1)
    model = load_released(saved(tmp_path / "a.pth", state), **SMALL)
    assert torch.equal(model.audio_encoder.positions, state["pos_embed"][0])
    assert torch.equal(model.video_encoder.positions, state["pos_embed_v"][0])
    assert not torch.allclose(model.audio_encoder.positions, sincos_positions((4, 2), D))


def test_another_grid_must_be_told_and_must_fit(tmp_path):
    path = saved(tmp_path / "a.pth", small_layout(depth=1))
    with pytest.raises(ReleasedError, match=r"9 rows.*\(64, 8\).*audio_grid"):
        load_released(path)
    with pytest.raises(ReleasedError, match=r"19 rows.*\(4, 14, 14\).*video_grid"):
        load_released(path, audio_grid=(4, 2))
    with pytest.raises(ReleasedError, match="video_grid is"):
        load_released(path, audio_grid=(4, 2), video_grid=(2, 9))
    config = load_released(path, **SMALL).config
    assert config.audio.grid == (4, 2) and config.video.grid == (2, 3, 3) and (config.audio.frames, config.video.height) == (64, 48)
    assert (config.audio.seconds, config.video.seconds) == (0.64, 2.0)


def test_half_precision_becomes_float32(tmp_path):
    state = small_layout(depth=1)
    model = load_released(saved(tmp_path / "a.pth", {name: value.half() for name, value in state.items()}), **SMALL)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.video_encoder.patch_embed.bias, state["patch_embed_v.proj.bias"].half().float())


# What is said


def test_further_keys_are_ignored_and_named(tmp_path):
    state = small_layout(depth=1) | blocks("decoder_blocks", 1) | {"mask_token": torch.zeros(1, 1, D), "note": "a text"}
    with pytest.warns(UserWarning, match=r"ignored: decoder_blocks \(12 keys\), mask_token"):
        model = load_released(saved(tmp_path / "a.pth", state, epoch=3, args=argparse.Namespace(lr=1e-4)), **SMALL)
    assert set(model.report.ignored) == {"mask_token", *blocks("decoder_blocks", 1)}
    assert set(model.report.used) == set(small_layout(depth=1))
    assert model.report.missing == ("audio_decoder", "video_decoder", "classifier")


def test_a_file_without_further_keys_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = load_released(saved(tmp_path / "a.pth", small_layout(depth=1, classes=5)), **SMALL)
    assert model.report.ignored == () and model.report.missing == ("audio_decoder", "video_decoder")


def test_without_decoders_a_model_says_so_when_it_is_to_reconstruct_and_without_a_head_when_it_is_to_classify(tmp_path):
    model = load_released(saved(tmp_path / "a.pth", small_layout(depth=1)), **SMALL)
    audio, video = made(2, 1, 64, 32, seed=7), made(2, 3, 4, 48, 48, seed=8)
    with pytest.raises(ValueError, match="no decoders"):
        model(audio, video, draw_masks(2, model.config, ObjectiveConfig()))
    with pytest.raises(ValueError, match="no classifier"):
        model.classify(audio, video)


def test_a_file_without_fusion_is_told(tmp_path):
    with pytest.warns(UserWarning, match="no fusion"):
        model = load_released(saved(tmp_path / "a.pth", small_layout(depth=1, fusion=0)), **SMALL)
    assert "fusion" in model.report.missing


@torch.no_grad()
def test_a_released_model_is_saved_and_shared_like_any_other(tmp_path):
    model = load_released(saved(tmp_path / "a.pth", small_layout(depth=1, fusion=3, classes=5)), **SMALL)
    again = MAViL.from_pretrained(model.save_pretrained(tmp_path / "ours"))
    assert again.config == model.config and again.config.decoder is None
    audio, video = made(2, 1, 64, 32, seed=7), made(2, 3, 4, 48, 48, seed=8)
    assert torch.equal(again.classify(audio, video), model.classify(audio, video))


# The other way


@pytest.mark.parametrize("classes", [None, 7])
def test_a_round_trip_is_exact_for_every_key_of_the_layout(tmp_path, classes):
    state = layout(depth=2, fusion=3 if classes else 2, classes=classes)
    exported = export_released(load_released(saved(tmp_path / "a.pth", state)), tmp_path / "b.pth")
    again = torch.load(tmp_path / "b.pth", weights_only=True)["model"]
    assert set(again) == set(state) == set(exported.keys)
    assert all(torch.equal(again[name], state[name]) and again[name].shape == state[name].shape for name in state)
    assert exported.left_out == ()
    export_released(load_released(tmp_path / "b.pth"), tmp_path / "b.pth")  # over the file that the weights are mapped to
    assert torch.equal(torch.load(tmp_path / "b.pth", weights_only=True)["model"]["pos_embed"], state["pos_embed"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth", "b.pth"]


@torch.no_grad()
def test_a_model_of_ours_is_exported_and_what_the_layout_cannot_hold_is_listed(tmp_path):
    model = MAViL(tiny()).eval()
    exported = export_released(model, tmp_path / "ours.pth")
    assert {"audio_decoder", "video_decoder", "audio_head", "video_head"} <= set(exported.left_out)
    assert {"heads=3", "audio_grid=(32, 2)", "video_grid=(8, 1, 8)", "audio.seconds=2.56"} <= set(exported.left_out)
    head = {"classes": 2, "class_names": ("dog", "rain"), "multi_label": True}
    tuned = MAViL(replace(tiny().model, decoder=None, projection=None, predict_statistics=False, **head))
    assert {"class_names=('dog', 'rain')", "multi_label=True"} <= set(export_released(tuned, tmp_path / "tuned.pth").left_out)
    again = load_released(tmp_path / "ours.pth", heads=3, audio_grid=(32, 2), video_grid=(8, 1, 8))
    audio, video = made(2, 1, 256, 128, seed=1), made(2, 3, 8, 32, 32, seed=2)
    assert torch.equal(model.encode(audio, video).fused_audio_tokens, again.encode(audio, video).fused_audio_tokens)


def test_a_model_with_bottlenecks_is_refused(tmp_path):
    model = MAViL(tiny())
    object.__setattr__(model.config, "fusion_kind", "bottleneck")  # as another config would have it
    with pytest.raises(ReleasedError, match="bottleneck"):
        export_released(model, tmp_path / "ours.pth")
    assert not list(tmp_path.iterdir())


# Files that are no such files


class Harm:
    """Pickled, it runs a command when it is read."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(tmp_path, form):
    proof, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    content = {"model": small_layout(depth=1), "extra": Harm(f"touch {proof}")}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ReleasedError, match="evil.pth") as refused:
        load_released(path, **SMALL)
    assert not proof.exists()
    assert "weights_only" not in str(refused.value), "no advice to read it all the same"
    with pytest.raises(ReleasedError):
        init_video_from_image_mae(MAViL(tiny()), path)
    assert not proof.exists()
    if form == "plain pickle":
        pickle.loads(path.read_bytes())
        assert proof.exists(), "the pickle of this test does run when it is let"
    else:
        assert "would run" in str(refused.value) or "run anyone's code" in str(refused.value)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused_with_a_sentence(tmp_path, share, legacy):
    buffer = io.BytesIO()
    torch.save({"model": small_layout(depth=1)}, buffer, _use_new_zipfile_serialization=not legacy)
    whole = buffer.getvalue()
    (tmp_path / "cut.pth").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ReleasedError, match="cut short"):
        load_released(tmp_path / "cut.pth", **SMALL)


def test_a_file_in_torchs_older_format_is_read(tmp_path):
    torch.save({"model": small_layout(depth=1)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert load_released(tmp_path / "old.pth", **SMALL).config.encoder.width == D


def test_safetensors_of_the_layout_are_read_and_ours_are_told_apart(tmp_path):
    state = small_layout(depth=1)
    save_file(state, tmp_path / "a.safetensors")
    assert torch.equal(load_released(tmp_path / "a.safetensors", **SMALL).audio_encoder.positions, state["pos_embed"][0])
    folder = MAViL(tiny()).save_pretrained(tmp_path / "ours")
    with pytest.raises(ReleasedError, match="from_pretrained"):
        load_released(folder / "model.safetensors")
    whole = (tmp_path / "a.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReleasedError, match="cut short"):
        load_released(tmp_path / "cut.safetensors", **SMALL)


def test_missing_files_folders_and_files_of_other_things_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(ReleasedError, match="no file"):
        load_released(tmp_path / "nowhere.pth")
    with pytest.raises(ReleasedError, match="no file"):
        load_released(tmp_path)
    for number, content in enumerate(([1, 2], {"model": {}}, {"model": 3}, torch.zeros(3), {"a": "b"})):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(ReleasedError, match="no dict of named tensors"):
            load_released(tmp_path / f"{number}.pth")
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ReleasedError, match="no cls_token"):
        load_released(tmp_path / "other.pth")


@pytest.mark.parametrize(
    "key",
    ["cls_token", "pos_embed_v", "patch_embed.proj.bias", "blocks.1.attn.qkv.bias", "blocks_v.0.norm2.weight", "blocks_av.1.mlp.fc2.bias"],
)
def test_a_missing_key_and_a_wrong_shape_are_named(tmp_path, key):
    state = small_layout()
    lacking = {name: value for name, value in state.items() if name != key}
    with pytest.raises(ReleasedError, match=key.replace(".", r"\.")):
        load_released(saved(tmp_path / "a.pth", lacking), **SMALL)
    wrong = state | {key: torch.zeros(*state[key].shape[:-1], state[key].shape[-1] + 1)}
    with pytest.raises(ReleasedError, match="shape|multiple of 64"):
        load_released(saved(tmp_path / "b.pth", wrong), **SMALL)


def test_a_whole_block_that_is_missing_and_half_a_head_are_refused(tmp_path):
    state = {name: value for name, value in small_layout(depth=3).items() if not name.startswith("blocks.1.")}
    with pytest.raises(ReleasedError, match=r"blocks\.1 is missing"):
        load_released(saved(tmp_path / "a.pth", state), **SMALL)
    state = {name: value for name, value in small_layout(depth=3).items() if not name.startswith("blocks_v.2.")}
    with pytest.raises(ReleasedError, match="3 blocks for sound and 2"):
        load_released(saved(tmp_path / "b.pth", state), **SMALL)
    state = {name: value for name, value in small_layout(depth=1, classes=4).items() if not name.startswith("fc_norm_av")}
    with pytest.raises(ReleasedError, match="fc_norm_av"):
        load_released(saved(tmp_path / "c.pth", state), **SMALL)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_refused_by_the_name_of_their_tensor(tmp_path, value):
    state = small_layout(depth=1)
    state["blocks_v.0.mlp.fc1.weight"][3, 5] = value
    with pytest.raises(ReleasedError, match=r"blocks_v\.0\.mlp\.fc1\.weight .*NaN"):
        load_released(saved(tmp_path / "a.pth", state), **SMALL)


def test_whole_numbers_in_place_of_weights_are_refused(tmp_path):
    state = small_layout(depth=1)
    with pytest.raises(ReleasedError, match="torch.int64"):
        load_released(saved(tmp_path / "a.pth", state | {"cls_token": state["cls_token"].long()}), **SMALL)


def test_tensors_that_claim_more_than_the_file_holds_are_refused_before_they_are_touched(tmp_path):
    state = small_layout(depth=1) | {"decoder": torch.zeros(1).expand(10**6, 10**6)}
    with pytest.raises(ReleasedError, match="claim"):
        load_released(saved(tmp_path / "a.pth", state), **SMALL)


def test_a_key_inside_the_blocks_that_would_change_what_they_compute_is_refused(tmp_path):
    state = small_layout(depth=1) | {"blocks.0.ls1.gamma": torch.ones(D)}
    with pytest.raises(ReleasedError, match=r"blocks\.0\.ls1\.gamma"):
        load_released(saved(tmp_path / "a.pth", state), **SMALL)


# Image models


def image_vit(**options) -> timm.models.VisionTransformer:
    """timm's ViT with random weights, small: 16 × 16 patches of 48 × 48 pixels."""
    torch.manual_seed(0)
    sizes = {"img_size": 48, "patch_size": 16, "embed_dim": D, "depth": 2, "num_heads": 2, "num_classes": 3}
    vit = timm.models.VisionTransformer(**(sizes | options)).eval()
    for p in vit.parameters():
        p.data = torch.randn_like(p) * 0.05 + (p.data == 1)
    return vit


def small_model() -> MAViL:
    """Encoders to match: the video's patches are 2 × 16 × 16, of 4 × 48 × 48."""
    config = ModelConfig()
    return MAViL(
        replace(
            config,
            audio=replace(config.audio, frames=48, mel_bins=48, seconds=0.5),
            video=replace(config.video, frames=4, height=48, width=48),
            encoder=replace(config.encoder, width=D, depth=2, heads=2),
            decoder=None,
        )
    ).eval()


@torch.no_grad()
def test_a_video_encoder_started_from_an_image_vit_embeds_a_clip_that_stands_still_as_timm_embeds_its_picture():
    vit, model = image_vit(), small_model()
    report = init_video_from_image_mae(model, vit.state_dict())
    picture = made(2, 3, 48, 48, seed=3, scale=1)
    clip = picture[:, :, None].expand(-1, -1, 4, -1, -1)
    ours = model.video_encoder.patch_embed(patchify(clip, model.config.video))
    theirs = vit.patch_embed(picture)
    assert off(ours[:, :9], theirs) < 1e-6 and off(ours[:, 9:], theirs) < 1e-6
    # and the whole encoder, given the same tokens: timm's own blocks
    tokens = torch.cat([vit.cls_token.expand(2, -1, -1), ours], dim=1) + model.video_encoder.positions
    encoded = model.encode(video=clip)
    assert off(encoded.video_tokens, vit.blocks(tokens)[:, 1:]) < 1e-5
    assert set(report.ignored) == {"pos_embed", "norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert report.missing == ("video_encoder.positions",)


@torch.no_grad()
def test_an_audio_encoder_started_from_an_image_vit_embeds_a_spectrogram_as_timm_embeds_it_in_grey_a_third():
    vit, model = image_vit(), small_model()
    positions = model.audio_encoder.positions.clone()
    init_audio_from_image_mae(model, {"model": 0, **vit.state_dict()})
    spectrogram = made(2, 1, 48, 48, seed=3, scale=1)
    ours = model.audio_encoder.patch_embed(patchify(spectrogram, model.config.audio))
    theirs = vit.patch_embed(spectrogram.expand(-1, 3, -1, -1) / 3)  # the mean over the colours of the kernel
    assert off(ours, theirs) < 1e-6
    assert torch.equal(model.audio_encoder.positions, positions), "positions stay ours"
    tokens = torch.cat([vit.cls_token.expand(2, -1, -1), ours], dim=1) + positions
    assert off(model.encode(audio=spectrogram).audio_tokens, vit.blocks(tokens)[:, 1:]) < 1e-5


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_image_weights_are_read_from_files_with_or_without_a_decoder(tmp_path, kind):
    state = image_vit().state_dict()
    extra = state | {"decoder_pred.weight": torch.zeros(4, 4), "mask_token": torch.zeros(1, 1, 4)}
    path = tmp_path / f"mae.{kind}"
    save_file(extra, path) if kind == "safetensors" else torch.save({"model": extra}, path)
    model = small_model()
    report = init_video_from_image_mae(model, path)
    assert torch.equal(model.video_encoder.class_token.detach(), state["cls_token"].flatten())
    assert {"decoder_pred.weight", "mask_token"} <= set(report.ignored)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 3}, "3 blocks"),
        ({"embed_dim": 64, "num_heads": 1}, "kernel"),
        ({"patch_size": 8}, "kernel"),
        ({"mlp_ratio": 2}, "fc1"),
        ({"init_values": 0.1}, "ls1"),
        ({"qkv_bias": False}, "qkv.bias"),
    ],
)
def test_an_image_model_that_does_not_fit_is_refused_and_changes_nothing(options, words):
    model = small_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for init in (init_video_from_image_mae, init_audio_from_image_mae):
        with pytest.raises(ReleasedError, match=words):
            init(model, image_vit(**options).state_dict())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_kernel_and_its_linear_weight_are_each_others_inverse():
    config = ModelConfig()
    for kernel, side in ((made(5, 1, 16, 16, seed=1), config.audio), (made(5, 3, 2, 16, 16, seed=2), config.video)):
        assert torch.equal(linear_to_kernel(kernel_to_linear(kernel), side), kernel)


# A clip as the model takes it


def test_a_file_becomes_the_released_models_input(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", pictures(12 * 25, 320, 240), sound=tone(12.0))
    found = preprocess(clip)
    assert found.audio.shape == (1, 1, 1024, 128) and found.video.shape == (1, 3, 8, 224, 224)
    padding = 4.2677393 / (2 * 4.5689974)
    assert torch.allclose(found.audio[0, 0, 998:], torch.tensor(padding)), "998 frames of 10 s, and padding of 0 before normalisation"
    assert not torch.isclose(found.audio[0, 0, 997], torch.tensor(padding)).all()
    greys = ((found.video[0, 0] * 0.229 + 0.485) * 255).mean(dim=(1, 2))  # 4 to 8 s of the file, at the middle of eight half seconds
    shown = torch.tensor([float(grey(int((4.25 + i / 2) * 25 + 1e-6))) for i in range(8)])
    assert (greys - shown).abs().max() < 3


def test_sound_is_what_torchaudios_kaldi_front_end_makes_of_it_normalised():
    from torchaudio.compliance.kaldi import fbank

    waveform = torch.from_numpy(tone(10.0)) + 0.1
    wanted = fbank(
        (waveform - waveform.mean())[None], htk_compat=True, sample_frequency=16_000, use_energy=False, window_type="hanning",
        num_mel_bins=128, dither=0.0, frame_shift=10,
    )  # fmt: skip
    wanted = (F.pad(wanted, (0, 0, 0, 1024 - len(wanted))) + 4.2677393) / (2 * 4.5689974)
    assert (preprocess((waveform, None)).audio[0, 0] - wanted).abs().max() < 1e-3


def test_pictures_are_normalised_by_imagenets_colours_and_what_is_missing_is_none(tmp_path):
    frames = torch.zeros(8, 224, 224, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    found = preprocess((None, frames))
    assert found.audio is None
    assert torch.allclose(found.video[0, :, 3, 5, 7], torch.tensor([-0.485 / 0.229, (1 - 0.456) / 0.224, -0.406 / 0.225]), atol=1e-6)
    assert preprocess(make_clip(tmp_path / "mute.mp4", pictures(50))).audio is None
    assert preprocess(make_clip(tmp_path / "dark.wav", sound=tone(3.0), acodec="pcm_s16le")).video is None
    with pytest.raises(ValueError, match="5 frames"):
        preprocess((None, frames[:5]))
    with pytest.raises(ValueError, match="neither"):
        preprocess((None, None))


# The size that it is made for

MEASURE = """
import sys, time
import mavil_edu.released
def kilobytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))
before, started = kilobytes("VmRSS"), time.perf_counter()
model = mavil_edu.released.load_released(sys.argv[1])
print(time.perf_counter() - started, (kilobytes("VmHWM") - before) * 1024, sum(p.numel() for p in model.parameters()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_a_file_of_vit_b_loads_in_10_seconds_and_in_1_3_times_its_size_of_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "made", lambda *shape, seed, scale=0.05: torch.full(shape, float(scale)))  # no dice: quicker
    path = saved(tmp_path / "b.pth", layout(width=768, depth=12))
    size = path.stat().st_size
    assert size > 700e6
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    path.unlink()
    assert done.returncode == 0, done.stderr
    seconds, grown, parameters = map(float, done.stdout.split())
    print(f"{size / 1e6:.0f} MB: {seconds:.2f} s, {grown / size:.2f} times the file in memory")
    assert seconds < 10 and grown < 1.3 * size and parameters > 180e6


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="what is mapped is read from Linux's /proc")
def test_the_weights_of_a_loaded_model_lie_in_the_file_and_a_step_of_training_does_not_reach_it(tmp_path):
    path = saved(tmp_path / "a.pth", small_layout(depth=1))
    before = path.read_bytes()
    model = load_released(path, **SMALL)
    assert str(path) in Path("/proc/self/maps").read_text()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    assert path.read_bytes() == before
