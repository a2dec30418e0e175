"""Registers our models and our scorer in releases of the harness that do not look for plugins.

The harness reads the entry points of the group `lm_eval.models` from the release after 0.4.13 on. Earlier ones know
only the models in their own list, the module `lm_eval.models`; 0.5 knows scorers in one of their own,
`lm_eval.scorers`, for which no plugins are planned. So `eager_lmeval_register.pth`, which Python runs at start-up, puts
a finder in front of `sys.meta_path` that knows these two modules and asks `find_spec` below for them: once the harness
has imported such a list, our names go into its registries as lazy strings, and the finder goes away.

Every interpreter of the environment runs the `.pth`, harness or not, so it imports nothing, this module included, and
says nothing when the package is gone. With `EAGER_LMEVAL_NO_HOOK` set to anything it does nothing.

Delete this module, the `.pth` and their tests once pyproject.toml requires a harness with plugins.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MODELS", "SCORERS", "find_spec", "register"]

MODELS = {"eager": "eager_lmeval.lm:EagerLM", "eager-vllm": "eager_lmeval.lm_vllm:EagerVLLM"}
"""What the harness's registry gets, name to `module:class`; the same as our entry points."""
SCORERS = {"eager": "eager_lmeval.scorer:EagerScorer"}
"""Scorers by name, for harnesses that have a registry of them."""


def find_spec(
    ours: MetaPathFinder, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
) -> ModuleSpec | None:
    """The spec that the finders after `ours` give for a module, with a loader that calls `register()` afterwards.

    Only those after it: Python reads the `.pth` files of a virtual environment twice, so there are two of our finders.
    """
    if ours not in sys.meta_path:
        return None
    for finder in sys.meta_path[sys.meta_path.index(ours) + 1 :]:
        spec = finder.find_spec(fullname, path, target)
        if spec is not None:
            if spec.loader is not None:
                spec.loader = _RegisteringLoader(ours, spec.loader)
            return spec
    return None


def register() -> None:
    """Adds `MODELS` and `SCORERS` to the harness's registries, but what it has or finds without us."""
    from lm_eval.api import registry

    lists = [] if hasattr(registry, "load_plugins") else [(registry.model_registry, MODELS)]
    if hasattr(registry, "scorer_registry"):
        import lm_eval.scorers  # noqa: F401  # the harness imports its own only where none are registered yet

        lists.append((registry.scorer_registry, SCORERS))
    for ours_go_into, names in lists:
        for name, target in names.items():
            if name not in ours_go_into:
                ours_go_into.register(name, target=target)


class _RegisteringLoader(Loader):
    """The module's own loader but for `exec_module`, which puts that loader back in its place before it runs it."""

    def __init__(self, ours: MetaPathFinder, loader: Loader) -> None:
        self._ours = ours
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._ours in sys.meta_path:
            sys.meta_path.remove(self._ours)
        register()
