"""What eager-vllm cannot serve is refused in one line that says what came and what to change."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from eager_lmeval.algorithm.options import Options
from eager_lmeval.errors import UsageError
from eager_lmeval.lm_vllm import _ARGUMENTS, EagerVLLM, own_devices
from eager_lmeval.pools.vllm_decoding import arguments_for

PAGE = Path(__file__).parents[3] / "docs" / "models.md"


def ask(lm: EagerVLLM, context: str = "<|user|>Add 1+2.<|assistant|>", **gen_kwargs: Any) -> list[str]:
    doc = {"answer": "3", "eager": {"label": "3", "verifier": "math"}}
    return lm.generate_until(
        [Instance("generate_until", doc, (context, {"max_gen_toks": 10} | gen_kwargs), 0, ("a_task", 0, 1))], True
    )


def one_line(error: UsageError) -> str:
    text = str(error)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        ({"speculative_config": {"method": "ngram"}}, "speculative_config=", "leave speculative_config out"),
        ({"enable_batch_sharded_sampling": True}, "enable_batch_sharded_sampling=True", "leave"),
        ({"logits_processors": ["a:B"]}, "logits_processors=", "leave"),
        ({"disable_log_stats": True}, "disable_log_stats=True", "leave disable_log_stats out"),
        ({"logprobs_mode": "processed_logprobs"}, "logprobs_mode=processed_logprobs", "leave logprobs_mode out"),
        ({"data_parallel_size": 4}, "data_parallel_size=4", "torchrun --nproc-per-node 4"),
        ({"max_sequence": 4}, "unknown option 'max_sequence'", "did you mean 'max_sequences'?"),
        ({"entropy_threshold": "hot"}, "entropy_threshold='hot'", "should be"),
    ],
)
def test_what_cannot_be_served_is_refused_before_a_model_is_loaded(
    arguments: dict[str, Any], said: str, remedy: str
) -> None:
    with pytest.raises(UsageError) as refused:
        EagerVLLM(pretrained="a/model/that/does/not/exist", **arguments)
    assert said in one_line(refused.value)
    assert remedy in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said", "remedy"),
    [
        ({"branching": "top2", "max_sequences": 65}, "max_sequences=65 is above max_num_seqs=64", "max_num_seqs=65"),
        ({"entropy_top_k": 30}, "max_logprobs=20 is below entropy_top_k=30", "give max_logprobs=30"),
        ({"max_gen_toks": 256}, "max_gen_toks=256 leaves no room", "smaller max_gen_toks"),
        ({"branching": "top2", "max_rows": 3, "max_sequences": 4}, "max_rows=3 is below max_sequences=4", "max_rows=4"),
    ],
)
def test_options_that_the_engine_cannot_serve_are_refused(
    given: dict[str, Any], said: str, remedy: str, served: EagerVLLM
) -> None:
    with pytest.raises(UsageError) as refused:
        ask(served, **given)
    assert said in one_line(refused.value)
    assert remedy in str(refused.value)
    assert ask(served, max_gen_toks=3), "and the engine goes on"


def test_more_sequences_than_slots_are_only_refused_where_they_wait_for_each_other(served: EagerVLLM) -> None:
    (response,) = ask(served, strategy="parallel", max_sequences=70, temperature=1.0, max_gen_toks=3)
    assert len(response.tree["sequences"]) == 70
    assert served._eager.pools[-1]["engine"]["max_rows"] == 64


def test_a_prefix_cache_that_is_switched_off_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        arguments_for({}, {"enable_prefix_caching": False}, processes=1, on_cpu=True)
    assert "every fork computes its whole prefix again" in caplog.text


def test_an_engine_in_the_same_process_is_refused_for_several_processes() -> None:
    with pytest.raises(UsageError, match="VLLM_ENABLE_V1_MULTIPROCESSING=0 with 2 processes"):
        arguments_for({}, {}, processes=2, on_cpu=True)


def test_arguments_of_vllm_pass_through() -> None:
    given = {"gpu_memory_utilization": 0.5, "tensor_parallel_size": 2, "block_size": 64, "max_logprobs": 40}
    assert arguments_for({}, given, processes=1, on_cpu=True).items() >= given.items()
    assert arguments_for({"entropy_top_k": 25}, {}, processes=1, on_cpu=False)["max_logprobs"] == 25
    assert "block_size" not in arguments_for({}, {}, processes=1, on_cpu=False)


def test_the_arguments_that_the_pages_show_are_vllms() -> None:
    shown = set(re.findall(r"(\w+)=", " ".join(re.findall(r"--model_args (\S+)", PAGE.read_text(encoding="utf-8")))))
    assert shown - Options.model_fields.keys() - {"journal"} <= _ARGUMENTS


def test_each_process_of_a_machine_has_its_own_gpus() -> None:
    assert [own_devices("4,5,6,7", rank, 2) for rank in (0, 1)] == ["4,5", "6,7"]
    assert own_devices("6", 3, 1) == "6", "a launcher that shows each process its own GPU"
    with pytest.raises(UsageError, match="process 2 of this machine finds no GPUs of its own: 4 are visible"):
        own_devices("4,5,6,7", 2, 2)


NO_VLLM = """
import importlib.metadata as metadata
known = metadata.version
def version(name):
    if name == "vllm":
        {answer}
    return known(name)
metadata.version = version
from lm_eval.api.registry import get_model
get_model("eager-vllm")
"""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("raise metadata.PackageNotFoundError(name)", "there is no vLLM here; pip install 'eager-lmeval[vllm]'"),
        ("return '0.11.2'", "vLLM 0.11.2 is too old, 0.32 or newer is needed; pip install"),
    ],
)
def test_whoever_asks_for_the_model_is_told_that_there_is_no_vllm_or_too_old_a_one(
    answer: str, said: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", NO_VLLM.format(answer=answer)]
    done = subprocess.run(command, env=os.environ, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("eager_lmeval: --model eager-vllm: ")
    assert said in line


def test_nobody_imports_vllm_who_has_not_asked_for_it(tmp_path: Path) -> None:
    code = "import sys, eager_lmeval.lm, eager_lmeval.task, eager_lmeval.commands.cli; print('vllm' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
