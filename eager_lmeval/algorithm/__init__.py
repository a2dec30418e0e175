"""EAGER as the specification has it (SPEC 1 to 6): the gate, branching, strategies, the budget, randomness, the tree.

Knows ints, floats, strings and lists. Does not know tensors, engines, the harness, files, or how many processes run;
labels reach it as one yes or no a tree (`strategy.Judge`).
"""
