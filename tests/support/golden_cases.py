"""Checks a folder of golden cases against the project: ``python tests/golden.py DIR``.

One line a file; at the first difference it names file, case, field, expected and actual value, and exits with 1. A
key or a file that it does not know is an error: nothing is skipped in silence.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scripted import Script, ScriptedRunner, scripted_engine, scripted_prompt

from eager_lmeval.algorithm.budget import share_surplus
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.race import RaceSettings, run_race
from eager_lmeval.algorithm.streams import stream_key, uniforms
from eager_lmeval.algorithm.tree import Tree
from eager_lmeval.engine.sampling import Sampling, read
from eager_lmeval.pools.run import grow_pool
from eager_lmeval.scores.metrics import Vote, consensus, pass_at_k
from eager_lmeval.scores.stats import mcnemar_mid_p

DRAWS = (0, 1, 2, 1000)
"""Which draws of a stream rng.json holds."""

RELATIVE = 1e-6
"""What two computations of one real number may differ by."""

TREE_OPTIONS = {
    "seed": "seed",
    "theta": "entropy_threshold",
    "temperature": "temperature",
    "max_tokens": "max_gen_toks",
    "k": "entropy_top_k",
    "window": "branch_window",
    "percentile": "dynamic_percentile",
    "count": "count",
    "entropy_of": "entropy_of",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
}
"""Names of options in tree.json and ours; `context`, `cap`, `branching`, `roots` and `think_end` are read apart."""

SYSTEMATIC_OPTIONS = {
    name: TREE_OPTIONS[name]
    for name in ("seed", "theta", "temperature", "max_tokens", "k", "entropy_of", "top_k", "top_p", "min_p")
} | {"copies": "max_sequences", "fan_out": "fan_out"}
"""Names of options in systematic.json and ours; `context` and `think_end` are read apart."""

largest_deviation: dict[str, float] = {}
"""By field, the largest relative deviation of a real number seen so far."""


class Difference(Exception):
    """A case whose outcome is not the golden one, or that cannot be read."""


def check_rng(case: Mapping[str, Any]) -> None:
    keys_are(case, {"seed", "task", "context", "path", "key", "u"})
    key = stream_key(case["seed"], case["task"], case["context"], tuple(case["path"]))
    same("key", case["key"], f"{key:016x}")
    draws = uniforms(np.full(len(DRAWS), key, dtype=np.uint64), np.array(DRAWS, dtype=np.uint64))
    same("u", case["u"], draws.tolist())


def check_entropy(case: Mapping[str, Any]) -> None:
    keys_are(
        case,
        {"logits", "k", "entropy_nats", "tempered_nats", "temperature", "u", "token"},
        {"top_k", "top_p", "min_p"},
    )
    logits = torch.tensor([case["logits"]], dtype=torch.float32)
    draw = torch.tensor([case["u"]], dtype=torch.float64)
    chosen = {name: case.get(name) for name in ("top_k", "top_p", "min_p")}
    for name, entropy_of in (("entropy_nats", "raw"), ("tempered_nats", "tempered")):
        sampling = Sampling(case["temperature"], entropy_top_k=case["k"], entropy_of=entropy_of, **chosen)
        (readout,) = read(logits, draw, sampling)
        close(name, case[name], readout.entropy, absolute=RELATIVE)
        same("token", case["token"], readout.token)


def check_tree(case: Mapping[str, Any]) -> None:
    keys_are(
        case,
        {"model", "options", "sequences", "tokens"},
        {"num_sequences", "num_branches", "num_roots", "tokens_independent", "prefill_tokens"},
    )
    same_tree(case, grow_gated(case["model"], case["options"]))


def check_systematic(case: Mapping[str, Any]) -> None:
    keys_are(
        case,
        {"model", "options", "sequences", "tokens"},
        {"num_sequences", "num_branches", "num_roots", "tokens_independent", "prefill_tokens"},
    )
    same_tree(case, grow_systematic(case["model"], case["options"]), exact=("copies",))


def same_tree(case: Mapping[str, Any], tree: Tree, exact: tuple[str, ...] = ()) -> None:
    """Raises Difference where a tree is not the case's. ``exact``: what its sequences have besides."""
    same("number of sequences", len(case["sequences"]), tree.num_sequences)
    names = ("path", "tokens", *exact, "branch_at", "finish")
    for place, (expected, sequence) in enumerate(zip(case["sequences"], tree.sequences, strict=True)):
        keys_are(expected, {*names, "weight"}, {"branch_entropy", "logprob"})
        here = f"sequences[{place}]."
        for name in names:
            actual = getattr(sequence, name)
            same(here + name, expected[name], list(actual) if name == "path" else actual)
        close(here + "weight", expected["weight"], tree.weights()[place])
        for name in ("branch_entropy", "logprob"):
            if name in expected:
                close(here + name, expected[name], getattr(sequence, name))
    for name in case.keys() - {"model", "options", "sequences"}:
        same(name, case[name], getattr(tree, name))


