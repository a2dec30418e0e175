"""What `eager-lmeval` does beside a run: show, compare, predict, repeat, grade again.

A folder or file a subcommand; `cli` finds them, `runs` reads what runs wrote, `writing` is how all of them print and
save, `amounts` how they read numbers. All but `sweep` and `demo`, which run models, and `task`, which asks the
harness, import no torch.
"""
