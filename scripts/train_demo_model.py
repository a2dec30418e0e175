#!/usr/bin/env python
"""Train the embedded demo model from scratch, write it and its held-out problems, and measure both.

    python scripts/train_demo_model.py                # train (or resume), save, evaluate
    python scripts/train_demo_model.py --eval-only    # evaluate what is saved
    python scripts/train_demo_model.py --stop-after 300 --checkpoint-dir out/train --model-dir out/worse

The last leaves the run of `--steps` steps at one of them, on that run's schedule, and saves the model of then: a
checkpoint from training, worse than the demo model.

The exit status is 1 when the saved model fails one of the demo's requirements: greedy accuracy within bounds,
sampling that finds clearly more than its own pass rate, easy, middling and hard problems, and no held-out question
in the training stream, which is replayed to prove it.
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from demo_evaluation import evaluate, meets_requirements, print_table
from demo_problems import Problem, held_out, training_block
from demo_tokenizer import build_tokenizer, render
from torch.nn import functional
from tqdm import tqdm
from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

REPOSITORY = Path(__file__).resolve().parent.parent
BATCH = 64  # rows
BATCHES_PER_BLOCK = 32  # sorted by length together, so that a batch pads little
MUON_LR = 5e-3  # the matrices inside the layers
ADAMW_LR = 2e-3  # the embedding and the norms
WEIGHT_DECAY = 0.05
WARMUP_STEPS = 100
DECAY_SHARE = 0.25  # of all steps, at the end, linearly to zero
IGNORED = -100


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.03,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def block_batches(
    tokenizer: PreTrainedTokenizerFast, index: int, reserved: frozenset[str]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The batches of one block of the stream: (input ids, labels), each (rows, length), padded on the right.

    Labels are shifted already: label t is the token after input t, ignored within the prompt and the padding.
    """
    problems = list(training_block(index, BATCH * BATCHES_PER_BLOCK, reserved))
    full = tokenizer([render(tokenizer, p.question, p.solution) for p in problems])["input_ids"]
    prompts = tokenizer([render(tokenizer, p.question) for p in problems])["input_ids"]
    rows = sorted(zip(full, map(len, prompts), strict=True), key=lambda row: len(row[0]))
    batches = []
    for start in range(0, len(rows), BATCH):
        chunk = rows[start : start + BATCH]
        width = max(len(ids) for ids, _ in chunk)
        ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row, _ in chunk])
        labels = ids.clone()
        for i, (row, prompt_length) in enumerate(chunk):
            labels[i, :prompt_length] = IGNORED
            labels[i, len(row) :] = IGNORED
        batches.append((ids[:, :-1], labels[:, 1:]))
    random.Random(index).shuffle(batches)
    return batches


