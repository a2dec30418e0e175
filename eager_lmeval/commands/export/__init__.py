"""`eager-lmeval export`: runs in others' formats.

`sequences` is a table of every sequence; `every_eval` the records of Every Eval Ever, `hub` the results of a model's
page on the Hugging Face Hub, `inspect` a log of Inspect. `command` is the command.
"""
