"""Whether releases of the harness give the same trees and scores: the same commands, and what they come to, as JSON.

    python tests/versions.py run NEW_FOLDER            runs them on the installed harness; writes its essence.json
    python tests/versions.py compare FOLDER FOLDER …   says where those differ, and ends with status 1 if they do

`make test-bounds-all` runs it in an environment for each release. The essence of a run: all figures, and of every
document its tree and values.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parent / "support"))
from light_harness import lighten
from local_tasks import write_tasks

from eager_lmeval import paths
from eager_lmeval.commands.cli import main as eager_lmeval
from eager_lmeval.harness.tasks import SCORERS

MODEL = "pretrained=demo,dtype=float64,max_sequences=3,entropy_threshold=0.5"
BOXED = {"function": "regex", "regex_pattern": r"boxed\{(-?\d+)\}"}
SAMPLING = {"do_sample": True, "temperature": 0.8, "max_gen_toks": 60, "until": []}
SUMS: Mapping[str, Any] = {
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(paths.tasks_dir() / "eager_demo" / "problems.jsonl")}},
    "test_split": "test",
    "output_type": "generate_until",
    "doc_to_text": "<|user|>{{question}}<|assistant|>",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": SAMPLING,
}
USERS_TASKS: Mapping[str, Mapping[str, Any]] = {
    "sums": SUMS
    | {
        "filter_list": [{"name": "boxed", "filter": [BOXED, {"function": "take_first"}]}],
        # without the regex 0.5.0.dev1 compares texts with a target that it takes for a number
        "metric_list": [{"metric": "exact_match", "regexes_to_ignore": [","]}],
    },
    "graded": SUMS
    | {
        "include": str(paths.tasks_dir() / "eager_common" / "_template_yaml"),
        "metadata": {"label": "{{answer}}", "verifier": "math", "ks": [2]},
        "repeats": 3,
    },
}
"""A task in the harness's own means, and one that is graded as ours are."""
WITH_SCORER = SUMS | {"scorer": {"type": "eager", "kwargs": {"verifier": "math", "ks": [2]}}, "repeats": 3}
"""`graded` without our task class."""

HISTORY = "history.jsonl"
HARNESS_TASK = "local_gsm8k_cot_self_consistency"


