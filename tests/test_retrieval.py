"""Retrieval on small matrices made by hand and against naive loops: a wrong metric poisons every conclusion."""

import itertools
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from made_clips import make_clip, pictures, tone

from mavil_edu import cli
from mavil_edu import retrieval as module
from mavil_edu.config import AugmentConfig
from mavil_edu.data.batch import Skipped, evaluation_batch
from mavil_edu.data.world import World
from mavil_edu.evaluate import embed, embed_clips
from mavil_edu.files import write_json
from mavil_edu.retrieval import by_class, classes_of, closest, median_rank, rank_of, ranked, recall_at, retrieval, similarities, top_matches

SAMPLES = Path(__file__).parent.parent / "data_samples"
PRECISIONS = ("precision_at_1", "precision_at_5", "precision_at_10")


def drawn(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


# Instances


def test_recall_on_a_matrix_worked_out_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.5, 0.1], [0.3, 0.9, 0.1]])  # own column ranks 1st, 2nd, 3rd
    assert recall_at(similarity, 1) == pytest.approx(1 / 3)
    assert recall_at(similarity, 2) == pytest.approx(2 / 3)
    assert recall_at(similarity, 3) == pytest.approx(1.0)
    assert median_rank(similarity) == 2


def test_equal_scores_give_chance_and_not_certainty():
    assert recall_at(torch.zeros(10, 10), 1) == pytest.approx(0.1)
    assert recall_at(torch.zeros(10, 10), 5) == pytest.approx(0.5)
    assert median_rank(torch.zeros(10, 10)) == 5.5


def test_the_median_rank_is_that_of_a_sorted_list():
    similarity = drawn(40, 40)
    ranks = [sorted(row.tolist(), reverse=True).index(float(row[i])) + 1 for i, row in enumerate(similarity)]
    assert median_rank(similarity) == np.median(ranks)


def test_the_two_ways_of_retrieval_are_not_mixed_up():
    audio = torch.eye(3)
    video = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    found = retrieval(audio, video)
    assert found["audio_to_video"]["r1"] == pytest.approx(1.0)  # each sound's best picture is its own
    assert found["video_to_audio"]["r1"] == pytest.approx(2 / 3)  # picture 1 likes sound 0 best
    assert (found["chance_r1"], found["chance_r5"], found["clips"]) == (pytest.approx(1 / 3), 1.0, 3)
    assert (found["chance_r10"], found["chance_median_rank"]) == (1.0, 2.0)


def test_random_embeddings_retrieve_at_chance():
    found = retrieval(drawn(500, 16), drawn(500, 16, seed=1))
    for way in ("audio_to_video", "video_to_audio"):
        assert found[way]["r5"] == pytest.approx(found["chance_r5"], abs=0.012)
        assert found[way]["r10"] == pytest.approx(found["chance_r10"], abs=0.018)
        assert found[way]["median_rank"] == pytest.approx(found["chance_median_rank"], abs=30)


@pytest.mark.parametrize("clips", [7, 64, 501])
def test_a_collapsed_model_is_at_chance_in_everything_even_where_its_constant_is_rounded(clips):
    """Products of equal vectors differ in the last bits by their place in memory; that must not rank them."""
    constant = drawn(1, 48).expand(clips, -1)
    noisy = constant * (1 + 1e-7 * drawn(clips, 48, seed=2))
    values = [str(i % 3) for i in range(clips)]
    for audio, video in ((constant, constant), (noisy, noisy.flip(0)), (noisy, noisy)):
        found, classes = retrieval(audio, video), by_class(audio, video, values)
        for way in ("audio_to_video", "video_to_audio"):
            assert all(found[way][k] == pytest.approx(found[f"chance_{k}"]) for k in ("r1", "r5", "r10", "median_rank"))
            assert all(classes[way][k] == pytest.approx(classes[f"chance_{k}"]) for k in (*PRECISIONS, "map"))


