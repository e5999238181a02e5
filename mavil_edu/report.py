"""A run's report: one HTML file that holds its pictures, sounds and videos, and asks nothing of any network."""

import base64
import html
import json
from pathlib import Path

from mavil_edu import figures
from mavil_edu.checkpoint import write_text

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
th, td { padding: .35rem .9rem; border-bottom: 1px solid var(--line); text-align: left }
td.n { text-align: right; font-variant-numeric: tabular-nums }
.good { color: var(--good); font-weight: 600 }
.bad { color: var(--bad); font-weight: 600 }
figure { margin: 1rem 0 }
figcaption { font-size: .88rem; opacity: .85 }
img, video { max-width: 100%; border-radius: 6px }
.row { display: flex; flex-wrap: wrap; gap: 1rem 1.6rem }
.row figure { margin: 0; max-width: 19rem }
audio { width: 18rem; max-width: 100% }
video { width: 12rem; image-rendering: pixelated }
details { background: var(--soft); padding: .6rem 1rem; border-radius: 6px; margin: 1rem 0 }
pre { overflow-x: auto; font-size: .82rem }
"""
SPACES = {"normalised": "each patch normalised to mean 0 and variance 1", "raw": "raw patches"}
KINDS = {".png": "image/png", ".wav": "audio/wav", ".mp4": "video/mp4"}


def _source(path: Path) -> str:
    return f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _say(value: object) -> str:
    return html.escape(str(value))


def _media(run: Path, item: dict) -> str:
    """A picture, a sound or a video of an example, by its file's suffix."""
    path, caption = run / item["file"], _say(item["caption"])
    source = _source(path)
    if path.suffix == ".png":
        element = f'<img alt="{_say(item.get("alt", item["caption"]))}" src="{source}">'
    else:
        tag = "audio" if path.suffix == ".wav" else "video"
        element = f'<{tag} controls preload="metadata" aria-label="{caption}" src="{source}"></{tag}>'
    return f"<figure>{element}<figcaption>{caption}</figcaption></figure>"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _reconstruction_rows(summary: dict) -> list[str]:
    rows = []
    for name, title in (("audio", "sound"), ("video", "picture")):
        part = summary.get(name)
        if not part:
            continue
        ours, best = part["masked_mse"], part["best_trivial_mse"]
        gain = 1 - ours / best if best else 0.0
        verdict = f'<span class="{"good" if gain > 0 else "bad"}">{100 * abs(gain):.0f} % {"better" if gain > 0 else "worse"}</span>'
        others = ", ".join(f"{_say(key.replace('_', ' '))} {value:.3f}" for key, value in part.get("trivial", {}).items())
        rows.append(
            f'<tr><th scope="row">{title}: hidden patches, mean squared error</th>'
            f'<td class="n">{ours:.3f}</td><td class="n">{best:.3f}</td>'
            f"<td>{verdict}</td><td>{others}</td></tr>"
        )
    return rows


def _retrieval_rows(summary: dict) -> list[str]:
    found = summary.get("retrieval")
    if not found:
        return []
    rows = []
    for way, title in (("audio_to_video", "find the picture of a sound"), ("video_to_audio", "find the sound of a picture")):
        for k in (1, 5):
            ours, chance = found[way][f"r{k}"], found[f"chance_r{k}"]
            times = f'<span class="{"good" if ours > chance else "bad"}">{ours / chance:.1f} × chance</span>'
            rows.append(
                f'<tr><th scope="row">{title} among {found["clips"]}, R@{k}</th><td class="n">{_percent(ours)}</td>'
                f'<td class="n">{_percent(chance)}</td><td>{times}</td><td></td></tr>'
            )
    return rows


def _about_clips(summary: dict) -> str:
    clips = summary.get("clips", {})
    held = "none of them seen in training" if summary.get("held_out") else "those it was trained on, for there were no others"
    counts = f"Trained on {clips.get('trained', '?')} clips for {summary.get('steps', '?')} steps"
    text = f"<p>{counts}; measured on {clips.get('held_out', '?')} clips: {held}.</p>"
    if silent := clips.get("silent_windows"):
        text += f"<p>{silent} draws gave no sample (silent, or not readable) and were left out.</p>"
    if skipped := clips.get("skipped"):
        items = "".join(f"<li><code>{_say(entry['path'])}</code>: {_say(entry['reason'])}</li>" for entry in skipped)
        text += f"<details open><summary>{len(skipped)} files were left out</summary><ul>{items}</ul></details>"
    return text


def _read_rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def write_report(run: Path) -> Path:
    """Writes `report.html` from what a run's folder holds: summary, metrics, examples, config.

    The curves are drawn here and also kept as `figures/curves.png`. Returns the report's path.
    """
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    examples = json.loads((run / "examples.json").read_text(encoding="utf-8")) if (run / "examples.json").exists() else []
    rows = _read_rows(run / "metrics.jsonl")
    picture = figures.curves(rows, TERMS)
    picture.save(run / "figures" / "curves.png")

    shown = "".join(
        f"<h3>{_say(example['title'])}</h3>"
        + "".join(_media(run, item) for item in example["figures"][:1])
        + f'<div class="row">{"".join(_media(run, item) for item in example["audio"])}</div>'
        + f'<div class="row">{"".join(_media(run, item) for item in example["video"])}</div>'
        + "<details><summary>spectrograms and frames, larger</summary>"
        + "".join(_media(run, item) for item in example["figures"][1:])
        + "</details>"
        for example in examples
    )
    space = {"normalised": "each patch normalised to mean 0 and variance 1", "raw": "raw patches"}.get(
        summary.get("target"), summary.get("target")
    )
    settings = (run / "config.json").read_text(encoding="utf-8") if (run / "config.json").exists() else "{}"
    versions = ", ".join(f"{_say(name)} {_say(number)}" for name, number in summary.get("versions", {}).items())
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>MAViL stage 1: {_say(run.name)}</title><style>{STYLE}</style></head><body>
<h1>What this model has learnt</h1>
<p>MAViL, stage 1: most of each clip's sound and picture was hidden; the model filled it in, and learnt which sound belongs to
which picture.</p>
{_about_clips(summary)}
<table><thead><tr><th></th><th>this model</th><th>best trivial answer</th><th>verdict</th><th>all trivial answers</th></tr></thead>
<tbody>{"".join(_reconstruction_rows(summary) + _retrieval_rows(summary))}</tbody></table>
<p>Errors are measured in the space of the training target: {_say(space)}. The trivial answers are what one reaches without learning: each
position's mean over the training clips, a copy of the nearest visible patch, the mean corrected by the visible neighbours; and chance.</p>
<h2>Clips</h2>{shown or "<p>No examples were written.</p>"}
<h2>Training</h2>{figures.image_html(picture.png(), picture.sentence)}
<h2>How it was made</h2>
<p>{_say(summary.get("seconds", "?"))} s on {_say(summary.get("machine", "?"))}; {summary.get("parameters", 0):,} parameters.<br>
<code>{_say(summary.get("command", ""))}</code><br>{versions}</p>
<details><summary>config.json</summary><pre>{_say(settings)}</pre></details>
</body></html>
"""
    write_text(run / "report.html", page)
    return run / "report.html"
