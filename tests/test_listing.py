"""Official lists: read in every published form, matched with files, drawn from; a broken one is told by file and line."""

import csv
import json
from collections import Counter
from dataclasses import replace

import pytest
from test_cli import mavil

from mavil_edu import cli
from mavil_edu.data.audioset import read_audioset
from mavil_edu.data.listing import Entry, ListError, find_clips, read_rows
from mavil_edu.data.official import draw, kind_of, of_split, read_list, write_subset
from mavil_edu.data.vggsound import read_vggsound

VGGSOUND = """---g-f_I2yQ,1,people marching,test
--0PQM4-hqg,30,"waterfall, burbling",train
--56QUhyDQM,185,playing tennis,train
_aBcDeFgHiJ,30,playing tennis,train
_aBcDeFgHiJ,190,playing tennis,train
"""
AUDIOSET = """# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"
-0RWZT-miFs, 417.300, 427.300, "/m/03l9g"
0abcDEFghij, 20.000, 28.000, "/m/068hy"
"""
CLASSES = """index,mid,display_name
0,/m/068hy,"Domestic animals, pets"
1,/m/07q6cd_,"Squeak"
2,/m/03l9g,"Hammer"
"""


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


@pytest.fixture
def vggsound(tmp_path):
    return write(tmp_path / "lists" / "vggsound.csv", VGGSOUND)


@pytest.fixture
def audioset(tmp_path):
    write(tmp_path / "lists" / "class_labels_indices.csv", CLASSES)
    return write(tmp_path / "lists" / "eval_segments.csv", AUDIOSET)


# Reading


def test_vggsounds_own_form_gives_ids_times_classes_and_splits(vggsound):
    listing = read_vggsound(vggsound)
    first, second = listing.entries[:2]
    assert (first.id, first.start, first.end, first.labels, first.split) == ("---g-f_I2yQ", 1, 11, ("people marching",), "test")
    assert (second.labels, second.split) == (("waterfall, burbling",), "train")
    assert listing.classes == ["people marching", "playing tennis", "waterfall, burbling"]
    assert listing.splits == {"train", "test"} and len(of_split(listing, "train")) == 4


def test_both_published_forms_say_the_same(tmp_path, vggsound):
    files = '---g-f_I2yQ_000001.mp4,people marching\r\n--0PQM4-hqg_000030.mp4,"waterfall, burbling"\r\n'
    short = read_vggsound(write(tmp_path / "vggsound_test.csv", files))
    whole = read_vggsound(vggsound)
    for one, other in zip(short.entries, whole.entries, strict=False):
        assert one[:4] == other[:4]
    assert short.splits == {"test"}  # the file's name tells it
    assert read_vggsound(write(tmp_path / "mine.csv", files)).splits == set()


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("# YTID", "YTID"),
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("\n", "\n\n"),
        str.rstrip,
    ],
)
def test_titles_byte_order_marks_line_ends_and_blank_lines_change_nothing(tmp_path, vggsound, audioset, change):
    for path in (vggsound, audioset):
        plain = read_list(path)
        changed = read_list(write(path.parent / "train.csv", change(path.read_text())))
        assert [entry[:4] for entry in changed.entries] == [entry[:4] for entry in plain.entries]


def test_audioset_gives_several_classes_by_name_and_its_evaluation_list_is_the_test_split(audioset):
    listing = read_audioset(audioset)
    assert listing.entries[0].labels == ("Domestic animals, pets", "Squeak")
    assert (listing.entries[1].start, listing.entries[1].end) == (417.3, 427.3)
    assert listing.classes == ["Domestic animals, pets", "Squeak", "Hammer"]
    assert listing.splits == {"test"} and len(listing.header) == 3


def test_a_kind_of_list_is_recognised(vggsound, audioset):
    assert kind_of(vggsound) == "vggsound" and kind_of(audioset) == "audioset"


def test_a_clip_that_is_listed_twice_counts_once_and_is_told(tmp_path):
    listing = read_vggsound(write(tmp_path / "v.csv", VGGSOUND + VGGSOUND.splitlines()[0] + "\n"))
    assert len(listing.entries) == 5 and listing.repeated == 1