def run(folder: Path) -> dict[str, Any]:
    """The essences of all commands, by name; they leave their files in ``folder``."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True)
    write_tasks(tasks, ["gsm8k_cot_self_consistency"])
    for name, task in USERS_TASKS.items():
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump(dict(task, task=name)), encoding="utf-8")
    ours, journal = str(paths.tasks_dir()), folder / "journal"

    def evaluate(name: str, task: str, *more: str, model_args: str = "", include: str = str(tasks)) -> dict[str, Any]:
        given = ["--model_args", MODEL + model_args, "--tasks", task, "--include_path", include, *more]
        harness(*given, out=folder / name)
        return essence(folder / name, task)

    essences = {
        "demo": evaluate("demo", "eager_demo", model_args=f",journal={journal}", include=ours),
        "resumed": evaluate("resumed", "eager_demo", model_args=f",journal={journal}", include=ours),
        "independent": evaluate("independent", "eager_demo", model_args=",strategy=parallel", include=ours),
        "oracle": evaluate("oracle", "eager_demo", model_args=",strategy=eager", include=ours),
        "vote": evaluate("vote", "sums", model_args=",respond=vote,verifier=math"),
        "labelled": evaluate("labelled", "sums", model_args=",strategy=eager,label=answer,verifier=math"),
        "graded": evaluate("graded", "graded"),
        "repeats": evaluate("repeats", HARNESS_TASK, "--gen_kwargs", "max_gen_toks=12", "--num_fewshot", "1"),
    }
    if essences["resumed"]["trees"] != essences["demo"]["trees"]:
        raise SystemExit("a resumed run has other trees than the run it resumes")
    if not essences["resumed"]["reused"]:
        raise SystemExit("a resumed run has reused nothing")
    if SCORERS:
        (folder / "scorer").mkdir()  # the same name, which is part of the seed
        (folder / "scorer" / "graded.yaml").write_text(
            yaml.safe_dump(dict(WITH_SCORER, task="graded")), encoding="utf-8"
        )
        check_scorer(evaluate("with_scorer", "graded", include=str(folder / "scorer")), essences["graded"])
    return essences


def check_scorer(found: Mapping[str, Any], graded: Mapping[str, Any]) -> None:
    """Without our task class a YAML gets the same from our scorer."""
    if differences := list(differ(graded["trees"], found["trees"])):
        raise SystemExit(f"scorer eager gives other trees than the class: {differences[0]}")
    if differences := list(differ(graded["values"], found["values"])):
        raise SystemExit(f"scorer eager gives other values than the class: {differences[0]}")


def harness(*arguments: str, out: Path) -> None:
    """What `lm_eval run` does, in this process."""
    from lm_eval._cli.harness import HarnessCLI

    command = ["run", "--model", "eager", *arguments, "--limit", "4", "--log_samples", "--output_path", str(out)]
    cli = HarnessCLI()
    cli.execute(cli._parser.parse_args(command))


def essence(out: Path, task: str) -> dict[str, Any]:
    """What a run comes to, without what tells of its time and of the harness that it ran on."""
    results = json.loads(next(out.rglob("results_*.json")).read_text(encoding="utf-8"))
    lines = next(out.rglob("samples_*.jsonl")).read_text(encoding="utf-8").splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: (sample["filter"], sample["doc_id"]))
    figures = {name: value for name, value in results["results"][task].items() if "," in name}
    (pool,) = results["config"]["eager"]["pools"]
    trees = [
        sample.get("tree", sample["filtered_resps"][0]) for sample in samples if "labels_used" in sample["metrics"]
    ]
    return {
        "figures": figures | results["configs"][task].get("figures", {}),
        "values": [{name: sample[name] for name in sample["metrics"]} for sample in samples],
        "filters": [sample["filter"] for sample in samples],
        "texts": [sample["resps"] for sample in samples],
        "trees": [{name: value for name, value in json.loads(tree).items() if name != "scoring"} for tree in trees],
        "options": pool["options"],
        "reused": (pool["journal"] or {}).get("prompts_reused"),
    }


def afterwards(folder: Path) -> None:
    """The commands that read a run read the installed harness's files."""
    samples = str(next((folder / "graded").rglob("samples_*.jsonl")))
    history = ["--history", str(folder / HISTORY)]
    commands = [
        ["report", str(folder / "demo"), "-o", str(folder / "report.html")],
        ["compare", str(folder / "demo"), str(folder / "resumed")],
        ["rescore", samples, "-o", str(folder / "rescored")],
        ["calibrate", str(folder / "independent")],
        ["track", "add", str(folder / "demo"), *history],
    ]
    for command in commands:
        if status := eager_lmeval(command):
            raise SystemExit(f"eager-lmeval {command[0]} ended with status {status}")


def differ(one: Any, other: Any, where: str = "") -> list[str]:
    """The places where two JSON values differ; NaN equals NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other})
        return [found for name in names for found in differ(one.get(name), other.get(name), f"{where}/{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for place, pair in pairs for found in differ(*pair, f"{where}/{place}")]
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return []
    return [] if one == other else [f"{where}: {one!r} and {other!r}"]


def compare(folders: list[Path]) -> int:
    """Status 1, and where, if any differs from the first."""
    first, *others = [json.loads((folder / "essence.json").read_text(encoding="utf-8")) for folder in folders]
    status = 0
    for folder, other in zip(folders[1:], others, strict=True):
        for difference in differ(first, other):
            print(f"{folders[0]} and {folder} differ in {difference}"[:400])
            status = 1
    status = status or judge([folder / HISTORY for folder in folders])
    if not status:
        documents = sum(len(run["values"]) for run in first.values())
        print(f"{len(folders)} releases of the harness: {len(first)} runs, {documents} documents, nothing differs")
    return status


def judge(histories: list[Path]) -> int:
    """The largest status of `track check`, of each release's run in one history whose baseline is the first one's."""
    history = histories[0].with_name("joined.jsonl")
    history.write_bytes(b"".join(one.read_bytes() for one in histories))
    runs = [json.loads(line)["run"] for line in history.read_text(encoding="utf-8").splitlines()]
    words = ["--history", str(history)]
    eager_lmeval(["track", "bless", runs[0], *words])
    return max(eager_lmeval(["track", "check", "--run", run, *words]) for run in runs[1:])


def main(command: str, *places: str) -> int:
    folders = [Path(place).resolve() for place in places]
    if command == "compare":
        return compare(folders)
    logging.disable(logging.INFO)
    lighten()
    (folder,) = folders
    (folder / "essence.json").write_text(json.dumps(run(folder)), encoding="utf-8")
    afterwards(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
