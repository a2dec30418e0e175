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
import torch
from conftest import IN_PROCESS
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3MoeConfig

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
    return of_eager("demo")


def of_eager(pretrained: str, **more: Any) -> dict[int, list[tuple[Any, ...]]]:
    """What `eager` grows."""
    lm = EagerLM(pretrained=pretrained, dtype="float32", max_length=256, **OPTIONS | more)
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


@pytest.mark.parametrize("branching", ["systematic", "top2"])
def test_few_blocks_of_memory_change_no_tree_and_hold_nothing_up(tmp_path: Path, branching: str) -> None:
    """60 blocks of 32 tokens have room for some 20 of 64 sequences at their end, so vLLM preempts."""
    results = finish(tmp_path / "few", 1, max_num_seqs=64, num_gpu_blocks_override=60, branching=branching)
    assert shapes(tmp_path / "few") == of_eager("demo", branching=branching)
    (pool,) = results["config"]["eager"]["pools"]
    assert 0 < pool["engine"]["recomputed_tokens"] < pool["tokens"]


def test_a_mixture_of_experts_grows_the_trees_of_eager(tmp_path: Path) -> None:
    folder = mixture_of_experts(tmp_path / "model")
    finish(tmp_path / "out", 1, pretrained=folder)
    assert shapes(tmp_path / "out") == of_eager(folder)


def mixture_of_experts(folder: Path) -> str:
    """A tiny random Qwen3-MoE in the demo model's vocabulary; the kernels of CPUs need heads of 32."""
    tokenizer = AutoTokenizer.from_pretrained(str(paths.demo_model_dir()))
    config = Qwen3MoeConfig(
        **{"hidden_size": 64, "intermediate_size": 128, "moe_intermediate_size": 64, "num_hidden_layers": 2},
        **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 8},
        **{"num_experts_per_tok": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 512},
        **{"eos_token_id": tokenizer.eos_token_id, "initializer_range": 0.2},
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
