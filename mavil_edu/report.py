"""A run's report: one HTML file that holds its pictures, sounds and videos, and asks nothing of any network."""

import base64
import html
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mavil_edu import figures
from mavil_edu.files import write_text
from mavil_edu.scorecard import caption, left_out, table_rows

FEW_STEPS = 300  # of `tiny`: 48 ended above the best trivial answers, 363 below them (sound by 4 %, pictures by 32 %)
FEW_CLIPS = 20  # of fewer held-out clips, one found more or less moves a share by over 5 points
FEW = "So few steps seldom beat the answers that need no learning."

TERMS = {
    "audio_mse": "audio: masked MSE",
    "video_mse": "video: masked MSE",
    "inter": "InfoNCE between modalities",
    "intra": "InfoNCE within a modality",
}
STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --paper: #ffffff; --soft: #eef0f3; --line: #c9ced6; --good: #1b7a4b; --bad: #b3401a }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --paper: #14171c; --soft: #20252d; --line: #3b424d; --good: #6fd3a0; --bad: #ff9b73 }
}
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
body { margin: 2rem auto; max-width: 66rem; padding: 0 1rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem }
h2, h3 { margin-top: 2.2rem }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
caption { text-align: left; font-size: .88rem; opacity: .85; padding-bottom: .3rem }
th, td { padding: .35rem .9rem; border-bottom: 1px solid var(--line); text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
td.n, .good, .bad { white-space: nowrap }
.good { color: var(--good); font-weight: 600 }
.bad { color: var(--bad); font-weight: 600 }
figure { margin: 1rem 0 }
figcaption { font-size: .88rem; opacity: .85 }
img, video { max-width: 100%; border-radius: 6px }
.row { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem; margin: 1rem 0 }
.row figure { margin: 0; width: 14.5rem; max-width: 100% }
audio { width: 14.5rem; max-width: 100% }
video { width: 12rem; image-rendering: pixelated }
details { background: var(--soft); padding: .6rem 1rem; border-radius: 6px; margin: 1rem 0 }
pre { overflow-x: auto; font-size: .82rem }
"""
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"  # the browser itself forbids any request
CONTROL = (
    "<p><strong>A control: each training sound came with another clip's picture.</strong> What is learnt here needs no correspondence.</p>"
)
MODALITIES = {"audio": "sound", "video": "picture"}
SPACES = {"normalised": "each patch normalised to mean 0 and variance 1", "raw": "raw patches", "teacher": "its teacher's tokens"}
ABOUT = {  # by the target's kind: what the model learnt, and what its trivial answers are
    "patches": (
        "MAViL, stage 1: most of each clip's sound and picture was hidden; the model filled it in, and learnt which sound belongs to "
        "which picture.",
        "each position's mean over the training clips, a copy of the nearest visible patch, the mean corrected by the visible "
        "neighbours; and chance.",
    ),
    "tokens": (
        "MAViL, stage 2: most of each clip's sound and picture was hidden; of the hidden places the model predicted what its teacher, "
        "a frozen model that saw the whole clip, says of them, and it learnt which sound belongs to which picture.",
        "one constant vector, and each position's mean token over the training clips; and chance.",
    ),
}
KINDS = {".png": "image/png", ".wav": "audio/wav", ".mp4": "video/mp4"}


def few_clips(held_out: int) -> str:
    """What so few held-out clips can tell, and what to do."""
    return (
        f"Only {held_out} clip{'s were' if held_out != 1 else ' was'} measured: shares of so few tell little. "
        "Give more clips, or others by --eval-data."
    )


def _source(path: Path) -> str:
    return f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _say(value: object) -> str:
    return html.escape(str(value))


def _media(run: Path, item: dict) -> str:
    """A picture, a sound or a video of an example, by its file's suffix."""
    path, caption = run / item["file"], _say(item.get("caption", item["file"]))
    if not path.is_file():
        return f"<p>{caption}: the file <code>{_say(item['file'])}</code> is not there.</p>"
    source = _source(path)
    if path.suffix == ".png":
        element = f'<img alt="{_say(item["alt"]) if item.get("alt") else caption}" src="{source}">'
    else:
        tag = "audio" if path.suffix == ".wav" else "video"
        element = f'<{tag} controls preload="metadata" aria-label="{caption}" src="{source}"></{tag}>'
    return f"<figure>{element}<figcaption>{caption}</figcaption></figure>"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _number(part: dict | None, name: str) -> float | None:
    """A finite number of the summary, or None where it is missing, null or not finite."""
    value = (part or {}).get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _compared(part: dict) -> tuple[str, str]:
    """A modality's error against the best trivial answer, in words, and the style of these words."""
    ours, best = _number(part, "masked_mse"), _number(part, "best_trivial_mse")
    if ours is None or best is None:
        return "not measured", ""
    if best == 0:
        return "nothing to predict", ""
    gain = 1 - ours / best
    return f"{100 * abs(gain):.0f} % {'better' if gain > 0 else 'worse'}", "good" if gain > 0 else "bad"


def _cell(value: float | None, shown: str = "{:.3f}") -> str:
    return f'<td class="n">{"–" if value is None else shown.format(value)}</td>'


def _reconstruction_rows(summary: dict) -> list[str]:
    rows = []
    for name, title in MODALITIES.items():
        part = summary.get(name)
        if not part:
            continue
        words, style = _compared(part)
        others = ", ".join(f"{_say(key.replace('_', ' '))} {value:.3f}" for key, value in (part.get("trivial") or {}).items())
        rows.append(
            f'<tr><th scope="row">{title}: hidden patches, mean squared error</th>'
            f"{_cell(_number(part, 'masked_mse'))}{_cell(_number(part, 'best_trivial_mse'))}"
            f'<td class="{style}">{words}</td><td>{others}</td></tr>'
        )
    return rows


def _recalls(summary: dict) -> list[tuple[str, int, float, float]]:
    """What was measured of retrieval: title, k, R@k, chance."""
    found = summary.get("retrieval") or {}
    measured = [
        (title, k, _number(found.get(way), f"r{k}"), _number(found, f"chance_r{k}"))
        for way, title in (("audio_to_video", "find the picture of a sound"), ("video_to_audio", "find the sound of a picture"))
        for k in (1, 5)
    ]
    return [row for row in measured if row[2] is not None and row[3] and row[3] < 1]  # among k clips or fewer, all are found


def _style(ours: float, chance: float, clips: int | str) -> str:
    """Good where a share of the clips lies above what chance alone reaches, by two of its standard errors; bad at chance or below it."""
    spread = (chance * (1 - chance) / clips) ** 0.5 if isinstance(clips, int) else 0.0
    return "good" if ours > chance + 2 * spread else "bad" if ours <= chance else ""


def _retrieval_rows(summary: dict) -> list[str]:
    clips = (summary.get("retrieval") or {}).get("clips", "?")
    return [
        f'<tr><th scope="row">{title} among {_say(clips)}, R@{k}</th>{_cell(100 * ours, "{:.1f} %")}{_cell(100 * chance, "{:.1f} %")}'
        f'<td class="{_style(ours, chance, clips)}">{ours / chance:.1f} × chance</td><td></td></tr>'
        for title, k, ours, chance in _recalls(summary)
    ]


def _verdict(summary: dict) -> str:
    """The table in words, good or bad."""
    items = []
    for name, title in MODALITIES.items():
        if summary.get(name):
            words, style = _compared(summary[name])
            than = " than the best answer that needs no learning" if style else ""
            items.append(f'{title.capitalize()}, hidden patches: <span class="{style}">{words}</span>{than}.')
    for title, k, ours, chance in _recalls(summary):
        if k == 5:
            style = _style(ours, chance, summary["retrieval"].get("clips", "?"))
            items.append(
                f"{title.capitalize()}: its own is among the first five in {_percent(ours)} of the cases, "
                f'<span class="{style}">{ours / chance:.1f} × chance</span>.'
            )
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>" if items else "<p>This run has no measured result.</p>"


def _about_clips(summary: dict) -> str:
    clips = summary.get("clips") or {}
    held = "none of them seen in training" if summary.get("held_out") else "those it was trained on, for there were no others"
    steps = summary.get("steps", "?")
    counts = f"Trained for {steps} steps on clips drawn from {clips.get('trained', '?')}"
    text = f"<p>{counts}; measured on {clips.get('held_out', '?')} clips: {held}.</p>"
    if isinstance(steps, int) and steps < FEW_STEPS:
        text += f"<p>{FEW}</p>"
    held_out = clips.get("held_out")
    if isinstance(held_out, int) and held_out < FEW_CLIPS:
        text += f"<p>{few_clips(held_out)}</p>"
    if silent := clips.get("silent_windows"):
        text += f"<p>{silent} draws gave no sample (silent, or not readable) and were left out.</p>"
    if skipped := clips.get("skipped"):
        items = "".join(f"<li><code>{_say(entry['path'])}</code>: {_say(entry['reason'])}</li>" for entry in skipped)
        count = "1 file was" if len(skipped) == 1 else f"{len(skipped)} files were"
        text += f"<details open><summary>{count} left out</summary><ul>{items}</ul></details>"
    return text


def _read_rows(file: Path) -> list[dict]:
    """The rows of `metrics.jsonl`; a line that a kill has cut short is left out."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def _read_json(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else missing


def _example(run: Path, example: dict) -> str:
    """One clip: everything in one picture, its sounds, its videos, and the pictures one by one."""
    pictures, sounds, videos = ([_media(run, item) for item in example.get(kind) or []] for kind in ("figures", "audio", "video"))
    larger = f"<details><summary>spectrograms and frames, larger</summary>{''.join(pictures[1:])}</details>" if pictures[1:] else ""
    rows = "".join(f'<div class="row">{"".join(items)}</div>' for items in (sounds, videos) if items)
    return f"<h3>{_say(example.get('title', example.get('name', 'a clip')))}</h3>{''.join(pictures[:1])}{rows}{larger}"


def write_example_page(out: Path, example: dict, model: str, notes: Sequence[str]) -> Path:
    """Writes `reconstruction.html`, one clip's pictures, sounds and videos, from an entry of `examples.json`; returns its path.

    model: by which the reconstruction is. notes: what there is to say of the clip.
    """
    told = "".join(f"<p>{_say(note)}</p>" for note in notes)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_say(example["title"])}, reconstructed</title><style>{STYLE}</style></head><body><main>
<h1>What a model fills in</h1>
<p>Part of this clip was hidden, and the model {_say(model)} filled it in. It is trained on hidden patches only: what it says of
visible ones (third row) means nothing; the fourth row leaves it out.</p>{told}
{_example(out, example)}
</main></body></html>
"""
    write_text(out / "reconstruction.html", page)
    return out / "reconstruction.html"


def _scorecard(run: Path) -> str:
    """The table of `evaluation.json`, where the clips had labels."""
    card = _read_json(run / "evaluation.json", None)
    if card is None:
        return ""
    heading, rows = table_rows(card)
    head = "".join(f"<th>{_say(name)}</th>" for name in heading)
    body = "".join(f"<tr><td>{_say(row[0])}</td>{''.join(f'<td class=n>{_say(text)}</td>' for text in row[1:])}</tr>" for row in rows)
    left = "".join(f"<p>{_say(sentence)}</p>" for sentence in left_out(card))
    return (
        "<h2>What the embeddings hold</h2><p>Labels are used here for the first time: small probes are fitted on the embeddings of "
        "training clips and asked about held-out ones. Raw features are the mean over time of the log-mel spectrogram, and an 8 × 8 "
        "thumbnail; the untrained model has the same architecture and fresh weights.</p>"
        f"<table><caption>{_say(caption(card))}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}"
    )


def write_report(run: Path) -> Path:
    """Writes `report.html` from what a run's folder holds: summary, metrics, examples, config.

    The curves are drawn here and also kept as `figures/curves.png`. Returns the report's path.
    """
    summary, examples = _read_json(run / "summary.json", {}), _read_json(run / "examples.json", [])
    rows = _read_rows(run / "metrics.jsonl")
    picture = figures.curves(rows, TERMS)
    drawn = picture.save(run / "figures" / "curves.png")

    shown = "".join(_example(run, example) for example in examples)
    space = SPACES.get(summary.get("target"), summary.get("target"))
    student = summary.get("target") == "teacher"
    about, trivial = ABOUT["tokens" if student else "patches"]
    clips = (
        "<p>None are shown: this model predicts tokens, which are no pictures and no sounds.</p>"
        if student
        else f"""<p>The model is trained on hidden patches only: what it says of visible ones (third row) means nothing; the fourth row
leaves it out.</p>{shown or "<p>No examples were written.</p>"}"""
    )
    parameters = _number(summary, "parameters")
    made = f"{_say(summary.get('seconds', '?'))} s on {_say(summary.get('machine', '?'))}"
    made += "" if parameters is None else f"; {parameters:,.0f} parameters"
    settings = (run / "config.json").read_text(encoding="utf-8") if (run / "config.json").exists() else "{}"
    versions = ", ".join(f"{_say(name)} {_say(number)}" for name, number in (summary.get("versions") or {}).items())
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MAViL stage {2 if student else 1}: {_say(run.name)}</title><style>{STYLE}</style></head><body><main>
<h1>What this model has learnt</h1>
<p>{about}</p>
{CONTROL if summary.get("shuffled_pairs") else ""}
{_verdict(summary)}
{_about_clips(summary)}
<table><caption>Each number beside the answer that needs no learning</caption>
<thead><tr><td></td><th>this model</th><th>best trivial answer</th><th>verdict</th><th>all trivial answers</th></tr></thead>
<tbody>{"".join(_reconstruction_rows(summary) + _retrieval_rows(summary))}</tbody></table>
<p>Errors are measured in the space of the training target: {_say(space)}. The trivial answers are what one
reaches without learning: {trivial}</p>
{_scorecard(run)}
<h2>Clips</h2>
{clips}
<h2>Training</h2>{figures.image_html(drawn.read_bytes(), picture.sentence)}
<h2>How it was made</h2>
<p>{made}.<br>
<code>{_say(summary.get("command", ""))}</code><br>{versions}</p>
<details><summary>config.json</summary><pre>{_say(settings)}</pre></details>
</main></body></html>
"""
    write_text(run / "report.html", page)
    return run / "report.html"
