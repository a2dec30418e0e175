"""What the pages say exists: links, anchors, code, commands with their options, and the names of the architecture."""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval._cli import HarnessCLI
from pages import PAGES, ROOT, Block, anchors, blocks, code_spans, commands, links, name_of

from eager_lmeval.algorithm.givers import ALIASES
from eager_lmeval.algorithm.options import Options
from eager_lmeval.commands.cli import _parser
from eager_lmeval.lm import _HF_ARGUMENTS
from eager_lmeval.scores.figures import metrics
from eager_lmeval.scores.rules import Rules

BLOCKS = [block for page in PAGES for block in blocks(page)]
MODEL_ARGUMENTS = {*Options.model_fields, *ALIASES, *_HF_ARGUMENTS, "journal"}
VLLM_ARGUMENTS = {"dtype", "max_model_len", "max_num_seqs", "tensor_parallel_size"}
"""What the pages give vLLM besides; tests of `make test-vllm` hold them against its own names."""
GENERATION_ARGUMENTS = {*Options.model_fields, *ALIASES}


def of_language(*languages: str) -> list[Any]:
    return [pytest.param(block, id=str(block)) for block in BLOCKS if block.language in languages]


class AnyTag(yaml.SafeLoader):
    """Takes `!function utils.f`, which the harness gives a meaning."""


AnyTag.add_multi_constructor("", lambda loader, suffix, node: str(node.value))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_of_a_page_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading; there are {sorted(anchors(target))}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_of_the_project_that_a_page_names_exist(page: Path) -> None:
    folders = "benchmarks|configs|docs|eager_lmeval|packaging|scripts|study|tasks|tests|.github"
    for span in code_spans(page):
        if re.fullmatch(rf"({folders})/[\w./-]+", span):
            assert (ROOT / span).exists(), f"{span}: no such file"


def test_addresses_of_earlier_pages_lead_somewhere() -> None:
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), AnyTag)
    (moved,) = [plugin["redirects"]["redirect_maps"] for plugin in settings["plugins"] if "redirects" in plugin]
    for earlier, now in moved.items():
        page, _, anchor = now.partition("#")
        assert not (ROOT / "docs" / earlier).exists(), f"{earlier} is a page"
        assert not anchor or anchor in anchors(ROOT / "docs" / page), f"{now}: no such heading"


def test_every_code_block_says_its_language_or_is_output() -> None:
    known = {"", "bash", "json", "python", "yaml"}
    assert {block.language for block in BLOCKS} <= known, "teach this test to check the language"


@pytest.mark.parametrize("block", of_language("yaml"))
def test_yaml_blocks_are_yaml(block: Block) -> None:
    assert yaml.load(block.text, AnyTag) is not None


@pytest.mark.parametrize("block", of_language("json"))
def test_json_blocks_are_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", of_language("python"))
def test_python_blocks_are_python(block: Block) -> None:
    ast.parse(block.text)


@pytest.mark.parametrize("block", of_language("bash"))
def test_commands_exist_with_the_options_that_are_shown(block: Block) -> None:
    for words in commands(block.text):
        check_command(words)


def check_command(words: list[str]) -> None:
    program = words[0]
    if "lm_eval" in words[:-1] and (program == "lm_eval" or words[words.index("lm_eval") - 1] == "-m"):
        check_harness_command(words[words.index("lm_eval") + 1 :])
    elif program == "eager-lmeval":
        parsed(_parser(), words[1:])
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text()
        targets = re.findall(r"^([\w-]+):", makefile, re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), words
        variables = {word.partition("=")[0] for word in words[1:] if "=" in word}
        assert all(re.search(rf"\$[({{]\w*\s*{variable}\b", makefile) for variable in variables), words
    elif program == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).is_file(), words


def check_harness_command(words: list[str]) -> None:
    given = parsed(HarnessCLI()._parser, words)
    of_model = MODEL_ARGUMENTS | (VLLM_ARGUMENTS if given.model == "eager-vllm" else set())
    for arguments, known in ((given.model_args, of_model), (given.gen_kwargs, GENERATION_ARGUMENTS)):
        assert set(arguments or {}) <= known, f"{words}: {set(arguments) - known} are no options"


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace:
    try:
        return parser.parse_args(words)
    except SystemExit as error:
        raise AssertionError(f"{parser.prog} does not take {words}") from error


def table_rows(page: str, heading: str) -> list[list[str]]:
    """Cells of the first table whose first heading is ``heading``; several tables with it are one."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(f"| {heading} |")]
    rows = []
    for start in starts:
        for line in lines[start + 2 :]:
            if not line.startswith("|"):
                break
            rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    assert rows, f"{page} has no table of {heading}"
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_option_is_in_the_table_with_its_default() -> None:
    told = {name: row[1].strip("`") for row in table_rows("docs/options.md", "option") for name in names(row[0])}
    assert set(told) == set(Options.model_fields)
    for name, default in told.items():
        real = Options.model_fields[name].default
        assert default == ("none" if real in (None, ()) else str(real)), name


def test_every_flag_of_the_harness_is_in_the_table() -> None:
    subcommands = next(
        action for action in HarnessCLI()._parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    flags = {flag for action in subcommands.choices["run"]._actions for flag in action.option_strings}
    told = {name for row in table_rows("docs/harness.md", "flag") for name in names(row[0])}
    assert {flag for flag in flags if flag.startswith("--")} <= told


def test_every_metric_is_in_the_table() -> None:
    told = {name for row in table_rows("docs/results.md", "metric") for name in names(row[0])}
    real = {name.replace("@7", "@k").replace("^7", "^k") for name in metrics(Rules(ks=(7,)))}
    errors = ("_stderr", "_ci95", "_stderr_sampling")
    assert {name for name in real if not name.endswith(errors)} <= told
    assert told - {f"X{error}" for error in errors} <= real


def definitions(path: Path) -> set[str]:
    """What a module defines, methods and attributes of its classes as ``Class.name``."""

    def of(body: Iterable[ast.stmt], prefix: str) -> Iterable[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from of(node.body, f"{node.name}.")
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            yield from (prefix + target.id for target in targets if isinstance(target, ast.Name))

    return set(of(ast.parse(path.read_text(encoding="utf-8")).body, ""))


def test_the_architecture_names_files_and_functions_that_exist() -> None:
    package = ROOT / "eager_lmeval"
    everything = {name for path in package.rglob("*.py") for name in definitions(path)}
    named = 0
    for span in code_spans(ROOT / "ARCHITECTURE.md"):
        path, _, name = span.partition(":")
        found = [base / path for base in (package, ROOT) if (base / path).exists()]
        if "/" in path or path.endswith(".py") or name:
            assert found, f"{span}: no such file"
        if name:
            assert name in definitions(found[0]), f"{span}: no such name"
            named += 1
        elif not found and re.fullmatch(r"[A-Z]\w+", span):
            assert span in everything | {"Instance"}, f"{span}: no such class"
    assert named > 30


def test_every_room_is_on_the_map() -> None:
    rooms = {f"{path.parent.name}/" for path in (ROOT / "eager_lmeval").glob("*/__init__.py")}
    assert rooms <= set(code_spans(ROOT / "ARCHITECTURE.md"))


@pytest.mark.slow("needs the extra docs; `make docs`, which CI runs, is as strict")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert "generate_until" in (tmp_path / "api.html").read_text(encoding="utf-8"), "docstrings reach the API page"
