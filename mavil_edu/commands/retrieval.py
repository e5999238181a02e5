"""The command that searches across modalities: retrieve."""

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mavil_edu.commands.common import say

if TYPE_CHECKING:  # nothing heavy before the command runs
    from rich.table import Table
    from torch import Tensor

    from mavil_edu.data.batch import Clips, Labels, Sample
    from mavil_edu.data.source import Opened
    from mavil_edu.evaluate import EmbeddedClips
    from mavil_edu.mavil import MAViL
    from mavil_edu.retrieval_page import Query

WORLD = "world"  # as --data: generated clips
WORLD_SEED = 8071  # of these clips: no training of this package uses it

KEPT = 2000  # generated clips that are rendered at once and kept; of more, each is drawn when it is asked for


def _open(data: str, model: "MAViL", clips: int, split: str, listed: Path | None, classes: Path | None) -> "Opened":
    """The clips to search, in one window each. Raises DataError where there are none."""
    from mavil_edu.config import AugmentConfig
    from mavil_edu.data.source import Opened, check_pictures, open_data
    from mavil_edu.data.world import World

    if data == WORLD:
        if clips < 2:
            raise ValueError(f"--clips is {clips}; there is nothing to choose from among fewer than 2.")
        made = World(clips, WORLD_SEED, model.config, AugmentConfig(), keep=clips <= KEPT)
        return Opened(made, f"{WORLD} {WORLD_SEED}")
    opened = open_data(Path(data), model.config, AugmentConfig(), split=split, listed=listed, classes=classes)
    check_pictures(opened.clips, data, "Retrieval between sound and picture")
    return opened


def _run_trained_on(checkpoint: str, data: str) -> Path | None:
    """The run's folder that a checkpoint lies in, if its `config.json` names `data` as what it was trained on; else None."""
    run = Path(checkpoint).parent if Path(checkpoint).name == "model" else Path(checkpoint)
    file = run / "config.json"
    place = json_module.loads(file.read_text(encoding="utf-8")).get("data") if file.is_file() else None
    return run if place and data != WORLD and Path(place).resolve() == Path(data).resolve() else None


def _column(labels: "Labels", by: str, data: str) -> list:
    if not labels:
        raise ValueError(
            f"Nothing is known of the clips in {data}, so none can be found --by {by}; label them by sub-folders or labels.csv."
        )
    if by not in labels:
        raise ValueError(f"The clips in {data} have no label {by!r}; choose --by one of: {', '.join(labels)}.")
    return labels[by]


def _encoded(clip: str, model: "MAViL", names: list[str], clips: "Clips", numbers: list[int]) -> "tuple[dict[str, Tensor], Sample]":
    """The projections (e,) of a query clip by modality, one left out where the clip has none of it; and the clip's window.

    The clip is a file, or one of the searched clips by name.

    Raises ValueError (MediaError) where there is no such clip, or nothing in it.
    """
    import torch

    from mavil_edu import media, video
    from mavil_edu.config import AugmentConfig
    from mavil_edu.data.batch import Sample, collate, to_inputs
    from mavil_edu.data.folder import FolderClips

    config, kept, path = model.config, {"audio", "video"}, Path(clip)
    if not path.exists():
        if clip not in names:
            raise ValueError(
                f"There is no file {clip}, nor a clip of that name in the data; name a media file, or a clip such as {names[0]}."
            )
        sample = clips.sample(numbers[names.index(clip)], None)
    else:
        sample = FolderClips([path], config, AugmentConfig()).sample(0, None)  # as the searched clips are read
    if not isinstance(sample, Sample):  # not both; one will do
        found = media.read_clip(path, config.audio.seconds, config.video.seconds, config.video.frames)
        start, stop = found.heard
        if stop <= start or media.is_silent(found.waveform[start:stop]):
            kept.remove("audio")
            say(f"{clip} has no sound in its middle; its picture alone is searched with.")
        if not bool(found.seen.any()):
            kept.remove("video")
            say(f"{clip} has no picture in its middle; its sound alone is searched with.")
        if not kept:
            raise ValueError(f"{clip} has neither sound nor picture in its middle; choose another clip.")
        sample = Sample(found.waveform, torch.tensor(found.heard), video.fit(found.frames, config.video), found.seen)
    inputs = to_inputs(collate([sample]), config)
    with torch.no_grad():
        encoded = model.encode(inputs.audio, inputs.video)
    both = {"audio": encoded.audio_projection[0], "video": encoded.video_projection[0]}
    return {name: projection for name, projection in both.items() if name in kept}, sample


