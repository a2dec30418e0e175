"""The configurations in `configs/` go through the harness's own command-line parser and run on local stand-ins."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from lm_eval import simple_evaluate
from lm_eval._cli import HarnessCLI
from lm_eval.config.evaluate_config import EvaluatorConfig
from lm_eval.tasks import TaskManager
from transformers import AutoTokenizer, GptOssConfig, GptOssForCausalLM

from eager_lmeval import paths

STRATEGIES = ("parallel", "init", "adapt", "eager")
PAPER = {
    "smollm3-3b": "HuggingFaceTB/SmolLM3-3B",
    "qwen3-4b": "Qwen/Qwen3-4B",
    "deepseek-r1-0528-qwen3-8b": "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
    "gpt-oss-20b": "openai/gpt-oss-20b",
}
FILES = sorted(path.relative_to(paths.configs_dir()).as_posix() for path in paths.configs_dir().rglob("*.yaml"))


def parsed(name: str, *more: str) -> EvaluatorConfig:
    arguments = ["run", "--config", str(paths.configs_dir() / name), "--tasks", "eager_demo", *more]
    return EvaluatorConfig.from_cli(HarnessCLI()._parser.parse_args(arguments))


@pytest.fixture(scope="module")
def harmony(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny random model of gpt-oss's architecture; its chat template shows the reasoning effort it was given."""
    folder = str(tmp_path_factory.mktemp("gpt-oss"))
    tokenizer = AutoTokenizer.from_pretrained(paths.demo_model_dir())
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|channel|>", "<|message|>"]})
    tokenizer.chat_template = "{{ reasoning_effort }}:{{ messages[0].content }}"
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "head_dim": 8, "sliding_window": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
    config = GptOssConfig(vocab_size=len(tokenizer), eos_token_id=1, pad_token_id=0, **shape, **heads)
    GptOssForCausalLM(config).save_pretrained(folder)
    return folder


def test_there_is_a_file_a_model_and_strategy_and_none_is_forgotten_here() -> None:
    expected = {f"{model}/{strategy}.yaml" for model in PAPER for strategy in STRATEGIES}
    assert set(FILES) == expected | {"demo.yaml", "ci.yaml"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("model", PAPER)
def test_a_papers_configuration_has_its_settings(model: str, strategy: str) -> None:
    config = parsed(f"{model}/{strategy}.yaml")
    args = config.model_args
    assert (args["pretrained"], args["strategy"], args["max_sequences"]) == (PAPER[model], strategy, 32)
    assert args.get("branching") == (None if strategy == "parallel" else "top2")
    assert args["dtype"] == "bfloat16"
    assert config.gen_kwargs == {"do_sample": True, "temperature": 0.6, "max_gen_toks": 32768}
    assert config.seed == [55] * 4
    assert (config.apply_chat_template, config.log_samples) == (True, True)


@pytest.mark.parametrize("model", PAPER)
def test_the_four_strategies_of_a_model_differ_in_nothing_else(model: str) -> None:
    rest = []
    for strategy in STRATEGIES:
        config = yaml.safe_load((paths.configs_dir() / model / f"{strategy}.yaml").read_text())
        assert config.pop("output_path").endswith(f"{model}/{config['model_args'].pop('strategy')}")
        for name in ("branching", "entropy_threshold"):  # parallel has none
            config["model_args"].pop(name, None)
        rest.append(config)
    assert all(config == rest[0] for config in rest)


@pytest.mark.parametrize("name", FILES)
def test_a_configuration_runs_on_a_local_stand_in(name: str, harmony: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # lists packages for seconds
    config = parsed(name)
    is_harmony = name.startswith("gpt-oss")
    stand_in = harmony if is_harmony else "demo"
    short = {**config.gen_kwargs, "max_gen_toks": 6}
    found: dict[str, Any] = simple_evaluate(
        model=config.model,
        model_args={**config.model_args, "pretrained": stand_in},
        tasks=config.tasks,
        gen_kwargs=short,
        apply_chat_template=config.apply_chat_template,
        torch_random_seed=config.seed[2],
        task_manager=TaskManager(include_path=str(paths.tasks_dir()), include_defaults=False),
        device="cpu",
        limit=1,
        bootstrap_iters=0,
    )
    (pool,) = found["config"]["eager"]["pools"]
    assert pool["options"] == pool["options"] | {
        name: config.model_args[name] for name in ("strategy", "max_sequences") if name in config.model_args
    }
    assert pool["options"]["seed"] == config.seed[2]
    assert pool["sequences"] > 0
    marker = config.model_args.get("think_end_token", "</think>")
    assert pool["thinking_ends_with"] == marker
    (sample,) = found["samples"]["eager_demo"]
    if is_harmony:
        assert sample["arguments"][0][0].startswith("medium:")
