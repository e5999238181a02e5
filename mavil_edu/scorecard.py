"""One table of what a model's embeddings hold, each number beside raw features, the untrained encoder, a control, and chance."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from torch import Tensor

from mavil_edu.data.batch import Batch, Labels
from mavil_edu.evaluate import embed
from mavil_edu.mavil import MAViL
from mavil_edu.probes import (
    Method,
    ProbeError,
    Score,
    effective_rank,
    embedding_std,
    features,
    has_pictures,
    probe,
    raw_features,
    untrained,
)
from mavil_edu.retrieval import by_class, retrieval

OURS, UNTRAINED, RAW, RAW_STD, CONTROL = "this model", "untrained", "raw features", "raw, mean and std", "shuffled pairs"
MODALITIES = ("audio", "video", "fused")
METRICS = {"accuracy": "accuracy, %", "r2": "R²", "map": "mAP, %"}
METHODS = {"linear": "linear", "knn": "10-NN"}
Sets = dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]  # by column of the table: the features of training and of test clips


class Row(NamedTuple):
    """One question, and how well it is answered from each kind of features."""

    column: str  # of the labels
    modality: str
    method: Method
    scores: dict[str, Score]  # by kind of features

    @property
    def any_score(self) -> Score:
        return next(iter(self.scores.values()))

    def to_dict(self) -> dict:
        first = self.any_score
        values = {name: {"value": score.value, "error": score.error} for name, score in self.scores.items()}
        return {
            "column": self.column,
            "modality": self.modality,
            "method": self.method,
            "metric": first.metric,
            "chance": first.chance,
            "clips": first.clips,
            "scores": values,
        }


def check_columns(asked: Iterable[str], there: Iterable[str]) -> None:
    """Raises ProbeError where a column is asked for that the labels do not have."""
    there = list(there)
    for name in asked:
        if name not in there:
            raise ProbeError(f"There is no column {name!r}; these clips have {', '.join(there) or 'no labels'}.")


def probe_table(
    feature_sets: Sets,
    train_labels: Labels,
    test_labels: Labels,
    columns: Sequence[str] | None = None,
    methods: Sequence[Method] = ("linear",),
) -> tuple[list[Row], dict[str, str]]:
    """Probes of each column of the labels, from each modality and each kind of features; also the columns left out, with the reason.

    columns: those asked for; by default all that training and test clips share. Raises ProbeError for a column that is not there.
    """
    shared = [name for name in train_labels if name in test_labels]
    check_columns(columns or (), shared)
    rows, left_out = [], {}
    for column in shared if columns is None else columns:
        try:
            for method in methods:
                for modality in MODALITIES:
                    scores = {
                        name: probe(train[modality], train_labels[column], test[modality], test_labels[column], method)
                        for name, (train, test) in feature_sets.items()
                        if modality in train
                    }
                    if scores:  # sounds without pictures have only one modality
                        rows.append(Row(column, modality, method, scores))
        except ProbeError as error:
            left_out[column] = str(error)
    return rows, left_out


def collapse(found: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """By embedding: its effective rank, its width, and its spread (1 where it spreads as far as it can, 0 where it has collapsed)."""
    return {name: {"effective_rank": effective_rank(x), "dimensions": x.shape[1], "std": embedding_std(x)} for name, x in found.items()}


def _raw_sets(train: dict[str, Tensor], test: dict[str, Tensor]) -> Sets:
    """The plain raw features, and the stronger ones under their modalities' names."""
    plain = tuple({name: part[name] for name in MODALITIES if name in part} for part in (train, test))
    strong = tuple({name: part[key] for name in MODALITIES if (key := f"{name}, mean and std") in part} for part in (train, test))
    return {RAW: plain, RAW_STD: strong}


def scorecard(
    model: MAViL,
    training: Batch,
    training_labels: Labels,
    held_out: Batch,
    held_out_labels: Labels,
    *,
    control: MAViL | None = None,
    columns: Sequence[str] | None = None,
    methods: Sequence[Method] = ("linear",),
    class_columns: Sequence[str] = (),
) -> dict:
    """Everything asked of a model's embeddings of complete clips, ready for JSON and for `report`.

    training: clips that probes are fitted on; held_out: clips they are scored on. control: a model trained on shuffled pairs. Of sounds
    without pictures there is no retrieval, and the rest of sound alone. columns: that probes are asked for; by default all, and of an
    empty list none. class_columns: by which retrieval is scored too. Raises ProbeError for a column that is not there.
    """
    models = {OURS: model, UNTRAINED: untrained(model.config), **({CONTROL: control} if control else {})}
    probed = columns is None or len(columns) > 0  # else nothing is fitted, and training clips are not embedded
    sets: Sets = {name: (features(m, training) if probed else {}, features(m, held_out)) for name, m in models.items()}
    raw = _raw_sets(raw_features(training, model.config), raw_features(held_out, model.config)) if probed else {}
    rows, left_out = probe_table(sets | raw, training_labels, held_out_labels, columns, methods)
    projections = {name: embed(m, held_out) for name, m in models.items()} if has_pictures(held_out) else {}
    by_column = {}
    for column in class_columns if projections else ():
        try:
            by_column[column] = {name: by_class(*pair, held_out_labels[column]) for name, pair in projections.items()}
        except ValueError as error:  # no two clips share a class
            left_out[f"retrieval by {column}"] = str(error)
    return {
        "clips": {"fitted": len(training.waveform), "held_out": len(held_out.waveform)},
        "retrieval": {name: retrieval(*pair) for name, pair in projections.items()},
        "retrieval_by_class": by_column,
        "probes": [row.to_dict() for row in rows],
        "left_out": left_out,
        "collapse": {name: collapse(test) for name, (_, test) in sets.items()},
    }