BROKEN_VGGSOUND = {
    "an unquoted comma": ("--0PQM4-hqg,30,waterfall, burbling,train", "line 6: 5 columns"),
    "a column too few": ("--0PQM4-hqg,30,train", "line 6: 3 columns"),
    "an open quote": ('--0PQM4-hqg,30,"waterfall,train', "line 6: the quotes"),
    "no time": ("--0PQM4-hqg,soon,waterfall,train", "line 6: 'soon' is no time"),
    "a time before the start": ("--0PQM4-hqg,-3,waterfall,train", "line 6: '-3' is no time"),
    "not a number": ("--0PQM4-hqg,nan,waterfall,train", "line 6: 'nan' is no time"),
    "another split": ("--0PQM4-hqg,30,waterfall,val", "line 6: the split is 'val'"),
    "a path for an id": ("../../etc/x,30,waterfall,train", "line 6: '../../etc/x' is no YouTube id"),
    "no class": ("--0PQM4-hqg,30,,train", "line 6: the clip has no class"),
}


@pytest.mark.parametrize("what", BROKEN_VGGSOUND)
def test_a_broken_vggsound_list_is_told_by_file_and_line(tmp_path, what):
    line, words = BROKEN_VGGSOUND[what]
    path = write(tmp_path / "broken.csv", VGGSOUND + line + "\n")
    with pytest.raises(ListError) as told:
        read_vggsound(path)
    assert words in str(told.value) and str(path) in str(told.value) and "\n" not in str(told.value)


BROKEN_AUDIOSET = {
    "an unknown code": ('0abcDEFghij, 0.0, 10.0, "/m/nothing"', "line 7: there is no class with the code '/m/nothing'"),
    "unquoted codes": ("0abcDEFghij, 0.0, 10.0, /m/068hy,/m/03l9g", "line 7: 5 columns"),
    "an end before the start": ('0abcDEFghij, 10.0, 0.0, "/m/068hy"', "line 7: the segment ends at 0 s"),
    "no codes": ('0abcDEFghij, 10.0, 20.0, ""', "line 7: there is no class with the code ''"),
}


@pytest.mark.parametrize("what", BROKEN_AUDIOSET)
def test_a_broken_audioset_list_is_told_by_file_and_line(audioset, what):
    line, words = BROKEN_AUDIOSET[what]
    with pytest.raises(ListError, match=words):
        read_audioset(write(audioset.parent / "broken.csv", AUDIOSET + line + "\n"))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        ("--0PQM4-hqg,30,café,train\n".encode("latin-1"), "line 1: byte 19 is not UTF-8"),
        (VGGSOUND.encode("utf-16"), "line 1: this is no text in UTF-8"),
        (b"\x00\x01\x02", "line 1: this is no text"),
        (b"just a sentence\n", "1 columns"),
        (b"holiday.mp4,beach\n", "'holiday.mp4' is not an id and six digits"),
        (b"# only a comment\n", "names no clip"),
    ],
)
def test_what_is_no_list_is_told(tmp_path, content, words):
    path = tmp_path / "list.csv"
    path.write_bytes(content)
    with pytest.raises(ListError, match=words):
        read_list(path)
    with pytest.raises(ListError, match="gone.csv cannot be read"):
        read_list(tmp_path / "gone.csv")


def test_broken_files_of_classes_are_told(tmp_path, vggsound, audioset):
    with pytest.raises(ListError, match="line 2: .*knows no class 'waterfall, burbling'"):
        read_vggsound(vggsound, write(tmp_path / "c.csv", "people marching,1,people\nplaying tennis,1,sports\n"))
    with pytest.raises(ListError, match="c.csv, line 1: the class 'a' .*twice"):
        read_vggsound(vggsound, write(tmp_path / "c.csv", "a,1,x\na,1,x\n"))
    for text, words in ((CLASSES.replace("\n1,", "\n7,"), "line 3"), (CLASSES.replace("mid", "code"), "line 1"), ("a,b\n", "line 1")):
        with pytest.raises(ListError, match=words):
            read_audioset(audioset, write(tmp_path / "c.csv", text))
    (audioset.parent / "class_labels_indices.csv").unlink()
    with pytest.raises(ListError, match="--classes"):
        read_audioset(audioset)


