"""From a document's tree to its metrics, and from the documents' values to the lines of a result."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

import numpy as np
import pytest

from eager_lmeval.algorithm.race import RaceSettings, run_race
from eager_lmeval.errors import UsageError
from eager_lmeval.pools.response import Response, TreeRecord
from eager_lmeval.scores import scoring
from eager_lmeval.scores.figures import figures, metrics, table_metrics
from eager_lmeval.scores.metrics import pass_at_k
from eager_lmeval.scores.rules import Rules
from eager_lmeval.scores.scoring import graded, records, score, variant
from eager_lmeval.verify import Graded

DOC = {"eager": {"label": "62", "verifier": "math"}}
RULES = Rules(ks=(2, 4))


def sequence(answer: str | None, weight: float, **more: Any) -> dict[str, Any]:
    """A finished sequence that boxes ``answer``, or says nothing of the kind."""
    thought = "is it \\boxed{0}?</think>"
    text = thought + ("I give up." if answer is None else f"So \\boxed{{{answer}}}.")
    return {"text": text, "answer_at": len(thought), "weight": weight, "finish": "stop"} | more


def cut_off(text: str, weight: float) -> dict[str, Any]:
    return {"text": text, "answer_at": None, "weight": weight, "finish": "length"}


def tree(*sequences: dict[str, Any], rules: Rules = RULES, **more: Any) -> TreeRecord:
    record = {
        "num_sequences": len(sequences),
        "num_branches": len(sequences) - 1,
        "num_roots": 1,
        "tokens": 100,
        "labels_used": False,
        "strategy": "init",
        "max_sequences": 8,
        "entropy_threshold": 0.5,
        "temperature": 0.8,
        "sequences": list(sequences),
    }
    (made,) = records([[Response("", TreeRecord(record | more))]], rules)
    return made


def same(values: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: values[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_plain_and_weighted_scores_of_a_tree():
    values = score(DOC, tree(sequence("62", 0.6), sequence("7", 0.2), sequence("7.0", 0.1), sequence(None, 0.1)))
    same(
        values,
        {
            "pass@max": 1.0,
            "pass_rate": 1 / 4,
            "pass_rate_w": 0.6,
            "cons@max": 0.0,
            "cons_w@max": 1.0,
            "tie_rate": 0.0,
            "no_answer_rate": 1 / 4,
            "truncation_rate": 0.0,
            "timeout_rate": 0.0,
            "failure_rate": 0.0,
            "tokens": 100.0,
            "mean_sequences": 4.0,
            "mean_branches": 3.0,
            "scored": 1.0,
        },
    )


def test_k_at_a_time_is_scored_of_independent_draws_and_of_no_tree():
    sequences = [sequence("62", 0.25), *[sequence("7", 0.25)] * 2, sequence(None, 0.25)]
    expected = {"pass@2": 1 / 2, "pass^2": 0.0, "cons@2": 1 / 2, "pass@4": 1.0, "cons@4": 0.0, "scored@2": 1.0}
    same(score(DOC, tree(*sequences, strategy="parallel")), expected)
    for strategy, rounds in (("init", None), ("adapt", None), ("eager", None), ("consistency", 2)):
        assert not expected.keys() & score(DOC, tree(*sequences, strategy=strategy, rounds=rounds)).keys()


def test_a_k_that_no_document_can_reach_is_no_metric():
    values = score(DOC, tree(*[sequence("62", 0.5)] * 2, strategy="parallel", max_sequences=2))
    assert values["pass@2"] == 1.0
    assert not {"pass@4", "cons@4", "scored@4"} & values.keys()


def test_the_table_has_the_scores_with_their_errors_and_the_costs_and_ten_rows_at_most():
    rows = table_metrics(score(DOC, tree(sequence("62", 1.0))))
    assert rows == [
        *("pass@max", "pass@max_stderr", "cons_w@max", "cons_w@max_stderr", "pass_rate_w", "pass_rate_w_stderr"),
        *("tokens", "sequences"),
    ]
    many = tree(*[sequence("62", 0.1)] * 10, rules=Rules(ks=tuple(range(1, 11))), strategy="parallel", max_sequences=10)
    rows = [name for name in table_metrics(score(DOC, many)) if "_stderr" not in name]
    assert len(rows) == 10
    assert rows[5:] == ["pass@1", "pass@2", "pass@3", "pass@4", "pass@5"]


def test_the_weighted_rate_is_taken_over_the_roots_that_were_made_whatever_had_been_found():
    first, second, later = (
        sequence(answer, weight, path=[root])
        for answer, weight, root in (("62", 0.2, 0), ("7", 0.3, 0), ("62", 0.5, 1))
    )
    same(score(DOC, tree(first, second, later, rate_roots=1)), {"pass_rate_w": 0.4, "cons_w@max": 1.0})
    same(score(DOC, tree(first, second, later, rate_roots=None)), {"pass_rate_w": 0.7})
    same(score(DOC, tree(first, second, later)), {"pass_rate_w": 0.7})


def test_of_a_race_rates_are_of_its_first_lanes_and_what_was_cut_is_no_answer():
    answers = [("62", "stop"), ("7", "stop"), ("62", "stop"), ("62", "stop"), ("7", "cut")]
    sequences = [sequence(text, 0.2, path=[root], finish=end) for root, (text, end) in enumerate(answers)]
    record = tree(*sequences, strategy="consistency", rate_roots=2, settled=True, settled_time=9)
    values = score(DOC, record)
    same(
        values,
        {
            **{"pass_rate": 0.5, "pass_rate_w": 0.5, "pass@2": 1.0, "cons@2": 0.5, "scored@2": 1.0},
            **{"cons@max": 1.0, "pass@max": 1.0, "settled": 1.0, "cut_rate": 0.2},
            **{"no_answer_rate": 0.0, "truncation_rate": 0.0},
        },
    )
    assert not {"pass@4", "cons@4"} & values.keys(), "two lanes are no four draws"
    voting = tree(*sequences, strategy="consistency", rate_roots=2, rules=Rules(truncated_votes=True))
    assert score(DOC, voting)["cons@max"] == 1.0


def test_rates_over_the_first_lanes_of_races_are_unbiased_and_over_all_that_ended_are_not():
    """Right answers are shorter here. 2,000 races: |z| ≥ 3 comes once in 370 seeds where there is no bias."""
    rng = np.random.default_rng(5)
    of_first, pass_at_2, of_all = [], [], []
    for _ in range(2000):
        right = rng.random(16) < 0.5
        lengths = 1 + rng.poisson(np.where(right, 30, 60))
        race = run_race(lengths.tolist(), np.where(right, "62", "7").tolist(), RaceSettings(4, 16, 0.95))
        ended = [right[root] for root in sorted(race.lengths)]
        of_first.append(np.mean(right[:4]))
        pass_at_2.append(pass_at_k(4, int(right[:4].sum()), 2))
        of_all.append(np.mean(ended))

    def z(values, truth):
        return (np.mean(values) - truth) / (np.std(values, ddof=1) / math.sqrt(len(values)))

    assert abs(z(of_first, 0.5)) < 3
    assert abs(z(pass_at_2, 0.75)) < 3
    assert z(of_all, 0.5) > 5


def test_rounds_and_whether_the_vote_was_settled_stand_beside_the_scores_where_it_was_asked():
    values = [
        score(DOC, tree(sequence("62", 1.0), settled=settled, rounds=n)) for settled, n in ((True, 1), (False, 4))
    ]
    table = metrics(RULES)
    assert table["settled"].aggregate([value["settled"] for value in values]) == 0.5
    assert table["rounds"].aggregate([value["rounds"] for value in values]) == 2.5
    assert not {"settled", "rounds"} & score(DOC, tree(sequence("62", 1.0), settled=None, rounds=None)).keys()


def test_fewer_sequences_than_k_are_unscored_and_counted():
    values = [score(DOC, tree(*[sequence("62", 1 / n)] * n, strategy="parallel")) for n in (1, 3, 4)]
    table = metrics(RULES)
    same(values[0], {"pass@4": math.nan, "cons@4": math.nan, "pass@2": math.nan, "scored@2": 0.0})
    column = {name: [value[name] for value in values] for name in values[0]}
    assert table["pass@4"].aggregate(column["pass@4"]) == 1.0
    assert table["scored@4"].aggregate(column["scored@4"]) == 1
    assert table["scored@2"].aggregate(column["scored@2"]) == 2
    assert table["scored"].aggregate(column["scored"]) == 3


def test_what_stands_before_the_end_of_thinking_is_no_answer():
    values = score(
        DOC, tree(sequence("7", 1.0, text="\\boxed{62}</think>\\boxed{7}", answer_at=len("\\boxed{62}</think>")))
    )
    same(values, {"pass@max": 0.0, "no_answer_rate": 0.0})


def test_a_sequence_cut_off_while_it_thinks_does_not_vote():
    values = score(DOC, tree(cut_off("\\boxed{62} or", 0.7), sequence("7", 0.3)))
    same(values, {"pass@max": 0.0, "cons@max": 0.0, "no_answer_rate": 0.5, "truncation_rate": 0.5})


def test_it_votes_where_the_task_lets_truncated_sequences_vote():
    record = tree(cut_off("\\boxed{62} or", 0.7), sequence("7", 0.3), rules=Rules(truncated_votes=True))
    same(score(DOC, record), {"pass@max": 1.0, "cons@max": 0.5, "cons_w@max": 1.0, "no_answer_rate": 0.0})


def test_a_sequence_cut_off_behind_its_thinking_part_votes_with_the_answer_it_has():
    record = tree(sequence("62", 1.0, finish="length"))
    same(score(DOC, record), {"pass@max": 1.0, "truncation_rate": 1.0})


def test_ties_go_by_the_rule_of_the_task():
    sequences = [sequence("62", 0.4), sequence("7", 0.6)]
    same(score(DOC, tree(*sequences)), {"cons@max": 0.5, "tie_rate": 1.0})
    same(score(DOC, tree(*sequences, rules=Rules(tie="first"))), {"cons@max": 1.0, "tie_rate": 1.0})


def test_a_document_whose_label_cannot_be_read_is_unscored_and_said_once(caplog: pytest.LogCaptureFixture):
    doc = {"eager": {"label": "?", "verifier": "choice"}}
    with caplog.at_level(logging.WARNING):
        values = [score(doc, tree(sequence("62", 1.0))) for _ in range(3)]
    assert sum("unscored" in record.message for record in caplog.records) == 1
    same(
        values[0],
        {"pass@max": math.nan, "cons@max": math.nan, "pass_rate_w": math.nan, "tie_rate": math.nan, "tokens": 100.0},
    )
    values.append(score(DOC, tree(sequence("62", 1.0))))
    table = metrics(RULES)
    assert table["scored"].aggregate([value["scored"] for value in values]) == 1
    assert table["pass@max"].aggregate([value["pass@max"] for value in values]) == 1.0


@pytest.mark.parametrize(
    ("doc", "said"),
    [
        ({}, "no column 'eager'"),
        ({"eager": {"label": "62"}}, "no verifier"),
        ({"eager": {"verifier": "math"}}, "no label"),
        ({"eager": {"label": "62", "verifier": "mth"}}, "did you mean 'math'"),
    ],
)
def test_a_document_that_does_not_say_how_to_grade_it_is_an_error(doc: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        score(doc, tree(sequence("62", 1.0)))


def test_a_label_is_read_as_text():
    same(score({"eager": {"label": 62, "verifier": "math"}}, tree(sequence("62", 1.0))), {"pass@max": 1.0})


def test_texts_of_a_model_without_trees_count_alike_and_cost_nothing_that_is_known():
    (record,) = records([["<think>\\boxed{62}", "x</think>\\boxed{62}", "\\boxed{7}"]], RULES)
    values = score(DOC, record)
    same(
        values,
        {
            "pass@max": 1.0,
            "pass_rate": 1 / 3,
            "pass_rate_w": 1 / 3,
            "no_answer_rate": 1 / 3,
            "truncation_rate": math.nan,
            "tokens": math.nan,
            "sequences": 3.0,
            "max_sequences": 3,
        },
    )
    assert values["strategy"] == "none"
    table = metrics(RULES)
    assert math.isnan(table["tokens"].of([values] * 2))


def test_every_value_has_an_aggregate_and_every_score_has_both_error_bars():
    for rules in (Rules(), RULES):
        values, table = score(DOC, tree(sequence("62", 1.0), rules=rules, strategy="parallel")), metrics(rules)
        assert set(values) == set(table) - {"verifier_note", "settled", "cut_rate", "rounds", "clusters"}, (
            "parallel has all of them"
        )
        scores = [name for name, metric in table.items() if metric.higher_is_better]
        assert len(scores) == 5 + 3 * len(rules.ks)
        order = list(values)
        for name in scores:
            assert order.index(f"{name}_stderr") == order.index(name) + 1, "the harness writes its own before"
            assert f"{name}_ci95" in table


def test_error_bars_of_a_score_come_from_its_documents_and_lie_around_it():
    rows = [
        score(DOC, tree(*[sequence(a, 0.5) for a in answers])) for answers in (("62", "7"), ("7", "7"), ("62", "62"))
    ]
    table = metrics(RULES)
    rate, error = table["pass_rate"].of(rows), table["pass_rate_stderr"].of(rows)
    low, high = table["pass_rate_ci95"].of(rows)
    assert rate == 0.5
    assert error == pytest.approx(0.5 / math.sqrt(3))
    assert 0 <= low < rate < high <= 1


def test_settings_stand_in_the_result_and_mixed_ones_say_so():
    table = metrics(RULES)
    rows = [score(DOC, tree(sequence("62", 1.0), temperature=t)) for t in (0.8, 0.8, 1.0)]
    assert table["temperature"].of(rows[:2]) == 0.8
    assert table["temperature"].of(rows) == "mixed"
    assert table["strategy"].of(rows) == "init"
    assert math.isnan(table["temperature"].aggregate([math.nan, math.nan]))


def test_results_are_named_oracle_as_soon_as_one_tree_was_made_with_labels():
    trees = [tree(sequence("62", 1.0)), tree(sequence("62", 1.0), labels_used=True)]
    assert (variant(trees[:1]), variant(trees)) == ("none", "oracle")


def test_what_the_code_verifier_notes_of_every_program_stands_in_the_result(monkeypatch: pytest.MonkeyPatch):
    class Noting:
        def __init__(self, *notes: str) -> None:
            self._notes = notes

        def grade(self, texts: Any, label: str) -> list[Graded]:
            return [Graded(False, "x", 0, note=note) for note in self._notes] + [Graded(False, None, None)]

    doc, table = {"eager": {"label": "62", "verifier": "code"}}, metrics(RULES)

    def note(*documents: Noting) -> str:
        values = []
        for verifier in documents:
            monkeypatch.setattr(scoring, "get_verifier", lambda name, verifier=verifier: verifier)
            values.append(score(doc, tree(*[sequence("62", 0.3)] * (len(verifier._notes) + 1)))["verifier_note"])
        said: str = table["verifier_note"].aggregate(values)
        return said

    refused = "no namespaces (refused)"
    assert note(Noting(refused, f"AssertionError; {refused}"), Noting(), Noting(refused)) == refused
    assert note(Noting("", refused)) == "none"
    assert note(Noting()) == "none"


def test_a_record_scores_the_same_after_it_was_written_as_json():
    record = tree(sequence("62", 1 / 3), sequence("7", 1 / 3), sequence(None, 1 / 3))
    same(score(DOC, json.loads(str(record))), score(DOC, record))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ks": [0]}, "ks=\\[0\\]"),
        ({"ks": "4"}, "ks="),
        ({"tie": "last"}, "tie='last'.*mean, first"),
        ({"truncated_votes": "no"}, "truncated_votes='no'"),
    ],
)
def test_a_rule_that_is_not_accepted_is_an_error_that_shows_it(given: dict[str, Any], said: str):
    with pytest.raises(UsageError, match=said):
        Rules.read(given)


def test_rules_are_found_among_other_metadata():
    assert Rules.read({"version": 1.0, "ks": [4, 2, 2], "pretrained": "demo"}) == RULES
    assert Rules.read({"ks": 4}).ks == (4,)


def test_a_score_of_independent_draws_has_an_error_of_these_documents_and_a_trees_is_bounded_by_that_of_documents():
    answers = [("62", "62", "7", "7")] * 5 + [("62",) * 4, ("7",) * 4]
    drawn = [score(DOC, tree(*[sequence(a, 0.25) for a in four], strategy="parallel")) for four in answers]
    made = figures(drawn, metrics(RULES), "none")
    assert made["pass_rate_stderr_sampling,none"] == pytest.approx(math.sqrt(5 * 0.5 * 0.5 / 3) / 7)
    assert made["pass@2_stderr_sampling,none"] == pytest.approx(math.sqrt(5 / 6**2) / 7), "q₂² − q₄, and q₄ is 0"
    assert made["pass^2_stderr_sampling,none"] == made["pass@2_stderr_sampling,none"], "two of four are right"
    assert made["sampling_bounds,none"] == ["pass@max", "pass@4", "pass^4"]
    assert made["pass@max_stderr_sampling,none"] == made["pass@max_stderr,none"]
    grown = [score(DOC, tree(*[sequence(a, 0.25) for a in four], strategy="init")) for four in answers]
    made = figures(grown, metrics(RULES), "none")
    assert made["sampling_bounds,none"] == ["pass@max", "cons@max", "pass_rate", "pass_rate_w", "cons_w@max"]


def test_the_table_shows_the_error_of_these_documents_where_it_is_known():
    rows = table_metrics(score(DOC, tree(*[sequence("62", 0.5)] * 2, strategy="parallel", rules=Rules())))
    assert rows.index("pass_rate_w_stderr_sampling") == rows.index("pass_rate_w_stderr") + 1
    assert "pass@max_stderr_sampling" not in rows


def test_documents_of_one_cluster_count_as_one_draw():
    rules = Rules.read({"cluster": "source"})
    right, wrong = (tree(sequence(answer, 1.0), rules=rules) for answer in ("62", "7"))
    rows = [score({**DOC, "source": place}, record) for place, record in enumerate((right, right, wrong, wrong))]
    alone = figures(rows, metrics(rules), "none")
    pairs = [row | {"clusters": str(place // 2)} for place, row in enumerate(rows)]
    paired = figures(pairs, metrics(rules), "none")
    assert (alone["clusters,none"], paired["clusters,none"]) == (4, 2)
    assert alone["pass_rate_stderr,none"] == pytest.approx(math.sqrt(4 * 0.25 / 3) / math.sqrt(4))
    assert paired["pass_rate_stderr,none"] == pytest.approx(math.sqrt(2 / 1 * (1**2 + 1**2)) / 4)
    low, high = paired["pass_rate_ci95,none"]
    assert low < alone["pass_rate_ci95,none"][0] < alone["pass_rate_ci95,none"][1] < high


class Verdicts:
    """Grades by a list."""

    def __init__(self, *graded: Graded) -> None:
        self._graded = list(graded)

    def grade(self, texts: Any, label: str) -> list[Graded]:
        return self._graded


RIGHT, WRONG, STOPPED = Graded(True, "62", 0), Graded(False, "7", 1), Graded(False, "8", 2, timed_out=True)
BROKEN = Graded(False, None, None, failed=True)


@pytest.mark.parametrize(
    ("verdicts", "scored", "rate", "if_right"),
    [
        ((RIGHT, WRONG), 1, 0.5, None),
        ((RIGHT, STOPPED), 1, 0.5, 1.0),
        ((WRONG, BROKEN), 1, 0.0, 0.5),
        ((STOPPED, BROKEN), 0, math.nan, 1.0),
        ((STOPPED, Graded(False, None, None)), 0, math.nan, 1.0),
        ((Graded(False, None, None), Graded(False, None, None)), 1, 0.0, None),
    ],
)
def test_an_answer_without_a_verdict_is_told_apart_from_a_wrong_one(
    monkeypatch: pytest.MonkeyPatch, verdicts: tuple[Graded, ...], scored: int, rate: float, if_right: float | None
):
    monkeypatch.setattr(scoring, "get_verifier", lambda name: Verdicts(*verdicts))
    values = score(DOC, tree(*[sequence("62", 0.5)] * 2))
    same(values, {"scored": scored, "unscored": 1 - scored, "pass_rate": rate})
    assert values.get("pass_rate_if_right") == if_right


def test_a_program_that_ran_into_its_limit_is_wrong(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scoring, "get_verifier", lambda name: Verdicts(STOPPED))
    values = score({"eager": {"label": "62", "verifier": "code"}}, tree(sequence("62", 1.0)))
    same(values, {"scored": 1.0, "pass_rate": 0.0, "timeout_rate": 1.0})


def test_a_result_has_bounds_over_all_documents_where_answers_have_no_verdict(monkeypatch: pytest.MonkeyPatch):
    rows = []
    for verdicts in ((RIGHT, WRONG), (RIGHT, STOPPED), (STOPPED, BROKEN), (WRONG, WRONG)):
        monkeypatch.setattr(scoring, "get_verifier", lambda name, verdicts=verdicts: Verdicts(*verdicts))
        rows.append(score(DOC, tree(*[sequence("62", 0.5)] * 2)))
    made = figures(rows, metrics(RULES), "none")
    assert made["pass_rate,none"] == pytest.approx(1 / 3), "of the three that are scored"
    assert made["pass_rate_bounds,none"] == pytest.approx([(0.5 + 0.5 + 0 + 0) / 4, (0.5 + 1 + 1 + 0) / 4])
    assert (made["scored,none"], made["unscored,none"]) == (3, 1)
    assert not [
        name for name in figures(rows[:1], metrics(RULES), "none") if "_bounds" in name and "sampling" not in name
    ]


def test_the_text_that_a_vote_elects_is_the_first_of_the_class_with_the_most_weight():
    record = tree(sequence("7", 0.2), sequence("62", 0.3), sequence("7", 0.05), sequence("62", 0.45))
    assert graded(DOC, record)[1] == record["sequences"][1]["text"]
    silent = tree(sequence(None, 0.5), sequence(None, 0.5))
    assert graded(DOC, silent)[1] == silent["sequences"][0]["text"], "nobody has an answer"
