"""Which tests are run, and fixtures that several test modules share."""

import os
from collections.abc import Iterator
from functools import partial

import pytest
from browser import CHROMIUM, Browser, find_chromium
from debian import MAY_INSTALL, install_missing
from tiers import ALL

os.environ["HF_HUB_OFFLINE"] = "1"  # before any test imports huggingface_hub: tests must not depend on a network
os.environ["OMP_NUM_THREADS"] = "1"  # before torch: the models are tiny, and several processes share the cores

try:
    from hypothesis import settings
except ImportError:  # the environment of eager-vllm has none, nor a test that needs it
    pass
else:
    settings.register_profile("usual", max_examples=30, deadline=None)
    settings.register_profile("all", max_examples=200, deadline=None)
    settings.load_profile("all" if ALL else "usual")


def pytest_configure(config: pytest.Config) -> None:
    """Installs the system's packages before there are workers, which would get in each other's way."""
    if not hasattr(config, "workerinput"):
        install_missing({"chromium": CHROMIUM, "bubblewrap": ("bwrap",)})


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves what is ``slow``, and says why, to `make test-all`."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    unexplained = [item.nodeid for item in slow if not next(item.iter_markers("slow")).args]
    if unexplained:
        raise pytest.UsageError(f'slow needs a reason, @pytest.mark.slow("…"): {", ".join(unexplained)}')
    if not ALL and slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in set(slow)]


@pytest.fixture
def our_tasks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes a `TaskManager` of its own in this process leaves out the harness's thousands of files."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip(f"there is no Chromium here; with {MAY_INSTALL}=1 root has it installed from Debian's packages")
    browser = Browser(path, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()
