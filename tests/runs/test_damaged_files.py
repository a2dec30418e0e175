"""Whatever stands in a run's files, a command ends with a status of its own and at most one line of error."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from run_files import results_file, samples_file, tree_record, write_run
from tiers import sized

from eager_lmeval.commands.cli import main

TREES = [
    tree_record(["\\boxed{1}", "\\boxed{2}"], {1: (0, 7)}),
    tree_record(["\\boxed{3}"]),
    tree_record(["<think>a</think>\\boxed{3}", "<think>b"], finish="length"),
]
METRICS = {"pass@max": [1.0, 0.0, 1.0], "tokens": [18.0, 9.0, 34.0]}
VALUES = [
    *(None, True, 0, 1, -1, 7, 1.5, 1e308, 10**400, float("nan"), float("inf"), "", "x", "a/b", "\x00", "null"),
    *([], {}, [None], [[]], {"a": 1}, [1, 2], ["math"], 2**53, "oracle", "code", "eager"),
]


def damage(folder: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    path = results_file(folder) if file == "results" else samples_file(folder)
    path.write_bytes(change(path.read_bytes()))


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every value below a JSON value; of a long list the first two."""
    entries = node.items() if isinstance(node, dict) else enumerate(node[:2]) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(document: Any, place: tuple[Any, ...], value: Any, gone: bool) -> Any:
    document = copy.deepcopy(document)
    node = document
    for key in place[:-1]:
        node = node[key]
    if gone:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return document


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def status_and_error(*arguments: str | Path) -> tuple[int, list[str]]:
    """How a command ends; warnings of libraries and of ours stand on stderr as they would for a user."""
    err = io.StringIO()
    handler = logging.StreamHandler(err)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("always")
            try:
                status = main([*map(str, arguments)])
            except SystemExit as stop:
                status = int(stop.code or 0)
    finally:
        root.removeHandler(handler)
    remarks = ("note: ", "a document is left unscored: ")
    return status, [line for line in err.getvalue().splitlines() if not line.startswith(remarks)]


def check_all(folder: Path, whole: Path) -> None:
    for command in (
        ["report", folder, "--format", "markdown"],
        ["report", folder, "-o", folder / "page.html"],
        ["compare", whole, folder, "--max-drop", "pass@max=0.1"],
        ["compare", folder, whole, "--allow-different"],
        ["calibrate", folder],
        ["rescore", samples_file(folder), "-o", folder / "again"],
    ):
        status, lines = status_and_error(*command)
        assert status in (0, 1, 2, 3), command
        if status == 2:
            assert lines[0].startswith(f"eager-lmeval {command[0]}: "), (command, lines)
            listed = [line for line in lines[1:] if line.startswith("  ") or "--allow-different" in line]
            assert lines[1:] == listed, (command, lines)  # compare lists in what the runs differ
            assert not listed or lines[0].endswith("the runs differ in more than the model:"), (command, lines)
        else:
            assert not lines, (command, lines)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("whole"), METRICS, records=TREES)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path, METRICS, records=TREES)


def test_an_undamaged_run_is_read_by_all(whole: Path, run: Path) -> None:
    for command in commands_on(run, whole):
        assert status_and_error(*command) == (0, []), command


