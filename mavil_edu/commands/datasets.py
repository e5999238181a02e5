"""Commands that get or narrow public data sets: avmnist, subset."""

import json as json_module
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mavil_edu.commands.common import say


def avmnist(out: Path, seed: int = 0) -> None:
    """Builds AV-MNIST (spoken digits with handwritten ones) from its public sources, some 20 MB, checked by checksums.

    Example: mavil-edu avmnist --out av_mnist

    Args:
        out: a new or empty folder.
        seed: of the split of the writers and of the pairing.
    """
    from mavil_edu.data.avmnist_build import build

    for name, count in build(out, seed).items():
        say(f"{name}: {count} pairs")
    say(f"The data set is in {out}. Its sound is CC BY-SA 4.0: keep this licence on what is made of it and handed on.")


def subset(
    list: Path,
    out: Path,
    clips: Path | None = None,
    only: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CLASS …")] = (),
    per_class: int | None = None,
    split: Literal["train", "test"] | None = None,
    seed: int = 0,
    kind: Literal["vggsound", "audioset"] | None = None,
    classes: Path | None = None,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Draws a small subset from VGGSound's or AudioSet's official list, and tells which of its clips are there.

    Writes into OUT the drawn list, under the official one's name and in its form, ready to be used as a list; a copy of the file of
    class names; and, with --clips, status.csv: each drawn clip as present (with its path in CLIPS) or missing.

    Example: mavil-edu subset --list vggsound.csv --only "playing flute" "dog barking" --per-class 50 --clips downloads --out small

    Args:
        list: the official CSV file, in any of its published forms.
        out: a new or empty folder.
        clips: the folder with the clips downloaded so far.
        only: names of the classes to draw from; by default all.
        per_class: clips of each class; by default all there are. Clips of several classes may bring more of some.
        split: train or test; by default both.
        seed: the same seed draws the same clips, whichever of them are there.
        kind: whose list it is; by default recognised.
        classes: the list's file of class names; by default the one beside it.
        json: print the counts as an object.
    """
    from mavil_edu.data.official import STATUS_FILE, draw, read_list, write_subset

    listing = read_list(list, kind, classes)
    counts = write_subset(listing, draw(listing, only, per_class, split, seed), out, clips)
    if json:
        print(json_module.dumps(counts, indent=1, ensure_ascii=False))
        return
    for name, count in counts["classes"].items():
        if name in only or not only:
            say(f"{count:6d}  {name}" + (f" (fewer than {per_class} in the list)" if per_class and count < per_class else ""))
    if listing.repeated:
        say(f"{listing.repeated} lines of {list} repeat a clip; its first line counts.")
    say(f"{counts['drawn']} of {len(listing.entries)} clips are drawn into {out / list.name}.")
    if clips is not None:
        say(f"{counts['present']} of them are in {clips}, {counts['missing']} are missing; {out / STATUS_FILE} lists both.")
