"""The lab: one run serves many claims, arms are paired, verdicts follow a rule that finds what is there and nothing else."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lab_tasks import die, double

from mavil_edu import cli
from mavil_edu.config import tiny
from mavil_edu.data.loader import training_steps
from mavil_edu.lab.arms import BUDGETS, QUICK_LABEL, Arm, changed, command_line, config_of, digest
from mavil_edu.lab.claims import ARMS, LEDGER, OPTIONS, Claim, Difference, minus
from mavil_edu.lab.ledger import claims_named, judge, judge_all, rows_of, with_needs, write_ledger
from mavil_edu.lab.measure import Job, Place, first, matched_steps, multiply_adds, paired_start, run_job, training_clips
from mavil_edu.lab.page import NOTES_FILE, write_page
from mavil_edu.lab.reproduce import jobs_of, to_make, without_data
from mavil_edu.lab.verdicts import LEAST, MOST_FALSE, Interval, difference, false_findings, interval, verdict_of, verdict_of_all
from mavil_edu.lab.workers import Task, run_all

QUICK = BUDGETS["quick"]
ROWS = Path(__file__).parents[1] / "results" / "reproduction" / "standard" / "rows"
NOWHERE = Place(Path("rows"), Path("work"), None)


# The rule


def test_an_interval_is_students_t():
    mean, half = interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert mean == 3 and half == pytest.approx(2.7764 * np.sqrt(2.5) / np.sqrt(5), rel=1e-4)


def test_one_seed_decides_nothing():
    assert verdict_of(difference([50.0]), "more", 1.0) == "undecided"


@pytest.mark.parametrize(
    ("low", "high", "more", "close", "not_worse", "equal"),
    [
        (2.0, 4.0, "holds", "undecided", "holds", "does not hold"),
        (0.1, 0.9, "does not hold", "holds", "holds", "does not hold"),  # there, but of no interest
        (-1.0, 5.0, "undecided", "undecided", "holds", "holds"),
        (-4.0, -2.0, "does not hold", "undecided", "undecided", "does not hold"),
        (-9.0, -4.0, "does not hold", "does not hold", "does not hold", "does not hold"),
        (4.0, 9.0, "holds", "does not hold", "holds", "does not hold"),
    ],
)
def test_the_rule_by_hand(low, high, more, close, not_worse, equal):
    found = Interval((low + high) / 2, low, high, 5)
    assert [verdict_of(found, expect, 1.0) for expect in ("more", "close", "not worse", "equal")] == [more, close, not_worse, equal]


def test_a_claim_holds_where_every_deciding_difference_does():
    assert verdict_of_all(["holds", "holds"]) == "holds"
    assert verdict_of_all(["holds", "undecided"]) == "undecided"
    assert verdict_of_all(["undecided", "does not hold"]) == "does not hold"
    assert verdict_of_all(["does not hold", "not run"]) == "not run"


def test_more_deciding_differences_widen_the_interval():
    values = [1.0, 2.0, 3.0, 2.0, 1.5]
    assert difference(values, 3).low < difference(values, 1).low


@pytest.mark.parametrize("kind", ["normal", "skewed", "two values", "heavy tails"])
def test_null_comparisons_find_a_difference_in_at_most_8_percent(kind):
    random = np.random.default_rng(1)
    draw = {
        "normal": lambda: random.normal(50, 3, 10),
        "skewed": lambda: random.exponential(3, 10),
        "two values": lambda: random.integers(0, 2, 10) + random.normal(0, 0.1, 10),
        "heavy tails": lambda: random.standard_t(3, 10),
    }[kind]
    rates = [false_findings(draw().tolist(), repetitions=100, seed=i) for i in range(20)]
    assert 0.005 < np.mean(rates) <= MOST_FALSE


def test_resampling_needs_two_groups_of_runs():
    with pytest.raises(ValueError, match="10 runs"):
        false_findings([1.0] * 9)


# Claims and arms


def test_every_claim_of_the_ledger_names_arms_that_exist_and_configs_that_can_be():
    for claim in (LEDGER | OPTIONS).values():
        for name in claim.arms:
            config_of(ARMS[name], BUDGETS["standard"])
        assert any(one.decides for one in claim.differences)
        assert all(one.metric in LEAST for one in claim.differences)


def test_a_stored_command_names_no_place_of_one_machine(monkeypatch):
    said = "reproduce fast --out /a/b --workers 2 --work=/c --docs C:\\d --split test --out results/options --page"
    monkeypatch.setattr("sys.argv", ["mavil-edu", *said.split()])
    assert command_line() == "mavil-edu reproduce fast --workers 2 --split test --out results/options --page"


def test_overrides_are_relative_to_the_preset_and_a_wrong_name_is_told():
    config = changed(tiny(), {"objective.alpha": 0.7})
    assert config == replace(tiny(), objective=replace(tiny().objective, alpha=0.7))
    with pytest.raises(ValueError, match="no objective.alfa"):
        changed(tiny(), {"objective.alfa": 1.0})
    with pytest.raises(ValueError, match="no objective.alpha.more"):
        changed(tiny(), {"objective.alpha.more": 1.0})


def test_a_run_that_several_claims_share_is_made_once():
    jobs = jobs_of(claims_named([]), QUICK, "test", NOWHERE)
    assert len({job.row for job in jobs}) == len(jobs)
    assert sum(job.arm.name == "full" for job in jobs) == QUICK.seeds
    twice = {"one": Arm("one"), "other": Arm("other", (("objective.alpha", tiny().objective.alpha),))}
    claim = Claim("c", "", "O", "", (minus("one", "other"),), ())
    assert len(jobs_of([claim], QUICK, "test", NOWHERE, twice)) == QUICK.seeds  # equal recipes by other names


def test_the_digest_follows_from_what_decides_the_row_and_not_from_names():
    one, other = Arm("a"), Arm("b")
    assert digest(one, QUICK, "test", {}) == digest(other, QUICK, "test", {})
    for changed_arm in (Arm("a", shuffled=True), Arm("a", shift=1), Arm("a", clips=10), Arm("a", (("objective.alpha", 9.0),))):
        assert digest(changed_arm, QUICK, "test", {}) != digest(one, QUICK, "test", {})
    assert digest(one, QUICK, "validation", {}) != digest(one, QUICK, "test", {})
    assert digest(one, replace(QUICK, steps=4), "test", {}) != digest(one, QUICK, "test", {})
    assert digest(one, replace(QUICK, seeds=9), "test", {}) == digest(one, QUICK, "test", {})
    teachers = {"x": Arm("x"), "y": Arm("y", clips=5)}
    assert digest(Arm("s", needs="x"), QUICK, "test", teachers) != digest(Arm("s", needs="y"), QUICK, "test", teachers)


def test_what_configs_gained_later_leaves_the_digests_of_stored_rows_as_they_were():
    """The committed rows are found again by their digests; a claim without any was not run yet."""
    stored = {path.name.rpartition("-")[0] for path in ROWS.glob("*.json")}
    found = {name: digest(arm, BUDGETS["standard"], "test", ARMS) for name, arm in ARMS.items()}
    assert {name for claim in LEDGER.values() for name in claim.arms if found[name] not in stored} == set()
    assert found["a quarter decoded"] != found["cross decoder"] != found["full"]


def test_what_an_arm_needs_comes_before_it():
    order = with_needs(["student 3"], ARMS)
    assert order == ["full", "student 1", "student 2", "student 3"]
    jobs = {job.arm.name: job for job in jobs_of([LEDGER["iterations"]], QUICK, "test", NOWHERE)}
    assert jobs["full"].keep and jobs["student 2"].keep and not jobs["student 3"].keep


def test_arms_of_a_seed_begin_with_the_same_weights_where_modules_agree():
    whole, other = (paired_start(config_of(ARMS[name], QUICK), 3).state_dict() for name in ("full", "separate autoencoders"))
    shared = set(whole) & set(other)
    assert any("decoder" in name for name in shared) and set(other) < set(whole)
    assert all(torch.equal(whole[name], other[name]) for name in shared)
    later = paired_start(config_of(ARMS["full"], QUICK), 4).state_dict()
    assert not torch.equal(later["audio_encoder.class_token"], whole["audio_encoder.class_token"])
    student = paired_start(config_of(ARMS["full"], QUICK), 3, generation=1).state_dict()
    assert not torch.equal(student["audio_encoder.class_token"], whole["audio_encoder.class_token"])


def test_two_blocks_of_one_model_do_not_begin_alike():
    state = paired_start(tiny(), 0).state_dict()
    assert not torch.equal(state["audio_encoder.class_token"], state["video_encoder.class_token"])
    one, other = (state[name] for name in state if name.endswith("qkv.weight") and name.startswith("audio_encoder.") and ".2." not in name)
    assert not torch.equal(one, other)


# Verdicts from rows


def made(values: dict[str, list[float]], metric: str = "skill") -> dict:
    return {name: {seed: {"metrics": {metric: v}, "seconds": 1.0} for seed, v in enumerate(some)} for name, some in values.items()}


CLAIM = Claim("c", "says", "O", "", (minus("a", "b"),), ())


def test_a_planted_effect_is_found_and_a_null_is_not():
    random = np.random.default_rng(0)
    found = {"planted": 0, "null": 0}
    for _ in range(200):
        skill_of_seed = random.normal(50, 10, 5)  # what pairing takes away
        base, twin, better = (skill_of_seed + random.normal(0, 1, 5) + shift for shift in (0, 0, 5))
        found["null"] += judge(CLAIM, made({"a": twin, "b": base}), 5).verdict == "holds"
        found["planted"] += judge(CLAIM, made({"a": better, "b": base}), 5).verdict == "holds"
    assert found["planted"] >= 180 and found["null"] <= MOST_FALSE * 200


def test_arms_are_compared_seed_by_seed():
    rows = made({"a": [11, 21, 31.5, 41, 51], "b": [9, 19, 29, 39, 49]})
    assert judge(CLAIM, rows, 5).verdict == "holds"  # unpaired the spread between seeds would hide it
    (one,) = judge(CLAIM, rows, 5).differences
    assert one.found.mean == pytest.approx(2.1)


def test_a_claim_without_all_its_seeds_is_not_run_and_seeds_beyond_do_not_count():
    rows = made({"a": [5.0, 5.1, 5.2, 5.1, 5.0, 99.0], "b": [1.0] * 6})
    assert judge(CLAIM, rows, 7).verdict == "not run"
    assert judge(CLAIM, rows, 5).differences[0].found.mean == pytest.approx(4.08)
    del rows["b"][2]
    assert judge(CLAIM, rows, 5).verdict == "not run"


def test_a_claim_can_take_several_times_the_budgets_seeds_and_another_beside_it_takes_no_more():
    twice = replace(CLAIM, seeds=2)
    assert judge(twice, made({"a": [5.0] * 3, "b": [1.0] * 3}), 2).verdict == "not run"
    assert judge(twice, made({"a": [5.0, 5.1, 5.2, 5.1, 99.0], "b": [1.0] * 5}), 2).differences[0].found.mean == pytest.approx(4.1)
    jobs = jobs_of(claims_named(["null", "fast-again"]), QUICK, "test", NOWHERE)
    seeds = Counter(job.arm.name for job in jobs)
    assert seeds == {name: QUICK.seeds * (3 if "fresh" in name else 1) for name in seeds} and len(seeds) == 4


def test_who_asks_again_asks_the_same_of_seeds_that_were_not_asked():
    again, first = OPTIONS["fast-again"], OPTIONS["fast"]
    deciding = {(one.terms, one.metric, one.expect) for one in first.differences if one.decides}
    bare = {
        (tuple((sign, name.removesuffix(", fresh seeds")) for sign, name in one.terms), one.metric, one.expect)
        for one in again.differences
        if one.decides
    }
    assert bare == deciding
    for name in again.arms:
        of_first = ARMS[name.removesuffix(", fresh seeds")]
        assert replace(ARMS[name], name=of_first.name, shift=0) == of_first
        assert ARMS[name].shift >= BUDGETS["standard"].seeds and ARMS[name].shift != ARMS["full, other seeds"].shift


def test_what_was_found_of_an_option_stays_when_another_claim_is_asked_for():
    metrics = {"skill": 50.0, "retrieval": 10.0, "reconstruction": 40.0}
    arms = {name for one in OPTIONS["less-work"].differences for name in one.arms}
    rows = {name: {seed: {"metrics": metrics, "seconds": 1.0} for seed in range(2)} for name in arms}
    for asked, options in ((), ["less-work"]), (("null",), ["less-work"]), (("fast",), ["less-work", "fast"]):
        found = {result.claim.name: result.verdict for result in judge_all(rows, 2, asked)}
        assert list(found) == [*LEDGER, *options]
    assert found["less-work"] == "holds" and found["fast"] == "not run"


def test_a_difference_of_differences_keeps_its_signs():
    claim = Claim("c", "", "O", "", (Difference(((1, "a"), (-1, "b"), (-1, "c"), (1, "d"))),), ())
    rows = made({"a": [10, 11], "b": [1, 1], "c": [4, 4], "d": [2, 2.5]})
    assert judge(claim, rows, 2).differences[0].found.mean == pytest.approx((7 + 8.5) / 2)


# Processes


def test_a_run_that_fails_is_told_with_its_reason_and_the_others_go_on():
    told = {}
    tasks = [Task("bad", -1), Task("student of bad", 5, ("bad",)), Task("good", 2), Task("next", 3, ("good",)), Task("free", 4, ("gone",))]
    run_all(tasks, double, 2, lambda task, result, reason: told.__setitem__(task.name, (result, reason)))
    assert (told["good"], told["next"], told["free"]) == ((4, None), (6, None), (8, None))
    assert "a number below 0" in told["bad"][1]
    assert "needs bad" in told["student of bad"][1]


def test_a_process_that_is_killed_is_tried_again_and_then_told():
    told = []
    run_all([Task("killed", 1)], die, 1, lambda task, result, reason: told.append((task.name, task.attempts, reason)))
    assert told[0][:2] == ("killed", 2) and "killed" in told[0][2]


def test_tasks_that_wait_for_each_other_are_refused():
    with pytest.raises(ValueError, match="wait"):
        run_all([Task("a", 1, ("b",)), Task("b", 1, ("a",))], double, 1, lambda *_: None)


# A real run, micro


@pytest.fixture(scope="module")
def micro(tmp_path_factory):
    place = tmp_path_factory.mktemp("lab")
    budget = replace(QUICK, clips=24, asked=24, fitted=40, labelled=40)
    return budget, Place(place / "rows", place / "work", None)


def job_of(name: str, micro, seed: int = 0) -> Job:
    budget, place = micro
    return Job(ARMS[name], seed, budget, "test", ARMS, place, ARMS[name].name == "full")


def test_a_run_is_one_row_with_its_curve_command_and_budget(micro):
    job = job_of("full", micro)
    assert not job.done
    row = run_job(job)
    assert job.done and json.loads(job.row.read_text()) == json.loads(json.dumps(row))
    assert row["budget"] == "quick" and row["proves"] is False and row["command"] and row["versions"] and row["machine"]
    assert [point["step"] for point in row["curve"]][-1] == row["steps"] == 3
    assert {"audio", "video", "inter"} <= set(row["trivial"])
    assert {"skill", "retrieval", "overall", "reconstruction"} <= set(row["metrics"])
    again = run_job(job)
    assert again["metrics"] == row["metrics"] and again["curve"] == row["curve"]


def test_a_student_learns_from_its_teacher_and_waits_for_it(micro):
    student = job_of("student 1", micro)
    assert student.other("full").row == job_of("full", micro).row
    if not job_of("full", micro).done:
        run_job(job_of("full", micro))
    assert "reconstruction" not in run_job(student)["metrics"]


def test_weights_that_are_gone_are_made_again_only_for_a_run_that_needs_them(tmp_path):
    """Rows are committed, weights are not: elsewhere a finished ledger asks for nothing, and an unfinished one for what it lacks."""
    place = Place(tmp_path / "rows", tmp_path / "work", None)
    jobs = jobs_of([LEDGER["iterations"]], QUICK, "test", place)
    for job in jobs:
        job.row.parent.mkdir(parents=True, exist_ok=True)
        job.row.write_text("{}")
    assert to_make(jobs) == []
    lacking = next(job for job in jobs if job.arm.name == "student 2" and job.seed == 1)
    lacking.row.unlink()
    assert [str(job) for job in to_make(jobs)] == ["full, seed 1", "student 1, seed 1", "student 2, seed 1"]
    lacking.other("student 1").model.mkdir(parents=True)
    assert [str(job) for job in to_make(jobs)] == ["student 2, seed 1"]


@pytest.mark.parametrize("name", ["untrained", "raw features", "separate autoencoders, joint's compute"])
def test_controls_and_arms_of_equal_compute_run(name, micro):
    row = run_job(job_of(name, micro))
    assert 0 <= abs(row["metrics"]["skill"]) < 1000


def test_an_arm_of_equal_compute_makes_more_steps_where_a_step_is_cheaper(micro):
    job = job_of("separate autoencoders, joint's compute", micro)
    job = replace(job, budget=replace(job.budget, steps=1000))
    config = config_of(job.arm, job.budget)
    steps = matched_steps(job, config, training_clips(job, config))
    assert 1000 < steps < 3000
    assert multiply_adds(config, training_clips(job, config)) * steps == pytest.approx(
        1000 * multiply_adds(config_of(ARMS["joint reconstruction"], job.budget), training_clips(job, config)), rel=0.01
    )


def test_the_arms_of_a_seed_meet_the_same_clips_in_the_same_order(micro):
    orders = []
    for name in ("full", "separate autoencoders", "half hidden"):
        job = job_of(name, micro)
        stream = training_steps(training_clips(job, config_of(job.arm, job.budget)), 8, job.seed)
        orders.append([next(stream).numbers for _ in range(4)])
    assert orders[0] == orders[1] == orders[2]


def test_fewer_clips_are_the_first_of_the_same_ones(micro):
    job = job_of("full", micro)
    whole = training_clips(job, config_of(job.arm, job.budget))
    some = first(whole, 5)
    assert len(some) == 5 and torch.equal(some.sample(4, None).waveform, whole.sample(4, None).waveform)


def test_a_claim_on_av_mnist_says_that_it_is_not_run_without_it():
    claims, why = without_data(claims_named([]), NOWHERE)
    assert "few-labels-digits" in why and "MAVIL_DATA" in why["few-labels-digits"]
    assert "few-labels" in {claim.name for claim in claims}


# Pages


def stored(folder: Path, quick: bool) -> Path:
    budget = BUDGETS["quick" if quick else "standard"]
    claims = [replace(LEDGER[name], controls=()) for name in ("bottlenecks", "fusion")]
    rows = made({"bottleneck fusion": [50, 51, 52, 50, 51], "full": [50.5, 51, 51.5, 50, 51]})
    results = [judge(claim, rows, budget.seeds) for claim in claims]
    write_ledger(folder / "ledger.json", results, budget, "test", rows, {})
    return folder


def test_the_quick_label_stands_on_every_page_and_in_every_file(tmp_path):
    folder = stored(tmp_path / "res", quick=True)
    page = write_page(folder, tmp_path / "docs").read_text()
    assert QUICK_LABEL in page and "(quick, proves nothing: undecided at this scale)" in page and "**holds**" not in page
    assert page.count(QUICK_LABEL) >= 2  # also in the picture's sentence
    assert json.loads((folder / "ledger.json").read_text())["note"] == QUICK_LABEL


def test_a_real_page_has_verdicts_a_forest_plot_and_no_label(tmp_path):
    page = write_page(stored(tmp_path / "res", quick=False), tmp_path / "docs").read_text()
    assert "**holds**" in page and "**not run**" in page and QUICK_LABEL not in page
    assert (tmp_path / "docs" / "images" / "reproduction-forest.png").exists()


def test_what_people_wrote_stays_when_the_page_is_made_again(tmp_path):
    folder = stored(tmp_path / "res", quick=False)
    (folder / NOTES_FILE).write_text("Written by hand.\n")
    for _ in range(2):
        assert write_page(folder, tmp_path / "docs").read_text().count("Written by hand.") == 1
    assert (folder / NOTES_FILE).read_text() == "Written by hand.\n"


def test_rows_of_another_recipe_are_left_out(tmp_path):
    for seed, name in enumerate(["aaa", "bbb"]):
        row = {"arm": "full", "seed": seed, "digest": name, "metrics": {"skill": 1.0}}
        (tmp_path / f"{name}-{seed}.json").write_text(json.dumps(row))
    assert rows_of(tmp_path, {"full": "bbb"}) == {"full": {1: row}}
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match="broken.json"):
        rows_of(tmp_path, {"full": "bbb"})


# The command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fusoin"], "choose from fusion"),
        (["fusion", "--workers", "0"], "--workers is 0"),
        (["fusion", "--seeds", "0"], "--seeds is 0"),
        (["--report"], "run mavil-edu reproduce first"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(arguments, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["reproduce", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_claims_are_listed(capsys):
    assert cli.main(["reproduce", "--list"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}: " in said for name in LEDGER | OPTIONS)


def test_a_stopped_ledger_goes_on_where_it_was(micro, tmp_path, monkeypatch, capsys):
    from mavil_edu.lab import reproduce

    made_rows = []

    def pretend(tasks, run, workers, told):
        for task in tasks:
            if len(made_rows) == 3:
                raise KeyboardInterrupt
            task.what.row.parent.mkdir(parents=True, exist_ok=True)
            row = {"arm": task.what.arm.name, "seed": task.what.seed, "digest": task.what.digest, "seconds": 1.0}
            task.what.row.write_text(json.dumps(row | {"metrics": {"skill": 1.0, "retrieval": 1.0, "reconstruction": 1.0}}))
            made_rows.append(task.name)
            told(task, row, None)

    monkeypatch.setattr(reproduce, "run_all", pretend)
    monkeypatch.setattr(reproduce, "seconds_a_step", lambda budget: 0.1)
    monkeypatch.setattr(reproduce, "_clips", lambda job: None)
    options = {"out": tmp_path / "out", "work": tmp_path / "work", "av_mnist": None, "workers": 1}
    with pytest.raises(KeyboardInterrupt):
        reproduce.reproduce(["null", "planted"], "quick", **options)
    assert len(made_rows) == 3
    before, made_rows[:] = list(made_rows), []
    found, failed = reproduce.reproduce(["null"], "quick", **options)
    assert set(made_rows).isdisjoint(before) and not failed
    assert "are done" in capsys.readouterr().err and set(found) == {"null"}


def test_a_claim_of_ones_own_is_run_and_judged_by_the_same_rule(tmp_path, monkeypatch):
    from mavil_edu.lab import reproduce

    made = []

    def pretend(tasks, run, workers, told):
        for task in tasks:
            job = task.what
            job.row.parent.mkdir(parents=True, exist_ok=True)
            skill = 50.0 + job.seed + (20.0 if job.arm.name == "mine" else 0.0)
            row = {"arm": job.arm.name, "seed": job.seed, "digest": job.digest, "metrics": {"skill": skill}}
            job.row.write_text(json.dumps(row))
            made.append(str(job))
            told(task, row, None)

    monkeypatch.setattr(reproduce, "run_all", pretend)
    arms = ARMS | {"mine": Arm("mine", (("objective.audio_ratio", 0.6),))}
    claim, place = Claim("mine", "less hidden is better", "O", "…", (minus("mine", "full"),), ()), Place(tmp_path / "rows", tmp_path, None)
    budget = replace(QUICK, seeds=3)
    found = reproduce.try_claim(claim, arms, budget, place)
    assert found.verdict == "holds" and found.differences[0].found.mean == 20 and len(made) == 6
    reproduce.try_claim(claim, arms, budget, place)
    assert len(made) == 6, "what is done is not done again"
    assert reproduce.try_claim(replace(claim, differences=(minus("full", "mine"),)), arms, budget, place).verdict == "does not hold"


def test_a_claim_of_ones_own_whose_run_fails_says_why(tmp_path, monkeypatch):
    from mavil_edu.lab import reproduce

    monkeypatch.setattr(reproduce, "run_all", lambda tasks, run, workers, told: [told(task, None, "no room") for task in tasks])
    with pytest.raises(ValueError, match="full, other seeds, seed 0: no room"):
        reproduce.try_claim(LEDGER["null"], ARMS, QUICK, Place(tmp_path / "rows", tmp_path, None))
