"""Several processes as one: exchange between ranks, the queue that all draw from, and how a failure ends all.

Knows torch.distributed and counters. Does not know prompts, trees, models or the harness.
"""