def grow_gated(model: Mapping[str, Any], given: Mapping[str, Any]) -> Tree:
    """The tree of a case of tree.json."""
    keys_are(
        given,
        {"context", "seed", "cap", "theta", "temperature", "max_tokens", "k"},
        {*TREE_OPTIONS, "branching", "roots", "think_end"},
    )
    options = {ours: given[name] for name, ours in TREE_OPTIONS.items() if name in given} | {"branching": "top2"}
    if given.get("branching", True):
        if given.get("roots", 1) != 1:
            raise Difference("roots: a tree that branches has one root")
        options |= {"strategy": "init", "max_sequences": given["cap"]}
    else:
        options |= {"strategy": "parallel", "max_sequences": given["roots"]}
    return grow_scripted(model, given, options)


def grow_systematic(model: Mapping[str, Any], given: Mapping[str, Any]) -> Tree:
    """The tree of a case of systematic.json."""
    keys_are(
        given,
        {"context", "seed", "copies", "theta", "temperature", "max_tokens", "k"},
        {*SYSTEMATIC_OPTIONS, "think_end"},
    )
    options = {ours: given[name] for name, ours in SYSTEMATIC_OPTIONS.items() if name in given}
    return grow_scripted(model, given, options | {"strategy": "init", "branching": "systematic"})


def grow_scripted(model: Mapping[str, Any], given: Mapping[str, Any], options: Mapping[str, Any]) -> Tree:
    """The tree of one scripted prompt, by the strategy code, the loop, the gate and the growth that every run uses."""
    keys_are(model, {"salt", "vocab", "scale", "eos_bias"})
    resolved = resolve(options)
    prompt = scripted_prompt(0, resolved, context=given["context"])
    engine = scripted_engine(ScriptedRunner(Script(**model)), resolved, given.get("think_end"))
    (tree,) = grow_pool([prompt], resolved, engine).trees
    return tree


def check_race(case: Mapping[str, Any]) -> None:
    keys_are(case, {"lengths", "answers", "first_lanes", "max_sequences", "settled_at", "expected"})
    expected, answers = case["expected"], case["answers"]
    keys_are(expected, {"started", "starts", "ended", "cut", "settled", "time", "last", "tokens", "counts"})
    settings = RaceSettings(case["first_lanes"], case["max_sequences"], case["settled_at"])
    race = run_race(case["lengths"], answers, settings)
    actual = {
        "started": len(race.starts),
        "starts": race.starts,
        "ended": race.ended,
        "cut": {str(root): tokens for root, tokens in race.cut.items()},
        "settled": race.settled,
        "time": race.time,
        "last": race.last,
        "tokens": race.tokens,
        "counts": dict(Counter(answers[root] for root in race.lengths if answers[root] is not None)),
    }
    for name in expected:
        same(name, expected[name], actual[name])


def check_budget(case: Mapping[str, Any]) -> None:
    keys_are(case, {"surplus", "eligible", "cap", "grants"})
    grants = share_surplus(case["surplus"], case["eligible"], case["cap"])
    same("grants", case["grants"], {str(prompt): grant for prompt, grant in grants.items()})


