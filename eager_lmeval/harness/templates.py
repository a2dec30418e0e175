"""The Jinja environment in which the harness renders the templates of its YAML files."""

from __future__ import annotations

from typing import Any

__all__ = ["environment"]


def environment() -> Any:
    """Its `jinja2.Environment`; strict about unknown names, with the filters that YAML files may use."""
    try:
        from lm_eval.utils import env
    except ImportError:
        from lm_eval.config.templates import _jinja_env as make_environment

        return make_environment()
    return env
