"""What survives a kill: finished parts of prompts on disk, under a key of everything that determines them (SPEC 9).

`journal` is the files, `parts` the names of what they hold, `pool_journal` what a pool sees of it, `identity` the key.
Does not know strategies or the harness; `identity` looks at a model and a tokenizer, the rest at trees alone.
"""
