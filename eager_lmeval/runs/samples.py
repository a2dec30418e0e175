"""Samples files, `samples_TASK_DATE.jsonl`: what the harness logs of each document, read and checked in one place.

`report`, `compare`, `calibrate`, `sweep` and `rescore` all read them through `read_samples`. Knows no folders of runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import NotRequired, TypedDict  # pydantic does not take those of `typing` before Python 3.12

from eager_lmeval import __version__
from eager_lmeval.algorithm.claims import MOST_TOKEN, Claim, require_tree
from eager_lmeval.algorithm.tree import READABLE_FORMATS
from eager_lmeval.errors import UsageError, problem
from eager_lmeval.pools.response import TREE

__all__ = [
    "AS_LOGGED",
    "DAMAGED",
    "Count",
    "Finite",
    "Logged",
    "LoggedSequence",
    "LoggedTree",
    "Sample",
    "as_number",
    "read_samples",
]

AS_LOGGED = ConfigDict(extra="allow", strict=True)
"""Of what others may add to: unknown fields stay, and no type is taken for another."""

Finite = Annotated[float, Field(allow_inf_nan=False)]
Nats = Annotated[float, Field(allow_inf_nan=False, ge=-1, le=1000)]
"""An entropy; the bounds only keep out what no model gives."""
Share = Annotated[float, Field(allow_inf_nan=False, ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
"""What a float holds exactly."""


class LoggedSequence(TypedDict):
    """A sequence of a tree as `Tree.to_record` writes it; of a model without trees its text, path and weight alone."""

    path: Annotated[list[Count], Field(min_length=1)]
    text: str
    answer_at: NotRequired[Count | None]
    weight: Annotated[Finite, Field(ge=0, le=1.001)]
    start: NotRequired[Count]
    finish: NotRequired[Literal["stop", "length", "cut"] | None]
    num_tokens: NotRequired[Count | None]
    branch_at: NotRequired[Count | None]
    branch_entropy: NotRequired[Nats | None]
    branch_logprob: NotRequired[float | None]
    mean_entropy: NotRequired[Nats | None]
    logprob: NotRequired[float | None]
    copies: NotRequired[Count | None]
    token_ids: NotRequired[list[Annotated[int, Field(ge=0, lt=MOST_TOKEN)]]]
    entropies: NotRequired[list[Nats]]
    token_chars: NotRequired[list[Count] | None]
    likeliest: NotRequired[list[tuple[Count, Share, Share]]]


class LoggedTree(TypedDict):
    """A tree's record (`Tree.to_record`) with what its run and its task's scoring add to it."""

    __pydantic_config__ = AS_LOGGED  # type: ignore[misc]  # pydantic's way to configure a TypedDict, and those in it

    format: NotRequired[Count]
    num_sequences: Count
    num_branches: Count
    num_roots: Count
    tokens: Count | None
    tokens_independent: NotRequired[Count | None]
    prompt_tokens: NotRequired[Count | None]
    prefill_tokens: NotRequired[Count | None]
    labels_used: bool
    sequences: Annotated[list[LoggedSequence], Field(min_length=1)]
    scoring: dict[str, Any]
    strategy: NotRequired[str]
    max_sequences: NotRequired[Count]
    entropy_threshold: NotRequired[Finite | None]
    temperature: NotRequired[Finite | None]
    rate_roots: NotRequired[Count | None]
    rounds: NotRequired[Count | None]
    settled: NotRequired[bool | None]
    settled_time: NotRequired[Count | None]
    seed: NotRequired[int]


class Logged(TypedDict):
    """One line of a samples file; its metrics are fields beside these, named in ``metrics``."""

    __pydantic_config__ = AS_LOGGED  # type: ignore[misc]  # as above

    doc_id: Count
    doc: Any
    target: NotRequired[Any]
    arguments: NotRequired[Any]
    resps: NotRequired[list[Any]]
    filtered_resps: Annotated[list[Any], Field(min_length=1)]
    filter: str
    metrics: list[str]
    doc_hash: str


@dataclass(frozen=True)
class Sample:
    """One document under one filter."""

    where: str
    """File and line, as errors begin."""
    logged: Logged
    tree: LoggedTree | None
    """None for a task or a model that leaves none."""

    @property
    def values(self) -> dict[str, Any]:
        """The metrics by name; UsageError where one has no value."""
        fields: dict[str, Any] = {**self.logged}
        for name in self.logged["metrics"]:
            if name not in fields:
                raise UsageError(f"{self.where}: the sample names the metric {name!r} and has no value of it")
        return {name: fields[name] for name in self.logged["metrics"]}

    @property
    def column(self) -> dict[str, Any]:
        """What the document's column `eager` holds; empty where it has none."""
        doc = self.logged["doc"]
        column = doc.get("eager") if isinstance(doc, dict) else None
        return column if isinstance(column, dict) else {}

    @property
    def prompt(self) -> str:
        """The prompt as the model saw it; empty where it was not logged."""
        arguments: Any = self.logged.get("arguments")
        if isinstance(arguments, Mapping):
            arguments = [list(request.values()) for request in arguments.values() if isinstance(request, Mapping)]
        try:
            prompt = arguments[0][0]  # a list of requests, or nothing of the kind
        except (IndexError, KeyError, TypeError):
            prompt = ""
        return prompt if isinstance(prompt, str) else str(prompt)

    @property
    def responses(self) -> list[str]:
        """The texts that the harness logged, of a task that leaves no tree."""
        logged: Any = (self.logged.get("resps") or [[]])[0]
        return [str(text) for text in (logged if isinstance(logged, list) else [logged])]


