"""What every subcommand of `eager-lmeval` has in common: how it ends when something is wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from eager_lmeval.commands import cli


def ending(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """The status of a command that meets an error."""

    def meet() -> Path:
        raise error

    monkeypatch.setitem(cli._FOLDERS, "tasks", meet)
    return cli.main(["paths", "tasks"])


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (FileNotFoundError("reinstall it"), 2, "reinstall it"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "out/x"), 2, "out/x: Permission denied"),
        (NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), "a/b"), 2, "a/b: Not a directory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_is_one_line_with_the_commands_name(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    assert ending(monkeypatch, error) == status
    assert capsys.readouterr().err == f"eager-lmeval paths: {said}\n"


@pytest.mark.parametrize(
    "command",
    [
        ["report", "{missing}"],
        ["compare", "{missing}", "{missing}"],
        ["rescore", "{missing}"],
        ["calibrate", "{missing}"],
        ["sweep", "{missing}"],
    ],
    ids=lambda command: command[0],
)
def test_wrong_usage_is_one_line_and_status_2(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "missing")
    assert cli.main([part.format(missing=missing) for part in command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"eager-lmeval {command[0]}: ")
    assert missing in line
    assert not list(tmp_path.iterdir())
