"""`eager-lmeval sweep`: its cells, its tables, and that it runs each cell once."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from run_files import OPTIONS, results_file, write_run

from eager_lmeval import paths
from eager_lmeval.commands.cli import main
from eager_lmeval.commands.sweep.config import cells_of
from eager_lmeval.commands.sweep.table import Row, means_of, rows_of, to_csv, to_latex, to_markdown
from eager_lmeval.errors import UsageError
from eager_lmeval.runs.run import find_run, find_runs


def row(strategy: str, threshold: float | None, temperature: float, passed: float) -> Row:
    measures = {"p@k": passed, "c@max": 0.25, "PR": 0.125, "#T": 12345.0, "#S": 678.0}
    return Row("toy", 8, strategy, threshold, temperature, measures, "top2")


ROWS = [row("parallel", None, 0.6, 0.5), row("parallel", None, 0.9, 0.6), row("init", 1.5, 0.6, 0.7)]


def test_full_parallel_is_run_once_whatever_the_thresholds() -> None:
    cells = cells_of({"strategy": ["parallel", "init"], "entropy_threshold": [1.0, 2.0], "temperature": [0, 0.6]})
    assert [cell.folder for cell in cells] == [
        "parallel_T0",
        "parallel_T0.6",
        "init_T0_theta1.0",
        "init_T0_theta2.0",
        "init_T0.6_theta1.0",
        "init_T0.6_theta2.0",
    ]
    assert cells[0].gen_kwargs == {"strategy": "parallel", "temperature": 0, "do_sample": False}


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"theta": [1]}, "no axis 'theta'"),
        ({"sed": [1]}, "did you mean 'seed'"),
        ({}, "'sweep' is empty"),
        ({"temperature": []}, "temperature=.* is not accepted"),
        ({"strategy": [["init"]]}, "strategy=.* is not accepted"),
    ],
)
def test_a_sweep_without_sense_is_refused(sweep: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        cells_of(sweep)


def test_markdown_has_full_parallel_on_top_and_a_group_of_columns_a_temperature() -> None:
    lines = to_markdown(ROWS).splitlines()
    assert lines[0] == "### toy, M = 8"
    assert lines[2].startswith("| method | T = 0.6 p@k | T = 0.6 c@max |")
    assert lines[4].startswith("| Full Parallel | 0.500 | 0.250 | 0.125 | 12,345 | 678 | 0.600 |")
    assert lines[5] == "| EAGER-init, top2, θ = 1.5 | 0.700 | 0.250 | 0.125 | 12,345 | 678 | – | – | – | – | – |"


def test_fan_out_and_branching_vary_where_they_mean_something() -> None:
    axes = {"branching": ["top2", "systematic"], "fan_out": ["none", 2], "entropy_threshold": [1.0]}
    assert [cell.folder for cell in cells_of({"strategy": ["parallel", "init"], **axes})] == [
        "parallel",
        "init_top2_theta1.0",
        "init_systematic_fannone_theta1.0",
        "init_systematic_fan2_theta1.0",
    ]
    assert [cell.folder for cell in cells_of({"strategy": ["consistency"], **axes})] == ["consistency"]


def test_seeds_come_one_after_another_and_any_option_is_an_axis() -> None:
    axes = {"strategy": ["parallel", "consistency"], "first_lanes": [2, 4], "seed": [1, 2]}
    assert [cell.folder for cell in cells_of(axes)] == [
        "parallel_seed1",
        "consistency_first_lanes2_seed1",
        "consistency_first_lanes4_seed1",
        "parallel_seed2",
        "consistency_first_lanes2_seed2",
        "consistency_first_lanes4_seed2",
    ]


def test_the_tables_show_means_over_the_seeds_and_the_csv_each_cell(tmp_path: Path) -> None:
    for seed, rows, passed in ((1, 2, 1.0), (2, 2, 0.0), (1, 3, 1.0)):
        options = {**OPTIONS, "seed": seed, "extra_cap": rows}
        write_run(tmp_path / f"{seed}{rows}", {"pass@max": [passed, passed]}, options=options)
    cells = rows_of(find_runs(tmp_path), ["seed", "extra_cap"])
    table = to_markdown(means_of(cells))
    assert r"| EAGER-init, top2, θ = 0.5, extra\_cap 2 | 0.500 |" in table
    assert r"| EAGER-init, top2, θ = 0.5, extra\_cap 3 | 1.000 |" in table
    assert "Means over up to 2 seeds." in table
    found = csv.DictReader(io.StringIO(to_csv(cells)))
    assert sorted((line["seed"], line["extra_cap"], line["p@k"]) for line in found) == [
        ("1", "2", "1.0"),
        ("1", "3", "1.0"),
        ("2", "2", "0.0"),
    ]


def test_the_vote_and_the_rate_of_systematic_trees_are_the_weighted_ones(tmp_path: Path) -> None:
    metrics = {"pass@max": [1.0, 0.0], "cons@max": [0.0, 0.0], "pass_rate": [0.0, 0.0]}
    metrics |= {"cons_w@max": [1.0, 0.0], "pass_rate_w": [0.5, 0.0]}
    write_run(tmp_path, metrics, options={**OPTIONS, "branching": "systematic", "fan_out": 2})
    (row,) = rows_of(find_runs(tmp_path))
    assert row.method == "EAGER-init, systematic, fan_out 2, θ = 0.5"
    assert row.measures == {"p@k": 0.5, "c@max": 0.5, "PR": 0.25, "#T": 20.0, "#S": 2.0}
    assert "c@max and PR are weighted" in to_markdown([row])
    (line,) = csv.DictReader(io.StringIO(to_csv([row])))
    assert (line["branching"], line["fan_out"]) == ("systematic", "2")


def test_csv_has_a_line_a_cell() -> None:
    found = list(csv.DictReader(io.StringIO(to_csv(ROWS))))
    assert [(line["strategy"], line["entropy_threshold"], line["p@k"]) for line in found] == [
        ("parallel", "", "0.5"),
        ("parallel", "", "0.6"),
        ("init", "1.5", "0.7"),
    ]


def test_latex_is_a_whole_tabular_without_bare_special_characters() -> None:
    text = to_latex(ROWS)
    assert text.count(r"\begin{tabular}{lrrrrrrrrrr}") == text.count(r"\end{tabular}") == 1
    assert r"\#T" in text
    assert all(line.count(" & ") == 10 for line in text.splitlines() if line.startswith(("Full", "EAGER", "method")))


def test_a_label_aware_row_is_called_an_upper_bound() -> None:
    assert "upper bound" in to_markdown([row("eager", 2.0, 0.6, 0.9)])


def test_a_row_has_the_scores_of_whichever_filter_they_stand_under(tmp_path: Path) -> None:
    """What is made with labels stands under `oracle`."""
    metrics = {"pass@max": [1.0, 0.0], "cons@max": [1.0, 0.0], "pass_rate": [0.5, 0.0]}
    write_run(tmp_path, metrics, options={**OPTIONS, "strategy": "eager"}, labels_used=True)
    file = results_file(tmp_path)
    file.write_text(file.read_text(encoding="utf-8").replace(",none", ",oracle"), encoding="utf-8")
    (row,) = rows_of(find_runs(tmp_path))
    assert row.measures == {"p@k": 0.5, "c@max": 0.5, "PR": 0.25, "#T": 20.0, "#S": 2.0}
    assert "| EAGER (labels), top2, θ = 0.5 | 0.500 | 0.500 | 0.250 | 20 | 2 |" in to_markdown([row])


def test_a_task_without_the_papers_metrics_is_shown_with_its_own(tmp_path: Path) -> None:
    write_run(tmp_path, {"exact_match": [1.0, 0.0], "exact_match_stderr": [0.1, 0.1]})
    (row,) = rows_of(find_runs(tmp_path))
    assert row.measures == {"exact_match": 0.5, "#T": 20.0, "#S": 2.0}
    assert r"| method | T = 0.8 exact\_match | T = 0.8 #T | T = 0.8 #S |" in to_markdown([row])
    both = list(csv.DictReader(io.StringIO(to_csv([row, ROWS[0]]))))
    assert [(line["exact_match"], line["p@k"]) for line in both] == [("0.5", ""), ("", "0.5")]
    assert r"method & T = 0.8 exact\_match & T = 0.8 \#T & T = 0.8 \#S \\" in to_latex([row])


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, our_tasks_alone: None) -> dict[str, Any]:
    """A sweep of one quick cell."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # lists packages for seconds
    return {
        "model_args": {"pretrained": "demo"},
        "tasks": ["eager_demo"],
        "include_path": str(paths.tasks_dir()),
        "limit": 1,
        "output_path": str(tmp_path / "out"),
        "sweep": {"strategy": ["init"], "max_sequences": [2]},
    }


