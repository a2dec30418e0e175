"""The study: runs its sweeps and simulations, keeps their numbers, and writes its tables and its plot.

    make study                                 what is not there yet: some five hours on one core, by an estimate
    make study QUICK=1                         24 problems, one seed, the demo model: minutes; prints the pages
    python study/run.py --only curves wide     some of the sweeps
    python study/run.py --tables               no runs: tables and plot from the numbers that are kept

Sweeps are `study/configs/**/*.yaml`, run by `eager-lmeval sweep` into build/study, where an interrupted study goes on.
Those of the real model wait for its folder (`study/real_model.py`). Then come the two simulations. The numbers that are
kept of all are in study/results/. Tables stand in study/RESULTS.md, and some of them in docs/study.md and docs/race.md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from cells import collect, save
from marks import fill
from page import PAGES, draw, tables

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CONFIGS = {
    "-".join(path.relative_to(HERE / "configs").with_suffix("").parts): path
    for path in sorted((HERE / "configs").rglob("*.yaml"))
    if "sweep" in yaml.safe_load(path.read_text(encoding="utf-8"))
}
REAL_MODEL = ROOT / "build" / "smollm2-135m-instruct"
SIMULATIONS = ("estimates", "long_answers")
QUICK_PROBLEMS = 24


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CONFIGS, default=list(CONFIGS), help="sweeps (default all)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PROBLEMS} problems, one seed")
    parser.add_argument("--tables", action="store_true", help="run nothing: tables and the plot from study/results")
    args = parser.parse_args()
    results = ROOT / "build" / "study-quick" / "results" if args.quick else HERE / "results"
    if not args.tables:
        for name in args.only:
            if status := run_sweep(name, results, args.quick):
                return status
        if set(args.only) == set(CONFIGS):
            for name in SIMULATIONS:
                command = [sys.executable, str(HERE / f"{name}.py"), "--json", str(results / f"{name}.json")]
                subprocess.run([*command, *(["--quick"] if args.quick else [])], cwd=ROOT, check=True)
    found = tables(results)
    for page in PAGES:
        text = fill(page.read_text(encoding="utf-8"), found)
        if args.quick:
            print(text)
        else:
            page.write_text(text, encoding="utf-8")
    if not args.quick:
        draw(results, ROOT / "docs" / "study.png")
    return 0


def run_sweep(name: str, results: Path, quick: bool) -> int:
    """Runs what is missing of a sweep and keeps its numbers; the command's exit status."""
    if name.startswith("real-") and (quick or not REAL_MODEL.is_dir()):
        place = REAL_MODEL.relative_to(ROOT)
        print(f"{name}: left out, it needs the real model: python study/real_model.py {place}", file=sys.stderr)
        return 0
    config = quick_config(name) if quick else CONFIGS[name]
    if status := sweep(config):
        return status
    folder = ROOT / str(yaml.safe_load(config.read_text(encoding="utf-8"))["output_path"])
    save(collect(folder, name), results / f"{name}.jsonl.gz")
    return 0


def sweep(config: Path) -> int:
    """The command's exit status."""
    command = [sys.executable, "-m", "eager_lmeval.commands.cli", "sweep", str(config)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def quick_config(name: str) -> Path:
    """A copy of a sweep's configuration with few problems and one seed, which writes elsewhere."""
    settings: dict[str, Any] = yaml.safe_load(
        CONFIGS[name].read_text(encoding="utf-8").replace("build/study/", "build/study-quick/")
    )
    settings["limit"] = QUICK_PROBLEMS
    del settings["sweep"]["seed"][1:]
    path = ROOT / "build" / "study-quick" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
