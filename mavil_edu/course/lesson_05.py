"""Exercises and questions of lesson 05: sound and picture meet."""

import torch
from einops import rearrange
from torch import Generator

from mavil_edu.course.entry import Exercise, Quiz, normal


def running_sum(x):
    """A stand-in for the transformer's blocks that shows in which order the tokens stand."""
    return x.cumsum(dim=1)


def _pairs(g: Generator) -> list[tuple]:
    sizes = ((1, 2, 3, 4), (2, 4, 3, 2), (3, 1, 5, 3))
    return [(normal(g, b, 1, d), normal(g, b, a, d), normal(g, b, 1, d), normal(g, b, v, d), running_sum) for b, a, v, d in sizes]


def _fuse(parts, order, block):
    """Joined in another order, the results told apart by it again."""
    joined = block(torch.cat([parts[i] for i in order], dim=1)).split([parts[i].shape[1] for i in order], dim=1)
    return [joined[order.index(i)] for i in range(4)]


def _fuse_by_split(audio_class, audio, video_class, video, block):
    parts = (audio_class, audio, video_class, video)
    return block(torch.cat(parts, dim=1)).split([part.shape[1] for part in parts], dim=1)


def _queries(g: Generator) -> list[tuple]:
    return [(normal(g, b, heads, n, e), normal(g, b, heads, n, e)) for b, heads, n, e in ((1, 1, 3, 4), (2, 3, 5, 8), (1, 2, 4, 16))]


def _maps(g: Generator) -> list[tuple]:
    return [(normal(g, b, heads, n, n).softmax(-1), audio) for b, heads, n, audio in ((1, 1, 5, 2), (3, 2, 7, 4), (2, 4, 6, 1))]


def _streams(g: Generator) -> list[tuple]:
    return [(normal(g, b, a, d), normal(g, b, v, d), m) for b, a, v, d, m in ((1, 5, 7, 2, 2), (2, 8, 6, 3, 4), (1, 4, 6, 2, 2))]


def _bottlenecks(audio, video, m, shared_of):
    """Both streams with shared bottlenecks at their ends."""
    shared = shared_of(audio[:, -m:], video[:, -m:])
    return torch.cat([audio[:, :-m], shared], dim=1), torch.cat([video[:, :-m], shared], dim=1)


def _share_in_place(audio, video, m):
    audio, video = audio.clone(), video.clone()
    audio[:, -m:] = video[:, -m:] = torch.stack([audio[:, -m:], video[:, -m:]]).mean(0)
    return audio, video


def _share_the_first(audio, video, m):
    shared = (audio[:, :m] + video[:, :m]) / 2
    return torch.cat([shared, audio[:, m:]], dim=1), torch.cat([shared, video[:, m:]], dim=1)


