"""What trees estimate, beside independent sampling: bias, variance and tokens of the weighted rate.

    python benchmarks/estimates.py                 a few minutes on one core
    python benchmarks/estimates.py --prompts 10 --seeds 5

The models are scripted: a text is a chain of tokens, certain but for every so-manieth step, which is drawn from five
tokens; what is drawn adds to or takes from the odds that the last token is right. So the true rate of each prompt is
summed up exactly. Every design grows every prompt once a seed. Printed are, of a prompt's estimates, the bias (root
mean square over prompts, what chance would make of it taken off), the mean squared error and the tokens, both beside
`parallel` at the same M, and their product: below 1, a design is more precise at equal tokens. Beside it stands the
share of prompts with a right sequence. The last line of stdout is one JSON document.
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
LENGTH = 40
MODELS = {"an uncertain token in 4": 4, "an uncertain token in 13": 13}
"""What is uncertain of a chain: every so-manieth step."""
DESIGNS: dict[str, dict[str, Any]] = {
    "systematic": {"branching": "systematic"},
    "systematic, fan_out 4": {"branching": "systematic", "fan_out": 4},
    "systematic, fan_out 2": {"branching": "systematic", "fan_out": 2},
    "systematic, θ 1.35": {"branching": "systematic", "entropy_threshold": 1.35},
    "top2": {"branching": "top2"},
}


class Chain:
    """A model whose next token depends on the prompt, the position and what the choices before add up to."""

    def __init__(self, every: int) -> None:
        self._every = every

    def __call__(self, prompt: Sequence[int], generated: Sequence[int]) -> NDArray[np.float64]:
        at = range(self._every - 1, min(len(generated), LENGTH - 1), self._every)
        score = sum(int(effects(prompt[0], place)[generated[place]]) for place in at)
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
            return uncertain(prompt, position, score)
        else:
            chances[STEP] = 1.0
        return chances

    def rate(self, prompt: int) -> float:
        """The probability that an independent sample ends right."""

        @cache
        def from_here(position: int, score: int) -> float:
            chances = self.chances(prompt, position, score)
            if position == LENGTH - 1:
                return float(chances[RIGHT])
            if position % self._every != self._every - 1:
                return from_here(position + 1, score)
            after = (from_here(position + 1, score + int(effect)) for effect in effects(prompt, position))
            return sum(p * rate for p, rate in zip(chances, after, strict=True) if p)

        return from_here(0, 0)


@cache
def hardness(prompt: int) -> float:
    return float(np.random.default_rng(-prompt).normal(scale=1.5))


@cache
def effects(prompt: int, position: int) -> NDArray[np.int64]:
    """What each token of an uncertain step does to the odds that the text ends right. (vocabulary,)"""
    return np.random.default_rng([-prompt, position]).integers(-1, 2, size=VOCABULARY)


@cache
def uncertain(prompt: int, position: int, score: int) -> NDArray[np.float64]:
    """Probabilities at an uncertain step. (vocabulary,)"""
    chances = np.zeros(VOCABULARY)
    generator = np.random.default_rng([-prompt, position, score + 100])
    chances[list(CHOICES)] = generator.dirichlet(np.full(len(CHOICES), 3.0))
    return chances


def measure(model: Chain, given: dict[str, Any], prompts: int, seeds: int) -> dict[str, Any]:
    """Bias and squared error of a prompt's estimates, tokens a prompt and seed, and the share with a right sequence."""
    estimates, tokens, found = np.zeros((seeds, prompts)), 0, 0
    truth = np.zeros(prompts)
    for seed in range(seeds):
        options = resolve(
            {"strategy": "init", "entropy_threshold": 0.5, "temperature": 1.0, "max_gen_toks": 64, "seed": seed} | given
        )
        pool = [scripted_prompt(index, options, length=1) for index in range(prompts)]
        engine = scripted_engine(ScriptedRunner(model), options, max_rows=256)
        for place, tree in enumerate(grow_pool(pool, options, engine).trees):
            right = [sequence.tokens[-2] == RIGHT for sequence in tree.sequences]
            estimates[seed, place] = sum(np.array(tree.weights()) * right)
            tokens += tree.tokens
            found += any(right)
            truth[place] = model.rate(tree.prompt.token_ids[0])
    by_chance = float(estimates.var(axis=0, ddof=1).mean()) / seeds
    squared_bias = float(((estimates.mean(axis=0) - truth) ** 2).mean()) - by_chance
    return {
        "bias": math.sqrt(max(0.0, squared_bias)),
        "squared_error": float(((estimates - truth) ** 2).mean()),
        "tokens": tokens / prompts / seeds,
        "pass_at_max": found / prompts / seeds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=20, help="(default 20)")
    parser.add_argument("--seeds", type=int, default=40, help="(default 40)")
    parser.add_argument("--max_sequences", type=int, nargs="+", default=[8, 16], metavar="M", help="(default 8 16)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    print(f"{'design':<26}{'M':>4}{'bias':>8}{'error²':>8}{'tokens':>8}{'product':>9}{'pass@max':>10}")
    for name, every in MODELS.items():
        print(f"{name}:")
        for number in args.max_sequences:
            model = Chain(every)
            base = measure(model, {"strategy": "parallel", "max_sequences": number}, args.prompts, args.seeds)
            rows.append({"model": name, "design": "parallel", "M": number, **base})
            for design, given in DESIGNS.items():
                found = measure(model, given | {"max_sequences": number}, args.prompts, args.seeds)
                rows.append({"model": name, "design": design, "M": number, **found})
            for row in rows[-len(DESIGNS) - 1 :]:
                error, tokens = row["squared_error"] / base["squared_error"], row["tokens"] / base["tokens"]
                print(
                    f"  {row['design']:<24}{row['M']:>4}{row['bias']:>8.3f}{error:>8.2f}"
                    f"{tokens:>8.2f}{error * tokens:>9.2f}{row['pass_at_max']:>10.3f}",
                    flush=True,
                )
    print(json.dumps({"prompts": args.prompts, "seeds": args.seeds, "rows": rows}))


if __name__ == "__main__":
    main()
