"""A growth whose engine reads off less than everything: tokens without readouts, and what it has to ask for."""

from __future__ import annotations

import json
import math

from scripted import NumberTokenizer

from eager_lmeval.algorithm.branching import SplitSettings
from eager_lmeval.algorithm.gate import GateSettings
from eager_lmeval.algorithm.growth import Growth, Run
from eager_lmeval.algorithm.readout import Readout, Stratum
from eager_lmeval.algorithm.tree import Prompt, Tree
from eager_lmeval.engine.text import TextStopper

EOS = 0


def grown(run: Run) -> Growth:
    return Growth(run, TextStopper(NumberTokenizer(), {EOS}))


def prompt(max_new_tokens: int = 9) -> Prompt:
    return Prompt(0, "a_task", "a context", [1, 2], 0, max_new_tokens)


def readout(token: int, entropy: float = 0.0, shares_unsure: bool = False) -> Readout:
    return Readout(token, 4, 5, entropy, 0.5, 0.25, -1.0, -0.7, -1.4, shares_unsure=shares_unsure)


def gated(threshold: float = 1.0, cap: int = 2) -> Growth:
    return grown(Run(prompt(), copies=None, branching=GateSettings(threshold, cap)))


def test_tokens_without_readouts_end_at_an_end_and_leave_sums_unknown() -> None:
    growth = grown(Run(prompt(), roots=1))
    root = growth.start_root()
    growth.advance([readout(7, entropy=0.5)], [root])
    assert growth.extend(root, [8, EOS, 9, 9]) == 2
    assert (root.tokens, root.finish, root.entropies) == ([7, 8, EOS], "stop", [0.5])
    assert math.isnan(root.logprob)
    assert math.isnan(root.entropy_sum)
    assert growth.done


def test_no_tokens_leave_everything_known() -> None:
    growth = grown(Run(prompt(), roots=1))
    root = growth.start_root()
    growth.advance([readout(7, entropy=0.5)], [root])
    assert growth.extend(root, []) == 0
    assert (root.logprob, root.entropy_sum) == (-1.0, 0.5)


def test_a_record_is_plain_json_where_sums_are_unknown() -> None:
    growth = grown(Run(prompt(max_new_tokens=3), roots=1))
    growth.extend(growth.start_root(), [6, 7, 8])
    (sequence,) = Tree(prompt(), growth.sequences).to_record()["sequences"]
    assert (sequence["mean_entropy"], sequence["logprob"], sequence["entropies"]) == (None, None, [])
    json.dumps(sequence, allow_nan=False)


def test_a_growth_is_closed_once_its_gate_is_over() -> None:
    growth = gated(cap=2)
    root = growth.start_root()
    growth.advance([readout(7, entropy=0.5)], [root])
    assert not growth.closed
    growth.advance([readout(7, entropy=1.5)], [root])
    assert len(growth.sequences) == 2
    assert growth.closed
    assert [growth.opens_at(sequence) for sequence in growth.sequences] == [math.inf, math.inf]


def test_a_sequence_may_split_while_it_has_copies() -> None:
    growth = grown(Run(prompt(), copies=2, branching=SplitSettings(threshold=1.0, seed=1)))
    root = growth.start_root()
    assert growth.opens_at(root) == 1.0
    strata = (Stratum(6, -1.0), Stratum(8, -2.0))
    growth.advance([readout(6, entropy=2.0)._replace(strata=strata)], [root])
    assert sorted(sequence.tokens for sequence in growth.sequences) == [[6], [8]]
    assert [growth.opens_at(sequence) for sequence in growth.sequences] == [math.inf, math.inf]


def test_independent_roots_never_branch() -> None:
    growth = grown(Run(prompt(), roots=2))
    assert growth.opens_at(growth.start_root()) == math.inf


def test_what_is_read_after_a_gap_is_no_entropy_of_the_list() -> None:
    growth = grown(Run(prompt(max_new_tokens=5), copies=2, branching=SplitSettings(threshold=1.0, seed=1)))
    root = growth.start_root()
    growth.advance([readout(7, entropy=0.5)], [root])
    growth.extend(root, [6])
    strata = (Stratum(6, -1.0), Stratum(8, -2.0))
    growth.advance([readout(6, entropy=2.0)._replace(strata=strata)], [root])
    child = growth.sequences[1]
    growth.advance([readout(7, entropy=0.25)], [child])
    assert (root.entropies, [at for at, *_ in root.likeliest]) == ([0.5], [0])
    assert (child.branch_entropy, child.entropies, [at for at, *_ in child.likeliest]) == (2.0, [0.25], [3])
    assert all(math.isnan(sequence.logprob) and math.isnan(sequence.entropy_sum) for sequence in growth.sequences)
    growth.extend(root, [4, 5])
    growth.extend(child, [4])
    Tree(prompt(), growth.sequences).check_integrity()


def test_how_a_weight_splits_is_asked_for_where_a_fork_may_come_and_it_is_not_known() -> None:
    growth = gated(threshold=1.0, cap=9)
    root = growth.start_root()
    growth.advance([readout(7, entropy=1.5)], [root])
    doubtful, calm, sure = readout(7, 1.5, True), readout(7, 0.5, True), readout(7, 1.5, False)
    assert growth.questions([doubtful, sure], growth.sequences) == [0]
    assert growth.questions([calm, sure], growth.sequences) == []
