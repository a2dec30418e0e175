"""`eager-lmeval calibrate`: chooses θ and M from a small pilot run, before money is spent on the whole one.

`examples` reads the pilot, `splits` plays systematic trees on it, `pilot` forecasts, `command` is the command.
"""
