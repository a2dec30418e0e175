"""Checks a folder of golden cases: ``python tests/golden.py DIR``. The door to `support/golden_cases.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "support"))

import torch  # after the path, as all below
from golden_cases import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
