"""The journal gives back what it was given; a damaged file, a full disk or a second run loses nothing else."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.journal.journal import FORMAT, Journal, fingerprint
from eager_lmeval.lm import EagerLM

PROMPT = Prompt(0, "some_task", "context", [5, 6])
NATS = st.floats(0, 20)


def some_tree() -> Tree:
    root = Sequence((0,), [3], copies=3, weight=0.75, text="a\u2028b", entropies=[0.1, 1 / 3, 0.0], logprob=-2.5)
    root.entropy_sum = 0.1
    child = root.fork((0, 1, 2), token=2, entropy=1 / 3, logprob=-0.1)
    root.tokens += [1, 0]
    root.entropy_sum += 1 / 3
    child.tokens.append(0)
    child.entropies.append(0.25)
    child.entropy_sum += 0.25
    root.finish = "stop"
    child.copies, child.weight = 1, 0.25
    child.finish, child.text, child.answer_at, child.answer_from = "length", "ä\n\r", None, None
    return Tree(PROMPT, [root, child], prefill_tokens=2)


def read_all(folder: Path, *keys: str) -> dict[str, Any]:
    journal = Journal(folder)
    read = journal.read(journal.files(), set(keys), vocabulary=40)
    journal.close()
    return read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal with three records of one key each."""
    journal = Journal(tmp_path / "journal", about={"model": "demo"})
    for key in ("first", "second", "third"):
        journal.append(key, "tree", {"task": "some_task", "doc_id": 1}, some_tree())
    journal.close()
    return tmp_path / "journal"


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.jsonl")
    return path


# The file.


def test_what_was_appended_is_read_again_to_the_last_digit(folder):
    record = read_all(folder, "second")["second"]["tree"]
    assert record.sequences == some_tree().sequences
    assert record.prefill_tokens == 2


@settings(deadline=None)  # every example syncs a disk
@given(numbers=st.lists(NATS, min_size=1, max_size=4), text=st.text(st.characters(exclude_categories=["Cs"])))
def test_floats_and_texts_survive_the_file(tmp_path_factory, numbers, text):
    root = Sequence((0,), [0] * len(numbers), finish="stop", text=text, entropies=numbers, logprob=-numbers[0])
    root.entropy_sum = math.fsum(numbers)
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder)
    journal.append("key", "tree", {}, Tree(PROMPT, [root]))
    assert journal.read(journal.files(), {"key"})["key"]["tree"].sequences == [root]
    journal.close()


def test_every_line_is_plain_json_with_the_format_version(folder):
    lines = [json.loads(line) for line in only_file(folder).read_text(encoding="utf-8").split("\n")[:-1]]
    assert [line["format"] for line in lines] == [FORMAT] * 4
    assert lines[0]["model"] == "demo"
    assert [line["key"] for line in lines[1:]] == ["first", "second", "third"]
    assert lines[1]["sequences"][1]["tokens"] == [2, 0], "a child's tokens begin at its fork"


@pytest.mark.parametrize("kept", range(1, 40, 6))
def test_a_torn_last_line_is_ignored_with_a_warning(folder, caplog, kept):
    whole = only_file(folder).read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    only_file(folder).write_bytes(whole[: last + kept])
    assert set(read_all(folder, "first", "second", "third")) == {"first", "second"}
    assert caplog.text.count("the last line is torn") == 1


def test_a_whole_last_line_that_is_no_record_is_not_called_torn(folder, caplog):
    last = only_file(folder).read_bytes().splitlines()[-1]
    with only_file(folder).open("ab") as file:
        file.write(forged(last, lambda _: {"format": FORMAT, "key": "fourth"}))
    assert "fourth" not in read_all(folder, "first", "fourth")
    assert "torn" not in caplog.text
    assert "line 5 cannot be read" in caplog.text


@pytest.mark.parametrize("damage", [b"x", b"\n", b"\xff", b'"'])
def test_a_damaged_line_in_the_middle_loses_that_line_alone(folder, caplog, damage):
    whole = only_file(folder).read_bytes()
    middle = whole.index(b'"second"') + 40
    only_file(folder).write_bytes(whole[:middle] + damage + whole[middle:])
    assert set(read_all(folder, "first", "second", "third")) == {"first", "third"}
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "the checksum does not fit); what it held is generated again" in warning


def test_a_digit_that_flipped_is_noticed(folder):
    path = only_file(folder)
    path.write_bytes(path.read_bytes().replace(b'"weight":0.75', b'"weight":0.76', 1))
    assert set(read_all(folder, "first", "second", "third")) == {"second", "third"}


def test_records_of_other_keys_are_left_alone_and_counted(folder, caplog):
    before = only_file(folder).read_bytes()
    with caplog.at_level("INFO", logger="lm_eval"):
        assert read_all(folder, "another") == {}
    assert "3 records are of another model, other prompts or other options; they are left alone" in caplog.text
    assert "a chat template that prints the date" in caplog.text, "as where the same run finds nothing of its own"
    assert only_file(folder).read_bytes() == before


def test_a_fingerprint_depends_on_all_that_it_is_made_of():
    base = {"model": {"name": "a"}, "options": {"seed": 1}}
    others = [base | {"model": {"name": "b"}}, base | {"options": {"seed": 2}}, base | {"task": "t"}]
    assert len({fingerprint(what) for what in (base, *others)}) == 4
    assert fingerprint(base) == fingerprint(dict(reversed(base.items())))


