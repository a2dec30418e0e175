"""Pages that a person reads: short sentences, few numbers in them (CONTRIBUTING.md says the rule)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_WORDS, MOST_NUMBERS = 24, 2.5
GENERATED = {"docs/api.md"}
"""Made from other files, most of it."""
PAGES = sorted({"README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))} - GENERATED)


class Prose(NamedTuple):
    sentences: int
    words: float
    """A sentence."""
    numbers: float


def prose(text: str) -> Prose:
    """Of running text and lists; tables, code, headings and links' addresses aside."""
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"^\s*```.*?^\s*```$|<!--.*?-->", "", text, flags=re.S | re.M)
    text = re.sub(r"^\s*(?:\||#|!\[|:::).*$", "\n", text, flags=re.M)
    text = re.sub(r"^\s*(?:[-*]|\d+\.)\s+", "\n", text, flags=re.M)  # an entry of a list begins a sentence
    text = re.sub(r"`[^`]*`", "code", text)
    text = re.sub(r"\]\([^)]*\)", "", text)
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        line = " ".join(paragraph.split())
        found += [one for one in re.split(r"(?<=[.!?])[)\"*]*\s+(?=[\"*\[(]*[A-Z0-9])", line) if re.search(r"\w", one)]
    words = [len(re.findall(r"[\w'’.%−+-]*\w[\w'’.%]*", one)) for one in found]
    numbers = [len(re.findall(r"(?<![A-Za-z])[−+-]?\.?\d[\d,.]*", one)) for one in found]
    return Prose(len(found), sum(words) / max(1, len(found)), sum(numbers) / max(1, len(found)))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_short_sentences_with_few_numbers(page: str) -> None:
    found = prose((ROOT / page).read_text(encoding="utf-8"))
    said = f"{page}: {found.sentences} sentences, {found.words:.1f} words and {found.numbers:.1f} numbers each"
    print(said)
    assert (found.words <= MOST_WORDS, found.numbers <= MOST_NUMBERS) == (True, True), said


def test_sentences_words_and_numbers_are_counted_as_a_reader_would() -> None:
    text = "# 1 2 3\n\nOne two three. Four `a b c` 5.\n\n| 1 | 2 |\n\n- An entry\n- of [two](x.md#1) words\n"
    assert prose(text) == Prose(4, (3 + 3 + 2 + 3) / 4, 1 / 4)