def test_similarity_is_the_cosine_whatever_the_lengths():
    x, y = drawn(5, 8), drawn(6, 8, seed=1)
    naive = [[float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)) for b in y] for a in x]
    assert torch.allclose(similarities(3 * x, 0.1 * y), torch.tensor(naive, dtype=torch.float64), atol=1e-6)
    assert retrieval(3 * x, x) == retrieval(x, x)


def test_embeddings_that_are_not_numbers_or_no_pairs_are_refused_and_not_scored():
    broken = drawn(4, 8)
    broken[2, 3] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        retrieval(broken, drawn(4, 8))
    with pytest.raises(ValueError, match="not finite"):
        by_class(drawn(4, 8), broken, ["a", "a", "b", "b"])
    with pytest.raises(ValueError, match="no pairs"):
        retrieval(drawn(4, 8), drawn(5, 8))
    with pytest.raises(ValueError, match="3 labels for 4 clips"):
        by_class(drawn(4, 8), drawn(4, 8), ["a", "a", "b"])


# By class


def naive_scores(order: list[int], relevant: list[bool]) -> dict:
    """Precision and average precision of one order, by the definition."""
    hits = [relevant[i] for i in order]
    precision = {k: sum(hits[:k]) / min(k, len(hits)) for k in (1, 5, 10)}
    return precision | {"ap": sum(sum(hits[: p + 1]) / (p + 1) for p, hit in enumerate(hits) if hit) / sum(hits)}


def test_average_precision_of_an_order_worked_out_by_hand():
    found = ranked(torch.tensor([[0.9, 0.8, 0.7, 0.6]]), torch.tensor([[True, False, False, True]]))
    assert found.average_precision.item() == pytest.approx((1 / 1 + 2 / 4) / 2)
    assert found.precision[1].item() == 1 and found.precision[5].item() == 0.5


@pytest.mark.parametrize("scores", [[0, 0, 0, 0, 0, 0], [2, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0], [3, 2, 2, 2, 2, 2], [5, 4, 3, 2, 1, 0]])
def test_among_equals_the_scores_are_the_means_over_all_their_orders(scores):
    for seed in range(4):
        relevant = (drawn(1, 6, seed)[0] > 0).tolist()
        relevant[seed] = True
        orders = [o for o in itertools.permutations(range(6)) if all(scores[a] >= scores[b] for a, b in itertools.pairwise(o))]
        naive = [naive_scores(order, relevant) for order in orders]
        found = ranked(torch.tensor([scores]), torch.tensor([relevant]))
        assert found.average_precision.item() == pytest.approx(np.mean([n["ap"] for n in naive]))
        for k in (1, 5, 10):
            assert found.precision[k].item() == pytest.approx(np.mean([n[k] for n in naive]))


def test_by_class_equals_a_naive_double_loop_in_which_a_clip_never_finds_itself():
    n = 300  # more than are ranked at once
    audio, video = drawn(n, 6), drawn(n, 6, seed=1)
    values = [str(int(v * 3)) for v in drawn(n, 1, seed=2)[:, 0]]
    cosine = similarities(audio, video)
    for way, similarity in (("audio_to_video", cosine.tolist()), ("video_to_audio", cosine.T.tolist())):
        rows = []
        for i in range(n):
            others = [j for j in range(n) if j != i]
            relevant = [values[j] == values[i] for j in others]
            if any(relevant):
                order = sorted(range(n - 1), key=lambda place, i=i, others=others: -similarity[i][others[place]])
                rows.append(naive_scores(order, relevant))
        found = by_class(audio, video, values)
        assert found["queries"] == len(rows)
        assert found[way]["map"] == pytest.approx(np.mean([r["ap"] for r in rows]), abs=1e-4)
        for k in (1, 5, 10):
            assert found[way][f"precision_at_{k}"] == pytest.approx(np.mean([r[k] for r in rows]), abs=1e-4)


