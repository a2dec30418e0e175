"""What follows a real run of the demo model: its files are compared, shown, and used to choose θ."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from tiers import ALL

from eager_lmeval import paths
from eager_lmeval.algorithm.branching import SplitSettings
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.commands.calibrate.examples import read_pilot
from eager_lmeval.commands.calibrate.pilot import SEED, forecast
from eager_lmeval.commands.cli import main
from eager_lmeval.commands.report.content import read_runs
from eager_lmeval.lm import EagerLM
from eager_lmeval.runs.run import find_run

DOCUMENTS, MOST = 24, 8
THRESHOLDS = (0.3, 0.9, 1.5) if ALL else (0.9,)


@pytest.fixture(scope="module")
def evaluate() -> Any:
    """Runs `eager_demo` as the harness's command line does, in this process; writes its files where asked to."""
    manager = TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False)
    patch = pytest.MonkeyPatch()
    patch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # lists packages for seconds

    def run(folder: Path | None = None, **options: Any) -> dict[str, Any]:
        tracker = EvaluationTracker(output_path=str(folder)) if folder else None
        results: dict[str, Any] = simple_evaluate(
            EagerLM(pretrained="demo", branching="top2", max_sequences=MOST),
            tasks=["eager_demo"],
            gen_kwargs=options,
            task_manager=manager,
            limit=DOCUMENTS,
            bootstrap_iters=0,
            evaluation_tracker=tracker,
        )
        samples = results.pop("samples")
        if tracker:
            tracker.general_config_tracker.model_name_sanitized = "demo"
            tracker.save_results_aggregated(results=results, samples=samples)
            tracker.save_results_samples(task_name="eager_demo", samples=samples["eager_demo"])
        return results

    yield run
    patch.undo()


