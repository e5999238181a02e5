"""Ours beside transformers': what is timed is the same work, and where it is not, what differs is what is said to differ."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mavil_edu import paper, small, tiny
from mavil_edu.benchmarks import interleaved
from mavil_edu.benchmarks import peers as benchmark_peers
from mavil_edu.cli import main
from mavil_edu.config import TransformerConfig
from mavil_edu.hardware import Peak
from mavil_edu.patches import linear_to_kernel
from mavil_edu.transformer import multiply_adds

CPU = torch.device("cpu")
BATCH = 2


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers", reason="transformers is not installed: pip install 'mavil-edu[bench]'")


def test_ways_take_turns_and_a_first_call_of_each_is_not_counted(monkeypatch):
    clock, called = SimpleNamespace(now=0.0), []
    clock.perf_counter = lambda: clock.now
    clock.process_time = lambda: clock.now / 2
    monkeypatch.setattr(interleaved, "time", clock)

    def way(name: str, seconds: float):
        def act() -> None:
            called.append(name)
            clock.now += seconds if called.count(name) > 1 else 100.0

        return act

    took = interleaved.interleaved({"slow": way("slow", 4.0), "quick": way("quick", 1.0)}, rounds=3)
    assert "".join(name[0] for name in called) == "sq" + "sq" + "qs" + "sq"
    assert took["slow"].wall == [4.0] * 3 and took["quick"].cpu == [0.5] * 3
    assert interleaved.ratio(took["slow"].wall, took["quick"].wall) == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert interleaved.ratio([1, 2, 9], [1, 1, 1])["median"] == 2, "round by round, and one bad round does not count"


@pytest.mark.parametrize(
    ("config", "peer", "grid", "values", "visible"),
    [
        (tiny(), "videomae", (4, 4, 4), 384, 13),
        (small(), "videomae", (4, 4, 4), 1536, 13),
        (paper(), "videomae", (4, 14, 14), 1536, 157),
        (paper(), "vitmae", (22, 22), 256, 97),
        (tiny(), "vitmae", (8, 8), 484, 13),
    ],
    ids=["tiny, video", "small, video", "paper, video", "paper, sound", "tiny, sound"],
)
def test_the_work_is_the_presets_in_squares(config, peer, grid, values, visible):
    work = benchmark_peers.work_for(peer, config, BATCH)
    assert (work.inputs.grid, work.inputs.patch_values, work.visible) == (grid, values, visible)
    assert (work.encoder, work.decoder, work.batch) == (config.model.encoder, config.model.decoder, BATCH)
    if peer == "videomae":
        assert work.inputs.tokens == config.model.video.tokens and values == config.model.video.patch_values
    assert int((~benchmark_peers.noise_for(work, CPU)[1]).sum()) == BATCH * visible


@pytest.mark.parametrize("peer", ["videomae", "vitmae"])
def test_our_arithmetic_is_that_of_encoder_and_decoder(peer):
    work = benchmark_peers.work_for(peer, tiny(), BATCH)
    n, k, wide, narrow, values = work.inputs.tokens, work.visible, work.encoder.width, work.decoder.width, work.inputs.patch_values
    rest = multiply_adds(work.encoder, k + 1) + (k + 1) * wide * narrow + multiply_adds(work.decoder, n + 1) + n * narrow * values
    assert benchmark_peers.multiply_adds("ours", peer, work) == BATCH * (2 * k * values * wide + 3 * rest)


def forward_only(way: str, peer: str, work: benchmark_peers.Work) -> int:
    """Multiply-adds of one clip's forward pass."""
    model, _ = benchmark_peers.make(way, peer, work, CPU)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        benchmark_peers.loss_of(model, *(one[:1] for one in benchmark_peers.noise_for(work, CPU)))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_videomae_differs_in_what_is_told_and_in_nothing_else(transformers, attention):
    work = benchmark_peers.work_for("videomae", tiny(), BATCH)
    n, k, wide, narrow, values = work.inputs.tokens, work.visible, work.encoder.width, work.decoder.width, work.inputs.patch_values
    embeds_hidden = (n - k) * values * wide
    no_class_token = wide * narrow + sum(
        multiply_adds(stack, one + 1) - multiply_adds(stack, one) for stack, one in ((work.encoder, k), (work.decoder, n))
    )
    predicts_hidden_only = k * narrow * values
    theirs, ours = (forward_only(way, "videomae", work) for way in (attention, "ours"))
    assert theirs - ours == embeds_hidden - no_class_token - predicts_hidden_only


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_vitmae_with_our_weights_has_our_loss(transformers, attention):
    work = benchmark_peers.work_for("vitmae", tiny(), BATCH)
    ours, _ = benchmark_peers.make("ours", "vitmae", work, CPU)
    theirs, _ = benchmark_peers.make(attention, "vitmae", work, CPU)
    x, mask = benchmark_peers.noise_for(work, CPU)
    other = float(benchmark_peers.loss_of(theirs, x, mask))
    theirs.vit.layernorm = nn.Identity()  # one of the differences that are told
    theirs.vit.embeddings.patch_embeddings.projection.weight.copy_(linear_to_kernel(ours.encoder.patch_embed.weight, work.inputs))
    theirs.vit.embeddings.patch_embeddings.projection.bias.copy_(ours.encoder.patch_embed.bias)
    theirs.vit.embeddings.cls_token.copy_(ours.encoder.class_token)
    theirs.vit.embeddings.position_embeddings.copy_(ours.encoder.positions)
    theirs.decoder.decoder_pos_embed.copy_(ours.decoder.positions)
    theirs.decoder.mask_token.copy_(ours.decoder.mask_token)
    for name, part in (("decoder_embed", "embed"), ("decoder_norm", "norm"), ("decoder_pred", "predict")):
        theirs.decoder.get_submodule(name).load_state_dict(ours.decoder.get_submodule(part).state_dict())
    for stack, blocks in ((theirs.vit.layers, ours.encoder), (theirs.decoder.decoder_layers, ours.decoder)):
        for layer, block in zip(stack, blocks.transformer.blocks, strict=True):
            copy_block(layer, block)
    wanted = float(benchmark_peers.loss_of(ours, x, mask))
    assert float(benchmark_peers.loss_of(theirs, x, mask)) == pytest.approx(wanted, rel=1e-5)
    assert abs(other - wanted) > 1e-3 * wanted, "with its own weights its loss is another"


