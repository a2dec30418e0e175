"""What trees estimate, beside independent sampling: bias, error and tokens of the weighted rate and of the plain one.

    python study/estimates.py             six CPU minutes
    python study/estimates.py --quick     half a minute: fewer prompts and seeds, M 8
    python study/estimates.py --json study/results/estimates.json

The models are scripted: a text is a chain of tokens, certain but for every so-manieth step, which is drawn from five
tokens; what is drawn adds to or takes from the odds that the last token is right. So the true rate of each prompt is
summed up exactly. Every design grows every prompt once a seed, in the project's own engine. Printed are

- `bias`: mean over prompts of what the weighted rate is above the truth, with its standard error over seeds;
- `rms`: the same prompt by prompt, root mean square, what chance would make of it taken off;
- `error²`, `tokens`: mean squared error of a prompt's weighted rate, and tokens, as shares of `parallel`'s;
- `product`: of the two: the tokens that equal precision costs, with its standard error (jackknife over seeds);
- `plain bias`, `plain rms`: of the plain rate, every sequence counted once, as the paper counts;
- `sequences` and the share of prompts with a right one.

The last line of stdout is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import numpy as np
import torch
from numpy.typing import NDArray
from scripted import EOS, ScriptedRunner, scripted_engine, scripted_prompt

from eager_lmeval.algorithm.options import resolve
from eager_lmeval.pools.run import grow_pool

CHOICES = (1, 2, 3, 4, 5)
RIGHT, WRONG, STEP = 6, 7, 8
VOCABULARY = 9
LENGTH = 28
"""Tokens of a text before its EOS."""
DESIGNS: dict[str, dict[str, Any]] = {
    "parallel": {"strategy": "parallel"},
    "systematic": {"branching": "systematic"},
    "systematic, fan_out 4": {"branching": "systematic", "fan_out": 4},
    "systematic, fan_out 2": {"branching": "systematic", "fan_out": 2},
    "systematic, θ 0": {"branching": "systematic", "entropy_threshold": 0.0},
    "systematic, θ 1.35": {"branching": "systematic", "entropy_threshold": 1.35},
    "top2": {"branching": "top2"},
}
"""Options. (Several roots and rounds, which the page has too, were grown by release 0.1.)"""


class Chain:
    """A model whose next token depends on the prompt, the position and what the choices before add up to.

    ``every``: every so-manieth step is uncertain. ``concentration``: of the Dirichlet distribution that the
    probabilities there are drawn from; the lower, the fewer of the five tokens are likely. ``informed``: whether the
    most likely token helps the odds of a right end and unlikely ones harm them; otherwise what a token does has nothing
    to do with its probability.
    """

    def __init__(self, every: int, concentration: float = 3.0, informed: bool = False) -> None:
        self._every = every
        self._concentration = concentration
        self._informed = informed

    def __call__(self, prompt: Sequence[int], generated: Sequence[int]) -> NDArray[np.float64]:
        score = 0
        for place in range(self._every - 1, min(len(generated), LENGTH - 1), self._every):
            score += int(self.effects(prompt[0], place, score)[generated[place]])
        return np.log(np.maximum(self.chances(prompt[0], len(generated), score), 1e-300))

    def chances(self, prompt: int, position: int, score: int) -> NDArray[np.float64]:
        """Probabilities of the next token. (vocabulary,)"""
        chances = np.zeros(VOCABULARY)
        if position == LENGTH:
            chances[EOS] = 1.0
        elif position == LENGTH - 1:
            right = 1 / (1 + math.exp(-score - hardness(prompt)))
            chances[[RIGHT, WRONG]] = right, 1 - right
        elif position % self._every == self._every - 1:
            return uncertain(prompt, position, score, self._concentration)
        else:
            chances[STEP] = 1.0
        return chances

    def effects(self, prompt: int, position: int, score: int) -> NDArray[np.int64]:
        """What each token of an uncertain step adds to the odds that the text ends right. (vocabulary,)"""
        if not self._informed:
            return arbitrary(prompt, position)
        return helpful(prompt, position, score, self._concentration)

    def rate(self, prompt: int) -> float:
        """The probability that an independent sample ends right."""

        @cache
        def from_here(position: int, score: int) -> float:
            chances = self.chances(prompt, position, score)
            if position == LENGTH - 1:
                return float(chances[RIGHT])
            if position % self._every != self._every - 1:
                return from_here(position + 1, score)
            after = (from_here(position + 1, score + int(by)) for by in self.effects(prompt, position, score))
            return sum(p * rate for p, rate in zip(chances, after, strict=True) if p)

        return from_here(0, 0)


MODELS = {
    "an uncertain token in 3": Chain(3),
    "an uncertain token in 9": Chain(9),
    "an uncertain token in 9, of which one is likely and helps": Chain(9, concentration=0.8, informed=True),
}


@cache
def hardness(prompt: int) -> float:
    return float(np.random.default_rng(-prompt).normal(scale=1.5))


@cache
def arbitrary(prompt: int, position: int) -> NDArray[np.int64]:
    return np.random.default_rng([-prompt, position]).integers(-1, 2, size=VOCABULARY)


@cache
def helpful(prompt: int, position: int, score: int, concentration: float) -> NDArray[np.int64]:
    """The most likely token helps, the second does nothing, the others harm."""
    effects = np.full(VOCABULARY, -1)
    effects[np.argsort(-uncertain(prompt, position, score, concentration))[:2]] = 1, 0
    return effects


@cache
def uncertain(prompt: int, position: int, score: int, concentration: float) -> NDArray[np.float64]:
    """Probabilities at an uncertain step. (vocabulary,)"""
    chances = np.zeros(VOCABULARY)
    generator = np.random.default_rng([-prompt, position, score + 100])
    chances[list(CHOICES)] = generator.dirichlet(np.full(len(CHOICES), concentration))
    return chances


class Estimates:
    """What one design says of each prompt, once a seed."""

    def __init__(self, model: Chain, design: dict[str, Any], most: int, prompts: int, seeds: int) -> None:
        base = {"strategy": "init", "entropy_threshold": 0.5, "temperature": 1.0, "max_gen_toks": 2 * LENGTH}
        self.weighted, self.plain = np.zeros((seeds, prompts)), np.zeros((seeds, prompts))
        self.tokens, self.sequences, self.found = (np.zeros((seeds, prompts)) for _ in range(3))
        for seed in range(seeds):
            options = resolve(base | design | {"max_sequences": most, "seed": seed})
            pool = [scripted_prompt(index, options, length=1) for index in range(prompts)]
            engine = scripted_engine(ScriptedRunner(model), options, max_rows=512)
            for place, tree in enumerate(grow_pool(pool, options, engine).trees):
                right = np.array([sequence.tokens[-2] == RIGHT for sequence in tree.sequences])
                weights = np.array(tree.weights())
                self.weighted[seed, place] = weights @ right / weights.sum()
                self.plain[seed, place] = right.mean()
                self.tokens[seed, place] = tree.tokens
                self.sequences[seed, place] = tree.num_sequences
                self.found[seed, place] = right.any()
        self.truth = np.array([model.rate(-1 - index) for index in range(prompts)])

    def errors(self) -> NDArray[np.float64]:
        """By seed: the mean squared error of a prompt's weighted rate."""
        errors: NDArray[np.float64] = ((self.weighted - self.truth) ** 2).mean(axis=1)
        return errors