def sweep(folder: Path, settings: dict[str, Any], *arguments: str) -> int:
    config = folder / "sweep.yaml"
    config.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return main(["sweep", str(config), *arguments])


def test_a_sweep_runs_each_cell_once_and_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any]
) -> None:
    axes = {"strategy": ["parallel", "init"], "entropy_threshold": [1.0], "max_sequences": [2]}
    settings |= {"limit": 2, "seed": 55, "sweep": axes}
    assert sweep(tmp_path, settings) == 0
    assert "2 cells in" in (first := capsys.readouterr().out)
    assert "2 to run" in first
    assert "[1/2] parallel_M2\n" in first
    assert re.search(r"\[2/2\] init_M2_theta1.0 \(about \d\d:\d\d left\)\n", first)
    assert "| Full Parallel |" in (tmp_path / "out" / "table.md").read_text()
    assert ET.parse(tmp_path / "out" / "tradeoff.svg").getroot().tag.endswith("svg")
    for folder, strategy in (("parallel_M2", "parallel"), ("init_M2_theta1.0", "init")):
        run, remark = find_run(tmp_path / "out" / folder)
        assert remark is None
        (pool,) = run.pools("eager_demo")
        assert (pool["options"]["strategy"], pool["options"]["seed"]) == (strategy, 55)

    (results,) = (tmp_path / "out" / "init_M2_theta1.0").glob("*/results_*.json")
    results.write_text(results.read_text()[:-20])  # as if it had been killed while it wrote
    assert sweep(tmp_path, settings, "--dry-run") == 0
    listed = capsys.readouterr().out
    assert "1 to run" in listed
    assert "there   parallel_M2" in listed
    assert sweep(tmp_path, settings) == 0
    assert "1 to run" in capsys.readouterr().out
    assert sweep(tmp_path, settings, "--dry-run") == 0
    assert "0 to run" in capsys.readouterr().out

    assert sweep(tmp_path, settings | {"limit": 3}) == 2
    assert "holds finished cells of a sweep that differs in limit" in capsys.readouterr().err