def copy_block(layer: nn.Module, block: nn.Module) -> None:
    """Our block's weights in transformers' layer, whose linears follow one another as q, k, v, out, in, out."""
    linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
    norms = [module for module in layer.modules() if isinstance(module, nn.LayerNorm)]
    weights, biases = block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3)
    mine = [*zip(weights, biases, strict=True), *((m.weight, m.bias) for m in (block.attn.proj, block.mlp.fc1, block.mlp.fc2))]
    mine += [(m.weight, m.bias) for m in (block.norm1, block.norm2)]
    for module, (weight, bias) in zip([*linears, *norms], mine, strict=True):
        module.weight.copy_(weight)
        module.bias.copy_(bias)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the high-water mark cannot be lowered")
def test_memory_holds_weights_and_gradients(transformers):
    work = benchmark_peers.work_for("vitmae", tiny(), 1)._replace(encoder=TransformerConfig(512, 6, 8))
    weights = 4 * sum(p.numel() for p in benchmark_peers.PlainMAE(work).parameters()) / 2**20
    found = benchmark_peers.peak_megabytes("ours", "vitmae", work, 1)
    assert 1.8 * weights < found < 2.6 * weights + 40


def test_without_transformers_a_sentence_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert main(["benchmark", "peers"]) == 2
    assert "pip install 'mavil-edu[bench]'" in capsys.readouterr().err


def test_numbers_that_cannot_be_are_told(capsys):
    assert main("benchmark peers --batch 0".split()) == 2
    assert "needs 1 clip and round or more" in capsys.readouterr().err


def test_the_command_tells_times_ratios_shares_and_memory(transformers, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_peers, "matrix_peak", lambda *_: Peak(0.05, 512, "float32"))
    monkeypatch.setattr(benchmark_peers, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    monkeypatch.setattr(benchmark_peers, "peak_megabytes", lambda way, peer, work, threads: {"ours": 5, "eager": 7, "sdpa": 6}[way])
    assert main("benchmark peers --against videomae --batch 2 --rounds 2 --json".split()) == 0
    answer = json.loads(capsys.readouterr().out)
    one = answer["peers"]["videomae"]
    assert [one[way]["megabytes"] for way in benchmark_peers.WAYS] == [5, 7, 6]
    for way in benchmark_peers.WAYS:
        took = one[way]["ms"]
        assert 0 < took["low"] <= took["median"] <= took["high"]
        assert one[way]["mfu"]["median"] == pytest.approx(2 * one[way]["multiply_adds"] / (took["median"] / 1000) / 0.05e12)
        assert one[way]["mfu"]["fastest"] >= one[way]["mfu"]["median"]
    assert set(one["ratio"]) == set(one["cpu_ratio"]) == {"eager", "sdpa"}
    text = benchmark_peers.table(answer)
    assert "not alike: VideoMAE embeds hidden patches too" in text and "13 visible" in text