def test_the_real_samples_are_read_whole(shared_data):
    folder = shared_data / "labels"
    vggsound = read_list(folder / "vggsound_test.csv")
    assert vggsound.kind == "vggsound" and len(vggsound.entries) == 15446 and vggsound.splits == {"test"} and not vggsound.repeated
    assert len(vggsound.classes) == 309 and vggsound.classes[2] == "bird chirping, tweeting"
    by_name = {entry.name: entry for entry in vggsound.entries}
    assert by_name["0_8-g2rof7E_000049"].labels == ("heart sounds, heartbeat",)
    audioset = read_list(folder / "audioset_eval_segments.csv")
    assert audioset.kind == "audioset" and len(audioset.entries) == 20371 and audioset.splits == {"test"}
    assert len(audioset.classes) == 527 and audioset.classes[0] == "Speech"
    labels = [name for entry in audioset.entries for name in entry.labels]
    assert (len(set(labels)), len(labels)) == (527, 51804)  # as the file's own second line says


# Files


def clip(id, start, end=None):
    return Entry(id, start, start + 10 if end is None else end, ("x",), None, "")


def found_in(folder, names, *entries):
    for name in names:
        write(folder / name, "a film")
    return [path and str(path.relative_to(folder)) for path in find_clips(list(entries), folder)]


def test_each_way_to_name_a_file_is_found_anywhere_below_the_folder(tmp_path):
    names = ["-0DdlOuIFUI_000050.mp4", "a/_bcdefghijk_30_40.mkv", "a/b/A_cdefghij-_417300_427300.webm", "zbcdefghijk.MP4"]
    names += ["ybcdefghijk_20.000_28.000.mp4", "note.txt"]
    entries = (
        clip("-0DdlOuIFUI", 50),
        clip("_bcdefghijk", 30),
        clip("A_cdefghij-", 417.3),
        clip("zbcdefghijk", 7),
        clip("ybcdefghijk", 20, 28),
    )
    assert found_in(tmp_path, names, *entries) == names[:5]


def test_a_file_of_another_time_or_case_is_not_the_clip(tmp_path):
    names = ["-0DdlOuIFUI_000051.mp4", "_bcdefghijk_30_41.mp4", "ZBCDEFGHIJK.mp4", "-0DdlOuIFU_000050.mp4"]
    assert found_in(tmp_path, names, clip("-0DdlOuIFUI", 50), clip("_bcdefghijk", 30), clip("zbcdefghijk", 7)) == [None] * 3


def test_a_file_with_the_id_alone_counts_only_where_that_video_is_listed_once(tmp_path):
    entries = clip("abcdefghijk", 5), clip("abcdefghijk", 60), clip("-bcdefghijk", 5)
    assert found_in(tmp_path, ["abcdefghijk.mp4", "-bcdefghijk.mp4"], *entries) == [None, None, "-bcdefghijk.mp4"]
    assert found_in(tmp_path, ["abcdefghijk_000060.mp4"], *entries) == [None, "abcdefghijk_000060.mp4", "-bcdefghijk.mp4"]


def test_of_several_files_of_a_clip_one_with_pictures_is_taken(tmp_path):
    names = ["a/abcdefghijk_000005.wav", "b/abcdefghijk_000005.mp4", "c/abcdefghijk_000005.mp4"]
    assert found_in(tmp_path, names, clip("abcdefghijk", 5)) == [names[1]]


# Subsets


@pytest.fixture(scope="module")
def real(shared_data):
    return read_list(shared_data / "labels" / "vggsound_test.csv")


def test_a_drawn_list_has_the_classes_and_numbers_asked_in_the_lists_order(real):
    drawn = draw(real, ["playing flute", "dog barking"], per_class=7, seed=1)
    assert Counter(entry.labels[0] for entry in drawn) == {"playing flute": 7, "dog barking": 7}
    places = [real.entries.index(entry) for entry in drawn]
    assert places == sorted(places)
    assert len(draw(real, per_class=3)) == 3 * 309


