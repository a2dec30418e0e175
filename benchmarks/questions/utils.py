"""The questions, and what EAGER is to know about each."""

from pathlib import Path

import datasets

from eager_lmeval.task import EagerTask

__all__ = ["EagerTask", "load_questions", "process_docs"]


def load_questions(**_):
    questions = Path(__file__).parent / "questions.jsonl"
    return datasets.load_dataset("json", data_files={"test": str(questions)})


def process_docs(docs):
    return docs.map(lambda doc: {"eager": {"label": doc["answer"], "verifier": "math"}})