DAMAGED = "the file was cut short or damaged, or is no samples file; run lm_eval with --log_samples again"
LARGEST = 1e100
"""Metrics from here on are taken for undefined."""
_LOGGED, _TREE = TypeAdapter(Logged), TypeAdapter(LoggedTree)


def read_samples(path: Path, documents: int | None) -> Iterator[Sample]:
    """The samples of a task, one a document and filter, in the file's order.

    UsageError for what is no samples file, damaged or of an unknown format; where a document stands twice; and, at the
    end, where there are not as many ``documents`` (None: not known how many there should be) under every filter.
    """
    seen: Counter[str] = Counter()
    documents_seen: set[tuple[str, int]] = set()
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            sample = _read(f"{path}:{number}", line)
            name, doc_id = sample.logged["filter"], sample.logged["doc_id"]
            if (name, doc_id) in documents_seen:
                raise UsageError(f"{sample.where}: document {doc_id} comes for the second time; run lm_eval again")
            documents_seen.add((name, doc_id))
            seen[name] += 1
            yield sample
    if not seen:
        raise UsageError(f"{path} holds no samples; run lm_eval with --log_samples again")
    if documents is not None and any(count != documents for count in seen.values()):
        raise UsageError(
            f"{path} was cut short: it holds {min(seen.values())} of {documents} documents; run lm_eval again"
        )


def as_number(value: Any) -> float | None:
    """A metric's value; NaN where it is undefined or too large to take variances of, None where it is no number."""
    if value is None:
        return math.nan
    if not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST else math.nan


def _read(where: str, line: bytes) -> Sample:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is no text in UTF-8 ({error.reason}); {DAMAGED}") from error
    try:
        logged = _LOGGED.validate_json(line)
    except ValidationError as error:
        raise UsageError(f"{where} is no whole sample ({problem(error)}); {DAMAGED}") from error
    response = {**logged}.get(TREE, logged["filtered_resps"][0])
    try:
        tree = _tree(response) if isinstance(response, str) and response.startswith("{") else None
    except ValidationError as error:
        raise UsageError(f"{where} holds a damaged tree ({problem(error)}); {DAMAGED}") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    if tree is None and "labels_used" in logged["metrics"]:  # what only a tree's scoring gives
        raise UsageError(f"{where} holds no whole tree, though it was scored from one; {DAMAGED}")
    return Sample(where, logged, tree)


def _tree(text: str) -> LoggedTree | None:
    """The tree in a response; None for a text, which may be JSON too. UsageError, ValidationError for a damaged one."""
    try:
        tree = _TREE.validate_json(text)
    except ValidationError:
        if not _is_tree(text):
            return None
        raise
    _require_readable(tree)
    _check(tree)
    return tree


def _is_tree(text: str) -> bool:
    """Whether a text that is no whole tree was one; UsageError if it is of another format."""
    try:
        found = from_json(text)
    except ValueError:
        return False
    if not isinstance(found, dict) or not {"sequences", "scoring"} <= found.keys():
        return False
    _require_readable(found)
    return True


def _require_readable(tree: Mapping[str, Any]) -> None:
    number = tree.get("format")
    if number is not None and number not in READABLE_FORMATS:  # texts of a model without trees have none
        known = " and ".join(map(str, READABLE_FORMATS))
        raise UsageError(
            f"the tree is of record format {number!r}, and this eager_lmeval {__version__} reads {known}; "
            f"use the release that wrote it"
        )


def _check(tree: LoggedTree) -> None:
    """UsageError for sequences that do not make a tree, and for sums that are not theirs."""
    claims = list(map(Claim.read, tree["sequences"]))
    try:
        require_tree(claims, of_prompt=True)
    except ValueError as error:
        raise UsageError(f"the tree does not hold together: {error}; {DAMAGED}") from error
    for name, said, found in _sums(tree, claims):
        if said != found:
            raise UsageError(f"the tree says {name}={said}, and its sequences {found}; {DAMAGED}")


def _sums(tree: LoggedTree, claims: Sequence[Claim]) -> Iterator[tuple[str, Any, Any]]:
    """What the tree says of all its sequences, and what they come to."""
    roots = [claim.path[0] for claim in claims if claim.branch_at is None]
    known = all(claim.num_tokens is not None for claim in claims)
    lengths = [claim.num_tokens or 0 for claim in claims]
    own = [length - claim.own_from for length, claim in zip(lengths, claims, strict=True)]
    yield "num_sequences", tree["num_sequences"], len(claims)
    yield "num_branches", tree["num_branches"], len(claims) - len(roots)
    yield "num_roots", tree["num_roots"], len(roots)
    yield "roots in order", roots, list(range(len(roots)))
    yield "tokens", tree["tokens"], sum(own) if known else None
    if "tokens_independent" in tree:
        yield "tokens_independent", tree["tokens_independent"], sum(lengths) if known else None
    if (rate_roots := tree.get("rate_roots")) is not None:
        yield "rate_roots", rate_roots, min(max(1, rate_roots), len(roots))
    if "settled" in tree and "settled_time" in tree and tree["settled"] is not None:
        yield "settled", tree["settled"], tree["settled_time"] is not None
    for place, (sequence, number) in enumerate(zip(tree["sequences"], own, strict=True)):
        chars = sequence.get("token_chars")
        if chars is not None and known:
            yield f"sequences.{place}.token_chars", len(chars), number
            yield f"sequences.{place}.token_chars", sum(chars) > len(sequence["text"]), False
    if claims[0].copies is not None and tree.get("strategy") in ("init", "adapt", "eager"):
        first = sum(claim.copies or 0 for claim in claims if claim.path[0] == 0)
        yield "max_sequences", tree.get("max_sequences", first), first