def check_pass_at_k(case: Mapping[str, Any]) -> None:
    keys_are(case, {"n", "c", "k", "value"})
    value = pass_at_k(case["n"], case["c"], case["k"])
    close("value", math.nan if case["value"] is None else case["value"], value)


def check_consensus(case: Mapping[str, Any]) -> None:
    keys_are(case, {"votes", "mean", "first"})
    votes = [Vote(*vote) for vote in case["votes"]]
    for tie in ("mean", "first"):
        close(tie, case[tie], consensus(votes, tie))


def check_mcnemar(case: Mapping[str, Any]) -> None:
    keys_are(case, {"only_first", "only_second", "mid_p"})
    close("mid_p", case["mid_p"], mcnemar_mid_p(case["only_first"], case["only_second"]))


FILES: Mapping[str, Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "rng.json": {"cases": check_rng},
    "entropy.json": {"cases": check_entropy},
    "tree.json": {"cases": check_tree},
    "systematic.json": {"cases": check_systematic},
    "race.json": {"cases": check_race},
    "budget.json": {"cases": check_budget},
    "metrics.json": {"pass_at_k": check_pass_at_k, "consensus": check_consensus, "mcnemar": check_mcnemar},
}
"""By file, its lists of cases and what checks each."""


def keys_are(case: Mapping[str, Any], required: Collection[str], optional: Collection[str] = ()) -> None:
    """Raises Difference for a key that nothing would check, and for one that is missing."""
    if unknown := sorted(case.keys() - {*required, *optional}):
        raise Difference(f"unknown keys {unknown}; known are {sorted({*required, *optional})}")
    if missing := sorted({*required} - case.keys()):
        raise Difference(f"missing keys {missing}")


def same(name: str, expected: Any, actual: Any) -> None:
    if expected != actual:
        raise Difference(f"{name}: expected {expected!r}, actual {actual!r}")


def close(name: str, expected: float, actual: float, absolute: float = 0.0) -> None:
    """NaN equals NaN; other numbers may differ by RELATIVE of the larger one, or by ``absolute``."""
    if math.isnan(expected) and math.isnan(actual):
        return
    if not math.isclose(expected, actual, rel_tol=RELATIVE, abs_tol=absolute):
        raise Difference(f"{name}: expected {expected!r}, actual {actual!r}")
    field = name.rpartition(".")[2]
    deviation = abs(expected - actual) / max(abs(expected), abs(actual), absolute / RELATIVE, 1e-300)
    largest_deviation[field] = max(largest_deviation.get(field, 0.0), deviation)


def check_file(path: Path) -> int:
    """Checks every case of a file and returns their number. Raises Difference, naming section and case."""
    sections = FILES[path.name]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise Difference(f"not JSON: {error}") from error
    if isinstance(content, list):  # a file of nothing but cases
        content = {"cases": content}
    keys_are(content, sections.keys(), {"about"})
    checked = 0
    for section, check in sections.items():
        for number, case in enumerate(content[section]):
            where = f"case {number}" if section == "cases" else f"{section} case {number}"
            try:
                check(case)
            except Difference as difference:
                raise Difference(f"{where}: {difference}") from None
            except Exception as error:
                raise Difference(f"{where}: {type(error).__name__}: {error}") from error
            checked += 1
    return checked


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("usage: python tests/golden.py DIR, a folder with any of", ", ".join(FILES), file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if unknown := sorted(path.name for path in folder.glob("*.json") if path.name not in FILES):
        print(f"{folder}: no check for {', '.join(unknown)}; known are {', '.join(FILES)}")
        return 1
    total = 0
    for name in FILES:
        if not (folder / name).exists():
            print(f"{name}: absent")
            continue
        try:
            checked = check_file(folder / name)
        except Difference as difference:
            print(f"{name}: {difference}")
            return 1
        total += checked
        print(f"{name}: {checked} cases ok")
    if not total:
        print(f"{folder}: no cases at all")
        return 1
    return 0
