"""A page of answers across modalities, to be seen and heard: one HTML file that holds its players and asks nothing of any network."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mavil_edu.config import SAMPLE_RATE, ModelConfig
from mavil_edu.data.batch import Clips, Sample
from mavil_edu.display import player, video_player
from mavil_edu.files import write_text
from mavil_edu.report import POLICY, STYLE
from mavil_edu.retrieval import WAYS

OWN_STYLE = """
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .4rem }
ol { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none } li { max-width: 15rem; padding: .4rem; border-radius: 6px }
li.own { outline: 3px solid var(--good) } figcaption { overflow-wrap: anywhere }
"""
SIDE = 128  # pixels that small frames are enlarged to, by a whole number
LARGEST = 48 * 2**20  # bytes of a page; browsers grow slow beyond


class Query(NamedTuple):
    """A clip that asks one way, and its answers, the closest first."""

    way: str  # a key of retrieval.WAYS
    name: str
    sample: Sample
    answers: Sequence[dict]  # "clip", "similarity", and the label's column
    numbers: Sequence[int]  # of the answers' clips
    own: int | None  # number of the true partner's clip; None where it is not among those searched
    rank: float | None  # of the true partner


def check_page(path: Path) -> None:
    """Raises ValueError unless a page can be written under this name."""
    if path.suffix != ".html" or path.is_dir():
        raise ValueError(f"{path} is not the name of a page; give --page a name that ends in .html.")


def _frames(sample: Sample) -> Tensor:
    factor = max(1, SIDE // min(sample.frames.shape[1:3]))
    return sample.frames.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)


def _middle(sample: Sample, config: ModelConfig) -> Tensor:
    """The sound beside the pictures: of a longer window its middle."""
    wanted = min(round(config.video.seconds * SAMPLE_RATE), len(sample.waveform))
    start = (len(sample.waveform) - wanted) // 2
    return sample.waveform[start : start + wanted]


def _question(query: Query, config: ModelConfig) -> str:
    if query.way == "audio_to_video":
        return player(query.sample.waveform, f"the sound of {query.name}").html
    return video_player(_frames(query.sample), config.video.frame_rate, None, f"the picture of {query.name}").html


def _answer(query: Query, sample: Sample, caption: str, config: ModelConfig) -> str:
    """A film with its own sound where a picture was asked for, else a sound."""
    if query.way == "audio_to_video":
        return video_player(_frames(sample), config.video.frame_rate, _middle(sample, config), caption).html
    return player(sample.waveform, caption).html


def _known(answer: dict, by: str | None) -> str:
    value = answer.get(by)
    if by is None or value is None:
        return ""
    return f", {by}: {', '.join(value) if isinstance(value, tuple | list) else value}"


def _section(query: Query, clips: Clips, config: ModelConfig, searched: int, by: str | None) -> str:
    given, wanted = WAYS[query.way].split(" to ")
    partner = "Its own clip is not among those searched."
    if query.rank is not None:
        partner = f"Its own {wanted}: rank {query.rank:g} of {searched}; chance {(searched + 1) / 2:g}."
    items = []
    for place, (answer, number) in enumerate(zip(query.answers, query.numbers, strict=True), 1):
        own = number == query.own
        caption = f"{place}. {answer['clip']}, similarity {answer['similarity']:.3f}{_known(answer, by)}" + (", its own" if own else "")
        media = _answer(query, clips.sample(number, None), caption, config)
        items.append(f"<li{' class=own' if own else ''}>{media}</li>")
    return (
        f"<section><h2>{html.escape(WAYS[query.way])}: {html.escape(query.name)}</h2>{_question(query, config)}"
        f"<p>Asked with this {given}. {partner}</p><ol>{''.join(items)}</ol></section>"
    )


def _measured(found: dict) -> str:
    """How often it goes well over all clips, beside chance; nothing where a single clip asked."""
    part = found.get("instances")
    if part is None:
        return ""
    names = ("r1", "r5", "r10", "median_rank")
    numbers = {label: [part[way][name] for name in names] for way, label in WAYS.items()}
    numbers["chance"] = [part[f"chance_{name}"] for name in names]
    rows = [(label, [*(f"{100 * share:.1f} %" for share in shares), f"{rank:g}"]) for label, (*shares, rank) in numbers.items()]
    body = "".join(f'<tr><th scope="row">{name}</th>{"".join(f"<td class=n>{c}</td>" for c in cells)}</tr>' for name, cells in rows)
    head = "<thead><tr><td></td><th>R@1</th><th>R@5</th><th>R@10</th><th>median rank</th></tr></thead>"
    told = "<p>The model was trained on these clips: the numbers flatter it.</p>" if found.get("trained_on_this_data") else ""
    return f"{told}<table><caption>All {part['clips']} clips, each asking for its own</caption>{head}<tbody>{body}</tbody></table>"


def write_page(path: Path, queries: Sequence[Query], clips: Clips, config: ModelConfig, found: dict, by: str | None = None) -> Path:
    """Writes the page: each query on top, its answers below in order, the true partner outlined and its rank told.

    clips: those searched. found: what `mavil-edu retrieve` tells: "searched", "data", "checkpoint", and "instances" where it was measured.
    Raises ValueError where the name is no page's, or the page would be larger than 48 MiB.
    """
    check_page(path)
    searched, size, sections = found["searched"], 0, []
    for query in queries:
        sections.append(_section(query, clips, config, searched, by))
        size += len(sections[-1])
        if size > LARGEST:
            raise ValueError(f"The page would be larger than {LARGEST // 2**20} MiB; ask with fewer --queries, or for fewer by --top.")
    about = f"{searched} clips of {found['data']}, model {found['checkpoint']}"
    text = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Retrieval across sound and picture</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>
<h1>Which pictures go with this sound?</h1>
<p>{html.escape(about)}. Similarity is the cosine of the projections that InfoNCE compares; the outlined answer is the clip's own. A film
plays with its own sound, so that one hears whether the answer fits; the search has heard only the question.</p>
{_measured(found)}
{"".join(sections)}
</main></body></html>
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path