def _metrics_table(found: dict) -> "Table":
    """Instances, or classes: a row each way, and chance."""
    from rich.table import Table

    from mavil_edu.retrieval import WAYS

    titles = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "median rank"}
    titles |= {f"precision_at_{k}": f"precision@{k}" for k in (1, 5, 10)} | {"map": "mAP"}
    columns = [name for name in titles if name in found["audio_to_video"]]
    rows = Table("", *(titles[name] for name in columns))
    for way, label in (*WAYS.items(), ("chance", "chance")):
        part = found.get(way) or {name: found[f"chance_{name}"] for name in columns}
        rows.add_row(label, *(f"{part[n]:.1f}" if n == "median_rank" else f"{100 * part[n]:.1f} %" for n in columns))
    return rows


def _answers_table(way: str, answers: list[dict], by: str | None) -> "Table":
    """The closest clips, one a row."""
    from rich.markup import escape
    from rich.table import Table

    rows = Table("", way, "similarity", *([escape(by)] if by else []))
    for place, answer in enumerate(answers, 1):
        known = answer.get(by)
        words = ", ".join(known) if isinstance(known, tuple) else "" if known is None else str(known)
        rows.add_row(str(place), escape(answer["clip"]), f"{answer['similarity']:.3f}", *([escape(words)] if by else []))
    return rows


def _labelled(places: list[int], similarity: list[float], clips: "Clips", numbers: list[int], by: str | None) -> list[dict]:
    """The answers to a query, the closest first, each with its name, similarity, and label."""
    answers = []
    for i, cosine in zip(places, similarity, strict=True):
        answer: dict = {"clip": clips.name(numbers[i]), "similarity": cosine}
        if by is not None:
            value = clips.labels[by][numbers[i]]
            answer[by] = value if value == value else None  # NaN is no JSON
        answers.append(answer)
    return answers


def _find(
    clip: str, data: str, model: "MAViL", clips: "Clips", embedded: "EmbeddedClips", top: int, by: str | None
) -> "tuple[dict[str, list], list[Query]]":
    """The closest clips of a query both ways; and the same with what a page needs to show and play them."""
    from mavil_edu.retrieval import WAYS, rank_of, top_matches
    from mavil_edu.retrieval_page import Query

    names = [clips.name(i) for i in embedded.numbers]
    query, sample = _encoded(clip, model, names, clips, embedded.numbers)
    answers, shown = {}, []
    found = [i for i, name in enumerate(names) if clip == name or (Path(data) / name).resolve() == Path(clip).resolve()]
    own = found[0] if found else None
    for way, given, gallery in zip(WAYS, ("audio", "video"), (embedded.video, embedded.audio), strict=True):
        if given in query:
            [places], [similarity] = (part.tolist() for part in top_matches(query[given][None], gallery, top))
            answers[way] = _labelled(places, similarity, clips, embedded.numbers, by)
            numbers = [embedded.numbers[i] for i in places]
            number, rank = (None, None) if own is None else (embedded.numbers[own], rank_of(query[given], gallery, own))
            shown.append(Query(way, clip, sample, answers[way], numbers, number, rank))
    return answers, shown


