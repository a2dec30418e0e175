"""`eager-lmeval sweep`: strategies × thresholds × temperatures × M, or any options, with one model in memory."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eager_lmeval.commands.arguments import path_argument
from eager_lmeval.commands.sweep import config as sweep_config
from eager_lmeval.commands.sweep.config import Cell
from eager_lmeval.commands.writing import save_text
from eager_lmeval.errors import UsageError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from lm_eval.config.evaluate_config import EvaluatorConfig

    from eager_lmeval.runs.run import Run

__all__ = ["add_parser", "evaluate", "run"]

INTERRUPTED = 130
_SETTINGS = "settings.json"
_EPILOG = """\
CONFIG is a configuration for lm_eval run --config with one more key, such as

  sweep:
    strategy: [parallel, init, consistency]
    branching: [top2, systematic]
    fan_out: [none, 2]
    entropy_threshold: [1.5, 2.0, 2.5]
    temperature: [0.6, 0.9]
    max_sequences: [32]
    seed: [1, 2, 3]

Any option of eager can be varied. Each cell is an ordinary run in a folder of its own below output_path; cells that are
there are not run again, so the same command goes on after an interruption. Seed by seed is run, and the tables show
means over the seeds; table.csv has a line a cell. table.md, table.csv, table.tex and tradeoff.svg are written beside
them. A task without the paper's metrics is shown with its own.
"""


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = (
        "run strategies × thresholds × temperatures × M, or any options, with one model, and print the paper's table"
    )
    parser = subparsers.add_parser(
        "sweep",
        help=summary,
        description=summary,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", type=path_argument, metavar="CONFIG")
    parser.add_argument("--dry-run", action="store_true", help="list the cells and what is left to run")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Runs what is missing and writes the tables; UsageError for whatever can be known to be wrong before that."""
    settings = sweep_config.read_settings(args.config)
    axes = settings.pop("sweep")
    cells = sweep_config.cells_of(axes)
    output = Path(settings.pop("output_path", None) or "out/sweep")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("a sweep runs as one process; start it without accelerate launch or torchrun")
    config = sweep_config.evaluator_config(args.config, {**settings, "output_path": str(output)})
    sweep_config.check_cells(cells, config)
    _refuse_other_settings(settings, output)
    missing = [cell for cell in cells if _finished(output / cell.folder) is None]
    print(f"{len(cells)} cells in {output}, {len(missing)} to run", flush=True)
    if args.dry_run:
        for cell in cells:
            print(f"{'to run' if cell in missing else 'there '}  {cell.folder}")
        return 0
    if missing:
        try:
            announce = _announce(len(missing))

            def begins(place: int, cell: Cell) -> None:
                if not place:  # nothing is wrong with the tasks and the model
                    save_text(output / _SETTINGS, json.dumps(settings, indent=2, default=str) + "\n")
                announce(place, cell)

            evaluate(config, missing, output, begins)
        except KeyboardInterrupt:
            left = sum(_finished(output / cell.folder) is None for cell in cells)
            print(
                f"\neager-lmeval sweep: interrupted with {left} of {len(cells)} cells to run; "
                f"run the same command again to go on",
                file=sys.stderr,
            )
            return INTERRUPTED
    runs = [found for cell in cells if (found := _finished(output / cell.folder)) is not None]
    _write_tables(runs, list(axes), output)
    return 0


def _refuse_other_settings(settings: Mapping[str, Any], output: Path) -> None:
    """Cells are found again by their folders' names, which say nothing of the model, the tasks or the seed."""
    path = output / _SETTINGS
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged ({error}); give another output_path, or remove {output}") from error
    now = json.loads(json.dumps(settings, default=str))
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed and any(_finished(folder) is not None for folder in output.iterdir() if folder.is_dir()):
        raise UsageError(
            f"{output} holds finished cells of a sweep that differs in {', '.join(changed)}; give another output_path, "
            f"or remove the folder"
        )


def _finished(folder: Path) -> Run | None:
    """The newest run of a cell whose files are whole."""
    from eager_lmeval.runs.run import iter_samples, read_run, results_files

    try:
        files = results_files(folder)
    except UsageError:
        return None
    for file in reversed(files):
        try:
            found = read_run(file)
            for task in found.tasks:
                for _ in iter_samples(found, task):
                    pass
        except UsageError:
            continue
        return found
    return None


