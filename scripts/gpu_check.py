"""What only a machine with a GPU can say of eager and eager-vllm: a table, and one JSON line at the end.

    make gpu-check                                       one GPU, some eight minutes, nothing to be downloaded
    python scripts/gpu_check.py --device cpu --tiny      its whole way, in small, without a GPU

Models are random, of real shapes, in bfloat16; equality is tried on the demo model. A part that fails says so, with its
error in the JSON line, and the next one runs; no part begins once `--minutes` are over.

    equality      trees of the demo model in float32 on the device against the CPU's: the share that is equal
    draws         what eager-vllm does with a step's logits: time, memory beyond the logits, tokens against the CPU's,
                  with an error where the host would wait for the device
    waits         times that the host waits for the device in a decode step of `eager`, from the profiler
    throughput    `parallel`, `init` and the race over transformers' `generate` with as many rows, tokens a second
    memory        the most that is allocated with sequences of 8 k tokens, most of them the prompt's
    vllm          with vLLM installed: eager-vllm's `parallel` over one call with n = M, to 1 k, 8 k and 32 k tokens
                  (the longer ones have long prompts), and trees against `eager`'s
"""

from __future__ import annotations

import argparse
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen3Config

from eager_lmeval import paths
from eager_lmeval.algorithm.options import resolve
from eager_lmeval.algorithm.tree import Prompt, Tree
from eager_lmeval.engine.sampling import Sampling
from eager_lmeval.engine.vllm.leaving import NEVER, Orders, leave_drawn
from eager_lmeval.pools.decoding import Decoding, ModelDecoding
from eager_lmeval.pools.result import PoolResult
from eager_lmeval.pools.run import grow_pool

QWEN3 = {
    "0.6B": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16},
    "4B": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36, "num_attention_heads": 32},
}
TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
CUTS: dict[str, dict[str, Any]] = {
    "none": {},
    "top_p": {"top_p": 0.95},
    "top_k, top_p": {"top_k": 20, "top_p": 0.95},
    "min_p": {"min_p": 0.05},
}
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense")

Figures = dict[str, Any]


