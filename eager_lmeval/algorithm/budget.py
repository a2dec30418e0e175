"""The budget (SPEC 5, 6): what stage 1 left over, who gets it, and a ledger that must balance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["Ledger", "share_surplus", "surplus"]


def surplus(max_sequences: int, used: Sequence[int]) -> int:
    """B = M·D − Σ n_i after stage 1, never negative. ``used`` holds each prompt's number of sequences."""
    return max(0, max_sequences * len(used) - sum(used))


def share_surplus(
    surplus: int, eligible: Sequence[int], cap: int, room: Mapping[int, int] | None = None
) -> dict[int, int]:
    """Grants by prompt: even shares, the remainder one each in the given order, none above ``cap``.

    What a capped prompt cannot take goes round again to the others. The sum never exceeds ``surplus``. ``room`` is what
    each prompt may take at most besides.
    """
    grants = dict.fromkeys(eligible, 0)
    caps = {prompt: cap if room is None else min(cap, room[prompt]) for prompt in eligible}
    left = surplus
    while left and (open_prompts := [prompt for prompt in eligible if grants[prompt] < caps[prompt]]):
        share, remainder = divmod(left, len(open_prompts))
        for place, prompt in enumerate(open_prompts):
            grant = min(share + (place < remainder), caps[prompt] - grants[prompt])
            grants[prompt] += grant
            left -= grant
    return grants


@dataclass(frozen=True)
class Ledger:
    """Where a pool's budget came from and where it went, in sequences."""

    max_sequences: int
    prompts: int
    used: int
    surplus: int
    eligible: int = 0
    grants: Mapping[int, int] = field(default_factory=dict)
    """Granted sequences by prompt index; prompts that were granted none are left out."""
    spent: int = 0
    """Sequences that stage 2 made."""
    unbounded: bool = False
    """``count: active`` bounds the unfinished sequences only: more than M·D may be used, more spent than granted."""
    by_copies: bool = False
    """``branching: systematic`` grants copies, of which several may end as one sequence: less may be spent."""

    def with_spent(self, spent: int) -> Ledger:
        """The same ledger when stage 2 has ended."""
        return replace(self, spent=spent)

    @property
    def granted(self) -> int:
        return sum(self.grants.values())

    @property
    def left(self) -> int:
        """What remains of the surplus; below 0 only where the count is unbounded."""
        return self.surplus - self.spent

    def check_balance(self) -> None:
        """Raises RuntimeError, naming the equation, when the sums do not balance."""
        budget = self.max_sequences * self.prompts
        equations = {
            f"grants {self.granted} <= surplus {self.surplus}": self.granted <= self.surplus,
            f"eligible {self.eligible} >= granted prompts {len(self.grants)}": self.eligible >= len(self.grants),
        }
        if self.unbounded:
            expected = max(0, budget - self.used)
            equations[f"surplus {self.surplus} = max(0, M*D {budget} - used {self.used})"] = self.surplus == expected
            equations[f"spent {self.spent} >= granted {self.granted}"] = self.spent >= self.granted
        else:
            equations[f"used {self.used} + surplus {self.surplus} = M*D {budget}"] = self.used + self.surplus == budget
            if self.by_copies:
                equations[f"spent {self.spent} <= granted {self.granted}"] = self.spent <= self.granted
            else:
                equations[f"spent {self.spent} = granted {self.granted}"] = self.spent == self.granted
        if broken := [equation for equation, holds in equations.items() if not holds]:
            raise RuntimeError(f"the budget does not balance: {'; '.join(broken)}")

    def to_record(self) -> dict[str, Any]:
        """Plain JSON data; the grants are keyed by the prompt's index as a string."""
        record = asdict(self) | {"granted": self.granted, "left": self.left}
        record["grants"] = {str(prompt): grant for prompt, grant in self.grants.items()}
        return record
