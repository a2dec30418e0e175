"""Finding the program in a text: a Markdown fence, a bare definition, or the continuation of the prompt."""

from __future__ import annotations

import ast
import re
import textwrap
import warnings

__all__ = ["extract_program", "setup_of_prompt"]

_FENCE = re.compile(r"[ \t]*(```+|~~~+)([^`]*)")  # ```python
_QUOTES = re.compile(r'"""|\'\'\'')  # """
_LANGUAGE = re.compile(r"[\w+#.-]*")  # python
_PYTHON = {"", "python", "py", "python3", "py3"}
_MAX_PROGRAM = 100_000
"""Characters: what is longer is not parsed here and not run."""
_MAX_TRIALS = 20
_CODE_START = re.compile(  # def f(
    r"^(?:from\s+\S+\s+import\s|import\s+\w|(?:async\s+)?def\s+\w+\s*\(|class\s+\w+|@\w)", re.MULTILINE
)


def extract_program(text: str, entry_point: str, prompt: str = "") -> str | None:
    """A program that should define ``entry_point``, completed with the prompt where the text only continues it.

    The last fence that defines it, else the last fence of Python, else the code in the bare text. What is found may
    still be wrong Python: then it is an answer all the same, a wrong one. None where the text holds no code.
    """
    program = _program(text, entry_point, prompt)
    program = program and _needed(program, entry_point)
    return program if program is not None and len(program) <= _MAX_PROGRAM + len(prompt) else None


def _program(text: str, entry_point: str, prompt: str) -> str | None:
    if not text.strip():
        return None
    name = re.escape(entry_point)
    defines = re.compile(rf"^(?:async\s+def|def|class)\s+{name}\b|^{name}\s*=", re.MULTILINE)  # def f
    fenced = _fenced(text)
    if fenced:
        code = next((code for code in reversed(fenced) if defines.search(textwrap.dedent(code))), fenced[-1])
        return _assembled(code, defines, prompt)
    if defines.search(text):
        start = _CODE_START.search(text)
        first = start.start() if start and defines.search(text, start.start()) else 0
        return _assembled(_longest_valid(text[first:]) or text[first:], defines, prompt)
    return _continuation(text, prompt)


def _needed(program: str, entry_point: str) -> str:
    """The program as EvalPlus runs it: imports and what ``entry_point`` needs, not what else stands at the top level.

    So an assertion of its own, a demonstration, or a call of ``input()`` decides nothing. What a conditional or a
    ``try`` binds stays where it is needed, except below ``if __name__ ...``. A program that does not define the entry
    point, or does not parse, comes back whole; ``from __future__`` comes first.
    """
    if not is_valid(program):
        lines = program.split("\n")
        first = [line for line in lines if line.startswith("from __future__ import ")]
        return "\n".join(first + [line for line in lines if line not in first]) if first else program
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statements = ast.parse(program).body
    binding = [(statement, _bound(statement), _read(statement)) for statement in statements]
    needed, waiting = set(), [entry_point]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += [other for _, bound, read in binding if name in bound for other in read]
    kept = [
        statement
        for statement, bound, _ in binding
        if isinstance(statement, ast.Import | ast.ImportFrom) or not needed.isdisjoint(bound)
    ]
    if not any(entry_point in bound for _, bound, _ in binding):
        return program
    kept.sort(key=lambda statement: not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"))
    lines = program.split("\n")
    spans = dict.fromkeys((_first_line(statement), statement.end_lineno or 0) for statement in kept)
    return "\n".join("\n".join(lines[first - 1 : last]) for first, last in spans) + "\n"


def _first_line(statement: ast.stmt) -> int:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return min([statement.lineno, *(decorator.lineno for decorator in statement.decorator_list)])
    return statement.lineno


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement of the top level defines or changes; none where it only runs something."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        return {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.If | ast.Try) and "__name__" not in _read(statement):
        inner = [*statement.body, *statement.orelse]
        if isinstance(statement, ast.Try):
            inner += [*(one for handler in statement.handlers for one in handler.body), *statement.finalbody]
        return {name for one in inner for name in _bound(one)}
    return set()


def _read(statement: ast.stmt) -> set[str]:
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}


