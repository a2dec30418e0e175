"""`eager-lmeval sweep`: one model, many settings, the paper's table.

`config` reads and checks the configuration, `table` writes what came out, `command` is the command.
"""
