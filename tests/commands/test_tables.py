"""One table in four formats, with names in it that mean something in each of them."""

from __future__ import annotations

import csv
import io

from eager_lmeval.commands.tables import Table

AWKWARD = r"=50% of a_{1} & b\c | <i> $x$ #~^"
TABLE = Table(["model", "T = 1 #T"], [["plain", "12,345"], [AWKWARD, "–"]], title="a\ntask")


def test_as_text_numbers_stand_at_the_right_and_nothing_at_the_end_of_a_line() -> None:
    lines = TABLE.to_text().splitlines()
    assert lines[0].split() == ["a"]
    assert not [line for line in lines if line.endswith(" ")]
    plain = next(line for line in lines if "plain" in line)
    assert len(plain) == max(map(len, lines[2:]))


def test_markdown_has_no_markup_in_its_cells() -> None:
    head, rule, *body = TABLE.to_markdown().splitlines()
    assert (head, rule) == ("| model | T = 1 #T |", "| --- | ---: |")
    assert body[1] == r"| =50% of a\_{1} \& b\\c \| \<i\> \$x\$ #\~^ | – |"


def test_csv_holds_what_was_given_and_no_formula() -> None:
    read = list(csv.reader(io.StringIO(Table(["name", "value"], [[AWKWARD, 0.1], ["x", None]]).to_csv())))
    assert read == [["name", "value"], ["'" + AWKWARD, "0.1"], ["x", ""]]


def test_latex_escapes_all_that_is_special() -> None:
    lines = TABLE.to_latex().splitlines()
    assert lines[:3] == ["% a task", r"\begin{tabular}{lr}", r"\toprule"]
    assert lines[3] == r"model & T = 1 \#T \\"
    escaped = r"=50\% of a\_\{1\} \& b\textbackslash{}c | <i> \$x\$ \#\textasciitilde{}\textasciicircum{}"
    assert lines[6] == escaped + r" & -- \\"
