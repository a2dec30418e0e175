"""`lm_eval run --model eager-vllm`, its engine in a process of its own: killed, resumed, several."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import light_harness
import psutil
import pytest
from conftest import IN_PROCESS
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from eager_lmeval import paths
from eager_lmeval.lm import EagerLM

DOCS = 24
OPTIONS = {"strategy": "adapt", "max_sequences": 6, "entropy_threshold": 0.3}
SETTINGS = {"pretrained": "demo", "dtype": "float32", "max_model_len": 256, "max_num_seqs": 8, "enforce_eager": True}
"""Few slots, so that prompts finish one after another."""
GEN_KWARGS = "temperature=0.8,max_gen_toks=60"


def started(out: Path, rank: int = 0, ranks: int = 1, port: int = 0, **more: Any) -> subprocess.Popen[str]:
    """The command of docs/models.md, for one process; several are told of each other as torchrun does it."""
    arguments = ",".join(f"{name}={value}" for name, value in (SETTINGS | OPTIONS | more).items())
    command = [sys.executable, "-m", light_harness.MODULE, "run", "--model", "eager-vllm", "--model_args", arguments]
    command += ["--include_path", str(paths.tasks_dir()), "--tasks", "eager_demo", "--limit", str(DOCS)]
    command += ["--gen_kwargs", GEN_KWARGS, "--output_path", str(out), "--log_samples"]
    environment = {name: value for name, value in light_harness.environment().items() if name not in IN_PROCESS}
    environment |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    if ranks > 1:
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
        world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "none"}
        environment |= {name: str(value) for name, value in world.items()}
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"rank{rank}.log").open("w", encoding="utf-8") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)


@contextmanager
def running(out: Path, ranks: int, **more: Any) -> Iterator[list[subprocess.Popen[str]]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [started(out, rank, ranks, port, **more) for rank in range(ranks)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def finish(out: Path, ranks: int, timeout_s: float = 600, **more: Any) -> dict[str, Any]:
    """Runs to the end; the results file."""
    with running(out, ranks, **more) as processes:
        end = time.monotonic() + timeout_s
        statuses = [process.wait(end - time.monotonic()) for process in processes]
    assert statuses == [0] * ranks, (out / "rank0.log").read_text(encoding="utf-8")[-3000:]
    (results,) = out.glob("**/results_*.json")
    return json.loads(results.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def shapes(out: Path) -> dict[int, list[tuple[Any, ...]]]:
    """By document, its sequences."""
    (samples,) = out.glob("**/samples_*.jsonl")
    trees = {}
    for line in samples.read_text(encoding="utf-8").splitlines():
        sample = json.loads(line)
        tree = json.loads(sample["tree"])
        trees[sample["doc_id"]] = [shape(sequence) for sequence in tree["sequences"]]
    return trees


def shape(sequence: dict[str, Any]) -> tuple[Any, ...]:
    return (tuple(sequence["path"]), sequence["token_ids"], sequence["text"], sequence["finish"])


def journal_lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") - 1 for path in folder.glob("*.jsonl"))


@pytest.fixture(scope="module")
def expected() -> dict[int, list[tuple[Any, ...]]]:
    """What `eager` grows."""
    lm = EagerLM(pretrained="demo", dtype="float32", max_length=256, **OPTIONS)
    manager = TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False)
    given = dict(pair.split("=") for pair in GEN_KWARGS.split(","))
    arguments = {"tasks": ["eager_demo"], "task_manager": manager, "gen_kwargs": given, "limit": DOCS}
    samples = simple_evaluate(lm, **arguments, bootstrap_iters=0, log_samples=True)["samples"]["eager_demo"]
    return {
        sample["doc_id"]: [shape(sequence) for sequence in sample["resps"][0][0].tree["sequences"]]
        for sample in samples
    }


def test_a_killed_run_is_resumed_where_it_was(tmp_path: Path, expected: dict[int, list[tuple[Any, ...]]]) -> None:
    journal = tmp_path / "journal"
    with running(tmp_path / "killed", 1, journal=journal) as (process,):
        end = time.monotonic() + 600
        while journal_lines(journal) < 4 and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None, "it was to be killed before it ended"
        engine = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert engine
    _, left = psutil.wait_procs(engine, timeout=120)
    assert not left, "vLLM's processes outlive a killed run"
    kept = journal_lines(journal)
    results = finish(tmp_path / "resumed", 1, journal=journal)
    assert shapes(tmp_path / "resumed") == expected
    (pool,) = results["config"]["eager"]["pools"]
    assert 4 <= kept <= pool["journal"]["prompts_reused"] < DOCS
    log = (tmp_path / "resumed" / "rank0.log").read_text(encoding="utf-8")
    assert re.search(rf"{pool['journal']['prompts_reused']} of {DOCS} prompts of eager_demo .* have been reused", log)
    assert results["results"]["eager_demo"]["pass@max,none"] > 0.3


def test_several_processes_grow_the_same_trees_from_one_budget(
    tmp_path: Path, expected: dict[int, list[tuple[Any, ...]]]
) -> None:
    results = finish(tmp_path / "two", 2)
    assert shapes(tmp_path / "two") == expected
    (pool,) = results["config"]["eager"]["pools"]
    assert pool["processes"] == 2
    assert pool["ledger"]["spent"] == pool["ledger"]["granted"] > 0