def bias(estimates: NDArray[np.float64], truth: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of estimates (seeds, prompts): their mean bias, its standard error over seeds, and the bias prompt by prompt."""
    off = (estimates - truth).mean(axis=1)
    by_chance = float(estimates.var(axis=0, ddof=1).mean()) / len(estimates)
    squared = float(((estimates.mean(axis=0) - truth) ** 2).mean()) - by_chance
    return float(off.mean()), float(off.std(ddof=1)) / math.sqrt(len(off)), math.sqrt(max(0.0, squared))


def cost_of_precision(design: Estimates, base: Estimates) -> tuple[float, float]:
    """Error² × tokens as a share of ``base``'s, and its standard error by the jackknife over seeds."""
    parts = [design.errors(), base.errors(), design.tokens.mean(axis=1), base.tokens.mean(axis=1)]

    def ratio(sums: Sequence[float]) -> float:
        return sums[0] / sums[1] * sums[2] / sums[3]

    seeds = len(parts[0])
    without = np.array([ratio([float(part.sum() - part[seed]) for part in parts]) for seed in range(seeds)])
    spread = math.sqrt((seeds - 1) / seeds * float(((without - without.mean()) ** 2).sum()))
    return ratio([float(part.sum()) for part in parts]), spread


def row(model: str, name: str, most: int, design: Estimates, base: Estimates) -> dict[str, Any]:
    """What is printed of a design, and kept."""
    off, off_error, rms = bias(design.weighted, design.truth)
    plain, plain_error, plain_rms = bias(design.plain, design.truth)
    product, product_error = cost_of_precision(design, base)
    figures = {
        "bias": off,
        "bias_error": off_error,
        "rms": rms,
        "plain_bias": plain,
        "plain_bias_error": plain_error,
        "plain_rms": plain_rms,
        "squared_error": float(design.errors().mean()),
        "relative_squared_error": float(design.errors().mean() / base.errors().mean()),
        "relative_tokens": float(design.tokens.mean() / base.tokens.mean()),
        "product": product,
        "product_error": product_error,
        "tokens": float(design.tokens.mean()),
        "sequences": float(design.sequences.mean()),
        "pass_at_max": float(design.found.mean()),
    }
    rounded = {figure: round(value, 5) for figure, value in figures.items()}
    return {"model": model, "design": name, "max_sequences": most} | rounded


def line(row: dict[str, Any]) -> str:
    return (
        f"  {row['design']:<31}{row['bias']:>+8.3f} ±{row['bias_error']:.3f}{row['rms']:>7.3f}"
        f"{row['relative_squared_error']:>8.2f}{row['relative_tokens']:>8.2f}"
        f"{row['product']:>9.2f} ±{row['product_error']:.2f}"
        f"{row['plain_bias']:>+12.3f} ±{row['plain_bias_error']:.3f}{row['plain_rms']:>7.3f}"
        f"{row['sequences']:>11.1f}{row['pass_at_max']:>10.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="6 prompts, 10 seeds, M 8")
    parser.add_argument("--prompts", type=int, help="(default 20)")
    parser.add_argument("--seeds", type=int, help="(default 40)")
    parser.add_argument("--max_sequences", type=int, nargs="+", metavar="M", help="(default 8 16)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the document of the last line there too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    prompts, seeds = args.prompts or (6 if args.quick else 20), args.seeds or (10 if args.quick else 40)
    rows = []
    for name, model in MODELS.items():
        for most in args.max_sequences or ([8] if args.quick else [8, 16]):
            print(f"{name}, M {most}:")
            print(
                f"  {'design':<31}{'bias':>15}{'rms':>7}{'error²':>8}{'tokens':>8}{'product':>15}{'plain bias':>19}"
                f"{'rms':>7}{'sequences':>11}{'pass@max':>10}"
            )
            base = Estimates(model, DESIGNS["parallel"], most, prompts, seeds)
            for design, given in DESIGNS.items():
                found = base if design == "parallel" else Estimates(model, given, most, prompts, seeds)
                rows.append(row(name, design, most, found, base))
                print(line(rows[-1]), flush=True)
    document = json.dumps({"prompts": prompts, "seeds": seeds, "length": LENGTH + 1, "rows": rows}, ensure_ascii=False)
    if args.json:
        args.json.write_text(document + "\n", encoding="utf-8")
    print(document)


if __name__ == "__main__":
    main()