def test_finding_the_instance_alone_is_no_knowledge_of_its_class():
    own = torch.eye(40)
    values = [str(i % 4) for i in range(40)]
    assert retrieval(own, own)["audio_to_video"]["r1"] == 1
    found = by_class(own, own, values)
    assert found["audio_to_video"]["precision_at_1"] == pytest.approx(found["chance_precision_at_1"])


def test_embeddings_of_the_class_alone_are_perfect_by_class_and_no_better_than_their_class_by_instance():
    values = [str(i % 4) for i in range(80)]
    embeddings = torch.eye(4)[torch.arange(80) % 4]
    found = by_class(embeddings, embeddings, values)
    assert found["video_to_audio"] == pytest.approx({name: 1.0 for name in (*PRECISIONS, "map")})
    assert retrieval(embeddings, embeddings)["audio_to_video"]["r1"] == pytest.approx(1 / 20)


def test_chance_is_the_prior_of_the_class_and_what_noise_reaches():
    values = ["common"] * 300 + ["rare"] * 100
    found = by_class(drawn(400, 16), drawn(400, 16, seed=1), values)
    prior = (300 * 299 + 100 * 99) / 400 / 399
    assert all(found[f"chance_{name}"] == pytest.approx(prior) for name in PRECISIONS)
    for way in ("audio_to_video", "video_to_audio"):
        assert found[way]["precision_at_10"] == pytest.approx(prior, abs=0.03)
        assert found[way]["map"] == pytest.approx(found["chance_map"], abs=0.02)


def test_permuted_labels_give_chance():
    classes = torch.arange(300) % 3
    embeddings = torch.eye(3)[classes] + 0.1 * drawn(300, 3)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    told = by_class(embeddings, embeddings, [str(int(c)) for c in classes])
    permuted = by_class(embeddings, embeddings, [str(int(c)) for c in classes[order]])
    assert told["audio_to_video"]["map"] > 0.95
    assert permuted["audio_to_video"]["map"] == pytest.approx(permuted["chance_map"], abs=0.02)


def test_clips_of_unknown_class_are_left_out_and_a_class_of_one_asks_nothing_but_is_searched():
    x, y = drawn(6, 4), drawn(6, 4, seed=1)
    values = ["a", "", "a", "b", "", "a"]
    found = by_class(x, y, values)
    assert (found["clips"], found["queries"], found["classes"], found["left_out"]) == (4, 3, 2, 2)
    assert found["chance_precision_at_1"] == pytest.approx(2 / 3)  # of the three others of an "a", two are "a"
    known = [0, 2, 3, 5]
    assert found == by_class(x[known], y[known], [values[i] for i in known]) | {"left_out": 2}


def test_what_counts_as_a_class():
    assert classes_of(["a", ("a", "b"), (), 3.0, math.nan, ""]) == [{"a"}, {"a", "b"}, set(), {3.0}, set(), set()]
    with pytest.raises(ValueError, match=r"0\.5 is a quantity"):
        classes_of([1.0, 0.5])
    x = torch.eye(4)
    assert by_class(x, x, [("a", "b"), ("b", "c"), ("d",), ("c",)])["queries"] == 3  # one class shared is enough
    with pytest.raises(ValueError, match="No two of the 4 clips share a class"):
        by_class(x, x, ["a", "b", "c", ""])


def test_the_closest_are_listed_best_first_with_their_cosine():
    gallery = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 0.0], [0.0, 3.0]])
    assert closest(torch.tensor([1.0, 0.0]), gallery, 3) == [(2, 1.0), (1, pytest.approx(math.sqrt(0.5), abs=1e-6)), (0, 0.0)]


# In chunks


