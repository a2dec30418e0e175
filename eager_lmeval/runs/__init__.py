"""What a finished run left: its files, its documents, what it may be compared with, and grading again.

`run` finds a run and knows its parts, `results` is its results file, `samples` its samples, line by line, `documents`
a document with its grades, `regrade` grades again. Does not know engines, models or how a result is shown; imports no
torch.
"""