class Machine:
    """The device, and how large the parts are on it."""

    def __init__(self, device: str, tiny: bool) -> None:
        self.device = torch.device(device)
        self.tiny = tiny
        self.dtype = torch.float32 if self.device.type == "cpu" else torch.bfloat16
        self.tokenizer = AutoTokenizer.from_pretrained(str(paths.demo_model_dir()))
        self.questions = [
            json.loads(line)["question"]
            for line in (paths.tasks_dir() / "eager_demo" / "problems.jsonl").read_text(encoding="utf-8").splitlines()
        ]

    def demo(self, device: torch.device) -> ModelDecoding:
        model = AutoModelForCausalLM.from_pretrained(str(paths.demo_model_dir()), dtype=torch.float32)
        return ModelDecoding(model.eval().to(device), self.tokenizer, None, 256)

    def random(self, shape: str) -> PreTrainedModel:
        sizes = {**TINY, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 512}
        if not self.tiny:
            sizes = {**QWEN3[shape], "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151_936}
        torch.manual_seed(0)
        config = Qwen3Config(**sizes, tie_word_embeddings=True, eos_token_id=None, max_position_embeddings=40_960)
        with torch.device(self.device):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=self.dtype)
        return model.eval()

    def decoding(self, model: PreTrainedModel, tokens: int) -> ModelDecoding:
        """No EOS ends a sequence: all have their full length."""
        decoding = ModelDecoding(model, self.tokenizer, None, tokens + 256)
        decoding.eos_ids = lambda options: set()  # type: ignore[method-assign]  # of this object alone
        return decoding

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], Any]) -> tuple[float, Any]:
        self.finish()
        begun = time.perf_counter()
        made = work()
        self.finish()
        return time.perf_counter() - begun, made

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def prompts(self, count: int, length: int = 0) -> list[list[int]]:
        """Token ids of problems; with a ``length`` repeated to have so many, as `generate` takes them."""
        given = [f"<|user|>{question}<|assistant|>" for question in self.questions[:count]]
        rows: list[list[int]] = [self.tokenizer(context)["input_ids"] for context in given]
        return [(row * (length // len(row) + 1))[:length] for row in rows] if length else rows

    def grow(self, decoding: Decoding, prompts: list[list[int]], tokens: int, **given: Any) -> PoolResult:
        options = resolve({"temperature": 0.8, "max_gen_toks": tokens, "seed": 7} | given)
        pool = [Prompt(place, "check", f"{place}", ids, place, tokens) for place, ids in enumerate(prompts)]
        return grow_pool(pool, options, decoding.engine(options), classify=_classify)


def _classify(texts: Any) -> list[int | None]:
    return [None if text is None else len(set(text)) % 5 for text in texts]


STRATEGIES: dict[str, dict[str, Any]] = {
    "parallel": {"strategy": "parallel"},
    "init": {"strategy": "init", "entropy_threshold": 0.3},
    "race": {"strategy": "consistency", "verifier": "exact"},
}


def equality(machine: Machine) -> Iterator[Figures]:
    there, here = machine.demo(machine.device), machine.demo(torch.device("cpu"))
    prompts = 4 if machine.tiny else 24
    for name, given in STRATEGIES.items():
        settings = {"max_sequences": 8, "top_p": 0.95} | given
        of = machine.prompts(prompts)
        trees = [machine.grow(decoding, of, 60, **settings).trees for decoding in (there, here)]
        yield {"what": name, "trees": prompts, "equal": sum(map(_same, *trees))}


def _same(tree: Tree, other: Tree) -> bool:
    return [(s.path, s.tokens) for s in tree.sequences] == [(s.path, s.tokens) for s in other.sequences]


def draws(machine: Machine) -> Iterator[Figures]:
    vocab = 2048 if machine.tiny else 151_936
    for rows in (1, 16) if machine.tiny else (1, 64, 256, 1024):
        generator = torch.Generator().manual_seed(rows)
        host = 2.5 * torch.randn((rows, vocab), generator=generator)
        uniforms = np.random.default_rng(rows).random(rows)
        opens_at = np.where(np.arange(rows) % 2, NEVER, 2.0)  # every other row may open
        every = Orders(np.arange(rows), uniforms, np.full(rows, -1), np.zeros(rows, dtype=np.int64), opens_at)
        logits = host.to(machine.device)
        for name, cuts in CUTS.items():
            how = Sampling(0.6, **cuts)

            def step(seen: Tensor, how: Sampling = how, every: Orders = every) -> Tensor:
                leave_drawn(seen, Orders._make(field[: len(seen)] for field in every), how)
                return seen

            compared = min(rows, 64)
            expected = step(host[:compared].clone()).argmax(dim=-1)
            found = step(logits.clone()).argmax(dim=-1).cpu()[:compared]
            copies = [logits.clone() for _ in range(3)]
            if machine.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            before = machine.peak_bytes()
            machine.finish()
            begun = time.perf_counter()
            _without_waits(machine, lambda copies=copies: [step(copy) for copy in copies])
            host_s = time.perf_counter() - begun
            machine.finish()
            yield {
                "what": f"{rows} rows, {name}",
                "ms": 1000 * (time.perf_counter() - begun) / len(copies),
                "host_ms": 1000 * host_s / len(copies),
                "scratch_MiB": (machine.peak_bytes() - before) / 2**20,
                "equal": int((found == expected).sum()),
                "compared": compared,
            }


def _without_waits(machine: Machine, work: Callable[[], Any]) -> None:
    """RuntimeError where the host would wait for the device."""
    if machine.device.type != "cuda":
        work()
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def waits(machine: Machine) -> Iterator[Figures]:
    tokens = 8 if machine.tiny else 32
    decoding = machine.decoding(machine.random("0.6B"), tokens)
    for name, given in STRATEGIES.items():
        settings = {"max_sequences": 8, "top_p": 0.95} | given
        machine.grow(decoding, machine.prompts(2), tokens, **settings)  # what only the first run does
        with torch.profiler.profile() as profile:
            machine.grow(decoding, machine.prompts(2), tokens, **settings)
        counted = {event.key: event.count for event in profile.key_averages() if event.key in WAITS}
        read = counted.pop("aten::_local_scalar_dense", 0)  # on a GPU each of these is one of the waits, too
        yield {"what": name, "waits_a_step": sum(counted.values()) / tokens, "values_read_a_step": read / tokens}


def throughput(machine: Machine) -> Iterator[Figures]:
    for shape in ("0.6B",) if machine.tiny else ("0.6B", "4B"):
        model = machine.random(shape)
        tokens = 8 if machine.tiny else 1024 if shape == "0.6B" else 256
        for rows in (4,) if machine.tiny else (64, 256):
            prompts, m = (2, 2) if machine.tiny else (rows // 16, 16)
            of = machine.prompts(prompts, 32)
            ids = torch.tensor(of, device=machine.device).repeat_interleave(m, dim=0)
            call = {"do_sample": True, "max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": 0}
            theirs_s, _ = machine.timed(lambda ids=ids, call=call, model=model: model.generate(ids, **call))
            decoding = machine.decoding(model, tokens)
            for name, given in STRATEGIES.items():
                settings = {"max_sequences": m, "top_p": 0.95, "max_rows": rows} | given
                grow = lambda s=settings, d=decoding, p=of, t=tokens: machine.grow(d, p, t, **s)  # noqa: E731 - the loop's own values
                ours_s, result = machine.timed(grow)
                rate = result.totals.tokens / ours_s
                theirs = rows * tokens / theirs_s
                yield {
                    "what": f"{shape}, {rows} rows, {name}",
                    "tokens_a_second": rate,
                    "generate": theirs,
                    "ratio": rate / theirs,
                }
            decoding.release()


def memory(machine: Machine) -> Iterator[Figures]:
    length, tokens, rows = (32, 8, 4) if machine.tiny else (8192, 64, 32)
    decoding = machine.decoding(machine.random("0.6B"), length + tokens)
    if machine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took_s, result = machine.timed(
        lambda: machine.grow(
            decoding, machine.prompts(2, length), tokens, strategy="parallel", max_sequences=rows // 2, max_rows=rows
        )
    )
    yield {
        "what": f"{rows} rows of {length + tokens} tokens",
        "peak_GiB": machine.peak_bytes() / 2**30,
        "tokens_a_second": result.totals.tokens / took_s,
    }


def vllm(machine: Machine) -> Iterator[Figures]:
    if not ((spec := find_spec("vllm")) and spec.origin):
        yield {"what": "vLLM is not installed: pip install 'eager-lmeval[vllm]'"}
        return
    import tempfile

    from vllm import SamplingParams, TokensPrompt

    from eager_lmeval.lm_vllm import EagerVLLM

    served = EagerVLLM("demo", dtype="float32", max_model_len=256, max_num_seqs=64, gpu_memory_utilization=0.2)
    plain = machine.demo(torch.device("cpu"))
    for name, given in STRATEGIES.items():
        settings = {"max_sequences": 8, "top_p": 0.95} | given
        of = machine.prompts(4)
        trees = [machine.grow(d, of, 60, **settings).trees for d in (served._eager.decoding, plain)]
        yield {"what": f"demo, {name}", "trees": 4, "equal": sum(map(_same, *trees))}
    del served
    with tempfile.TemporaryDirectory() as folder:
        machine.random("4B").save_pretrained(folder)
        machine.tokenizer.save_pretrained(folder)
        sizes = ((0, 16, 4),) if machine.tiny else ((0, 1024, 256), (7936, 256, 64), (31_744, 256, 16))
        share = 0.2 if machine.tiny else 0.75  # the engine before may not have given its own back yet
        longest = max(before + tokens for before, tokens, _ in sizes)
        lm = EagerVLLM(folder, max_model_len=longest + 256, max_num_seqs=256, gpu_memory_utilization=share)
        lm._eager.decoding.eos_ids = lambda options: set()  # type: ignore[method-assign]  # all get their full length
        for before, tokens, rows in sizes:
            of, m = machine.prompts(max(1, rows // 16), before), min(16, rows)
            params = SamplingParams(
                n=m, temperature=0.8, top_p=0.95, max_tokens=tokens, ignore_eos=True, detokenize=False
            )
            given = [TokensPrompt(prompt_token_ids=ids) for ids in of]
            theirs_s, _ = machine.timed(lambda g=given, p=params: lm.model.generate(g, p, use_tqdm=False))
            lm.model.llm_engine.reset_prefix_cache()
            grow = lambda p=of, t=tokens, m=m: machine.grow(  # noqa: E731 - the loop's own values
                lm._eager.decoding, p, t, strategy="parallel", max_sequences=m, top_p=0.95
            )
            ours_s, _ = machine.timed(grow)
            what = f"4B, {rows} rows to {before + tokens} tokens, parallel over n"
            yield {"what": what, "ratio": theirs_s / ours_s, "seconds": ours_s, "n_seconds": theirs_s}


PARTS: dict[str, Callable[[Machine], Iterator[Figures]]] = {
    part.__name__: part for part in (equality, draws, waits, throughput, memory, vllm)
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, few tokens")
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins later")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU that torch can use; --device cpu --tiny tries the way without one")
    machine = Machine(args.device, args.tiny)
    named = torch.cuda.get_device_name() if machine.device.type == "cuda" else "cpu"
    found: dict[str, Any] = {"device": named, "torch": torch.__version__, "parts": {}, "failed": {}}
    begun = time.perf_counter()
    for name in args.parts:
        if time.perf_counter() - begun > 60 * args.minutes:
            found["failed"][name] = f"not begun after {args.minutes:g} minutes"
            print(f"{name:<12} {found['failed'][name]}")
            continue
        rows = found["parts"][name] = []
        try:
            with torch.inference_mode():
                for figures in PARTS[name](machine):
                    rows.append(figures)
                    shown = (f"{key} {value:.4g}" for key, value in figures.items() if key != "what")
                    print(f"{name:<12} {figures['what']:<36} {', '.join(shown)}", flush=True)
        except Exception as error:  # whatever fails, the other parts still say what they find
            found["failed"][name] = f"{type(error).__name__}: {error}"
            print(f"{name:<12} FAILED {found['failed'][name]}")
            traceback.print_exc()
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
    found["seconds"] = time.perf_counter() - begun
    print(json.dumps(found))
    return len(found["failed"]) > 0


if __name__ == "__main__":
    raise SystemExit(main())
