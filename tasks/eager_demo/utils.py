"""The problems of `eager_demo`, and what EAGER is to know about each."""

from pathlib import Path

import datasets

__all__ = ["load_problems", "process_docs"]


def load_problems(**_):
    problems = Path(__file__).parent / "problems.jsonl"
    return datasets.load_dataset("json", data_files={"test": str(problems)})


def process_docs(docs):
    def tell_eager(doc):
        return {"eager": {"label": doc["answer"], "verifier": "math"}}

    return docs.map(tell_eager)
