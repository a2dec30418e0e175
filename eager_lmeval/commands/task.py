"""`eager-lmeval task`: a ready YAML from a file of problems, or from a task of the harness, and a look at what it asks.

The YAML names our task class and says in its `metadata` where the right answers stand, so it needs no Python file.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from eager_lmeval.commands.arguments import path_argument
from eager_lmeval.errors import UsageError, near_name

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from eager_lmeval.task import EagerTask

__all__ = ["add_parser", "run"]

_LOADERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
_ASKING = {
    "math": "\n\nPlease reason step by step, and put your final answer within \\boxed{}.",
    "choice": "\n\nPlease reason step by step, and put the letter of your choice within \\boxed{}.",
}
"""What is asked for behind the question, so that the verifier finds the answer."""
_SAMPLING = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
_KEPT = (
    *("dataset_path", "dataset_name", "dataset_kwargs", "custom_dataset", "training_split", "validation_split"),
    *("test_split", "fewshot_split", "process_docs", "description", "doc_to_text", "doc_to_target", "target_delimiter"),
    *("gen_prefix", "num_fewshot", "fewshot_delimiter", "fewshot_config", "generation_kwargs", "unsafe_code"),
)
"""What is taken over of a task of the harness: its documents, its prompt, its sampling; not its metrics and filters."""


class _Function(str):
    """The name behind a ``!function`` of a YAML."""


class _Draft(NamedTuple):
    """A task that is to be written."""

    config: dict[str, Any]
    path: Path
    chat: bool
    """Whether its prompt wants the model's chat template."""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "write the YAML of a task: your own problems in a file, or a task of the harness"
    parser = subparsers.add_parser(
        "task",
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}. Shows the first prompt and label, reads all labels, and "
        f"prints the command that runs it.",
    )
    parser.add_argument(
        "source", metavar="FILE|TASK", help="problems as .jsonl, .json, .csv or .parquet, or the name of a task"
    )
    parser.add_argument(
        "--question", metavar="COLUMN", help="of a file: what is asked, a column, or the whole prompt as a template"
    )
    parser.add_argument(
        "--label",
        metavar="COLUMN",
        help="the right answers: a column, a way into one, or a template (default: what the harness's task has)",
    )
    parser.add_argument(
        "--verifier", metavar="NAME", help="how answers are compared (default: choice for letters, else math)"
    )
    parser.add_argument("--name", help="of the task (default: the file's; TASK_eager of a task of the harness)")
    parser.add_argument("--include_path", metavar="DIR", help="where the harness finds TASK, if it is none of its own")
    parser.add_argument(
        "-o", "--output", type=path_argument, metavar="FILE", help="default: NAME.yaml beside the file, or here"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Writes the YAML and prints what it asks; UsageError, and no file, where that cannot be done."""
    from eager_lmeval.commands.writing import print_text

    with _others_quiet():
        print_text(_write(args))
    return 0


@contextmanager
def _others_quiet() -> Iterator[None]:
    """Without progress bars of `datasets` and the harness's warnings of its own task files."""
    import datasets

    harness, hidden = logging.getLogger("lm_eval"), datasets.are_progress_bars_disabled()
    level = harness.level
    harness.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        harness.setLevel(level)
        if not hidden:
            datasets.enable_progress_bars()


def _write(args: argparse.Namespace) -> str:
    """Writes the YAML; returns what there is to say of it."""
    from eager_lmeval.commands.writing import save_text

    source = Path(args.source)
    draft = _of_file(source, args) if source.suffix in _LOADERS else _of_harness(args)
    if draft.path.exists():
        raise UsageError(f"{draft.path} exists; remove it, or give another --output")
    save_text(draft.path, "")
    try:
        task = _load(draft)
        labels = [doc["eager"]["label"] for doc in task.eval_docs]
        draft.config["metadata"]["verifier"] = verifier = args.verifier or _verifier_for(labels)
        unread = _unread(labels, verifier)
        if source.suffix in _LOADERS and "{" not in args.question:
            draft.config["doc_to_text"] += _ASKING.get(verifier, "")
        save_text(draft.path, _yaml(draft.config))
        task = _load(draft)
        shown = task.doc_to_text(task.eval_docs[0])
    except BaseException:
        draft.path.unlink()
        raise
    return _said(draft, shown, labels, unread)


def _of_file(source: Path, args: argparse.Namespace) -> _Draft:
    if not source.is_file():
        raise UsageError(f"{source} does not exist; give a file of problems, or the name of a task of the harness")
    for option in ("question", "label"):
        if getattr(args, option) is None:
            raise UsageError(f"give --{option}: {source} has the columns {', '.join(_columns(source))}")
    name = args.name or re.sub(r"\W+", "_", source.stem)
    path = args.output or source.with_name(f"{name}.yaml")
    files: dict[str, Any] = {"data_files": {"test": _relative(source, path.parent)}}
    config = {
        "dataset_path": _LOADERS[source.suffix],
        "dataset_kwargs": files | ({"delimiter": "\t"} if source.suffix == ".tsv" else {}),
        "test_split": "test",
        "doc_to_text": _template(args.question),
        "doc_to_target": _template(args.label),
        "generation_kwargs": {**_SAMPLING, "max_gen_toks": 4096, "until": []},
    }
    return _Draft(_whole(name, config, _template(args.label), 1.0), path, "{" not in args.question)


def _of_harness(args: argparse.Namespace) -> _Draft:
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    if args.question is not None:
        raise UsageError(f"--question is for a file of problems; {args.source} has its own prompt")
    index = TaskManager(include_path=args.include_path).task_index
    entry = index.get(args.source)
    if entry is None or entry.yaml_path is None:
        near = near_name(args.source, index)
        hint = f"did you mean {near!r}?" if near else "`lm_eval ls tasks` lists all"
        raise UsageError(f"{args.source!r} is neither a file of problems nor a task of the harness; {hint}")
    given = load_yaml(entry.yaml_path, resolve_func=False)
    if "group" in given:
        raise UsageError(f"{args.source} is a group of tasks; give one of them (`lm_eval ls tasks` lists all)")
    kind = given.get("output_type", "generate_until")
    if kind != "generate_until" or not isinstance(given.get("task"), str):
        raise UsageError(f"{args.source} is no task that generates texts ({kind}), so there is nothing to branch")
    if "class" in given and "eager_lmeval" in str(given["class"]):
        raise UsageError(f"{args.source} knows of trees already: run it as it is")
    if given.get("unsafe_code") and args.verifier != "code":
        raise UsageError(
            f"{args.source} runs programs, and its answers are graded by their tests, which math, choice and exact "
            f"cannot; take eager_humaneval_plus, or write a task whose label is the tests with --verifier code"
        )
    name = args.name or f"{args.source}_eager"
    path = args.output or Path(f"{name}.yaml")
    config = {key: _named(given[key], path.parent) for key in _KEPT if given.get(key) is not None}
    kwargs = config.get("generation_kwargs") or {}
    if not kwargs.get("do_sample") or not kwargs.get("temperature"):
        config["generation_kwargs"] = kwargs | _SAMPLING
    label = args.label if args.label is not None else config.get("doc_to_target")
    if not isinstance(label, str) or isinstance(label, _Function):
        raise UsageError(f"{args.source} makes its answers by a function; give --label, a column or a template")
    version = (given.get("metadata") or {}).get("version", 1.0)
    return _Draft(_whole(name, config, _template(label), version), path, False)


def _whole(name: str, config: Mapping[str, Any], label: str, version: Any) -> dict[str, Any]:
    return {
        "class": _Function("eager_lmeval.task.EagerTask"),
        "task": name,
        **config,
        "output_type": "generate_until",
        "metadata": {"version": version, "label": label, "verifier": "exact"},
    }


def _template(column: str) -> str:
    """A column as a template, where a template can name it."""
    return f"{{{{{column}}}}}" if column.isidentifier() else column


def _columns(source: Path) -> list[str]:
    return list(_dataset(source).column_names)


def _dataset(source: Path) -> Any:
    import datasets

    try:
        return datasets.load_dataset(_LOADERS[source.suffix], data_files=str(source), split="train")
    except Exception as error:  # whatever a loader makes of a file that is none
        raise UsageError(f"{source} cannot be read as {_LOADERS[source.suffix]}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    cause = error.__cause__ or error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _relative(source: Path, folder: Path) -> str:
    """From the working folder where the YAML lies in it, else from the YAML's folder: both are looked in."""
    here = Path.cwd()
    base = here if folder.resolve().is_relative_to(here) and source.resolve().is_relative_to(here) else folder
    return Path(os.path.relpath(source.resolve(), base.resolve())).as_posix()


def _named(value: Any, folder: Path) -> Any:
    """A value of the harness's YAML with its functions, which the harness gives as paths, by names to import."""
    import lm_eval.tasks

    if isinstance(value, Mapping):
        return {key: _named(one, folder) for key, one in value.items()}
    if isinstance(value, list):
        return [_named(one, folder) for one in value]
    found = re.fullmatch(r"(/.+/[\w.-]+)\.(\w+)", value) if isinstance(value, str) else None
    if found is None or not Path(f"{found[1]}.py").is_file():
        return value
    module, root = Path(found[1]), Path(lm_eval.tasks.__file__).parent
    if module.is_relative_to(root):
        return _Function(".".join(("lm_eval.tasks", *module.relative_to(root).parts, found[2])))
    if module.parent == folder.resolve():
        return _Function(f"{module.name}.{found[2]}")
    raise UsageError(f"the task's function {found[2]} is in {module}.py; write the YAML beside it, with --output")


def _load(draft: _Draft) -> EagerTask:
    from lm_eval.tasks._yaml_loader import load_yaml

    from eager_lmeval.commands.writing import save_text
    from eager_lmeval.task import EagerTask

    save_text(draft.path, _yaml(draft.config))
    config = load_yaml(draft.path)
    config["metadata"]["config_source"] = str(draft.path.resolve())
    try:
        task = EagerTask(config=config)
    except UsageError:
        raise
    except Exception as error:  # the hub, a template, a function of the task: each in its own words
        raise UsageError(f"the documents and prompts cannot be made: {_first_line(error)}") from error
    if not len(task.eval_docs):
        raise UsageError("the task has no documents")
    return task


def _verifier_for(labels: Sequence[str]) -> str:
    return "choice" if all(re.fullmatch(r"\(?[A-J]\)?", label.strip()) for label in labels) else "math"


def _unread(labels: Sequence[str], name: str) -> list[tuple[int, str]]:
    """The documents whose label the verifier cannot read, with the reason; UsageError if it can read none."""
    from eager_lmeval.pools.labels import label_refusal
    from eager_lmeval.verify import get_verifier

    verifier = get_verifier(name)
    refusals = ((place, label_refusal(verifier, label)) for place, label in enumerate(labels))
    found = [(place, reason) for place, reason in refusals if reason]
    if len(found) == len(labels):
        raise UsageError(f"no label can be read; the first: {found[0][1]}")
    return found


def _yaml(config: Mapping[str, Any]) -> str:
    import yaml  # type: ignore[import-untyped]  # it comes without types

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]  # as above
        """Writes `!function` as the harness reads it."""

    Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", str(name)))
    text: str = yaml.dump(dict(config), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _said(draft: _Draft, prompt: str, labels: Sequence[str], unread: Sequence[tuple[int, str]]) -> str:
    config = draft.config
    shots = config.get("num_fewshot") or 0
    behind = f", behind {shots} examples" if shots else ""
    lines = [
        f"{draft.path}: task {config['task']}, {len(labels):,} documents, verifier {config['metadata']['verifier']}",
        "",
        f"The first prompt{behind}:",
        *(f"  {line}".rstrip() for line in prompt.splitlines()),
        f"Its label: {labels[0]}",
    ]
    if unread:
        place, reason = unread[0]
        lines.append(f"{len(unread)} labels cannot be read, and their documents will be unscored: {place}, {reason}")
    command = [
        *("lm_eval run --model eager --model_args pretrained=MODEL,max_sequences=16 \\\n     ",),
        *("--include_path", shlex.quote(os.path.relpath(draft.path.parent)), "--tasks", str(config["task"])),
        *(["--apply_chat_template"] if draft.chat else []),
        *(["--confirm_run_unsafe_code"] if config["metadata"]["verifier"] == "code" else []),
        *("--output_path", "out", "--log_samples"),
    ]
    return "\n".join([*lines, "", "Run it with a model of yours:", f"  {' '.join(command)}", ""])
