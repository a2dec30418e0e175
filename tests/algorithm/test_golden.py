"""The golden cases, and that checking them notices a difference."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden_cases as golden
import pytest

CASES = Path(__file__).parents[1] / "cases"


@pytest.mark.parametrize("name", golden.FILES)
def test_golden_cases_hold(name: str) -> None:
    assert golden.check_file(CASES / name) > 0


def _bump(case: dict[str, Any], field: str) -> None:
    case[field] += 1


def _first_weight(case: dict[str, Any]) -> None:
    case["sequences"][0]["weight"] *= 1 + 1e-4


def _swap_first_and_last(case: dict[str, Any]) -> None:
    sequences = case["sequences"]
    sequences[0], sequences[-1] = sequences[-1], sequences[0]


CORRUPTIONS: dict[str, tuple[str, str, int, Callable[[dict[str, Any]], None], str]] = {
    "a stream key": ("rng.json", "cases", 3, lambda case: case.update(key="0" * 16), "case 3: key"),
    "a draw": ("rng.json", "cases", 4, lambda case: case["u"].reverse(), "case 4: u"),
    "a token": ("entropy.json", "cases", 5, lambda case: _bump(case, "token"), "case 5: token"),
    "an entropy": ("entropy.json", "cases", 0, lambda case: _bump(case, "tempered_nats"), "case 0: tempered_nats"),
    "a weight": ("tree.json", "cases", 2, _first_weight, "case 2: sequences[0].weight"),
    "the order of creation": ("tree.json", "cases", 4, _swap_first_and_last, "case 4: sequences[0].path"),
    "a number of copies": (
        "systematic.json",
        "cases",
        0,
        lambda case: _bump(case["sequences"][1], "copies"),
        "case 0: sequences[1].copies",
    ),
    "a share of the copies": ("systematic.json", "cases", 2, _first_weight, "case 2: sequences[0].weight"),
    "an option of the gate": (
        "systematic.json",
        "cases",
        1,
        lambda case: case["options"].update(window=9),
        "case 1: unknown keys ['window']",
    ),
    "a finish": (
        "tree.json",
        "cases",
        0,
        lambda case: case["sequences"][0].update(finish="length"),
        "case 0: sequences[0].finish",
    ),
    "the tokens decoded": ("tree.json", "cases", 0, lambda case: _bump(case, "tokens"), "case 0: tokens"),
    "a race's cut": ("race.json", "cases", 3, lambda case: case["expected"]["cut"].pop("4"), "case 3: cut"),
    "the time of a race": ("race.json", "cases", 1, lambda case: _bump(case["expected"], "time"), "case 1: time"),
    "a grant": ("budget.json", "cases", 1, lambda case: case["grants"].update({"0": 9}), "case 1: grants"),
    "pass@k": ("metrics.json", "pass_at_k", 2, lambda case: case.update(value=0.0), "pass_at_k case 2: value"),
    "a vote": ("metrics.json", "consensus", 0, lambda case: _bump(case, "first"), "consensus case 0: first"),
    "a p-value": ("metrics.json", "mcnemar", 3, lambda case: _bump(case, "mid_p"), "mcnemar case 3: mid_p"),
    "an unknown key": (
        "budget.json",
        "cases",
        0,
        lambda case: case.update(tie="first"),
        "case 0: unknown keys ['tie']",
    ),
    "an unknown option": (
        "tree.json",
        "cases",
        1,
        lambda case: case["options"].update(beam=2),
        "case 1: unknown keys ['beam']",
    ),
    "a missing key": ("rng.json", "cases", 0, lambda case: case.pop("u"), "case 0: missing keys ['u']"),
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_difference_is_named_and_ends_with_status_1(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, section, number, corrupt, message = CORRUPTIONS[what]
    content = json.loads((CASES / file).read_text())
    corrupt((content if isinstance(content, list) else content[section])[number])
    (tmp_path / file).write_text(json.dumps(content))
    assert golden.main([str(tmp_path)]) == 1
    assert f"{file}: {message}" in capsys.readouterr().out


def test_absent_files_are_reported_and_unknown_ones_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(CASES / "budget.json", tmp_path)
    assert golden.main([str(tmp_path)]) == 0
    assert "rng.json: absent" in capsys.readouterr().out
    (tmp_path / "beams.json").write_text("{}")
    assert golden.main([str(tmp_path)]) == 1
    assert "no check for beams.json" in capsys.readouterr().out


def test_a_folder_without_cases_is_no_success(tmp_path: Path) -> None:
    assert golden.main([str(tmp_path)]) == 1


def test_sampling_options_reach_the_scripted_tree() -> None:
    """With top_k 1 every draw is the most likely token, as at temperature 0."""
    model = {"salt": "top-k", "vocab": 12, "scale": 3.0, "eos_bias": 0.0}
    options = {"context": "", "seed": 0, "cap": 1, "theta": 2.0, "temperature": 0.9, "max_tokens": 30, "k": 5}
    sampled = golden.grow_gated(model, options)
    truncated = golden.grow_gated(model, options | {"top_k": 1, "top_p": 0.9, "min_p": 0.1})
    greedy = golden.grow_gated(model, options | {"temperature": 0})
    assert truncated.sequences[0].tokens == greedy.sequences[0].tokens != sampled.sequences[0].tokens
