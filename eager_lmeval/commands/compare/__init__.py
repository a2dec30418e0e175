"""`eager-lmeval compare`: two runs, document by document, and a gate for a CI job.

`pairing` reads and aligns the files, `verdict` decides, `output` writes what was decided, `command` is the command.
"""
