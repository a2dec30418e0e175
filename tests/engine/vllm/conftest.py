"""One engine of vLLM and one of `eager` for all tests here: loading takes most of the time.

`make test-vllm` runs them, in an environment of their own; where there is no vLLM, `make test` does not collect them.
"""

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eager_lmeval.lm import EagerLM
    from eager_lmeval.lm_vllm import EagerVLLM

_vllm = find_spec("vllm")  # this folder's own name is one, too, once pytest has put the folder above into the path
collect_ignore_glob = [] if _vllm and _vllm.origin else ["test_*.py"]

IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
os.environ |= IN_PROCESS | {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}

SERVED: dict[str, Any] = {"pretrained": "demo", "dtype": "float32", "max_model_len": 256, "max_num_seqs": 64}
"""What the tests' engine is made with; without compilation, which takes longer than all tests."""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> "EagerVLLM":
    from eager_lmeval.lm_vllm import EagerVLLM

    return EagerVLLM(**SERVED, enforce_eager=True, journal=str(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> "EagerLM":
    from eager_lmeval.lm import EagerLM

    return EagerLM(pretrained="demo", dtype="float32", max_length=256, journal=str(tmp_path_factory.mktemp("plain")))
