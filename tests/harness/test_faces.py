"""What other releases of the harness offer, behind the face that the rest of the package knows."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from eager_lmeval.harness.models import _CallingTheModel
from eager_lmeval.harness.names import list_as_requests_say
from eager_lmeval.harness.tasks import load_tasks
from eager_lmeval.harness.templates import environment
from eager_lmeval.pools.marks import MadeWithLabels


class OldManager:
    """A `TaskManager` of 0.4.11, which knows groups as mappings of mappings."""

    def load_task_or_group(self, names: list[str]) -> dict[Any, Any]:
        assert names == ["math", "demo"]
        return {"math": {"aime": "AIME", "more": {"gsm8k": "GSM8K"}}, "demo": "DEMO"}


class NewManager:
    def load(self, names: list[str]) -> dict[str, Any]:
        return {"tasks": dict.fromkeys(names, "a task"), "groups": {}}


def test_tasks_are_found_below_groups_whatever_the_manager_calls_that() -> None:
    assert load_tasks(OldManager(), ["math", "demo"]) == {"aime": "AIME", "gsm8k": "GSM8K", "demo": "DEMO"}
    assert load_tasks(NewManager(), ["aime", "demo"]) == {"aime": "a task", "demo": "a task"}


def test_where_the_harness_meets_at_the_accelerator_the_model_is_called() -> None:
    called: list[str] = []
    lm: Any = SimpleNamespace(all_gather=lambda tensor: [tensor, tensor], barrier=lambda: called.append("barrier"))
    accelerator = _CallingTheModel(lm, SimpleNamespace(process_index=1))
    accelerator.wait_for_everyone()
    assert (accelerator.gather(3), called, accelerator.process_index) == ([3, 3], ["barrier"], 1)


@pytest.mark.parametrize(
    ("responses", "name"),
    [pytest.param({}, "boxed", id="plain"), pytest.param(MadeWithLabels(), "oracle:boxed", id="made with labels")],
)
def test_where_scorers_name_the_results_they_ask_the_requests(
    responses: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scorer:
        name = "boxed"

        def apply_filter(self, instances: list[Any]) -> None:
            for instance in instances:
                instance.filtered_resps[self.name] = ["62"]

    scorers = ModuleType("lm_eval.scorers")
    monkeypatch.setattr(scorers, "Scorer", Scorer, raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval.scorers", scorers)
    list_as_requests_say.cache_clear()
    list_as_requests_say()
    list_as_requests_say.cache_clear()
    scorer, instance = Scorer(), SimpleNamespace(filtered_resps=responses)
    scorer.apply_filter([instance])
    assert (scorer.name, list(instance.filtered_resps)) == (name, [name])


def test_templates_are_rendered_as_the_harness_renders_its_own() -> None:
    rendered = environment().from_string("{{ answer | regex_replace('x', 'y') }}\n").render(answer="axb")
    assert rendered == "ayb\n"


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("bin/lm_eval", "table\nb\na\n"),
        ("bin/lm-eval", "table\nb\na\n"),
        ("lm_eval/__main__.py", "table\nb\na\n"),
        ("script.py", "table\n"),
    ],
)
def test_lines_below_the_table_are_printed_once_and_by_the_harness_s_own_command_alone(
    program: str, printed: str
) -> None:
    prints = (
        f"import sys; sys.argv[0] = {program!r}; from eager_lmeval.harness.command import print_below_the_table; "
        "print_below_the_table(iter('bab')); print('table')"
    )
    done = subprocess.run([sys.executable, "-c", prints], capture_output=True, text=True, check=True)
    assert done.stdout == printed
