"""`eager_lmeval.generate` and `vote`: trees without the harness, the same as the harness's model gives."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from pages import ROOT, blocks
from transformers import AutoModelForCausalLM, AutoTokenizer

import eager_lmeval
from eager_lmeval import UsageError, paths

PROMPTS = ["<|user|>Multiply 13 by 18.<|assistant|>", "<|user|>Solve 17*x=26 mod 29.<|assistant|>"]
SHORT = {"max_sequences": 4, "entropy_threshold": 0.5, "temperature": 0.8, "max_gen_toks": 60, "seed": 1}


@pytest.fixture(scope="module")
def demo() -> tuple[Any, Any]:
    folder = paths.demo_model_dir()
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def generate(demo: tuple[Any, Any], **options: Any) -> list[eager_lmeval.Tree]:
    return eager_lmeval.generate(*demo, PROMPTS, **{**SHORT, **options})


def test_the_package_is_light_and_shows_what_is_public() -> None:
    script = (
        "import sys, eager_lmeval; light = not {'torch', 'lm_eval', 'transformers'} & set(sys.modules); "
        "print(light, set(dir(eager_lmeval)) == set(eager_lmeval.__all__), "
        "all(hasattr(eager_lmeval, name) for name in eager_lmeval.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "True"]


def test_the_example_of_the_documentation_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block.text for block in blocks(ROOT / "docs/api.md") if block.language == "python")
    found: dict[str, Any] = {}
    exec(example, found)
    assert [tree.prompt.context for tree in found["trees"]] == PROMPTS
    assert "\\boxed{" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "parallel"},
        {"strategy": "adapt"},
        {"strategy": "consistency", "verifier": "math"},
        {"strategy": "eager", "verifier": "math", "labels": ["234", 8]},
    ],
    ids=lambda options: options["strategy"],
)
def test_each_strategy_gives_whole_trees_and_the_same_ones_again(
    demo: tuple[Any, Any], options: dict[str, Any]
) -> None:
    trees = generate(demo, **options)
    for tree in trees:
        tree.check_integrity()
    assert sum(tree.num_sequences for tree in trees) <= 8
    assert [tree.to_record() for tree in generate(demo, **options)] == [tree.to_record() for tree in trees]


def test_the_model_is_left_in_training_and_takes_no_gradients_here(demo: tuple[Any, Any]) -> None:
    model, _ = demo
    model.train(True)
    try:
        generate(demo, max_sequences=1)
        assert model.training
        assert all(parameter.grad is None for parameter in model.parameters())
        assert torch.is_grad_enabled()
    finally:
        model.train(False)


def test_the_winner_of_a_vote_is_the_first_sequence_of_the_heaviest_class() -> None:
    def tree(*texts: str) -> eager_lmeval.Tree:
        from eager_lmeval.algorithm.tree import Prompt, Sequence

        sequences = [Sequence((place,), [1], text=text, finish="stop") for place, text in enumerate(texts)]
        return eager_lmeval.Tree(Prompt(0, "t", "c", [1]), sequences)

    winner = eager_lmeval.vote(tree("\\boxed{1}", "so \\boxed{0.5}", "\\boxed{\\frac12}"))
    assert winner is not None
    assert winner.text == "so \\boxed{0.5}"
    assert eager_lmeval.vote(tree("I give up.")) is None
    with pytest.raises(UsageError, match="verifier=code"):
        eager_lmeval.vote(tree("\\boxed{1}"), verifier="code")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"strateg": "init"}, "did you mean 'strategy'"),
        ({"respond": "vote"}, "eager_lmeval.vote"),
        ({"label": "answer"}, "give labels="),
        ({"labels": ["1", "2"]}, "read by strategy=eager alone"),
        ({"strategy": "eager", "verifier": "math"}, "2 prompts, and none came"),
        ({"strategy": "eager", "verifier": "math", "labels": ["1"]}, "2 prompts, and 1 came"),
        ({"strategy": "eager", "verifier": "choice", "labels": ["A", "?"]}, "document 1: verifier=choice"),
        ({"strategy": "consistency"}, "needs a verifier"),
        ({"max_gen_toks": 100_000}, "leaves no room for a prompt"),
    ],
    ids=str,
)
def test_what_is_not_accepted_is_one_line(demo: tuple[Any, Any], options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        generate(demo, **options)
    assert "\n" not in str(caught.value)


def test_a_bare_text_is_no_list_of_prompts_and_no_prompts_give_no_trees(demo: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match="put it into a list"):
        eager_lmeval.generate(*demo, PROMPTS[0])
    assert eager_lmeval.generate(*demo, []) == []
