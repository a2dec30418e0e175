"""Records whose checksums are right and whose content is not: what is read in spite of a change can be true.

Trees are grown, one value of a record is changed, and it is read again. `holds` says beside the package, number by
number, what the specification lets be true.
"""

from __future__ import annotations

import copy
import json
import math
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scripted import Script, ScriptedRunner, scripted_engine, scripted_prompt
from tiers import sized

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.errors import UsageError
from eager_lmeval.journal.journal import Journal
from eager_lmeval.pools.run import grow_pool
from eager_lmeval.runs.samples import Sample, read_samples

VOCAB = 15
COMMON = {"entropy_top_k": 5, "temperature": 1.0, "max_gen_toks": 10, "seed": 3, "max_sequences": 6}
DESIGNS: dict[str, dict[str, Any]] = {
    "top2": {"strategy": "adapt", "branching": "top2", "entropy_threshold": 1.3},
    "systematic": {"strategy": "adapt", "branching": "systematic", "entropy_threshold": 1.2},
    "parallel": {"strategy": "parallel"},
    "race": {"strategy": "consistency", "verifier": "exact", "first_lanes": 2, "settled_at": 0.6},
}
VALUES = [None, True, False, -5, -1, 0, 1, 2, 3, 5, 14, VOCAB, 2**31, 2**70, -0.1, 0.5, 1.0, 2.5, 30.0, 1e308]
VALUES += [math.nan, math.inf, "", "x", "stop", "length", "cut", [], [0], [-1], [0, 1], {}, "several tokens"]
CHANGES = st.tuples(st.integers(0, 10**6), st.sampled_from(VALUES) | st.integers(-3, 20) | st.floats(-2, 2))


@cache
def trees(design: str) -> list[Tree]:
    options = resolve(COMMON | DESIGNS[design])
    prompts = [scripted_prompt(index, options) for index in range(4)]
    engine = scripted_engine(ScriptedRunner(Script(salt="lies", vocab=VOCAB, scale=3.0, eos_bias=1.0)), options)
    classify = lambda texts: [None if text is None else len(text) % 2 for text in texts]  # noqa: E731 - classes, named
    return grow_pool(prompts, options, engine, classify=classify).trees


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(document: Any, number: int, value: Any) -> Any:
    """With another value at one of its places."""
    document = copy.deepcopy(document)
    every = sorted(places(document), key=str)
    *way, last = every[number % len(every)]
    node = document
    for key in way:
        node = node[key]
    node[last] = value
    return document


def is_count(value: Any, below: float = math.inf) -> bool:
    return type(value) is int and 0 <= value < below


def is_number(value: Any, low: float, high: float) -> bool:
    return type(value) in (int, float) and low <= value <= high


def holds(sequences: list[dict[str, Any]], whole: dict[int, float]) -> bool:
    """``tokens`` and ``entropies`` of a child begin at its fork; ``whole`` is what weights of a root sum to."""
    tokens: dict[tuple[int, ...], list[int]] = {}
    nats: dict[tuple[int, ...], list[float]] = {}
    for one in sequences:
        path, at, own = tuple(one["path"]), one["branch_at"], one["tokens"]
        shared: list[int] = []
        known: list[float] = []
        if path in tokens or not path or not all(map(is_count, path)) or not own:
            return False
        if not all(is_count(token, VOCAB) for token in own):
            return False
        if at is None:
            if len(path) != 1 or one["branch_entropy"] is not None:
                return False
        else:
            ending = 1 if one["copies"] is None else 2
            parent = path[:-ending]
            if parent not in tokens or path[-ending:] != ((at,) if ending == 1 else (at, own[0])):
                return False
            mother = next(other for other in sequences if tuple(other["path"]) == parent)
            if not (mother["branch_at"] if mother["branch_at"] is not None else -1) < at < len(tokens[parent]):
                return False
            if tokens[parent][at] == own[0] or abs(nats[parent][at] - one["branch_entropy"]) > 0.002:
                return False
            shared, known = tokens[parent][:at], [*nats[parent][:at], one["branch_entropy"]]
        tokens[path], nats[path] = [*shared, *own], [*known, *one["entropies"]]
        if not all(is_number(nat, -0.002, 26) for nat in nats[path]) or len(nats[path]) > len(tokens[path]):
            return False
        if one["answer_at"] is not None and not is_count(one["answer_at"], len(one["text"]) + 1):
            return False
        if one["copies"] is not None and (not is_count(one["copies"]) or one["copies"] == 0):
            return False
        if one["finish"] not in ("stop", "length", "cut") or not is_number(one["weight"], 0, 1.00001):
            return False
        if one["finish"] == "cut" and (one["answer_at"] is not None or one.get("start") is None):
            return False
        if (one.get("start") is None) != (sequences[0].get("start") is None) or not is_count(one.get("start") or 0):
            return False
        if (one["copies"] is None) != (sequences[0]["copies"] is None):
            return False
        for index, first, second in one["likeliest"]:
            if not is_count(index) or not (at or 0) <= index < len(tokens[path]) or first + second > 1.01:
                return False
            if not is_number(second, 0, 1) or not is_number(first, second - 0.001, 1.001):
                return False
    for root in {one["path"][0] for one in sequences}:
        own_root = [one for one in sequences if one["path"][0] == root]
        total = sum(one["weight"] for one in own_root)
        if not math.isclose(total, whole[root], rel_tol=1e-4):
            return False
        copies = [one["copies"] or 0 for one in own_root]
        if any(copies) and any(
            not math.isclose(one["weight"], total * number / sum(copies), rel_tol=1e-4)
            for one, number in zip(own_root, copies, strict=True)
        ):
            return False
    return True