def forged(line: bytes, change: Callable[[Any], Any]) -> bytes:
    """A line of another content with the checksum of that content."""
    data = json.loads(line)
    del data["crc32"]
    changed = change(data)
    body = json.dumps(changed).encode()[:-1]
    return body + b',"crc32":%d}\n' % zlib.crc32(body)


def in_second(**fields: Any) -> Callable[[Any], Any]:
    """A change of a record's child."""
    return lambda data: data | {"sequences": [data["sequences"][0], {**data["sequences"][1], **fields}]}


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {"format": FORMAT, "key": "second"},
        lambda data: data | {"sequences": None},
        lambda data: data | {"sequences": []},
        lambda data: data | {"sequences": ["x"]},
        lambda data: data | {"sequences": data["sequences"][1:]},
        lambda data: data | {"sequences": [data["sequences"][0]] * 2},
        lambda data: data | {"prefill_tokens": "many"},
        lambda data: data | {"part": None},
        lambda data: data | {"part": "roots 0+2"},
        lambda data: data | {"part": "roots 1+1"},
        lambda data: data | {"part": "grant 2 decay 0.8"},
        lambda data: data | {"key": ["second"]},
        in_second(tokens=[]),
        in_second(tokens=["x"]),
        in_second(tokens=[1]),  # its parent's
        in_second(branch_at=9),
        in_second(branch_entropy=None),
        in_second(finish=None),
        in_second(finish="end"),
        in_second(weight=7.0),
        in_second(path=[]),
        in_second(tokens=[-2, 0]),
        in_second(tokens=[2, 40]),  # beyond the vocabulary
        in_second(tokens=[2.0, 0]),
        in_second(tokens=[2, False]),
        in_second(copies=-1, weight=-0.5),
        in_second(copies=2),
        in_second(weight=0.5),
        in_second(answer_at=4, answer_from=1),
        in_second(answer_at=-1, answer_from=1),
        in_second(answer_from=3),
        in_second(entropies=[0.25, 0.1]),
        in_second(entropies=[-1.0]),
        in_second(entropy_sum=3.0),
        in_second(branch_entropy=0.5),
        in_second(likeliest=[[1, 0.5, 0.2]] * 2),
        in_second(likeliest=[[2, 0.2, 0.5]]),
        in_second(logprob=1.0),
        in_second(finish="cut"),
        in_second(start=0),
        lambda data: data | {"sequences": [one | {"copies": 5 - 10 * n} for n, one in enumerate(data["sequences"])]},
        lambda data: data | {"prefill_tokens": -1},
        lambda data: data | {"part": "race"},
        lambda data: data | {"part": "anything"},
    ],
)
def test_a_record_of_the_wrong_shape_and_the_right_checksum_is_left_alone(folder, caplog, change):
    lines = only_file(folder).read_bytes().splitlines(keepends=True)
    lines[2] = forged(lines[2], change)
    only_file(folder).write_bytes(b"".join(lines))
    found = read_all(folder, "first", "second", "third")
    assert set(found) == {"first", "third"}
    said = [record.message.partition("jsonl: ")[2] for record in caplog.records if record.levelname == "WARNING"]
    (reason,) = [
        re.fullmatch(r"line 3 cannot be read \((.+)\); what it held is generated again", line) for line in said
    ]
    assert reason, said


@pytest.mark.parametrize("line", [b"[]", b"5", b'"x"', b"[" * 10_000, b"{}"])
def test_a_line_that_is_no_record_and_has_the_right_checksum_is_left_alone(folder, line):
    forged_line = line + b',"crc32":%d}\n' % zlib.crc32(line)
    only_file(folder).write_bytes(only_file(folder).read_bytes() + forged_line)
    assert set(read_all(folder, "first", "third")) == {"first", "third"}


# The folder.


def test_a_folder_that_cannot_be_written_is_said_before_the_model_is_loaded(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"journal=.*: Not a directory; .*start the same command again"):
        EagerLM(pretrained="a/model/that/does/not/exist", journal=str(tmp_path / "file" / "journal"))


def test_a_folder_of_a_file_s_name_is_left_alone_and_said(folder, caplog):
    (folder / "x.jsonl").mkdir()
    os.mkfifo(folder / "y.jsonl")
    assert set(read_all(folder, "first", "second")) == {"first", "second"}
    assert [name in caplog.text for name in ("x.jsonl: this is no file", "y.jsonl: this is no file")] == [True] * 2


def test_what_is_wrong_with_the_folder_is_not_taken_for_a_full_disk(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(UsageError, match=r"Is a directory \(.*lock\); .*give a folder that can be read and written"):
        Journal(tmp_path)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing beyond it fails as it does on a full disk, after a part of the line was written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_message_and_loses_nothing_that_was_done(tmp_path, caplog):
    journal = Journal(tmp_path)
    journal.append("first", "tree", {}, some_tree())
    full = only_file(tmp_path).stat().st_size + 100
    said = r"what it holds is kept: make room, or give a folder that has it"
    with files_of_at_most(full), pytest.raises(UsageError, match=said):
        journal.append("second", "tree", {}, some_tree())
    assert only_file(tmp_path).stat().st_size == full
    journal.close()
    assert set(read_all(tmp_path, "first", "second")) == {"first"}
    assert "torn" in caplog.text


HOLD = """
import sys
from eager_lmeval.journal.journal import Journal
journal = Journal(sys.argv[1])
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_second_run_on_the_folder_is_refused_until_the_first_has_ended(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=rf"is in use by process {first.pid} on .*give this one another folder"):
            Journal(tmp_path)
        Journal(tmp_path, rank=1).close()  # another rank of the same run
    finally:
        first.kill()
        first.wait()
    Journal(tmp_path).close()
