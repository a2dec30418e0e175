"""The journal (SPEC 9): what was grown is kept, prompt by prompt, so that a killed run loses what was in flight alone.

A folder of JSONL files, one a process and run; docs/long-runs.md describes them. The journal knows prompts by keys and
what was grown of them by names that its users choose; it does not know what a strategy is.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import socket
import time
import uuid
import zlib
from collections.abc import Collection, Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from eager_lmeval.algorithm.claims import parent_path
from eager_lmeval.algorithm.tree import Prompt, Sequence, Tree
from eager_lmeval.errors import UsageError, problem
from eager_lmeval.journal.parts import fits

__all__ = ["FORMAT", "Journal", "Record", "fingerprint"]

FORMAT = 2
"""Version of the records; those of another one are left alone."""

LOCK = "lock"

log = logging.getLogger(f"lm_eval.{__name__}")  # the harness shows the loggers below its own


class Record(NamedTuple):
    """What was grown of one prompt in one go."""

    sequences: list[Sequence]
    prefill_tokens: int
    settled_time: int | None = None
    """Of a race, when its vote was settled."""


def fingerprint(what: Mapping[str, Any]) -> str:
    """The key of everything that determines a result; ``what`` is plain JSON data."""
    text = json.dumps({"format": FORMAT} | dict(what), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:32]


class Journal:
    """A folder that one run writes at a time; its ranks share it, and rank 0 holds the lock.

    Raises UsageError, in one line, when the folder cannot be used; that is found out before a model is loaded.
    """

    def __init__(self, folder: str | Path, rank: int = 0, about: Mapping[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self._rank = rank
        self._about = dict(about or {})
        self._own = f"rank{rank:03d}-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file: FileIO | None = None
        self._held: set[str] = set()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.folder / LOCK) if rank == 0 else None
            probe = self.folder / f".{self._own}.probe"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise self._unusable(error) from error

    def files(self) -> list[str]:
        """Names of the files that are there now; a folder or a pipe of such a name is left alone, and said."""
        try:
            paths = sorted(path for path in self.folder.iterdir() if path.name.endswith(".jsonl"))
        except OSError as error:
            raise self._unusable(error) from error
        for path in paths:
            if not path.is_file():
                log.warning("journal %s: this is no file, and no journal's; it is left alone", path)
        return [path.name for path in paths if path.is_file()]

    def mark(self) -> str:
        """Puts an empty file into the folder, so that others can tell whether theirs is the same; returns its name."""
        name = f".{self._own}.mark"
        (self.folder / name).touch()
        return name

    def holds(self, mark: str) -> bool:
        return (self.folder / mark).exists()

    def unmark(self, mark: str) -> None:
        """Takes a mark away; every rank may."""
        (self.folder / mark).unlink(missing_ok=True)

    def read(
        self, names: Iterable[str], wanted: Collection[str], vocabulary: int | None = None
    ) -> dict[str, dict[str, Record]]:
        """Records of the wanted keys, by key and part; what cannot be used is left alone, and said in one line.

        Token ids of a record that can be used are below ``vocabulary``.
        """
        found: dict[str, dict[str, Record]] = {}
        others = 0
        for name in names:
            bad: list[tuple[int, str]] = []
            whole, number = True, 0
            try:
                with open(self.folder / name, "rb") as lines:
                    for number, line in enumerate(lines, start=1):
                        whole = False
                        try:
                            data = _parse(line)
                            whole = True
                            if data.get("format") != FORMAT or data.get("key") not in wanted:
                                others += "key" in data
                                continue
                            packed = _Packed.model_validate_json(_body(line))
                            record = Record(_unpack(packed, vocabulary), packed.prefill_tokens, packed.settled_time)
                        except ValueError as error:
                            said = problem(error) if isinstance(error, ValidationError) else str(error)
                            bad.append((number, said))
                            continue
                        found.setdefault(packed.key, {}).setdefault(packed.part, record)
            except OSError as error:
                raise UsageError(
                    f"journal={self.folder}: {name} cannot be read: {error.strerror or error}; make it readable, or "
                    f"take it out of the folder, then start the same command again"
                ) from error
            _warn(self.folder / name, bad, torn=[line for line, _ in bad] == [number] and not whole)
        self._held.update(found)
        if others:
            said = "journal %s: %d records are of another model, other prompts or other options; they are left alone"
            if found:
                log.info(said, self.folder, others)
            else:
                log.warning(
                    f"{said}, and none is of this run; if it is the same one, look for a chat template that prints the "
                    f"date: chat_template_args can fix it",
                    *(self.folder, others),
                )
        return found

    def append(self, key: str, part: str, prompt: Mapping[str, Any], grown: Tree) -> None:
        """Writes a record; when it returns, the record is on disk. ``prompt`` is for the reader's eye."""
        record = {
            "format": FORMAT,
            "key": key,
            "part": part,
            **prompt,
            "prefill_tokens": grown.prefill_tokens,
            **({} if grown.settled_time is None else {"settled_time": grown.settled_time}),
            "sequences": [_pack(sequence) for sequence in grown.sequences],
        }
        try:
            if self._file is None:
                self._file = (self.folder / self._own).open("xb", buffering=0)
                header = {"format": FORMAT, "rank": self._rank, "host": socket.gethostname()}
                _write(self._file, _line(header | self._about))
                _sync_names(self.folder)
            _write(self._file, _line(record))
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unusable(error) from error
        self._held.add(key)

    @property
    def prompts(self) -> int:
        """Prompts of which this process has found or written something."""
        return len(self._held)

    def close(self) -> None:
        for held in (self._file, self._lock):
            if held is not None:
                held.close()
        self._file = self._lock = None

    def _unusable(self, error: OSError) -> UsageError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        place = f" ({error.filename})" if error.filename not in (None, str(self.folder)) else ""
        remedy = "make room, or give a folder that has it" if full else "give a folder that can be read and written"
        return UsageError(
            f"journal={self.folder}: {error.strerror or error}{place}; what it holds is kept: {remedy}, then start the "
            f"same command again"
        )