def collapsed_in_part(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings of which many are equal, so that ties lie across the chunks' borders."""
    audio, video = drawn(n, 6), drawn(n, 6, seed=1)
    audio[::3], video[::2] = audio[0], audio[0]
    return audio, video


@pytest.mark.parametrize("entries", [1, 100, 1000, 10**6])
def test_chunks_of_any_size_rank_as_the_whole_matrix_does(monkeypatch, entries):
    audio, video = collapsed_in_part(83)
    values = [str(i % 5) for i in range(83)]
    monkeypatch.setattr(module, "ENTRIES", 10**9)
    whole, classes, matches = retrieval(audio, video), by_class(audio, video, values), top_matches(audio, video, 7)
    monkeypatch.setattr(module, "ENTRIES", entries)
    chunked = by_class(audio, video, values)
    assert retrieval(audio, video) == whole
    for way in ("audio_to_video", "video_to_audio"):
        assert chunked[way] == pytest.approx(classes[way])
    assert all(map(torch.equal, top_matches(audio, video, 7), matches))
    similarity = similarities(audio, video)
    for way, matrix in (("audio_to_video", similarity), ("video_to_audio", similarity.T)):
        assert whole[way]["median_rank"] == median_rank(matrix)
        assert [whole[way][f"r{k}"] for k in (1, 5, 10)] == pytest.approx([recall_at(matrix, k) for k in (1, 5, 10)])


def test_the_closest_by_chunks_are_those_of_a_stable_sort_of_the_whole_matrix():
    audio, video = collapsed_in_part(60)
    similarity = similarities(audio, video)
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, :9]
    found = top_matches(audio, video, 9)
    assert torch.equal(found.places, order)
    assert torch.allclose(found.similarity, similarity.gather(1, order), atol=1e-9)
    assert top_matches(audio, video, 99).places.shape == (60, 60)
    for i in (0, 7, 59):
        ranks = sorted(similarity[i].tolist(), reverse=True)
        level = [place for place, value in enumerate(ranks, 1) if value == float(similarity[i, i])]
        assert rank_of(audio[i], video, i) == pytest.approx(sum(level) / len(level))
    with pytest.raises(ValueError, match="ask for one or more"):
        top_matches(audio, video, 0)


def test_no_chunk_holds_more_than_its_entries():
    assert sum(len(range(100_000)[rows]) for rows in module._chunks(100_000, 100_000)) == 100_000
    assert max(len(range(100_000)[rows]) for rows in module._chunks(100_000, 100_000)) * 100_000 <= module.ENTRIES
    assert len(list(module._chunks(3, 10**9))) == 3  # a row at least