def _announce(cells: int) -> Callable[[int, Cell], None]:
    """Says which cell begins, and what the remaining ones take if each takes as long as those before it on average."""
    from tqdm import tqdm

    started = time.monotonic()

    def announce(place: int, cell: Cell) -> None:
        seconds = (time.monotonic() - started) / place * (cells - place) if place else 0.0
        left = f" (about {tqdm.format_interval(seconds)} left)" if place else ""
        print(f"\n[{place + 1}/{cells}] {cell.folder}{left}", flush=True)

    return announce


def evaluate(config: EvaluatorConfig, cells: Sequence[Cell], output: Path, begins: Callable[[int, Cell], None]) -> None:
    """Runs the cells as the harness's command line would, on one model; each into its folder below ``output``."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker

    from eager_lmeval.harness.tasks import load_tasks
    from eager_lmeval.lm import EagerLM

    try:
        manager = config.process_tasks(config.metadata)
        tasks = load_tasks(manager, config.tasks)
    except ValueError as error:  # a task that is not there
        raise UsageError(f"{error}; a task of your own needs include_path") from error
    sweep_config.check_tasks(tasks, config)
    of_harness = {"batch_size": config.batch_size, "max_batch_size": config.max_batch_size, "device": config.device}
    lm = EagerLM.create_from_arg_obj(config.model_args, of_harness)
    seeds = config.seed or [None] * 4
    pools_before = 0
    for place, cell in enumerate(cells):
        begins(place, cell)
        tracker = EvaluationTracker(output_path=str(output / cell.folder))
        results = simple_evaluate(
            model=lm,
            model_args=config.model_args,
            tasks=config.tasks,
            num_fewshot=config.num_fewshot,
            limit=config.limit,
            samples=config.samples,
            check_integrity=config.check_integrity,
            write_out=config.write_out,
            log_samples=True,
            evaluation_tracker=tracker,
            system_instruction=config.system_instruction,
            apply_chat_template=config.apply_chat_template,
            fewshot_as_multiturn=config.fewshot_as_multiturn,
            gen_kwargs={**(config.gen_kwargs or {}), **cell.gen_kwargs},
            task_manager=manager,
            verbosity=config.verbosity,
            random_seed=seeds[0],
            numpy_random_seed=seeds[1],
            torch_random_seed=seeds[2],
            fewshot_random_seed=seeds[3],
            confirm_run_unsafe_code=config.confirm_run_unsafe_code,
            metadata=config.metadata,
            **(config.cache_requests or {}),
        )
        pools = results["config"]["eager"]["pools"]  # of all cells so far: one model made them
        results["config"]["eager"] = {**results["config"]["eager"], "pools": pools[pools_before:]}
        pools_before = len(pools)
        samples = results.pop("samples")
        tracker.save_results_aggregated(results=results, samples=samples)
        for task in results["configs"]:
            tracker.save_results_samples(task_name=task, samples=samples[task])


def _write_tables(runs: Sequence[Run], axes: Sequence[str], output: Path) -> None:
    from eager_lmeval.commands.plots import Point, scatter
    from eager_lmeval.commands.sweep import table as sweep_table
    from eager_lmeval.commands.writing import print_text

    cells = sweep_table.rows_of(runs, axes)
    rows = sweep_table.means_of(cells)
    table = sweep_table.to_markdown(rows)
    points = [
        Point(row.measures["#T"], y := row.headline, y, y, row.short, row.strategy, row.strategy == "eager")
        for row in rows
    ]
    names = dict.fromkeys(sweep_table.MEASURES.get(row.measure, row.measure) for row in rows)
    texts = {
        "table.md": table,
        "table.csv": sweep_table.to_csv(cells),
        "table.tex": sweep_table.to_latex(rows),
        "tradeoff.svg": scatter(points, "tokens", " / ".join(names), alone=True),
    }
    for name, text in texts.items():
        save_text(output / name, text)
    print_text(f"\n{table}\nWritten to {output}: {', '.join(texts)}\n")
