"""The report holds everything in one file, tells the truth about the numbers, and asks nothing of any network."""

import base64
import json
import math
import re
from html.parser import HTMLParser

import pytest
import torch

from mavil_edu import MAViL, figures, media
from mavil_edu.cli import main
from mavil_edu.probes import untrained
from mavil_edu.report import FEW, write_report

SUMMARY = {
    "audio": {"masked_mse": 0.6, "best_trivial_mse": 0.8, "trivial": {"position_mean": 0.8, "nearest_visible": 1.5}},
    "video": {"masked_mse": 0.9, "best_trivial_mse": 0.75, "trivial": {"position_mean": 0.75}},
    "retrieval": {
        "audio_to_video": {"r1": 0.1, "r5": 0.3},
        "video_to_audio": {"r1": 0.0, "r5": 0.01},
        "chance_r1": 0.005,
        "chance_r5": 0.025,
        "clips": 200,
    },
    "target": "normalised",
    "seconds": 330.0,
    "steps": 1000,
    "held_out": True,
    "clips": {"trained": 6000, "held_out": 200, "skipped": [{"path": "<script>alert(1)</script>.mp4", "reason": "unreadable & empty"}]},
    "parameters": 1_308_228,
    "versions": {"torch": "2.14"},
    "machine": "x86_64",
    "command": "mavil-edu demo",
}


@pytest.fixture
def run(tmp_path):
    picture = figures.frame_panels({"f": torch.zeros(2, 8, 8, 3, dtype=torch.uint8)}, 1)
    picture.save(tmp_path / "figures" / "a.png")
    (tmp_path / "audio").mkdir()
    media.write_wav(tmp_path / "audio" / "a.wav", torch.zeros(1600))
    (tmp_path / "video").mkdir()
    media.write_mp4(tmp_path / "video" / "a.mp4", torch.zeros(5, 16, 16, 3, dtype=torch.uint8), 5, torch.zeros(16_000))
    example = {
        "name": "a",
        "title": 'A "clip" <b>',
        "figures": [{"file": "figures/a.png", "caption": "c", "alt": "what is seen"}],
        "audio": [{"file": "audio/a.wav", "caption": "c"}],
        "video": [{"file": "video/a.mp4", "caption": "c"}],
    }
    (tmp_path / "examples.json").write_text(json.dumps([example]))
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "config.json").write_text('{"seed": 7}')
    rows = [{"step": s, "audio_mse": 0.9, "audio_mse_trivial": 0.8} for s in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return tmp_path


def test_probes_with_knn_and_the_shuffled_control_stand_in_the_report(run, capsys):
    model = MAViL.from_pretrained("tiny")
    model.save_pretrained(run / "model")
    untrained(model.config, 5).save_pretrained(run / "control")
    asked = ["probe", "--checkpoint", str(run), "--control", str(run / "control"), "--column", "material", "--clips", "60", "--report"]
    assert main(asked) == 0
    assert "report.html" in capsys.readouterr().err
    page = (run / "report.html").read_text()
    assert "material from audio, 10-NN" in page and "material from audio, linear" in page and "<th>shuffled pairs</th>" in page
    (run / "summary.json").unlink()
    assert main(asked) == 2 and "leave it out" in capsys.readouterr().err


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def test_everything_is_inside_and_nothing_is_asked_of_a_network(run):
    text = write_report(run).read_text()
    page = Page(text)
    sources = [attrs[name] for _, attrs in page.tags for name in ("src", "href") if name in attrs]
    assert len(sources) == 4  # picture, sound, video, curves
    for source in sources:
        assert source.startswith("data:")
        assert len(base64.b64decode(source.split("base64,")[1])) > 100
    assert "://" not in re.sub(r"base64,[^\"]+", "", text)
    policies = [attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"]
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]


def test_every_picture_has_alt_text_and_every_player_a_name(run):
    page = Page(write_report(run).read_text())
    assert all(attrs.get("alt") for tag, attrs in page.tags if tag == "img")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag in ("audio", "video"))


def test_text_from_outside_is_escaped(run):
    text = write_report(run).read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.mp4" in text and "<script" not in text
    assert "A &quot;clip&quot; &lt;b&gt;" in text
    assert "unreadable &amp; empty" in text


def test_better_and_worse_are_said_as_they_are(run):
    text = write_report(run).read_text()
    assert re.search(r"sound: hidden patches.*?25 % better", text, re.S)
    assert re.search(r"picture: hidden patches.*?20 % worse", text, re.S)
    assert "12.0 × chance" in text and "0.4 × chance" in text
    assert "none of them seen in training" in text
    assert "for 1000 steps on clips drawn from 6000" in text and FEW not in text
    words = re.sub(r"<[^>]+>", "", text)
    assert "Sound, hidden patches: 25 % better than the best answer that needs no learning." in words
    assert "Find the sound of a picture: its own is among the first five in 1.0 % of the cases, 0.4 × chance." in words


def test_what_chance_alone_reaches_is_not_coloured_as_success(run):
    lucky = SUMMARY["retrieval"] | {"audio_to_video": {"r1": 0.01, "r5": 0.04}, "video_to_audio": {"r1": 0.02, "r5": 0.06}}
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"retrieval": lucky}))
    styles = re.findall(r'<td class="(\w*)">([\d.]+) × chance', write_report(run).read_text())
    assert styles == [("", "2.0"), ("", "1.6"), ("good", "4.0"), ("good", "2.4")]  # 2 of 200 where 1 is chance, and so on


def test_a_run_with_little_in_it_still_has_a_report(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({"audio": None, "video": SUMMARY["video"], "retrieval": None, "held_out": False}))
    text = write_report(tmp_path).read_text()
    assert "those it was trained on" in text and "picture: hidden patches" in text and "R@1" not in text


@pytest.mark.parametrize(
    "change",
    [
        {"audio": {"masked_mse": None, "best_trivial_mse": 0.8, "trivial": None}},
        {"audio": {"masked_mse": math.nan, "best_trivial_mse": 0.8}},
        {"retrieval": {"audio_to_video": {"r1": 0.1}, "chance_r1": 0.01}},
        {"parameters": None, "clips": None, "versions": None, "target": None, "seconds": None},
    ],
)
def test_what_was_not_measured_is_left_out_and_never_invented(run, change):
    (run / "summary.json").write_text(json.dumps(SUMMARY | change))
    text = re.sub(r"base64,[^\"]+", "", write_report(run).read_text())
    assert "nan" not in text and ("audio" not in change or "not measured" in text)


def test_a_modality_of_which_nothing_is_hidden_is_neither_better_nor_worse(run):
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"audio": {"masked_mse": 0.0, "best_trivial_mse": 0.0}}))
    text = write_report(run).read_text()
    assert "nothing to predict" in text and "0 % worse" not in text.replace("20 % worse", "")


def test_a_file_that_is_gone_and_a_line_cut_short_do_not_cost_the_report(run):
    (run / "audio" / "a.wav").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "audio_m')
    assert "audio/a.wav</code> is not there" in write_report(run).read_text()


def test_a_run_without_a_summary_says_that_nothing_was_measured(tmp_path):
    assert "no measured result" in write_report(tmp_path).read_text()