def test_clips_embedded_some_at_a_time_are_those_embedded_together():
    from mavil_edu import MAViL

    model = MAViL.from_pretrained("tiny")

    class Spoilt(World):
        def sample(self, index, generator):
            return Skipped(self.name(index), "spoilt") if index in (1, 65) else super().sample(index, generator)

    world = Spoilt(70, 3, model.config, AugmentConfig(), keep=False)
    found = embed_clips(model, world)
    batch, kept, skipped = evaluation_batch(world)
    assert found.numbers == kept == [i for i in range(70) if i not in (1, 65)] and found.skipped == skipped
    for one, other in zip((found.audio, found.video), embed(model, batch), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


# The command


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> Path:
    """Six of the sample clips with their labels."""
    folder = tmp_path_factory.mktemp("few")
    lines = (SAMPLES / "labels.csv").read_text().splitlines()[:7]
    (folder / "labels.csv").write_text("".join(f"{line}\n" for line in lines))
    for line in lines[1:]:
        shutil.copy(SAMPLES / line.split(",")[0], folder)
    return folder


def told(capsys, *arguments: object) -> dict:
    assert cli.main(["retrieve", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments: object) -> str:
    assert cli.main(["retrieve", *map(str, arguments)]) == 2
    return capsys.readouterr().err


def test_the_shipped_model_retrieves_generated_clips_far_above_chance(capsys):
    found = told(capsys, "--clips", 64, "--by", "material")
    assert found["searched"] == 64 and found["trained_on_this_data"] is False
    for way in ("audio_to_video", "video_to_audio"):
        assert found["instances"][way]["r5"] > 3 * found["instances"]["chance_r5"]
        assert found["instances"][way]["median_rank"] < 0.5 * found["instances"]["chance_median_rank"]
        assert found["by_class"][way]["map"] > 2 * found["by_class"]["chance_map"]
    assert found["by_class"]["label"] == "material"


def test_a_query_finds_its_own_clip_by_file_and_by_name_with_one_answer(capsys, few):
    by_file = told(capsys, few / "003.mp4", "--data", few, "--top", 3, "--by", "material")
    by_name = told(capsys, "003.mp4", "--data", few, "--top", 3, "--by", "material")
    assert by_file["audio_to_video"] == by_name["audio_to_video"] and by_file["video_to_audio"] == by_name["video_to_audio"]
    for way in ("audio_to_video", "video_to_audio"):
        answers = by_file[way]
        assert len(answers) == 3 and answers[0]["clip"] == "003.mp4" and answers[0]["material"] == "metal"
        assert answers == sorted(answers, key=lambda a: -a["similarity"])
    own = {by_file[way][0]["similarity"] for way in ("audio_to_video", "video_to_audio")}
    assert len(own) == 1  # its sound is as close to its picture as its picture to its sound
    assert own.pop() < 0.99  # and a sound is not compared with sounds


def test_a_query_without_sound_is_searched_with_by_its_picture_alone(capsys, few, tmp_path):
    mute = make_clip(tmp_path / "mute.mp4", images=pictures(60))
    blind = make_clip(tmp_path / "blind.m4a", sound=tone(2.6))
    assert cli.main(["retrieve", str(mute), "--data", str(few)]) == 0
    shown = capsys.readouterr()
    assert "picture to sound" in shown.out and "sound to picture" not in shown.out and "no sound" in shown.err
    found = told(capsys, blind, "--data", few, "--top", 99)
    assert len(found["audio_to_video"]) == 6 and "video_to_audio" not in found


def test_the_terminal_shows_what_the_object_holds(capsys, few):
    found = told(capsys, "--data", few, "--by", "event")
    assert cli.main(["retrieve", "--data", str(few), "--by", "event"]) == 0
    out = capsys.readouterr().out
    for number in (found["instances"]["audio_to_video"]["r1"], found["by_class"]["video_to_audio"]["map"], found["by_class"]["chance_map"]):
        assert f"{100 * number:.1f} %" in out


def test_clips_that_the_run_was_trained_on_are_told_as_such(capsys, few, tmp_path):
    from mavil_edu import MAViL

    MAViL.from_pretrained("tiny").save_pretrained(tmp_path / "run" / "model")
    write_json(tmp_path / "run" / "config.json", {"data": str(few)})
    for checkpoint in (tmp_path / "run", tmp_path / "run" / "model"):
        assert told(capsys, "--checkpoint", checkpoint, "--data", few)["trained_on_this_data"] is True
    assert cli.main(["retrieve", "--checkpoint", str(tmp_path / "run"), "--data", str(few)]) == 0
    assert "flatter" in capsys.readouterr().err


def test_what_cannot_be_retrieved_is_refused_with_the_remedy(capsys, few, tmp_path):
    assert "choose --by one of: material" in refused(capsys, "--data", few, "--by", "colour")
    assert "is a quantity" in refused(capsys, "--data", few, "--by", "size")
    assert "label them by sub-folders" in refused(capsys, "--data", few / "000.mp4", "--by", "material")
    assert "two or more" in refused(capsys, "--data", few / "000.mp4")
    assert "fewer than 2" in refused(capsys, "--clips", 1)
    assert "--top is 0" in refused(capsys, "--top", 0)
    assert "holds no model" in refused(capsys, "--checkpoint", tmp_path)
    assert "There is no folder" in refused(capsys, "--data", tmp_path / "nowhere")
    assert "such as 000.mp4" in refused(capsys, "nothing.mp4", "--data", few)
    (tmp_path / "bad.mp4").write_bytes(b"no film")
    assert "bad.mp4" in refused(capsys, tmp_path / "bad.mp4", "--data", few)


def test_the_page_holds_everything_asks_nothing_of_a_network_and_marks_the_true_partner(capsys, few, tmp_path):
    page = tmp_path / "pages" / "retrieval.html"
    found = told(capsys, "--data", few, "--by", "material", "--page", page, "--queries", 2, "--top", 3)
    text = page.read_text()
    assert found["page"] == str(page)
    assert "default-src 'none'" in text and not re.search(r'(src|href)="(?!data:)', text) and "http-equiv" in text
    assert text.count("<section>") == 4 and text.count("<li") == 12  # two clips, each asks both ways, three answers each
    sections = text.split("<section>")[1:]
    for section in sections:
        assert re.search(r"rank [\d.]+ of 6; chance 3\.5", section)
        similarities_shown = [float(v) for v in re.findall(r"<figcaption>\d\. [^<]*similarity (-?[\d.]+)", section)]
        assert len(similarities_shown) == 3 and similarities_shown == sorted(similarities_shown, reverse=True)
    pictures_asked = [s for s in sections if s.startswith("<h2>sound to picture")]
    for section in pictures_asked:  # a sound asks, films with their sound answer
        assert section.index("<audio") < section.index("<video") and section.count("<video") == 3 and "with sound" in section
    own = [s for s in sections if "<li class=own" in s]
    assert own and all(", its own" in s for s in own)
    assert f"{100 * found['instances']['audio_to_video']['r1']:.1f} %" in text


def test_a_page_of_one_clip_marks_it_only_where_it_is_among_those_searched(capsys, few, tmp_path):
    page = tmp_path / "one.html"
    told(capsys, few / "000.mp4", "--data", few, "--page", page, "--top", 6)  # the first clip: its number is 0
    text = page.read_text()
    assert text.count("<li class=own") == 2 and text.count("Its own") == 2 and text.count("<section>") == 2
    (tmp_path / "elsewhere").mkdir()
    stranger = shutil.copy(SAMPLES / "009.mp4", tmp_path / "elsewhere" / "000.mp4")  # of the same name, but another clip
    told(capsys, stranger, "--data", few, "--page", page)
    assert "<li class=own" not in page.read_text() and "not among those searched" in page.read_text()


def test_clips_of_one_name_in_several_folders_are_told_apart_and_find_themselves(capsys, tmp_path):
    folder, page = tmp_path / "cls", tmp_path / "one.html"
    for kind, number in (("ape", 1), ("bat", 2), ("cat", 3)):
        (folder / kind).mkdir(parents=True)
        shutil.copy(SAMPLES / f"00{number}.mp4", folder / kind / "000.mp4")
    by_file = told(capsys, folder / "bat" / "000.mp4", "--data", folder, "--page", page, "--top", 3)
    assert page.read_text().count("<li class=own") == 2 and re.search(r"\d\. bat/000\.mp4, similarity [\d.]+, its own", page.read_text())
    assert {answer["clip"] for answer in by_file["audio_to_video"]} == {"ape/000.mp4", "bat/000.mp4", "cat/000.mp4"}
    by_name = told(capsys, "bat/000.mp4", "--data", folder, "--top", 3)
    assert by_name["audio_to_video"] == by_file["audio_to_video"]
    assert "such as ape/000.mp4" in refused(capsys, "000.mp4", "--data", folder)


def test_names_and_labels_in_a_page_are_text_and_never_markup(capsys, few, tmp_path):
    folder = tmp_path / "hostile"
    shutil.copytree(few, folder)
    (folder / "labels.csv").unlink()
    (folder / "000.mp4").rename(folder / "<img src=x onerror=alert(1)>.mp4")
    told(capsys, "--data", folder, "--page", tmp_path / "hostile.html", "--top", 6, "--queries", 6)
    text = (tmp_path / "hostile.html").read_text()
    assert "<img src=x" not in text and "&lt;img src=x" in text
    assert "ends in .html" in refused(capsys, "--data", few, "--page", tmp_path / "page.pdf")
    assert "--queries is 0" in refused(capsys, "--data", few, "--page", tmp_path / "page.html", "--queries", 0)
