"""What eager-vllm and eager cost: against vLLM's own ways to the same samples, by the gate, by strategy, against calls.

    python benchmarks/vllm.py                       the demo model and a random one of 25 M parameters
    python benchmarks/vllm.py --engines             only both of our engines against one call with n = M
    python benchmarks/vllm.py --models demo PATH    others

One engine of vLLM a model, in this process, so that CPU seconds are those of all its parts. The ways alternate, round
by round, and ratios are taken within a round; their medians and ranges are printed. The last line of stdout is one JSON
document. Every sequence has exactly `--new_tokens` tokens: no EOS ends one, but where the harness's own `vllm` looks
for its text. All prompts have room at once: what is compared is what tokens cost, not how prompts wait for each other.

    parallel / repeats   `parallel` over the harness's `--model vllm` with `repeats`, in tokens a CPU second
    parallel / n         `parallel` over one call of `LLM.generate` with n = M, in tokens a CPU second
    eager / n            the same of the engine on transformers
    gate                 a gate that stays open and never forks over no gate, in CPU seconds, less 1
    init, …              CPU and wall seconds over `parallel`'s, each divided by tokens over `parallel`'s
    call by call         one `generate` call a token with 20 log-probabilities, one prompt at a time, over `init`: CPU
                         seconds a token
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.pop(0)  # this script's folder, in which it would be taken for the package vllm
os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.vllm_causallms import VLLM
from transformers import AutoModelForCausalLM
from vllm import SamplingParams, TokensPrompt

from eager_lmeval import paths
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt
from eager_lmeval.lm_vllm import EagerVLLM
from eager_lmeval.pools.decoding import Decoding, ModelDecoding
from eager_lmeval.pools.run import grow_pool

TEMPERATURE = 0.8


class Spent(NamedTuple):
    cpu_s: float
    wall_s: float
    tokens: int


class Bench:
    """The ways to samples of one model."""

    def __init__(self, model: str, problems: int, samples: int, new_tokens: int) -> None:
        self.lm = EagerVLLM(
            model, dtype="float32", enforce_eager=True, max_model_len=new_tokens + 256, max_num_seqs=256
        )
        lines = (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()
        questions = [json.loads(line)["question"] for line in lines[:problems]]
        self.contexts = [f"<|user|>{question}<|assistant|>" for question in questions]
        self.prompts = [self.lm.encode(context, new_tokens) for context in self.contexts]
        self.samples = samples
        self.new_tokens = new_tokens
        loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.on_transformers = ModelDecoding(loaded, self.lm.tokenizer, None, new_tokens + 256)
        for decoding in (self.lm._eager.decoding, self.on_transformers):
            decoding.eos_ids = lambda options: set()  # type: ignore[method-assign]  # all get their full length
        self.calls = 0

    def eager(self, decoding: Decoding | None = None, **given: Any) -> Spent:
        """A pool by one of our engines (default that on vLLM), with another seed in each call."""
        self.calls += 1
        decoding = decoding or self.lm._eager.decoding
        defaults = {"temperature": TEMPERATURE, "max_gen_toks": self.new_tokens, "max_sequences": self.samples}
        options = resolve(defaults | {"seed": self.calls} | given)
        pool = [
            Prompt(place, "benchmark", context, ids, place, self.new_tokens)
            for place, (context, ids) in enumerate(zip(self.contexts, self.prompts, strict=True))
        ]
        classify = lambda texts: [None if text is None else len(set(text)) for text in texts]  # noqa: E731
        return self.timed(lambda: grow_pool(pool, options, decoding.engine(options), classify=classify).totals.tokens)

    def repeats(self) -> Spent:
        """The harness's own `vllm`, each request as often as there are samples."""
        kwargs = {"temperature": TEMPERATURE, "do_sample": True, "max_gen_toks": self.new_tokens, "ignore_eos": True}
        instances = [
            Instance("generate_until", {}, (context, dict(kwargs)), place)
            for place, context in enumerate(self.contexts)
            for _ in range(self.samples)
        ]
        tokens = 0
        generate = self.lm.model.generate

        def counted(*given: Any, **more: Any) -> Any:
            nonlocal tokens
            outputs = generate(*given, **more | {"use_tqdm": False})
            tokens += sum(len(output.outputs[0].token_ids) for output in outputs)
            return outputs

        self.lm.model.generate = counted
        try:
            spent = self.timed(lambda: len(VLLM.generate_until(self.lm, instances, True)))
        finally:
            self.lm.model.generate = generate
        return spent._replace(tokens=tokens)

    def several(self) -> Spent:
        """One call with n = M."""
        params = SamplingParams(
            n=self.samples, temperature=TEMPERATURE, max_tokens=self.new_tokens, ignore_eos=True, detokenize=False
        )
        prompts = [TokensPrompt(prompt_token_ids=ids) for ids in self.prompts]

        def generate() -> int:
            outputs = self.lm.model.generate(prompts, params, use_tqdm=False)
            return sum(len(sample.token_ids) for output in outputs for sample in output.outputs)

        return self.timed(generate)

    def call_by_call(self, threshold: float) -> Spent:
        """Algorithm 1 around `generate`: a call a token, the sequences of one prompt together, one prompt at a time."""
        one = SamplingParams(temperature=TEMPERATURE, max_tokens=1, logprobs=20, ignore_eos=True)

        def grow() -> int:
            tokens = 0
            for ids in self.prompts[: max(1, len(self.prompts) // 4)]:
                sequences: list[list[int]] = [[]]
                for _ in range(self.new_tokens):
                    prompts = [TokensPrompt(prompt_token_ids=[*ids, *sequence]) for sequence in sequences]
                    outputs = self.lm.model.generate(prompts, one, use_tqdm=False)
                    tokens += len(outputs)
                    for sequence, output in zip(list(sequences), outputs, strict=True):
                        (likely,) = output.outputs[0].logprobs
                        best = sorted(likely, key=lambda token: -likely[token].logprob)[:20]
                        if len(sequences) < self.samples and entropy([likely[t].logprob for t in best]) >= threshold:
                            sequences.append([*sequence, best[1]])
                            sequence.append(best[0])
                        else:
                            sequence.append(output.outputs[0].token_ids[0])
            return tokens

        return self.timed(grow)

    def timed(self, work: Callable[[], int]) -> Spent:
        self.lm.model.llm_engine.reset_prefix_cache()
        cpu, wall = time.process_time(), time.perf_counter()
        tokens = work()
        return Spent(time.process_time() - cpu, time.perf_counter() - wall, tokens)


def entropy(logprobs: list[float]) -> float:
    """Of those tokens alone, in nats."""
    weights = [math.exp(logprob) for logprob in logprobs]
    return -sum(weight / sum(weights) * math.log(weight / sum(weights)) for weight in weights)


def random_model(folder: Path) -> str:
    """A Qwen3 of about 25 million parameters with random weights.

    Of its vocabulary the demo model's tokenizer knows the first tokens. It is larger because a random model draws all
    alike: in one of 64 tokens it would draw the signal of `engine/vllm` all the time, which no trained model does.
    """
    from transformers import AutoConfig, AutoTokenizer

    demo = str(paths.demo_model_dir())
    shape = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
    config = AutoConfig.from_pretrained(demo, **shape, num_key_value_heads=8, head_dim=64, vocab_size=4096)
    if "layer_types" in config.to_dict():
        config.layer_types = ["full_attention"] * 8
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, random")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(demo).save_pretrained(folder)
    return str(folder)


def tokens_a_second(ours: Spent, theirs: Spent) -> float:
    return (ours.tokens / ours.cpu_s) / (theirs.tokens / theirs.cpu_s)


def measure(bench: Bench, rounds: int, threshold: float, engines: bool) -> dict[str, dict[str, Any]]:
    """Ratios by name: the median of the rounds, the least and the largest."""
    found: dict[str, list[float]] = {}

    def note(name: str, ratio: float) -> None:
        found.setdefault(name, []).append(ratio)

    branching = {
        "init, top2": {"strategy": "init", "branching": "top2"},
        "init, systematic": {"strategy": "init", "branching": "systematic"},
        "consistency": {"strategy": "consistency", "verifier": "exact", "first_lanes": 2},
    }
    for decoding in (None, bench.on_transformers):
        bench.eager(decoding, strategy="parallel")  # what only the first run does
    for _ in range(rounds):
        parallel, several = bench.eager(strategy="parallel"), bench.several()
        eager = bench.eager(bench.on_transformers, strategy="parallel")
        note("parallel / n, tokens a CPU second", tokens_a_second(parallel, several))
        note("eager / n, tokens a CPU second", tokens_a_second(eager, several))
        note("n, tokens a CPU second", several.tokens / several.cpu_s)
        if engines:
            continue
        repeats = bench.repeats()
        note("parallel / repeats, tokens a CPU second", tokens_a_second(parallel, repeats))
        gated = bench.eager(strategy="init", branching="top2", entropy_threshold=9.0, max_sequences=2)
        plain = bench.eager(strategy="parallel", max_sequences=1)
        note("gate and streaming, part of a step", gated.cpu_s / plain.cpu_s - 1)
        for name, given in branching.items():
            spent = bench.eager(entropy_threshold=threshold, **given)
            share = spent.tokens / parallel.tokens
            note(f"{name}: tokens over parallel's", share)
            note(f"{name}: CPU over tokens", spent.cpu_s / parallel.cpu_s / share)
            note(f"{name}: wall over tokens", spent.wall_s / parallel.wall_s / share)
            if name == "init, top2":
                calls = bench.call_by_call(threshold)
                note("call by call / init, CPU a token", 1 / tokens_a_second(calls, spent))
    return {
        name: {"median": statistics.median(ratios), "least": min(ratios), "largest": max(ratios)}
        for name, ratios in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["demo", "random"], help="demo, random (25 M), or a folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--samples", type=int, default=8, help="M")
    parser.add_argument("--new_tokens", type=int, default=96)
    parser.add_argument("--threshold", type=float, default=0.3, help="θ in nats, of the demo model")
    parser.add_argument("--engines", action="store_true", help="only both engines against n = M")
    args = parser.parse_args()
    result: dict[str, Any] = {"settings": vars(args)}
    with tempfile.TemporaryDirectory() as folder:
        for model in args.models:
            demo = str(paths.demo_model_dir())
            path = random_model(Path(folder)) if model == "random" else demo if model == "demo" else model
            bench = Bench(path, args.problems, args.samples, args.new_tokens)
            # A random model is equally unsure everywhere; it forks at once wherever θ is below that.
            figures = measure(bench, args.rounds, 2.9 if model == "random" else args.threshold, args.engines)
            print(f"\n{model}: {args.problems} prompts, M = {args.samples}, {args.new_tokens} tokens each")
            for name, figure in figures.items():
                print(f"{name:<48} {figure['median']:6.2f}   {figure['least']:.2f} to {figure['largest']:.2f}")
            result[model] = figures
            del bench
            gc.collect()  # an engine that is collected later takes the process groups of the next one with it
    print(json.dumps(result))


if __name__ == "__main__":
    main()
