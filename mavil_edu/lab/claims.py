"""The ledger: what the paper claims, and what would decide it at small scale. Written before any run that it judges."""

from dataclasses import dataclass

from mavil_edu.lab.arms import FRESH_SHIFT, NULL_SHIFT, Arm
from mavil_edu.lab.verdicts import Expect


@dataclass(frozen=True)
class Difference:
    """A sum of arms' metrics with signs, taken seed by seed."""

    terms: tuple[tuple[float, str], ...]
    metric: str = "skill"
    held: str = "steps"  # what the arms have in common, or "compute"
    decides: bool = True
    expect: Expect = "more"

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(name for _, name in self.terms)

    def __str__(self) -> str:
        words = " ".join(f"{'+' if sign > 0 else '−'} {name}" for sign, name in self.terms)
        return f"{words.removeprefix('+ ')}: {self.metric}, equal {self.held}"


@dataclass(frozen=True)
class Claim:
    """A sentence that can fail."""

    name: str
    says: str  # the paper's claim, in few words
    source: str  # [P] stated in the paper, [R] recalled from it, [O] our own
    hypothesis: str
    differences: tuple[Difference, ...]
    controls: tuple[str, ...] = ("shuffled pairs", "untrained", "raw features")
    seeds: int = 1  # that its verdict takes, times the budget's

    @property
    def arms(self) -> tuple[str, ...]:
        """Every arm that it compares or shows, each once."""
        return tuple(dict.fromkeys([name for one in self.differences for name in one.arms] + list(self.controls)))


def minus(one: str, other: str, metric: str = "skill", **options) -> Difference:
    return Difference(((1, one), (-1, other)), metric, **options)


NO_CONTRAST = (("objective.alpha", 0.0), ("objective.beta", 0.0), ("objective.inter_views", 1))
ONE_VIEW = (("objective.beta", 0.0), ("objective.inter_views", 1))
SEPARATE = (*NO_CONTRAST, ("model.fusion_kind", "none"))
STRUCTURED = (("objective.audio_masking", "time"), ("objective.video_masking", "frame"))
ALIKE, SCARCE = (("objective.second_ratio", None),), (("objective.second_ratio", 0.9),)
QUARTER, CROSS = (("objective.decoded_share", 0.25),), (("model.decoder_attention", "cross"),)
FAST = (*CROSS, *QUARTER, *SCARCE)
LEAK = (("objective.audio_ratio", 0.0), ("objective.video_ratio", 0.0), ("objective.scored", "all"))


def _ratio(share: float) -> tuple[tuple[str, float], ...]:
    return (("objective.audio_ratio", share), ("objective.video_ratio", share))


def _with_labels(data: str, start: str) -> list[Arm]:
    place = "" if data == "world" else ", digits"
    return [
        Arm(f"{name} {100 * share:g} %{place}", kind="labels", data=data, needs=needs, labels=share)
        for share in (0.01, 0.1, 1.0)
        for name, needs in (("fine-tuned", start), ("from scratch", None))
    ]


ARMS = {
    arm.name: arm
    for arm in [
        Arm("full"),
        Arm("shuffled pairs", shuffled=True),
        Arm("untrained", kind="untrained"),
        Arm("raw features", kind="raw"),
        Arm("joint reconstruction", NO_CONTRAST),
        Arm("separate autoencoders", SEPARATE),
        Arm("separate autoencoders, joint's compute", SEPARATE, compute_of="joint reconstruction"),
        Arm("with inter", ONE_VIEW),
        Arm("with inter and intra", (("objective.inter_views", 1),)),
        Arm("with inter, both's compute", ONE_VIEW, compute_of="with inter and intra"),
        Arm("student 1", needs="full"),
        Arm("student 2", needs="student 1"),
        Arm("student 3", needs="student 2"),
        Arm("full, twice the steps", steps=2.0),
        Arm("half hidden", _ratio(0.5)),
        Arm("nine tenths hidden", _ratio(0.9)),
        Arm("half hidden, full's compute", _ratio(0.5), compute_of="full"),
        Arm("whole times hidden", STRUCTURED),
        Arm("bottleneck fusion", (("model.fusion_kind", "bottleneck"),)),
        Arm("a quarter decoded", QUARTER),
        Arm("cross decoder", CROSS),
        Arm("cross decoder, a quarter", (*CROSS, *QUARTER)),
        Arm("from nine tenths hidden", (("objective.ratio_start", 0.9),)),
        Arm("second view as the first", ALIKE),
        Arm("second view at nine tenths", SCARCE),
        Arm("fast", FAST),
        Arm("fast, fresh seeds", FAST, shift=FRESH_SHIFT),
        Arm("second view as the first, fresh seeds", ALIKE, shift=FRESH_SHIFT),
        Arm("alpha 0.1", (("objective.alpha", 0.1),)),
        Arm("alpha 1", (("objective.alpha", 1.0),)),
        Arm("alpha 0.01", (("objective.alpha", 0.01),)),
        Arm("alpha 0.1, tau 1", (("objective.alpha", 0.1), ("objective.tau_inter", 1.0))),
        Arm("alpha 0.1, tau 0.01", (("objective.alpha", 0.1), ("objective.tau_inter", 0.01))),
        Arm("500 clips", clips=500),
        Arm("2,000 clips", clips=2000),
        Arm("full, other seeds", shift=NULL_SHIFT),
        Arm("leak", LEAK),
        Arm("digits", data="av_mnist"),
        *_with_labels("world", "full"),
        *_with_labels("av_mnist", "digits"),
    ]
}


