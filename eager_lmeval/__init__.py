"""EAGER generation (entropy-aware branching, arXiv 2510.11170) as a model of the lm-evaluation-harness.

Importing the package imports nothing else, so that the command line's help and the registration stay instant; a public
name is imported when it is asked for.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eager_lmeval.algorithm.tree import Tree
    from eager_lmeval.errors import UsageError
    from eager_lmeval.generation import generate, vote
    from eager_lmeval.pools.response import Response

__version__ = "0.2.0.dev0"

__all__ = ["Response", "Tree", "UsageError", "__version__", "generate", "vote"]

_HOMES = {
    "Response": "pools.response",
    "Tree": "algorithm.tree",
    "UsageError": "errors",
    "generate": "generation",
    "vote": "generation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
