"""The project's Markdown pages as tests see them: links, headings and code blocks."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token
from pymdownx.slugs import slugify

ROOT = Path(__file__).parents[2]
GLOBS = ("*.md", "docs/*.md", "tasks/**/README.md", "benchmarks/**/*.md", "study/**/*.md")
PAGES = sorted(page for glob in GLOBS for page in ROOT.glob(glob))
_SNIPPET = re.compile(r'^--8<-- "(?P<file>[^":]+)(:(?P<section>[\w-]+))?"$', re.MULTILINE)
_slug = slugify(case="lower")


class Block(NamedTuple):
    """A fenced code block."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> Iterator[str]:
    """Targets of a page's links and images."""
    for token in _tokens(page):
        for inline in token.children or []:
            target = inline.attrGet("href") or inline.attrGet("src")
            if target:
                yield str(target)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and the site make them."""
    tokens, found = _tokens(page), set[str]()
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(child.content for child in inline.children or [])
            found.add(_slug(text, "-"))
    return found


def blocks(page: Path) -> Iterator[Block]:
    for token in _tokens(page):
        if token.type == "fence":
            yield Block(page, (token.map or [0])[0] + 1, token.info.strip(), token.content)


def code_spans(page: Path) -> Iterator[str]:
    for token in _tokens(page):
        yield from (inline.content for inline in token.children or [] if inline.type == "code_inline")


def commands(shell: str) -> Iterator[list[str]]:
    """The simple commands of a shell block as words, those in ``$(…)`` too; without assignments before them."""
    shell = shell.replace("\\\n", " ")
    for inner in re.findall(r"\$\(([^()]*)\)", shell):
        yield from commands(inner)
    for line in shell.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                while words and re.fullmatch(r"\w+=.*", words[0]):
                    del words[0]
                if words:
                    yield words
                words = []
            else:
                words.append(word)


def _tokens(page: Path) -> list[Token]:
    text = _SNIPPET.sub(_included, page.read_text(encoding="utf-8"))
    return MarkdownIt("commonmark").enable("table").parse(text)


def _included(match: re.Match[str]) -> str:
    text = (ROOT / match["file"]).read_text(encoding="utf-8")
    if match["section"]:
        marks = [f"<!-- --8<-- [{edge}:{match['section']}] -->" for edge in ("start", "end")]
        text = text.partition(marks[0])[2].partition(marks[1])[0]
    return text