def test_the_seed_alone_decides_and_a_larger_draw_contains_the_smaller(real):
    one = draw(real, ["playing flute", "dog barking"], per_class=7, seed=1)
    assert one == draw(real, ["dog barking", "playing flute"], per_class=7, seed=1)
    assert one != draw(real, ["playing flute", "dog barking"], per_class=7, seed=2)
    assert set(one) < set(draw(real, ["playing flute", "dog barking", "rapping"], per_class=9, seed=1))
    fewer = replace(real, entries=[entry for entry in real.entries if entry in one or entry.labels[0] == "rapping"])
    assert draw(fewer, ["playing flute", "dog barking"], per_class=7, seed=1) == one


def test_a_clip_of_several_classes_counts_for_each(shared_data):
    listing = read_list(shared_data / "labels" / "audioset_eval_segments.csv")
    drawn = draw(listing, per_class=2, seed=0)
    counts = Counter(name for entry in drawn for name in entry.labels)
    assert min(counts[name] for name in listing.classes) == 2
    assert len(drawn) < 2 * 527


def test_classes_and_splits_that_are_not_there_are_told(real):
    with pytest.raises(ListError, match="Is one of these meant: .*playing flute"):
        draw(real, ["playing the flute"])
    with pytest.raises(ListError, match="no clip of the split 'train': it tells only test"):
        draw(real, split="train")
    with pytest.raises(ListError, match="1 clip a class or more"):
        draw(real, per_class=0)


def test_a_subset_can_be_used_as_a_list_again_and_says_what_is_missing(tmp_path, audioset):
    clips = tmp_path / "clips"
    write(clips / "x" / "-0RWZT-miFs_000417.mp4", "a film")
    listing = read_list(audioset)
    counts = write_subset(listing, draw(listing, ["Hammer", "Squeak"]), tmp_path / "out", clips)
    assert counts == {"drawn": 2, "classes": {"Domestic animals, pets": 1, "Hammer": 1, "Squeak": 1}, "present": 1, "missing": 1}
    again = read_list(tmp_path / "out" / "eval_segments.csv")
    assert again.entries == [listing.entries[0], listing.entries[1]] and again.classes == listing.classes
    assert again.header[1] == "# num_ytids=2, num_segs=2, num_unique_labels=3, num_positive_labels=3"
    rows = list(csv.DictReader((tmp_path / "out" / "status.csv").open()))
    assert [(row["id"], row["status"], row["path"]) for row in rows] == [
        ("--4gqARaEJE", "missing", ""),
        ("-0RWZT-miFs", "present", "x/-0RWZT-miFs_000417.mp4"),
    ]
    with pytest.raises(ValueError, match="nothing is overwritten"):
        write_subset(listing, listing.entries, tmp_path / "out", clips)


def test_the_command_draws_a_subset_and_refuses_with_a_sentence(tmp_path, vggsound, capsys):
    write(tmp_path / "clips" / "--56QUhyDQM_000185.mp4", "a film")
    ask = ["subset", "--list", vggsound, "--only", "playing tennis", "waterfall, burbling", "--split", "train", "--seed", 3]
    done = mavil(*ask, "--clips", tmp_path / "clips", "--per-class", 2, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert (counts["drawn"], counts["missing"], counts["classes"]["waterfall, burbling"]) == (3, counts["drawn"] - counts["present"], 1)
    assert {row.line for row in read_rows(tmp_path / "out" / "vggsound.csv")} < set(VGGSOUND.splitlines())

    def told(*more) -> tuple[int, str]:
        return cli.main([*map(str, ask), *map(str, more)]), capsys.readouterr().err

    status, said = told("--per-class", 3, "--out", tmp_path / "other")
    assert status == 0 and "waterfall, burbling (fewer than 3 in the list)" in said
    assert "4 of 5 clips are drawn" in said
    assert not (tmp_path / "other" / "status.csv").exists()
    status, said = told("--out", tmp_path / "out")
    assert status == 2 and "nothing is overwritten" in said
    status, said = told("--clips", tmp_path / "gone", "--out", tmp_path / "o")
    assert status == 2 and "There is no folder" in said and not (tmp_path / "o").exists()
