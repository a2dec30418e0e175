"""`eager-lmeval compare` and `eager-lmeval track`: one gate for a CI job, over two runs or over a history of them.

`options` and `limits` are what both are given, `pairing` aligns the documents of two runs, `verdict` decides on them,
`comparison` writes that down, and `junit` the findings of both; `compare` is the command. Of `track`: `history` is the
file; `check` judges, of a suite by a `policy`, with `trend` (steps and drifts) and `repeats` (how many more runs would
settle it); `output` writes what was judged, `page` draws the trend, `track` is the command. Whether runs may be
compared says `runs.conditions`.
"""