def test_a_first_sweep_that_failed_does_not_stand_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any]
) -> None:
    failing = settings | {"gen_kwargs": {"max_gen_toks": 100_000}}  # more than the model's context, found in the cell
    assert sweep(tmp_path, failing) == 2
    assert (tmp_path / "out" / "settings.json").is_file()
    assert sweep(tmp_path, settings, "--dry-run") == 0


def test_an_interrupted_sweep_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_control_c(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lm_eval.simple_evaluate", press_control_c)
    assert sweep(tmp_path, settings) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        "eager-lmeval sweep: interrupted with 1 of 1 cells to run; run the same command again to go on"
    )


OWN_TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
"""


@pytest.fixture
def own_tasks(tmp_path: Path) -> Path:
    """A task that generates a program, one that generates and one that does not."""
    folder = tmp_path / "own"
    folder.mkdir()
    data = folder / "data.jsonl"
    data.write_text('{"question": "1+1=", "answer": "2"}\n{"question": "1+2=", "answer": "3"}\n', encoding="utf-8")
    generating = """output_type: generate_until
generation_kwargs: {until: ["\\n"], max_gen_toks: 8, do_sample: true, temperature: 0.8}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
    scoring = "output_type: loglikelihood\nmetric_list: [{metric: acc}]\n"
    for name, more in (
        ("own_plain", generating),
        ("own_code", generating + "unsafe_code: true\n"),
        ("own_scored", scoring),
    ):
        text = OWN_TASK.format(name=name, data=data) + more
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_task_of_ones_own_is_swept(tmp_path: Path, settings: dict[str, Any], own_tasks: Path) -> None:
    """Programs too, if they may be run."""
    allowed = {"include_path": str(own_tasks), "confirm_run_unsafe_code": True}
    assert sweep(tmp_path, settings | allowed | {"tasks": ["own_plain", "own_code"]}) == 0
    with (tmp_path / "out" / "table.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["task"] for line in lines] == ["own_code", "own_plain"]
    assert all(float(line["exact_match"]) in (0.0, 1.0) and float(line["#T"]) > 0 for line in lines)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("own_scored", "own_scored generate nothing"),
        ("own_code", "give confirm_run_unsafe_code: true"),
        ("own_plaid", "Tasks not found: own_plaid; a task of your own needs include_path"),
    ],
)
def test_a_task_that_cannot_be_swept_is_refused_before_any_cell(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    own_tasks: Path,
    task: str,
    said: str,
) -> None:
    assert sweep(tmp_path, settings | {"include_path": str(own_tasks), "tasks": [task]}) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sweep": {"temperature": ["hot"]}}, "temperature='hot' is not accepted"),
        ({"sweep": {"temperature": [-1]}}, "temperature=-1 is not accepted"),
        ({"sweep": {"strategy": ["inti"]}}, "did you mean 'init'?"),
        ({"sweep": {"max_sequences": [4, 0]}}, "cell M0: max_sequences=0 is not accepted"),
        ({"model_args": {"pretrained": "demo", "branch_window": 0}}, "branch_window=0 is not accepted"),
        ({"gen_kwargs": {"max_sequnces": 4}}, "did you mean 'max_sequences'?"),
        ({"limitt": 2}, "unknown key 'limitt'; did you mean 'limit'?"),
        ({"branch_window": 2}, "options of eager stand in model_args or gen_kwargs"),
        ({"tasks": []}, "names no tasks"),
        ({"seed": "many"}, "seed values must be integers"),
        ({"predict_only": True}, "does not honour predict_only: the table needs scores"),
        ({"use_cache": "cache.db"}, "does not honour use_cache"),
        ({"wandb_args": {"project": "x"}}, "does not honour wandb_args"),
        ({"log_samples": False}, "always logs samples"),
        ({"cache_requests": True}, "cache_requests is not accepted"),
        ({"model": "hf"}, "a sweep is over --model eager, not 'hf'"),
    ],
    ids=str,
)
def test_what_can_be_known_to_be_wrong_is_refused_before_any_cell(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, Any],
    changed: dict[str, Any],
    said: str,
) -> None:
    assert sweep(tmp_path, settings | changed) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("eager-lmeval sweep: ")
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_configuration_without_the_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.yaml").write_text("tasks: [eager_demo]\n")
    assert main(["sweep", str(tmp_path / "plain.yaml")]) == 2
    assert "needs a key 'sweep'" in capsys.readouterr().err
    assert main(["sweep", str(tmp_path / "missing.yaml")]) == 2
    assert "cannot read" in capsys.readouterr().err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert main(["sweep", str(tmp_path / "binary.yaml")]) == 2
    assert "no text in UTF-8" in capsys.readouterr().err
    (tmp_path / "open.yaml").write_text("a: [1\n")
    assert main(["sweep", str(tmp_path / "open.yaml")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
