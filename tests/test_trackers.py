"""What the harness's loggers make of our results: the short list, and a table of documents with the trees' figures."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.loggers import WandbLogger
from lm_eval.tasks import TaskManager

from eager_lmeval import paths
from eager_lmeval.lm import EagerLM

TABLE = {"pass@max", "cons_w@max", "pass_rate_w", "tokens", "sequences"}


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    demo = EagerLM(pretrained="demo", max_sequences=2)
    manager = TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False)
    made: dict[str, Any] = simple_evaluate(
        demo, tasks=["eager_demo"], task_manager=manager, limit=3, gen_kwargs="max_gen_toks=40", bootstrap_iters=0
    )
    return made


def test_wandb_gets_the_table_s_figures_and_a_row_a_document(results: dict[str, Any]) -> None:
    logger = WandbLogger.__new__(WandbLogger)  # its constructor begins a run of wandb
    logger.post_init(results)
    logger._get_config()
    _, logged = logger._sanitize_results_dict()
    names = {name.removeprefix("eager_demo/") for name in logged}
    assert {name for name in names if not name.endswith("_stderr")} - {"sample_len"} == TABLE
    table = logger._generate_dataset(results["samples"]["eager_demo"], logger.task_configs["eager_demo"])
    assert len(table) == 3
    assert {"pass@max", "pass_rate", "tokens", "sequences", "branches", "strategy"} <= set(table.columns)
    assert table["tokens"].sum() == results["results"]["eager_demo"]["tokens,none"]


@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval.loggers.trackio_logger") is None, reason="a harness without trackio's logger"
)
def test_trackio_gets_the_table_s_figures_and_a_trace_a_document(results: dict[str, Any]) -> None:
    from lm_eval.loggers import trackio_logger

    class Traces:
        """Keeps what becomes of a trace."""

        @staticmethod
        def Trace(messages: Any, metadata: dict[str, Any]) -> dict[str, Any]:  # as trackio calls it
            return metadata

    logger = trackio_logger.TrackioLogger.__new__(trackio_logger.TrackioLogger)
    logger.post_init(results)
    names = {name.removeprefix("eager_demo/") for name in logger._flatten_results_for_log()}
    assert {name for name in names if not name.endswith("_stderr")} - {"sample_len"} == TABLE
    sample = results["samples"]["eager_demo"][0]
    trace = trackio_logger._sample_to_trace(Traces, sample, "eager_demo", "generate_until")
    assert (trace["tokens"], trace["branches"]) == (sample["tokens"], sample["branches"])
