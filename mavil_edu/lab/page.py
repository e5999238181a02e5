"""docs/reproduction.md, made of the ledger: what the paper says, what is found, how sure. Its hand-written part is kept elsewhere."""

import json
from pathlib import Path

from mavil_edu.files import write_text
from mavil_edu.lab.arms import QUICK_LABEL
from mavil_edu.lab.ledger import LEDGER_FILE, read_rows
from mavil_edu.lab.pictures import forest, loss_curves

NOTES_FILE = "notes.md"  # by hand: why something does not reproduce; beside the ledger, and copied into the page
CURVES = ("full", "joint reconstruction", "shuffled pairs", "student 1")
RULE = """Fixed before any run, in `mavil_edu/lab/verdicts.py` and `claims.py`. Arms are compared seed by seed: the arms of a
seed begin with the same weights wherever their modules agree and meet the same clips in the same order. A difference's interval is
the paired mean ± Student's t at 95 % (4 degrees of freedom with 5 seeds); where m differences decide a claim, at 1 − 0.05 / m (Bonferroni).

- *holds*: the interval of every deciding difference lies above 0, and its mean reaches the smallest difference of interest;
- *does not hold*: the whole interval of one of them lies below that smallest difference;
- *undecided at this scale*: neither.

"Close" holds where the interval lies within three smallest differences of 0. Smallest differences: {least} points.

Nothing is tuned on the clips that are asked here: the presets were chosen on worlds of seeds 2 and 3 (`--split validation`), and the page
asks worlds of seeds 12 and 13; classifiers are trained, stopped and tested on worlds of seeds 211 to 213. AV-MNIST keeps its own
validation split for choices. Seeds beyond the budget's are not counted, so that none are added until a claim holds.

- *skill*: what linear probes read of the causes of 500 clips from sound, pictures and both; 0 is chance, 100 perfect; mean over causes.
- *retrieval*: R@5 in per cent, mean of both directions; 1 is chance. *overall*: the mean of the two.
- *reconstruction*: 100 · (1 − masked MSE of normalised patches), mean of both modalities.
- *accuracy*: of a classifier fine-tuned on labels, in per cent; always saying the commonest class gives 16.5 on the world, 10 on AV-MNIST.
"""

PAPER = """The paper reports, after pre-training on AudioSet-2M and fine-tuning [53.3 and 67.1 are stated in it, the others recalled]:

| | sound | pictures | both |
|---|---|---|---|
| AudioSet-2M, mAP | 48.7 | 30.3 | 53.3 |
| AudioSet-20K, mAP | 41.8 | 24.8 | 44.9 |
| VGGSound, top-1 in % | 60.8 | 50.9 | 67.1 |
| ESC-50, Speech Commands, top-1 in % | 94.4, 97.4 | | |

and R@1 23.8 from sound to video on MSR-VTT. None of these numbers can be compared with those of this page: other clips, other labels, and a
model of a two-hundredth of the size. What can be compared is the direction of each claim.
"""


def _number(value: float | None) -> str:
    return "∞" if value is None else f"{value:+.1f}"


def _how_sure(one: dict) -> str:
    if one.get("mean") is None:
        return "not run"
    return f"{one['mean']:+.1f} [{_number(one['low'])}, {_number(one['high'])}], {one['seeds']} seeds"


def table(claims: dict[str, dict], proves: bool) -> str:
    """ "Paper says / we find / how sure", a line a claim, with its deciding differences."""
    lines = ["| claim | paper says | we find | how sure |", "|---|---|---|---|"]
    for name, claim in claims.items():
        deciding = [one for one in claim["differences"] if one["decides"]]
        sure = "<br>".join(f"{one['what']}: {_how_sure(one)}" for one in deciding)
        verdict = claim["verdict"] + (" at this scale" if claim["verdict"] == "undecided" else "")
        found = verdict if proves or verdict == "not run" else f"(quick, proves nothing: {verdict})"
        lines.append(f"| `{name}` | {claim['says']} [{claim['source']}] | **{found}** | {sure} |")
    return "\n".join(lines)


def _more(claims: dict[str, dict]) -> str:
    lines = ["| claim | also measured | difference | by the rule |", "|---|---|---|---|"]
    for name, claim in claims.items():
        for one in claim["differences"]:
            if not one["decides"]:
                lines.append(f"| `{name}` | {one['what']} | {_how_sure(one)} | {one['verdict']} |")
    return "\n".join(lines)


