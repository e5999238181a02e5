"""The tour of the generated world varies one cause at a time, and says truly where it is perceived."""

import itertools

import pytest
import torch

from mavil_edu import media
from mavil_edu.cli import main
from mavil_edu.tour import KINDS, _rendered, variations

ROWS = [(kind, name) for kind, names in KINDS.items() for name in names]


def test_the_tour_has_a_row_for_each_variation():
    assert sorted(name for _, name in ROWS) == sorted(variations())


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_a_varied_cause_is_perceived_where_its_row_says_and_nowhere_else(kind, name):
    clips = [_rendered(clip) for clip in variations()[name].values()]
    assert len(clips) > 1
    for (frames, sound), (other_frames, other_sound) in itertools.pairwise(clips):
        assert torch.equal(frames, other_frames) == (kind == "heard only")
        assert torch.equal(sound, other_sound) == (kind == "seen only")


def test_the_page_plays_every_variation_and_nothing_is_overwritten(tmp_path, capsys):
    assert main(["world", "--tour", "--out", str(tmp_path / "tour")]) == 0
    page = (tmp_path / "tour" / "tour.html").read_text()
    assert page.count("<video") == sum(map(len, variations().values()))
    assert "http" not in page
    assert media.find_media([tmp_path]) == [] and (tmp_path / "tour" / "tour.png").stat().st_size > 50_000
    assert main(["world", "--tour", "--out", str(tmp_path / "tour")]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
