"""`eager-lmeval track`: a history of runs, the newest of them judged, and a page of its trend.

`history` is the file, `record` makes a line of a run; `check` judges, with `trend` (steps and drifts), `repeats` (how
many more runs would settle it) and `outcome` (what a finding means); `output` writes what was judged, `page` draws the
trend, `command` is the command.
"""
