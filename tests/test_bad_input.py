"""Bad input gives one line that says what came, what is accepted and what to change; nothing is generated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
)

from eager_lmeval import paths
from eager_lmeval.engine.transformers.support import require_supported
from eager_lmeval.errors import UsageError
from eager_lmeval.lm import EagerLM


@pytest.fixture(scope="module")
def demo() -> EagerLM:
    return EagerLM(pretrained="demo", max_length=128)


def generate(lm: EagerLM, context: str = "<|user|>Add 1+2.<|assistant|>", **gen_kwargs: Any) -> list[str]:
    doc = {"question": "1+2", "answer": "3", "unknown": None, "nan": float("nan"), "parts": {"value": "3"}, "eager": {}}
    arguments = (context, {"max_gen_toks": 20} | gen_kwargs)
    return lm.generate_until([Instance("generate_until", doc, arguments, 0, ("some_task", 7, 1))], disable_tqdm=True)


@pytest.mark.parametrize(
    ("gen_kwargs", "said"),
    [
        ({"max_sequnces": 4}, ["unknown option 'max_sequnces'", "did you mean 'max_sequences'?"]),
        ({"tie_margin": 0.01}, ["the option tie_margin was removed in version 0.2.0", "dtype=float64"]),
        ({"colour": "red"}, ["unknown option 'colour'", "strategy", "entropy_threshold"]),
        ({"strategy": "eagr"}, ["strategy='eagr'", "'adapt', 'eager' or 'consistency'", "did you mean 'eager'?"]),
        ({"max_sequences": 0}, ["max_sequences=0", "greater than or equal to 1"]),
        ({"entropy_threshold": -0.5}, ["entropy_threshold=-0.5", "greater than or equal to 0"]),
        ({"entropy_threshold": float("nan")}, ["entropy_threshold=nan", "finite"]),
        ({"branch_window": ""}, ["branch_window=''", "a value, or none; there is nothing behind the ="]),
        ({"think_end_token": " "}, ["think_end_token=' '", "there is nothing behind the ="]),
        ({"temperature": -1}, ["temperature=-1", "greater than or equal to 0"]),
        ({"reallocation": "extend"}, ["reallocation", "0.2.0", "restart, the paper's"]),
        ({"round_sequences": 4}, ["round_sequences", "0.2.0", "first_lanes"]),
        ({"signal": "unsettled"}, ["signal", "0.2.0", "strategy=consistency"]),
        ({"extra_cap": "2x"}, ["extra_cap='2x'", "2M"]),
        ({"num_beams": 4}, ["num_beams=4 cannot be done", "num_beams=1 is accepted", "take the line out"]),
        ({"repetition_penalty": 1.2}, ["repetition_penalty=1.2 cannot be done"]),
        ({"until": 7}, ["until=7", "a text that ends a sequence", "in quotes"]),
        ({"branching": "top2", "max_rows": 4, "max_sequences": 8}, ["max_rows=4", "max_sequences=8"]),
        *(
            (
                {**branching, name: value},
                [f"{name}={value} belongs to branching=top2; {said}", f"leave {name} out, or add branching=top2"],
            )
            for branching, said in (
                ({}, "this is branching=systematic, the default,"),
                ({"branching": "systematic"}, "this is branching=systematic, which"),
            )
            for name, value in (
                ("count", "all"),
                ("branch_window", 1000),
                ("dynamic_percentile", 99.0),
                ("threshold_decay", 0.8),
            )
        ),
        ({"branching": "systematic", "fan_out": 1}, ["fan_out=1", "greater than or equal to 2"]),
        ({"branching": "systematic", "preset": "paper"}, ["preset=paper", "branching=systematic", "one of them"]),
        ({"branching": "sistematic"}, ["branching='sistematic'", "did you mean 'systematic'?"]),
        ({"branching": "top2", "fan_out": 4}, ["fan_out=4 belongs to branching=systematic", "branching=top2"]),
        ({"branching": "none"}, ["branching=none", "strategy=init", "strategy=parallel"]),
        ({"strategy": "eager"}, ["strategy=eager needs a verifier", "verifier=math"]),
        ({"strategy": "eager", "verifier": "math"}, ["carry none", "label=COLUMN", "strategy=adapt"]),
        ({"strategy": "eager", "label": "answer"}, ["needs a verifier", "verifier=math"]),
        ({"strategy": "eager", "label": "anwser", "verifier": "math"}, ["'anwser' is no column", "question, answer"]),
        (
            {"strategy": "eager", "label": "parts.valeu", "verifier": "math"},
            ["no column", """'{"label": "{{answer}}"}'"""],
        ),
        ({"strategy": "eager", "label": "unknown", "verifier": "exact"}, ["document 7: its label is null"]),
        ({"strategy": "eager", "label": "{{unknown}}", "verifier": "exact"}, ["document 7: its label is null"]),
        ({"strategy": "eager", "label": "nan", "verifier": "exact"}, ["document 7: its label is null"]),
        (
            {"strategy": "eager", "label": "{{nope}}", "verifier": "math"},
            ["document 7", "'nope' is undefined", "question"],
        ),
        (
            {"strategy": "eager", "label": "{{answer", "verifier": "math"},
            ["cannot be rendered", "end of print statement"],
        ),
        ({"strategy": "eager", "label": "{{1 / 0}}", "verifier": "math"}, ["cannot be rendered", "division by zero"]),
        ({"strategy": "eager", "label": "answer", "verifier": "maths"}, ["verifier='maths'", "did you mean 'math'?"]),
        (
            {"strategy": "eager", "label": "{{question[:0]}}", "verifier": "math"},
            ["document 7", "verifier=math", "holds no answer"],
        ),
        ({"respond": "vote"}, ["respond=vote needs a verifier", "verifier=math, choice or exact"]),
        ({"respond": "vote", "verifier": "code"}, ["respond=vote", "verifier=code", "give verifier=math"]),
        ({"respond": "vot"}, ["respond='vot'", "did you mean 'vote'?"]),
        ({"max_gen_toks": 128}, ["max_gen_toks=128", "128 tokens"]),
        ({"context": "x" * 128}, ["document 7", "128 tokens", "truncation=True"]),
        ({"context": ""}, ["document 7", "empty prompt"]),
        ({"think_end_token": 100_000}, ["think_end_token=100000", "no token id"]),
    ],
)
def test_what_is_wrong_stands_in_one_line_with_the_way_out(demo, gen_kwargs, said):
    with pytest.raises(UsageError) as caught:
        generate(demo, **gen_kwargs)
    line = str(caught.value)
    assert "\n" not in line
    for part in said:
        assert part in line


@pytest.mark.parametrize("options", [{}, {"max_sequences": 1}, {"respond": "vote", "verifier": "math"}], ids=str)
def test_a_task_that_shows_no_tree_is_named_too(demo, options):
    arguments = ("<|user|>Add 1+2.<|assistant|>", {"count": "all"} | options)
    request = Instance("generate_until", {"question": "1+2"}, arguments, 0, ("some_task", 7, 1))
    with pytest.raises(UsageError, match=r"^task 'some_task': count=all belongs to branching=top2"):
        demo.generate_until([request], disable_tqdm=True)


def test_systematic_branching_needs_no_room_for_all_sequences_at_once(demo):
    generate(demo, branching="systematic", max_rows=2, max_sequences=8, temperature=2.0, entropy_threshold=0)
    assert demo._eager.pools[-1]["sequences"] > 2


def test_the_default_branching_at_temperature_0_is_one_sequence_and_a_warning_that_names_the_paper_s(demo, caplog):
    with caplog.at_level("WARNING", logger="lm_eval"):
        generate(demo, temperature=0, entropy_threshold=0)
    assert demo._eager.pools[-1]["sequences"] == 1
    assert "branching=systematic, the default, splits nothing at temperature 0" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", logger="lm_eval"):
        generate(demo, branching="top2", temperature=0, entropy_threshold=0, max_sequences=4)
    assert demo._eager.pools[-1]["sequences"] == 4
    assert not caplog.text


def test_what_the_task_says_otherwise_is_said_to_have_no_effect(caplog):
    lm = EagerLM(pretrained="demo", max_length=128, temperature=0.1, max_gen_toks=20)
    with caplog.at_level("WARNING", logger="lm_eval"):
        generate(lm, temperature=0.8)
    assert "temperature=0.1 of --model_args has no effect" in caplog.text
    assert "max_gen_toks=20 of --model_args" not in caplog.text, "the task says the same"
    assert lm._eager.pools[0]["options"]["temperature"] == pytest.approx(0.8)


def test_options_that_the_repeats_of_a_task_replace_are_said_to_have_no_effect_and_once(caplog):
    lm = EagerLM(pretrained="demo", max_length=128, max_sequences=5, max_gen_toks=10)
    requests = [
        Instance("generate_until", {"question": str(number)}, (f"<|user|>{number}", {}), 0, ("some_task", number, 3))
        for number in range(2)
    ]
    with caplog.at_level("WARNING", logger="lm_eval"):
        lm.generate_until([request for request in requests for _ in range(3)], disable_tqdm=True)
    assert caplog.text.count("max_sequences=5 of --model_args has no effect, because the task's repeats are M") == 1


def test_model_args_are_not_held_against_defaults_that_the_task_replaces(demo):
    lm = EagerLM(pretrained="demo", max_length=128, max_rows=4, count="all")
    generate(lm, branching="top2", max_sequences=3)
    assert lm._eager.pools[0]["options"]["max_rows"] == 4
    with pytest.raises(UsageError, match="count=all belongs to branching=top2"):
        generate(lm)
    with pytest.raises(UsageError, match="max_rows=4 is below max_sequences=32"):
        generate(lm, branching="top2")
    with pytest.raises(UsageError, match="max_rows=4 is below max_sequences=8"):
        EagerLM(pretrained="a/model/that/does/not/exist", branching="top2", max_rows=4, max_sequences=8)


@pytest.mark.parametrize("name", ["device_map", "token", "code_revision", "max_memory", "offload_buffers", "tp_size"])
def test_arguments_of_from_pretrained_are_not_taken_for_misspelt_options(name):
    with pytest.raises(OSError, match=r"does/not/exist|does not exist|not a local folder|offline"):
        EagerLM(pretrained="/a/model/that/does/not/exist", **{name: None})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_sequnces": 4}, "did you mean 'max_sequences'?"),
        ({"entropy_treshold": 1}, "did you mean 'entropy_threshold'?"),
        ({"max_sequences": -1}, "max_sequences=-1"),
        ({"preset": "papr"}, "did you mean 'paper'?"),
    ],
)
def test_wrong_model_args_are_refused_before_the_model_is_loaded(arguments, said):
    with pytest.raises(UsageError, match=r"--model_args") as caught:
        EagerLM(pretrained="a/model/that/does/not/exist", **arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("gen_kwargs", "said"),
    [
        ({"entropy_threshold": 3.2}, "nothing will ever branch"),
        ({"strategy": "parallel", "max_sequences": 3}, "identical sequences"),
        ({"do_sample": False, "temperature": 0.7}, "do_sample=False wins over temperature=0.7"),
        ({"do_sample": True}, "do_sample=True at temperature 0 samples nothing"),
        ({"max_gen_toks": 10, "max_new_tokens": 12}, "max_new_tokens=12, max_gen_toks=10 are one option: 10 counts"),
        ({"context": "<|user|>" + "1+" * 55, "max_gen_toks": 100}, "1 of 1 prompts leave less room"),
    ],
)
def test_what_cannot_do_what_it_seems_to_is_warned_about_and_runs(demo, caplog, gen_kwargs, said):
    with caplog.at_level("WARNING", logger="lm_eval"):
        responses = generate(demo, **gen_kwargs)
    assert said in caplog.text
    assert len(responses) == 1


_SMALL = {"vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1}


def test_an_attention_without_explicit_masks_is_refused():
    model = LlamaForCausalLM(LlamaConfig(**_SMALL, intermediate_size=8, num_attention_heads=2))
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UsageError, match="attn_implementation=sdpa"):
        require_supported(model)


def test_nan_logits_are_named_with_document_and_position(demo):
    lm = EagerLM(pretrained="demo")
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[lm.tokenizer.convert_tokens_to_ids("<think>")] = torch.nan
    with pytest.raises(UsageError, match=r"NaN logits for document 7 of task 'some_task' at generated position \d+"):
        generate(lm)


@pytest.mark.parametrize("given", [{"parallelize": True}, {"tp_plan": "auto"}])
def test_a_model_over_several_gpus_in_several_processes_is_refused(monkeypatch, given):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="with 2 processes: eager gives each process the whole model"):
        EagerLM(pretrained="demo", **given)


def test_the_command_line_prints_the_line_exits_with_1_and_writes_nothing(tmp_path: Path):
    command = [
        *(sys.executable, "-m", "lm_eval", "run", "--model", "eager", "--model_args", "pretrained=demo"),
        *("--include_path", str(paths.tasks_dir()), "--tasks", "eager_demo", "--limit", "1"),
        *("--gen_kwargs", "max_sequnces=4", "--output_path", str(tmp_path / "out"), "--log_samples"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "eager_lmeval: task 'eager_demo': unknown option 'max_sequnces'; did you mean 'max_sequences'?"
    )
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_processes_that_do_not_know_of_each_other_are_refused(monkeypatch):
    """`torchrun` on CPUs without ACCELERATE_USE_CPU: each would run everything."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match=r"one of 2 processes.*ACCELERATE_USE_CPU=true"):
        EagerLM(pretrained="demo")
