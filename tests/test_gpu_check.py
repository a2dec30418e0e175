"""`make gpu-check` on a machine without a GPU: its whole way in small, so that with one only figures are new."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "scripts" / "gpu_check.py"
SMALL = ["--device", "cpu", "--tiny"]


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_all_parts_run_and_the_last_line_has_their_figures(
    check: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [name for name in check.PARTS if name != "vllm"]
    assert check.main([*SMALL, "--parts", *parts]) == 0
    found = last_line(capsys)
    assert found["failed"] == {}
    assert all(row["equal"] == row["trees"] for row in found["parts"]["equality"])
    assert all(row["equal"] == row["compared"] for row in found["parts"]["draws"])
    assert {row["what"] for row in found["parts"]["waits"]} == set(check.STRATEGIES)
    assert all(row["ratio"] > 0 for row in found["parts"]["throughput"])
    assert found["parts"]["memory"][0]["tokens_a_second"] > 0


def test_a_part_that_fails_is_named_and_the_others_run(
    check: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(machine: Any) -> Iterator[dict[str, Any]]:
        yield {"what": "the first figure"}
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setitem(check.PARTS, "waits", broken)
    assert check.main([*SMALL, "--parts", "waits", "draws"]) == 1
    found = last_line(capsys)
    assert found["failed"] == {"waits": "RuntimeError: CUDA out of memory"}
    assert found["parts"]["waits"] == [{"what": "the first figure"}]
    assert found["parts"]["draws"]


def test_no_part_begins_when_time_is_up(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main([*SMALL, "--minutes", "-1", "--parts", "draws"]) == 1
    assert "not begun" in last_line(capsys)["failed"]["draws"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here, which the script would use")
def test_without_a_gpu_it_says_how_to_try_it(check: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check.main([])
    assert "--device cpu --tiny" in capsys.readouterr().err
