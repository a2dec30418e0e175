"""How long the page of a big run takes to open: 200 documents × 32 sequences × 2,000 tokens.

Makes the run's files (200 MB), the page, opens it in headless Chromium, unfolds a tree, and prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from browser import Browser, find_chromium
from run_files import tree_record, write_run

from eager_lmeval.commands.cli import main as eager_lmeval

WORDS = [f"{a}{b}{c}" for a in "bcdfglmnprst" for b in "aeiou" for c in ("", "n", "rt", "ssing")]


def text(rng: random.Random, tokens: int) -> str:
    """Words of about the entropy of prose, about four characters a token."""
    words = rng.choices(WORDS, k=tokens)
    return f"<think>{' '.join(words)}</think>\\boxed{{{rng.randrange(9)}}}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=2000)
    args = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        parser.error("there is no Chromium here, and none could be installed from Debian's packages")
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        records = []
        for _ in range(args.documents):
            texts = [text(rng, args.tokens) for _ in range(args.sequences)]
            record = tree_record(texts)
            for sequence in record["sequences"]:
                sequence["token_ids"] = [rng.randrange(150_000) for _ in range(args.tokens)]
                sequence["entropies"] = [round(rng.expovariate(3), 4) for _ in range(args.tokens)]
                sequence["num_tokens"] = args.tokens
            records.append(record)
        scores = {"pass@max": [float(rng.random() < 0.5) for _ in records]}
        run = write_run(Path(folder) / "run", scores, records=records)
        page = Path(folder) / "report.html"
        started = time.perf_counter()
        eager_lmeval(["report", str(run), "-o", str(page)])
        written_s = time.perf_counter() - started
        browser = Browser(chromium, Path(folder) / "profile")
        opened_s = browser.open(page)
        started = time.perf_counter()
        browser.value("document.querySelectorAll('#list button')[5].click()")
        browser.wait("document.querySelector('#document .tree') !== null")
        unfolded_s = time.perf_counter() - started
        started = time.perf_counter()
        browser.value("document.querySelector('input[name=failing]').click()")
        filtered_s = time.perf_counter() - started
        errors = browser.errors
        browser.close()
        size = page.stat().st_size
    figures = {
        "page_bytes": size,
        "write_s": written_s,
        "open_s": opened_s,
        "tree_s": unfolded_s,
        "filter_s": filtered_s,
    }
    print(json.dumps({**vars(args), **figures, "errors": errors}))


if __name__ == "__main__":
    main()
