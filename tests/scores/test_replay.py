"""Recorded answers raced again: what is saved, and which files they come from."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest
import replay as script
from run_files import write_run

from eager_lmeval.algorithm.race import RaceSettings
from eager_lmeval.scores.replay import Recorded, replay

SETTINGS = RaceSettings(first_lanes=4, max_sequences=16, settled_at=0.95)
ONE_MIND = [Recorded("a", True, 10)] * 20
AT_ODDS = [Recorded(str(number), False, 10) for number in range(20)]
GIVEN = ["--lanes", "4", "--max-sequences", "16"]


def test_of_one_mind_the_first_lanes_suffice_and_at_odds_all_are_needed() -> None:
    assert replay([ONE_MIND], SETTINGS)[:6] == (1, 1.0, 1.0, 0.0, 4 / 16, 1.0)
    at_odds = replay([AT_ODDS], SETTINGS)
    assert (at_odds.tokens, at_odds.settled) == (1.0, 0.0)
    assert at_odds.time == 3, "4, then 4 beside 4 that have ended, then 8"


def test_tokens_and_time_are_ratios_of_sums_over_questions() -> None:
    long = [one._replace(tokens=30) for one in ONE_MIND]
    both = replay([AT_ODDS, long], SETTINGS)
    assert both.tokens == (160 + 120) / (160 + 480)
    assert both.time == (30 + 30) / (10 + 30)


def test_questions_with_too_few_answers_are_left_out() -> None:
    assert replay([ONE_MIND, ONE_MIND[:15]], SETTINGS).questions == 1
    assert math.isnan(replay([ONE_MIND[:15]], SETTINGS).tokens)


def line(answers: list[Recorded]) -> str:
    return json.dumps({"question": "q", "samples": [one._asdict() for one in answers]}) + "\n"


def test_the_script_reads_recorded_answers_packed_or_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = [one._replace(tokens=None) for one in ONE_MIND]  # type: ignore[arg-type]  # as files have it
    (tmp_path / "plain.jsonl").write_text(line(ONE_MIND) + line(unknown))
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as packed:
        packed.write(line(ONE_MIND))
    assert script.main([*(str(path) for path in sorted(tmp_path.iterdir())), *GIVEN]) == 0
    out, err = capsys.readouterr()
    found = [json.loads(one) for one in out.splitlines()]
    assert [one["file"] for one in found] == ["packed.jsonl.gz", "plain.jsonl"]
    assert all((one["questions"], one["all"], one["tokens"]) == (1, 1.0, 0.25) for one in found)
    assert "1 questions with fewer answers are left out" in err


def tree(texts: list[str], **more: Any) -> dict[str, Any]:
    sequences = [
        {"path": [root], "text": text, "answer_at": 0, "weight": 1 / len(texts), "num_tokens": 5, "branch_at": None}
        | {"finish": "stop"}
        for root, text in enumerate(texts)
    ]
    count = len(texts)
    record = {"num_sequences": count, "num_branches": 0, "num_roots": count, "tokens": 5 * count}
    return {**record, "labels_used": False, "strategy": "parallel", "sequences": sequences, "scoring": {}, **more}


@pytest.mark.parametrize(
    ("more", "message"),
    [({}, None), ({"strategy": "init"}, "are those of a run with strategy=parallel")],
)
def test_the_script_reads_the_samples_of_a_run_of_parallel(
    more: dict[str, Any], message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path, {"pass@max": [1.0]}, records=[tree(["1/2", "0.5"] * 8, **more)])
    (samples,) = folder.rglob("samples_*.jsonl")
    logged = json.loads(samples.read_text())
    logged["doc"]["eager"] = {"label": "0.5", "verifier": "math"}
    samples.write_text(json.dumps(logged) + "\n")
    assert script.main([str(samples), *GIVEN]) == (0 if message is None else 1)
    out, err = capsys.readouterr()
    if message is None:
        assert json.loads(out)["tokens"] == 0.25, "1/2 and 0.5 vote together"
    else:
        assert message in err
