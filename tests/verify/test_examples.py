"""Each pattern of the verifiers stands beside an example of what it finds."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import eager_lmeval.verify

ROOM = Path(eager_lmeval.verify.__file__).parent


def patterns() -> list[object]:
    found = []
    for file in sorted(ROOM.glob("*.py")):
        lines = file.read_text(encoding="utf-8").splitlines()
        for top in ast.parse("\n".join(lines)).body:
            for node in ast.walk(top) if isinstance(top, ast.Assign) else ():
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile":
                    place = node.lineno - 1
                    _, mark, example = lines[place].rpartition("  # ")
                    example = example if mark else lines[place - 1].removeprefix("# ")
                    found.append(pytest.param(file.stem, ast.unparse(node), example, id=f"{file.name}:{node.lineno}"))
    return found


@pytest.mark.parametrize(("module", "pattern", "example"), patterns())
def test_each_pattern_finds_the_example_beside_it(module: str, pattern: str, example: str) -> None:
    compiled = eval(pattern, vars(import_module(f"eager_lmeval.verify.{module}")))
    match = compiled.search(example)
    assert match is not None
    assert match[0] or "(?<=" in pattern, "found is nothing, which stands everywhere"
