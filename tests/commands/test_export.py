"""`eager-lmeval export`: a row a sequence, with what its tree, its grade and its run say of it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import parquet
from run_files import samples_file, tree_record, write_run
from shown_run import write_shown_run

from eager_lmeval.commands.cli import main
from eager_lmeval.commands.export.sequences import COLUMNS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shown_run(tmp_path_factory.mktemp("run"))


def test_every_sequence_is_a_row(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "sequences.parquet"
    assert main(["export", str(folder), "-o", str(output)]) == 0
    assert capsys.readouterr().out == f"{output}: 11 sequences, {len(COLUMNS)} columns\n"
    table = parquet.read_table(output)
    assert table.column_names == list(COLUMNS)
    rows = table.to_pylist()
    assert [row["doc_id"] for row in rows] == [0] * 6 + [1] * 3 + [2, 3]
    assert [row["path"] for row in rows[:3]] == ["0", "0/11", "0/11/14"]
    assert [row["parent"] for row in rows[:3]] == [None, "0", "0/11"]
    assert [row["correct"] for row in rows[:3]] == [True, False, True]
    assert [row["own_tokens"] for row in rows[:2]] == [rows[0]["tokens"], rows[1]["tokens"] - 11]
    assert sum(row["weight"] for row in rows if row["doc_id"] == 0) == pytest.approx(1)
    assert {row["strategy"] for row in rows} == {"init"}
    assert not list(output.parent.glob("*.partial"))


def test_a_csv_holds_the_same_rows(folder: Path, tmp_path: Path) -> None:
    main(["export", str(folder), "-o", str(tmp_path / "s.parquet")])
    main(["export", str(folder), "-o", str(tmp_path / "s.csv")])
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for line, row in zip(lines, parquet.read_table(tmp_path / "s.parquet").to_pylist(), strict=True):
        assert line == {name: "" if value is None else str(value) for name, value in row.items()}


def test_a_run_that_was_rescored_is_exported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_shown_run(tmp_path)
    assert main(["rescore", str(samples_file(folder))]) == 0
    assert main(["export", str(folder), "-o", str(tmp_path / "s.csv")]) == 0
    assert "s.csv: 11 sequences" in capsys.readouterr().out
    assert "rescored" in (tmp_path / "s.csv").read_text(encoding="utf-8")


def test_programs_are_exported_ungraded(tmp_path: Path) -> None:
    folder = write_run(tmp_path, {"pass@max": [1.0]}, records=[tree_record(["x"])])
    samples = samples_file(folder)
    samples.write_text(samples.read_text(encoding="utf-8").replace('"math"', '"code"'), encoding="utf-8")
    assert main(["export", str(folder), "-o", str(tmp_path / "s.parquet")]) == 0
    (row,) = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert (row["text"], row["correct"]) == ("x", None)


def test_what_cannot_be_exported_is_one_line_and_leaves_no_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = write_run(tmp_path / "plain", {"acc": [1.0]})
    for arguments, said in (
        ([str(folder), "-o", str(tmp_path / "s.txt")], "ends in .parquet or .csv"),
        ([str(plain), "-o", str(tmp_path / "s.csv")], "hold no trees"),
        ([str(tmp_path / "none"), "-o", str(tmp_path / "s.csv")], "does not exist"),
    ):
        assert main(["export", *arguments]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("s.*"))


def test_an_export_imports_no_torch(folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from eager_lmeval.commands.cli import main; main(sys.argv[1:]); "
        "print(sorted({'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, "export", str(folder), "-o", str(tmp_path / "s.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