EXERCISES = (
    Exercise(
        name="cross_modal_mask",
        lesson="05",
        minutes=6,
        difficulty=1,
        task="In a list of `audio` sound tokens followed by `video` picture tokens: which pairs (i, j) are of "
        "different modalities? A boolean "
        "tensor (n, n), n = audio + video.",
        draw=lambda g: [(2, 3), (1, 4), (3, 1), (8, 8)],
        hints=("First, for each token alone: is it sound?", "a[:, None] != a[None, :] compares each with each."),
        wrong={
            "Those are the pairs within one modality; the pairs across are wanted.": lambda a, v: (
                (torch.arange(a + v) < a)[:, None] == (torch.arange(a + v) < a)
            ),
            "You marked one direction, from sound to picture; from picture to sound counts as well.": lambda a, v: (
                (torch.arange(a + v) < a)[:, None] & (torch.arange(a + v) >= a)
            ),
            "You marked the other direction alone, from picture to sound; both count.": lambda a, v: (
                (torch.arange(a + v) >= a)[:, None] & (torch.arange(a + v) < a)
            ),
        },
        alternative=lambda a, v: torch.block_diag(torch.ones(a, a), torch.ones(v, v)) == 0,
    ),
    Exercise(
        name="fuse",
        lesson="05",
        minutes=10,
        difficulty=2,
        task="Join [audio class, audio, video class, video], each (b, its tokens, d), in this order to one list of "
        "tokens, let `block` change "
        "it, and take it apart again: four tensors of the shapes given.",
        draw=_pairs,
        hints=(
            'pack([…], "b * d") joins along the axis of the star, and remembers the shapes.',
            'unpack(x, shapes, "b * d") takes apart what pack has joined.',
        ),
        wrong={
            "Each modality went through the block alone: so they never meet. Join all four first.": lambda ac, a, vc, v, block: [
                *_fuse_by_split(ac, a, ac[:, :0], a[:, :0], block)[:2],
                *_fuse_by_split(vc, v, vc[:, :0], v[:, :0], block)[:2],
            ],
            "You joined the two class tokens first; each stands before its own modality.": lambda *a: _fuse(a[:4], [0, 2, 1, 3], a[4]),
            "Your pictures come before the sounds; the sounds come first.": lambda *a: _fuse(a[:4], [2, 3, 0, 1], a[4]),
            "Your class tokens stand behind the tokens of their modality; they come first.": lambda *a: _fuse(a[:4], [1, 0, 3, 2], a[4]),
            "The block is missing: what you joined is what you took apart.": lambda ac, a, vc, v, block: [ac, a, vc, v],
        },
        alternative=_fuse_by_split,
    ),
    Exercise(
        name="attention_map",
        lesson="05",
        minutes=10,
        difficulty=2,
        task="From queries and keys (b, heads, n, e) to the attention (b, heads, n, n): likenesses divided by the "
        "root of e, then a softmax, so "
        "that what each query gives to all keys sums to 1.",
        draw=_queries,
        hints=(
            "All likenesses: q @ k.transpose(-1, -2).",
            "e is the width of one head, q.shape[-1].",
            "The keys are the last axis: softmax(dim=-1).",
        ),
        wrong={
            "The root of e is missing: wide heads would attend to a single key.": lambda q, k: (q @ k.mT).softmax(-1),
            "You divided by e; divide by its root.": lambda q, k: (q @ k.mT / q.shape[-1]).softmax(-1),
            "Your columns sum to 1; each query's row has to: softmax over the keys, dim=-1.": lambda q, k: (
                q @ k.mT / q.shape[-1] ** 0.5
            ).softmax(-2),
            "You swapped queries and keys: row i belongs to query i.": lambda q, k: (k @ q.mT / q.shape[-1] ** 0.5).softmax(-1),
            "You divided by the root of the number of tokens; e is the width of one head.": lambda q, k: (
                q @ k.mT / q.shape[-2] ** 0.5
            ).softmax(-1),
            "The softmax is missing.": lambda q, k: q @ k.mT / q.shape[-1] ** 0.5,
        },
        alternative=lambda q, k: torch.nn.functional.softmax(
            torch.matmul(q * q.shape[-1] ** -0.5, rearrange(k, "b h n e -> b h e n")), dim=3
        ),
    ),
    Exercise(
        name="attention_to_sound",
        lesson="05",
        minutes=12,
        difficulty=3,
        task="How much do the picture's tokens listen? maps is attention (b, heads, n, n), rows are queries, the "
        "first `audio` tokens are sound. "
        "For each clip: the share of a picture token's attention that falls on sound, averaged over its picture tokens and heads: (b,).",
        draw=_maps,
        hints=(
            "Rows are those who ask, columns those who answer.",
            "maps[:, :, audio:, :audio] is what pictures give to sounds.",
            "Sum over the columns: shares add up. Then the mean over the rest.",
        ),
        wrong={
            "That is what sounds give to pictures; rows are the queries.": lambda m, a: m[:, :, :a, a:].sum(-1).mean((1, 2)),
            "You took the mean over the sounds; shares add up, so sum over them.": lambda m, a: m[:, :, a:, :a].mean((1, 2, 3)),
            "That is what pictures give to pictures.": lambda m, a: m[:, :, a:, a:].sum(-1).mean((1, 2)),
            "You averaged over all queries; only the pictures' count.": lambda m, a: m[..., :a].sum(-1).mean((1, 2)),
            "You averaged over the clips as well; each has its own share.": lambda m, a: m[:, :, a:, :a].sum(-1).mean(),
        },
        alternative=lambda m, a: 1 - m[:, :, a:, a:].sum(dim=(1, 2, 3)) / (m.shape[1] * (m.shape[2] - a)),
    ),
    Exercise(
        name="share_bottlenecks",
        lesson="05",
        minutes=12,
        difficulty=3,
        task="After a layer of bottleneck fusion each modality has written into its own copy of the m bottlenecks, "
        "which are the last m tokens of "
        "audio (b, n, d) and of video (b, k, d). Replace both copies by their mean; return audio and video.",
        draw=_streams,
        hints=(
            "audio[:, -m:] are its bottlenecks.",
            "Bottleneck i of the sound is averaged with bottleneck i of the picture.",
            "Join the rest and the mean again with torch.cat(…, dim=1).",
        ),
        wrong={
            "You averaged over the bottlenecks, too: now all m of them say the same.": lambda a, v, m: _bottlenecks(
                a, v, m, lambda x, y: ((x + y) / 2).mean(1, keepdim=True).expand_as(x)
            ),
            "You added the two copies; take their mean, or they grow from layer to layer.": lambda a, v, m: _bottlenecks(
                a, v, m, torch.add
            ),
            "Only the sound got the mean; the picture keeps its own copy, and never hears.": lambda a, v, m: (
                _bottlenecks(a, v, m, lambda x, y: (x + y) / 2)[0],
                v.clone(),
            ),
            "You took the first m tokens; the bottlenecks stand last.": _share_the_first,
            "You swapped the copies; both get their mean.": lambda a, v, m: (
                torch.cat([a[:, :-m], v[:, -m:]], dim=1),
                torch.cat([v[:, :-m], a[:, -m:]], dim=1),
            ),
        },
        alternative=_share_in_place,
    ),
)

QUIZZES = (
    Quiz(
        name="why_bottlenecks",
        lesson="05",
        question="What do a few bottleneck tokens save, compared with joint attention over all tokens?",
        choices=(
            ("Sounds and pictures are not compared token by token.", "n² + k² in place of (n + k)², and only what matters has to pass."),
            ("The encoders.", "Each modality still has its own; the fusion comes after them."),
            ("The decoders.", "Each modality still has its decoder."),
        ),
        right="a",
    ),
    Quiz(
        name="two_layers",
        lesson="05",
        question="Bottleneck fusion with a single layer: what do the picture's tokens hear of the sound?",
        choices=(
            ("Everything, through the bottlenecks.", "In the first layer the bottlenecks only hold what they were at the start."),
            ("Half of it, because of the mean.", "The mean comes after the layer; within it the picture reads what was there before."),
            ("Nothing: they are written in the first layer and read in the second.", "Written, averaged, read: that takes two layers."),
        ),
        right="c",
    ),
    Quiz(
        name="mismatched_sound",
        lesson="05",
        question="Pictures are filled in with the sound of another clip, and the error rises. What does it show?",
        choices=(
            ("The model is broken.", "A model that ignores the sound would not care; this one does."),
            (
                "The model used the sound to fill in the pictures.",
                "The wrong sound misleads it; with no effect it would never have listened.",
            ),
            ("The other clip was louder.", "Loudness alone is ruled out by comparing many clips; what is left is what the sounds tell."),
        ),
        right="b",
    ),
)
