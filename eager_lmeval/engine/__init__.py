"""What turns runs of the algorithm into sequences: the loop that decodes, and what it reads off the logits.

`runner` is the interface behind which the tensors of a model are; `transformers` implements it. Knows tokens, rows,
logits and memory. Does not know budgets, strategies, labels, journals or the harness.
"""