class _Packed(BaseModel):
    """A record as it stands in a line; the tokens of a child begin at its fork. No type is taken for another."""

    model_config = ConfigDict(strict=True)

    key: str
    part: str
    prefill_tokens: int = Field(ge=0)
    settled_time: int | None = Field(default=None, ge=0)
    sequences: list[Sequence] = Field(min_length=1)


def _pack(sequence: Sequence) -> dict[str, Any]:
    """A sequence as JSON data; its tokens from its fork on, for those before are its parent's."""
    return vars(sequence) | {"tokens": sequence.tokens[sequence.own_from :]}


def _unpack(packed: _Packed, vocabulary: int | None) -> list[Sequence]:
    """The sequences with all of their tokens; ValueError where they are no tree, or not what the part's name says."""
    sequences: dict[tuple[int, ...], Sequence] = {}
    for one in packed.sequences:
        parent = None if one.branch_at is None else sequences.get(parent_path(one.path, one.branch_at))
        shared = [] if parent is None else parent.tokens[: max(0, one.branch_at or 0)]
        if one.path in sequences:
            raise ValueError(f"two sequences with one path, {list(one.path)}")
        sequences[one.path] = replace(one, tokens=[*shared, *one.tokens])
    Tree(Prompt(0, "", "", []), list(sequences.values())).check_integrity(vocabulary)
    for one in sequences.values():
        if (one.answer_from is None) != (one.answer_at is None) or not 0 <= (one.answer_from or 0) <= len(one.tokens):
            raise ValueError(f"sequence {list(one.path)} has answer_from={one.answer_from}, answer_at={one.answer_at}")
    if not fits(packed.part, packed.sequences):
        raise ValueError(f"it is not what is called {packed.part!r}")
    return list(sequences.values())


def _line(record: Mapping[str, Any]) -> bytes:
    """One line: the record with a checksum of everything before it as its last field."""
    body = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf-8")[:-1]
    return body + b',"crc32":%d}\n' % zlib.crc32(body)


def _write(file: FileIO, line: bytes) -> None:
    """All of it: a disk that fills up takes a part before it raises an error."""
    left = memoryview(line)
    while left:
        left = left[file.write(left) :]


def _sync_names(folder: Path) -> None:
    """Puts the names of a folder's files on disk, where the system can do that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _parse(line: bytes) -> dict[str, Any]:
    """Raises ValueError for a line that is not whole."""
    body, found, check = line.rpartition(b',"crc32":')
    if not found or not check.endswith(b"}\n") or int(check[:-2]) != zlib.crc32(body):
        raise ValueError("the checksum does not fit")
    data = from_json(_body(line))
    if not isinstance(data, dict) or not isinstance(data.get("key", ""), str):
        raise ValueError("no record and no header")
    return data


def _body(line: bytes) -> bytes:
    return line.rpartition(b',"crc32":')[0] + b"}"


def _warn(path: Path, bad: Seq[tuple[int, str]], torn: bool) -> None:
    """Says in one line what of a file cannot be read, and why not."""
    if not bad:
        return
    if torn:
        log.warning("journal %s: the last line is torn, as a killed run leaves it; it is ignored", path)
    else:
        numbers = ", ".join(str(number) for number, _ in bad[:5]) + (", …" if len(bad) > 5 else "")
        reason = f"({'the first: ' if len(bad) > 1 else ''}{bad[0][1]})"
        log.warning("journal %s: line %s cannot be read %s; what it held is generated again", path, numbers, reason)


def _lock(path: Path) -> IO[str] | None:
    """Takes the folder for this process until it ends, however it ends. Raises UsageError when another one has it.

    A record lock, because unlike flock's it is not inherited by worker processes that may outlive a killed run.
    """
    try:
        import fcntl
    except ImportError:
        log.warning("journal %s: there are no file locks here; make sure that only one run uses it", path.parent)
        return None
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        handle.seek(0)
        holder = handle.read().strip() or "another process"
        handle.close()
        raise UsageError(
            f"journal={path.parent} is in use by {holder}; wait for that run, or give this one another folder"
        ) from error
    except OSError as error:
        log.warning("journal %s: it cannot be locked (%s); make sure that only one run uses it", path.parent, error)
        return handle
    handle.truncate(0)
    handle.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    handle.flush()
    return handle
