"""Runs one program in the jail from a process that is itself capped, so that a broken jail could do no harm either.

Reads a job from standard input and writes the outcome to standard output, both JSON.
"""

import json
import os
import resource
import signal
import sys

OUTER = {
    resource.RLIMIT_AS: 6 << 30,
    resource.RLIMIT_CPU: 40,
    resource.RLIMIT_FSIZE: 64 << 20,
    resource.RLIMIT_NPROC: 400,
    resource.RLIMIT_CORE: 0,
}

if __name__ == "__main__":
    for kind, value in OUTER.items():
        resource.setrlimit(kind, (value, value))
    signal.alarm(45)

    from eager_lmeval.verify.sandbox import Limits, run_in_jail

    job = json.load(sys.stdin)
    if job.pop("announce", False):
        print(os.getpid(), flush=True)
    outcome = run_in_jail(**{**job, "limits": Limits(**job["limits"])})
    print(json.dumps(outcome._asdict()))
