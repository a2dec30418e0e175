"""The demo model's arithmetic problems: held-out set, training stream and the solutions to imitate.

Easy kinds are computed, so a trained model is sure of every token. The others are searched: a solution names a
guess, checks it, and stops at the first that holds or at the last it may make, whose value is boxed either way.
The guesses are informed, as a reasoning model's are: solutions lie near the coefficient more often than far from it,
and guesses are drawn as solutions are. What is likely is tried first; a modulus says how far the solution may stray,
and so how hard a problem is. The check ends in a difference from the target: comparing two numbers outright was not
learnt in 1,200 steps.

A question is written in one way only (the larger summand first), so comparing texts compares problems.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

GUESSES = 3  # a solution may make
STRAYING = {17: 0.6, 19: 0.72, 23: 0.82, 29: 0.9}  # modulus: odds of a value against those of the next nearer one
HELD_OUT_SEED = 2510
TRAINING_SEED = 11170


@dataclass(frozen=True)
class Problem:
    """One question with its only right answer, and one solution in the training format.

    The solution of a search is one draw among many and may end on a wrong guess.
    """

    kind: str
    question: str
    solution: str
    answer: int

    @property
    def difficulty(self) -> str:
        """`easy`, `middling` or `hard`, by kind."""
        return KINDS[self.kind].difficulty


@dataclass(frozen=True)
class Kind:
    """How to draw a problem, and its share of the held-out set (problems) and of training (weight)."""

    difficulty: str
    draw: Callable[[random.Random], Problem]
    held_out: int
    weight: float


def _solution(steps: list[str], answer: int) -> str:
    return f"<think>{''.join(step + ';' for step in steps)}</think>\\boxed{{{answer}}}"


def _nearest_first(a: int, modulus: int) -> list[int]:
    """1 to modulus - 1 by their distance from a, round a circle; of two as far the larger first."""
    turns = [0, *(turn for step in range(1, modulus) for turn in (step, -step))]
    return [(a - 1 + turn) % (modulus - 1) + 1 for turn in turns[: modulus - 1]]


def _guesses(rng: random.Random, a: int, modulus: int, count: int) -> list[int]:
    """Different values, each drawn by its odds among those that are left."""
    values = _nearest_first(a, modulus)
    odds = [STRAYING[modulus] ** rank for rank in range(len(values))]
    found = []
    for _ in range(count):
        (place,) = rng.choices(range(len(values)), odds)
        found.append(values.pop(place))
        del odds[place]
    return found


def _draw_add(rng: random.Random) -> Problem:
    """A sum, with every column and its carry written out."""
    b, a = sorted((rng.randint(10, 99), rng.randint(10, 99)))
    steps, carry, rest_a, rest_b = [], 0, a, b
    while rest_a:
        columns = [rest_a % 10, *([rest_b % 10] if rest_b else []), *([carry] if carry else [])]
        total = sum(columns)
        steps.append("+".join(map(str, columns)) + f"={total}")
        carry, rest_a, rest_b = total // 10, rest_a // 10, rest_b // 10
    return Problem("add", f"Add {a} and {b}.", _solution(steps, a + b), a + b)


def _draw_multiply(rng: random.Random) -> Problem:
    """A product from the table that the checks of `mod*` need too."""
    a, b = rng.randint(10, 28), rng.randint(10, 28)
    return Problem("multiply", f"Multiply {a} by {b}.", _solution([f"{a}*{b}={a * b}"], a * b), a * b)


def _draw_mod(modulus: int) -> Callable[[random.Random], Problem]:
    def draw(rng: random.Random) -> Problem:
        a = rng.randint(2, modulus - 1)
        (x,) = _guesses(rng, a, modulus, 1)
        b = a * x % modulus
        guess, steps = 0, []
        for guess in _guesses(rng, a, modulus, GUESSES):
            remainder = a * guess % modulus
            verdict = "ok" if remainder == b else "no"
            steps.append(f"{a}*{guess}={a * guess}:{remainder}-{b}={remainder - b} {verdict}")
            if remainder == b:
                break
        return Problem(f"mod{modulus}", f"Solve {a}*x={b} mod {modulus}.", _solution(steps, guess), x)

    return draw


KINDS: dict[str, Kind] = {
    "add": Kind("easy", _draw_add, 40, 0.12),
    "multiply": Kind("easy", _draw_multiply, 30, 0.08),
    "mod17": Kind("middling", _draw_mod(17), 40, 0.16),
    "mod19": Kind("middling", _draw_mod(19), 40, 0.18),
    "mod23": Kind("hard", _draw_mod(23), 45, 0.20),
    "mod29": Kind("hard", _draw_mod(29), 45, 0.26),
}


def held_out() -> list[Problem]:
    """The held-out problems, shuffled; the same list every time."""
    chosen: list[Problem] = []
    for name, kind in KINDS.items():
        # A generator of its own for each kind: changing one kind's number leaves the others' problems alone.
        rng = random.Random(f"{HELD_OUT_SEED}:{name}")
        problems: dict[str, Problem] = {}
        while len(problems) < kind.held_out:
            problem = kind.draw(rng)
            problems.setdefault(problem.question, problem)
        chosen.extend(problems.values())
    random.Random(HELD_OUT_SEED).shuffle(chosen)
    return chosen


def training_block(index: int, size: int, reserved: frozenset[str]) -> Iterator[Problem]:
    """Block `index` of the endless training stream: `size` problems, none with a reserved question.

    A pure function of its arguments, so that training resumes, and can be replayed, at any block.
    """
    rng = random.Random(f"{TRAINING_SEED}:{index}")
    names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
    while size:
        problem = KINDS[rng.choices(names, weights)[0]].draw(rng)
        if problem.question not in reserved:
            size -= 1
            yield problem
