"""`eager-lmeval leaderboard`: models × tasks, ranked with what the documents cannot tell apart.

`table` makes the rows and ranks them, `output` writes them, `command` is the command.
"""