def _examples(clips: "Clips", embedded: "EmbeddedClips", top: int, by: str | None, count: int) -> "list[Query]":
    """Queries spread evenly over the searched clips, both ways each."""
    from mavil_edu.retrieval import WAYS, rank_of, top_matches
    from mavil_edu.retrieval_page import Query

    n = len(embedded.numbers)
    rows = sorted({i * n // min(count, n) for i in range(min(count, n))})
    shown = []
    for row in rows:
        number = embedded.numbers[row]
        for way, (given, gallery) in zip(WAYS, ((embedded.audio, embedded.video), (embedded.video, embedded.audio)), strict=True):
            [places], [similarity] = (part.tolist() for part in top_matches(given[row][None], gallery, top))
            answers = _labelled(places, similarity, clips, embedded.numbers, by)
            found, rank = [embedded.numbers[i] for i in places], rank_of(given[row], gallery, row)
            shown.append(Query(way, clips.name(number), clips.sample(number, None), answers, found, number, rank))
    return shown


def retrieve(
    clip: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="CLIP")]] = None,
    data: str = WORLD,
    checkpoint: str = "tiny",
    top: int = 5,
    by: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None,
    clips: int = 500,
    split: Literal["train", "val", "test"] = "test",
    list: Path | None = None,
    classes: Path | None = None,
    page: Path | None = None,
    queries: int = 6,
    json: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Finds the pictures that go with a clip's sound, and the sounds that go with its picture; without CLIP, measures how well it can.

    Example: mavil-edu retrieve --checkpoint runs/mine --data other_clips --by class

    Example: mavil-edu retrieve holiday.mp4 --checkpoint runs/mine --data my_clips --top 5

    Example: mavil-edu retrieve --data my_clips --page retrieval.html

    Args:
        clip: a media file, or the name of one of the clips in DATA, whose closest ones are listed.
        data: clips to search: a folder, or what `mavil-edu avmnist` wrote; "world": clips generated for this, seed 8071.
        checkpoint: a run's folder, a model's folder or a name on the Hub; by default the small model that comes with the package.
        top: how many of the closest clips are listed.
        by: a label of the clips: retrieval is also measured by it, or it is told of each clip that is listed.
        clips: how many clips are generated.
        split: of AV-MNIST, or of the list's clips where it tells of splits.
        list: VGGSound's or AudioSet's CSV file: its clips in DATA are searched.
        classes: the list's file of class names; by default the one beside it.
        page: an HTML file with the answers in order, to be seen and heard; one that is there is replaced.
        queries: how many clips ask in the page; with CLIP, it alone does.
        json: print an object.
    """
    from rich.console import Console

    from mavil_edu.data.folder import FolderClips
    from mavil_edu.evaluate import embed_clips
    from mavil_edu.mavil import MAViL
    from mavil_edu.retrieval import WAYS, by_class, retrieval
    from mavil_edu.retrieval_page import check_page, write_page

    if queries < 1:
        raise ValueError(f"--queries is {queries}; ask for one clip or more.")
    if page is not None:
        check_page(page)
    if top < 1:
        raise ValueError(f"--top is {top}; ask for one clip or more.")
    model = MAViL.from_pretrained(checkpoint)
    opened = _open(data, model, clips, split, list, classes)
    labels = [] if by is None else _column(opened.clips.labels, by, data)
    embedded = embed_clips(model, opened.clips)
    numbers, left_out = embedded.numbers, len(opened.skipped) + len(embedded.skipped)
    for note in opened.notes + ([f"{left_out} files cannot be used; mavil-edu inspect {data} tells why."] if left_out else []):
        say(note)
    whole = isinstance(opened.clips, FolderClips) and list is None  # no split keeps what was trained on apart
    run = _run_trained_on(checkpoint, data) if whole or split == "train" else None
    found: dict = {"checkpoint": checkpoint, "data": data, "searched": len(numbers), "left_out": left_out}
    tables = []
    if clip is not None:
        answers, shown = _find(clip, data, model, opened.clips, embedded, top, by)
        found |= {"query": clip} | answers
        tables = [(f"the closest to {clip} among {len(numbers)}", _answers_table(WAYS[way], answers[way], by)) for way in answers]
    else:
        if len(numbers) < 2:
            raise ValueError(f"Only {len(numbers)} clip in {data} can be used; retrieval chooses among two or more.")
        embeddings = embedded.audio, embedded.video
        shown = _examples(opened.clips, embedded, top, by, queries) if page else []
        found |= {"trained_on_this_data": run is not None, "instances": retrieval(*embeddings)}
        tables.append((f"a clip's own sound or picture among {len(numbers)}", _metrics_table(found["instances"])))
        if by is not None:
            part = by_class(*embeddings, [labels[i] for i in numbers])
            found["by_class"] = {"label": by} | part
            title = f"others of the same {by}: {part['queries']} queries among {part['clips']} clips of {part['classes']} classes"
            tables.append((title, _metrics_table(part)))
        if run is not None:
            say(f"The model was trained on clips of {data}: these numbers flatter it; {run / 'summary.json'} has those of held-out clips.")
    if page is not None:
        write_page(page, shown, opened.clips, model.config, found, by)
        say(f"Open {page} in a browser to see and hear the answers.")
        found["page"] = str(page)
    if json:
        print(json_module.dumps(found, indent=1, ensure_ascii=False))
        return
    for title, table in tables:
        say(title)
        Console().print(table)
