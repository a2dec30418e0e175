"""What is accepted where a number, a share or a list of them is typed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eager_lmeval.commands.arguments import Amount, amount, count, listed, number, share
from eager_lmeval.commands.cli import main


@pytest.mark.parametrize(
    ("convert", "text", "value"),
    [
        (amount, "0.02", Amount(0.02, False)),
        (amount, "10%", Amount(0.1, True)),
        (amount, "0", Amount(0.0, False)),
        (number, "1.5", 1.5),
        (count, "8", 8),
        (share, "40%", 0.4),
        (share, "0.4", 0.4),
        (listed(number), "1.5,2,1.5", [1.5, 2.0]),
    ],
)
def test_accepted(convert: Callable[[str], Any], text: str, value: Any) -> None:
    assert convert(text) == value


@pytest.mark.parametrize(
    ("convert", "texts"),
    [
        (amount, ["", "-1", "nan", "inf", "ten", "5%%"]),
        (number, ["", "0", "-2", "nan", "inf", "1,5"]),
        (count, ["", "0", "-10", "1.5", "nan"]),
        (share, ["", "0", "1", "100%", "40", "-5%", "nan"]),
        (listed(number), ["", "1,", "1,nan", "1;2"]),
    ],
)
def test_refused_with_what_came_and_an_example(convert: Callable[[str], Any], texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match="such as"):
            convert(text)


@given(st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_every_number_above_0_is_read_as_it_is_written(value: float) -> None:
    assert number(str(value)) == value


@pytest.mark.parametrize(
    "arguments",
    [
        ["calibrate", "pilot", "--prompts", "0"],
        ["calibrate", "pilot", "--prompts", "-10"],
        ["calibrate", "pilot", "--thresholds", "nan"],
        ["calibrate", "pilot", "--thresholds", "1,inf"],
        ["calibrate", "pilot", "--max_sequences", "0"],
        ["calibrate", "pilot", "--target-tokens", "-5"],
        ["calibrate", "pilot", "--target-saving", "140%"],
        *(
            ["compare", "a", "b", option, text]
            for option in ("--max-drop", "--max-increase")
            for text in ("pass@max", "pass@max=much", "pass@max=-1", "=0.1", "pass@max=nan")
        ),
        ["compare", "a", "b", "--json", ""],
        ["calibrate", "pilot", "--write", ""],
        ["report", "run", "--output", " "],
        ["rescore", "samples", "--output_path", ""],
        ["demo", "--output_path", ""],
        ["demo", "--limit", "0"],
        ["demo", "--max_sequences", "0"],
    ],
)
def test_an_amount_without_sense_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{arguments[-2]}: " in said
    assert "such as" in said


def test_an_option_that_was_removed_says_when_it_went_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", "pilot", "--branching", "top2"])
    assert ended.value.code == 2
    assert "--branching: it was removed in version 0.2.0: leave it out" in capsys.readouterr().err
