"""The questions with two worked ones of their kind in front, and what EAGER is to know about each."""

from pathlib import Path

import datasets

from eager_lmeval.task import EagerTask

__all__ = ["EagerTask", "load_questions", "process_docs"]

WORKED = {
    "chain_sum": """\
Question: State the final answer to the following arithmetic problem: 5 + 8 - 7 =
Working: 5 + 8 = 13, 13 - 7 = 6. Answer: 6

Question: State the final answer to the following arithmetic problem: 5 - 9 + 2 =
Working: 5 - 9 = -4, -4 + 2 = -2. Answer: -2""",
    "simple_equations": """\
Question: Solve for e: e + 5 = 20
Working: e = 20 - 5 = 15. Answer: 15

Question: Find the value of p in the equation: 40 - p = 13
Working: p = 40 - 13 = 27. Answer: 27""",
    "lcm": """\
Question: Find the Least Common Multiple (LCM) of these numbers: 6, 8
Working: 24 = 6 * 4 and 24 = 8 * 3. Answer: 24

Question: Find the Least Common Multiple (LCM) of these numbers: 5, 3
Working: 15 = 5 * 3 and 15 = 3 * 5. Answer: 15""",
    "gcd": """\
Question: Find the Greatest Common Divisor (GCD) of these numbers: 12, 18.
Working: 12 = 6 * 2 and 18 = 6 * 3. Answer: 6

Question: Find the Greatest Common Divisor (GCD) of these numbers: 25, 10.
Working: 25 = 5 * 5 and 10 = 5 * 2. Answer: 5""",
    "aiw": """\
Question: Mary has 2 sisters and she also has 3 brothers. How many sisters does John's brother have?
Working: Mary and her 2 sisters are 3 girls. Answer: 3

Question: Jane has 4 sisters and she also has 1 brother. How many sisters does David's brother have?
Working: Jane and her 4 sisters are 5 girls. Answer: 5""",
}


def load_questions(file, **_):
    return datasets.load_dataset("json", data_files={"test": str(Path(__file__).parent / file)})


def process_docs(docs):
    return docs.map(
        lambda doc: {
            "prompt": f"{WORKED[doc['kind']]}\n\nQuestion: {doc['question']}\nWorking:",
            "eager": {"label": doc["answer"], "verifier": "math"},
        }
    )