def _few_labels(place: str) -> tuple[Difference, ...]:
    def gain(share: str, sign: float = 1) -> tuple[tuple[float, str], ...]:
        return ((sign, f"fine-tuned {share} %{place}"), (-sign, f"from scratch {share} %{place}"))

    return (
        Difference(gain("10"), "accuracy"),
        Difference((*gain("1"), *gain("100", -1)), "accuracy"),
        Difference(gain("1"), "accuracy", decides=False),
        Difference(gain("100"), "accuracy", decides=False),
    )


LEDGER = {
    claim.name: claim
    for claim in [
        Claim(
            "fusion",
            "Reconstructing with both modalities fused beats two separate masked autoencoders.",
            "R",
            "Without contrast, embeddings of a model with joint fusion tell more causes than those of one without fusion.",
            (
                minus("joint reconstruction", "separate autoencoders"),
                minus("joint reconstruction", "separate autoencoders", "reconstruction", decides=False),
                minus("joint reconstruction", "separate autoencoders, joint's compute", held="compute", decides=False),
            ),
        ),
        Claim(
            "inter",
            "Inter-modal contrast helps classification and makes retrieval possible.",
            "R",
            "Added to reconstruction, InfoNCE between sound and picture raises what probes read, and R@5.",
            (minus("with inter", "joint reconstruction"), minus("with inter", "joint reconstruction", "retrieval")),
        ),
        Claim(
            "intra",
            "Intra-modal contrast helps further.",
            "R",
            "A second view and InfoNCE within each modality raise what probes read; both arms have inter-modal contrast on the first view.",
            (
                minus("with inter and intra", "with inter"),
                minus("with inter and intra", "with inter", "retrieval", decides=False),
                minus("with inter and intra", "with inter, both's compute", held="compute", decides=False),
            ),
        ),
        Claim(
            "stage2",
            "Contextualised targets of stage 2 beat the raw targets of stage 1.",
            "P",
            "A student of the full model, freshly begun and trained for as many steps, is read better than its teacher.",
            (
                minus("student 1", "full"),
                minus("student 1", "full", "retrieval", decides=False),
                minus("student 1", "full, twice the steps", held="compute", decides=False),
            ),
        ),
        Claim(
            "alone",
            "The gain also holds for each modality alone.",
            "R",
            "The whole method, stage 2 included, is read better than separate autoencoders from sound alone and from pictures alone.",
            (minus("student 1", "separate autoencoders", "skill_audio"), minus("student 1", "separate autoencoders", "skill_video")),
        ),
        Claim(
            "masking",
            "High masking ratios (about 80 %) and random masking do best.",
            "R",
            "Hiding 80 % at random is read better than hiding half or nine tenths, and than hiding whole moments.",
            (
                minus("full", "half hidden"),
                minus("full", "nine tenths hidden"),
                minus("full", "whole times hidden"),
                minus("full", "half hidden, full's compute", held="compute", decides=False),
            ),
        ),
        Claim(
            "bottlenecks",
            "Fusion by bottlenecks (MBT) and by joint attention are close.",
            "R",
            "What probes read differs by less than three points.",
            (minus("bottleneck fusion", "full", expect="close"),),
        ),
        Claim(
            "retrieval",
            "Retrieval needs the contrastive term.",
            "O",
            "R@5 of the full model is above that of reconstruction alone, and of contrast between shuffled pairs.",
            (minus("full", "joint reconstruction", "retrieval"), minus("full", "shuffled pairs", "retrieval")),
        ),
        Claim(
            "weights",
            "Temperature 0.1 and weight α = 0.1 are good choices.",
            "R",
            "They beat ten times as much and as little of either, on the mean of probes and R@5.",
            tuple(minus("alpha 0.1", other, "overall") for other in ("alpha 1", "alpha 0.01", "alpha 0.1, tau 1", "alpha 0.1, tau 0.01")),
        ),
        Claim(
            "iterations",
            "Stage 2 may be iterated (K = 1, 2, 3).",
            "R",
            "The second student is read better than the first, and the third than the second.",
            (minus("student 2", "student 1"), minus("student 3", "student 2")),
        ),
        Claim(
            "few-labels",
            "Self-supervision helps most where labels are few.",
            "O",
            "Fine-tuned beats from scratch with 10 % of the labels, and gains more with 1 % than with 100 %; generated clips.",
            _few_labels(""),
            (),
        ),
        Claim(
            "few-labels-digits",
            "Self-supervision helps most where labels are few.",
            "O",
            "The same on AV-MNIST, whose speakers and writers differ between training and test.",
            _few_labels(", digits"),
            (),
        ),
        Claim(
            "more-clips",
            "Self-supervision grows with unlabelled clips.",
            "O",
            "7,500 clips are better than 2,000, and those than 500, at equal steps.",
            (minus("full", "2,000 clips"), minus("2,000 clips", "500 clips")),
        ),
        Claim(
            "null",
            "(A check of the lab.) Equal recipes with different seeds do not differ.",
            "O",
            "No difference is found between two groups of seeds of one recipe.",
            (minus("full, other seeds", "full", expect="equal"), minus("full, other seeds", "full", "retrieval", expect="equal")),
            (),
        ),
        Claim(
            "planted",
            "(A check of the lab.) A leak is found.",
            "O",
            "A model that is shown the patches it has to predict predicts them better.",
            (minus("leak", "full", "reconstruction"),),
            (),
        ),
    ]
}