def _fenced(text: str) -> list[str]:
    """What stands in the text's fences of Python; a fence that is not closed goes on to the end."""
    found: list[str] = []
    code: list[str] = []
    marks, is_python = "", False  # of the fence that is open; "" outside
    is_quoted = False  # within a docstring, where a fence is part of the code
    lines = text.split("\n")
    last_quotes = max((number for number, line in enumerate(lines) if _QUOTES.search(line)), default=-1)
    for number, line in enumerate([*lines, None]):
        closes = line is not None and line.lstrip(" \t").startswith(marks) and not (is_quoted and number < last_quotes)
        if marks and (line is None or closes):
            if is_python and any(part.strip() for part in code):
                found.append("\n".join(code) + "\n")
            marks = ""
        elif marks and line is not None:
            code.append(line)
            is_quoted ^= len(_QUOTES.findall(line)) % 2 == 1
        elif line is not None and (fence := _FENCE.fullmatch(line)):
            language = _LANGUAGE.match(fence[2].strip())
            marks, code, is_quoted = fence[1], [], False
            is_python = language is not None and language[0].lower() in _PYTHON
    return found


def setup_of_prompt(prompt: str) -> str:
    """The prompt as code of its own: its imports and helpers, and the entry point as a function without a body."""
    return next((code for code in (prompt, prompt.rstrip() + "\n    pass\n") if is_valid(code)), "")


def is_valid(code: str) -> bool:
    return _error_line(code) is None


def _error_line(code: str) -> int | None:
    """The line at which the code stops being Python, 0 where the parser does not say; None for a valid program.

    The code is parsed and not compiled: nested ``finally`` blocks compile to code that doubles with each level.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in a text is not news
            nodes: list[ast.AST] = [ast.parse(code)]
    except SyntaxError as error:
        return error.lineno or 0
    except (ValueError, MemoryError, RecursionError):
        return 0
    returns = []  # outside any function, which the parser lets pass
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Return):
            returns.append(node.lineno)
        elif isinstance(node, ast.Module | ast.stmt | ast.ExceptHandler | ast.match_case) and not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef
        ):
            nodes += ast.iter_child_nodes(node)
    return min(returns, default=None)


def _assembled(code: str, defines: re.Pattern[str], prompt: str) -> str:
    if defines.search(code) or not prompt:
        return f"{setup_of_prompt(prompt)}\n\n{code}" if prompt else code
    dedented = textwrap.dedent(code)
    if defines.search(dedented):
        return f"{setup_of_prompt(prompt)}\n\n{dedented}"
    return _continuation(code, prompt) or f"{setup_of_prompt(prompt)}\n\n{code}"


def _continuation(text: str, prompt: str) -> str | None:
    """Prompt and text as one program, the text cut where it stops being code. None where its start is none either."""
    if not prompt:
        return None
    indented = "\n".join("    " + line if line.strip() else line for line in text.lstrip("\n").split("\n"))
    bare = text.lstrip("\n")
    bodies = ([bare] if bare[:1] in {" ", "\t"} else []) + ["    " + text.lstrip(), indented]
    keep = prompt.rstrip("\n").count("\n") + 1
    kept = [_longest_valid(prompt.rstrip("\n") + "\n" + body, keep=keep) for body in bodies]
    return max(filter(None, kept), key=lambda code: code.count("\n"), default=None)  # the first of the longest


def _longest_valid(code: str, keep: int = 0) -> str | None:
    """The code without as few of its last lines as make it valid; None if none beyond the first ``keep`` is left.

    No program that holds the line of the first error is valid, so each trial cuts there.
    """
    if len(code) > _MAX_PROGRAM:
        return None
    lines = code.split("\n")
    for _ in range(_MAX_TRIALS):
        while len(lines) > keep and not lines[-1].strip():
            lines.pop()
        if len(lines) <= keep:
            return None
        wrong = _error_line(kept := "\n".join(lines) + "\n")
        if wrong is None:
            return kept
        del lines[max(keep, min(wrong or len(lines), len(lines)) - 1) :]
    return None
