"""A pytest plugin for `tests/engine/vllm`: vLLM as GPUs have it by default, on a CPU.

    RUNNER=newer    the newer of vLLM's two model runners, whose kernels are Triton's: here interpreted
    ASYNC=1         the next step is scheduled before this one's tokens are known

``make test-vllm`` runs the tests of equality with each. Loaded with ``-p``, before vLLM is imported.
"""

from __future__ import annotations

import os
import types
from typing import Any


def _newer_runner() -> None:
    os.environ |= {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1", "VLLM_CPU_CI_ENV": "1"}
    import triton.backends

    class Driver:
        @staticmethod
        def is_active() -> bool:
            return True

    triton.backends.backends.clear()  # drivers of GPUs, which there are none of
    triton.backends.backends["cpu"] = types.SimpleNamespace(driver=Driver, compiler=None)


def _asynchronous() -> None:
    from vllm.platforms.cpu import CpuPlatform

    checked = CpuPlatform.check_and_update_config.__func__

    def and_asynchronous(cls: Any, vllm_config: Any) -> None:
        checked(cls, vllm_config)
        vllm_config.scheduler_config.async_scheduling = True

    CpuPlatform.check_and_update_config = classmethod(and_asynchronous)


if os.environ.get("RUNNER") == "newer":
    _newer_runner()
if os.environ.get("ASYNC") == "1":
    _asynchronous()