@settings(max_examples=sized(30, 120), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_and_no_missing_field_anywhere_ends_in_a_traceback(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = write_run(tmp_path_factory.mktemp("run"), METRICS, records=TREES)
    kind = data.draw(st.sampled_from(["results", "sample", "tree"]))
    value, gone = data.draw(st.sampled_from(VALUES)), data.draw(st.booleans())
    if kind == "results":
        content = json.loads(results_file(folder).read_bytes())
        place = data.draw(st.sampled_from(sorted(places(content), key=str)))
        damage(folder, "results", lambda _: dumped(changed(content, place, value, gone)))
    else:
        samples = [json.loads(line) for line in samples_file(folder).read_bytes().splitlines()]
        number = data.draw(st.integers(0, len(samples) - 1))
        if kind == "sample":
            place = data.draw(st.sampled_from(sorted(places(samples[number]), key=str)))
            samples[number] = changed(samples[number], place, value, gone)
        else:
            place = data.draw(st.sampled_from(sorted(places(TREES[number]), key=str)))
            samples[number]["filtered_resps"] = [json.dumps(changed(TREES[number], place, value, gone))]
        damage(folder, "samples", lambda _: b"".join(dumped(sample) + b"\n" for sample in samples))
    check_all(folder, whole)


@settings(max_examples=sized(12, 40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(["results", "samples"]),
    at=st.floats(0, 1),
    gone=st.sampled_from([0, 1, 50, 10**9]),
    new=st.sampled_from([b"", b"\xff", b"\n", b'"', b"\x00", b"}", b"[" * 5000, b"1e999", b'"\\ud800"']),
)
def test_no_damaged_byte_ends_in_a_traceback(
    whole: Path, tmp_path_factory: pytest.TempPathFactory, file: str, at: float, gone: int, new: bytes
) -> None:
    folder = write_run(tmp_path_factory.mktemp("run"), METRICS, records=TREES)

    def change(content: bytes) -> bytes:
        start = int(at * len(content))
        return content[:start] + new + content[start + gone :]

    damage(folder, file, change)
    check_all(folder, whole)


def with_trees(folder: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replaces every tree of a run by a changed one."""
    samples = [json.loads(line) for line in samples_file(folder).read_bytes().splitlines()]
    for sample in samples:
        sample["filtered_resps"] = [json.dumps(change(json.loads(sample["filtered_resps"][0])))]
    damage(folder, "samples", lambda _: b"".join(dumped(sample) + b"\n" for sample in samples))


def commands_on(folder: Path, whole: Path) -> list[list[str | Path]]:
    return [
        ["report", folder, "--format", "markdown"],
        ["compare", whole, folder],
        ["calibrate", folder],
        ["rescore", samples_file(folder), "-o", folder / "again"],
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:-1], f"holds {len(TREES) - 1} of {len(TREES)} documents"),
        (lambda lines: [*lines[:-1], lines[0]], "document 0 comes for the second time"),
        (lambda lines: [*lines[:-1], lines[-1][:-20]], "cut short"),
        (lambda lines: [], "holds no samples"),
        (lambda lines: [b"5\n"], ":1 is no whole sample"),
        (lambda lines: [b"\xff\xfe\x00"], ":1 is no text in UTF-8"),
        (lambda lines: [b'{"doc": {"question": "?"}, "filtered_resps": ["5"]}'], "doc_id: field required"),
    ],
)
def test_samples_that_are_not_whole_are_refused_by_all(
    whole: Path, run: Path, change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    damage(run, "samples", lambda content: b"".join(change(content.splitlines(keepends=True))))
    for command in commands_on(run, whole):
        status, (line,) = status_and_error(*command)
        assert status == 2
        assert said in line


def test_results_that_were_cut_short_are_refused(whole: Path, run: Path) -> None:
    damage(run, "results", lambda content: content[:100])
    for command in (["report", run, "--format", "markdown"], ["compare", whole, run], ["calibrate", run]):
        status, (line,) = status_and_error(*command)
        assert status == 2
        assert "cut short" in line


def test_a_tree_of_an_unknown_record_format_is_refused_by_all(whole: Path, run: Path) -> None:
    with_trees(run, lambda tree: tree | {"format": 99})
    for command in commands_on(run, whole):
        status, (line,) = status_and_error(*command)
        assert status == 2
        assert "record format 99, and this eager_lmeval" in line


def test_trees_whose_sequences_count_copies_are_read_by_all(whole: Path, run: Path) -> None:
    """Record format 2: a path names the token that a child took, too."""

    def as_format_2(tree: dict[str, Any]) -> dict[str, Any]:
        for sequence in tree["sequences"]:
            of_root = [one for one in tree["sequences"] if one["path"][0] == sequence["path"][0]]
            sequence["copies"] = tree["max_sequences"] // len(of_root)
            if sequence["branch_at"] is not None:
                sequence["path"] = [*sequence["path"], sequence["token_ids"][0]]
        return tree | {"format": 2}

    with_trees(run, as_format_2)
    for command in commands_on(run, whole):
        assert status_and_error(*command) == (0, []), command


def with_child(tree: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**tree, "sequences": [*tree["sequences"][:-1], {**tree["sequences"][-1], **fields}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree | {"sequences": []}, "sequences: list should have at least 1 item"),
        (lambda tree: {**tree, "sequences": [{**tree["sequences"][0], "weight": None}]}, "sequences.0.weight"),
        (lambda tree: tree | {"num_sequences": 9}, "says num_sequences=9, and its sequences 2"),
        (lambda tree: tree | {"tokens": 1}, "says tokens=1, and its sequences 11"),
        (lambda tree: {**tree, "sequences": [tree["sequences"][0]] * 2}, "two sequences with one path"),
        (lambda tree: {**tree, "sequences": tree["sequences"][::-1]}, "comes from no sequence before it"),
        (lambda tree: with_child(tree, token_ids=[-1, 2]), "token_ids.0: input should be greater than or equal to 0"),
        (lambda tree: with_child(tree, token_ids=[50.0, 2]), "token_ids.0: input should be a valid integer"),
        (lambda tree: with_child(tree, token_ids=[50, True]), "token_ids.1: input should be a valid integer"),
        (lambda tree: with_child(tree, token_ids=[50]), "and 1 of its own"),
        (lambda tree: with_child(tree, answer_at=99), "an answer at 99 of a text of 9 characters"),
        (lambda tree: with_child(tree, answer_at=-1), "answer_at"),
        (lambda tree: with_child(tree, weight=0.25), "the weights of root 0 sum to 0.75"),
        (lambda tree: with_child(tree, copies=1), "does not say it left its parent"),
        (lambda tree: with_child(tree, copies=-5), "copies"),
    ],
)
def test_what_is_wrong_with_a_tree_is_said_with_its_line(
    whole: Path, run: Path, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    trees = iter([change(TREES[0]), *TREES[1:]])
    with_trees(run, lambda _: next(trees))
    for command in commands_on(run, whole):
        status, (line,) = status_and_error(*command)
        assert status == 2
        assert f"{samples_file(run)}:1" in line
        assert said in line


def test_json_that_a_model_wrote_is_no_tree(whole: Path, tmp_path: Path) -> None:
    written: list[Any] = [{"sequences": 5}, {"format": 99}, [1]]
    run = write_run(tmp_path, METRICS, records=written)
    assert status_and_error("report", run, "--format", "markdown") == (0, [])
    assert status_and_error("compare", whole, run) == (0, [])


def test_a_task_whose_samples_the_harness_could_not_write_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, METRICS)
    damage(run, "results", lambda content: content.replace(b"toy_task", b"org/toy_task"))
    for command in (["report", run, "-o", tmp_path / "page.html"], ["compare", run, run], ["calibrate", run]):
        status, lines = status_and_error(*command)
        assert status == 2
        assert len(lines) == 1
        assert "task 'org/toy_task'" in lines[0]
        assert "cannot write a file of that name" in lines[0]
