"""`scorer: eager` of a YAML, on harnesses that have scorers; `make test-bounds-all` runs it with one."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("lm_eval.scorers", reason="this release of the harness has no scorers")

from lm_eval.api.registry import get_scorer
from lm_eval.scorers import build_scorer

from eager_lmeval import scorer  # noqa: F401  # what the start-up hook registers by name
from eager_lmeval.errors import UsageError

NOTHING = {"name": "none", "filter": [], "metric_list": []}


def build(given: dict[str, Any] = NOTHING, output_type: str = "generate_until", **kwargs: Any) -> Any:
    return build_scorer(given, output_type, {"type": "eager", "kwargs": kwargs})


def scored(built: Any, *texts: str, target: Any = "62", **doc: Any) -> dict[str, Any]:
    """The aggregates of one document, as the harness comes to them."""
    instance = SimpleNamespace(doc=doc, doc_id=0, task_name="sums", target=target, resps=list(texts), filtered_resps={})
    built.apply_filter([instance])
    built.set_results(built.score_instances({0: [instance]}))
    aggregates, documents = built.aggregate(built.reduced_docs, bootstrap_iters=100000)
    assert documents == 1
    return dict(aggregates)


def test_a_document_is_scored_by_its_texts_and_what_needs_more_of_them_is_not() -> None:
    found = scored(build(verifier="math", ks=[2, 4]), r"\boxed{62}", r"\boxed{7}", r"\boxed{62}", target=62)
    assert (found["pass@max,none"], found["cons@max,none"], found["pass@2,none"]) == (1.0, 1.0, 1.0)
    assert found["pass_rate,none"] == pytest.approx(2 / 3)
    assert math.isnan(found.get("pass@4,none", math.nan))  # the harness's own reduction would say 1.0


def test_a_label_is_a_template_and_a_document_s_column_wins_over_it() -> None:
    built = build(verifier="math", label="{{answer}}")
    assert scored(built, r"\boxed{9}", answer="9")["pass@max,none"] == 1.0
    column = {"label": "8", "verifier": "math"}
    assert scored(built, r"\boxed{9}", answer="9", eager=column)["pass@max,none"] == 0.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "needs a verifier"),
        ({"verifier": "maths"}, "maths"),
        ({"verifier": "math", "k": 3}, "has no 'k'"),
        ({"verifier": "math", "ks": [0]}, "ks="),
        ({"verifier": "math", "output_type": "multiple_choice"}, "generate_until"),
        ({"verifier": "math", "given": NOTHING | {"filter": [{"function": "take_first"}]}}, "leave filter out"),
        ({"verifier": "math", "given": NOTHING | {"metric_list": [{"metric": "bleu"}]}}, "leave metric_list out"),
    ],
)
def test_what_it_cannot_use_is_refused_when_the_task_is_made(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(**given)


def test_the_harness_finds_it_by_name() -> None:
    assert get_scorer("eager").__name__ == "EagerScorer"