def cell(value: float, metric: str, error: float | None = None) -> str:
    """A number of the table with its standard error; shares in per cent."""
    scale, digits = (1, 2) if metric == "r2" else (100, 1)
    text = f"{scale * value:.{digits}f}"
    return text if error is None else f"{text} ± {scale * error:.{digits}f}"


def table_rows(card: dict) -> tuple[list[str], list[list[str]]]:
    """The scorecard as text: the heading, and a list of cells a row; what does not apply is empty."""
    raw = [RAW, RAW_STD] if card["probes"] else []  # which are asked by probes alone
    kinds = [OURS, *([CONTROL] if CONTROL in card["collapse"] else []), UNTRAINED, *raw]
    heading = ["", *kinds, "chance"]
    rows = []
    models = card["retrieval"]  # nothing for sounds without pictures
    for way, label in (("audio_to_video", "sound to picture"), ("video_to_audio", "picture to sound")) if models else ():
        for k in (k for k in (1, 5, 10) if k < models[OURS]["clips"]):  # among fewer, all are found
            chance = f"{100 * models[OURS][f'chance_r{k}']:.1f}"
            rows.append([f"{label}: R@{k}, %", *(f"{100 * models[n][way][f'r{k}']:.1f}" if n in models else "" for n in kinds), chance])
        ranks = [f"{models[n][way]['median_rank']:.0f}" if n in models else "" for n in kinds]
        rows.append([f"{label}: median rank of {models[OURS]['clips']}", *ranks, f"{models[OURS]['chance_median_rank']:.0f}"])
        for column, found in card["retrieval_by_class"].items():
            for score, name in (("precision_at_1", "precision@1"), ("precision_at_10", "precision@10"), ("map", "mAP")):
                values = [f"{100 * found[n][way][score]:.1f}" if n in found else "" for n in kinds]
                rows.append([f"{label}, by {column}: {name}, %", *values, f"{100 * found[OURS][f'chance_{score}']:.1f}"])
    for row in card["probes"]:
        scores, metric = row["scores"], row["metric"]
        values = [cell(scores[n]["value"], metric, scores[n]["error"]) if n in scores else "" for n in kinds]
        asked = f"{row['column']} from {row['modality']}, {METHODS[row['method']]}: {METRICS[metric]}"
        rows.append([asked, *values, cell(row["chance"], metric)])
    found = card["collapse"]
    for modality in (name for name in MODALITIES if name in found[OURS]):
        rank = [f"{found[n][modality]['effective_rank']:.1f}" if n in found else "" for n in kinds]
        rows.append([f"{modality}: effective rank of {found[OURS][modality]['dimensions']}", *rank, ""])
        rows.append([f"{modality}: spread (0 = collapsed)", *(f"{found[n][modality]['std']:.2f}" if n in found else "" for n in kinds), ""])
    return heading, rows


def caption(card: dict) -> str:
    """What the table's numbers are of."""
    clips = card["clips"]
    if not card["probes"]:
        return f"{clips['held_out']} held-out clips"
    return f"{clips['held_out']} held-out clips; probes fitted on {clips['fitted']} others; ± one standard error over clips"


def left_out(card: dict) -> list[str]:
    """What was not asked, a sentence for each reason."""
    columns: dict[str, list[str]] = {}
    for column, reason in card["left_out"].items():
        columns.setdefault(reason, []).append(column)
    return [f"{', '.join(names)} {'was' if len(names) == 1 else 'were'} left out: {reason}" for reason, names in columns.items()]


def print_table(card: dict) -> None:
    """The scorecard in the terminal, on standard output; where the terminal is narrow, errors stand below their numbers."""
    heading, rows = table_rows(card)
    console = Console()

    def drawn(narrow: bool) -> Table:
        texts = [[text.replace(" ± ", "\n± ") if narrow else text for text in row] for row in rows]
        shown = Table(title=caption(card), box=SIMPLE, padding=(0, 1, 0, 0))
        for i, name in enumerate(heading):
            words = name.split() + [line for row in texts for line in row[i].splitlines()]
            width = max(map(len, words), default=0) if narrow and i else None
            shown.add_column(name, justify="right" if i else "left", min_width=None if i else 14, width=width)
        for row in texts:
            shown.add_row(*row)
        return shown

    wide = drawn(narrow=False)
    fits = Measurement.get(console, console.options.update(width=1000), wide).maximum <= console.width
    console.print(wide if fits else drawn(narrow=True))
    for sentence in left_out(card):
        console.print(sentence, markup=False)
