"""The study's numbers: what is kept of its runs, what stands on its page, and what its differences are against."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cells import Cell, collect, load, save
from marks import fill
from page import PAGES
from page import tables as tables_of
from tables import Baseline, Design, designs, paired, signed

from eager_lmeval.commands.cli import main

ROOT = Path(__file__).parents[1]

RESULTS = ROOT / "study" / "results"


def cell(most: int, seed: int, scores: list[float], tokens: float, **options: Any) -> Cell:
    """One whose scores are all alike."""
    options = {"strategy": "parallel", "branching": "top2", "max_sequences": most, "seed": seed, **options}
    names = ("pass@max", "cons_w@max", "pass_rate_w")
    return Cell("toy", options, 0, dict.fromkeys(names, scores) | {"tokens": [tokens] * len(scores)})


def test_the_first_sequences_of_parallel_are_what_a_smaller_m_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # lists packages for seconds
    settings = {
        "model_args": {"pretrained": "demo"},
        "tasks": ["eager_demo"],
        "include_path": str(ROOT / "tasks"),
        "limit": 8,
        "output_path": str(tmp_path / "out"),
        "sweep": {"strategy": ["parallel"], "max_sequences": [2, 4]},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert main(["sweep", str(tmp_path / "sweep.yaml")]) == 0
    two = [cell for cell in collect(tmp_path / "out", "toy") if cell.options["max_sequences"] == 2]
    ((drawn,), (taken,)) = ([cell for cell in two if (cell.reuse > 0) is which] for which in (False, True))
    assert drawn.scores == taken.scores
    assert len(set(drawn.scores["tokens"])) > 1, "documents that tell one from another"


def test_what_is_kept_comes_back_and_is_the_same_bytes_again(tmp_path: Path) -> None:
    cells = [cell(2, 1, [1.0, math.nan, 0.123456], 7.0)]
    save(cells, tmp_path / "one.gz")
    (found,) = load(tmp_path / "one.gz")
    assert found.options == cells[0].options
    assert np.allclose(found.scores["pass@max"], [1.0, math.nan, 0.12346], equal_nan=True)
    save(cells, tmp_path / "two.gz")
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_equal_tokens_may_lie_between_two_m() -> None:
    cells = [cell(most, seed, [most / 10, 0.0], 10.0 * most) for most in (1, 2, 3) for seed in (1, 2)]
    baseline = Baseline(cells)

    def of_equal(tokens: float) -> tuple[float, list[float]]:
        most, scores = baseline.of_equal("tokens", Design([cell(9, 1, [1.0, 1.0], tokens)]), "pass@max")
        return most, scores.tolist()

    assert of_equal(25.0) == (2.5, [pytest.approx(0.25), 0.0])
    assert of_equal(1.0)[0] == 1, "there is nothing below one sample"
    assert of_equal(1e9)[0] == 3


def test_seeds_are_averaged_and_differences_paired_by_document() -> None:
    (design,) = designs([cell(2, 1, [1.0, 0.0], 4.0), cell(2, 2, [0.0, 0.0], 6.0)])
    assert isinstance(design, Design)
    assert design.document_means("pass@max").tolist() == [0.5, 0.0]
    assert design.document_means("pass@max", [1]).tolist() == [1.0, 0.0]
    assert design.tokens == 10.0
    ones = np.ones(5)
    assert paired(ones, 0.5 * ones) == "+.500 [+.500, +.500]"
    assert [signed(value) for value in (-0.01, 0.0, 1.25)] == ["−.010", ".000", "+1.250"]


def test_the_pages_tables_are_what_the_kept_numbers_say(capsys: pytest.CaptureFixture[str]) -> None:
    tables, texts = tables_of(RESULTS), [page.read_text(encoding="utf-8") for page in PAGES]
    for name in tables:
        assert sum(text.count(f"<!-- {name} -->") for text in texts) == 1, f"{name} stands in one page, once"
    for page, text in zip(PAGES, texts, strict=True):
        assert fill(text, tables) == text, f"{page.name}: python study/run.py --tables writes its tables again"
    assert not capsys.readouterr().err, "no table is without its numbers"
