"""How long the page of a big run takes to make and to open: 500 documents × 64 sequences × 8,000 tokens by default.

Makes the run's files (4 GB; a few trees over and over, which the page packs anew each time), the page, opens it in
headless Chromium, opens documents, scrolls and filters, and prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from browser import Browser, find_chromium
from run_files import samples_file, tree_record, write_run

from eager_lmeval.commands.cli import main as eager_lmeval

WORDS = [f" {a}{b}{c}" for a in "bcdfglmnprst" for b in "aeiou" for c in ("", "n", "rt", "ssing")]
DISTINCT = 4
"""Trees of a run; more would only take longer to make."""
TREE_SHOWN = (
    "document.querySelector('#document .facts').textContent.startsWith('Document {} ') && "
    "document.querySelector('.course') !== null"
)
FRAMES = """new Promise((done) => {
  const gaps = []; let before = performance.now(), left = 60;
  const step = (now) => {
    gaps.push(now - before); before = now; window.scrollBy(0, 40);
    if (left--) requestAnimationFrame(step); else done(Math.max(...gaps.slice(1)));
  };
  requestAnimationFrame(step);
})"""
"""Scrolls for 60 frames; the longest one in milliseconds."""


def tree(rng: random.Random, sequences: int, tokens: int) -> dict[str, Any]:
    """A tree whose sequences leave each other anywhere; words of about the entropy of prose, one a token."""
    drawn: list[list[str]] = []
    forks: dict[int, tuple[int, int]] = {}
    places = rng.sample(range(1, tokens - 1), sequences - 1)  # no two forks at one token, so all paths differ
    for place in range(sequences):
        shared: list[str] = []
        if place:
            parents = [old for old in range(place) if forks.get(old, (0, 0))[1] < places[place - 1]]
            forks[place] = (rng.choice(parents), places[place - 1])
            shared = drawn[forks[place][0]][: places[place - 1]]
        words = rng.choices(WORDS, k=tokens - len(shared) - 1)
        drawn.append([*shared, *words, f"</think>\\boxed{{{rng.randrange(9)}}}"])
    record = tree_record(["".join(words) for words in drawn], forks)
    for place, sequence in enumerate(record["sequences"]):
        own = drawn[place][forks.get(place, (0, 0))[1] :]
        sequence |= {
            "num_tokens": tokens,
            "token_ids": [rng.randrange(150_000) for _ in own],
            "token_chars": [len(word) for word in own],
            "entropies": [round(rng.expovariate(3), 4) for _ in own[place > 0 :]],
        }
    return record | {"max_sequences": sequences, "tokens": sum(len(s["token_ids"]) for s in record["sequences"])}


def repeated(lines: list[dict[str, Any]], documents: int) -> Iterator[str]:
    texts = [json.dumps({**line, "doc_id": -1, "doc_hash": "HASH"}) for line in lines]
    for number in range(documents):
        text = texts[number % len(texts)]
        yield text.replace('"doc_id": -1', f'"doc_id": {number}', 1).replace('"HASH"', f'"{number:064x}"', 1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=500)
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=8000)
    parser.add_argument("--page", type=Path, help="keep the page here")
    args = parser.parse_args()
    chromium = find_chromium()
    if chromium is None:
        parser.error("there is no Chromium here, and none could be installed from Debian's packages")
    rng = random.Random(1)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        records = [tree(rng, args.sequences, args.tokens) for _ in range(min(DISTINCT, args.documents))]
        run = write_run(
            Path(folder) / "run", {"pass@max": [float(n % 2) for n in range(len(records))]}, records=records
        )
        lines = [json.loads(line) for line in samples_file(run).read_text().splitlines()]
        with samples_file(run).open("w") as samples:
            samples.writelines(repeated(lines, args.documents))
        (results,) = run.glob("*/results_*.json")
        said = json.loads(results.read_text())
        for counted in said["n-samples"].values():
            counted["effective"] = args.documents
        results.write_text(json.dumps(said))
        samples_bytes = samples_file(run).stat().st_size
        page = args.page or Path(folder) / "report.html"
        started = time.perf_counter()
        eager_lmeval(["report", str(run), "-o", str(page)])
        written_s = time.perf_counter() - started
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        browser = Browser(chromium, Path(folder) / "profile")
        browser.size(1400)
        opened_s = statistics.median(browser.open(page) for _ in range(3))
        browser.wait("document.querySelector('.course') !== null")

        def timed(action: str, condition: str) -> float:
            started = time.perf_counter()
            browser.value(action)
            browser.wait(condition)
            browser.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            return time.perf_counter() - started

        place = min(2, args.documents - 1)
        tree_s = timed(f"document.querySelector('#list [data-id=\"{place}\"]').click()", TREE_SHOWN.format(place))
        text_s = timed(
            "[...document.querySelectorAll('.course')].at(-1).dispatchEvent(new MouseEvent('click'))",
            "document.querySelector('.text') !== null",
        )
        longest_frame_ms = browser.value(FRAMES)
        filter_s = timed("document.querySelector('input[name=failing]').click()", "true")
        errors = browser.errors
        browser.close()
        size = page.stat().st_size
    figures = {
        "samples_bytes": samples_bytes,
        "page_bytes": size,
        "peak_bytes": peak_bytes,
        "write_s": written_s,
        "open_s": opened_s,
        "tree_s": tree_s,
        "text_s": text_s,
        "filter_s": filter_s,
        "longest_frame_ms": longest_frame_ms,
    }
    print(json.dumps({**vars(args), "page": None, **figures, "errors": errors}))


if __name__ == "__main__":
    main()
