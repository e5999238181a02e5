"""What else is measured beside its like: reading clips, the log-mel, starting, an explorer's new picture."""

import json
import sys
from pathlib import Path

import pytest

from mavil_edu import tiny
from mavil_edu.benchmarks import front as benchmark_front
from mavil_edu.benchmarks import interleaved
from mavil_edu.benchmarks import start as benchmark_start
from mavil_edu.cli import main
from mavil_edu.data.world import write_world
from mavil_edu.explorers.widgets import Explorer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    write_world(folder, 2, seed=0, seconds=6.0)
    return folder


def answered(words: str, capsys) -> dict:
    assert main(["benchmark", *words.split(), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def ordered(*spreads: dict) -> bool:
    return all(0 < one["low"] <= one["median"] <= one["high"] for one in spreads)


def test_the_plain_window_takes_what_lies_in_the_middle(clips):
    path = sorted(clips.glob("*.mp4"))[0]
    whole, half, none = (benchmark_front.plain_window(path, 1e-9, seconds) for seconds in (6.0, 3.0, 1e-9))
    assert none <= 2 < half and 1.8 * half <= whole <= 2.2 * half
    assert benchmark_front.plain_window(path, 3.0, 1e-9) > 10, "and its sound"


def test_the_reader_is_timed_beside_plain_loops(clips, capsys):
    answer = answered(f"decode --data {clips} --rounds 2", capsys)
    assert answer["clips"] == 2 and set(answer["clips_per_second"]) == {"ours", "window", "whole"}
    assert ordered(*answer["clips_per_second"].values(), *answer["ratio"].values())
    text = benchmark_front.decode_table(answer)
    assert "2 clips, windows of 2.56 s" in text and "plain loop, whole clips" in text
    assert main("benchmark decode --rounds 0".split()) == 2


def test_every_clip_is_read_by_every_way_in_every_round(clips, monkeypatch):
    read = {"ours": 0, "window": 0, "whole": 0}

    def counted(way: str, clips: int = 1) -> None:
        read[way] += clips

    monkeypatch.setattr(benchmark_front, "read_clip", lambda *_, **__: counted("ours"))
    monkeypatch.setattr(benchmark_front, "plain_window", lambda *_: counted("window"))
    monkeypatch.setattr(benchmark_front, "plain_loop", lambda paths: counted("whole", len(paths)))
    benchmark_front.benchmark_decode(tiny(), clips, 2, 6.0, rounds=3)
    assert set(read.values()) == {2 * (3 + 1)}, "two clips, three rounds and one that is not counted"


def test_the_log_mel_is_timed_and_compared(capsys):
    answer = answered("fbank --batch 3 --seconds 1 --rounds 2", capsys)
    assert answer["equal"] and 0 <= answer["largest_difference"] <= 1e-3
    assert ordered(*answer["ms"].values(), answer["ratio"], answer["cpu_ratio"])
    assert main("benchmark fbank --seconds 0.001".split()) == 2


def test_a_log_mel_that_differs_is_a_verdict_against(monkeypatch, capsys):
    real = benchmark_front.log_mel
    monkeypatch.setattr(benchmark_front, "log_mel", lambda *arguments: real(*arguments) + 0.002)
    assert main("benchmark fbank --batch 1 --seconds 0.5 --rounds 1".split()) == 1
    assert "NOT EQUAL to 0.001" in capsys.readouterr().out


def test_starts_are_timed_in_processes_of_their_own(monkeypatch, capsys):
    slow = {"python": ["-c", "pass"], "import torch": ["-c", "import time; time.sleep(1)"]}
    monkeypatch.setattr(benchmark_start, "STARTS", slow)
    answer = answered("import --rounds 2", capsys)
    assert answer["ms"]["import torch"]["low"] > 1000 and answer["ratio"]["python"]["median"] < 1
    assert answer["ratio"]["import torch"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert "over import torch" in benchmark_start.import_table(answer)
    monkeypatch.setattr(benchmark_start, "STARTS", slow | {"broken": ["-c", "import no_such_module"]})
    assert main("benchmark import --rounds 1".split()) == 2
    assert "no_such_module" in capsys.readouterr().err


def test_what_is_started_is_what_the_package_offers():
    assert benchmark_start.STARTS["import mavil_edu"] == ["-c", "import mavil_edu"]
    for name in ("python", "import mavil_edu", "mavil-edu --help"):
        benchmark_start._start(benchmark_start.STARTS[name])


def test_a_changed_control_is_timed_to_its_new_picture(capsys):
    answer = answered("interact --rounds 2", capsys)
    assert ordered(*answer["ms"].values(), *answer["cpu_ms"].values(), *answer["ratio"].values())
    assert answer["ms"]["picture"]["low"] < answer["ms"]["anew"]["median"]
    assert answer["within_150_ms"] in (0, 0.5, 1)
    assert "a figure drawn anew" in benchmark_start.interact_table(answer)


def test_an_explorer_that_does_not_change_is_an_error(monkeypatch, capsys):
    monkeypatch.setattr(Explorer, "_renew", lambda self, change=None: None)
    assert main("benchmark interact --rounds 1".split()) == 2
    assert "picture did not change" in capsys.readouterr().err


def test_without_widgets_a_sentence_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mavil_edu.explorers.masking", None)
    assert main("benchmark interact --rounds 1".split()) == 2
    assert "pip install 'mavil-edu[notebooks]'" in capsys.readouterr().err


def test_a_median_is_told_with_its_quartiles():
    assert interleaved.told(interleaved.spread([1.0, 2.0, 3.0, 4.0, 5.0]), 1) == "3.0 (2.0–4.0)"
    assert interleaved.spread([2.0]) == {"median": 2.0, "low": 2.0, "high": 2.0}