def build_optimizers(model: Qwen3ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the layers' matrices, AdamW for the rest; AdamW alone learns markedly slower from the first steps on."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    rest = [model.model.embed_tokens.weight, *(p for p in model.parameters() if p.ndim == 1)]
    return [
        torch.optim.Muon(matrices, lr=MUON_LR, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=ADAMW_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def lr_factor(step: int, steps: int) -> float:
    """Warm-up, plateau, linear decay to zero."""
    return min(1.0, (step + 1) / WARMUP_STEPS, (steps - step) / (DECAY_SHARE * steps))


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Whole or not at all: a run killed while it writes leaves the previous checkpoint."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def train(args: argparse.Namespace, tokenizer: PreTrainedTokenizerFast, reserved: frozenset[str]) -> PreTrainedModel:
    """The model after ``args.stop_after`` steps, from the newest checkpoint on where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(args.seed)
    model = build_model(tokenizer).to(device)
    optimizers = build_optimizers(model)
    peak_lrs = [MUON_LR, ADAMW_LR]
    step, seconds_before = 0, 0.0
    checkpoint = args.checkpoint_dir / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        torch.set_rng_state(state["rng"].cpu())
        step, seconds_before = state["step"], state["seconds"]
        print(f"resuming from {checkpoint} at step {step} of {args.steps}, {seconds_before:.0f} s trained", flush=True)
        if step > args.stop_after:
            sys.exit(f"{checkpoint} is past step {args.stop_after}; name a --checkpoint-dir without one")
    args.checkpoint_dir.mkdir(parents=True, exist_ok=True)

    started = last_saved = time.monotonic()
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []
    smooth_loss = None
    model.train()
    bar = tqdm(total=args.stop_after, initial=step, desc="training", unit="step", mininterval=args.progress_every_s)
    while step < args.stop_after:
        if not batches or step % BATCHES_PER_BLOCK == 0:
            batches = block_batches(tokenizer, step // BATCHES_PER_BLOCK, reserved)
        ids, labels = (tensor.to(device) for tensor in batches[step % BATCHES_PER_BLOCK])
        for optimizer, peak_lr in zip(optimizers, peak_lrs, strict=True):
            optimizer.param_groups[0]["lr"] = peak_lr * lr_factor(step, args.steps)
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            logits = model(input_ids=ids).logits  # (rows, length, vocab)
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        smooth_loss = loss.item() if smooth_loss is None else 0.97 * smooth_loss + 0.03 * loss.item()
        bar.update()
        bar.set_postfix_str(f"loss {smooth_loss:.4f}", refresh=False)
        now = time.monotonic()
        if now - last_saved >= args.checkpoint_every_s or step == args.stop_after:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
            state |= {"rng": torch.get_rng_state(), "step": step, "seconds": seconds_before + now - started}
            save_checkpoint(checkpoint, state)
            last_saved = now
    bar.close()
    print(f"trained {step} steps in {(seconds_before + time.monotonic() - started) / 60:.1f} minutes", flush=True)
    return model


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, directory: Path) -> None:
    model.float().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    weights = directory / "model.safetensors"
    weights.chmod(0o644)  # written readable by its owner alone, which a wheel would keep
    size = weights.stat().st_size
    print(f"wrote {directory}: {model.num_parameters()} parameters, weights {size / 1e6:.2f} MB", flush=True)


def save_problems(problems: list[Problem], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number, problem in enumerate(problems):
            row = {"id": f"demo-{number:03d}", "kind": problem.kind, "difficulty": problem.difficulty}
            row |= {"question": problem.question, "answer": str(problem.answer)}
            file.write(json.dumps(row) + "\n")
    print(f"wrote {path}: {len(problems)} problems", flush=True)


def is_uncontaminated(problems_path: Path, steps: int, reserved: frozenset[str]) -> bool:
    """Replay the training stream and look for the saved problems' questions in it."""
    saved = {json.loads(line)["question"] for line in problems_path.read_text(encoding="utf-8").splitlines()}
    blocks, size = -(-steps // BATCHES_PER_BLOCK), BATCH * BATCHES_PER_BLOCK
    trained = {p.question for i in range(blocks) for p in training_block(i, size, reserved)}
    overlap = len(saved & trained)
    print(
        f"{'FAIL' if overlap else 'ok  '} {overlap} of {len(saved)} held-out questions are among {len(trained)} "
        f"training questions ({blocks * size} training problems)"
    )
    return not overlap


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1300, help=f"batches of {BATCH} (default: %(default)s)")
    parser.add_argument("--stop-after", type=int, metavar="STEP", help="save the model of this step and stop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eval-only", action="store_true", help="evaluate the saved model without training")
    parser.add_argument("--export-only", action="store_true", help="save the newest checkpoint's model and stop")
    parser.add_argument("--model-dir", type=Path, default=REPOSITORY / "eager_lmeval" / "demo_model")
    parser.add_argument("--problems", type=Path, default=REPOSITORY / "tasks" / "eager_demo" / "problems.jsonl")
    parser.add_argument("--checkpoint-dir", type=Path, default=REPOSITORY / ".demo_train")
    parser.add_argument("--checkpoint-every-s", type=float, default=60.0)
    parser.add_argument("--progress-every-s", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=None, help="of torch (default: all cores)")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="autocast in training")
    args = parser.parse_args()
    is_whole = args.stop_after is None
    if is_whole:
        args.stop_after = args.steps
    elif not 0 < args.stop_after <= args.steps:
        parser.error(f"--stop-after {args.stop_after}: the run has steps 1 to {args.steps}")
    elif args.model_dir == parser.get_default("model_dir"):
        parser.error("--stop-after makes another model than the demo's: name a --model-dir for it")
    if args.threads:
        torch.set_num_threads(args.threads)

    problems = held_out()
    reserved = frozenset(problem.question for problem in problems)
    if args.export_only:
        tokenizer = build_tokenizer()
        model = build_model(tokenizer)
        state = torch.load(args.checkpoint_dir / "checkpoint.pt", map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        print(f"step {state['step']}")
        save_model(model, tokenizer, args.model_dir)
        save_problems(problems, args.problems)
        return 0
    if not args.eval_only:
        tokenizer = build_tokenizer()
        save_model(train(args, tokenizer, reserved), tokenizer, args.model_dir)
        if not is_whole:
            return 0
        save_problems(problems, args.problems)
    outcomes = evaluate(args)
    print_table(outcomes)
    holds = meets_requirements(outcomes)
    return 0 if is_uncontaminated(args.problems, args.steps, reserved) and holds else 1


if __name__ == "__main__":
    sys.exit(main())