def _controls(claims: dict[str, dict]) -> str:
    found = {name: metrics for claim in claims.values() for name, metrics in claim["controls"].items()}
    arms = {}
    for claim in claims.values():
        for one in claim["differences"]:
            for arm, value in one["means"].items():
                arms.setdefault(arm, {})[one["metric"]] = value
    columns = ("skill", "skill_audio", "skill_video", "skill_fused", "retrieval", "reconstruction", "accuracy")
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, metrics in ({f"control: {name}": one for name, one in found.items()} | arms).items():
        lines.append(f"| {name} | " + " | ".join(f"{metrics[c]:.1f}" if c in metrics else "" for c in columns) + " |")
    return "\n".join(lines)


def _not_reproduced(claims: dict[str, dict], notes: str) -> str:
    lines = [f"- `{name}`: {claim['verdict']}." for name, claim in claims.items() if claim["verdict"] in ("does not hold", "undecided")]
    return "\n".join([*(lines or ["Nothing is listed: see the table for what has been run."]), "", notes]).strip()


def write_page(results: Path, docs: Path) -> Path:
    """Writes `reproduction.md` and its pictures into `docs` from a results folder such as `results/reproduction/standard`.

    What people wrote into `notes.md` beside the ledger is copied in, and never changed. Raises ValueError where there is no ledger.
    """
    file = results / LEDGER_FILE
    if not file.exists():
        raise ValueError(f"There is no {file}; run mavil-edu reproduce first.")
    ledger = json.loads(file.read_text(encoding="utf-8"))
    claims, proves = ledger["claims"], ledger["proves"]
    label = "" if proves else QUICK_LABEL
    notes = results / NOTES_FILE
    parts = ["# What MAViL claims, tested at small scale", ""]
    if label:
        parts += [f"**{label}**", ""]
    run = [claim for claim in claims.values() if claim["verdict"] != "not run"]
    parts += [
        f"Made by `{ledger['command']}`, budget `{ledger['budget']['name']}`, {ledger['seeds']} seeds, {ledger['runs']} runs, "
        f"{ledger['minutes']:g} minutes of one thread in all, {ledger['written']}. {len(run)} of {len(claims)} claims have been run."
        + (f" {len(ledger['failed'])} runs failed." if ledger["failed"] else ""),
        "",
        table(claims, proves),
        "",
        PAPER,
    ]
    pictures = []
    rows: dict[str, dict[int, dict]] = {}
    for row in read_rows(results / "rows"):
        rows.setdefault(row["arm"], {})[row["seed"]] = row
    if run:
        pictures.append((forest(claims, label), "reproduction-forest.png"))
    if any(name in rows for name in CURVES[:3]):
        pictures.append((loss_curves(rows, CURVES[:3], label), "reproduction-curves.png"))
    for picture, name in pictures:
        picture.save(docs / "images" / name)
        parts += [f"![{picture.sentence}](images/{name})", ""]
    least = ", ".join(f"{name} {value:g}" for name, value in ledger["smallest differences"].items())
    parts += ["## The rule", "", RULE.format(least=least), "## Arms and controls", "", _controls(claims), ""]
    parts += [
        "## Not deciding, but measured",
        "",
        _more(claims),
        "",
        "## Can the lab tell an effect from none?",
        "",
        _null_text(ledger),
        "",
    ]
    written = notes.read_text(encoding="utf-8").strip() if notes.exists() else ""
    parts += ["## What does not reproduce at this scale", "", _not_reproduced(claims, written), ""]
    page = docs / "reproduction.md"
    write_text(page, "\n".join(parts))
    return page


def _null_text(ledger: dict) -> str:
    found, bar = ledger["null rates"]["found"], 100 * ledger["null rates"]["bar"]
    if not found:
        return "The null arms have not been run with enough seeds for resampling (`mavil-edu reproduce null planted`)."
    worst = max(found, key=found.get)
    return (
        f"Two groups of {ledger['seeds']} seeds of one recipe, dealt 1,000 times from the real runs: a difference is found in "
        f"{100 * found[worst]:.1f} % of the deals for the worst metric, {worst} (bar: {bar:g} %)."
    )
