"""`eager-lmeval calibrate`: chooses θ and M from a small pilot run, before money is spent on the whole one.

`pilot` replays the gate on recorded entropies, `command` is the command.
"""