OPTIONS = {  # not the paper's claims but what this package's own options cost: asked by name, and no part of the ledger's page
    claim.name: claim
    for claim in [
        Claim(
            "less-work",
            "Cross-attention in the decoder, fewer patches decoded (CrossMAE) and a curriculum of mask ratios cost no quality (DiffMAViL).",
            "R",
            "A cross-attention decoder asked for a quarter of the hidden patches costs no more than 3 points of skill and 6 of R@5.",
            (
                minus("cross decoder, a quarter", "full", expect="not worse"),
                minus("cross decoder, a quarter", "full", "retrieval", expect="not worse"),
                minus("cross decoder, a quarter", "full", "reconstruction", expect="not worse", decides=False),
                *(
                    minus(arm, "full", metric, expect="not worse", decides=False)
                    for arm in ("a quarter decoded", "cross decoder", "from nine tenths hidden")
                    for metric in ("skill", "retrieval", "reconstruction")
                ),
            ),
        ),
        Claim(
            "fast",
            "What --fast leaves out costs no quality: a second view that hides nine tenths, beside the decoder of less-work.",
            "O",
            "Against two views that hide 80 % each it costs no more than 3 points of skill and 6 of R@5.",
            (
                minus("fast", "second view as the first", expect="not worse"),
                minus("fast", "second view as the first", "retrieval", expect="not worse"),
                minus("fast", "second view as the first", "reconstruction", expect="not worse", decides=False),
                minus("second view at nine tenths", "second view as the first", expect="not worse", decides=False),
                minus("second view at nine tenths", "second view as the first", "retrieval", expect="not worse", decides=False),
                minus("second view as the first", "full", "retrieval", expect="not worse", decides=False),
            ),
        ),
        Claim(
            "fast-again",
            "What --fast leaves out costs no quality: asked again of three times as many seeds, none of which `fast` has seen.",
            "O",
            "Against two views that hide 80 % each it costs no more than 3 points of skill and 6 of R@5.",
            tuple(
                minus(
                    "fast, fresh seeds",
                    "second view as the first, fresh seeds",
                    metric,
                    expect="not worse",
                    decides=metric != "reconstruction",
                )
                for metric in ("skill", "retrieval", "reconstruction")
            ),
            (),
            seeds=3,
        ),
    ]
}
