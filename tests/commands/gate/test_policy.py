"""`track check --policy`: tasks in tiers with limits and weights, and one verdict over the suite."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tracked import Tracked, broken, noisy

from eager_lmeval.commands.cli import main
from eager_lmeval.scores.paired import holm, pooled_test

TASKS = ("first", "second", "third")
SUITE = (
    "metric: pass@max\nmust_hold: {first: {}, second: {weight: 2}}\nmay_warn: {third: {max_drop: {pass@max: 0.05}}}\n"
)


def policy(folder: Path, text: str = SUITE) -> Path:
    file = folder / "policy.yaml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture
def track(tmp_path: Path) -> Tracked:
    return Tracked(tmp_path)


def test_what_is_a_little_worse_on_every_task_is_seen_by_the_mean_over_them(track: Tracked, tmp_path: Path) -> None:
    track.blessed(tasks=TASKS)
    track.add(broken(6), tasks=TASKS)
    status, found = track.checked("--policy", policy(tmp_path))
    assert status == 1
    worse = [line["message"] for line in found["findings"] if line["verdict"] == "regression"]
    assert any(line.startswith("all tasks: pass@max moved by -0.03 on 400 documents") for line in worse)
    assert len(found["flips"]) == 18, "every flip of every task"
    assert found["policy"]["must_hold"]["second"]["weight"] == 2


def test_a_task_that_may_warn_decides_nothing(
    track: Tracked, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    track.blessed(tasks=TASKS)
    folder = track.run(tasks=TASKS)
    worse = next(track.run(broken(60), tasks=["third"]).glob("samples_third_*"))
    next(folder.glob("samples_third_*")).write_bytes(worse.read_bytes())
    assert track("add", folder) == 0
    status, found = track.checked("--policy", policy(tmp_path))
    assert (status, found["verdict"]) == (0, "pass")
    warned = [line for line in found["findings"] if line["warns"]]
    assert any(line["verdict"] == "regression" for line in warned)
    assert "WARNING: REGRESSION" in capsys.readouterr().out


def test_a_missing_task_is_a_failure(track: Tracked, tmp_path: Path) -> None:
    track.blessed(tasks=TASKS)
    track.add(tasks=TASKS[1:])
    status, found = track.checked("--policy", policy(tmp_path))
    assert (status, found["missing"]) == (1, ["first"])


def test_seeds_of_a_side_are_pooled(track: Tracked, tmp_path: Path) -> None:
    for seed in range(4):
        track.add(noisy(20, seed), seed=seed, commit="base", tasks=TASKS)
    assert track("bless", *(f"{tmp_path}/run{place}" for place in range(1, 5))) == 0
    for seed in range(4):
        track.add(noisy(20, 10 + seed), seed=seed, commit="new", tasks=TASKS)
    status, found = track.checked("--policy", policy(tmp_path))
    assert status == 0
    assert [len(found[side]["runs"]) for side in ("baseline", "candidate")] == [4, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("metric: pass@max\n", "must_hold: field required"),
        ("metric: pass@max\nmust_hold: {a: {weight: 0}}\n", "must_hold.a.weight: input should be greater than 0"),
        ("metric: pass@max\nmust_hold: {a: {max_drop: {pass@max: much}}}\n", "'pass@max=much' is no limit"),
        ("metric: pass@max\nmust_hold: {a: {}}\nmay_warn: {a: {}}\n", "task 'a' stands in both tiers"),
        ("metric: [", "--policy "),
        ("metric: pass@max\nmust_hold: {other: {}}\n", "the policy's tasks are other; the runs have toy_task"),
    ],
)
def test_a_policy_that_is_none_is_one_line(
    track: Tracked, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    track.blessed()
    track.add()
    capsys.readouterr()
    command = ["track", "check", "--history", str(track.history), "--policy", str(policy(tmp_path, text))]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_holm_with_weights_is_the_plain_one_where_they_are_equal_and_gives_the_heavy_its_share() -> None:
    p_values = [0.01, 0.04, 0.03]
    assert holm(p_values, [2.0] * 3) == pytest.approx(holm(p_values))
    assert holm([0.02, 0.5, 0.5], [2.0, 1.0, 1.0]) == pytest.approx([0.04, 1.0, 1.0])


def test_a_weight_counts_in_the_mean_over_tasks() -> None:
    worse, same = np.ones(40), np.tile([1.0, -1.0], 20)
    light = pooled_test([worse, same], False, True, [1.0, 9.0])
    heavy = pooled_test([worse, same], False, True, [9.0, 1.0])
    assert heavy.p_beyond < light.p_beyond