def journaled(folder: Path, design: str, place: int) -> tuple[Path, str]:
    journal, part = Journal(folder), "race" if design == "race" else "tree"
    grown = trees(design)[place]
    own = [one for one in grown.sequences if design == "race" or one.path[0] == 0]
    journal.append("key", part, {}, Tree(grown.prompt, own, 2, grown.settled_time))
    journal.close()
    (file,) = folder.glob("*.jsonl")
    return file, part


@settings(max_examples=sized(300, 5000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(design=st.sampled_from(list(DESIGNS)), place=st.integers(0, 3), change=CHANGES)
def test_no_record_of_a_journal_is_read_that_cannot_be_true(
    tmp_path_factory: Any, design: str, place: int, change: tuple[int, Any]
) -> None:
    file, part = journaled(tmp_path_factory.mktemp("journal"), design, place)
    header, line = file.read_bytes().splitlines(keepends=True)
    record = json.loads(line)
    del record["crc32"]
    lie = changed(record, *change)
    body = json.dumps(lie).encode()[:-1]
    for content, is_lie in ((line, False), (body + b',"crc32":%d}\n' % zlib.crc32(body), True)):
        file.write_bytes(header + content)
        journal = Journal(file.parent)
        found = journal.read([file.name], {"key"}, VOCAB).get("key", {}).get(part)
        journal.close()
        assert is_lie or found, "what was written is read"
    if found:
        sequences = lie["sequences"]
        assert holds(sequences, dict.fromkeys(range(99), 1.0))
        assert is_count(lie["prefill_tokens"])
        assert all(
            type(one["thought_ended"]) is bool and (one["answer_from"] is None) == (one["answer_at"] is None)
            for one in sequences
        )
        assert next(one["path"][0] for one in sequences if one["branch_at"] is None) == 0


def read_one(file: Path) -> tuple[Sample | None, str]:
    """A file's only sample, or how it was refused."""
    try:
        (sample,) = read_samples(file, 1)
    except UsageError as error:
        return None, str(error)
    return sample, ""


def sampled(design: str, place: int) -> dict[str, Any]:
    tree = trees(design)[place]
    said = tree.to_record() | {"strategy": DESIGNS[design]["strategy"], "max_sequences": 6, "labels_used": False}
    return said | {"scoring": {}}


@settings(max_examples=sized(300, 5000), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(design=st.sampled_from(list(DESIGNS)), place=st.integers(0, 3), change=CHANGES)
def test_no_tree_of_a_sample_is_read_that_cannot_be_true(
    tmp_path_factory: Any, design: str, place: int, change: tuple[int, Any]
) -> None:
    tree = json.loads(json.dumps(sampled(design, place)))
    lie = changed(tree, *change)
    file = tmp_path_factory.mktemp("run") / "samples_toy_2026-01-02T03-04-05.000001.jsonl"
    about = {"doc_id": 0, "doc": {}, "filter": "none", "metrics": ["labels_used"], "doc_hash": "x"}
    for content in (tree, lie):
        file.write_text(json.dumps(about | {"filtered_resps": [json.dumps(content)]}) + "\n", encoding="utf-8")
        sample, refusal = read_one(file)
        assert sample or content is lie, refusal
    if sample is None:
        assert refusal.startswith(f"{file}:1"), "file and line"
        assert "\n" not in refusal
        return
    assert sample.tree is not None
    sequences = [one | {"tokens": [min(token, VOCAB - 1) for token in one["token_ids"]]} for one in lie["sequences"]]
    roots = lie["num_roots"]
    copies = {root: sum(one["copies"] or 0 for one in sequences if one["path"][0] == root) for root in range(roots)}
    every = sum(copies.values())
    assert holds(sequences, {root: own / every if every else 1 / roots for root, own in copies.items()})
    assert lie["num_sequences"] == len(sequences) == len(tree["sequences"])
    assert [lie[name] for name in ("num_branches", "num_roots", "tokens", "tokens_independent")] == [
        tree[name] for name in ("num_branches", "num_roots", "tokens", "tokens_independent")
    ]
    for one, before in zip(sequences, tree["sequences"], strict=True):
        assert one["num_tokens"] == before["num_tokens"]
        assert one["mean_entropy"] is None or abs(one["mean_entropy"] - before["mean_entropy"]) < 0.01
        assert one["copies"] is None or every in (sum(c["copies"] for c in tree["sequences"]),)
