"""The harness's cache of requests (`--cache_requests`), under keys that tell generation options apart."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import Any

__all__ = ["tell_options_apart"]


@functools.cache
def tell_options_apart() -> None:
    """From now on cached requests of a task are found again by runs with the same generation options alone.

    The harness names them by task, shots, templates and tokenizer. A second run with other ``--gen_kwargs`` would get
    the first one's requests, which carry the first one's options. The tokenizer's name, which is in the key and serves
    for nothing else, gets a digest of the options behind it.
    """
    from lm_eval.api.task import Task

    build = Task.build_all_requests

    @functools.wraps(build)
    def build_all_requests(self: Any, **given: Any) -> Any:
        if given.get("cache_requests"):
            asked = json.dumps([self.config.generation_kwargs, self.config.repeats], sort_keys=True, default=str)
            digest = hashlib.sha256(asked.encode()).hexdigest()[:16]
            given["tokenizer_name"] = f"{given.get('tokenizer_name') or ''}-options{digest}"
        return build(self, **given)

    Task.build_all_requests = build_all_requests