@pytest.fixture(scope="module")
def pilot(evaluate: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pilot")
    evaluate(folder, max_sequences=4)
    return folder


@pytest.mark.parametrize("most", [pytest.param(4, marks=pytest.mark.slow("evaluations of smaller trees")), 8])
def test_a_pilot_predicts_the_tokens_of_systematic_trees_within_15_percent(
    evaluate: Any, pilot: Path, most: int
) -> None:
    """From a pilot of another branching; at 8 with `fan_out`."""
    run, _ = find_run(pilot)
    prompts = read_pilot(run, "eager_demo")
    options: dict[str, Any] = {"fan_out": 2} if most == 8 else {}
    for threshold in THRESHOLDS:
        given = {"branching": "systematic", "max_sequences": most, "entropy_threshold": threshold}
        real = evaluate(**given, **options)["results"]["eager_demo"]
        predicted = forecast(prompts, most, SplitSettings(threshold, SEED, **options))
        assert predicted.tokens * DOCUMENTS == pytest.approx(real["tokens,none"], rel=0.15)
        assert predicted.sequences * DOCUMENTS == pytest.approx(real["sequences,none"], rel=0.15)


def test_calibrate_predicts_systematic_trees_says_what_saves_and_writes_how_to_branch(
    pilot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "chosen.yaml"
    command = ["calibrate", str(pilot), "--fan_out", "2,none", "--max_sequences", "8"]
    assert main([*command, "--thresholds", "0.5,1.5", "--target-saving", "35%", "--write", str(written)]) == 0
    said = capsys.readouterr().out
    assert "8 independent samples: 0.0" in said
    assert "Branching saves here" in said
    config = EvaluatorConfig.from_config(written)
    assert config.model_args["branching"] == "systematic"
    assert config.model_args["fan_out"] == 2  # without it, no θ of the two saves so much
    resolve({name: value for name, value in config.model_args.items() if name != "pretrained"})


def test_a_pilot_without_probabilities_predicts_no_systematic_tree(
    pilot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(pilot, tmp_path / "older")
    (file,) = (tmp_path / "older").rglob("samples_*.jsonl")
    file.write_text(file.read_text(encoding="utf-8").replace("likeliest", "unknown"), encoding="utf-8")
    assert main(["calibrate", str(tmp_path / "older")]) == 2
    assert "make the pilot again" in capsys.readouterr().err


def test_a_forecast_knows_the_ends_of_the_range(pilot: Path) -> None:
    run, _ = find_run(pilot)
    prompts = read_pilot(run, "eager_demo")
    never, always = (forecast(prompts, MOST, SplitSettings(threshold, 0)) for threshold in (3.0, 0.1))
    assert (never.sequences, never.saturated) == (1, 0)
    assert never.tokens == pytest.approx(never.parallel_tokens / MOST, rel=0.15)
    assert never.tokens < always.tokens < always.parallel_tokens
    assert forecast(prompts, 1, SplitSettings(1.0, SEED)).sequences == 1


def test_calibrate_recommends_and_writes_a_configuration_that_the_harness_reads(
    pilot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "chosen.yaml"
    command = ["calibrate", str(pilot), "--max_sequences", "8", "--target-saving", "30%", "--write", str(written)]
    assert main(command) == 0
    assert "Recommended: branching=systematic,entropy_threshold=" in capsys.readouterr().out
    config = EvaluatorConfig.from_config(written)
    assert config.tasks == ["eager_demo"]
    assert config.model_args["max_sequences"] == 8
    assert 0 < config.model_args["entropy_threshold"] < 3
    assert config.log_samples


def test_calibrate_says_when_no_threshold_reaches_the_target(pilot: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", str(pilot), "--thresholds", "0.1,0.2", "--target-tokens", "10"]) == 1
    assert "No θ of the table reaches the target" in capsys.readouterr().out


@pytest.mark.parametrize("saving", ["25%", "60%"])
def test_the_threshold_found_is_the_lowest_that_reaches_the_target(
    pilot: Path, saving: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """To 0.01 nat: a step lower misses it, so no more is saved than was asked for but for that step."""
    assert main(["calibrate", str(pilot), "--fan_out", "none", "--max_sequences", "8", "--target-saving", saving]) == 0
    found = re.search(r"entropy_threshold=([\d.]+),max_sequences=8 .* ([\d.]+)% saved", capsys.readouterr().out)
    assert found is not None
    run, _ = find_run(pilot)
    prompts = read_pilot(run, "eager_demo")
    at, below = (forecast(prompts, MOST, SplitSettings(float(found[1]) - step, SEED)) for step in (0, 0.01))
    wanted = float(saving[:-1]) / 100
    assert below.saving < wanted <= at.saving
    assert wanted <= float(found[2]) / 100 <= at.saving


def test_a_target_is_out_of_reach_only_if_nothing_branching_does_not_reach_it(
    pilot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = find_run(pilot)
    prompts = read_pilot(run, "eager_demo")
    least = forecast(prompts, MOST, SplitSettings(3.0, SEED)).tokens * 240
    command = ["calibrate", str(pilot), "--fan_out", "none", "--max_sequences", "8"]
    command += ["--prompts", "240", "--target-tokens"]
    assert main([*command, str(least + 1)]) == 0
    assert main([*command, str(least - 1)]) == 1
    capsys.readouterr()


def test_the_thresholds_that_are_shown_differ_in_what_they_save(
    pilot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(pilot), "--fan_out", "none"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "% " in line and " to " in line]
    saved = [float(row[8].rstrip("%")) for row in rows]
    assert len(rows) >= 6
    assert saved == sorted(saved)
    assert max(high - low for low, high in itertools.pairwise(saved)) < (saved[-1] - saved[0]) / 2
    assert all(row[-1] in ("s", "min", "h", "d") for row in rows)
    assert not any(row[-2] == "0" for row in rows)


def test_a_task_with_several_sets_of_options_is_refused(
    pilot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = json.loads(next(pilot.rglob("results_*.json")).read_text(encoding="utf-8"))
    pools = results["config"]["eager"]["pools"]
    pools.append({**pools[0], "options": {**pools[0]["options"], "entropy_threshold": 9.0}})
    (tmp_path / "results_2026-01-01T00-00-00.json").write_text(json.dumps(results), encoding="utf-8")
    assert main(["calibrate", str(tmp_path)]) == 2
    assert "2 sets of options (different entropy_threshold)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--write", "x.yaml"], "--write needs --target-tokens or --target-saving"),
        (["--thresholds", "0.05"], "--thresholds 0.05 is below 0.1 nats"),
        (["--task", "another"], "the pilot has no task 'another'; it has eager_demo"),
    ],
)
def test_calibrate_explains_wrong_usage(
    arguments: list[str], said: str, pilot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", str(pilot), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_calibrate_needs_the_entropies_of_all_tokens(
    pilot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `eager-vllm` leaves a run behind: without those that came after the last chance to branch."""
    copy = shutil.copytree(pilot, tmp_path / "pilot")
    (samples,) = copy.rglob("samples_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    for sample in lines:
        tree = json.loads(sample["tree"])
        del tree["sequences"][0]["entropies"][-5:]
        tree["sequences"][0]["mean_entropy"] = None
        sample["tree"] = json.dumps(tree)
    samples.write_text("".join(json.dumps(sample) + "\n" for sample in lines), encoding="utf-8")
    assert main(["calibrate", str(copy)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "entropies are missing" in line
    assert "make the pilot with --model eager" in line


def test_calibrate_imports_no_torch(pilot: Path) -> None:
    code = (
        "import sys; from eager_lmeval.commands.cli import main; "
        "main(['calibrate', sys.argv[1], '--thresholds', '1']); "
        "print(sorted({'torch', 'transformers', 'lm_eval'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, pilot], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_files_that_the_harness_wrote_are_compared_and_shown(
    pilot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", str(pilot), str(pilot), "--max-drop", "pass@max=0.2", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)["tasks"]["eager_demo"]
    assert found["documents"] == DOCUMENTS
    assert found["metrics"]["tokens"]["difference"] == 0
    (scored,) = read_runs([pilot])
    results = scored.run.results["results"]["eager_demo"]
    assert scored.metrics["pass@max"].mean == pytest.approx(results["pass@max,none"])
    for listed in scored.documents:  # the page grades again what the run graded
        assert listed.flags.failing == (listed.document.num_correct == 0)
    right = sum(not listed.flags.failing for listed in scored.documents)
    assert right / DOCUMENTS == pytest.approx(results["pass@max,none"])
    assert main(["report", str(pilot), "-o", str(tmp_path / "page.html")]) == 0
