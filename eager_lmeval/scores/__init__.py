"""Numbers from trees: metrics, votes and their error bars, paired comparisons, and grading again (SPEC 8).

Knows records of trees and verifiers. Does not know engines, models or how a result is shown; imports no torch.
"""
